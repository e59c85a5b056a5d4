"""The factorial grid of an experiment, and the cells that alone keep the runs from being one.

A cell is odd where one other value in it makes the runs a grid: every combination of the levels, each as often. That is
weighed against designs that are none on purpose. A factor that never varies otherwise, or that follows from another one
(alpha from the rank), belongs to the grid as what it follows from.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Final, NamedTuple

from scaffold_torchtune.findings import Scalar

_LEAST_RUNS: Final = 4
_LEAST_FOR_TWO: Final = 8  # runs, of which two cells may be odd
_ALL_TRIED: Final = 40  # runs, of which each is tried; of more, those alone that have a level of their own
_MOST_TRIED: Final = 12
_RUNS_FOR_A_GAP: Final = 8
_EVEN: Final = 2.0  # how much larger one of two even steps may be

Levels = Sequence[Scalar]


@dataclass(frozen=True)
class OddCell:
    """A value that only one run has (by its position), and the one that would make the runs a grid.

    `sizes` are those of the grid by factor. `pair` is the position of another run, where its value may be the odd one
    as well: each of the two levels then is that of one run. `gaps` are the combinations that would be lacking still.
    """

    run: int
    factor: str
    actual: Scalar
    expected: Scalar
    sizes: Mapping[str, int]
    pair: int | None = None
    gaps: int = 0


class _Grid(NamedTuple):
    """Some runs as a grid: what spans it, and by factor what the others are for each level of what they follow from.

    A factor that follows from nothing has one level.
    """

    spans: tuple[str, ...]
    follows: dict[str, tuple[str | None, dict[Scalar, Scalar]]]

    def completed(self, combination: Sequence[Scalar]) -> dict[str, Scalar]:
        """Return the level of each factor in a combination, as far as the other runs tell it."""
        levels = dict(zip(self.spans, combination, strict=True))
        for name, (of, mapping) in self.follows.items():
            key = None if of is None else levels[of]
            if key in mapping:
                levels[name] = mapping[key]
        return levels


def odd_cells(factors: Mapping[str, Levels]) -> list[OddCell]:
    """Return the cells that keep the runs from being a whole grid, if few enough do that nothing else explains it.

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
    """Leave out seeds of which each run has its own: they tell runs apart, and are no factor."""
    is_own = {name: name == "seed" and len(set(levels)) == len(levels) for name, levels in factors.items()}
    return {name: levels for name, levels in factors.items() if not is_own[name]}


def _grid(factors: Mapping[str, Levels], runs: Sequence[int]) -> _Grid:
    """Return what spans the runs: the factors that do not follow from one with as many levels or more."""
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
    """Return the combinations that some runs lack of a grid of so many runs; None where they are no part of one."""
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
    """Yield what is odd of a run where all others are a grid but for one combination."""
    others = [each for each in runs if each != run]
    grid = _grid(factors, others)
    missing = _missing(grid, factors, others, len(runs))
    sizes = _sizes(grid, factors, others)
    if missing is not None and len(missing) == 1:
        expected = grid.completed(missing[0])
    elif len(grid.spans) == 1 and _missing(grid, factors, others, len(others)) == [] and _inside(grid, factors, run):
        # one factor varies, and the run has a level of it that is its own
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
    """Whether a run is neither the first nor the last in the order of the one factor that varies.

    At an end another value may well be meant: a smaller batch for the largest model.
    """
    levels = factors[grid.spans[0]]
    if levels.count(levels[run]) > 1:
        return False
    ends = _ends(levels)
    return grid.spans[0] == "seed" or levels[run] not in ends


def _ends(levels: Levels) -> tuple[Scalar, Scalar]:
    """The first and the last of some levels: of numbers by size, of anything else as the table has them."""
    numbers = [level for level in levels if isinstance(level, int | float)]
    return (min(numbers), max(numbers)) if len(numbers) == len(levels) else (levels[0], levels[-1])


def _has_support(cell: OddCell, factors: Mapping[str, Levels]) -> bool:
    """Whether the level that is expected is one that other runs have."""
    return cell.expected in factors[cell.factor]


def _pair(one: OddCell, other: OddCell, factors: Mapping[str, Levels]) -> list[OddCell]:
    """Return the likelier of two cells where the value of either may be the odd one: the later, if neither is.

    Where fewer runs have one of the two values, that is the odd one.
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
    """Whether a level that is shared parts two others evenly: 1e-5 and 2e-5 with one rank, 2e-5 and 4e-5 with the next.

    By logarithms. Such runs scale one setting with the other, and none is odd.
    """
    one, other = shared - low, high - shared
    return one * other > 0 and 1 / _EVEN <= one / other <= _EVEN


def _several(factors: Mapping[str, Levels], runs: Sequence[int]) -> list[OddCell]:
    """Return one odd cell in each of several runs: those with a level that few have, where the others are a grid."""
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
    """How far apart two levels are, by their ratio; of what is no number, nothing is known."""
    numbers = [float(each) for each in (one, other) if isinstance(each, int | float) and each > 0]
    return abs(math.log(numbers[0] / numbers[1])) if len(numbers) == 2 else 0.0  # noqa: PLR2004 - both


def _with_gaps(factors: Mapping[str, Levels], runs: Sequence[int]) -> list[OddCell]:
    """Return the one odd cell of a grid that lacks a few combinations besides: of a run with a level of its own."""
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
        if meant and all(counts[name][level] > 1 for level in meant):
            nearest = min(meant, key=lambda level: _distance(actual, level))
            found.append(OddCell(run, name, actual, nearest, sizes, gaps=gaps))
    return found if len(found) == 1 else []
