"""Scaffold an experiment on disk, and inspect the refusal of a step."""

from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult, ValidateResult


def scaffold(experiment: Path, **given: Any) -> ScaffoldResult:
    return steps.scaffold(Request(experiment, **given))


def validated(experiment: Path, **given: Any) -> ValidateResult:
    return steps.validate(Request(experiment, **given))


def answers(result: ValidateResult) -> list[Finding]:
    """Return the findings of sbatch and torchtune about the whole experiment, without those about data and models."""
    return [found for found in result.findings if found.code.startswith(("sbatch-", "torchtune-"))]


def only(result: ValidateResult) -> Finding:
    """Return the one answer about the whole experiment, if the runs have no finding."""
    assert not any(run.findings for run in result.runs)
    (found,) = answers(result)
    return found


def refusal(step: Any, experiment: Path, **given: Any) -> Refused:
    """Return the refusal of a step."""
    with pytest.raises(Refused) as caught:
        step(Request(experiment, **given))
    return caught.value


def codes(refused: Refused) -> list[str]:
    return [problem.code for problem in refused.problems]
