"""The writing halves of render and setup, under the experiment's lock.

What a person edited is never overwritten unasked.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaffold_torchtune.errors import Finding, Refused, finding
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.results import RenderedRun, RenderResult, SetupResult, SetupRun
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.prepare import Prepared
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.state import Record
from scaffold_torchtune.render import Rendered
from scaffold_torchtune.setup import Outcome, run_bundled, run_script
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree, sha256
from scaffold_torchtune.shared.layout import FINETUNE_SLURM, FINETUNE_YAML, SETUP_YAML

OUTPUTS = (FINETUNE_YAML, FINETUNE_SLURM)


@contextmanager
def writing(tree: Tree) -> Iterator[None]:
    """Make the state directories and hold the lock."""
    tree.prepare()
    with tree.locked():
        yield


def hash_of(tree: Tree, path: str) -> str | None:
    """The SHA-256 of a file, or None where it is not there."""
    data = tree.read(path)
    return None if data is None else sha256(data)


def edited(path: str, what: str) -> Finding:
    """A file that is not as we wrote it."""
    return finding(
        "edited-output",
        f"{path} {what}",
        file=path,
        fix="move it away to keep it, or repeat the step with --overwrite (overwrite: true) to replace it",
    )


# --- render ---------------------------------------------------------------------------------------------------------


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
        problems += _foreign(tree, directory, (SETUP_YAML, *OUTPUTS), record, {planned})
    if problems and not overwrite:
        raise Refused("files would be overwritten that scaffold-torchtune did not write as they are", problems)
    return pending


def _foreign(
    tree: Tree, directory: str, names: Iterable[str], record: Record | None, planned: Iterable[str] = ()
) -> list[Finding]:
    """Files of a run that are neither as its record says nor as planned."""
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
    for done, one in enumerate(pending):
        directory = one.run.directory
        request.progress("render", done, len(pending))
        if tree.make_directory(directory):
            made.append(directory)
        before = state.load_record(tree, directory)
        record = Record(
            directory=directory,
            setup_yaml=sha256(one.text.encode()),
            replaced=tuple(sorted(before.ours())) if before else (),
            sources={key: str(setting.source) for key, setting in one.run.settings.items()},
        )
        state.save(tree, layout.record(directory), record)
        # Halves of two generations must never look ready: what makes a run submit-ready goes first.
        tree.remove(f"{directory}/{FINETUNE_SLURM}")
        tree.write(f"{directory}/{SETUP_YAML}", one.text.encode())
    return _render_result(prepared, changed), made


def nothing_rendered(prepared: Prepared) -> RenderResult:
    """The result where everything already was as planned."""
    return _render_result(prepared, set())


def _render_result(prepared: Prepared, changed: set[str]) -> RenderResult:
    runs = tuple(RenderedRun(directory=r.directory, created=r.directory in changed) for r in prepared.plan.runs)
    unchanged = len(runs) - len(changed)
    return RenderResult(created=len(changed), unchanged=unchanged, runs=runs, warnings=prepared.plan.warnings)


# --- setup ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backend:
    """Who makes finetune.yaml and finetune.slurm. `identity` changes when what it makes may change."""

    script: Path | None
    identity: str
    timeout: float

    def run(self, tree: Tree, run: PlannedRun, text: str) -> Outcome:
        """Make the two files for one run, in staging."""
        if self.script is None:
            return run_bundled(run, text)
        staged = f"{layout.STAGING}/{run.directory}"
        tree.make_directory(staged)
        tree.write(f"{staged}/{SETUP_YAML}", text.encode())
        try:
            return run_script(run, self.script, tree.root / staged, self.timeout)
        finally:
            tree.clear(staged)


def backend_of(plan: Plan, request: Request) -> Backend:
    """The backend that the plan names.

    Raises:
        Refused: the plan's setup script is not there any more.
    """
    if plan.options.setup_script == "bundled":
        return Backend(None, f"bundled {plan.version}", request.timeout)
    script = Path(plan.options.setup_script)
    try:
        return Backend(script, f"{script} {sha256(script.read_bytes())}", request.timeout)
    except OSError as error:
        message = f"the setup script {script} cannot be read: {error.strerror}"
        fix = "put it back, or render again with another --setup-script"
        raise Refused(message, [finding("setup-script-missing", message, file=str(script), fix=fix)]) from error


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
        if sha256(data) != record.setup_yaml:
            problems.append(edited(path, "was changed since it was rendered; render again, with overwrite,"))
            continue
        outputs = {name: hash_of(tree, f"{run.directory}/{name}") for name in OUTPUTS}
        if record.backend == backend.identity and record.outputs and outputs == record.outputs:
            continue
        pending[run.directory] = data.decode()
        if not overwrite:
            problems += _foreign(tree, run.directory, OUTPUTS, record)
    if problems:
        raise Refused("setup cannot proceed", problems)
    return pending


def run_setups(tree: Tree, plan: Plan, backend: Backend, pending: dict[str, str], request: Request) -> SetupResult:
    """Run setup_finetune for each pending run; one failure does not stop the others."""
    runs: list[SetupRun] = []
    warnings: dict[tuple[str, str | None], Finding] = {}
    for run in plan.runs:
        if run.directory not in pending:
            runs.append(SetupRun(directory=run.directory, ok=True, unchanged=True))
            continue
        request.progress("setup", len(runs), len(plan.runs))
        outcome = backend.run(tree, run, pending[run.directory])
        for warning in outcome.warnings:
            warnings.setdefault((warning.code, warning.field), warning)
        if outcome.ok:
            _publish(tree, run, backend, outcome)
        runs.append(SetupRun(directory=run.directory, ok=outcome.ok, unchanged=False, reason=outcome.reason))
    failed = sum(not run.ok for run in runs)
    return SetupResult(
        processed=len(runs), succeeded=len(runs) - failed, failed=failed, runs=tuple(runs),
        warnings=tuple(warnings.values()),
    )  # fmt: skip


def _publish(tree: Tree, run: PlannedRun, backend: Backend, outcome: Outcome) -> None:
    """Publish a run's outputs: finetune.slurm is taken away first and comes last."""
    record = state.load_record(tree, run.directory)
    assert record is not None, "pending runs have a record"  # noqa: S101 - an invariant of pending_setups
    outputs = {name: sha256(outcome.files[name]) for name in OUTPUTS}
    replaced = tuple(sorted({*record.outputs.values(), *record.replaced}))
    new = record.model_copy(update={"backend": backend.identity, "outputs": outputs, "replaced": replaced})
    state.save(tree, layout.record(run.directory), new)
    tree.remove(f"{run.directory}/{FINETUNE_SLURM}")
    for name in OUTPUTS:
        tree.write(f"{run.directory}/{name}", outcome.files[name])
    state.save(tree, layout.record(run.directory), new.model_copy(update={"replaced": ()}))
