"""Step 8: the text of scaffold.log; the entries of each step are written exactly once, even if a call is killed.

progress.json (`LogState`) has the state of the log and is written first: it holds entries until the log has them, and
the next call that writes completes the entries of a killed call.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Alike,
    Finding,
    Refused,
    alike,
    counted,
    errors_in,
    few,
    one_line,
    shown,
)
from scaffold_torchtune.models import Plan
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.state import LogState
from scaffold_torchtune.plan import change_line
from scaffold_torchtune.results.report_contents import LogEntry
from scaffold_torchtune.results.step_results import (
    Changes,
    RenderResult,
    SetupResult,
    SetupRun,
    ValidatedRun,
    ValidateResult,
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
    """Return the text of entries: each with its header, its labels, and a blank line after it.

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


_HEAD: Final = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] ([A-Z][A-Z_]{1,60})")
_LABEL: Final = re.compile(r"(Details|Result|Duration): (.*)")
_REMARKS: Final = frozenset({"INFO", "WARNING"})


def read_entries(text: str) -> Iterator[LogEntry]:
    """Yield the entries of a scaffold.log; successive remarks are one, and what is no entry is left out."""
    head, lines = None, list[tuple[str, str]]()
    for line in text.splitlines():
        if match := _HEAD.fullmatch(line):
            if head and head[1] in _REMARKS and match[2] in _REMARKS:
                head = head[0], max(head[1], match[2])  # a warning is more than an information
                continue
            if head:
                yield LogEntry(time=head[0], action=head[1], lines=tuple(lines))
            head, lines = (match[1], match[2]), []
        elif head and (match := _LABEL.fullmatch(line)) and not (head[1] in _REMARKS and match[1] == "Result"):
            lines.append((match[1], match[2]))
    if head:
        yield LogEntry(time=head[0], action=head[1], lines=tuple(lines))


def render_entries(plan: Plan, result: RenderResult, made: Sequence[str]) -> list[Entry]:
    """Return the entries of steps 1 to 5. `made` are the run directories that were created."""
    varying = ", ".join(plan.varying) or "none"
    excluded = "; ".join(f"skipped: {e.name} ({e.reason})" for e in plan.excluded)
    legend = "; ".join(f"{name} is {text!r}" for name, text in plan.legend.items())
    kept = "as the user answered; to keep this value, add to"
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
            f"{len(made)} created" + (f", {len(there)} already existed" if there else ""),
        ),
        Entry(
            "GENERATE_YAMLS",
            f"Using template {plan.template}",
            f"{counted(result.created, 'setup_finetune.yaml file')} written, {result.unchanged} unchanged"
            + _kept(result.history),
        ),
    ]


def _changes(found: Changes | None) -> list[Entry]:
    """Return the entry with the changes of runs that were scaffolded before."""
    if found is None or not found.groups:
        return []
    return [Entry("CHANGES", found.told, " | ".join(change_line(group, _NAMED) for group in found.groups))]


def _kept(history: str) -> str:
    """Return the sentence about kept earlier files, to append to a result."""
    return f"; {history}" if history else ""


def setup_entries(plan: Plan, result: SetupResult) -> list[Entry]:
    """Return the entries of step 6: one for each run that failed, and the total."""
    how = f"{plan.options.setup_script} as a subprocess in each run's staging directory; {result.environment}"
    if plan.options.setup_script == "bundled":
        how = "Bundled setup_finetune, in this process, without activating a conda environment"
    failures = [Entry("SETUP_RUN_FAILED", run.directory, _failure(run)) for run in result.runs if not run.ok]
    already = sum(run.unchanged for run in result.runs)
    done = f" ({already} of them unchanged)" if already else ""
    total = f"{counted(result.processed, 'run')} processed, {result.succeeded} successful{done}"
    total += f", {counted(result.failed, 'failure')}{_kept(result.history)}"
    return [*_warnings(result.warnings), *failures, Entry("RUN_SETUP_SCRIPTS", how, total)]


def _failure(run: SetupRun) -> str:
    """Return the reason of a run's failure, with the details of its script and a fix."""
    parts = {
        "Ran for": f"{run.seconds:g} s" if run.seconds is not None else "",
        "Exit status": "" if run.status is None else str(run.status),
        "Likely cause": run.cause,
        "Fix": run.fix,
        "Full output": run.output,
    }
    return " | ".join([run.reason, *(f"{label}: {text}" for label, text in parts.items() if text)])


def closing_entries(plan: Plan, result: ValidateResult, submit: str, seconds: float) -> list[Entry]:
    """Return the entries of step 7 and the end: COMPLETE only if validation passed.

    Warnings and notes of the validation come first, except for those of the plan, which are logged when it is rendered.
    """
    failed = [run for run in result.runs if not run.passed]
    findings = [("", each) for each in errors_in(result.findings)]
    findings += [(run.directory, each) for run in failed for each in errors_in(run.findings)]
    if result.passed:
        checked = f"{result.checked} of {result.planned} runs checked"
        verdict = f"All parameters validated: {checked}{result.kept_told}, no differences"
        summary = f"{counted(result.planned, 'run')} of {plan.experiment} scaffolded, validated and ready to submit"
        if result.started:
            summary = (
                f"{counted(result.planned, 'run')} of {plan.experiment} scaffolded and validated, {result.left_told}"
            )
            summary += f" ({few(result.started, _NAMED)})"
        summary += f". {result.tracking}" if result.tracking else ""
        # only the command, so that it can be pasted
        end, advice = "SCAFFOLD_TORCHTUNE_COMPLETE", f"Submit with: {submit}" if submit else "Nothing to submit"
    else:
        verdict = f"FAILED: {result.verdict.partition(': ')[2]}. {' | '.join(map(_grouped, alike(findings)))}"
        end, summary = "SCAFFOLD_TORCHTUNE_FAILED", f"Not ready: {_not_ready(result, failed)}"
        advice = "Do not submit. Check setup_finetune and the template, fix the cause, then scaffold again"
    what = "Comparing finetune.yaml and finetune.slurm with the plan, value by value, and with the directory names"
    what = "; ".join([what, *(f"{each.program}: {each.told}" for each in result.asked)])
    closing = [Entry("VALIDATE_PARAMETERS", what, verdict), Entry(end, summary, advice, _elapsed(seconds))]
    return [*_remarks(plan, result), *closing]


def _remarks(plan: Plan, result: ValidateResult) -> Iterator[Entry]:
    """Yield an entry for each warning and note of the validation that is not of the plan; similar ones share it."""
    logged = {(each.code, each.message) for each in plan.warnings}
    found = [("", each) for each in result.findings]
    found += [(run.directory, each) for run in result.runs for each in run.findings]
    for group in alike(pair for pair in found if pair[1].severity is not Severity.ERROR):
        if (group.first.code, group.first.message) not in logged:
            yield Entry(group.first.severity.value.upper(), _grouped(group), "Continuing")


def _not_ready(result: ValidateResult, failed: Sequence[ValidatedRun]) -> str:
    """Return the runs that are not ready: the failed runs, or all runs if a finding concerns the whole scaffold."""
    if not result.runs:
        return "no run could be checked"
    whole = dict.fromkeys(each.code for each in errors_in(result.findings))
    names = ", ".join(run.directory for run in failed)
    if not whole:
        return names
    more = f"; runs with their own errors: {names}" if names else ""
    return f"all {counted(result.planned, 'run')} ({', '.join(whole)}){more}"


def _grouped(group: Alike) -> str:
    """Return similar findings as one sentence, with their runs, or the number of the others."""
    more = len(group.members) - 1
    if len(group.runs) > 1:
        return f"in {len(group.runs)} runs ({few(group.runs, _NAMED)}): {group.first.sentence()}"
    return group.first.sentence() + (f" And {more} more like it." if more else "")


def _sentences(findings: Iterable[Finding]) -> str:
    return " | ".join(each.sentence() for each in findings)


class SubmittedJob(NamedTuple):
    """A submitted job: its id, its runs, and the largest number of runs at once, if it is limited."""

    job: str
    runs: Sequence[str]
    is_array: bool
    at_once: int | None


def submit_entry(jobs: Sequence[SubmittedJob]) -> Entry:
    """Return the entry of the submissions of one call."""
    runs = [run for one in jobs for run in one.runs]
    at_once = next((f", at most {one.at_once} at once" for one in jobs if one.at_once), "")
    told = [
        f"{one.job} (tasks 0 to {len(one.runs) - 1}: {few(one.runs, _NAMED)})"
        if one.is_array
        else f"{one.job} ({one.runs[0]})"
        for one in jobs
    ]
    details = f"{counted(len(runs), 'run')} submitted to SLURM in {counted(len(jobs), 'job')}{at_once}"
    return Entry("SUBMIT", details, f"Job ids: {few(told, _NAMED, between='; ')}")


def refused_entry(refused: Refused) -> Entry:
    """Return the entry of a refusal, with all its problems."""
    details = f"Nothing was changed. {_sentences(refused.problems)}"
    return Entry("SCAFFOLD_TORCHTUNE_REFUSED", refused.message, details)


def stopped_entry(refused: Refused) -> Entry:
    """Return the entry of a step that stopped midway."""
    again = "Stopped midway: do not submit. Files that were already written are kept; scaffold again to continue"
    return Entry("SCAFFOLD_TORCHTUNE_FAILED", refused.message, f"{again}. {_sentences(refused.problems)}")


def _warnings(warnings: Iterable[Finding]) -> list[Entry]:
    return [Entry(each.severity.value.upper(), each.sentence(), "Continuing") for each in warnings]


def _elapsed(seconds: float) -> str:
    """Return `3.2 s`, `2 min 5 s`, `1 h 2 min`."""
    minutes, rest = divmod(round(max(seconds, 0.0), 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {int(rest)} s" if minutes else f"{rest:.1f} s"


Heads = tuple[str, ...]
"""The first lines of the entries that were appended to the log."""

_STEPS: Final[dict[str, Literal["", "setup"]]] = {"render": "setup", "setup": ""}
"""The step that must also be logged after a step if the log is new."""


def size(tree: Tree) -> int:
    """Return the size of the log in bytes; 0 if it does not exist."""
    return tree.size(layout.LOG)


def append(tree: Tree, entries: Iterable[Entry], now: datetime) -> Heads:
    """Append entries about a call that made no files, and return their heads."""
    entries = [*entries]
    tree.append(layout.LOG, format_entries(entries, now))
    return tuple(head(entry, now) for entry in entries)


def stop(tree: Tree, entry: Entry, now: datetime) -> Heads:
    """Append the entry of a call that was stopped midway, and return its head; reopen a log closed by a verdict."""
    heads = append(tree, [entry], now)
    log = state.load_log_state(tree)
    if log is not None and log.status == "complete":
        state.save(tree, layout.PROGRESS, log.model_copy(update={"status": "failed", "verdict": ""}))
    return heads


def begin(tree: Tree, plan: Plan, step: Literal["render", "setup"], started: datetime) -> LogState:
    """Record, before anything is written, that a step has work to do and that its outputs need a new verdict."""
    begun = LogState(plan=plan.id, started=started, status="open", unlogged=step)
    state.save(tree, layout.PROGRESS, begun)
    return begun


def is_behind(tree: Tree, step: Literal["render", "setup"]) -> bool:
    """Return whether the log lacks entries of a step: the step was killed before it logged, or the log was removed."""
    log = state.load_log_state(tree)
    return log is None or log.unlogged == step or bool(log.entries) or size(tree) == 0


def record_step(tree: Tree, begun: LogState, entries: Iterable[Entry], now: datetime) -> Heads:
    """Log the work of a step, and return the heads. If the log is new, the next steps must log their work again."""
    after = _STEPS[begun.unlogged] if size(tree) == 0 else ""
    return _record(tree, begun.model_copy(update={"unlogged": after}), [*entries], now)


def _record(tree: Tree, then: LogState, entries: list[Entry], now: datetime) -> Heads:
    """Append entries; `then` is the state of the log after them."""
    text = format_entries(entries, now)
    state.save(tree, layout.PROGRESS, then.model_copy(update={"entries": text.decode(), "size": size(tree)}))
    tree.append(layout.LOG, text)
    state.save(tree, layout.PROGRESS, then)
    return tuple(head(entry, now) for entry in entries)


def settle(tree: Tree) -> None:
    """Complete the entries of a call that was killed; the lock must be held.

    The log may have its entries, a part of them (after a power failure), or none; other entries may follow them.
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
    """Return the SHA-256 of a verdict."""
    told = result.model_copy(update={"submit": "", "logged": (), "asked": ()})
    return _digest(told.model_dump_json())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def is_closed(tree: Tree, result: ValidateResult) -> bool:
    """Return whether the log already ends with this verdict, or has no step that the verdict could close."""
    log = state.load_log_state(tree)
    if log is None:
        return True
    if log.entries or size(tree) == 0:
        return False
    if log.status != ("complete" if result.passed else "failed"):
        return False
    if result.passed:  # the submit line must not contain runs that were started since
        return log.submit in {None, _digest(result.submit)}
    return log.verdict == verdict_digest(result)


def close(tree: Tree, plan: Plan, result: ValidateResult, times: tuple[datetime, datetime]) -> Heads:
    """Log the verdict, which ends the log, unless the log already ends with it; return the heads.

    `times` are the time when the validation began, and the present time.
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
