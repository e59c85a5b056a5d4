"""The result of `status`, which `report` shows as a page, a Markdown text or a CSV table."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, get_args

from pydantic import Field

from scaffold_torchtune.findings import Finding, counted
from scaffold_torchtune.models import Model, RunProgress
from scaffold_torchtune.results.step_results import Cut, OmitEmpty, StepResult

_STATES: Final = get_args(RunProgress)


def _is_none(value: object) -> bool:
    return value is None


class LossPoint(Model):
    """A loss printed in the run's output; `loss` is None if it is not finite (nan, inf)."""

    step: int = Field(ge=0, description="optimizer steps done")
    loss: float | None


class RunStatus(Model):
    """The status of one run, from its files, its job's output and SLURM.

    An unknown value is None, and `unseen` has the reason.
    """

    directory: str
    state: RunProgress
    evidence: OmitEmpty[tuple[str, ...]] = Field(default=(), description="evidence of the state")
    job: OmitEmpty[str] = Field(default="", description="id of its last job: 4711, or 4711_3 in an array")
    job_state: OmitEmpty[str] = Field(default="", description="the job's state in SLURM's terms")
    output: OmitEmpty[str] = Field(default="", description="the job's output file, relative to the experiment")
    output_dir: OmitEmpty[str] = Field(default="", description="the directory of its checkpoints")
    epochs_done: int | None = Field(default=None, exclude_if=_is_none, description="epochs trained")
    epochs: int | None = Field(default=None, exclude_if=_is_none, description="epochs planned")
    step: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps done")
    steps: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps expected in total")
    loss: float | None = Field(
        default=None, exclude_if=_is_none, description="the last loss; None with a cause if it is nan"
    )
    losses: tuple[LossPoint, ...] = Field(default=(), exclude=True, description="a sample of the losses over time")
    elapsed: int | None = Field(default=None, exclude_if=_is_none, description="run time of the job in seconds")
    limit: int | None = Field(default=None, exclude_if=_is_none, description="time limit of the job in seconds")
    cause: OmitEmpty[Finding | None] = Field(default=None, description="cause of a failure or problem, with its fix")
    unseen: OmitEmpty[tuple[str, ...]] = Field(default=(), description="sources that could not be read, and why")


class StatusResult(StepResult):
    """The status of all runs of an experiment."""

    LISTED = ()
    FIRST = (
        "report the number of runs in each state, then each cause with its fix, and not_asked; do not submit, cancel or"
        " change anything without being asked"
    )

    experiment: str
    experiment_dir: str
    verdict: str = Field(description="the last verdict of validation, in one line")
    runs: Annotated[tuple[RunStatus, ...], Cut.RUNS]
    not_asked: OmitEmpty[tuple[str, ...]] = Field(default=(), description="programs that could not be asked, and why")

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of runs in each state, in the order of progress; states without a run are omitted."""
        found = Counter(run.state for run in self.runs)
        return {state: found[state] for state in _STATES if found[state]}

    def all_findings(self) -> Sequence[Finding]:
        """Return the causes of failures and problems."""
        return [run.cause for run in self.runs if run.cause]

    def _outcome(self) -> str:
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items())
        unwell = sum(run.cause is not None and run.state != "failed" for run in self.runs)
        more = f"; {counted(unwell, 'run')} with a problem but not failed" if unwell else ""
        return f"{counted(len(self.runs), 'run')}: {counts}{more}. Nothing was written."
