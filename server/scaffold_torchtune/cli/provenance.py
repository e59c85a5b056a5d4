"""What `history` and `explain` print for a person: versions side by side, and where values come from and arrive.

Texts come from files: markup in them is not interpreted, and control characters are escaped.
"""

import difflib
import shlex
import shutil
from collections.abc import Iterator
from itertools import groupby, zip_longest
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scaffold_torchtune.cli import printing
from scaffold_torchtune.findings import counted, few, one_line
from scaffold_torchtune.pipeline.explain import Explained, ExplainResult, arrival_line
from scaffold_torchtune.pipeline.history import ComparedFile, HistoryResult, KeptVersion
from scaffold_torchtune.system.layout import BACKUP, HISTORY, RUN_FILES

_NAMED: Final = 3
_CONTEXT: Final = 2  # lines around each that differs
_NARROW: Final = 100  # columns where nothing says how wide the reader's terminal is
_MARKS: Final = {"equal": " ", "replace": "|", "delete": "<", "insert": ">"}
"""What stands between the two sides, as sdiff has it."""


def show(out: Console, of: HistoryResult | ExplainResult) -> None:
    """Print a result of `history` or `explain`."""
    if isinstance(of, ExplainResult):
        _explanation(out, of)
    elif of.old:
        _comparison(out, of)
    else:
        _versions(out, of)
    printing.findings(out, of.warnings)


def _line(out: Console, text: str, style: str = "") -> None:
    if out.is_terminal:
        printing.say(out, text, style=style, hang=2)
    else:
        out.print(Text(one_line(text), style=style, overflow="fold"), width=_width(out))


def _width(out: Console) -> int:
    return out.width if out.is_terminal else shutil.get_terminal_size((_NARROW, 0)).columns


def _versions(out: Console, of: HistoryResult) -> None:
    """Print the versions, the newest first; those that one call kept of several runs for the same reason as one."""
    runs = list(dict.fromkeys(version.run for version in of.versions))
    if not runs:
        _line(out, f"{of.run or 'any run'}: nothing was replaced, so no earlier file is kept")
        return
    whose = of.run or counted(len(runs), "run")
    _line(out, f"{whose}: {counted(len(of.versions), 'earlier version')}, the newest first", "bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for _, alike in groupby(of.versions, _sameness):
        several = list(alike)
        table.add_row(several[0].version, _told(several, with_runs=not of.run))
    out.print(table, width=_width(out))
    if of.unread:
        _line(out, f"{counted(of.unread, 'older version')} more were not looked into")
    line = shlex.join(["scaffold-torchtune", "history", of.experiment_dir, of.run or runs[0], "--diff"])
    kept = f"{HISTORY}/{of.run or 'RUN'}/VERSION"
    edits = f"; backup/TIME in {BACKUP}/TIME/{of.run or 'RUN'}"
    has_edits = any(version.path.startswith(f"{BACKUP}/") for version in of.versions)
    _line(out, f"where they are: {kept}{edits if has_edits else ''}", "dim")
    out.print(Text(one_line(f"compare: {line} [VERSION [VERSION]]"), style="dim"), soft_wrap=True)  # to be copied


def _sameness(version: KeptVersion) -> tuple[object, ...]:
    return version.version, version.reason, version.changes, version.edited, version.files


def _told(several: list[KeptVersion], *, with_runs: bool) -> Text:
    """Return why versions were kept, and of which runs."""
    first = several[0]
    told = Text(one_line(first.reason))
    if with_runs:
        names = few([each.run for each in several], _NAMED, more=", ...")
        told = Text(one_line(f"{counted(len(several), 'run')} ({names}): {first.reason}"))
    for change in first.changes:
        told.append(f"\n{one_line(change)}")
    if first.edited:
        told.append(f"\nedited by hand: {one_line(', '.join(first.edited))}", style="yellow")
    size = sum(each.size for each in several)
    told.append(f"\n{one_line(', '.join(first.files)) or 'no file'} ({size / 1000:.1f} kB)", style="dim")
    return told


def _comparison(out: Console, of: HistoryResult) -> None:
    """Print the files of two versions side by side: what differs, with the lines around it."""
    _line(out, f"{of.run}: {of.old} on the left, {of.new} on the right", "bold")
    for each in of.compared:
        absent = {of.old: each.old, of.new: each.new}
        where = [name for name, text in absent.items() if text is None]
        if where:
            kept = "not there now" if where[0] == "now" else f"not kept in {where[0]}"
            _line(out, f"{each.name}: {kept}")
        elif not each.differs:
            _line(out, f"{each.name}: the same")
        elif each.compared:
            _line(out, f"{each.name}: differs")
            out.print(_side_by_side(each, _width(out)), width=_width(out))
    if not of.compared:
        _line(out, "neither of the two has a file")


def _side_by_side(of: ComparedFile, width: int) -> Table:
    """Return two texts side by side, in a table as wide as the terminal; long lines are folded."""
    old, new = (of.old or "").splitlines(), (of.new or "").splitlines()
    digits = len(str(max(len(old), len(new))))
    side = max(8, (width - 2 * digits - 7) // 2)
    table = Table.grid(padding=(0, 1))
    for column in (digits, side, 1, digits, side):
        is_number = column == digits
        table.add_column(width=column, overflow="fold", justify="right" if is_number else "left")
    for tag, left, right in _rows(old, new):
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


def _rows(old: list[str], new: list[str]) -> Iterator[tuple[str, _Side, _Side]]:
    """Yield what stands in each row: how it differs, and the number and text of the line on each side."""
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
    "unchanged": "scaffolded, and as the documents say",
    "changed": "scaffolded, and the documents say something else by now",
    "kept": "kept as it was when it started",
    "dropped": "no longer in the table of runs",
    "planned": "as it was scaffolded",
}


def _explanation(out: Console, of: ExplainResult) -> None:
    """Print settings: value, source, each place, and what it was before; what is so in all runs once."""
    for (what, files), alike in groupby(of.runs, lambda run: (run.what, run.files)):
        names = few([run.directory for run in alike], _NAMED)
        absent = [name for name in RUN_FILES if name not in files]
        _line(out, f"{names}: {_WHAT[what]}" + (f"; not there: {', '.join(absent)}" if absent else ""), "bold")
    for runs, settings in groupby(of.settings, lambda each: each.runs):
        if len(of.runs) > 1:
            _line(out, f"{few(runs, _NAMED) if runs else f'all {len(of.runs)} runs'}:", "bold")
        for each in settings:
            _setting(out, each)
    if of.unexplained:
        _line(out, f"{counted(of.unexplained, 'run')} more match; name fewer runs, or a setting")


def _setting(out: Console, of: Explained) -> None:
    _line(out, f"  {of.field} = {printing.value(of.value) or 'nothing'}", "cyan")
    places = [Text(one_line(arrival_line(place)), style="" if place.arrived else "bold red") for place in of.places]
    if of.submitted:
        places.append(Text(one_line(f"the line that submits: {of.submitted}")))
    if of.unproven:
        places.append(Text("beyond setup_finetune.yaml it is not known where it must arrive", style="yellow"))
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
