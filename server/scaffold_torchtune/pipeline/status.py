"""`status`: how the runs of an experiment are doing. It writes nothing."""

from typing import Final

from scaffold_torchtune.models import PlannedRun, RunState
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.locate import experiment_directory
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.run_status import RunStatus, StatusResult
from scaffold_torchtune.system.files import Tree

_VERDICTS: Final = {
    "complete": "validation passed",
    "failed": "the last validation failed, or was stopped midway",
    "open": "not validated since files were made",
}


def status(request: Request) -> StatusResult:
    """Return how each planned run is doing, in the plan's order.

    Raises:
        Refused: no experiment is there, or nothing was rendered yet.
    """
    directory = experiment_directory(request)
    with Tree(directory) as tree:
        plan, log = state.existing_plan(tree), state.load_log_state(tree)
        states = states_of(tree, plan.runs, request)
    unknown = dict.fromkeys(found.unknown for found in states.values() if found.unknown)
    return StatusResult(
        experiment=plan.experiment,
        experiment_dir=str(directory),
        verdict=_VERDICTS[log.status if log else "open"],
        runs=tuple(_of_run(run, states[run.directory]) for run in plan.runs),
        not_asked=tuple(unknown),
    )


def _of_run(run: PlannedRun, found: RunState) -> RunStatus:
    return RunStatus(
        directory=run.directory,
        state=found.state,
        evidence=found.evidence,
        job=next(iter((*found.jobs[-1:], *found.past[-1:])), ""),
        output_dir=found.output_dir,
        epochs=run.integer("epochs", 1),
        unseen=found.unseen,
    )
