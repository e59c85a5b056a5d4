"""How far each run has come, and what becomes of it: new, unchanged, changed, kept, dropped.

A run that was started is never changed unasked: it is kept as it was when it started, or replaced, as the user says.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from scaffold_torchtune.external_checks import queue
from scaffold_torchtune.external_checks.queue import Job, Queue
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Refused, finding
from scaffold_torchtune.models import FieldChange, Kept, Plan, PlannedRun, Results, RunChange, RunState, same_changes
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.plan.planner import with_id
from scaffold_torchtune.preflight.disk import inspect_results
from scaffold_torchtune.render import Rendered
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, is_directory, real_path, sha256
from scaffold_torchtune.system.layout import SETUP_YAML
from scaffold_torchtune.system.text import counted, escape, few, shown
from scaffold_torchtune.validate import arrivals
from scaffold_torchtune.validate.run_files import RunFiles

_OUTPUT: Final = "output_dir"
_PLACED: Final = frozenset({"output_dir_base", "project_dir", "experiment_name", "my_wandb_run_name"})
"""The settings that say where outputs go: the directory itself tells of them."""


class Compared(NamedTuple):
    """A plan, with started runs that are kept as they were; the texts of the other runs; and what becomes of each."""

    plan: Plan
    rendered: tuple[Rendered, ...]
    changes: tuple[RunChange, ...]


def compare(tree: Tree, plan: Plan, rendered: Sequence[Rendered], previous: Plan | None, request: Request) -> Compared:
    """Compare a plan with what was scaffolded before.

    Args:
        tree: the experiment directory.
        plan: as the documents have it.
        rendered: its setup_finetune.yaml, in its order.
        previous: the plan that was frozen.
        request: `started` says what becomes of started runs that would change; what was kept once stays so while the
            documents say the same.
    """
    before = {run.directory: run for run in (*previous.former, *previous.runs)} if previous else {}
    kept_before = {one.directory: one for one in previous.kept} if previous else {}
    now = {one.run.directory: (one.run, sha256(one.text.encode())) for one in rendered}
    records = {name: record for name in {*now, *before} if (record := state.load_record(tree, name))}
    dropped = tuple(run for name, run in before.items() if name in records and name not in now)
    changed = {name for name, (_, digest) in now.items() if name in records and records[name].setup_yaml != digest}
    same = {name for name in changed & kept_before.keys() if kept_before[name].digest == now[name][1]}
    asked = [before.get(name, now[name][0]) for name in now if name in records]
    states = states_of(tree, [*asked, *dropped], request)
    changes: list[RunChange] = []
    kept: list[Kept] = []
    for name, (run, digest) in now.items():
        fields = _fields(before.get(name), run) if name in changed - same else ()
        keeps = request.started == "keep" and name in before and name in states and states[name].started
        if name in same:
            kept.append(kept_before[name])
            changes.append(RunChange(directory=name, kind="kept", state=states[name], fields=kept_before[name].fields))
        elif keeps:
            kept.append(Kept(directory=name, state=states[name].state, fields=fields, digest=digest))
            changes.append(RunChange(directory=name, kind="kept", state=states[name], fields=fields))
        elif name in changed:
            changes.append(RunChange(directory=name, kind="changed", state=states[name], fields=fields))
        else:
            is_new = name not in records
            changes.append(RunChange(directory=name, kind="new" if is_new else "unchanged", state=states.get(name)))
    changes += [RunChange(directory=run.directory, kind="dropped", state=states[run.directory]) for run in dropped]
    names = {one.directory for one in kept}
    if names or dropped:
        runs = tuple(before[run.directory] if run.directory in names else run for run in plan.runs)
        plan = with_id(plan.model_copy(update={"runs": runs, "kept": tuple(kept), "former": dropped}))
    return Compared(plan, tuple(one for one in rendered if one.run.directory not in names), tuple(changes))


def _fields(old: PlannedRun | None, new: PlannedRun) -> tuple[FieldChange, ...]:
    """Return the values that differ between two plans of a run; where none does, only the text is another."""
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


STARTED: Final = Question(
    field="started",
    question="Runs that were started would change. Keep them as they were when they started, and scaffold the rest; or"
    " replace them, once their results are moved away?",
    options=("keep", "replace"),
)
_LISTED: Final = 4
_WAYS: Final = (
    "take the change back; or give the table a column for it, with the old value in the old rows; or keep started runs"
    " as they are, unlike the others (started: keep, --started keep); or scaffold them anew (replace), once their jobs"
    " are cancelled and their results moved away"
)


def started_warnings(plan: Plan, changes: Sequence[RunChange], *, replace: bool) -> list[Finding]:
    """Return as warnings of a plan that started runs would change, or what keeps them from being replaced.

    The plan tells in its changes which would, and what.
    """
    started = _started(changes)
    if not started:
        return []
    if replace:
        problems = _all_in_the_way(plan, started)
    else:
        message = (
            f"{counted(len(started), 'started run')} would change, so nothing is scaffolded until a way on is chosen"
        )
        problems = [next(_would_change(started)).model_copy(update={"message": message})]
    return [each.model_copy(update={"severity": Severity.WARNING}) for each in problems]


def _started(changes: Sequence[RunChange]) -> list[RunChange]:
    return [each for each in changes if each.kind == "changed" and each.is_started]


def refuse_started(plan: Plan, changes: Sequence[RunChange], *, replace: bool) -> None:
    """Refuse what would change a started run, unless it is to be replaced and nothing of it is in the way.

    Raises:
        Refused: names such runs with their state, what shows it and the values that would change, and asks.
    """
    started = _started(changes)
    if replace:
        if problems := _all_in_the_way(plan, started):
            raise Refused("started runs cannot be replaced yet", problems)
    elif started:
        raise Refused(f"{counted(len(started), 'started run')} would change", _would_change(started), [STARTED])


def _all_in_the_way(plan: Plan, started: Iterable[RunChange]) -> list[Finding]:
    """Return everything that keeps started runs from being replaced."""
    resuming = {run.directory for run in plan.runs if run.value("resume_from_checkpoint") is True}
    found = (_in_the_way(one, resumes=one.directory in resuming) for one in started)
    return [each for several in found for each in several]


def _would_change(started: Sequence[RunChange]) -> Iterator[Finding]:
    """Yield a finding for all started runs in which the same would change; the first has the ways on."""
    groups: dict[tuple[tuple[FieldChange, ...], str], list[RunChange]] = {}
    for each in started:
        key = tuple(field.unplaced() for field in each.shared), each.state.state if each.state else ""
        groups.setdefault(key, []).append(each)
    for number, alike in enumerate(groups.values()):
        fields = same_changes([each.shared for each in alike])
        names = [each.directory for each in alike]
        told = few([str(field) for field in fields], _LISTED) or f"the text of {SETUP_YAML}"
        state = alike[0].state.told if alike[0].state else ""
        first = "" if len(alike) == 1 else f" in {names[0]}"
        message = f"{few(names, _LISTED)}: {state}{first}; would change: {told}"
        source = next((field.source for field in alike[0].fields if field.source and field.source.line), None)
        fix = f"the ways on are those of {started[0].directory}" if number else _WAYS
        yield finding("started-run", message, field="started", actual=names[0], at=source, fix=fix)


def _in_the_way(change: RunChange, *, resumes: bool) -> Iterator[Finding]:
    """Yield what keeps a started run from being replaced: jobs in the queue; results, unless it resumes from them."""
    state, run = change.state, change.directory
    if state and state.jobs:
        ids = " ".join(state.jobs)
        message = f"{run} has jobs in the queue, which read its files when they start: {few(state.evidence, _LISTED)}"
        yield finding("started-run", message, field="started", actual=ids, fix=f"cancel them first: scancel {ids}")
    if state and state.results and not resumes:
        path = shlex.quote(state.output_dir)
        message = f"results of {run} are in {shown(state.output_dir)}: {few(state.results, _LISTED)}"
        fix = f"move them first: mv -n {path} {path}.old"
        yield finding("started-run", message, field="started", actual=state.output_dir, fix=fix)


def taken_outputs(runs: Sequence[PlannedRun], changes: Sequence[RunChange]) -> Iterator[Finding]:
    """Yield new runs whose output directory holds what another training left, which theirs would write over.

    A run that resumes goes on from what lies there: that is judged elsewhere.
    """
    new = {each.directory for each in changes if each.kind == "new"}
    for run in runs:
        path = arrivals.output_dir(run)
        if run.directory not in new or path is None or run.value("resume_from_checkpoint") is True:
            continue
        if results := inspect_results(path):
            told = f"the output directory of {run.directory}, {shown(path)}, holds {few(results.names, _LISTED)}"
            message = f"{told}, which another training left{_whose(results)}; this one would write over it"
            source = next((run.settings[name].source for name in _PLACED if name in run.settings), None)
            fix = "give the experiment another title or output directory, or move what is there away"
            yield finding("output-taken", message, field="output_dir_base", actual=path, at=source, fix=fix)


def _whose(results: Results) -> str:
    """Return what torchtune_config.yaml says of the training that left it: `: rank8, 3 epochs, lr 1e-05`."""
    config = RunFiles({layout.FINETUNE_YAML: results.text}).readable_config if results.text else None
    data = config.data if config and config.data else {}
    optimizer = data.get("optimizer")
    lr = optimizer.get("lr") if isinstance(optimizer, dict) else None
    values = {"": data.get("my_wandb_run_name"), "epochs ": data.get("epochs"), "lr ": lr}
    said = [f"{label}{shown(str(each))}" for label, each in values.items() if isinstance(each, str | int | float)]
    return f" ({', '.join(said)})" if said else ""


def started_setups(tree: Tree, runs: Sequence[PlannedRun], request: Request) -> list[Finding]:
    """Return the started ones of runs that were set up before and would be set up again."""
    states = states_of(tree, runs, request) if runs else {}
    fix = "leave it as it is; --started replace makes its files anew"
    return [
        finding(
            "started-run",
            f"{name} is {found.told}, and its files would be made anew",
            field="started",
            actual=name,
            fix=fix,
        )
        for name, found in states.items()
        if found.started
    ]


def kept_findings(plan: Plan) -> Iterator[Finding]:
    """Yield a finding for all started runs that are kept as they were, and of which the documents say the same now."""
    groups: dict[tuple[FieldChange, ...], list[Kept]] = {}
    for one in plan.kept:
        groups.setdefault(tuple(field.unplaced() for field in one.fields), []).append(one)
    for fields, alike in groups.items():
        says = [f"{each.field} {each.old}, the documents say {each.new}" for each in fields]
        told = few(says, _LISTED, between="; ") or "the documents give another text"
        names = few([one.directory for one in alike], _LISTED)
        how = "is kept as it was when it started" if len(alike) == 1 else "are kept as they were when they started"
        message = f"{names} {how} ({', '.join(dict.fromkeys(one.state for one in alike))}): {told}"
        source = next((each.source for each in alike[0].fields if each.source and each.source.line), None)
        fix = "no action if intended"
        yield finding("kept-run", message, field="started", actual=alike[0].directory, at=source, fix=fix)


_JOB_OUTPUT: Final = re.compile(r"slurm-([0-9]{1,18})(?:_[0-9]{1,9})?\.out", re.ASCII)


def states_of(tree: Tree, runs: Iterable[PlannedRun], request: Request) -> dict[str, RunState]:
    """Return the state of each run, by its directory.

    A run is started where a job of it waits or runs, where it has a slurm-*.out, or where its output directory holds
    what a training leaves. It is finished where sacct says so or as many epochs as planned are there, and has failed
    where sacct says so, or where squeue answers and knows no job of it. SLURM is asked only where something was
    scaffolded.

    Args:
        tree: the experiment directory.
        runs: as they were planned when they were scaffolded.
        request: may say that SLURM is not to be asked.
    """
    runs = list(runs)
    scaffolded = {run.directory: job_outputs(tree, run.directory) for run in runs if _is_scaffolded(tree, run)}
    waiting = queue.queued(tree.root, request) if scaffolded else Queue({})
    ids = {job for found in scaffolded.values() for job in found.values()}
    past = queue.ended(tree.root, ids, request) if ids else Queue({})
    jobs = (f"jobs ({waiting.unknown})",) if waiting.unknown else ()
    away = (base for base in {run.text("output_dir_base") for run in runs} if base and not is_directory(base))
    bases = {base: (f"outputs (there is no {shown(base)} here)",) for base in away}
    found: dict[str, RunState] = {}
    for run in runs:
        if run.directory not in scaffolded:
            found[run.directory] = RunState(state="planned")
            continue
        at = str(real_path(tree.root / run.directory))
        results = inspect_results(path) if (path := arrivals.output_dir(run)) else None
        of_slurm = waiting.jobs.get(at, ()), past.jobs.get(at, ()), waiting.unknown
        unseen = (*jobs, *bases.get(run.text("output_dir_base"), ()))
        found[run.directory] = _state(run, scaffolded[run.directory], results, of_slurm, unseen)
    return found


def _is_scaffolded(tree: Tree, run: PlannedRun) -> bool:
    return tree.kind(run.directory) == "directory" and tree.kind(f"{run.directory}/{layout.SETUP_YAML}") is not None


def job_outputs(tree: Tree, directory: str) -> dict[str, str]:
    """Return the names of a run's slurm-JOB.out, each with the id of its job."""
    return {name: match[1] for name in tree.names(directory) if (match := _JOB_OUTPUT.fullmatch(name))}


def _state(
    run: PlannedRun,
    outputs: Mapping[str, str],
    results: Results | None,
    of_slurm: tuple[Iterable[Job], Iterable[Job], str],
    unseen: tuple[str, ...],
) -> RunState:
    """Return the state of a run that is scaffolded, by what lies there, and its jobs: in the queue, and ended.

    `unseen` is what cannot be looked at from here.
    """
    waiting = [job for job in of_slurm[0] if not job.has_ended]
    past = sorted([*of_slurm[1], *(job for job in of_slurm[0] if job.has_ended)], key=_number)
    unknown = of_slurm[2]
    left = results.names if results else ()
    evidence = [f"job {job.id} is {job.state}" for job in waiting]
    evidence += [f"job {job.id} was {job.state}" for job in past[-1:] if not waiting]
    evidence += [few(sorted(outputs), _LISTED)] if outputs else []
    evidence += [f"{escape(few(list(left), _LISTED))} in {arrivals.output_dir(run)}"] if left else []
    done = results is not None and results.epochs >= run.integer("epochs", 1)
    if waiting:
        state = "running" if any(job.runs for job in waiting) else "submitted"
    elif not evidence:
        state = "scaffolded"
    elif past:
        state = "finished" if past[-1].state == "COMPLETED" else "failed"
    elif done:
        state = "finished"
    else:
        state = "submitted" if unknown else "failed"
    return RunState.model_validate(
        {
            "state": state,
            "evidence": tuple(evidence),
            "jobs": tuple(job.id for job in waiting),
            "results": left,
            "output_dir": arrivals.output_dir(run) or "",
            "unknown": unknown if state == "submitted" and not waiting else "",
            "unseen": unseen,
        }
    )


def _number(job: Job) -> tuple[int, str]:
    return int(re.sub(r"[^0-9].*", "", job.id) or 0), job.id
