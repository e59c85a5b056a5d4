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
    """A loss as the run's output printed it; `loss` is None where it is not a number (nan, inf)."""

    step: int = Field(ge=0, description="optimizer steps done")
    loss: float | None


class RunStatus(Model):
    """The status of one run, as far as its files, its job's output and SLURM show it.

    What could not be seen is None, and `unseen` says why.
    """

    directory: str
    state: RunProgress
    evidence: OmitEmpty[tuple[str, ...]] = Field(default=(), description="what shows the state")
    job: OmitEmpty[str] = Field(default="", description="id of its last job: 4711, or 4711_3 in an array")
    job_state: OmitEmpty[str] = Field(default="", description="the job's state, as SLURM names it")
    output: OmitEmpty[str] = Field(default="", description="the job's output file, relative to the experiment")
    output_dir: OmitEmpty[str] = Field(default="", description="where the run saves its checkpoints")
    epochs_done: int | None = Field(default=None, exclude_if=_is_none, description="epochs trained")
    epochs: int | None = Field(default=None, exclude_if=_is_none, description="epochs planned")
    step: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps done")
    steps: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps expected in all")
    loss: float | None = Field(
        default=None, exclude_if=_is_none, description="the last loss; None with a cause where it is nan"
    )
    losses: tuple[LossPoint, ...] = Field(default=(), exclude=True, description="the loss over time, thinned")
    elapsed: int | None = Field(default=None, exclude_if=_is_none, description="seconds that the job has run")
    limit: int | None = Field(default=None, exclude_if=_is_none, description="seconds that it may run")
    cause: OmitEmpty[Finding | None] = Field(default=None, description="why it failed or is not well, with its fix")
    unseen: OmitEmpty[tuple[str, ...]] = Field(default=(), description="what could not be looked at, and why")


class StatusResult(StepResult):
    """The status of all runs of an experiment."""

    LISTED = ()
    FIRST = (
        "report how many runs are in each state, then each cause with its fix, and what could not be asked (not_asked);"
        " submit, cancel and change nothing unasked"
    )

    experiment: str
    experiment_dir: str
    verdict: str = Field(description="the last verdict of validation, in one line")
    runs: Annotated[tuple[RunStatus, ...], Cut.RUNS]
    not_asked: OmitEmpty[tuple[str, ...]] = Field(default=(), description="what could not be asked, and why")

    @property
    def counts(self) -> dict[str, int]:
        """Return how many runs are in each state, in the order of their lives; states of no run are left out."""
        found = Counter(run.state for run in self.runs)
        return {state: found[state] for state in _STATES if found[state]}

    def all_findings(self) -> Sequence[Finding]:
        """Return the causes."""
        return [run.cause for run in self.runs if run.cause]

    def _outcome(self) -> str:
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items())
        unwell = sum(run.cause is not None and run.state != "failed" for run in self.runs)
        more = f"; {counted(unwell, 'run')} not well though not failed" if unwell else ""
        return f"{counted(len(self.runs), 'run')}: {counts}{more}. Nothing was written."
