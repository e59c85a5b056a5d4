"""How many optimizer steps a run takes, as torchtune 0.6.1 counts them."""

import math
from dataclasses import dataclass

from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.seen import PartSeen, Seen

TRAIN = "train"
VALIDATION = "validation"


@dataclass(frozen=True)
class Rows:
    """How many samples a run trains on in an epoch, and how that is known."""

    count: int
    basis: str


def steps_per_epoch(rows: int, *, batch_size: int, accumulation: int, processes: int, limit: int | None = None) -> int:
    """Optimizer steps in an epoch.

    The recipes deal the samples out to the processes with a sampler that fills up the last share
    (StatefulDistributedSampler, drop_last false), drop each process's last batch where it is not full (DataLoader,
    drop_last true), divide by the accumulation, and stop at `max_steps_per_epoch` (recipes/lora_finetune_*.py and
    full_finetune_*.py, `_setup_data` and `_steps_per_epoch`).
    """
    batches = math.ceil(rows / processes) // batch_size
    steps = batches // accumulation
    return steps if limit is None else min(steps, limit)


def part_of(run: PlannedRun, seen: Seen, name: str = TRAIN) -> PartSeen | None:
    """A part of the run's data set, where it was seen."""
    found = seen.data.get(run.data_path)
    return None if found is None else found.parts.get(name)


def rows_of(run: PlannedRun, plan: Plan, seen: Seen) -> Rows | None:
    """The samples of a training epoch: counted where they were seen, else as the summary says, else None."""
    part, declared = part_of(run, seen), plan.splits.get(run.data_path, {}).get(TRAIN)
    label = f"{run.value('dataset_label')}{run.value('dataset_ext')}"
    if part is not None:
        rows = Rows(part.rows, f"{label} has {part.rows} rows")
    elif declared is not None:
        rows = Rows(declared, f"the summary says {declared} samples")
    else:
        return None
    asked = run.value("training_samples")
    if isinstance(asked, int) and asked < rows.count:
        return Rows(asked, f"{asked} training samples")
    return rows


def effective_batch(run: PlannedRun) -> int:
    """Samples in an optimizer step: batch size x accumulation x GPUs."""
    return run.integer("batch_size", 1) * run.integer("gradient_accumulation_steps", 1) * run.integer("gpus", 1)


def steps_of(run: PlannedRun, rows: int) -> int:
    """Optimizer steps in an epoch of the run."""
    limit = run.value("max_steps_per_epoch")
    return steps_per_epoch(
        rows,
        batch_size=run.integer("batch_size", 1),
        accumulation=run.integer("gradient_accumulation_steps", 1),
        processes=run.integer("gpus", 1),
        limit=limit if isinstance(limit, int) else None,
    )
