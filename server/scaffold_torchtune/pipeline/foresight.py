"""Looks at what the plan names on disk, and lets foresee judge it."""

from collections.abc import Mapping

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.foresee import foresee, output_dir
from scaffold_torchtune.look import free_bytes, look_at_checkpoint, look_at_data
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.models.seen import Seen
from scaffold_torchtune.validate import RunFiles, checkpoint_files


def foreseen(plan: Plan, files: Mapping[str, RunFiles]) -> list[Finding]:
    """What is foreseen of a plan.

    Args:
        plan: the plan.
        files: those of the runs by directory, as far as there are any: finetune.yaml names the checkpoint's files.
    """
    return foresee(plan, look(plan), _listed(plan, files))


def look(plan: Plan) -> Seen:
    """Everything that the plan names on disk, looked at once."""
    data = {run.data_path: run.text("dataset_ext") for run in plan.runs}
    checkpoints = {directory for run in plan.runs if (directory := run.checkpoint_dir)}
    outputs = {directory for run in plan.runs if (directory := output_dir(run))}
    return Seen(
        data={path: look_at_data(path, extension) for path, extension in data.items()},
        checkpoints={directory: look_at_checkpoint(directory) for directory in checkpoints},
        free={directory: free for directory in outputs if (free := free_bytes(directory)) is not None},
    )


def _listed(plan: Plan, files: Mapping[str, RunFiles]) -> dict[str, tuple[str, ...]]:
    """The checkpoint files that the first run of each model names."""
    first = {run.checkpoint_dir: files.get(run.directory) for run in reversed(plan.runs)}
    found = {directory: checkpoint_files(each) for directory, each in first.items() if directory and each}
    return {directory: names for directory, names in found.items() if names}
