"""The torchtune facts that ship with the package."""

import dataclasses
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune import torchtune_facts
from scaffold_torchtune.torchtune_facts import find_model, known_models
from scaffold_torchtune.torchtune_facts.facts import load
from support.experiments import make_experiment
from support.sampling import spread
from support.scaffolding import scaffold

ROOT = Path(__file__).resolve().parents[2]

MODELS = {
    *(f"Llama-3.2-{size}{kind}" for size in ("1B", "3B") for kind in ("", "-Instruct")),
    *("Llama-3.1-8B", "Llama-3.1-8B-Instruct", "Llama-3.3-70B-Instruct"),
    *(f"Qwen2.5-{size}B{kind}" for size in ("0.5", "1.5", "3", "7", "14") for kind in ("", "-Instruct")),
    *("Mistral-7B-v0.1", "Mistral-7B-Instruct-v0.1", "Phi-3-mini-4k-instruct", "phi-4"),
    *(f"gemma-2-{size}{kind}" for size in ("2b", "9b") for kind in ("", "-it")),
}


def test_the_facts_are_of_one_version_and_loaded_once() -> None:
    assert load().torchtune == "0.6.1"
    assert load() is load()


def test_every_model_is_covered() -> None:
    assert set(load().models) == MODELS
    assert list(load().models) == list(known_models())


EXAMPLE = "Llama-3.2-1B-Instruct"
"""The model in documents, comments and cruijff_kit's defaults: its occurrences do not show the places of a new one."""


@pytest.mark.parametrize("name", spread(sorted(MODELS - {EXAMPLE}), 8))
def test_a_model_has_one_entry_in_the_registry_and_one_for_its_facts(name: str) -> None:
    whole = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)")
    entry = re.compile(rf"""^ *"?{re.escape(name)}"?:""", re.MULTILINE)
    files = [path for folder in ("server", "scripts", "templates") for path in (ROOT / folder).rglob("*")]
    texts = {path: path.read_text() for path in files if path.suffix in {".py", ".yaml", ".json", ".j2", ".sh"}}
    entries = {
        str(path.relative_to(ROOT)): len(entry.findall(text)) for path, text in texts.items() if whole.search(text)
    }
    facts = "server/scaffold_torchtune/torchtune_facts"
    assert entries.pop(f"{facts}/facts.json") == 1  # which `make facts` writes
    assert entries == {f"{facts}/models.yaml": 1, "scripts/installed_torchtune/stock.py": 1}


def test_a_model_needs_nothing_else_to_be_scaffolded_under_any_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = find_model("Llama-3.2-1B")
    assert known is not None
    entry = dataclasses.replace(known, name="New-1B", aliases=("Brand-New-1B",))
    monkeypatch.setattr(torchtune_facts, "_by_label", lambda: {"new-1b": entry, "brand-new-1b": entry})
    monkeypatch.setitem(load().models, "New-1B", load().models["Llama-3.2-1B"])
    for name in ("New-1B", "Brand-New-1B"):
        found = scaffold(make_experiment(tmp_path / name, replace={EXAMPLE: name}))
        assert found.ok
        assert found.validation.passed


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_facts_of_a_model_agree_with_the_components(name: str) -> None:
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
        ("Qwen-2.5-0.5B", "Qwen2.5-0.5B"),
        ("gemma-2-9b-Instruct", "gemma-2-9b-it"),
    ],
)
def test_aliases_are_known_in_any_case(alias: str, name: str) -> None:
    assert load().model(alias) is load().models[name]


def test_an_unknown_model_is_none() -> None:
    assert load().model("gpt-2") is None


def test_base_and_instruct_builders_of_qwen_differ_as_in_torchtune() -> None:
    models = load().models
    for size in ("1.5", "7", "14"):
        base, instruct = models[f"Qwen2.5-{size}B"], models[f"Qwen2.5-{size}B-Instruct"]
        assert base.lora_builder.endswith("_base")
        assert instruct.lora_builder.endswith("_instruct")
        assert base.full_builder.endswith("_base")
    assert models["Qwen2.5-3B"].lora_builder == models["Qwen2.5-3B-Instruct"].lora_builder


def test_keys_of_recipes_are_as_in_their_source() -> None:
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


# From model.safetensors.index.json on Hugging Face: the bytes of all tensors (metadata.total_size; bfloat16, but
# float32 for gemma-2-2b), and the number of tensors (weight_map). The three smallest have one file and no index:
# these values come from the header of that file.
PUBLISHED = {
    "Llama-3.2-1B": (2 * 1_235_814_400, 146),
    "Llama-3.2-3B": (6_425_499_648, 254),
    "Llama-3.1-8B": (16_060_522_496, 291),
    "Llama-3.3-70B-Instruct": (141_107_412_992, 723),
    "Qwen2.5-0.5B": (2 * 494_032_768, 290),
    "Qwen2.5-1.5B": (2 * 1_543_714_304, 338),
    "Qwen2.5-3B": (6_171_877_376, 434),
    "Qwen2.5-7B": (15_231_233_024, 339),
    "Qwen2.5-14B": (29_540_067_328, 579),
    "Mistral-7B-v0.1": (14_483_464_192, 291),
    "gemma-2-2b": (10_457_367_552, 288),
    "gemma-2-9b": (18_483_411_968, 464),
    "Phi-3-mini-4k-instruct": (7_642_159_104, 195),
    "phi-4": (29_319_014_400, 243),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_checkpoint_has_the_published_size(name: str) -> None:
    model = load().models[name]
    size, count = PUBLISHED[name]
    assert model.parameters * (4 if name == "gemma-2-2b" else 2) == size
    assert len(list(model.tensors())) == count


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_tensors_of_a_checkpoint_are_the_parameters_of_the_model(name: str) -> None:
    model = load().models[name]
    tensors = dict(model.tensors())
    assert len(tensors) == len(list(model.tensors()))
    assert sum(math.prod(shape) for shape in tensors.values()) == model.parameters
    assert f"model.layers.{model.layers - 1}.input_layernorm.weight" in tensors
    assert f"model.layers.{model.layers}.input_layernorm.weight" not in tensors
    assert not any("{" in tensor for tensor in (*tensors, *model.skipped_tensors()))
    assert not set(tensors) & set(model.skipped_tensors())


@pytest.mark.parametrize(
    ("model", "tensor", "shape"),
    [
        ("Llama-3.2-1B", "model.embed_tokens.weight", (128256, 2048)),
        ("Llama-3.2-1B", "model.layers.15.self_attn.k_proj.weight", (512, 2048)),
        ("Llama-3.2-1B", "model.layers.0.mlp.down_proj.weight", (2048, 8192)),
        ("Llama-3.1-8B", "lm_head.weight", (128256, 4096)),
        ("Qwen2.5-0.5B", "model.layers.0.self_attn.q_proj.bias", (896,)),
        ("Qwen2.5-0.5B", "model.layers.23.self_attn.v_proj.weight", (128, 896)),
        ("Qwen2.5-7B-Instruct", "lm_head.weight", (152064, 3584)),
        ("Mistral-7B-v0.1", "model.embed_tokens.weight", (32000, 4096)),
        ("gemma-2-2b", "model.layers.25.pre_feedforward_layernorm.weight", (2304,)),
        ("gemma-2-2b", "model.layers.0.self_attn.o_proj.weight", (2304, 2048)),
        ("Phi-3-mini-4k-instruct", "model.layers.31.self_attn.qkv_proj.weight", (9216, 3072)),
        ("phi-4", "model.layers.39.mlp.gate_up_proj.weight", (35840, 5120)),
    ],
)
def test_a_tensor_has_its_published_shape(model: str, tensor: str, shape: tuple[int, ...]) -> None:
    assert dict(load().models[model].tensors())[tensor] == shape


def test_only_models_with_tied_embeddings_come_without_an_output_layer() -> None:
    without = {name for name, model in load().models.items() if "lm_head.weight" not in dict(model.tensors())}
    assert without == {
        name for name in MODELS if name.startswith(("Llama-3.2", "Qwen2.5-0.5B", "Qwen2.5-1.5B", "Qwen2.5-3B", "gemma"))
    }


def test_torchtune_skips_an_existing_output_layer_only_for_qwen() -> None:
    skip = {name for name, model in load().models.items() if "lm_head.weight" in model.skipped_tensors()}
    assert skip == {name for name in MODELS if name.startswith(("Qwen2.5-0.5B", "Qwen2.5-1.5B", "Qwen2.5-3B"))}


def test_the_size_of_an_adapter_is_that_of_its_matrices() -> None:
    """Llama-3.2-1B: a and b of q, v and o projections, and of the three of the MLP, in each of 16 layers."""
    attention = (2048 + 2048) + (2048 + 512) + (2048 + 2048)
    facts = load().models["Llama-3.2-1B"]
    assert facts.lora_parameters(("q_proj", "v_proj", "output_proj"), mlp=False, output=False) == 16 * attention
    assert facts.lora_parameters(("k_proj",), mlp=True, output=False) == 16 * ((2048 + 512) + 3 * (2048 + 8192))
    assert facts.lora_parameters(("q_proj",), mlp=False, output=True) is None


@pytest.mark.parametrize("name", sorted(MODELS))
def test_lora_on_the_output_needs_separate_weights(name: str) -> None:
    facts, entry = load().models[name], find_model(name)
    assert set(facts.lora_parameters_per_rank) - {"output"} == {*load().lora_attn_modules, "mlp"}
    assert entry is not None
    own = "lm_head.weight" in dict(facts.tensors())
    assert own == ("output" in facts.lora_parameters_per_rank) == (not entry.tied)


def test_the_tensors_are_loaded_on_demand() -> None:
    code = """
import sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from scaffold_torchtune.torchtune_facts.facts import load
model = load().models["phi-4"]
assert any(path.endswith("facts.json") for path in opened)
assert not any(path.endswith("tensors.json") for path in opened)
next(model.tensors())
assert sum(path.endswith("tensors.json") for path in opened) == 1
list(load().models["gemma-2-2b"].tensors())
assert sum(path.endswith("tensors.json") for path in opened) == 1
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
