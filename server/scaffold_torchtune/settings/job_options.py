"""What a job is asked for besides time, memory and CPUs, as options of sbatch and as variables of its environment."""

import re
from collections.abc import Mapping
from typing import Final

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.settings.parameters import SUBMITTED

_APART: Final = re.compile(r"[\s#]")

OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
}
"""The variables that keep a job on a node without internet from waiting for it."""

# A type of GPU is part of another option, requeue is a flag that has an opposite, offline is several variables.
_OF_THEIR_OWN: Final = frozenset({"gpu_type", "requeue", "offline"})
_DIRECTIVES: Final = {
    name: text.removeprefix("--")
    for name, text in SUBMITTED.items()
    if text.startswith("--") and name not in _OF_THEIR_OWN
}
_VARIABLES: Final = {
    name: text for name, text in SUBMITTED.items() if not text.startswith("--") and name not in _OF_THEIR_OWN
}


def directives(values: Mapping[str, Scalar]) -> list[tuple[str, str]]:
    """Return the options of sbatch for those settings that have a value, as (name, value); a flag's value is empty.

    A type of GPU is none of its own: `gres` says it.
    """
    found = [(option, str(values[name])) for name, option in _DIRECTIVES.items() if values.get(name)]
    requeue = values.get("requeue")
    return found if requeue is None else [*found, ("requeue" if requeue else "no-requeue", "")]


def variables(values: Mapping[str, Scalar]) -> dict[str, str]:
    """Return the variables that tell a job those settings that have a value, by name.

    wandb.init reads its own (wandb's documentation, "Environment variables"); an argument wins over them.
    """
    found = {name: str(values[setting]) for setting, name in _VARIABLES.items() if values.get(setting)}
    return found | (OFFLINE if values.get("offline") is True else {})


def gres(gpus: Scalar, gpu_type: Scalar) -> str:
    """What `--gres` asks for: `gpu:2`, or `gpu:a100:2`."""
    return f"gpu:{gpu_type}:{gpus}" if gpu_type else f"gpu:{gpus}"


def line(name: str, value: str) -> str:
    """An option as an #SBATCH line has it; what would be split or cut stands in double quotes, which no value holds."""
    if not value:
        return f"--{name}"
    return f'--{name}="{value}"' if _APART.search(value) else f"--{name}={value}"
