"""What the command line prints for a person: tables and a progress bar, plain where there is no terminal.

Texts come from documents and files: markup in them is not interpreted, and control characters are escaped.
"""

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from pydantic import BaseModel
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, Scalar, counted, escape, few, one_line
from scaffold_torchtune.models import Answer, Readiness, Setting, SourceKind
from scaffold_torchtune.results import step_results as results
from scaffold_torchtune.settings import kinds

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_MANY = 40
_MOST_GROUPS = 4
_FEW = 4
_GAP = 3  # columns between those of a table
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


def _say(out: Console, *parts: str | Text, style: str = "", hang: int = 0) -> None:
    """Print one line. On a terminal it is broken between words, never within one; what follows hangs by so many."""
    line = Text(style=style)
    for part in parts:
        line.append(part if isinstance(part, Text) else one_line(part))
    if not out.is_terminal:
        out.print(line, soft_wrap=True)
        return
    for number, each in enumerate(line.divide(_breaks(line.plain, out.width, hang))):
        each.rstrip()
        out.print(Text(" " * hang) + each if number else each, soft_wrap=True)


def _fix(out: Console, text: str, *, style: str = "", hang: int) -> None:
    """Print what to do. A line with a long path may be a command, to be copied: only the terminal breaks it."""
    if max(map(cell_len, text.split()), default=0) > out.width // 2:
        out.print(Text(one_line(text), style=style), soft_wrap=True)
    else:
        _say(out, text, style=style, hang=hang)


def _breaks(text: str, width: int, hang: int) -> list[int]:
    """Return before which words a text is broken into lines, all but the first of which hang; never within a word."""
    found: list[int] = []
    begun, indent = 0, 0
    for word in re.finditer(r"\S+", text):
        if (
            word.start() > begun
            and indent + cell_len(text[begun : word.end()]) > width
            and text[begun : word.start()].strip()
        ):
            found.append(word.start())
            begun, indent = word.start(), hang
    return found


def refusal(out: Console, refused: Refused, *, midway: bool = False) -> None:
    """Print why nothing was done, or why it was stopped midway; each problem with its place and its fix."""
    _say(out, "Stopped midway: " if midway else "Refused: ", refused.message, style="bold red")
    findings(out, refused.problems)
    for question in refused.ask:
        if question.add and question.field == "started":
            _say(out, f"  The runs with such a column, in {question.file}, {question.where}:", style="dim")
            for line in question.add.split("\n"):
                out.print(Text(escape(line)), soft_wrap=True)
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
        _say(out, head, f"{one.location()}: " if one.location() else "", f"{one.message} [{one.code}]", hang=4)
        if one.fix:
            _fix(out, f"    fix: {one.fix}", style="dim", hang=6)
    if len(found) > _MANY:
        _say(out, f"  ... and {len(found) - _MANY} more; --json --all shows all of them")


def result(out: Console, of: BaseModel, *, whole: bool = False, next_command: str = "") -> None:
    """Print any result, as a person reads it.

    Args:
        out: where to.
        of: the result.
        whole: a plan is printed with all runs and findings, beside those that would change too.
        next_command: what is to be run after a plan.
    """
    match of:
        case results.ParseResult():
            _parse(out, of)
        case results.PlanResult():
            _plan(out, of, whole=whole)
            if next_command:
                unsettled = any(each.code == "started-run" for each in of.warnings)
                _say(out, "next, once that is settled: " if unsettled else "next: ", next_command, hang=2)
        case results.RenderResult():
            _changes(out, of.changes, _DONE)
            _say(out, f"{of.created} setup_finetune.yaml written, {of.unchanged} already as planned")
            _earlier(out, of.history)
            findings(out, (*of.plan_warnings, *of.warnings))
        case results.SetupResult():
            _setup(out, of)
        case results.ValidateResult():
            _validate(out, of)
        case results.ScaffoldResult():
            _scaffold(out, of, whole=whole)
        case Readiness():
            _readiness(out, of)


def _earlier(out: Console, history: str) -> None:
    """Print where earlier files are kept that were replaced."""
    if history:
        _say(out, f"{history}; `scaffold-torchtune history` lists them", hang=2)


def _table(out: Console, columns: Sequence[str], rows: Iterable[Iterable[str | Text]]) -> None:
    """Print a table; where the terminal is too narrow for it without breaking a word, a line for each row."""
    cells = [[cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row] for row in rows]
    widths = _widths([[Text(name) for name in columns], *cells], out.width - 2)
    if widths is None:
        for first, *others in cells:
            labels = ("" if name == "value" else f"{name} " for name in columns[1:])
            named = [Text(label).append(cell) for label, cell in zip(labels, others, strict=True) if cell]
            _say(out, " ", first, ": " if named else "", Text(", ").join(named), hang=4)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width)
    for row in cells:
        table.add_row(*row)
    out.print(table)


def _widths(rows: Sequence[Sequence[Text]], width: int) -> list[int] | None:
    """Return how wide the columns of a table are in which no word is broken; None where there is no room for it."""
    measured = [[_measured(cell) for cell in column] for column in zip(*rows, strict=True)]
    least = [max(cell[0] for cell in column) for column in measured]
    most = [max(cell[1] for cell in column) for column in measured]
    free = width - _GAP * (len(least) - 1) - sum(least)
    if free < 0:
        return None
    found = []
    for narrow, wide in zip(least, most, strict=True):
        more = min(wide - narrow, free)
        found.append(narrow + more)
        free -= more
    return found


def _measured(cell: Text) -> tuple[int, int]:
    """Return the width of the longest word of a cell, and of its longest line."""
    words = [cell_len(word) for word in cell.plain.split()]
    return max(words, default=0), max((cell_len(line) for line in cell.plain.splitlines()), default=0)


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


_WOULD = {"new": "new", "changed": "would change", "kept": "kept as started", "dropped": "no longer in the table"}
_DONE = _WOULD | {"changed": "changed"}
_WHOLE = "--all shows every run, value and finding"


def _changes(out: Console, of: results.Changes | None, words: Mapping[str, str], *, whole: bool = False) -> None:
    """Print what becomes of runs that were scaffolded before: numbers, then all that is not unchanged."""
    if of is None or of.is_first:
        return
    _say(out, of.summary, style="bold")
    if words is _WOULD:
        _say(out, f"states: {of.states}", hang=2)
    told = ""
    groups = [group for group in of.groups if group.what != "dropped"]
    for group in groups if whole else groups[:_MOST_GROUPS]:
        told = _group(out, group, words[group.what], told, whole=whole)
    if left := [] if whole else groups[_MOST_GROUPS:]:
        _say(out, f"  and {sum(group.count for group in left)} runs in {len(left)} more groups; --all shows them")
    _dropped(out, [group for group in of.groups if group.what == "dropped"], words["dropped"], whole=whole)


def _group(out: Console, group: results.ChangedRuns, what: str, before: str, *, whole: bool) -> str:
    """Print what becomes of alike runs: `3 would change, though started: epochs 3 -> 5`, their names, their state.

    Returns the changes, which are not told again where they are those of the group `before`.
    """
    started = ", though started" if group.started and group.what == "changed" else ""
    head = f"  {group.count} {what}{started}: "
    if not group.fields:
        _say(out, head, _names(group.runs, out.width - len(head), whole=whole), hang=4)
        return ""
    told = few(group.fields, len(group.fields) if whole else _FEW)
    _say(out, head, "the same" if told == before else told, hang=4)
    _say(out, f"    {_names(group.runs, out.width - 4, whole=whole)}", hang=4)
    if group.started:
        _say(out, f"    {group.state}", hang=4)
    return told


def _dropped(out: Console, groups: Sequence[results.ChangedRuns], what: str, *, whole: bool) -> None:
    """Print the runs that the table has no more, in a block that their states split."""
    if len(groups) == 1 and " (" not in groups[0].state:
        head = f"  {groups[0].count} {what}, {groups[0].state}: "
        _say(out, head, _names(groups[0].runs, out.width - len(head), whole=whole), hang=4)
        return
    if groups:
        _say(out, f"  {sum(group.count for group in groups)} {what}:")
    for group in groups:
        state, _, evidence = group.state.partition(" (")
        head = f"    {group.count} {state}: "
        _say(
            out,
            head,
            _names(group.runs, out.width - len(head), whole=whole),
            f" ({evidence}" if evidence else "",
            hang=6,
        )


def _names(names: Sequence[str], width: int, *, whole: bool) -> str:
    """Return the names that fit into a line, and how many more there are."""
    for most in range(len(names), 1, -1):
        text = few(names, most)
        if whole or cell_len(text) <= width:
            return text
    return few(names, 1)


def _plan(out: Console, of: results.PlanResult, *, whole: bool) -> None:
    """Print a plan; where runs were scaffolded before, what becomes of them, and all else where the whole is wanted."""
    if not of.changes.is_first:
        _changes(out, of.changes, _WOULD, whole=whole)
        if not whole:
            _ahead(out, of)
            return
    else:
        left_out = f", {counted(len(of.excluded), 'row')} left out" if of.excluded else ""
        _say(out, f"{of.changes.summary}{left_out}", style="bold")
    _say(
        out,
        f"varying: {', '.join(of.varying) or 'nothing'}; directories: {of.pattern}; template: {of.template}",
        hang=2,
    )
    _run_table(out, of.runs, whole=whole)
    if sources := _sources(of.runs):
        _table(out, ("differs by run", "from"), sources.items())
    _settings(out, "all runs", ((name, each) for name, each in of.common.items() if name not in of.defaults))
    if of.defaults:
        pairs = ", ".join(f"{name} {value(setting)}" for name, setting in of.defaults.items())
        _say(out, f"defaults that nobody asked for: {pairs}", hang=2)
    _notes(out, of)


def _ahead(out: Console, of: results.PlanResult) -> None:
    """Print what stands in the way of a change, the warnings that the plan before had not, and how many it had."""
    asked = [each for each in of.warnings if each.code == "started-run"]
    _answers(out, of.answers)
    for each in asked:
        _say(out, each.message, style=_STYLES[each.severity], hang=2)
        _fix(out, f"  {each.fix}", hang=2)
    warnings = [each for each in of.warnings if each.severity is not Severity.INFO and each not in asked]
    new = [each for each in warnings if each not in of.told]
    counts = [f"{len(new)} new"] if new else []
    counts += (
        [f"{len(warnings) - len(new)} as before ({_codes(each for each in warnings if each in of.told)})"]
        if len(warnings) > len(new)
        else []
    )
    _say(out, f"warnings: {', '.join(counts) or 'none'}", style=_STYLES[Severity.WARNING] if new else "", hang=2)
    for each in new[:_FEW]:
        code = f" [{each.code}]"
        _say(out, f"  {_cut(each.message, out.width - 2 - len(code))}{code}")
    if len(new) > _FEW:
        _say(out, f"  and {len(new) - _FEW} more")
    _say(out, _WHOLE, style="dim")


def _codes(found: Iterable[Finding]) -> str:
    """Return the codes of findings, each with its number where there are several: `not-seen (2), long-warmup`."""
    counts = Counter(each.code for each in found)
    return ", ".join(f"{code} ({count})" if count > 1 else code for code, count in counts.items())


def _cut(text: str, width: int) -> str:
    """Return as many words of a text as fit into a width, and dots where it has more."""
    kept = ""
    for word in one_line(text).split():
        if kept and cell_len(kept) + cell_len(word) + 5 > width:
            return f"{kept} ..."
        kept += f" {word}" if kept else word
    return kept


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
        _say(out, f"left out: {row.name} ({row.reason})", hang=2)


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


def _run_table(
    out: Console, runs: Sequence[results.RunPlan], *, whole: bool = False, **ends: Mapping[str, Text]
) -> None:
    """Print runs with the values that differ between them, and in a line before it those that do not.

    A last column for each of `ends` has a cell for each directory. Of many runs the first are shown, unless `whole`.
    """
    by_run = [(run, run.parameters | run.derived) for run in runs]
    names = list(dict.fromkeys(name for _, values in by_run for name in values))
    texts = {name: [value(values.get(name)) for _, values in by_run] for name in names}
    same = [name for name in names if len(by_run) > 1 and len(set(texts[name])) == 1]
    if same:
        _say(out, f"in all {len(runs)}: ", ", ".join(f"{name} {texts[name][0]}" for name in same), hang=2)
    rows: list[list[str | Text]] = []
    for number, (run, _) in enumerate(by_run if whole else by_run[:_MANY]):
        cells = [run.directory, *(texts[name][number] for name in names if name not in same), str(run.line)]
        rows.append([*cells, *(found[run.directory] for found in ends.values())])
    _table(out, ("directory", *(name for name in names if name not in same), "line", *ends), rows)
    if len(rows) < len(by_run):
        _say(out, f"... and {len(by_run) - len(rows)} more; --all shows them")


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
    rows = [(run.directory, cells[run.directory], str(len(run.findings))) for run in of.runs]
    told = [row for run, row in zip(of.runs, rows, strict=True) if run.findings or not run.passed]
    if told:
        _table(out, ("directory", "validation", "findings"), told[:_MANY])
    for run in of.runs:
        findings(out, run.findings)
    findings(out, of.findings)
    _verdict(out, of)
    _submission(out, of, of.submit)


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


def _is_known(found: Finding, plan: results.PlanResult) -> bool:
    """Return whether a finding is only counted: an earlier scaffold told it, or `changes` and the verdict do."""
    if plan.changes.is_first:
        return False
    return found in plan.told or found.severity is Severity.INFO or found.code in {"kept-run", "left-over-run"}


def _scaffold(out: Console, of: results.ScaffoldResult, *, whole: bool) -> None:
    _say(out, f"{of.parse.experiment} in {of.parse.experiment_dir}", style="bold", hang=2)
    runs = of.plan.runs
    if not of.plan.changes.is_first:
        _changes(out, of.render.changes or of.plan.changes, _DONE, whole=whole)
        done = {run.directory for run in of.setup.runs if not run.unchanged}
        failed = {run.directory for run in of.validation.runs if not run.passed}
        runs = tuple(run for run in runs if whole or run.directory in done | failed or run.change in {"new", "changed"})
    if runs:
        _run_table(out, runs, whole=whole, setup=_setup_cells(of.setup), validation=_verdict_cells(of.validation))
    _left_out(out, of.plan)
    _answers(out, of.plan.answers)
    earlier = dict.fromkeys((*of.render.plan_warnings, *of.render.warnings, *of.setup.warnings))
    found = [*earlier, *(each for each in of.validation.findings if each not in earlier)]
    known = [] if whole else [each for each in found if _is_known(each, of.plan)]
    findings(out, (each for each in found if each not in known))
    if known:
        _say(out, f"as before: {_codes(known)}; {_WHOLE}", style="dim", hang=2)
    _failed(out, of.setup)
    for run in of.validation.runs:
        findings(out, run.findings)
    _verdict(out, of.validation, f"{of.setup.failed} setup failure(s), " if not of.ok else "")
    if of.ok:
        _say(out, "Everything already was as planned: nothing was changed." if of.unchanged else "Ready.")
    for history in (of.render.history, of.setup.history):
        _earlier(out, history)
    _say(out, f"log: {of.log}", hang=2)
    _submission(out, of.validation, of.submit)


def _verdict(out: Console, of: results.ValidateResult, failures: str = "") -> None:
    """Print the verdict: `validation passed: 7 of 7 runs checked, 3 kept as started (epochs 3, the summary says 5)`."""
    counts = f"{of.checked} of {of.planned} runs checked"
    if of.passed and not failures:
        _say(out, Text("validation passed", style="bold green"), f": {counts}{of.kept_told}", hang=2)
    else:
        _say(out, Text("NOT READY", style="bold red"), f": {failures}{counts}", hang=2)


def _submission(out: Console, of: results.ValidateResult, submit: str) -> None:
    """Print how far the runs have come, which of them the line that submits leaves out, and that line."""
    if of.started:
        _say(out, f"states: {of.states}", hang=2)
        left_out = _names(of.started, 3 * out.width // 2, whole=False)
        _say(out, f"not to submit, as started: {left_out}" if submit else of.left_told, hang=2)
    if submit:
        out.print(Text(f"submit with: {submit}"), soft_wrap=True)  # to be copied: never broken
    if of.tracking:
        out.print(Text(of.tracking), soft_wrap=True)  # its command is to be copied
