"""Whether training takes any step at all, and gets past its warm-up."""

from collections.abc import Iterator

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.foresee.places import at, concerning, grouped
from scaffold_torchtune.foresee.steps import effective_batch, rows_of, steps_of
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.seen import Seen


def findings(plan: Plan, seen: Seen) -> Iterator[Finding]:
    """Runs without a step, and runs whose learning rate is at what is planned only late or never.

    Samples that are packed are put together by their length in tokens, which is not known here: of such runs only an
    empty data set is told.
    """
    for key, runs in grouped(plan.runs, lambda run: _case(run, plan, seen)).items():
        if key is None:
            continue
        basis, steps, epochs, warmup = key
        if steps == 0:
            yield _no_steps(plan, runs, basis)
        elif 2 * warmup > steps * epochs:
            yield _long_warmup(plan, runs, basis, steps)


def _case(run: PlannedRun, plan: Plan, seen: Seen) -> tuple[str, int, int, int] | None:
    rows = rows_of(run, plan, seen)
    if rows is None or (run.value("packed") and rows.count):
        return None
    warmup = run.integer("num_warmup_steps", 0)
    return rows.basis, steps_of(run, rows.count), run.integer("epochs", 1), warmup


def _no_steps(plan: Plan, runs: list[PlannedRun], basis: str) -> Finding:
    run = runs[0]
    batch = effective_batch(run)
    return finding(
        "no-steps",
        f"{concerning(runs, len(plan.runs))} would train no step: {basis}, and a step takes {batch} samples"
        f" (batch size x gradient accumulation x GPUs); torchtune drops what does not fill a step",
        field="batch_size",
        expected="at least one step in an epoch",
        actual=0,
        fix="lower the batch size, accumulation or GPUs until a step takes no more than there is, or give more data",
        at=at(run, "batch_size", "gradient_accumulation_steps"),
    )


def _long_warmup(plan: Plan, runs: list[PlannedRun], basis: str, steps: int) -> Finding:
    run = runs[0]
    epochs, warmup = run.integer("epochs", 1), run.integer("num_warmup_steps", 0)
    total = steps * epochs
    chosen = "" if at(run, "num_warmup_steps").line else ", a default that nobody chose,"
    long, so_what = (
        ("is not shorter than", "the learning rate never reaches what is planned")
        if warmup >= total
        else ("takes more than half of", "in most steps the learning rate is below what is planned")
    )
    return finding(
        "long-warmup",
        f"in {concerning(runs, len(plan.runs))} the warm-up of {warmup} steps{chosen} {long} the training"
        f" of {total} steps ({steps} in each of {epochs} epoch(s): {basis}), so {so_what}",
        field="num_warmup_steps",
        expected=f"at most {total // 2}",
        actual=warmup,
        fix=f"write '- **Warmup steps:** {total // 10}' (a tenth of training) in Configuration, or another number",
        at=at(run, "num_warmup_steps", "epochs"),
    )
