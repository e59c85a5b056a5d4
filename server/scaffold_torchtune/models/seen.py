"""What could be seen on disk of what the plan names: data sets, base models and where outputs will go."""

from typing import Literal

from pydantic import Field

from scaffold_torchtune.models.base import Model

CellKind = Literal["text", "number", "boolean", "null", "list", "object", "absent"]
"""What a cell of a data set holds; `absent` where its row has no such column."""


class PartSeen(Model):
    """One part of a data set: a field of a JSON file, or all of a Parquet file. Rows count from 1."""

    rows: int
    columns: dict[str, dict[CellKind, int]] = Field(description="by column, what its cells hold and the first such row")
    characters: dict[str, int] = Field(default={}, description="by column, how many characters its texts have in all")
    messages: dict[str, int] = Field(default={}, description="faults in the column `messages`, and the first such row")


class DataSeen(Model):
    """A data set file. Where it could not be read, `parts` is empty and one of the others says why."""

    absent: bool = False
    near: tuple[str, ...] = Field(default=(), description="files beside it with nearly its name, where it is absent")
    problem: str = Field(default="", description="why what lies there is no data set")
    unread: str = Field(default="", description="why it was not looked into, though it may be a data set")
    parts: dict[str, PartSeen] = Field(default={}, description="by field; a Parquet file is one part, `train`")


class TensorsSeen(Model):
    """A safetensors file: its tensors' shapes by name, or why its header cannot be read."""

    problem: str = ""
    shapes: dict[str, tuple[int, ...]] = Field(default={})


class CheckpointSeen(Model):
    """The directory of a base model. Files are named relative to it."""

    absent: bool = False
    near: tuple[str, ...] = Field(default=(), description="directories beside it with nearly its name")
    problem: str = Field(default="", description="why it cannot be looked into")
    files: dict[str, int] = Field(default={}, description="size in bytes by name, also of files one level below")
    tensors: dict[str, TensorsSeen] = Field(default={}, description="the *.safetensors files")
    index: dict[str, str] | None = Field(
        default=None, description="file by tensor, as model.safetensors.index.json says; None where there is none"
    )
    config: dict[str, int] | None = Field(
        default=None, description="the whole numbers of config.json; None where it is absent or unreadable"
    )


class Seen(Model):
    """Everything that was looked at, by its absolute path. What is not here was not looked at."""

    data: dict[str, DataSeen] = Field(default={})
    checkpoints: dict[str, CheckpointSeen] = Field(default={})
    free: dict[str, int] = Field(default={}, description="free bytes of the file system below which outputs go")
