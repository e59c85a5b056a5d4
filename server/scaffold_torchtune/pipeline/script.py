"""The external setup_finetune.py that the operator named: what it takes, and whether it takes the plan."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from scaffold_torchtune.findings import Finding, Refused, errors_in, finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.script import Interface
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.surroundings import environment_of
from scaffold_torchtune.render import Rendered
from scaffold_torchtune.setup import run_script
from scaffold_torchtune.setup_script import Fault, ask
from scaffold_torchtune.shared.layout import SETUP_YAML
from scaffold_torchtune.shared.packages import lacking, remedy
from scaffold_torchtune.shared.processes import Environment
from scaffold_torchtune.shared.text import escape, shown
from scaffold_torchtune.validate import validate_run

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
    found = ask(Path(setup_script), environment.python, environment.variables, min(request.timeout, _ASK_SECONDS))
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


def _cannot_run(setup_script: str, fault: Fault, environment: Environment) -> Refused:
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
