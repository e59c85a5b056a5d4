"""Test Ctrl-C, a cancelled call and a closed pipe in the middle of many runs, each in a separate process."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, StdioServerParameters

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.command_line import started
from support.experiments import SUMMARY, actions, is_alive, make_experiment
from support.sampling import EVERY, mostly_long
from support.setup_scripts import script
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.long

DONE = 5

# After some runs each script starts a child in its own session, notes both, and waits for a file before it continues.
BODY = """\
marks = pathlib.Path(MARKS)
if len(list(marks.glob("done.*"))) >= DONE and not (marks / "go").exists():
    import subprocess
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (marks / f"waits.{run}").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
(marks / f"done.{run}").touch()
for name in ("finetune.yaml", "finetune.slurm"):  # as the bundled setup_finetune made them, which takes longer
    made = pathlib.Path(MADE, run, name).read_text()
    pathlib.Path(name).write_text(made.replace(MADE, EXPERIMENT))
"""


@pytest.fixture(params=[8, pytest.param(50 if EVERY else 20, marks=pytest.mark.long)])
def runs(request: pytest.FixtureRequest) -> int:
    """The number of runs."""
    number: int = request.param
    return number


def experiment_of(directory: Path, runs: int) -> Path:
    """Return an experiment with this many runs."""
    row = "| Llama-3.2-1B-Instruct_rank8_lr1e-5 | Llama-3.2-1B-Instruct | 8 | 1e-5 | 4 | Fine-tuned | ~10min |\n"
    assert row in SUMMARY
    start = SUMMARY.index(row)
    end = SUMMARY.index("| Llama-3.2-1B-Instruct_base")
    rows = "".join(row.replace("rank8", f"rank{n}").replace("| 8 |", f"| {n} |") for n in range(1, runs + 1))
    number = {"4 fine-tuned + 1 control = 5": f"{runs} + 1 control = {runs + 1}"}
    return make_experiment(directory, summary=SUMMARY[:start] + rows + SUMMARY[end:], replace=number)


@pytest.fixture
def many(tmp_path: Path, runs: int) -> Path:
    """Return an experiment with many runs."""
    return experiment_of(tmp_path / "sweep", runs)


@pytest.fixture
def waiting(tmp_path: Path, many: Path, runs: int) -> Path:
    """Return a script that waits after some runs, for an experiment that is already rendered."""
    (tmp_path / "marks").mkdir()
    made = experiment_of(tmp_path / "made", runs)
    assert steps.scaffold(Request(made)).ok
    start = f"MARKS, DONE, MADE, EXPERIMENT = {str(tmp_path / 'marks')!r}, {DONE}, {str(made)!r}, {str(many)!r}\n"
    file = script(tmp_path, start + BODY)
    (tmp_path / "marks" / "go").touch()
    steps.render(Request(many, setup_script=str(file), activate=False))
    (tmp_path / "marks" / "go").unlink()
    for mark in (tmp_path / "marks").glob("done.*"):
        mark.unlink()
    return file


def pids(script: Path) -> list[int]:
    return [int(pid) for mark in (script.parent / "marks").glob("waits.*") for pid in mark.read_text().split()]


def check_is_gone(experiment: Path, script: Path) -> None:
    """Check that no waiting process is left and that the lock is free."""
    lock = experiment / ".scaffold" / "lock"
    wait_until(lambda: not any(map(is_alive, pids(script))) and not lock.exists())
    assert len(pids(script)) == 4, "two scripts ran, each with a child"


def check_goes_on(experiment: Path, script: Path, runs: int) -> None:
    """Check that finished runs stay finished and that the next call does the rest."""
    kept = {path: path.stat().st_mtime_ns for path in experiment.glob("rank*/finetune.slurm")}
    assert len(kept) >= DONE
    assert not list((experiment / ".scaffold" / "staging").iterdir())
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    (script.parent / "marks" / "go").touch()
    done = steps.setup(Request(experiment, setup_script=str(script), activate=False))
    assert (done.processed, done.succeeded) == (runs, runs)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sum(run.unchanged for run in done.runs) == len(kept)
    assert steps.validate(Request(experiment, setup_script=str(script), activate=False)).passed


def waits(experiment: Path, script: Path) -> bool:
    """Return whether two scripts wait and the files of the others are in place."""
    return len(pids(script)) == 4 and len(list(experiment.glob("rank*/finetune.slurm"))) >= DONE


@pytest.mark.parametrize("number", mostly_long([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], signal.SIGINT))
def test_an_interrupted_command_ends_its_scripts(many: Path, waiting: Path, runs: int, number: signal.Signals) -> None:
    with started("setup", many, "--setup-script", waiting, "--no-activate", "--jobs", "2") as process:
        wait_until(lambda: waits(many, waiting))
        process.send_signal(number)
        out, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, error.count("\n")) == (130, "", 1), error
    check_is_gone(many, waiting)
    check_goes_on(many, waiting, runs)


@pytest.mark.parametrize("era", mostly_long(["auto", "legacy"], "auto"))
def test_a_cancelled_call_ends_its_scripts_and_the_server_keeps_running(
    many: Path, waiting: Path, runs: int, era: Literal["auto", "legacy"]
) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async def main() -> None:
        environment = {
            **os.environ, "SCAFFOLD_TORCHTUNE_SETUP_SCRIPT": str(waiting), "SCAFFOLD_TORCHTUNE_ACTIVATE": "off"
        }  # fmt: skip
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "scaffold_torchtune", "serve", "--root", str(many)], env=environment
        )
        async with Client(server, mode=era) as client:
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    arguments = {"experiment": str(many), "jobs": 2}
                    await client.call_tool("run_setup", arguments, progress_callback=progress)

                group.start_soon(call)
                await anyio.to_thread.run_sync(wait_until, lambda: told and waits(many, waiting))
                group.cancel_scope.cancel()
            await anyio.to_thread.run_sync(check_is_gone, many, waiting)
            result = await client.call_tool("parse_summary", {"experiment": str(many)})
            assert not result.is_error, "the same server serves on"

    anyio.run(main)
    check_goes_on(many, waiting, runs)
    assert told
    assert told[0][1:] == (runs, f"setup: {int(told[0][0])} of {runs} runs")


def frame(process: "subprocess.Popen[str]", **content: Any) -> None:
    assert process.stdin
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **content}) + "\n")
    process.stdin.flush()


@pytest.mark.parametrize("how", mostly_long(["close", "terminate", "interrupt"], "close"))
def test_ending_the_server_ends_its_scripts(many: Path, waiting: Path, runs: int, how: str) -> None:
    configured = {"SCAFFOLD_TORCHTUNE_SETUP_SCRIPT": str(waiting), "SCAFFOLD_TORCHTUNE_ACTIVATE": "off"}
    with started("serve", "--root", many, **configured) as process:
        call_run_setup(process, many)
        wait_until(lambda: waits(many, waiting))
        assert process.stdin
        if how == "close":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM if how == "terminate" else signal.SIGINT)
        status = process.wait(timeout=PATIENCE)
        assert status == {"close": 0, "terminate": 143, "interrupt": 130}[how]
        check_is_gone(many, waiting)
    check_goes_on(many, waiting, runs)


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surface", "number"),
    mostly_long(
        itertools.product(["command", "server"], [signal.SIGKILL, signal.SIGQUIT]), ("command", signal.SIGKILL)
    ),
)
def test_killing_the_process_ends_its_scripts_and_the_next_call_does_the_rest(
    many: Path, waiting: Path, runs: int, surface: str, number: signal.Signals
) -> None:
    configured = {"SCAFFOLD_TORCHTUNE_SETUP_SCRIPT": str(waiting), "SCAFFOLD_TORCHTUNE_ACTIVATE": "off"}
    line = ("setup", many, "--jobs", "2") if surface == "command" else ("serve", "--root", many)
    with started(*line, **configured) as process:
        if surface == "server":
            call_run_setup(process, many)
        wait_until(lambda: waits(many, waiting))
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
    wait_until(lambda: not any(map(is_alive, pids(waiting))))
    assert (many / ".scaffold" / "lock").exists()
    (waiting.parent / "marks" / "go").touch()
    done = steps.setup(Request(many, setup_script=str(waiting), activate=False))
    assert (done.processed, done.succeeded) == (runs, runs)
    assert steps.validate(Request(many, setup_script=str(waiting), activate=False)).passed
    assert not (many / ".scaffold" / "lock").exists()
    assert not list((many / ".scaffold" / "staging").iterdir())


def call_run_setup(process: "subprocess.Popen[str]", experiment: Path) -> None:
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    frame(process, id=1, method="initialize", params=info)
    frame(process, method="notifications/initialized")
    arguments = {"experiment": str(experiment), "jobs": 2}
    frame(process, id=2, method="tools/call", params={"name": "run_setup", "arguments": arguments})
