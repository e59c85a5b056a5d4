"""Jobs of SLURM: the runs of an array, its script, its submission, and the states of jobs.

Jobs are submitted by sbatch and released by scontrol. The messages are those of Slurm 22.05 (src/sbatch, src/scontrol),
tried with a real installation. squeue lists jobs in the queue, sacct ended jobs. The states are the JOB STATE CODES of
squeue(1) and sacct(1).
"""

import getpass
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.external_checks.sbatch import AskedOptions
from scaffold_torchtune.findings import escape, shown
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings import kinds, parameters
from scaffold_torchtune.system import processes, templating
from scaffold_torchtune.system.files import others_write, real_path
from scaffold_torchtune.validate.run_files import parse_script

_TEMPLATE: Final = "finetune_array.slurm.j2"
_NOT_IN_ARRAYS: Final = frozenset({"array", "chdir", "hold", "input", "parsable", "test-only", "wait", "wrap"})
"""Options with a different meaning for an array: scripts with them are submitted separately."""

_PLAIN: Final = re.compile(r"[^\"'\\\x00-\x1f\x7f]*")
_ID: Final = re.compile(r"([0-9]{1,18})(?:;([A-Za-z0-9._-]{1,100}))?", re.ASCII)
_MAX_ARRAY_SIZE: Final = re.compile(r"^MaxArraySize\s*=\s*([0-9]{1,9})\s*$", re.MULTILINE | re.ASCII)
_KEPT: Final = 1_000_000  # bytes of an answer
_NEEDED: Final = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
"""Variables that all SLURM commands need at some sites: the location of the configuration (slurm.conf(5)), and a token
that replaces munge (auth/jwt). All other SLURM_* and SBATCH_* variables change the request (sbatch(1), INPUT
ENVIRONMENT VARIABLES) or describe the job of the caller, and would also have these effects in each run's job.
"""

DEFAULT_ARRAY: Final = 1001
"""The default limit of tasks in an array (slurm.conf(5), MaxArraySize)."""


class Script(NamedTuple):
    """The parts of a run's script that decide how it is submitted."""

    run: PlannedRun
    interpreter: str
    name: str
    given: AskedOptions
    asked: AskedOptions
    options: AskedOptions
    variables: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]

    @property
    def fits_array(self) -> bool:
        """Return whether the run can be a task of an array."""
        return self.interpreter != "" and all(
            len(name) > 1 and name not in _NOT_IN_ARRAYS and _PLAIN.fullmatch(value) for name, value in self.effective
        )

    @property
    def effective(self) -> AskedOptions:
        """Return the effective directives and options: an option overrides a directive."""
        return tuple(sorted({**dict(self.asked), **dict(self.options)}.items()))

    @property
    def kind(self) -> tuple[object, ...]:
        """Return the parts that are equal for all runs of an array."""
        return self.interpreter, self.effective, self.variables

    @property
    def clusters(self) -> str:
        """Return the clusters that it requests, if any."""
        found = dict(self.effective)
        return found.get("clusters", found.get("M", ""))


def read_script(run: PlannedRun, text: str) -> Script:
    """Return a run's script."""
    read = parse_script(text)
    active = {name: each.value for name, each in sbatch.active(read).items()}
    first, _, rest = text.partition("\n")[0].removeprefix("#!").strip().partition(" ")
    words = [first, rest.strip()] if rest.strip() else [first]  # as the kernel splits them (execve(2))
    variables = parameters.variables({name: run.settings[name].value for name in run.submitted})
    options = [*sbatch.options(run), *([("export", "ALL")] if variables else [])]
    return Script(
        run=run,
        interpreter=shlex.join(words) if text.startswith("#!") and first else "",
        name=active.get("job-name", run.directory),
        given=tuple(active.items()),
        asked=tuple(sorted((name, value) for name, value in active.items() if name not in sbatch.OWN)),
        options=tuple(options),
        variables=tuple(variables.items()),
        folders=tuple(sbatch.log_folders(text)),
    )


def grouped(scripts: Iterable[Script], most: int, *, arrays: bool) -> list[tuple[Script, ...]]:
    """Return the scripts grouped for submission: an array of all with the same requests, or a single one.

    `most` is the maximum number of tasks of an array. Groups are in the order of their first scripts.
    """
    kinds: dict[object, list[Script]] = {}
    for number, script in enumerate(scripts):
        alone = not (arrays and script.fits_array and most > 1)
        kinds.setdefault(number if alone else script.kind, []).append(script)
    return [
        tuple(alike[start : start + max(most, 1)])
        for alike in kinds.values()
        for start in range(0, len(alike), max(most, 1))
    ]


def array_script(scripts: Sequence[Script], name: str, folder: str, at_once: int | None) -> str:
    """Return the script of an array with its name and the directory of the numbered links to the runs."""
    first = scripts[0]
    bound = f"%{at_once}" if at_once else ""
    own = [("job-name", name), ("array", f"0-{len(scripts) - 1}{bound}"), ("output", f"{folder}/%a/slurm-%A_%a.out")]
    names = [script.name for script in scripts]
    return templating.render(
        _TEMPLATE,
        {
            "directives": [parameters.line(*pair) for pair in (*own, *first.effective)],
            "runs": [script.run.directory for script in scripts],
            "names": names if names != [script.run.directory for script in scripts] else [],
            "folder": folder,
            "variables": first.variables,
            "interpreter": first.interpreter,
        },
    )


class SbatchCall(NamedTuple):
    """A call of sbatch: options, the script's file, working directory and variables; the script's text, to test it."""

    options: tuple[str, ...]
    file: str
    cwd: Path
    variables: tuple[tuple[str, str], ...] = ()
    text: str = ""


class Submitted(NamedTuple):
    """The answer of sbatch: the job's id and cluster; or its messages, and whether they mean that no job exists."""

    job: str = ""
    cluster: str = ""
    said: str = ""
    is_refused: bool = False


def environment(variables: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the user's environment for a job, without variables that other SLURM jobs and calls left in it."""
    kept = {name: value for name, value in os.environ.items() if name in _NEEDED or not _is_slurms(name)}
    return kept | dict(variables)


def ignored() -> list[str]:
    """Return the names of the variables that sbatch would treat as options, and that are removed."""
    return sorted(name for name in os.environ if name.startswith("SBATCH_"))


def _is_slurms(name: str) -> bool:
    return name.startswith(("SLURM_", "SBATCH_", "SLURMD_", "SRUN_", "SALLOC_"))


def submit(call: SbatchCall, request: Request) -> Submitted:
    """Submit a script on hold: SLURM does not start it before its release."""
    done = _run("sbatch", ["--parsable", "--hold", *call.options, call.file], call, request)
    if isinstance(done, str):
        return Submitted(said=done)
    found = [match for line in done.output.splitlines() if (match := _ID.fullmatch(line.strip()))]
    if done.status == 0 and len(found) == 1:
        return Submitted(job=found[0][1], cluster=found[0][2] or "")
    answer = sbatch.answer(done.status, done.output)
    printed = f", but {shown(answer.messages)}" if done.output.strip() else ""
    said = answer.messages if done.status else f"sbatch printed no job ID{printed}"
    return Submitted(said=said, is_refused=done.status > 0 and answer.verdict != "unavailable")


def test(call: SbatchCall, request: Request) -> str:
    """Return why SLURM rejects a script, by `sbatch --test-only`; empty if it accepts the script now or later."""
    done = _run("sbatch", ["--test-only", *call.options], call, request)
    if isinstance(done, str):
        return done
    answer = sbatch.answer(done.status, done.output)
    return answer.messages if answer.verdict in {"refused", "unavailable"} else ""


def release(job: str, clusters: str, root: Path, request: Request) -> str:
    """Release a held job; return why that failed, or an empty text."""
    where = [f"--clusters={clusters}"] if clusters else []
    done = _run("scontrol", [*where, "release", job], SbatchCall((), "", root), request)
    if isinstance(done, str):
        return done
    lines = done.output.strip().splitlines()
    return "" if done.status == 0 else escape(lines[-1] if lines else f"scontrol exited with status {done.status}")


def largest_array(clusters: str, root: Path, request: Request) -> int:
    """Return the maximum number of tasks of an array: MaxArraySize, which is larger than any task's number."""
    where = [f"--clusters={clusters}"] if clusters else []
    done = _run("scontrol", [*where, "show", "config"], SbatchCall((), "", root), request)
    found = None if isinstance(done, str) else _MAX_ARRAY_SIZE.search(done.output)
    return int(found[1]) if found else DEFAULT_ARRAY


def missing() -> list[str]:
    """Return the programs of SLURM that a submission needs and that are not on PATH."""
    return [name for name in ("sbatch", "squeue", "scontrol") if shutil.which(name) is None]


def _run(program: str, arguments: Sequence[str], call: SbatchCall, request: Request) -> processes.Completed | str:
    """Run a program of SLURM; return why it gave no answer, if so.

    It runs in the user's own environment, as a job inherits that; without the mark of this tool's processes.
    """
    env: Mapping[str, str] = environment(call.variables)
    if problem := sbatch.configuration_problem(env):
        return problem
    own = os.path.abspath(shutil.which(program) or program)  # noqa: PTH100 - a link is called by its own name
    command = ["/usr/bin/env", "-u", processes.VARIABLE, own, *arguments]
    given = call.text.encode()
    try:
        done = processes.run(command, call.cwd, sbatch.DEADLINE, request.stop, given=given, env=env, tail=_KEPT)
    except OSError as error:
        return f"{program} could not be started: {error.strerror}"
    return f"{program} did not answer within {sbatch.DEADLINE:g} s" if done.ended else done


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
        return "", f"{program} was not found on this machine" if request.sbatch else "queries to SLURM are switched off"
    if problem := sbatch.configuration_problem(os.environ):
        return "", problem
    try:
        done = processes.run([os.path.abspath(path), *arguments], root, sbatch.DEADLINE, request.stop, tail=_MOST)  # noqa: PTH100 - a link is called by its own name
    except OSError as error:
        return "", f"{program} could not be started: {error.strerror}"
    if done.ended:
        return "", f"{program} did not answer within {sbatch.DEADLINE:g} s"
    if done.status != 0:
        lines = done.output.strip().splitlines() or [f"exit status {done.status}"]
        return "", f"{program} failed: {escape(lines[-1])}"
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
