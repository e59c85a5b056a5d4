"""The required fields of an experiment_summary.md, and the values that may replace them."""

import pytest

from scaffold_torchtune.models import SourceKind
from support.documents import LOCAL, MODEL, SUMMARY, local_md, parsed, refusal, runs, summary, told
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY, without
from support.example_parsed import from_summary
from support.wording import absent

NO_MODEL = without("- **Llama-3.2-1B-Instruct**", "- Models:")
NO_MODELS_DIR = without("- **Models directory", text=EXAMPLE_LOCAL)
NO_DATA = without("- **Path**", "- Dataset:")
NO_OUTPUT = without("- **Output base directory", text=EXAMPLE_LOCAL)
NO_RUNS = without("| Run Name", "|----------|", "| Llama")


@pytest.mark.parametrize(
    ("text", "local", "field", "file", "line", "line_to_add"),
    [
        (without("# cap"), EXAMPLE_LOCAL, "experiment name", SUMMARY, None, "# EXPERIMENT_NAME"),
        (NO_RUNS, EXAMPLE_LOCAL, "fine-tuned runs", SUMMARY, 19, "Fine-tuned |"),
        (NO_MODEL, NO_MODELS_DIR, f"path of model {MODEL}", SUMMARY, 30, f"`- **{MODEL}**: /path/to/{MODEL}`"),
        (NO_DATA, EXAMPLE_LOCAL, "dataset", SUMMARY, 35, "`- **Path**: /path/to/data.json`"),
        (without("- **Epochs"), EXAMPLE_LOCAL, "epochs", SUMMARY, 44, "- **Epochs:** NUMBER"),
        (
            without("- **Batch").replace("Batch Size |", "Notes |"),
            EXAMPLE_LOCAL,
            "batch_size",
            SUMMARY,
            44,
            "- **Batch size:** NUMBER",
        ),
        (
            EXAMPLE_SUMMARY,
            without("- **Default conda", text=EXAMPLE_LOCAL),
            "conda_env",
            LOCAL,
            15,
            "`- **Default conda environment**: NAME`",
        ),
        (
            EXAMPLE_SUMMARY,
            without("- **Default project", text=EXAMPLE_LOCAL),
            "my_wandb_project",
            LOCAL,
            30,
            "`- **Default project**: NAME`",
        ),
        (without("- **Checkpoint"), NO_OUTPUT, "output_dir_base", LOCAL, 35, "- **Output base directory**: "),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_a_missing_required_field_is_refused_with_its_document_and_the_line_to_add(
    text: str, local: str, field: str, file: str, line: int | None, line_to_add: str
) -> None:
    (problem,) = refusal(parsed, text, local)
    assert told([problem]) == [("missing-field", field, file, line)]
    assert line_to_add in problem.fix


@pytest.mark.parametrize("unset", ["-", "", "(none)", "<NUMBER>", "n/a", "TBD"])
def test_a_required_field_that_is_left_open_is_missing(unset: str) -> None:
    problems = refusal(parsed, summary(dataset=unset or None, training={"Epochs": unset, "Batch size": unset}))
    assert [(p.code, p.field, p.file) for p in problems] == [
        ("missing-field", name, SUMMARY) for name in ("dataset", "batch_size", "epochs")
    ]
    assert [absent(p.fix, p.line) for p in problems] == [[], [], []]


def test_all_missing_fields_are_listed_in_one_refusal() -> None:
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


def test_problems_of_both_documents_are_listed_by_file_and_line() -> None:
    rows = runs(3, LoRA_Rank=["8", "x", "y"])
    problems = refusal(parsed, summary(table=rows, training={"Epochs": "two"}), local_md(account="$(id)"))
    assert told(problems) == [
        ("invalid-value", "account", LOCAL, 6),
        ("invalid-value", "lora_rank", SUMMARY, 7),
        ("invalid-value", "lora_rank", SUMMARY, 8),
        ("invalid-value", "epochs", SUMMARY, 24),
    ]


def test_a_model_column_is_required() -> None:
    text = EXAMPLE_SUMMARY.replace("| Run Name | Model |", "| Run Name | Notes |")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [("missing-field", "model", SUMMARY, 20)]


def test_every_fine_tuned_row_needs_a_model() -> None:
    rows = runs(3, LoRA_Rank=["4", "8", "16"], Model=[MODEL, "-", " "], controls=1)
    problems = refusal(parsed, summary(table=rows))
    assert told(problems) == [("missing-field", "model", SUMMARY, 7), ("missing-field", "model", SUMMARY, 8)]
    assert absent(problems[0].message, "run_2") == []


def test_a_table_with_only_controls_has_no_fine_tuned_runs() -> None:
    text = EXAMPLE_SUMMARY.replace("Fine-tuned |", "Control |")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [("missing-field", "fine-tuned runs", SUMMARY, 19)]


def test_a_models_directory_replaces_the_path_of_a_model() -> None:
    from_local_file = parsed(NO_MODEL, EXAMPLE_LOCAL).models
    assert [(m.name, m.path.value, m.path.source.file) for m in from_local_file] == [
        (MODEL, f"/scratch/gpfs/LAB/pretrained-llms/{MODEL}", LOCAL)
    ]
    text = without("- **Llama-3.2-1B-Instruct**")
    from_quick_reference = parsed(text, NO_MODELS_DIR).models
    assert [(m.path.value, m.path.source.file, m.path.source.line) for m in from_quick_reference] == [
        (f"/scratch/gpfs/LAB/pretrained-llms/{MODEL}", SUMMARY, 58)
    ]


def test_the_checkpoint_directory_replaces_the_output_directory() -> None:
    output = parsed(EXAMPLE_SUMMARY, NO_OUTPUT).environment["output_dir_base"]
    expected = "Configuration > Output > Checkpoint directory"
    assert output == from_summary(SourceKind.CONFIGURATION, "/scratch/gpfs/LAB/ada/ck-outputs", 52, expected)


def test_the_quick_reference_may_give_the_data_set() -> None:
    dataset = parsed(without("- **Path**"), EXAMPLE_LOCAL).dataset
    assert dataset is not None
    assert (dataset.label, dataset.path.source.line) == ("words_4L_80P_300", 59)


def test_the_data_set_is_optional_if_every_row_gives_its_own() -> None:
    rows = runs(2, Dataset=["a.json", "b.json"])
    experiment = parsed(summary(table=rows, dataset=None))
    assert experiment.dataset is None
    assert [run.parameters["dataset"].value for run in experiment.runs] == ["a.json", "b.json"]
    lacking = runs(2, LoRA_Rank=["8", "16"], Dataset=["a.json", "-"])
    assert told(refusal(parsed, summary(table=lacking, dataset=None))) == [("missing-field", "dataset", SUMMARY, 16)]


def test_epochs_and_batch_size_are_optional_if_every_row_gives_its_own() -> None:
    rows = runs(2, Epochs=["1", "2"], Batch_Size=["4", "4"])
    assert parsed(summary(table=rows, training={"Epochs": None, "Batch size": None})).config == {}
    lacking = runs(2, Epochs=["1", "-"], Batch_Size=["4", "4"])
    problems = refusal(parsed, summary(table=lacking, training={"Epochs": None, "Batch size": None}))
    assert told(problems) == [("missing-field", "epochs", SUMMARY, 21)]
