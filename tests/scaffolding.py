"""Scaffolds an experiment on disk, and looks at how a step is refused."""

from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune import pipeline
from scaffold_torchtune.errors import Refused, Severity
from scaffold_torchtune.models.results import ScaffoldResult, ValidateResult
from scaffold_torchtune.pipeline import Request


def scaffold(experiment: Path, **given: Any) -> ScaffoldResult:
    return pipeline.scaffold(Request(experiment, **given))


def refusal(step: Any, experiment: Path, **given: Any) -> Refused:
    """The refusal of a step."""
    with pytest.raises(Refused) as caught:
        step(Request(experiment, **given))
    return caught.value


def codes(refused: Refused) -> list[str]:
    return [problem.code for problem in refused.problems]


def told(result: ValidateResult) -> list[str]:
    """The codes of what is wrong with the whole experiment."""
    return [found.code for found in result.findings if found.severity is not Severity.INFO]
