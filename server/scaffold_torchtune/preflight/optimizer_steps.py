"""Optimizer steps of a run as torchtune 0.6.1 counts them, and checks of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models import DataPart, DiskState, Packs, Plan, PlannedRun
from scaffold_torchtune.preflight.run_groups import at, concerning, grouped
from scaffold_torchtune.preflight.samples import counts_of
from scaffold_torchtune.settings.fixes import to_give
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


class _Case(NamedTuple):
    """How the samples are known, and what follows: the most steps of an epoch, those that are likely, and the rest."""

    basis: str
    what: str
    samples: int
    steps: int
    likely: int
    epochs: int
    warmup: int


def step_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield runs without a step, and runs whose learning rate is at what is planned only late or never.

    Samples that are packed are put together by their length in tokens: of these the number of packs has bounds, and
    is never more than that of the samples.
    """
    for case, runs in grouped(plan.runs, lambda run: _case(run, plan, disk)).items():
        if case is None:
            continue
        if case.likely == 0:
            yield _no_steps(plan, runs, case)
        elif 2 * case.warmup > case.likely * case.epochs:
            yield _long_warmup(plan, runs, case)


def _case(run: PlannedRun, plan: Plan, disk: DiskState) -> _Case | None:
    rows = rows_of(run, plan, disk)
    if rows is None:
        return None
    basis, what, most, likely = rows.basis, "samples", rows.count, rows.count
    if run.value("packed") and rows.count:
        counts = counts_of(run, part_of(run, disk))
        packs = counts.packs if counts and counts.packs else Packs(least=1, likely=rows.count, most=rows.count)
        number = f"at most {packs.most}" if packs.least < packs.most else f"{packs.most}"
        about = f", likely about {packs.likely}" if packs.likely < packs.most else ""
        basis = f"{rows.basis}, which make {number} packs of {run.value('max_seq_len')} tokens{about}"
        what, most, likely = "packs", packs.most, packs.likely
    return _Case(
        basis=basis,
        what=what,
        samples=likely,
        steps=steps_of(run, most),
        likely=steps_of(run, likely),
        epochs=run.integer("epochs", 1),
        warmup=run.integer("num_warmup_steps", 0),
    )


def _no_steps(plan: Plan, runs: list[PlannedRun], case: _Case) -> Finding:
    would, severity = ("would", None) if case.steps == 0 else ("would likely", Severity.WARNING)
    message = (
        f"{concerning(runs, plan)} {would} train no step: {case.basis}, and a step takes"
        f" {effective_batch(runs[0])} {case.what} (batch size x gradient accumulation x GPUs); torchtune drops what"
        " does not fill a step, and ends well"
    )
    expected, place = "at least one step in an epoch", at(runs[0], "batch_size", "gradient_accumulation_steps")
    unpack = ", or take Packed out" if case.what == "packs" else ""
    fix = f"{_fewer(plan, runs, case)}{unpack}, or give more data"
    return finding(
        "no-steps", message, field="batch_size", expected=expected, actual=0, fix=fix, severity=severity, at=place
    )


def _fewer(plan: Plan, runs: list[PlannedRun], case: _Case) -> str:
    """Return how a step takes no more samples than there are: by a smaller batch, or else less accumulation, too."""
    run = runs[0]
    accumulation, gpus = run.integer("gradient_accumulation_steps", 1), run.integer("gpus", 1)
    if size := case.samples // (accumulation * gpus):
        return to_give("batch_size", size, runs, plan.runs)
    if size := case.samples // gpus:
        once = to_give("gradient_accumulation_steps", 1, runs, plan.runs)
        return f"{once}, and {to_give('batch_size', size, runs, plan.runs)}"
    return "use fewer GPUs"


def _long_warmup(plan: Plan, runs: list[PlannedRun], case: _Case) -> Finding:
    total, field, warmup = case.likely * case.epochs, "num_warmup_steps", case.warmup
    chosen = "" if at(runs[0], field).line else ", a default that nobody chose,"
    about = "about " if case.steps > case.likely else ""
    long, so_what = (
        ("is not shorter than", "the learning rate never reaches what is planned")
        if warmup >= total
        else ("takes more than half of", "in most steps the learning rate is below what is planned")
    )
    message = (
        f"in {concerning(runs, plan)} the warm-up of {warmup} steps{chosen} {long} the training of {about}{total} steps"
        f" ({case.likely} in each of {case.epochs} epoch(s): {case.basis}), so {so_what}"
    )
    expected, place = f"at most {total // 2}", at(runs[0], field, "epochs")
    fix = f"{to_give(field, total // 10, runs, plan.runs)} (a tenth of the training), or another number"
    return finding("long-warmup", message, field=field, expected=expected, actual=warmup, fix=fix, at=place)
