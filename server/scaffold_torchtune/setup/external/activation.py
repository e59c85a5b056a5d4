"""Activation of the modules and the environment of an external script, once, in a login shell."""

import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import Setting
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.processes import VARIABLE
from scaffold_torchtune.system.text import close_matches, did_you_mean, escape, few, shown

# What is to be active, and whether it is so already.


@dataclass(frozen=True)
class Wanted:
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
        """Whether environment variables tell that all of it is active."""
        if self.venv:
            active = variables.get("VIRTUAL_ENV", "")
            there = bool(active) and os.path.realpath(active) == os.path.realpath(self.venv)
        else:
            there = variables.get("CONDA_DEFAULT_ENV", "") == self.conda_env or not self.conda_env
        loaded = variables.get("LOADEDMODULES", "").split(":")
        return there and all(any(one == name or one.startswith(f"{name}/") for one in loaded) for name in self.modules)


# Reads what program.sh tells: the environment that it activated, or why there is none.

FaultKind = Literal["modules", "module", "conda", "environment", "venv", "shell"]
"""What went wrong: no `module` command, a module, no conda, a conda environment, a virtual one, the shell itself."""

_OF_THE_SHELL: Final = frozenset({"PWD", "OLDPWD", "SHLVL", "_"})


@dataclass(frozen=True)
class Fault:
    """Why nothing was activated.

    `what` is the module or environment. `said` is what the failing command printed. `there` is what there is instead,
    as `module avail` or `conda env list` print it. `at` is the command that was at work.
    """

    kind: FaultKind
    what: str = ""
    said: str = ""
    there: str = ""
    at: str = ""


def read_report(report: bytes, mark: str) -> dict[str, str] | Fault:
    """The variables of the environment that program.sh activated, or its fault.

    Of kind `shell` where the report stops midway. What a shell sets for itself is left out.
    """
    texts = report.split(b"\0")
    end = mark.encode()
    if texts.count(end) == 2:  # noqa: PLR2004 - before the variables and after them
        first = texts.index(end)
        pairs = [text.partition(b"=") for text in texts[first + 1 : texts.index(end, first + 1)]]
        variables = {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}
        return {name: value for name, value in variables.items() if name not in _OF_THE_SHELL}
    words = [text.decode("utf-8", "replace") for text in texts]
    told = dict(zip(words[::2], words[1::2], strict=False))
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    kind = next((kind for kind in kinds if kind == told.get("fault")), kinds[-1])
    return Fault(kind, **{name: told.get(name, "") for name in ("what", "said", "there", "at")})


# Runs program.sh, which activates what is wanted, in a login shell.

PROGRAM: Final = Path(__file__).with_name("activate.sh")
"""A constant program: what documents name reaches it as arguments only."""

_MOST: Final = 4_000_000  # bytes of a report; an environment is a few kilobytes


def activate(
    wanted: Wanted, variables: Mapping[str, str], timeout: float, stop: threading.Event | None = None
) -> dict[str, str] | Fault:
    """The environment variables with what is wanted active, or why it cannot be.

    Args:
        wanted: names that are bare by their grammar; a virtual environment whose directory is there.
        variables: the environment to start from; it must hold neither secrets nor BASH_ENV.
        timeout: in seconds.
        stop: ends it when it is set.

    Returns:
        All variables of the new environment, without what is in no way for a script (`processes.cleaned`).
    """
    mark = f"@{secrets.token_hex(16)}"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        report.touch()
        command = ["bash", "-l", str(PROGRAM), str(report), mark, variables.get("PATH", "")]
        command += [wanted.venv, wanted.conda_env, *wanted.modules]
        try:
            done = processes.run(command, Path(folder), timeout, stop, env=variables)
        except OSError as error:
            return Fault("shell", said=f"bash cannot be started: {error.strerror}")
        with report.open("rb") as file:
            found = read_report(file.read(_MOST), mark)
    if not isinstance(found, Fault):
        return processes.environment({name: value for name, value in found.items() if name != VARIABLE})
    if found.kind != "shell":
        return found
    if done.ended:
        return replace(found, said=f"it was ended after {timeout:g} s")
    return replace(found, said=f"bash ended with status {done.status}. {done.output[-2000:]}".strip())


# Says why nothing was activated, where that was asked for, and what there is instead.

_MOST_LISTED: Final = 12  # how many modules or environments are named
_LONGEST: Final = 400
_TELLING: Final = re.compile(r"error|not found|could not|cannot|unable", re.IGNORECASE)
# `gcc/12(default)`, `gcc/12 <L>`: what `module avail` says beside a name.
_REMARK: Final = re.compile(r"[\s(<].*")


class _Told(NamedTuple):
    """What is told of a fault: the setting that it is about, the code, the message, the fix, what there is instead."""

    field: str
    code: str
    message: str
    fix: str
    expected: str | None = None


def activation_problem(fault: Fault, wanted: Wanted, settings: Mapping[str, Setting]) -> Finding:
    """The finding for a fault, at the line of the setting (`modules`, `conda_env`) that asks for it."""
    told = _told(fault, wanted)
    setting = settings.get(told.field)
    return finding(
        told.code,
        told.message,
        field=told.field,
        expected=told.expected,
        actual=str(setting.value) if setting else None,
        at=setting.source if setting else None,
        fix=f"{told.fix}; or activate it yourself ({wanted.commands}) and add --no-activate",
    )


def _told(fault: Fault, wanted: Wanted) -> _Told:
    match fault.kind:
        case "modules":
            return _Told("modules", "modules-missing", _no_modules(fault), _NO_MODULES)
        case "module":
            return _module(fault)
        case "conda":
            return _Told("conda_env", "conda-missing", _no_conda(fault, wanted), _NO_CONDA)
        case "environment":
            return _environment(fault)
        case _:
            message = f"the environment could not be activated: {escape(fault.at or 'bash -l')}{_said(fault)}"
            return _Told("conda_env", "activation-failed", message, _SHELL)


_NO_MODULES: Final = (
    "scaffold where it is, mostly a login node; take the modules out of claude.local.md if none are needed"
)
_NO_CONDA: Final = (
    "add the module that brings conda to claude.local.md, set CONDA_EXE to the conda program, or name a virtual"
    " environment with --venv DIR"
)
_SHELL: Final = "correct what it names, in the environment or in the shell's own profile"


def _no_modules(fault: Fault) -> str:
    return (
        f"the modules {escape(fault.what)} are to be loaded, but there is no `module` command here, neither in a login"
        " shell nor where Environment Modules and Lmod have theirs"
    )


def _no_conda(fault: Fault, wanted: Wanted) -> str:
    after = f" after `module load {' '.join(wanted.modules)}`" if wanted.modules else " in a login shell"
    return (
        f"the conda environment {shown(fault.what)} is to be activated, but there is no conda, mamba or micromamba"
        f"{after}, on PATH, in CONDA_EXE, or where people install it{_said(fault)}"
    )


def _module(fault: Fault) -> _Told:
    """A module that is not there, or one that is and cannot be loaded."""
    known = modules(fault.there)
    if any(name == fault.what or name.startswith(f"{fault.what}/") for name in known):
        message = f"the module {shown(fault.what)} is there, but cannot be loaded{_said(fault)}"
        fix = f"look at `module load {fault.what}`; it may need another module before it, or conflict with one"
        return _Told("modules", "activation-failed", message, fix)
    base = fault.what.partition("/")[0]
    versions = [name for name in known if name.partition("/")[0] == base]
    near = versions or _by_base(base, known) or close_matches(fault.what, known, _MOST_LISTED)
    message = f"there is no module {shown(fault.what)}{_said(fault)}"
    fix = f"name one that there is ({_listed(near)})" if near else f"look for it with `module avail {base}`"
    return _Told("modules", "module-missing", message, fix, _listed(near))


def _by_base(base: str, known: Iterable[str]) -> list[str]:
    """Modules whose name without the version is nearly this one."""
    known = list(known)
    bases = close_matches(base, {name.partition("/")[0] for name in known})
    return [name for name in known if name.partition("/")[0] in bases]


def _environment(fault: Fault) -> _Told:
    """A conda environment that is not there, or one that is and cannot be activated."""
    known = environments(fault.there)
    if fault.what in known:
        message = f"the conda environment {shown(fault.what)} is there, but cannot be activated{_said(fault)}"
        fix = f"look at `conda activate {fault.what}` in a login shell"
        return _Told("conda_env", "activation-failed", message, fix)
    message = f"there is no conda environment {shown(fault.what)}{_said(fault)}"
    near = did_you_mean(fault.what, known)
    fix = f"{near} Name one that there is".lstrip() if known else "look at `conda env list`"
    fix = f"{fix}, or make it: conda create -n {fault.what}"
    return _Told("conda_env", "environment-missing", message, fix, _listed(known))


def modules(avail: str) -> list[str]:
    """The names that `module -t avail` prints, of Environment Modules and Lmod: without headings and remarks.

    What ends in a slash is the name that versions have in common.
    """
    lines = (_REMARK.sub("", line.strip()) for line in avail.splitlines())
    return list(dict.fromkeys(line for line in lines if line and line[-1] not in ":/" and line[0] not in "-/"))


def environments(listed: str) -> list[str]:
    """The names that `conda env list` or `micromamba env list` prints: of lines that end in a path."""
    rows = [line.split() for line in listed.splitlines() if not line.startswith("#")]
    return [row[0] for row in rows if len(row) > 1 and row[-1].startswith("/") and not row[0].startswith(("/", "*"))]


def _listed(names: Iterable[str]) -> str | None:
    """At most so many names in a row."""
    return few([escape(name) for name in names], _MOST_LISTED) or None


def _said(fault: Fault) -> str:
    """The line that tells most of what the command printed: the first that tells of an error, else the last.

    Where it ends in a colon, as Lmod has it, what stands below belongs to it.
    """
    lines = [line.strip() for line in fault.said.splitlines()]
    at = next((n for n, line in enumerate(lines) if _TELLING.search(line)), None)
    if at is None:
        telling = next((line for line in reversed(lines) if line), "")
    else:
        end = next((n for n in range(at, len(lines)) if not lines[n]), len(lines)) if lines[at].endswith(":") else at
        telling = " ".join(lines[at : max(end, at + 1)])
    return f". It said: {escape(telling, _LONGEST)}" if telling else ""
