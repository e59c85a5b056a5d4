"""What the sections of a claude.local.md say, line by line, each with what it is about."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from scaffold_torchtune.parse import local_labels, notations
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.parse.local_labels import TOP, Topic
from scaffold_torchtune.settings.parameters import normalize
from scaffold_torchtune.system.markdown import Bullet, Fence, Labelled, Section, Table, Text

# `conda_env=tune`, `export CONDA_ENV=tune`, `--account=lab`
_ASSIGNED = re.compile(r"(?:export\s+)?(?:--)?(?P<label>[A-Za-z][\w -]{0,60}?)\s*=\s*(?P<value>[^\s=].*)", re.ASCII)
# `Account - lab`: no colon, and yet no prose where the first part is a label
_UNCLEAR = re.compile(r"(?P<label>\S.{0,40}?)\s+(?:[-–—→]|->|=>)\s+(?P<value>\S.*)", re.DOTALL)
_KEY_COLUMNS = frozenset({"setting", "key", "name", "parameter", "option", "field", "variable", "item", "property", ""})
_VALUE_COLUMNS = frozenset({"value", "values", "my value", "default", "setting", ""})
_REMARK_COLUMNS = frozenset({"note", "notes", "comment", "comments", "remark", "remarks", "description", "meaning"})
_MOST_WORDS = 3


@dataclass(frozen=True)
class LocalEntry:
    """A label and its value. `literal` values stand in a code span or in quotes: they are meant letter by letter.

    `last` is the last line of a value of several, else 0.
    """

    label: str
    value: str
    full: str
    line: int
    note: str
    topic: Topic
    literal: bool = False
    last: int = 0

    def as_field(self) -> SourceText:
        """Return the value as a text to be typed."""
        return SourceText(self.value, self.line, self.note, self.full, last=self.last)


@dataclass
class Part:
    """A section: what it says, what only looks as if it said something, its blocks of code and its loose lines.

    `examples` are options of sbatch in a section of examples or commands.
    """

    title: str
    line: int
    topic: Topic
    entries: list[LocalEntry] = field(default_factory=list)
    unclear: list[LocalEntry] = field(default_factory=list)
    examples: list[LocalEntry] = field(default_factory=list)
    tables: list[tuple[Table, Topic]] = field(default_factory=list)
    fences: list[tuple[Fence, Topic]] = field(default_factory=list)
    lines: list[tuple[Text, Topic]] = field(default_factory=list)

    def entry(self, label: str, value: str, full: str, line: int, topic: Topic, *, literal: bool = False) -> LocalEntry:
        """Return an entry of this section."""
        return LocalEntry(label, value, full, line, f"{self.title} > {label}" if self.title else label, topic, literal)


def parts(root: Section) -> list[Part]:
    """Return every section of the document, in its order."""
    found = [_part(root, TOP)]
    is_titled = len(root.sections) == 1 and root.sections[0].level == 1
    for i, section in enumerate(root.sections):
        own = local_labels.topic_of(section.title, frozenset())
        is_title = i == 0 and section.level == 1 and (is_titled or not own) and not own & {"nothing", "service"}
        found.append(_part(section, local_labels.of_the_title(own) if is_title else own))
        above = frozenset[str]() if is_titled else own
        found += [part for below in section.sections for part in _parts(below, above)]
    return found


def _parts(section: Section, above: Topic) -> Iterator[Part]:
    topic = local_labels.topic_of(section.title, above)
    yield _part(section, topic)
    for below in section.sections:
        yield from _parts(below, topic)


def _part(section: Section, topic: Topic) -> Part:
    """Return what a section says itself. A line such as `**SLURM:**` is a heading of what follows it."""
    part, current = Part(section.title, section.line, topic), topic
    items: list[Text | Bullet | Table | Fence]
    items = [*section.paragraphs, *section.bullets, *section.tables, *section.fences]
    for item in sorted(items, key=lambda one: one.text.line if isinstance(one, Bullet) else one.line):
        match item:
            case Text():
                current = _below_heading(item, topic, current)
                _read_line(item, current, part)
            case Bullet():
                for text, about in _texts(item, current):
                    for line in _lines(text):
                        _read_line(line, about, part)
                    if text.below is not None and text.fenced:
                        _read_options(text.below, text.below_last - text.below.count("\n") - 1, about, part)
            case Table():
                _read_table(item, current, part)
            case Fence():
                part.fences.append((item, current))
                _read_options(item.content, item.line + 1, current, part)
    # Where a heading does not show that its section is about jobs, a partition or a time limit in it does.
    if any(local_labels.is_about_jobs(entry.label, entry.topic) for entry in part.entries):
        part.entries = [replace(entry, topic=entry.topic | {"defaults"}) for entry in part.entries]
    return part


def _below_heading(text: Text, topic: Topic, current: Topic) -> Topic:
    """Return what the lines after a paragraph are about."""
    pair = text.labelled()
    is_bold = bool(text.lead) and text.lead.rstrip(": ") == text.plain.rstrip(": ")
    title = text.lead if is_bold else pair.label if pair and not pair.value else ""
    if not title or not (is_bold or len(title.split()) <= _MOST_WORDS):
        return current
    if local_labels.slurms(title) or (local_labels.is_label(title) and not local_labels.topic_of(title, frozenset())):
        return current  # a setting that is left open
    return local_labels.topic_of(title, topic)


def _texts(bullet: Bullet, topic: Topic) -> Iterator[tuple[Text, Topic]]:
    """Return a bullet and those below it: it is a heading of theirs."""
    yield bullet.text, topic
    pair = pair_of(bullet.text)
    title = pair.label if pair else bullet.text.plain
    is_setting = pair is not None and bool(pair.value) and local_labels.is_label(pair.label)
    below = topic if is_setting else local_labels.topic_of(title, topic)
    for child in bullet.children:
        yield from _texts(child, below)


def pair_of(text: Text) -> Labelled | None:
    """Return label and value of a line: `label: value` or `key=value`, in a code span too."""
    if text.code is not None and text.code == text.plain:
        text = Text(text.code, text.line)
    pair = text.labelled()
    if pair and pair.exact and "#SBATCH" in pair.value:  # a script, and what stands above it
        return None
    if pair and local_labels.is_label(pair.label):
        return pair
    assigned = _ASSIGNED.fullmatch(text.plain)
    if assigned and (pair is None or local_labels.is_label(assigned["label"])):
        return Labelled(assigned["label"], assigned["value"], assigned["value"], assigned["value"])
    return pair


def _lines(text: Text) -> Iterable[Text]:
    """Return the text, with lines `key: value` in which a bullet goes on apart: Markdown joins them."""
    first, *more = text.plain.split("\n")
    pairs = [pair_of(Text(line.strip(), text.line)) for line in more]
    if not any(pair and local_labels.is_label(pair.label) for pair in pairs):
        return [text]
    code = text.code if text.code and text.code in first else None
    rest = (Text(line.strip(), text.line + number) for number, line in enumerate(more, start=1))
    return [Text(first, text.line, text.lead, text.rest.split("\n")[0], code), *rest]


_OF_JOBS: Final = frozenset({"slurm"})
_OPTION: Final = re.compile(r"-[A-Za-z][ =]|--[a-z]{2}[a-z-]{0,20}(?:[ =]|$)")


def _read_options(text: str, first: int, topic: Topic, part: Part) -> None:
    """Read #SBATCH lines, which are about jobs whatever their section is about; those of an example are kept apart."""
    for number, line in enumerate(text.split("\n"), start=first):
        for label, value in notations.sbatch_options(line):
            entry = part.entry(label, value, value, number, _OF_JOBS, literal=True)
            is_example = "nothing" in topic or notations.is_command(line)
            (part.examples if is_example else part.entries).append(entry)


def _read_line(text: Text, topic: Topic, part: Part) -> None:
    part.lines.append((text, topic))
    if any(map(notations.is_sbatch, text.plain.split("\n"))):
        _read_options(text.plain, text.line, topic, part)
        return
    if _OPTION.match(text.plain) and local_labels.is_of_slurm(topic):
        _read_options(f"#SBATCH {text.plain}", text.line, topic, part)
        return
    if pair := pair_of(text):
        is_literal = text.code is not None and pair.value == text.code
        part.entries.append(part.entry(pair.label, pair.value, pair.full, text.line, topic, literal=is_literal))
    elif unclear := _UNCLEAR.fullmatch(text.plain):
        part.unclear.append(part.entry(unclear["label"], unclear["value"], unclear["value"], text.line, topic))
    elif text.lead and text.rest:
        part.unclear.append(part.entry(text.lead, text.rest, text.rest, text.line, topic))


def _read_table(table: Table, topic: Topic, part: Part) -> None:
    """Read a table of two columns, key and value, as lines; keep others as they are."""
    key, value, *others = [*(normalize(cell.plain) for cell in table.header), "", ""][: max(2, len(table.header))]
    is_read = (key in _KEY_COLUMNS and value in _VALUE_COLUMNS and key != value) or (key, value) == ("", "")
    if len(table.header) < 2 or not is_read or not _REMARK_COLUMNS.issuperset(others):  # noqa: PLR2004
        part.tables.append((table, topic))
        return
    for row in table.rows:
        label, cell = [*row.cells, Text("", 0), Text("", 0)][:2]
        text, literal = cell.code or cell.plain, cell.code is not None
        part.entries.append(part.entry(label.plain, text, cell.plain, row.line, topic, literal=literal))
