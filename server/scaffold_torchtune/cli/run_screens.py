"""The screens of runs and their jobs: `status`, `submit`, `history` and `explain`; and of `new` and `add`.

Texts come from files: markup in them is not interpreted, and control characters are escaped.
"""

import argparse
import difflib
import io
import os
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaffold_torchtune.cli import printing
from scaffold_torchtune.cli.printing import View
from scaffold_torchtune.extend import AddResult
from scaffold_torchtune.findings import Finding, Refused, counted, few, lines_text, one_line, refuse, shortest_number
from scaffold_torchtune.job_causes import slurm_time
from scaffold_torchtune.new import OPTIONS, NewResult, create
from scaffold_torchtune.parse import values
from scaffold_torchtune.pipeline.explain import Explained, ExplainResult, arrival_line
from scaffold_torchtune.pipeline.history import ComparedFile, HistoryResult, KeptVersion
from scaffold_torchtune.pipeline.locate import expanded
from scaffold_torchtune.pipeline.submit import SubmitResult, Wanted, submit
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import RunStatus, StatusResult
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.system.files import real_path
from scaffold_torchtune.system.layout import BACKUP, HISTORY, RUN_FILES

_MANY: Final = 40
_NAMED: Final = 3
_COLUMNS: Final = ("run", "state", "job", "epochs", "step", "loss", "time")
_GAP: Final = "  "
_STYLES: Final = {"failed": "bold red", "running": "green", "finished": "dim"}
_GOES_ON: Final = frozenset({"submitted", "running"})


def show_status(out: Console, of: StatusResult, view: View = View(), *, brief: bool = False) -> None:  # noqa: B008 - frozen
    """Print the status of runs; if they are more than 40, or `brief`, only those that run or have a problem."""
    whole = view.whole
    counts = ", ".join(f"{number} {state}" for state, number in of.counts.items())
    _say(out, f"{of.experiment}: {counted(len(of.runs), 'run')}{f': {counts}' if counts else ''}", style="bold")
    findings = [*of.findings, *_causes((*of.runs, *of.former))]
    if view.quiet:
        printing.findings(out, findings)
        _say(out, of.verdict)
        return
    _say(out, of.verdict, style="dim")
    if of.changed_told:
        _say(out, of.changed_told, style="yellow")
    is_whole = whole or (len(of.runs) + len(of.former) <= _MANY and not brief)
    shown, former = ([run for run in runs if is_whole or _matters(run)] for runs in (of.runs, of.former))
    if view.start is not None:
        shown, former = view.page(out, of.runs), []
    rest = len(of.runs) - len(shown) if view.start is None else 0
    more = f"{counted(rest, 'more run')}; --all shows every run" if rest else ""
    _run_rows(out, [("", shown), (more, []), (of.former_told, former)])
    printing.findings(out, findings)
    for reason in of.not_asked:
        _say(out, f"not asked: {reason}", style="yellow")
    unseen: dict[str, list[str]] = {}
    for run in of.runs:
        for reason in run.unseen:
            unseen.setdefault(reason, []).append(run.directory)
    for reason, names in list(unseen.items())[:_NAMED]:
        whose = "all runs" if len(names) == len(of.runs) > 1 else few(names, _NAMED)
        _say(out, f"not found: {reason}, for {whose}", style="yellow")


def watch_status(out: Console, ask: Callable[[], StatusResult], seconds: float, view: View) -> StatusResult:
    """Show the status on a terminal repeatedly, until every run has ended or Ctrl-C; return the last status.

    Raises:
        Refused: the output is not a terminal, or the terminal cannot move its cursor.
    """
    if not out.is_terminal or out.is_dumb_terminal:
        message = "--watch needs a terminal that can move its cursor"
        raise refuse("invalid-value", message, field="watch", fix="repeat the command without --watch")
    result = ask()
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False, transient=True) as live:
        while _going_on(result):
            live.update(_drawn(out, result, seconds, view), refresh=True)
            threading.Event().wait(seconds)
            result = ask()
    return result


def _going_on(of: StatusResult) -> bool:
    return any(run.state in _GOES_ON for run in of.runs)


def _drawn(out: Console, of: StatusResult, seconds: float, view: View) -> Text:
    """Return the screen as one text, which is written to the terminal at once; brief if the terminal is too low."""
    whole, brief = (_text_of(out, of, seconds, view, brief=brief) for brief in (False, True))
    return whole if whole.plain.count("\n") < out.height else brief


def _text_of(out: Console, of: StatusResult, seconds: float, view: View, *, brief: bool) -> Text:
    drawn = Console(
        file=io.StringIO(), width=out.width, force_terminal=True, highlight=False, markup=False, emoji=False,
        color_system=out.color_system, no_color=out.no_color,  # type: ignore[arg-type]
    )  # fmt: skip
    _say(drawn, f"updated every {seconds:g} s until all runs have ended; Ctrl-C to stop", style="dim")
    show_status(drawn, of, view, brief=brief)
    assert isinstance(drawn.file, io.StringIO)  # noqa: S101 - see above
    return Text.from_ansi(drawn.file.getvalue())


def _matters(run: RunStatus) -> bool:
    """Return whether a run is shown even if the runs are many."""
    return run.cause is not None or run.state == "running"


def _run_rows(out: Console, blocks: Iterable[tuple[str, Sequence[RunStatus]]]) -> None:
    """Print blocks of runs in the same columns, each below its title, if it has one.

    A run has one line, or two lines if the terminal is too narrow: names are never broken.
    """
    blocks = list(blocks)
    cells = {run.directory: _cells(run) for _, runs in blocks for run in runs}
    table = [_COLUMNS, *cells.values()]
    used = [index for index in range(len(_COLUMNS)) if any(row[index] for row in table[1:])]
    widths = {index: max(cell_len(row[index]) for row in table) for index in used}
    wide = sum(widths.values()) + len(_GAP) * len(used)
    fits = not out.is_terminal or wide <= out.width

    def line(row: Sequence[str], style: str) -> None:
        padded = (row[index] + " " * (widths[index] - cell_len(row[index])) for index in used)
        out.print(Text(f" {_GAP.join(padded)}".rstrip(), style=style), soft_wrap=True)

    if fits and cells:
        line(_COLUMNS, "dim")
    for title, runs in blocks:
        if title:
            _say(out, title)
        for run in runs:
            row, style = cells[run.directory], _STYLES.get(run.state, "")
            if fits:
                line(row, style)
            else:
                printing.say(out, f" {row[0]}", style=style)
                printing.say(out, f"   {', '.join(_labelled(row))}", style=style, hang=3)


def _labelled(row: Sequence[str]) -> Iterable[str]:
    """Yield the cells of a run without its name; the state and the time need no label."""
    _, state, *rest, time = row
    yield f"{state} {time}" if time.startswith("(") else state
    yield from (f"{name} {cell}" for name, cell in zip(_COLUMNS[2:], rest, strict=False) if cell)
    if time and not time.startswith("("):
        yield time


def _cells(run: RunStatus) -> tuple[str, ...]:
    has_begun = run.state in {"running", "finished", "failed"} or bool(run.epochs_done) or run.step is not None
    return (
        one_line(run.directory),
        one_line(run.state),
        one_line(run.job),
        f"{run.epochs_done}/{run.epochs}" if has_begun and run.epochs_done is not None else "",
        "" if run.step is None else f"{run.step}/{run.steps}" if run.steps else str(run.step),
        _loss(run),
        _time(run),
    )


def _loss(run: RunStatus) -> str:
    if run.loss is None:
        return "nan" if run.step is not None else ""
    return shortest_number(float(f"{run.loss:.4g}"))


def _time(run: RunStatus) -> str:
    """Return the run time of a job and its limit, or the reason why it is pending: `(Resources)`."""
    waits = run.job_state.partition(" ")[2]
    if waits and run.state == "submitted":
        return one_line(waits)
    if run.elapsed is None:
        return ""
    return slurm_time(run.elapsed) + (f" of {slurm_time(run.limit)}" if run.limit else "")


_PLACE: Final = re.compile(r"(?<=[a-z]):[0-9]{1,9}(?=\))")
_LINE: Final = re.compile(r"\(line ([0-9]{1,9})\)")


def _causes(runs: Iterable[RunStatus]) -> list[Finding]:
    """Return the causes; runs with the same cause and fix share one."""
    alike: dict[tuple[str, ...], list[tuple[str, Finding]]] = {}
    for run in runs:
        if cause := run.cause:
            texts = (_LINE.sub("", _PLACE.sub("", each)) for each in (cause.message, cause.fix))
            key = (cause.code, *(text.replace(run.directory, "RUN") for text in texts))
            alike.setdefault(key, []).append((run.directory, cause))
    return [_of_several([name for name, _ in some], [cause for _, cause in some]) for some in alike.values()]


def _of_several(names: Sequence[str], causes: Sequence[Finding]) -> Finding:
    """Return the printed cause of one or several runs, with their names, rows and one fix."""
    cause = causes[0]
    who, fix = names[0], cause.fix
    if len(names) > 1:
        rows = iter(list(zip(*(_LINE.findall(each.fix) for each in causes), strict=True)))
        fix = _LINE.sub(lambda _: f"({lines_text(next(rows))})", fix)
        fix = fix.replace(f" for {names[0]},", f" for {few(names, len(names))},")
        who = f"{counted(len(names), 'run')} ({few(names, _NAMED, more='...')})"
        fix = fix.replace(f"--started replace={names[0]}", f"--started replace={','.join(names)}")
        fix = fix.replace(f" --only {names[0]}", "")
    return cause.model_copy(update={"message": f"{who}: {cause.message}", "file": None, "fix": fix})


_NAMED_TO_SUBMIT: Final = 6
_MOST_JOBS: Final = 12
_QUESTION: Final = "Submit? [y/N] "


def submit_asking(request: Request, options: argparse.Namespace) -> SubmitResult:
    """Submit after showing the proposal and asking on the terminal.

    Raises:
        Refused: see `submit`; or there is no terminal to ask on.
    """
    wanted = Wanted(options.only, options.at_once, options.arrays, options.failed, options.dry_run)

    def confirm(planned: SubmitResult) -> bool:
        if options.yes:
            return True
        if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            line = shlex.join(["scaffold-torchtune", *options.words, "--yes"])
            asks = "there is no terminal on which to ask for confirmation"
            message = f"{counted(planned.runs, 'run')} would be submitted, but {asks}"
            raise refuse("not-confirmed", message, field="yes", fix=f"run `{line}` to submit without confirmation")
        _plan(printing.console(), planned)
        try:
            return input(_QUESTION).strip().lower() in {"y", "yes"}
        except EOFError:
            return False

    return submit(request, wanted, confirm)


def show_submission(out: Console, of: SubmitResult, *, quiet: bool = False) -> None:
    """Print the submitted or proposed runs, and the next command."""
    experiment = shlex.quote(of.experiment_dir)
    if of.outcome == "nothing":
        _say(out, f"nothing to submit: no scaffolded run is left to start ({of.states or 'no runs'})")
    elif of.outcome == "planned":
        _plan(out, of)
        _say(out, "dry run: nothing was submitted or written")
    elif of.outcome == "declined":
        _say(out, "nothing was submitted")
    else:
        for one in (each for each in of.batches if each.job):
            tasks = f" ({one.job}_0 to {one.job}_{len(one.runs) - 1})" if len(one.runs) > 1 else ""
            _say(out, f"submitted {_runs(one.runs)}: job {one.job}{tasks}")
        if left := [run for each in of.batches if not each.job for run in each.runs]:
            _say(out, Text("not submitted", style="bold red"), f": {_runs(left)}")
    warnings = of.warnings if of.outcome == "nothing" and not quiet else ()
    printing.findings(out, [*warnings, *of.problems])
    if quiet:
        return
    if of.outcome in {"submitted", "nothing"} and not of.problems:
        _say(out, f"next: scaffold-torchtune status {experiment}")


def _plan(out: Console, of: SubmitResult) -> None:
    """Print the proposal: each array or job with its options."""
    bound = f", at most {of.at_once} at once" if of.at_once else ""
    several = bound and len(of.batches) > 1
    _say(
        out,
        f"{counted(of.runs, 'run')} of {of.experiment} to submit{bound}{', one job after the other' * bool(several)}",
    )
    for one in of.batches[:_MOST_JOBS]:
        what = f"array of {len(one.runs)}" if len(one.runs) > 1 else "job"
        _say(out, f"  {what}: {_runs(one.runs)}")
        _say(out, f"    {one.script}: {' '.join(one.asks)}", style="dim")
    if len(of.batches) > _MOST_JOBS:
        _say(out, f"  ... and {len(of.batches) - _MOST_JOBS} more jobs")
    if of.states:
        _say(out, f"other runs: {of.states}")
    printing.findings(out, of.warnings)


def _runs(names: Iterable[str]) -> str:
    return few(list(names), _NAMED_TO_SUBMIT)


def _say(out: Console, *parts: str | Text, style: str = "") -> None:
    printing.say(out, *parts, style=style, hang=4)


_CONTEXT: Final = 2  # lines around each difference
_NARROW: Final = 100  # columns if the width of the terminal is not known
_MARKS: Final = {"equal": " ", "replace": "|", "delete": "<", "insert": ">"}
"""The marks between the two sides, as in sdiff."""


def show_provenance(out: Console, of: HistoryResult | ExplainResult) -> None:
    """Print a result of `history` or `explain`."""
    if isinstance(of, ExplainResult):
        _explanation(out, of)
    elif of.old:
        _comparison(out, of)
    else:
        _versions(out, of)
    printing.findings(out, of.warnings)


def _folded_line(out: Console, text: str, style: str = "") -> None:
    if out.is_terminal:
        printing.say(out, text, style=style, hang=2)
    else:
        out.print(Text(one_line(text), style=style, overflow="fold"), width=_width(out))


def _width(out: Console) -> int:
    return out.width if out.is_terminal else shutil.get_terminal_size((_NARROW, 0)).columns


def _versions(out: Console, of: HistoryResult) -> None:
    """Print the versions, the newest first; versions of several runs from one call with the same reason are one."""
    runs = list(dict.fromkeys(version.run for version in of.versions))
    if not runs:
        _folded_line(out, f"{of.run or 'all runs'}: no file was replaced, so no earlier version is kept")
        return
    whose = of.run or counted(len(runs), "run")
    _folded_line(out, f"{whose}: {counted(len(of.versions), 'earlier version')}, the newest first", "bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for _, alike in groupby(of.versions, _sameness):
        several = list(alike)
        table.add_row(several[0].version, _told(several, with_runs=not of.run))
    out.print(table, width=_width(out))
    if of.unread:
        _folded_line(out, f"{counted(of.unread, 'more older version')} not read")
    line = shlex.join(["scaffold-torchtune", "history", of.experiment_dir, of.run or runs[0], "--diff"])
    kept = f"{HISTORY}/{of.run or 'RUN'}/VERSION"
    edits = f"; backup/TIME in {BACKUP}/TIME/{of.run or 'RUN'}"
    has_edits = any(version.path.startswith(f"{BACKUP}/") for version in of.versions)
    _folded_line(out, f"kept in: {kept}{edits if has_edits else ''}", "dim")
    out.print(Text(one_line(f"compare: {line} [VERSION [VERSION]]"), style="dim"), soft_wrap=True)  # a command to copy


def _sameness(version: KeptVersion) -> tuple[object, ...]:
    return version.version, version.reason, version.changes, version.edited, version.files


def _told(several: list[KeptVersion], *, with_runs: bool) -> Text:
    """Return the reason why versions were kept, and their runs."""
    first = several[0]
    told = Text(one_line(first.reason))
    if with_runs:
        names = few([each.run for each in several], _NAMED, more="...")
        told = Text(one_line(f"{counted(len(several), 'run')} ({names}): {first.reason}"))
    for change in first.changes:
        told.append(f"\n{one_line(change)}")
    if first.edited:
        told.append(f"\nedited: {one_line(', '.join(first.edited))}", style="yellow")
    size = sum(each.size for each in several)
    told.append(f"\n{one_line(', '.join(first.files)) or 'no file'} ({size / 1000:.1f} kB)", style="dim")
    return told


def _comparison(out: Console, of: HistoryResult) -> None:
    """Print the files of two versions side by side: the differences with the lines around them."""
    _folded_line(out, f"{of.run}: {of.old} on the left, {of.new} on the right", "bold")
    for each in of.compared:
        absent = {of.old: each.old, of.new: each.new}
        where = [name for name, text in absent.items() if text is None]
        if where:
            kept = "missing now" if where[0] == "now" else f"not kept in {where[0]}"
            _folded_line(out, f"{each.name}: {kept}")
        elif not each.differs:
            _folded_line(out, f"{each.name}: unchanged")
        elif each.compared:
            _folded_line(out, f"{each.name}: differs")
            out.print(_side_by_side(each, _width(out)), width=_width(out))
    if not of.compared:
        _folded_line(out, "neither version has a file")


def _side_by_side(of: ComparedFile, width: int) -> Table:
    """Return two texts side by side, in a table as wide as the terminal, with long lines folded."""
    old, new = (of.old or "").splitlines(), (of.new or "").splitlines()
    digits = len(str(max(len(old), len(new))))
    side = max(8, (width - 2 * digits - 7) // 2)
    table = Table.grid(padding=(0, 1))
    for column in (digits, side, 1, digits, side):
        is_number = column == digits
        table.add_column(width=column, overflow="fold", justify="right" if is_number else "left")
    for tag, left, right in _paired_lines(old, new):
        styles = ("red", "green") if tag != "equal" else ("", "")
        table.add_row(
            Text(left[0], style="dim"),
            Text(one_line(left[1]), style=styles[0]),
            Text(_MARKS.get(tag, ""), style="yellow"),
            Text(right[0], style="dim"),
            Text(one_line(right[1]), style=styles[1]),
        )
    return table


_Side = tuple[str, str]


def _paired_lines(old: list[str], new: list[str]) -> Iterator[tuple[str, _Side, _Side]]:
    """Yield each row: its kind of difference, and the number and text of the line on each side."""
    begun = False
    for group in difflib.SequenceMatcher(None, old, new).get_grouped_opcodes(_CONTEXT):
        if begun:
            yield "gap", ("", "..."), ("", "...")
        begun = True
        for tag, first, last, start, end in group:
            lines = zip_longest(range(first, last), range(start, end))
            for here, there in lines:
                kind = tag if tag == "equal" or None not in {here, there} else "insert" if here is None else "delete"
                yield kind, _side(old, here), _side(new, there)


def _side(lines: list[str], index: int | None) -> _Side:
    return ("", "") if index is None else (str(index + 1), lines[index])


_WHAT: Final = {
    "new": "not scaffolded yet",
    "unchanged": "{state}, and unchanged in the documents",
    "changed": "{state}, but the documents have changed since",
    "edited": "{state}, and unchanged in the documents, but its files were edited or removed",
    "remade": "{state}, and unchanged in the documents, but another setup_finetune made its files",
    "kept": "{state}, kept as started",
    "dropped": "{state}, no longer in the table of runs",
    "planned": "as scaffolded",
}


def _explanation(out: Console, of: ExplainResult) -> None:
    """Print settings: value, source, places and earlier values; settings that all runs share are printed once."""
    for (what, state, files), alike in groupby(of.runs, lambda run: (run.what, run.state, run.files)):
        names = few([run.directory for run in alike], _NAMED)
        absent = [name for name in RUN_FILES if name not in files]
        told = _WHAT[what].format(state=state or "scaffolded")
        _folded_line(out, f"{names}: {told}" + (f"; missing: {', '.join(absent)}" if absent else ""), "bold")
    for runs, settings in groupby(of.settings, lambda each: each.runs):
        if len(of.runs) > 1:
            _folded_line(out, f"{few(runs, _NAMED) if runs else f'all {len(of.runs)} runs'}:", "bold")
        for each in settings:
            _setting(out, each)
    if of.unexplained:
        _folded_line(out, f"{counted(of.unexplained, 'more run')} match; specify fewer runs, or a setting")


def _setting(out: Console, of: Explained) -> None:
    _folded_line(out, f"  {of.field} = {printing.value(of.value) or 'nothing'}", "cyan")
    places = [Text(one_line(arrival_line(place)), style="" if place.arrived else "bold red") for place in of.places]
    if of.submitted:
        places.append(Text(one_line(f"the submit line: {of.submitted}")))
    if of.unproven:
        places.append(Text("its place in finetune.yaml or finetune.slurm is unknown", style="yellow"))
    parts = {
        "from": [Text(one_line(of.source))],
        "instead of": [Text(one_line(each)) for each in of.instead_of],
        "documents": [Text(one_line(of.documents))] if of.documents else [],
        "arrives": places or [Text("nowhere" if of.value is None else "nowhere yet", style="dim")],
        "scaffolded": [Text(one_line(of.former))] if of.former else [],
        "earlier": [Text(one_line(each)) for each in of.history],
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(width=12, justify="right", style="dim")
    table.add_column(overflow="fold")
    for label, texts in parts.items():
        if texts:
            table.add_row(label, Text("\n").join(texts))
    out.print(table, width=_width(out))


_PATH_OPTIONS: Final = tuple(name for name in OPTIONS if PARAMETERS[name].kind in {"path", "pattern_free_path"})
_MOST_ROUNDS: Final = 20
_ASKED_AGAIN: Final = frozenset({"missing-field", "invalid-value"})


def create_asking(request: Request, options: argparse.Namespace) -> NewResult:
    """Write the documents of a new experiment; on a terminal, ask for required values that are not given.

    Raises:
        Refused: as `create` does; without a terminal, also for required values that are missing.
    """
    given = {name: [*getattr(options, name)] for name in OPTIONS}
    real = real_path(expanded(request.experiment))
    for name in _PATH_OPTIONS:
        given[name] = [_from_experiment(text, real) for text in given[name]]
    is_terminal = _is_asking(options)
    asked: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        try:
            return create(request, given, control=options.control)
        except Refused as refused:
            missing = [p.field for p in refused.problems if p.code == "missing-field" or p.field in asked]
            others = [p for p in refused.problems if p.field not in missing or p.code not in _ASKED_AGAIN]
            if not is_terminal or others or not missing:
                raise
            again = [problem.message for problem in refused.problems if problem.field in asked]
            for name in dict.fromkeys(name for name in missing if name):
                given[name] = [_ask_option(name, real, again)]
                asked.add(name)
    return create(request, given, control=options.control)


def ask_directory(options: argparse.Namespace) -> Path:
    """Ask for the directory of a new experiment; the default is its name, if `--name` gives it.

    Raises:
        Refused: there is no terminal to ask on.
    """
    name = options.experiment_name[-1] if options.experiment_name else ""
    if not _is_asking(options):
        fix = f"add the directory to create: scaffold-torchtune new {shlex.quote(name) if name else 'DIR'}"
        raise refuse("missing-field", "DIR is missing", field="experiment", fix=fix)
    default = f", default: {one_line(name)}" if name else ""
    while not (text := _typed(f"experiment directory to create (DIR{default}): ") or name):
        pass
    return expanded(Path(text))


def _is_asking(options: argparse.Namespace) -> bool:
    return not options.json and sys.stdin.isatty() and sys.stdout.isatty()


def _typed(prompt: str) -> str:
    """Return the answer to a prompt.

    Raises:
        KeyboardInterrupt: the input ended.
    """
    try:
        return input(prompt).strip()
    except EOFError as error:
        raise KeyboardInterrupt from error


def _ask_option(name: str, experiment: Path, wrong: Iterable[str]) -> str:
    """Ask for the value of an option, and return the answer."""
    option = OPTIONS[name]
    for message in wrong:
        sys.stdout.write(one_line(message) + "\n")
    text = _typed(f"{option.help} ({option.metavar}): ")
    return _from_experiment(text, experiment) if name in _PATH_OPTIONS else text


def _from_experiment(text: str, experiment: Path) -> str:
    """Return a path as the experiment finds it: one that is relative to the current directory, from the experiment."""
    if values.is_unset(text) or text.startswith(("~", "$", "/")) or not text.strip():
        return text
    path = Path(os.path.normpath(real_path(Path()) / text))
    return str(path.relative_to(experiment)) if path.is_relative_to(experiment) else str(path)


def show_new(of: NewResult, options: argparse.Namespace) -> None:
    """Print the written files, the warnings, and the next command."""
    for path in of.created:
        sys.stdout.write(one_line(f"wrote {path}") + "\n")
    if of.local not in of.created:
        sys.stdout.write(one_line(f"uses {of.local}") + "\n")
    sys.stdout.write(f"{of.experiment}: {counted(of.runs, 'run')}\n")
    sys.stdout.flush()
    printing.findings(printing.console(), of.warnings)
    given = ["--local", str(options.local)] if options.local else []
    line = shlex.join(["scaffold-torchtune", "scaffold", str(options.experiment), *given])
    sys.stdout.write(one_line(f"next: {line}") + "\n")


def show_added(of: AddResult, options: argparse.Namespace, following: str) -> None:
    """Print the rows that were added, findings about the rest of the summary, and the `following` command."""
    if not options.quiet:
        for row in of.added:
            sys.stdout.write(one_line(row) + "\n")
    sys.stdout.flush()
    printing.findings(printing.console(), () if options.quiet else of.warnings)
    sys.stdout.write(one_line(f"added {counted(len(of.added), 'run')} to {of.document}: {of.runs} runs") + "\n")
    if not options.quiet:
        sys.stdout.write(one_line(f"next: {following}") + "\n")
