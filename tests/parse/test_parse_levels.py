"""Levels in the Variables section are compared with the values of the runs."""

import re

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.models import Experiment
from scaffold_torchtune.parse import parse_experiment
from support.documents import MODEL, SUMMARY, local_md, parsed, runs, summary, table
from support.wording import absent

RUNS = runs(2, controls=1, LoRA_Rank=["8", "16"], Learning_Rate=["1e-5", "5e-5"])


def levels(experiment: Experiment) -> list[tuple[str | None, int | None]]:
    return [(each.field, each.line) for each in experiment.warnings if each.code == "levels-differ"]


def with_factors(text: str, table: str = RUNS) -> Experiment:
    return parsed(summary(table=table, extra=f"## Variables\n{text}"))


@pytest.mark.parametrize(
    "text",
    [
        "| Factor | Levels |\n|---|---|\n| LoRA Rank | 8, 16 |\n| Learning Rate | 1e-5, 0.00005 |\n",
        "| Factor | Note | Values |\n|---|---|---|\n| rank | the rank | {16; 8} |\n",
        "| Factor | Levels |\n|---|---|\n| LoRA Rank | 8 and 16 |\n",
        "- **LoRA rank**: 8, 16\n- **Epochs**: 2\n- Batch size: 4\n",
        "### Independent\n- **LoRA rank**: [8, 16]\n",
        "- **LoRA rank**: low, high\n- **Learning rate**: 1e-6 to 1e-3\n- **Nothing known**: 3\n",
        "| LoRA Rank |\n|---|\n| 5 |\n",
        "| Levels | Factor |\n|---|---|\n| 5 | LoRA Rank |\n",
        "- **Model**: one, two\n- **LoRA rank**:\n",
    ],
)
def test_matching_levels_and_lists_without_numbers_are_accepted(text: str) -> None:
    assert levels(with_factors(text)) == []


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        (
            "| Factor | Levels |\n|---|---|\n| Learning Rate | 1e-5, 2e-5 |\n",
            "lr",
            ["Variables", "1e-5 and 2e-5", "1e-5 and 5e-5"],
        ),
        (
            "| Factor | Note | Values |\n|---|---|---|\n| rank | the rank | {16; 4} |\n",
            "lora_rank",
            ["Variables", "16 and 4", "8 and 16"],
        ),
        (
            "### Independent\n- **LoRA rank**: [8, 9]\n",
            "lora_rank",
            ["Independent", "8 and 9", "8 and 16"],
        ),
        ("- **LoRA rank**: 8, 16, 32\n", "lora_rank", ["Variables", "8, 16 and 32", "8 and 16"]),
        ("- **LoRA rank**: 8\n", "lora_rank", ["Variables", "8", "8 and 16"]),
        ("- **Epochs**: 1 or 2\n", "epochs", ["Variables", "1 and 2", "2"]),
        ("- **Seed**: 1 vs. 2\n", "seed", ["Variables", "1 and 2"]),
        (
            "- **Weight decay**: 1, 2, 3, 4, 5, 6, 7, 8, 9\n",
            "weight_decay",
            ["Variables", "1, 2, 3, 4, 5, 6, 7, 8, ...", "9 values"],
        ),
    ],
)
def test_levels_that_the_runs_do_not_have_are_a_warning_at_their_line(text: str, field: str, values: list[str]) -> None:
    experiment = with_factors(text)
    (found,) = [each for each in experiment.warnings if each.code == "levels-differ"]
    assert found.severity is Severity.WARNING
    assert (found.field, found.file) == (field, SUMMARY)
    assert absent(found.message, field, *values) == []
    numbers = re.findall(r"(?<=[ (])\d[\d.e-]*", found.message)
    assert numbers == [number for value in values for number in re.findall(r"\d[\d.e-]*", value)]
    lines = summary(table=RUNS, extra=f"## Variables\n{text}").splitlines()
    assert lines[(found.line or 0) - 1] == text.splitlines()[-1]


def test_runs_that_are_not_fine_tuned_are_ignored() -> None:
    cells = [["a", MODEL, "8", "Fine-tuned"], ["b", MODEL, "64", "Control"]]
    rows = table(["Run Name", "Model", "LoRA Rank", "Type"], cells)
    assert levels(with_factors("- **LoRA rank**: 8\n", rows)) == []
    assert len(levels(with_factors("- **LoRA rank**: 8, 64\n", rows))) == 1


YAML = f"""\
experiment: {{name: sweep, dir: /lab/sweep}}
variables: {{lora_rank: [8, %s], lr: [1e-5], prompt: [a, b], other: [1], seed: 3, lora_alpha: [[1], 2]}}
controls: {{epochs: 2, batch_size: 4}}
models: {{base: [{{name: {MODEL}, path: /models/{MODEL}}}]}}
data: {{training: {{path: /data/words.json}}}}
runs:
  - {{name: rank8, type: fine-tuned, model: {MODEL}, parameters: {{lora_rank: 8, lr: 1e-5}}}}
  - {{name: rank16, type: fine-tuned, model: {MODEL}, parameters: {{lora_rank: 16, lr: 1e-5}}}}
"""


@pytest.mark.parametrize(("level", "found"), [("16", []), ("32", [("lora_rank", 2)])])
def test_variables_of_the_yaml_form_are_compared_too(level: str, found: list[tuple[str, int]]) -> None:
    local = ("claude.local.md", local_md())
    experiment = parse_experiment(("experiment_summary.yaml", YAML % level), local, lambda _: True)
    assert levels(experiment) == found
