"""Whether two plans plan the same runs, whatever the runs are called."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaffold_torchtune.models.base import Setting, Source, SourceKind
from scaffold_torchtune.models.plan import PlannedRun


class Difference(NamedTuple):
    """The run, the setting that differs, and what it is here and there; None where there is none."""

    run: str
    name: str
    here: Setting | None
    there: Setting | None


def differences(here: Sequence[PlannedRun], there: Sequence[PlannedRun]) -> list[Difference]:
    """What differs between two plans of one experiment.

    Runs that are the same in both are set aside; of the rest, those of one name are compared, then those that are left,
    in their order. A run that only one plan has differs in `runs`.
    """
    rest = list(there)
    alone: list[PlannedRun] = []
    for run in here:
        same = next((other for other in rest if _same(_settings(other), _settings(run))), None)
        if same is None:
            alone.append(run)
        else:
            rest.remove(same)
    by_name = {run.name: run for run in rest}
    pairs = [(run, by_name.pop(run.name)) for run in alone if run.name in by_name]
    paired = {run.name for run, _ in pairs}
    left = [run for run in alone if run.name not in paired]
    pairs_left = itertools.zip_longest(left, by_name.values())
    return [difference for one, other in itertools.chain(pairs, pairs_left) for difference in _between(one, other)]


def _settings(run: PlannedRun) -> dict[str, Setting]:
    return {name: setting for name, setting in run.settings.items() if name != "my_wandb_run_name"}


def _same(one: Mapping[str, Setting], other: Mapping[str, Setting]) -> bool:
    return {name: s.value for name, s in one.items()} == {name: s.value for name, s in other.items()}


def _between(one: PlannedRun | None, other: PlannedRun | None) -> list[Difference]:
    if one is None or other is None:
        name = one.name if one else other.name if other else ""
        return [Difference(name, "runs", _row(one), _row(other))]
    here, there = _settings(one), _settings(other)
    found = [
        Difference(one.name, name, here.get(name), there.get(name))
        for name in dict.fromkeys([*here, *there])
        if _value(here.get(name)) != _value(there.get(name))
    ]
    differing = {each.name for each in found}
    return [each for each in found if not (each.name == "lora_alpha" and "lora_rank" in differing and _follow(each))]


def _follow(found: Difference) -> bool:
    """Whether both values follow from others."""
    return all(s is not None and s.source.kind is SourceKind.DERIVED for s in (found.here, found.there))


def _value(setting: Setting | None) -> object:
    return setting.value if setting else None


def _row(run: PlannedRun | None) -> Setting | None:
    """The name of a run, and the line of its row."""
    return Setting(value=run.name, source=Source(kind=SourceKind.ROW, line=run.line)) if run else None
