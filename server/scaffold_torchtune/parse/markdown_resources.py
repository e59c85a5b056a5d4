"""Reads what a Markdown summary says of models, data set and paths into the draft."""

from collections.abc import Iterator
from dataclasses import replace

from scaffold_torchtune.parse import clean, titles
from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import normalize
from scaffold_torchtune.shared.layout import data_label
from scaffold_torchtune.shared.markdown import Bullet, Section
from scaffold_torchtune.shared.markdown_text import Labelled, Text
from scaffold_torchtune.shared.text import shown

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


def read(root: Section, draft: SummaryDraft) -> None:
    """Take models, data set and paths into the draft."""
    for section in titles.topmost(root, titles.is_models):
        _models(section, draft)
    for section in titles.topmost(root, titles.is_data):
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
        if clean.is_unset(pair.value) or pair.value == "":
            continue
        if normalize(pair.label) in _OF_ALL:
            draft.models_dirs.append(Field.of(pair, bullet.text.line, f"{note} > {pair.label}"))
        elif normalize(pair.label) not in _PATH | _NAMES_ALONE:
            draft.models.append((clean.without_remark(pair.label), Field.of(pair, bullet.text.line, note)))
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
        own = clean.without_remark(pair.label if pair else bullet.text.plain)
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
        if clean.is_unset(pair.value):
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
        elif data_label(clean.without_remark(pair.value))[1].lower() in _DATA_FILES and "://" not in pair.value:
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
    said = clean.without_remark(field.text).lower().removeprefix(".")
    path = draft.datasets[0] if draft.datasets else None
    extension = data_label(clean.without_remark(path.text))[1].removeprefix(".").lower() if path else said
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
        if pair and normalize(pair.label) in places and not clean.is_unset(pair.value):
            note = f"{section.title} > {pair.label}"
            field = replace(Field.of(pair, text.line, note), text=clean.without_remark(pair.value))
            places[normalize(pair.label)].append(field)
