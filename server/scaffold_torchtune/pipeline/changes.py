"""The comparison of a plan with the scaffolded runs: each is new, unchanged, changed, kept or dropped.

A started run is never changed unasked: it is kept as it was when it started, or replaced, as the user chooses.
"""

import fnmatch
import functools
import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Question,
    Refused,
    Scalar,
    counted,
    did_you_mean,
    few,
    finding,
    shown,
)
from scaffold_torchtune.models import (
    ChangeKind,
    FieldChange,
    Kept,
    Plan,
    PlannedRun,
    Results,
    RunChange,
    Setting,
    Source,
    SourceKind,
    same_changes,
)
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import Record, identity
from scaffold_torchtune.plan import with_id
from scaffold_torchtune.plan.run_settings import parameters_of
from scaffold_torchtune.preflight.disk import inspect_results, unseen
from scaffold_torchtune.request import DECISION, Request
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import KEYS, PARAMETERS, SURROUNDINGS, by_label
from scaffold_torchtune.setup import Rendered, run_bundled
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, is_taken, sha256
from scaffold_torchtune.system.layout import RUN_FILES, SETUP_YAML
from scaffold_torchtune.validate import arrivals
from scaffold_torchtune.validate.run_files import RunFiles

MAKER: Final = "setup_finetune"
"""The field of a change of the setup_finetune that makes a run's files."""

_OUTPUT: Final = "output_dir"
_PLACED: Final = ("output_dir_base", "project_dir", "experiment_name", "my_wandb_run_name")
"""The settings that determine the output directory, which is compared instead of them."""


class Compared(NamedTuple):
    """A plan that includes kept runs as they were, the texts of the other runs, and the change of each run.

    `unrecorded` are unchanged runs with records that do not match their files.
    """

    plan: Plan
    rendered: tuple[Rendered, ...]
    changes: tuple[RunChange, ...]
    unrecorded: tuple[str, ...]


def compare(
    tree: Tree,
    plan: Plan,
    rendered: Sequence[Rendered],
    known: Mapping[str, PlannedRun],
    previous: Plan | None,
    request: Request,
) -> Compared:
    """Compare a plan with the runs that were scaffolded before.

    Args:
        tree: the experiment directory.
        plan: the plan of the documents.
        rendered: the setup_finetune.yaml of each run, in the plan's order.
        known: the runs that were scaffolded before, by directory.
        previous: the frozen plan.
        request: `started` is the choice for started runs that would change; a run that was kept stays kept while the
            documents are unchanged.

    Raises:
        Refused: `started` is not understood, or names no run.
    """
    now = {one.run.directory: one for one in rendered}
    says, maker = decisions(request, {*now, *known}), functools.cache(lambda: _maker(plan))
    held = {one.directory: one for one in previous.kept} if previous else {}
    records = {name: record for name in {*now, *known} if (record := state.load_record(tree, name))}
    there = {name: state.files_there(tree, name) for name in now}
    found = [name for name in now if name in records or SETUP_YAML in there[name]]  # also if the state was lost
    dropped = tuple(run for name, run in known.items() if name in records and name not in now)
    states = states_of(tree, [*(known.get(name, now[name].run) for name in found), *dropped], request)
    changes: list[RunChange] = []
    kept: list[Kept] = []
    unrecorded: list[str] = []
    for name, one in now.items():
        record, was, digest = records.get(name), states.get(name), sha256(one.text.encode())
        is_made = record is not None and (record.outputs or SETUP_YAML in there[name])  # else a kill prevented it
        if was is None or not (is_made or was.started):
            changes.append(RunChange(directory=name, kind="new"))
            continue
        edited = edited_files(record, there[name]) if record else {}
        differs = record.setup_yaml != digest if record else not _is_as_planned(one, plan, there[name])
        fields = fields_between(known.get(name), one.run) if differs else ()
        fields += tuple(_file_changes(edited))
        if record and was.started and not differs and record.outputs and record.backend != maker():
            if _is_as_planned(one, plan, there[name]):
                unrecorded.append(name)
            else:
                fields += (FieldChange(field=MAKER, old=_short(record.backend), new=_short(maker())),)
        is_changed, own = differs or bool(fields), held.get(name)
        again = says(name) == "keep" and own is not None and own.edited == edited
        if is_changed and own and own.digest == digest and (again or says(name) is None):
            kept.append(own)
        elif is_changed and was.started and says(name) == "keep":
            kept.append(Kept(directory=name, state=was.state, fields=fields, digest=digest, edited=edited))
        is_kept = bool(kept) and kept[-1].directory == name
        kind: ChangeKind = "kept" if is_kept else "changed" if is_changed else "unchanged"
        fields = kept[-1].fields if is_kept else fields
        changes.append(RunChange(directory=name, kind=kind, state=was, fields=fields))
        if record is None and kind != "changed":
            unrecorded.append(name)
    changes += [RunChange(directory=run.directory, kind="dropped", state=states[run.directory]) for run in dropped]
    forgotten = {*known} - {run.directory for run in (*previous.former, *previous.runs)} if previous else set()
    former = tuple(run for run in dropped if run.directory not in forgotten)  # the files of such runs are found again
    plan = _with_kept(plan, known, tuple(kept), former)
    names = {one.directory for one in kept}
    return Compared(
        plan, tuple(one for one in rendered if one.run.directory not in names), tuple(changes), tuple(unrecorded)
    )


def _with_kept(
    plan: Plan, known: Mapping[str, PlannedRun], kept: tuple[Kept, ...], dropped: tuple[PlannedRun, ...]
) -> Plan:
    """Return the plan with the kept runs as they were, and the runs that are no longer in the table."""
    if not kept and not dropped:
        return plan
    names = {one.directory for one in kept}
    runs = tuple(_as_it_was(known.get(run.directory, run), run) if run.directory in names else run for run in plan.runs)
    return state.fitting(with_id(plan.model_copy(update={"runs": runs, "kept": kept, "former": dropped})))


def _maker(plan: Plan) -> str:
    """Return the identity of the plan's setup_finetune; an empty string if the script cannot be read."""
    try:
        return identity(plan)
    except OSError:
        return ""


def _short(maker: str) -> str:
    """Return the setup_finetune that made a run, with the first digits of its SHA-256."""
    name, _, digest = maker.rpartition(" ")
    return f"{name} {digest[:8]}"


def _as_it_was(old: PlannedRun, row: PlannedRun) -> PlannedRun:
    """Return a run as it was planned, with the present line and columns of its row."""
    data = Setting(value=old.data_path, source=Source(kind=SourceKind.DERIVED))
    parameters = parameters_of(tuple(row.parameters), old.settings, data)
    now = {"name": row.name, "line": row.line, "parameters": parameters, "by_author": row.by_author}
    return old.model_copy(update=now)


def edited_files(record: Record, there: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of a run's files that were edited since they were made; "" for removed files."""
    ours = {SETUP_YAML: record.setup_yaml, **record.outputs}
    found = {name: there.get(name, "") for name, digest in ours.items() if there.get(name, "") != digest}
    if record.replaced and not record.is_published(there):  # a scaffold was killed while it published them
        return {name: digest for name, digest in found.items() if digest and digest not in record.replaced}
    return found


def _is_as_planned(one: Rendered, plan: Plan, there: Mapping[str, str]) -> bool:
    """Return whether a run's files are equal to the files that the bundled setup_finetune would make."""
    if plan.options.setup_script != "bundled" or there.get(SETUP_YAML) != sha256(one.text.encode()):
        return False
    made = run_bundled(one.run, one.document).files
    return {name: there.get(name) for name in made} == {name: sha256(data) for name, data in made.items()}


def _file_changes(edited: Mapping[str, str]) -> Iterator[FieldChange]:
    """Yield the edits of a run's files, as changes that would be undone."""
    for name, digest in edited.items():
        yield FieldChange(field=name, old="edited" if digest else "removed", new="generated again")


def fields_between(old: PlannedRun | None, new: PlannedRun) -> tuple[FieldChange, ...]:
    """Return the values that differ between two plans of a run; if there are none, only the text differs."""
    if old is None:
        return ()
    found: list[FieldChange] = []
    for name in {**old.settings, **new.settings}:
        if name not in _PLACED and old.value(name) != new.value(name):
            source = new.settings[name].source if name in new.settings else None
            found.append(FieldChange(field=name, old=old.value(name), new=new.value(name), source=source))
    one, other = arrivals.output_dir(old), arrivals.output_dir(new)
    if one != other:
        source = next((new.settings[name].source for name in _PLACED if _differs(old, new, name)), None)
        found.append(FieldChange(field=_OUTPUT, old=one, new=other, source=source))
    return tuple(found)


def _differs(old: PlannedRun, new: PlannedRun, name: str) -> bool:
    return name in new.settings and old.value(name) != new.value(name)


Decision = Literal["keep", "replace"]


def decisions(request: Request, names: Iterable[str]) -> Callable[[str], Decision | None]:
    """Return a function that gives the user's choice for a started run that would change: keep, replace or None.

    `keep` and `replace` apply to all runs, `keep=RUN,...` and `replace=RUN,...` to some, by directories or patterns of
    them. A choice for some runs overrides the choice for all.

    Raises:
        Refused: the choice is not understood, is ambiguous for a run, or names no run.
    """
    of_all: set[Decision] = set()
    of_some: dict[str, set[Decision]] = {}
    names = sorted(names)
    for clause in re.split(r"[;\s]+", request.started.strip()) if request.started else ():
        match = DECISION.fullmatch(clause)
        if match is None:
            raise _not_understood(f"{shown(clause)} is not a valid value of `--started`")
        said: Decision = "keep" if match[1] == "keep" else "replace"
        if match[2] is None:
            of_all.add(said)
        for pattern in filter(None, (match[2] or "").split(",")):
            if not (meant := fnmatch.filter(names, pattern)):
                raise _no_such_run(pattern, names)
            for name in meant:
                of_some.setdefault(name, set()).add(said)
    if len(of_all) > 1:
        raise _not_understood("both keep and replace are specified for all runs", "specify only one of them")
    if both := [shown(name) for name, each in of_some.items() if len(each) > 1]:
        runs = f"the run {both[0]} is" if len(both) == 1 else f"the runs {few(both, _LISTED)} are"
        fix = "list each run only once in `--started`, with either keep or replace"
        raise _not_understood(f"{runs} listed under both keep and replace", fix)
    every = next(iter(of_all), None)
    return lambda name: next(iter(of_some.get(name, ())), every)


_CHOICES: Final = (
    "use `--started keep` or `--started replace` for all started runs that would change, or `--started keep=RUN,...`"
    ' and `--started replace=RUN,...` for some of them (in a tool call: `started: "keep"`)'
)


def _no_such_run(pattern: str, names: Iterable[str]) -> Refused:
    listed = few([f"`{name}`" for name in names], _LISTED)
    how = "matches" if {*"*?["} & {*pattern} else "is named"
    message = did_you_mean(pattern, names, f"no run of this experiment {how} {shown(pattern)}.")
    return _not_understood(message, f"use the names of runs: {listed}" if listed else _CHOICES)


def _not_understood(message: str, fix: str = _CHOICES) -> Refused:
    return Refused(message, [finding("invalid-value", message, field="started", fix=fix)], [STARTED])


STARTED: Final = Question(
    field="started",
    question="Runs that have been started would change. Keep them as they were when they started, and scaffold the"
    " rest? Or replace them, after their results have been moved away?",
    options=("keep", "replace"),
)
_LISTED: Final = 4
_UNDO: Final = "undo the change"


def _to_keep(runs: int) -> str:
    """Return the fix that leaves started runs as they are."""
    return f'keep {"this run" if runs == 1 else "these runs"} (`--started keep`; in a tool call: `started: "keep"`)'


def _to_replace(runs: int) -> str:
    """Return the fix that replaces started runs."""
    if runs == 1:
        return "cancel its job if it has one, move its results elsewhere, and replace the run (`--started replace`)"
    return "cancel their jobs, move their results elsewhere, and replace these runs (`--started replace`)"


def _ways(plan: Plan, started: Sequence[RunChange]) -> str:
    """Return the choices: a value of their own is one only if all changed values can have a column and have none."""
    fields = [field for one in started for field in one.fields]
    names = {field.field for field in fields}
    can_have = fields and all(name in PARAMETERS and PARAMETERS[name].column for name in names)
    can_have = can_have and not any(field.old is None for field in fields)  # an empty cell means the shared value
    every = [run.settings[each] for run in plan.runs for each in names & {*run.settings}]
    ways = [_UNDO, _to_keep(len(started)), _to_replace(len(started))]
    if can_have and not any(each.source.kind is SourceKind.ROW for each in every):
        whose, these = ("its", "this run") if len(started) == 1 else ("their", "these runs")
        is_yaml = layout.SUMMARY_YAML in plan.inputs
        place = f"in {whose} parameters" if is_yaml else "in a new column of the table of runs"
        ways.insert(1, f"give {these} the old value {place}")
    return f"choose one: {'; '.join(f'({number}) {way}' for number, way in enumerate(ways, start=1))}"


def started_warnings(plan: Plan, changes: Sequence[RunChange], says: Callable[[str], Decision | None]) -> list[Finding]:
    """Return warnings: started runs would change without a choice of the user, or the chosen replacement is blocked.

    The plan's changes list the runs and the values.
    """
    problems = _all_in_the_way(plan, changes, says)
    if unsaid := [one for one in _started(changes) if says(one.directory) is None]:
        message = f"{counted(len(unsaid), 'started run')} would change; nothing will be scaffolded until you decide"
        problems.insert(0, next(_would_change(plan, unsaid)).model_copy(update={"message": message}))
    return [each.model_copy(update={"severity": Severity.WARNING}) for each in problems]


def _all_in_the_way(plan: Plan, changes: Sequence[RunChange], says: Callable[[str], Decision | None]) -> list[Finding]:
    """Return the obstacles to replacing the started runs that the user wants to replace."""
    runs = {run.directory: run for run in plan.runs}
    replaced = [one for one in _started(changes) if says(one.directory) == "replace"]
    return [each for one in replaced for each in _in_the_way(one, runs[one.directory])]


def have_moved_on(tree: Tree, changes: Sequence[RunChange], known: Mapping[str, PlannedRun], request: Request) -> bool:
    """Return whether runs were started, or have new jobs or results, since they were compared."""
    runs = [known[one.directory] for one in changes if one.state and one.directory in known]
    now = states_of(tree, runs, request)
    then = {one.directory: one.state for one in changes if one.state}
    return any(
        (each.started, each.jobs, each.results) != (was.started, was.jobs, was.results)
        for name, each in now.items()
        for was in [then[name]]
    )


def _started(changes: Sequence[RunChange]) -> list[RunChange]:
    return [each for each in changes if each.kind == "changed" and each.is_started]


def refuse_started(
    plan: Plan,
    changes: Sequence[RunChange],
    says: Callable[[str], Decision | None],
    question: Callable[[Sequence[RunChange]], Question] = lambda _: STARTED,
) -> None:
    """Refuse changes of a started run, unless the user replaces it and none of its jobs or results is in the way.

    `question` returns the question about such runs.

    Raises:
        Refused: contains these runs with their state, its evidence and the values that would change, and the question.
    """
    started = _started(changes)
    problems = _all_in_the_way(plan, changes, says)
    if unsaid := [one for one in started if says(one.directory) != "replace"]:
        message = f"{counted(len(unsaid), 'started run')} would change"
        raise Refused(message, [*_would_change(plan, unsaid), *problems], [question(unsaid)])
    if problems:
        raise Refused("started runs cannot be replaced yet", problems)


def _would_change(plan: Plan, started: Sequence[RunChange]) -> Iterator[Finding]:
    """Yield a finding for all started runs with the same changes; the first lists the choices."""
    groups: dict[tuple[tuple[FieldChange, ...], str], list[RunChange]] = {}
    for each in started:
        key = tuple(field.unplaced() for field in each.shared), each.state.state if each.state else ""
        groups.setdefault(key, []).append(each)
    for number, alike in enumerate(groups.values()):
        fields = same_changes([each.shared for each in alike])
        names = [each.directory for each in alike]
        told = few([str(field) for field in fields], _LISTED) or f"the text of {SETUP_YAML}"
        whose = "state" if len(alike) == 1 else f"state of {names[0]}"
        state = f"; {whose}: {alike[0].state.told}" if alike[0].state else ""
        message = f"{few(names, _LISTED)} would change: {told}{state}"
        source = next((field.source for field in alike[0].fields if field.source and field.source.line), None)
        fix = f"make the same choice as for {started[0].directory}" if number else _ways(plan, started)
        yield finding("started-run", message, field="started", actual=names[0], at=source, fix=fix)


def _in_the_way(change: RunChange, planned: PlannedRun) -> Iterator[Finding]:
    """Yield the obstacles to replacing a started run: jobs in the queue; results, unless it resumes from them."""
    state, run = change.state, change.directory
    own = arrivals.output_dir(planned)
    is_same = state is not None and own in {None, state.output_dir}
    lost, why = _overwritten(planned, own, state.results if state and is_same else ())
    if state and state.jobs:
        ids, one = " ".join(state.jobs), len(state.jobs) == 1
        has = f"has {'a pending or running job' if one else 'pending or running jobs'}"
        message = f"{run} {has} ({few(state.evidence, _LISTED)}), so its files cannot be replaced safely"
        fix = f"cancel the {'job' if one else 'jobs'} before replacing the run: `scancel {ids}`"
        yield finding("started-run", message, field="started", actual=ids, fix=fix)
    if state and lost:
        path = state.output_dir
        message = f"{run} has results in {shown(path)} that a new job would overwrite: {few(lost, _LISTED)}{why}"
        fix = f"first move the results elsewhere: `{_moved_away(path)}`"
        yield finding("started-run", message, field="started", actual=path, fix=fix)
    elif state and is_same and not state.results and (reason := unseen(state.output_dir)):
        message = f"cannot check whether {run} has results in {shown(state.output_dir)}: {reason}"
        fix = "repeat the command on a machine that has this directory, as a user who can read it"
        yield finding("started-run", message, field="started", actual=state.output_dir, fix=fix)


_NO_WEIGHTS: Final = frozenset({"logs", "recipe_state", "torchtune_config.yaml"})
"""Results of a training that ended before it saved weights: nothing is lost if a job starts again."""


def _overwritten(run: PlannedRun, path: str | None, results: Sequence[str]) -> tuple[Sequence[str], str]:
    """Return the results that the job of a run would overwrite, and why although it resumes; none if it can resume.

    A job resumes only if recipe_state.pt is in its output directory, `path`: torchtune 0.6.1 saves it between epochs,
    but not after the last one. Without it, the job starts from the base model.
    """
    if run.value("resume_from_checkpoint") is not True:
        return results, ""
    weights = [each for each in results if each not in _NO_WEIGHTS]
    found = inspect_results(path) if path and weights else None
    if found and found.can_resume:
        return (), ""
    why = (
        "; the directory has no readable recipe_state/recipe_state.pt, so the job would start over instead of resuming"
    )
    return weights, why


def _moved_away(path: str) -> str:
    """Return the command that moves results to a free path."""
    numbers = itertools.count(1)
    away = next(free for n in numbers if not is_taken(free := f"{path}.old{n if n > 1 else ''}"))
    return f"mv -n {shlex.quote(path)} {shlex.quote(away)}"


def taken_outputs(runs: Sequence[PlannedRun], changes: Sequence[RunChange]) -> Iterator[Finding]:
    """Yield runs that are not started, with an output directory that contains the results of another training.

    Their training would overwrite these results. It is the run's own earlier training if the run was replaced to resume
    from its results, and does not resume any longer.
    """
    moved = {each.directory for each in changes if any(field.field == _OUTPUT for field in each.fields)}
    new = {each.directory for each in changes if each.kind == "new"} | moved
    own = {each.state.output_dir for each in changes if each.state}  # moved with the experiment
    again = {each.directory for each in changes if each.kind == "changed" and not each.is_started} - moved
    for run in runs:
        path = arrivals.output_dir(run)
        if path is None or not (run.directory in again or (run.directory in new and path not in own)):
            continue
        if (results := inspect_results(path)) and (lost := _overwritten(run, path, results.names))[0]:
            left = f"the output directory of the run {shown(run.directory)}, {shown(path)}, contains"
            message = f"{left} {few(lost[0], _LISTED)} from a different training run{_whose(results)}, which this run"
            message += f" would overwrite{lost[1]}"
            source = next((run.settings[name].source for name in _PLACED if name in run.settings), None)
            fix = "give the experiment a different title or output directory, or move these results elsewhere"
            fix = f"move these results elsewhere: `{_moved_away(path)}`" if run.directory in again else fix
            yield finding("output-taken", message, field="output_dir_base", actual=path, at=source, fix=fix)


def _whose(results: Results) -> str:
    """Return a description of the training from its torchtune_config.yaml: ` (rank8, epochs 3, lr 1e-05)`."""
    config = RunFiles({layout.FINETUNE_YAML: results.text}).readable_config if results.text else None
    data = config.data if config and config.data else {}
    optimizer = data.get("optimizer")
    lr = optimizer.get("lr") if isinstance(optimizer, dict) else None
    values = {"": data.get("my_wandb_run_name"), "epochs ": data.get("epochs"), "lr ": lr}
    said = [f"{label}{shown(each)}" for label, each in values.items() if isinstance(each, str | int | float)]
    return f" ({', '.join(said)})" if said else ""


def started_setups(tree: Tree, plan: Plan, runs: Sequence[PlannedRun], request: Request) -> list[Finding]:
    """Return a finding for each started run that would be set up again without the user's choice."""
    says = decisions(request, [run.directory for run in (*plan.runs, *plan.former)])
    states = states_of(tree, [run for run in runs if says(run.directory) != "replace"], request) if runs else {}
    fix = "leave the run unchanged, or regenerate its files with --started replace"
    return [
        finding(
            "started-run",
            f"the files of {name} would be regenerated; state: {found.told}",
            field="started",
            actual=name,
            fix=fix,
        )
        for name, found in states.items()
        if found.started
    ]


def kept_findings(plan: Plan) -> Iterator[Finding]:
    """Yield a finding for all kept runs for which the documents give the same values now.

    If the other runs share a value that kept runs do not have, a warning is added: together they are not one design.
    """
    groups: dict[tuple[FieldChange, ...], list[Kept]] = {}
    for one in plan.kept:
        groups.setdefault(tuple(field.unplaced() for field in one.fields), []).append(one)
    for fields, alike in groups.items():
        told = few([_kept_as(each) for each in fields], _LISTED, between="; ") or "the documents have a different text"
        names = few([one.directory for one in alike], _LISTED)
        states = ", ".join(dict.fromkeys(one.state for one in alike))
        have, were = ("has", "it was") if len(alike) == 1 else ("have", "they were")
        message = f"{names} {have} been started (state: {states}), so {were} not changed: {told}"
        source = next((each.source for each in alike[0].fields if each.source and each.source.line), None)
        fix = f"no action if intended; otherwise {_to_replace(len(alike))}"
        yield finding("kept-run", message, field="started", actual=alike[0].directory, at=source, fix=fix)
    kept = {one.directory for one in plan.kept}
    changed = dict.fromkeys(field.field for one in plan.kept for field in one.fields)
    for name in changed if len(kept) < len(plan.runs) else ():
        theirs = [run.value(name) for run in plan.runs if run.directory not in kept]
        others = [run.value(name) for run in plan.runs if run.directory in kept and run.value(name) != theirs[0]]
        if name in KEYS and name not in SURROUNDINGS and others and len({*theirs}) == 1:
            none = "none" if PARAMETERS[name].optional else kinds.written(None)
            values = dict.fromkeys(none if value is None else kinds.written(value) for value in others)
            ours = f"{name} is {few([*map(_quoted, values)], _LISTED, last='or')} in {counted(len(others), 'kept run')}"
            shared = _quoted(none if theirs[0] is None else kinds.written(theirs[0]))
            other = f"{shared} in {counted(len(theirs), 'other run')}"
            message = f"{ours} and {other}: the runs no longer form a single design"
            kept_runs = "the kept run" if len(others) == 1 else "the kept runs"
            replace = f"replace {kept_runs}"
            ways = ["leave this as it is, and compare with care", replace, *_own_values(name, values, plan)]
            fix = f"choose one: {'; '.join(f'({number}) {way}' for number, way in enumerate(ways, start=1))}"
            yield finding("mixed-runs", message, field=name, expected=theirs[0], actual=others[0], fix=fix)


def _own_values(name: str, values: Iterable[str], plan: Plan) -> Iterator[str]:
    """Yield the fix that gives kept runs their values in the table, if the parameter can have a column."""
    written = few([f"`{each}`" for each in values], _LISTED, last="or")
    parameter, kept = PARAMETERS[name], {one.directory for one in plan.kept}
    runs = [run for run in plan.runs if run.directory in kept]
    if not parameter.column or (not parameter.optional and any(run.value(name) is None for run in runs)):
        return
    given = (run.settings[name].source for run in plan.runs if run.directory not in kept and name in run.settings)
    column = next((source.note for source in given if source.kind is SourceKind.ROW), "")
    if kinds.is_yaml(plan.runs[0]):
        yield f"write `{name}` in the parameters of each run"
    elif not column:
        kept_runs = "the kept run" if len(runs) == 1 else "the kept runs"
        yield f"add a column `{name}` to the table of runs, with {written} for {kept_runs}, and `-` for the others"
    elif by_label(column) is parameter:
        yield f"write {written} in {kinds.in_column(column, [run.line for run in runs])}, of the kept runs"


def _kept_as(change: FieldChange) -> str:
    """Return the difference of a kept run: `epochs is still 3, but 5 in the documents`."""
    if change.field in RUN_FILES:
        return f"{change.field} has been {change.old}, and was not restored"
    old, new = ("not set" if each is None else _quoted(each) for each in (change.old, change.new))
    file = change.source.file if change.source else None
    where = "the documents" if not file else "the summary" if file.startswith("experiment_summary.") else file
    return f"{change.field} is still {old}, but {new} in {where}"


def _quoted(value: Scalar) -> str:
    """Return the text of a value; in quotes, if it is not a number."""
    text = value if isinstance(value, str) else kinds.written(value)
    return text if kinds.read_float(text) is not None else shown(text)


def kept_values(plan: Plan) -> tuple[str, ...]:
    """Return the values in kept runs that differ from the documents, each once: a few, and the number of the others."""
    told = [*dict.fromkeys(_kept_as(field) for one in plan.kept for field in one.fields)]
    more = (f"and {len(told) - _LISTED} more",) if len(told) > _LISTED else ()
    return (*told[:_LISTED], *more)
