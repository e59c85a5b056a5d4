"""Output for people: lines, tables, findings and progress, plain if there is no terminal.

Texts come from documents and files: markup in them is not interpreted, and control characters are escaped. Names, paths
and commands are never broken.
"""

import contextlib
import re
import shlex
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import TracebackType
from typing import Final, Self, TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.table import Table
from rich.text import Text

from scaffold_torchtune.cli.parser import accepted
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
    shortest_number,
    shown,
)
from scaffold_torchtune.results.reply import Call

STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
FIX: Final = "cyan"
"""The style of the label of a fix."""

MANY: Final = 40
"""The number of runs, or of groups of findings, that are printed without `--all`."""

_NAMES: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_NAMED: Final = 3  # similar findings of which the differing words are printed
_GAP: Final = 3  # characters between the columns of a table
_WIDE: Final = 500  # width without a terminal, so that nothing is wrapped or cut
WIDE: Final = 120
"""The maximum width of a grid of names, and of a list that could have several lines, if the output is wider."""

_FIRST: Final = "reading"
_UNBROKEN: Final = re.compile(r"\(?`[^`]*`\S*|- \*\*[^*]{1,80}\*\*[^\n]{0,80}$|\S+")


class ProgressBar:
    """The progress of a command on a terminal; silent elsewhere, and if the output is for a program."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description:>9}"), BarColumn(), _Count(), Elapsed())
        self._bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # the terminal was closed; the work continues
            self.update(_FIRST, 0, 0)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._bar.stop()

    def update(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` runs of a step are done; without a total, that the step has started."""
        with contextlib.suppress(OSError), self._lock:
            if step not in self._tasks:
                for begun in [name for name in self._tasks if self._is_unmeasured(name)]:
                    self._bar.remove_task(self._tasks.pop(begun))
                self._tasks[step] = self._bar.add_task(step, total=total or None)
            self._bar.update(self._tasks[step], completed=done, total=total or None)

    @property
    def shown(self) -> list[str]:
        """Return the shown steps, in the order of their start."""
        return [*self._tasks]

    def _is_unmeasured(self, step: str) -> bool:
        return next(task for task in self._bar.tasks if task.id == self._tasks[step]).total is None


class _Count(MofNCompleteColumn):
    """The number of completed items and the total, if the total is known."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total else Text("")


class _Console(Console):
    """A console that leaves a broken pipe to the caller."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - the exception that is being handled


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or wide enough for any line if there is no terminal."""
    made = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def value(of: Scalar) -> str:
    """Return a value in the form of a table cell."""
    if isinstance(of, str):
        return escape(of)
    return "" if of is None else shortest_number(of) if isinstance(of, float) else str(of)


def say(out: Console, *parts: str | Text, style: str = "", hang: int = 0) -> None:
    """Print one line. On a terminal it is wrapped between words, and further lines are indented by `hang`."""
    line = Text(style=style)
    for part in parts:
        line.append(part if isinstance(part, Text) else one_line(part))
    if not out.is_terminal:
        out.print(line, soft_wrap=True)
        return
    for number, each in enumerate(line.divide(_breaks(line.plain, out.width, hang))):
        each.rstrip()
        out.print(Text(" " * hang) + each if number else each, soft_wrap=True)


def listing(out: Console, head: str, items: Sequence[str], *, hang: int) -> None:
    """Print a list after its head in one line. On a terminal it is wrapped between items, unless one is too long."""
    line = head
    for number, item in enumerate(items, start=1):
        text = f" {one_line(item)}{',' if number < len(items) else ''}"
        is_too_long = hang - 1 + cell_len(text) > out.width
        if out.is_terminal and line.strip() and not is_too_long and cell_len(line) + cell_len(text) > out.width:
            say(out, line, hang=hang)
            line = " " * (hang - 1)
        line += text
    say(out, line, hang=hang)


def command(out: Console, label: str, line: str) -> None:
    """Print a command to copy, which only the terminal wraps."""
    out.print(Text(one_line(f"{label}{line}")), soft_wrap=True)


def fix(out: Console, text: str, *, label: str = "", hang: int) -> None:
    """Print a fix. A line with a long path may be a command to copy, so only the terminal wraps it."""
    if any("/" in word and cell_len(word) > out.width // 2 for word in text.split()):
        out.print(Text().append(label, style=FIX).append(one_line(text)), soft_wrap=True)
    else:
        say(out, Text(label, style=FIX), text, hang=hang)


def _breaks(text: str, width: int, hang: int) -> list[int]:
    """Return the positions of the words that begin a new line; all lines except the first are indented.

    Words and texts to paste are never broken: text in backquotes, and a list item at the end.
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
    """Print findings about no single run; see `groups`."""
    groups(out, alike(("", each) for each in found), whole=whole, notes=notes)


def groups(out: Console, found: Iterable[Alike], *, whole: bool = False, notes: bool = False) -> None:
    """Print findings, similar ones once, the most serious last, where they are visible at the end of the output.

    Args:
        out: the console.
        found: the findings, grouped.
        whole: whether all are printed; otherwise the most serious of very many, and the number of the others.
        notes: whether infos are printed too.
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
    """Print similar findings: the first, the others, and the fix."""
    one = group.first
    head = Text(f"  {_NAMES[one.severity]}: ", style=STYLES[one.severity])
    place = f"{one.location()}: " if one.location() else ""
    say(out, head, place, one.message, Text(f" [{one.code}]", style="dim"), hang=4)
    if len(group.members) > 1:
        say(out, f"    {_others(group, whole=whole)}", hang=6)
    if one.fix:
        first, *pasted = one.fix.split("\n")
        if not all(line.startswith("|") for line in pasted):
            first, pasted = one.fix, []
        fix(out, first, label="    fix: ", hang=6)
        for line in pasted:
            out.print(Text(one_line(line)), soft_wrap=True)


def _others(group: Alike, *, whole: bool) -> str:
    """Return the places of the other findings: `the same in 8 runs: a, b, ...`, `35 more: lines 22 to 56`."""
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
        is_short = has_words and sum(map(len, own[:most])) <= _NAMED * WIDE // 4
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
    """Yield sorted numbers, with successive numbers as one span: `22 to 56`."""
    for _, each in groupby(enumerate(numbers), lambda item: item[1] - item[0]):
        span = [number for _, number in each]
        yield str(span[0]) if len(span) == 1 else f"{span[0]} to {span[-1]}"


def table(out: Console, columns: Sequence[str], rows: Iterable[Iterable[str | Text]]) -> None:
    """Print a table, or a line for each row if the terminal is too narrow for a table with unbroken words."""
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
    """Print names in columns, as `ls` does."""
    width = max(map(cell_len, names), default=0) + 2
    columns = max(1, (min(out.width, WIDE) - 2) // width)
    height = -(-len(names) // columns)
    for row in range(height):
        cells = names[row::height]
        out.print(Text("  " + "".join(one_line(name).ljust(width) for name in cells).rstrip()), soft_wrap=True)


def _widths(rows: Sequence[Sequence[Text]], width: int) -> list[int] | None:
    """Return the widths of the columns of a table without broken words; None if the terminal is too narrow."""
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
    """Return the names that fit into a line, and the number of the others."""
    for most in range(len(names), 1, -1):
        text = few(names, most, last="")
        if whole or cell_len(text) <= width:
            return text
    return few(names, 1, last="")


def cut(text: str, width: int) -> str:
    """Return the words of a text that fit into a width, and dots if it has more."""
    kept = ""
    for word in one_line(text).split():
        if kept and cell_len(kept) + cell_len(word) + 5 > width:
            return f"{kept} ..."
        kept += f" {word}" if kept else word
    return kept


_ONLY_SHOWN: Final = frozenset({"--dry-run", "--all", "--notes"})
_Run = TypeVar("_Run")


@dataclass(frozen=True)
class View:
    """The options of a screen, and the words of the command.

    `whole` shows every run, value and finding, `notes` infos too, `quiet` only errors and the verdict. `only` is a
    pattern of the runs to list, `start` the first of them, counted from 1. `words` are the words of the command line.
    For other commands, `documents` are the arguments that name the experiment, and `options` the words of the options
    with which it is planned, by name.
    """

    whole: bool = False
    notes: bool = False
    quiet: bool = False
    only: str | None = None
    start: int | None = None
    words: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def lists(self) -> bool:
        """Return whether runs are listed even if they are many."""
        return self.whole or self.only is not None or self.start is not None

    def listed(self, runs: Iterable[_Run]) -> list[_Run]:
        """Return the listed runs: the runs that match, beginning with the first to list."""
        call = Call("", start=self.start, only=self.only)
        return [run for run in runs if call.wants(run)][(self.start or 1) - 1 :]

    def page(self, out: Console, runs: Sequence[_Run]) -> list[_Run]:
        """Return the listed runs of one page; print whether no run matches, or the option that shows the next page."""
        listed = self.listed(runs)
        if not listed and runs and self.lists:
            what = f"no run matches {shown(self.only)}" if self.only else f"there is no run {self.start}"
            say(out, f"{what}; there {'is' if len(runs) == 1 else 'are'} {counted(len(runs), 'run')}", style="yellow")
        if self.whole or len(listed) <= MANY:
            return listed
        rest, following = len(listed) - MANY, (self.start or 1) + MANY
        say(out, f"{counted(rest, 'more run')}; --start {following} begins with the next one, --all lists all", hang=2)
        return listed[:MANY]

    def again(self, name: str = "") -> str:
        """Return the same command, or the command `name` with the same options."""
        options = [word for word in self.words[1:] if word not in _ONLY_SHOWN]
        return shlex.join(["scaffold-torchtune", name or self.words[0], *options]) if self.words else ""

    def other(self, name: str) -> str:
        """Return another command for the same experiment, with the options of its plan that the command accepts."""
        takes = accepted(name)
        options = [word for option, words in self.options.items() if option in takes for word in words]
        return shlex.join(["scaffold-torchtune", name, *self.documents, *options]) if self.documents else ""
