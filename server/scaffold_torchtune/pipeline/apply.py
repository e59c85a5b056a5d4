"""The pending work of render and setup, and the writing half of render, under the experiment's lock.

A file that a person edited is never overwritten unasked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Refused, Scalar, escape, few, finding, refuse
from scaffold_torchtune.models import Plan, RunChange
from scaffold_torchtune.parse.reading import Advice, advise_columns
from scaffold_torchtune.pipeline import journal, state
from scaffold_torchtune.pipeline.backend import Backend, digest_beside
from scaffold_torchtune.pipeline.backup import Backup, History, Reason, history_in_the_way
from scaffold_torchtune.pipeline.changes import STARTED, decisions, refuse_started, started_setups
from scaffold_torchtune.pipeline.locate import copied
from scaffold_torchtune.pipeline.prepare import Prepared
from scaffold_torchtune.pipeline.run_states import job_outputs
from scaffold_torchtune.pipeline.state import NotAPlan, Record, hash_of, hashes_of, read_plan
from scaffold_torchtune.plan import changes_of, with_id
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import RenderedRun, RenderResult
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.setup import Rendered
from scaffold_torchtune.system import layout, locking
from scaffold_torchtune.system.files import Tree, sha256
from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML, RUN_FILES, SETUP_YAML


@contextmanager
def writing(tree: Tree) -> Iterator[None]:
    """Create the state directories, hold the lock, and complete the log entries of a call that was killed.

    Raises:
        Refused: another scaffold is at work, or the log is not a plain file.
    """
    if tree.kind(layout.LOG) not in {None, "file"}:
        message = f"{layout.LOG} is not a regular file"
        fix = f"see what it is (ls -ld {layout.LOG}), then remove or rename it"
        raise refuse("unsafe-path", message, file=layout.LOG, fix=fix)
    tree.prepare()
    with tree.locked():
        journal.settle(tree)
        yield


def clear_leftovers(tree: Tree) -> None:
    """Remove the lock and the staging files of a killed scaffold if there is no other work to do."""
    with suppress(Refused):
        if isinstance(tree.look_at_lock(), locking.Leftover):
            with writing(tree):
                pass


def _edited(path: str, what: str, again: str = "run the command again") -> Finding:
    """Return a problem for a file that was edited. `again` is the step that replaces it."""
    fix = (
        f"to keep the file, move it elsewhere; to replace it, {again} with `--overwrite` (in a tool call:"
        " `overwrite: true`)"
    )
    return finding("edited-output", f"{PurePosixPath(path).name} {what}", file=path, fix=fix)


def left_over(tree: Tree, plan: Plan) -> list[Finding]:
    """Return a finding for all runs that are no longer planned and still have finetune.slurm: they were started."""
    planned = {run.directory for run in plan.runs}
    found = [
        escape(name)
        for name in state.recorded(tree)
        if name not in planned and tree.kind(name) == "directory" and tree.kind(f"{name}/{FINETUNE_SLURM}")
    ]
    if not found:
        return []
    is_one, names = len(found) == 1, [f"'{name}'" for name in found]
    message = (
        f"{'the run' if is_one else 'the runs'} {few(names, _LISTED)}"
        f" {'is' if is_one else 'are'} no longer in the table of runs;"
        f" {'its' if is_one else 'their'} files are kept"
    )
    fix = f"no action if intended; otherwise put the {'row' if is_one else 'rows'} back into the table"
    return [finding("left-over-run", message, field="runs", actual=found[0], file=found[0], fix=fix)]


def _in_columns(prepared: Prepared, started: Sequence[RunChange]) -> Advice | None:
    """Return the table with a column for each value that differs in started runs, if all runs shared it until now."""
    experiment, was = prepared.parsed.experiment, {one.directory: one for one in started}
    names = list(dict.fromkeys(field.field for one in started for field in one.fields))
    lost = any(field.old is None for one in started for field in one.fields)  # an empty cell means the shared value
    new = [name for name in names if name in PARAMETERS and PARAMETERS[name].column and name not in experiment.columns]
    if lost or new != names or len(prepared.plan.runs) > _MOST_ROWS:
        return None
    columns: dict[str, dict[int, Scalar]] = {name: {} for name in names}
    for run in prepared.plan.runs:
        old = {field.field: field.old for field in was[run.directory].fields} if run.directory in was else {}
        for name in names:
            columns[name][run.line] = old.get(name, run.value(name))
    return advise_columns(experiment, prepared.parsed.documents[0].text, columns)


def _question(prepared: Prepared, started: Sequence[RunChange]) -> Question:
    lines = _in_columns(prepared, started)
    return STARTED.model_copy(update=lines._asdict()) if lines else STARTED


def asked_first(prepared: Prepared, request: Request) -> tuple[Question, ...]:
    """Return the questions for the user that must be answered before the plan is scaffolded."""
    unsaid = _undecided(prepared, request)
    return (_question(prepared, unsaid),) if unsaid else ()


def _undecided(prepared: Prepared, request: Request) -> list[RunChange]:
    """Return the started runs that would change, and that the user chose neither to keep nor to replace."""
    says = decisions(request, [each.directory for each in prepared.changes])
    started = [each for each in prepared.changes if each.kind == "changed" and each.is_started]
    return [each for each in started if says(each.directory) is None]


def edited_warnings(prepared: Prepared, request: Request) -> tuple[Finding, ...]:
    """Return a warning for each edited file for which a scaffold of the plan would be refused.

    Started runs and copies of experiments have their own warnings.
    """
    told = {each.code for each in prepared.plan.warnings}
    waiting = {each.directory for each in _undecided(prepared, request)}
    found: list[Finding] = []
    if request.overwrite or "copied-scaffold" in told:
        return ()
    with Tree(prepared.directory) as tree:
        for one in prepared.rendered:
            name = one.run.directory
            if name in waiting or name in prepared.unrecorded or tree.kind(name) is None:
                continue
            names = _foreign(tree, prepared, one, state.load_record(tree, name))
            found += [_edited(f"{name}/{each}", _CHANGED, "scaffold") for each in names]
    return tuple(each.model_copy(update={"severity": Severity.WARNING}) for each in found)


def pending_renders(tree: Tree, prepared: Prepared, request: Request) -> list[Rendered]:
    """Return the runs whose setup_finetune.yaml must be written.

    Raises:
        Refused: the directory is a copy of another experiment; a started run would change, and the user did not choose
            to replace it, or it cannot be replaced; or a file was edited, or not generated by this tool, and
            `overwrite` is false. Names all such runs and files.
    """
    names = [each.directory for each in prepared.changes]
    if problems := copied(prepared.previous, prepared.directory, names, request):
        raise Refused("this is a copy of another experiment", problems)
    refuse_started(prepared.plan, prepared.changes, decisions(request, names), partial(_question, prepared))
    unchanged = {each.directory for each in prepared.changes if each.kind == "unchanged"}
    replaced = {each.directory for each in prepared.changes if each.kind == "changed" and each.is_started}
    problems = []
    pending: list[Rendered] = []
    for one in prepared.rendered:
        directory = one.run.directory
        if directory in prepared.unrecorded:
            continue
        if tree.kind(directory) is None:
            pending.append(one)
            continue
        record = state.load_record(tree, directory)
        planned = sha256(one.text.encode())
        is_done = record is not None and record.setup_yaml == planned == hash_of(tree, f"{directory}/{SETUP_YAML}")
        if is_done and directory not in replaced:
            continue
        pending.append(one)
        problems += [_edited(f"{directory}/{name}", _CHANGED) for name in _foreign(tree, prepared, one, record)]
    again = [one.run for one in pending if one.run.directory in unchanged]  # its file was edited or removed
    if started := started_setups(tree, prepared.plan, again, request):
        raise Refused("files of started runs would be regenerated", started)
    if pending and (blocked := history_in_the_way(tree, [one.run.directory for one in pending])):
        raise Refused("earlier files cannot be kept", blocked)
    if problems and not request.overwrite:
        raise Refused("files that were edited, or not generated by this tool, would be overwritten", problems)
    return pending


_LISTED = 4
_MOST_ROWS = 60  # of a table that is shown with additional columns
_LONGEST = 255  # characters of a file name
_CHANGED = "has been edited since it was generated, or was not generated by this tool"


def _foreign(tree: Tree, prepared: Prepared, one: Rendered, record: Record | None) -> list[str]:
    """Return the names of a run's files that match neither its record nor the plan."""
    there = hashes_of(tree, one.run.directory, RUN_FILES)
    planned = {name: sha256(data) for name, data in prepared.outcomes_of(one).items()}
    planned[SETUP_YAML] = sha256(one.text.encode())
    names = record.foreign(there) if record else there
    return [name for name in names if there[name] != planned.get(name)]


def write_renders(
    tree: Tree, prepared: Prepared, pending: list[Rendered], request: Request
) -> tuple[RenderResult, list[str]]:
    """Write the plan, the run directories and each pending setup_finetune.yaml.

    A file that was edited since `pending` was determined is kept. Returns the result and the created directories.

    Raises:
        Refused: a run was started since the states of runs were read.
    """
    plan, backup, history = prepared.plan, Backup(tree, request.now), History(tree, request.now)
    changes = {each.directory: each for each in prepared.changes}
    meanwhile = (
        _until_written(tree, plan) if "changed" in {changes[one.run.directory].kind for one in pending} else plan
    )
    state.save(tree, layout.PLAN, meanwhile)
    for dropped in (each for each in prepared.changes if each.kind == "dropped" and not each.is_started):
        _put_aside(tree, dropped.directory, history, backup)
    for name in prepared.unrecorded:
        maker = f"bundled {plan.version}" if plan.options.setup_script == "bundled" else ""
        state.save(tree, layout.record(name), state.adopted(tree, name, maker))
    made: list[str] = []
    for done, one in enumerate(pending, start=1):
        directory, text = one.run.directory, one.text.encode()
        if tree.make_directory(directory):
            made.append(directory)
        edited = _foreign(tree, prepared, one, state.load_record(tree, directory))
        if not request.overwrite:
            for name in edited:
                backup.keep(f"{directory}/{name}", "while the scaffold was starting")
            edited = []
        if changes[directory].kind == "changed" and not changes[directory].is_started and job_outputs(tree, directory):
            raise Refused("a run was submitted in the meantime", started_setups(tree, plan, [one.run], request))
        past = _keep(tree, changes[directory], history, edited)
        earlier = before.past if (before := state.load_record(tree, directory)) else ()
        # Files of two generations must never look ready: the file that makes a run ready is removed first.
        tree.remove(f"{directory}/{FINETUNE_SLURM}")
        # setup may replace the present files: this tool generated them, or the user allowed it
        replaced = hashes_of(tree, directory, (SETUP_YAML, FINETUNE_YAML)).values()
        record = Record(
            directory=directory,
            setup_yaml=sha256(text),
            replaced=tuple(sorted({*replaced})),
            sources={key: str(setting.source) for key, setting in one.run.settings.items()},
            past=tuple(dict.fromkeys((*earlier, *past))),
        )
        state.save(tree, layout.record(directory), record)
        tree.write(f"{directory}/{SETUP_YAML}", text)
        request.report("render", done, len(pending))
    if meanwhile != plan:
        state.save(tree, layout.PLAN, plan)
    changed = frozenset(one.run.directory for one in pending)
    result = render_result(prepared, changed, backup.findings, history.trimmed())
    return result.model_copy(update={"changes": changes_of(prepared.changes, done=True)}), made


def _keep(tree: Tree, change: RunChange, history: History, edited: Sequence[str]) -> tuple[str, ...]:
    """Keep the files of a run before they are replaced; return the earlier jobs and results, which belong to them.

    Args:
        tree: the experiment directory.
        change: the change of the run.
        history: the versions that keep the files.
        edited: the names of the files that a person edited.
    """
    directory, started = change.directory, change.is_started
    reason = Reason.REPLACED if started else Reason.OVERWRITTEN if edited else Reason.PLANNED
    history.keep(directory, RUN_FILES, reason, changes=map(str, change.fields), edited=edited, started=started)
    if not (change.state and started):
        return ()
    outputs = job_outputs(tree, directory)
    left = dict.fromkeys((*change.state.past, *outputs.values(), *change.state.results))
    history.take(directory, outputs, reason)
    return tuple(each for each in left if each.isprintable() and 0 < len(each) <= _LONGEST)


def _put_aside(tree: Tree, directory: str, history: History, backup: Backup) -> None:
    """Keep, then remove the finetune.slurm of a run that is no longer planned, because it must not look ready."""
    path, record = f"{directory}/{FINETUNE_SLURM}", state.load_record(tree, directory)
    kind = tree.kind(path)
    if kind is None:
        return
    if kind != "file" or record is None or record.foreign(hashes_of(tree, directory, (FINETUNE_SLURM,))):
        backup.keep(path, "before its run was removed from the table", removed=True)
    history.keep(directory, (FINETUNE_SLURM,), Reason.DROPPED)
    tree.remove(path)


def _until_written(tree: Tree, plan: Plan) -> Plan:
    """Return the plan that is stored until all runs of a new plan are written: the earlier runs and the new ones.

    If a scaffold is killed, a run that is not written yet may be submitted: its earlier plan must stay known.
    """
    before = state.load_plan(tree)
    if before is None:
        return plan
    known = {run.directory for run in (*before.runs, *before.former)}
    new = tuple(run for run in plan.runs if run.directory not in known)
    both = with_id(before.model_copy(update={"runs": (*before.runs, *new)})) if new else before
    try:
        return read_plan(state.dumped(both))
    except NotAPlan:  # too many runs together, or planned for different scripts
        return before


def render_result(
    prepared: Prepared,
    changed: frozenset[str] = frozenset(),
    kept: Iterable[Finding] = (),
    history: str = "",
) -> RenderResult:
    """Return the result of a render that wrote setup_finetune.yaml in the `changed` directories."""
    plan = prepared.plan
    return RenderResult(
        kept=len(plan.kept),
        history=history,
        created=len(changed),
        unchanged=len(plan.runs) - len(changed),
        runs=tuple(RenderedRun(directory=r.directory, name=r.name, created=r.directory in changed) for r in plan.runs),
        plan_warnings=plan.warnings,
        warnings=tuple(kept),
    )


@dataclass(frozen=True)
class PendingSetup:
    """A run without outputs: the text of its setup_finetune.yaml, its record, and the files that may be replaced.

    `let_go` are the SHA-256 of files that the user edited and allows to be overwritten.
    """

    text: str
    record: Record
    let_go: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Setups:
    """The work of setup: the pending runs, and the records of all runs, by directory."""

    pending: Mapping[str, PendingSetup]
    records: Mapping[str, Record]


def pending_setups(tree: Tree, plan: Plan, backend: Backend, request: Request) -> Setups:
    """Return the runs whose outputs were not made from their present setup_finetune.yaml.

    An external script may give another result each time: it also runs again after a failed validation, if files in its
    directory have changed, and with `overwrite`.

    Raises:
        Refused: a setup_finetune.yaml was edited since it was rendered, an output was edited and `overwrite` is false,
            or a started run would be set up again.
    """
    problems: list[Finding] = []
    pending: dict[str, PendingSetup] = {}
    records: dict[str, Record] = {}
    kept = {one.directory for one in plan.kept}
    doubt, overwrite = _Doubt(tree, backend.script.path) if backend.script else None, request.overwrite
    for run in plan.runs:
        record = state.load_record(tree, run.directory)
        if record is not None and run.directory in kept:
            records[run.directory] = record
            continue
        path = f"{run.directory}/{SETUP_YAML}"
        data = tree.read(path) if tree.kind(run.directory) else None
        if record is None or data is None:
            problems.append(finding("not-rendered", f"{path} is missing", file=path, fix="run render again"))
            continue
        records[run.directory] = record
        if (text := _text(data)) is None or sha256(data) != record.setup_yaml:
            problems.append(_edited(path, "has been edited since it was rendered", "run render again"))
            continue
        there = hashes_of(tree, run.directory)
        again = doubt is not None and (overwrite or doubt.concerns(record))
        if again or not _is_done(record, there, backend):
            names = record.foreign(there)
            problems += [_edited(f"{run.directory}/{name}", _CHANGED) for name in names if not overwrite]
            pending[run.directory] = PendingSetup(text, record, frozenset(there[name] for name in names))
    made = [run for run in plan.runs if run.directory in pending and records[run.directory].outputs]
    started = started_setups(tree, plan, made, request)
    for one in started if not overwrite else ():
        name = str(one.actual)
        if _is_done(records[name], hashes_of(tree, name), backend):  # only in doubt, and started with these files
            del pending[name]
    problems = [one for one in started if one.actual in pending] or problems
    if problems:
        raise Refused("setup cannot run", problems)
    return Setups(pending, records)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_done(record: Record, there: Mapping[str, str], backend: Backend) -> bool:
    """Return whether a run's outputs are unchanged since this backend made them."""
    made = record.outputs if record.backend == backend.identity and not record.failed else {}
    return bool(made) and made == there


class _Doubt:
    """The reasons why an external script may now give another result for a run."""

    def __init__(self, tree: Tree, script: Path) -> None:
        log = state.load_log_state(tree)
        self._script, self._has_failed = script, log is not None and log.status == "failed"
        self._now: dict[str, str] = {}

    def concerns(self, record: Record) -> bool:
        """Return whether validation found an error in the run, or a file in the script's directory has changed.

        Older records contain neither: then the verdict on all runs decides. A new file is ignored, because the script
        did not read it.
        """
        if record.beside is None:
            return self._has_failed
        return record.rejected or any(self._digest(name) != digest for name, digest in record.beside.items())

    def _digest(self, name: str) -> str:
        if name not in self._now:
            self._now[name] = digest_beside(self._script, name)
        return self._now[name]
