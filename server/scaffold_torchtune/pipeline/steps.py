"""The steps as tools and commands call them. Reading steps write nothing; writing steps log what they did."""

import functools
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Literal, TypeVar

from scaffold_torchtune import journal
from scaffold_torchtune.errors import Refused
from scaffold_torchtune.journal import Entry
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.models.results import (
    ParseResult,
    PlanResult,
    RenderResult,
    ScaffoldResult,
    SetupResult,
    ValidateResult,
)
from scaffold_torchtune.pipeline import apply, judge, prepare, results, state
from scaffold_torchtune.pipeline.locate import experiment_directory, refuse
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.state import LogState
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree

R = TypeVar("R")


def _logs_refusals(step: Callable[[Request], R]) -> Callable[[Request], R]:
    """Let a writing step leave one SCAFFOLD_TORCHTUNE_REFUSED entry when it is refused, where that is safe."""

    @functools.wraps(step)
    def logged(request: Request) -> R:
        try:
            return step(request)
        except Refused as refused:
            _log_refusal(request, refused)
            raise

    return logged


def _log_refusal(request: Request, refused: Refused) -> None:
    """Append the entry; where the experiment is not ours to write to, nothing is written."""
    try:
        with Tree(experiment_directory(request)) as tree:
            _append(tree, [journal.refused_entry(refused)], request.now())
    except Refused:
        return


def _append(tree: Tree, entries: list[Entry], now: datetime) -> None:
    tree.append(layout.LOG, journal.format_entries(entries, now))


def parse(request: Request) -> ParseResult:
    """Step 1. Raises `Refused` with every problem of both documents."""
    found = prepare.parsed(request)
    return results.parse_result(found.experiment, str(found.directory))


def plan(request: Request) -> PlanResult:
    """Steps 2 and 4. Raises `Refused` with everything that stands against the plan."""
    return results.plan_result(prepare.prepared(request).plan)


@_logs_refusals
def render(request: Request) -> RenderResult:
    """Steps 3 and 5: freeze the plan, make the run directories, write each setup_finetune.yaml.

    Raises:
        Refused: everything that `plan` raises; a file in the way was edited; another scaffold is at work.
    """
    return _render(request, prepare.prepared(request))


def _render(request: Request, prepared: prepare.Prepared) -> RenderResult:
    with Tree(prepared.directory) as tree:
        pending = apply.pending_renders(tree, prepared, overwrite=request.overwrite)
        if not pending and state.load_plan(tree) == prepared.plan:
            return apply.nothing_rendered(prepared)
        with apply.writing(tree):
            pending = apply.pending_renders(tree, prepared, overwrite=request.overwrite)
            started = request.now()
            result, made = apply.write_renders(tree, prepared, pending, request)
            _append(tree, journal.render_entries(prepared.plan, result, made), request.now())
            opened = LogState(plan=prepared.plan.id, started=started.isoformat(), status="open")
            state.save(tree, layout.PROGRESS, opened)
    return result


def _frozen_plan(tree: Tree) -> Plan:
    frozen = state.load_plan(tree)
    if frozen is None:
        raise refuse("not-rendered", "there is no plan yet", file=layout.PLAN, fix="run render_yaml (render) first")
    return frozen


@_logs_refusals
def setup(request: Request) -> SetupResult:
    """Step 6: run setup_finetune for every run whose outputs are not yet made.

    Raises:
        Refused: nothing was rendered yet, the documents plan something else by now, a file was edited, or another
            scaffold is at work. A run that fails is a value in the result.
    """
    with Tree(experiment_directory(request)) as tree:
        frozen = _frozen_plan(tree)
        outdated = judge.outdated(frozen, request)
        if outdated:
            raise Refused("the plan is outdated", outdated)
        backend = apply.backend_of(frozen, request)
        if not apply.pending_setups(tree, frozen, backend, overwrite=request.overwrite):
            return apply.run_setups(tree, frozen, backend, {}, request)
        with apply.writing(tree):
            pending = apply.pending_setups(tree, frozen, backend, overwrite=request.overwrite)
            result = apply.run_setups(tree, frozen, backend, pending, request)
            _append(tree, journal.setup_entries(frozen, result), request.now())
            _reopen(tree, frozen, request)
    return result


def _reopen(tree: Tree, frozen: Plan, request: Request) -> None:
    """New outputs need a new verdict."""
    before = state.load_log_state(tree)
    started = before.started if before and before.status == "open" else request.now().isoformat()
    state.save(tree, layout.PROGRESS, LogState(plan=frozen.id, started=started, status="open"))


def validate(request: Request) -> ValidateResult:
    """Step 7: judge every planned run. The verdict is logged where it closes an open scaffold or changes the last one.

    Raises:
        Refused: nothing was rendered yet.
    """
    with Tree(experiment_directory(request)) as tree:
        frozen = _frozen_plan(tree)
        result = judge.judge(tree, frozen, request)
        _close(tree, frozen, result, request)
    return result


def _close(tree: Tree, frozen: Plan, result: ValidateResult, request: Request) -> None:
    before = state.load_log_state(tree)
    status: Literal["complete", "failed"] = "complete" if result.passed else "failed"
    digest = hashlib.sha256(result.model_dump_json().encode()).hexdigest()
    if before is None or (before.status == status and (result.passed or before.verdict == digest)):
        return
    now = request.now()
    started = datetime.fromisoformat(before.started)
    with apply.writing(tree):
        entries = journal.closing_entries(frozen, result, results.submit_line(frozen), (now - started).total_seconds())
        _append(tree, entries, now)
        closed = LogState(plan=frozen.id, started=before.started, status=status, verdict=digest)
        state.save(tree, layout.PROGRESS, closed)


def scaffold(request: Request) -> ScaffoldResult:
    """All steps in one.

    Raises:
        Refused: everything that the single steps raise. A run that fails, or a value that does not match, is in the
            result, and `ok` is false.
    """
    prepared, rendered = _prepare_and_render(request)
    set_up = setup(request)
    validated = validate(request)
    ok = set_up.failed == 0 and validated.passed
    return ScaffoldResult(
        parse=results.parse_result(prepared.parsed.experiment, str(prepared.directory)),
        plan=results.plan_result(prepared.plan),
        render=rendered,
        setup=set_up,
        validation=validated,
        ok=ok,
        unchanged=rendered.created == 0 and all(run.unchanged for run in set_up.runs),
        log=str(prepared.directory / layout.LOG),
        submit=results.submit_line(prepared.plan) if ok else "",
    )


@_logs_refusals
def _prepare_and_render(request: Request) -> tuple[prepare.Prepared, RenderResult]:
    prepared = prepare.prepared(request)
    return prepared, _render(request, prepared)
