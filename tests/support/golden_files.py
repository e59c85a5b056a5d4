"""Compare results with the files in golden/.

`make golden` generates them again: review the diff before you commit it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def golden(folder: str, made: Mapping[str, str]) -> dict[str, str]:
    """Return the golden files of a folder by name; if `UPDATE_GOLDEN` is set, the results replace them first."""
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / folder).mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (GOLDEN / folder / name).write_text(text)
    return {path.name: path.read_text() for path in (GOLDEN / folder).iterdir()}
