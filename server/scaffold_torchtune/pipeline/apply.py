"""The writing halves of render and setup, under the experiment's lock."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

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
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, sha256
from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML, SETUP_YAML
from scaffold_torchtune.system.text import few, one_line

# The writing half of render, under the experiment's lock, and what it shares with that of setup.
#
# What a person edited is never overwritten unasked.

OUTPUTS = (FINETUNE_YAML, FINETUNE_SLURM)


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


def hash_of(tree: Tree, path: str) -> str | None:
    """The SHA-256 of a file, or None where it is not there."""
    data = tree.read(path)
    return None if data is None else sha256(data)


def edited(path: str, what: str, again: str = "repeat the step") -> Finding:
    """A file that is not as we wrote it. `again` is what replaces it."""
    fix = f"move it away to keep it, or {again} with --overwrite (overwrite: true) to replace it"
    return finding("edited-output", f"it {what}", file=path, fix=fix)


def left_over(tree: Tree, plan: Plan) -> list[Finding]:
    """Runs of an earlier plan that are not planned any more and still look ready to submit."""
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
    """The runs whose setup_finetune.yaml is not yet as planned.

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
        problems += foreign(tree, directory, (SETUP_YAML, *OUTPUTS), record, {planned})
    if problems and not overwrite:
        raise Refused("files would be overwritten that scaffold-torchtune did not write as they are", problems)
    return pending


def foreign(
    tree: Tree, directory: str, names: Iterable[str], record: Record | None, planned: Iterable[str] = ()
) -> list[Finding]:
    """Files of a run that are neither as its record says nor as planned, as problems."""
    ours = {*planned, *(record.ours() if record else ())}
    found = {name: hash_of(tree, f"{directory}/{name}") for name in names}
    return [
        edited(f"{directory}/{name}", "was changed since it was written, or is not ours")
        for name, digest in found.items()
        if digest is not None and digest not in ours
    ]


def write_renders(
    tree: Tree, prepared: Prepared, pending: list[Rendered], request: Request
) -> tuple[RenderResult, list[str]]:
    """Write the plan, the run directories and each pending setup_finetune.yaml.

    Returns the result and the directories that were made.
    """
    state.save(tree, layout.PLAN, prepared.plan)
    made: list[str] = []
    changed = {one.run.directory for one in pending}
    for done, one in enumerate(pending, start=1):
        directory = one.run.directory
        if tree.make_directory(directory):
            made.append(directory)
        before = state.load_record(tree, directory)
        record = Record(
            directory=directory,
            setup_yaml=sha256(one.text.encode()),
            replaced=_replaceable(tree, directory, before),
            sources={key: str(setting.source) for key, setting in one.run.settings.items()},
        )
        state.save(tree, layout.record(directory), record)
        # Halves of two generations must never look ready: what makes a run submit-ready goes first.
        tree.remove(f"{directory}/{FINETUNE_SLURM}")
        tree.write(f"{directory}/{SETUP_YAML}", one.text.encode())
        request.report("render", done, len(pending))
    return _render_result(tree, prepared, changed), made


def _replaceable(tree: Tree, directory: str, before: Record | None) -> tuple[str, ...]:
    """The SHA-256 of what setup may replace: what was ours, and the outputs there, which the user let go if edited."""
    there = {digest for name in OUTPUTS if (digest := hash_of(tree, f"{directory}/{name}"))}
    return tuple(sorted(there | (before.ours() if before else frozenset())))


def nothing_rendered(tree: Tree, prepared: Prepared) -> RenderResult:
    """The result where everything already was as planned."""
    return _render_result(tree, prepared, set())


def _render_result(tree: Tree, prepared: Prepared, changed: set[str]) -> RenderResult:
    runs = tuple(RenderedRun(directory=r.directory, created=r.directory in changed) for r in prepared.plan.runs)
    unchanged = len(runs) - len(changed)
    found = tuple(left_over(tree, prepared.plan))
    told = prepared.plan.warnings
    return RenderResult(created=len(changed), unchanged=unchanged, runs=runs, plan_warnings=told, warnings=found)


# The writing half of setup, under the experiment's lock: runs setup_finetune and publishes what it made.

_LISTED = 5


def pending_setups(tree: Tree, plan: Plan, backend: Backend, *, overwrite: bool) -> dict[str, str]:
    """The text of setup_finetune.yaml by directory, for each run whose outputs are not yet made from it.

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
            fix = "run render again"
            problems.append(finding("not-rendered", f"{path} is not there", file=path, fix=fix))
            continue
        text = _text(data)
        if text is None or sha256(data) != record.setup_yaml:
            problems.append(edited(path, "was changed since it was rendered", "render again"))
            continue
        if _is_done(tree, record, backend):
            continue
        pending[run.directory] = text
        if not overwrite:
            problems += foreign(tree, run.directory, OUTPUTS, record)
    if problems:
        raise Refused("setup cannot proceed", problems)
    return pending


def _is_done(tree: Tree, record: Record, backend: Backend) -> bool:
    """Whether a run's outputs lie there as this backend made them."""
    made = record.outputs if record.backend == backend.identity and not record.failed else {}
    return bool(made) and made == {name: hash_of(tree, f"{record.directory}/{name}") for name in OUTPUTS}


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


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
    made = _Made(tree, backend)
    pool = None
    if backend.script is not None and work:
        script = backend.script
        pool = Pool(tree, work, lambda _, folder: script.run(tree.root / folder, request), request)
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
    how = backend.script.environment.how if backend.script else ""
    return _result(plan, made, {*pending}, sorted(changed)).model_copy(update={"environment": how})


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

    def _publish(self, run: PlannedRun, outcome: Outcome) -> str:
        """Publish a run's outputs, finetune.slurm last, and return why that failed, if it did."""
        tree, outputs = self._tree, {name: sha256(outcome.files[name]) for name in OUTPUTS}
        try:
            record = state.load_record(tree, run.directory)
            assert record is not None, "pending runs have a record"  # noqa: S101 - an invariant of pending_setups
            replaced = tuple(sorted({*record.outputs.values(), *record.replaced}))
            new = record.model_copy(
                update={"backend": self._backend.identity, "outputs": outputs, "replaced": replaced, "failed": ""}
            )
            state.save(tree, layout.record(run.directory), new)
            # Halves of two generations must never look ready: what makes a run submit-ready goes first.
            tree.remove(f"{run.directory}/{FINETUNE_SLURM}")
            for name in OUTPUTS:
                tree.write(f"{run.directory}/{name}", outcome.files[name])
            if replaced:
                state.save(tree, layout.record(run.directory), new.model_copy(update={"replaced": ()}))
            tree.remove(layout.output(run.directory))
        except Refused as refused:
            return refused.message
        return ""

    def _note(self, run: PlannedRun, outcome: Outcome, reason: str) -> None:
        """Note that a run failed, and keep what its script printed; what the run had before stays."""
        try:
            record = state.load_record(self._tree, run.directory)
            assert record is not None, "pending runs have a record"  # noqa: S101 - as above
            state.save(self._tree, layout.record(run.directory), record.model_copy(update={"failed": reason}))
            if outcome.ran and outcome.ran.output:
                lines = [one_line(line) for line in outcome.ran.output.splitlines()]
                self._tree.write(layout.output(run.directory), ("\n".join(lines) + "\n").encode())
        except Refused as refused:
            self.reasons[run.directory] = f"{reason}; and that could not be noted: {refused.message}"

    def is_ours(self, path: str) -> bool:
        """Whether a file in a run directory is as it was published, or none that we publish."""
        directory, _, name = path.rpartition("/")
        made = self.outcomes[directory].files.get(name)
        return made is None or hash_of(self._tree, path) == sha256(made)

    def restored(self) -> set[str]:
        """Publish again what was changed since it was published; the paths that are as they should be now."""
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

    def run(self, directory: str, *, pending: bool) -> SetupRun:
        """What became of a run."""
        outcome, reason = self.outcomes.get(directory, Outcome()), self.reasons.get(directory, "")
        ran = outcome.ran
        kept = self._tree.kind(layout.output(directory)) if reason else None
        return SetupRun(
            directory=directory,
            ok=not reason,
            unchanged=not pending,
            reason=reason,
            cause=outcome.cause.cause,
            fix=outcome.cause.fix,
            status=ran.status if ran else None,
            seconds=round(ran.seconds, 2) if ran else None,
            output=layout.output(directory) if kept else "",
        )


def _result(plan: Plan, made: _Made, pending: set[str], changed: list[str]) -> SetupResult:
    warnings: dict[tuple[str, str | None], Finding] = {}
    for outcome in made.outcomes.values():
        for warning in outcome.warnings:
            warnings.setdefault((warning.code, warning.field), warning)
    runs = tuple(made.run(run.directory, pending=run.directory in pending) for run in plan.runs)
    failed = sum(not run.ok for run in runs)
    return SetupResult(
        processed=len(runs),
        succeeded=len(runs) - failed,
        failed=failed,
        runs=runs,
        warnings=(*warnings.values(), *_changed(changed)),
    )


def _changed(paths: list[str]) -> list[Finding]:
    """What was changed in the experiment while scripts ran there."""
    if not paths:
        return []
    message = f"changed while the setup script ran: {few(paths, _LISTED, more=' and {} more')}"
    fix = "nothing, if it was you; else look at what the setup script does there"
    return [finding("changed-meanwhile", message, file=paths[0], fix=fix)]
