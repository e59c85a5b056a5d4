"""The bundled setup_finetune for full fine-tuning: its differences from LoRA."""

from typing import Any

import pytest

from scaffold_torchtune import torchtune_facts
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.torchtune_facts import default_resources, find_model, known_models
from scaffold_torchtune.torchtune_facts.facts import load
from support.setup_texts import config_of, problems_of, script_of, text_of

SINGLE, DISTRIBUTED = torchtune_facts.RECIPES[torchtune_facts.FULL]
FULL: dict[int, dict[str, Any]] = {
    n: {"custom_recipe": torchtune_facts.recipe_for_gpus("full", n), "gpus": n} for n in (1, 2)
}


@pytest.mark.parametrize("gpus", [1, 2])
def test_the_config_differs_from_lora_in_the_model_and_two_keys(gpus: int) -> None:
    full, lora = config_of(**FULL[gpus]), config_of(gpus=gpus)
    assert full.pop("model") == {"_component_": "torchtune.models.llama3_2.llama3_2_1b"}
    assert full.pop("optimizer_in_bwd") is False
    del lora["model"], lora["save_adapter_weights_only"]
    assert full == lora


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("model", known_models())
def test_every_model_has_exactly_the_keys_that_the_recipe_reads(model: str, gpus: int) -> None:
    config = config_of(torchtune_model_name=model, **FULL[gpus])
    facts = load().recipes[str(FULL[gpus]["custom_recipe"])]
    places = {"input_dir", "models_dir", "dataset_label", "my_wandb_project", "my_wandb_run_name"}
    assert config["model"] == {"_component_": load().models[model].full_builder}
    assert facts.required <= config.keys()
    assert config.keys() - places <= facts.reads


def test_planned_values_are_written_to_the_keys_of_the_recipe() -> None:
    planned = {"lr": 2e-5, "weight_decay": 0.1, "num_warmup_steps": 7, "gradient_accumulation_steps": 8, "seed": 3}
    config = config_of(**FULL[1], **planned, max_steps_per_epoch=9)
    assert config["optimizer"] == {
        "_component_": "torch.optim.AdamW", "fused": True, "weight_decay": 0.1, "lr": 2e-5,
    }  # fmt: skip
    assert config["lr_scheduler"]["num_warmup_steps"] == 7
    assert (config["gradient_accumulation_steps"], config["seed"], config["max_steps_per_epoch"]) == (8, 3, 9)


def test_the_header_names_the_recipes_of_the_file() -> None:
    assert build(text_of(**FULL[1])).finetune_yaml.startswith(
        "# Made by scaffold-torchtune for the full fine-tuning recipes of torchtune 0.6.1.\n"
    )


@pytest.mark.parametrize(
    ("gpus", "command"),
    [
        (1, "tune run full_finetune_single_device --config finetune.yaml"),
        (2, "tune run --nproc_per_node 2 full_finetune_distributed --config finetune.yaml"),
    ],
)
def test_the_script_starts_the_recipe(gpus: int, command: str) -> None:
    assert script_of(**FULL[gpus]).splitlines()[-1] == command


@pytest.mark.parametrize(("recipe", "gpus"), [(SINGLE, 2), (DISTRIBUTED, 1)])
def test_the_recipe_must_fit_the_gpus(recipe: str, gpus: int) -> None:
    assert problems_of(text_of(custom_recipe=recipe, gpus=gpus)) == [("wrong-recipe", "custom_recipe")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lora_rank", 8),
        ("lora_alpha", 16),
        ("lora_dropout", 0.0),
        ("save_adapter_weights_only", False),
        ("stash_adapter_weights", True),
    ],
)
def test_a_setting_of_the_adapter_is_refused(key: str, value: object) -> None:
    assert problems_of(text_of(**FULL[1], **{key: value})) == [("unsupported-setting", key)]


def test_settings_that_the_recipe_does_not_read_are_written_with_a_warning() -> None:
    (warning,) = build(text_of(**FULL[1], batch_size_val=2)).warnings
    assert (warning.code, warning.field) == ("unread-setting", "batch_size_val")
    assert SINGLE in warning.message


@pytest.mark.parametrize(
    ("model", "lora", "full"),
    [("Qwen2.5-1.5B-Instruct", False, True), ("Llama-3.2-1B", False, False), ("Qwen2.5-7B", True, True)],
)
def test_activation_checkpointing_is_as_in_the_stock_config(model: str, lora: bool, full: bool) -> None:
    key = "enable_activation_checkpointing"
    assert config_of(torchtune_model_name=model)[key] is lora
    assert config_of(torchtune_model_name=model, **FULL[1])[key] is full


def test_the_largest_model_is_offloaded_as_in_its_stock_config() -> None:
    model = {"torchtune_model_name": "Llama-3.3-70B-Instruct"}
    assert config_of(**model, **FULL[2])["fsdp_cpu_offload"] is True
    assert "fsdp_cpu_offload" not in config_of(**model, **FULL[1])
    assert "fsdp_cpu_offload" not in config_of(**model, gpus=2)


@pytest.mark.parametrize(
    ("model", "gpus", "epochs", "memory"),
    [
        ("Llama-3.1-8B", 1, 2, "48G"),  # 15.0 mapped, 15.0 as the file, 16
        ("Llama-3.1-8B", 4, 1, "96G"),  # 15.0 mapped, 2 x 15.0 on rank 0, 16, 3 x 9.9
        ("Llama-3.1-8B", 4, 2, "128G"),  # and both states of the optimizer
        ("gemma-2-2b", 1, 1, "32G"),  # 9.7 mapped in fp32, 4.9 as the file, 16
        ("Llama-3.3-70B-Instruct", 8, 1, "1112G"),  # 131.4 mapped, 2 and 4 copies of it, 16, 7 x 24.4
    ],
)
def test_memory_depends_on_the_data_that_the_recipe_keeps_on_the_cpu(
    model: str, gpus: int, epochs: int, memory: str
) -> None:
    entry = find_model(model)
    assert entry is not None
    found = default_resources(entry, gpus, full=True, epochs=epochs)
    assert (found.mem, found.cpus) == (memory, gpus)
    assert ("optimizer's states" in found.mem_source) == (gpus > 1 and epochs > 1)
    script = script_of(
        torchtune_model_name=model,
        epochs=epochs,
        gpus=gpus,
        custom_recipe=torchtune_facts.recipe_for_gpus("full", gpus),
    )
    assert f"#SBATCH --mem={memory}\n" in script
