"""What torchtune 0.6.1 itself says: recipes, models, components and the arguments that they take.

`facts.json` is written by scripts/regenerate_torchtune_facts.py from an installed torchtune, never by hand.
"""

import functools
import importlib.resources

from pydantic import Field

from scaffold_torchtune.models.base import Model


class Recipe(Model):
    """A recipe and the top-level keys that it reads of its config."""

    distributed: bool
    reads: frozenset[str]
    required: frozenset[str] = Field(description="read without a default, and in every stock config of the recipe")


class Component(Model):
    """Something that a `_component_` can name, and its arguments."""

    arguments: frozenset[str]
    required: frozenset[str]
    open: bool = Field(description="takes any other keyword too and passes it on")


class ModelFacts(Model):
    """What a config must hold for a model."""

    aliases: tuple[str, ...]
    lora_builder: str
    full_builder: str
    tokenizer: str
    tokenizer_files: dict[str, str] = Field(description="argument of the tokenizer to path below the checkpoint")
    model_type: str
    stock_config: str | None = Field(description="the stock config that all this is read from")
    sibling: str | None = Field(description="the model whose stock config stands in where there is none")


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
        """The facts of a model by its name or an alias, in any letter case; None where it is not covered."""
        wanted = name.casefold()
        for known, model in self.models.items():
            if wanted in {spelling.casefold() for spelling in (known, *model.aliases)}:
                return model
        return None


@functools.cache
def load() -> Facts:
    """The facts that ship with the package."""
    text = importlib.resources.files(__name__).joinpath("facts.json").read_text(encoding="utf-8")
    return Facts.model_validate_json(text)
