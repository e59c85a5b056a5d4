"""Reads experiment_summary.md into a `SummaryDraft`."""

from collections.abc import Iterator
from dataclasses import replace

from scaffold_torchtune.parse import clean, free_text
from scaffold_torchtune.parse.draft import Field, RowDraft, SummaryDraft
from scaffold_torchtune.shared import markdown, numbers
from scaffold_torchtune.shared.markdown import Section, Table
from scaffold_torchtune.shared.parameters import by_label, normalize

RUN_SECTIONS = ("all runs", "fine tuning runs", "finetuning runs", "runs")
_MODEL_SECTIONS = ("models", "model", "base models")
_DATA_SECTIONS = ("dataset", "data set", "datasets", "data")
NAME_COLUMNS = ("run name", "run", "name")
_TITLE_PREFIXES = ("experiment", "run plan", "experiment summary")
# What messages call a section that has several names.
_TITLES = {
    **dict.fromkeys(RUN_SECTIONS, "All Runs"),
    **dict.fromkeys(_MODEL_SECTIONS, "Models"),
    **dict.fromkeys(_DATA_SECTIONS, "Dataset"),
}
_NOT_TRAINING = ("evaluation", "inference")


def read(text: str, file: str) -> SummaryDraft:
    """Read a Markdown summary. Problems of its form are noted in the draft."""
    draft = SummaryDraft(file)
    try:
        root = markdown.read(text)
    except markdown.TooDeepError as error:
        draft.problem("invalid-value", error.message, error.line, "take away lists, quotes or emphasis")
        draft.readable = False
        return draft
    draft.sections = _sections(root)
    _name(root, draft)
    _runs(root, draft)
    _resources(root, draft)
    _configuration(root, draft)
    _paths(root, draft)
    return draft


def _sections(root: Section, above: str = "") -> dict[str, int]:
    """The line of each section by its name in messages; of several with one name the first."""
    lines: dict[str, int] = {}
    for section in root.sections:
        title = _TITLES.get(normalize(section.title), section.title)
        path = f"{above} > {title}" if above else title
        for name, line in [(path, section.line), *_sections(section, path if section.level > 1 else "").items()]:
            lines.setdefault(name, line)
    return lines


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
        if not clean.is_empty(cell.plain if code is None else code) or _says_no_text(cell.plain, column.text):
            text = cell.plain if code is None else code
            cells[i] = Field(text, row.line, column.text, cell.plain, source=cell.source)
    return RowDraft(cells, row.line)


def _says_no_text(cell: str, column: str) -> bool:
    """Whether a cell says that a run has no text where others may have one: `None` in the column System Prompt."""
    parameter = by_label(column)
    return parameter is not None and parameter.kind == "text" and free_text.says_none(cell)


def _is_runs_table(table: Table) -> bool:
    return any(normalize(h.plain) in NAME_COLUMNS for h in table.header)


def _resources(root: Section, draft: SummaryDraft) -> None:
    for resources in _named(root, "resources"):
        for section in resources.sections:
            title = normalize(section.title)
            if title in _MODEL_SECTIONS:
                _models(section, draft)
            elif title in _DATA_SECTIONS:
                _dataset(section, draft)


def _models(section: Section, draft: SummaryDraft) -> None:
    """Each model's path; or the `Location` of all, where `Models Used` lists their names."""
    for bullet in section.all_bullets():
        pair = bullet.text.labelled()
        if pair is None or clean.is_unset(pair.value):
            continue
        if normalize(pair.label) in {"location", "models directory", "directory"}:
            draft.models_dirs.append(Field.of(pair, bullet.text.line, f"Resources > Models > {pair.label}"))
        else:
            draft.models.append((pair.label, Field.of(pair, bullet.text.line, "Resources > Models")))


def _dataset(section: Section, draft: SummaryDraft) -> None:
    for bullet in section.bullets:
        pair = bullet.text.labelled()
        if pair is None or clean.is_unset(pair.value):
            continue
        label = normalize(pair.label)
        field = Field.of(pair, bullet.text.line, f"Resources > Dataset > {pair.label}")
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
            draft.configuration.append((pair.label, Field.of(pair, text.line, note)))
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
            draft.output_dirs.append(Field.of(pair, bullet.text.line, note))


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
                note = f"{section.title} > {pair.label}"
                field = replace(Field.of(pair, text.line, note), text=clean.without_remark(pair.value))
                places[normalize(pair.label)].append(field)
