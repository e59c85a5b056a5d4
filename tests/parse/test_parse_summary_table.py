"""The table of runs of an experiment_summary.md: its rows, types and columns."""

from typing import Any

import pytest

from scaffold_torchtune.findings import Finding, Refused, did_you_mean
from scaffold_torchtune.settings.parameters import PARAMETERS, normalize
from support.documents import MODEL, SUMMARY, parsed, refusal, runs, summary, table, told
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY
from support.wording import absent


def test_control_and_evaluated_rows_keep_their_type() -> None:
    cells = [["a", MODEL, "8", "finetuned"], ["b", MODEL, "-", "base"], ["c", MODEL, "N/A", "Eval-only"]]
    experiment = parsed(summary(table=table(["Name", "Model", "Rank", "Type"], cells)))
    assert [(run.name, run.type) for run in experiment.runs] == [
        ("a", "fine-tuned"),
        ("b", "control"),
        ("c", "eval-only"),
    ]


def test_without_a_type_column_a_row_without_hyperparameters_is_a_control() -> None:
    cells = [["a", MODEL, "8", "1e-5"], ["b", MODEL, "-", "-"], ["c", MODEL, "-", "1e-4"]]
    experiment = parsed(summary(table=table(["Run", "Model", "LoRA Rank", "LR"], cells)))
    assert [run.type for run in experiment.runs] == ["fine-tuned", "control", "fine-tuned"]


def test_without_any_parameter_column_every_row_is_a_run() -> None:
    experiment = parsed(summary(table=table(["Run", "Model"], [["a", MODEL]])))
    assert [run.type for run in experiment.runs] == ["fine-tuned"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("", "missing-field"), ("trained", "invalid-value"), ("Fine-tuned and control", "invalid-value")],
)
def test_an_unclear_type_is_refused(kind: str, code: str) -> None:
    text = EXAMPLE_SUMMARY.replace("8 | 5e-5 | 4 | Fine-tuned", f"8 | 5e-5 | 4 | {kind}")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [(code, "type", SUMMARY, 23)]


def test_values_of_control_rows_may_be_text() -> None:
    rows = runs(1, controls=1).replace("| - | - | Control", "| none of it | x | Control")
    assert parsed(summary(table=rows)).runs[1].parameters.keys() == {"model"}


@pytest.mark.parametrize("columns", [("LoRA Rank", "r"), ("lr", "Learning Rate"), ("Seed", "Random Seed")])
def test_two_columns_for_one_parameter_are_refused(columns: tuple[str, str]) -> None:
    cells = [["a", MODEL, "1", "1", "Fine-tuned"]]
    rows = table(["Run Name", "Model", *columns, "Type"], cells)
    (problem,) = refusal(parsed, summary(table=rows))
    assert (problem.code, problem.line) == ("duplicate-column", 4)
    assert absent(problem.message, *columns) == []


@pytest.mark.parametrize("header", [["Run Name", "Name", "Model", "Type"], ["Run Name", "Model", "Type", "Run Type"]])
def test_two_name_or_type_columns_are_refused(header: list[str]) -> None:
    cells = [{"Model": MODEL, "Type": "Control", "Run Type": "Control"}.get(h, "a") for h in header]
    problems = refusal(parsed, summary(table=table(header, [cells])))
    assert "duplicate-column" in {problem.code for problem in problems}


@pytest.mark.parametrize(("cells", "count"), [("| a | b | c |", 3), ("| a | b | c | d | e | f | g |", 7), ("a | b", 2)])
def test_a_row_with_too_few_or_too_many_cells_is_refused_and_not_read(cells: str, count: int) -> None:
    (problem,) = refusal(parsed, summary(table=runs(2, LoRA_Rank=["8", "16"]) + cells + "\n"))
    assert told([problem]) == [("malformed-table", "runs", SUMMARY, 8)]
    assert absent(problem.message, count, 5) == []


def test_if_no_row_can_be_read_only_that_is_reported() -> None:
    rows = runs(1).replace("| run_1 |", "|")
    problems = refusal(parsed, summary(table=rows, training={"Epochs": None}))
    assert told(problems) == [("malformed-table", "runs", SUMMARY, 6)]


def test_an_escaped_pipe_is_part_of_its_cell() -> None:
    rows = runs(1, System_Prompt=[r"a \| b"])
    assert parsed(summary(table=rows)).runs[0].parameters["system_prompt"].value == "a | b"


def test_two_tables_of_runs_are_refused_with_both_lines() -> None:
    text = summary(extra="## Fine-tuning Runs\n" + runs(1))
    (problem,) = refusal(parsed, text)
    assert told([problem]) == [("ambiguous", "runs", SUMMARY, 27)]
    assert absent(problem.message, 4, 27) == []


def test_tables_elsewhere_in_fences_and_in_comments_are_ignored() -> None:
    evaluation = "## Evaluation Matrix\n\n| Run Name | Model |\n|---|---|\n| other | other |\n"
    fence = "```\n" + runs(1) + "```\n\n"
    comment = "<!--\n" + runs(1) + "-->\n\n"
    experiment = parsed(summary(table=fence + comment + runs(1), extra=evaluation))
    assert [run.line for run in experiment.runs] == [18]
    hidden = refusal(parsed, summary(table=fence + comment, extra=evaluation))
    assert told(hidden) == [("missing-field", "fine-tuned runs", SUMMARY, 3)]


def test_a_table_without_run_names_is_not_the_table_of_runs() -> None:
    legend = table(["Symbol", "Meaning"], [["a", "b"]])
    assert len(parsed(summary(table=legend + "\n" + runs(1))).runs) == 1


def test_descriptive_columns_are_ignored_and_unknown_ones_are_a_warning() -> None:
    rows = runs(1, Status=["⏸ Not Started"], Notes=["x"], Est__Time=["~1h"], Accuracy=["0.9"])
    warnings = parsed(summary(table=rows, training={"Time": "2:00:00"})).warnings
    assert told(warnings) == [("unused-column", "Accuracy", SUMMARY, 4)]


@pytest.mark.parametrize(("column", "meant"), [("LoRA Rnk", "lora rank"), ("Learning Rte", "learning rate")])
def test_a_misspelt_column_is_refused_with_a_suggestion(column: str, meant: str) -> None:
    (problem,) = refusal(parsed, summary(table=runs(1).replace("| LoRA Rank |", f"| {column} |")))
    assert told([problem]) == [("misspelt-field", column, SUMMARY, 4)]
    assert repr(meant) in problem.message


@pytest.mark.parametrize(
    "label", sorted(label for p in PARAMETERS.values() if not p.column for label in (p.name, *p.aliases))
)
def test_a_column_of_what_no_row_gives_is_not_suggested_again(label: str) -> None:
    cells: dict[str, Any] = {label: ["x"]}
    found = [each for each in _findings(runs(1, **cells)) if each.line == 4]
    assert "unused-column" not in {each.code for each in found}
    assert not any(repr(normalize(label)) in f"{each.message} {each.fix}" for each in found)


def _findings(rows: str) -> list[Finding]:
    try:
        return [*parsed(summary(table=rows)).warnings]
    except Refused as refused:
        return [*refused.problems]


def test_no_suggestion_is_the_word_itself() -> None:
    assert did_you_mean("seed", ["seed", "seeds"], "It is unknown.") == "It is unknown. Did you mean 'seeds'?"
    assert did_you_mean("seed", ["seed"], "It is unknown.") == "It is unknown"


@pytest.mark.parametrize(
    ("heading", "cells", "codes"),
    [
        ("", ["", "cancelled"], ["unused-column"]), ("–", ["3 epochs", ""], ["unused-column"]), ("", ["1", "2"], []),
        ("", ["✓", ""], []), ("", ["-", "-"], []), ("#", ["a1", "a2"], []),
    ],
)  # fmt: skip
def test_a_column_of_words_without_a_heading_is_a_warning(heading: str, cells: list[str], codes: list[str]) -> None:
    table = runs(2, LoRA_Rank=["8", "16"], X=cells).replace("| X |", f"| {heading} |")
    assert [warning.code for warning in parsed(summary(table=table)).warnings] == codes


@pytest.mark.parametrize("label", ["Type", "Role"])
@pytest.mark.parametrize("kind", ["baseline, eval only", "Eval only; baseline", "control and eval", "baseline"])
def test_a_row_without_settings_may_have_several_names_of_rows_that_are_not_trained(label: str, kind: str) -> None:
    header = ["Run Name", "Model", "LoRA Rank", "Learning Rate", label]
    rows = [["a", MODEL, "8", "1e-4", "Fine-tuned"], ["b", MODEL, "-", "-", kind]]
    found = parsed(summary(table=table(header, rows)))
    assert found.runs[0].type == "fine-tuned"
    assert found.runs[1].type in {"control", "eval-only"}


@pytest.mark.parametrize("kind", ["Fine-tuned, control", "baseline, other"])
def test_a_type_of_rows_that_are_and_are_not_trained_is_refused(kind: str) -> None:
    header = ["Run Name", "Model", "LoRA Rank", "Learning Rate", "Type"]
    rows = [["a", MODEL, "8", "1e-4", "Fine-tuned"], ["b", MODEL, "16", "1e-4", kind]]
    (found,) = refusal(parsed, summary(table=table(header, rows)))
    assert (found.code, found.field, found.line) == ("invalid-value", "type", 7)
