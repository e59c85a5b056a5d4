"""A real Slurm reports the states of runs; the files of a waiting or running job are never changed."""

import json
import re
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.run_states import states_of
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


def test_waiting_running_ended_and_failed_jobs_are_distinguished_and_their_files_stay(
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


def test_tasks_of_a_recorded_array_are_distinguished(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(
        tmp_path / "sweep", replace={"/scratch/gpfs/LAB/ada/ck-outputs": str(tmp_path / "outputs")}
    )
    assert scaffold(experiment, sbatch=False).ok
    what = "case $SLURM_ARRAY_TASK_ID in 0) sleep 1000;; 1) exit 3;; esac"
    given = ("--array=0-3", "--job-name=sweep-3f2a", "--output=/dev/null", "--hold")
    job = submit(slurm, experiment, what, *given)
    one = {"token": "3f2a", "name": "sweep-3f2a", "at": "2026-11-27T12:00:00Z", "runs": RUNS, "is_array": True}
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)

    def states(**more: str) -> list[str]:
        (experiment / ".scaffold" / "jobs.json").write_text(json.dumps({"submissions": [one | more]}))
        with Tree(experiment) as tree:
            return [each.state for each in states_of(tree, existing_plan(tree).runs, Request(experiment)).values()]

    assert states() == ["submitted"] * 4, "a call that was killed before it recorded the id"
    assert states(job=job) == ["submitted"] * 4
    slurm.call("scontrol", "release", job)
    assert slurm.state(f"{job}_2") == "COMPLETED"
    wait_until(lambda: states(job=job) == ["running", "failed", "finished", "finished"])
    slurm.call("scancel", job)
