"""Files in an output directory and in a run directory that no training of this project left there."""

import os
import random
import shutil
import stat
from pathlib import Path
from typing import Final

from fuzz_documents import mutated
from scaffold_torchtune.system.files import is_taken
from support.damaged import flipped

ENTRY: Final = "[2026-11-20 12:00:00] SCAFFOLD_TORCHTUNE_COMPLETE"
NAMES: Final[tuple[bytes, ...]] = (
    b"epoch_0", b"epoch_1", b"epoch_00", b"epoch_999999999", b"epoch_" + b"9" * 200, b"epoch_-1", b"epoch_1.5",
    "epoch_١".encode(), b"epoch_", b"recipe_state", b"logs", b"torchtune_config.yaml", b"checkpoint", b"adapter_0.pt",
    b"checkpoint-\xff\xfe", b"adapter_\xe9", "checkpoint\u202egnp.exe".encode(), "adapter_\u200b".encode(),
    b"checkpoint\n" + ENTRY.encode(), b"checkpoint\x1b[31m", b"adapter_" + b"x" * 240, b"checkpoint-'; touch x; '",
    b"checkpoint-$(touch x)", b"adapter_\xc2\x85", b"checkpoint {0}", b"checkpoint-%s", b"-rf", b".hidden", b" ",
)  # fmt: skip
"""Names in an output directory."""

JOB_OUTPUTS: Final[tuple[bytes, ...]] = (
    b"slurm-1.out", b"slurm-4711.out", b"slurm-0.out", b"slurm-999999999999999999.out",
    b"slurm-" + b"9" * 200 + b".out", b"slurm-\xff.out", b"slurm-1_1.out", b"slurm-1_999999999.out",
    b"slurm-1_x.out", b"slurm--1.out", "slurm-١.out".encode(), b"slurm-1.out\n", b"slurm-1.out.old",
    b"slurm-$(touch x).out",
    b"slurm-1;scancel 2.out", b"SLURM-1.out", b"slurm-00000000000000001.out",
)  # fmt: skip
"""Names of the output files of jobs."""

VALUES: Final = (
    "${oc.env:HOME}", "${epochs}", "${a}", "${a.b}${a.b}", "1" + ":1" * 3_000, "9" * 5_000, "0x" + "f" * 5_000, "1e999",
    ".nan", "-.inf", "null", "[]", "{}", "[" * 3_000, "{a: " * 500, "!!python/object/apply:os.system [touch x]", "*a",
    "&a [*a]", "<<: *a", "2026-11-20", "!!binary aGk=", "'\x1b[31m'", '"\\u202e\\n[x] COMPLETE"', '"\\ud800"',
    "y" * 9_000, '"\\0"', "~", "yes", "012", "- 1", "? x", "|\n  x", "%TAG", "---\na: 1", "...", "${", "}", "???",
    "\ufeff",
)  # fmt: skip
"""Values in a torchtune_config.yaml."""

_KINDS: Final[tuple[tuple[str, int], ...]] = (
    ("file", 6), ("directory", 6), ("loop", 1), ("nowhere", 1), ("elsewhere", 1), ("device", 1), ("FIFO", 1),
    ("socket", 1), ("closed", 1), ("large", 1),
)  # fmt: skip


def make(path: bytes, kind: str, data: bytes = b"x\n") -> None:
    """Create a file or a directory of a kind."""
    if kind == "directory":
        os.mkdir(path)  # noqa: PTH102 - bytes
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind in {"loop", "nowhere", "elsewhere", "device"}:
        target = {"loop": path, "nowhere": b"/nowhere/x", "elsewhere": b"/etc", "device": b"/dev/zero"}
        os.symlink(target[kind], path)  # noqa: PTH211
    else:
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0 if kind == "closed" else 0o644)
        os.write(file, data)
        if kind == "large":
            os.ftruncate(file, 3_000_000_000)  # a hole
        os.close(file)


def config(whole: bytes, choose: random.Random) -> bytes:
    """Return a torchtune_config.yaml with one value replaced, with careless edits, or with other bytes."""
    act = choose.random()
    if act < 0.2:
        return flipped(whole, choose)
    if act < 0.4:
        return mutated(whole.decode(), choose).encode("utf-8", "surrogatepass")
    lines = whole.decode().splitlines(keepends=True)
    for _ in range(choose.randint(1, 3)):
        at = choose.choice([number for number, line in enumerate(lines) if ": " in line])
        key = choose.choice((lines[at].partition(":")[0], *VALUES[:20])) if choose.random() < 0.2 else None
        name = lines[at].partition(":")[0] if key is None else key
        lines[at] = f"{name}: {choose.choice(VALUES)}\n"
    return "".join(lines).encode("utf-8", "surrogatepass")


def kind_of(choose: random.Random) -> str:
    """Return a kind of entry; files and directories are more frequent than others."""
    kinds, weights = zip(*_KINDS, strict=True)
    return str(choose.choices(kinds, weights)[0])


def fill(folder: Path, names: tuple[bytes, ...], choose: random.Random) -> None:
    """Create entries with some of the names in a directory."""
    for name in sorted({choose.choice(names) for _ in range(choose.randint(0, 6))}):
        make(os.fsencode(folder) + b"/" + name, kind_of(choose))


def output_directory(folder: Path, whole: bytes, choose: random.Random) -> None:
    """Create an output directory again, with the results of a training, or with similar files."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    fill(folder, NAMES, choose)
    file, saved = folder / "torchtune_config.yaml", folder / "recipe_state"
    if not is_taken(file):
        make(os.fsencode(file), "file" if choose.random() < 0.9 else kind_of(choose), config(whole, choose))
    if not is_taken(saved):
        saved.mkdir()
        make(os.fsencode(saved) + b"/recipe_state.pt", "file" if choose.random() < 0.7 else kind_of(choose))
