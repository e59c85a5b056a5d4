"""The proof that the job exports what keeps it from waiting for the internet, where that is planned, and only there.

The variables are those of huggingface_hub (HF_HUB_OFFLINE), datasets (HF_DATASETS_OFFLINE), transformers
(TRANSFORMERS_OFFLINE) and wandb (WANDB_MODE), as their documentation names them.
"""

import re
from collections.abc import Sequence
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.script import Command
from scaffold_torchtune.validate.values import quoted

SETTINGS: Final = frozenset({"offline"})
"""Settings whose arrival is known here."""

_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
}
_ASSIGNED: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.DOTALL)


def check(report: Report, commands: Sequence[Command]) -> None:
    """Check the variables that the commands hand to the last of them, the training."""
    found = _exported(commands)
    planned = report.planned("offline") is True and "offline" not in report.run.submitted
    for name, value in _OFFLINE.items() if planned else ():
        actual, line = found.pop(name, (None, None))
        if actual != value:
            code = "missing-value" if actual is None else "value-mismatch"
            place = f"the variable {name} before `tune run`"
            report.differs(code, "offline", place=place, expected=value, actual=actual, line=line)
    for name, (value, line) in found.items():
        if name in _OFFLINE:
            message = f"the job exports {quoted(name)} as {quoted(value)}, which nobody planned"
            report.unplanned(message, Severity.INFO, field="offline", actual=value, line=line)


def judges(words: Sequence[str]) -> bool:
    """Whether a command does nothing but set or export variables that are judged here."""
    return all(word.partition("=")[0] in _OFFLINE for word in words if word != "export")


def _exported(commands: Sequence[Command]) -> dict[str, tuple[str, int]]:
    """The variables that are exported, and those that stand before the last command's name, with their lines."""
    found: dict[str, tuple[str, int]] = {}
    for command in commands:
        is_export = command.words[:1] == ("export",)
        for word in command.words if is_export or command is commands[-1] else ():
            match = _ASSIGNED.fullmatch(word)
            if match:
                found[match["name"]] = (match["value"], command.line)
            elif word == "tune":  # what follows is the training's own
                break
    return found
