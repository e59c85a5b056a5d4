"""Special rows of the table of runs: cancelled runs, headings of groups, summary rows, blank cells."""

from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import Experiment
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY
from support.experiments import SUMMARY, change, make_experiment
from support.sampling import spread
from support.scaffolding import refusal, scaffold
from support.wording import absent

FIELD = "plan_cancelled_runs"
HEADER = "| Run Name | Model | LoRA Rank | Learning Rate | Batch Size | Type | Est. Time |"
LAST = "| Llama-3.2-1B-Instruct_rank16_lr5e-5 | Llama-3.2-1B-Instruct | 16 | 5e-5 | 4 | Fine-tuned | ~10min |"
LINE = EXAMPLE_SUMMARY.splitlines().index(LAST) + 1


def parse(text: str, **answers: Any) -> Experiment:
    return parse_experiment((("experiment_summary.md"), text), ("claude.local.md", EXAMPLE_LOCAL), lambda _: True, None,
        answers)  # fmt: skip


def refused(text: str) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(text)
    return caught.value


def with_status(status: str, label: str = "Status") -> str:
    """Return the example with an additional column, in which the last run has this text."""
    text = EXAMPLE_SUMMARY.replace("| Est. Time |", f"| {label} |").replace("| ~10min |", "| done |")
    return text.replace(LAST.replace("~10min", "done"), LAST.replace("~10min", status))


def with_last(row: str) -> str:
    return EXAMPLE_SUMMARY.replace(LAST, row)


STRUCK = LAST.replace("Llama-3.2-1B-Instruct_rank16_lr5e-5", "~~rank16_lr5e-5~~")
ALL_STRUCK = "|" + "|".join(f" ~~{cell.strip()}~~ " for cell in LAST.strip("|").split("|")) + "|"
MARKED = {
    "struck name": with_last(STRUCK),
    "struck row": with_last(ALL_STRUCK),
    "struck in HTML": with_last(LAST.replace("Llama-3.2-1B-Instruct_rank16_lr5e-5", "<del>rank16_lr5e-5</del>")),
    "struck model": with_last(LAST.replace("| Llama-3.2-1B-Instruct |", "| ~~Llama-3.2-1B-Instruct~~ |")),
    "name": with_last(LAST.replace("Instruct_rank16_lr5e-5", "Instruct_rank16_lr5e-5 (cancelled)")),
    "type": with_last(LAST.replace("Fine-tuned", "Cancelled")),
    **{
        status: with_status(status)
        for status in (
            "cancelled", "Canceled", "**CANCELLED**", "❌ Cancelled", "dropped", "Dropped: OOM", "skip",
            "Skipped (no GPUs)", "do not run", "Don't run", "DO NOT SUBMIT", "not to be run", "abandoned", "on hold",
            "no longer needed", "🚫", "pending; do not run before the others", "cancelled by Ada",
        )
    },
    "note": with_status("too large for the node, do not run", "Notes"),
    "comment": with_status("dropped because of the budget", "Comment"),
    "included": with_status("no", "Include").replace("| done |", "| yes |"),
    "skip": with_status("yes", "Skip").replace("| done |", "|  |"),
}  # fmt: skip
"""Summaries whose last run is marked as cancelled."""


@pytest.mark.parametrize("text", spread(MARKED.values(), every=3), ids=MARKED)
def test_a_cancelled_run_is_a_question_that_an_answer_settles(text: str) -> None:
    problems = refused(text)
    (question,) = problems.ask
    assert (question.field, question.kind, question.file) == (FIELD, "boolean", "experiment_summary.md")
    assert [each.field for each in problems.problems if each.severity is Severity.ERROR] == [FIELD]
    types = [run.type for run in parse(text, **{FIELD: False}).runs]
    assert types == ["fine-tuned"] * 3 + ["cancelled", "control"]
    planned = parse(text, **{FIELD: True}).runs[3]
    assert (planned.type, planned.model) == ("fine-tuned", "Llama-3.2-1B-Instruct")
    assert {name: each.value for name, each in planned.parameters.items()} == {
        "model": "Llama-3.2-1B-Instruct", "lora_rank": 16, "lr": 5e-5, "batch_size": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    "status",
    ["⏸ Not Started", "not run yet", "pending", "planned", "done", "✅ Completed", "running", "failed", "queued",
     "TODO", "lr dropped tenfold at step 100", "dropout as in the paper", "uses skip connections", "resubmitted",
     "skip-gram data", "drop-in for run 3", "drop: 0.1", "Do not train on inputs", "removed warmup"],
)  # fmt: skip
@pytest.mark.parametrize("label", ["Status", "Notes"])
def test_any_other_remark_marks_no_run_as_cancelled(status: str, label: str) -> None:
    assert [run.type for run in parse(with_status(status, label)).runs] == ["fine-tuned"] * 4 + ["control"]


def test_the_question_lists_the_rows_and_the_suggested_line_has_the_same_effect(tmp_path: Path) -> None:
    here = make_experiment(tmp_path / "sweep", replace={LAST: STRUCK})
    (question,) = refusal(steps.plan, here).ask
    assert absent(question.question, "rank16_lr5e-5", LINE) == []
    answered = scaffold(here, answers={FIELD: False})
    assert answered.ok
    assert answered.plan.excluded[0].name == "rank16_lr5e-5"
    (answer,) = answered.plan.answers
    runs = [run.directory for run in answered.plan.runs]
    change(here / "experiment_summary.md", "- **Epochs:** 2", f"- **Epochs:** 2\n{answer.add}")
    assert [run.directory for run in steps.plan(Request(here)).runs] == runs
    change(here / "experiment_summary.md", answer.add, "- **Plan cancelled runs:** yes")
    assert len(steps.plan(Request(here)).runs) == 4


def test_the_stated_number_of_runs_may_or_may_not_include_cancelled_ones() -> None:
    text = with_last(STRUCK).replace("- **GPUs:** 1", "- **GPUs:** 1\n- **Plan cancelled runs:** no")
    assert not [each for each in parse(text).warnings if each.code == "runs-differ"]
    text = text.replace("- **Runs:** 4 fine", "- **Runs:** 3 fine")
    assert not [each for each in parse(text).warnings if each.code == "runs-differ"]
    assert [e.code for e in parse(text.replace("3 fine", "9 fine")).warnings if e.code == "runs-differ"]


YAML = """\
experiment: {name: sweep}
controls: {epochs: 1, batch_size: 4}
models: {base: [{name: Llama-3.2-1B-Instruct, path: /models/Llama-3.2-1B-Instruct}]}
data: {training: {path: /data/words.json}}
runs:
  - {name: a, type: fine-tuned, model: Llama-3.2-1B-Instruct, parameters: {lora_rank: 8, lr: 1e-5}}
  - {name: b, type: fine-tuned, model: Llama-3.2-1B-Instruct, MARK parameters: {lora_rank: 16, lr: 1e-5}}
"""


@pytest.mark.parametrize("mark", ["status: cancelled,", "notes: do not run,", "status: 'Skipped: OOM',"])
def test_a_run_of_the_yaml_form_may_be_marked_as_cancelled(mark: str) -> None:
    def read(text: str, **answers: Any) -> Experiment:
        return parse_experiment(("experiment_summary.yaml", text), ("claude.local.md", EXAMPLE_LOCAL), lambda _: True,
            None, answers)  # fmt: skip

    text = YAML.replace("MARK", mark)
    with pytest.raises(Refused) as caught:
        read(text)
    (question,) = caught.value.ask
    assert question.field == FIELD
    assert [run.type for run in read(text, **{FIELD: False}).runs] == ["fine-tuned", "cancelled"]
    controls = next(row for row in text.split("\n") if "batch_size: 4" in row)
    added = text.replace(controls, question.add.replace("VALUE", "false"))
    assert "instead of line" in question.where
    assert [run.type for run in read(added).runs] == ["fine-tuned", "cancelled"]
    assert [run.type for run in read(YAML.replace("MARK", "status: pending,")).runs] == ["fine-tuned"] * 2


NO_RUNS = [
    "|---|---|---|---|---|---|---|",
    "| --- | | | | | | |",
    "| **Rank 16** | | | | | | |",
    "| *Small models* | | | | | | |",
    "| | **1B models** | | | | | |",
    "| **Rank 16** |",
    "| **Total** | | | | | | 40min |",
    "| Total | 4 runs | | | | | ~40min |",
    "| Mean | - | 12 | 3e-5 | 4 | - | ~10min |",
    "| Average (all) | | 12 | | | | |",
    "| Grand total: 4 runs | | | | | | 1h |",
    "| **Total** | 4 |",
    "| Summary | | | | | | all fit |",
    "| Σ | | | | | | 40min |",
]


@pytest.mark.parametrize("row", NO_RUNS)
@pytest.mark.parametrize("place", ["above", "below"])
def test_headings_of_groups_and_summary_rows_are_skipped_and_reported(row: str, place: str) -> None:
    found = parse(with_last(f"{row}\n{LAST}" if place == "above" else f"{LAST}\n{row}"))
    assert [run.type for run in found.runs] == ["fine-tuned"] * 4 + ["control"]
    (told,) = [each for each in found.warnings if each.code == "unused-row"]
    assert (told.severity, told.line) == (Severity.INFO, LINE + (place == "below"))


def test_a_control_that_is_struck_out_remains_a_control() -> None:
    row = "| ~~Llama-3.2-1B-Instruct_base~~ | Llama-3.2-1B-Instruct | - | - | - | Control | N/A |"
    found = parse(EXAMPLE_SUMMARY.replace(row.replace("~~", ""), row))
    assert [run.type for run in found.runs] == ["fine-tuned"] * 4 + ["control"]


@pytest.mark.parametrize("name", ["mean", "total", "max"])
def test_a_run_may_have_the_name_of_a_summary_row(name: str) -> None:
    found = parse(with_last(LAST.replace("Llama-3.2-1B-Instruct_rank16_lr5e-5", name)))
    assert [run.type for run in found.runs] == ["fine-tuned"] * 4 + ["control"]


def test_headings_and_summary_rows_are_skipped_without_a_type_column() -> None:
    text = "\n".join(
        "|".join(part for i, part in enumerate(line.split("|")) if i != 6) if line.count("|") == 8 else line
        for line in EXAMPLE_SUMMARY.splitlines()
    )
    row = next(line for line in text.splitlines() if "rank16_lr5e-5" in line)
    for added in ("| **Rank 16** | | | | | |", "| Total | | | | | 40min |", "| Mean | - | 12 | 3e-5 | 4 | |"):
        assert [r.type for r in parse(text.replace(row, f"{row}\n{added}")).runs] == ["fine-tuned"] * 4 + ["control"]


def blanks(text: str) -> list[Finding]:
    return [each for each in parse(text).warnings if each.code == "blank-cell"]


def test_a_blank_cell_below_a_value_is_reported_with_the_value_used() -> None:
    (told,) = blanks(with_last(LAST.replace("| 5e-5 |", "| |")))
    assert (told.severity, told.field, told.line) == (Severity.WARNING, "lr", LINE)
    assert (told.expected, told.actual) == ("1e-5", "1e-4")
    assert absent(told.message, "Llama-3.2-1B-Instruct_rank16_lr5e-5", LINE) == []


def test_a_blank_cell_gets_the_value_of_the_run_name_if_the_row_above_has_a_different_one() -> None:
    (told,) = blanks(EXAMPLE_SUMMARY.replace("| 8 | 5e-5 | 4 |", "| 8 | | 4 |"))
    assert (told.field, told.expected, told.actual) == ("lr", "1e-5", "1e-4")
    assert absent(told.fix, "write `5e-5` in this row") == []
    assert "`1e-5` in this row" not in told.fix


def test_no_value_is_suggested_for_a_blank_cell_that_makes_the_row_equal_to_another() -> None:
    names = EXAMPLE_SUMMARY.replace("_rank8_lr1e-5", "_a").replace("_rank8_lr5e-5", "_b")
    (told,) = blanks(names.replace("| 8 | 5e-5 | 4 |", "| 8 | | 4 |"))
    assert (told.field, told.expected, told.actual) == ("lr", "1e-5", "1e-4")
    assert "write `1e-5`" not in told.fix


@pytest.mark.parametrize(
    ("stated", "expected", "actual", "new"),
    [
        ("6 fine-tuned + 1 control = 7 total", 6, 4, [4, 7, 5]),
        ("6 fine-tuned + 1 control = 5 total", 6, 4, [4]),
        ("4 fine-tuned + 1 control = 6 total", 6, 5, [5]),
        ("4 fine-tuned + 1 control (7 total)", 7, 5, [5]),
        ("4 fine-tuned and 1 base, 7 runs in total", 7, 5, [5]),
    ],
)
def test_a_stated_number_of_runs_and_its_total_are_compared(
    stated: str, expected: int, actual: int, new: list[int]
) -> None:
    text = EXAMPLE_SUMMARY.replace("4 fine-tuned + 1 control = 5 total", stated)
    (told,) = [each for each in parse(text).warnings if each.code == "runs-differ"]
    assert (told.severity, told.expected, told.actual) == (Severity.WARNING, expected, actual)
    assert absent(told.fix, *new) == []


@pytest.mark.parametrize(
    "stated",
    ["4 fine-tuned", "4 fine-tuned + 1 control", "4 fine-tuned (2 ranks x 2 lrs = 4) + 1 control",
     "4 fine-tuned, 2 control (6 total)", "4 fine-tuned; 40 min in total"],
)  # fmt: skip
def test_a_stated_number_without_a_contradiction_is_accepted(stated: str) -> None:
    text = EXAMPLE_SUMMARY.replace("4 fine-tuned + 1 control = 5 total", stated)
    assert not [each for each in parse(text).warnings if each.code == "runs-differ"]


def test_blank_cells_that_use_the_same_value_are_one_info() -> None:
    (told,) = blanks(EXAMPLE_SUMMARY.replace("| 5e-5 | 4 |", "| 5e-5 | |"))
    assert (told.severity, told.field, told.expected, told.actual) == (Severity.INFO, "batch_size", "4", "4")
    rows = [LINE - 2, LINE]
    assert told.line == rows[0]
    assert absent(told.message, *rows) == []


def test_a_dash_is_not_blank_and_a_column_that_is_blank_throughout_is_not_reported() -> None:
    assert not blanks(with_last(LAST.replace("| 5e-5 |", "| - |")))
    assert not blanks(EXAMPLE_SUMMARY.replace(" | 4 | Fine", " | | Fine"))
    full = EXAMPLE_SUMMARY.replace("| Batch Size |", "| Recipe |").replace("| 4 | Fine", "| LoRA | Fine")
    assert not blanks(full.replace("| 16 | 5e-5 | LoRA |", "| | 5e-5 | full |").replace("- **Recipe:**", "- **Was:**"))


def test_alpha_follows_the_rank_if_its_cell_is_blank() -> None:
    text = EXAMPLE_SUMMARY.replace("| Batch Size |", "| LoRA alpha |").replace("| 4 | Fine", "| 16 | Fine")
    (told,) = blanks(text.replace(LAST.replace("| 4 |", "| 16 |"), LAST.replace("| 4 |", "| |")))
    assert (told.field, told.expected, told.actual, told.severity) == ("lora_alpha", "16", "32", Severity.WARNING)


def test_findings_about_rows_reach_the_plan(tmp_path: Path) -> None:
    here = make_experiment(tmp_path / "sweep", summary=SUMMARY, replace={LAST: f"| **Rank 16** | | | | | | |\n{LAST}"})
    assert "unused-row" in [each.code for each in scaffold(here).plan.warnings]


@pytest.mark.parametrize("status", ["DNR", "parked", "shelved", "paused", "left out"])
def test_other_words_for_cancelled_are_a_question(status: str) -> None:
    (found,) = refused(with_status(status)).problems
    assert (found.code, found.field) == ("ambiguous", FIELD)


@pytest.mark.parametrize(
    ("label", "others", "last"),
    [("Run?", "yes", "no"), ("Include", "x", "-"), ("Priority", "1", "skip"), ("Launch?", "yes", "n")],
)
def test_columns_that_select_rows_are_read(label: str, others: str, last: str) -> None:
    text = with_status(last, label).replace("| done |", f"| {others} |")
    (found,) = [each for each in refused(text).problems if each.severity is Severity.ERROR]
    assert (found.code, found.field) == ("ambiguous", FIELD)
    answered = parse(text, plan_cancelled_runs=False)
    assert [run.type for run in answered.runs].count("cancelled") == 1


def test_a_value_that_is_still_open_does_not_become_the_default() -> None:
    (found,) = refused(with_last(LAST.replace("| 5e-5 |", "| TBD |"))).problems
    assert (found.code, found.field, found.line) == ("invalid-value", "lr", LINE)


@pytest.mark.parametrize("label", ["Replicates", "Seeds", "Runs per condition", "# seeds"])
def test_a_row_for_several_runs_is_refused(label: str) -> None:
    found = refused(with_status("3", label).replace("| done |", "| 3 |")).problems
    assert [(each.code, each.field) for each in found] == [("misspelt-field", label)]
    assert parse(with_status("1", label).replace("| done |", "| 1 |")).runs
