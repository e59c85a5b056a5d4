"""The design of the experiment: its grid, odd cells, seeds, confounds, and names that contradict the plan.

A cell is odd if one different value in it makes the runs a grid: every combination of the levels, each equally often.
Other explanations are considered first: the design may not be a grid on purpose. A factor that never varies
otherwise, or that follows from another factor (alpha from the rank), belongs to the grid like that factor.

Findings about missing combinations and confounds are infos, because both may be intended. A base model and its
instruct version have the same shapes, so the name of the directory may be the only difference.
"""

import itertools
import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Final, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, Scalar, counted, few, finding, shown
from scaffold_torchtune.models import Plan, PlannedRun, SourceKind
from scaffold_torchtune.preflight.training import (
    at,
    concerning,
    effective_batch,
    full,
    grouped,
    row_of,
    verb,
    who_do,
)
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import UNBOUNDED, Bounds, read_float
from scaffold_torchtune.settings.parameters import PARAMETERS, SURROUNDINGS
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.torchtune_facts import find_model

_LEAST_RUNS: Final = 4
_LEAST_FOR_TWO: Final = 8  # runs, of which two cells may be odd
_ALL_TRIED: Final = 40  # runs, each of which is tried; of more runs, only those with a unique level
_MOST_TRIED: Final = 12
_RUNS_FOR_A_GAP: Final = 8
_EVEN: Final = 2.0  # maximum ratio between two even steps

Levels = Sequence[Scalar]


@dataclass(frozen=True)
class OddCell:
    """A value that only one run has (by its position), and the value that would make the runs a grid.

    `sizes` are the numbers of levels by factor. `pair` is the position of a second run, if its value may be the odd one
    instead: then only one run has each of the two levels. `gaps` are the combinations that would still be missing.
    """

    run: int
    factor: str
    actual: Scalar
    expected: Scalar
    sizes: Mapping[str, int]
    pair: int | None = None
    gaps: int = 0


class _Grid(NamedTuple):
    """Some runs as a grid: the factors that span it, and the values of each other factor by the level that gives them.

    A factor that follows from no other factor has one level.
    """

    spans: tuple[str, ...]
    follows: dict[str, tuple[str | None, dict[Scalar, Scalar]]]

    def completed(self, combination: Sequence[Scalar]) -> dict[str, Scalar]:
        """Return the level of each factor in a combination, where the other runs determine it."""
        levels = dict(zip(self.spans, combination, strict=True))
        for name, (of, mapping) in self.follows.items():
            key = None if of is None else levels[of]
            if key in mapping:
                levels[name] = mapping[key]
        return levels


def odd_cells(factors: Mapping[str, Levels]) -> list[OddCell]:
    """Return the cells that keep the runs from being a full grid, if they are few and nothing else explains them.

    Args:
        factors: by each factor that varies, its levels by run.
    """
    factors = _without_identifiers(factors)
    runs = range(len(next(iter(factors.values()), ())))
    if len(runs) < _LEAST_RUNS or len(factors) == 1:
        return []
    whole = _grid(factors, runs)
    if len(whole.spans) > 1 and _missing(whole, factors, runs, len(runs)) == []:
        return []
    single = [cell for run in _suspects(factors, runs) for cell in _alone(factors, runs, run)]
    found = [cell for cell in single if _has_support(cell, factors)]
    if len({cell.run for cell in found}) == 1:
        return found
    if len(found) == 2:  # noqa: PLR2004 - a pair
        return _pair(found[0], found[1], factors)
    return [] if found else _several(factors, runs) or _with_gaps(factors, runs)


def _without_identifiers(factors: Mapping[str, Levels]) -> dict[str, Levels]:
    """Remove seeds if each run has its own: such seeds identify runs and are not a factor."""
    is_own = {name: name == "seed" and len(set(levels)) == len(levels) for name, levels in factors.items()}
    return {name: levels for name, levels in factors.items() if not is_own[name]}


def _grid(factors: Mapping[str, Levels], runs: Sequence[int]) -> _Grid:
    """Return the factors that span the runs: those that do not follow from one with as many levels or more."""
    spans: list[str] = []
    follows: dict[str, tuple[str | None, dict[Scalar, Scalar]]] = {}
    columns = {name: [levels[run] for run in runs] for name, levels in factors.items()}
    for name in sorted(columns, key=lambda each: -len(set(columns[each]))):
        column = columns[name]
        if len(set(column)) == 1:
            follows[name] = (None, {None: column[0]})
            continue
        for other in spans:
            mapping = dict(zip(columns[other], column, strict=True))
            if all(mapping[key] == value for key, value in zip(columns[other], column, strict=True)):
                follows[name] = (other, mapping)
                break
        else:
            spans.append(name)
    return _Grid(tuple(name for name in factors if name in spans), follows)


def _sizes(grid: _Grid, factors: Mapping[str, Levels], runs: Sequence[int]) -> dict[str, int]:
    return {name: len({factors[name][run] for run in runs}) for name in grid.spans}


def _missing(
    grid: _Grid, factors: Mapping[str, Levels], runs: Sequence[int], whole: int
) -> list[tuple[Scalar, ...]] | None:
    """Return the combinations that some runs lack of a grid with so many runs; None if they are not part of one."""
    combinations = 1
    for size in _sizes(grid, factors, runs).values():
        combinations *= size
    if not grid.spans or whole % combinations:
        return None
    counts = Counter(tuple(factors[name][run] for name in grid.spans) for run in runs)
    each = whole // combinations
    if max(counts.values()) > each:
        return None
    levels = [list(dict.fromkeys(factors[name][run] for run in runs)) for name in grid.spans]
    return [one for one in product(*levels) for _ in range(each - counts[one])]


def _suspects(factors: Mapping[str, Levels], runs: Sequence[int]) -> list[int]:
    if len(runs) <= _ALL_TRIED:
        return list(runs)
    counts = {name: Counter(levels) for name, levels in factors.items()}
    lone = [run for run in runs if any(counts[name][factors[name][run]] == 1 for name in factors)]
    return lone if len(lone) <= _MOST_TRIED else []


def _alone(factors: Mapping[str, Levels], runs: Sequence[int], run: int) -> Iterator[OddCell]:
    """Yield the odd cell of a run if all other runs are a grid without one combination."""
    others = [each for each in runs if each != run]
    grid = _grid(factors, others)
    missing = _missing(grid, factors, others, len(runs))
    sizes = _sizes(grid, factors, others)
    if missing is not None and len(missing) == 1:
        expected = grid.completed(missing[0])
    elif len(grid.spans) == 1 and _missing(grid, factors, others, len(others)) == [] and _inside(grid, factors, run):
        # one factor varies, and the run has a unique level of it
        expected = {name: mapping[None] for name, (of, mapping) in grid.follows.items() if of is None}
        sizes = {name: size + 1 for name, size in sizes.items()}
    else:
        return
    differing = [name for name, level in expected.items() if factors[name][run] != level]
    own = [name for name in differing if all(factors[name][other] != factors[name][run] for other in others)]
    if len(differing) == 1 or (len(differing) == len(own) == 2 and len(runs) >= _LEAST_FOR_TWO):  # noqa: PLR2004 - two
        for name in differing:
            yield OddCell(run, name, factors[name][run], expected[name], sizes)


def _inside(grid: _Grid, factors: Mapping[str, Levels], run: int) -> bool:
    """Return whether a run is neither the first nor the last in the order of the only factor that varies.

    At an end a different value may well be intended, such as a smaller batch for the largest model.
    """
    levels = factors[grid.spans[0]]
    if levels.count(levels[run]) > 1:
        return False
    ends = _ends(levels)
    return grid.spans[0] == "seed" or levels[run] not in ends


def _ends(levels: Levels) -> tuple[Scalar, Scalar]:
    """Return the first and the last of some levels: numbers by size, other values in the order of the table."""
    numbers = [level for level in levels if isinstance(level, int | float)]
    return (min(numbers), max(numbers)) if len(numbers) == len(levels) else (levels[0], levels[-1])


def _has_support(cell: OddCell, factors: Mapping[str, Levels]) -> bool:
    """Return whether other runs have the expected level."""
    return cell.expected in factors[cell.factor]


def _pair(one: OddCell, other: OddCell, factors: Mapping[str, Levels]) -> list[OddCell]:
    """Return the likelier of two cells if the value of either may be the odd one: by default the later.

    If fewer runs have one of the two values, that value is the odd one.
    """
    if (one.factor, one.actual, one.expected) != (other.factor, other.expected, other.actual):
        return []
    counts = [factors[one.factor].count(each.actual) for each in (one, other)]
    if counts[0] != counts[1]:
        return [one if counts[0] < counts[1] else other]
    shared = [level for level in factors[one.factor] if level not in {one.actual, one.expected}]
    numbers = [abs(float(level)) for level in (one.actual, other.actual, *shared) if isinstance(level, int | float)]
    far = [0.0, 0.0]
    if shared and len(numbers) == len(shared) + 2 and all(numbers):
        first, second, *others = map(math.log, numbers)
        if len(set(others)) == 1 and _is_staircase(first, others[0], second):
            return []
        far = [max(min(others) - level, level - max(others)) for level in (first, second)]
    odd, pair = (one, other) if far[0] > far[1] else (other, one)
    return [replace(odd, pair=pair.run)]


def _is_staircase(low: float, shared: float, high: float) -> bool:
    """Return whether a shared level divides two others evenly: 1e-5 and 2e-5 with a rank, 2e-5 and 4e-5 with the next.

    Steps are compared by logarithm. Such runs scale one setting with the other, and none is odd.
    """
    one, other = shared - low, high - shared
    return one * other > 0 and 1 / _EVEN <= one / other <= _EVEN


def _several(factors: Mapping[str, Levels], runs: Sequence[int]) -> list[OddCell]:
    """Return one odd cell in each of several runs: those with a rare level, if the others are a grid."""
    counts = {name: Counter(levels) for name, levels in factors.items()}
    usual = {name: median(counts[name][level] for level in levels) for name, levels in factors.items()}
    rare = {
        run: names
        for run in runs
        if (names := [name for name in factors if 2 * counts[name][factors[name][run]] <= usual[name]])
    }
    others = [run for run in runs if run not in rare]
    if len(runs) < _LEAST_FOR_TWO or not 2 <= len(rare) <= max(2, len(runs) // 6):  # noqa: PLR2004 - several
        return []
    grid = _grid(factors, others)
    missing = _missing(grid, factors, others, len(runs))
    if missing is None or len(missing) != len(rare):
        return []
    found: list[OddCell] = []
    for run, names in rare.items():
        for combination in missing:
            expected = grid.completed(combination)
            differing = [name for name, level in expected.items() if factors[name][run] != level]
            if len(differing) == 1 and differing[0] in names:
                name = differing[0]
                sizes = _sizes(grid, factors, others)
                found.append(OddCell(run, name, factors[name][run], expected[name], sizes))
                missing.remove(combination)
                break
    return found if not missing else []


def _distance(one: Scalar, other: Scalar) -> float:
    """Return the distance of two levels by their ratio; 0 if one is not a number."""
    numbers = [float(each) for each in (one, other) if isinstance(each, int | float) and each > 0]
    return abs(math.log(numbers[0] / numbers[1])) if len(numbers) == 2 else 0.0  # noqa: PLR2004 - both


def _with_gaps(factors: Mapping[str, Levels], runs: Sequence[int]) -> list[OddCell]:
    """Return the only odd cell of a grid that also lacks a few combinations: that of a run with a unique level."""
    found: list[OddCell] = []
    counts = {name: Counter(levels) for name, levels in factors.items()}
    lone = [(run, name) for run in runs for name in factors if counts[name][factors[name][run]] == 1]
    for run, name in lone if len(runs) >= _LEAST_FOR_TWO and len(lone) <= _MOST_TRIED else ():
        others = [each for each in runs if each != run]
        grid = _grid(factors, others)
        sizes = _sizes(grid, factors, others)
        gaps = math.prod(sizes.values()) - len(runs)
        if not 1 <= gaps <= len(runs) // _RUNS_FOR_A_GAP:
            continue
        filled = [grid.completed(each) for each in _missing(grid, factors, others, len(runs) + gaps) or ()]
        actual = factors[name][run]
        meant = [each[name] for each in filled if [n for n in each if factors[n][run] != each[n]] == [name]]
        if meant:  # if one of them is unique too, its run is found as well, and neither is certain
            nearest = min(meant, key=lambda level: _distance(actual, level))
            found.append(OddCell(run, name, actual, nearest, sizes, gaps=gaps))
    return found if len(found) == 1 else []


_LISTED = 6
_CACHED: Final = "models--"  # prefix of an entry's name in Hugging Face's cache
_OF_JOBS: Final = SURROUNDINGS - {"gpus", "models_dir"}
"""Settings that affect how a run is computed, but not its result."""

_USUAL_IN_FULL: Final = {"lr": Bounds(minimum=1e-8, maximum=1e-3)}
"""Usual ranges for full fine-tuning, where they differ from those for LoRA."""

_USUAL_SCALE: Final = Bounds(minimum=1 / 64, maximum=64)
"""The usual range of lora_alpha / lora_rank."""

_SETTING_OF: Final = {"model": "torchtune_model_name", "dataset": "dataset_label", "recipe": "custom_recipe"}
_LABELS: Final = {
    **{name: name for name, each in PARAMETERS.items() if each.column and each.kind in {"int", "float"}},
    "rank": "lora_rank", "r": "lora_rank", "alpha": "lora_alpha", "bs": "batch_size", "epoch": "epochs", "ep": "epochs",
    "wd": "weight_decay", "effective_batch_size": "batch_size",
}  # fmt: skip
"""Abbreviations of settings before a number in a run's name; lowercase, because `R1` is a part of models' names."""

_LONGEST: Final = 300
_CLAIM: Final = re.compile(
    rf"(?<![A-Za-z0-9])({'|'.join(_LABELS)})[=_-]?"
    r"([0-9]{1,12}(?:\.[0-9]{1,12})?(?:e-?[0-9]{1,3})?)(?![A-Za-z0-9.])"
)


def design_findings(plan: Plan) -> Iterator[Finding]:
    """Yield findings about the design."""
    factors = {name: [run.parameters.get(name) for run in plan.runs] for name in plan.varying}
    others = {name: values for name, values in factors.items() if name != "seed"}  # which repeats a combination
    odd = odd_cells({name: levels for name, levels in factors.items() if name not in _OF_JOBS})
    yield from (_odd(plan, cell) for cell in odd)
    yield from _factorial(plan, others) if not odd else ()
    yield from _seeds(plan)
    if "seed" in factors and not any(cell.factor == "seed" for cell in odd):
        yield from _replicates(plan, others)
    yield from _together(plan, factors | _of_template(plan))
    yield from _alpha(plan)
    yield from _batch(plan)


def _odd(plan: Plan, cell: OddCell) -> Finding:
    """Return the finding about a value that keeps the runs from being a grid."""
    run, factor = plan.runs[cell.run], cell.factor
    actual, expected = kinds.written(cell.actual), kinds.written(cell.expected)
    sizes, names = " x ".join(map(str, cell.sizes.values())), " x ".join(cell.sizes)
    others = [each for each in plan.runs if each.parameters.get(factor) == cell.actual and each != run]
    has = f"{shown(run.name)} has {factor} {actual}" if others else f"only {shown(run.name)} has {factor} {actual}"
    if cell.pair is not None:
        pair = plan.runs[cell.pair]
        has = f"{has}, and only {shown(pair.name)} (line {pair.line}) has {expected}; with one value for both,"
        fix = f"use the same {factor} in both rows; no action if both values are intended"
    else:
        has, fix = (
            f"{has}; with {expected},",
            (f"write `{expected}` for {factor} in this row; no action if {actual} is intended"),
        )
    lacks = f"lack only {counted(cell.gaps, 'combination')}" if cell.gaps else "be complete"
    message = f"{has} the {sizes} grid ({names}) would {lacks}"
    if len(cell.sizes) == 1:
        message = f"{has} the {sizes} runs would differ only in {names}"
    place, wanted, found = _cell(run, factor), cell.expected, cell.actual
    return finding("odd-value", message, field=factor, expected=wanted, actual=found, fix=fix, at=place)


def _cell(run: PlannedRun, factor: str) -> Location:
    """Return the location of a run's own value, or of its row."""
    setting = run.settings.get(_SETTING_OF.get(factor, factor))
    is_own = setting is not None and setting.source.kind is SourceKind.ROW
    return Location(setting.source.file, setting.source.line) if setting and is_own else row_of(run)


def _factorial(plan: Plan, factors: dict[str, list[Scalar]]) -> Iterator[Finding]:
    """Yield combinations that are not planned, if every factor has at least half of them."""
    levels = {name: list(dict.fromkeys(values)) for name, values in factors.items()}
    size = math.prod(len(each) for each in levels.values())
    planned = set(zip(*factors.values(), strict=True))
    if not size / 2 <= len(planned) < size:
        return
    missing = [each for each in itertools.product(*levels.values()) if each not in planned]
    listed = few([_combination(list(levels), each) for each in missing], _LISTED, between="; ")
    count, of = len(missing), " x ".join(levels)
    message = f"{count} of the {size} combinations of {of} {verb(count, 'are')} not planned: {listed}"
    table, row = ("runs", "run") if kinds.is_yaml(plan.runs[0]) else ("the table of runs", "row")
    rows = f"a {row} for it" if count == 1 else f"{row}s for them"
    fix = f"no action if intended; otherwise add {rows} to {table}"
    yield _incomplete(plan, message, "runs", size, len(planned), fix)


def _combination(names: list[str], levels: Iterable[Scalar]) -> str:
    """Return a combination of levels as in messages: `lora_rank 8, lr 1e-05`."""
    return ", ".join(f"{name} {shown(level)}" for name, level in zip(names, levels, strict=True))


def _incomplete(plan: Plan, message: str, field: str, expected: int, actual: int, fix: str) -> Finding:
    code, first = "incomplete-factorial", row_of(plan.runs[0])
    return finding(code, message, field=field, expected=expected, actual=actual, fix=fix, at=first)


def _seeds(plan: Plan) -> Iterator[Finding]:
    """Yield the effect of seeds, if runs differ by seed.

    All four recipes of torchtune 0.6.1 shuffle with a sampler that has the fixed seed 0 (`_setup_data`). Only LoRA's
    dropout and the initial values of its adapter are random (LoRALinear.initialize_parameters): without an adapter,
    runs that differ only by seed end with the same weights.
    """
    groups = grouped(plan.runs, lambda run: (full(run), _but_for_the_seed(run)))
    seeded = {key: runs for key, runs in groups.items() if len({run.value("seed") for run in runs}) > 1}
    same = [runs for (is_full, _), runs in seeded.items() if is_full]
    for runs in same:
        seeds = few([str(run.value("seed")) for run in runs], _LISTED)
        message = (
            f"{concerning(runs, plan)} have equal settings except for seed ({seeds}); torchtune 0.6.1 does not use the"
            " seed in full fine-tuning, so they end with the same weights"
        )
        fix = "keep only one of these rows, and use the column Seed only for LoRA runs"
        yield finding("seed-effect", message, field="seed", actual=len(runs), fix=fix, at=_cell(runs[1], "seed"))
    drawn = [run for (is_full, _), runs in seeded.items() if not is_full for run in runs]
    if drawn:
        message = (
            f"in {concerning(drawn, plan)}, the seed affects only the initial weights and the dropout of the adapter;"
            " torchtune 0.6.1 shuffles the data with a fixed seed"
        )
        place, fix = _cell(drawn[0], "seed"), "no action needed"
        yield finding("seed-effect", message, field="seed", severity=Severity.INFO, fix=fix, at=place)


def _but_for_the_seed(run: PlannedRun) -> tuple[tuple[str, Scalar], ...]:
    """Return the settings that affect a run's result, without its names and the settings of its job."""
    left_out = _OF_JOBS | {"seed", "my_wandb_run_name"}
    return tuple((name, setting.value) for name, setting in run.settings.items() if name not in left_out)


def _replicates(plan: Plan, others: dict[str, list[Scalar]]) -> Iterator[Finding]:
    """Yield combinations that have more runs than others."""
    counts = Counter(zip(*others.values(), strict=True))
    if len(set(counts.values())) > 1:
        fewest, most = min(counts.values()), max(counts.values())
        lacking = [_combination(list(others), each) for each, count in counts.items() if count == fewest]
        listed = few(lacking, _LISTED, between="; " if len(others) > 1 else ", ")
        have = "has {}" if len(lacking) == 1 else "have {} each"
        message = (
            f"the combinations have different numbers of seeds: {listed} {have.format(counted(fewest, 'run'))}; the"
            f" others have {most}"
        )
        fix = "no action if intended; otherwise add the missing rows: each combination needs the same number of runs"
        yield _incomplete(plan, message, "seed", most, fewest, fix)


def _of_template(plan: Plan) -> dict[str, list[Scalar]]:
    """Return the values of settings of the training that a template, and no document, gives differently to the runs."""
    names = {n: None for run in plan.runs for n, s in run.settings.items() if s.source.kind is SourceKind.TEMPLATE}
    given = {name: [run.value(name) for run in plan.runs] for name in names if name not in {*plan.varying, *_OF_JOBS}}
    return {name: values for name, values in given.items() if len(set(values)) > 1}


def _together(plan: Plan, factors: dict[str, list[Scalar]]) -> Iterator[Finding]:
    """Yield parameters that determine each other: their effects cannot be separated."""
    by_pattern: dict[tuple[int, ...], list[str]] = {}
    for name, values in factors.items():
        levels = list(dict.fromkeys(values))
        by_pattern.setdefault(tuple(levels.index(level) for level in values), []).append(name)
    for names in by_pattern.values():
        if len(names) > 1:
            message = f"{few(names, len(names))} change together in all runs, so their effects cannot be separated"
            yield _confound(plan, message, *names)


def _confound(plan: Plan, message: str, *names: str, otherwise: str = "vary them independently") -> Finding:
    fix = f"no action if intended; otherwise {otherwise}"
    return finding("confound", message, field=names[0], fix=fix, at=at(plan.runs[0], *names))


def _alpha(plan: Plan) -> Iterator[Finding]:
    """Yield findings about alpha / rank, by which LoRA scales its update."""
    ranks = [run for run in plan.runs if run.integer("lora_rank", 0) and run.integer("lora_alpha", 0)]
    scales = {run.integer("lora_alpha", 0) / run.integer("lora_rank", 0) for run in ranks}
    alphas, levels = {run.value("lora_alpha") for run in ranks}, {run.value("lora_rank") for run in ranks}
    if len(levels) < 2 or "lora_alpha" in plan.varying:  # noqa: PLR2004 - it varies
        return
    if len(scales) == 1:
        message = f"lora_alpha changes with lora_rank, so alpha / rank is {scales.pop():g} in all runs"
        yield _confound(plan, message, "lora_rank")
    elif len(alphas) == 1:
        message = (
            f"lora_alpha is {alphas.pop()} in all runs, so alpha / rank, the scale of LoRA's update, falls from"
            f" {max(scales):g} to {min(scales):g} as lora_rank grows"
        )
        yield _confound(plan, message, "lora_alpha", otherwise="set lora_alpha in proportion to lora_rank")


def _batch(plan: Plan) -> Iterator[Finding]:
    """Yield differences in the samples of a step, which affect the number of steps and the share of warm-up."""
    sizes = Counter(effective_batch(run) for run in plan.runs)
    if len(sizes) > 1:
        names = ("batch_size", "gradient_accumulation_steps", "gpus")
        parts = few([f"{size} in {counted(count, 'run')}" for size, count in sorted(sizes.items())], len(sizes))
        message = (
            f"the number of samples per optimizer step (batch size x gradient accumulation x GPUs) differs between runs"
            f" ({parts}), so the number of steps and the fraction of warm-up steps differ too"
        )
        differing = [name for name in names if len({run.value(name) for run in plan.runs}) > 1]
        yield _confound(plan, message, *differing, otherwise="use the same number of samples per step in all runs")


def unusual_findings(plan: Plan) -> Iterator[Finding]:
    """Yield a warning for each value far outside its usual range."""
    for name, parameter in PARAMETERS.items():
        for (value, is_full), runs in _said(plan, name).items() if parameter.usual != UNBOUNDED else ():
            bounds = _USUAL_IN_FULL.get(name, parameter.usual) if is_full else parameter.usual
            if isinstance(value, int | float) and not bounds.hold(value):
                yield _unusual(plan, runs, name, value, bounds)
    for (alpha, _), runs in _said(plan, "lora_alpha").items():
        for rank, some in grouped(runs, lambda run: run.value("lora_rank")).items():
            if _is_usual("lora_rank", rank) and _is_usual("lora_alpha", alpha):
                scale = float(str(alpha)) / float(str(rank))
                so = f", so alpha / rank, the scale of LoRA's update, is {scale:g}; usual scales are"
                if not _USUAL_SCALE.hold(scale):
                    yield _unusual(plan, some, "lora_alpha", alpha, _USUAL_SCALE, so)


def _is_usual(name: str, value: Scalar) -> bool:
    return isinstance(value, int | float) and PARAMETERS[name].usual.hold(value)


def _said(plan: Plan, name: str) -> dict[tuple[Scalar, bool], list[PlannedRun]]:
    """Return the runs by the chosen value of a setting, and by whether they are full fine-tuning."""
    followed = (SourceKind.DEFAULT, SourceKind.DERIVED)
    chosen = [run for run in plan.runs if name in run.settings and run.settings[name].source.kind not in followed]
    return grouped(chosen, lambda run: (run.value(name), full(run)))


def _unusual(plan: Plan, runs: list[PlannedRun], name: str, value: Scalar, usual: Bounds, so: str = "") -> Finding:
    limits = str(usual).replace(" of at ", " at ").replace(" from ", " between ").replace(" to ", " and ")
    message = f"{name} is {kinds.written(value)} in {concerning(runs, plan)}{so or '; usual values are'}{limits}"
    fix = f"no action if {kinds.written(value)} is intended; otherwise correct {name}{' or lora_rank' if so else ''}"
    expected, place = f"a number{usual}", at(runs[0], name)
    return finding("unusual-value", message, field=name, expected=expected, actual=value, fix=fix, at=place)


class _Claim(NamedTuple):
    """A setting that a run's name claims: `rank8` claims that lora_rank is 8."""

    text: str
    setting: str
    number: float


def name_findings(plan: Plan) -> Iterator[Finding]:
    """Yield a warning for each setting that contradicts names of runs; full fine-tuning runs are listed separately."""
    yield from _models(plan)
    wrong: dict[tuple[str, bool], list[tuple[PlannedRun, _Claim]]] = {}
    for run in plan.runs:
        for claim in _claims(run):
            if not _holds(run, claim):
                wrong.setdefault((claim.setting, full(run)), []).append((run, claim))
    for cases in wrong.values():
        yield _claim_finding(*cases[0], len(cases))


def _models(plan: Plan) -> Iterator[Finding]:
    """Yield model directories with the name of a different model."""
    models = grouped(plan.runs, lambda run: (str(run.checkpoint_dir), run.text("torchtune_model_name")))
    for (directory, model), runs in models.items():
        named, meant = find_model(_name_of(directory)), find_model(model)
        if named and meant and named != meant:
            place = at(runs[0], "model_checkpoint", "models_dir")
            message = (
                f"{who_do(runs, plan, 'use')} {shown(model)}, but the model directory {shown(directory)} has the name"
                f" of {shown(named.name)}"
            )
            fix = f"no action if the directory contains {model}; otherwise correct the model or its path in the summary"
            yield _mismatch(message, "model_checkpoint", meant.name, named.name, fix, place)


def _name_of(directory: str) -> str:
    """Return the model's name by its directory: the last part, or NAME of `models--ORG--NAME/snapshots/HASH`."""
    entries = [part for part in directory.split("/") if part.startswith(_CACHED)]
    return entries[-1].rpartition("--")[2] if entries else posixpath.basename(directory)


def is_misnamed(run: PlannedRun) -> bool:
    """Return whether the name of a run's directory is a Run Name that contradicts a value of the run."""
    named = run.model_copy(update={"name": run.directory})
    return (run.by_author or run.name == run.directory) and not all(_holds(named, each) for each in _claims(named))


def _claims(run: PlannedRun) -> Iterator[_Claim]:
    name = run.name[:_LONGEST]
    for other in (run.model, data_label(run.data_path)[0]):  # which may be arbitrary: `words_seed1`
        name = name.replace(other, "")
    matches = list(_CLAIM.finditer(name))
    is_index = {match[1] for match in matches} == {"r"}  # r1, r2, ...: numbered runs
    for match in matches if not is_index else ():
        number = read_float(match[2])
        # some write lr5e5 for 5e-5 where a minus is not allowed
        if number is not None and not (match[1] == "lr" and number >= 1):
            yield _Claim(match[0], _LABELS[match[1]], number)


def _holds(run: PlannedRun, claim: _Claim) -> bool:
    """Return whether a claim is right, or not known to be wrong: full fine-tuning has neither LoRA rank nor alpha."""
    planned = run.value(claim.setting)
    if planned is None:
        return not (claim.setting in {"lora_rank", "lora_alpha"} and full(run))
    batches = {effective_batch(run), run.integer("batch_size", 1) * run.integer("gradient_accumulation_steps", 1)}
    return claim.number == planned or (claim.setting == "batch_size" and claim.number in batches)


def _claim_finding(run: PlannedRun, claim: _Claim, count: int) -> Finding:
    planned = run.settings.get(claim.setting)
    chosen = " (the default)" if planned and planned.source.kind == "default" else ""
    but = (
        f"{claim.setting} is {shown(planned.value)}{chosen}" if planned else f"full fine-tuning has no {claim.setting}"
    )
    more = f"; {count} run names, including this one, contradict the plan" if count > 1 else ""
    message = f"the run name {shown(run.name)} contains {shown(claim.text)}, but {but}{more}"
    fix = f"set {claim.setting} to the intended value in the summary" if planned else "train with LoRA"
    fix, actual = f"{fix}, or correct the {'name' if count == 1 else 'names'}", planned.value if planned else None
    return _mismatch(message, claim.setting, claim.number, actual, fix, row_of(run))


def _mismatch(message: str, field: str, expected: Scalar, actual: Scalar, fix: str, place: Location) -> Finding:
    code, severity = "name-mismatch", Severity.WARNING
    return finding(code, message, field=field, expected=expected, actual=actual, fix=fix, severity=severity, at=place)
