"""What torchtune 0.6.1 itself says: recipes, models, their checkpoints, components and the arguments that they take.

`facts.json` and `tensors.json` are written by scripts/regenerate_torchtune_facts.py from an installed torchtune, never
by hand. The second is read when the tensors of a checkpoint are first asked for: most of what loads the facts never
asks.
"""

import functools
import importlib.resources
import math
from collections.abc import Iterable, Iterator

from pydantic import Field, TypeAdapter

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import Model
from scaffold_torchtune.torchtune_facts import find_model


class Recipe(Model):
    """A recipe and the top-level keys that it reads of its config."""

    distributed: bool
    reads: frozenset[str]
    required: frozenset[str] = Field(description="read without a default, and in every stock config of the recipe")
    stock: dict[str, tuple[Scalar | list[Scalar], ...]] = Field(
        description="by dotted path, each value that a stock config has there; places are left out, and"
        " the components that follow from model and data set"
    )

    @property
    def trains_adapter(self) -> bool:
        """Return whether it trains an adapter and not all weights: then it asks whether to save that alone."""
        return "save_adapter_weights_only" in self.reads


class Component(Model):
    """Something that a `_component_` can name, and its arguments."""

    arguments: frozenset[str]
    required: frozenset[str]
    defaults: dict[str, Scalar | list[Scalar]] = Field(description="of the arguments that have one, other than None")
    open: bool = Field(description="takes any other keyword too and passes it on")


class Checkpoint(Model):
    """The tensors of a model's Hugging Face checkpoint; in a name, `{n}` is the number of a layer, from 0.

    torchtune fails on a tensor that is neither needed nor skipped.
    """

    tensors: dict[str, tuple[int, ...]] = Field(description="shape by name: torchtune needs each of them, in any file")
    skipped: tuple[str, ...] = Field(description="of what files hold besides now and then, what torchtune passes over")


class ModelFacts(Model):
    """What a config must hold for a model, and how large the model is."""

    lora_builder: str
    full_builder: str
    tokenizer: str
    tokenizer_files: dict[str, str] = Field(description="argument of the tokenizer to path below the checkpoint")
    model_type: str
    stock_config: str | None = Field(description="the stock config that all this is read from")
    sibling: str | None = Field(description="the model whose stock config stands in where there is none")
    parameters: int = Field(description="of the model without LoRA; embeddings that are tied count once")
    lora_parameters_per_rank: dict[str, int] = Field(
        description="what LoRA adds for each unit of rank, by place: a projection of attention, `mlp`, `output`, which"
        " is left out where the builder takes no LoRA there"
    )
    layers: int = Field(description="transformer layers")

    def lora_parameters(self, attention: Iterable[str], *, mlp: bool, output: bool) -> int | None:
        """Return what LoRA adds for each unit of rank; None where torchtune has no LoRA in one of the places."""
        places = {*attention, *(["mlp"] if mlp else []), *(["output"] if output else [])}
        counts = [self.lora_parameters_per_rank.get(place) for place in places]
        return None if None in counts else sum(filter(None, counts))

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of every tensor that torchtune needs of the checkpoint."""
        for pattern, shape in _checkpoints()[self.full_builder].tensors.items():
            yield from ((name, shape) for name in self._names(pattern))

    def skipped_tensors(self) -> Iterator[str]:
        """Yield the name of every tensor that may be in the checkpoint too, as torchtune passes over it."""
        for pattern in _checkpoints()[self.full_builder].skipped:
            yield from self._names(pattern)

    def _names(self, pattern: str) -> Iterator[str]:
        """What a name of tensors.json stands for: one tensor, or one in each layer."""
        for number in range(self.layers if "{n}" in pattern else 1):
            yield pattern.replace("{n}", str(number))


class Facts(Model):
    """Everything in facts.json."""

    torchtune: str = Field(description="the version that the facts are of")
    recipes: dict[str, Recipe]
    models: dict[str, ModelFacts]
    model_types: tuple[str, ...]
    lora_attn_modules: tuple[str, ...]
    loader_arguments: dict[str, frozenset[str]] = Field(description="what a data set of a source hands to load_dataset")
    components: dict[str, Component]

    def model(self, name: str) -> ModelFacts | None:
        """Return the facts of a model by its name or an alias of the registry; None where it is not covered."""
        entry = find_model(name)
        return None if entry is None else self.models.get(entry.name)


def steps_per_epoch(rows: int, *, batch_size: int, accumulation: int, processes: int, limit: int | None = None) -> int:
    """Return the optimizer steps in an epoch.

    The recipes deal the samples out to the processes with a sampler that fills up the last share
    (StatefulDistributedSampler, drop_last false), drop each process's last batch where it is not full (DataLoader,
    drop_last true), divide by the accumulation, and stop at `max_steps_per_epoch` (recipes/lora_finetune_*.py and
    full_finetune_*.py, `_setup_data` and `_steps_per_epoch`).
    """
    batches = math.ceil(rows / processes) // batch_size
    steps = batches // accumulation
    return steps if limit is None else min(steps, limit)


@functools.cache
def load() -> Facts:
    """Return the facts that ship with the package."""
    return Facts.model_validate_json(_shipped("facts.json"))


@functools.cache
def _checkpoints() -> dict[str, Checkpoint]:
    """The checkpoints by the builder of the model for full training."""
    return TypeAdapter(dict[str, Checkpoint]).validate_json(_shipped("tensors.json"))


def _shipped(name: str) -> str:
    """The text of a file beside this module."""
    return importlib.resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
