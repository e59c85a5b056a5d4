"""Generate the tables of workflows/troubleshooting.md from the registry of finding codes; the prose is unchanged."""

import re
from pathlib import Path

from scaffold_torchtune.finding_codes import SECTIONS

PAGE = Path(__file__).resolve().parent.parent / "workflows" / "troubleshooting.md"


def page(text: str) -> str:
    """Return the page with the table of each section as the registry has it.

    Raises:
        ValueError: the page lacks a section, or its table.
    """
    for title, codes in SECTIONS.items():
        rows = "".join(f"| `{name}` | {code.cause} | {code.fix} |\n" for name, code in codes.items())
        table = f"| code | cause | fix |\n|---|---|---|\n{rows}"
        head, found, rest = text.partition(f"## {title}\n")
        old = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
        if not found or not old:
            raise ValueError(f"{PAGE.name} has no section {title} with a table")
        text = head + found + rest[: old.start()] + table + rest[old.end() :]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
