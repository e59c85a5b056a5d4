"""Finds the table of runs in a Markdown summary, and takes its columns and rows into the draft."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from scaffold_torchtune.parse import clean, free_text, titles
from scaffold_torchtune.parse.draft import Field, RowDraft, SummaryDraft
from scaffold_torchtune.settings.parameters import by_label, normalize
from scaffold_torchtune.shared.markdown import Row, Section, Table

NAME_COLUMNS = ("run name", "run", "name", "run id", "run number")
_OVERVIEWS = frozenset({"overview", "summary", "experiment overview", "experimental design", "design"})
_SAID = re.compile(r"\b([0-9]{1,5})\s+fine[\s-]?tun", re.IGNORECASE)
_NOTHING = frozenset({"...", "…", "⋮", ""})


class _Found(NamedTuple):
    """The tables of a section of runs: the parts of one, and others beside it."""

    parts: list[Table]
    others: list[Table]

    def all(self) -> list[Table]:
        return [*self.parts, *self.others]


def read(root: Section, draft: SummaryDraft) -> None:
    """Take the runs into the draft; note tables that contradict, rows that stand apart, tables that are not read."""
    _said(root, draft)
    sections = list(titles.topmost(root, titles.is_runs))
    if any(titles.is_exactly_runs(section.title) for section in sections):
        sections = [section for section in sections if titles.is_exactly_runs(section.title)]
    for section in sections:
        _stray_rows(section, draft)
    found = [tables for section in sections if (tables := _tables(section)).parts]
    for table in [t for section in sections for t in section.tables] if not found else ():
        message = "the table has neither a column Run Name nor Model and parameters, and is not taken for runs"
        draft.problem("unused-row", message, table.line, "give the table one row for each run", "runs")
    _elsewhere(root, draft, [table for one in found for table in one.all()])
    if not found:
        return
    others = [*found[0].others, *(table for one in found[1:] for table in one.all())]
    if others:
        lines = " and ".join(str(t.line) for t in [found[0].parts[0], *others])
        message = f"there are {len(others) + 1} tables of runs, at lines {lines}"
        draft.problem("ambiguous", message, others[0].line, "keep one table of runs, under '## All Runs'", "runs")
    for table in found[0].parts:
        _rows(table, _places(table, draft), draft)


def _said(root: Section, draft: SummaryDraft) -> None:
    """`- **Runs:** 4 fine-tuned + 1 control` in an overview."""
    for section in root.walk():
        for bullet in section.bullets if titles.plain(section.title) in _OVERVIEWS else ():
            pair = bullet.text.labelled()
            match = _SAID.search(pair.full) if pair and "runs" in normalize(pair.label).split() else None
            if match:
                draft.said_runs = (int(match[1]), bullet.text.line)


def _header(table: Table) -> list[str]:
    return [normalize(cell.plain) for cell in table.header]


def _tables(section: Section) -> _Found:
    """The tables of runs of a section: its own, else those of its subsections, into which people part one table."""
    own = [table for table in section.tables if _is_of_runs(table)]
    if own:
        return _Found(own[:1], own[1:])
    below = [s for part in section.sections if not titles.is_elsewhere(part.title) for s in part.walk()]
    return _Found([table for s in below for table in s.tables if _is_of_runs(table)], [])


def _places(table: Table, draft: SummaryDraft) -> list[int]:
    """Which of the draft's columns each column of a table is; what another part has no column for is added."""
    places: list[int] = []
    for cell in table.header:
        same = [i for i, c in enumerate(draft.columns) if _meaning(c.text) == _meaning(cell.plain) and i not in places]
        if draft.rows and same:
            places.append(same[0])
        else:
            places.append(len(draft.columns))
            draft.columns.append(Field(cell.plain, table.line, titles.RUNS))
    return places


def _meaning(label: str) -> str:
    parameter = by_label(label)
    return parameter.name if parameter else normalize(label)


def _is_of_runs(table: Table) -> bool:
    """Whether a table in a section of runs is one: it names them, or has models and their parameters."""
    labels = _header(table)
    parameters = [p.name for label in labels if (p := by_label(label)) is not None and p.column]
    return any(label in NAME_COLUMNS for label in labels) or ("model" in parameters and len(parameters) > 1)


def _rows(table: Table, places: list[int], draft: SummaryDraft) -> None:
    for row in table.rows:
        if all(cell.plain in _NOTHING for cell in row.cells):
            if any(cell.plain for cell in row.cells) and "unused-row" not in {p.code for p in draft.findings}:
                message = "the row of dots stands for no run; only runs that have a row of their own are planned"
                draft.problem("unused-row", message, row.line, "write out the runs that it stands for, if any", "runs")
        elif len(row.cells) != len(table.header):
            draft.problem(
                "malformed-table",
                f"the row has {len(row.cells)} cells, the header {len(table.header)}",
                row.line,
                "give the row one cell for each column; write a literal | as \\|",
                "runs",
            )
        else:
            draft.rows.append(_row(row, table, places))


def _row(row: Row, table: Table, places: list[int]) -> RowDraft:
    cells: dict[int, Field] = {}
    for place, cell, column in zip(places, row.cells, table.header, strict=True):
        code = cell.code if cell.code is not None and cell.plain.startswith(cell.code) else None
        text = cell.plain if code is None else code
        if not clean.is_empty(text) or _says_no_text(cell.plain, column.plain):
            cells[place] = Field(text, row.line, column.plain, cell.plain, source=cell.source)
    return RowDraft(cells, row.line)


def _says_no_text(cell: str, column: str) -> bool:
    """Whether a cell says that a run has no text where others may have one: `None` in the column System Prompt."""
    parameter = by_label(column)
    return parameter is not None and parameter.kind == "text" and free_text.says_none(cell)


def _stray_rows(section: Section, draft: SummaryDraft) -> None:
    """Lines that look like rows but belong to no table: below a blank line, or without a line |---| above them."""
    lines = [text for part in section.walk() for text in part.paragraphs if text.plain.startswith("|")]
    if lines:
        message = f"{len(lines)} line(s) look like rows of a table, but belong to none"
        fix = "take away the blank line above, or put a line |---|---| below the header"
        draft.problem("malformed-table", message, lines[0].line, fix, "runs")


def _elsewhere(root: Section, draft: SummaryDraft, taken: list[Table]) -> None:
    """Tables that look like runs, and are not read as they stand below another title."""
    for section, table in _all_tables(root):
        labels = _header(table)
        parameters = {p.name for label in labels if (p := by_label(label)) is not None and p.column} - {"model"}
        known = "model" in labels and any(label in NAME_COLUMNS for label in labels)
        if known and parameters and table not in taken:
            message = f"the table looks like runs, but stands under {section.title!r}, where none are read"
            fix = "if these runs are to be planned, move them into the table under '## All Runs'"
            draft.problem("unused-row", message, table.line, fix, "runs")


def _all_tables(root: Section) -> Iterator[tuple[Section, Table]]:
    for section in root.sections:
        if not titles.is_elsewhere(section.title):
            yield from ((section, table) for table in section.tables)
            yield from _all_tables(section)
