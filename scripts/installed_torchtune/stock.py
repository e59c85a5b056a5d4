"""What torchtune ships: its registry of recipes, their files, the stock configs; and which of them are covered."""

import importlib.util
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

RECIPES = (
    "lora_finetune_single_device",
    "lora_finetune_distributed",
    "full_finetune_single_device",
    "full_finetune_distributed",
)


class Model(NamedTuple):
    """The stock configs for a model; there may be none that trains all of it.

    A model without stock configs of its own names the sibling whose configs stand in, and how its builders differ.
    """

    lora: str = ""
    full: str | None = None
    sibling: str | None = None
    builder_suffix: tuple[str, str] | None = None


def _single_device(prefix: str) -> Model:
    """Return the single-device configs of a model that has both."""
    return Model(f"{prefix}_lora_single_device", f"{prefix}_full_single_device")


_BASE_BUILDERS = ("_instruct", "_base")
MODELS = {
    "Llama-3.2-1B": Model(sibling="Llama-3.2-1B-Instruct"),
    "Llama-3.2-1B-Instruct": _single_device("llama3_2/1B"),
    "Llama-3.2-3B": Model(sibling="Llama-3.2-3B-Instruct"),
    "Llama-3.2-3B-Instruct": _single_device("llama3_2/3B"),
    "Llama-3.1-8B": Model(sibling="Llama-3.1-8B-Instruct"),
    "Llama-3.1-8B-Instruct": _single_device("llama3_1/8B"),
    "Llama-3.3-70B-Instruct": Model("llama3_3/70B_lora", "llama3_3/70B_full"),
    "Qwen2.5-0.5B": Model(sibling="Qwen2.5-0.5B-Instruct"),
    "Qwen2.5-0.5B-Instruct": _single_device("qwen2_5/0.5B"),
    "Qwen2.5-1.5B": Model(sibling="Qwen2.5-1.5B-Instruct", builder_suffix=_BASE_BUILDERS),
    "Qwen2.5-1.5B-Instruct": _single_device("qwen2_5/1.5B"),
    "Qwen2.5-3B": Model(sibling="Qwen2.5-3B-Instruct"),
    "Qwen2.5-3B-Instruct": _single_device("qwen2_5/3B"),
    "Qwen2.5-7B": Model(sibling="Qwen2.5-7B-Instruct", builder_suffix=_BASE_BUILDERS),
    "Qwen2.5-7B-Instruct": _single_device("qwen2_5/7B"),
    "Qwen2.5-14B": Model(sibling="Qwen2.5-14B-Instruct", builder_suffix=_BASE_BUILDERS),
    "Qwen2.5-14B-Instruct": Model("qwen2_5/14B_lora_single_device"),
    "Mistral-7B-v0.1": Model("mistral/7B_lora_single_device", "mistral/7B_full_low_memory"),
    "Mistral-7B-Instruct-v0.1": Model(sibling="Mistral-7B-v0.1"),
    "gemma-2-2b": Model("gemma2/2B_lora_single_device", "gemma2/2B_full"),
    "gemma-2-2b-it": Model(sibling="gemma-2-2b"),
    "gemma-2-9b": Model("gemma2/9B_lora_single_device", "gemma2/9B_full"),
    "gemma-2-9b-it": Model(sibling="gemma-2-9b"),
    "Phi-3-mini-4k-instruct": Model("phi3/mini_lora_single_device", "phi3/mini_full_low_memory"),
    "phi-4": Model("phi4/14B_lora_single_device", "phi4/14B_full_low_memory"),
}
"""Every model of server/scaffold_torchtune/torchtune_facts/models.yaml, by its name, in the same order."""

FAMILIES = frozenset(model.lora.partition("/")[0] for model in MODELS.values() if model.lora)


def recipes_folder() -> Path:
    """Return the folder of the installed recipes and their configs."""
    spec = importlib.util.find_spec("recipes")
    if spec is None or spec.origin is None:
        raise SystemExit("recipes is not installed here")
    return Path(spec.origin).parent


def registry() -> dict[str, Any]:
    """Return the recipes of torchtune by name."""
    from torchtune import _recipe_registry

    return {recipe.name: recipe for recipe in _recipe_registry.get_all_recipes()}


def stock_config(name: str) -> dict[str, Any]:
    """Return a stock config as plain data, with unresolved interpolations."""
    from omegaconf import OmegaConf

    path = recipes_folder() / "configs" / f"{name}.yaml"
    data = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(data, dict):
        raise SystemExit(f"{path} is not a mapping")
    return typing.cast("dict[str, Any]", data)


def covered_configs() -> Iterator[str]:
    """Return the names of the stock configs of the recipes and families covered."""
    for name in RECIPES:
        for config in registry()[name].configs:
            if config.name.partition("/")[0] in FAMILIES:
                yield config.name
