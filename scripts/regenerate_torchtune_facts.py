"""Write server/scaffold_torchtune/torchtune_facts/facts.json from the installed torchtune.

Run it with a Python that has torch 2.13.0, torchtune 0.6.1 and torchao 0.14.1:

    python scripts/regenerate_torchtune_facts.py            writes the file
    python scripts/regenerate_torchtune_facts.py --check    compares, prints a diff and exits 1 where they differ

What is read, and how, is in scripts/installed_torchtune.
"""

import argparse
import difflib
import json
import sys
from pathlib import Path

from installed_torchtune import collect

FACTS = Path(__file__).resolve().parent.parent / "server" / "scaffold_torchtune" / "torchtune_facts" / "facts.json"


def compare(text: str) -> int:
    """Print how `text` differs from the file; 1 where it does, 0 where it does not."""
    before = FACTS.read_text(encoding="utf-8") if FACTS.exists() else ""
    diff = list(difflib.unified_diff(before.splitlines(), text.splitlines(), "facts.json", "installed", lineterm=""))
    print("\n".join(diff) if diff else "facts.json is current")
    return 1 if diff else 0


def main() -> int:
    """Write the facts, or compare them with what is there; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 with a diff where they differ")
    arguments = parser.parse_args()
    text = json.dumps(collect(), indent=1) + "\n"
    if arguments.check:
        return compare(text)
    FACTS.write_text(text, encoding="utf-8")
    print(f"wrote {FACTS.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
