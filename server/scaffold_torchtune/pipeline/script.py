"""The external setup_finetune.py that the operator named: what it takes, and whether it takes the plan."""

from pathlib import Path

from scaffold_torchtune.errors import Refused, finding
from scaffold_torchtune.models.script import Interface
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.setup_script import Fault, ask
from scaffold_torchtune.shared import processes
from scaffold_torchtune.shared.text import escape, shown

_ASK_SECONDS = 120.0


def interface_of(setup_script: str, request: Request) -> Interface | None:
    """What the script takes; None for the bundled setup_finetune.

    Raises:
        Refused: it cannot run here.
    """
    if setup_script == "bundled":
        return None
    found = ask(Path(setup_script), processes.python(), processes.environment(), min(request.timeout, _ASK_SECONDS))
    if isinstance(found, Interface):
        return found
    raise _cannot_run(setup_script, found)


def _cannot_run(setup_script: str, fault: Fault) -> Refused:
    message = f"the setup script {shown(setup_script)} cannot run: {escape(fault.reason)}"
    fix = "activate the environment that it needs, then scaffold again; or use --setup-script bundled"
    problem = finding("script-unasked", message, field="setup_script", file=setup_script, fix=fix)
    return Refused("the setup script cannot run", [problem])
