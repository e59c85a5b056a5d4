"""The recipes of torchtune 0.6.1 that are scaffolded, and what people call them.

A document names a recipe, or only the method (`LoRA`, `full fine-tuning`): the recipe then follows from the number of
GPUs. Recipes are those of torchtune/_recipe_registry.py.
"""

import re
from typing import Final

LORA: Final = "lora"
FULL: Final = "full"
RECIPES: Final = {
    LORA: ("lora_finetune_single_device", "lora_finetune_distributed"),
    FULL: ("full_finetune_single_device", "full_finetune_distributed"),
}
"""The recipes of each method: the one for a single GPU, and the one for several."""

NAMES: Final = tuple(name for names in RECIPES.values() for name in names)
"""Every recipe that is scaffolded."""

OF_LORA: Final = (
    "lora_rank", "lora_alpha", "lora_attn_modules", "apply_lora_to_mlp", "apply_lora_to_output", "lora_dropout",
    "save_adapter_weights_only", "stash_adapter_weights",
)  # fmt: skip
"""Settings of the adapter, which full fine-tuning has not."""

_TUNING: Final = r"(?:[ _-]?(?:fine[ _-]?tun(?:e|ed|ing)|training|sft|ft))?"
_WORDS: Final = {
    LORA: re.compile(rf"(?:peft[ /:-]+)?lora{_TUNING}", re.IGNORECASE),
    FULL: re.compile(rf"full(?:[ _-](?:parameters?|weights?|model|rank))?{_TUNING}", re.IGNORECASE),
}


def in_words(text: str) -> str | None:
    """Return the method that a text names in words (`Full fine-tuning`), or None."""
    return next((method for method, words in _WORDS.items() if words.fullmatch(text)), None)


def method_of(recipe: str) -> str | None:
    """Return the method of a recipe, or the method itself; None for what is not scaffolded."""
    return next((method for method, names in RECIPES.items() if recipe in {method, *names}), None)


def for_gpus(recipe: str, gpus: int) -> str:
    """Return the recipe that a method means on that many GPUs; what names a recipe already stays."""
    return RECIPES[recipe][gpus > 1] if recipe in RECIPES else recipe


def agree(one: str, other: str) -> bool:
    """Return whether one of the two says the same as the other, or says it less exactly."""
    return one == other or (method_of(one) == method_of(other) and (one in RECIPES or other in RECIPES))
