"""Drafts: what the readers of documents hand to `parse.experiment`, texts with their places, not typed yet."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from scaffold_torchtune.findings import Collector, Finding, Scalar
from scaffold_torchtune.models import Setting
from scaffold_torchtune.system import markdown
from scaffold_torchtune.system.markdown import Labelled, Section, Text


class Typed(NamedTuple):
    """A value, and what stood beside it in the document and is not part of it."""

    value: Scalar
    remark: str = ""


@dataclass(frozen=True)
class SourceText:
    """A text that a document gives for something. `note` names its section and label, for messages.

    Where the text is a code span, `full` is the text with what follows the span: a remark, or more of a free text.
    `exact` text is a value as it is, around which nobody writes quotes or remarks: text of a YAML document, a fenced
    block. `source` is the full text with the marks of emphasis, code and links, where it comes from Markdown. `answer`:
    the user gave it when asked, and it stands in no document. `last` is the last line of a text of several, else 0;
    `alone` says that no label stands beside it.
    """

    text: str
    line: int
    note: str
    full: str | None = None
    exact: bool = False
    source: str | None = None
    answer: bool = False
    last: int = 0
    alone: bool = False

    @classmethod
    def of(cls, pair: Labelled, line: int, note: str) -> Self:
        """Return what stands after a label."""
        return cls(pair.value, line, note, pair.full, pair.exact, pair.source, last=pair.last)

    @classmethod
    def of_cell(cls, cell: Text, line: int, note: str) -> Self:
        """Return what stands in a cell of a table."""
        begins_with_code = cell.code is not None and cell.plain.startswith(cell.code)
        text = cell.code if cell.code is not None and begins_with_code else cell.plain
        return cls(text, line, note, cell.plain, source=cell.source)


@dataclass(frozen=True)
class RowDraft:
    """A row of the runs table: its cells by column index, those that are empty or dashes left out.

    `blank` are the columns where nothing stands, not even a dash. `mark` is how the row is marked as not to be run,
    `name` the text of its name, and `notes` what its columns for people say.
    """

    cells: dict[int, SourceText]
    line: int
    blank: frozenset[int] = frozenset()
    mark: str = ""
    name: str = ""
    notes: tuple[SourceText, ...] = ()


class UnreadLine(NamedTuple):
    """A line that looks like a setting and stands where none are read: the parameter that its label names, its value.

    What no scaffold has is no parameter. `label` is as written. `vague`: it may be a word of any text, or the section
    describes the data, costs or an example. `plural`: it names levels, or how many there are. `is_read`: settings are
    read there, of which each has one value.
    """

    name: str
    text: SourceText
    label: str = ""
    vague: bool = False
    plural: bool = False
    is_read: bool = False


@dataclass
class Draft(Collector):
    """What was read of a document, with what is wrong with it. What cannot be read lacks nothing in particular.

    `sections` has the line of each section by its name in messages: `Configuration > Training`. `text` is the whole
    document.
    """

    file: str
    sections: dict[str, int] = field(default_factory=dict)
    readable: bool = True
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(self.file)

    def read_markdown(self, text: str) -> Section | None:
        """Return the sections of the document; where it cannot be read, note why."""
        try:
            return markdown.read(text)
        except markdown.MarkdownError as error:
            self.add("invalid-value", error.message, line=error.line, fix=error.fix)
            self.readable = False
            return None


@dataclass
class SummaryDraft(Draft):
    """An experiment summary, before anything is typed.

    `stated_runs` is how many fine-tuned runs its overview names, with the line.
    `levels` are the values that its section Variables names for a parameter.
    `unread_lines` look like settings and were not read, with the title of their section.
    `prose` are texts that explain the experiment, `notes` those among the settings of all runs.
    `data_claims` are what it says of the data set's file besides its path: its `format`, its `label`.
    `unasked` are those findings that no answer for all runs settles, as they are about one run each.
    """

    name: SourceText | None = None
    directories: list[SourceText] = field(default_factory=list)
    columns: list[SourceText] = field(default_factory=list)
    rows: list[RowDraft] = field(default_factory=list)
    models: list[tuple[str, SourceText]] = field(default_factory=list)
    models_dirs: list[SourceText] = field(default_factory=list)
    datasets: list[SourceText] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    configuration: list[tuple[str, SourceText]] = field(default_factory=list)
    wandb_project: SourceText | None = None
    output_dirs: list[SourceText] = field(default_factory=list)
    stated_runs: tuple[int, int] | None = None
    levels: list[tuple[str, SourceText]] = field(default_factory=list)
    unread_lines: list[UnreadLine] = field(default_factory=list)
    prose: list[SourceText] = field(default_factory=list)
    notes: list[SourceText] = field(default_factory=list)
    data_claims: list[tuple[str, SourceText]] = field(default_factory=list)
    unasked: list[Finding] = field(default_factory=list)


@dataclass
class LocalDraft(Draft):
    """A claude.local.md, before anything is typed: setting name to what stands there.

    `block` is the line at which the block of YAML begins that holds its settings, 0 where none does. `prose` are texts
    that may say of jobs or of Weights & Biases what no setting does.
    """

    block: int = 0
    prose: list[SourceText] = field(default_factory=list)
    settings: dict[str, SourceText] = field(default_factory=dict)


@dataclass
class TemplateDraft:
    """What a template gives, by key: `settings` of those that are known, `others` as YAML has them.

    `doubtful` holds what is wrong with a value that a document may make unneeded; such a setting has its text as its
    value. `problems` are those of the file. Where it cannot be read, nobody knows what it gives.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    others: dict[str, Setting] = field(default_factory=dict)
    doubtful: dict[str, Finding] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    readable: bool = True

    def gives(self, name: str) -> bool:
        """Return whether a setting is given, or may be."""
        return name in self.settings or not self.readable

    def unusable(self, given: Container[str]) -> list[Finding]:
        """Return the problems of the file, and of the values that are needed: those that no document has `given`."""
        return [*self.problems, *(problem for name, problem in self.doubtful.items() if name not in given)]
