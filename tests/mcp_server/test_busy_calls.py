"""Calls that compute without checking for cancellation: cancelled, and at the end of the server's input."""

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import anyio
import pytest

from scaffold_torchtune.mcp_server import calls
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.long

SERVER = """
import itertools, re, sys
from pathlib import Path
from scaffold_torchtune import mcp_server as server
from scaffold_torchtune.mcp_server import calls
from scaffold_torchtune.pipeline import steps

def computes(request):
    print("begun", file=sys.stderr, flush=True)
    calls._FROZEN = {frozen}
    calls._expect_end()  # only from here on, as all before takes its time on a busy machine
    {computes}

steps.parse = computes
calls._GRACE = 0.2
server.serve([Path("/")])
"""
BEGIN = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@contextmanager
def served(computes: str, frozen: float = PATIENCE) -> "Iterator[subprocess.Popen[str]]":
    """Run a server whose step already computes; end it afterwards."""
    command = [sys.executable, "-c", SERVER.format(computes=computes, frozen=frozen)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            _call(process)
            yield process
        finally:
            process.kill()


def _call(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    frames: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": BEGIN},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "parse_summary", "arguments": {"experiment": "/"}}},
    ]
    for frame in frames:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **frame}) + "\n")
    process.stdin.flush()
    assert process.stderr
    assert any("begun" in line for line in process.stderr)


def answer(process: "subprocess.Popen[str]", number: int) -> dict[str, Any]:
    assert process.stdout
    return next(frame for line in process.stdout if (frame := json.loads(line)).get("id") == number)


@pytest.mark.long
def test_a_computing_step_blocks_neither_other_replies_nor_the_end_of_the_server() -> None:
    with served("for _ in itertools.count(): pass") as process:
        assert process.stdin
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 3, "method": "ping"}) + "\n")
        process.stdin.flush()
        assert answer(process, 3)["result"] == {}
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_a_library_call_that_blocks_all_threads_ends_the_server() -> None:
    with served("re.fullmatch('(a+)+b', 'a' * 100)", frozen=0.5) as process:
        assert process.wait(PATIENCE) != 0
        assert process.stderr
        assert "computes" in process.stderr.read()  # the function that blocked


def test_a_cancelled_computing_step_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_GRACE", 0.1)
    begun, ended = threading.Event(), threading.Event()

    def computes(_work: calls.StepCall) -> None:
        begun.set()
        try:
            for _ in itertools.count():
                pass
        except KeyboardInterrupt:
            ended.set()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(calls.run, computes, cast("Any", None))
            await anyio.to_thread.run_sync(begun.wait)
            group.cancel_scope.cancel()

    anyio.run(main)
    wait_until(ended.is_set)
