"""What a job may be asked for besides time, memory and CPUs: the forms of its values, and the options of sbatch.

The rules are those of Slurm's sbatch(1). An #SBATCH line is no shell's: sbatch splits it at spaces, takes quotes away,
and a backslash escapes even within single quotes, so that no value may hold one.
"""

import re
from collections.abc import Mapping
from typing import Final

from scaffold_torchtune.findings import Scalar

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NODE: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]|\[[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*\])*"
_MAIL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", re.ASCII)
_NAMES: Final = re.compile(rf"{_NAME}(?:,{_NAME})*", re.ASCII)
_NODES: Final = re.compile(rf"{_NODE}(?:,{_NODE})*", re.ASCII)
_TAGS: Final = re.compile(r"[\w][\w .:/+=@-]*(?:,[\w][\w .:/+=@-]*)*")
_COMMENT: Final = re.compile(r"[^\"'\\`$<>{}]+")
_APART: Final = re.compile(r"[\s#]")
_LONGEST: Final = 200
_LONGEST_TAG: Final = 64

_EVENTS: Final = (
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_90",
    "TIME_LIMIT_80", "TIME_LIMIT_50",
)  # fmt: skip

ALLOWED: Final = {
    "mail": "one mail address, such as ada@example.org",
    "events": f"events by commas, of {', '.join(_EVENTS)}",
    "reservations": "names of reservations by commas",
    "nodes": "names of nodes by commas, such as node01,gpu[03-05]",
    "tags": "tags by commas, each of at most 64 letters, digits, spaces and . : / + = @ _ -",
    "comment": "one line of at most 200 characters, without quotes, backslash, backtick and $ < > { }",
}
"""What is allowed, by the kind of parameter."""

OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
}
"""The variables that keep a job on a node without internet from waiting for it."""

_DIRECTIVES: Final = {
    "qos": "qos",
    "reservation": "reservation",
    "exclude": "exclude",
    "mail_user": "mail-user",
    "mail_type": "mail-type",
    "comment": "comment",
}

SETTINGS: Final = frozenset({*_DIRECTIVES, "gpu_type", "requeue"})
"""The settings that are options of sbatch, and nothing else."""


_VARIABLES: Final = {"wandb_entity": "WANDB_ENTITY", "wandb_group": "WANDB_RUN_GROUP", "wandb_tags": "WANDB_TAGS"}

OF_VARIABLES: Final = frozenset({*_VARIABLES, "offline"})
"""The settings that a job can also be told by its environment."""


def canonical(kind: str, text: str) -> str | None:
    """A value as it is written, from how people write it (spaces after commas, events in lower case); None: it is none.

    Args:
        kind: one of the keys of `ALLOWED`.
        text: what a document says.
    """
    if not text.isprintable():
        return None
    if kind == "comment":
        return text if _COMMENT.fullmatch(text) and text.strip() == text and len(text) <= _LONGEST else None
    if kind == "mail":
        return text if _MAIL.fullmatch(text) and len(text) <= _LONGEST else None
    parts = [part.strip() for part in text.split(",")] if kind != "nodes" else [re.sub(r",\s+", ",", text)]
    joined = ",".join(parts)
    if kind == "events":
        events = [part.upper() for part in parts]
        alone = len(events) == 1 or "NONE" not in events
        return ",".join(events) if set(events) <= set(_EVENTS) and len(set(events)) == len(events) and alone else None
    if kind == "tags":
        fits = len(set(parts)) == len(parts) and max(map(len, parts)) <= _LONGEST_TAG
        return joined if fits and _TAGS.fullmatch(joined) else None
    grammar = _NODES if kind == "nodes" else _NAMES
    return joined if grammar.fullmatch(joined) and ".." not in joined and len(joined) <= _LONGEST else None


def directives(values: Mapping[str, Scalar]) -> list[tuple[str, str]]:
    """The options of sbatch for those of `SETTINGS` that have a value, as (name, value); a flag's value is empty.

    A type of GPU is none of its own: `gres` says it.
    """
    found = [(option, str(values[name])) for name, option in _DIRECTIVES.items() if values.get(name)]
    requeue = values.get("requeue")
    return found if requeue is None else [*found, ("requeue" if requeue else "no-requeue", "")]


def variables(values: Mapping[str, Scalar]) -> dict[str, str]:
    """The variables that tell a job those of `OF_VARIABLES` that have a value, by name.

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
