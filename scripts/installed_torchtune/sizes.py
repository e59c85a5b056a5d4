"""Sizes: how many parameters a model has, and how many LoRA adds, counted on models built without memory."""

import functools
import typing
from typing import Any

from installed_torchtune.components import component

RANKS = (8, 24)
MLP, OUTPUT = "mlp", "output"


def built(builder: str, **arguments: Any) -> Any:
    """Return the model of a builder on torch's meta device: names and shapes, no numbers."""
    import torch

    with torch.device("meta"):
        return component(builder)(**arguments)


@functools.cache
def full_model(builder: str) -> Any:
    """Return the model of a builder for full training."""
    return built(builder)


def parameters(model: Any) -> int:
    """Return the number of a model's parameters; tied embeddings count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def places() -> dict[str, dict[str, Any]]:
    """Return the arguments of a builder that apply LoRA to one place: a projection of attention, MLP or output.

    Builders refuse attention without LoRA, so the last two are asked for beside one projection.
    """
    from torchtune.modules import peft

    projections: tuple[str, ...] = typing.get_args(peft.LORA_ATTN_MODULES)
    first = {"lora_attn_modules": [projections[0]]}
    alone = {name: {"lora_attn_modules": [name]} for name in projections}
    return alone | {MLP: first | {"apply_lora_to_mlp": True}, OUTPUT: first | {"apply_lora_to_output": True}}


def _added(lora: str, base: int, arguments: dict[str, Any]) -> int:
    """Return the parameters that LoRA adds for each unit of rank; exit if the number differs between ranks."""
    added = {rank: parameters(built(lora, lora_rank=rank, **arguments)) - base for rank in RANKS}
    each = added[RANKS[0]] // RANKS[0]
    if each <= 0 or any(count != rank * each for rank, count in added.items()):
        raise SystemExit(f"the parameters that {lora} adds do not grow with its rank: {added}")
    return each


@functools.cache
def lora_parameters_per_rank(lora: str, full: str) -> dict[str, int]:
    """Return the parameters that LoRA adds for each unit of rank, by place; no output if the builder rejects that."""
    base = parameters(full_model(full))
    counts: dict[str, int] = {}
    for place, arguments in places().items():
        try:
            count = _added(lora, base, arguments)
        except (TypeError, ValueError) as refused:  # no such argument; or one that tied embeddings forbid
            if place != OUTPUT or "apply_lora_to_output" not in str(refused):
                raise
            continue
        counts[place] = count - (counts[arguments["lora_attn_modules"][0]] if place in {MLP, OUTPUT} else 0)
    return counts


def sizes(lora: str, full: str) -> dict[str, Any]:
    """How large the model of a pair of builders is."""
    model = full_model(full)
    return {
        "parameters": parameters(model),
        "lora_parameters_per_rank": lora_parameters_per_rank(lora, full),
        "layers": len(model.layers),
    }
