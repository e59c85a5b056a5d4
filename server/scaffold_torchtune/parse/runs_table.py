"""The table of runs: its typed columns and rows, compared with the levels in the section Variables."""

import itertools
import math
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Scalar, counted, escape, few, finding, lines_text, shown
from scaffold_torchtune.models import Run, RunType, Setting, Source, SourceKind
from scaffold_torchtune.parse import compound, free_text, headings, marked_rows, notations, values
from scaffold_torchtune.parse.drafts import RowDraft, SourceText, SummaryDraft, Typed, UnreadLine
from scaffold_torchtune.parse.marked_rows import add_no_run, cancelled_rows, is_asked, is_no_run, mark_of, not_struck
from scaffold_torchtune.parse.notations import NotHonoured, not_supported, remove_unsupported
from scaffold_torchtune.parse.reading import UNTIL_THEN, Reading, given_value, in_column, not_typed
from scaffold_torchtune.settings import parameters
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, by_plural, column_label, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED, other_training
from scaffold_torchtune.system.markdown import Row, Section, Table, table_lines
from scaffold_torchtune.torchtune_facts import LORA, find_model, method_in_words, method_of

_NAME_COLUMNS = frozenset({"run name", "run", "name", "run id", "run number"})
_NOTHING = frozenset({"...", "…", "⋮", ""})
_LEVELS = frozenset({"levels", "level", "values", "value", "settings", "options"})
_BETWEEN = re.compile(r" ?[,;] ?(?:and |or )?| (?:and|or|vs\.?) ")  # in a text with single spaces
_BETWEEN_WORDS = re.compile(r"[_.\s]+")
_WORDS_OF_A_VALUE = 2
_A_ROW_EACH = "write a separate row for each run, and add a column that distinguishes these runs, such as 'Seed'"
# Columns for people.
_NOTES = frozenset(
    {"notes", "note", "description", "role", "purpose", "comment", "comments", "remark", "remarks", "rationale"}
)
_FOR_PEOPLE = _NOTES | {"est time", "estimated time", "status", "gpu hours", "hypothesis", "job id"}
_FINE_TUNED = ("fine tuned", "finetuned", "fine tune", "finetune", "fine tuning", "finetuning")
_TYPES: dict[str, RunType] = {
    **dict.fromkeys(_FINE_TUNED, "fine-tuned"),
    **dict.fromkeys(("control", "base", "baseline"), "control"),
    **dict.fromkeys(("eval only", "evaluation only", "eval"), "eval-only"),
}
_ALLOWED_TYPES = "Fine-tuned, Control or eval-only"
_TO_WRITE = "`Fine-tuned`, `Control` or `eval-only`"
_DASHES = (
    "`-` in the cells of all of its settings, or in a column `Type`, with `Fine-tuned` in the other rows, `Control`"
)
_ANOTHER = frozenset({"effective", "eff", "total", "global", "ratio", "fraction"})


def read_runs_table(root: Section, draft: SummaryDraft) -> None:
    """Add the runs to the draft; report contradicting tables, rows outside tables, and unread tables."""
    draft.stated_runs = headings.stated_runs(root)
    sections = list(headings.topmost(root, headings.is_runs))
    sections = [section for section in sections if headings.is_exactly_runs(section.title)] or sections
    for section in sections:
        headings.note_stray_rows(section, draft)
    found = [pair for section in sections if (pair := _tables(section))[0]]
    for table in [t for section in sections for t in section.tables] if not found else ():
        message = "the table is not read: it has neither a column `Run Name`, nor a column `Model` next to parameters"
        fix = "add a column `Run Name`, and write one row for each run"
        draft.add("unused-row", message, field="runs", line=table.line, fix=fix)
    tables = [table for parts, others in found for table in (*parts, *others)]
    _elsewhere(root, draft, tables)
    parts = found[0][0] if found else []
    if len(tables) > len(parts):
        lines = [tables[0].line, *(table.line for table in tables[len(parts) :])]
        message = f"there are {len(lines)} tables of runs, on {lines_text(lines)}"
        fix = "keep one table of runs, under '## All Runs'"
        draft.add("ambiguous", message, field="runs", line=lines[1], fix=fix)
    for table in parts:
        _rows(table, _column_indexes(table, draft), draft)
    marked_rows.name_rows(draft)
    marked_rows.add_group_notes(root, sections, draft)


def _header(table: Table) -> list[str]:
    return [normalize(cell.plain) for cell in table.header]


def _tables(section: Section) -> tuple[list[Table], list[Table]]:
    """Return the parts of the table of runs of a section, and other such tables in the section.

    It is the section's own table, or the tables of its subsections, into which people divide a table.
    """
    own = [table for table in section.tables if _is_of_runs(table)]
    if own:
        return own[:1], own[1:]
    below = [s for part in section.sections if not headings.is_elsewhere(part.title) for s in part.walk()]
    return [table for s in below for table in s.tables if _is_of_runs(table)], []


def _column_indexes(table: Table, draft: SummaryDraft) -> list[int]:
    """Return the draft's column for each column of a table; add columns that earlier parts do not have."""
    indexes: list[int] = []
    for cell in table.header:
        same = [i for i, c in enumerate(draft.columns) if _meaning(c.text) == _meaning(cell.plain) and i not in indexes]
        if draft.rows and same:
            indexes.append(same[0])
        else:
            indexes.append(len(draft.columns))
            draft.columns.append(SourceText(cell.plain, table.line, headings.RUNS))
    return indexes


def _meaning(label: str) -> str:
    parameter = by_label(values.split_unit(label)[0])
    return parameter.name if parameter else normalize(label)


def _columns(labels: list[str]) -> list[str]:
    """Return the parameters of the columns of a table."""
    return [p.name for label in labels if (p := by_label(label)) is not None and p.column]


def _is_of_runs(table: Table) -> bool:
    """Return whether a table in a section of runs is a table of runs: it has their names, or models and parameters."""
    columns = _columns(_header(table))
    named = not _NAME_COLUMNS.isdisjoint(_header(table))
    return named or ("model" in columns and len(columns) > 1)


def _rows(table: Table, indexes: list[int], draft: SummaryDraft) -> None:
    labels = _header(table)
    for row in table.rows:
        if all(cell.plain in _NOTHING for cell in row.cells):
            if any(cell.plain for cell in row.cells) and "unused-row" not in {p.code for p in draft.findings}:
                message = "a row of dots is not a run; only runs with their own row are planned"
                fix = "write a row for each run that the dots stand for"
                draft.add("unused-row", message, field="runs", line=row.line, fix=fix)
        elif what := is_no_run(row, labels):
            add_no_run(row, what, draft)
        elif len(row.cells) != len(table.header):
            message = f"the row has {counted(len(row.cells), 'cell')}, but the header has {len(table.header)}"
            fix = "add the missing cells (write `-` for none)"
            if len(row.cells) > len(table.header):
                fix = r"write one cell for each column: remove any surplus `|`, and write a literal | as `\|`"
            draft.add("malformed-table", message, field="runs", line=row.line, fix=fix)
        else:
            draft.rows.append(_row(row, table, indexes))


def _row(row: Row, table: Table, indexes: list[int]) -> RowDraft:
    cells: dict[int, SourceText] = {}
    texts = [(column.plain, cell.plain) for column, cell in zip(table.header, row.cells, strict=True)]
    name = next((text for label, text in texts if normalize(label) in _NAME_COLUMNS and not is_asked(label)), "")
    mark = mark_of(texts, name=name, model=next((text for label, text in texts if _meaning(label) == "model"), ""))
    for i, cell, column in zip(indexes, row.cells, table.header, strict=True):
        field = SourceText.of_cell(cell, row.line, column.plain)
        _, field = values.with_unit(column.plain, not_struck(field) if mark else field)
        parameter = by_label(column.plain) or _with_remark(column.plain)
        # `None` in the column System Prompt means that a run has no text, while others may have one.
        is_no_text = parameter is not None and parameter.kind == "text" and values.says_none(cell.plain)
        is_open = field.text.strip().lower() == "tbd" and parameter is not None  # not a dash, but an invalid value
        has_none = parameter is not None and values.has_none(parameter, field.text)
        is_no_text |= parameter is not None and compound.says_untrained(parameter, cell.plain)
        is_said = is_no_text or is_open or has_none or compound.says_none(column.plain, cell.plain)
        if is_said or not values.is_empty(field.text):
            cells[i] = field
    blank = frozenset(i for i, cell in zip(indexes, row.cells, strict=True) if not cell.plain.strip())
    labels = [normalize(column.plain) for column in table.header]
    notes = tuple(cells[i] for i, label in zip(indexes, labels, strict=True) if label in _NOTES and i in cells)
    estimates = (i for i, label in zip(indexes, labels, strict=True) if label.startswith(headings.ESTIMATES))
    return RowDraft(cells, row.line, blank, mark, name, notes, cells.get(next(estimates, -1)))


def _elsewhere(root: Section, draft: SummaryDraft, taken: list[Table]) -> None:
    """Report tables of other sections that look like tables of runs, and are not read."""
    for section, table in _all_tables(root):
        labels = _header(table)
        named = "model" in labels and not _NAME_COLUMNS.isdisjoint(labels)
        if named and set(_columns(labels)) - {"model"} and table not in taken:
            message = f"the table looks like a table of runs, but runs are not read from the section {section.title!r}"
            fix = "no action if its rows are not runs; otherwise move them to the table under '## All Runs'"
            draft.add("unused-row", message, field="runs", line=table.line, fix=fix)


def _all_tables(root: Section) -> Iterator[tuple[Section, Table]]:
    for section in root.sections:
        if not headings.is_elsewhere(section.title):
            yield from ((section, table) for table in section.tables)
            yield from _all_tables(section)


def read_levels(root: Section, draft: SummaryDraft) -> None:
    """Read the levels of each parameter in a section Variables, in a table or as `label: levels`.

    They are compared with those of the runs, and never planned.
    """
    for section in headings.topmost(root, headings.is_factors):
        for part in section.walk():
            for table in part.tables:
                _of_table(table, part.title, draft)
            for bullet in part.all_bullets():
                if pair := bullet.text.labelled():
                    _levels(draft, pair.label, SourceText.of(pair, bullet.text.line, part.title))


def _levels(draft: SummaryDraft, label: str, text: SourceText) -> None:
    bare, levels = values.with_unit(label, text)
    if normalize(label) in NOT_PLANNED:  # a property of every run has no levels
        draft.configuration.append((label, text))
    elif parameter := by_label(bare):
        draft.levels.append((parameter.name, levels))
    elif several := by_plural(label):
        draft.unread_lines.append(UnreadLine(several.name, text, label, plural=True))


def _of_table(table: Table, title: str, draft: SummaryDraft) -> None:
    column = next((i for i, label in enumerate(_header(table)) if label in _LEVELS), 1)
    for row in table.rows if column else ():
        if len(row.cells) > max(column, 1):
            _levels(draft, row.cells[0].plain, SourceText.of_cell(row.cells[column], row.line, title))


_MOST_IN_GRID = 2_000
_IN_FIX = 48


def plan_grid(root: Section, draft: SummaryDraft) -> bool:
    """Plan all combinations of the levels of Variables if the summary has no table of runs, and report the table.

    If the summary may leave out or add runs, the table is required. Return whether the levels were understood.
    """
    if any(section.tables for section in headings.topmost(root, headings.is_runs)):
        return False
    factors = None if any(each.field == "runs" for each in draft.findings) else _factors(root, draft)
    if factors is None:
        return False
    first = min(text.line for label, texts in factors for text in texts if label != _MODEL or len(texts) > 1)
    combinations = [*itertools.product(*(texts for _, texts in factors))] if _size(factors) <= _MOST_IN_GRID else []
    labels = ("Run Name", *(label for label, _ in factors), "Type")
    rows = []
    for texts in combinations:
        name = SourceText("_".join(map(_named, texts)), first, "Run Name")
        rows.append([name, *texts, SourceText("Fine-tuned", first, "Type")])
    doubt = _doubt(draft, _size(factors))
    table = "\n".join(table_lines(labels, [[cell.text for cell in row] for row in rows[:_IN_FIX]]))
    if doubt:
        message = f"the table of runs is missing from {draft.file}. The runs could be all {_size(factors)} combinations"
        message += f" of the levels, but {doubt}. Which runs are intended?"
        at = draft.sections.get(headings.RUNS) or first
        fix = f"add this table under '## {headings.RUNS}', with one row for each run that should be planned:\n{table}"
        draft.add("missing-field", message, field="fine-tuned runs", line=at, fix=fix)
        return True
    draft.columns += [SourceText(label, first, headings.RUNS) for label in labels]
    draft.rows += [RowDraft(dict(enumerate(row)), first, name=row[0].text) for row in rows]
    all_of = {1: "the only combination", 2: "both combinations"}.get(len(rows), f"all {len(rows)} combinations")
    message = f"there is no table of runs, so {all_of} of the levels will be planned"
    fix = f"no action if intended; otherwise add a table of runs under '## {headings.RUNS}'"
    if len(rows) <= _IN_FIX:
        fix = f"no action if intended; otherwise add this table under '## {headings.RUNS}', and edit it:\n{table}"
    draft.add("full-grid", message, field="runs", line=first, fix=fix)
    return True


_MODEL: Final = "Model"
_Factor = tuple[str, list[SourceText]]


def _factors(root: Section, draft: SummaryDraft) -> list[_Factor] | None:
    """Return the label and levels of each factor, with the model; None if a part of Variables is not understood."""
    parts = [part for section in headings.topmost(root, headings.is_factors) for part in section.walk()]
    titles = {part.title for part in parts}
    rows = [row.cells[0].plain for part in parts for table in part.tables for row in table.rows if row.cells]
    rows += [pair.label if (pair := b.text.labelled()) else "" for part in parts for b in part.all_bullets()]
    plural = [(line.name, line.text) for line in draft.unread_lines if line.plural and line.text.note in titles]
    found: dict[str, list[SourceText]] = {}
    for name, field in (*draft.levels, *plural):
        texts = _level_texts(PARAMETERS[name], field)
        if not texts or name in found or (len(texts) == 1 and (name, field) in plural):
            return None
        found[name] = texts
    if (
        not found
        or len(rows) != len(found)
        or any(by_label(label) is None and by_plural(label) is None for label in rows)
    ):
        return None
    if "model" not in found:
        known = {name: text.line for name, text in draft.models if find_model(name) is not None}
        if len(known) != 1:
            return None
        found["model"] = [SourceText(name, line, _MODEL) for name, line in known.items()]
    order = sorted(found, key=lambda name: name != "model")
    return [(column_label(PARAMETERS[name]), found[name]) for name in order]


def _level_texts(parameter: Parameter, field: SourceText) -> list[SourceText]:
    """Return the levels of a factor; none if they are not a plain list of numbers or of known models."""
    whole = " ".join((field.full or field.text).strip("[]{}() ").split())
    texts = [text.strip("`'\"") for text in _BETWEEN.split(whole) if text]
    if parameter.name == "model":
        is_understood = all(find_model(text) is not None for text in texts)
    else:
        is_understood = parameter.column and len(_numbers(parameter, field)) == len(texts)
    return [SourceText(text, field.line, column_label(parameter)) for text in texts] if is_understood else []


def _named(text: SourceText) -> str:
    """Return the part of a Run Name that a level gives: `rank8`."""
    parameter = by_label(text.note)
    assert parameter is not None  # noqa: S101 - it is a label of a parameter
    return text.text if parameter.name == "model" else f"{parameter.abbreviation or parameter.name}{text.text}"


def _size(factors: Sequence[_Factor]) -> int:
    return math.prod(len(texts) for _, texts in factors)


def _doubt(draft: SummaryDraft, count: int) -> str:
    """Return why the runs may be others than all combinations; empty if they are not."""
    if word := headings.NOT_ALL_RUNS.search(draft.text):
        line = draft.text.count("\n", 0, word.start()) + 1
        return f"line {line} mentions {shown(word[0])}"
    if draft.stated_runs is not None and draft.stated_runs[0] != count:
        return f"line {draft.stated_runs[1]} states {counted(draft.stated_runs[0], 'run')}"
    return f"at most {_MOST_IN_GRID} runs are planned without a table" if count > _MOST_IN_GRID else ""


def differing_levels(draft: SummaryDraft, runs: Sequence[Run], config: Mapping[str, Setting]) -> list[Finding]:
    """Return findings for numbers with other values in the fine-tuned runs than in the summary's levels."""
    tuned = [run for run in runs if run.type == "fine-tuned"]
    found: list[Finding] = []
    for name, field in draft.levels if tuned else ():
        if name == "recipe":
            found += _differing_methods(field, tuned, config, draft.file)
            continue
        levels = _numbers(PARAMETERS[name], field)
        settings = [setting for run in tuned if (setting := given_value(name, run, config))]
        planned = sorted({float(setting.text) for setting in settings}) if levels else []
        if set(levels) != set(planned):
            listed, used, at = values.numbers_text(levels), values.numbers_text(planned), f"{draft.file}:{field.line}"
            those, all_of = values.numbers_text(planned, last="and"), "all" if len(planned) == 1 else "the"
            has = f"{all_of} runs use {those}" if planned else f"no run sets {name}"
            message = f"{shown(field.note)} lists {values.numbers_text(levels, last='and')} for {name}, but {has}"
            is_literal = listed in (field.full or field.text)
            as_runs = f"replace `{listed}` with `{used}` in {at}" if is_literal else f"list `{used}` in {at}"
            fix = f"{as_runs}, or correct the runs{UNTIL_THEN}" if planned else "correct this line or the runs"
            found.append(finding("levels-differ", message, field=name, file=draft.file, line=field.line, fix=fix))
    return found


def _differing_methods(
    field: SourceText, tuned: Sequence[Run], config: Mapping[str, Setting], file: str
) -> Iterator[Finding]:
    """Yield a finding if the runs have other methods than the summary compares."""
    texts = [text.strip() for text in _BETWEEN.split((field.full or field.text).strip("[]{}() ")) if text.strip()]
    methods = [method_in_words(text) or method_of(text) for text in texts]
    if other := other_training(field.full or field.text):
        message = f"{shown(field.note)} compares methods, but {shown(other)} is not supported"
        fix, line = remove_unsupported(shown(other)), field.line
        yield finding("unsupported-setting", message, field="recipe", file=file, line=line, fix=fix)
    elif None not in methods:
        given = [run.parameters.get("recipe") or config.get("recipe") for run in tuned]
        planned = {method_of(setting.text) if setting else LORA for setting in given}
        if planned != set(methods):
            message = f"{shown(field.note)} lists the methods {few(texts, len(texts))}, but the runs use different ones"
            fix = f"correct the text or the runs, whichever is wrong{UNTIL_THEN}"
            yield finding("levels-differ", message, field="recipe", file=file, line=field.line, fix=fix)


def _numbers(parameter: Parameter, field: SourceText) -> list[float]:
    """Return the levels of a number; empty if the text is not a list of numbers (`8 to 64`, `low and high`)."""
    if parameter.kind not in {"int", "float"}:
        return []
    whole = " ".join((field.full or field.text).strip("[]{}() ").split())
    texts = [text for text in _BETWEEN.split(whole) if text]
    found = [values.value_of(parameter, SourceText(text, field.line, field.note)) for text in texts]
    return [] if None in found else list(dict.fromkeys(float(str(value)) for value in found))


class _Columns:
    """The meaning of each column of the table."""

    def __init__(self, columns: list[SourceText], reading: Reading) -> None:
        self.name: int | None = None
        self.type: int | None = None
        self.parameters: dict[int, Parameter] = {}
        self.labels = [column.text for column in columns]
        self.not_planned: dict[int, SourceText] = {}
        self.unknown: dict[int, SourceText] = {}
        self.cells = [row.cells for row in reading.summary.rows]
        self.remarks: set[tuple[int, str]] = set()
        seen: dict[str, str] = {}
        for i, column in enumerate(columns):
            meaning = self._meaning(i, column, reading)
            if meaning in seen:
                the = meaning if meaning in PARAMETERS else f"the {meaning}"
                message = f"the columns {shown(seen[meaning])} and {shown(column.text)} both set {the}"
                fix = "keep one of the two columns, with the intended value in every row"
                reading.add("duplicate-column", message, field=meaning, line=column.line, fix=fix)
            elif meaning is not None:
                seen[meaning] = column.text

    def name_of(self, row: RowDraft) -> str | None:
        """Return the name that a row gives its run, if any."""
        cell = row.cells.get(self.name) if self.name is not None else None
        return cell.text if cell else None

    def remark(self, i: int, name: str, text: SourceText, value: Scalar, remark: str, reading: Reading) -> None:
        """Report a remark after a value, once for each column and remark."""
        if remark and (i, remark) not in self.remarks:
            self.remarks.add((i, remark))
            reading.ignored_remark(name, text, value, remark)

    def _meaning(self, i: int, column: SourceText, reading: Reading) -> str | None:
        label = normalize(column.text)
        if is_asked(column.text):
            return None
        if label in _NAME_COLUMNS:
            self.name = i if self.name is None else self.name
            return "run name"
        if label in {"type", "run type"}:
            self.type = i if self.type is None else self.type
            return "type"
        parameter = compound.parameter_of(values.split_unit(column.text)[0]) or _with_remark(column.text)
        if label in NOT_PLANNED:
            self.not_planned[i] = column
        elif parameter is not None and parameter.column:
            self.parameters.setdefault(i, parameter)
            return parameter.name
        elif label not in _FOR_PEOPLE and not label.startswith(headings.ESTIMATES):
            texts = [cells[i].full or cells[i].text for cells in self.cells if i in cells]
            if not label and (column.text.strip("-–— ") or not any(map(str.isalpha, "".join(texts)))):
                return None  # numbers of rows, ticks
            if any(notations.speaks_of_method(text) for text in texts):
                self.parameters.setdefault(i, PARAMETERS["recipe"])
                self.labels[i] = "method"
                return "recipe"
            self.unknown[i] = column
            if by_plural(column.text) is None or not set(texts) <= {"1"}:  # one seed in each run
                _unknown_column(column if label else replace(column, text="(no heading)"), reading)
        return None

    def parts(self, i: int, text: SourceText) -> dict[str, SourceText]:
        """Return the texts of a cell by parameter.

        Raises:
            NotHonoured: the cell asks for something unsupported.
        """
        if compound.says_untrained(self.parameters[i], text.full or text.text):
            to_skip = _DASHES if self.type is None else "`Control` as its type"
            fix = f"write {to_skip} if this row is not to be trained; otherwise write `LoRA` or `full fine-tuning` here"
            raise NotHonoured("which means no training", fix, expected=notations.EXPECTED_METHOD)
        label = self.labels[i] if compound.parameter_of(self.labels[i]) else self.parameters[i].name
        return compound.parts(label, text) if compound.reads(label) else {self.parameters[i].name: text}


def _with_remark(label: str) -> Parameter | None:
    """Return the parameter of `LoRA Rank (r)` or `Batch Size (per device)`; not of `(effective)` or `(total)`."""
    remark = normalize(label.removeprefix(values.without_remark(label)))
    return None if set(remark.split()) & _ANOTHER else by_label(values.without_remark(label))


def _unknown_column(column: SourceText, reading: Reading) -> None:
    words, several = set(normalize(column.text).split()), values.names_several(column.text)
    near = None if several or words & _ANOTHER else values.nearest_label(column.text)
    near = near or ("type" if normalize(column.text) in _TYPES else None)
    code, message = "misspelt-field", f"the column {shown(column.text)} is not a parameter"
    if (known := by_label(column.text)) is not None:
        message = f"{known.name} cannot be set for individual runs, so a column for it is not read"
        where = " or ".join([*["Configuration"] * known.common, *["claude.local.md"] * (known.local is not None)])
        fix = "remove the column" + (f", and set {known.name} once, in {where}" if where else "")
    elif by_plural(column.text) is not None:
        message, fix = f"the column {shown(column.text)} describes several runs in one row", _A_ROW_EACH
    elif near:
        message, fix = f"{message}; did you mean {near!r}?", f"write `{near}`"
    elif several or words & (parameters.WORDS_OF_TRAINING | {"adapter", "adapters"}) or other_training(column.text):
        message = f"the column {shown(column.text)} seems to be a setting of the runs, but is not a supported parameter"
        fix = "use a column with a label from workflows/labels.md for each parameter, or remove the column"
    else:
        code = "unused-column"
        fix = "no action, unless the column should change the runs; in that case, use a label from workflows/labels.md"
    reading.add(code, message, field=escape(column.text), line=column.line, fix=fix)


def read_rows(reading: Reading) -> tuple[tuple[str, ...], tuple[Run, ...]]:
    """Return the names of the parameter columns in the table's order, and every row, typed; report problems."""
    draft = reading.summary
    if not draft.columns:
        return (), ()
    columns = _Columns(draft.columns, reading)
    by_name = {p.name: i for i, p in columns.parameters.items()}
    if "model" not in by_name:
        fix = "add a column `Model` with the base model of each run"
        line = draft.columns[0].line
        reading.add("missing-field", "the table of runs has no column `Model`", field="model", line=line, fix=fix)
    marked = [row for row in draft.rows if row.mark and _written_type(row, columns) in {None, "fine-tuned"}]
    cancelled = cancelled_rows(reading, marked)
    runs = [run for row in draft.rows if (run := _run(row, columns, reading, cancelled)) is not None]
    names = dict.fromkeys([*by_name, *(name for run in runs for name in run.parameters)])
    tuned = sum(run.type == "fine-tuned" for run in runs)
    _names_of_other_runs(runs, reading)
    if len(runs) == len(draft.rows):
        marked_rows.report_stated_runs(reading, len(runs), tuned, len(cancelled))
    return tuple(names), tuple(runs)


def _names_of_other_runs(runs: Sequence[Run], reading: Reading) -> None:
    """Report names of runs and models, and a title, that mention an unsupported training."""
    named = [(run.name, run.line, "the run") for run in runs if run.type == "fine-tuned"]
    named += [
        (posixpath.basename(text.text).replace("-", " "), text.line, "the model") for _, text in reading.summary.models
    ]
    title = reading.summary.name
    for text, line, what in [*([(title.text, title.line, "the experiment")] if title else []), *named]:
        if other := other_training(_BETWEEN_WORDS.sub(" ", text)):
            message = f"the name of {what}, {shown(text)}, mentions {shown(other)}, which is not supported"
            fix = f"if no run uses {shown(other)}, change the name; otherwise scaffold such runs without this tool"
            field = {"the run": "run name", "the model": "model"}.get(what, "experiment name")
            reading.add("name-mismatch", message, field=field, line=line, fix=fix, severity=Severity.WARNING)


def _run(row: RowDraft, columns: _Columns, reading: Reading, cancelled: set[int]) -> Run | None:
    name = columns.name_of(row)
    run_type: RunType | None = "cancelled" if row.line in cancelled else _type(row, columns, reading)
    file = reading.summary.file
    if run_type is None:
        return None
    settings: dict[str, Setting] = {}
    is_tuned = run_type == "fine-tuned"
    for i, parameter, text in _texts(row, columns, reading, is_tuned=is_tuned):
        try:
            value, remark = Typed(None) if values.has_none(parameter, text.text) else values.typed(parameter, text)
        except NotTyped as problem:
            if is_tuned:
                of_run = "" if name is None else f"run {shown(name)}, "
                where = f"{of_run}{'key' if reading.form == 'yaml' else 'column'} {shown(text.note)}"
                elsewhere = "; to train with several, add a row for each value"
                reading.findings.append(not_typed(parameter, text, problem, where, file, elsewhere))
            continue
        if is_tuned:
            columns.remark(i, parameter.name, text, value, remark, reading)
        source = Source(kind=SourceKind.ROW, file=file, line=text.line, note=text.note)
        setting = Setting(value=value, source=source)
        is_twice = any(f.code == "duplicate-column" and f.field == parameter.name for f in reading.findings)
        if (first := settings.setdefault(parameter.name, setting)).value != value and is_tuned and not is_twice:
            message = f"{parameter.name} is {in_column(first)}, but {in_column(setting)}"
            fix = "keep one of the two columns, or correct the value in one of them"
            reading.add("ambiguous", message, field=parameter.name, actual=value, line=text.line, fix=fix)
    models = [i for i, p in columns.parameters.items() if p.name == "model"]
    if models and run_type == "fine-tuned" and row.cells.keys().isdisjoint(models):
        blank = reading.unless_yaml("; a blank cell does not repeat the cell above it")
        message = f"the run {shown(name or '')} has no model{blank}"
        fix = reading.in_cell("Model", "the base model")
        reading.add("missing-field", message, field="model", line=row.line, fix=fix)
    model = settings["model"].text if "model" in settings else ""
    return Run(name=escape(name or ""), type=run_type, model=model, parameters=settings, line=row.line)


def _written_type(row: RowDraft, columns: _Columns) -> RunType | None:
    """Return the type that a row gives, if it is valid; without a column of types, the type of a row of dashes."""
    if columns.type is None:
        return "control" if _settings_in(row, columns) == [] else None
    text = row.cells.get(columns.type)
    return _type_named(values.without_remark(text.text)) if text else None


def _type_named(text: str) -> RunType | None:
    """Return the type that a text names, perhaps with several names of rows that are not trained."""
    named = [_TYPES.get(normalize(part)) for part in _BETWEEN.split(text)]
    return named[-1] if len(set(named)) == 1 or not {None, "fine-tuned"} & set(named) else None


def _settings_in(row: RowDraft, columns: _Columns) -> list[str] | None:
    """Return the settings that the cells of a row give, apart from its model; None if no column could give one."""
    others = [(p, row.cells.get(i)) for i, p in columns.parameters.items() if p.name != "model"]
    texts = [(p, text.full or text.text) for p, text in others if text and not values.has_none(p, text.text)]
    return [p.name for p, text in texts if not compound.says_untrained(p, text)] if others else None


def _texts(
    row: RowDraft, columns: _Columns, reading: Reading, *, is_tuned: bool
) -> Iterator[tuple[int, Parameter, SourceText]]:
    """Yield a row's texts, with the numbers of their columns; report unsupported requests of fine-tuned runs."""
    for i, column in columns.not_planned.items() if is_tuned else ():
        cell = row.cells.get(i)
        if cell is not None:
            reading.not_planned(column.text, cell)
            for label, part in compound.beside(column.text, cell).items():
                yield (i, PARAMETERS[label], part)
    for i, column in columns.unknown.items() if is_tuned else ():
        cell = row.cells.get(i)
        if cell is not None and (asked := _asked(column, cell)):
            what = not_supported(asked, cell.full or cell.text)
            reading.not_honoured(column.text, cell, NotHonoured(what, remove_unsupported()))
    kind = row.cells.get(columns.type) if columns.type is not None else None
    stated = "" if kind is None else notations.method_of_type(kind.text)
    if columns.type is not None and kind is not None and stated:
        found = compound.parts("method", replace(kind, text=stated, full=None, source=None))
        yield from ((columns.type, PARAMETERS[name], part) for name, part in found.items())
    for i, parameter in columns.parameters.items():
        text = row.cells.get(i)
        if text is None or (values.is_left_out(parameter, text.text) and not values.has_none(parameter, text.text)):
            continue
        try:
            found = columns.parts(i, text)
        except NotHonoured as problem:
            if is_tuned:
                reading.not_honoured(parameter.name, text, problem)
            continue
        yield from ((i, PARAMETERS[name], part) for name, part in found.items())


def _asked(column: SourceText, cell: SourceText) -> str | None:
    """Return the unsupported request of a cell in an unknown column; several words are a note."""
    text = cell.full or cell.text
    is_note = len(text.split()) > _WORDS_OF_A_VALUE and compound.asked_of(column.text, "") is None
    return free_text.in_note(text).other if is_note else compound.asked_of(column.text, text)


def _type(row: RowDraft, columns: _Columns, reading: Reading) -> RunType | None:
    """Return the row's type from its Type column, else from its other cells."""
    if columns.type is None:
        return _type_by_cells(row, columns, reading)
    text = row.cells.get(columns.type)
    if text is None:
        _no_type(row, columns, reading, "no type", reading.in_cell("Type", _TO_WRITE))
        return None
    written = values.without_remark(text.text)
    method, is_marked = notations.method_of_type(text.text), row.mark and "type" in row.mark.lower()
    found = _type_named(written) or ("fine-tuned" if method or is_marked else None)
    if found == "fine-tuned" and not method:
        columns.remark(columns.type, "type", text, written, text.text.removeprefix(written).strip(), reading)
    elif found is None:
        message = f"the type {shown(text.text)} is none of 'Fine-tuned', 'Control' and 'eval-only'"
        actual, expected, fix = escape(text.text), _ALLOWED_TYPES, f"write {_TO_WRITE}"
        reading.add("invalid-value", message, field="type", expected=expected, actual=actual, line=text.line, fix=fix)
    return found


def _type_by_cells(row: RowDraft, columns: _Columns, reading: Reading) -> RunType | None:
    """Return the type of a row without a Type column, by its cells; report an unclear one."""
    written = _settings_in(row, columns)
    if written == []:
        return "control"
    decisive = {"lora_rank", "lr"} & {p.name for p in columns.parameters.values()}
    if not decisive or not written or (decisive | {"recipe"}) & set(written):
        return "fine-tuned"
    has = f"{', '.join(written)}, but no {' or '.join(sorted(decisive))}, so its type is unclear"
    _no_type(row, columns, reading, has, f"add a column `Type` with {_TO_WRITE} in each row")
    return None


def _no_type(row: RowDraft, columns: _Columns, reading: Reading, has: str, fix: str) -> None:
    message = f"the run {shown(columns.name_of(row) or '')} has {has}"
    reading.add("missing-field", message, field="type", expected=_ALLOWED_TYPES, line=row.line, fix=fix)
