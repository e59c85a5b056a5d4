"""Where a run's outputs go, where in the documents a value comes from, and which runs a finding is about."""

import posixpath
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypedDict, TypeVar

from scaffold_torchtune.errors import Finding, finding
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.settings.recipes import FULL, method_of
from scaffold_torchtune.shared.planned import value
from scaffold_torchtune.shared.text import shown

_Key = TypeVar("_Key", bound=Hashable)


class Place(TypedDict):
    """The arguments of a finding that say where it is."""

    file: str | None
    line: int | None


def number(run: PlannedRun, name: str, default: int) -> int:
    """A planned whole number, or what torchtune or the setup script takes where none is planned."""
    found = value(run, name)
    return found if isinstance(found, int) else default


def at(run: PlannedRun, *names: str) -> Place:
    """Where the first of some settings stands that stands in a document; the file alone where none has a line."""
    sources = [run.settings[name].source for name in names if name in run.settings]
    source = next((s for s in sources if s.line is not None), sources[0] if sources else None)
    return Place(file=source.file, line=source.line) if source else Place(file=None, line=None)


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


def not_seen(what: str, *, why: str, unchecked: str, near: Sequence[str], field: str, place: Place) -> Finding:
    """That what the plan names is not checked, as it cannot be looked at from here.

    Args:
        what: what it is, where, and of which runs, e.g. `the model directory /models/x of all 4 runs`.
        why: why it is not looked at, to follow `what`.
        unchecked: what of it is therefore not checked.
        near: what lies beside it with nearly its name.
        field: the setting that names it.
        place: where in the documents it is named.
    """
    beside = f"; beside it lies {shown(near[0])}" if near else ""
    return finding(
        "not-seen",
        f"{what} {why}, so its {unchecked} are not checked{beside}",
        field=field,
        actual=near[0] if near else None,
        fix="correct the path if it is wrong; nothing if compute nodes see it there",
        **place,
    )


def full(run: PlannedRun) -> bool:
    """Whether all of the model is trained, not an adapter."""
    return method_of(str(value(run, "custom_recipe"))) == FULL


def output_dir(run: PlannedRun) -> str | None:
    """Below what the run's outputs go, absolute: `output_dir_base` or `project_dir`; None where neither is planned."""
    base = value(run, "output_dir_base") or value(run, "project_dir")
    return posixpath.normpath(posixpath.join(str(base), str(value(run, "experiment_name") or ""))) if base else None
