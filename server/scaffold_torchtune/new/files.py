"""Writes the documents: each appears whole, and all of them or none."""

import os
from collections.abc import Mapping
from pathlib import Path

from scaffold_torchtune.findings import Refused, finding
from scaffold_torchtune.shared.text import escape


def write(directory: Path, documents: Mapping[str, str]) -> list[Path]:
    """Write the documents: each appears whole, and all of them or none.

    Raises:
        Refused: the file system said no.
    """
    targets = [directory / name for name in documents]
    halves: list[Path] = []
    done: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for target, text in zip(targets, documents.values(), strict=True):
            half = target.with_name(f".{target.name}.{os.getpid()}")
            with half.open("x", encoding="utf-8", newline="\n") as stream:
                halves.append(half)
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
        for half, target in zip(halves, targets, strict=True):
            half.replace(target)
            done.append(target)
    except BaseException as error:
        for path in (*halves, *done):
            path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        message = f"cannot write into {escape(str(directory))}: {error.strerror}"
        fix = "make room or give write permission, or give another directory"
        raise Refused(message, [finding("write-failed", message, file=escape(str(directory)), fix=fix)]) from error
    return targets
