"""A summary with levels under Variables but without a table of runs: the full grid is planned, or a question asked."""

import re

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.models import Experiment
from support.documents import MODEL, parsed, refusal, summary

VARIABLES = "## Variables\n| Factor | Levels |\n|---|---|\n| LoRA Rank | 8, 16 |\n| Learning Rate | 1e-5, 5e-5 |\n"


def text(variables: str = VARIABLES, **more: str) -> str:
    """Return a summary without a table of runs."""
    whole = summary(table="", extra=variables)
    for old, new in more.items():
        whole = whole.replace(old, new)
    return re.sub(r"## All Runs\n+", "", whole)


def values(experiment: Experiment) -> list[tuple[str, dict[str, object]]]:
    return [(run.name, {name: each.value for name, each in run.parameters.items()}) for run in experiment.runs]


def pasted(experiment: Experiment) -> str:
    """Return the table in the finding."""
    (found,) = [each for each in experiment.warnings if each.code == "full-grid"]
    assert found.severity is Severity.WARNING
    return found.fix.partition("\n")[2]


def test_the_full_grid_is_planned_like_the_table_in_the_finding() -> None:
    experiment = parsed(text())
    assert values(experiment) == [
        (f"{MODEL}_rank{rank}_lr{written}", {"model": MODEL, "lora_rank": rank, "lr": lr})
        for rank in (8, 16)
        for written, lr in (("1e-5", 1e-5), ("5e-5", 5e-5))
    ]
    assert {run.type for run in experiment.runs} == {"fine-tuned"}
    again = parsed(summary(table=pasted(experiment), extra=VARIABLES))
    assert values(again) == values(experiment)
    assert "full-grid" not in {each.code for each in again.warnings}


@pytest.mark.parametrize(("variables", "runs"), [
    ("## Variables\n- **LoRA rank**: 8, 16\n- **Seed**: 1, 2, 3\n", 6),
    ("## Variables\n- **LoRA ranks**: 8, 16\n- **Learning rates**: [1e-5, 5e-5]\n", 4),
    ("## Variables\n| Factor | Note | Values |\n|---|---|---|\n| rank | the rank | {16; 8} |\n", 2),
    ("## Variables\n- **Learning rate**: 1e-5\n", 1),
    (f"## Variables\n- **Model**: {MODEL}\n- **Batch size**: 2, 4\n", 2),
    ("## Overview\n- **Runs:** 2 fine-tuned\n## Variables\n- **LoRA rank**: 8 and 16\n", 2),
])  # fmt: skip
def test_levels_may_be_written_in_many_notations(variables: str, runs: int) -> None:
    experiment = parsed(text(variables))
    assert len(experiment.runs) == runs
    again = parsed(summary(table=pasted(experiment), extra=variables))
    assert values(again) == values(experiment)


@pytest.mark.parametrize("more", [
    "The base model is a control.\n", "Rank 16 is excluded at 5e-5.\n", "All combinations except 16 x 5e-5.\n",
    "## Overview\n- **Runs:** 3 fine-tuned\n", "## Overview\n- **Runs:** 4 fine-tuned + 1 baseline\n",
])  # fmt: skip
def test_an_unclear_set_of_runs_is_a_question_with_the_table(more: str) -> None:
    found = [each for each in refusal(parsed, text(f"{VARIABLES}\n{more}")) if each.field == "fine-tuned runs"]
    assert [each.code for each in found] == ["missing-field"]
    assert found[0].message.endswith("?")
    assert found[0].fix.count("| Fine-tuned |") == 4


@pytest.mark.parametrize("variables", [
    "", "## Variables\n- **LoRA rank**: 8 to 64\n", "## Variables\n- **LoRA rank**: low, high\n",
    "## Variables\n- **LoRA rank**: 8, 16\n- **Tone**: kind, rude\n", "## Variables\n- **Seeds**: 3\n",
    "## Variables\n- **LoRA rank**: 8, 16\n- **Rank**: 32\n", "## Variables\n- **Model**: unknown-1, unknown-2\n",
    "## Variables\n- **LoRA rank**: 8, 16, ...\n",
    "## Variables\n- **LoRA rank**: 8, 16\n## Other\n| Run Name | Model | LoRA Rank |\n|---|---|---|\n| a | b | 8 |\n",
])  # fmt: skip
def test_unreadable_levels_are_not_planned(variables: str) -> None:
    found = refusal(parsed, text(variables))
    assert "fine-tuned runs" in {each.field for each in found} or "runs" in {each.field for each in found}


def test_several_models_outside_the_factors_are_refused() -> None:
    more = f"- **{MODEL}**: `/models/{MODEL}`\n- **gemma-2-2b**: `/models/gemma-2-2b`"
    whole = re.sub(rf"- \*\*{re.escape(MODEL)}\*\*.*", more, text())
    assert "gemma" in whole
    assert refusal(parsed, whole)


def test_a_very_large_grid_has_no_table_in_its_finding() -> None:
    levels = ", ".join(str(n) for n in range(1, 61))
    experiment = parsed(text(f"## Variables\n- **LoRA rank**: {levels}\n"))
    assert len(experiment.runs) == 60
    assert pasted(experiment) == ""
    too_many = ", ".join(str(n) for n in range(1, 2002))
    assert refusal(parsed, text(f"## Variables\n- **Seed**: {too_many}\n"))
