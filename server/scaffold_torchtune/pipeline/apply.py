"""The writing half of render, under the experiment's lock, and what it shares with that of setup.

What a person edited is never overwritten unasked.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from scaffold_torchtune.findings import Finding, Refused, finding, refuse
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.models.results import RenderedRun, RenderResult
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.prepare import Prepared
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.state import Record
from scaffold_torchtune.render import Rendered
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree, sha256
from scaffold_torchtune.shared.layout import FINETUNE_SLURM, FINETUNE_YAML, SETUP_YAML

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
        request.told("render", done, len(pending))
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
