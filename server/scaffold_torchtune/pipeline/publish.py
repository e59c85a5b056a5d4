"""Step 6, writing: run setup for the pending runs and publish its outputs, even if scripts damage the experiment.

The state is held in memory while scripts run: files that one of them removes are restored, so that the other runs are
finished and the log is closed. Files that a person edits in the meantime are kept.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Refused, escape, few, finding, one_line
from scaffold_torchtune.models import Plan, PlannedRun
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.apply import PendingSetup, Setups
from scaffold_torchtune.pipeline.backend import Backend, Pool, Work, digest_beside, files_beside
from scaffold_torchtune.pipeline.backup import Backup, History, Reason
from scaffold_torchtune.pipeline.changes import decisions
from scaffold_torchtune.pipeline.run_states import job_outputs
from scaffold_torchtune.pipeline.state import Record, hash_of, hashes_of
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.results.step_results import SetupResult, SetupRun
from scaffold_torchtune.setup import Outcome, run_bundled
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, sha256
from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML, OUTPUTS, SETUP_YAML

_LISTED: Final = 5
_TRIES: Final = 20
_DOCUMENTS: Final = (layout.SUMMARY, layout.SUMMARY_YAML, layout.LOCAL, layout.LOG)


def run_setups(
    tree: Tree,
    plan: Plan,
    backend: Backend,
    setups: Setups,
    request: Request,
    known: Mapping[tuple[str, str], Outcome],
) -> SetupResult:
    """Run setup_finetune for each pending run; one failure does not stop the others.

    `known` are results of the bundled setup_finetune in this call, by directory and text.

    Raises:
        Interrupted: the caller stopped the call.
    """
    work = [(run, setups.pending[run.directory].text) for run in plan.runs if run.directory in setups.pending]
    made, script = Publisher(tree, plan, backend, setups, request), backend.script
    made.tidy()
    pool = None
    if script and work:
        made.guard(script.path)
        pool = Pool(
            tree,
            work,
            lambda at: script.run(tree.root / at, request),
            request,
            restore=made.restore,
            has_failed=made.has_failed,
        )
    with closing(pool.outcomes() if pool else _bundled(work, known)) as outcomes:
        for run, outcome in outcomes:
            if request.stop.is_set() and not outcome.files:
                raise Interrupted
            made.take(run, outcome)
            if pool:
                pool.miss(made.found_missing())
                pool.watch.wrote(made.written(run.directory), made.is_ours, made.expected(run.directory))
            request.report("setup", len(made.outcomes), len(work))
    changed = pool.changes() if pool else set[str]()
    if changed:
        changed -= made.restore()
    if pool and script:
        made.forget_written(script.path)
    return made.result(sorted(changed))


def _bundled(work: Work, known: Mapping[tuple[str, str], Outcome]) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    for run, text in work:
        yield run, known.get((run.directory, text)) or run_bundled(run, text)


class Publisher:
    """A publisher of the results of runs; a run may be published again."""

    def __init__(self, tree: Tree, plan: Plan, backend: Backend, setups: Setups, request: Request) -> None:
        self._tree, self._plan, self._backend, self._request = tree, plan, backend, request
        self._pending = setups.pending
        self._records = dict(setups.records)
        self._backup, self._history = Backup(tree, request.now), History(tree, request.now)
        self._says = decisions(request, [run.directory for run in (*plan.runs, *plan.former)])
        self._beside: dict[str, str] | None = None
        self._is_guarding = False
        self._missing: set[str] = set()
        self._guarded: dict[str, bytes] = {}
        self._kept: dict[str, bytes] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.reasons: dict[str, str] = {}

    def guard(self, script: Path) -> None:
        """Hold the state and the documents in memory, and record the files in the script's directory, before a run."""
        self._is_guarding = True
        self._beside = files_beside(script, self._tree.root)
        paths = (*map(layout.record, self._records), layout.PLAN, layout.PROGRESS)
        self._guarded = {path: self._tree.read(path) or b"" for path in paths}
        for path in _DOCUMENTS:
            if self._tree.kind(path) == "file" and (data := self._tree.read(path)):
                self._kept[path] = data

    def put_back(self) -> None:
        """Restore removed or changed state, including the lock, and removed documents.

        Raises:
            Refused: a path is taken by something else, the file system refuses, or another scaffold has the lock now.
        """
        for _ in range(_TRIES):  # a script may be removing it at this moment
            try:
                self._put_back()
            except Refused:
                if self._tree.kind(layout.LOCK) is not None:
                    raise
            else:
                return
        self._put_back()

    def _put_back(self) -> None:
        self._tree.renew()
        self._missing.update(self._tree.unprepared())
        self._tree.prepare()
        self._tree.relock()
        wrong = {path: data for path, data in self._guarded.items() if self._tree.read(path) != data}
        wrong |= {path: data for path, data in self._kept.items() if self._tree.kind(path) is None}
        self._missing.update(wrong)
        for path, data in wrong.items():
            self._tree.write(path, data)

    def tidy(self) -> None:
        """Clear `replaced` in the records of finished runs, which a killed scaffold left."""
        for directory, record in [*self._records.items()]:
            if directory not in self._pending and record.replaced:
                self._save(record.model_copy(update={"replaced": ()}))

    def found_missing(self) -> set[str]:
        """Return the paths that were restored since the last call."""
        missing, self._missing = self._missing, set()
        return missing

    def _save(self, record: Record) -> None:
        self._records[record.directory] = record
        path, data = layout.record(record.directory), state.dumped(record)
        if self._is_guarding and self._tree.read(path) != self._guarded.get(path):
            self._missing.add(path)  # a script removed or changed it, which cannot be detected after the write
        self._guarded[path] = data
        self._tree.write(path, data)

    def forget_written(self, script: Path) -> None:
        """Remove files in the script's directory from the records if they changed while it ran: it writes them."""
        names = {name for name, digest in (self._beside or {}).items() if digest_beside(script, name) != digest}
        for directory, record in [*self._records.items()] if names else []:
            if directory in self._pending and record.beside:
                beside = {name: digest for name, digest in record.beside.items() if name not in names}
                self._save(record.model_copy(update={"beside": beside}))

    def take(self, run: PlannedRun, outcome: Outcome) -> None:
        """Publish the outcome of a run, or record that it failed.

        Raises:
            Refused: a script removed the lock, and another scaffold has it now.
        """
        self._hold_lock()
        is_published = run.directory in self.outcomes and not self.reasons[run.directory]
        self.outcomes[run.directory] = outcome
        self.reasons[run.directory] = outcome.reason or self._published(run, outcome)
        if self.reasons[run.directory]:
            if is_published:  # the fault was detected only afterwards
                with suppress(Refused):  # a link or a directory, which sbatch would not accept
                    self._clear_slurm(run.directory)
            self._note(run, outcome, self.reasons[run.directory])

    def _hold_lock(self) -> None:
        """Take the lock again if a script removed it: without it nothing is written."""
        if self._is_guarding and not self._tree.holds_lock():
            try:
                self.put_back()
            except Refused as refused:
                if any(problem.code == "busy" for problem in refused.problems):
                    raise  # other problems become the reason of the run that cannot be published

    def _published(self, run: PlannedRun, outcome: Outcome) -> str:
        """Publish a run's outputs; return the reason if that failed."""
        try:
            self._trying_twice(lambda: self._publish(run, outcome))
        except Refused as refused:
            return refused.message
        return ""

    def _trying_twice(self, write: Callable[[], None]) -> None:
        """Write; if that is refused while scripts run, restore files that a script may have removed, and try again."""
        try:
            write()
        except Refused:
            if not self._is_guarding:
                raise
            self.put_back()
            write()

    def _publish(self, run: PlannedRun, outcome: Outcome) -> None:
        """Publish a run's outputs, finetune.slurm last. Unchanged outputs of the same script are not rewritten."""
        tree, directory = self._tree, run.directory
        pending = self._pending[directory]
        self._complete(directory, pending)
        outputs = {name: sha256(outcome.files[name]) for name in OUTPUTS}
        record = self._records[directory]
        new = record.model_copy(
            update={
                "backend": self._backend.identity,
                "beside": self._beside,
                "outputs": outputs,
                "replaced": (),
                "failed": "",
                "rejected": False,
            }
        )
        there = hashes_of(tree, directory)
        if there != outputs or record.backend != new.backend:
            for name in record.foreign(there):
                if there[name] not in pending.let_go:
                    self._backup.keep(f"{directory}/{name}", "while setup was running")
            self._keep(run, record, there, outputs)
            # Files of two generations must never look ready: the file that makes a run ready is removed first.
            tree.remove(f"{directory}/{FINETUNE_SLURM}")
            replaced = tuple(hashes_of(tree, directory, (FINETUNE_YAML,)).values())
            self._save(new.model_copy(update={"replaced": replaced}))
            for name in OUTPUTS:
                tree.write(f"{directory}/{name}", outcome.files[name])
        if self._records[directory] != new:
            self._save(new)
        tree.remove(layout.output(directory))

    def _keep(self, run: PlannedRun, record: Record, there: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Keep the replaced files of a run, given the SHA-256 of the present and of the new files.

        Render has already kept the files that it found; incomplete files of a killed call are not a version.

        Raises:
            Refused: a job of the run was submitted since setup began.
        """
        pending, replaces = self._pending[run.directory], self._says(run.directory) == "replace"
        if FINETUNE_SLURM in there and not replaces and job_outputs(self._tree, run.directory):
            raise Refused("the run was submitted while setup was running; its files were not changed", ())
        known = {*pending.record.replaced, *outputs.values()}
        whole = set(there.values()) if record.is_published(there) else pending.let_go
        old = [name for name in OUTPUTS if there.get(name) in whole - known]
        edited = [name for name in old if there[name] in pending.let_go]
        reason = Reason.OVERWRITTEN if edited else Reason.SET_UP
        started = replaces and bool(job_outputs(self._tree, run.directory))
        self._history.keep(run.directory, old, reason, edited=edited, started=started)

    def _complete(self, directory: str, pending: PendingSetup) -> None:
        """Restore the run directory and its setup_finetune.yaml if a script removed them."""
        path = f"{directory}/{SETUP_YAML}"
        if self._tree.make_directory(directory) or self._tree.kind(path) is None:
            self._tree.write(path, pending.text.encode())
            self._missing.add(path)

    def _clear_slurm(self, directory: str) -> None:
        """Remove finetune.slurm; if it was edited in the meantime, it is kept."""
        path = f"{directory}/{FINETUNE_SLURM}"
        there = hashes_of(self._tree, directory, (FINETUNE_SLURM,))
        if self._records[directory].foreign(there):
            self._backup.keep(path, "while setup was running")
        self._tree.remove(path)

    def _note(self, run: PlannedRun, outcome: Outcome, reason: str) -> None:
        """Record that a run failed, and keep the output of its script; the run's earlier files stay."""
        lines = [one_line(line) for line in outcome.ran.output.splitlines()] if outcome.ran else []

        def write() -> None:
            self._save(self._records[run.directory].model_copy(update={"failed": one_line(reason)}))
            if lines:
                self._tree.write(layout.output(run.directory), ("\n".join(lines) + "\n").encode())

        try:
            self._trying_twice(write)
        except Refused as refused:
            self.reasons[run.directory] = f"{reason}; also, the failure could not be recorded: {refused.message}"

    def written(self, directory: str) -> list[str]:
        """Return the paths of a run that `take` may have written."""
        files = [layout.record(directory), layout.output(directory)]
        return files if self.reasons[directory] else [*files, directory]

    def expected(self, directory: str) -> list[str]:
        """Return the paths of a run that must exist after `take`."""
        if self.reasons[directory]:
            return []
        return [layout.record(directory), directory, *(f"{directory}/{name}" for name in layout.RUN_FILES)]

    def is_ours(self, path: str) -> bool:
        """Return whether a file is as this program wrote it, or is not one of its files."""
        if path in self._guarded:
            return hash_of(self._tree, path) == sha256(self._guarded[path])
        directory, _, name = path.rpartition("/")
        made = self.outcomes[directory].files.get(name) if directory in self.outcomes else None
        return made is None or hash_of(self._tree, path) == sha256(made)

    def restore(self) -> set[str]:
        """Restore removed files, and publish again outputs that were changed since they were published.

        Returns the paths of all outputs, which are correct now.
        """
        self.put_back()
        paths: set[str] = set()
        for directory, outcome in self.outcomes.items():
            if self.reasons[directory]:
                continue
            self._complete(directory, self._pending[directory])
            for name in OUTPUTS:
                path = f"{directory}/{name}"
                kind = self._tree.kind(path)
                if kind != "file" or not self.is_ours(path):
                    if kind is not None:
                        self._backup.keep(path, "while setup was running, after it was generated")
                    self._tree.write(path, outcome.files[name])
                paths.add(path)
        return paths

    def has_failed(self, directory: str) -> bool:
        """Return whether a run failed, or its outputs could not be published."""
        return bool(self.reasons.get(directory))

    def result(self, changed: list[str]) -> SetupResult:
        """Return the result of all runs. `changed` are paths that were changed while scripts ran."""
        warnings: dict[tuple[str, str | None], Finding] = {}
        for outcome in self.outcomes.values():
            for warning in outcome.warnings:
                warnings.setdefault((warning.code, warning.field), warning)
        found = [*warnings.values(), *self._backup.findings]
        if changed:
            names = [escape(path) for path in changed]
            message = f"{few(names, _LISTED)} changed while the setup script was running"
            fix = "no action if you made the change; otherwise check the setup script, which should not change it"
            found.append(finding("changed-meanwhile", message, file=names[0], fix=fix))
        runs = tuple(self._run(run, pending=run.directory in self._pending) for run in self._plan.runs)
        failed = sum(not run.ok for run in runs)
        return SetupResult(
            environment=self._backend.script.environment.how if self._backend.script else "",
            processed=len(runs),
            succeeded=len(runs) - failed,
            failed=failed,
            runs=runs,
            warnings=tuple(found),
            history=self._history.trimmed(),
        )

    def _run(self, run: PlannedRun, *, pending: bool) -> SetupRun:
        directory = run.directory
        outcome, reason = self.outcomes.get(directory, Outcome()), self.reasons.get(directory, "")
        ran, output = outcome.ran, layout.output(directory)
        return SetupRun(
            directory=directory,
            name=run.name,
            ok=not reason,
            unchanged=not pending,
            reason=reason,
            cause=outcome.cause.cause,
            fix=outcome.cause.fix,
            status=ran.status if ran else None,
            seconds=round(ran.seconds, 2) if ran else None,
            output=output if reason and self._tree.kind(output) else "",
        )
