"""Comparing typed values and paths, and showing any value as a scalar that is safe to print."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.shared.text import escape

_LARGEST = 10**30

BROKEN = "(not resolved)"
"""What stands for a value that could not be resolved: no planned value."""


def as_scalar(value: Any) -> Scalar:
    """Any value read from a file as a scalar for a finding: text escaped and cut, what is no scalar described."""
    if value is None:
        return None
    if isinstance(value, int):
        return value if abs(value) < _LARGEST else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return escape("[" + ", ".join(str(as_scalar(item)) for item in value[:20]) + "]")
    if isinstance(value, dict):
        return escape("{" + ", ".join(map(str, list(value)[:20])) + "}")
    return type(value).__name__


def quoted(value: Any) -> str:
    """A value as messages show it: text in quotes, so that a type is never in doubt."""
    return f"'{as_scalar(value)}'" if isinstance(value, str) else str(as_scalar(value))


def dotted(path: Iterable[str | int]) -> str:
    """A path in a YAML file as a person names it, `model.lora_rank`, with its keys escaped."""
    return ".".join(escape(str(part)) for part in path)


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def compare(expected: Scalar, actual: Any) -> str | None:
    """The code of the finding that a value deserves, or None where it is what was expected.

    A whole number stands for a float, never the other way; a boolean is no number; `wrong-type` is a value with the
    expected content in another type, e.g. the text `8` for the number 8.
    """
    if type(expected) is type(actual) and expected == actual:
        return None
    if isinstance(expected, float) and type(actual) is int:
        return None if expected == actual else "value-mismatch"
    alike = str(expected).casefold() == str(as_scalar(actual)).strip().casefold() or _equal(expected, actual)
    return "wrong-type" if alike and type(expected) is not type(actual) else "value-mismatch"


def _equal(one: Any, other: Any) -> bool:
    first = _as_number(one)
    return first is not None and first == _as_number(other)


def normal_path(path: str) -> str:
    """A path without duplicate and trailing slashes; nothing else is changed."""
    absolute = "/" if path.startswith("/") else ""
    return absolute + "/".join(part for part in path.split("/") if part)


def join(*parts: str) -> str:
    """Parts of a path put together, empty ones left out."""
    return normal_path("/".join(part for part in parts if part))


def below(path: str, folder: str) -> bool:
    """Whether a path is the folder or lies under it, lexically."""
    inner, outer = normal_path(path), normal_path(folder)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def leaves(data: Any) -> Iterator[Any]:
    """Every value in plain data that is no mapping or list."""
    below = data.values() if isinstance(data, dict) else data if isinstance(data, list) else None
    if below is None:
        yield data
        return
    for value in below:
        yield from leaves(value)


def interpolates(data: Any) -> bool:
    """Whether there is an interpolation anywhere in the data."""
    return any(isinstance(value, str) and "${" in value for value in leaves(data))
