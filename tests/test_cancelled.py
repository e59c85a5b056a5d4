"""Ctrl-C, a cancelled call and a closed pipe in the middle of 50 runs, each as a process of its own meets them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, StdioServerParameters

from experiments import SUMMARY, actions, is_alive, make_experiment
from scaffold_torchtune import pipeline
from scaffold_torchtune.pipeline import Request
from setup_scripts import script

pytestmark = pytest.mark.timeout(150)

RUNS = 50
DONE = 5
SECONDS = 5.0

# After some runs each script starts a child of its own session, notes both, and waits until it is told to go on.
BODY = """\
marks = pathlib.Path(MARKS)
if len(list(marks.glob("done.*"))) >= DONE and not (marks / "go").exists():
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (marks / f"waits.{run}").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
(marks / f"done.{run}").touch()
sys.exit(main([]))
"""


@pytest.fixture
def fifty(tmp_path: Path) -> Path:
    """An experiment with 50 runs."""
    row = "| Llama-3.2-1B-Instruct_rank8_lr1e-5 | Llama-3.2-1B-Instruct | 8 | 1e-5 | 4 | Fine-tuned | ~10min |\n"
    assert row in SUMMARY
    start = SUMMARY.index(row)
    end = SUMMARY.index("| Llama-3.2-1B-Instruct_base")
    rows = "".join(row.replace("rank8", f"rank{n}").replace("| 8 |", f"| {n} |") for n in range(1, RUNS + 1))
    summary = (SUMMARY[:start] + rows + SUMMARY[end:]).replace("4 fine-tuned + 1 control = 5", "50 + 1 control = 51")
    return make_experiment(tmp_path / "sweep", summary=summary)


@pytest.fixture
def waiting(tmp_path: Path, fifty: Path) -> Path:
    """A script that waits after some runs, for an experiment that is rendered already."""
    (tmp_path / "marks").mkdir()
    body = BODY.replace("MARKS", repr(str(tmp_path / "marks"))).replace("DONE", str(DONE))
    file = script(tmp_path, body)
    (tmp_path / "marks" / "go").touch()
    pipeline.render(Request(fifty, setup_script=str(file), activate=False))
    (tmp_path / "marks" / "go").unlink()
    for mark in (tmp_path / "marks").glob("done.*"):
        mark.unlink()
    return file


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def pids(script: Path) -> list[int]:
    return [int(pid) for mark in (script.parent / "marks").glob("waits.*") for pid in mark.read_text().split()]


def check_is_gone(experiment: Path, script: Path, since: float) -> None:
    """No process is left, and the lock is free, within seconds."""
    lock = experiment / ".scaffold" / "lock"
    until(lambda: not any(map(is_alive, pids(script))) and not lock.exists())
    assert time.monotonic() - since < SECONDS
    assert len(pids(script)) == 4, "two scripts ran, each with a child"


def check_goes_on(experiment: Path, script: Path) -> None:
    """What was done stays done, and the next call does the rest."""
    kept = {path: path.stat().st_mtime_ns for path in experiment.glob("rank*/finetune.slurm")}
    assert len(kept) >= DONE
    assert not list((experiment / ".scaffold" / "staging").iterdir())
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    (script.parent / "marks" / "go").touch()
    done = pipeline.setup(Request(experiment, setup_script=str(script), activate=False))
    assert (done.processed, done.succeeded) == (RUNS, RUNS)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sum(run.unchanged for run in done.runs) == len(kept)
    assert pipeline.validate(Request(experiment, setup_script=str(script), activate=False)).passed


def heed_interrupts() -> None:
    """Tests that run in the background may have been started with interrupts ignored, which a child would inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "scaffold_torchtune", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def waits(script: Path) -> bool:
    return len(pids(script)) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_ends_its_scripts(fifty: Path, waiting: Path, number: signal.Signals) -> None:
    with started("setup", str(fifty), "--setup-script", str(waiting), "--no-activate", "--jobs", "2") as process:
        until(lambda: waits(waiting))
        since = time.monotonic()
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (130, "", "Interrupted. Repeat the command to go on from there.\n")
    check_is_gone(fifty, waiting, since)
    check_goes_on(fifty, waiting)


@pytest.mark.parametrize("era", ["auto", "legacy"])
def test_a_cancelled_call_ends_its_scripts_and_the_server_goes_on(
    fifty: Path, waiting: Path, era: Literal["auto", "legacy"]
) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async def main() -> None:
        environment = {
            **os.environ, "SCAFFOLD_TORCHTUNE_SETUP_SCRIPT": str(waiting), "SCAFFOLD_TORCHTUNE_ACTIVATE": "off"
        }  # fmt: skip
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "scaffold_torchtune", "serve", "--root", str(fifty)], env=environment
        )
        async with Client(server, mode=era) as client:
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    arguments = {"experiment": str(fifty), "jobs": 2}
                    await client.call_tool("run_setup", arguments, progress_callback=progress)

                group.start_soon(call)
                await anyio.to_thread.run_sync(until, lambda: waits(waiting))
                since = time.monotonic()
                group.cancel_scope.cancel()
            await anyio.to_thread.run_sync(check_is_gone, fifty, waiting, since)
            result = await client.call_tool("parse_summary", {"experiment": str(fifty)})
            assert not result.is_error, "the same server serves on"

    anyio.run(main)
    check_goes_on(fifty, waiting)
    assert told
    assert told[0][1:] == (RUNS, f"setup: {int(told[0][0])} of {RUNS} runs")


def frame(process: "subprocess.Popen[str]", **content: Any) -> None:
    assert process.stdin
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **content}) + "\n")
    process.stdin.flush()


@pytest.mark.parametrize("how", ["close", "terminate", "interrupt"])
def test_the_end_of_the_server_ends_its_scripts(fifty: Path, waiting: Path, how: str) -> None:
    configured = {"SCAFFOLD_TORCHTUNE_SETUP_SCRIPT": str(waiting), "SCAFFOLD_TORCHTUNE_ACTIVATE": "off"}
    with started("serve", "--root", str(fifty), **configured) as process:
        info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        frame(process, id=1, method="initialize", params=info)
        frame(process, method="notifications/initialized")
        arguments = {"experiment": str(fifty), "jobs": 2}
        frame(process, id=2, method="tools/call", params={"name": "run_setup", "arguments": arguments})
        until(lambda: waits(waiting))
        since = time.monotonic()
        assert process.stdin
        if how == "close":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM if how == "terminate" else signal.SIGINT)
        status = process.wait(timeout=30)
        assert status == {"close": 0, "terminate": 143, "interrupt": 130}[how]
        check_is_gone(fifty, waiting, since)
    check_goes_on(fifty, waiting)
