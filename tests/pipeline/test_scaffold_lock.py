"""Two scaffolds of one experiment at the same time."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.pipeline import apply, diagnosis, state, steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import RenderedRun, RenderResult, SetupResult
from scaffold_torchtune.system.files import Tree
from support.experiments import ACTIONS, RUNS, actions, change, log, run_directories
from support.plan_files import change_plan
from support.scaffolding import codes, refusal, scaffold, validated
from support.setup_scripts import MAKE, script
from support.wording import absent


def test_a_second_scaffold_at_the_same_time_is_refused(experiment: Path) -> None:
    with Tree(experiment) as tree:
        tree.prepare()
        with tree.locked():
            assert codes(refusal(steps.scaffold, experiment)) == ["busy"]
            assert not run_directories(experiment)
    assert scaffold(experiment).ok
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_REFUSED", *ACTIONS]
    assert not (experiment / ".scaffold" / "lock").exists()


def test_the_lock_of_a_dead_process_on_this_host_is_replaced(experiment: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (experiment / ".scaffold").mkdir()
    (experiment / ".scaffold" / "lock").write_text(f"{dead.pid}\n{socket.gethostname()}\n")
    assert scaffold(experiment).ok


def test_the_lock_of_an_earlier_version_on_a_different_host_is_never_replaced(experiment: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (experiment / ".scaffold").mkdir()
    (experiment / ".scaffold" / "lock").write_text(f"{dead.pid}\nanother.host\n")
    refused = refusal(steps.scaffold, experiment)
    assert codes(refused) == ["busy"]
    assert ".scaffold/lock" in refused.problems[0].fix


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b'{"pid": 4'])
def test_an_unreadable_lock_stops_no_step(experiment: Path, content: bytes) -> None:
    (experiment / ".scaffold").mkdir()
    lock = experiment / ".scaffold" / "lock"
    for step in (steps.render, steps.setup, steps.validate):
        lock.write_bytes(content)
        step(Request(experiment))
        assert not lock.exists()
    assert actions(experiment) == ACTIONS


@pytest.fixture
def killed(experiment: Path) -> Path:
    """Return a scaffold that was killed after its work; its lock and a staging directory are left."""
    assert scaffold(experiment).ok
    hold = "import os, sys\nfrom pathlib import Path\nfrom scaffold_torchtune.system.files import Tree\n"
    hold += "with Tree(Path(sys.argv[1])) as tree, tree.locked():\n"
    hold += "    tree.make_directory('.scaffold/staging/left')\n    os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", hold, experiment], check=False)
    assert done.returncode == -9
    return experiment


@pytest.mark.long
@pytest.mark.parametrize("step", [steps.scaffold, steps.render, steps.setup, steps.validate])
def test_doctor_finds_the_remains_of_a_killed_scaffold_and_the_next_step_removes_them(
    killed: Path, step: Callable[[Request], object]
) -> None:
    lock, before = killed / ".scaffold" / "lock", log(killed)
    found = {check.name: check for check in diagnosis.doctor(Request(killed), with_experiment=True).checks}
    assert found["lock"].state == "warning"
    assert found["lock"].fix
    assert lock.exists(), "doctor changes nothing"
    step(Request(killed))
    assert not lock.exists()
    assert not list((killed / ".scaffold" / "staging").iterdir())
    assert log(killed) == before
    assert "lock" not in {check.name for check in diagnosis.doctor(Request(killed), with_experiment=True).checks}


def test_doctor_names_the_process_that_holds_the_lock(experiment: Path) -> None:
    assert scaffold(experiment).ok
    with Tree(experiment) as tree, tree.locked():
        found = {check.name: check for check in diagnosis.doctor(Request(experiment), with_experiment=True).checks}
        assert absent(found["lock"].found, os.getpid(), socket.gethostname()) == []
        assert scaffold(experiment).unchanged, "a step with nothing to do needs no lock"
        assert (experiment / ".scaffold" / "lock").exists()


@pytest.mark.parametrize("moment", ["render", "setup"])
def test_a_plan_replaced_by_a_concurrent_scaffold_is_refused(experiment: Path, moment: str) -> None:
    def progress(step: str, done: int, _total: int) -> None:
        if (step, done) == (moment, 4):  # the last moment of this step: a concurrent scaffold renders next
            change_plan(experiment, lambda plan: plan.update(experiment="another"))

    refused = refusal(steps.scaffold, experiment, progress=progress)
    assert codes(refused) == ["busy"]
    assert (experiment / RUNS[0] / "finetune.yaml").exists() == (moment == "setup")


def test_files_that_another_scaffold_writes_at_the_moment_are_not_edited(experiment: Path) -> None:
    steps.render(Request(experiment))
    with Tree(experiment) as tree, tree.locked():
        tree.write(f"{RUNS[0]}/finetune.yaml", b"epochs: 2\n")  # its record follows
        assert codes(refusal(steps.setup, experiment)) == ["busy"]
    assert codes(refusal(steps.setup, experiment)) == ["edited-output"], "nobody else is at work"


@pytest.mark.long
@pytest.mark.parametrize("step", [steps.setup, steps.render])
def test_a_step_that_another_scaffold_overtakes_finds_everything_up_to_date(
    experiment: Path, step: Callable[[Request], RenderResult | SetupResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(experiment, setup_script=str(script(experiment.parent, MAKE)), activate=False)
    steps.render(request)
    if step is steps.render:
        steps.setup(request)
        change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    read = state.hashes_of

    def overtaken(*arguments: Any) -> dict[str, str]:
        monkeypatch.setattr(apply, "hashes_of", read)  # the record of the run has been read
        steps.scaffold(request)
        return read(*arguments)

    monkeypatch.setattr(apply, "hashes_of", overtaken)
    result = step(request)
    assert {run.created if isinstance(run, RenderedRun) else not run.unchanged for run in result.runs} == {False}
    assert validated(experiment, setup_script=request.setup_script).passed
