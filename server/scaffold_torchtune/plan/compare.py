"""Whether two plans plan the same runs, whatever the runs are called."""

import itertools
from collections.abc import Sequence

from scaffold_torchtune.errors import Scalar
from scaffold_torchtune.models.plan import PlannedRun

Difference = tuple[str, str, Scalar, Scalar]
"""The run, the setting, its value here, its value there; None where there is none."""


def differences(here: Sequence[PlannedRun], there: Sequence[PlannedRun]) -> list[Difference]:
    """What differs between two plans of one experiment.

    Runs that are the same in both are set aside; of the rest, those of one name are compared, then those that are left,
    in their order. A run that only one plan has differs in `runs`.
    """
    rest = list(there)
    alone: list[PlannedRun] = []
    for run in here:
        same = next((other for other in rest if _values(other) == _values(run)), None)
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


def _values(run: PlannedRun) -> dict[str, Scalar]:
    return {name: setting.value for name, setting in run.settings.items() if name != "my_wandb_run_name"}


def _between(one: PlannedRun | None, other: PlannedRun | None) -> list[Difference]:
    if one is None or other is None:
        names = (one.name if one else None, other.name if other else None)
        return [(names[0] or names[1] or "", "runs", *names)]
    here, there = _values(one), _values(other)
    return [
        (one.name, name, here.get(name), there.get(name))
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name)
    ]
