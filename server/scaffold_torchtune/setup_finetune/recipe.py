"""Which recipe a run is trained with, and whether that trains all weights or an adapter."""

from scaffold_torchtune.settings import recipes
from scaffold_torchtune.setup_finetune.keys import Settings


def recipe(settings: Settings) -> str:
    """The recipe as setup_finetune.yaml names it, else torchtune's own for LoRA on that many GPUs."""
    return settings.text("custom_recipe") or recipes.for_gpus(recipes.LORA, settings.integer("gpus"))


def is_full(settings: Settings) -> bool:
    """Whether all weights are trained. A recipe that torchtune does not have is taken for one of LoRA."""
    return recipes.method_of(recipe(settings)) == recipes.FULL
