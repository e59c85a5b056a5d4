"""The table of runs: its columns and rows, typed, and compared with the levels that the Variables section names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import Run, RunType, Setting, Source, SourceKind
from scaffold_torchtune.parse import headings, values
from scaffold_torchtune.parse.drafts import Field, RowDraft, SummaryDraft
from scaffold_torchtune.parse.reading import Reading, ignored_remark, not_planned, not_typed
from scaffold_torchtune.parse.values import typed
from scaffold_torchtune.settings.kinds import NotTyped, shortest_number
from scaffold_torchtune.settings.parameters import (
    NOT_PLANNED,
    PARAMETERS,
    WORDS_OF_TRAINING,
    Parameter,
    by_label,
    labels,
    normalize,
)
from scaffold_torchtune.system.markdown import Row, Section, Table
from scaffold_torchtune.system.text import close_matches, escape, shown

# Finds the table of runs in a Markdown summary, and takes its columns and rows into the draft.

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


def read_runs_table(root: Section, draft: SummaryDraft) -> None:
    """Take the runs into the draft; note tables that contradict, rows that stand apart, tables that are not read."""
    _said(root, draft)
    sections = list(headings.topmost(root, headings.is_runs))
    if any(headings.is_exactly_runs(section.title) for section in sections):
        sections = [section for section in sections if headings.is_exactly_runs(section.title)]
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
        for bullet in section.bullets if headings.plain(section.title) in _OVERVIEWS else ():
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
    below = [s for part in section.sections if not headings.is_elsewhere(part.title) for s in part.walk()]
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
            draft.columns.append(Field(cell.plain, table.line, headings.RUNS))
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
        if not values.is_empty(text) or _says_no_text(cell.plain, column.plain):
            cells[place] = Field(text, row.line, column.plain, cell.plain, source=cell.source)
    return RowDraft(cells, row.line)


def _says_no_text(cell: str, column: str) -> bool:
    """Whether a cell says that a run has no text where others may have one: `None` in the column System Prompt."""
    parameter = by_label(column)
    return parameter is not None and parameter.kind == "text" and values.says_none(cell)


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
        if not headings.is_elsewhere(section.title):
            yield from ((section, table) for table in section.tables)
            yield from _all_tables(section)


# What the summary says of the values that vary, beside its runs: a second telling, which may contradict them.
#
# The runs decide; what the section Variables says is compared with them, never planned.

_NUMBERS: Final = frozenset({"int", "float"})
_LEVELS: Final = frozenset({"levels", "level", "values", "value", "settings", "options"})
_BETWEEN: Final = re.compile(r"\s*[,;]\s*(?:and\s+|or\s+)?|\s+(?:and|or|vs\.?)\s+")
_AROUND: Final = "[]{}() "
_SHOWN: Final = 8


def read_levels(root: Section, draft: SummaryDraft) -> None:
    """Take the levels of every parameter that a section Variables lists, in a table or as `label: levels`."""
    for section in headings.topmost(root, headings.is_factors):
        for part in section.walk():
            for table in part.tables:
                draft.levels += _of_table(table, part.title)
            for bullet in part.all_bullets():
                pair = bullet.text.labelled()
                parameter = by_label(pair.label) if pair else None
                if pair and parameter:
                    draft.levels.append((parameter.name, Field(pair.value, bullet.text.line, part.title, pair.full)))


def _of_table(table: Table, title: str) -> Iterator[tuple[str, Field]]:
    header = [normalize(cell.plain) for cell in table.header]
    column = next((i for i, label in enumerate(header) if label in _LEVELS), 1)
    for row in table.rows:
        parameter = by_label(row.cells[0].plain) if len(row.cells) > max(column, 1) else None
        if parameter and column:
            yield parameter.name, Field(row.cells[column].plain, row.line, title)


def differing_levels(draft: SummaryDraft, runs: Sequence[Run], config: Mapping[str, Setting]) -> list[Finding]:
    """Where the fine-tuned runs have other values of a number than the summary says it takes."""
    tuned = [run for run in runs if run.type == "fine-tuned"]
    found = []
    for name, field in draft.levels if tuned else ():
        said = _typed(PARAMETERS[name], field)
        if not said:
            continue
        settings = [setting for run in tuned if (setting := run.parameters.get(name) or config.get(name))]
        planned = {float(str(setting.value)) for setting in settings}
        if set(said) != planned:
            has = f"the runs have {_listed(sorted(planned))}" if planned else "no run is given one"
            found.append(_finding(name, field, draft.file, said, has))
    return found


def _finding(name: str, field: Field, file: str, said: Sequence[float], has: str) -> Finding:
    message = f"{field.note} says that {name} takes {_listed(said)}, but {has}"
    fix = "correct the one that is wrong; the runs count"
    return finding("levels-differ", message, field=name, file=file, line=field.line, fix=fix)


def _typed(parameter: Parameter, field: Field) -> list[float]:
    """The levels of a number; none where the text is anything but a list of them (`8 to 64`, `low and high`)."""
    if parameter.kind not in _NUMBERS:
        return []
    texts = [text for text in _BETWEEN.split((field.full or field.text).strip(_AROUND)) if text]
    try:
        values = [float(str(typed(parameter, Field(text, field.line, field.note)).value)) for text in texts]
    except NotTyped:
        return []
    return list(dict.fromkeys(values))


def _listed(values: Sequence[float]) -> str:
    more = f", ... ({len(values)} values)" if len(values) > _SHOWN else ""
    return ", ".join(shortest_number(value) for value in values[:_SHOWN]) + more


# Reads the rows of the runs table into typed runs.

# Columns that are there for people.
_FOR_PEOPLE = frozenset(
    {
        "est time",
        "estimated time",
        "status",
        "notes",
        "note",
        "description",
        "gpu hours",
        "hypothesis",
        "role",
        "job id",
        "purpose",
        "comment",
    }
)
_TYPES: dict[str, RunType] = {
    "fine tuned": "fine-tuned",
    "finetuned": "fine-tuned",
    "fine tune": "fine-tuned",
    "finetune": "fine-tuned",
    "fine tuning": "fine-tuned",
    "finetuning": "fine-tuned",
    "control": "control",
    "base": "control",
    "baseline": "control",
    "eval only": "eval-only",
    "evaluation only": "eval-only",
    "eval": "eval-only",
}
_ALLOWED_TYPES = "Fine-tuned, Control or eval-only"
_LIKELY_MISSPELT = 0.8
_ANOTHER = frozenset({"effective", "eff", "total", "global", "ratio", "fraction"})


class _Columns:
    """What each column of the table is."""

    def __init__(self, columns: list[Field], reading: Reading) -> None:
        self.name: int | None = None
        self.type: int | None = None
        self.parameters: dict[int, Parameter] = {}
        self.remarks: set[tuple[int, str]] = set()
        seen: dict[str, str] = {}
        for i, column in enumerate(columns):
            meaning = self._meaning(i, column, reading)
            if meaning is None:
                continue
            if meaning in seen:
                message = f"the columns {shown(seen[meaning])} and {shown(column.text)} both mean {meaning}"
                fix = "keep one of the two columns"
                reading.add("duplicate-column", message, field=meaning, line=column.line, fix=fix)
            seen.setdefault(meaning, column.text)

    def _meaning(self, i: int, column: Field, reading: Reading) -> str | None:
        label = normalize(column.text)
        if label in NAME_COLUMNS:
            self.name = i if self.name is None else self.name
            return "run name"
        if label in {"type", "run type"}:
            self.type = i if self.type is None else self.type
            return "type"
        parameter = by_label(column.text) or _with_remark(column.text)
        if parameter is not None and parameter.column:
            self.parameters.setdefault(i, parameter)
            return parameter.name
        if label in NOT_PLANNED:
            reading.findings.append(not_planned(column.text, column, reading.summary.file))
        elif label not in _FOR_PEOPLE and label:
            _unknown_column(column, reading)
        return None


def _with_remark(label: str) -> Parameter | None:
    """The parameter of `LoRA Rank (r)` or `Batch Size (per device)`; what is `(effective)` or `(total)` is another."""
    remark = normalize(label.removeprefix(values.without_remark(label)))
    return None if set(remark.split()) & _ANOTHER else by_label(values.without_remark(label))


def _unknown_column(column: Field, reading: Reading) -> None:
    words = normalize(column.text)
    near = [] if set(words.split()) & _ANOTHER else close_matches(words, labels(), limit=1, cutoff=_LIKELY_MISSPELT)
    near = near or (["type"] if words in _TYPES else [])
    if not near and set(words.split()) & WORDS_OF_TRAINING and not set(words.split()) & {"eff", "effective"}:
        message = f"the column {shown(column.text)} is about the runs, but is no parameter that can be planned"
        fix = "give each parameter a column of its own, named as in workflows/torchtune.md, or leave the column out"
        reading.add("misspelt-field", message, field=escape(column.text), line=column.line, fix=fix)
        return
    reading.add(
        "misspelt-field" if near else "unused-column",
        f"the column {shown(column.text)} is not a parameter" + (f"; did you mean {near[0]!r}?" if near else ""),
        field=escape(column.text),
        line=column.line,
        fix=f"write {near[0]!r}"
        if near
        else "nothing, unless it was meant to change the runs: see the parameters in workflows/torchtune.md",
    )


def read_rows(reading: Reading) -> tuple[tuple[str, ...], tuple[Run, ...]]:
    """The names of the parameter columns in the table's order, and every row, typed. Problems are noted."""
    draft = reading.summary
    if not draft.columns:
        return (), ()
    columns = _Columns(draft.columns, reading)
    lines = draft.columns[0].line
    by_name = {p.name: i for i, p in columns.parameters.items()}
    if "model" not in by_name:
        message = "the table of runs has no column Model"
        fix = "add a column Model that names each run's base model"
        reading.add("missing-field", message, field="model", line=lines, fix=fix)
    runs = [run for row in draft.rows if (run := _run(row, columns, reading)) is not None]
    tuned = sum(run.type == "fine-tuned" for run in runs)
    if draft.said_runs is not None and draft.said_runs[0] != tuned and len(runs) == len(draft.rows):
        reading.add(
            "runs-differ",
            f"the summary says {draft.said_runs[0]} fine-tuned runs, but its table has {tuned}",
            field="runs",
            expected=draft.said_runs[0],
            actual=tuned,
            line=draft.said_runs[1],
            fix="correct the one that is wrong",
        )
    return tuple(by_name), tuple(runs)


def _run(row: RowDraft, columns: _Columns, reading: Reading) -> Run | None:
    name = row.cells.get(columns.name) if columns.name is not None else None
    run_type, file = _type(row, columns, reading), reading.summary.file
    if run_type is None:
        return None
    parameters: dict[str, Setting] = {}
    for i, parameter in columns.parameters.items():
        text = row.cells.get(i)
        if text is None or values.is_left_out(parameter, text.text):
            continue
        try:
            value, remark = values.typed(parameter, text)
        except NotTyped as problem:
            if run_type == "fine-tuned":
                where = (f"run {shown(name.text)}, " if name else "") + f"column {text.note}"
                elsewhere = "; a run has one value, so give each a row of its own"
                reading.findings.append(not_typed(parameter, text, problem, where, file, elsewhere))
            continue
        if remark and run_type == "fine-tuned" and (i, remark) not in columns.remarks:
            columns.remarks.add((i, remark))  # told once, of the first row that has it
            reading.findings.append(ignored_remark(parameter, text, value, remark, file))
        source = Source(kind=SourceKind.ROW, file=file, line=text.line, note=text.note)
        parameters[parameter.name] = Setting(value=value, source=source)
    model = parameters.get("model")
    written = any(p.name == "model" and i in row.cells for i, p in columns.parameters.items())
    if not written and run_type == "fine-tuned" and "model" in {p.name for p in columns.parameters.values()}:
        message = f"the run {shown(name.text if name else '')} has no model"
        fix = "name the base model in the column Model"
        reading.add("missing-field", message, field="model", line=row.line, fix=fix)
    return Run(
        name=escape(name.text) if name else "",
        type=run_type,
        model=str(model.value) if model else "",
        parameters=parameters,
        line=row.line,
    )


def _type_by_cells(row: RowDraft, columns: _Columns, reading: Reading) -> RunType | None:
    """Without a Type column a row without any hyperparameter is a control; with some, but no rank or rate, unclear."""
    hyperparameters = {i: p.name for i, p in columns.parameters.items() if p.name != "model"}
    written = [name for i, name in hyperparameters.items() if i in row.cells]
    if hyperparameters and not written:
        return "control"
    telling = {"lora_rank", "lr"} & set(hyperparameters.values())
    if not telling or (telling | {"recipe"}) & set(written):
        return "fine-tuned"
    has = f"{', '.join(written)}, but no {' or '.join(sorted(telling))}: nothing says whether it is fine-tuned"
    _no_type(row, columns, reading, has, f"add a column Type with {_ALLOWED_TYPES}")
    return None


def _no_type(row: RowDraft, columns: _Columns, reading: Reading, has: str, fix: str) -> None:
    name = row.cells.get(columns.name) if columns.name is not None else None
    message = f"the run {shown(name.text if name else '')} has {has}"
    reading.add("missing-field", message, field="type", expected=_ALLOWED_TYPES, line=row.line, fix=fix)


def _type(row: RowDraft, columns: _Columns, reading: Reading) -> RunType | None:
    """The row's type: as its Type column says; without one, as its cells do."""
    if columns.type is None:
        return _type_by_cells(row, columns, reading)
    text = row.cells.get(columns.type)
    if text is None:
        _no_type(row, columns, reading, "no type", f"write {_ALLOWED_TYPES}")
        return None
    said = values.without_remark(text.text)
    found = _TYPES.get(normalize(said))
    remark = text.text.removeprefix(said).strip()
    if found == "fine-tuned" and remark and (columns.type, remark) not in columns.remarks:
        columns.remarks.add((columns.type, remark))
        reading.findings.append(ignored_remark(Parameter("type", "text"), text, said, remark, reading.summary.file))
    if found is None:
        reading.add(
            "invalid-value",
            f"the type is {shown(text.text)}, not {_ALLOWED_TYPES}",
            field="type",
            expected=_ALLOWED_TYPES,
            actual=escape(text.text),
            line=text.line,
            fix=f"write {_ALLOWED_TYPES}",
        )
    return found
