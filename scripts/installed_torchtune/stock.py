"""What torchtune ships: its registry of recipes, their files, the stock configs; and which of them are covered."""

import importlib.util
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECIPES = (
    "lora_finetune_single_device",
    "lora_finetune_distributed",
    "full_finetune_single_device",
    "full_finetune_distributed",
)
FAMILIES = ("llama3_1", "llama3_2", "llama3_3", "qwen2_5", "mistral", "gemma2", "phi3", "phi4")


def recipes_folder() -> Path:
    """The folder of the installed recipes and their configs."""
    spec = importlib.util.find_spec("recipes")
    if spec is None or spec.origin is None:
        raise SystemExit("recipes is not installed here")
    return Path(spec.origin).parent


def registry() -> dict[str, Any]:
    """The recipes of torchtune by name."""
    from torchtune import _recipe_registry

    return {recipe.name: recipe for recipe in _recipe_registry.get_all_recipes()}


def stock_config(name: str) -> dict[str, Any]:
    """A stock config as plain data, its interpolations left as they stand."""
    from omegaconf import OmegaConf

    path = recipes_folder() / "configs" / f"{name}.yaml"
    data = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(data, dict):
        raise SystemExit(f"{path} is not a mapping")
    return typing.cast("dict[str, Any]", data)


def covered_configs() -> Iterator[str]:
    """The names of the stock configs of the recipes and families covered."""
    for name in RECIPES:
        for config in registry()[name].configs:
            if config.name.partition("/")[0] in FAMILIES:
                yield config.name
