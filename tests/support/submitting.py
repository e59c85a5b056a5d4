"""Experiments whose runs are submitted to a stand-in for SLURM, and what must hold of their jobs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline.submit import SubmitResult, Wanted, submit
from scaffold_torchtune.request import Request
from support.experiments import RUNS, log, make_experiment
from support.scaffolding import scaffold
from support.stand_in_slurm import StandInSlurm

OUTPUTS = "/scratch/gpfs/LAB/ada/ck-outputs"


def to_submit(directory: Path, slurm: StandInSlurm) -> Path:
    """Return a scaffolded experiment whose runs have not been submitted."""
    experiment = make_experiment(directory / "sweep", replace={OUTPUTS: str(directory / "outputs")})
    assert scaffold(experiment).ok
    slurm.reset()
    return experiment


def submitted(experiment: Path, **wanted: Any) -> SubmitResult:
    return submit(Request(experiment), Wanted(**wanted), lambda _: True)


def refused(experiment: Path, **wanted: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        submitted(experiment, **wanted)
    return caught.value


def codes(of: Refused | SubmitResult) -> list[str]:
    return [problem.code for problem in of.problems]


def records(experiment: Path) -> list[dict[str, Any]]:
    file = experiment / ".scaffold" / "jobs.json"
    found: list[dict[str, Any]] = json.loads(file.read_text())["submissions"] if file.exists() else []
    return found


def assert_each_once(experiment: Path, slurm: StandInSlurm, runs: tuple[str, ...] = RUNS) -> None:
    """Check that each run has one job, which may start, and which is recorded and logged."""
    kept = records(experiment)
    assert sorted(run for one in kept for run in one["runs"]) == sorted(runs)
    assert [job.state for job in slurm.jobs()] == ["PENDING"] * len(runs)
    assert {job.id.partition("_")[0] for job in slurm.jobs()} == {one["job"] for one in kept}
    assert all(one["progress"] == "released" and one["logged"] for one in kept)
    told = re.findall(r"Job ids: (.*)", log(experiment))
    assert sorted(re.findall(r"\b(\d{4,}) \(", " ".join(told))) == sorted(one["job"] for one in kept)
