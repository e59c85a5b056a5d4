"""The setup that makes the files of runs, the bundled one or a script, for several runs at a time."""

import contextlib
import itertools
import os
import posixpath
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Refused, escape, few, refuse, shown
from scaffold_torchtune.models import Plan, PlannedRun
from scaffold_torchtune.pipeline.external_setup import environment_of
from scaffold_torchtune.pipeline.prepare import named_script
from scaffold_torchtune.pipeline.state import identity
from scaffold_torchtune.request import Request
from scaffold_torchtune.setup import Outcome, run_script
from scaffold_torchtune.setup.external import Cause
from scaffold_torchtune.system import layout, processes
from scaffold_torchtune.system.files import Tree, is_taken, read_regular, sha256


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


def files_beside(script: Path, experiment: Path) -> dict[str, str]:
    """Return a digest of each file beside a script, in its directory and in those below: templates that it may read.

    Left out are hidden files, logs, what Python and editors leave behind, large files, and whole experiments: they
    change by themselves. What cannot be read counts as absent. The nearest files count where there are many.
    """
    found: dict[str, str] = {}
    paths = _paths_beside(script.parent, experiment)
    for path in itertools.islice(paths, _MOST_BESIDE):
        name = str(path.relative_to(script.parent))
        if name.isprintable() and (digest := digest_beside(script, name)):
            found[name] = digest
    return found


def digest_beside(script: Path, name: str) -> str:
    """Return a digest of a file beside a script, by its relative path; empty where it is absent or large."""
    data = b""
    with contextlib.suppress(OSError):
        data = read_regular(script.parent / name, _LARGEST_BESIDE)
    return sha256(data)[:_DIGITS] if data else ""


def _paths_beside(directory: Path, experiment: Path) -> Iterator[Path]:
    """Yield what is no directory in one and in those below, the nearest first."""
    folders = [(directory, 0)]
    for folder, depth in folders:
        entries: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError), os.scandir(folder) as found:
            entries = sorted(itertools.islice(found, _MOST_LISTED), key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if not entry.is_dir(follow_symlinks=False):
                if not entry.name.endswith(_LEFT_BEHIND):
                    yield path
            elif depth < _DEPTH_BESIDE and len(folders) < _MOST_BESIDE and not _is_experiment(path, experiment):
                folders.append((path, depth + 1))


def _is_experiment(folder: Path, experiment: Path) -> bool:
    names = (layout.STATE, layout.SUMMARY, layout.SUMMARY_YAML)
    return folder == experiment or any(is_taken(folder / name) for name in names)


_LARGEST_BESIDE: Final = 300_000
_MOST_BESIDE: Final = 200  # files, and directories
_MOST_LISTED: Final = 10_000
_DIGITS: Final = 16
_DEPTH_BESIDE: Final = 3  # cruijff_kit's templates lie two directories below
_LEFT_BEHIND: Final = (".pyc", ".log", ".out", ".err", ".lock", ".pid", ".tmp", ".swp", "~")


def _other_script(message: str) -> Refused:
    fix = (
        "name the script that is to run with --setup-script or SCAFFOLD_TORCHTUNE_SETUP_SCRIPT, as when the plan was"
        " made; or render again, with the one that is to run or with --setup-script bundled"
    )
    return refuse("setup-choice", message, field="setup_script", file=layout.PLAN, fix=fix)


Status = tuple[int, int, int, int]
"""Inode, mode, size and time of the last change of content, in nanoseconds."""


class Watch:
    """What lies in the experiment directory, in its run directories and in its state, as it was at the last check."""

    def __init__(self, tree: Tree, directories: Iterable[str]) -> None:
        self._root = tree.root
        self._directories = (layout.RUNS, layout.OUTPUT, *directories)
        self._seen = self._scan("", layout.STATE, *self._directories)

    def _scan(self, *directories: str) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for directory in directories:
            # the directory may be gone, or not readable, which is a change too
            with contextlib.suppress(OSError), os.scandir(self._root / directory) as entries:
                for entry in entries:
                    path = f"{directory}/{entry.name}" if directory else entry.name
                    if path in _OURS:  # we write there while scripts run: it must only stay what it is
                        status = entry.stat(follow_symlinks=False)
                        found[path] = (status.st_ino, status.st_mode, 0, 0)
                    elif not path.startswith(_UNWATCHED):
                        found[path] = _status(entry.stat(follow_symlinks=False))
        return found

    def changes(self) -> list[str]:
        """Return the paths that have changed since the last check, relative to the experiment."""
        before, self._seen = self._seen, self._scan("", layout.STATE, *self._directories)
        changed = {path for path in {*before, *self._seen} if before.get(path) != self._seen.get(path)}
        # a directory has another time when something in it comes or goes, which is a change itself
        return sorted(changed - {posixpath.dirname(path) for path in changed})

    def wrote(self, paths: Iterable[str], is_ours: Callable[[str], bool]) -> None:
        """Take files, and run directories, for as we have just left them, but for what in them is not ours.

        They are asked about after they were looked at, so that nothing that changes meanwhile is taken for ours.
        """
        for path in paths:
            inside = {name for name in self._seen if name.startswith(f"{path}/")}
            now = self._scan(path)
            with contextlib.suppress(OSError):
                now[path] = _status(os.lstat(self._root / path))
            kept = {name: status for name, status in now.items() if is_ours(name)}
            self._seen = {n: s for n, s in self._seen.items() if n != path and n not in inside} | kept


_OURS: Final = frozenset(layout.STATE_DIRECTORIES)
_UNWATCHED: Final = (layout.LOCK, layout.BACKUP, layout.HISTORY)


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

    It notices what scripts change elsewhere in the experiment: runs that may have done it are run again, alone, each
    after `restore` has put back what was changed. `has_failed` says whether a run, by its directory, failed or could
    not be published.
    """

    def __init__(
        self,
        tree: Tree,
        work: Work,
        run: RunTask,
        request: Request,
        *,
        restore: Callable[[], object],
        has_failed: Callable[[str], bool],
    ) -> None:
        self._tree, self._work, self._run, self._request = tree, work, run, request
        self._restore, self._has_failed = restore, has_failed
        self._jobs = max(1, min(request.jobs, len(work)))
        self.watch = Watch(tree, [one.directory for one, _ in work])
        self.changed: set[str] = set()
        self._missed: set[str] = set()
        self._lost: set[str] = set()
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
                    run, outcome = futures[future], future.result()
                    ended.add(run.directory)
                    self._check(futures, last=len(ended) == len(futures))
                    yield run, outcome
            finally:
                if len(ended) < len(futures):
                    self._request.stop.set()
                    pool.shutdown(cancel_futures=True)
        yield from self._suspected()

    def changes(self) -> set[str]:
        """Return all that was changed elsewhere until now, by whom ever."""
        self.changed.update(self._changes())
        return self.changed

    def miss(self, paths: Iterable[str]) -> None:
        """Take it for a change that something had gone, and was made again before it was looked for."""
        self._missed.update(paths)

    def _changes(self) -> list[str]:
        """Return what was changed elsewhere since the last check."""
        changes = self.watch.changes()
        # after the look: what was made again before it was noted before it; threads may add others
        missed = {self._missed.pop() for _ in range(len(self._missed))}
        return sorted({*changes, *missed})

    def _check(self, futures: dict[Future[Outcome], PlannedRun], *, last: bool) -> None:
        """Find what was changed elsewhere; every run that has been running since the last check may have done it."""
        if not last and len(futures) > _FEW and time.monotonic() - self._checked < _PAUSE:
            return
        # what ends during the check may have done it after the check: it is not cleared yet
        done = {run.directory for future, run in futures.items() if future.done()}
        lost = bool(self._lost)
        changes = self._changes()
        self._checked = time.monotonic()
        self.changed.update(changes)
        if changes or lost:
            begun = {run.directory for future, run in futures.items() if future.running() or future.done()}
            # what a run lost may have been taken before the last check, while it ran
            self._suspects |= begun if lost else begun - self._cleared
        self._cleared = done

    def _suspected(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """Run each suspect once more, alone, and each run that failed beside them; yield what came of those.

        Of a suspect that had not failed only its guilt counts. Who had failed may have done so only because another
        took away what it works with.
        """
        for run, text in self._work:
            is_suspect = run.directory in self._suspects
            is_victim = bool(self._suspects) and self._has_failed(run.directory)
            if self._request.stop.is_set() or not (is_suspect or is_victim):
                continue
            with contextlib.suppress(Refused):  # it is refused again where it is written
                self._restore()
            self.changes()
            outcome = self._staged(run, text)
            if changes := self._changes():
                self.changed.update(changes)
                what = few([escape(path) for path in changes], _LISTED, more=" and {} more")
                reason = f"the script wrote outside its working directory, in the experiment: {what}"
                yield run, Outcome(reason=reason, cause=_WROTE_ELSEWHERE, ran=outcome.ran)
            elif is_victim:
                yield run, outcome

    def _staged(self, run: PlannedRun, text: str) -> Outcome:
        """Run the script in a staging directory, which holds nothing but the run's setup_finetune.yaml.

        Its parent has a name that is used once: what a script goes on to write there when we are gone meets nobody.
        """
        once = f"{layout.STAGING}/{secrets.token_hex(8)}"
        staged = f"{once}/{run.directory}"
        if self._request.stop.is_set():
            return Outcome(reason="the scaffold was stopped before")
        try:
            if gone := self._tree.unprepared():  # another run's script took them away
                self.miss(gone)
                self._tree.prepare()
            self._tree.make_directory(once, durable=False)
            try:
                self._tree.make_directory(staged, durable=False)
                self._tree.write(f"{staged}/{layout.SETUP_YAML}", text.encode(), durable=False)
                outcome = self._run(staged)
                if outcome.reason and self._tree.kind(f"{staged}/{layout.SETUP_YAML}") is None:
                    # another run's script may have taken it away
                    self._lost.add(run.directory)
                return outcome
            finally:
                with contextlib.suppress(Refused):  # else the next scaffold clears it
                    self._tree.clear(once)
        except Refused as refused:
            return Outcome(reason=refused.message)
