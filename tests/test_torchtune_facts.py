"""The torchtune facts that ship with the package."""

import pytest

from scaffold_torchtune.torchtune_facts import load

MODELS = {
    *(f"Llama-3.2-{size}{kind}" for size in ("1B", "3B") for kind in ("", "-Instruct")),
    *("Llama-3.1-8B", "Llama-3.1-8B-Instruct", "Llama-3.3-70B-Instruct"),
    *(f"Qwen2.5-{size}B{kind}" for size in ("0.5", "1.5", "3", "7", "14") for kind in ("", "-Instruct")),
    *("Mistral-7B-v0.1", "Mistral-7B-Instruct-v0.1", "Phi-3-mini-4k-instruct", "phi-4"),
    *(f"gemma-2-{size}{kind}" for size in ("2b", "9b") for kind in ("", "-it")),
}


def test_the_facts_are_of_one_version_and_read_once() -> None:
    assert load().torchtune == "0.6.1"
    assert load() is load()


def test_every_model_is_covered() -> None:
    assert set(load().models) == MODELS


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_models_facts_agree_with_the_components(name: str) -> None:
    facts, model = load(), load().models[name]
    assert "lora_attn_modules" in facts.components[model.lora_builder].required
    assert model.full_builder in facts.components
    assert set(model.tokenizer_files) <= facts.components[model.tokenizer].arguments
    assert model.tokenizer_files
    assert model.model_type in facts.model_types
    assert (model.stock_config is None) != (model.sibling is None)
    assert model.sibling is None or facts.models[model.sibling].stock_config


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("meta-llama-3.1-8b", "Llama-3.1-8B"),
        ("Meta-Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("Llama-3.3-70B", "Llama-3.3-70B-Instruct"),
        ("Mistral-7B", "Mistral-7B-v0.1"),
        ("Mistral-7B-Instruct", "Mistral-7B-Instruct-v0.1"),
        ("Gemma2-2B", "gemma-2-2b"),
        ("Gemma2-9B", "gemma-2-9b"),
        ("Phi-3-mini", "Phi-3-mini-4k-instruct"),
        ("Phi-3-mini-instruct", "Phi-3-mini-4k-instruct"),
        ("Phi-4", "phi-4"),
        ("LLAMA-3.2-1b", "Llama-3.2-1B"),
    ],
)
def test_aliases_are_known_in_any_case(alias: str, name: str) -> None:
    assert load().model(alias) is load().models[name]


def test_what_is_not_covered_is_none() -> None:
    assert load().model("gpt-2") is None


def test_base_and_instruct_builders_of_qwen_differ_where_they_do() -> None:
    models = load().models
    for size in ("1.5", "7", "14"):
        base, instruct = models[f"Qwen2.5-{size}B"], models[f"Qwen2.5-{size}B-Instruct"]
        assert base.lora_builder.endswith("_base")
        assert instruct.lora_builder.endswith("_instruct")
        assert base.full_builder.endswith("_base")
    assert models["Qwen2.5-3B"].lora_builder == models["Qwen2.5-3B-Instruct"].lora_builder


def test_recipes_read_what_their_source_says() -> None:
    recipes = load().recipes
    assert {name for name, recipe in recipes.items() if recipe.distributed} == {
        "lora_finetune_distributed",
        "full_finetune_distributed",
    }
    single = recipes["lora_finetune_single_device"]
    assert {"seed", "epochs", "batch_size", "optimizer", "compile"} <= single.required
    assert {"profiler", "clip_grad_norm", "collate_fn"} <= single.reads - single.required
    assert not {"run_val_every_n_steps", "epochs_to_save", "dataset_val"} & single.reads
    assert "enable_async_checkpointing" in recipes["full_finetune_distributed"].reads


def test_there_is_one_scheduler() -> None:
    schedulers = [name for name in load().components if ".lr_schedulers." in name]
    assert schedulers == ["torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup"]
