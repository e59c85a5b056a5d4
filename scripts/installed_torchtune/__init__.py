"""What the installed torchtune says of itself: the facts that facts.json and tensors.json hold.

Everything is read from the package: its recipe registry, the stock configs, the source of the recipes, the signatures
of the components, the models that its builders make. What torchtune does not say stands in small tables, each at the
top of a module: the models and their stock configs or the sibling whose configs stand in (`stock`), components that no
stock config names (`components`), arguments of datasets (`loader`).
"""

import importlib.metadata
import typing
from typing import Any

from installed_torchtune.checkpoints import all_checkpoints
from installed_torchtune.components import all_components
from installed_torchtune.loader import loader_arguments
from installed_torchtune.models import all_models
from installed_torchtune.recipes import all_recipes


def collect() -> dict[str, dict[str, Any]]:
    """All facts as plain data, in the order in which they are written, by the name of their file."""
    from torchtune.modules import peft
    from torchtune.training.checkpointing._utils import ModelType

    models = all_models()
    facts = {
        "torchtune": importlib.metadata.version("torchtune"),
        "recipes": all_recipes(),
        "models": models,
        "model_types": [member.name for member in ModelType],
        "lora_attn_modules": list(typing.get_args(peft.LORA_ATTN_MODULES)),
        "loader_arguments": loader_arguments(),
        "components": all_components(),
    }
    return {"facts.json": facts, "tensors.json": all_checkpoints(models)}
