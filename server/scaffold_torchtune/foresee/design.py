"""What the design of the experiment brings with it: combinations left out, and parameters that change together.

All of it is information: an experimenter may want it so.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from scaffold_torchtune.findings import Finding, Scalar, finding
from scaffold_torchtune.foresee.places import at, row
from scaffold_torchtune.foresee.steps import effective_batch
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.shared.text import few, shown

_LISTED = 6
_REPLICATES = frozenset({"seed"})
"""Parameters that repeat a combination instead of making another."""


def findings(plan: Plan) -> Iterator[Finding]:
    """Remarks about the design."""
    factors = {name: [_level(run, name) for run in plan.runs] for name in plan.varying}
    yield from _factorial(plan, {k: v for k, v in factors.items() if k not in _REPLICATES})
    yield from _replicates(plan, factors)
    yield from _together(plan, factors)
    yield from _alpha(plan)
    yield from _batch(plan)


def _level(run: PlannedRun, name: str) -> Scalar:
    return run.parameters.get(name)


def _factorial(plan: Plan, factors: dict[str, list[Scalar]]) -> Iterator[Finding]:
    """Combinations that are not planned, where every factor meets at least half of them."""
    levels = {name: list(dict.fromkeys(values)) for name, values in factors.items()}
    size = math.prod(len(each) for each in levels.values())
    planned = set(zip(*factors.values(), strict=True))
    if not size / 2 <= len(planned) < size:
        return
    missing = [each for each in itertools.product(*levels.values()) if each not in planned]
    combinations = [_combination(list(levels), each) for each in missing]
    listed = few(combinations, _LISTED, between="; ", more="; and {} more")
    message = f"{len(missing)} of the {size} combinations of {' x '.join(levels)} are not planned: {listed}"
    fix = "add their rows to the runs table if they were meant to be there"
    yield finding(
        "incomplete-factorial", message, field="runs", expected=size, actual=len(planned), fix=fix, at=row(plan.runs[0])
    )


def _combination(names: Sequence[str], levels: Sequence[Scalar]) -> str:
    return ", ".join(f"{name} {shown(level)}" for name, level in zip(names, levels, strict=True))


def _replicates(plan: Plan, factors: dict[str, list[Scalar]]) -> Iterator[Finding]:
    """Combinations that are repeated more often than others."""
    if "seed" not in factors:
        return
    others = [values for name, values in factors.items() if name != "seed"]
    counts = Counter(zip(*others, strict=True))
    if len(set(counts.values())) > 1:
        yield finding(
            "incomplete-factorial",
            f"the seeds are not the same for all combinations: some have {min(counts.values())} run(s), some"
            f" {max(counts.values())}",
            field="seed",
            expected=max(counts.values()),
            actual=min(counts.values()),
            fix="add the rows that are missing if every combination should be repeated alike",
            at=row(plan.runs[0]),
        )


def _together(plan: Plan, factors: dict[str, list[Scalar]]) -> Iterator[Finding]:
    """Parameters of which each tells the others: their effects cannot be told apart."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, values in factors.items():
        levels = list(dict.fromkeys(values))
        alike.setdefault(tuple(levels.index(level) for level in values), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            listed = f"{', '.join(names[:-1])} and {names[-1]}"
            message = f"{listed} change together in all runs, so their effects cannot be told apart"
            yield _confound(plan, message, *names)


def _confound(plan: Plan, message: str, *names: str) -> Finding:
    fix = "nothing if it is meant so; else vary one without the other"
    return finding("confound", message, field=names[0], fix=fix, at=at(plan.runs[0], *names))


def _alpha(plan: Plan) -> Iterator[Finding]:
    """LoRA scales what it adds by alpha / rank."""
    ranks = [r for r in plan.runs if isinstance(r.value("lora_rank"), int) and r.value("lora_alpha") is not None]
    scales = {float(run.text("lora_alpha")) / run.integer("lora_rank", 1) for run in ranks}
    alphas, levels = {run.value("lora_alpha") for run in ranks}, {run.value("lora_rank") for run in ranks}
    if len(levels) < 2 or "lora_alpha" in plan.varying:  # noqa: PLR2004 - it varies
        return
    if len(scales) == 1:
        scale = f"{scales.pop():g}"
        yield _confound(
            plan, f"lora_alpha moves with lora_rank, so that alpha / rank is {scale} in all runs", "lora_rank"
        )
    elif len(alphas) == 1:
        yield _confound(
            plan,
            f"lora_alpha is {alphas.pop()} in all runs, so alpha / rank, by which LoRA scales what it adds, falls from"
            f" {max(scales):g} to {min(scales):g} as lora_rank grows",
            "lora_alpha",
        )


def _batch(plan: Plan) -> Iterator[Finding]:
    """Samples in a step differ, and with them the number of steps and the part of them that is warm-up."""
    sizes = Counter(effective_batch(run) for run in plan.runs)
    if len(sizes) > 1:
        names = ("batch_size", "gradient_accumulation_steps", "gpus")
        parts = ", ".join(f"{size} in {count} run(s)" for size, count in sorted(sizes.items()))
        yield _confound(
            plan,
            f"the samples in an optimizer step (batch size x accumulation x GPUs) differ: {parts}; with them the"
            " number of steps, and the part of training that is warm-up",
            *(name for name in names if _differs(plan, name)),
        )


def _differs(plan: Plan, name: str) -> bool:
    return len({run.value(name) for run in plan.runs}) > 1
