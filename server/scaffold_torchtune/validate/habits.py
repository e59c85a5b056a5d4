"""What an external setup_finetune.py writes by itself, and how much it matters.

Of the generations of cruijff_kit's script it is known: their templates and their defaults by model, as read (November
2025, December 2025, v0.3.4 of August 2026). What is known is information; what is not may change what is trained.
"""

import re
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.validate.arrivals import OF_THE_TRAINING
from scaffold_torchtune.validate.report import Report

NOTHING: Final = "Nothing to do: this setup_finetune.py always writes it."

ONE_GPU: Final = (
    "a known fault of this script: it takes gpus: 1 for not given, and then has its own number by the model"
)

_MAIL: Final = {"mail-type": r"begin|end", "mail-user": r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+"}
_DIRECTIVES: Final[dict[str, dict[str, str]]] = {
    "2025-11": _MAIL,
    "2025-12": {**_MAIL, "partition": "nomig", "constraint": "gpu80"},
    "v0.3.4": _MAIL,
}
# Options of the script that it writes to the top level of finetune.yaml, and a line of its template: nobody reads them.
_UNREAD: Final = frozenset(
    {
        "base_recipe", "batch_size_val", "config_file", "custom_recipe", "dataset_val", "epochs_to_save", "hf_token",
        "input_formatting", "modules", "run_val_every_n_steps", "save_last_epoch_only", "stash_adapter_weights", "venv",
    }
)  # fmt: skip
# Whoever wrote these: they change nothing of the job.
_HARMLESS: Final = frozenset({"mail-type", "mail-user", "comment"})
# With one of these it is another job: several at once, elsewhere, for another's account, or never.
_ANOTHER_JOB: Final = frozenset(
    {"account", "array", "chdir", "constraint", "hold", "ntasks-per-node", "partition", "wrap"}
)
_HARMLESS_TO_TORCHRUN: Final = frozenset({"--standalone"})


def is_habit(report: Report, directive: str, value: str) -> bool:
    """Whether the generation that wrote the script always has this directive."""
    known = _DIRECTIVES.get(report.run.generation, {}).get(directive) if not report.bundled else None
    return known is not None and re.fullmatch(known, value) is not None


def of_directive(report: Report, name: str, value: str) -> tuple[Severity, str | None]:
    """How much a directive matters that nobody planned, and the fix where there is nothing to do."""
    if is_habit(report, name, value):
        return Severity.INFO, NOTHING
    if report.bundled or name in _ANOTHER_JOB:
        return Severity.ERROR, None
    return Severity.INFO if name in _HARMLESS else Severity.WARNING, None


def of_option(report: Report, name: str) -> Severity:
    """How much an option of `tune run` matters that nobody planned."""
    if report.bundled:
        return Severity.ERROR
    return Severity.INFO if name in _HARMLESS_TO_TORCHRUN else Severity.WARNING


def of_value(report: Report, place: str) -> Severity:
    """How much a value of finetune.yaml matters that nobody planned and that torchtune's makers do not have either."""
    return Severity.ERROR if report.bundled or place in OF_THE_TRAINING else Severity.WARNING


def is_unread_habit(report: Report, key: str) -> bool:
    """Whether the generation always writes a top-level key that no recipe reads."""
    return bool(report.run.generation) and not report.bundled and key in _UNREAD
