"""What a scaffold remembers between calls, in .scaffold: the plan, one record a run, and how far the log is."""

from typing import Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from scaffold_torchtune.findings import refuse
from scaffold_torchtune.models.base import Model
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree

M = TypeVar("M", bound=Model)


class Record(Model):
    """What was made for one run, and from what.

    `setup_yaml` is the SHA-256 of its setup_finetune.yaml. `outputs` maps finetune.yaml and finetune.slurm to theirs,
    and is empty until they are made; `backend` is who made them. `replaced` are the SHA-256 of earlier files that may
    still lie there and be replaced, ours and what the user let go: a record is written before the files that it tells
    of, so that a scaffold that was killed knows its own files again. `failed` is why the last setup failed, which left
    what was there before. `sources` says where each setting came from.
    """

    directory: str
    setup_yaml: str
    backend: str = ""
    failed: str = ""
    outputs: dict[str, str] = Field(default_factory=dict)
    replaced: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)

    def ours(self) -> frozenset[str]:
        """The SHA-256 of every file that may lie there and be replaced unasked."""
        return frozenset({self.setup_yaml, *self.outputs.values(), *self.replaced})


class LogState(Model):
    """How far scaffold.log is: when the scaffold started, and how its last entry ends it.

    `unlogged` is a step that was begun and has not logged yet what it did: it was killed if nobody holds the lock.
    """

    plan: str
    started: AwareDatetime
    status: Literal["open", "complete", "failed"]
    verdict: str = ""
    unlogged: Literal["", "render", "setup"] = ""


def _load(tree: Tree, path: str, model: type[M]) -> M | None:
    data = tree.read(path)
    if data is None:
        return None
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        message = f"{path} is not what scaffold-torchtune writes"
        fix = f"remove {path} and render again"
        raise refuse("document-unreadable", message, file=path, fix=fix) from error


def save(tree: Tree, path: str, model: Model) -> None:
    """Write a model."""
    tree.write(path, (model.model_dump_json(indent=1) + "\n").encode())


def load_plan(tree: Tree) -> Plan | None:
    """The plan that was frozen, or None. Raises `Refused` where it cannot be read."""
    return _load(tree, layout.PLAN, Plan)


def load_record(tree: Tree, directory: str) -> Record | None:
    """The record of a run, or None. Raises `Refused` where it cannot be read."""
    return _load(tree, layout.record(directory), Record)


def load_log_state(tree: Tree) -> LogState | None:
    """How far the log is, or None. Raises `Refused` where it cannot be read."""
    return _load(tree, layout.PROGRESS, LogState)
