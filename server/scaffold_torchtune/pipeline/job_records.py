"""Which jobs were submitted for which runs: .scaffold/jobs.json, and how runs are found by it.

A submission is recorded before sbatch is called, with a name that no other job has: who is killed before the job_id is
recorded finds the job again by that name. Its job is held until the job_id is recorded, and starts no earlier.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, field_validator
from pydantic.functional_validators import AfterValidator

from scaffold_torchtune.models import Model
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.plan.naming import is_safe
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree

JobId = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]{1,200}$")]
Clusters = Annotated[str, Field(pattern=r"^[A-Za-z0-9._,-]{0,500}$")]


def _safe(name: str) -> str:
    if not is_safe(name):
        raise ValueError("not the name of a run directory")
    return name


RunDirectory = Annotated[str, AfterValidator(_safe)]


class Submission(Model):
    """What one call of sbatch submits: an array, whose task N is the Nth of `runs` from 0, or a single run.

    `name` is the job's name, with `token` in it. `job` is the id that sbatch answered. It is `intended` until that is
    recorded, then `held`, and `released` once SLURM may start it. `logged` says whether scaffold.log has it. `at` is
    when the call began that submitted it.
    """

    token: Word
    name: Word
    at: AwareDatetime
    runs: tuple[RunDirectory, ...] = Field(min_length=1)
    is_array: bool
    job: JobId | Literal[""] = ""
    clusters: Clusters = ""
    progress: Literal["intended", "held", "released"] = "intended"
    logged: bool = False

    def ids(self, job: str = "") -> Iterator[tuple[str, str]]:
        """Yield each run with the id of its job; `job` is one that is not recorded yet."""
        base = job or self.job
        for number, run in enumerate(self.runs):
            yield run, f"{base}_{number}" if self.is_array else base

    def run_of(self, job_id: str) -> str | None:
        """Return the run whose job has an id, which may not be recorded."""
        base, _, _ = job_id.partition("_")
        return next((run for run, each in self.ids(base) if each == job_id), None)


class Submissions(Model):
    """All submissions of an experiment, oldest first."""

    submissions: tuple[Submission, ...] = ()

    @field_validator("submissions")
    @classmethod
    def _are_distinct(cls, found: tuple[Submission, ...]) -> tuple[Submission, ...]:
        if len({one.token for one in found}) != len(found):
            raise ValueError("one submission stands there twice")
        return found

    def jobs(self) -> dict[str, list[tuple[str, str]]]:
        """Return the ids of each run's recorded jobs, oldest first, each with the names of its clusters."""
        found: dict[str, list[tuple[str, str]]] = {}
        for one in self.submissions:
            for run, job_id in one.ids() if one.job else ():
                found.setdefault(run, []).append((job_id, one.clusters))
        return found

    def intended(self) -> tuple[Submission, ...]:
        """Return those whose job is not known: a call was killed, or sbatch did not answer."""
        return tuple(one for one in self.submissions if not one.job)

    def replaced(self, changed: Submission) -> "Submissions":
        """Return them with one that has changed, or is new."""
        others = {one.token: one for one in self.submissions} | {changed.token: changed}
        return Submissions(submissions=tuple(others.values()))

    def without(self, dropped: Submission) -> "Submissions":
        """Return them without one."""
        return Submissions(submissions=tuple(one for one in self.submissions if one.token != dropped.token))


_FIX: Final = (
    f"put {layout.JOBS} back from a backup; or, where no job of this experiment waits or runs (squeue --me), remove it"
)


def load(tree: Tree) -> Submissions:
    """Return what was submitted. Raises `Refused` where the file cannot be read, or is not what we write."""
    return state.load_model(tree, layout.JOBS, Submissions.model_validate_json, _FIX) or Submissions()


def save(tree: Tree, submissions: Submissions) -> None:
    """Write what was submitted, durably."""
    state.save(tree, layout.JOBS, submissions)
