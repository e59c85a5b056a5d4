"""What all models share."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from scaffold_torchtune.findings import Scalar


class Model(BaseModel):
    """A frozen pydantic model that takes no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class SourceKind(StrEnum):
    """Where a value can come from."""

    ROW = "row"  # a cell of the runs table
    CONFIGURATION = "configuration"  # the summary's Configuration section
    RESOURCES = "resources"  # the summary's Resources section
    SUMMARY = "summary"  # elsewhere in the summary
    LOCAL = "local"  # claude.local.md
    TEMPLATE = "template"  # the template of setup_finetune.yaml
    DERIVED = "derived"  # computed from other values, e.g. the run's name
    ANSWER = "answer"  # what the user said when asked
    DEFAULT = "default"  # nobody asked for it


class Source(Model):
    """Where a value comes from."""

    kind: SourceKind
    file: str | None = Field(default=None, description="document, by its name")
    line: int | None = Field(default=None, description="line in it, from 1")
    note: str = Field(default="", description="section, column or rule")

    def __str__(self) -> str:
        """Short form for people: `experiment_summary.md:24 (LoRA Rank)`, `default`."""
        place = f"{self.file}:{self.line}" if self.file and self.line else (self.file or self.kind.value)
        return f"{place} ({self.note})" if self.note else place


class Setting(Model):
    """A typed value and where it comes from."""

    value: Scalar
    source: Source

    @property
    def text(self) -> str:
        """The value as text."""
        return str(self.value)

    @property
    def integer(self) -> int:
        """The value of a setting that holds a whole number."""
        return int(self.text)


Value = Annotated[Setting, PlainSerializer(lambda setting: setting.value, return_type=Scalar)]
"""A setting that is written as its value alone."""

Values = Annotated[
    dict[str, Setting],
    PlainSerializer(lambda of: {name: setting.value for name, setting in of.items()}, return_type=dict[str, Scalar]),
]
"""Settings by name that are written as their values alone."""

Lines = dict[str, dict[str, int]]
"""Lines by document and name."""


def lines_of(sources: Iterable[tuple[str, Source]]) -> Lines:
    """Return the line of each name that stands in a document."""
    found: Lines = {}
    for name, source in sources:
        if source.file and source.line:
            found.setdefault(source.file, {})[name] = source.line
    return found


class Answer(Model):
    """What the user said when asked for a field, and the line that would say so in a document."""

    field: str
    value: Scalar
    file: str = Field(default="", description="the document that it belongs in")
    add: str = Field(default="", description="the line to write there")


RunType = Literal["fine-tuned", "control", "eval-only"]
