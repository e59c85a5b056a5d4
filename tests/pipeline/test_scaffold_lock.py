"""Two scaffolds of one experiment at the same time."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.system.files import Tree
from support.experiments import ACTIONS, RUNS, actions, run_directories
from support.plan_files import change_plan
from support.scaffolding import codes, refusal, scaffold


def test_a_second_scaffold_at_the_same_time_is_refused(experiment: Path) -> None:
    with Tree(experiment) as tree:
        tree.prepare()
        with tree.locked():
            assert codes(refusal(steps.scaffold, experiment)) == ["busy"]
            assert not run_directories(experiment)
    assert scaffold(experiment).ok
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_REFUSED", *ACTIONS]
    assert not (experiment / ".scaffold" / "lock").exists()


def test_the_lock_of_a_dead_process_on_this_host_is_taken_over(experiment: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (experiment / ".scaffold").mkdir()
    (experiment / ".scaffold" / "lock").write_text(f"{dead.pid}\n{socket.gethostname()}\n")
    assert scaffold(experiment).ok


def test_the_lock_of_another_host_is_never_taken_over(experiment: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (experiment / ".scaffold").mkdir()
    (experiment / ".scaffold" / "lock").write_text(f"{dead.pid}\nanother.host\n")
    refused = refusal(steps.scaffold, experiment)
    assert codes(refused) == ["busy"]
    assert ".scaffold/lock" in refused.problems[0].fix


@pytest.mark.parametrize("moment", ["render", "setup"])
def test_a_plan_that_another_scaffold_replaced_meanwhile_is_not_taken_for_ours(experiment: Path, moment: str) -> None:
    def progress(step: str, done: int, _total: int) -> None:
        if (step, done) == (moment, 4):  # the last moment of our step: another scaffold renders next
            change_plan(experiment, lambda plan: plan.update(experiment="another"))

    refused = refusal(steps.scaffold, experiment, progress=progress)
    assert codes(refused) == ["busy"]
    assert (experiment / RUNS[0] / "finetune.yaml").exists() == (moment == "setup")
