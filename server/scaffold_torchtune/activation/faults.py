"""Says why nothing was activated, where that was asked for, and what there is instead."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from scaffold_torchtune.activation.report import Fault
from scaffold_torchtune.activation.wanted import Wanted
from scaffold_torchtune.errors import Finding, finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.shared.text import close_matches, did_you_mean, escape, shown

_MOST: Final = 12  # how many modules or environments are named
_LONGEST: Final = 400
_TELLING: Final = re.compile(r"error|not found|could not|cannot|unable", re.IGNORECASE)
# `gcc/12(default)`, `gcc/12 <L>`: what `module avail` says beside a name.
_REMARK: Final = re.compile(r"[\s(<].*")


def problem(fault: Fault, wanted: Wanted, settings: Mapping[str, Setting]) -> Finding:
    """The finding for a fault, at the line of the setting (`modules`, `conda_env`) that asks for it."""
    match fault.kind:
        case "modules":
            return _at(settings, "modules", "modules-missing", _no_modules(fault), None, _NO_MODULES, wanted)
        case "module":
            return _module(fault, wanted, settings)
        case "conda":
            return _at(settings, "conda_env", "conda-missing", _no_conda(fault, wanted), None, _NO_CONDA, wanted)
        case "environment":
            return _environment(fault, wanted, settings)
        case _:
            message = f"the environment could not be activated: {escape(fault.at or 'bash -l')}{_said(fault)}"
            return _at(settings, "conda_env", "activation-failed", message, None, _SHELL, wanted)


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


def _module(fault: Fault, wanted: Wanted, settings: Mapping[str, Setting]) -> Finding:
    """A module that is not there, or one that is and cannot be loaded."""
    known = modules(fault.there)
    if any(name == fault.what or name.startswith(f"{fault.what}/") for name in known):
        message = f"the module {shown(fault.what)} is there, but cannot be loaded{_said(fault)}"
        fix = f"look at `module load {fault.what}`; it may need another module before it, or conflict with one"
        return _at(settings, "modules", "activation-failed", message, None, fix, wanted)
    base = fault.what.partition("/")[0]
    versions = [name for name in known if name.partition("/")[0] == base]
    near = versions or _by_base(base, known) or close_matches(fault.what, known, _MOST)
    message = f"there is no module {shown(fault.what)}{_said(fault)}"
    fix = f"name one that there is ({_listed(near)})" if near else f"look for it with `module avail {base}`"
    return _at(settings, "modules", "module-missing", message, _listed(near), fix, wanted)


def _by_base(base: str, known: Iterable[str]) -> list[str]:
    """Modules whose name without the version is nearly this one."""
    known = list(known)
    bases = close_matches(base, {name.partition("/")[0] for name in known})
    return [name for name in known if name.partition("/")[0] in bases]


def _environment(fault: Fault, wanted: Wanted, settings: Mapping[str, Setting]) -> Finding:
    """A conda environment that is not there, or one that is and cannot be activated."""
    known = environments(fault.there)
    if fault.what in known:
        message = f"the conda environment {shown(fault.what)} is there, but cannot be activated{_said(fault)}"
        fix = f"look at `conda activate {fault.what}` in a login shell"
        return _at(settings, "conda_env", "activation-failed", message, None, fix, wanted)
    message = f"there is no conda environment {shown(fault.what)}{_said(fault)}"
    meant = did_you_mean(fault.what, known)
    fix = f"{meant} Name one that there is" if known else "look at `conda env list`"
    fix = f"{fix.strip()}, or make it: conda create -n {fault.what}"
    return _at(settings, "conda_env", "environment-missing", message, _listed(known), fix, wanted)


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
    names = [escape(name) for name in names]
    more = f", and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more if names else None


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


def _at(
    settings: Mapping[str, Setting],
    field: str,
    code: str,
    message: str,
    expected: str | None,
    fix: str,
    wanted: Wanted,
) -> Finding:
    source = settings[field].source if field in settings else None
    yourself = f"; or activate it yourself ({wanted.commands}) and add --no-activate"
    return finding(
        code,
        message,
        field=field,
        expected=expected,
        actual=settings[field].text if field in settings else None,
        file=source.file if source else None,
        line=source.line if source else None,
        fix=fix + yourself,
    )
