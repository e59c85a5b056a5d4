"""The setup that makes the files of runs, the bundled one or a script, for several runs at a time."""

import contextlib
import os
import secrets
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
from scaffold_torchtune.system.files import Tree, open_regular, sha256
from scaffold_torchtune.system.text import few, shown


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
    """Return the backend that the plan names.

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
    """Return what the plan's setup_finetune is now: it changes when what it makes may change.

    Raises:
        OSError: the script cannot be read.
    """
    planned = plan.options.setup_script
    if planned == "bundled":
        return f"bundled {plan.version}"
    with open_regular(planned) as script:
        return f"{planned} {sha256(script.read())}"


def _other_script(message: str) -> Refused:
    fix = (
        "name the script that is to run with --setup-script or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT, as when the plan was"
        " made; or render again, with the one that is to run or with --setup-script bundled"
    )
    return refuse("setup-choice", message, field="setup_script", file=layout.PLAN, fix=fix)


Status = tuple[int, int, int, int]
"""Inode, mode, size and time of the last change of content, in nanoseconds."""


class Watch:
    """What lies in the experiment directory and in its run directories, as it was at the last check."""

    def __init__(self, tree: Tree, directories: Iterable[str]) -> None:
        self._root = tree.root
        self._directories = tuple(directories)
        self._seen = self._scan("", *self._directories)

    def _scan(self, *directories: str) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for directory in directories:
            # the directory may be gone, or not readable, which is a change too
            with contextlib.suppress(OSError), os.scandir(self._root / directory) as entries:
                for entry in entries:
                    path = f"{directory}/{entry.name}" if directory else entry.name
                    if path != layout.STATE:  # we write there while scripts run
                        found[path] = _status(entry.stat(follow_symlinks=False))
        return found

    def changes(self) -> list[str]:
        """Return the paths that have changed since the last check, relative to the experiment."""
        before, self._seen = self._seen, self._scan("", *self._directories)
        changed = {path for path in {*before, *self._seen} if before.get(path) != self._seen.get(path)}
        # a directory has another time when something in it comes or goes, which is a change itself
        return sorted(changed - {path.rpartition("/")[0] for path in changed})

    def wrote(self, directory: str, is_ours: Callable[[str], bool]) -> None:
        """Take a run directory for as we have just left it, but for the files in it that are not ours.

        They are asked about after they were looked at, so that nothing that changes meanwhile is taken for ours.
        """
        kept = {path: status for path, status in self._seen.items() if not path.startswith(f"{directory}/")}
        with contextlib.suppress(OSError):
            kept[directory] = _status(os.lstat(self._root / directory))
        self._seen = kept | {path: status for path, status in self._scan(directory).items() if is_ours(path)}


def _status(status: os.stat_result) -> Status:
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


RunTask = Callable[[str], Outcome]
"""Runs the script in a staging directory, relative to the experiment."""

Work = Sequence[tuple[PlannedRun, str]]
"""Runs, each with the text of its setup_finetune.yaml."""

_PAUSE: Final = 1.0  # seconds at least between two checks of what scripts change elsewhere, where there are many runs
_FEW: Final = 20
_LISTED: Final = 5
_WROTE_ELSEWHERE: Final = Cause(
    "it names files of the experiment by their path, or goes up from where it runs",
    "look at what it changed there, and name a script that writes into its working directory alone",
)


class Pool:
    """Runs the script for each piece of work, as many at a time as the request says; its `stop` ends those that run.

    It notices what scripts change elsewhere in the experiment: runs that may have done it are run again, alone.
    """

    def __init__(self, tree: Tree, work: Work, run: RunTask, request: Request) -> None:
        self._tree, self._work, self._run, self._request = tree, work, run, request
        self._jobs = max(1, min(request.jobs, len(work)))
        self.watch = Watch(tree, [one.directory for one, _ in work])
        self.changed: set[str] = set()
        self._suspects: set[str] = set()
        self._cleared: set[str] = set()  # had ended at the last check
        self._checked = time.monotonic()

    def outcomes(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """Yield each run with what became of it, as they end. Close it: scripts that still run then are ended.

        A run that wrote elsewhere comes once more.
        """
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._staged, run, text): run for run, text in self._work}
            ended: set[str] = set()
            try:
                for future in as_completed(futures):
                    ended.add(futures[future].directory)
                    self._check(futures, last=len(ended) == len(futures))
                    yield futures[future], future.result()
            finally:
                if len(ended) < len(futures):
                    self._request.stop.set()
                    pool.shutdown(cancel_futures=True)
        yield from self._suspected()

    def changes(self) -> set[str]:
        """Return all that was changed elsewhere until now, by whom ever."""
        self.changed.update(self.watch.changes())
        return self.changed

    def _check(self, futures: dict[Future[Outcome], PlannedRun], *, last: bool) -> None:
        """Find what was changed elsewhere; every run that has been running since the last check may have done it."""
        if not last and len(futures) > _FEW and time.monotonic() - self._checked < _PAUSE:
            return
        # what ends during the check may have done it after the check: it is not cleared yet
        done = {run.directory for future, run in futures.items() if future.done()}
        changes = self.watch.changes()
        self._checked = time.monotonic()
        self.changed.update(changes)
        if changes:
            begun = {run.directory for future, run in futures.items() if future.running() or future.done()}
            self._suspects |= begun - self._cleared
        self._cleared = done

    def _suspected(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """Run each suspect once more, alone; yield those that change something elsewhere."""
        for run, text in self._work:
            if run.directory not in self._suspects or self._request.stop.is_set():
                continue
            self.watch.changes()
            ran = self._staged(run, text).ran
            if changes := self.watch.changes():
                self.changed.update(changes)
                what = few(changes, _LISTED, more=" and {} more")
                reason = f"the script wrote outside its working directory, in the experiment: {what}"
                yield run, Outcome(reason=reason, cause=_WROTE_ELSEWHERE, ran=ran)

    def _staged(self, run: PlannedRun, text: str) -> Outcome:
        """Run the script in a staging directory, which holds nothing but the run's setup_finetune.yaml.

        Its parent has a name that is used once: what a script goes on to write there when we are gone meets nobody.
        """
        once = f"{layout.STAGING}/{secrets.token_hex(8)}"
        staged = f"{once}/{run.directory}"
        if self._request.stop.is_set():
            return Outcome(reason="the scaffold was stopped before")
        try:
            self._tree.make_directory(once, durable=False)
            try:
                self._tree.make_directory(staged, durable=False)
                self._tree.write(f"{staged}/{layout.SETUP_YAML}", text.encode(), durable=False)
                return self._run(staged)
            finally:
                with contextlib.suppress(Refused):  # else the next scaffold clears it
                    self._tree.clear(once)
        except Refused as refused:
            return Outcome(reason=refused.message)
