"""scaffold.log as it is written: each step's entries once, whoever is killed or takes the file away.

How far the log is stands in progress.json (`LogState`), which is written before the log: entries that are to be
appended stand there until the log has them, and the next call that writes completes what a killed one left.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal

from scaffold_torchtune import journal
from scaffold_torchtune.journal import Entry
from scaffold_torchtune.models import Plan
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.state import LogState
from scaffold_torchtune.results.step_results import ValidateResult
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree

Heads = tuple[str, ...]
"""The first lines of the entries that the log got."""

_STEPS: Final[dict[str, Literal["", "setup"]]] = {"render": "setup", "setup": ""}
"""What must be logged after a step, where the log is new."""


def size(tree: Tree) -> int:
    """Return the size of the log in bytes; 0 where it is not there."""
    return tree.size(layout.LOG)


def append(tree: Tree, entries: Iterable[Entry], now: datetime) -> Heads:
    """Append entries that tell of nothing that was made, and return their heads."""
    entries = [*entries]
    tree.append(layout.LOG, journal.format_entries(entries, now))
    return tuple(journal.head(entry, now) for entry in entries)


def stop(tree: Tree, entry: Entry, now: datetime) -> Heads:
    """Append that a call was stopped midway, and return the head. A verdict before it no longer closes the log."""
    heads = append(tree, [entry], now)
    log = state.load_log_state(tree)
    if log is not None and log.status == "complete":
        state.save(tree, layout.PROGRESS, log.model_copy(update={"status": "failed", "verdict": ""}))
    return heads


def begin(tree: Tree, plan: Plan, step: Literal["render", "setup"], started: datetime) -> LogState:
    """Note, before anything is written, that a step has work to do and that its outputs need a new verdict."""
    begun = LogState(plan=plan.id, started=started, status="open", unlogged=step)
    state.save(tree, layout.PROGRESS, begun)
    return begun


def is_behind(tree: Tree, step: Literal["render", "setup"]) -> bool:
    """Return whether the log lacks what a step did: it was killed before it logged it, or somebody removed the log."""
    log = state.load_log_state(tree)
    return log is None or log.unlogged == step or bool(log.entries) or size(tree) == 0


def record_step(tree: Tree, begun: LogState, entries: Iterable[Entry], now: datetime) -> Heads:
    """Log what a step did, and return the heads. In a new log, the steps that follow must say again what they did."""
    after = _STEPS[begun.unlogged] if size(tree) == 0 else ""
    return _record(tree, begun.model_copy(update={"unlogged": after}), [*entries], now)


def _record(tree: Tree, then: LogState, entries: list[Entry], now: datetime) -> Heads:
    """Append entries, after which the log is as `then` says."""
    text = journal.format_entries(entries, now)
    state.save(tree, layout.PROGRESS, then.model_copy(update={"entries": text.decode(), "size": size(tree)}))
    tree.append(layout.LOG, text)
    state.save(tree, layout.PROGRESS, then)
    return tuple(journal.head(entry, now) for entry in entries)


def settle(tree: Tree) -> None:
    """Complete what a call that was killed was about to log; the lock must be held.

    Its entries may be there, in part where the machine lost power, or not at all; others may stand behind them.
    """
    log = state.load_log_state(tree)
    if log is None or not log.entries:
        return
    whole = log.entries.encode()
    there = tree.read(layout.LOG, start=log.size) or b""
    if whole not in there:
        torn = whole.startswith(there)
        tree.append(layout.LOG, whole[len(there) :] if torn else whole)
    state.save(tree, layout.PROGRESS, log.model_copy(update={"entries": "", "size": 0}))


def verdict_digest(result: ValidateResult) -> str:
    """Return what tells one verdict from another."""
    told = result.model_copy(update={"submit": "", "logged": ()})
    return _digest(told.model_dump_json())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def is_closed(tree: Tree, result: ValidateResult) -> bool:
    """Return whether the log already ends with this verdict, or no step was logged that it could close."""
    log = state.load_log_state(tree)
    if log is None:
        return True
    if log.entries or size(tree) == 0:
        return False
    if log.status != ("complete" if result.passed else "failed"):
        return False
    if result.passed:  # runs that were started since must not stand in the line that submits
        return log.submit in {None, _digest(result.submit)}
    return log.verdict == verdict_digest(result)


def close(tree: Tree, plan: Plan, result: ValidateResult, times: tuple[datetime, datetime]) -> Heads:
    """Log the verdict, which ends the log, unless it stands there; return the heads.

    `times` are when the validation began, and now.
    """
    begun, now = times
    before = state.load_log_state(tree)
    if before is None or is_closed(tree, result):
        return ()
    started = before.started if before.status == "open" else begun
    entries = journal.closing_entries(plan, result, result.submit, (now - started).total_seconds())
    status = "complete" if result.passed else "failed"
    ends = {"status": status, "verdict": verdict_digest(result), "submit": _digest(result.submit)}
    return _record(tree, before.model_copy(update=ends), entries, now)
