"""Checks that finetune.slurm requests the planned resources, and prepares the planned environment, and nothing else."""

import posixpath
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.system.layout import FINETUNE_YAML
from scaffold_torchtune.validate.arrivals import output_dir
from scaffold_torchtune.validate.report import Report, below, normal_path, quoted
from scaffold_torchtune.validate.run_files import (
    CONDA,
    Command,
    Directive,
    Runs,
    SlurmScript,
    bare,
    launchers,
    plain,
    reached,
    split,
)

_OPTIONS: Final = {
    **{name: name for name in ("account", "partition", "constraint", "qos", "reservation", "exclude", "comment")},
    "mail_user": "mail-user",
    "mail_type": "mail-type",
}
JOB_SETTINGS: Final = frozenset(
    {
        *_OPTIONS,
        "conda_env",
        "custom_recipe",
        "modules",
        "offline",
        "venv",
        "cpus_per_task",
        "gpu_type",
        "gpus",
        "mem",
        "requeue",
        "time",
    }
)
"""Settings with a known place in finetune.slurm."""

_GPUS: Final = frozenset({"gres", "gpus", "gpus-per-node"})
_ONE: Final = ("nodes", "ntasks", "ntasks-per-node")
"""Directives that must be 1 if they are given."""

_USUAL: Final = _GPUS | {"job-name", "time", "cpus-per-task", "mem", "output", "error", *_ONE}
"""Unplanned directives that a script may have: none affects the commands or the time limit."""

_MAKE: Final = "create this directory before you submit the run"
_MADE: Final = "no action if you submit the run with the printed submit line, which creates this directory first"
_MEMORY: Final = {"": 1024, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
_ONE_GPU: Final = (
    "this is a known bug in the setup script, which treats `gpus: 1` as not set and uses its own number of GPUs"
)

_MAIL: Final = {"mail-type": r"begin|end", "mail-user": r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+"}
_ALWAYS: Final[dict[str, dict[str, str]]] = {
    "2025-11": _MAIL,
    "2025-12": {**_MAIL, "partition": "nomig", "constraint": "gpu80"},
    "v0.3.4": _MAIL,
}
"""Directives that each generation of cruijff_kit's script adds (November 2025, December 2025, v0.3.4 of
August 2026), with their values.
"""

_HARMLESS: Final = frozenset({"mail-type", "mail-user", "comment"})
"""Directives that do not affect the job, in any script."""

_ANOTHER_JOB: Final = frozenset({"account", "array", "chdir", "constraint", "hold", "partition", "wrap"})
"""Directives that make it a different job: several jobs, a different place, another user's account, or never started.
"""


def check_directives(report: Report, script: SlurmScript) -> None:
    """Check the directives of finetune.slurm against the plan."""
    for line, problem in script.problems:
        report.add("unreadable-file", problem, line=line)
    for line, placeholder in script.placeholders:
        report.add("placeholder-left", f"the placeholder {placeholder} was not replaced", actual=placeholder, line=line)
    active = _placement(report, script)
    _required(report, active)
    _resources(report, active)
    _files(report, active)
    _others(report, active, _USUAL | _gpu_directives(active) | _options(report, active))


def _placement(report: Report, script: SlurmScript) -> dict[str, Directive]:
    """Return the effective directives by name; report late and duplicate ones."""
    active: dict[str, Directive] = {}
    for directive in script.directives:
        name, line = directive.name, directive.line
        if directive.late:
            message = f"--{_shown(name)} comes after the first command, where sbatch ignores it"
            report.add("late-directive", message, field=name, actual=directive.value, line=line)
        elif name in active and not (name == "mail-type" and not report.bundled):
            message = f"--{_shown(name)} is set twice, first on line {active[name].line}"
            report.add("duplicate-directive", message, field=name, actual=directive.value, line=line)
            active[name] = directive  # sbatch uses the last one
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
    """Report a directive that is missing or differs; `reading` makes its text and the plan's comparable."""
    actual, line = (directive.value, directive.line) if directive else (None, None)
    where, arrived = f"--{name or setting}", actual is not None and reading(actual) == reading(str(expected))
    report.looked(setting, where, expected, actual, arrived=arrived, line=line)
    if not arrived:
        written = f"gpu:{expected}" if name == "gres" else ""
        report.differs(setting, where, expected, actual, line=line, note=note, written=written)


def _required(report: Report, active: dict[str, Directive]) -> None:
    name = report.planned("my_wandb_run_name") or report.run.directory
    _compare(report, "my_wandb_run_name", active.get("job-name"), name, name="job-name")
    time = report.planned("time")
    if time is not None:
        _compare(report, "time", active.get("time"), time, _seconds)


def _options(report: Report, active: dict[str, Directive]) -> frozenset[str]:
    """Check the directives of optional settings; return the names of the planned ones.

    Names and meanings are from sbatch(1). Settings of the submit line override the script, where they may be missing.
    """
    checked = _requeue(report, active)
    for setting, name in _OPTIONS.items():
        planned = report.planned(setting)
        if planned in {None, ""}:
            continue
        checked.add(name)
        if setting not in report.run.submitted:
            reading = _events if setting == "mail_type" else str
            _compare(report, setting, active.get(name), str(planned), reading, name=name)
    return frozenset(checked)


def _events(text: str) -> frozenset[str]:
    """Return the events of a job, lowercase and in any order."""
    return frozenset(text.upper().split(","))


def _requeue(report: Report, active: dict[str, Directive]) -> set[str]:
    planned = report.planned("requeue")
    if planned is None:
        return set()
    names = ("requeue", "no-requeue") if planned else ("no-requeue", "requeue")
    if "requeue" not in report.run.submitted:
        wanted, other = (active.get(name) for name in names)
        there = other or wanted
        actual, line = (f"--{there.name}", there.line) if there else (None, None)
        report.looked("requeue", f"--{names[0]}", planned, actual, arrived=there is not other, line=line)
        if other is not None:
            report.differs("requeue", "the requeue option", planned, f"--{other.name}", line=other.line)
        elif wanted is None:
            report.differs("requeue", f"--{names[0]}", planned)
    return set(names)


def _seconds(text: str) -> int | str:
    found = kinds.slurm_seconds(text)
    return text if found is None else found


def gpus_in(text: str) -> int:
    """Return the number of GPUs that `--gres` or `--gpus` requests: `gpu:2`, `gpu:a100:2`, `gpu`, `2`, `a100:2`."""
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
    """Return the memory that `--mem` requests, as sbatch reads it (a bare number is megabytes), or invalid text."""
    match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)B?", text.strip().upper(), re.ASCII)
    return int(match[1]) * _MEMORY[match[2]] if match else text


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else text


def _gpu_directives(active: dict[str, Directive]) -> frozenset[str]:
    """Return the directives that request the GPUs of the job; those of a task only if the script asks for one task."""
    is_one = any(name in active and _number(active[name].value) == 1 for name in ("ntasks", "ntasks-per-node"))
    return _GPUS | {"gpus-per-task"} if is_one else _GPUS


def _resources(report: Report, active: dict[str, Directive]) -> None:
    gpus = report.planned("gpus")
    given = [active[name] for name in sorted(_gpu_directives(active) & active.keys())]
    if gpus is not None:
        if not given:
            report.looked("gpus", "--gres", gpus, None, arrived=False)
            report.differs("gpus", "--gres=gpu", gpus)
        note = _ONE_GPU if gpus == 1 and not report.bundled and report.run.generation else ""
        for directive in given:
            _compare(report, "gpus", directive, gpus, gpus_in, name=directive.name, note=note)
    _gpu_type(report, given)
    for setting, name, reading in (("mem", "mem", kilobytes), ("cpus_per_task", "cpus-per-task", _number)):
        planned, found = report.planned(setting), active.get(name)
        if planned not in {None, ""}:
            _compare(report, setting, found, planned, reading, name=name)
        elif found is None and report.bundled:
            message = f"--{name} is missing, so the job gets the cluster's default"
            report.add("missing-value", message, field=setting)
    for name in _ONE:
        found = active.get(name)
        if found is not None and _number(found.value) != 1:
            message = f"--{name} is {quoted(found.value)}, but a run needs one task on one node"
            report.add("value-mismatch", message, field=name, expected=1, actual=found.value, line=found.line)


def _gpu_type(report: Report, given: list[Directive]) -> None:
    """Check the type of the GPUs in the directives that request GPUs."""
    planned = report.run.text("gpu_type")
    if "gpu_type" in report.run.submitted:
        return
    for directive in given:
        for found in _types_in(directive):
            if planned:
                where, arrived = f"--{directive.name}", found == planned
                report.looked("gpu_type", where, planned, found or None, arrived=arrived, line=directive.line)
            if planned and found != planned:
                where, code = f"the GPU type in --{directive.name}", "value-mismatch"
                report.differs("gpu_type", where, planned, found or None, code=code, line=directive.line)
            elif found and not planned:
                message = f"--{directive.name} requests GPUs of the type {quoted(found)}, which is not in the plan"
                report.unplanned(message, Severity.INFO, field="gpu_type", actual=found, line=directive.line)


def _types_in(directive: Directive) -> list[str]:
    """Return the GPU types of `gpu:a100:2` in `--gres`, or `a100:2` in `--gpus`; '' without a type."""
    found = []
    for item in directive.value.split(","):
        words = item.split("(", 1)[0].split(":")
        if directive.name == "gres" and words[0] != "gpu":
            continue
        words = words[1:] if directive.name == "gres" else words
        found.append("" if not words or words[0].isdigit() else words[0])
    return found


def _files(report: Report, active: dict[str, Directive]) -> None:
    """Check the directories of logs: SLURM creates none, and the job itself creates the run's output directory."""
    for name in ("output", "error"):
        directive = active.get(name)
        if directive is not None and "/" in directive.value:
            # the submit line creates a directory with a known name
            folder = directive.value.rpartition("/")[0] or "/"
            made = "%" not in folder
            report.unplanned(
                f"--{name} is {quoted(directive.value)}, but SLURM does not create the directory {quoted(folder)}, so"
                " the job may fail",
                Severity.INFO if made else Severity.WARNING,
                field=name,
                expected="a file name without a directory",
                actual=directive.value,
                line=directive.line,
                fix=None if report.bundled else _MADE if made else _MAKE,
            )


def _others(report: Report, active: dict[str, Directive], checked: frozenset[str]) -> None:
    always = _ALWAYS.get(report.run.generation, {})
    for name, directive in active.items():
        if name in checked:
            continue
        severity, fix = Severity.INFO if name in _HARMLESS else Severity.WARNING, None
        if name in always and re.fullmatch(always[name], directive.value):
            severity, fix = Severity.INFO, "no action needed: the setup_finetune.py in use always writes this directive"
        elif name in _ANOTHER_JOB:
            severity = Severity.ERROR
        has = f"is {quoted(directive.value)}, which" if directive.value else "is set, but"
        message = f"--{_shown(name)} {has} is not in the plan"
        report.unplanned(message, severity, field=name, actual=directive.value, line=directive.line, fix=fix)


# The environment of the training.

ASSIGNED: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<part>\+|\[[^]]*\])?=(?P<value>.*)", re.DOTALL)
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
}
"""Variables of huggingface_hub, datasets, transformers and wandb that keep a job from waiting for the internet."""

_MODULE_VERBS: Final = {
    **dict.fromkeys(("add", "load"), "load"),
    **dict.fromkeys(("del", "delete", "remove", "rm", "unload"), "unload"),
    **dict.fromkeys(("purge", "reset", "restore"), "purge"),
    **dict.fromkeys(("swap", "switch"), "swap"),
}
_MODULE_QUERIES: Final = frozenset(
    {"av", "avail", "help", "keyword", "list", "save", "show", "spider", "unuse", "use", "whatis"}
)
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_NO_DEVICES: Final = frozenset({"", "-1", "NoDevFiles", "none", "void"})
_OWN_PATHS: Final = ("$PATH", "${PATH", "$CONDA_PREFIX", "${CONDA_PREFIX", "$VIRTUAL_ENV", "${VIRTUAL_ENV")

ACTIVATES: Final = frozenset({*((name, "activate") for name in CONDA), ("source", "activate"), (".", "activate")})
_ACTIVATE: Final = "/bin/activate"
# `conda activate` is a function of the shell: `eval "$(conda shell.bash hook)"` or `source .../conda.sh` defines it.
_HOOK: Final = re.compile(r"\bshell\b.*\bhook\b|/conda\.sh$")


def check_modules(report: Report, commands: list[Command]) -> None:
    """Check the modules that the job loads, their order, and that they stay loaded."""
    changes = [(verb, name, c) for c in commands for verb, name in _module_changes(c.words)]
    found = [(name, c.line) for verb, name, c in changes if verb == "load"]
    planned = [name.strip() for name in str(report.planned("modules") or "").split(",") if name.strip()]
    names = [name for name, _ in found]
    lines = dict(reversed(found))
    for name in planned:
        where, arrived = f"`module load {name}`", name in lines
        report.looked("modules", where, name, name if arrived else None, arrived=arrived, line=lines.get(name))
        if not arrived:
            report.differs("modules", where, name)
    for name, line in found:
        if name not in planned:
            message = f"`module load {quoted(name)}` is not in the plan"
            is_version = any(_is_module(_base(name), other) for other in planned)
            severity = Severity.WARNING if is_version else Severity.INFO
            report.unplanned(message, severity, field="modules", actual=name, line=line)
    order = [name for name in names if name in planned]
    if order != planned and sorted(order) == sorted(planned):
        expected, actual = ", ".join(planned), ", ".join(order)
        report.differs("modules", "the order of the modules in `module load`", expected, actual, line=found[0][1])
    for name in dict.fromkeys(name for name in planned if name in lines):
        *_, last = (n for n, change in enumerate(changes) if change[:2] == ("load", name))
        lost = next((c for verb, other, c in changes[last:] if verb != "load" and _is_module(other, name)), None)
        if lost is not None:
            message = f"{quoted(' '.join(lost.words))} unloads the planned module {quoted(name)} after it is loaded"
            report.unplanned(message, Severity.WARNING, field="modules", expected=name, line=lost.line)


def _module_changes(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what `module` or `ml` does: `load` or `unload` with each name; without a name it unloads all modules."""
    rest = [word for word in words[1:] if not word.startswith("--")]
    if words[0] not in {"ml", "module"} or not rest:
        return []
    if words[0] == "ml" and rest[0] not in _MODULE_VERBS:
        names = [] if rest[0] in _MODULE_QUERIES else rest
        return [("unload", name[1:]) if name.startswith("-") else ("load", name) for name in names]
    verb = _MODULE_VERBS.get(rest[0], "")
    names = [name for name in rest[1:] if not name.startswith("-")]
    if verb == "swap":  # one name replaces another version
        return [("unload", _base(names[0]) if names[1:] == [] else names[0]), ("load", names[-1])] if names else []
    return [("unload", "")] if verb == "purge" else [(verb, name) for name in names if verb]


def _base(name: str) -> str:
    return name.partition("/")[0]


def _is_module(name: str, planned: str) -> bool:
    """Return whether a name in `module unload` is that of a module, with or without the version."""
    return name in {"", planned, _base(planned)}


def check_environment(report: Report, commands: list[Command]) -> None:
    """Check the conda environment, or the virtual environment if planned; the last activation is used."""
    venv, conda = report.run.text("venv").strip("/"), report.run.text("conda_env")
    if venv:
        sources = [c for c in commands if _sources(c.words)]
        actual = sources[-1].words[-1].removesuffix(_ACTIVATE) if sources else None
        good = actual is not None and f"/{normal_path(actual)}".endswith(f"/{venv}")
        _activation(report, "venv", venv, actual, sources, good=good)
    elif conda:
        activations = [c for c in commands if _activates(c.words)]
        actual = " ".join(activations[-1].words[2:]) if activations else None
        _activation(report, "conda_env", conda, actual, activations, good=actual == conda)
        if activations and report.bundled:
            _hook(report, commands[: commands.index(activations[-1])], activations[-1].line)


def _activates(words: tuple[str, ...]) -> bool:
    """Return whether a command is `conda activate NAME` or an equivalent, as `source /opt/conda/bin/activate NAME`."""
    is_program = len(words) > 2 and words[0] in {"source", "."} and words[1].endswith(_ACTIVATE)  # noqa: PLR2004
    return words[:2] in ACTIVATES or is_program


def _activation(
    report: Report, setting: str, planned: str, actual: str | None, activations: list[Command], *, good: bool
) -> None:
    line, where = activations[-1].line if activations else None, "the activation of the environment"
    report.looked(setting, where, planned, actual, arrived=good, line=line)
    if good:
        return
    if actual is not None:
        report.differs(setting, "the activated environment", planned, actual, line=line)
        return
    message = f"the environment {quoted(planned)} is not activated"
    fix: str | None = None
    if not report.bundled and report.planned("modules") and report.run.generation:
        message += (
            "; known bug of cruijff_kit's setup_finetune.py: if modules are set, it deletes every line that contains"
            " 'conda'"
        )
        fix = "remove the modules from the documents, or specify a venv instead of a conda environment"
        fix = f"{fix}; then scaffold again"
    report.add("missing-value", message, field=setting, expected=planned, line=line, fix=fix)


def _hook(report: Report, commands: list[Command], line: int) -> None:
    """Check the commands before `conda activate`: the shell of a job reads none of the user's startup files."""
    if not any(_HOOK.search(word) for command in commands for word in command.words):
        message = (
            "the shell hook of conda is not loaded before `conda activate`, so this command fails in the job's shell"
        )
        expected = 'eval "$(conda shell.bash hook)"'
        report.add("missing-value", message, field="conda_env", expected=expected, line=line)


def check_exports(report: Report, commands: Sequence[Command]) -> None:
    """Check the variables that the commands pass to the last of them, the training."""
    found = _exported(commands)
    planned = report.planned("offline") is True and "offline" not in report.run.submitted
    for name, value in _OFFLINE.items() if planned else ():
        actual, line = found.pop(name, (None, None))
        report.looked("offline", name, value, actual, arrived=actual == value, line=line)
        if actual != value:
            report.differs("offline", f"the variable {name} before `tune run`", value, actual, line=line)
    for name, (value, line) in found.items():
        if name in _OFFLINE:
            message = f"the job exports {quoted(name)} as {quoted(value)}, which is not in the plan"
            report.unplanned(message, Severity.INFO, field="offline", actual=value, line=line)


def check_variables(report: Report, commands: Sequence[Command]) -> None:
    """Check that neither a command after the activation nor a variable changes the environment of the last command."""
    own = [c for c in commands if commands[-1].nested or not c.nested]
    setting = "venv" if report.run.text("venv") else "conda_env"
    planned = report.run.text(setting).strip("/")
    activates = _sources if setting == "venv" else _activates
    active = [n for n, command in enumerate(own) if activates(bare(command))]
    for command in own[active[-1] + 1 :] if active and planned else ():
        if _leaves(bare(command), setting) or any(
            _hides(name, value, planned) for name, value in _set_by(command, is_last=command is own[-1])
        ):
            text = " ".join(command.words)
            message = f"{quoted(text)} may change the environment {quoted(planned)} after its activation"
            line = command.line
            report.unplanned(message, Severity.WARNING, field=setting, expected=planned, actual=text, line=line)
    _visible_gpus(report, own)


def _sources(words: tuple[str, ...]) -> bool:
    return words[:1] in {("source",), (".",)} and words[-1].endswith(_ACTIVATE)


def _leaves(words: tuple[str, ...], setting: str) -> bool:
    """Return whether a command deactivates the environment, or activates one of another kind."""
    is_other = _sources(words) if setting == "conda_env" else words[:2] in ACTIVATES
    return is_other or words[-1:] == ("deactivate",)


def _hides(name: str, value: str, planned: str) -> bool:
    """Return whether a variable may put another torchtune in front of the planned one."""
    if name == "PYTHONPATH":
        return "torchtune" in value
    folders = value.split(":")
    own = next((n for n, folder in enumerate(folders) if folder.startswith(_OWN_PATHS)), len(folders))
    others = [f for f in folders[:own] if "cuda" not in f.lower() and not f.endswith(f"/{planned}/bin")]
    return name == "PATH" and (bool(others) or own == len(folders))


def _set_by(command: Command, *, is_last: bool) -> list[tuple[str, str]]:
    """Return the variables that a command sets for the last command, which may be itself."""
    words = split(command.words)[0] if is_last else plain(command.words)
    found = [(match["name"], match["value"]) for word in words if (match := ASSIGNED.fullmatch(word))]
    others = [word for word in words if not ASSIGNED.fullmatch(word) and not word.startswith("-")]
    return found if is_last or others in ([], ["export"], ["declare"], ["typeset"], ["readonly"]) else []


def _visible_gpus(report: Report, commands: Sequence[Command]) -> None:
    """Check that the last command sees the planned GPUs."""
    gpus, value, line, is_sure = str(report.planned("gpus")), "$", 0, False
    for command, runs in zip(commands, reached(commands), strict=True):
        is_last = command is commands[-1]
        for name, text in _set_by(command, is_last=is_last):
            if name == _VISIBLE:
                value, line, is_sure = text, command.line, is_last or runs is Runs.ALWAYS
        if bare(command) == ("unset", _VISIBLE):
            value = "$"
    if "$" in value or "`" in value or not gpus.isdecimal():
        return
    devices = [device.strip() for device in value.split(",")]
    listed = next((n for n, device in enumerate(devices) if device in _NO_DEVICES), len(devices))
    # CUDA ignores the devices from the first one on that does not exist
    seen = next((n for n, each in enumerate(devices[:listed]) if each.isdecimal() and int(each) >= int(gpus)), listed)
    if seen < int(gpus):
        severity = Severity.ERROR if is_sure and listed < int(gpus) else Severity.WARNING
        message = f"{_VISIBLE} is {quoted(value)}, so `tune run` may see fewer GPUs than the planned {gpus}"
        text = f"{_VISIBLE}={value}"
        report.unplanned(message, severity, field=_VISIBLE, expected=int(gpus), actual=text, line=line)


def only_exports(words: Sequence[str]) -> bool:
    """Return whether a command only sets or exports variables that `check_exports` checks."""
    return all(word.partition("=")[0] in _OFFLINE for word in words if word != "export")


def _exported(commands: Sequence[Command]) -> dict[str, tuple[str, int]]:
    """Return the exported variables, and those before the last command's name, with their lines."""
    found: dict[str, tuple[str, int]] = {}
    for command in commands:
        is_export = command.words[:1] == ("export",)
        for word in command.words if is_export else split(command.words)[0] if command is commands[-1] else ():
            if match := ASSIGNED.fullmatch(word):
                found[match["name"]] = (match["value"], command.line)
    return found


# The directory of the training.

# The directory in which sbatch was called.
SUBMITTED: Final = re.compile(
    r"\.|\$\(pwd\)|\$(?:PWD|SLURM_SUBMIT_DIR)|\$\{(?:PWD|SLURM_SUBMIT_DIR)(?::?-[^{}]*(?:\{[A-Z_]+\})?)?\}"
)
_LONGEST_PATH: Final = 4096
COPIES: Final = frozenset({"cp", "install", "ln", "mv", "rsync"})
_COPIED: Final = re.compile(r"finetune\.yaml$|\*$|\.$|\bPWD\b|\bSLURM_SUBMIT_DIR\b")


class _Directory:
    """The current directory of a shell that starts in the run directory, of which no parents are known."""

    def __init__(self, name: str) -> None:
        self.start = self.here = self.before = f"/{name}"
        self.stack: list[str] = []

    def change(self, program: str, folder: str) -> None:
        """Apply `cd FOLDER`, `pushd FOLDER` or `popd`."""
        here = self.here
        if program == "popd":
            self.here = self.stack.pop() if self.stack else self.start
        else:
            self.here = self.before if folder == "-" else _changed(here, self.start, folder)
            self.stack += [here] if program == "pushd" else []
        self.before = here


def check_directory(report: Report, commands: Sequence[Command], training: Command) -> None:
    """Check that `tune run`, the last command, starts in the run directory; others have a different finetune.yaml.

    It is a warning if the directory depends on a variable or a condition, or if files were copied there.
    """
    directory, is_copied = _Directory(report.run.directory), False
    folder, line, is_certain = "", training.line, True
    for command, runs in zip(commands, reached(commands), strict=True):
        words = [word for word in bare(command) if not re.fullmatch("-[A-Za-z-]+", word)]
        if words[:1] and words[0] in COPIES and any(_COPIED.search(word) for word in words):
            is_copied = True
        is_lost = command.nested and not training.nested  # a subshell has a directory of its own
        if words[:1] and words[0] in {"cd", "pushd", "popd"} and not is_lost:
            directory.change(words[0], " ".join(words[1:]))
            folder, line, is_certain = " ".join(bare(command)[1:]), command.line, runs is Runs.ALWAYS
    for each in _started_in(split(commands[-1].words)[0]):
        directory.change("cd", each)
        folder, line, is_certain = each, training.line, True
    is_submitted = any(word.endswith(FINETUNE_YAML) and "SLURM_SUBMIT_DIR" in word for word in training.words)
    here = directory.here
    if here == directory.start or here.endswith(f"/{report.run.directory}") or is_submitted:
        return
    is_certain = is_certain and not ("$" in here or "`" in here or is_copied)
    reads = "reads" if is_certain else "may read"
    message = (
        f"the job changes to the directory {quoted(folder)}, so `tune run` {reads} a finetune.yaml that does not"
        " belong to this run"
    )
    severity, own = Severity.ERROR if is_certain else Severity.WARNING, report.run.directory
    report.unplanned(message, severity, field="cd", expected=own, actual=folder, line=line)


def _started_in(launch: Sequence[str]) -> list[str]:
    """Return the directories to which the launchers of `tune run` change."""
    found = []
    for program, words in launchers(launch):
        option = {"srun": "-D", "env": "-C"}.get(program, "")
        for one, two in pairwise([*words, ""]) if option else ():
            if one in {option, "--chdir"}:
                found.append(two)
            elif one.startswith(("--chdir=", option)):
                found.append(one.removeprefix("--chdir=").removeprefix(option))
    return found


def _changed(here: str, start: str, folder: str) -> str:
    """Return the directory after `cd FOLDER`; `start` is the directory in which sbatch was called."""
    if (known := SUBMITTED.match(folder)) and folder[known.end() : known.end() + 1] in {"", "/"}:
        here, folder = start if "SUBMIT" in known[0] else here, folder[known.end() :].lstrip("/")
    if folder[:1] in {"$", "~", "`"}:
        return folder.rstrip("/")
    is_usable = (folder or known) and len(here) < _LONGEST_PATH
    return posixpath.normpath(posixpath.join(here, folder)) if is_usable else "~"


def check_folders(report: Report, commands: list[Command]) -> None:
    """Check that the job only makes directories of its own run."""
    own = output_dir(report.run)
    made = [(word, c.line) for c in commands if c.words[0] == "mkdir" for word in c.words[1:] if word.startswith("/")]
    for folder, line in made:
        if own is not None and not below(folder, own):
            message = f"the job creates the directory {quoted(folder)}, which is outside the run's output directory"
            field = "output_dir_base"
            report.unplanned(message, Severity.WARNING, field=field, expected=own, actual=folder, line=line)
