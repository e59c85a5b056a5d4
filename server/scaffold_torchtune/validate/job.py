"""The proof that finetune.slurm asks SLURM for what is planned."""

import re
from collections.abc import Callable
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.validate import besides, commands, habits, options
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.script import Directive, Script
from scaffold_torchtune.validate.values import quoted

SETTINGS: Final = commands.SETTINGS | options.SETTINGS | {"time", "gpus", "mem", "cpus_per_task"}
"""Settings whose arrival in finetune.slurm is known."""

# What a script may ask for besides what is planned: nothing that changes what runs, or for how long.
_USUAL: Final = frozenset(
    {"job-name", "time", "gres", "gpus", "gpus-per-node", "nodes", "ntasks", "cpus-per-task", "mem", "output", "error"}
)
_GPUS: Final = frozenset({"gres", "gpus", "gpus-per-node"})
_MAKE: Final = "Create that directory before you submit the run."
_MADE: Final = "Nothing, where the run is submitted with the line that is printed: it makes that directory first."
_MEMORY: Final = {"": 1024, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}


def check(report: Report, script: Script) -> str | None:
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
    judged = options.check(report, active)
    _files(report, active)
    _others(report, active, judged)
    besides.check(report, script.commands)
    return commands.check(report, script)


def _placement(report: Report, script: Script) -> dict[str, Directive]:
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
        note = habits.ONE_GPU if gpus == 1 and not report.bundled and report.run.generation else ""
        for directive in given:
            _compare(report, "gpus", directive, gpus, gpus_in, name=directive.name, note=note)
    options.gpu_type(report, given)
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
            severity, fix = habits.of_directive(report, name, directive.value)
            message = f"--{_shown(name)} is {quoted(directive.value)}, which nobody planned"
            actual, line = directive.value, directive.line
            report.add("unplanned-value", message, field=name, actual=actual, line=line, severity=severity, fix=fix)
