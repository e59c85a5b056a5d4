"""experiment_summary.md in the forms that people write: the example, Configuration, Resources, the directory."""

from collections.abc import Callable

import pytest

from support.documents import MODEL, SUMMARY, parsed, refusal, summary, told
from support.example import EXAMPLE_LOCAL, EXAMPLE_SUMMARY, with_training, without
from support.example_parsed import example_experiment, values
from support.wording import absent


def test_the_example_gives_exactly_the_described_experiment() -> None:
    assert parsed(EXAMPLE_SUMMARY, EXAMPLE_LOCAL) == example_experiment()


def test_values_have_the_types_of_their_parameters() -> None:
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
def test_a_title_is_the_name_of_the_experiment(title: str) -> None:
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
def test_equivalent_forms_give_the_same_values(change: Callable[[str], str]) -> None:
    changed = change(EXAMPLE_SUMMARY)
    assert changed != EXAMPLE_SUMMARY
    assert values(parsed(changed, EXAMPLE_LOCAL)) == values(example_experiment())


def test_line_endings_and_a_byte_order_mark_do_not_change_lines() -> None:
    changed = "\ufeff" + EXAMPLE_SUMMARY.replace("\n", "\r\n")
    assert parsed(changed, "\ufeff" + EXAMPLE_LOCAL.replace("\n", "\r\n")) == example_experiment()


# --- Configuration and Resources ---


def test_a_value_given_twice_is_refused_unless_the_values_are_equal() -> None:
    text = with_training("\n### LoRA\n- **Epochs:** 3")
    (problem,) = refusal(parsed, text, EXAMPLE_LOCAL)
    assert told([problem]) == [("ambiguous", "epochs", SUMMARY, 49)]
    assert absent(problem.message, 46) == []
    assert parsed(with_training("- **Epoch:** 2"), EXAMPLE_LOCAL).config["epochs"].value == 2


def test_two_paths_of_the_data_set_are_refused() -> None:
    text = EXAMPLE_SUMMARY.replace("- Dataset: `/scratch", "- Dataset: `/home")
    assert told(refusal(parsed, text, EXAMPLE_LOCAL)) == [("ambiguous", "dataset", SUMMARY, 60)]


def test_two_paths_of_one_model_are_refused() -> None:
    text = EXAMPLE_SUMMARY.replace("### Dataset", f"- **{MODEL}**: `/elsewhere`\n\n### Dataset")
    (problem,) = refusal(parsed, text, EXAMPLE_LOCAL)
    assert (problem.code, problem.line) == ("ambiguous", 35)


def test_models_and_splits_are_read_in_the_listed_order() -> None:
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


def test_settings_below_evaluation_and_output_are_not_training_settings() -> None:
    extra = "\n### Evaluation\n- **Epochs:** 9\n\n#### Sampling\n- **Batch size:** 99\n- **Temperature:** 0\n"
    experiment = parsed(EXAMPLE_SUMMARY.replace("\n### Output", f"{extra}\n### Output"), EXAMPLE_LOCAL)
    assert (experiment.config["epochs"].value, experiment.config["batch_size"].value) == (2, 4)
    assert experiment.warnings == ()


def test_configuration_needs_no_subsections() -> None:
    text = EXAMPLE_SUMMARY.replace("### Training\n", "")
    assert parsed(text, EXAMPLE_LOCAL).config["epochs"].source.note == "Configuration"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("- **Flavour:** vanilla", "unused-field"),
        ("- **Model:** other", "unused-field"),
        ("- **Dataset:** other.json", "unused-field"),
    ],
)
def test_an_unused_setting_is_a_warning(line: str, code: str) -> None:
    experiment = parsed(with_training(line), EXAMPLE_LOCAL)
    assert [(w.code, w.line) for w in experiment.warnings] == [(code, 47)]
    assert values(experiment) == values(example_experiment())


def test_a_misspelt_setting_is_refused() -> None:
    assert told(refusal(parsed, with_training("- **Weight deacy:** 0.1"), EXAMPLE_LOCAL)) == [
        ("misspelt-field", "Weight deacy", SUMMARY, 47)
    ]


def test_notes_and_open_settings_in_configuration_are_ignored() -> None:
    experiment = parsed(with_training("- **Notes:** LoRA\n- **Seed:** (none)\n- just text"), EXAMPLE_LOCAL)
    assert values(experiment) == values(example_experiment())
    assert experiment.warnings == ()


# --- the experiment directory ---


def test_a_stated_directory_must_be_that_of_the_summary() -> None:
    asked: list[str] = []

    def is_here(path: str) -> bool:
        asked.append(path)
        return False

    (problem,) = refusal(parsed, EXAMPLE_SUMMARY, EXAMPLE_LOCAL, is_here)
    assert told([problem]) == [("wrong-experiment-dir", "experiment directory", SUMMARY, 58)]
    assert asked == ["/scratch/gpfs/LAB/ada/cap_4L_lora_lr_sweep"]


def test_a_summary_need_not_state_its_directory() -> None:
    assert parsed(without("- Experiment:"), EXAMPLE_LOCAL, lambda _: False).name == "cap_4L_lora_lr_sweep"
