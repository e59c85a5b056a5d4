"""Says why nothing was activated, where that was asked for, and what there is instead."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from scaffold_torchtune.activation.report import Fault
from scaffold_torchtune.activation.wanted import Wanted
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.shared.text import close_matches, did_you_mean, escape, few, shown

_MOST: Final = 12  # how many modules or environments are named
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


def problem(fault: Fault, wanted: Wanted, settings: Mapping[str, Setting]) -> Finding:
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
    near = versions or _by_base(base, known) or close_matches(fault.what, known, _MOST)
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
    return few([escape(name) for name in names], _MOST) or None


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
