"""The setup that makes the files of runs, for several runs at a time: the bundled one or an external script.

Of an external script: its environment, its options, and a trial of it on the plan.
"""

import contextlib
import itertools
import os
import posixpath
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Refused, errors_in, escape, few, finding, one_line, refuse, shown
from scaffold_torchtune.models import Interface, Plan, PlannedRun, Setting
from scaffold_torchtune.pipeline.locate import expanded, named_script
from scaffold_torchtune.pipeline.state import identity
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.setup import Outcome, Rendered, run_script
from scaffold_torchtune.setup.external import (
    Activation,
    Cause,
    Fault,
    InterfaceFault,
    activate,
    activation_problem,
    ask_interface,
    lack_of,
)
from scaffold_torchtune.system import layout, processes
from scaffold_torchtune.system.files import Tree, is_file, is_taken, read_regular, sha256, temporary_directory
from scaffold_torchtune.system.layout import SETUP_YAML
from scaffold_torchtune.system.processes import Environment
from scaffold_torchtune.validate import WORKING_DIRECTORY, validate_run

SWITCH: Final = "SCAFFOLD_TORCHTUNE_ACTIVATE"
"""The environment variable that disables activation with the value `off`."""

VENV: Final = "SCAFFOLD_TORCHTUNE_VENV"
"""The environment variable of the option --venv."""

_SECONDS: Final = 120.0  # for an activation (conda on a slow file system takes 10), and for listing a script's options
_KIND: Final = ("torchtune_model_name", "custom_recipe", "gpus", "dataset_type", "dataset_ext")
_MOST_TRIED: Final = 8

_activated: dict[tuple[Activation, tuple[tuple[str, str], ...]], dict[str, str]] = {}
_one_at_a_time = threading.Lock()


def environment_of(settings: Mapping[str, Setting], request: Request) -> Environment:
    """Return the environment that `settings` name; it is activated at most once in this process.

    Raises:
        Refused: it cannot be activated; contains the line of the setting, and the available names.
        Interrupted: the caller stopped the call.
    """
    named = activation_of(settings, request)
    if named.is_active(os.environ):
        how, name = _how(named, is_new=False), named.environment
    elif activates(request):
        return _activated_environment(named, settings, request)
    else:
        how, name = "the current environment, without activation", ""
    return Environment(processes.python(), processes.environment(), how, name, named.commands)


def activation_of(settings: Mapping[str, Setting], request: Request) -> Activation:
    """Return the modules of `settings`, and their conda environment or the operator's virtual environment.

    Raises:
        Refused: the virtual environment does not exist.
    """
    texts = {name: str(settings[name].value or "") for name in ("modules", "conda_env") if name in settings}
    modules = tuple(name.strip() for name in texts.get("modules", "").split(",") if name.strip())
    named = str(request.venv or os.environ.get(VENV) or "")
    if not named:
        return Activation(modules, texts.get("conda_env", ""))
    venv = os.path.abspath(expanded(Path(named)))  # noqa: PTH100 - a link keeps its own name
    if not is_file(Path(venv, "bin", "activate")):
        message = f"{shown(venv)} is not a virtual environment: it has no bin/activate"
        fix = f"correct `--venv` or {VENV}, create the environment (`python3 -m venv {venv}`), or add `--no-activate`"
        raise _refused(finding("environment-missing", message, field="venv", actual=venv, fix=fix))
    return Activation(modules, venv=venv)


def activates(request: Request) -> bool:
    """Return whether the operator allows activation."""
    return request.activate and os.environ.get(SWITCH) != "off"


def _activated_environment(named: Activation, settings: Mapping[str, Setting], request: Request) -> Environment:
    ours = processes.environment()
    key = (named, tuple(sorted(ours.items())))
    with _one_at_a_time:  # a failure is not cached
        found = _activated.get(key) or activate(named, ours, min(request.timeout, _SECONDS), request.stop)
        if not isinstance(found, Fault):
            _activated[key] = found
    if isinstance(found, Fault):
        if request.stop.is_set():
            raise Interrupted
        raise _refused(activation_problem(found, named, settings))
    prefix = found.get("VIRTUAL_ENV" if named.venv else "CONDA_PREFIX", "")
    if named.environment and not os.access(Path(prefix, "bin", "python"), os.X_OK):
        # the script would run with another Python, without the packages of this environment
        message = f"{named.environment} has no Python of its own (no bin/python in {shown(prefix)})"
        field, fix = "conda_env", f"install Python in it: `conda install -n {named.conda_env} python`"
        if named.venv:
            field, fix = "venv", f"create the environment again: `python3 -m venv --clear {named.venv}`"
        raise _refused(finding("activation-failed", message, field=field, fix=fix))
    return Environment(processes.python(found), found, _how(named, is_new=True), named.environment)


def _how(named: Activation, *, is_new: bool) -> str:
    """Return `the conda environment cruijff, activated after module load anaconda3/2025.6`."""
    load = f"module load {' '.join(named.modules)}" if named.modules else ""
    if not named.environment:
        return "the current environment" + (f" after {load}" if load else "")
    if is_new:
        return f"{named.environment}, activated" + (f" after {load}" if load else "")
    return f"{named.environment}, already active" + (f" ({load})" if load else "")


def _refused(found: Finding) -> Refused:
    return Refused("cannot activate the setup script's environment", [found])


def interface_of(setup_script: str, settings: Mapping[str, Setting], request: Request) -> Interface | None:
    """Return the script's options in the environment of `settings`; None for the bundled setup_finetune.

    Raises:
        Refused: the script cannot run on this machine.
    """
    if setup_script == "bundled":
        return None
    environment, script = environment_of(settings, request), Path(setup_script)
    try:
        return ask_interface(script, environment.python, environment.variables, min(request.timeout, _SECONDS))
    except InterfaceFault as fault:
        reason, lack = escape(str(fault)), lack_of(str(fault), script, environment)
        message = f"the setup script {shown(setup_script)} cannot be run: "
        message += f"{lack.cause}. The script printed: {reason}" if lack else reason
        fix = "correct the script, or activate an environment that has the version of Python that it needs"
        fix = lack.fix if lack else f"{fix}; then scaffold again"
        fix = f"{fix}; alternatively, use `--setup-script bundled`"
        code = "package-missing" if lack else "script-unasked"
        problem = finding(code, message, field="setup_script", file=setup_script, fix=fix)
        raise Refused("the setup script cannot run", [problem]) from fault


def trial(
    plan: Plan, rendered: Sequence[Rendered], interface: Interface | None, request: Request
) -> list[tuple[PlannedRun, Finding]]:
    """Run the script for the first run of each kind, before anything is written; return the reasons of failures.

    Kinds differ in the settings for which scripts have tables and branches: model, recipe, GPUs, data. Each is tried in
    an empty directory. A script that does not list its options is not tried, because its effects are unknown.
    """
    if interface is None or interface.options is None:
        return []
    kinds: dict[tuple[object, ...], Rendered] = {}
    for one in rendered:
        kinds.setdefault(tuple(one.run.value(name) for name in _KIND), one)
    found: dict[Finding, tuple[PlannedRun, Finding]] = {}
    for one in list(kinds.values())[:_MOST_TRIED]:
        for each in _problems_of(plan, one, request):
            found.setdefault(each.unplaced(), (one.run, each))
    return list(found.values())


def _problems_of(plan: Plan, one: Rendered, request: Request) -> list[Finding]:
    """Return the reasons why a run would fail, or would not pass validation."""
    run, script = one.run, plan.options.setup_script
    with temporary_directory() as folder:
        Path(folder, SETUP_YAML).write_text(one.text, encoding="utf-8")
        outcome = run_script(Path(script), folder, request.timeout, environment_of(run.settings, request))
    if outcome.reason:
        message = f"the setup script would fail for {run.directory}: {outcome.reason}"
        fix = outcome.cause.fix or "correct the error, or use a different version of the script"
        fix += "" if outcome.cause.is_of_script else "; alternatively, use `--setup-script bundled`"
        return [finding("setup-would-fail", message, field="setup_script", file=script, fix=fix)]
    texts = {name: content.decode("utf-8", "replace") for name, content in outcome.files.items()}
    for path in (os.path.realpath(folder), str(folder)):  # as in the setup itself, where validate reports it
        texts = {name: text.replace(path, f"/{layout.STAGING}/{run.directory}") for name, text in texts.items()}
    found = errors_in(validate_run(run, {SETUP_YAML: one.text, **texts}, bundled=False))
    return [_planned_otherwise(each, run) for each in found]


def _planned_otherwise(found: Finding, run: PlannedRun) -> Finding:
    """Return a finding of a trial, with a fix for files that are not written yet."""
    if found.field == WORKING_DIRECTORY:
        return found.model_copy(update={"message": f"{found.message} (tried for {run.directory})"})
    is_value = found.code == "value-mismatch" and found.field in run.settings
    if found.field == "checkpoint_files":
        fix = "specify the model's files as the script writes them, or use `--setup-script bundled`"
        return found.model_copy(update={"message": f"{found.message} (tried for {run.directory})", "fix": fix})
    instead = f"plan the value that the script writes ({shown(found.actual)}), " if is_value else ""
    fix = f"{instead}use a different setup_finetune.py, or use `--setup-script bundled`"
    return found.model_copy(update={"message": f"{found.message} (tried for {run.directory})", "fix": fix})


@dataclass(frozen=True)
class SetupScript:
    """An external setup_finetune.py, and the environment that it runs in."""

    path: Path
    environment: processes.Environment

    def run(self, folder: Path, request: Request) -> Outcome:
        """Run the script in a folder, within the request's deadline."""
        return run_script(self.path, folder, request.timeout, self.environment, request.stop)


@dataclass(frozen=True)
class Backend:
    """The setup_finetune of a plan. `identity` changes if its results may change; `script` is None if it is bundled."""

    identity: str
    script: SetupScript | None = None


def backend_of(plan: Plan, request: Request) -> Backend:
    """Return the backend that the plan names.

    Raises:
        Refused: the script of the plan differs from the operator's (a plan is a file, and may come from elsewhere), no
            longer exists, or its environment cannot be activated.
    """
    named = named_script(request)
    planned = plan.options.setup_script
    if planned == "bundled":
        if request.setup_script and named != "bundled":
            message = f"the plan was made with the bundled setup_finetune, not with {shown(str(named))}"
            raise _other_script(message, "bundled")
        return Backend(identity(plan))
    if named != planned:
        message = f"the plan was made with the setup script {shown(planned)}, but a different one is in use"
        raise _other_script(message, planned)
    try:
        found = identity(plan)
    except OSError as error:
        message = f"the setup script {shown(planned)} cannot be read: {error.strerror}"
        fix = "restore the script, or render again with a different `--setup-script`"
        raise refuse("setup-script-missing", message, file=planned, fix=fix) from error
    return Backend(found, SetupScript(Path(planned), environment_of(plan.runs[0].settings, request)))


def files_beside(script: Path, experiment: Path) -> dict[str, str]:
    """Return a digest of each file in a script's directory and its subdirectories: templates that it may read.

    Hidden files, logs, temporary files of Python and editors, large files and whole experiments are skipped, because
    they change by themselves. A file that cannot be read counts as missing. If there are many files, the nearest are
    used.
    """
    found: dict[str, str] = {}
    paths = _paths_beside(script.parent, experiment)
    for path in itertools.islice(paths, _MOST_BESIDE):
        name = str(path.relative_to(script.parent))
        if name.isprintable() and (digest := digest_beside(script, name)):
            found[name] = digest
    return found


def digest_beside(script: Path, name: str) -> str:
    """Return a digest of a file by its path relative to a script; an empty string if it is missing or large."""
    data = b""
    with contextlib.suppress(OSError):
        data = read_regular(script.parent / name, _LARGEST_BESIDE)
    return sha256(data)[:_DIGITS] if data else ""


def _paths_beside(directory: Path, experiment: Path) -> Iterator[Path]:
    """Yield everything but directories in a directory and its subdirectories, the nearest first."""
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
_DEPTH_BESIDE: Final = 3  # cruijff_kit's templates are two directories below
_LEFT_BEHIND: Final = (".pyc", ".log", ".out", ".err", ".lock", ".pid", ".tmp", ".swp", "~")


def _other_script(message: str, planned: str) -> Refused:
    fix = (
        f"specify the setup script of the plan with `--setup-script {one_line(planned)}` (for the server, with"
        " SCAFFOLD_TORCHTUNE_SETUP_SCRIPT); alternatively, render again with the script that you want to use"
    )
    return refuse("setup-choice", message, field="setup_script", file=layout.PLAN, fix=fix)


Status = tuple[int, int, int, int]
"""Inode, mode, size, and time of the last change of the content in nanoseconds."""


class Watch:
    """The entries of the experiment directory, its run directories and its state, as of the last check."""

    def __init__(self, tree: Tree, directories: Iterable[str]) -> None:
        self._root = tree.root
        self._directories = (layout.RUNS, layout.OUTPUT, *directories)
        self._seen = self._scan("", layout.STATE, *self._directories)

    def _scan(self, *directories: str) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for directory in directories:
            # the directory may be missing or not readable, which is also a change
            with contextlib.suppress(OSError), os.scandir(self._root / directory) as entries:
                for entry in entries:
                    path = f"{directory}/{entry.name}" if directory else entry.name
                    if path in _OURS:  # this program writes there while scripts run: only its kind must not change
                        status = entry.stat(follow_symlinks=False)
                        found[path] = (status.st_ino, status.st_mode, 0, 0)
                    elif not path.startswith(_UNWATCHED):
                        found[path] = _status(entry.stat(follow_symlinks=False))
        return found

    def changes(self) -> list[str]:
        """Return the paths that have changed since the last check, relative to the experiment."""
        before, self._seen = self._seen, self._scan("", layout.STATE, *self._directories)
        changed = {path for path in {*before, *self._seen} if before.get(path) != self._seen.get(path)}
        # the time of a directory changes with its entries, which are reported themselves
        return sorted(changed - {posixpath.dirname(path) for path in changed})

    def wrote(self, paths: Iterable[str], is_ours: Callable[[str], bool], expected: Iterable[str]) -> None:
        """Accept the present state of files and run directories that this program has just written.

        `is_ours` is called after they are inspected, and the `expected` paths must exist, so that a change in the
        meantime is never accepted.
        """
        for path in paths:
            inside = {name for name in self._seen if name.startswith(f"{path}/")}
            now = self._scan(path)
            with contextlib.suppress(OSError):
                now[path] = _status(os.lstat(self._root / path))
            kept = {name: status for name, status in now.items() if is_ours(name)}
            self._seen = {n: s for n, s in self._seen.items() if n != path and n not in inside} | kept
        for path in expected:
            self._seen.setdefault(path, _WRITTEN)


_OURS: Final = frozenset(layout.STATE_DIRECTORIES)
_UNWATCHED: Final = (layout.LOCK, layout.BACKUP, layout.HISTORY)


_WRITTEN: Final[Status] = (0, 0, 0, 0)
"""The status of a path that was written, and then removed or changed before it was inspected."""


def _status(status: os.stat_result) -> Status:
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


RunTask = Callable[[str], Outcome]
"""A function that runs the script in a staging directory, relative to the experiment."""

Work = Sequence[tuple[PlannedRun, str]]
"""Runs, each with the text of its setup_finetune.yaml."""

_PAUSE: Final = 1.0  # minimum seconds between two checks of what scripts change elsewhere, if there are many runs
_FEW: Final = 20
_LISTED: Final = 5
_WROTE_ELSEWHERE: Final = Cause(
    "the script uses the path of the experiment, or a parent of its working directory",
    "check the changed files, and use a script that writes only into its working directory",
)


class Pool:
    """A pool that runs the script for each run, `jobs` of the request at a time, until `stop` of the request is set.

    It detects changes elsewhere in the experiment: runs that may have made them are run again, one at a time, each
    after `restore` has undone the changes. `has_failed` returns whether a run, by its directory, failed or could not be
    published.
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
        self._cleared: set[str] = set()  # had ended by the last check
        self._checked = time.monotonic()

    def outcomes(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """Yield each run with its outcome, in the order in which they end. Closing the generator ends running scripts.

        A run that wrote elsewhere is yielded a second time.
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
        """Return all paths elsewhere that were changed until now, no matter by whom."""
        self.changed.update(self._changes())
        return self.changed

    def miss(self, paths: Iterable[str]) -> None:
        """Record paths as changed that were missing and restored before a check could find them missing."""
        self._missed.update(paths)

    def _changes(self) -> list[str]:
        """Return the paths elsewhere that were changed since the last check."""
        changes = self.watch.changes()
        # read after the check: a path restored before the check was recorded before it; threads may add others
        missed = {self._missed.pop() for _ in range(len(self._missed))}
        return sorted({*changes, *missed})

    def _check(self, futures: dict[Future[Outcome], PlannedRun], *, last: bool) -> None:
        """Find changes elsewhere; every run that was running since the last check may have made them."""
        if not last and len(futures) > _FEW and time.monotonic() - self._checked < _PAUSE:
            return
        # a run that ends during the check may have changed something after it: it is not cleared yet
        done = {run.directory for future, run in futures.items() if future.done()}
        lost = bool(self._lost)
        changes = self._changes()
        self._checked = time.monotonic()
        self.changed.update(changes)
        if changes or lost:
            begun = {run.directory for future, run in futures.items() if future.running() or future.done()}
            # a file that a run lost may have been removed before the last check, while the run was active
            self._suspects |= begun if lost else begun - self._cleared
        self._cleared = done

    def _suspected(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """Run each suspect again, alone, and each run that failed at the same time; yield their outcomes.

        A suspect that had not failed is only yielded if it changes files again. A run that failed may have failed only
        because another script removed its files.
        """
        for run, text in self._work:
            is_suspect = run.directory in self._suspects
            is_victim = bool(self._suspects) and self._has_failed(run.directory)
            if self._request.stop.is_set() or not (is_suspect or is_victim):
                continue
            with contextlib.suppress(Refused):  # writing will be refused again, and reported
                self._restore()
            self.changes()
            outcome = self._staged(run, text)
            if changes := self._changes():
                self.changed.update(changes)
                what = few([escape(path) for path in changes], _LISTED)
                reason = f"the script wrote outside its working directory, in the experiment: {what}"
                yield run, Outcome(reason=reason, cause=_WROTE_ELSEWHERE, ran=outcome.ran)
            elif is_victim:
                yield run, outcome

    def _staged(self, run: PlannedRun, text: str) -> Outcome:
        """Run the script in a staging directory, which holds only the run's setup_finetune.yaml.

        The parent's name is used only once, so that a script that survives this program writes to no other's files.
        """
        once = f"{layout.STAGING}/{secrets.token_hex(8)}"
        staged = f"{once}/{run.directory}"
        if self._request.stop.is_set():
            return Outcome(reason="the scaffold was stopped before the script was started")
        try:
            if gone := self._tree.unprepared():  # another run's script removed them
                self.miss(gone)
                self._tree.prepare()
            self._tree.make_directory(once, durable=False)
            try:
                self._tree.make_directory(staged, durable=False)
                self._tree.write(f"{staged}/{layout.SETUP_YAML}", text.encode(), durable=False)
                outcome = self._run(staged)
                if outcome.reason and self._tree.kind(f"{staged}/{layout.SETUP_YAML}") is None:
                    # another run's script may have removed it
                    self._lost.add(run.directory)
                return outcome
            finally:
                with contextlib.suppress(Refused):  # else the next scaffold clears it
                    self._tree.clear(once)
        except Refused as refused:
            return Outcome(reason=refused.message)
