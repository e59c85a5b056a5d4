"""The environment of an external setup script, what it takes, and a trial of it on the plan."""

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Refused, errors_in, finding
from scaffold_torchtune.models import Interface, Plan, PlannedRun, Setting
from scaffold_torchtune.pipeline.locate import expanded
from scaffold_torchtune.render import Rendered
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.setup import run_script
from scaffold_torchtune.setup.external import InterfaceFault, ask_interface
from scaffold_torchtune.setup.external.activation import Fault, Wanted, activate, activation_problem
from scaffold_torchtune.setup.external.failures import lacking, remedy
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.layout import SETUP_YAML
from scaffold_torchtune.system.processes import Environment
from scaffold_torchtune.system.text import escape, shown
from scaffold_torchtune.validate.runs import validate_run

# The environment in which an external script runs: as claude.local.md names it, activated once, or as it is.

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
        raise _refused(activation_problem(found, named, settings))
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


# The external setup_finetune.py that the operator named: what it takes, and whether it takes the plan.

_ASK_SECONDS = 120.0
_KIND = ("torchtune_model_name", "custom_recipe", "gpus", "dataset_type", "dataset_ext")
_MOST_TRIED = 8


def interface_of(setup_script: str, settings: Mapping[str, Setting], request: Request) -> Interface | None:
    """What the script takes in the environment of `settings`; None for the bundled setup_finetune.

    Raises:
        Refused: it cannot run here.
    """
    if setup_script == "bundled":
        return None
    environment = environment_of(settings, request)
    found = ask_interface(
        Path(setup_script), environment.python, environment.variables, min(request.timeout, _ASK_SECONDS)
    )
    if isinstance(found, Interface):
        return found
    raise _cannot_run(setup_script, found, environment)


def trial(
    plan: Plan, rendered: Sequence[Rendered], interface: Interface | None, request: Request
) -> list[tuple[PlannedRun, Finding]]:
    """What the script makes of the first run of each kind, before anything is written: why that run would fail.

    Kinds differ in what scripts have tables and branches for: model, recipe, GPUs, data. Each is tried in an empty
    directory. A script that could not say what it takes is not tried: nothing is known of what else it does.
    """
    if interface is None or interface.options is None:
        return []
    kinds: dict[tuple[object, ...], Rendered] = {}
    for one in rendered:
        kinds.setdefault(tuple(one.run.settings.get(name) and one.run.settings[name].value for name in _KIND), one)
    found: dict[tuple[object, ...], tuple[PlannedRun, Finding]] = {}
    for one in list(kinds.values())[:_MOST_TRIED]:
        for each in _tried(plan, one, request):
            found.setdefault((each.code, each.field, each.message), (one.run, each))
    return list(found.values())


def _tried(plan: Plan, first: Rendered, request: Request) -> list[Finding]:
    """Why a run would fail, or would not pass as it is planned."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, SETUP_YAML).write_text(first.text, encoding="utf-8")
        environment = environment_of(first.run.settings, request)
        outcome = run_script(Path(plan.options.setup_script), Path(folder), request.timeout, environment)
    if outcome.reason:
        message = f"the setup script would fail for {first.run.directory}: {outcome.reason}"
        fix = outcome.cause.fix or "correct what it names, or name another version"
        fix += "; or use --setup-script bundled"
        return [finding("setup-would-fail", message, field="setup_script", file=plan.options.setup_script, fix=fix)]
    texts = {name: content.decode("utf-8", "replace") for name, content in outcome.files.items()}
    found = errors_in(validate_run(first.run, {SETUP_YAML: first.text, **texts}, bundled=False))
    return [_before(each, first.run) for each in found]


def _before(found: Finding, run: PlannedRun) -> Finding:
    """A finding about files that nobody has yet: what to do is another thing than with files that are there."""
    is_value = found.code == "value-mismatch" and found.field in run.settings
    instead = f"plan what it writes ({shown(found.actual)}), " if is_value else ""
    fix = f"{instead}name another setup_finetune.py, or use --setup-script bundled"
    return found.model_copy(update={"message": f"{found.message} (tried for {run.directory})", "fix": fix})


def _cannot_run(setup_script: str, fault: InterfaceFault, environment: Environment) -> Refused:
    lacks = lacking(fault.reason)
    if lacks:
        wrong, fix = remedy(lacks, Path(setup_script), environment)
        message = f"the setup script {shown(setup_script)} cannot run: {wrong}. It said: {escape(fault.reason)}"
        code = "package-missing"
    else:
        message = f"the setup script {shown(setup_script)} cannot run: {escape(fault.reason)}"
        fix = "activate the environment that it needs, then scaffold again"
        code = "script-unasked"
    fix += "; or use --setup-script bundled"
    problem = finding(code, message, field="setup_script", file=setup_script, fix=fix)
    return Refused("the setup script cannot run", [problem])
