"""Choose the parameters that `make test` tries; `make test-long` tries the others."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


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
