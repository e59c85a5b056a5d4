"""Who makes finetune.yaml and finetune.slurm: the bundled setup_finetune, or the script that the operator named."""

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from scaffold_torchtune.errors import Refused, finding
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.pipeline.prepare import named_script
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.surroundings import environment_of
from scaffold_torchtune.setup import Outcome, run_bundled, run_script
from scaffold_torchtune.shared import layout, processes
from scaffold_torchtune.shared.files import Tree, sha256
from scaffold_torchtune.shared.text import shown

Work = Sequence[tuple[PlannedRun, str]]
"""Runs, each with the text of its setup_finetune.yaml."""


@dataclass(frozen=True)
class Backend:
    """`identity` changes when what it makes may change. All others concern an external script; `timeout` in seconds."""

    script: Path | None
    identity: str
    timeout: float
    jobs: int
    environment: processes.Environment = field(default_factory=processes.as_it_is)

    def outcomes(self, tree: Tree, work: Work) -> Generator[Outcome, None, None]:
        """What is made for each run, in the order of `work`; up to `jobs` external scripts run at a time.

        Close it: scripts that still run then are ended.
        """
        if self.script is None:
            yield from (run_bundled(run, text) for run, text in work)
            return
        stop = threading.Event()
        with ThreadPoolExecutor(max(1, min(self.jobs, len(work)))) as pool:
            futures = [pool.submit(self._staged, self.script, tree, run, text, stop) for run, text in work]
            try:
                for future in futures:
                    yield future.result()
            finally:
                stop.set()
                for future in futures:
                    future.cancel()

    def _staged(self, script: Path, tree: Tree, run: PlannedRun, text: str, stop: threading.Event) -> Outcome:
        """Run the script in a staging directory of its own, which holds nothing but the run's setup_finetune.yaml."""
        staged = f"{layout.STAGING}/{run.directory}"
        try:
            tree.make_directory(staged)
            try:
                tree.write(f"{staged}/{layout.SETUP_YAML}", text.encode())
                return run_script(run, script, tree.root / staged, self.timeout, self.environment, stop)
            finally:
                tree.clear(staged)
        except Refused as refused:
            return Outcome(reason=refused.message)


def backend_of(plan: Plan, request: Request) -> Backend:
    """The backend that the plan names.

    Raises:
        Refused: the plan names another script than the operator does (a plan is a file, and may come from elsewhere),
            or its script is not there any more.
    """
    named = named_script(request)
    planned = plan.options.setup_script
    if planned == "bundled":
        if request.setup_script and named != "bundled":
            raise _other_script(f"the plan was made with the bundled setup_finetune, not with {shown(str(named))}")
        return Backend(None, f"bundled {plan.version}", request.timeout, request.jobs)
    if named != planned:
        raise _other_script(f"the plan was made with the setup script {shown(planned)}, which this call does not name")
    script = Path(planned)
    try:
        identity = f"{script} {sha256(script.read_bytes())}"
    except OSError as error:
        message = f"the setup script {shown(planned)} cannot be read: {error.strerror}"
        fix = "put it back, or render again with another --setup-script"
        raise Refused(message, [finding("setup-script-missing", message, file=planned, fix=fix)]) from error
    environment = environment_of(plan.runs[0].settings, request)
    return Backend(script, identity, request.timeout, request.jobs, environment)


def _other_script(message: str) -> Refused:
    fix = (
        "name the script that is to run with --setup-script or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT, as when the plan was"
        " made; or render again, with the one that is to run or with --setup-script bundled"
    )
    return Refused(message, [finding("setup-choice", message, field="setup_script", file=layout.PLAN, fix=fix)])
