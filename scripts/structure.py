"""Print how the package is cut into modules; with --check, fail where it leaves its bounds."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "server/scaffold_torchtune"

MOST_MODULES: Final = 105
LEAST_MEAN: Final = 170
LARGEST: Final = 650


def lines_by_module(package: Path) -> dict[str, int]:
    """Return how many lines each Python file below a directory has."""
    return {
        str(path.relative_to(package)): len(path.read_text().splitlines()) for path in sorted(package.rglob("*.py"))
    }


def figures(lines: Mapping[str, int]) -> list[tuple[str, float, str, bool]]:
    """Return what is measured: its name, the figure, its bound, and whether it keeps to the bound."""
    largest = max(lines, key=lines.__getitem__)
    mean = sum(lines.values()) / len(lines)
    return [
        ("modules", len(lines), f"at most {MOST_MODULES}", len(lines) <= MOST_MODULES),
        ("mean", mean, f"at least {LEAST_MEAN}", mean >= LEAST_MEAN),
        (f"largest ({largest})", lines[largest], f"at most {LARGEST}", lines[largest] <= LARGEST),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where --check finds a figure outside its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a figure is outside its bound")
    parser.add_argument("--all", action="store_true", help="print every module, too, the largest first")
    options = parser.parse_args(arguments)
    lines = lines_by_module(PACKAGE)
    if options.all:
        for name, count in sorted(lines.items(), key=lambda item: (-item[1], item[0])):
            print(f"{count:6,}  {name}")
    found = figures(lines)
    for name, figure, bound, keeps in found:
        print(f"{figure:8,.0f}  {name}: {bound}{'' if keeps else ' - NOT KEPT'}")
    return int(options.check and not all(keeps for _, _, _, keeps in found))


if __name__ == "__main__":
    sys.exit(main())
