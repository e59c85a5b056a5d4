"""Activation of the modules and the environment of an external script, once, in a login shell."""

import os
import re
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import Setting
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import open_regular, temporary_directory
from scaffold_torchtune.system.processes import VARIABLE
from scaffold_torchtune.system.text import close_matches, did_you_mean, escape, few, shown


@dataclass(frozen=True)
class Activation:
    """Modules, and a conda environment or, in its place, a virtual environment (its directory); empty for none."""

    modules: tuple[str, ...] = ()
    conda_env: str = ""
    venv: str = ""

    @property
    def environment(self) -> str:
        """What messages call the environment: `the conda environment cruijff`."""
        if self.venv:
            return f"the virtual environment {self.venv}"
        return f"the conda environment {self.conda_env}" if self.conda_env else ""

    @property
    def commands(self) -> str:
        """What a person would type: `module load anaconda3/2025.6; conda activate cruijff`."""
        commands = [f"module load {name}" for name in self.modules]
        if self.venv:
            commands.append(f"source {self.venv}/bin/activate")
        elif self.conda_env:
            commands.append(f"conda activate {self.conda_env}")
        return "; ".join(commands)

    def is_active(self, variables: Mapping[str, str]) -> bool:
        """Return whether all of it is active, by environment variables."""
        if self.venv:
            active = variables.get("VIRTUAL_ENV", "")
            is_found = bool(active) and os.path.realpath(active) == os.path.realpath(self.venv)
        else:
            is_found = variables.get("CONDA_DEFAULT_ENV", "") == self.conda_env or not self.conda_env
        loaded = variables.get("LOADEDMODULES", "").split(":")
        return is_found and all(
            any(one == name or one.startswith(f"{name}/") for one in loaded) for name in self.modules
        )


FaultKind = Literal["modules", "module", "conda", "environment", "venv", "shell"]
"""What went wrong: no `module` command, a module, no conda, a conda environment, a virtual one, the shell itself."""


@dataclass(frozen=True)
class Fault:
    """Why nothing was activated.

    `what` is the module or environment. `output` is what the failing command printed. `available` is what there is
    instead, as `module avail` or `conda env list` print it. `at` is the command that was at work.
    """

    kind: FaultKind
    what: str = ""
    output: str = ""
    available: str = ""
    at: str = ""


_OF_THE_SHELL: Final = frozenset({"PWD", "OLDPWD", "SHLVL", "_", VARIABLE})
"""What a shell sets for itself, and our own mark."""

PROGRAM: Final = Path(__file__).with_name("activate.sh")
"""A constant program: what documents name reaches it as arguments only."""

_MOST: Final = 4_000_000  # bytes of a report; an environment is a few kilobytes


def activate(
    asked: Activation, variables: Mapping[str, str], timeout: float, stop: threading.Event | None = None
) -> dict[str, str] | Fault:
    """Activate what is asked for in a login shell; return the variables of the environment then, or why it cannot be.

    Args:
        asked: names that are bare by their grammar; a virtual environment whose directory is there.
        variables: the environment to start from; it must hold neither secrets nor BASH_ENV.
        timeout: in seconds.
        stop: ends it when it is set.

    Returns:
        All variables of the new environment, without what is in no way for a script (`processes.cleaned`).
    """
    mark = f"@{secrets.token_hex(16)}"
    with temporary_directory() as folder:
        report = Path(folder, "report")
        report.touch()
        command = ["bash", "-l", str(PROGRAM), str(report), mark, variables.get("PATH", "")]
        command += [asked.venv, asked.conda_env, *asked.modules]
        try:
            done = processes.run(command, folder, timeout, stop, env=variables)
        except OSError as error:
            return Fault("shell", output=f"bash cannot be started: {error.strerror}")
        with open_regular(report) as file:
            found = _read_report(file.read(_MOST), mark)
    if not isinstance(found, Fault) or found.kind != "shell":
        return found
    if done.ended:
        return replace(found, output=f"it was ended after {timeout:g} s")
    return replace(found, output=f"bash ended with status {done.status}. {done.output[-2000:]}".strip())


def _read_report(report: bytes, mark: str) -> dict[str, str] | Fault:
    """Return the variables of the environment that activate.sh activated, or its fault.

    Of kind `shell` where the report stops midway.
    """
    texts, end = report.split(b"\0"), mark.encode()
    if texts.count(end) == 2:  # noqa: PLR2004 - before the variables and after them
        first = texts.index(end)
        pairs = [text.partition(b"=") for text in texts[first + 1 : texts.index(end, first + 1)]]
        variables = {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}
        return processes.environment({name: value for name, value in variables.items() if name not in _OF_THE_SHELL})
    words = [text.decode("utf-8", "replace") for text in texts]
    reported = dict(zip(words[::2], words[1::2], strict=False))
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    kind = next((kind for kind in kinds if kind == reported.get("fault")), kinds[-1])
    return Fault(kind, **{name: reported.get(name, "") for name in ("what", "output", "available", "at")})


_MOST_LISTED: Final = 12  # how many modules or environments are named
_LONGEST: Final = 400
_ERROR: Final = re.compile(r"error|not found|could not|cannot|unable", re.IGNORECASE)
# `gcc/12(default)`, `gcc/12 <L>`: what `module avail` says beside a name.
_REMARK: Final = re.compile(r"[\s(<].*")


_Problem = tuple[str, str, str, str, str | None]
"""The setting that a fault is about, the code, the message, the fix, what there is instead."""


def activation_problem(fault: Fault, asked: Activation, settings: Mapping[str, Setting]) -> Finding:
    """Return the finding for a fault, at the line of the setting (`modules`, `conda_env`) that asks for it."""
    field, code, message, fix, expected = _problem(fault, asked)
    setting = settings.get(field)
    return finding(
        code,
        message,
        field=field,
        expected=expected,
        actual=setting.text if setting else None,
        at=setting.source if setting else None,
        fix=f"{fix}; or activate it yourself ({asked.commands}) and add --no-activate",
    )


def _problem(fault: Fault, asked: Activation) -> _Problem:
    reason = _reason(fault.output)
    match fault.kind:
        case "modules":
            message = (
                f"the modules {escape(fault.what)} are to be loaded, but there is no `module` command here, neither in"
                " a login shell nor where Environment Modules and Lmod have theirs"
            )
            fix = (
                "scaffold where it is, mostly a login node; take the modules out of claude.local.md if none are needed"
            )
            return "modules", "modules-missing", message, fix, None
        case "module":
            return _module_problem(fault.what, modules(fault.available), reason)
        case "conda":
            after = f" after `module load {' '.join(asked.modules)}`" if asked.modules else " in a login shell"
            message = (
                f"the conda environment {shown(fault.what)} is to be activated, but there is no conda, mamba or"
                f" micromamba{after}, on PATH, in CONDA_EXE, or where people install it{reason}"
            )
            fix = (
                "add the module that brings conda to claude.local.md, set CONDA_EXE to the conda program, or name a"
                " virtual environment with --venv DIR"
            )
            return "conda_env", "conda-missing", message, fix, None
        case "environment":
            return _environment_problem(fault.what, environments(fault.available), reason)
        case _:
            message = f"the environment could not be activated: {escape(fault.at or 'bash -l')}{reason}"
            fix = "correct what it names, in the environment or in the shell's own profile"
            return "conda_env", "activation-failed", message, fix, None


def _module_problem(name: str, known: Sequence[str], reason: str) -> _Problem:
    """Describe a module that is not there, or one that is and cannot be loaded."""
    if any(one == name or one.startswith(f"{name}/") for one in known):
        message = f"the module {shown(name)} is there, but cannot be loaded{reason}"
        fix = f"look at `module load {name}`; it may need another module before it, or conflict with one"
        return "modules", "activation-failed", message, fix, None
    base, bases = name.partition("/")[0], [one.partition("/")[0] for one in known]
    similar = {base} if base in bases else {*close_matches(base, bases)}
    near = [one for one, its_base in zip(known, bases, strict=True) if its_base in similar]
    near = near or close_matches(name, known, _MOST_LISTED)
    fix = f"name one that there is ({_listed(near)})" if near else f"look for it with `module avail {base}`"
    return "modules", "module-missing", f"there is no module {shown(name)}{reason}", fix, _listed(near)


def _environment_problem(name: str, known: Sequence[str], reason: str) -> _Problem:
    """Describe a conda environment that is not there, or one that is and cannot be activated."""
    if name in known:
        message = f"the conda environment {shown(name)} is there, but cannot be activated{reason}"
        return "conda_env", "activation-failed", message, f"look at `conda activate {name}` in a login shell", None
    fix = f"{did_you_mean(name, known)} Name one that there is".lstrip() if known else "look at `conda env list`"
    fix = f"{fix}, or make it: conda create -n {name}"
    message = f"there is no conda environment {shown(name)}{reason}"
    return "conda_env", "environment-missing", message, fix, _listed(known)


def modules(avail: str) -> list[str]:
    """Return the names that `module -t avail` prints, of Environment Modules and Lmod: without headings and remarks.

    What ends in a slash is the name that versions have in common.
    """
    lines = (_REMARK.sub("", line.strip()) for line in avail.splitlines())
    return list(dict.fromkeys(line for line in lines if line and line[-1] not in ":/" and line[0] not in "-/"))


def environments(listed: str) -> list[str]:
    """Return the names that `conda env list` or `micromamba env list` prints: of lines that end in a path."""
    rows = [line.split() for line in listed.splitlines() if not line.startswith("#")]
    return [row[0] for row in rows if len(row) > 1 and row[-1].startswith("/") and not row[0].startswith(("/", "*"))]


def _listed(names: Iterable[str]) -> str | None:
    """Return at most so many names in a row."""
    return few([escape(name) for name in names], _MOST_LISTED) or None


def _reason(output: str) -> str:
    """Return the line that says most of what a command printed: the first that names an error, else the last.

    Where it ends in a colon, as Lmod has it, what stands below belongs to it.
    """
    lines = [line.strip() for line in output.splitlines()]
    at = next((n for n, line in enumerate(lines) if _ERROR.search(line)), None)
    if at is None:
        reason = next((line for line in reversed(lines) if line), "")
    else:
        end = next((n for n in range(at, len(lines)) if not lines[n]), len(lines)) if lines[at].endswith(":") else at
        reason = " ".join(lines[at : max(end, at + 1)])
    return f". It said: {escape(reason, _LONGEST)}" if reason else ""
