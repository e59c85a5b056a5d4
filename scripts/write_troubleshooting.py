"""Generate the tables of workflows/troubleshooting.md from the registry of finding codes; the prose is unchanged."""

from pathlib import Path

from generated_tables import with_tables
from scaffold_torchtune.finding_codes import SECTIONS

PAGE = Path(__file__).resolve().parent.parent / "workflows" / "troubleshooting.md"


def page(text: str) -> str:
    """Return the page with the table of each section as the registry has it."""
    header = "| code | cause | fix |\n|---|---|---|\n"
    rows = {
        title: "".join(f"| `{name}` | {code.cause} | {code.fix} |\n" for name, code in codes.items())
        for title, codes in SECTIONS.items()
    }
    return with_tables(text, {title: header + each for title, each in rows.items()})


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
