"""Reads experiment_summary.md into a `SummaryDraft`."""

import re
from collections.abc import Iterator

from scaffold_torchtune.parse import clean
from scaffold_torchtune.parse.draft import TOO_DEEP, Field, RowDraft, SummaryDraft
from scaffold_torchtune.shared import markdown, numbers
from scaffold_torchtune.shared.markdown import Section, Table
from scaffold_torchtune.shared.parameters import normalize

RUN_SECTIONS = ("all runs", "fine tuning runs", "finetuning runs", "runs")
NAME_COLUMNS = ("run name", "run", "name")
_TITLE_PREFIXES = ("experiment", "run plan", "experiment summary")
_NOT_TRAINING = ("evaluation", "inference")
# A line below a table's header, which Markdown does not take for one where non-breaking spaces stand in it.
_DELIMITERS = re.compile(r"^[|: \t\u00a0-]+$", re.MULTILINE)


def read(text: str, file: str) -> SummaryDraft:
    """Read a Markdown summary. Problems of its form are noted in the draft."""
    draft = SummaryDraft(file)
    try:
        root = markdown.read(_DELIMITERS.sub(lambda line: line[0].replace("\u00a0", " "), text))
    except RecursionError:
        draft.problem("invalid-value", TOO_DEEP, None, "take away lists, quotes or emphasis")
        draft.readable = False
        return draft
    _name(root, draft)
    _runs(root, draft)
    _resources(root, draft)
    _configuration(root, draft)
    _paths(root, draft)
    return draft


def _named(root: Section, *titles: str) -> Iterator[Section]:
    return (s for s in root.walk() if normalize(s.title) in titles)


def _name(root: Section, draft: SummaryDraft) -> None:
    titles = [s for s in root.walk() if s.level == 1 and s.title]
    if not titles:
        return
    prefix, colon, rest = titles[0].title.partition(":")
    name = rest.strip() if colon and normalize(prefix) in _TITLE_PREFIXES else titles[0].title
    draft.name = Field(name, titles[0].line, "title")


def _runs(root: Section, draft: SummaryDraft) -> None:
    tables = [t for s in _named(root, *RUN_SECTIONS) for t in s.tables if _is_runs_table(t)]
    if len(tables) > 1:
        lines = " and ".join(str(t.line) for t in tables)
        draft.problem(
            "ambiguous",
            f"there are {len(tables)} tables of runs, at lines {lines}",
            tables[1].line,
            "keep one table of runs, under '## All Runs'",
            "runs",
        )
    if not tables:
        return
    table = tables[0]
    note = "All Runs"
    draft.columns = [Field(h.plain, table.line, note) for h in table.header]
    for row in table.rows:
        if all(cell.plain in {"...", "…", ""} for cell in row.cells):
            continue
        if len(row.cells) != len(table.header):
            draft.problem(
                "malformed-table",
                f"the row has {len(row.cells)} cells, the header {len(table.header)}",
                row.line,
                "give the row one cell for each column; write a literal | as \\|",
                "runs",
            )
        else:
            draft.rows.append(_row(row, draft.columns))


def _row(row: markdown.Row, columns: list[Field]) -> RowDraft:
    cells: dict[int, Field] = {}
    for i, (cell, column) in enumerate(zip(row.cells, columns, strict=False)):
        code = cell.code if cell.code is not None and cell.plain.startswith(cell.code) else None
        if not clean.is_empty(cell.plain if code is None else code):
            cells[i] = Field(cell.plain if code is None else code, row.line, column.text, cell.plain)
    return RowDraft(cells, row.line)


def _is_runs_table(table: Table) -> bool:
    return any(normalize(h.plain) in NAME_COLUMNS for h in table.header)


def _resources(root: Section, draft: SummaryDraft) -> None:
    for resources in _named(root, "resources"):
        for section in resources.sections:
            title = normalize(section.title)
            if title in {"models", "model", "base models"}:
                _models(section, draft)
            elif title in {"dataset", "data set", "datasets", "data"}:
                _dataset(section, draft)


def _models(section: Section, draft: SummaryDraft) -> None:
    """Each model's path; or the `Location` of all, where `Models Used` lists their names."""
    for bullet in section.all_bullets():
        pair = bullet.text.labelled()
        if pair is None or clean.is_unset(pair.value):
            continue
        if normalize(pair.label) in {"location", "models directory", "directory"}:
            draft.models_dirs.append(Field(pair.value, bullet.text.line, f"Resources > Models > {pair.label}"))
        else:
            draft.models.append((pair.label, Field(pair.value, bullet.text.line, "Resources > Models")))


def _dataset(section: Section, draft: SummaryDraft) -> None:
    for bullet in section.bullets:
        pair = bullet.text.labelled()
        if pair is None or clean.is_unset(pair.value):
            continue
        label = normalize(pair.label)
        field = Field(pair.value, bullet.text.line, f"Resources > Dataset > {pair.label}")
        if label in {"path", "location", "dataset", "file"}:
            draft.datasets.append(field)
        elif label in {"splits", "split"}:
            draft.splits = _splits(pair.value)


def _splits(text: str) -> dict[str, int]:
    """`train (240 samples), validation (30 samples)` as numbers by split; what is written otherwise is left out."""
    splits: dict[str, int] = {}
    for part in text.split(","):
        words = part.replace("(", " ").replace(")", " ").replace(":", " ").split()
        counts = [count for word in words if (count := numbers.read_int(word)) is not None]
        if words and len(counts) == 1:
            splits[words[0].lower()] = counts[0]
    return splits


def _configuration(root: Section, draft: SummaryDraft) -> None:
    for configuration in _named(root, "configuration"):
        _training(configuration, "Configuration", draft)


def _training(section: Section, note: str, draft: SummaryDraft) -> None:
    """Settings of training in a section and below it; what stands below Evaluation or Output is none."""
    for text in [*(b.text for b in section.all_bullets()), *section.paragraphs]:
        if (pair := text.labelled()) and pair.value:
            draft.configuration.append((pair.label, Field(pair.value, text.line, note, pair.full)))
    for table in section.tables:
        fix = "write each setting as a line '- **Name:** value'"
        draft.problem("unused-field", f"{note}: a table is not read for settings", table.line, fix, "configuration")
    for below in section.sections:
        title = normalize(below.title)
        if title in {"output", "outputs"}:
            _output(below, draft)
        elif title not in _NOT_TRAINING:
            _training(below, f"{note} > {below.title}", draft)


def _output(section: Section, draft: SummaryDraft) -> None:
    for bullet in section.bullets:
        pair = bullet.text.labelled()
        if pair and normalize(pair.label) == "checkpoint directory" and not clean.is_unset(pair.value):
            note = "Configuration > Output > Checkpoint directory"
            draft.output_dirs.append(Field(pair.value, bullet.text.line, note))


def _paths(root: Section, draft: SummaryDraft) -> None:
    places = {
        "experiment": draft.directories,
        "experiment directory": draft.directories,
        "models": draft.models_dirs,
        "dataset": draft.datasets,
        "data set": draft.datasets,
    }
    for section in _named(root, "quick reference", "paths"):
        for text in [*(b.text for b in section.bullets), *section.paragraphs]:
            pair = text.labelled()
            if pair and normalize(pair.label) in places and not clean.is_unset(pair.value):
                field = Field(clean.without_remark(pair.value), text.line, f"{section.title} > {pair.label}")
                places[normalize(pair.label)].append(field)
