"""Builders of an experiment's two documents, which are read and planned in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, Scalar
from scaffold_torchtune.models import Experiment, Options, Plan
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.plan import make_plan
from scaffold_torchtune.plan.run_settings import PlanContext

MODEL = "Llama-3.2-1B-Instruct"
SUMMARY = "experiment_summary.md"
LOCAL = "claude.local.md"
DIRECTORY = "/lab/sweep"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def runs(count: int = 1, *, controls: int = 0, model: str = MODEL, **columns: Sequence[str]) -> str:
    """Return a table of `count` fine-tuned runs and some controls.

    `columns` are other columns by name (`_` for a space) with one cell per run. If no `Model`, `LoRA_Rank` or
    `Learning_Rate` is given, each run has the usual one.
    """
    given: dict[str, Sequence[str]] = {
        "Run Name": [f"run_{i + 1}" for i in range(count)],
        "Model": [model] * count,
        "LoRA Rank": ["8"] * count,
        "Learning Rate": ["1e-5"] * count,
    }
    given |= {name.replace("_", " "): cells for name, cells in columns.items()}
    given["Type"] = ["Fine-tuned"] * count
    rows = [[cells[i] for cells in given.values()] for i in range(count)]
    blank = ["-"] * (len(given) - 3)
    rows += [[f"base_{i + 1}", model, *blank, "Control"] for i in range(controls)]
    return table(list(given), rows)


def summary(
    *,
    title: str | None = "# sweep",
    table: str | None = None,
    models: Mapping[str, str] | None = None,
    dataset: str | None = "`/data/words.json`",
    training: Mapping[str, str | None] | None = None,
    output: str | None = None,
    extra: str = "",
) -> str:
    """Return an experiment_summary.md without the parts that are None. `training` changes lines of Configuration."""
    lines = {"Epochs": "2", "Batch size": "4", **(training or {})}
    models = {MODEL: f"`/models/{MODEL}`"} if models is None else models
    parts = [
        title or "",
        "## All Runs\n" + (runs(2, LoRA_Rank=["8", "16"]) if table is None else table),
        "## Resources\n\n### Models",
        "\n".join(f"- **{name}**: {path}" for name, path in models.items()),
        "### Dataset" + (f"\n- **Path**: {dataset}" if dataset else ""),
        "## Configuration\n\n### Training",
        "\n".join(f"- **{label}:** {value}" for label, value in lines.items() if value is not None),
        f"### Output\n- **Checkpoint directory:** {output}" if output else "",
        extra,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def local_md(**changes: str | None) -> str:
    """Return a claude.local.md of plain lines by setting, without the settings that are changed to None."""
    lines = {"conda_env": "tune", "my_wandb_project": "words", "output_dir_base": "/scratch/out", **changes}
    return "# Local\n\n" + "".join(f"- {name}: {value}\n" for name, value in lines.items() if value is not None)


def parsed(
    text: str | None = None, local: str | None = None, is_here: Callable[[str], bool] = lambda _: True
) -> Experiment:
    """Return the experiment that the two texts describe."""
    text = summary() if text is None else text
    local = local_md() if local is None else local
    return parse_experiment((SUMMARY, text), (LOCAL, local), is_here)


def planned(text: str | None = None, local: str | None = None, previous: Plan | None = None, **options: Any) -> Plan:
    """Return the plan of the two texts, for a place with every template, in which `previous` was scaffolded."""
    known = {run.directory: run for run in (*previous.former, *previous.runs)} if previous else {}
    legend = previous.legend if previous else {}
    context = PlanContext(DIRECTORY, "/home/ada", "/templates", lambda _: True, known=known, legend=legend)
    return make_plan(parsed(text, local), Options(**options), context)


def refusal(call: Callable[..., object], *arguments: Any, **keywords: Any) -> tuple[Finding, ...]:
    """Return the problems of a refused call."""
    with pytest.raises(Refused) as caught:
        call(*arguments, **keywords)
    assert all(problem.message and problem.fix for problem in caught.value.problems)
    return caught.value.problems


def told(problems: Sequence[Finding]) -> list[tuple[str, str | None, str | None, int | None]]:
    """Return code, field, file and line of problems."""
    return [(p.code, p.field, p.file, p.line) for p in problems]


def values_of(text: str, *names: str, local: str | None = None) -> list[Scalar]:
    """Return values of the first run of a summary that is planned without a warning."""
    plan = planned(text, local)
    assert [w for w in plan.warnings if w.severity is Severity.WARNING] == []
    return [plan.runs[0].value(name) for name in names]
