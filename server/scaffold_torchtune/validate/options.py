"""The proof that finetune.slurm asks SLURM for what may be asked for besides: as planned, and nothing else.

Names and meanings are those of sbatch(1). What the line that submits says wins over the script, which need not say it.
"""

from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.script import Directive
from scaffold_torchtune.validate.values import quoted

_OPTIONS: Final = {
    **{name: name for name in ("account", "partition", "constraint", "qos", "reservation", "exclude", "comment")},
    "mail_user": "mail-user",
    "mail_type": "mail-type",
}
SETTINGS: Final = frozenset({*_OPTIONS, "requeue", "gpu_type"})
"""Settings whose arrival is known here."""


def check(report: Report, active: dict[str, Directive]) -> frozenset[str]:
    """Check the directives that count, by name; the names of those that were judged come back."""
    judged: set[str] = set()
    for setting, name in _OPTIONS.items():
        planned, directive = report.planned(setting), active.get(name)
        if setting in report.run.submitted:
            judged.add(name)
        elif planned not in {None, ""}:
            judged.add(name)
            _compare(report, setting, name, directive)
    return frozenset(judged | _requeue(report, active))


def _compare(report: Report, setting: str, name: str, directive: Directive | None) -> None:
    planned = str(report.planned(setting))
    if directive is None:
        report.differs("missing-value", setting, place=f"--{name}", expected=planned)
    elif _meant(setting, directive.value) != _meant(setting, planned):
        report.differs(
            "value-mismatch", setting, place=f"--{name}", expected=planned, actual=directive.value, line=directive.line
        )


def _meant(setting: str, value: str) -> str | frozenset[str]:
    """A value as it is compared: events are the same in any order and in small letters."""
    return frozenset(value.upper().split(",")) if setting == "mail_type" else value


def _requeue(report: Report, active: dict[str, Directive]) -> set[str]:
    planned = report.planned("requeue")
    if planned is None:
        return set()
    names = ("requeue", "no-requeue") if planned else ("no-requeue", "requeue")
    if "requeue" not in report.run.submitted:
        wanted, other = (active.get(name) for name in names)
        if other is not None:
            place = f"--{other.name}"
            report.differs("value-mismatch", "requeue", place=place, expected=planned, actual=place, line=other.line)
        elif wanted is None:
            report.differs("missing-value", "requeue", place=f"--{names[0]}", expected=planned)
    return set(names)


def gpu_type(report: Report, given: list[Directive]) -> None:
    """Check the type of the GPUs in the directives that ask for GPUs."""
    planned = str(report.planned("gpu_type") or "")
    if "gpu_type" in report.run.submitted:
        return
    for directive in given:
        for found in _types_in(directive):
            if planned and found != planned:
                place, line = f"the type of GPU in --{directive.name}", directive.line
                actual = found or None
                report.differs("value-mismatch", "gpu_type", place=place, expected=planned, actual=actual, line=line)
            elif found and not planned:
                message = f"--{directive.name} asks for GPUs of the type {quoted(found)}, which nobody planned"
                report.unplanned(message, Severity.INFO, field="gpu_type", actual=found, line=directive.line)


def _types_in(directive: Directive) -> list[str]:
    """The types of GPUs that `gpu:a100:2` of `--gres`, or `a100:2` of `--gpus`, asks for; '' where it names none."""
    found = []
    for item in directive.value.split(","):
        words = item.split("(", 1)[0].split(":")
        if directive.name == "gres" and words[0] != "gpu":
            continue
        words = words[1:] if directive.name == "gres" else words
        found.append("" if not words or words[0].isdigit() else words[0])
    return found
