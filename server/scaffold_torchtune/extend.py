"""`add`: append runs to the table of a summary whose runs are a full grid; all other bytes of the file stay the same.

A new row is the nearest existing row with other values. The extended text is read back before it is written.
"""

import itertools
import math
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Refused, Scalar, counted, few, finding, refuse, shown
from scaffold_torchtune.models import CommandResult, Experiment, Run
from scaffold_torchtune.new import COLUMNS, OPTIONS, NewExperiment, number_text, type_options
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.pipeline.apply import writing
from scaffold_torchtune.pipeline.locate import MAX_DOCUMENT, experiment_directory, plain_template, read_documents
from scaffold_torchtune.pipeline.state import as_planned
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import by_label, normalize
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, is_same, read_regular, sha256

ADDED: Final = {name: OPTIONS[name] for name in ("model", *COLUMNS)}
"""The options of `add`, by parameter: what a column of the table may give."""

_NAMES: Final = frozenset({"run name", "run", "name", "run id"})
_BAR: Final = re.compile(r"(?<!\\)\|")
_RULE: Final = re.compile(r"(?=[^-]*-)[\s|:-]+")
_LINES: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_MARKS: Final = '*_`~"'
"""Characters of emphasis around the text of a cell."""
_MOST_RUNS: Final = 2_000


class AddResult(CommandResult):
    """The runs that were added: their lines in the document."""

    document: str
    added: tuple[str, ...]
    runs: int
    warnings: tuple[Finding, ...] = ()

    @property
    def summary(self) -> str:
        """Return the number of added runs, and of all runs."""
        return f"Added {counted(len(self.added), 'run')} to {self.document}, which now has {self.runs}."


@dataclass(frozen=True)
class _Table:
    """The rows of fine-tuned runs: the labels of the columns, and the cells of each run, as written."""

    labels: tuple[str, ...]
    runs: tuple[Run, ...]
    cells: tuple[tuple[str, ...], ...]
    levels: Mapping[str, tuple[Scalar, ...]]

    def column(self, label: str) -> tuple[str, ...]:
        """Return the cells of a column."""
        return tuple(row[self.labels.index(label)] for row in self.cells)


def add_runs(request: Request, given: Mapping[str, Sequence[str]]) -> AddResult:
    """Append the runs that the given levels add to the grid of an experiment, and return them.

    Args:
        request: the experiment.
        given: texts of options by parameter; each is a level or several, separated by commas.

    Raises:
        Refused: a level is invalid, no run is new, or the table is not understood; nothing was written.
    """
    request = as_planned(request)
    directory, plain = experiment_directory(request), plain_template(request)
    template = (plain.name, plain.text) if plain else None
    summary, local, *twin = read_documents(request, directory)
    if summary.name.endswith((".yaml", ".yml")) or twin:
        message = f"runs can only be added to the table of {layout.SUMMARY}, but they are in {layout.SUMMARY_YAML}"
        raise _not_understood(message, summary.name)

    def parsed(text: str) -> Experiment:
        documents = (summary.name, text), (local.name, local.text)
        return parse_experiment(*documents, lambda path: is_same(path, directory), template, request.answers)

    experiment = parsed(summary.text)
    data = read_regular(directory / summary.name, MAX_DOCUMENT, follow=False)
    lines = [line for line in _LINES.findall(data.decode()) if line]
    table = _table(experiment, lines, summary.name)
    wanted = _levels(table, given, directory, summary.name)
    rows = _new_rows(table, wanted, lines, summary.name)
    last = max(run.line for run in table.runs)
    ends = _end_of(lines[last - 1])
    line_end = ends or next(filter(None, map(_end_of, lines)), "\n")
    new = [f"{row}{line_end}" for row in rows]
    if not ends:
        lines[last - 1] += line_end
        new[-1] = rows[-1]
    text = "".join([*lines[:last], *new, *lines[last:]])
    read_back = parsed(text.removeprefix("\ufeff"))
    _check(experiment, read_back, table, wanted, summary.name)
    with Tree(directory) as tree, writing(tree):
        if sha256(read_regular(directory / summary.name, MAX_DOCUMENT, follow=False)) != sha256(data):
            message, fix = f"{summary.name} was changed while runs were being added", "repeat the command"
            raise refuse("document-unreadable", message, file=summary.name, fix=fix)
        tree.write(summary.name, text.encode())
    known = {each.message for each in experiment.warnings}
    return AddResult(
        document=str(directory / summary.name),
        added=tuple(rows),
        runs=len(table.runs) + len(rows),
        warnings=tuple(each for each in read_back.warnings if each.message not in known),
    )


def _not_understood(message: str, file: str, line: int | None = None) -> Refused:
    fix = "in an editor, add a row for each new run to the table of runs; then run `scaffold-torchtune plan`"
    return refuse("ambiguous", message, file=file, line=line, field="runs", fix=fix)


def _cells(line: str) -> list[str]:
    """Return what is between the bars of a row, with the spaces."""
    parts = _BAR.split(line.rstrip("\r\n"))
    first = 1 if not parts[0].strip() else 0
    return parts[first : len(parts) - (1 if not parts[-1].strip() else 0)]


def _table(experiment: Experiment, lines: Sequence[str], file: str) -> _Table:
    """Return the fine-tuned rows of the table.

    Raises:
        Refused: the runs are in no table or in several, or are not a full grid.
    """
    runs = tuple(run for run in experiment.runs if run.type == "fine-tuned")
    first = min(run.line for run in runs)
    rule = next((n for n in range(first - 1, 0, -1) if not lines[n - 1].strip() or _RULE.fullmatch(lines[n - 1])), 0)
    if rule <= 1 or "|" not in lines[rule - 1] or len({run.line for run in runs}) != len(runs):
        raise _not_understood(f"{file} has no table with a row for each run", file, first)
    between = range(rule, max(run.line for run in runs))
    labels = tuple(cell.strip(" *_`") for cell in _cells(lines[rule - 2]))
    cells = tuple(tuple(_cells(lines[run.line - 1])) for run in runs)
    whole = all(_BAR.search(lines[n]) for n in between)
    if not whole or any(len(row) != len(labels) for row in cells) or len({*labels}) != len(labels):
        message = "the runs are in several tables, two columns have the same name, or a row has missing or extra cells"
        raise _not_understood(message, file, first)
    names = [p.name for label in labels if (p := by_label(label)) is not None and p.column]
    found: dict[str, tuple[Scalar, ...]] = {}
    for name in names:
        if any(name not in run.parameters for run in runs):
            raise _not_understood(f"some runs have no value for {name}", file, first)
        found[name] = tuple(dict.fromkeys(run.parameters[name].value for run in runs))
    unread = {name for run in runs for name in run.parameters} - {*names}
    combinations = {tuple(run.parameters[name].value for name in names) for run in runs}
    if unread or len(runs) != len(combinations) or math.prod(len(each) for each in found.values()) != len(runs):
        varying = [f"{name} ({len(each)} values)" for name, each in found.items() if len(each) > 1]
        several = f"the {len(runs)} runs do" if len(runs) > 1 else "the only run does"
        message = f"cannot add runs: {several} not form a full grid of {few(varying, len(varying)) or 'any column'}"
        raise _not_understood(message, file, first)
    return _Table(labels, runs, cells, found)


def _levels(
    table: _Table, given: Mapping[str, Sequence[str]], directory: Path, file: str
) -> dict[str, tuple[Scalar, ...]]:
    """Return the levels of each column with the given ones.

    Raises:
        Refused: a level is invalid, its column is missing, or none is new.
    """
    asked = NewExperiment(directory, control=False)
    type_options(asked, {name: texts for name, texts in given.items() if texts})
    problems = asked.problems.findings
    for name in asked.values:
        if name not in table.levels:
            message = f"the table of runs has no column `{ADDED[name].label or 'Model'}`"
            fix = "add this column with the value of each run, then repeat the command"
            problems.append(finding("ambiguous", message, field=name, file=file, fix=fix))
    if not asked.values and not problems:
        flags = few([f"`{option.flag}`" for option in ADDED.values()], len(ADDED), last="or")
        problems.append(finding("missing-field", "no level is given", field="runs", fix=f"add at least one of {flags}"))
    if problems:
        raise Refused(f"{counted(len(problems), 'problem')} with the given levels", problems)
    wanted = {name: tuple(dict.fromkeys((*old, *asked.values.get(name, ())))) for name, old in table.levels.items()}
    if wanted == dict(table.levels):
        message, fix = "the table already contains all of these runs", "specify a level that is not in the table yet"
        raise refuse("identical-runs", message, file=file, field="runs", fix=fix)
    if (count := math.prod(len(each) for each in wanted.values())) > _MOST_RUNS:
        message = f"the table would have {count} runs, more than the limit of {_MOST_RUNS}"
        raise refuse("unsupported-setting", message, field="runs", fix="specify fewer levels")
    return wanted


def _new_rows(table: _Table, wanted: Mapping[str, Sequence[Scalar]], lines: Sequence[str], file: str) -> list[str]:
    """Return the lines of the new rows, without line ends."""
    rows: list[str] = []
    by_values = {tuple(run.parameters[n].value for n in wanted): i for i, run in enumerate(table.runs)}
    for values in itertools.product(*wanted.values()):
        if values in by_values:
            continue
        # the row that has the same levels, except the new ones: of these the last
        near = tuple(v if v in table.levels[n] else table.levels[n][-1] for n, v in zip(wanted, values, strict=True))
        index = by_values[near]
        changed = {n: v for n, v, old in zip(wanted, values, near, strict=True) if v != old}
        rows.append(_row(table, index, changed, lines[table.runs[index].line - 1], file))
    return rows


def _row(table: _Table, index: int, changed: Mapping[str, Scalar], line: str, file: str) -> str:
    """Return a row with other values in some columns."""
    bars = [found.start() for found in _BAR.finditer(line)]
    cells = []
    for label, cell in zip(table.labels, table.cells[index], strict=True):
        parameter = by_label(label)
        if parameter is not None and parameter.name in changed:
            cells.append(_replaced(cell, number_text(changed[parameter.name])))
        elif normalize(label) in _NAMES:
            cells.append(_replaced(cell, _name(table, label, index, changed, file)))
        elif parameter is None and len({text.strip() for text in table.column(label)}) > 1:
            cells.append(_replaced(cell, "-"))  # a remark about one run
        else:
            cells.append(cell)
    outer = [line[: bars[0]]] if not line[: bars[0]].strip() else []
    tail = line[bars[-1] + 1 :].rstrip("\r\n")
    return "|".join([*outer, *cells, *([tail] if not tail.strip() else [])])


def _end_of(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def _replaced(cell: str, text: str) -> str:
    """Return a cell with another text between its marks, as wide as before if it fits."""
    content = cell.strip()
    lead = cell[: len(cell) - len(cell.lstrip())] if content else ""
    opening = content[: len(content) - len(content.lstrip(_MARKS))]
    closing = content[len(content.rstrip(_MARKS)) :]
    marks = (opening, closing) if content.strip(_MARKS) else ("", "")
    new = f"{lead}{marks[0]}{text}{marks[1]}"
    return new.ljust(len(cell)) if len(new) < len(cell) else f"{new}{' ' if cell.endswith(' ') else ''}"


def _name(table: _Table, label: str, index: int, changed: Mapping[str, Scalar], file: str) -> str:
    """Return the name of a new run, formed as the names of the table are.

    Raises:
        Refused: the names do not contain the values, each at one place and after the same text.
    """
    name = table.column(label)[index].strip(" \t*_`")
    for parameter, value in changed.items():
        places = {*_places(table, label, parameter)}
        if len(places) != 1:
            message = (
                f"cannot name the new runs: the names in the column {shown(label)}, such as {shown(name)}, do not"
                f" contain {parameter} in a consistent form"
            )
            raise _not_understood(message, file, table.runs[index].line)
        ((prefix, style),) = places
        old = table.runs[index].parameters[parameter].value
        name = re.sub(_at(prefix, _styled(old, style)), lambda _: prefix + _styled(value, style), name, count=1)  # noqa: B023 - called at once
    return name


_STYLES: Final = ("shortest", "plain")


def _styled(value: Scalar, style: str) -> str:
    return number_text(value) if style == "shortest" else str(value)


def _at(prefix: str, text: str) -> str:
    return rf"(?<![A-Za-z0-9.]){re.escape(prefix)}{re.escape(text)}(?![A-Za-z0-9]|\.[0-9])"


def _places(table: _Table, label: str, parameter: str) -> Iterator[tuple[str, str]]:
    """Yield each text before a value, with the style of the value, that occurs exactly once in all names."""
    names = [cell.strip(" \t*_`") for cell in table.column(label)]
    values = [run.parameters[parameter].value for run in table.runs]
    for style in _STYLES:
        if style == "plain" and all(_styled(value, style) == number_text(value) for value in values):
            continue
        found = re.finditer(rf"{re.escape(_styled(values[0], style))}(?![A-Za-z0-9]|\.[0-9])", names[0])
        befores = [names[0][: match.start()] for match in found]
        for prefix in {before[len(before.rstrip(string.ascii_letters)) :] for before in befores}:
            if all(
                len(re.findall(_at(prefix, _styled(value, style)), name)) == 1
                for name, value in zip(names, values, strict=True)
            ):
                yield prefix, style


def _check(
    before: Experiment, after: Experiment, table: _Table, wanted: Mapping[str, Sequence[Scalar]], file: str
) -> None:
    """Check that the extended text is read as the runs before and the new ones.

    Raises:
        Refused: it is not.
    """

    def values(run: Run) -> tuple[Scalar, ...]:
        return (run.type, run.name, *(f"{name}={each.value}" for name, each in sorted(run.parameters.items())))

    old, new = [values(run) for run in before.runs], [values(run) for run in after.runs]
    tuned = {tuple(run.parameters[n].value for n in wanted) for run in after.runs if run.type == "fine-tuned"}
    names = [run.name for run in after.runs if run.type == "fine-tuned" and run.name]
    if (
        [each for each in new if each in old] != old
        or tuned != {*itertools.product(*wanted.values())}
        or len({*names}) != len(names)
    ):
        raise _not_understood("the new rows would not be read back as the new runs", file, table.runs[-1].line)
