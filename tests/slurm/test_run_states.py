"""A real Slurm says how far runs have come; the files of a job that waits or runs are never changed."""

import re
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.changes import states_of
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, change, everything, make_experiment
from support.needs import SLURM
from support.one_node_slurm import Slurm
from support.scaffolding import refusal, scaffold
from support.waiting import wait_until

pytestmark = SLURM


def submit(slurm: Slurm, folder: Path, command: str, *options: str) -> str:
    """Submit a command in a run directory, and return the id of its job."""
    done = slurm.call("sbatch", "--mem=100", *options, f"--chdir={folder}", f"--wrap={command}")
    (job,) = re.findall(r"Submitted batch job (\d+)", done.stdout)
    return str(job)


def shown(slurm: Slurm, job: str) -> str:
    return slurm.call("scontrol", "show", "job", job).stdout


def test_jobs_that_wait_run_have_ended_and_have_failed_are_told_apart_and_their_files_stay(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(
        tmp_path / "sweep", replace={"/scratch/gpfs/LAB/ada/ck-outputs": str(tmp_path / "outputs")}
    )
    assert scaffold(experiment, sbatch=False).ok
    folders = [experiment / run for run in RUNS]
    waits = submit(slurm, folders[0], "true", "--hold")
    runs = submit(slurm, folders[1], "sleep 1000")
    wait_until(lambda: "JobState=RUNNING" in shown(slurm, runs))
    assert slurm.state(submit(slurm, folders[2], "true")) == "COMPLETED"
    assert slurm.state(submit(slurm, folders[3], "exit 3")) == "FAILED"
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)
    with Tree(experiment) as tree:
        found = states_of(tree, existing_plan(tree).runs, Request(experiment))
    assert [each.state for each in found.values()] == ["submitted", "running", "finished", "failed"]
    assert [each.jobs for each in found.values()] == [(waits,), (runs,), (), ()]
    change(experiment / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    before = {run: everything(experiment / run) for run in RUNS}
    assert refusal(steps.scaffold, experiment).ask
    refused = refusal(steps.scaffold, experiment, started="replace")
    assert {str(problem.actual) for problem in refused.problems} == {waits, runs}
    result = scaffold(experiment, started="keep")
    assert result.validation.passed
    assert result.submit == ""
    assert {run: everything(experiment / run) for run in RUNS} == before
