"""The conditions in the checks, one at a time: each test fails if its condition is broken."""

import re

import pytest

from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models import PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.validate import claims, validate_run
from scaffold_torchtune.validate.report import FIX, Report
from support.good_files import EXTERNAL_CONFIG, EXTERNAL_SLURM, GOOD_CONFIG, RUN, SETUP, files_of, planned, replaced
from support.wording import absent

CHAT = "  _component_: torchtune.datasets.chat_dataset\n  conversation_column: messages\n  conversation_style: openai\n"
INSTRUCT = "  _component_: torchtune.datasets.instruct_dataset\n"
OWN = "cruijff_kit.tools.torchtune.datasets.chat_completion.chat_completion_dataset"
OWN_NODE = f"""\
  _component_: {OWN}
  model_path: ${{models_dir}}/Llama-3.2-1B-Instruct
  input_key: input
  prompt: Say {{input}}
"""
OWN_PLAN: dict[str, Scalar] = {"dataset_type": "chat_completion", "prompt": "Say {input}"}
OWN_PAIRS = (INSTRUCT, OWN_NODE, "  field: train\n", "  split: train\n", "new_system_prompt", "system_prompt")


def bundled(run: PlannedRun, *pairs: str) -> tuple[Finding, ...]:
    return validate_run(run, files_of(run, replaced(GOOD_CONFIG, *pairs)), bundled=True)


def external(run: PlannedRun, *pairs: str) -> list[Finding]:
    files = files_of(run, replaced(EXTERNAL_CONFIG, *pairs), EXTERNAL_SLURM)
    return [found for found in validate_run(run, files, bundled=False) if found.severity != "info"]


def reported(findings: tuple[Finding, ...] | list[Finding]) -> list[tuple[str, str, str | None]]:
    return sorted((f.code, str(f.severity), f.field) for f in findings)


def by_default(run: PlannedRun, name: str, value: Scalar) -> PlannedRun:
    setting = Setting(value=value, source=Source(kind=SourceKind.DEFAULT))
    return run.model_copy(update={"settings": run.settings | {name: setting}})


# --- components -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("resume_from_checkpoint: false", "resume_from_checkpoint: true", "resume_from_checkpoint"),
        ("recipe_checkpoint: null", "recipe_checkpoint: state.pt", "checkpointer.recipe_checkpoint"),
        ("recipe_checkpoint: null", "adapter_checkpoint: adapter.pt", "checkpointer.adapter_checkpoint"),
        ("recipe_checkpoint: null", "resume_from_checkpoint: true", "checkpointer.resume_from_checkpoint"),
        ("lora_rank: 8\n", "lora_rank: 8\n  use_dora: true\n", "model.use_dora"),
        ("lora_rank: 8\n", "lora_rank: 8\n  quantize_base: true\n", "model.quantize_base"),
        ("source: json\n", "source: json\n  data_dir: /elsewhere\n", "dataset.data_dir"),
        ("source: json\n", "source: json\n  filter_fn: mine\n", "dataset.filter_fn"),
    ],
)
def test_no_script_may_change_the_training_or_its_start(old: str, new: str, field: str) -> None:
    assert ("unplanned-value", "error", field) in reported(external(planned(), old, new))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("recipe_checkpoint: null", "should_load_recipe_state: false", "checkpointer.should_load_recipe_state"),
        ("num_warmup_steps: 100", "num_warmup_steps: 100\n  last_epoch: -1", "lr_scheduler.last_epoch"),
        ("fused: true", "fused: true\n  fast: true", "optimizer.fast"),
        ("source: json\n", "source: json\n  feild: train\n", "dataset.feild"),
    ],
)
def test_an_unknown_argument_is_named_in_the_message(old: str, new: str, field: str) -> None:
    (found,) = bundled(planned(), old, new)
    assert (found.code, found.field) == ("unplanned-value", field)
    component, _, argument = field.rpartition(".")
    assert absent(found.message, field, f"'{argument}'") == []
    assert re.search(r"\btorch(tune)?\.\w+\.", found.message), f"which {component} it is"


def test_a_planned_stock_lora_recipe_is_treated_as_lora() -> None:
    assert not bundled(planned({"custom_recipe": "lora_finetune_single_device"}))


def test_packing_requires_a_tokenizer_node() -> None:
    found = bundled(
        planned({"packed": True}), "packed: false", "packed: true", "tokenizer:\n", "tokenizer: 5\nother:\n"
    )
    assert ("missing-value", "error", "max_seq_len") in reported(found)


def test_an_unknown_component_of_torch_is_a_warning() -> None:
    found = external(planned(), "torchtune.modules.loss.CEWithChunkedOutputLoss", "torch.nn.Nope")
    assert reported(found) == [("unplanned-value", "warning", "loss._component_")]


# --- the data set ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "file"),
    [
        (planned(data="data/words.json"), "/scratch/me/data/words.json"),
        (planned(data="data/words.json", without="input_formatting"), "/scratch/me/data/words.json"),
        (planned(data="data/words.json", without="input_dir_base"), "data/words.json"),
        (planned({"dataset_label": "tales"}, data="data/words.json"), "data/words.json"),
        (planned(without="dataset_ext"), "/scratch/me/data/words.json"),
    ],
)
def test_equivalent_paths_of_the_data_set_match(run: PlannedRun, file: str) -> None:
    found = bundled(run, "data_files: ${input_dir}/${dataset_label}.json", f"data_files: {file}")
    assert [f for f in found if f.code == "value-mismatch"] == []


def test_a_data_set_with_the_same_name_in_a_different_package_differs() -> None:
    name = "torchtune.datasets.instruct_dataset"
    assert ("value-mismatch", "error", "dataset_type") in reported(bundled(planned(), name, f"my.{name}"))


def test_a_forbidden_field_has_no_expected_value() -> None:
    found = bundled(planned({"dataset_ext": ".parquet"}, data="/d/w.parquet"))
    (field,) = [f for f in found if f.code == "unplanned-value"]
    assert (field.field, field.expected, field.actual) == ("dataset_ext", None, "train")
    assert absent(field.message, "dataset.field") == []


def test_a_cruijff_kit_data_set_has_no_findings() -> None:
    assert not bundled(planned(OWN_PLAN), *OWN_PAIRS)


@pytest.mark.parametrize(
    ("run", "pairs", "code", "field"),
    [
        (
            planned(OWN_PLAN),
            ("Say {input}\n", "Say {input}\n  max_samples: 5\n"),
            "unplanned-value",
            "dataset.max_samples",
        ),
        (planned(OWN_PLAN, without="prompt"), (), "unplanned-value", "dataset.prompt"),
    ],
)
def test_unplanned_arguments_of_a_data_set_are_reported(
    run: PlannedRun, pairs: tuple[str, ...], code: str, field: str
) -> None:
    found = bundled(run, *OWN_PAIRS, *pairs)
    assert (code, "error", field) in reported(found)
    assert field.rpartition(".")[2] not in {f.field for f in found}


def test_the_models_directory_need_not_be_planned() -> None:
    assert not bundled(planned(OWN_PLAN, without="models_dir"), *OWN_PAIRS)


def test_the_column_of_a_conversation_need_not_be_planned() -> None:
    assert not bundled(planned({"dataset_type": "chat_dataset"}), INSTRUCT, CHAT)


def test_a_planned_column_of_a_conversation_is_required() -> None:
    run = planned({"dataset_type": "chat_dataset", "input_key": "input"})
    assert ("missing-value", "error", "input_key") in reported(
        bundled(run, INSTRUCT, CHAT.replace("  conversation_column: messages\n", ""))
    )


def test_unplanned_columns_must_have_the_usual_names() -> None:
    found = bundled(planned(), "source: json\n", "source: json\n  column_map: {input: a, output: output}\n")
    assert reported(found) == [("value-mismatch", "error", "input_key")]


def test_the_usual_output_column_is_optional_for_text_completion() -> None:
    text = "  _component_: torchtune.datasets.text_completion_dataset\n  column: text\n"
    pairs = (INSTRUCT, text, "  train_on_input: false\n", "", "  new_system_prompt: Capitalise the word.\n", "")
    plan: dict[str, Scalar] = {
        "dataset_type": "text_completion_dataset", "input_key": "text", "system_prompt": "", "train_on_input": True,
    }  # fmt: skip
    assert not bundled(planned({**plan, "output_key": "output"}), *pairs)
    (found,) = bundled(planned({**plan, "output_key": "answer"}), *pairs)
    assert (found.code, found.expected, found.actual) == ("missing-value", "answer", None)
    assert absent(found.message, "dataset.output_key", "'answer'") == []
    (found,) = bundled(planned(plan), *pairs, "column: text\n", "column: text\n  output_key: x\n")
    assert found.field == "dataset.output_key"


@pytest.mark.parametrize("trained", [False, True])
def test_training_on_the_input_is_optional_unless_it_is_planned(trained: bool) -> None:
    found = external(planned({"train_on_input": trained}), "  train_on_input: false\n", "")
    assert reported(found) == ([("missing-value", "error", "train_on_input")] if trained else [])


def test_validation_may_be_unplanned_but_not_planned_off() -> None:
    pairs = ("epochs: 2", "epochs: 2\nrun_val_every_n_steps: 5")
    assert reported(external(planned(without="run_val_every_n_steps"), *pairs)) == []
    assert reported(external(planned(), *pairs)) == [("unplanned-value", "error", "run_val_every_n_steps")]


def test_text_completion_always_trains_on_the_input() -> None:
    plan: dict[str, Scalar] = {"dataset_type": "text_completion_dataset", "input_key": "text", "system_prompt": ""}
    asked = [f for f in bundled(planned({**plan, "train_on_input": False})) if f.code == "unread-setting"]
    assert [(f.field, f.expected) for f in asked] == [("train_on_input", False)]
    for run in (
        planned({**plan, "train_on_input": True}),
        planned(plan, without="train_on_input"),
        by_default(planned(plan), "train_on_input", value=False),
        planned({"dataset_type": "of_mine", "train_on_input": False}),
    ):
        assert "unread-setting" not in {f.code for f in bundled(run)}


# --- values in findings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "pairs", "code", "expected", "actual", "values"),
    [
        ({}, ("seed: 14\n", ""), "missing-value", 14, None, ["seed", 14]),
        ({}, ("seed: 14", "seed: '14'"), "wrong-type", 14, "14", ["seed", "'14'", "text", 14]),
        ({}, ("seed: 14", "seed: 15"), "value-mismatch", 14, 15, ["seed", 15, 14]),
        (
            {},
            ("checkpoint_files: [model.safetensors]", "a: 1"),
            "missing-value",
            None,
            None,
            ["checkpointer.checkpoint_files"],
        ),
        (
            {},
            ("epochs: 2", "epochs: 2\nrun_val_every_n_steps: 5"),
            "unplanned-value",
            None,
            5,
            ["run_val_every_n_steps", 5],
        ),
        (
            {"lora_alpha": 8},
            ("lora_rank: 8\n  lora_alpha: 16", "lora_rank: 8\n  lora_alpha: 32"),
            "value-mismatch",
            8,
            32,
            ["model.lora_alpha", 32, 8],
        ),
    ],
)
def test_a_difference_has_expected_and_found_values(
    changes: dict[str, Scalar],
    pairs: tuple[str, ...],
    code: str,
    expected: Scalar,
    actual: Scalar,
    values: list[object],
) -> None:
    found = bundled(planned(changes), *pairs)
    assert [
        f for f in found if (f.code, f.expected, f.actual, absent(f.message, *values)) == (code, expected, actual, [])
    ]


@pytest.mark.parametrize(
    ("expected", "actual", "code", "values", "others"),
    [
        (14, None, "missing-value", [14], ["None", "NoneType"]),
        (None, 15, "value-mismatch", [15], ["None", "integer"]),
        (14, 15, "value-mismatch", [14, 15], ["integer"]),
        ("a", "b", "value-mismatch", ["'a'", "'b'"], ["text"]),
        (14, "14", "wrong-type", [14, "'14'", "text"], ["integer"]),
    ],
)
def test_a_message_names_both_values_and_the_type_only_if_it_differs(
    expected: Scalar, actual: Scalar, code: str, values: list[object], others: list[object]
) -> None:
    report = Report(planned(), "finetune.yaml", bundled=True)
    report.differs("seed", "seed", expected, actual, code="wrong-type" if code == "wrong-type" else None)
    (found,) = report.findings
    assert (found.code, found.field, found.expected, found.actual) == (code, "seed", expected, actual)
    assert absent(found.message, *values, *others) == others


@pytest.mark.parametrize("files", ["", "  checkpoint_files: []\n"])
def test_a_value_that_must_only_exist_has_no_expected_value(files: str) -> None:
    (found,) = bundled(planned(), "  checkpoint_files: [model.safetensors]\n", files)
    assert (found.code, found.expected) == ("missing-value", None)
    assert absent(found.message, "checkpointer.checkpoint_files", "nothing") == ["nothing"]


def test_the_fix_for_an_unplanned_value_depends_on_the_script() -> None:
    ours = bundled(planned(), "compile: false", "compile: true")
    theirs = external(planned(), "compile: false", "compile: true")
    assert [(f.code, f.field, f.expected, f.actual, f.fix == FIX) for f in (*ours, *theirs)] == [
        ("unplanned-value", "compile", False, True, True),
        ("unplanned-value", "compile", False, True, False),
    ]
    assert absent(theirs[0].fix, "summary", "no action") == ["summary"]  # no document can set it


def test_a_wrong_alpha_is_reported_with_its_derivation() -> None:
    found = bundled(planned(without="lora_alpha"), "lora_alpha: 16", "lora_alpha: 8")
    assert [(f.code, f.expected, f.actual) for f in found] == [("value-mismatch", 16, 8)]
    assert absent(found[0].message, "model.lora_alpha", 8, 16, "2 x lora_rank") == []


def test_a_default_of_an_external_script_keeps_its_type() -> None:
    found = external(planned(), "weight_decay: 0.01", "weight_decay: '0.01'")
    assert reported(found) == [("wrong-type", "error", "weight_decay")]


def test_alpha_is_a_default_if_its_rank_is() -> None:
    run = by_default(planned(without="lora_alpha"), "lora_rank", 8)
    assert reported(external(run, "lora_alpha: 16", "lora_alpha: 8")) == [("default-differs", "warning", "lora_alpha")]


def test_a_default_that_the_recipe_does_not_read_is_ignored() -> None:
    run = by_default(planned(), "epochs_to_save", "all")
    assert not external(run, "epochs: 2", "epochs: 2\nepochs_to_save: all")


def test_an_unproven_setting_is_reported_without_a_file() -> None:
    run = planned({"new_one": 1})
    files = {**files_of(run), SETUP: None}
    assert {f.code for f in validate_run(run, files, bundled=True)} == {"missing-file", "unproven-setting"}


# --- the directory's name -------------------------------------------------------------------------------------------


def test_a_bare_number_in_a_name_states_no_value() -> None:
    assert claims("run_8") == []


@pytest.mark.parametrize(
    ("directory", "model", "data"),
    [
        ("m_seed1_rank8", "m_seed1", "/d/words.json"),
        ("words_seed1_rank8", "m", "/d/words_seed1.json"),
        ("all_seed1_rank8", "m", "/d/all_seed1/train.parquet"),
        ("words_seed1_rank8", "m", "/d/words/words_seed1.json"),
    ],
)
def test_names_of_model_and_data_state_no_value(directory: str, model: str, data: str) -> None:
    run = planned(data=data).model_copy(update={"directory": directory, "model": model})
    found = [f.field for f in bundled(run) if f.code == "name-mismatch"]
    assert found == ["my_wandb_run_name"]


def named(directory: str, name: str, seed: Scalar, config: str) -> list[str]:
    run = planned({"seed": seed}) if seed is not None else planned(without="seed")
    run = run.model_copy(update={"directory": directory, "name": name})
    found = bundled(run, "seed: 14", f"seed: {config}")
    return [str(f.severity) for f in found if f.code == "name-mismatch" and f.field == "seed"]


def test_a_directory_name_that_the_author_chose_may_differ_from_the_plan() -> None:
    assert named("seed1", "seed1", 14, "14") == ["warning"]
    assert named("seed1", "other", 14, "14") == ["error"]
    assert named("seed1", "seed1", 14, "15") == ["error"]
    assert named("seed1", "seed1", None, "14") == ["error"]
    assert named("seed1", "seed1", 1, "1") == []
    assert named("seed1", "seed1", 1, "true") == ["error"]
    assert RUN != "seed1"


def test_a_directory_name_that_was_a_run_name_may_differ_from_the_plan() -> None:
    for config, severity in (("14", "warning"), ("15", "error")):
        run = planned({"seed": 14}).model_copy(update={"directory": "seed1", "name": "other", "by_author": True})
        (found,) = [
            f for f in bundled(run, "seed: 14", f"seed: {config}") if (f.code, f.field) == ("name-mismatch", "seed")
        ]
        assert (str(found.severity), found.expected, found.actual) == (severity, 1, int(config))
        assert absent(found.fix, *(["Run Name"] if severity == "warning" else ["setup script"])) == []


def test_a_log_interval_in_a_name_is_not_compared() -> None:
    assert claims("lr1e-5_log_every_n_steps1") == [("lr1e-5", "lr", 1e-5)]


# --- setup_finetune.yaml --------------------------------------------------------------------------------------------


def test_a_setting_that_the_script_must_not_receive_is_not_written() -> None:
    run = planned({"seed": 14}).model_copy(update={"unwritten": ("seed",)})
    files = files_of(run)
    assert reported(validate_run(run, files, bundled=True)) == [("unplanned-value", "error", "seed")]
    files[SETUP] = str(files[SETUP]).replace("seed: 14\n", "")
    assert not validate_run(run, files, bundled=True)
