"""The environment in which an external script runs: as claude.local.md names it, activated once, or as it is."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scaffold_torchtune.activation import Fault, Wanted, activate, problem
from scaffold_torchtune.findings import Finding, Refused, finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.pipeline.locate import expanded
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.stopping import Interrupted
from scaffold_torchtune.shared import processes
from scaffold_torchtune.shared.processes import Environment
from scaffold_torchtune.shared.text import shown

SWITCH: Final = "SCAFFOLD_TORCHTUNE_ACTIVATE"
"""The environment variable that is `off` where nothing must be activated."""

VENV: Final = "SCAFFOLD_TORCHTUNE_VENV"
"""The environment variable that stands for --venv."""

_SECONDS: Final = 120.0  # for all of an activation; conda on a slow file system takes ten

_Key = tuple[Wanted, tuple[tuple[str, str], ...]]
_activated: dict[_Key, dict[str, str]] = {}
_one_at_a_time = threading.Lock()


def environment_of(settings: Mapping[str, Setting], request: Request) -> Environment:
    """The environment with what `wanted` says active; activated at most once in this process, and then remembered.

    Raises:
        Refused: it cannot be activated; names the line that asks for it, and what there is instead.
        Interrupted: who asked for it wants it to end.
    """
    named = wanted(settings, request)
    if named.is_active(os.environ):
        return _as_it_is(named, active=True)
    if not activates(request):
        return _as_it_is(named, active=False)
    found = _activate(named, request)
    if isinstance(found, Fault):
        if request.stop.is_set():
            raise Interrupted
        raise _refused(problem(found, named, settings))
    environment = Environment(processes.python(found), found, _how(named, "activated once"), named.environment)
    without = _without_python(named, found)
    if without is not None:
        raise _refused(without)
    return environment


def wanted(settings: Mapping[str, Setting], request: Request) -> Wanted:
    """The modules of `settings`, and their conda environment or the virtual one that the operator named.

    Raises:
        Refused: that virtual environment is not there.
    """
    texts = {name: str(settings[name].value or "") for name in ("modules", "conda_env") if name in settings}
    modules = tuple(name.strip() for name in texts.get("modules", "").split(",") if name.strip())
    named = str(request.venv or os.environ.get(VENV) or "")
    if not named:
        return Wanted(modules, texts.get("conda_env", ""))
    venv = os.path.abspath(expanded(Path(named)))  # noqa: PTH100 - a link is called by its own name
    if not Path(venv, "bin", "activate").is_file():
        message = f"there is no virtual environment at {shown(venv)}: it has no bin/activate"
        fix = f"correct --venv or {VENV}, make it (python3 -m venv {venv}), or add --no-activate"
        raise _refused(finding("environment-missing", message, field="venv", actual=venv, fix=fix))
    return Wanted(modules, venv=venv)


def activates(request: Request) -> bool:
    """Whether the operator lets anything be activated."""
    return request.activate and os.environ.get(SWITCH) != "off"


def _activate(named: Wanted, request: Request) -> dict[str, str] | Fault:
    """The variables of the activated environment; what fails is tried anew each time."""
    ours = processes.environment()
    key = (named, tuple(sorted(ours.items())))
    with _one_at_a_time:
        if key not in _activated:
            found = activate(named, ours, min(request.timeout, _SECONDS), request.stop)
            if isinstance(found, Fault):
                return found
            _activated[key] = found
        return _activated[key]


def _as_it_is(named: Wanted, *, active: bool) -> Environment:
    how = _how(named, "active already") if active else "the environment as it is, nothing activated"
    name = named.environment if active else ""
    return Environment(processes.python(), processes.environment(), how, name, named.commands)


def _how(named: Wanted, word: str) -> str:
    """`the conda environment cruijff, activated once, after module load anaconda3/2025.6`."""
    if not (named.environment or named.modules):
        return "the environment as it is"
    load = f"module load {' '.join(named.modules)}" if named.modules else ""
    if not named.environment:
        return f"{load}, {word}"
    return f"{named.environment}, {word}" + (f", after {load}" if load else "")


def _without_python(named: Wanted, variables: Mapping[str, str]) -> Finding | None:
    """That an environment has no Python of its own: another one would run the script, without its packages."""
    prefix = variables.get("VIRTUAL_ENV" if named.venv else "CONDA_PREFIX", "")
    if not named.environment or os.access(Path(prefix, "bin", "python"), os.X_OK):
        return None
    message = f"{named.environment} has no Python of its own (no bin/python in {shown(prefix)})"
    fix = f"install Python there: conda install -n {named.conda_env} python; or make it anew"
    return finding("activation-failed", message, field="venv" if named.venv else "conda_env", fix=fix)


def _refused(found: Finding) -> Refused:
    return Refused("the environment of the setup script is not to be had", [found])
