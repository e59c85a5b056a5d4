"""The state of each run, from its jobs, its slurm-*.out and its output directory.

.scaffold/jobs.json has the submitted jobs. A submission is recorded before sbatch is called, with a unique name: if the
call is killed before the id is recorded, the next call finds the job by that name. The job is held until its id is
recorded, and does not start earlier.
"""

import functools
import posixpath
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AwareDatetime, Field, field_validator
from pydantic.functional_validators import AfterValidator

from scaffold_torchtune.external_checks import slurm_jobs
from scaffold_torchtune.external_checks.slurm_jobs import Job, Queue
from scaffold_torchtune.findings import Refused, few
from scaffold_torchtune.job_causes import symptom
from scaffold_torchtune.job_output import JobOutput, read_output
from scaffold_torchtune.models import JobState, Model, PlannedRun, Results, RunState
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.state import Sha256
from scaffold_torchtune.plan.naming import is_safe
from scaffold_torchtune.preflight.disk import inspect_results, unseen
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, is_there, real_path
from scaffold_torchtune.validate import arrivals

_LISTED: Final = 4

JobId = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]{1,200}$")]
ScriptName = Annotated[str, Field(pattern=f"^{layout.ARRAY_SCRIPT.pattern}$")]
Clusters = Annotated[str, Field(pattern=r"^[A-Za-z0-9._,-]{0,500}$")]


def _safe(name: str) -> str:
    if not is_safe(name):
        raise ValueError("it is not the name of a run directory")
    return name


RunDirectory = Annotated[str, AfterValidator(_safe)]


class Submission(Model):
    """The submission by one call of sbatch: an array, in which task N is run N of `runs` from 0, or a single run.

    `name` is the job's name, which contains `token`. `job` is the id that sbatch returned. The progress is `intended`
    until the id is recorded, then `held`, and `released` once SLURM may start the job. `logged` is whether scaffold.log
    has it. `at` is the start of the submitting call. `script` is the file of an array's script, `digest` its SHA-256.
    """

    token: Word
    name: Word
    at: AwareDatetime
    runs: tuple[RunDirectory, ...] = Field(min_length=1)
    is_array: bool
    job: JobId | Literal[""] = ""
    clusters: Clusters = ""
    at_once: int | None = Field(default=None, ge=1)
    script: ScriptName | Literal[""] = ""
    digest: Sha256 | Literal[""] = ""
    progress: Literal["intended", "held", "released"] = "intended"
    logged: bool = False

    def ids(self, job: str = "") -> Iterator[tuple[str, str]]:
        """Yield each run with the id of its job; `job` is an id that is not recorded yet."""
        base = job or self.job
        for number, run in enumerate(self.runs):
            yield run, f"{base}_{number}" if self.is_array else base

    @property
    def folder(self) -> str:
        """Return the directory with the numbered links to an array's runs."""
        return f"{layout.ARRAYS}/{self.token}"

    def run_of(self, job_id: str) -> str | None:
        """Return the run of the job with an id, which may not be recorded yet."""
        base, _, _ = job_id.partition("_")
        return next((run for run, each in self.ids(base) if each == job_id), None)


class Submissions(Model):
    """All submissions of an experiment, oldest first."""

    submissions: tuple[Submission, ...] = ()

    @field_validator("submissions")
    @classmethod
    def _are_distinct(cls, found: tuple[Submission, ...]) -> tuple[Submission, ...]:
        if len({one.token for one in found}) != len(found):
            raise ValueError("two submissions have the same token")
        return found

    def jobs(self) -> dict[str, list[tuple[str, str]]]:
        """Return the ids of each run's recorded jobs, oldest first, each with the names of its clusters."""
        found: dict[str, list[tuple[str, str]]] = {}
        for one in self.submissions:
            for run, job_id in one.ids() if one.job else ():
                found.setdefault(run, []).append((job_id, one.clusters))
        return found

    def intended(self) -> tuple[Submission, ...]:
        """Return the submissions without a known job: a call was killed, or sbatch did not answer."""
        return tuple(one for one in self.submissions if not one.job)

    def replaced(self, changed: Submission) -> "Submissions":
        """Return the submissions with one added or replaced."""
        others = {one.token: one for one in self.submissions} | {changed.token: changed}
        return Submissions(submissions=tuple(others.values()))

    def without(self, dropped: Submission) -> "Submissions":
        """Return the submissions without one."""
        return Submissions(submissions=tuple(one for one in self.submissions if one.token != dropped.token))


_FIX: Final = (
    f"restore {layout.JOBS} from a backup; if `squeue --me` lists no job of this experiment, remove it instead"
)


def load_jobs(tree: Tree) -> Submissions:
    """Return the recorded submissions. Raise `Refused` if the file cannot be read or is not valid."""
    return state.load_model(tree, layout.JOBS, Submissions.model_validate_json, _FIX) or Submissions()


def save_jobs(tree: Tree, submissions: Submissions) -> None:
    """Write the submissions durably."""
    state.save(tree, layout.JOBS, submissions)


def ended_arrays(tree: Tree, records: Submissions, request: Request) -> list[Submission]:
    """Return the arrays that cannot run again: no job needs their links, and their script would start no run.

    sacct must report the end of each task, and squeue must answer and list no job with their name: it lists an ended
    job as long as SLURM may requeue it, and jobs of a script that the user submitted. Without accounting, none has.
    """
    arrays = [one for one in records.submissions if one.is_array and one.progress == "released" and one.logged]
    arrays = [one for one in arrays if tree.kind(one.folder) == "directory"]
    found: list[Submission] = []
    for clusters in {one.clusters for one in arrays}:
        some = [one for one in arrays if one.clusters == clusters]
        ended = slurm_jobs.ended(tree.root, [one.job for one in some], request, clusters)
        listed, unknown = slurm_jobs.named(tree.root, [one.name for one in some], request, clusters)
        if ended.unknown or unknown:
            continue
        past = {job_id for job_id, job in ended.by_id().items() if job.has_ended}
        found += [one for one in some if not listed.get(one.name) and {job_id for _, job_id in one.ids()} <= past]
    return found


_ASKED: Final = 20
"""The number of a run's last jobs that sacct is asked about."""

_TIMES: Final = ("elapsed", "limit")
_EXIT: Final = re.compile(r"[0-9]{1,5}:[0-9]{1,5}", re.ASCII)
_JOB_OUTPUT: Final = re.compile(r"slurm-([0-9]{1,18}(?:_[0-9]{1,9})?)\.out", re.ASCII)


def states_of(tree: Tree, runs: Iterable[PlannedRun], request: Request) -> dict[str, RunState]:
    """Return the state of each run, by its directory.

    A run is started if a job of it was submitted, is pending or running, if it has a slurm-*.out, or if its output
    directory has results of a training. It is finished if sacct reports that, or if all planned epochs are saved. It
    has failed if sacct reports that, or if squeue answers and lists no job of it. SLURM is asked only if something was
    scaffolded.

    Args:
        tree: the experiment directory.
        runs: the runs as they were planned when they were scaffolded.
        request: may forbid asking SLURM.

    Raises:
        Refused: the record of submitted jobs cannot be read.
    """
    runs = list(runs)
    if not runs:
        return {}
    left = {run.directory: job_outputs(tree, run.directory) for run in runs}
    jobs = _Jobs(tree, left, request)
    root, why_unseen = real_path(tree.root), functools.cache(unseen)
    found: dict[str, RunState] = {}
    for run in runs:
        path, outputs = _output_directory(root, run), left[run.directory]
        of_slurm = jobs.of(run.directory, outputs)
        results = inspect_results(path) if path else None
        resumes = run.value("resume_from_checkpoint") is True
        if (resumes and results) or of_slurm.past_ids:  # they may belong to files that were replaced since
            record = state.load_record(tree, run.directory)
            before = record.past if record else ()
            of_slurm = of_slurm.without(before)
            results = None if resumes and results and {*results.names} <= {*before} else results
        there = _state(run, outputs, (path, results), of_slurm)
        if there.unknown and _has_failed(tree, run.directory, outputs, of_slurm.lost):
            there = there.model_copy(update={"state": "failed", "unknown": ""})
        reasons = [f"jobs ({of_slurm.unknown})"] if of_slurm.unknown else []
        if path and results is None and (reason := why_unseen(posixpath.dirname(path)) or unseen(path)):
            reasons.append(f"outputs ({reason})")
        if there.state == "scaffolded" and not _is_scaffolded(tree, run):
            there = RunState(state="planned")
        saved = results.epochs if results else None if not path or reasons[bool(of_slurm.unknown) :] else 0
        update = {"unseen": tuple(reasons), "epochs": saved, "unasked": of_slurm.unknown}
        found[run.directory] = there.model_copy(update=update)
    return found


class _RunJobs(NamedTuple):
    """The jobs of a run in the queue and in the accounting, ids that neither has, and the reason if none is known."""

    queued: tuple[Job, ...] = ()
    accounted: tuple[Job, ...] = ()
    lost: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def past_ids(self) -> tuple[str, ...]:
        """Return the ids of the jobs that have ended or are unknown."""
        return (*(job.id for job in (*self.queued, *self.accounted) if job.has_ended), *self.lost)

    def without(self, ids: Container[str]) -> "_RunJobs":
        """Return the jobs without the jobs of files that were replaced since."""
        queued, accounted = (tuple(job for job in each if job.id not in ids) for each in (self.queued, self.accounted))
        lost = tuple(each for each in self.lost if each not in ids)
        return self._replace(queued=queued, accounted=accounted, lost=lost)


class _Jobs:
    """The jobs of an experiment's runs, by the directory of their submission, by their records, and by their outputs.

    The tasks of an array were submitted in the experiment directory: they are found by the record, or by slurm-*.out.
    """

    def __init__(self, tree: Tree, left: Mapping[str, Mapping[str, str]], request: Request) -> None:
        self._root = real_path(tree.root)
        records = load_jobs(tree)
        self._recorded = records.jobs()
        ids = {job for found in left.values() for job in sorted(found.values(), key=_number_of)[-_ASKED:]}
        recorded = {run: each[-_ASKED:] for run, each in self._recorded.items() if run in left}
        clusters = dict.fromkeys(["", *(name for each in recorded.values() for _, name in each)])
        self._queued: dict[str, Queue] = {}
        self._ended: dict[str, Queue] = {}
        for name in clusters:
            own = {job_id for each in recorded.values() for job_id, where in each if where == name}
            asked = {job_id.partition("_")[0] for job_id in (own if name else own | ids)}
            self._queued[name] = slurm_jobs.queued(tree.root, request, name)
            self._ended[name] = slurm_jobs.ended(tree.root, asked, request, name) if asked else Queue({})
        self._by_id = {name: (self._queued[name].by_id(), self._ended[name].by_id()) for name in clusters}
        self._named, self._in_doubt = self._found_by_name(tree, records, request)

    def _found_by_name(
        self, tree: Tree, records: Submissions, request: Request
    ) -> tuple[dict[str, list[Job]], frozenset[str]]:
        """Return the jobs of each run with unrecorded ids, and the runs for which squeue does not answer.

        Such jobs exist if a submitting call was killed, or if the user submitted an array's script.
        """
        ours = {job_id.partition("_")[0] for each in self._recorded.values() for job_id, _ in each}
        there = self._queued[""].jobs.get(str(self._root), ())
        by_hand = any("_" in job.id and job.id.partition("_")[0] not in ours for job in there)
        wanted = records.submissions if by_hand else records.intended()
        found: dict[str, list[Job]] = {}
        in_doubt: list[str] = []
        self.unknown = next((each.unknown for each in self._queued.values() if each.unknown), "")
        for name in {one.clusters for one in wanted}:
            some = [one for one in wanted if one.clusters == name]
            jobs, unknown = slurm_jobs.named(tree.root, [one.name for one in some], request, name)
            self.unknown = self.unknown or unknown
            for one in some:
                in_doubt += one.runs if unknown and not one.job else ()
                for job in jobs.get(one.name, ()):
                    if run := one.run_of(job.id):
                        found.setdefault(run, []).append(job)
        return found, frozenset(in_doubt)

    def of(self, directory: str, outputs: Mapping[str, str]) -> _RunJobs:
        """Return the jobs of a run: those submitted in its directory, those recorded, and those of its outputs.

        A recorded job is a job of the run in any directory: the experiment may have been moved or copied since, and the
        job still writes to the run's output directory.
        """
        at = str(self._root / directory)
        queued = [*self._queued[""].jobs.get(at, ()), *self._named.get(directory, ())]
        accounted = [*self._ended[""].jobs.get(at, ())]
        lost: list[str] = []
        known = [*self._recorded.get(directory, ()), *((job_id, "") for job_id in outputs.values())]
        recorded = {job_id for job_id, _ in self._recorded.get(directory, ())}
        for job_id, name in known:
            waiting, ended = (some.get(job_id) for some in self._by_id.get(name, ({}, {})))
            queued += [waiting] if waiting and (job_id in recorded or self._is_of(waiting, directory)) else []
            accounted += [ended] if ended and (job_id in recorded or self._is_of(ended, directory)) else []
            lost += [] if waiting or ended else [job_id]
        doubtful = ("",) if directory in self._in_doubt else ()
        return _RunJobs(
            tuple({job.id: job for job in queued}.values()),
            tuple({job.id: job for job in accounted}.values()),
            (*(job_id for job_id in lost if job_id in recorded), *doubtful),
            self.unknown,
        )

    def _is_of(self, job: Job, directory: str) -> bool:
        """Return whether a job was submitted for a run: here, in the original of a copy, or before a move.

        SLURM may use the id of an old job again, in a directory without such a run. If the directory no longer exists,
        a task of an array may be the run's, and so may a job that has not ended, lest the run is submitted twice.
        """
        place = real_path(job.directory)
        if place.name == directory or is_there(place / directory):
            return True
        return not is_there(place) and ("_" in job.id or not job.has_ended)


def _output_directory(root: Path, run: PlannedRun) -> str:
    """Return the output directory of a run; outputs in the run's own directory move with the experiment."""
    path = arrivals.output_dir(run) or ""
    own = f"{root}/{run.directory}/artifacts"
    return own if run.value("project_dir") and not is_there(path) and is_there(own) else path


def _is_scaffolded(tree: Tree, run: PlannedRun) -> bool:
    """Return whether a run has all of its files; finetune.slurm is written last."""
    is_directory = tree.kind(run.directory) == "directory"
    return is_directory and all(tree.kind(f"{run.directory}/{name}") is not None for name in layout.RUN_FILES)


def job_outputs(tree: Tree, directory: str) -> dict[str, str]:
    """Return the names of a run's slurm-JOB.out with the ids of their jobs; an array's task has slurm-4711_3.out."""
    return {name: match[1] for name in tree.names(directory) if (match := _JOB_OUTPUT.fullmatch(name))}


def last_output(outputs: Mapping[str, str]) -> str:
    """Return the name of the output of the last job; an empty text if there is none."""
    return max(outputs, key=lambda name: _number_of(outputs[name]), default="")


_BEGINNING: Final = 65_536
_PIECES: Final = 60
_PIECE: Final = 2_048
END: Final = 65_536
"""The number of bytes read at the end of a job's output: a thousand lines. A step takes two lines."""


def read_job_output(tree: Tree, path: str, end: int = END) -> JobOutput | None:
    """Return the parsed output of a job of any size; None if it cannot be read."""
    try:
        return read_output(tree.read_parts(path, _BEGINNING, end, pieces=_PIECES, length=_PIECE))
    except Refused:
        return None


def _has_failed(tree: Tree, directory: str, outputs: Mapping[str, str], lost: Iterable[str]) -> bool:
    """Return whether the output of the last job shows a failure, for a run that SLURM has no answer about."""
    name = last_output(outputs)
    if not name or any(_number_of(job_id) > _number_of(outputs[name]) for job_id in lost):
        return False
    output = read_job_output(tree, f"{directory}/{name}")
    return output is not None and symptom(output) is not None


def _state(
    run: PlannedRun, outputs: Mapping[str, str], of_outputs: tuple[str, Results | None], of_slurm: _RunJobs
) -> RunState:
    """Return the state of a run, from its directories and its jobs."""
    (path, results), unknown = of_outputs, of_slurm.unknown
    # If squeue does not answer, the jobs that have not ended according to the accounting are used.
    known = (*of_slurm.queued, *(of_slurm.accounted if unknown else ()))
    waiting = list({job.id: job for job in known if not job.has_ended}.values())
    past = sorted((job for job in (*of_slurm.accounted, *of_slurm.queued) if job.has_ended), key=_number)
    left = results.names if results else ()
    lost = [f"job {job_id} was submitted" if job_id else "a job may have been submitted" for job_id in of_slurm.lost]
    evidence = [f"job {job.id} is {job.state}" for job in waiting]
    evidence += [f"job {job.id} was {job.state}" for job in past[-1:] if not waiting]
    evidence += [f"{few(sorted(outputs), _LISTED)} {'exists' if len(outputs) == 1 else 'exist'}"] if outputs else []
    evidence += [f"{few(left, _LISTED)} {'is' if len(left) == 1 else 'are'} in {path}"] if left else []
    evidence += lost[-1:] if not (waiting or past or outputs) else []
    done = results is not None and results.epochs >= run.integer("epochs", 1)
    if waiting:
        state = "running" if any(job.runs for job in waiting) else "submitted"
    elif not evidence:
        state = "scaffolded"
    elif past:
        state = "finished" if past[-1].state == "COMPLETED" else "failed"
    elif done:
        state = "finished"
    else:
        state = "submitted" if unknown else "failed"
    return RunState.model_validate(
        {
            "state": state,
            "evidence": tuple(evidence),
            "jobs": tuple(job.id for job in waiting),
            "past": tuple(dict.fromkeys([*filter(None, of_slurm.lost), *(job.id for job in past)])),
            "results": left,
            "output_dir": path,
            "unknown": unknown if state == "submitted" and not waiting else "",
            "job": _last_job(waiting, past),
        }
    )


def _last_job(waiting: Sequence[Job], past: Sequence[Job]) -> JobState | None:
    """Return the current job: the last that is pending or running, else the last that has ended."""
    job = max(waiting, key=_number) if waiting else past[-1] if past else None
    if job is None:
        return None
    known = [each for each in past if each.id == job.id] or [job]  # squeue has no exit status
    status = next((each.detail for each in known if _EXIT.fullmatch(each.detail)), "")
    times = {
        name: next((found for each in known if (found := getattr(each, name)) is not None), None) for name in _TIMES
    }
    reason = "" if job.has_ended or job.runs or job.detail == "None" else job.detail
    return JobState(id=job.id, state=job.state, reason=reason, exit_code=status, **times)


def _number(job: Job) -> tuple[int, int, str]:
    return _number_of(job.id)


def _number_of(job_id: str) -> tuple[int, int, str]:
    """Return the sort key of a job: its number, and the number of an array's task."""
    base, _, task = job_id.partition("_")
    return int(re.sub(r"[^0-9].*", "", base) or 0), int(re.sub(r"[^0-9].*", "", task) or 0), job_id
