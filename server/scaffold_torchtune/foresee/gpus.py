"""GPUs that people name in a SLURM constraint, and what a run can expect of them."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: its memory in GiB, and its bf16 arithmetic in 1e12 operations a second, dense; 0 where unknown."""

    memory: int
    teraflops: int = 0


# Memory and dense bf16 tensor-core rates as the makers' data sheets give them.
_GPUS: Final = {
    "b200": Gpu(180, 2250), "h200": Gpu(141, 989), "h100": Gpu(80, 989), "gh200": Gpu(96, 989),
    "a100": Gpu(80, 312), "l40s": Gpu(48, 362), "l40": Gpu(48, 181), "a40": Gpu(48, 150), "a6000": Gpu(48, 155),
    "a30": Gpu(24, 165), "a10": Gpu(24, 125), "l4": Gpu(24, 121), "rtx4090": Gpu(24, 165), "rtx3090": Gpu(24, 71),
    "v100": Gpu(32), "p100": Gpu(16), "t4": Gpu(16), "mi250": Gpu(64, 181), "mi300": Gpu(192, 1307),
}  # fmt: skip
_WORD: Final = re.compile(r"[a-z0-9]+")
_SIZE: Final = re.compile(r"(?!\d+$)(?:gpu|vram|mem)?(?P<size>[0-9]{2,3})(?:g|gb)?")


def gpu_of(constraint: str) -> Gpu | None:
    """The least GPU that a SLURM constraint may give; None where none is named.

    `gpu80` and `80gb` say only how much memory it has; `a100&gpu40` is the A100 of 40 GB. Of alternatives (`a100|h100`)
    the least memory counts, and the best rate, where all are known: the job may get either.
    """
    found = [gpu for part in constraint.lower().split("|") if (gpu := _named(part)) is not None]
    if not found:
        return None
    rates = [gpu.teraflops for gpu in found]
    return Gpu(min(gpu.memory for gpu in found), max(rates) if all(rates) else 0)


def _named(part: str) -> Gpu | None:
    words = _WORD.findall(part)
    known = next((_GPUS[word] for word in words if word in _GPUS), None)
    sizes = [int(match["size"]) for match in map(_SIZE.fullmatch, words) if match]
    return Gpu(sizes[0], known.teraflops if known else 0) if sizes else known
