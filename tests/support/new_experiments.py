"""Create the documents of new experiments, and read their results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.new import OPTIONS, NewResult, create
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult
from support.experiments import everything

MODEL = "Llama-3.2-1B-Instruct"
PARAMETER = {option.flag: name for name, option in OPTIONS.items()}
USUAL = {
    "--model": MODEL,
    "--rank": "8,16",
    "--lr": "1e-5,5e-5",
    "--batch-size": "4",
    "--epochs": "2",
    "--data": "data/words.json",
    "--model-dir": "/models",
    "--conda-env": "tune",
}

Wish = str | Sequence[str] | None


def wishes(changes: Mapping[str, Wish]) -> dict[str, list[str]]:
    """Return the usual options with some changed, or omitted if None, as the command line passes them."""
    given = {flag: wish for flag, wish in {**USUAL, **changes}.items() if wish is not None}
    return {PARAMETER[flag]: [wish] if isinstance(wish, str) else list(wish) for flag, wish in given.items()}


def make(directory: Path, changes: Mapping[str, Wish] | None = None, *, control: bool = False) -> NewResult:
    return create(Request(experiment=directory), wishes(changes or {}), control=control)


def scaffolded(directory: Path) -> ScaffoldResult:
    result = steps.scaffold(Request(experiment=directory))
    assert result.ok
    return result


def refused(directory: Path, changes: Mapping[str, Wish], **more: Any) -> list[tuple[str, str | None]]:
    """Return code and field of every problem; nothing was written."""
    return [(p.code, p.field) for p in problems(directory, changes, **more)]


def problems(directory: Path, changes: Mapping[str, Wish], **more: Any) -> tuple[Finding, ...]:
    before = everything(directory.parent)
    with pytest.raises(Refused) as caught:
        create(Request(experiment=directory, **more), wishes(changes))
    assert everything(directory.parent) == before
    assert all(problem.message and problem.fix for problem in caught.value.problems)
    return caught.value.problems


def finetune(directory: Path, run: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((directory / run / "finetune.yaml").read_text())
    return loaded


def at(data: Any, path: str) -> Any:
    for key in path.split("."):
        data = data[key]
    return data
