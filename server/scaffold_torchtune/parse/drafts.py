"""Drafts: the untyped texts that the readers of documents return, with their places."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from scaffold_torchtune.findings import Collector, Finding, Scalar
from scaffold_torchtune.models import Setting
from scaffold_torchtune.system import markdown
from scaffold_torchtune.system.markdown import Labelled, Section, Text


class Typed(NamedTuple):
    """A value, and the remark that follows it in the document."""

    value: Scalar
    remark: str = ""


@dataclass(frozen=True)
class SourceText:
    """A value's text in a document. `note` names its section and label, for messages.

    If the text is a code span, `full` also has the text after the span: a remark, or more of a free text. An `exact`
    text is verbatim, without quotes or remarks around it: text of a YAML document or a fenced block. `source` is the
    full text with the Markdown marks of emphasis, code and links. `answer`: the text is the user's answer, and is in no
    document. `last` is the last line of a text of several lines, else 0. `alone`: the text has no label.
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
        """Return the text after a label."""
        return cls(pair.value, line, note, pair.full, pair.exact, pair.source, last=pair.last)

    @classmethod
    def of_cell(cls, cell: Text, line: int, note: str) -> Self:
        """Return the text of a cell of a table."""
        begins_with_code = cell.code is not None and cell.plain.startswith(cell.code)
        text = cell.code if cell.code is not None and begins_with_code else cell.plain
        return cls(text, line, note, cell.plain, source=cell.source)


@dataclass(frozen=True)
class RowDraft:
    """A row of the table of runs: its cells by column index, without empty cells and dashes.

    `blank` are the columns with empty cells, without even a dash. `mark` is the mark of a row that is not to be run,
    `name` the text of its name, and `notes` the texts of columns for people.
    """

    cells: dict[int, SourceText]
    line: int
    blank: frozenset[int] = frozenset()
    mark: str = ""
    name: str = ""
    notes: tuple[SourceText, ...] = ()


class UnreadLine(NamedTuple):
    """A line that looks like a setting, in a section without settings: the parameter of its label, and its value.

    `name` is empty for an unsupported setting. `label` is as written. `vague`: the label may be a word of any
    text, or the section describes the data, costs or an example. `plural`: the line gives levels, or their number.
    `is_read`: the section contains settings, each with one value.
    """

    name: str
    text: SourceText
    label: str = ""
    vague: bool = False
    plural: bool = False
    is_read: bool = False


@dataclass
class Draft(Collector):
    """The content of a document, with its problems. In a document that is not `readable`, no field counts as missing.

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
        """Return the sections of the document; report a document that cannot be read."""
        try:
            return markdown.read(text)
        except markdown.MarkdownError as error:
            self.add("invalid-value", f"the document cannot be read: {error.message}", line=error.line, fix=error.fix)
            self.readable = False
            return None


@dataclass
class SummaryDraft(Draft):
    """An experiment summary, with untyped values.

    `stated_runs` is the number of fine-tuned runs that its overview gives, with the line.
    `levels` are the values of parameters in its section Variables.
    `unread_lines` look like settings but were not read; `note` has the title of their section.
    `prose` are texts that explain the experiment, `notes` such texts among the settings of all runs.
    `names` are patterns and examples of the names of run directories and outputs.
    `data_claims` are statements about the data set's file other than its path: its `format`, its `label`.
    `samples` are numbers of training samples that the section about the data set gives.
    `unasked` are findings that no answer for all runs settles, because each is about one run.
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
    names: list[SourceText] = field(default_factory=list)
    data_claims: list[tuple[str, SourceText]] = field(default_factory=list)
    samples: list[SourceText] = field(default_factory=list)
    unasked: list[Finding] = field(default_factory=list)


@dataclass
class LocalDraft(Draft):
    """A claude.local.md, with untyped values: texts by the name of the setting.

    `block` is the first line of the block of YAML that contains its settings, or 0. `prose` are texts that may mention
    properties of jobs or of Weights & Biases.
    """

    block: int = 0
    prose: list[SourceText] = field(default_factory=list)
    settings: dict[str, SourceText] = field(default_factory=dict)


@dataclass
class TemplateDraft:
    """The values of a template by key: `settings` if the key is known, else `others`.

    `doubtful` has problems of values that a document may override; such a setting has its text as value. `problems` are
    those of the file. If it is not `readable`, its values are unknown.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    others: dict[str, Setting] = field(default_factory=dict)
    doubtful: dict[str, Finding] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    readable: bool = True

    def gives(self, name: str) -> bool:
        """Return whether a setting is, or may be, given."""
        return name in self.settings or not self.readable

    def unusable(self, given: Container[str]) -> list[Finding]:
        """Return the problems of the file, and of values that no document has `given`."""
        return [*self.problems, *(problem for name, problem in self.doubtful.items() if name not in given)]
