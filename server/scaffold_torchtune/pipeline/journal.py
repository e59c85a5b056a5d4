"""Step 8: scaffold.log, its text, and each step's entries written once, whoever is killed or takes the file away.

How far the log is stands in progress.json (`LogState`), which is written before the log: entries that are to be
appended stand there until the log has them, and the next call that writes completes what a killed one left.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from scaffold_torchtune.findings import Alike, Finding, Refused, alike, counted, errors_in, few, one_line, shown
from scaffold_torchtune.models import Plan
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.state import LogState
from scaffold_torchtune.results.step_results import (
    Changes,
    RenderResult,
    SetupResult,
    SetupRun,
    ValidatedRun,
    ValidateResult,
    change_line,
)
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree

_NAMED = 40


class Entry(NamedTuple):
    """One entry: an action and its labelled lines."""

    action: str
    details: str
    result: str
    duration: str = ""


def format_entries(entries: Iterable[Entry], now: datetime) -> bytes:
    """Return the entries as they are appended: each with its header, its labels, and a blank line after it.

    Values are escaped, so that none can forge a line or an entry.
    """
    parts = []
    for entry in entries:
        labels = {"Details": entry.details, "Result": entry.result, "Duration": entry.duration}
        lines = [f"{label}: {one_line(text)}" for label, text in labels.items() if text]
        parts.append("\n".join([head(entry, now), *lines]) + "\n\n")
    return "".join(parts).encode()


def head(entry: Entry, now: datetime) -> str:
    """Return the first line of an entry: `[2026-11-25 18:00:00] CREATE_RUN_DIRS`."""
    return f"[{now:%Y-%m-%d %H:%M:%S}] {entry.action}"


def render_entries(plan: Plan, result: RenderResult, made: Sequence[str]) -> list[Entry]:
    """Return the entries of steps 1 to 5. `made` are the run directories that were not there."""
    varying = ", ".join(plan.varying) or "none"
    excluded = "; ".join(f"left out: {e.name} ({e.reason})" for e in plan.excluded)
    legend = "; ".join(f"{name} is {text!r}" for name, text in plan.legend.items())
    kept = "as the user said when asked; to keep it, write in"
    answers = "".join(f"; {a.field} is {shown(a.value)}, {kept} {a.file}, {a.where}: {a.add}" for a in plan.answers)
    there = [run.directory for run in plan.runs if run.directory not in made]
    return [
        Entry(
            "SCAFFOLD_TORCHTUNE_START",
            f"Generating fine-tuning configs for {counted(len(plan.runs), 'run')} of {plan.experiment}",
            f"Analyzed {', '.join(plan.inputs)}" + (f"; {excluded}" if excluded else "") + answers,
        ),
        Entry(
            "ANALYZE_PARAMETERS",
            f"Varying parameters: {varying}",
            f"Directory naming pattern: {plan.pattern}" + (f"; {legend}" if legend else ""),
        ),
        *_changes(result.changes),
        *_warnings((*plan.warnings, *result.warnings)),
        Entry(
            "CREATE_RUN_DIRS",
            ", ".join(run.directory for run in plan.runs),
            f"{len(made)} created" + (f", {len(there)} already there" if there else ""),
        ),
        Entry(
            "GENERATE_YAMLS",
            f"Using template {plan.template}",
            f"{result.created} setup_finetune.yaml files written, {result.unchanged} already as planned"
            + _kept(result.history),
        ),
    ]


def _changes(found: Changes | None) -> list[Entry]:
    """Return the entry of what becomes of runs that were scaffolded before."""
    if found is None or not found.groups:
        return []
    return [Entry("CHANGES", found.summary, " | ".join(change_line(group, _NAMED) for group in found.groups))]


def _kept(history: str) -> str:
    """Return where earlier files are kept, to follow what was done."""
    return f"; {history}" if history else ""


def setup_entries(plan: Plan, result: SetupResult) -> list[Entry]:
    """Return the entries of step 6: one for each run that failed, and the sum."""
    how = f"{plan.options.setup_script} as a subprocess in each run's staging directory; {result.environment}"
    if plan.options.setup_script == "bundled":
        how = "Bundled setup_finetune, in this process; no conda environment was activated"
    failures = [Entry("SETUP_RUN_FAILED", run.directory, _failure(run)) for run in result.runs if not run.ok]
    already = sum(run.unchanged for run in result.runs)
    done = f" ({already} of them already done)" if already else ""
    total = f"{counted(result.processed, 'run')} processed, {result.succeeded} successful{done}"
    total += f", {counted(result.failed, 'failure')}{_kept(result.history)}"
    return [*_warnings(result.warnings), *failures, Entry("RUN_SETUP_SCRIPTS", how, total)]


def _failure(run: SetupRun) -> str:
    """Return why a run failed, how it was run, and what to do."""
    parts = {
        "Ran for": f"{run.seconds:g} s" if run.seconds is not None else "",
        "Exit status": "" if run.status is None else str(run.status),
        "Likely cause": run.cause,
        "Fix": run.fix,
        "Whole output": run.output,
    }
    return " | ".join([run.reason, *(f"{label}: {text}" for label, text in parts.items() if text)])


def closing_entries(plan: Plan, result: ValidateResult, submit: str, seconds: float) -> list[Entry]:
    """Return the entries of step 7 and the end: COMPLETE only where validation passed."""
    failed = [run for run in result.runs if not run.passed]
    findings = [("", each) for each in errors_in(result.findings)]
    findings += [(run.directory, each) for run in failed for each in errors_in(run.findings)]
    if result.passed:
        checked = f"{result.checked} of {result.planned} runs checked"
        verdict = f"All parameters validated: {checked}{result.kept_told}, none differs"
        summary = f"{counted(result.planned, 'run')} of {plan.experiment} scaffolded, validated and ready to submit"
        if result.started:
            summary = (
                f"{counted(result.planned, 'run')} of {plan.experiment} scaffolded and validated, {result.left_told}"
            )
            summary += f" ({few(result.started, _NAMED)})"
        summary += f". {result.tracking}" if result.tracking else ""
        # the command alone: it is pasted
        end, advice = "SCAFFOLD_TORCHTUNE_COMPLETE", f"Submit with: {submit}" if submit else "Nothing to submit"
    else:
        verdict = f"FAILED: {result.verdict.partition(': ')[2]}. {' | '.join(map(_grouped, alike(findings)))}"
        end, summary = "SCAFFOLD_TORCHTUNE_FAILED", f"Not ready: {_not_ready(result, failed)}"
        advice = "Do not submit. Check setup_finetune and the template, mend the cause, then scaffold again"
    what = "Comparing finetune.yaml and finetune.slurm with the plan, value by value, and with the directory names"
    return [Entry("VALIDATE_PARAMETERS", what, verdict), Entry(end, summary, advice, _elapsed(seconds))]


def _not_ready(result: ValidateResult, failed: Sequence[ValidatedRun]) -> str:
    """Return what is not ready: the runs that failed; none is ready where something is wrong with the whole."""
    if not result.runs:
        return "no run could be checked"
    whole = dict.fromkeys(each.code for each in errors_in(result.findings))
    names = ", ".join(run.directory for run in failed)
    if not whole:
        return names
    more = f"; with errors of their own: {names}" if names else ""
    return f"all {counted(result.planned, 'run')} ({', '.join(whole)}){more}"


def _grouped(group: Alike) -> str:
    """Return findings that are alike as one sentence, with the runs that they are about, or how many more there are."""
    more = len(group.members) - 1
    if len(group.runs) > 1:
        return f"in {len(group.runs)} runs ({few(group.runs, _NAMED)}): {group.first.sentence()}"
    return group.first.sentence() + (f" And {more} more like it." if more else "")


def _sentences(findings: Iterable[Finding]) -> str:
    return " | ".join(each.sentence() for each in findings)


def refused_entry(refused: Refused) -> Entry:
    """Return the entry of a refusal: everything that stood against it."""
    details = f"Nothing was changed. {_sentences(refused.problems)}"
    return Entry("SCAFFOLD_TORCHTUNE_REFUSED", refused.message, details)


def stopped_entry(refused: Refused) -> Entry:
    """Return the entry of a step that could not go on."""
    again = "Stopped midway: do not submit. What was written stays; scaffold again to go on from there"
    return Entry("SCAFFOLD_TORCHTUNE_FAILED", refused.message, f"{again}. {_sentences(refused.problems)}")


def _warnings(warnings: Iterable[Finding]) -> list[Entry]:
    return [Entry(each.severity.value.upper(), each.sentence(), "The scaffold goes on") for each in warnings]


def _elapsed(seconds: float) -> str:
    """Return `3.2 s`, `2 min 5 s`, `1 h 2 min`."""
    minutes, rest = divmod(round(max(seconds, 0.0), 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {int(rest)} s" if minutes else f"{rest:.1f} s"


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
    tree.append(layout.LOG, format_entries(entries, now))
    return tuple(head(entry, now) for entry in entries)


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
    text = format_entries(entries, now)
    state.save(tree, layout.PROGRESS, then.model_copy(update={"entries": text.decode(), "size": size(tree)}))
    tree.append(layout.LOG, text)
    state.save(tree, layout.PROGRESS, then)
    return tuple(head(entry, now) for entry in entries)


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
    entries = closing_entries(plan, result, result.submit, (now - started).total_seconds())
    status = "complete" if result.passed else "failed"
    ends = {"status": status, "verdict": verdict_digest(result), "submit": _digest(result.submit)}
    return _record(tree, before.model_copy(update=ends), entries, now)
