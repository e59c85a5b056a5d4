"""What an external script has no option for, and the line that submits can hand over instead."""

from collections.abc import Mapping, Sequence

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.models.script import Interface
from scaffold_torchtune.settings.parameters import SUBMITTED
from scaffold_torchtune.shared.text import shown


def submitted(settings: Mapping[str, Setting], interface: Interface | None) -> tuple[str, ...]:
    """The settings of a run that the line that submits hands over: those for which the script has no option."""
    if interface is None:
        return ()
    options = interface.options or {}
    return tuple(name for name in settings if name in SUBMITTED and name not in options)


def remarks(runs: Sequence[PlannedRun]) -> list[Finding]:
    """What the line that submits hands over, said once."""
    values = {(name, run.settings[name].value): run.settings[name] for run in runs for name in run.submitted}
    said = [f"{name} {shown(value)}" for name, value in values if (name, value) != ("offline", False)]
    if not said:
        return []
    first = next(iter(values.values())).source
    return [
        finding(
            "submitted-with",
            f"this setup_finetune.py has no option for {', '.join(said)}: the line that submits the runs says so"
            " instead, to sbatch or in the environment of the job; submit with that line",
            at=first,
            fix="nothing, if the runs are submitted with that line",
        )
    ]
