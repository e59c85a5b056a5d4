"""Paths of models and of data sets that a summary lists: each is used by the runs, or reported."""

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.parse import parse_experiment
from support.documents import LOCAL, MODEL, SUMMARY, local_md, parsed, planned, refusal, runs, summary, table, told

LISTED = f"/listed/{MODEL}"
FIELD = f"path of model {MODEL}"
WITH_DIR = local_md(models_dir="/shared/models")
MODELS = "### Models\n\n"
LINE = 14
"""The first line below Models in these documents."""


def with_models(lines: str) -> str:
    """Return a summary with these lines in its section Models."""
    text = summary(models={}).replace(MODELS, f"{MODELS}{lines}\n\n")
    assert text.splitlines()[LINE - 1] == lines.splitlines()[0]
    return text


def path_of(text: str, local: str = WITH_DIR) -> str:
    return parsed(text, local).models[0].path.text


def warnings_of(text: str) -> list[Finding]:
    return [each for each in parsed(text, WITH_DIR).warnings if each.severity is Severity.WARNING]


@pytest.mark.parametrize(
    "lines",
    [
        table(["Model", "Path"], [[MODEL, f"`{LISTED}`"]]),
        table(["Name", "Path", "Size"], [[MODEL, LISTED, "2.5 GB"]]),
        table(["Base model", "Size", "Location"], [[MODEL, "2.5 GB", LISTED]]),
        f"- **{MODEL}** (`{LISTED}`)",
        f"- {MODEL} ({LISTED})",
        f"- **{MODEL}**\n  - Local path: {LISTED}",
        f"- **{MODEL}**: {LISTED}\n  - Tokenizer: {LISTED}/original/tokenizer.model",
        f"The models are in /listed, see docs/models.md.\n\n- **{MODEL}**: {LISTED}",
        f"- **{MODEL}**: {LISTED}\n  - Copy: /archive/llms\n  - Conversion script: /home/ada/kit/convert",
        f"A copy is in /archive/llms and/or on tape.\n\n- **{MODEL}**: {LISTED}",
        f"- **{MODEL}**: {LISTED}\n\n" + table(["Model", "Path"], [[MODEL, f"meta-llama/{MODEL}"]]),
        f"- **{MODEL}**: {LISTED}\n- **Llama-3.1-8B-Instruct**: /listed/Llama-3.1-8B-Instruct",
    ],
)
def test_a_listed_path_of_a_model_is_read_and_nothing_is_reported(lines: str) -> None:
    assert path_of(with_models(lines)) == LISTED
    assert warnings_of(with_models(lines)) == []


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (f"- **Path**: `{LISTED}`", 0),
        (f"```\n{MODEL}: {LISTED}\n```", 1),
        (f"- **1B**: {LISTED}", 0),
        (f"We start from `{LISTED}`.", 0),
        (f"- The weights are in {LISTED}", 0),
        (table(["File", "Directory"], [[MODEL, LISTED]]), 2),
    ],
)
def test_a_path_of_another_form_is_refused_if_the_model_gets_its_path_from_elsewhere(lines: str, line: int) -> None:
    text = with_models(lines)
    (problem,) = refusal(parsed, text, WITH_DIR)
    assert told([problem]) == [("ambiguous", FIELD, SUMMARY, LINE + line)]
    assert (problem.expected, problem.actual) == (f"/shared/models/{MODEL}", LISTED)
    added = problem.fix.partition("`")[2].partition("`")[0]
    assert added == f"- **{MODEL}:** {LISTED}"
    fixed = text.replace(MODELS, f"{MODELS}{added}\n\n")
    assert path_of(fixed) == LISTED
    assert warnings_of(fixed) == []


def test_a_path_of_a_model_that_no_run_uses_is_refused_if_the_model_of_the_runs_is_not_listed() -> None:
    text = with_models("- **Llama-3.2-1B**: /listed/Llama-3.2-1B")
    (problem,) = refusal(parsed, text, WITH_DIR)
    assert told([problem]) == [("ambiguous", FIELD, SUMMARY, LINE)]
    added = problem.fix.partition("`")[2].partition("`")[0]
    assert added == f"- **{MODEL}:** /shared/models/{MODEL}"
    assert path_of(text.replace(MODELS, f"{MODELS}{added}\n")) == f"/shared/models/{MODEL}"
    (other,) = parsed(text.replace(MODEL, "Llama-3.2-1B"), WITH_DIR).models
    assert (other.name, other.path.text) == ("Llama-3.2-1B", "/listed/Llama-3.2-1B")


def test_an_unknown_model_of_the_runs_is_reported_instead_of_the_listed_paths() -> None:
    text = with_models(f"- **{MODEL}**: {LISTED}").replace(f"| {MODEL} |", "| Llama-3-8B |")
    assert [(each.code, each.actual) for each in refusal(planned, text, WITH_DIR)] == [("unknown-model", "Llama-3-8B")]


def test_the_directory_of_all_models_needs_its_label() -> None:
    text = with_models("- **Path**: /listed")
    (problem,) = refusal(parsed, text, WITH_DIR)
    assert (problem.field, problem.actual, problem.line) == (FIELD, "/listed", LINE)
    assert path_of(text.replace("**Path**", "**Models directory**")) == LISTED


@pytest.mark.parametrize(
    ("below", "code"),
    [
        ("Fine-tuned checkpoint to start from: `/tuned/epoch_1`", "ambiguous"),
        ("Starting checkpoint: /tuned/epoch_1", "ambiguous"),
        ("Resume from /tuned/epoch_1", "ambiguous"),
        ("Adapter: /tuned/epoch_1", "unused-field"),
    ],
)
def test_a_second_path_beside_a_listed_model_is_reported(below: str, code: str) -> None:
    text = with_models(f"- **{MODEL}**: {LISTED}\n  - {below}")
    found = refusal(parsed, text, WITH_DIR) if code == "ambiguous" else warnings_of(text)
    assert told(found) == [(code, FIELD, SUMMARY, LINE + 1)]
    assert f"write it in place of '{LISTED}' in {SUMMARY}:{LINE}" in found[0].fix
    fixed = text.replace(LISTED, "/tuned/epoch_1")
    assert path_of(fixed) == "/tuned/epoch_1"
    assert warnings_of(fixed) == []


@pytest.mark.parametrize("label", ["Model path", "Base model", "Pretrained model", "Base checkpoint"])
def test_a_label_for_the_path_of_a_model_in_another_section_is_compared_with_the_runs(label: str) -> None:
    overview = f"## Overview\n\n- **{label}:** {LISTED}\n"
    (problem,) = refusal(parsed, summary(models={}, extra=overview), WITH_DIR)
    assert (problem.code, problem.field, problem.actual) == ("ambiguous", FIELD, LISTED)
    (found,) = warnings_of(summary(extra=overview))
    assert (found.code, found.field, found.actual) == ("unused-field", FIELD, LISTED)
    assert warnings_of(summary(models={MODEL: LISTED}, extra=overview)) == []
    assert warnings_of(summary(extra=overview.replace("Overview", "Evaluation"))) == []


def with_data(lines: str, cells: list[str] | None) -> str:
    rows = runs(2, LoRA_Rank=["8", "16"], Dataset=cells) if cells else runs(2, LoRA_Rank=["8", "16"])
    return summary(table=rows, dataset=None).replace("### Dataset\n", f"### Dataset\n\n{lines}\n")


def test_a_table_of_data_sets_is_read() -> None:
    lines = table(["Name", "Path", "Samples"], [["small", "data/small.json", "100"], ["large", "data/large.json", "9"]])
    paths = [run.parameters["dataset"].text for run in parsed(with_data(lines, ["small", "large"])).runs]
    assert paths == ["data/small.json", "data/large.json"]


def test_a_table_beside_the_path_of_the_data_set_changes_nothing_unless_rows_name_its_files() -> None:
    rows = table(["Name", "File"], [["small", "data/small.json"], ["large", "data/large.json"], ["raw", "a b"]])
    text = with_data(f"- **Path**: data/words.json\n\n{rows}", None)
    experiment = parsed(text)
    assert experiment.dataset is not None
    assert (experiment.dataset.path.text, told(experiment.warnings)) == ("data/words.json", [])
    paths = [run.parameters["dataset"].text for run in parsed(with_data(rows, ["small", "large"])).runs]
    assert paths == ["data/small.json", "data/large.json"]


def test_a_table_of_parts_names_the_data_set_and_its_header_is_no_setting() -> None:
    parts = [["train", "data/words.json", "300"], ["test", "data/test.json", "30"]]
    experiment = parsed(with_data(table(["Split", "Path", "Samples"], parts), None))
    assert experiment.dataset is not None
    assert experiment.dataset.path.text == "data/words.json"
    assert told(experiment.warnings) == [("unused-field", "dataset", SUMMARY, 21)]
    (problem,) = refusal(parsed, with_data(table(["Split", "Path"], [["all", "a word"]]), None))
    assert (problem.code, problem.field) == ("missing-field", "dataset")


@pytest.mark.parametrize(
    ("cell", "expected"), [("Small", "small"), ("Large set", "large"), ("smal", "small"), ("big", None)]
)
def test_a_name_of_a_data_set_that_is_not_listed_is_refused_with_the_listed_names(
    cell: str, expected: str | None
) -> None:
    lines = "- **small**: `data/small.json`\n- **large**: `data/large.json`"
    text = with_data(lines, ["small", cell])
    (problem,) = refusal(parsed, text)
    assert told([problem]) == [("invalid-value", "dataset", SUMMARY, 7)]
    assert (problem.expected, problem.actual) == (expected, cell)
    which = f"`{expected}`" if expected else "one of `small` or `large`"
    assert f"write {which} in the column Dataset (line 7)" in problem.fix
    written = parsed(text.replace(f"| {cell} |", f"| {expected or 'large'} |")).runs
    assert written[1].parameters["dataset"].text == f"data/{expected or 'large'}.json"


def test_a_listed_data_set_of_an_unsupported_format_is_named_by_its_file() -> None:
    lines = "- **small**: `data/small.jsonl`\n- **large**: `data/large.json`"
    (problem,) = refusal(planned, with_data(lines, ["small", "large"]))
    assert (problem.code, problem.actual, problem.line) == ("unsupported-format", ".jsonl", 6)
    (problem,) = refusal(planned, with_data("- **small**: `data/small.jsonl`", None))
    assert (problem.code, problem.actual) == ("unsupported-format", ".jsonl")


@pytest.mark.parametrize("path", ["data/words_300", "datasets/words", "train/words"])
def test_a_path_in_a_usual_directory_is_a_file_without_an_extension(path: str) -> None:
    (problem,) = refusal(planned, summary(dataset=path))
    assert (problem.code, problem.field, problem.actual) == ("unsupported-format", "dataset", "")
    name = path.rpartition("/")[2]
    assert f"replace `{name}` with `{name}.json` in {SUMMARY}:" in problem.fix


def test_the_hub_and_a_missing_extension_are_both_named() -> None:
    (problem,) = refusal(parse_experiment, (SUMMARY, summary(dataset="lab/words")), (LOCAL, local_md()), lambda _: True)
    assert (problem.code, problem.field) == ("invalid-value", "dataset")
    assert "hf download" in problem.fix
    assert "extension" in problem.fix
