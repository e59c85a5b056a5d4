"""The external setup_finetune.py that the operator named: what it takes, and whether it takes the plan."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from scaffold_torchtune.errors import Finding, Refused, errors_in, finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.models.plan import Plan
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


def trial(plan: Plan, first: Rendered, interface: Interface | None, request: Request) -> list[Finding]:
    """What the script makes of the first run, in an empty directory, before anything is written: why it would fail.

    A script that could not say what it takes is not tried: nothing is known of what else it does.
    """
    if interface is None or interface.options is None:
        return []
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
    return errors_in(validate_run(first.run, {SETUP_YAML: first.text, **texts}, bundled=False))


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
