"""Files that are damaged, or written with bad intent."""

import math
import random
from typing import Any

LARGE = 10**400

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, -(2**63), LARGE, -LARGE, 0.5, math.inf, -math.inf, math.nan, "", "x", "\ud800",
    "\u202e", "a" * 5_000, [], [[]], [None], [0, math.inf], [-1, -1], {}, {"a": 1}, "../x", "model.safetensors",
]  # fmt: skip


def mutated(of: Any, choose: random.Random) -> Any:
    """Return JSON data with one value replaced, removed or added."""
    if choose.random() < 0.25 or not isinstance(of, dict | list) or not of:
        return choose.choice(HOSTILE)
    key: Any = choose.choice(list(of) if isinstance(of, dict) else range(len(of)))
    copy: Any = dict(of) if isinstance(of, dict) else list(of)
    act = choose.random()
    if act < 0.15:
        del copy[key]
    elif act < 0.25 and isinstance(copy, dict):
        copy[str(choose.choice(HOSTILE))] = choose.choice(HOSTILE)
    elif act < 0.25:
        copy.append(choose.choice(HOSTILE))
    else:
        copy[key] = mutated(copy[key], choose)
    return copy


def flipped(data: bytes, choose: random.Random) -> bytes:
    """Return bytes with some of them changed, cut off, or doubled."""
    changed = bytearray(data)
    for _ in range(choose.randint(1, 4)):
        changed[choose.randrange(len(changed))] = choose.randrange(256)
    return bytes(changed[: choose.randrange(len(changed))] if choose.random() < 0.2 else changed)
