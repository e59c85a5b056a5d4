"""The validate stage with different planned settings: recipes, environments, data sets, paths."""

import re

from scaffold_torchtune.findings import Scalar, errors_in
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.validate import validate_run
from support.good_files import EXTERNAL_CONFIG, EXTERNAL_SLURM, GOOD_CONFIG, GOOD_SLURM, files_of, planned, replaced


def only(run: PlannedRun, files: dict[str, str | None], *, bundled: bool = True) -> list[tuple[str, str, str | None]]:
    return [(f.code, str(f.severity), f.field) for f in validate_run(run, files, bundled=bundled)]


def test_a_custom_recipe_must_be_the_planned_one() -> None:
    run = planned({"custom_recipe": "mine.recipe"})
    good = replaced(GOOD_SLURM, "lora_finetune_single_device", "mine.recipe.__main__")
    assert only(run, files_of(run, slurm=good)) == []
    assert only(run, files_of(run)) == [("wrong-recipe", "error", "custom_recipe")]


def test_two_gpus_need_two_processes() -> None:
    run = planned({"gpus": 2})
    slurm = replaced(GOOD_SLURM, "gpu:1", "gpu:2", "lora_finetune_single_device", "lora_finetune_distributed")
    assert only(run, files_of(run, slurm=slurm)) == [("wrong-recipe", "error", "gpus")]
    slurm = replaced(slurm, "tune run", "tune run --standalone --nproc-per-node=2")
    assert only(run, files_of(run, slurm=slurm), bundled=False) == [("unplanned-value", "info", "tune run")]


def test_a_planned_virtual_environment_must_be_activated() -> None:
    run = planned({"venv": "mine"})
    slurm = replaced(GOOD_SLURM, "conda activate tuning", "source $PROJECT/venvs/mine/bin/activate")
    assert only(run, files_of(run, slurm=slurm)) == []
    assert only(run, files_of(run, slurm=slurm.replace("/mine/", "/notmine/"))) == [("value-mismatch", "error", "venv")]


def test_modules_in_a_different_order_are_reported() -> None:
    run = planned({"modules": "a/1,b/2"})
    slurm = replaced(GOOD_SLURM, "eval ", "module load b/2 a/1\neval ")
    assert only(run, files_of(run, slurm=slurm)) == [("value-mismatch", "error", "modules")]


def test_an_unknown_model_is_reported() -> None:
    run = planned({"torchtune_model_name": "Other-7B"})
    assert only(run, files_of(run)) == [("unknown-model", "error", "torchtune_model_name")]
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, EXTERNAL_SLURM), bundled=False)
    assert ("unknown-model", "warning") in {(f.code, str(f.severity)) for f in found}
    assert not errors_in(found)


def test_an_unknown_data_set_type_is_reported() -> None:
    run = planned({"dataset_type": "strange"})
    assert only(run, files_of(run)) == [("invalid-value", "error", "dataset_type")]


def test_an_alias_of_a_model_is_accepted() -> None:
    run = planned({"torchtune_model_name": "llama-3.2-1b-INSTRUCT"})
    assert only(run, files_of(run)) == []


def test_validation_during_training_requires_its_data_set() -> None:
    run = planned({"run_val_every_n_steps": 10})
    assert {f.field for f in validate_run(run, files_of(run), bundled=True)} >= {
        "run_val_every_n_steps",
        "dataset_type",
    }
    node = re.search(r"dataset:\n(  .*\n)+", GOOD_CONFIG)
    assert node is not None
    val = node[0].replace("dataset:", "dataset_val:", 1).replace("field: train", "field: validation")
    config = GOOD_CONFIG + val + "run_val_every_n_steps: 10\n"
    assert only(run, files_of(run, config)) == [("unread-setting", "warning", "run_val_every_n_steps")]


def test_packed_data_requires_a_maximum_length() -> None:
    run = planned({"packed": True, "max_seq_len": None})
    config = replaced(GOOD_CONFIG, "packed: false", "packed: true", "max_seq_len: 2048", "max_seq_len: null")
    assert only(run, files_of(run, config)) == [("missing-value", "error", "max_seq_len")]


def test_settings_that_stock_recipes_do_not_read_are_a_warning() -> None:
    run = planned({"epochs_to_save": "1, 2"})
    config = GOOD_CONFIG + "epochs_to_save: [1, 2]\n"
    assert only(run, files_of(run, config)) == [("unread-setting", "warning", "epochs_to_save")]
    assert ("value-mismatch", "error", "epochs_to_save") in only(run, files_of(run, config.replace("[1, 2]", "[1]")))
    run = planned({"epochs_to_save": "none"})
    assert only(run, files_of(run, config.replace("[1, 2]", "[]"))) == [("unread-setting", "warning", "epochs_to_save")]


def test_text_completion_accepts_no_prompts() -> None:
    changes: dict[str, Scalar] = {"dataset_type": "text_completion_dataset", "system_prompt": "", "input_key": "text"}
    run = planned(changes)
    config = replaced(
        GOOD_CONFIG, "instruct_dataset", "text_completion_dataset", "  train_on_input: false\n", "  column: text\n",
        "  new_system_prompt: Capitalise the word.\n", "",
    )  # fmt: skip
    assert only(run, files_of(run, config)) == [("unread-setting", "warning", "train_on_input")]
    run = planned({**changes, "system_prompt": "Be brief.", "output_key": "answer"})
    found = errors_in(validate_run(run, files_of(run, config), bundled=True))
    assert {f.field for f in found} == {"system_prompt", "output_key"}
    component = "torchtune.datasets.text_completion_dataset"
    assert [f.field for f in found if component in f.message] == [f.field for f in found], "which takes neither"


def test_data_sets_of_cruijff_kit_are_compared() -> None:
    run = planned({"dataset_type": "chat_completion", "prompt": "Say {input}", "input_key": "q", "training_samples": 5})
    node = """\
dataset:
  _component_: cruijff_kit.tools.torchtune.datasets.chat_completion.chat_completion_dataset
  source: json
  data_files: ${input_dir}/${dataset_label}.json
  split: train
  model_path: ${models_dir}/Llama-3.2-1B-Instruct
  prompt: Say {input}
  system_prompt: Capitalise the word.
  input_key: q
  max_samples: 5
  train_on_input: false
  packed: false
"""
    config = re.sub(r"dataset:\n(  .*\n)+", lambda _: node, GOOD_CONFIG)
    assert only(run, files_of(run, config)) == []
    found = errors_in(validate_run(run, files_of(run, config.replace("Say {input}", "{input}")), bundled=True))
    assert [(f.code, f.field) for f in found] == [("value-mismatch", "prompt")]
    found = errors_in(validate_run(run, files_of(run, config.replace("models_dir}/L", "models_dir}/l")), bundled=True))
    assert ("value-mismatch", "model_checkpoint") in {(f.code, f.field) for f in found}


def test_training_samples_limit_the_split_of_a_torchtune_data_set() -> None:
    run = planned({"training_samples": 5})
    config = replaced(GOOD_CONFIG, "  field: train\n", "  field: train\n  split: train[:5]\n")
    assert only(run, files_of(run, config)) == []


def test_paths_may_be_planned_in_different_ways() -> None:
    run = planned({"model_checkpoint": "/scratch/me/models/Llama-3.2-1B-Instruct"})
    assert only(run, files_of(run)) == []
    run = planned(without="models_dir")
    assert only(run, files_of(run)) == []
    run = planned(without="output_dir_base")
    assert only(run, files_of(run)) == []
    run = planned(without="model_checkpoint")
    assert only(run, files_of(run)) == []
