"""torchtune 0.6.1 accepts the files that the bundled setup_finetune writes."""

import ast
import base64
import importlib
import importlib.util
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.settings.kinds import PROJECTIONS
from scaffold_torchtune.settings.unsupported import is_refused
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.system.serialization import yaml_scalar
from scaffold_torchtune.torchtune_facts import ModelEntry, find_model, known_models
from scaffold_torchtune.torchtune_facts.facts import load
from support import needs

pytestmark = needs.TORCHTUNE

RECIPES = {
    ("lora", 1): "lora_finetune_single_device",
    ("lora", 2): "lora_finetune_distributed",
    ("full", 1): "full_finetune_single_device",
    ("full", 2): "full_finetune_distributed",
}
SETUP = """\
my_wandb_project: words
my_wandb_run_name: rank8
models_dir: /data/models
input_dir_base: /data/sets
input_formatting: ''
dataset_label: words
output_dir_base: /scratch/out
conda_env: tune
epochs: 1
batch_size: 4
"""


def written(**changes: Any) -> str:
    keys = {"torchtune_model_name": "Llama-3.2-1B", "dataset_ext": ".json", **changes}
    return build(SETUP + "".join(f"{name}: {yaml_scalar(value)}\n" for name, value in keys.items())).finetune_yaml


def loaded(**changes: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(written(**changes))


def entry_of(model: str) -> ModelEntry:
    entry = find_model(model)
    assert entry is not None
    return entry


def source_of(recipe: str) -> str:
    spec = importlib.util.find_spec("recipes")
    assert spec is not None
    assert spec.submodule_search_locations
    return (Path(spec.submodule_search_locations[0]) / f"{recipe}.py").read_text()


def keys_read_by(recipe: str) -> set[str]:
    """Return the top-level keys that the recipe reads from its configuration: `cfg.key` and `cfg.get("key")`."""
    keys = {"profiler"}  # cfg.get(PROFILER_KEY), torchtune/training/_profiler.py
    for node in ast.walk(ast.parse(source_of(recipe))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cfg":
            keys.add(node.attr)
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "cfg.get"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            keys.add(str(node.args[0].value))
    return keys


def asked(method: str, gpus: int) -> dict[str, Any]:
    return {"gpus": gpus} | ({"custom_recipe": RECIPES[method, gpus]} if method == "full" else {})


@pytest.mark.parametrize(
    ("model", "method", "gpus", "extension"),
    list(itertools.product(known_models(), ("lora", "full"), (1, 2), (".json", ".parquet"))),
)
def test_every_model_is_valid_for_torchtune(model: str, method: str, gpus: int, extension: str) -> None:
    from torchtune import config
    from torchtune.training.checkpointing import ModelType

    changes = {"torchtune_model_name": model, "dataset_ext": extension, **asked(method, gpus)}
    cfg = loaded(**changes)
    config.validate(cfg)
    assert cfg.checkpointer.model_type in ModelType.__members__
    interpolated = set(re.findall(r"\$\{(\w+)\}", written(**changes)))
    assert set(cfg) - keys_read_by(RECIPES[method, gpus]) - interpolated == set()


@pytest.mark.parametrize("recipe", RECIPES.values())
def test_keys_reported_as_unread_are_not_read(recipe: str) -> None:
    from scaffold_torchtune.setup.bundled import UNREAD

    assert keys_read_by(recipe) & {*UNREAD, "dataset_val"} == set()
    own = "save_adapter_weights_only" if recipe.startswith("lora") else "optimizer_in_bwd"
    assert {"dataset", "seed", "epochs", "lr_scheduler", own} <= keys_read_by(recipe)


def test_the_known_recipes_are_those_of_torchtune() -> None:
    from torchtune._recipe_registry import get_all_recipes

    from scaffold_torchtune.setup.keys import _OTHER_RECIPES

    assert {recipe.name for recipe in get_all_recipes()} == {*RECIPES.values(), *_OTHER_RECIPES}


@pytest.mark.parametrize("model", known_models())
def test_the_model_is_built_as_planned(model: str) -> None:
    import torch
    from torchtune import config
    from torchtune.modules.peft import LoRALinear, get_adapter_params

    cfg = loaded(torchtune_model_name=model, lora_rank=8, lora_alpha=24, lora_dropout=0.5)
    with torch.device("meta"):
        built = config.instantiate(cfg.model)
    adapted = [module for module in built.modules() if isinstance(module, LoRALinear)]
    assert {(module.rank, module.alpha, module.dropout.p) for module in adapted} == {(8, 24, 0.5)}
    adapters = sum(p.numel() for p in get_adapter_params(built).values())
    billions = (sum(p.numel() for p in built.parameters()) - adapters) / 1e9
    assert billions == pytest.approx(entry_of(model).billions, rel=0.02)


@pytest.mark.parametrize("model", known_models())
def test_the_model_for_full_fine_tuning_trains_every_weight(model: str) -> None:
    import torch
    from torchtune import config
    from torchtune.modules.peft import get_adapter_params

    with torch.device("meta"):
        built = config.instantiate(loaded(torchtune_model_name=model, **asked("full", 1)).model)
    assert not get_adapter_params(built)
    assert all(p.requires_grad for p in built.parameters())
    assert sum(p.numel() for p in built.parameters()) == load().models[model].parameters


PLACES = [
    (("q_proj", "v_proj", "output_proj"), True, False),
    (("k_proj",), False, False),
    (PROJECTIONS, True, True),
]
"""Modules with LoRA: attention projections, whether the MLP, whether the output."""


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("model", known_models())
def test_the_facts_count_the_parameters_of_the_written_model(
    model: str, places: tuple[tuple[str, ...], bool, bool]
) -> None:
    import torch
    from torchtune import config
    from torchtune.modules.peft import get_adapter_params

    (attention, mlp, output), facts, rank = places, load().models[model], 8
    each = facts.lora_parameters(attention, mlp=mlp, output=output)
    asked = {
        "lora_attn_modules": ",".join(attention), "apply_lora_to_mlp": mlp, "apply_lora_to_output": output,
    }  # fmt: skip
    if each is None:  # the bundled setup refuses it too
        with pytest.raises(Refused) as refused:
            loaded(torchtune_model_name=model, lora_rank=rank, **asked)
        assert [problem.field for problem in refused.value.problems] == ["apply_lora_to_output"]
        assert output
        assert "lm_head.weight" not in dict(facts.tensors())
        return
    with torch.device("meta"):
        built = config.instantiate(loaded(torchtune_model_name=model, lora_rank=rank, **asked).model)
    adapters = get_adapter_params(built)
    assert sum(p.numel() for p in adapters.values()) == rank * each
    assert sum(p.numel() for name, p in built.named_parameters() if name not in adapters) == facts.parameters
    assert len(built.layers) == facts.layers


def stock_configs(component: str, kind: str) -> list[dict[str, Any]]:
    """Return the stock configs of LoRA or full fine-tuning for a builder or its variant."""
    import yaml

    folder = Path(str(importlib.import_module("torchtune").__file__)).parent.parent / "recipes" / "configs"
    texts = (
        path.read_text()
        for path in folder.glob(f"*/*_{kind}*.yaml")
        if not re.search("qlora|qat|dpo|ppo|multinode", path.name)
    )
    return [
        data
        for data in map(yaml.safe_load, texts)
        if data["model"]["_component_"].rsplit("_instruct", 1)[0]
        == component.removesuffix("_base").removesuffix("_instruct")
    ]


@pytest.mark.parametrize("model", known_models())
def test_full_fine_tuning_agrees_with_the_stock_configs(model: str) -> None:
    """Compare checkpointing, offloading and keys, except the sharding over GPUs; Qwen2.5-14B has no stock config."""
    stock = stock_configs(entry_of(model).full_component, "full")
    assert bool(stock) == (not model.startswith("Qwen2.5-14B"))
    ours = [loaded(torchtune_model_name=model, **asked("full", gpus)) for gpus in (1, 2)]
    for data in stock:
        assert data["enable_activation_checkpointing"] == ours[0]["enable_activation_checkpointing"]
        assert data.get("fsdp_cpu_offload", False) == ours[1].get("fsdp_cpu_offload", False)
        assert data.keys() - ours[1].keys() <= {"custom_sharded_layers", "tensor_parallel_dim", "tensor_parallel_plan"}
        assert data.get("tensor_parallel_dim", 1) == 1


@pytest.mark.parametrize("model", known_models())
def test_the_registry_agrees_with_the_stock_config(model: str) -> None:
    """Compare component (for the variant of the stock config), tokenizer, model type and checkpointing."""
    entry = entry_of(model)
    stock = stock_configs(entry.component, "lora")
    assert stock
    for data in stock:
        assert data["tokenizer"]["_component_"] == entry.tokenizer
        assert {argument for argument, _ in entry.tokenizer_files} <= set(data["tokenizer"])
    types = {data["checkpointer"]["model_type"] for data in stock if "teacher_checkpointer" not in data}
    assert types == {entry.model_type}
    assert entry.activation_checkpointing in {data["enable_activation_checkpointing"] for data in stock}


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset_type": "chat_dataset", "system_prompt": "S"},
        {"dataset_type": "text_completion_dataset"},
        {"dataset_type": "text_completion_dataset", "dataset_ext": ".parquet", "input_key": "body"},
        {"input_key": "question", "training_samples": 5, "packed": True, "train_on_input": True},
        {"run_val_every_n_steps": 5, "batch_size_val": 2},
    ],
)
def test_every_data_set_is_valid_for_torchtune(changes: dict[str, Any]) -> None:
    from torchtune import config

    config.validate(loaded(**changes))


@pytest.mark.parametrize("extension", [".json", ".parquet"])
def test_the_data_set_loads_the_planned_rows(extension: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: run `make contract`")
    from omegaconf import OmegaConf
    from torchtune import config

    rows = [{"question": f"q{i}", "output": f"a{i}"} for i in range(6)]
    if extension == ".json":
        (tmp_path / "words.json").write_text(json.dumps({"train": rows, "validation": rows[:1]}))
    else:
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "words.parquet")
    cfg = OmegaConf.create(written(dataset_ext=extension, training_samples=4, input_key="question"))
    cfg.input_dir = str(tmp_path)
    cfg.dataset.cache_dir = str(tmp_path / "cache")
    data = config.instantiate(cfg.dataset, lambda sample: {**sample, "tokens": [], "mask": []})
    assert len(data) == 4
    assert [message.text_content for message in data[3]["messages"]] == ["q3", "a3"]


def qwen_tokenizer(folder: Path, prompt: str) -> Any:
    """Return torchtune's Qwen2.5 tokenizer over single bytes, configured by the bundled setup."""
    from torchtune import config
    from torchtune.models.qwen2._tokenizer import bytes_to_unicode

    directory = folder / "Qwen2.5-0.5B"
    directory.mkdir()
    letters = bytes_to_unicode().values()
    (directory / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    cfg = loaded(torchtune_model_name="Qwen2.5-0.5B", prompt=prompt)
    cfg.models_dir = str(folder)
    return config.instantiate(cfg.tokenizer)


def llama_tokenizer(folder: Path, template: dict[str, list[str]]) -> Any:
    """Return torchtune's Llama 3 tokenizer over single bytes, with a prompt template."""
    from torchtune.models.llama3 import llama3_tokenizer

    lines = [f"{base64.b64encode(bytes([i])).decode()} {i}" for i in range(256)]
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n")
    return llama3_tokenizer(str(folder / "tokenizer.model"), prompt_template=template)


def trained_text(tokenizer: Any) -> str:
    from torchtune.data import Message

    tokens, _ = tokenizer.tokenize_messages([Message(role="user", content="hello"), Message("assistant", "HELLO")])
    return bytes(token for token in tokens if token < 256).decode()  # special tokens are above


def test_a_prompt_reaches_the_text_that_qwen_trains_on(tmp_path: Path) -> None:
    from torchtune.models.qwen2._tokenizer import bytes_to_unicode

    tokenizer = qwen_tokenizer(tmp_path, "The word: {input}\n")
    from torchtune.data import Message

    tokens, _ = tokenizer.tokenize_messages([Message(role="user", content="hello"), Message("assistant", "HELLO")])
    order = list(bytes_to_unicode())
    assert "The word: hello\n" in bytes(order[token] for token in tokens if token < 256).decode()


def test_llama_removes_white_space_around_the_input(tmp_path: Path) -> None:
    """Show why prompts other than the bare input are refused for it: `word: hello` would become `word:hello`."""
    text = trained_text(llama_tokenizer(tmp_path, {"user": ["The word: ", "\n"]}))
    assert "The word:hello" in text
    assert "The word: hello" not in text


def test_a_newline_after_the_input_does_not_change_the_text_of_llama(tmp_path: Path) -> None:
    with_newline = trained_text(llama_tokenizer(tmp_path, {"user": ["", "\n"]}))
    assert with_newline == trained_text(llama_tokenizer(tmp_path, {}))


def test_accepted_values_of_adamw_and_the_schedule_are_those_of_torch_and_torchtune() -> None:
    import inspect

    import torch
    from torchtune.training import get_cosine_schedule_with_warmup

    defaults = {name: each.default for name, each in inspect.signature(torch.optim.AdamW).parameters.items()}
    said = {"betas": str(defaults["betas"]), "adam epsilon": str(defaults["eps"]), "beta1": "0.9", "beta2": "0.999"}
    assert [label for label, text in said.items() if is_refused(label, text)] == []
    assert is_refused("betas", "(0.9, 0.95)")
    assert is_refused("adam epsilon", "1e-6")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=1, num_training_steps=10)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert (rates[0], rates[1]) == (0, 1)
    assert rates[-1] == pytest.approx(0)  # `cosine decay to 10%` is a different schedule
    assert rates[1:] == sorted(rates[1:], reverse=True)
