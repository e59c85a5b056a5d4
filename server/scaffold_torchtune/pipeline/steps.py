"""The steps as tools and commands call them. Reading steps write nothing; writing steps log their work."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TypeVar

from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.findings import Refused, Scalar, few_suggestions, finding, refuse
from scaffold_torchtune.models import Plan, RunState
from scaffold_torchtune.parse import parse_result
from scaffold_torchtune.pipeline import apply, journal, prepare, publish, reporting, state, validation
from scaffold_torchtune.pipeline.backend import backend_of
from scaffold_torchtune.pipeline.changes import decisions, have_moved_on, kept_values
from scaffold_torchtune.pipeline.locate import experiment_directory, summary_path
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.plan import changes_of, lasting_part, plan_result, states_told
from scaffold_torchtune.request import Interrupted, Request, Stopped, midway
from scaffold_torchtune.results.step_results import (
    ParseResult,
    PlanResult,
    RenderResult,
    ScaffoldResult,
    SetupResult,
    ValidateResult,
)
from scaffold_torchtune.setup import Rendered
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.system.locking import Maker
from scaffold_torchtune.validate import arrivals, chosen_by_setup
from scaffold_torchtune.validate.run_files import RunFiles

_T = TypeVar("_T")


@contextmanager
def _refusals_logged(request: Request, *, begun: bool = False) -> Iterator[None]:
    """Log the refusal of a writing step in one entry; if the directory is not an experiment, nothing is written.

    `begun`: the call has already written something, so a refusal stops it midway.
    """
    try:
        with midway() if begun else nullcontext():
            yield
    except Refused as refused:
        if not (request.will_ask and refused.ask):
            with suppress(Refused):
                _log_refusal(request, refused)
                if not isinstance(refused, Interrupted):
                    reporting.renew(request)
        raise


def _log_refusal(request: Request, refused: Refused) -> None:
    directory = experiment_directory(request)
    with Tree(directory) as tree:
        if os.path.lexists(summary_path(request, directory)) or tree.kind(layout.STATE):
            if isinstance(refused, Stopped):
                refused.logged = journal.stop(tree, journal.stopped_entry(refused), request.now())
            else:
                refused.logged = journal.append(tree, [journal.refused_entry(refused)], request.now())


@few_suggestions()
def parse(request: Request) -> ParseResult:
    """Run step 1. Raises `Refused` with every problem of both documents."""
    found = prepare.parse(request)
    return parse_result(found.experiment, str(found.directory))


@few_suggestions()
def plan(request: Request) -> PlanResult:
    """Run steps 2 and 4. Raises `Refused` with every problem of the plan."""
    prepared = prepare.prepare(request)
    found = _plan_result(prepared, request)
    return found.model_copy(update={"warnings": (*found.warnings, *apply.edited_warnings(prepared, request))})


def _plan_result(prepared: prepare.Prepared, request: Request) -> PlanResult:
    names = [each.directory for each in prepared.changes]
    replaced = {name for name in names if request.started and decisions(request, names)(name) == "replace"}
    found = plan_result(prepared.plan, prepared.changes, prepared.previous, replaced)
    asked = {
        "ask": apply.asked_first(prepared, request),
        "outputs": _outputs(prepared.plan),
        "defaults": {**found.defaults, **_written(prepared)},
    }
    return found.model_copy(update=asked)


def _written(prepared: prepare.Prepared) -> dict[str, Scalar]:
    """Return the values of finetune.yaml that nobody chose; none for an external script, which has not run yet."""
    made = {name: outcome.files.get(layout.FINETUNE_YAML) for name, outcome in prepared.outcomes.items()}
    texts = {name: RunFiles({layout.FINETUNE_YAML: data.decode()}) for name, data in made.items() if data}
    return chosen_by_setup(prepared.plan, texts)


def _outputs(plan: Plan) -> str:
    """Return where the runs save their checkpoints, with RUN for the name of the directory; "" if that differs."""
    found = {(arrivals.output_dir(run) or "").replace(run.directory, "RUN") for run in plan.runs}
    return found.pop() if len(found) == 1 else ""


@few_suggestions()
def render(request: Request) -> RenderResult:
    """Run steps 3 and 5: freeze the plan, create the run directories, write each setup_finetune.yaml.

    Raises:
        Refused: every problem that `plan` raises; a file to be replaced was edited; another scaffold is at work.
    """
    return _prepare_and_render(request)[1]


def _prepare_and_render(request: Request) -> tuple[prepare.Prepared, RenderResult]:
    with _refusals_logged(request):
        prepared = prepare.prepare(request)
        plan = prepared.plan
        state.check_readable(plan)
        with Tree(prepared.directory) as tree:
            if _settled(tree, lambda: _pending_renders(tree, prepared, request)) is None:
                apply.clear_leftovers(tree)
                return prepared, apply.render_result(prepared)
            with apply.writing(tree):
                prepared = _as_it_is_now(tree, prepared, request)
                plan = prepared.plan
                pending = _pending_renders(tree, prepared, request)
                if pending is None:  # a killed call had done all but the log
                    return prepared, apply.render_result(prepared)
                with midway():
                    begun = journal.begin(tree, plan, "render", request.now())
                    result, made = apply.write_renders(tree, prepared, pending, request)
                    entries = journal.render_entries(plan, result, made)
                    heads = journal.record_step(tree, begun, entries, request.now())
                    return prepared, result.model_copy(update={"logged": heads})


def _settled(tree: Tree, look: Callable[[], _T]) -> _T:
    """Return the result of a look at an experiment, which another scaffold may be writing at this moment.

    If it is refused, look again: a file may be newer than the record that was read before it. Nothing is written.

    Raises:
        Refused: the second look is refused too, or another scaffold is at work.
    """
    try:
        return look()
    except Refused:
        found = None
        with suppress(Refused):  # there is no lock that can be read
            found = tree.look_at_lock()
        if isinstance(found, Maker):
            with apply.writing(tree):  # refused, unless the other scaffold has just ended
                return look()
        return look()


def _as_it_is_now(tree: Tree, prepared: prepare.Prepared, request: Request) -> prepare.Prepared:
    """Return the prepared plan, or prepare it again if the experiment changed before the lock was held.

    Jobs may have been submitted since, or another scaffold may have changed the plan.
    """
    request.slurm_said.clear()  # the queue is also read again
    frozen, before = state.load_plan(tree), prepared.previous
    is_same = (frozen.id if frozen else None) == (before.id if before else None)
    if is_same and not have_moved_on(tree, prepared.changes, prepared.known, request):
        return prepared
    again = prepare.prepare(request)
    state.check_readable(again.plan)
    return again


def _pending_renders(tree: Tree, prepared: prepare.Prepared, request: Request) -> list[Rendered] | None:
    """Return the runs that render has to write, possibly none; None if it has nothing to do and nothing to log.

    Raises:
        Refused: see `apply.pending_renders`.
    """
    pending = apply.pending_renders(tree, prepared, request)
    is_done = _is_frozen(tree, prepared.plan) and not prepared.unrecorded
    if pending or not is_done or journal.is_behind(tree, "render"):
        return pending
    return None


def _is_frozen(tree: Tree, plan: Plan) -> bool:
    """Return whether a plan is the stored one: its id covers everything but its warnings."""
    frozen = state.load_plan(tree)
    if frozen is None or frozen.id != plan.id:
        return False
    then, now = ([lasting_part(each).model_dump() for each in of.warnings] for of in (frozen, plan))
    return then == now


def _frozen_plan(tree: Tree, plan_id: str | None = None) -> Plan:
    """Return the frozen plan; it must have the id `plan_id`, if that is given."""
    frozen = state.existing_plan(tree)
    if plan_id not in {None, frozen.id}:
        raise _replaced_meanwhile()
    return frozen


def rendered_plan(tree: Tree, plan_id: str | None = None) -> Plan:
    """Return the plan that was frozen, as `_frozen_plan` does, where all its runs were written."""
    frozen, log = _frozen_plan(tree, plan_id), state.load_log_state(tree)
    if log is not None and log.unlogged == "render":
        message = "the last render was stopped midway"
        raise refuse("not-rendered", message, file=layout.PLAN, fix="run render again")
    return frozen


def _replaced_meanwhile() -> Refused:
    message = "another scaffold replaced the plan while this step was running"
    return refuse(
        "busy", message, file=layout.PLAN, fix="wait until the other scaffold has finished, then repeat the step"
    )


@few_suggestions()
def setup(request: Request) -> SetupResult:
    """Run step 6: run setup_finetune for every run without outputs.

    Raises:
        Refused: nothing is rendered yet, the documents have changed the plan, a file was edited, or another scaffold is
            at work. A run that fails is a value in the result.
    """
    return _setup(request)


def _setup(request: Request, prepared: prepare.Prepared | None = None, *, begun: bool = False) -> SetupResult:
    """Set up the runs; the plan must be the `prepared` one, if there is one."""
    known = prepared.made if prepared else {}
    with _refusals_logged(request, begun=begun), Tree(experiment_directory(request)) as tree:
        frozen = _settled(tree, lambda: rendered_plan(tree, prepared.plan.id if prepared else None))
        if outdated := validation.outdated(frozen, request):
            raise Refused("the plan is outdated", outdated)
        backend = backend_of(frozen, request)
        found = _settled(tree, lambda: apply.pending_setups(tree, frozen, backend, request))
        if not found.pending and not journal.is_behind(tree, "setup"):
            apply.clear_leftovers(tree)
            return publish.run_setups(tree, frozen, backend, apply.Setups({}, {}), request, known)
        with apply.writing(tree):
            frozen = rendered_plan(tree, frozen.id)
            found = apply.pending_setups(tree, frozen, backend, request)
            if not found.pending and not journal.is_behind(tree, "setup"):  # a killed call had all but logged it
                return publish.run_setups(tree, frozen, backend, found, request, known)
            before = state.load_log_state(tree)
            started = before.started if before and before.status == "open" else request.now()
            with midway():
                log = journal.begin(tree, frozen, "setup", started)
                result = publish.run_setups(tree, frozen, backend, found, request, known)
                entries = journal.setup_entries(frozen, result)
                heads = journal.record_step(tree, log, entries, request.now())
                return result.model_copy(update={"logged": heads})


@few_suggestions()
def validate(request: Request) -> ValidateResult:
    """Run step 7: check every planned run. The verdict is logged if it closes an open scaffold or is a new verdict.

    If it cannot be logged, for example on a full or read-only disk, it is returned with a finding.

    Raises:
        Refused: nothing is rendered yet, or another scaffold is at work.
    """
    begun = request.now()
    with Tree(experiment_directory(request)) as tree:
        result = verdict(tree, _frozen_plan(tree), request)
        try:
            return reporting.with_page(request, close_log(tree, result, request, begun))
        except Refused as refused:
            if any(problem.code != "write-failed" for problem in refused.problems) or not refused.problems:
                raise
            reason = refused.problems[0]
            message = f"the verdict was not logged: {reason.message}"
            unlogged = finding("verdict-unlogged", message, file=layout.LOG, fix=reason.fix)
            return result.model_copy(update={"findings": (*result.findings, unlogged)})


def verdict(tree: Tree, frozen: Plan, request: Request, known: Mapping[str, RunState] | None = None) -> ValidateResult:
    """Return the verdict; `known` are the states of the runs, if this call has already determined them."""
    frozen = validation.without_undone(tree, frozen)
    result = validation.validate_plan(tree, frozen, request)
    if not result.passed:
        return result
    kept = {one.directory for one in frozen.kept}
    states = known if known is not None else states_of(tree, frozen.runs, request)
    started = [name for name, found in states.items() if found.started or name in kept]
    left = [run for run in frozen.runs if run.directory not in started]
    line = sbatch.line(left, tree) if left else ""
    told = {
        "submit": line,
        "experiment_dir": str(tree.root),
        "started": tuple(started),
        "states": states_told(states),
        "kept": len(kept),
        "kept_values": kept_values(frozen),
        "tracking": validation.tracking(frozen),
    }
    return result.model_copy(update=told)


def close_log(tree: Tree, result: ValidateResult, request: Request, begun: datetime) -> ValidateResult:
    """Log the verdict, unless the log already ends with it; record rejected runs, which the script sets up again."""
    frozen = state.existing_plan(tree)
    rejected = validation.newly_rejected(tree, frozen, result)
    if journal.is_closed(tree, result) and not rejected:
        apply.clear_leftovers(tree)
        return result
    with apply.writing(tree):
        for record in rejected:
            state.save(tree, layout.record(record.directory), record)
        heads = journal.close(tree, frozen, result, (begun, request.now()))
    return result.model_copy(update={"logged": heads})


@few_suggestions()
def scaffold(request: Request) -> ScaffoldResult:
    """Run all steps.

    Raises:
        Refused: every problem that the single steps raise; `Stopped` if an earlier step has written something. A run
            that fails, or a value that does not match, is in the result, and `ok` is false.
    """
    before = _log_size(request)
    prepared, rendered = _prepare_and_render(request)
    set_up = _setup(request, prepared, begun=bool(rendered.logged))
    begun = bool(rendered.logged or set_up.logged)
    if set_up.logged and rendered.changes is None:  # only files of setup were edited or removed
        rendered = rendered.model_copy(update={"changes": changes_of(prepared.changes, done=True)})
    states = {each.directory: each.state for each in prepared.changes if each.state and each.kind != "dropped"}
    validated = _validated(request, prepared.plan.id, begun=begun, known=None if begun else states)
    ok = set_up.failed == 0 and validated.passed
    return ScaffoldResult(
        parse=parse_result(prepared.parsed.experiment, str(prepared.directory)),
        plan=_plan_result(prepared, request),
        render=rendered,
        setup=set_up,
        validation=validated,
        ok=ok,
        unchanged=_log_size(request) == before,
        log=str(prepared.directory / layout.LOG),
        submit=validated.submit if ok else "",
    )


def _validated(request: Request, plan_id: str, *, begun: bool, known: Mapping[str, RunState] | None) -> ValidateResult:
    """Validate the plan with an id, and log the verdict."""
    started = request.now()
    with _refusals_logged(request, begun=begun), Tree(experiment_directory(request)) as tree:
        result = verdict(tree, _frozen_plan(tree, plan_id), request, known)
        return reporting.with_page(request, close_log(tree, result, request, started))


def _log_size(request: Request) -> int:
    """Return the size of the log, to which every step that writes anything appends."""
    with Tree(experiment_directory(request)) as tree:
        return tree.size(layout.LOG)
