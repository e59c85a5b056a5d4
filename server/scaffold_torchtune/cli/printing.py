"""What the command line prints for a person: tables and a progress bar, plain where there is no terminal.

Texts come from documents and files: markup in them is not interpreted, and control characters are escaped.
"""

import contextlib
import shlex
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, Scalar
from scaffold_torchtune.models import Answer, Readiness, Setting, SourceKind
from scaffold_torchtune.results import step_results as results
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.system.text import escape, few, one_line

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_MANY = 40
_FEW = 4
_WIDE = 500  # where there is no terminal, nothing is wrapped or cut


class ProgressBar:
    """A progress bar on a terminal; silent elsewhere, and where the output is for a program."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # of a terminal that is gone: the work goes on
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._bar.stop()

    def update(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` runs of a step are done."""
        with contextlib.suppress(OSError):
            if step not in self._tasks:
                self._tasks[step] = self._bar.add_task(step, total=total)
            self._bar.update(self._tasks[step], completed=done, total=total)


class _Console(Console):
    """Leaves it to who prints what becomes of a pipe that nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - what is being handled


def console(*, stderr: bool = False) -> Console:
    """Return a console for people: as wide as the terminal, or wide enough for anything where there is none."""
    made = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def value(of: Scalar) -> str:
    """Return a value as it stands in a table."""
    if isinstance(of, str):
        return escape(of)
    return "" if of is None else kinds.shortest_number(of) if isinstance(of, float) else str(of)


def _say(out: Console, *parts: str | Text, style: str = "") -> None:
    """Print one line; where there is no terminal it is never broken."""
    line = Text(style=style)
    for part in parts:
        line.append(part if isinstance(part, Text) else one_line(part))
    out.print(line, soft_wrap=not out.is_terminal)


def refusal(out: Console, refused: Refused, *, midway: bool = False) -> None:
    """Print why nothing was done, or why it was stopped midway; each problem with its place and its fix."""
    _say(out, "Stopped midway: " if midway else "Refused: ", refused.message, style="bold red")
    findings(out, refused.problems)
    for question in refused.ask:
        if question.field in {"setup_script", "started"}:  # options of their own, which the fix names
            continue
        _say(out, f"  answer with: --answer {shlex.quote(question.field)}=VALUE  ({question.question})", style="dim")
    stays = "What was written stays. Repeat the command to go on from there."
    _say(out, stays if midway else "No run directory or file was changed.")


def findings(out: Console, found: Iterable[Finding]) -> None:
    """Print findings, one block each; after the first of many only their number."""
    found = list(found)
    for one in found[:_MANY]:
        head = Text(f"  {one.severity.value}: ", style=_STYLES[one.severity])
        _say(out, head, f"{one.location()}: " if one.location() else "", f"{one.message} [{one.code}]")
        if one.fix:
            _say(out, f"    fix: {one.fix}", style="dim")
    if len(found) > _MANY:
        _say(out, f"  ... and {len(found) - _MANY} more; --json --all shows all of them")


def result(out: Console, of: BaseModel) -> None:
    """Print any result, as a person reads it."""
    match of:
        case results.ParseResult():
            _parse(out, of)
        case results.PlanResult():
            _plan(out, of)
        case results.RenderResult():
            _changes(out, of.changes)
            _say(out, f"{of.created} setup_finetune.yaml written, {of.unchanged} already as planned")
            _earlier(out, of.history)
            findings(out, (*of.plan_warnings, *of.warnings))
        case results.SetupResult():
            _setup(out, of)
        case results.ValidateResult():
            _validate(out, of)
        case results.ScaffoldResult():
            _scaffold(out, of)
        case Readiness():
            _readiness(out, of)


def _earlier(out: Console, history: str) -> None:
    """Print where earlier files are kept that were replaced."""
    if history:
        _say(out, f"{history}; `scaffold-torchtune history` lists them")


def _table(out: Console, columns: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row))
    out.print(table)


def _settings(out: Console, title: str, settings: Iterable[tuple[str, Setting]]) -> None:
    """Print settings with their values and sources."""
    rows = ((name, value(setting.value), str(setting.source)) for name, setting in settings)
    _table(out, (title, "value", "from"), rows)


def _parse(out: Console, of: results.ParseResult) -> None:
    _say(out, f"{of.experiment} in {of.experiment_dir}", style="bold")
    names = list(dict.fromkeys(name for run in of.runs for name in run.parameters))
    rows = []
    for run in of.runs:
        own = {name: value(setting.value) for name, setting in run.parameters.items()}
        rows.append((str(run.line), run.name, run.type, *(own.get(name, "") for name in names)))
    _table(out, ("line", "run", "type", *names), rows)
    settings = [*of.config.items(), *of.environment.items(), *of.template.items()]
    settings += [(f"model {model.name}", model.path) for model in of.models]
    settings += [("dataset", of.dataset.path)] if of.dataset else []
    _settings(out, "setting", settings)
    _notes(out, of)


def _changes(out: Console, of: results.Changes | None) -> None:
    """Print what becomes of runs that were scaffolded before: a line of numbers, then all that is not unchanged."""
    if of is not None and of.groups:
        _say(out, of.summary, style="bold")
        for group in of.groups:
            _say(out, f"  {results.change_line(group)}")


def _plan(out: Console, of: results.PlanResult) -> None:
    """Print a plan; where runs were scaffolded before, what would become of them, and of values those of the others."""
    if of.changes.groups:
        _changes(out, of.changes)
        touched = {name for group in of.changes.groups for name in group.runs}
        if runs := [run for run in of.runs if run.directory in touched]:
            _run_table(out, runs)
        _say(out, "--json --all shows every value of every run", style="dim")
        _notes(out, of)
        return
    _say(out, f"varying: {', '.join(of.varying) or 'nothing'}; directories: {of.pattern}; template: {of.template}")
    _run_table(out, of.runs)
    if sources := _sources(of.runs):
        _table(out, ("differs by run", "from"), sources.items())
    _settings(out, "shared by all runs", of.common.items())
    if of.defaults:
        pairs = ", ".join(f"{name} {value(setting)}" for name, setting in of.defaults.items())
        _say(out, f"defaults that nobody asked for: {pairs}")
    _notes(out, of)


def _notes(out: Console, of: results.ParseResult | results.PlanResult) -> None:
    """Print answers, abbreviated texts, rows that are left out, and warnings."""
    _answers(out, of.answers)
    if isinstance(of, results.PlanResult):
        for name, text in (of.levels | of.legend).items():
            _say(out, f"{name}: {text}")
        _left_out(out, of)
    findings(out, of.warnings)
    if not of.warnings:
        _say(out, "warnings: none")


def _left_out(out: Console, of: results.PlanResult) -> None:
    for row in of.excluded:
        _say(out, f"left out: {row.name} ({row.reason})")


def _answers(out: Console, found: Iterable[Answer]) -> None:
    """Print the user's answers, and the line that would give each in a document."""
    for one in found:
        _say(
            out, f"answered: {one.field} is {value(one.value)}; to keep it, write in {one.file}, {one.where}: {one.add}"
        )


def _sources(runs: Iterable[results.RunPlan]) -> dict[str, str]:
    """Return where each value stands that differs by run: its row, or a few of the places and how many more."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, source in run.sources.items():
            own = source.kind is SourceKind.ROW and source.line == run.line and source.note
            text = f"the run's row, {source.note}" if own else str(source)
            found.setdefault(name, {}).setdefault(text)
    more = "; and {} more (--json --all shows all)"
    return {name: few([*texts], _FEW, between="; ", more=more) for name, texts in found.items()}


def _run_table(out: Console, runs: Iterable[results.RunPlan], **ends: Mapping[str, Text]) -> None:
    """Print the runs with their values, and a last column for each of `ends`, which has a cell for each directory."""
    by_run = [(run, run.parameters | run.derived) for run in runs]
    names = list(dict.fromkeys(name for _, values in by_run for name in values))
    rows: list[list[str | Text]] = []
    for run, values in by_run:
        cells = [run.directory, *(value(values.get(name)) for name in names), str(run.line)]
        rows.append([*cells, *(found[run.directory] for found in ends.values())])
    _table(out, ("directory", *names, "line", *ends), rows)


def _word(ok: bool, word: str) -> Text:
    return Text(word, style="green") if ok else Text("FAILED", style="bold red")


def _setup_cells(of: results.SetupResult) -> dict[str, Text]:
    unchanged = Text("unchanged", style="dim")
    return {run.directory: unchanged if run.unchanged else _word(run.ok, "ok") for run in of.runs}


def _verdict_cells(of: results.ValidateResult) -> dict[str, Text]:
    return {run.directory: _word(run.passed, "passed") for run in of.runs}


def _setup(out: Console, of: results.SetupResult) -> None:
    cells = _setup_cells(of)
    rows = ((run.directory, cells[run.directory], value(run.status), value(run.seconds)) for run in of.runs)
    _table(out, ("directory", "setup", "status", "seconds"), rows)
    _failed(out, of)
    _say(out, f"{of.processed} processed, {of.succeeded} succeeded, {of.failed} failed")
    _earlier(out, of.history)
    findings(out, of.warnings)


def _failed(out: Console, of: results.SetupResult) -> None:
    """Print why the setup of runs failed, and what to do."""
    for run in (run for run in of.runs if not run.ok):
        _say(out, f"  setup failed in {run.directory}: {run.reason}", style="bold red")
        for label, text in (("likely cause", run.cause), ("fix", run.fix), ("whole output", run.output)):
            if text:
                _say(out, f"    {label}: {text}", style="dim")


def _validate(out: Console, of: results.ValidateResult) -> None:
    cells = _verdict_cells(of)
    rows = ((run.directory, cells[run.directory], str(len(run.findings))) for run in of.runs)
    _table(out, ("directory", "validation", "findings"), rows)
    for run in of.runs:
        findings(out, run.findings)
    findings(out, of.findings)
    word = Text("passed", style="bold green") if of.passed else Text("FAILED", style="bold red")
    _say(out, "validation ", word, f": {of.checked} of {of.planned} runs checked")
    _tracking(out, of)


def _tracking(out: Console, of: results.ValidateResult) -> None:
    if of.tracking:
        out.print(Text(of.tracking), soft_wrap=True)  # its command is to be copied


_STATES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def _readiness(out: Console, of: Readiness) -> None:
    rows = []
    for check in of.checks:
        found = Text(one_line(check.found))
        if check.fix:
            found.append(f"\nfix: {one_line(check.fix)}", style="dim")
        rows.append((Text(check.state, style=_STATES[check.state]), check.name, found))
    _table(out, ("", "looked at", "found"), rows)
    problems = sum(check.state == "problem" for check in of.checks)
    _say(out, "Ready." if of.ready else f"NOT READY: {problems} problem(s).", style="bold" if of.ready else "bold red")


def _scaffold(out: Console, of: results.ScaffoldResult) -> None:
    _say(out, f"{of.parse.experiment} in {of.parse.experiment_dir}", style="bold")
    _changes(out, of.render.changes)
    _run_table(out, of.plan.runs, setup=_setup_cells(of.setup), validation=_verdict_cells(of.validation))
    _left_out(out, of.plan)
    _answers(out, of.plan.answers)
    earlier = dict.fromkeys((*of.render.plan_warnings, *of.render.warnings, *of.setup.warnings))
    findings(out, earlier)
    _failed(out, of.setup)
    for run in of.validation.runs:
        findings(out, run.findings)
    findings(out, (each for each in of.validation.findings if each not in earlier))
    counts = f"{of.validation.checked} of {of.validation.planned} runs checked"
    if of.ok:
        _say(out, Text("validation passed", style="bold green"), f": {counts}")
        _say(out, "Everything already was as planned: nothing was changed." if of.unchanged else "Ready.")
    else:
        _say(out, Text("NOT READY", style="bold red"), f": {of.setup.failed} setup failure(s), {counts}")
    for history in (of.render.history, of.setup.history):
        _earlier(out, history)
    _say(out, f"log: {of.log}")
    if of.validation.started:
        _say(out, f"started already, and left out of the line that submits: {few(of.validation.started, _FEW)}")
    if of.submit:
        out.print(Text(f"submit with: {of.submit}"), soft_wrap=True)  # to be copied: never broken
    _tracking(out, of.validation)
