"""The environment of an external setup script, its options, and a trial of the script on the plan."""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Refused, errors_in, escape, finding, shown
from scaffold_torchtune.models import Interface, Plan, PlannedRun, Setting
from scaffold_torchtune.pipeline.locate import expanded
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.setup import Rendered, run_script
from scaffold_torchtune.setup.external import (
    Activation,
    Fault,
    InterfaceFault,
    activate,
    activation_problem,
    ask_interface,
    lack_of,
)
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import is_file, temporary_directory
from scaffold_torchtune.system.layout import SETUP_YAML
from scaffold_torchtune.system.processes import Environment
from scaffold_torchtune.validate import validate_run

SWITCH: Final = "SCAFFOLD_TORCHTUNE_ACTIVATE"
"""The environment variable that disables activation with the value `off`."""

VENV: Final = "SCAFFOLD_TORCHTUNE_VENV"
"""The environment variable of the option --venv."""

_SECONDS: Final = 120.0  # for an activation (conda on a slow file system takes 10), and for listing a script's options
_KIND: Final = ("torchtune_model_name", "custom_recipe", "gpus", "dataset_type", "dataset_ext")
_MOST_TRIED: Final = 8

_activated: dict[tuple[Activation, tuple[tuple[str, str], ...]], dict[str, str]] = {}
_one_at_a_time = threading.Lock()


def environment_of(settings: Mapping[str, Setting], request: Request) -> Environment:
    """Return the environment that `settings` name; it is activated at most once in this process.

    Raises:
        Refused: it cannot be activated; contains the line of the setting, and the available names.
        Interrupted: the caller stopped the call.
    """
    named = activation_of(settings, request)
    if named.is_active(os.environ):
        how, name = _how(named, "active already"), named.environment
    elif activates(request):
        return _activated_environment(named, settings, request)
    else:
        how, name = "the current environment, nothing activated", ""
    return Environment(processes.python(), processes.environment(), how, name, named.commands)


def activation_of(settings: Mapping[str, Setting], request: Request) -> Activation:
    """Return the modules of `settings`, and their conda environment or the operator's virtual environment.

    Raises:
        Refused: the virtual environment does not exist.
    """
    texts = {name: str(settings[name].value or "") for name in ("modules", "conda_env") if name in settings}
    modules = tuple(name.strip() for name in texts.get("modules", "").split(",") if name.strip())
    named = str(request.venv or os.environ.get(VENV) or "")
    if not named:
        return Activation(modules, texts.get("conda_env", ""))
    venv = os.path.abspath(expanded(Path(named)))  # noqa: PTH100 - a link keeps its own name
    if not is_file(Path(venv, "bin", "activate")):
        message = f"{shown(venv)} is not a virtual environment: it has no bin/activate"
        fix = f"correct --venv or {VENV}, create it (python3 -m venv {venv}), or add --no-activate"
        raise _refused(finding("environment-missing", message, field="venv", actual=venv, fix=fix))
    return Activation(modules, venv=venv)


def activates(request: Request) -> bool:
    """Return whether the operator allows activation."""
    return request.activate and os.environ.get(SWITCH) != "off"


def _activated_environment(named: Activation, settings: Mapping[str, Setting], request: Request) -> Environment:
    ours = processes.environment()
    key = (named, tuple(sorted(ours.items())))
    with _one_at_a_time:  # a failure is not cached
        found = _activated.get(key) or activate(named, ours, min(request.timeout, _SECONDS), request.stop)
        if not isinstance(found, Fault):
            _activated[key] = found
    if isinstance(found, Fault):
        if request.stop.is_set():
            raise Interrupted
        raise _refused(activation_problem(found, named, settings))
    prefix = found.get("VIRTUAL_ENV" if named.venv else "CONDA_PREFIX", "")
    if named.environment and not os.access(Path(prefix, "bin", "python"), os.X_OK):
        # the script would run with another Python, without the packages of this environment
        message = f"{named.environment} has no Python of its own (no bin/python in {shown(prefix)})"
        fix = f"install Python there: conda install -n {named.conda_env} python; or create it again"
        field = "venv" if named.venv else "conda_env"
        raise _refused(finding("activation-failed", message, field=field, fix=fix))
    return Environment(processes.python(found), found, _how(named, "activated once"), named.environment)


def _how(named: Activation, word: str) -> str:
    """Return `the conda environment cruijff, activated once, after module load anaconda3/2025.6`."""
    load = f"module load {' '.join(named.modules)}" if named.modules else ""
    if not named.environment:
        return f"{load}, {word}" if load else "the current environment"
    return f"{named.environment}, {word}" + (f", after {load}" if load else "")


def _refused(found: Finding) -> Refused:
    return Refused("cannot activate the setup script's environment", [found])


def interface_of(setup_script: str, settings: Mapping[str, Setting], request: Request) -> Interface | None:
    """Return the script's options in the environment of `settings`; None for the bundled setup_finetune.

    Raises:
        Refused: the script cannot run on this machine.
    """
    if setup_script == "bundled":
        return None
    environment, script = environment_of(settings, request), Path(setup_script)
    try:
        return ask_interface(script, environment.python, environment.variables, min(request.timeout, _SECONDS))
    except InterfaceFault as fault:
        reason, lack = escape(str(fault)), lack_of(str(fault), script, environment)
        message = f"the setup script {shown(setup_script)} cannot run: "
        message += f"{lack.cause}. Its output: {reason}" if lack else reason
        fix = lack.fix if lack else "activate the environment that it needs, then scaffold again"
        fix, code = f"{fix}; or use --setup-script bundled", "package-missing" if lack else "script-unasked"
        problem = finding(code, message, field="setup_script", file=setup_script, fix=fix)
        raise Refused("the setup script cannot run", [problem]) from fault


def trial(
    plan: Plan, rendered: Sequence[Rendered], interface: Interface | None, request: Request
) -> list[tuple[PlannedRun, Finding]]:
    """Run the script for the first run of each kind, before anything is written; return the reasons of failures.

    Kinds differ in the settings for which scripts have tables and branches: model, recipe, GPUs, data. Each is tried in
    an empty directory. A script that does not list its options is not tried, because its effects are unknown.
    """
    if interface is None or interface.options is None:
        return []
    kinds: dict[tuple[object, ...], Rendered] = {}
    for one in rendered:
        kinds.setdefault(tuple(one.run.value(name) for name in _KIND), one)
    found: dict[Finding, tuple[PlannedRun, Finding]] = {}
    for one in list(kinds.values())[:_MOST_TRIED]:
        for each in _problems_of(plan, one, request):
            found.setdefault(each.unplaced(), (one.run, each))
    return list(found.values())


def _problems_of(plan: Plan, one: Rendered, request: Request) -> list[Finding]:
    """Return the reasons why a run would fail, or would not pass validation."""
    run, script = one.run, plan.options.setup_script
    with temporary_directory() as folder:
        Path(folder, SETUP_YAML).write_text(one.text, encoding="utf-8")
        outcome = run_script(Path(script), folder, request.timeout, environment_of(run.settings, request))
    if outcome.reason:
        message = f"the setup script would fail for {run.directory}: {outcome.reason}"
        fix = outcome.cause.fix or "correct the error, or name another version of the script"
        fix += "; or use --setup-script bundled"
        return [finding("setup-would-fail", message, field="setup_script", file=script, fix=fix)]
    texts = {name: content.decode("utf-8", "replace") for name, content in outcome.files.items()}
    found = errors_in(validate_run(run, {SETUP_YAML: one.text, **texts}, bundled=False))
    return [_planned_otherwise(each, run) for each in found]


def _planned_otherwise(found: Finding, run: PlannedRun) -> Finding:
    """Return a finding of a trial, with a fix for files that are not written yet."""
    is_value = found.code == "value-mismatch" and found.field in run.settings
    if found.field == "checkpoint_files":
        fix = "name the model's files as the script writes them, or use --setup-script bundled"
        return found.model_copy(update={"message": f"{found.message} (tried for {run.directory})", "fix": fix})
    instead = f"plan what it writes ({shown(found.actual)}), " if is_value else ""
    fix = f"{instead}name another setup_finetune.py, or use --setup-script bundled"
    return found.model_copy(update={"message": f"{found.message} (tried for {run.directory})", "fix": fix})
