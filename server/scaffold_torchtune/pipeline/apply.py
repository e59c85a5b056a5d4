"""The writing halves of render and setup, under the experiment's lock.

What a person edited is never overwritten unasked.
"""

from collections.abc import Container, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress

from scaffold_torchtune.findings import Finding, Refused, finding, refuse
from scaffold_torchtune.models import Plan, PlannedRun
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.backend import Backend, Pool, Work
from scaffold_torchtune.pipeline.prepare import Prepared
from scaffold_torchtune.pipeline.state import Record
from scaffold_torchtune.render import Rendered
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.results.step_results import RenderedRun, RenderResult, SetupResult, SetupRun
from scaffold_torchtune.setup import Outcome, run_bundled
from scaffold_torchtune.system import layout, locking
from scaffold_torchtune.system.files import Tree, sha256
from scaffold_torchtune.system.layout import FINETUNE_SLURM, OUTPUTS, SETUP_YAML
from scaffold_torchtune.system.text import few, one_line

_LISTED = 5


@contextmanager
def writing(tree: Tree) -> Iterator[None]:
    """Make the state directories and hold the lock.

    Raises:
        Refused: another scaffold is at work; or what lies where the log belongs is no plain file.
    """
    if tree.kind(layout.LOG) not in {None, "file"}:
        message = f"{layout.LOG} is a link, or not the plain file that it should be"
        fix = "look at what lies there; remove or rename it"
        raise refuse("unsafe-path", message, file=layout.LOG, fix=fix)
    tree.prepare()
    with tree.locked():
        yield


def clear_leftovers(tree: Tree) -> None:
    """Remove the lock that a killed scaffold left, and what it left in staging, where nothing else is to be done."""
    with suppress(Refused):
        if isinstance(tree.look_at_lock(), locking.Leftover):
            with writing(tree):
                pass


def hash_of(tree: Tree, path: str) -> str | None:
    """Return the SHA-256 of a file, or None where it is not there."""
    data = tree.read(path)
    return None if data is None else sha256(data)


def hashes_of(tree: Tree, directory: str, names: Iterable[str] = OUTPUTS) -> dict[str, str]:
    """Return the SHA-256 of those files of a run that are there, by name."""
    return {name: digest for name in names if (digest := hash_of(tree, f"{directory}/{name}"))}


def _edited(path: str, what: str, again: str = "repeat the step") -> Finding:
    """Return a problem for a file that is not as we wrote it. `again` is what replaces it."""
    fix = f"move it away to keep it, or {again} with --overwrite (overwrite: true) to replace it"
    return finding("edited-output", f"it {what}", file=path, fix=fix)


def left_over(tree: Tree, plan: Plan) -> list[Finding]:
    """Return a finding for each run of an earlier plan that is not planned any more and still looks ready to submit."""
    planned = {run.directory for run in plan.runs}
    recorded = [name.removesuffix(".json") for name in tree.names(layout.RUNS) if name.endswith(".json")]
    return [
        finding(
            "left-over-run",
            f"{name} is not planned any more, but still has its {FINETUNE_SLURM}",
            field="runs",
            file=name,
            fix="remove or move the directory if it is not wanted; the line in the log submits planned runs only",
        )
        for name in recorded
        if name not in planned and tree.kind(name) == "directory" and tree.kind(f"{name}/{FINETUNE_SLURM}")
    ]


def pending_renders(tree: Tree, prepared: Prepared, *, overwrite: bool) -> list[Rendered]:
    """Return the runs whose setup_finetune.yaml is not yet as planned.

    Raises:
        Refused: a file in the way was edited, or is not ours, and `overwrite` is false; names all of them.
    """
    problems: list[Finding] = []
    pending: list[Rendered] = []
    for one in prepared.rendered:
        directory = one.run.directory
        if tree.kind(directory) is None:
            pending.append(one)
            continue
        record = state.load_record(tree, directory)
        planned = sha256(one.text.encode())
        if record is not None and record.setup_yaml == planned == hash_of(tree, f"{directory}/{SETUP_YAML}"):
            continue
        pending.append(one)
        problems += _foreign(tree, directory, (SETUP_YAML, *OUTPUTS), record, {planned})
    if problems and not overwrite:
        raise Refused("files would be overwritten that scaffold-torchtune did not write as they are", problems)
    return pending


def _foreign(
    tree: Tree, directory: str, names: Iterable[str], record: Record | None, planned: Iterable[str] = ()
) -> list[Finding]:
    """Return a problem for each file of a run that is neither as its record says nor as planned."""
    ours = {*planned, *(record.ours() if record else ())}
    return [
        _edited(f"{directory}/{name}", "was changed since it was written, or is not ours")
        for name, digest in hashes_of(tree, directory, names).items()
        if digest not in ours
    ]


def write_renders(tree: Tree, plan: Plan, pending: list[Rendered], request: Request) -> tuple[RenderResult, list[str]]:
    """Write the plan, the run directories and each pending setup_finetune.yaml.

    Returns the result and the directories that were made.
    """
    state.save(tree, layout.PLAN, plan)
    made: list[str] = []
    for done, one in enumerate(pending, start=1):
        directory, text = one.run.directory, one.text.encode()
        if tree.make_directory(directory):
            made.append(directory)
        before = state.load_record(tree, directory)
        # setup may replace what was ours, and the outputs there, which the user let go if edited
        replaced = {*hashes_of(tree, directory).values(), *(before.ours() if before else ())}
        record = Record(
            directory=directory,
            setup_yaml=sha256(text),
            replaced=tuple(sorted(replaced)),
            sources={key: str(setting.source) for key, setting in one.run.settings.items()},
        )
        state.save(tree, layout.record(directory), record)
        # Halves of two generations must never look ready: what makes a run submit-ready goes first.
        tree.remove(f"{directory}/{FINETUNE_SLURM}")
        tree.write(f"{directory}/{SETUP_YAML}", text)
        request.report("render", done, len(pending))
    return render_result(tree, plan, frozenset(one.run.directory for one in pending)), made


def render_result(tree: Tree, plan: Plan, changed: frozenset[str] = frozenset()) -> RenderResult:
    """Return the result of a render that wrote the setup_finetune.yaml of the `changed` directories."""
    return RenderResult(
        created=len(changed),
        unchanged=len(plan.runs) - len(changed),
        runs=tuple(RenderedRun(directory=r.directory, created=r.directory in changed) for r in plan.runs),
        plan_warnings=plan.warnings,
        warnings=tuple(left_over(tree, plan)),
    )


def pending_setups(tree: Tree, plan: Plan, backend: Backend, *, overwrite: bool) -> dict[str, str]:
    """Return the text of setup_finetune.yaml by directory, for each run whose outputs are not yet made from it.

    Raises:
        Refused: a setup_finetune.yaml is not as it was rendered, or an output was edited and `overwrite` is false.
    """
    problems: list[Finding] = []
    pending: dict[str, str] = {}
    for run in plan.runs:
        record = state.load_record(tree, run.directory)
        path = f"{run.directory}/{SETUP_YAML}"
        data = tree.read(path) if tree.kind(run.directory) else None
        if record is None or data is None:
            problems.append(finding("not-rendered", f"{path} is not there", file=path, fix="run render again"))
        elif (text := _text(data)) is None or sha256(data) != record.setup_yaml:
            problems.append(_edited(path, "was changed since it was rendered", "render again"))
        elif not _is_done(tree, record, backend):
            pending[run.directory] = text
            if not overwrite:
                problems += _foreign(tree, run.directory, OUTPUTS, record)
    if problems:
        raise Refused("setup cannot proceed", problems)
    return pending


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_done(tree: Tree, record: Record, backend: Backend) -> bool:
    """Return whether a run's outputs lie there as this backend made them."""
    made = record.outputs if record.backend == backend.identity and not record.failed else {}
    return bool(made) and made == hashes_of(tree, record.directory)


def run_setups(
    tree: Tree,
    plan: Plan,
    backend: Backend,
    pending: dict[str, str],
    request: Request,
    known: Mapping[tuple[str, str], Outcome],
) -> SetupResult:
    """Run setup_finetune for each pending run; one failure does not stop the others.

    `known` is what the bundled one was seen to make, by directory and text.

    Raises:
        Interrupted: who asked for it wants it to end.
    """
    work = [(run, pending[run.directory]) for run in plan.runs if run.directory in pending]
    made, script = _Made(tree, backend), backend.script
    pool = Pool(tree, work, lambda at: script.run(tree.root / at, request), request) if script and work else None
    with closing(pool.outcomes() if pool else _bundled(work, known)) as outcomes:
        for run, outcome in outcomes:
            if request.stop.is_set() and not outcome.files:
                raise Interrupted
            made.take(run, outcome)
            if pool and not made.reasons[run.directory]:
                pool.watch.wrote(run.directory, made.is_ours)
            request.report("setup", len(made.outcomes), len(work))
    changed = pool.changes() if pool else set[str]()
    if changed:
        changed -= made.restored()
    return made.result(plan, pending, sorted(changed))


def _bundled(work: Work, known: Mapping[tuple[str, str], Outcome]) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    for run, text in work:
        yield run, known.get((run.directory, text)) or run_bundled(run, text)


class _Made:
    """What was made for each run, and published; a run may come again."""

    def __init__(self, tree: Tree, backend: Backend) -> None:
        self._tree, self._backend = tree, backend
        self.outcomes: dict[str, Outcome] = {}
        self.reasons: dict[str, str] = {}

    def take(self, run: PlannedRun, outcome: Outcome) -> None:
        """Publish what was made for a run, or note that it failed."""
        is_published = run.directory in self.outcomes and not self.reasons[run.directory]
        self.outcomes[run.directory] = outcome
        self.reasons[run.directory] = outcome.reason or self._publish(run, outcome)
        if self.reasons[run.directory]:
            self._note(run, outcome, self.reasons[run.directory])
            if is_published:  # found out only afterwards
                self._tree.remove(f"{run.directory}/{FINETUNE_SLURM}")

    def _record(self, run: PlannedRun) -> Record:
        record = state.load_record(self._tree, run.directory)
        assert record is not None, "pending runs have a record"  # noqa: S101 - an invariant of pending_setups
        return record

    def _publish(self, run: PlannedRun, outcome: Outcome) -> str:
        """Publish a run's outputs, finetune.slurm last, and return why that failed, if it did."""
        tree, path = self._tree, layout.record(run.directory)
        try:
            record = self._record(run)
            replaced = tuple(sorted({*record.outputs.values(), *record.replaced}))
            outputs = {name: sha256(outcome.files[name]) for name in OUTPUTS}
            changes = {"backend": self._backend.identity, "outputs": outputs, "replaced": replaced, "failed": ""}
            new = record.model_copy(update=changes)
            state.save(tree, path, new)
            # Halves of two generations must never look ready: what makes a run submit-ready goes first.
            tree.remove(f"{run.directory}/{FINETUNE_SLURM}")
            for name in OUTPUTS:
                tree.write(f"{run.directory}/{name}", outcome.files[name])
            if replaced:
                state.save(tree, path, new.model_copy(update={"replaced": ()}))
            tree.remove(layout.output(run.directory))
        except Refused as refused:
            return refused.message
        return ""

    def _note(self, run: PlannedRun, outcome: Outcome, reason: str) -> None:
        """Note that a run failed, and keep what its script printed; what the run had before stays."""
        try:
            record = self._record(run).model_copy(update={"failed": reason})
            state.save(self._tree, layout.record(run.directory), record)
            if outcome.ran and outcome.ran.output:
                lines = [one_line(line) for line in outcome.ran.output.splitlines()]
                self._tree.write(layout.output(run.directory), ("\n".join(lines) + "\n").encode())
        except Refused as refused:
            self.reasons[run.directory] = f"{reason}; and that could not be noted: {refused.message}"

    def is_ours(self, path: str) -> bool:
        """Return whether a file in a run directory is as it was published, or none that we publish."""
        directory, _, name = path.rpartition("/")
        made = self.outcomes[directory].files.get(name)
        return made is None or hash_of(self._tree, path) == sha256(made)

    def restored(self) -> set[str]:
        """Publish again what was changed since it was published; return the paths that are as they should be now."""
        paths: set[str] = set()
        for directory, outcome in self.outcomes.items():
            if self.reasons[directory]:
                continue
            for name in OUTPUTS:
                path = f"{directory}/{name}"
                if not self.is_ours(path):
                    self._tree.write(path, outcome.files[name])
                paths.add(path)
        return paths

    def result(self, plan: Plan, pending: Container[str], changed: list[str]) -> SetupResult:
        """Return what became of all runs. `changed` are paths that were changed while scripts ran."""
        warnings: dict[tuple[str, str | None], Finding] = {}
        for outcome in self.outcomes.values():
            for warning in outcome.warnings:
                warnings.setdefault((warning.code, warning.field), warning)
        found = [*warnings.values()]
        if changed:
            message = f"changed while the setup script ran: {few(changed, _LISTED, more=' and {} more')}"
            fix = "nothing, if it was you; else look at what the setup script does there"
            found.append(finding("changed-meanwhile", message, file=changed[0], fix=fix))
        runs = tuple(self._run(run.directory, pending=run.directory in pending) for run in plan.runs)
        failed = sum(not run.ok for run in runs)
        return SetupResult(
            environment=self._backend.script.environment.how if self._backend.script else "",
            processed=len(runs),
            succeeded=len(runs) - failed,
            failed=failed,
            runs=runs,
            warnings=tuple(found),
        )

    def _run(self, directory: str, *, pending: bool) -> SetupRun:
        outcome, reason = self.outcomes.get(directory, Outcome()), self.reasons.get(directory, "")
        ran, output = outcome.ran, layout.output(directory)
        return SetupRun(
            directory=directory,
            ok=not reason,
            unchanged=not pending,
            reason=reason,
            cause=outcome.cause.cause,
            fix=outcome.cause.fix,
            status=ran.status if ran else None,
            seconds=round(ran.seconds, 2) if ran else None,
            output=output if reason and self._tree.kind(output) else "",
        )
