"""Cutting what is long: lists at a number of bytes, texts at a number of characters; counts stay whole.

The bounds keep a reply small at any size of an experiment; benchmarks/tokens.py counts what comes of them.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel

from scaffold_torchtune.models.results import Cut
from scaffold_torchtune.reply.asked import Call

ORDINARY: Final = 2_400
"""Bytes of JSON for a list of what is in order."""
SERIOUS: Final = 9_000
"""Bytes of JSON for a list of runs that failed, or of the problems of a refusal."""
FINDINGS: Final = 4_500
"""Bytes of JSON for a list of findings, and for a mapping of values."""
WITHIN: Final = 1_500
"""Bytes of JSON for a list or a mapping within an item of a list."""
FEW: Final = 36
"""Items of a list that is given whole where it takes no more than what is serious: most sweeps are no longer."""
LONGEST: Final = 600
"""Characters of a text."""

_BUDGETS: Final[dict[Cut | None, int]] = {Cut.PROBLEMS: SERIOUS, Cut.FINDINGS: FINDINGS}
_SEVERITIES: Final = ("error", "warning", "info")


def bounded(data: dict[str, Any], call: Call, of: type[BaseModel] = BaseModel) -> dict[str, Any]:
    """Return a reply's data with its lists cut and its texts shortened, as the fields of its model say.

    Where something was cut, `left_out` says how many items of each list are not there and `more` how to see them.
    """
    if call.whole:
        return data
    cuts = {name: each for name, field in of.model_fields.items() for each in field.metadata if isinstance(each, Cut)}
    out: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    following: list[int] = []
    for name, value in data.items():
        cut = cuts.get(name)
        if cut is Cut.NEVER:
            out[name] = value
        elif isinstance(value, list):
            items = [run for run in value if call.wants(run)] if cut is Cut.RUNS else value
            budget = SERIOUS if len(items) <= FEW else _BUDGETS.get(cut, ORDINARY)
            fits = len(_fitted(items, budget)) == len(items)
            start = 1 if fits else call.start  # what fits whole stands on each page
            items = items if fits else sorted(items, key=_badness)
            out[name] = shown = _fitted(items[start - 1 :], budget)
            left_out |= _missing(name, items, shown)
            following += [start + len(shown)] if start + len(shown) <= len(items) else []
        else:
            out[name] = small = _smaller(value, FINDINGS)
            left_out |= _missing(name, value, small)
    if left_out:
        out |= {"left_out": left_out, "more": _more(left_out, min(following, default=1))}
    return out


def _missing(name: str, whole: Any, shown: Any) -> dict[str, int]:
    """How many items of a list or mapping are not shown, by its name; nothing where all are."""
    cut = len(whole) - len(shown) if isinstance(whole, list | dict) else 0
    return {name: cut} if cut else {}


def _more(left_out: dict[str, int], start: int) -> str:
    """How to see what was left out; `start` is the first item of a list that was not seen."""
    runs = "; only='PATTERN' lists the runs whose name matches" if "runs" in left_out else ""
    return f"start={start} lists from item {start} on{runs}"


def _badness(item: Any) -> int:
    if isinstance(item, dict) and "severity" in item:
        return _SEVERITIES.index(item["severity"])
    return int(not _failed(item))


def _failed(item: Any) -> bool:
    """Whether an item is a run that failed."""
    return isinstance(item, dict) and not (item.get("ok", True) and item.get("passed", True))


def _fitted(items: Iterable[Any], budget: int) -> list[Any]:
    """The first of the items that fit into a number of bytes, each made small; at least one, and more that failed."""
    kept: list[Any] = []
    used = 0
    for item in items:
        small = _item(item)
        used += _size(small)
        if kept and used > (SERIOUS if _failed(item) else budget):
            break
        kept.append(small)
    return kept


def _item(item: Any) -> Any:
    """An item of a list with what is long in it cut, and how much of that was left out."""
    if not isinstance(item, dict):
        return _smaller(item, WITHIN)
    small = {name: _smaller(value, WITHIN) for name, value in item.items()}
    cut = {name: count for key in item for name, count in _missing(key, item[key], small[key]).items()}
    return small | ({"left_out": cut} if cut else {})


def _smaller(value: Any, budget: int) -> Any:
    """A value with its texts cut, and with as much of a list or mapping as fits into a number of bytes."""
    if isinstance(value, str):
        cut = len(value) - LONGEST
        return value if cut <= 0 else f"{value[:LONGEST]}... ({cut} more characters)"
    if isinstance(value, list):
        return _fitted(value, budget)
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for name, each in value.items():
        out[name] = small = _smaller(each, budget)
        budget -= _size({name: small})
        if budget < 0 and len(out) > 1:
            del out[name]
            break
    return out


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")) + 1
