"""`make demo` installs the runtime dependencies only, and `make test` the development tools too, in any order."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def installed_by(target: str, environment: Path) -> list[str]:
    """Return the packages that `make` would install for a target, by the last word of pip's arguments."""
    line = ["make", "--no-print-directory", "--dry-run", target, f"VENV={environment}"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    return re.findall(r"pip install .* -e '?([^'\s]+)'?$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("target", "packages"), [("demo", ["."]), ("test", [".", ".[dev]"]), ("check", [".", ".[dev]"])]
)
def test_a_target_installs_its_requirements(target: str, packages: list[str], tmp_path: Path) -> None:
    assert installed_by(target, tmp_path / "venv") == packages


@pytest.mark.parametrize("stamps", [[".runtime"], [".runtime", ".installed"]])
def test_nothing_is_installed_twice(stamps: list[str], tmp_path: Path) -> None:
    for stamp in stamps:
        (tmp_path / stamp).touch()
    assert installed_by("demo", tmp_path) == []
    assert installed_by("test", tmp_path) == ([] if ".installed" in stamps else [".[dev]"])
