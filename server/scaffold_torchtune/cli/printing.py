"""How the command line prints for people: lines, tables, findings and progress, plain where there is no terminal.

Texts come from documents and files: markup in them is not interpreted, and control characters are escaped. Names,
paths and commands are never broken.
"""

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.table import Table
from rich.text import Text

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Alike,
    Finding,
    Scalar,
    alike,
    by_severity,
    counted,
    escape,
    few,
    one_line,
)
from scaffold_torchtune.settings import kinds

STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
MANY: Final = 40
"""How many runs, or groups of findings, are printed unless all are wanted."""

_NAMES: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_NAMED: Final = 3  # of findings that are alike, those whose own words are printed
_GAP: Final = 3  # columns between those of a table
_WIDE: Final = 500  # where there is no terminal, nothing is wrapped or cut
_GRID: Final = 120  # but names stand side by side in so many columns
_FIRST: Final = "reading"
_UNBROKEN: Final = re.compile(r"\(?`[^`]*`\S*|- \*\*[^*]{1,80}\*\*[^\n]{0,80}$|\S+")


class ProgressBar:
    """The work that is being done, on a terminal; silent elsewhere, and where the output is for a program."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description:>9}"), BarColumn(), _Count(), Elapsed())
        self._bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # of a terminal that is gone: the work goes on
            self.update(_FIRST, 0, 0)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._bar.stop()

    def update(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` runs of a step are done; without a total, that the step has begun."""
        with contextlib.suppress(OSError), self._lock:
            if step not in self._tasks:
                for begun in [name for name in self._tasks if self._is_unmeasured(name)]:
                    self._bar.remove_task(self._tasks.pop(begun))
                self._tasks[step] = self._bar.add_task(step, total=total or None)
            self._bar.update(self._tasks[step], completed=done, total=total or None)

    @property
    def shown(self) -> list[str]:
        """The steps that are shown, in the order in which they began."""
        return [*self._tasks]

    def _is_unmeasured(self, step: str) -> bool:
        return next(task for task in self._bar.tasks if task.id == self._tasks[step]).total is None


class _Count(MofNCompleteColumn):
    """How many of how many, where the total is known."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total else Text("")


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


def say(out: Console, *parts: str | Text, style: str = "", hang: int = 0) -> None:
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


def command(out: Console, label: str, line: str) -> None:
    """Print a command, to be copied: only the terminal breaks it."""
    out.print(Text(one_line(f"{label}{line}")), soft_wrap=True)


def fix(out: Console, text: str, *, style: str = "", hang: int) -> None:
    """Print what to do. A line with a long path may be a command, to be copied: only the terminal breaks it."""
    if max(map(cell_len, text.split()), default=0) > out.width // 2:
        out.print(Text(one_line(text), style=style), soft_wrap=True)
    else:
        say(out, text, style=style, hang=hang)


def _breaks(text: str, width: int, hang: int) -> list[int]:
    """Return before which words a text is broken into lines, all but the first of which hang.

    Neither a word is broken, nor what is to be pasted: what stands in backquotes, a line of a list at the end.
    """
    found: list[int] = []
    begun, indent = 0, 0
    for word in _UNBROKEN.finditer(text):
        if (
            word.start() > begun
            and indent + cell_len(text[begun : word.end()]) > width
            and text[begun : word.start()].strip()
        ):
            found.append(word.start())
            begun, indent = word.start(), hang
    return found


def findings(out: Console, found: Iterable[Finding], *, whole: bool = True, notes: bool = True) -> None:
    """Print findings that are about no single run; see `groups`."""
    groups(out, alike(("", each) for each in found), whole=whole, notes=notes)


def groups(out: Console, found: Iterable[Alike], *, whole: bool = False, notes: bool = False) -> None:
    """Print findings, alike ones once, the most serious last: after a command the end of its output is on the screen.

    Args:
        out: where to.
        found: the findings, grouped.
        whole: all of them are printed; else the most serious of very many, and the number of the others.
        notes: infos are printed too.
    """
    printed = [each for each in by_severity(found) if notes or each.first.severity is not Severity.INFO]
    left_out = 0 if whole else max(0, len(printed) - MANY)
    severe = [each for each in printed if each.first.severity is Severity.ERROR]
    shown = printed[left_out:] if len(severe) <= MANY else severe[:MANY]
    for each in printed if whole else shown:
        _block(out, each, whole=whole)
    if left_out:
        say(out, f"  ... and {left_out} more; --all shows them")


def _block(out: Console, group: Alike, *, whole: bool) -> None:
    """Print findings that are alike: the first, the others, and what to do."""
    one = group.first
    head = Text(f"  {_NAMES[one.severity]}: ", style=STYLES[one.severity])
    place = f"{one.location()}: " if one.location() else ""
    say(out, head, place, f"{one.message} [{one.code}]", hang=4)
    if len(group.members) > 1:
        say(out, f"    {_others(group, whole=whole)}", hang=6)
    if one.fix:
        fix(out, f"    fix: {one.fix}", style="dim", hang=6)


def _others(group: Alike, *, whole: bool) -> str:
    """Return where the same was found: `the same in 8 runs: a, b, ...`, `35 more: lines 22 to 56`."""
    others = list(group.others())
    runs, most = group.runs, len(others) if whole else _NAMED
    has_words = any(words for _, _, words in others)
    if runs and len(runs) == len(group.members) and not has_words:
        return f"the same in {counted(len(runs), 'run')}: {few(runs, len(runs) if whole else 2 * _NAMED)}"
    lines = [each.line for _, each, _ in others if each.line and each.file == group.first.file]
    if not runs and len(lines) == len(others):
        spans = few(list(_spans(sorted(set(lines)))), most)
        own = [" ".join(words) for _, _, words in others]
        texts = few([f"{text} (line {line})" for text, line in zip(own, lines, strict=True)], most)
        is_short = has_words and sum(map(len, own[:most])) <= _NAMED * _GRID // 4
        return f"{len(others)} more like it: {texts if is_short else f'{_line_word(lines)} {spans}'}"
    texts = few([_other(run, each, words) for run, each, words in others], most)
    return f"{len(others)} more like it: {texts}"


def _other(run: str, found: Finding, words: Sequence[str]) -> str:
    own = ", ".join(word.strip("(),;") for word in words)
    place = run or found.location()
    return f"{place} ({own})" if place and own else place or own


def _line_word(lines: Sequence[int]) -> str:
    return "line" if len(set(lines)) == 1 else "lines"


def _spans(numbers: Sequence[int]) -> Iterator[str]:
    """Yield sorted numbers with those that follow each other as one: `22 to 56`."""
    for _, each in groupby(enumerate(numbers), lambda item: item[1] - item[0]):
        span = [number for _, number in each]
        yield str(span[0]) if len(span) == 1 else f"{span[0]} to {span[-1]}"


def table(out: Console, columns: Sequence[str], rows: Iterable[Iterable[str | Text]]) -> None:
    """Print a table; where the terminal is too narrow for it without breaking a word, a line for each row."""
    cells = [[cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row] for row in rows]
    widths = _widths([[Text(name) for name in columns], *cells], out.width - 2)
    if widths is None:
        for first, *others in cells:
            labels = ("" if name == "value" else f"{name} " for name in columns[1:])
            named = [Text(label).append(cell) for label, cell in zip(labels, others, strict=True) if cell]
            say(out, " ", first, ": " if named else "", Text(", ").join(named), hang=4)
        return
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        made.add_column(column, width=width)
    for row in cells:
        made.add_row(*row)
    out.print(made)


def grid(out: Console, names: Sequence[str]) -> None:
    """Print names side by side, column by column, as `ls` does."""
    width = max(map(cell_len, names), default=0) + 2
    columns = max(1, (min(out.width, _GRID) - 2) // width)
    height = -(-len(names) // columns)
    for row in range(height):
        cells = names[row::height]
        out.print(Text("  " + "".join(one_line(name).ljust(width) for name in cells).rstrip()), soft_wrap=True)


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


def names_in(names: Sequence[str], width: int, *, whole: bool) -> str:
    """Return the names that fit into a line, and how many more there are."""
    for most in range(len(names), 1, -1):
        text = few(names, most)
        if whole or cell_len(text) <= width:
            return text
    return few(names, 1)


def cut(text: str, width: int) -> str:
    """Return as many words of a text as fit into a width, and dots where it has more."""
    kept = ""
    for word in one_line(text).split():
        if kept and cell_len(kept) + cell_len(word) + 5 > width:
            return f"{kept} ..."
        kept += f" {word}" if kept else word
    return kept
