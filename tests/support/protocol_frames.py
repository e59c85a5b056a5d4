"""Malformed and unusual frames, sent to a real server over a pipe."""

import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from scaffold_torchtune.results.reply import ARGUMENTS
from support.hostile_inputs import HOSTILE, OTHER_TYPES
from support.waiting import PATIENCE

METHODS: Final = (
    "ping", "tools/list", "tools/call", "prompts/list", "prompts/get", "resources/list", "resources/read",
    "resources/templates/list", "initialize", "logging/setLevel", "completion/complete", "no/such/method", "",
    "notifications/cancelled", "notifications/initialized", "notifications/progress", "server/discover",
)  # fmt: skip
_LINES: Final = (
    b"", b"not json", b"[]", b"{}", b"null", b"5", b'"x"', b"[" * 5_000, b'{"a":' * 3_000, b"\xff\xfe", b"\x00" * 50,
    b"{" * 2_000, b'{"jsonrpc": "2.0"}', b'{"jsonrpc": "2.0", "id": 7',
    b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}',
    b'{"id": 1e999, "jsonrpc": "2.0", "method": "ping"}', b"9" * 5_000,
    b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', b'{"jsonrpc": "2.0", "id": [1], "method": "ping"}',
    b'{"jsonrpc": "2.0", "id": {}, "method": "tools/call", "params": {}}',
    b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "\\ud800"}}', b"x" * 200_000,
    b'{"jsonrpc": "2.0", "id": 3, "result": {}}', b'{"jsonrpc": "2.0", "id": 3, "error": {"code": "x"}}',
)  # fmt: skip
_KILOBYTES: Final = 1024


class Server:
    """A server over a pipe, and its answers."""

    def __init__(self, experiment: Path, errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scaffold_torchtune", "serve", "--root", str(experiment)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                env={name: value for name, value in os.environ.items() if name != "CLAUDE_PROJECT_DIR"},
            )
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._read = b""
        self.wrong: list[str] = []
        self._answered: dict[int, bool] = {}
        self._last = 10_000

    def request(self, method: str, params: Any) -> bool:
        """Send a request, and wait for its answer; return false if there is none."""
        self._last += 1
        self._answered[self._last] = False
        self.send(json.dumps({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params}).encode())
        return self._wait(self._last)

    def send(self, line: bytes) -> None:
        """Send a line. Answers of the server are read meanwhile, so that neither waits for the other."""
        try:
            self._in.write(line.replace(b"\n", b" ") + b"\n")
            self._in.flush()
        except BrokenPipeError:
            self.wrong.append("the server is gone")

    def _wait(self, number: int) -> bool:
        deadline = time.monotonic() + PATIENCE
        while not self._answered[number] and time.monotonic() < deadline and self._process.poll() is None:
            if select.select([self._out], [], [], 1.0)[0]:
                self._take(self._out.read() or b"")
        return self._answered[number]

    def _take(self, data: bytes) -> None:
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            try:
                frame = json.loads(line)
                assert frame["jsonrpc"] == "2.0"
            except (ValueError, AssertionError, TypeError, KeyError):
                self.wrong.append(f"no frame on stdout: {line[:200]!r}")
                continue
            if isinstance(frame.get("id"), int):
                self._answered[frame["id"]] = "method" not in frame
            if "internal-error" in line.decode(errors="replace"):
                self.wrong.append(f"an error of ours: {line[:1000]!r}")

    def end(self) -> float:
        """Close its input, wait for its end, and return its peak memory in MB."""
        peak = _peak(self._process.pid)
        self._in.close()
        os.set_blocking(self._out.fileno(), True)
        try:
            self._take(self._out.read())
            status: int | str = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = "none in time"
        text = self._errors.read_text(errors="replace")
        if status != 0 or "Traceback" in text:
            self.wrong.append(f"it ended with status {status}: {text[-2000:]}")
        return peak


def _peak(pid: int) -> float:
    """Return the peak memory of a process in MB (proc(5): VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / _KILOBYTES for line in lines if line.startswith("VmHWM")), 0.0)


def frames(experiment: Path, seed: int, count: int) -> Iterator[tuple[str, Any] | bytes]:
    """Yield a number of frames: requests that must be answered, or lines that need not be."""
    chance = random.Random(seed)  # noqa: S311 - it must be the same each time
    for _ in range(count):
        draw = chance.random()
        if draw < 0.35:
            yield _cut(chance.choice(_LINES), chance)
        elif draw < 0.5:
            yield "ping", {}
        else:
            method, params = chance.choice(METHODS), _params(experiment, chance)
            frame = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            # the SDK does not answer requests with parameters that are not an object
            yield json.dumps(frame).encode() if not isinstance(params, dict) else (method, params)


def _cut(line: bytes, chance: random.Random) -> bytes:
    return line[: chance.randrange(len(line) + 1)] if chance.random() < 0.3 else line


def _params(experiment: Path, chance: random.Random) -> Any:
    """Return parameters of any type."""
    value = chance.choice((*HOSTILE, *OTHER_TYPES))
    tool = chance.choice((*ARGUMENTS, "no_such_tool"))
    arguments = {"experiment": chance.choice((str(experiment), value))}
    name = chance.choice((*ARGUMENTS.get(tool, ()), "x"))
    return chance.choice((
        {"name": tool, "arguments": arguments | {name: value}},
        {"name": tool, "arguments": arguments},
        {"name": tool, "arguments": value},
        {"name": value, "arguments": {}},
        {"uri": f"torchtune://{chance.choice(('doctor', 'log', 'plan', 'run', 'guide', ''))}/{value}"},
        {"name": "scaffold_torchtune", "arguments": {"experiment": value}},
        {"uri": value}, {"level": value}, {"ref": value}, {"_meta": value}, {"cursor": value}, value,
    ))  # fmt: skip


def sent(experiment: Path, errors: Path, seed: int, count: int) -> tuple[list[str], float, dict[str, int]]:
    """Send frames to a server; return the problems, its peak memory, and the number of frames of each kind."""
    server = Server(experiment, errors)
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    counts = {"answered": 0, "no requests": 0}
    server.request("initialize", info)
    server.send(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')
    for number, frame in enumerate(frames(experiment, seed, count)):
        if isinstance(frame, bytes):
            server.send(frame)
            counts["no requests"] += 1
        elif server.request(*frame):
            counts["answered"] += 1
        else:
            server.wrong.append(f"frame {number} of seed {seed} is not answered: {str(frame)[:300]}")
            break
    if not server.request("ping", {}):
        server.wrong.append("no answer in the end")
    return server.wrong, server.end(), counts
