"""The values that the stock configs of a recipe have: what torchtune's makers themselves train with."""

import json
from collections.abc import Iterator
from typing import Any

from installed_torchtune.stock import FAMILIES, registry, stock_config

_CHOSEN = frozenset(f"{part}._component_" for part in ("checkpointer", "dataset", "model", "tokenizer"))

_OF_A_MODEL = (
    *("model.lora_attn_modules", "model.apply_lora_to_mlp", "model.apply_lora_to_output"),
    *("model.lora_dropout", "lr_scheduler.num_warmup_steps"),
)
"""Paths whose values differ between models, apart from the rank, alpha and the learning rate, which are varied."""


def values_of_model(config: str) -> dict[str, Any]:
    """Return the values of a model's stock config that are not those of every model, by dotted path."""
    values = dict(_leaves(stock_config(config)))
    return {path: values[path] for path in _OF_A_MODEL if path in values}


def stock_values(recipe: str) -> dict[str, list[Any]]:
    """By dotted path, each value that a stock config of the recipe has there, for the families that are covered.

    Paths are the user's: texts that name a place are left out, and so are components that follow from model and data.
    """
    found: dict[str, dict[str, Any]] = {}
    for config in registry()[recipe].configs:
        if config.name.partition("/")[0] in FAMILIES:
            for path, value in _leaves(stock_config(config.name)):
                if path in _CHOSEN:
                    continue
                found.setdefault(path, {})[json.dumps(value)] = value
    return {path: [values[text] for text in sorted(values)] for path, values in sorted(found.items())}


def _leaves(node: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        path = f"{above}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        elif not _is_place(value):
            yield path, value


def _is_place(value: Any) -> bool:
    """Whether a value names a file or directory, or several."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return any("/" in text or "$" in text or text.endswith((".safetensors", ".bin")) for text in texts)
