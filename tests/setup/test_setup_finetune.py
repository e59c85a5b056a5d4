"""The output of the bundled setup_finetune: both complete files, values, paths, and settings that no recipe reads."""

import itertools
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from scaffold_torchtune.setup import bundled
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.system.serialization import read_yaml
from scaffold_torchtune.torchtune_facts import known_models
from support.golden_files import golden
from support.setup_texts import MINIMAL, config_of, problems_of, text_of
from support.wording import absent


def test_both_complete_files() -> None:
    outputs = build(
        text_of(
            experiment_name="capitals",
            lora_rank=8,
            lr=1e-5,
            system_prompt='Be brief: "one word".\n',
            time="0:59:00",
            account="lab",
            partition="gpu",
            constraint="a100|h100",
            modules="anaconda3/2025.6, cuda",
        )
    )
    made = {"finetune.yaml": outputs.finetune_yaml, "finetune.slurm": outputs.finetune_slurm}
    assert made == golden("setup_finetune", made)
    assert outputs.warnings == ()


def test_the_same_text_gives_the_same_bytes() -> None:
    assert build(text_of()) == build(text_of())


# --- values and their types


def test_numbers_are_numbers_in_every_loader() -> None:
    text = build(text_of() + "lr: 1e-5\n").finetune_yaml
    torchtunes: Any = OmegaConf.to_container(OmegaConf.create(text))
    for data in (yaml.safe_load(text), torchtunes):
        assert type(data["optimizer"]["lr"]) is float
        assert data["optimizer"]["lr"] == 1e-5
        assert type(data["model"]["lora_rank"]) is int


def test_omegaconf_resolves_every_interpolation() -> None:
    data: Any = OmegaConf.to_container(OmegaConf.create(build(text_of()).finetune_yaml), resolve=True)
    assert data["dataset"]["data_files"] == "/data/sets/words_5L.json"
    assert data["checkpointer"]["checkpoint_dir"] == "/data/models/Llama-3.2-1B-Instruct/"
    assert data["metric_logger"]["name"] == "rank8_lr1e-5"


def test_defaults_are_those_of_the_parameters() -> None:
    config = config_of()
    assert (config["model"]["lora_rank"], config["model"]["lora_alpha"]) == (64, 128)
    assert config["optimizer"]["lr"] == 1e-4
    assert config["tokenizer"]["max_seq_len"] == 2048


def test_given_values_are_written() -> None:
    config = config_of(
        lora_rank=16,
        lora_alpha=8,
        lora_dropout=0.1,
        weight_decay=0,
        num_warmup_steps=0,
        epochs=3,
        batch_size=2,
        seed=0,
        gradient_accumulation_steps=4,
        max_steps_per_epoch=10,
        log_every_n_steps=5,
        max_seq_len=512,
        save_adapter_weights_only=True,
        packed=True,
        train_on_input=True,
    )
    assert config["model"] | {"lora_rank": 16, "lora_alpha": 8, "lora_dropout": 0.1} == config["model"]
    assert config["optimizer"]["weight_decay"] == 0.0
    assert type(config["optimizer"]["weight_decay"]) is float
    assert config["lr_scheduler"]["num_warmup_steps"] == 0
    top = ("epochs", "batch_size", "seed", "gradient_accumulation_steps", "max_steps_per_epoch", "log_every_n_steps")
    assert [config[name] for name in top] == [3, 2, 0, 4, 10, 5]
    assert config["tokenizer"]["max_seq_len"] == 512
    assert config["save_adapter_weights_only"] is True
    assert (config["dataset"]["packed"], config["dataset"]["train_on_input"]) == (True, True)


@pytest.mark.parametrize("word", ["true", "True", "'true'", '"TRUE"'])
def test_booleans_may_be_quoted(word: str) -> None:
    config = read_yaml(build(text_of() + f"packed: {word}\n").finetune_yaml).data
    assert config["dataset"]["packed"] is True


def test_null_and_empty_text_leave_an_optional_key_unset() -> None:
    text = text_of() + "account: ''\nmax_steps_per_epoch: null\nbatch_size_val:\nvenv: ''\ninput_key: ''\n"
    outputs = build(text)
    assert outputs == build(text_of())


# --- paths


def test_output_dir_as_in_2025() -> None:
    assert config_of()["output_dir"] == "/scratch/out/ck-out-rank8_lr1e-5/"
    assert config_of(output_dir_base="out/", experiment_name="e")["output_dir"] == "out/e/ck-out-rank8_lr1e-5/"


def test_output_dir_as_in_v034() -> None:
    config = config_of(output_dir_base=..., project_dir="/scratch/p", experiment_name="e")
    assert config["output_dir"] == "/scratch/p/e/rank8_lr1e-5/artifacts/"


def test_both_output_directories_are_ambiguous() -> None:
    assert problems_of(text_of(project_dir="/p", experiment_name="e")) == [("ambiguous", "project_dir")]


def test_project_dir_needs_an_experiment_name() -> None:
    assert problems_of(text_of(output_dir_base=..., project_dir="/p")) == [("missing-field", "experiment_name")]


@pytest.mark.parametrize(
    ("base", "folder", "meant"),
    [
        ("/data", ..., "/data/raw"),
        ("/data/", ..., "/data/raw"),
        ("/data/", "a/b", "/data/a/b"),
        ("/data", "", "/data"),
        ("/data/", "", "/data/"),
        ("/", "raw", "/raw"),
    ],
)
def test_input_dir(base: str, folder: Any, meant: str) -> None:
    assert config_of(input_dir_base=base, input_formatting=folder)["input_dir"] == meant


# --- settings that no stock recipe reads


def test_settings_that_the_recipe_does_not_read_are_written_with_a_warning() -> None:
    changes = {
        "run_val_every_n_steps": 10,
        "batch_size_val": 2,
        "save_last_epoch_only": True,
        "epochs_to_save": "1,2",
        "stash_adapter_weights": True,
    }
    outputs = build(text_of(**changes))
    config = read_yaml(outputs.finetune_yaml).data
    assert {name: config[name] for name in changes} == changes
    assert config["dataset_val"]["field"] == "validation"
    assert [(w.code, w.field) for w in outputs.warnings] == [("unread-setting", name) for name in changes]
    assert [absent(w.message, "lora_finetune_single_device", "0.6.1") for w in outputs.warnings] == [[]] * 5
    assert [w.line for w in outputs.warnings] == list(range(len(MINIMAL) + 1, len(MINIMAL) + 6))


def test_disabled_settings_are_not_written() -> None:
    outputs = build(
        text_of(run_val_every_n_steps=0, save_last_epoch_only=False, stash_adapter_weights=False, epochs_to_save="")
    )
    assert outputs == build(text_of())


def test_a_custom_recipe_may_read_all_settings() -> None:
    outputs = build(text_of(batch_size_val=2, custom_recipe="package.recipe"))
    assert outputs.warnings == ()
    assert read_yaml(outputs.finetune_yaml).data["batch_size_val"] == 2


def test_validation_data_of_cruijff_kit_is_not_limited() -> None:
    config = config_of(dataset_type="chat_completion", run_val_every_n_steps=5, training_samples=3)
    assert config["dataset_val"]["split"] == "validation"
    assert "max_samples" not in config["dataset_val"]


def test_max_seq_len_is_not_read_by_the_data_sets_of_cruijff_kit() -> None:
    assert [w.field for w in build(text_of(dataset_type="chat_completion", max_seq_len=100)).warnings] == [
        "max_seq_len"
    ]
    assert build(text_of(dataset_type="chat_completion", max_seq_len=2048)).warnings == ()


# --- checks of rendered files


@pytest.mark.parametrize("text", ["a: '1'\n", "a: 1.0\n", "a: true\n", "a: 1\nb: 2\n", "b: 1\n"])
def test_a_different_value_or_type_is_detected(text: str) -> None:
    with pytest.raises(AssertionError):
        bundled._check_yaml(text, {"a": 1})  # noqa: SLF001 - the proof itself is under test


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/bash\n#SBATCH --mem=2G\ntune run\n",
        "#!/bin/bash\n#SBATCH --mem=1G\n#SBATCH --mem=1G\ntune run\n",
        "#!/bin/bash\nls\n#SBATCH --mem=1G\ntune run\n",
        "#!/bin/bash\n#SBATCH --mem=1G\ntune run x\n",
    ],
)
def test_a_different_job_is_detected(script: str) -> None:
    with pytest.raises(AssertionError):
        bundled._check_slurm(script, [("mem", "1G")], ["tune", "run"])  # noqa: SLF001 - likewise


def test_every_model_is_built_for_one_and_two_gpus_and_both_formats() -> None:
    for model, gpus, extension in itertools.product(known_models(), (1, 2), (".json", ".parquet")):
        assert build(text_of(torchtune_model_name=model, gpus=gpus, dataset_ext=extension)).warnings == ()
