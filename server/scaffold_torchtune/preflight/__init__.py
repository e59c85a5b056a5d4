"""Preflight checks: what would go wrong later, as far as the plan and the disk show it now.

data_files.py       reading JSON and Parquet data sets
data_findings.py    columns, formats and sizes of data sets
conversations.py    chats that torchtune refuses, and the layout of each tokenizer
samples.py          lengths of samples, packing, labels that are left
token_counter.py    tokens, counted by the tokenizer of the model
labels.py           samples without labels, NaN losses, truncation
disk.py             reading the directories of base models, free space, states to resume from
inputs.py           files and tensors of base models
resuming.py         states of other plans in the output directory
optimizer_steps.py  optimizer steps, and warm-up beside them
cost.py             GPU memory, disk and time
design.py           seeds, confounds, unusual values, identical runs
grid.py             the factorial grid, and odd cells in it
run_groups.py       runs with equal values, for one finding about all of them
"""

from collections.abc import Mapping, Sequence

from scaffold_torchtune.findings import Finding, sort_findings
from scaffold_torchtune.models import DiskState, Plan
from scaffold_torchtune.preflight import (
    cost,
    data_findings,
    design,
    inputs,
    labels,
    optimizer_steps,
    resuming,
    run_groups,
)


def check_plan(
    plan: Plan,
    disk: DiskState,
    listed: Mapping[str, Sequence[str]],
    resumed: tuple[Mapping[str, resuming.ConfigData], Mapping[str, resuming.ConfigData]] = ({}, {}),
    *,
    whole: Plan | None = None,
) -> list[Finding]:
    """Return everything that would go wrong later.

    Args:
        plan: the plan.
        disk: what lies on disk of what the plan names.
        listed: the checkpoint files that finetune.yaml names, by the model's directory; where it is not known yet,
            the directory is not here.
        resumed: by the directory of a run that may resume, its finetune.yaml, and the config that the state in its
            output directory was trained by.
        whole: the plan with the started runs that are kept, which are part of its design.

    Returns:
        Findings about the experiment, each once for all runs that it concerns, with the line in the documents from
        which the value comes, sorted by it.
    """
    return sort_findings(
        [
            *data_findings.data_findings(plan, disk),
            *labels.label_findings(plan, disk),
            *optimizer_steps.step_findings(plan, disk),
            *inputs.checkpoint_findings(plan, disk, listed),
            *run_groups.output_findings(plan, disk),
            *resuming.resuming_findings(plan, disk, *resumed),
            *design.name_findings(plan),
            *design.design_findings(whole or plan),
            *design.unusual_findings(plan),
            *cost.cost_findings(plan, disk),
        ]
    )
