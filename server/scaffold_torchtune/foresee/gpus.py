"""GPUs that people name in a SLURM constraint, and what a run can expect of them."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: its memory in GiB, and its bf16 arithmetic in 1e12 operations a second, dense; 0 where unknown."""

    name: str
    memory: int
    teraflops: int = 0


# Memory and dense bf16 tensor-core rates as the makers' data sheets give them.
_GPUS: Final = (
    Gpu("b200", 180, 2250), Gpu("h200", 141, 989), Gpu("h100", 80, 989), Gpu("gh200", 96, 989),
    Gpu("a100", 80, 312), Gpu("l40s", 48, 362), Gpu("l40", 48, 181), Gpu("a40", 48, 150), Gpu("a6000", 48, 155),
    Gpu("a30", 24, 165), Gpu("a10", 24, 125), Gpu("l4", 24, 121), Gpu("rtx4090", 24, 165), Gpu("rtx3090", 24, 71),
    Gpu("v100", 32), Gpu("p100", 16), Gpu("t4", 16), Gpu("mi250", 64, 181), Gpu("mi300", 192, 1307),
)  # fmt: skip
_BY_NAME: Final = {gpu.name: gpu for gpu in _GPUS}
_WORD: Final = re.compile(r"[a-z0-9]+")
_SIZE: Final = re.compile(r"(?:gpu|vram|mem)?([0-9]{2,3})(?:g|gb)?")


def gpu_of(constraint: str) -> Gpu | None:
    """The least GPU that a SLURM constraint may give; None where none is named.

    `gpu80` and `80gb` say only how much memory it has; `a100&gpu40` is the A100 of 40 GB. Of alternatives (`a100|v100`)
    the one with the least memory counts.
    """
    found = [gpu for part in constraint.lower().split("|") if (gpu := _named(part)) is not None]
    return min(found, key=lambda gpu: gpu.memory) if found else None


def _named(part: str) -> Gpu | None:
    words = _WORD.findall(part)
    known = next((_BY_NAME[word] for word in words if word in _BY_NAME), None)
    sizes = [int(m[1]) for word in words if word not in _BY_NAME and (m := _SIZE.fullmatch(word)) and _says_size(word)]
    if not sizes:
        return known
    return Gpu(known.name if known else f"{sizes[0]} GB", sizes[0], known.teraflops if known else 0)


def _says_size(word: str) -> bool:
    return not word.isdigit()
