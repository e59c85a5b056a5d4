"""Reader of experiment_summary.md: resources and settings, into a `SummaryDraft`."""

import re
from collections.abc import Iterator
from dataclasses import replace

from scaffold_torchtune.parse import headings, runs_table, values
from scaffold_torchtune.parse.drafts import Field, SummaryDraft
from scaffold_torchtune.parse.values import is_empty
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import by_label, normalize
from scaffold_torchtune.system import markdown
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.system.markdown import Bullet, Labelled, Section, Table, Text
from scaffold_torchtune.system.text import shown
from scaffold_torchtune.torchtune_facts.model_registry import find_model

# Reads what a Markdown summary says of models, data set and paths into the draft.

_OF_ALL = frozenset({"location", "models directory", "directory"})
_NAMES_ALONE = frozenset({"models used", "used", "model list"})
_PATH = frozenset({"path", "location", "checkpoint", "directory"})
_DATA_PATH = frozenset(
    {"path", "location", "dataset", "file", "training", "train", "training path", "train path", "training data"}
)
# What else of a data set is a setting of the runs.
_DATA_SETTINGS = frozenset(
    {"dataset type", "data set type", "type", "packed", "training samples", "input key", "output key", "input column"}
    | {"output column", "max seq len", "max sequence length"}
)
_FORMATS = frozenset({"json", "parquet"})
_DATA_FILES = frozenset({".json", ".parquet"})


def read_resources(root: Section, draft: SummaryDraft) -> None:
    """Take models, data set and paths into the draft."""
    for section in headings.topmost(root, headings.is_models):
        _models(section, draft)
    for section in headings.topmost(root, headings.is_data):
        _dataset(section, draft)
    for section in root.walk():
        if normalize(section.title) in {"quick reference", "paths"}:
            _paths(section, draft)


def _pairs(bullets: list[Bullet]) -> Iterator[tuple[Bullet, Labelled]]:
    for bullet in bullets:
        if pair := bullet.text.labelled():
            yield bullet, pair


def _models(section: Section, draft: SummaryDraft) -> None:
    """Each model's path, beside its name or below it; or the `Location` of all, where `Models Used` lists them."""
    note = "Resources > Models"
    _named_models(section.bullets, draft, note)
    for bullet, pair in _pairs(list(section.all_bullets())):
        if values.is_unset(pair.value) or pair.value == "":
            continue
        if normalize(pair.label) in _OF_ALL:
            draft.models_dirs.append(Field.of(pair, bullet.text.line, f"{note} > {pair.label}"))
        elif normalize(pair.label) not in _PATH | _NAMES_ALONE:
            draft.models.append((values.without_remark(pair.label), Field.of(pair, bullet.text.line, note)))
    for part in section.sections:  # `#### NAME` with its path below
        for bullet, pair in _pairs(part.bullets):
            if normalize(pair.label) in _PATH:
                draft.models.append((part.title, Field.of(pair, bullet.text.line, note)))


def _named_models(bullets: list[Bullet], draft: SummaryDraft, note: str) -> None:
    """`- NAME` with `Path: ...` below it, and `- Name: NAME` followed by `- Path: ...`."""
    name = ""
    for bullet in bullets:
        pair = bullet.text.labelled()
        if pair is not None and normalize(pair.label) in {"name", "model"}:
            name = pair.value
        elif pair is not None and name and normalize(pair.label) in _PATH:
            draft.models.append((name, Field.of(pair, bullet.text.line, note)))
        below = [(b, p) for b, p in _pairs(list(bullet.children)) if normalize(p.label) in _PATH]
        own = values.without_remark(pair.label if pair else bullet.text.plain)
        if below and (pair is None or not pair.value):
            draft.models.append((own, Field.of(below[0][1], below[0][0].text.line, note)))


def _dataset(section: Section, draft: SummaryDraft) -> None:
    note = "Resources > Dataset"
    bullets = [*section.bullets, *(child for b in section.bullets if not _value(b.text) for child in b.children)]
    for text in section.paragraphs:
        _bare_path(text, draft, note)
    for bullet in bullets:
        pair = bullet.text.labelled()
        if pair is None:
            _bare_path(bullet.text, draft, note)
            continue
        if values.is_unset(pair.value):
            continue
        label, field = normalize(pair.label), Field.of(pair, bullet.text.line, f"{note} > {pair.label}")
        if label in _DATA_PATH and (label != "dataset" or _is_path(pair.value)):
            draft.datasets.append(field)
        elif label in {"splits", "split"}:
            draft.splits = _splits(pair.value)
        elif label in _DATA_SETTINGS and (label != "type" or "_" in pair.value):
            draft.configuration.append(("dataset type" if label == "type" else pair.label, field))
        elif label == "format":
            _format(field, draft)
        elif label.startswith(("validation", "test")) and _is_path(pair.value):
            message = f"{note} > {pair.label}: a file of its own is not read; parts of the data set are"
            draft.problem("unused-field", message, bullet.text.line, "put it into the data set as a part", "dataset")
        elif data_label(values.without_remark(pair.value))[1].lower() in _DATA_FILES and "://" not in pair.value:
            draft.datasets.append(field)


def _bare_path(text: Text, draft: SummaryDraft, note: str) -> None:
    """A line that is a path and nothing else."""
    if text.labelled() is None and _is_path(text.plain) and " " not in text.plain:
        draft.datasets.append(Field(text.plain, text.line, note))


def _value(text: Text) -> str:
    pair = text.labelled()
    return pair.value if pair else ""


def _is_path(text: str) -> bool:
    return "/" in text or data_label(text)[1] in {".json", ".parquet"}


def _format(field: Field, draft: SummaryDraft) -> None:
    """A format that the path contradicts."""
    said = values.without_remark(field.text).lower().removeprefix(".")
    path = draft.datasets[0] if draft.datasets else None
    extension = data_label(values.without_remark(path.text))[1].removeprefix(".").lower() if path else said
    if path and said in _FORMATS and extension in _FORMATS and said != extension:
        message = f"{field.note} is {shown(field.text)}, but the path at line {path.line} says {shown(extension)}"
        draft.problem("ambiguous", message, field.line, "correct the one that is wrong", "dataset")


def _splits(text: str) -> dict[str, int]:
    """`train (240 samples), validation (30 samples)` as numbers by split; what is written otherwise is left out."""
    splits: dict[str, int] = {}
    for part in text.split(","):
        words = part.replace("(", " ").replace(")", " ").replace(":", " ").split()
        counts = [count for word in words if (count := kinds.read_int(word)) is not None]
        if words and len(counts) == 1:
            splits[words[0].lower()] = counts[0]
    return splits


def _paths(section: Section, draft: SummaryDraft) -> None:
    places = {
        "experiment": draft.directories,
        "experiment directory": draft.directories,
        "models": draft.models_dirs,
        "dataset": draft.datasets,
        "data set": draft.datasets,
    }
    for text in [*(b.text for b in section.bullets), *section.paragraphs]:
        pair = text.labelled()
        if pair and normalize(pair.label) in places and not values.is_unset(pair.value):
            note = f"{section.title} > {pair.label}"
            field = replace(Field.of(pair, text.line, note), text=values.without_remark(pair.value))
            places[normalize(pair.label)].append(field)


# Reads the settings of a Markdown summary, which all runs share, into the draft.

_LABEL_COLUMNS = frozenset({"parameter", "setting", "hyperparameter", "name", "key", "option", "field", "variable"})
_VALUE_COLUMNS = frozenset({"value", "values", "setting", "level", "default"})
# Words that make a group of settings one of some runs alone.
_CONDITION = re.compile(r"\b(?:only|except|unless)\b|^(?:for|if|when|in) ", re.IGNORECASE)
_WANDB = frozenset({"wandb project", "w b project", "weights biases project", "project"})


def read_settings(root: Section, draft: SummaryDraft) -> None:
    """Take the settings of every section that holds some into the draft."""
    for section in headings.topmost(root, headings.is_configuration):
        _training(section, "Configuration", draft)
    for section in headings.topmost(root, headings.is_prompt):
        _prompt(section, draft)


def _training(section: Section, note: str, draft: SummaryDraft) -> None:
    """Settings of training in a section and below it; what stands below Evaluation or Output is none."""
    for text in [*_texts(section.bullets, note, draft), *section.paragraphs]:
        pair = text.labelled()
        if pair and normalize(pair.label) in _WANDB and draft.wandb_project is None and pair.value:
            draft.wandb_project = Field.of(pair, text.line, note)
        elif pair and pair.value:
            draft.configuration.append((pair.label, Field.of(pair, text.line, note)))
        elif pair is None and text.lead and by_label(text.lead) is not None:
            message = f"{note}: {shown(text.plain)} begins with a setting's name, but is not 'name: value'"
            draft.problem("misspelt-field", message, text.line, f"write '- **{text.lead}:** {text.rest}'", text.lead)
    for table in section.tables:
        _table(table, note, draft)
    for below in section.sections:
        if headings.is_output(below.title):
            _output(below, draft)
        elif _is_condition(below.title) and any(_names_a_setting(text) for text in _all_texts(below)):
            _conditional(below.title, below.line, draft)
        elif not headings.is_elsewhere(below.title) and not headings.is_prompt(below.title):
            _training(below, f"{note} > {below.title}", draft)


def _texts(bullets: list[Bullet] | tuple[Bullet, ...], note: str, draft: SummaryDraft) -> Iterator[Text]:
    """The texts of bullets and of those below them; a group that is for some runs alone is refused."""
    for bullet in bullets:
        pair = bullet.text.labelled()
        says = pair.label if pair else bullet.text.plain
        if bullet.children and _is_condition(says) and any(_names_a_setting(b.text) for b in bullet.children):
            _conditional(says, bullet.text.line, draft)
            continue
        yield bullet.text
        if bullet.text.below is None or not (pair and by_label(pair.label)):
            yield from _texts(bullet.children, note, draft)


def _is_condition(text: str) -> bool:
    return bool(_CONDITION.search(text)) or any(find_model(word) is not None for word in re.split(r"[\s,]+", text))


def _names_a_setting(text: Text) -> bool:
    pair = text.labelled()
    parameter = by_label(pair.label) if pair and pair.value else None
    return parameter is not None and parameter.column


def _all_texts(section: Section) -> Iterator[Text]:
    for part in section.walk():
        yield from part.paragraphs
        yield from (bullet.text for bullet in part.all_bullets())


def _conditional(group: str, line: int, draft: SummaryDraft) -> None:
    message = f"the settings below {shown(group)} are for some runs alone; what Configuration says is for all"
    fix = "make each of these settings a column of the table of runs"
    draft.problem("ambiguous", message, line, fix, "configuration")


def _prompt(section: Section, draft: SummaryDraft) -> None:
    """`## System prompt` with the text below it: one fenced block, or paragraphs alone."""
    note = section.title
    others = section.bullets or section.tables or section.sections
    if len(section.fences) == 1 and not section.paragraphs and not others:
        fence = section.fences[0]
        text = fence.content.removesuffix("\n")
        draft.configuration.append((section.title, Field(text, fence.line, note, exact=True)))
    elif section.paragraphs and not section.fences and not others:
        plain = "\n".join(text.plain for text in section.paragraphs)
        source = "\n".join(text.whole for text in section.paragraphs)
        draft.configuration.append(
            (section.title, Field(plain, section.paragraphs[0].line, note, plain, source=source))
        )
    elif section.paragraphs or section.fences or others:
        message = f"what stands below {shown(section.title)} is not one text"
        fix = "give the whole text in one fenced block, and nothing else below this heading"
        draft.problem("ambiguous", message, section.line, fix, normalize(section.title))


def _table(table: Table, note: str, draft: SummaryDraft) -> None:
    """A table of names and values; another table is not read, and which settings it names is told."""
    header = [normalize(cell.plain) for cell in table.header]
    values = [i for i, label in enumerate(header) if i and label in _VALUE_COLUMNS]
    if len(header) > 1 and header[0] in _LABEL_COLUMNS and len(values) <= 1:
        column = values[0] if values else 1
        for row in table.rows:
            if len(row.cells) > column and not is_empty(row.cells[column].plain):
                label, cell = row.cells[0].plain, row.cells[column]
                code = cell.code if cell.code is not None and cell.plain.startswith(cell.code) else cell.plain
                draft.configuration.append((label, Field(code, row.line, note, cell.plain, source=cell.source)))
        return
    named = [t.plain for row in table.rows for t in row.cells[:1] if by_label(t.plain)]
    named += [cell.plain for cell in table.header if by_label(cell.plain)]
    what = f", which names {', '.join(named)}" if named else ""
    fix = "write each setting as a line '- **Name:** value', or in a table with the columns Parameter and Value"
    draft.problem("unused-field", f"{note}: a table is not read for settings{what}", table.line, fix, "configuration")


def _output(section: Section, draft: SummaryDraft) -> None:
    for bullet in section.bullets:
        pair = bullet.text.labelled()
        if pair is None or values.is_unset(pair.value):
            continue
        note = f"Configuration > Output > {pair.label}"
        if normalize(pair.label) == "checkpoint directory":
            draft.output_dirs.append(Field.of(pair, bullet.text.line, note))
        elif normalize(pair.label) in _WANDB and draft.wandb_project is None:
            draft.wandb_project = Field.of(pair, bullet.text.line, note)


# Reads experiment_summary.md into a `SummaryDraft`.

_TITLE_WORDS = frozenset({"experiment", "run", "runs", "plan", "summary", "fine", "tuning", "finetuning", "training"})


def read_markdown_summary(text: str, file: str) -> SummaryDraft:
    """Read a Markdown summary. Problems of its form are noted in the draft."""
    draft = SummaryDraft(file)
    try:
        root = markdown.read(text)
    except markdown.TooDeepError as error:
        draft.problem("invalid-value", error.message, error.line, "take away lists, quotes or emphasis")
        draft.readable = False
        return draft
    draft.sections = headings.lines_of(root)
    _name(root, draft)
    runs_table.read_runs_table(root, draft)
    runs_table.read_levels(root, draft)
    read_resources(root, draft)
    read_settings(root, draft)
    headings.note_unread_lines(text, root, draft)
    return draft


def _name(root: Section, draft: SummaryDraft) -> None:
    titled = [s for s in root.walk() if s.level == 1 and s.title]
    if not titled:
        return
    prefix, colon, rest = titled[0].title.partition(":")
    words = set(normalize(prefix).split())
    name = rest.strip() if colon and words and words <= _TITLE_WORDS else titled[0].title
    draft.name = Field(name, titled[0].line, "title")
