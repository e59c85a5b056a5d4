"""Write facts.json and tensors.json of server/scaffold_torchtune/torchtune_facts from the installed torchtune.

Run it with a Python that has torch 2.13.0, torchtune 0.6.1 and torchao 0.14.1:

    python scripts/regenerate_torchtune_facts.py            writes the files
    python scripts/regenerate_torchtune_facts.py --check    compares, prints a diff and exits 1 where they differ

What is read, and how, is in scripts/installed_torchtune.
"""

import argparse
import difflib
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

from installed_torchtune import collect

FOLDER = Path(__file__).resolve().parent.parent / "server" / "scaffold_torchtune" / "torchtune_facts"


def as_text(data: dict[str, Any]) -> str:
    """Return the text of a file: a line for each value, and one for a whole shape."""
    text = json.dumps(data, indent=1) + "\n"
    return re.sub(r"\[[\s\d,]+\]", lambda shape: " ".join(shape[0].split()).replace("[ ", "[").replace(" ]", "]"), text)


def differences(name: str, text: str) -> list[str]:
    """How `text` differs from the file of that name."""
    path = FOLDER / name
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    return list(difflib.unified_diff(before.splitlines(), text.splitlines(), name, "installed", lineterm=""))


def compare(texts: dict[str, str]) -> int:
    """Print how the texts differ from the files; 1 where they do, 0 where they do not."""
    different = False
    for name, text in texts.items():
        diff = differences(name, text)
        print("\n".join(diff) if diff else f"{name} is current")
        different = different or bool(diff)
    return 1 if different else 0


def main() -> int:
    """Write the facts, or compare them with what is there; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 with a diff where they differ")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)  # torchtune reports every checkpoint that it saves
    texts = {name: as_text(data) for name, data in collect().items()}
    if arguments.check:
        return compare(texts)
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
