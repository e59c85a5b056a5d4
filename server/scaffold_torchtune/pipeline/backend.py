"""The setup that makes the files of runs, the bundled one or a script, for several runs at a time."""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.models import Plan, PlannedRun
from scaffold_torchtune.pipeline.external_setup import environment_of
from scaffold_torchtune.pipeline.prepare import named_script
from scaffold_torchtune.request import Request
from scaffold_torchtune.setup import Outcome, run_script
from scaffold_torchtune.setup.external.failures import Cause
from scaffold_torchtune.system import layout, processes
from scaffold_torchtune.system.files import Tree, sha256
from scaffold_torchtune.system.text import few, shown

# Who makes finetune.yaml and finetune.slurm: the bundled setup_finetune, or the script that the operator named.


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


# Notices what an external script changes in the experiment besides its own staging directory.

Status = tuple[int, int, int, int]
"""Inode, mode, size and time of the last change of content, in nanoseconds."""

# Ours: we write there while scripts run, and so does who asks for what is running.
_OURS = frozenset({layout.STATE})


class Watch:
    """What lies in the experiment directory and in its run directories, as it was when we looked last."""

    def __init__(self, tree: Tree, directories: Iterable[str]) -> None:
        self._root = tree.root
        self._directories = tuple(directories)
        self._seen = self._look("", *self._directories)

    def _look(self, *directories: str) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for directory in directories:
            # the directory may be gone, or not readable, which is a change too
            with contextlib.suppress(OSError), os.scandir(self._root / directory) as entries:
                for entry in entries:
                    path = f"{directory}/{entry.name}" if directory else entry.name
                    if path not in _OURS:
                        found[path] = _status(entry)
        return found

    def changes(self) -> list[str]:
        """The paths that are not as they were, relative to the experiment; from now on they are to stay as they are."""
        before, self._seen = self._seen, self._look("", *self._directories)
        changed = {path for path in {*before, *self._seen} if before.get(path) != self._seen.get(path)}
        # a directory has another time when something in it comes or goes, which is told itself
        return sorted(p for p in changed if not any(other.startswith(f"{p}/") for other in changed))

    def wrote(self, directory: str, is_ours: Callable[[str], bool]) -> None:
        """Take a run directory for as we have just left it, but for the files in it that are not ours.

        They are asked about after they were looked at, so that nothing that changes meanwhile is taken for ours.
        """
        kept = {path: status for path, status in self._seen.items() if not path.startswith(f"{directory}/")}
        with contextlib.suppress(OSError):
            status = os.lstat(self._root / directory)
            kept[directory] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
        self._seen = kept | {path: status for path, status in self._look(directory).items() if is_ours(path)}


def _status(entry: "os.DirEntry[str]") -> Status:
    status = entry.stat(follow_symlinks=False)
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


# Runs an external script for several runs at a time, each in a staging directory of its own.

Run = Callable[[PlannedRun, str], Outcome]
"""Runs the script in the staging directory that the text names, relative to the experiment."""

Work = Sequence[tuple[PlannedRun, str]]
"""Runs, each with the text of its setup_finetune.yaml."""

_LOOK: Final = 1.0  # seconds at least between two looks at what scripts change elsewhere, where there are many runs
_FEW: Final = 20
_LISTED: Final = 5


class Pool:
    """Runs the script for each piece of work, as many at a time as the request says; its `stop` ends those that run.

    Who changes something elsewhere in the experiment is found out: runs that may have done it are run again, alone.
    """

    def __init__(self, tree: Tree, work: Work, run: Run, request: Request) -> None:
        self._tree, self._work, self._run, self._request = tree, work, run, request
        self._jobs = max(1, min(request.jobs, len(work)))
        self.watch = Watch(tree, [one.directory for one, _ in work])
        self.changed: set[str] = set()
        self._suspects: set[str] = set()
        self._cleared: set[str] = set()  # had ended when we looked last
        self._looked = time.monotonic()

    def outcomes(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """Each run with what became of it, as they end. Close it: scripts that still run then are ended.

        A run that is found out later comes once more.
        """
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._staged, run, text): run for run, text in self._work}
            ended: set[str] = set()
            try:
                for future in as_completed(futures):
                    ended.add(futures[future].directory)
                    self._look(futures, last=len(ended) == len(futures))
                    yield futures[future], future.result()
            finally:
                if len(ended) < len(futures):
                    self._request.stop.set()
                    pool.shutdown(cancel_futures=True)
        yield from self._found_out()

    def changes(self) -> set[str]:
        """All that was changed elsewhere until now, by whom ever."""
        self.changed.update(self.watch.changes())
        return self.changed

    def _look(self, futures: dict[Future[Outcome], PlannedRun], *, last: bool) -> None:
        """Look at what was changed elsewhere; every run that has been running since the last look may have done it."""
        due = last or len(futures) <= _FEW or time.monotonic() - self._looked >= _LOOK
        if not due:
            return
        # what ends while we look may have done it after we looked: it is not cleared yet
        done = {run.directory for future, run in futures.items() if future.done()}
        changes = self.watch.changes()
        self._looked = time.monotonic()
        self.changed.update(changes)
        if changes:
            begun = {run.directory for future, run in futures.items() if future.running() or future.done()}
            self._suspects |= begun - self._cleared
        self._cleared = done

    def _found_out(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """The runs that change something elsewhere, each run once more, alone."""
        for run, text in self._work:
            if run.directory not in self._suspects or self._request.stop.is_set():
                continue
            self.watch.changes()
            outcome = self._staged(run, text)
            if changes := self.watch.changes():
                self.changed.update(changes)
                yield run, _blamed(changes, outcome)

    def _staged(self, run: PlannedRun, text: str) -> Outcome:
        """Run the script in a staging directory, which holds nothing but the run's setup_finetune.yaml."""
        staged = f"{layout.STAGING}/{run.directory}"
        if self._request.stop.is_set():
            return Outcome(reason="the scaffold was stopped before")
        try:
            self._tree.make_directory(staged, durable=False)
            try:
                self._tree.write(f"{staged}/{layout.SETUP_YAML}", text.encode(), durable=False)
                return self._run(run, staged)
            finally:
                self._tree.clear(staged)
        except Refused as refused:
            return Outcome(reason=refused.message)


def _blamed(changes: Sequence[str], outcome: Outcome) -> Outcome:
    """What becomes of a run whose script changed something elsewhere in the experiment."""
    what = few(changes, _LISTED, more=" and {} more")
    reason = f"the script wrote outside its working directory, in the experiment: {what}"
    fix = "look at what it changed there, and name a script that writes into its working directory alone"
    cause = Cause("it names files of the experiment by their path, or goes up from where it runs", fix)
    return Outcome(reason=reason, cause=cause, ran=outcome.ran)
