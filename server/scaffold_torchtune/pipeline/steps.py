"""The steps as tools and commands call them. Reading steps write nothing; writing steps log what they did."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Literal

from scaffold_torchtune import journal
from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.journal import Entry
from scaffold_torchtune.models import Plan
from scaffold_torchtune.pipeline import apply, prepare, state, validation
from scaffold_torchtune.pipeline.backend import backend_of
from scaffold_torchtune.pipeline.locate import experiment_directory, summary_path
from scaffold_torchtune.pipeline.state import LogState
from scaffold_torchtune.request import Request, Stopped, midway
from scaffold_torchtune.results import step_results
from scaffold_torchtune.results.step_results import (
    ParseResult,
    PlanResult,
    RenderResult,
    ScaffoldResult,
    SetupResult,
    ValidateResult,
)
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree


@contextmanager
def _refusals_logged(request: Request) -> Iterator[None]:
    """Let a writing step leave one entry when it is refused; where it is not ours to write to, nothing is written."""
    try:
        yield
    except Refused as refused:
        if not (request.will_ask and refused.ask):
            with suppress(Refused):
                _log_refusal(request, refused)
        raise


def _log_refusal(request: Request, refused: Refused) -> None:
    directory = experiment_directory(request)
    with Tree(directory) as tree:
        if os.path.lexists(summary_path(request, directory)) or tree.kind(layout.STATE):
            entry = journal.stopped_entry if isinstance(refused, Stopped) else journal.refused_entry
            refused.logged = _append(tree, [entry(refused)], request.now())


def _append(tree: Tree, entries: list[Entry], now: datetime) -> tuple[str, ...]:
    """Append entries to the log, and return their heads."""
    tree.append(layout.LOG, journal.format_entries(entries, now))
    return tuple(journal.head(entry, now) for entry in entries)


def _begin(tree: Tree, plan: Plan, step: Literal["render", "setup"], started: datetime) -> LogState:
    """Note, before anything is written, that a step has work to do and that its outputs need a new verdict."""
    begun = LogState(plan=plan.id, started=started, status="open", unlogged=step)
    state.save(tree, layout.PROGRESS, begun)
    return begun


def _logged(tree: Tree, begun: LogState, entries: list[Entry], now: datetime) -> dict[str, tuple[str, ...]]:
    """Log what the step did, and return what its result says of that."""
    heads = _append(tree, entries, now)
    state.save(tree, layout.PROGRESS, begun.model_copy(update={"unlogged": ""}))
    return {"logged": heads}


def _unlogged(tree: Tree, step: str) -> bool:
    """Return whether the step was killed after it had begun."""
    log = state.load_log_state(tree)
    return log is not None and log.unlogged == step


def parse(request: Request) -> ParseResult:
    """Step 1. Raises `Refused` with every problem of both documents."""
    found = prepare.parse(request)
    return step_results.parse_result(found.experiment, str(found.directory))


def plan(request: Request) -> PlanResult:
    """Steps 2 and 4. Raises `Refused` with everything that stands against the plan."""
    return step_results.plan_result(prepare.prepare(request).plan)


def render(request: Request) -> RenderResult:
    """Steps 3 and 5: freeze the plan, make the run directories, write each setup_finetune.yaml.

    Raises:
        Refused: everything that `plan` raises; a file in the way was edited; another scaffold is at work.
    """
    return _prepare_and_render(request)[1]


def _prepare_and_render(request: Request) -> tuple[prepare.Prepared, RenderResult]:
    with _refusals_logged(request):
        prepared = prepare.prepare(request)
        with Tree(prepared.directory) as tree:
            pending = apply.pending_renders(tree, prepared, overwrite=request.overwrite)
            if not pending and _is_frozen(tree, prepared.plan) and not _unlogged(tree, "render"):
                apply.clear_leftovers(tree)
                return prepared, apply.render_result(tree, prepared.plan)
            with apply.writing(tree):
                pending = apply.pending_renders(tree, prepared, overwrite=request.overwrite)
                with midway():
                    begun = _begin(tree, prepared.plan, "render", request.now())
                    result, made = apply.write_renders(tree, prepared.plan, pending, request)
                    entries = journal.render_entries(prepared.plan, result, made)
                    return prepared, result.model_copy(update=_logged(tree, begun, entries, request.now()))


def _is_frozen(tree: Tree, plan: Plan) -> bool:
    """Return whether a plan is the one that is stored: its id covers everything but its warnings."""
    frozen = state.load_plan(tree)
    if frozen is None or frozen.id != plan.id:
        return False
    return [each.model_dump() for each in frozen.warnings] == [each.model_dump() for each in plan.warnings]


def _frozen_plan(tree: Tree, plan_id: str | None = None) -> Plan:
    """Return the plan that was frozen; it must be the one with `plan_id`, where that is given."""
    frozen = state.existing_plan(tree)
    if plan_id not in {None, frozen.id}:
        message = "another scaffold has replaced the plan meanwhile"
        raise refuse("busy", message, file=layout.PLAN, fix="wait for it, then repeat the step")
    return frozen


def setup(request: Request, prepared: prepare.Prepared | None = None) -> SetupResult:
    """Step 6: run setup_finetune for every run whose outputs are not yet made.

    The plan must be the one that was `prepared`, where one was.

    Raises:
        Refused: nothing was rendered yet, the documents plan something else by now, a file was edited, or another
            scaffold is at work. A run that fails is a value in the result.
    """
    known = prepared.made if prepared else {}
    with _refusals_logged(request), Tree(experiment_directory(request)) as tree:
        frozen = _frozen_plan(tree, prepared.plan.id if prepared else None)
        if outdated := validation.outdated(frozen, request):
            raise Refused("the plan is outdated", outdated)
        backend = backend_of(frozen, request)
        pending = apply.pending_setups(tree, frozen, backend, overwrite=request.overwrite)
        if not pending and not _unlogged(tree, "setup"):
            apply.clear_leftovers(tree)
            return apply.run_setups(tree, frozen, backend, {}, request, known)
        with apply.writing(tree):
            frozen = _frozen_plan(tree, frozen.id)
            pending = apply.pending_setups(tree, frozen, backend, overwrite=request.overwrite)
            before = state.load_log_state(tree)
            started = before.started if before and before.status == "open" else request.now()
            with midway():
                begun = _begin(tree, frozen, "setup", started)
                result = apply.run_setups(tree, frozen, backend, pending, request, known)
                entries = journal.setup_entries(frozen, result)
                return result.model_copy(update=_logged(tree, begun, entries, request.now()))


def validate(request: Request, plan_id: str | None = None) -> ValidateResult:
    """Step 7: check every planned run. The verdict is logged where it closes an open scaffold or changes the last one.

    Raises:
        Refused: nothing was rendered yet, or another plan than the one with `plan_id`, where that is given.
    """
    begun = request.now()
    with Tree(experiment_directory(request)) as tree:
        frozen = _frozen_plan(tree, plan_id)
        result = validation.validate_plan(tree, frozen, request)
        line = sbatch.line(frozen, tree) if result.passed else ""
        result = result.model_copy(update={"tracking": validation.tracking(frozen) if result.passed else ""})
        logged = _close(tree, frozen, result, line, request, begun)
    return result.model_copy(update={"submit": line, "logged": logged})


def _close(
    tree: Tree, frozen: Plan, result: ValidateResult, line: str, request: Request, begun: datetime
) -> tuple[str, ...]:
    """Log the verdict, unless the log already ends with it; return the heads of what was logged.

    `line` submits the runs, `begun` is when the validation began.
    """
    before = state.load_log_state(tree)
    status: Literal["complete", "failed"] = "complete" if result.passed else "failed"
    digest = hashlib.sha256(result.model_dump_json().encode()).hexdigest()
    if before is None or (before.status == status and (result.passed or before.verdict == digest)):
        apply.clear_leftovers(tree)
        return ()
    started = before.started if before.status == "open" else begun
    with apply.writing(tree):
        now = request.now()
        entries = journal.closing_entries(frozen, result, line, (now - started).total_seconds())
        heads = _append(tree, entries, now)
        state.save(tree, layout.PROGRESS, before.model_copy(update={"status": status, "verdict": digest}))
    return heads


def scaffold(request: Request) -> ScaffoldResult:
    """All steps in one.

    Raises:
        Refused: everything that the single steps raise. A run that fails, or a value that does not match, is in the
            result, and `ok` is false.
    """
    before = _log_size(request)
    prepared, rendered = _prepare_and_render(request)
    set_up = setup(request, prepared)
    validated = validate(request, prepared.plan.id)
    ok = set_up.failed == 0 and validated.passed
    return ScaffoldResult(
        parse=step_results.parse_result(prepared.parsed.experiment, str(prepared.directory)),
        plan=step_results.plan_result(prepared.plan),
        render=rendered,
        setup=set_up,
        validation=validated,
        ok=ok,
        unchanged=_log_size(request) == before,
        log=str(prepared.directory / layout.LOG),
        submit=validated.submit if ok else "",
    )


def _log_size(request: Request) -> int:
    """Return the size of the log, to which every step that writes anything appends."""
    with Tree(experiment_directory(request)) as tree:
        return tree.size(layout.LOG)
