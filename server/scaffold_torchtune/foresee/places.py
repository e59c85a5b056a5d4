"""Where a run's model lies, where its outputs go, and where in the documents a value comes from."""

import posixpath
from collections.abc import Callable, Hashable, Iterable
from typing import TypedDict, TypeVar

from scaffold_torchtune.errors import Scalar
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.shared.recipes import FULL, method_of

_Key = TypeVar("_Key", bound=Hashable)


class Place(TypedDict):
    """The arguments of a finding that say where it is."""

    file: str | None
    line: int | None


def value(run: PlannedRun, name: str) -> Scalar:
    """A planned value; None where it is not planned."""
    setting = run.settings.get(name)
    return None if setting is None else setting.value


def number(run: PlannedRun, name: str, default: int) -> int:
    """A planned whole number, or what torchtune or the setup script takes where none is planned."""
    found = value(run, name)
    return found if isinstance(found, int) else default


def at(run: PlannedRun, *names: str) -> Place:
    """Where the first of some settings stands that stands in a document; the file alone where none has a line."""
    sources = [run.settings[name].source for name in names if name in run.settings]
    source = next((s for s in sources if s.line is not None), sources[0] if sources else None)
    return {"file": source.file, "line": source.line} if source else {"file": None, "line": None}


def grouped(runs: Iterable[PlannedRun], key: Callable[[PlannedRun], _Key]) -> dict[_Key, list[PlannedRun]]:
    """The runs that have something in common, by it, in their order."""
    found: dict[_Key, list[PlannedRun]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def concerning(runs: list[PlannedRun], total: int) -> str:
    """Which runs a finding is about: `all 4 runs`, `the run rank8`, `2 of 4 runs (rank8, rank16)`."""
    if len(runs) == total:
        return "the run" if total == 1 else f"all {total} runs"
    if len(runs) == 1:
        return f"the run {runs[0].directory}"
    shown = ", ".join(run.directory for run in runs[:3])
    return f"{len(runs)} of {total} runs ({shown}{', ...' if len(runs) > 3 else ''})"  # noqa: PLR2004 - as shown


def full(run: PlannedRun) -> bool:
    """Whether all of the model is trained, not an adapter."""
    return method_of(str(value(run, "custom_recipe"))) == FULL


def checkpoint_dir(run: PlannedRun) -> str | None:
    """The directory of the run's base model, absolute; None where it is not planned."""
    folder = value(run, "models_dir")
    name = value(run, "model_checkpoint") or value(run, "torchtune_model_name")
    return posixpath.normpath(posixpath.join(str(folder), str(name))) if folder and name else None


def output_dir(run: PlannedRun) -> str | None:
    """Below what the run's outputs go, absolute: `output_dir_base` or `project_dir`; None where neither is planned."""
    base = value(run, "output_dir_base") or value(run, "project_dir")
    return posixpath.normpath(posixpath.join(str(base), str(value(run, "experiment_name") or ""))) if base else None
