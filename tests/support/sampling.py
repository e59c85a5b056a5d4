"""Choose the parameters that `make test` tries; `make test-long` tries the others."""

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final, TypeVar

import pytest

_Case = TypeVar("_Case")

EVERY: Final = "EVERY" in os.environ
"""Try every case in long campaigns, as `make test-all` does; else a fixed sample."""


def distance(sampled: int) -> int:
    """Return the distance of the cases that a long campaign tries: 1 if it tries every case."""
    return 1 if EVERY else sampled


def sampled(cases: Sequence[_Case], every: int) -> Sequence[_Case]:
    """Return the cases that a long campaign tries: the first one and each one at that distance, or all."""
    return cases[:: distance(every)]


OWN_MARKS: Final = {"examples", "kit", "long", "modules", "package", "page", "slurm", "torchtune"}
"""The marks of the tests that other targets than `make test` run."""

MOST_CASES: Final = 6
"""The most cases of a test in `make test`, twice as many if coverage is measured; `make test-long` tries the others."""


def mark_most_cases_long(items: Iterable[pytest.Item]) -> None:
    """Mark the cases of each parametrized test as long, except for a few that are spread over all of them."""
    most = 2 * MOST_CASES if "COVERAGE" in os.environ else MOST_CASES  # the bound of coverage needs more of them
    plain = [item for item in items if not OWN_MARKS & {mark.name for mark in item.iter_markers()}]
    for _, group in groupby(plain, lambda item: item.nodeid.partition("[")[0]):
        cases = list(group)
        kept = {number * len(cases) // most for number in range(most)}
        for number, item in enumerate(cases):
            if len(cases) > most and number not in kept:
                item.add_marker("long")


def mostly_long(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Return the parameters, marked as long except for the kept ones, each of which must be among them."""
    values = list(values)
    assert kept
    assert all(value in values for value in kept)
    return _marked(values, lambda _, value: value in kept)


def spread(values: Iterable[Any], every: int) -> list[Any]:
    """Return the parameters, marked as long except for the first one and each one at that distance."""
    return _marked(values, lambda number, _: number % every == 0)


def _marked(values: Iterable[Any], is_kept: Callable[[int, Any], bool]) -> list[Any]:
    given = [(number, value, value if isinstance(value, tuple) else (value,)) for number, value in enumerate(values)]
    return [pytest.param(*all_, marks=() if is_kept(n, value) else pytest.mark.long) for n, value, all_ in given]
