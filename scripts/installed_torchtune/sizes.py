"""Sizes: how many parameters a model has, and how many LoRA adds, counted on models built without memory."""

import functools
from typing import Any

from installed_torchtune.components import component

# The arguments of a LoRA builder that the bundled setup writes for every model. Stated here and not read from it: the
# contract tests count the parameters of what it writes and compare.
LORA_MODULES = {
    "lora_attn_modules": ["q_proj", "v_proj", "output_proj"],
    "apply_lora_to_mlp": True,
}
RANKS = (8, 24)


def built(builder: str, **arguments: Any) -> Any:
    """The model that a builder makes, on torch's meta device: names and shapes, no numbers."""
    import torch

    with torch.device("meta"):
        return component(builder)(**arguments)


@functools.cache
def full_model(builder: str) -> Any:
    """The model of a builder for full training."""
    return built(builder)


def parameters(model: Any) -> int:
    """The number of a model's parameters; embeddings that are tied count once."""
    return sum(parameter.numel() for parameter in model.parameters())


@functools.cache
def lora_parameters_per_rank(lora: str, full: str) -> int:
    """What LoRA adds for each unit of rank; exits where that is not the same at every rank."""
    base = parameters(full_model(full))
    added = {rank: parameters(built(lora, lora_rank=rank, **LORA_MODULES)) - base for rank in RANKS}
    each = added[RANKS[0]] // RANKS[0]
    if each <= 0 or any(count != rank * each for rank, count in added.items()):
        raise SystemExit(f"the parameters that {lora} adds do not grow with its rank: {added}")
    return each


def sizes(lora: str, full: str) -> dict[str, int]:
    """How large the model of a pair of builders is."""
    model = full_model(full)
    return {
        "parameters": parameters(model),
        "lora_parameters_per_rank": lora_parameters_per_rank(lora, full),
        "layers": len(model.layers),
    }
