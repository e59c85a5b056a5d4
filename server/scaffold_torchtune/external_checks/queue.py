"""Queries of SLURM: jobs in the queue with `squeue`, ended jobs with `sacct`. Nothing is changed.

The states are the JOB STATE CODES of squeue(1) and sacct(1).
"""

import getpass
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.findings import escape, shown
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import others_write, real_path

_RUNNING: Final = frozenset({"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED", "SUSPENDED", "RESIZING"})
_ENDED: Final = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
    | {"REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"}
)
_MOST: Final = 8_000_000  # bytes of an answer: 80,000 jobs
_ASKED: Final = 500  # jobs in one call of sacct
_TASKS: Final = re.compile(
    r"([0-9]{1,18})_\[((?:[0-9]{1,9}(?:-[0-9]{1,9}(?::[0-9]{1,9})?)?)(?:,[0-9]{1,9}(?:-[0-9]{1,9}(?::[0-9]{1,9})?)?)*)"
    r"(?:%[0-9]{1,9})?\]",
    re.ASCII,
)
_MOST_TASKS: Final = 100_000  # tasks of an array
_FIELDS: Final = "%i|%T|%M|%l|%r|%Z"
_MOMENT: Final = 30.0  # seconds for which an answer is reused within a call: a scaffold may run scripts for hours


class Job(NamedTuple):
    """A job: its id, its state in SLURM's terms, and the directory in which it was submitted.

    `elapsed` and `limit` are its run time and time limit in seconds, None if SLURM does not give them. `detail` is the
    reason why it is pending (squeue), or its exit status and signal (sacct: `1:0`).
    """

    id: str
    state: str
    directory: str
    elapsed: int | None = None
    limit: int | None = None
    detail: str = ""

    @property
    def has_ended(self) -> bool:
        """Return whether it has ended, successfully or not."""
        return self.state in _ENDED

    @property
    def runs(self) -> bool:
        """Return whether it is running."""
        return self.state in _RUNNING


class Queue(NamedTuple):
    """Jobs by the real path of the directory in which they were submitted; `unknown` is why there is no answer.

    Each task of an array is a job: 4711_3.
    """

    jobs: Mapping[str, Sequence[Job]]
    unknown: str = ""

    def by_id(self) -> dict[str, Job]:
        """Return the jobs by their ids."""
        return {job.id: job for some in self.jobs.values() for job in some}


def queued(root: Path, request: Request, clusters: str = "") -> Queue:
    """Return the pending and running jobs, and the ended jobs that squeue still lists (for minutes).

    They are the user's jobs, or the jobs of all users if others may submit in the experiment too.

    Args:
        root: the experiment directory, in which squeue is run.
        request: may forbid asking SLURM.
        clusters: names of clusters, if it is not the cluster of this machine.
    """
    output, unknown = _queue(root, request, clusters, f"--format={_FIELDS}")
    return Queue(_by_directory(_jobs(output)), unknown)


def named(root: Path, names: Iterable[str], request: Request, clusters: str = "") -> tuple[dict[str, list[Job]], str]:
    """Return the jobs with some names, as `queued` does, by their names; and the reason if squeue does not answer.

    A name consists of letters, digits and `._+-`.
    """
    wanted = ",".join(sorted({*names}))
    output, unknown = _queue(root, request, clusters, f"--format=%j|{_FIELDS}", f"--name={wanted}")
    found: dict[str, list[Job]] = {}
    for line in output.split("\n"):
        name, _, rest = line.partition("|")
        found.setdefault(name, []).extend(_jobs(rest))
    return found, unknown


def _queue(root: Path, request: Request, clusters: str, *more: str) -> tuple[str, str]:
    """Return the lines of squeue for jobs that may be the experiment's, each task of an array on its own line."""
    whose = [] if others_write(root) else [f"--user={_user()}"]
    where = [f"--clusters={clusters}"] if clusters else []
    given = ["--noheader", "--array", "--states=all", *whose, *where, *more]
    output, unknown = _answer("squeue", given, root, request)
    return output, "squeue lists more jobs than can be read" if len(output.encode()) >= _MOST else unknown


def ended(root: Path, ids: Iterable[str], request: Request, clusters: str = "") -> Queue:
    """Return the ended jobs that the accounting has.

    Args:
        root: the directory in which sacct is run.
        ids: the ids of the jobs; the id of an array stands for all its tasks.
        request: may forbid asking SLURM.
        clusters: as in `queued`.
    """
    found: list[Job] = []
    asked = sorted(ids)
    where = [f"--clusters={clusters}"] if clusters else []
    for start in range(0, len(asked), _ASKED):
        some = ",".join(asked[start : start + _ASKED])
        given = [
            "--allocations",
            "--noheader",
            "--parsable2",
            "--format=JobID,State,Elapsed,Timelimit,ExitCode,WorkDir",
            *where,
            f"--jobs={some}",
        ]
        output, unknown = _answer("sacct", given, root, request)
        if unknown:
            return Queue(_by_directory(found), unknown)
        found += _jobs(output)
    return Queue(_by_directory(found))


def _answer(program: str, arguments: Sequence[str], root: Path, request: Request) -> tuple[str, str]:
    """Return the output of a program of SLURM, or why it did not answer; a recent answer in the same call is reused."""
    key = (program, *arguments)
    if (said := request.slurm_said.get(key)) and time.monotonic() - said[0] < _MOMENT:
        return said[1:]
    output, unknown = _asked(program, arguments, root, request)
    request.slurm_said[key] = time.monotonic(), output, unknown
    return output, unknown


def _asked(program: str, arguments: Sequence[str], root: Path, request: Request) -> tuple[str, str]:
    path = shutil.which(program) if request.sbatch and os.environ.get(sbatch.SWITCH) != "off" else None
    if path is None:
        return "", f"{program} not found on this machine" if request.sbatch else "asking SLURM is switched off"
    try:
        done = processes.run([os.path.abspath(path), *arguments], root, sbatch.DEADLINE, request.stop, tail=_MOST)  # noqa: PTH100 - a link is called by its own name
    except OSError as error:
        return "", f"{program} could not be started: {error.strerror}"
    if done.ended:
        return "", f"{program} did not answer within {sbatch.DEADLINE:g} s"
    if done.status != 0:
        lines = done.output.strip().splitlines() or [f"exit status {done.status}"]
        return "", f"{program} did not answer: {shown(escape(lines[-1]))}"
    return done.output, ""


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def _jobs(output: str) -> list[Job]:
    """Return the jobs of lines `ID|STATE|ELAPSED|LIMIT|DETAIL|DIRECTORY`; `CANCELLED by 1000` is CANCELLED.

    The directory is absolute and may contain any character, including `|`.
    """
    found: list[Job] = []
    for line in output.split("\n"):  # a directory may contain other line ends
        before, slash, directory = line.partition("|/")
        job_id, *rest = before.split("|")
        if not slash or not rest or not rest[0].strip():
            continue
        elapsed, limit, detail = [*rest[1:4], "", "", ""][:3]
        times = kinds.slurm_seconds(elapsed), kinds.slurm_seconds(limit)
        state = rest[0].split()[0]
        found += [Job(each, state, f"/{directory}", *times, escape(detail)) for each in _each(job_id)]
    return found


def _each(job_id: str) -> Iterator[str]:
    """Yield the id of each task in the id of an array: `4711_[0,2-4%2]` (squeue(1), job arrays)."""
    match = _TASKS.fullmatch(job_id)
    if match is None:
        yield job_id
        return
    left = _MOST_TASKS
    for part in match[2].split(","):
        first, _, rest = part.partition("-")
        last, _, step = rest.partition(":")
        numbers = range(int(first), int(last or first) + 1, int(step or 1) or 1)[:left]
        left -= len(numbers)
        yield from (f"{match[1]}_{number}" for number in numbers)


def _by_directory(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(str(real_path(job.directory)), []).append(job)
    return found
