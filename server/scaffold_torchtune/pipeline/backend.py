"""Who makes finetune.yaml and finetune.slurm: the bundled setup_finetune, or the script that the operator named."""

from dataclasses import dataclass
from pathlib import Path

from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.pipeline.prepare import named_script
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.surroundings import environment_of
from scaffold_torchtune.setup import Outcome, run_script
from scaffold_torchtune.shared import layout, processes
from scaffold_torchtune.shared.files import sha256
from scaffold_torchtune.shared.text import shown


@dataclass(frozen=True)
class SetupScript:
    """An external setup_finetune.py, and the environment that it runs in."""

    path: Path
    environment: processes.Environment

    def run(self, folder: Path, request: Request) -> Outcome:
        """Run it in a folder, within the request's deadline."""
        return run_script(self.path, folder, request.timeout, self.environment, request.stop)


@dataclass(frozen=True)
class Backend:
    """`identity` changes when what it makes may change. `script` is None for the bundled setup_finetune."""

    identity: str
    script: SetupScript | None = None


def backend_of(plan: Plan, request: Request) -> Backend:
    """The backend that the plan names.

    Raises:
        Refused: the plan names another script than the operator does (a plan is a file, and may come from elsewhere),
            its script is not there any more, or its environment cannot be activated.
    """
    named = named_script(request)
    planned = plan.options.setup_script
    if planned == "bundled":
        if request.setup_script and named != "bundled":
            raise _other_script(f"the plan was made with the bundled setup_finetune, not with {shown(str(named))}")
        return Backend(identity(plan))
    if named != planned:
        raise _other_script(f"the plan was made with the setup script {shown(planned)}, which this call does not name")
    try:
        found = identity(plan)
    except OSError as error:
        message = f"the setup script {shown(planned)} cannot be read: {error.strerror}"
        fix = "put it back, or render again with another --setup-script"
        raise refuse("setup-script-missing", message, file=planned, fix=fix) from error
    return Backend(found, SetupScript(Path(planned), environment_of(plan.runs[0].settings, request)))


def identity(plan: Plan) -> str:
    """What the plan's setup_finetune is, as it is now: it changes when what it makes may change.

    Raises:
        OSError: the script cannot be read.
    """
    planned = plan.options.setup_script
    if planned == "bundled":
        return f"bundled {plan.version}"
    return f"{planned} {sha256(Path(planned).read_bytes())}"


def _other_script(message: str) -> Refused:
    fix = (
        "name the script that is to run with --setup-script or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT, as when the plan was"
        " made; or render again, with the one that is to run or with --setup-script bundled"
    )
    return refuse("setup-choice", message, field="setup_script", file=layout.PLAN, fix=fix)
