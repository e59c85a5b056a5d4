"""The proof that the directives of finetune.slurm ask SLURM for what is planned, and nothing else."""

import re
from collections.abc import Callable
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.validate import commands
from scaffold_torchtune.validate.report import Report, quoted
from scaffold_torchtune.validate.slurm_script import Directive, SlurmScript

# The proof that finetune.slurm asks SLURM for what may be asked for besides: as planned, and nothing else.
#
# Names and meanings are those of sbatch(1). What the line that submits says wins over the script, which need not say
# it.

_OPTIONS: Final = {
    **{name: name for name in ("account", "partition", "constraint", "qos", "reservation", "exclude", "comment")},
    "mail_user": "mail-user",
    "mail_type": "mail-type",
}
OPTION_SETTINGS: Final = frozenset({*_OPTIONS, "requeue", "gpu_type"})
"""Settings whose arrival is known here."""


def check_options(report: Report, active: dict[str, Directive]) -> frozenset[str]:
    """Check the directives that count, by name; the names of those that were judged come back."""
    judged: set[str] = set()
    for setting, name in _OPTIONS.items():
        planned, directive = report.planned(setting), active.get(name)
        if setting in report.run.submitted:
            judged.add(name)
        elif planned not in {None, ""}:
            judged.add(name)
            _compare_option(report, setting, name, directive)
    return frozenset(judged | _requeue(report, active))


def _compare_option(report: Report, setting: str, name: str, directive: Directive | None) -> None:
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


# The proof that finetune.slurm asks SLURM for what is planned.

JOB_SETTINGS: Final = commands.COMMAND_SETTINGS | OPTION_SETTINGS | {"time", "gpus", "mem", "cpus_per_task"}
"""Settings whose arrival in finetune.slurm is known."""

# What a script may ask for besides what is planned: nothing that changes what runs, or for how long.
_USUAL: Final = frozenset(
    {"job-name", "time", "gres", "gpus", "gpus-per-node", "nodes", "ntasks", "cpus-per-task", "mem", "output", "error"}
)
_GPUS: Final = frozenset({"gres", "gpus", "gpus-per-node"})
_MAKE: Final = "Create that directory before you submit the run."
_MADE: Final = "Nothing, where the run is submitted with the line that is printed: it makes that directory first."
_MEMORY: Final = {"": 1024, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}


def check_job(report: Report, script: SlurmScript) -> str | None:
    """Check finetune.slurm against the plan.

    Args:
        report: takes the findings.
        script: the script as read.

    Returns:
        The recipe that it must start, where it is one of torchtune's own.
    """
    for line, problem in script.problems:
        report.add("unreadable-file", problem, line=line)
    for line, placeholder in script.placeholders:
        report.add("placeholder-left", f"the placeholder {placeholder} was not replaced", actual=placeholder, line=line)
    active = _placement(report, script)
    _required(report, active)
    _resources(report, active)
    judged = check_options(report, active)
    _files(report, active)
    _others(report, active, judged)
    commands.check_other_commands(report, script.commands)
    return commands.check_commands(report, script)


def _placement(report: Report, script: SlurmScript) -> dict[str, Directive]:
    """The directives that count, by name, after saying which stand too late or twice."""
    active: dict[str, Directive] = {}
    for directive in script.directives:
        name, line = directive.name, directive.line
        if directive.late:
            message = f"--{_shown(name)} stands after the first command, where sbatch ignores it"
            report.add("late-directive", message, field=name, actual=directive.value, line=line)
        elif name in active and not (name == "mail-type" and not report.bundled):
            message = f"--{_shown(name)} is given twice, first in line {active[name].line}"
            report.add("duplicate-directive", message, field=name, actual=directive.value, line=line)
            active[name] = directive  # sbatch takes the last one
        else:
            active[name] = directive
    return active


def _shown(name: str) -> str:
    return quoted(name).strip("'")


def _compare(
    report: Report,
    setting: str,
    directive: Directive | None,
    expected: Any,
    reading: Callable[[str], Any] = str,
    *,
    name: str = "",
    note: str = "",
) -> None:
    """Say where a directive is absent or differs; `reading` makes its text and the plan's comparable."""
    place = f"--{name or setting}"
    if directive is None:
        report.differs("missing-value", setting, place=place, expected=expected)
    elif reading(directive.value) != reading(str(expected)):
        report.differs(
            "value-mismatch",
            setting,
            place=place,
            expected=expected,
            actual=directive.value,
            line=directive.line,
            note=note,
        )


def _required(report: Report, active: dict[str, Directive]) -> None:
    name = report.planned("my_wandb_run_name") or report.run.directory
    _compare(report, "my_wandb_run_name", active.get("job-name"), name, name="job-name")
    time = report.planned("time")
    if time is not None:
        _compare(report, "time", active.get("time"), time, _seconds)


def _seconds(text: str) -> int | str:
    found = kinds.slurm_seconds(text)
    return text if found is None else found


def gpus_in(text: str) -> int:
    """The number of GPUs that `--gres` or `--gpus` asks for: `gpu:2`, `gpu:a100:2`, `gpu`, `2`, `a100:2`."""
    total = 0
    for item in text.split(","):
        parts = item.split("(", 1)[0].split(":")
        number = _number(parts[-1])
        if isinstance(number, int) and parts[0] != "shard":
            total += number
        elif parts[0] == "gpu":
            total += 1
    return total


def kilobytes(text: str) -> int | str:
    """How much memory `--mem` asks for, as sbatch reads it (a bare number is megabytes); the text where it is none."""
    match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)B?", text.strip().upper(), re.ASCII)
    return int(match[1]) * _MEMORY[match[2]] if match else text


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else text


def _resources(report: Report, active: dict[str, Directive]) -> None:
    gpus = report.planned("gpus")
    given = [active[name] for name in sorted(_GPUS & active.keys())]
    if gpus is not None:
        if not given:
            report.differs("missing-value", "gpus", place="--gres=gpu", expected=gpus)
        note = commands.ONE_GPU if gpus == 1 and not report.bundled and report.run.generation else ""
        for directive in given:
            _compare(report, "gpus", directive, gpus, gpus_in, name=directive.name, note=note)
    gpu_type(report, given)
    memory, cpus = report.planned("mem"), report.planned("cpus_per_task")
    if memory not in {None, ""}:
        _compare(report, "mem", active.get("mem"), memory, kilobytes)
    if cpus is not None:
        _compare(report, "cpus_per_task", active.get("cpus-per-task"), cpus, _number, name="cpus-per-task")
    for setting, name in (("mem", "mem"), ("cpus_per_task", "cpus-per-task")):
        if report.bundled and report.planned(setting) in {None, ""} and name not in active:
            message = f"--{name} is absent, so the job gets what the cluster gives where nobody asks"
            report.add("missing-value", message, field=setting)
    for name in ("nodes", "ntasks"):
        if name in active and _number(active[name].value) != 1:
            message = f"--{name} is {quoted(active[name].value)}, but a run is one task on one node"
            report.add(
                "value-mismatch", message, field=name, expected=1, actual=active[name].value, line=active[name].line
            )


def _files(report: Report, active: dict[str, Directive]) -> None:
    """SLURM creates no directories for its logs, and the run's output directory is made by the job itself."""
    for name in ("output", "error"):
        directive = active.get(name)
        if directive is not None and "/" in directive.value:
            made = "%" not in directive.value.rpartition("/")[0]
            report.add(
                "unplanned-value",
                f"--{name} is {quoted(directive.value)}; SLURM creates no directories, so the job may fail",
                field=name,
                expected="a file name without a directory",
                actual=directive.value,
                line=directive.line,
                severity=_of_log(report, made=made),
                fix=report.fix if report.bundled else _MADE if made else _MAKE,
            )


def _of_log(report: Report, *, made: bool) -> Severity:
    """How much a log's directory matters, which the line that submits makes where its name is known."""
    return Severity.ERROR if report.bundled else Severity.INFO if made else Severity.WARNING


def _others(report: Report, active: dict[str, Directive], judged: frozenset[str]) -> None:
    for name, directive in active.items():
        if name not in _USUAL and name not in judged:
            severity, fix = commands.of_directive(report, name, directive.value)
            message = f"--{_shown(name)} is {quoted(directive.value)}, which nobody planned"
            actual, line = directive.value, directive.line
            report.add("unplanned-value", message, field=name, actual=actual, line=line, severity=severity, fix=fix)
