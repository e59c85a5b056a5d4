"""Any behaviour is found in two steps: a row of README.md, and, for a directory, the list in its __init__.py."""

import ast
import re
from pathlib import Path

import pytest

import scaffold_torchtune
from support.readme import README

PACKAGE = Path(scaffold_torchtune.__file__).parent
DIRECTORIES = [path.parent for path in sorted(PACKAGE.glob("*/__init__.py"))]


def rows() -> list[list[str]]:
    """Return the places that each row of the table names."""
    table = README.read_text().partition("\n## Where things are\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| .* \| (.*) \|$", table, re.MULTILINE)[1:]
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


def test_each_row_names_one_existing_place() -> None:
    assert 20 <= len(rows()) <= 30
    assert [row for row in rows() if len(row) != 1] == []
    assert [row for row in rows() if not (PACKAGE / row[0]).exists()] == []


def test_every_directory_of_the_package_has_a_row() -> None:
    named = {row[0].split("/")[0] for row in rows()}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - named == set()


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_a_directory_lists_its_modules(directory: Path) -> None:
    text = ast.get_docstring(ast.parse((directory / "__init__.py").read_text())) or ""
    listed = re.findall(r"^ *([a-z_]+\.py)  +[^ ]", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in directory.glob("*.py") if path.name != "__init__.py")
