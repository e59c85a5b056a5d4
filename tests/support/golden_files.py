"""Holds what was made to the files below golden/.

`make golden` writes them anew: look at the difference before you commit it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def golden(folder: str, made: Mapping[str, str]) -> dict[str, str]:
    """The golden files of a folder by name. Where `UPDATE_GOLDEN` is set, what was made becomes them first."""
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / folder).mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (GOLDEN / folder / name).write_text(text)
    return {path.name: path.read_text() for path in (GOLDEN / folder).iterdir()}
