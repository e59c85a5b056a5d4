"""Writes the documents: each appears whole, and all of them or none."""

from collections.abc import Mapping
from pathlib import Path

from scaffold_torchtune.findings import Refused, finding
from scaffold_torchtune.shared.files import publish
from scaffold_torchtune.shared.text import escape


def write(directory: Path, documents: Mapping[str, str]) -> list[Path]:
    """Write the documents: each appears whole, and all of them or none.

    Raises:
        Refused: the file system said no.
    """
    files = {directory / name: text.encode() for name, text in documents.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        publish(files)
    except OSError as error:
        message = f"cannot write into {escape(str(directory))}: {error.strerror}"
        fix = "make room or give write permission, or give another directory"
        raise Refused(message, [finding("write-failed", message, file=escape(str(directory)), fix=fix)]) from error
    return list(files)
