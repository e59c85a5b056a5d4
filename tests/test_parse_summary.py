import contextlib
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from documents import LOCAL, MODEL, SUMMARY, local_md, parsed, planned, refusal, runs, summary, table, told
from example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY
from scaffold_torchtune.errors import Refused, Scalar
from scaffold_torchtune.models.base import Setting, Source, SourceKind
from scaffold_torchtune.models.experiment import Dataset, Experiment, ModelPath, Run


def from_summary(kind: SourceKind, value: Scalar, line: int, note: str) -> Setting:
    return Setting(value=value, source=Source(kind=kind, file=SUMMARY, line=line, note=note))


def from_local(value: Scalar, line: int, note: str) -> Setting:
    return Setting(value=value, source=Source(kind=SourceKind.LOCAL, file=LOCAL, line=line, note=note))


def example_run(line: int, rank: int, lr: float, spelt: str) -> Run:
    def cell(value: Scalar, note: str) -> Setting:
        return from_summary(SourceKind.ROW, value, line, note)

    return Run(
        name=f"{MODEL}_rank{rank}_lr{spelt}",
        type="fine-tuned",
        model=MODEL,
        parameters={
            "model": cell(MODEL, "Model"),
            "lora_rank": cell(rank, "LoRA Rank"),
            "lr": cell(lr, "Learning Rate"),
            "batch_size": cell(4, "Batch Size"),
        },
        line=line,
    )


def example_experiment() -> Experiment:
    training = "Configuration > Training"
    data = "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
    return Experiment(
        name="cap_4L_lora_lr_sweep",
        summary_file=SUMMARY,
        local_file=LOCAL,
        columns=("model", "lora_rank", "lr", "batch_size"),
        runs=(
            example_run(22, 8, 1e-5, "1e-5"),
            example_run(23, 8, 5e-5, "5e-5"),
            example_run(24, 16, 1e-5, "1e-5"),
            example_run(25, 16, 5e-5, "5e-5"),
            Run(
                name=f"{MODEL}_base",
                type="control",
                model=MODEL,
                parameters={"model": from_summary(SourceKind.ROW, MODEL, 26, "Model")},
                line=26,
            ),
        ),
        dataset=Dataset(
            path=from_summary(SourceKind.RESOURCES, data, 36, "Resources > Dataset > Path"),
            label="words_4L_80P_300",
            extension=".json",
            splits={"train": 240, "validation": 30, "test": 30},
        ),
        models=(
            ModelPath(
                name=MODEL,
                path=from_summary(
                    SourceKind.RESOURCES, f"/scratch/gpfs/LAB/pretrained-llms/{MODEL}", 31, "Resources > Models"
                ),
            ),
        ),
        config={
            "recipe": from_summary(SourceKind.CONFIGURATION, "lora_finetune_single_device", 45, training),
            "epochs": from_summary(SourceKind.CONFIGURATION, 2, 46, training),
            "gpus": from_summary(SourceKind.CONFIGURATION, 1, 47, training),
            "batch_size": from_summary(SourceKind.CONFIGURATION, 4, 48, training),
            "system_prompt": from_summary(SourceKind.CONFIGURATION, "Capitalize the given word", 49, training),
        },
        environment={
            "scratch_dir": from_local("/scratch/gpfs/LAB/ada", 8, "HPC Environment > Scratch directory"),
            "working_dir": from_local("/home/ada/cruijff_kit", 9, "HPC Environment > Working directory"),
            "models_dir": from_local("/scratch/gpfs/LAB/pretrained-llms", 13, "Shared Resources > Models directory"),
            "account": from_local("lab", 17, "SLURM Defaults > Account"),
            "constraint": from_local("gpu80", 19, "SLURM Defaults > Constraint"),
            "time": from_local("0:59:00", 20, "SLURM Defaults > Default time"),
            "gpus": from_local(1, 21, "SLURM Defaults > Default GPUs"),
            "conda_env": from_local("cruijff", 22, "SLURM Defaults > Default conda environment"),
            "modules": from_local("anaconda3/2025.6", 27, "Module System"),
            "my_wandb_project": from_local("capitalization", 33, "Weights & Biases > Default project"),
            "output_dir_base": from_local(
                "/scratch/gpfs/LAB/ada/ck-outputs", 37, "Common Paths > Output base directory"
            ),
        },
    )


def without(*starts: str, text: str = EXAMPLE_SUMMARY) -> str:
    """The text without the lines that start so."""
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith(starts)]
    assert len(kept) < len(text.splitlines())
    return "".join(kept)


def with_training(line: str) -> str:
    return EXAMPLE_SUMMARY.replace("- **Epochs:** 2\n", f"- **Epochs:** 2\n{line}\n")


def values(experiment: Experiment) -> object:
    """The experiment without the places where its values stand."""
    dumped = experiment.model_dump(exclude={"warnings"})

    def strip(node: object) -> object:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key not in {"line", "source"}}
        return [strip(item) for item in node] if isinstance(node, list | tuple) else node

    return strip(dumped)


# --- the form of the mission's example ---


def test_the_example_gives_exactly_the_experiment_that_it_describes() -> None:
    assert parsed(EXAMPLE_SUMMARY, EXAMPLE_LOCAL) == example_experiment()


def test_values_have_their_parameters_types() -> None:
    run = parsed(EXAMPLE_SUMMARY, EXAMPLE_LOCAL).runs[0]
    assert {name: type(setting.value) for name, setting in run.parameters.items()} == {
        "model": str,
        "lora_rank": int,
        "lr": float,
        "batch_size": int,
    }


@pytest.mark.parametrize("title", ["# sweep_1", "# Experiment: sweep_1", "# Run Plan: sweep_1", "# **sweep_1**",
                                   "# _sweep_1_", "# `sweep_1`", "sweep_1\n=======",
                                   "# sweep_1 (second try)"])  # fmt: skip
def test_a_title_is_the_experiments_name(title: str) -> None:
    assert parsed(summary(title=title)).name == "sweep_1"


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\n", "\r"),
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\n", "  \n"),
        lambda t: t.replace(" | ", "\t|\t"),
        lambda t: t.replace("- **", "-\t**"),
        lambda t: t.replace(" | ", "\u00a0|\u00a0").replace("** ", "**\u00a0").replace(": `", ":\u00a0`"),
        lambda t: "\n".join(line.removeprefix("| ").removesuffix(" |") for line in t.split("\n")),
        lambda t: t.replace("| Run Name", "| **Run Name**").replace("| 8 |", "| `8` |").replace("| 16 |", "| **16** |"),
        lambda t: t.replace("Fine-tuned |", "**fine-tuned** |").replace("Control |", "control (base) |"),
        lambda t: t.replace("Learning Rate | Batch", "lr | Batch").replace("LoRA Rank | lr", "r | lr"),
        lambda t: t.replace(" - |", " – |").replace(" – | – |", " — | n/a |"),
        lambda t: t.replace("**Epochs:**", "**Epochs**:").replace("**Path**:", "**Path:**"),
        lambda t: t.replace(".json`\n", ".json` ✓ verified\n"),
        lambda t: t.replace("**Epochs:** 2", "**Epochs:** `2` (two)").replace("**Batch size:** 4", "Batch size: 4"),
        lambda t: t.replace("## All Runs", "### Fine-tuning Runs"),
        lambda t: t.replace("## All Runs\n", "## All Runs\n<!-- | Run Name | Model |\n|---|---|\n| x | y | -->\n"),
        lambda t: t.replace(f"| {MODEL}_base", f"{'| ... ' * 7}|\n| {MODEL}_base"),
        lambda t: t.replace("## Quick Reference", "## Paths").replace("**Paths:**", ""),
        lambda t: t.replace("| 1e-5 |", "| 1 × 10^-5 |").replace("| 5e-5 |", "| 5 x 10⁻⁵ (high) |"),
        lambda t: "\n".join("> " + line if line.startswith("|") else line for line in t.split("\n")),
    ],
    ids=["crlf", "cr", "bom", "trailing spaces", "tabs in cells", "tabs after dashes", "non-breaking spaces",
         "no outer pipes", "emphasis in cells", "spellings of types", "short column names", "other dashes",
         "colon in or out of the bold", "a remark after a path", "a remark after a number", "another section name",
         "a table in a comment", "a sketched row", "a section Paths", "powers of ten", "quoted table"],
)  # fmt: skip
def test_a_form_that_people_write_gives_the_same_values(change: Callable[[str], str]) -> None:
    changed = change(EXAMPLE_SUMMARY)
    assert changed != EXAMPLE_SUMMARY
    assert values(parsed(changed, EXAMPLE_LOCAL)) == values(example_experiment())


def test_line_ends_and_a_byte_order_mark_change_no_place() -> None:
    changed = "\ufeff" + EXAMPLE_SUMMARY.replace("\n", "\r\n")
    assert parsed(changed, "\ufeff" + EXAMPLE_LOCAL.replace("\n", "\r\n")) == example_experiment()


# --- required fields ---

NO_MODEL = without("- **Llama-3.2-1B-Instruct**", "- Models:")
NO_MODELS_DIR = without("- **Models directory", text=EXAMPLE_LOCAL)
NO_DATA = without("- **Path**", "- Dataset:")
NO_OUTPUT = without("- **Output base directory", text=EXAMPLE_LOCAL)
NO_RUNS = without("| Run Name", "|----------|", "| Llama")


@pytest.mark.parametrize(
    ("text", "local", "field", "file", "line_to_add"),
    [
        (without("# cap"), EXAMPLE_LOCAL, "experiment name", SUMMARY, "# EXPERIMENT_NAME"),
        (NO_RUNS, EXAMPLE_LOCAL, "fine-tuned runs", SUMMARY, "Fine-tuned |"),
        (NO_MODEL, NO_MODELS_DIR, f"path of model {MODEL}", SUMMARY, f"- **{MODEL}**: `/path/to/{MODEL}`"),
        (NO_DATA, EXAMPLE_LOCAL, "dataset", SUMMARY, "- **Path**: `/path/to/data.json`"),
        (without("- **Epochs"), EXAMPLE_LOCAL, "epochs", SUMMARY, "- **Epochs:** NUMBER"),
        (
            without("- **Batch").replace("Batch Size |", "Notes |"),
            EXAMPLE_LOCAL,
            "batch_size",
            SUMMARY,
            "- **Batch size:** NUMBER",
        ),
        (
            EXAMPLE_SUMMARY,
            without("- **Default conda", text=EXAMPLE_LOCAL),
            "conda_env",
            LOCAL,
            "- **Default conda environment**: `NAME`",
        ),
        (
            EXAMPLE_SUMMARY,
            without("- **Default project", text=EXAMPLE_LOCAL),
            "my_wandb_project",
            LOCAL,
            "- **Default project**: `NAME`",
        ),
        (without("- **Checkpoint"), NO_OUTPUT, "output_dir_base", LOCAL, "- **Output base directory**: "),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_a_missing_required_field_is_refused_with_its_document_and_the_line_to_add(
    text: str, local: str, field: str, file: str, line_to_add: str
) -> None:
    (problem,) = refusal(parsed, text, local)
    assert told([problem]) == [("missing-field", field, file, None)]
    assert line_to_add in problem.fix


@pytest.mark.parametrize("unset", ["-", "", "(none)", "<NUMBER>", "n/a", "TBD"])
def test_a_required_field_that_is_left_open_is_missing(unset: str) -> None:
    problems = refusal(parsed, summary(dataset=unset or None, training={"Epochs": unset, "Batch size": unset}))
    assert told(problems) == [("missing-field", name, SUMMARY, None) for name in ("batch_size", "dataset", "epochs")]


def test_everything_that_is_missing_is_named_in_one_refusal() -> None:
    text = "## Overview\n\n- nothing\n"
    problems = refusal(parsed, text, "# Local\n")
    assert told(problems) == [
        ("missing-field", "conda_env", LOCAL, None),
        ("missing-field", "my_wandb_project", LOCAL, None),
        ("missing-field", "output_dir_base", LOCAL, None),
        ("missing-field", "batch_size", SUMMARY, None),
        ("missing-field", "dataset", SUMMARY, None),
        ("missing-field", "epochs", SUMMARY, None),
        ("missing-field", "experiment name", SUMMARY, None),
        ("missing-field", "fine-tuned runs", SUMMARY, None),
    ]


def test_problems_of_both_documents_come_together_sorted_by_file_and_line() -> None:
    rows = runs(3, LoRA_Rank=["8", "x", "y"])
    problems = refusal(parsed, summary(table=rows, training={"Epochs": "two"}), local_md(account="$(id)"))
    assert told(problems) == [
        ("invalid-value", "account", LOCAL, 6),
        ("invalid-value", "lora_rank", SUMMARY, 7),
        ("invalid-value", "lora_rank", SUMMARY, 8),
        ("invalid-value", "epochs", SUMMARY, 24),
    ]


def test_a_column_model_is_required() -> None:
    text = EXAMPLE_SUMMARY.replace("| Run Name | Model |", "| Run Name | Notes |")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [("missing-field", "model", SUMMARY, 20)]


def test_every_fine_tuned_row_needs_a_model() -> None:
    rows = runs(3, LoRA_Rank=["4", "8", "16"], Model=[MODEL, "-", " "], controls=1)
    problems = refusal(parsed, summary(table=rows))
    assert told(problems) == [("missing-field", "model", SUMMARY, 7), ("missing-field", "model", SUMMARY, 8)]
    assert "run_2" in problems[0].message


def test_only_controls_are_no_fine_tuned_runs() -> None:
    text = EXAMPLE_SUMMARY.replace("Fine-tuned |", "Control |")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [("missing-field", "fine-tuned runs", SUMMARY, None)]


def test_the_models_directory_stands_for_a_model_path() -> None:
    from_local_file = parsed(NO_MODEL, EXAMPLE_LOCAL).models
    assert [(m.name, m.path.value, m.path.source.file) for m in from_local_file] == [
        (MODEL, f"/scratch/gpfs/LAB/pretrained-llms/{MODEL}", LOCAL)
    ]
    text = without("- **Llama-3.2-1B-Instruct**")
    from_quick_reference = parsed(text, NO_MODELS_DIR).models
    assert [(m.path.value, m.path.source.file, m.path.source.line) for m in from_quick_reference] == [
        (f"/scratch/gpfs/LAB/pretrained-llms/{MODEL}", SUMMARY, 58)
    ]


def test_the_checkpoint_directory_stands_for_the_output_directory() -> None:
    output = parsed(EXAMPLE_SUMMARY, NO_OUTPUT).environment["output_dir_base"]
    expected = "Configuration > Output > Checkpoint directory"
    assert output == from_summary(SourceKind.CONFIGURATION, "/scratch/gpfs/LAB/ada/ck-outputs", 52, expected)


def test_the_quick_reference_stands_for_the_data_set() -> None:
    dataset = parsed(without("- **Path**"), EXAMPLE_LOCAL).dataset
    assert dataset is not None
    assert (dataset.label, dataset.path.source.line) == ("words_4L_80P_300", 59)


def test_a_data_set_in_every_row_needs_none_in_resources() -> None:
    rows = runs(2, Dataset=["a.json", "b.json"])
    experiment = parsed(summary(table=rows, dataset=None))
    assert experiment.dataset is None
    assert [run.parameters["dataset"].value for run in experiment.runs] == ["a.json", "b.json"]
    lacking = runs(2, LoRA_Rank=["8", "16"], Dataset=["a.json", "-"])
    assert told(refusal(parsed, summary(table=lacking, dataset=None))) == [("missing-field", "dataset", SUMMARY, None)]


def test_epochs_and_batch_size_of_every_row_need_none_in_configuration() -> None:
    rows = runs(2, Epochs=["1", "2"], Batch_Size=["4", "4"])
    assert parsed(summary(table=rows, training={"Epochs": None, "Batch size": None})).config == {}
    lacking = runs(2, Epochs=["1", "-"], Batch_Size=["4", "4"])
    problems = refusal(parsed, summary(table=lacking, training={"Epochs": None, "Batch size": None}))
    assert told(problems) == [("missing-field", "epochs", SUMMARY, None)]


# --- the runs table ---


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


@pytest.mark.parametrize("kind", ["", "trained", "Fine-tuned and control"])
def test_an_unclear_type_is_refused(kind: str) -> None:
    text = EXAMPLE_SUMMARY.replace("8 | 5e-5 | 4 | Fine-tuned", f"8 | 5e-5 | 4 | {kind}")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [("invalid-value", "type", SUMMARY, 23)]


def test_values_of_control_rows_need_not_be_numbers() -> None:
    rows = runs(1, controls=1).replace("| - | - | Control", "| none of it | x | Control")
    assert parsed(summary(table=rows)).runs[1].parameters.keys() == {"model"}


@pytest.mark.parametrize("columns", [("LoRA Rank", "r"), ("lr", "Learning Rate"), ("Seed", "Random Seed")])
def test_two_columns_of_one_meaning_are_refused(columns: tuple[str, str]) -> None:
    cells = [["a", MODEL, "1", "1", "Fine-tuned"]]
    rows = table(["Run Name", "Model", *columns, "Type"], cells)
    (problem,) = refusal(parsed, summary(table=rows))
    assert (problem.code, problem.line) == ("duplicate-column", 4)
    assert all(name in problem.message for name in columns)


@pytest.mark.parametrize("header", [["Run Name", "Name", "Model", "Type"], ["Run Name", "Model", "Type", "Run Type"]])
def test_two_name_or_type_columns_are_refused(header: list[str]) -> None:
    cells = [{"Model": MODEL, "Type": "Control", "Run Type": "Control"}.get(h, "a") for h in header]
    problems = refusal(parsed, summary(table=table(header, [cells])))
    assert "duplicate-column" in {problem.code for problem in problems}


@pytest.mark.parametrize(("cells", "count"), [("| a | b | c |", 3), ("| a | b | c | d | e | f | g |", 7), ("a | b", 2)])
def test_a_row_of_too_few_or_many_cells_is_refused_and_not_read(cells: str, count: int) -> None:
    (problem,) = refusal(parsed, summary(table=runs(2, LoRA_Rank=["8", "16"]) + cells + "\n"))
    assert told([problem]) == [("malformed-table", "runs", SUMMARY, 8)]
    assert f"{count} cells, the header 5" in problem.message


def test_where_no_row_can_be_read_only_that_is_reported() -> None:
    rows = runs(1).replace("| run_1 |", "|")
    problems = refusal(parsed, summary(table=rows, training={"Epochs": None}))
    assert told(problems) == [("malformed-table", "runs", SUMMARY, 6)]


def test_a_pipe_that_is_escaped_is_part_of_its_cell() -> None:
    rows = runs(1, System_Prompt=[r"a \| b"])
    assert parsed(summary(table=rows)).runs[0].parameters["system_prompt"].value == "a | b"


def test_two_tables_of_runs_are_refused_with_both_lines() -> None:
    text = summary(extra="## Fine-tuning Runs\n" + runs(1))
    (problem,) = refusal(parsed, text)
    assert told([problem]) == [("ambiguous", "runs", SUMMARY, 27)]
    assert "lines 4 and 27" in problem.message


def test_tables_elsewhere_in_fences_and_in_comments_are_not_taken() -> None:
    evaluation = "## Evaluation Matrix\n\n| Run Name | Model |\n|---|---|\n| other | other |\n"
    fence = "```\n" + runs(1) + "```\n\n"
    comment = "<!--\n" + runs(1) + "-->\n\n"
    experiment = parsed(summary(table=fence + comment + runs(1), extra=evaluation))
    assert [run.line for run in experiment.runs] == [18]
    hidden = refusal(parsed, summary(table=fence + comment, extra=evaluation))
    assert told(hidden) == [("missing-field", "fine-tuned runs", SUMMARY, None)]


def test_a_table_without_run_names_is_no_table_of_runs() -> None:
    legend = table(["Symbol", "Meaning"], [["a", "b"]])
    assert len(parsed(summary(table=legend + "\n" + runs(1))).runs) == 1


def test_columns_for_people_are_read_over_and_others_warned_about() -> None:
    rows = runs(1, Status=["⏸ Not Started"], Notes=["x"], Est__Time=["~1h"], Accuracy=["0.9"])
    warnings = parsed(summary(table=rows)).warnings
    assert told(warnings) == [("unused-column", "Accuracy", SUMMARY, 4)]


@pytest.mark.parametrize(("column", "meant"), [("LoRA Rnk", "lora rank"), ("Learning Rte", "learning rate")])
def test_a_misspelt_column_is_refused_with_what_was_meant(column: str, meant: str) -> None:
    (problem,) = refusal(parsed, summary(table=runs(1).replace("| LoRA Rank |", f"| {column} |")))
    assert told([problem]) == [("misspelt-field", column, SUMMARY, 4)]
    assert repr(meant) in problem.message


@pytest.mark.parametrize(
    "text", ["８", "1_000", "007", "1,5", "nan", "inf", "-3", "+8", "8.5", "1e3", "0", "9" * 5000, "0x8", "",
    "8 16", "`8`, `16`"]
)  # fmt: skip
def test_what_is_not_plainly_a_rank_is_refused_with_its_place(text: str) -> None:
    rows = runs(2, LoRA_Rank=["8", text or '""'])
    (problem,) = refusal(parsed, summary(table=rows))
    assert told([problem]) == [("invalid-value", "lora_rank", SUMMARY, 7)]
    assert "run_2" in problem.message
    assert len(str(problem.actual)) < 300


@pytest.mark.parametrize(
    "text",
    ["１e-5", "1_0e-5", "01e-5", "1,5e-5", "nan", "inf", "-1e-5", "1e999", "1e-999", "0", "0.0", "11", "5 x 105",
     "5 x 10-5", "1e", "e-5", "1 e-5", "0." + "1" * 5000, "1e-5 2e-5"],
)  # fmt: skip
def test_what_is_not_plainly_a_learning_rate_is_refused(text: str) -> None:
    rows = runs(1, Learning_Rate=[text])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "lr", SUMMARY, 6)]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("5E-5", 5e-5), ("1e-05", 1e-5), ("0.00001", 1e-5), (".5", 0.5), ("1 × 10^-5", 1e-5),
     ("5 x 10⁻⁵", 5e-5), ("2*10**-4", 2e-4), ("3e-4 (default)", 3e-4), ("`1e-4`", 1e-4), ("**1e-4**", 1e-4),
     ("1", 1.0)],
)  # fmt: skip
def test_spellings_of_a_learning_rate(text: str, value: float) -> None:
    found = parsed(summary(table=runs(1, Learning_Rate=[text]))).runs[0].parameters["lr"].value
    assert (found, type(found)) == (value, float)


@pytest.mark.parametrize("text", ["59", "0", "0:00:00", "12:99x", "1:2:3:4", "infinite", "-1:00", "1h", "１:00:00"])
def test_a_time_limit_that_slurm_reads_otherwise_is_refused(text: str) -> None:
    rows = runs(1, Time=[text])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "time", SUMMARY, 6)]


def test_a_bare_number_of_minutes_is_refused_with_how_to_write_it() -> None:
    (problem,) = refusal(parsed, summary(table=runs(1, Time=["59"])))
    assert "0:59:00" in problem.fix


@pytest.mark.parametrize("model", ["../Llama", "a/b", "$(id)", "-rf", "a..b", "mod el", "x" * 300])
def test_a_model_that_is_no_plain_name_is_refused_once(model: str) -> None:
    rows = runs(1, Model=[model])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "model", SUMMARY, 6)]


@pytest.mark.parametrize("title", ["# ../x", "# a b", "# $(id)", "# -x", "# a;b", "# ", "# a\u202eb"])
def test_an_experiment_whose_name_is_no_plain_name_is_refused(title: str) -> None:
    field = "experiment name" if title == "# " else "experiment_name"
    assert [p.field for p in refusal(parsed, summary(title=title))] == [field]


# --- values: booleans, memory, paths, free text ---


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("True", True), ("no", False), ("false", False)])
def test_yes_and_no(text: str, *, value: bool) -> None:
    assert parsed(summary(training={"Packed": text})).config["packed"].value is value


@pytest.mark.parametrize(
    ("label", "text"),
    [("Packed", "maybe"), ("Memory", "lots"), ("Memory", "0G"), ("Dataset type", "a b"), ("Time", "x"), ("Seed", "-1")],
)
def test_a_configuration_value_of_another_kind_is_refused_with_its_line(label: str, text: str) -> None:
    (problem,) = refusal(parsed, summary(training={label: text}))
    assert (problem.code, problem.line, problem.actual) == ("invalid-value", 25, text)


def test_memory_is_taken_as_slurm_writes_it() -> None:
    assert parsed(summary(training={"Memory": "32G"})).config["mem"].value == "32G"


@pytest.mark.parametrize(
    "path",
    ["/data/'a'.json", '/data/a".json', "/data/$USER/a.json", "/data/../a.json", "~/a.json", "-a.json",
     "/data/a;b.json", "/data/*.json", "/data/a?.json", "/data/a|b.json", "/data/a\\b.json", "/data/a.json ✓",
     "/data/a\u200b.json", "/data/a\u202eb.json", "/data/a.json, /data/b.json", "`/a.json`, `/b.json`",
     "/" + "a" * 5000],
)  # fmt: skip
def test_an_unsafe_path_is_refused_with_its_line(path: str) -> None:
    problems = refusal(parsed, summary(dataset=path.replace("\\", "\\\\")))
    assert told(problems) == [("invalid-value", "dataset", SUMMARY, 17)]


@pytest.mark.parametrize(
    ("written", "value"),
    [("/data/my words.json", "/data/my words.json"), ("data/a.json", "data/a.json"),
     ("`/data/a.json` (24KB)", "/data/a.json"),
     ("/data/_raw_/a.json", "/data/_raw_/a.json"), ("/data/__x__.json", "/data/__x__.json"),
     ("/data/wörter.json", "/data/wörter.json")],
)  # fmt: skip
def test_a_path_arrives_as_written(written: str, value: str) -> None:
    dataset = parsed(summary(dataset=written)).dataset
    assert dataset is not None
    assert dataset.path.value == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"Capitalize the word"', "Capitalize the word"),
        ("'say \"yes\" or \"no\"'", 'say "yes" or "no"'),
        ("“curly”", "curly"),
        ('Answer "yes" or "no"', 'Answer "yes" or "no"'),
        ('"" (blank)', ""),
        ('""', ""),
        ("plain words (kept)", "plain words (kept)"),
        ("`exactly this`", "exactly this"),
        ("`exactly this` (default)", "exactly this"),
        ("`exactly this` ✓", "exactly this"),
        ("`input` is the word", "input is the word"),
        ("`a` or `b`", "a or b"),
        ("snake_case_words", "snake_case_words"),
        ("8", "8"),
        ("yes", "yes"),
        ("Größe: 1 €", "Größe: 1 €"),
        ("a &lt; b", "a < b"),
        ("<tag> {x}", "<tag> {x}"),
        ('"none"', "none"),
        ("(a remark is text too)", "(a remark is text too)"),
    ],
)  # fmt: skip
def test_a_system_prompt_arrives_whole(written: str, value: str) -> None:
    assert parsed(summary(training={"System prompt": written})).config["system_prompt"].value == value


@pytest.mark.parametrize(
    "written", ["none", "(none)", "(None)", "-", "N/A", "(leave empty)", "<your prompt>", "(blank)"]
)
def test_a_system_prompt_that_is_left_open_is_not_trained_as_text(written: str) -> None:
    assert "system_prompt" not in parsed(summary(training={"System prompt": written})).config


@pytest.mark.parametrize(
    "lines",
    [
        "- **Optimizer settings:**\n  - **Weight decay:** 0.5",
        "**Weight decay:** 0.5",
        "Weight decay: 0.5",
    ],
)
def test_a_setting_of_configuration_is_read_wherever_it_stands(lines: str) -> None:
    text = summary().replace("### Training\n", f"### Training\n{lines}\n\n")
    assert parsed(text).config["weight_decay"].value == 0.5


def test_a_table_in_configuration_is_not_lost_silently() -> None:
    text = summary().replace("### Training\n", "### Training\n| Setting | Value |\n|--|--|\n| Seed | 99 |\n\n")
    assert "unused-field" in [warning.code for warning in parsed(text).warnings]


@pytest.mark.parametrize(
    "text", ["${oc.env:SECRET}", '"a" or "b"', "'a' or 'b'", "\\???", "x" * 20_001, "a\u0085b", "a\x07b", "a\x7fb"]
)
def test_a_system_prompt_that_could_change_on_its_way_is_refused(text: str) -> None:
    assert told(refusal(parsed, summary(training={"System prompt": text}))) == [
        ("invalid-value", "system_prompt", SUMMARY, 25)
    ]
    cell = "???" if text == "\\???" else text
    rows = runs(1, System_Prompt=[cell])
    assert told(refusal(parsed, summary(table=rows))) == [("invalid-value", "system_prompt", SUMMARY, 6)]


def test_a_hostile_value_is_shown_escaped() -> None:
    (problem,) = refusal(parsed, summary(training={"Epochs": "2\u202e\u200b"}))
    assert problem.actual == "2\\u202e\\u200b"
    assert problem.message.isascii()


# --- Configuration and Resources ---


def test_a_value_given_twice_is_refused_unless_it_is_the_same() -> None:
    text = with_training("\n### LoRA\n- **Epochs:** 3")
    (problem,) = refusal(parsed, text, EXAMPLE_LOCAL)
    assert told([problem]) == [("ambiguous", "epochs", SUMMARY, 49)]
    assert "line 46" in problem.message
    assert parsed(with_training("- **Epoch:** 2"), EXAMPLE_LOCAL).config["epochs"].value == 2


def test_two_data_sets_are_refused() -> None:
    text = EXAMPLE_SUMMARY.replace("- Dataset: `/scratch", "- Dataset: `/home")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [("ambiguous", "dataset", SUMMARY, 60)]


def test_two_paths_of_one_model_are_refused() -> None:
    text = EXAMPLE_SUMMARY.replace("### Dataset", f"- **{MODEL}**: `/elsewhere`\n\n### Dataset")
    (problem,) = refusal(parsed, text, EXAMPLE_LOCAL)
    assert (problem.code, problem.line) == ("ambiguous", 35)


def test_models_and_splits_are_read_as_they_are_listed() -> None:
    text = EXAMPLE_SUMMARY.replace(
        "### Dataset", "- **Other**: `/models/other/`\n- no label\n- **Verified:** ✓\n\n### Dataset"
    )
    text = text.replace("_base | Llama-3.2-1B-Instruct |", "_base | Other |")
    text = text.replace(
        "train (240 samples), validation", f"train (240 samples), {'9' * 5000}, x, validation: 1 2, val"
    )
    experiment = parsed(text, EXAMPLE_LOCAL)
    assert [(m.name, m.path.value) for m in experiment.models][1:] == [("Other", "/models/other")]
    assert experiment.dataset is not None
    assert experiment.dataset.splits == {"train": 240, "val": 30, "test": 30}


@pytest.mark.parametrize("path", ["/models/$(id)", "../models", "`~/models`"])
def test_an_unsafe_model_path_is_refused(path: str) -> None:
    assert told(refusal(parsed, summary(models={MODEL: path}))) == [
        ("invalid-value", f"path of model {MODEL}", SUMMARY, 14)
    ]


def test_settings_below_evaluation_and_output_are_not_training() -> None:
    extra = "\n### Evaluation\n- **Epochs:** 9\n\n#### Sampling\n- **Batch size:** 99\n- **Temperature:** 0\n"
    experiment = parsed(EXAMPLE_SUMMARY.replace("\n### Output", f"{extra}\n### Output"), EXAMPLE_LOCAL)
    assert (experiment.config["epochs"].value, experiment.config["batch_size"].value) == (2, 4)
    assert experiment.warnings == ()


def test_configuration_may_stand_without_subsections() -> None:
    text = EXAMPLE_SUMMARY.replace("### Training\n", "")
    assert parsed(text, EXAMPLE_LOCAL).config["epochs"].source.note == "Configuration"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("- **Flavour:** vanilla", "unused-field"),
        ("- **Model:** other", "unused-field"),
        ("- **Dataset:** other.json", "unused-field"),
        ("- **Account:** other", "unused-field"),
        ("- **my_wandb_run_name:** mine", "unused-field"),
    ],
)
def test_a_setting_that_is_not_used_is_warned_about(line: str, code: str) -> None:
    experiment = parsed(with_training(line), EXAMPLE_LOCAL)
    assert [(w.code, w.line) for w in experiment.warnings] == [(code, 47)]
    assert values(experiment) == values(example_experiment())


def test_a_misspelt_setting_is_refused() -> None:
    assert told(refusal(parsed, with_training("- **Weight deacy:** 0.1"), EXAMPLE_LOCAL)) == [
        ("misspelt-field", "Weight deacy", SUMMARY, 47)
    ]


def test_remarks_and_open_settings_in_configuration_are_read_over() -> None:
    experiment = parsed(with_training("- **Notes:** LoRA\n- **Seed:** (none)\n- just text"), EXAMPLE_LOCAL)
    assert values(experiment) == values(example_experiment())
    assert experiment.warnings == ()


# --- the experiment directory ---


def test_the_directory_that_the_summary_names_must_be_its_own() -> None:
    asked: list[str] = []

    def is_here(path: str) -> bool:
        asked.append(path)
        return False

    (problem,) = refusal(parsed, EXAMPLE_SUMMARY, EXAMPLE_LOCAL, is_here)
    assert told([problem]) == [("wrong-experiment-dir", "experiment directory", SUMMARY, 58)]
    assert asked == ["/scratch/gpfs/LAB/ada/cap_4L_lora_lr_sweep"]


def test_a_summary_without_a_directory_is_its_own() -> None:
    assert parsed(without("- Experiment:"), EXAMPLE_LOCAL, lambda _: False).name == "cap_4L_lora_lr_sweep"


# --- anything at all ---


def read_or_refuse(text: str, local: str) -> None:
    """Parse and plan; anything but an answer or a refusal fails the test."""
    with contextlib.suppress(Refused):
        assert planned(text, local).runs


@settings(deadline=10_000)
@given(text=st.text(max_size=400), local=st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str, local: str) -> None:
    read_or_refuse(text, EXAMPLE_LOCAL)
    read_or_refuse(EXAMPLE_SUMMARY, local)


JUNK = st.text(alphabet=st.sampled_from(list("|-#*`:<>!()[]{}$&\"'\\/ \t\n\u00a0éx10.,_~=+×⁻⁵")), max_size=60)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """The text with a few lines deleted, doubled, swapped, replaced or changed within."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 6))):
        i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["delete", "double", "swap", "insert", "replace", "within"])):
            case "delete" if len(lines) > 1:
                del lines[i]
            case "double":
                lines.insert(j, lines[i])
            case "swap":
                lines[i], lines[j] = lines[j], lines[i]
            case "insert":
                lines.insert(i, draw(JUNK))
            case "replace":
                lines[i] = draw(JUNK)
            case _:
                at = draw(st.integers(0, len(lines[i])))
                lines[i] = lines[i][:at] + draw(JUNK) + lines[i][at + draw(st.integers(0, 3)) :]
    return "\n".join(lines)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300, deadline=10_000)
@given(text=mutated(EXAMPLE_SUMMARY), local=mutated(EXAMPLE_LOCAL))
def test_any_change_of_the_documents_is_read_or_refused(text: str, local: str) -> None:
    read_or_refuse(text, EXAMPLE_LOCAL)
    read_or_refuse(EXAMPLE_SUMMARY, local)


@pytest.mark.parametrize(
    "text",
    ["> " * 20_000, "- " * 20_000 + "x",
     "*a **a " * 5_000, "[" * 20_000, "`" * 30_000, "a ( " * 20_000, "# " + "x" * 100_000,
     "| a " * 5_000 + "|\n" + "|---" * 5_000 + "|\n" + "| 1 |\n" * 20, "\\" * 100_000, "<!--" * 20_000, "&" * 100_000],
    ids=["quotes", "lists", "emphasis", "brackets", "backticks", "remarks", "title", "columns", "backslashes",
         "comments", "entities"],
)  # fmt: skip
def test_documents_made_to_be_slow_are_answered_quickly(text: str) -> None:
    started = time.perf_counter()
    read_or_refuse(EXAMPLE_SUMMARY.replace("## All Runs\n", f"## All Runs\n{text}\n\n"), local_md())
    read_or_refuse(with_training(f"- **System prompt 2:** {text}"), local_md())
    read_or_refuse(summary(training={"Epochs": text.replace("\n", "")}), local_md(account=text.replace("\n", "")))
    assert time.perf_counter() - started < 30
