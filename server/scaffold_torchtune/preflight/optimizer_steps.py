"""Optimizer steps of a run as torchtune 0.6.1 counts them, and checks of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import DataPart, DiskState, Plan, PlannedRun
from scaffold_torchtune.preflight.run_groups import at, concerning, grouped
from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch

TRAIN = "train"
VALIDATION = "validation"


@dataclass(frozen=True)
class Rows:
    """How many samples a run trains on in an epoch, and how that is known."""

    count: int
    basis: str


def part_of(run: PlannedRun, disk: DiskState, name: str = TRAIN) -> DataPart | None:
    """Return a part of the run's data set, where it was seen."""
    found = disk.data.get(run.data_path)
    return None if found is None else found.parts.get(name)


def rows_of(run: PlannedRun, plan: Plan, disk: DiskState) -> Rows | None:
    """Return the samples of a training epoch: counted where they were seen, else as the summary says, else None."""
    part, declared = part_of(run, disk), plan.splits.get(run.data_path, {}).get(TRAIN)
    if part is not None:
        label = f"{run.value('dataset_label')}{run.value('dataset_ext')}"
        rows = Rows(part.rows, f"{label} has {part.rows} rows")
    elif declared is not None:
        rows = Rows(declared, f"the summary says {declared} samples")
    else:
        return None
    asked = run.integer("training_samples", rows.count)
    return Rows(asked, f"{asked} training samples") if asked < rows.count else rows


def effective_batch(run: PlannedRun) -> int:
    """Return the samples in an optimizer step: batch size x accumulation x GPUs."""
    return run.integer("batch_size", 1) * run.integer("gradient_accumulation_steps", 1) * run.integer("gpus", 1)


def steps_of(run: PlannedRun, rows: int) -> int:
    """Return the optimizer steps in an epoch of the run."""
    limit, batch_size = run.value("max_steps_per_epoch"), run.integer("batch_size", 1)
    limit = limit if isinstance(limit, int) else None
    accumulation, processes = run.integer("gradient_accumulation_steps", 1), run.integer("gpus", 1)
    return steps_per_epoch(rows, batch_size=batch_size, accumulation=accumulation, processes=processes, limit=limit)


def step_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield runs without a step, and runs whose learning rate is at what is planned only late or never.

    Samples that are packed are put together by their length in tokens, which is not known here: of such runs only an
    empty data set is reported.
    """
    for key, runs in grouped(plan.runs, lambda run: _case(run, plan, disk)).items():
        if key is None:
            continue
        basis, steps, epochs, warmup = key
        if steps == 0:
            yield _no_steps(plan, runs, basis)
        elif 2 * warmup > steps * epochs:
            yield _long_warmup(plan, runs, key)


def _case(run: PlannedRun, plan: Plan, disk: DiskState) -> tuple[str, int, int, int] | None:
    """How the samples are known, the steps of an epoch, the epochs, the steps of warm-up."""
    rows = rows_of(run, plan, disk)
    if rows is None or (run.value("packed") and rows.count):
        return None
    warmup = run.integer("num_warmup_steps", 0)
    return rows.basis, steps_of(run, rows.count), run.integer("epochs", 1), warmup


def _no_steps(plan: Plan, runs: list[PlannedRun], basis: str) -> Finding:
    message = (
        f"{concerning(runs, plan)} would train no step: {basis}, and a step takes {effective_batch(runs[0])} samples"
        " (batch size x gradient accumulation x GPUs); torchtune drops what does not fill a step"
    )
    expected, place = "at least one step in an epoch", at(runs[0], "batch_size", "gradient_accumulation_steps")
    fix = "lower the batch size, accumulation or GPUs until a step takes no more than there is, or give more data"
    return finding("no-steps", message, field="batch_size", expected=expected, actual=0, fix=fix, at=place)


def _long_warmup(plan: Plan, runs: list[PlannedRun], case: tuple[str, int, int, int]) -> Finding:
    basis, steps, epochs, warmup = case
    total, field = steps * epochs, "num_warmup_steps"
    chosen = "" if at(runs[0], field).line else ", a default that nobody chose,"
    long, so_what = (
        ("is not shorter than", "the learning rate never reaches what is planned")
        if warmup >= total
        else ("takes more than half of", "in most steps the learning rate is below what is planned")
    )
    message = (
        f"in {concerning(runs, plan)} the warm-up of {warmup} steps{chosen} {long} the training of {total} steps"
        f" ({steps} in each of {epochs} epoch(s): {basis}), so {so_what}"
    )
    expected, place = f"at most {total // 2}", at(runs[0], field, "epochs")
    fix = f"write '- **Warmup steps:** {total // 10}' (a tenth of training) in Configuration, or another number"
    return finding("long-warmup", message, field=field, expected=expected, actual=warmup, fix=fix, at=place)
