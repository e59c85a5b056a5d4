"""Check that the package has few modules of a good size, and that a public name has one meaning."""

import ast
import collections
import collections.abc
import dataclasses
import enum
import functools
import pathlib
import runpy
import threading
import typing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "server/scaffold_torchtune"
FAMILIAR = (collections, collections.abc, dataclasses, enum, functools, pathlib, threading, typing)
STANDARD = frozenset(name for module in FAMILIAR for name in module.__all__) - {"Text", "fields"}
"""The names that a reader of Python expects to be the standard library's, except two that are rare."""


def public_types(tree: ast.Module) -> Iterator[str]:
    """Yield the public classes and type aliases of a module: names written `LikeThis`."""
    for node in tree.body:
        names = [node.name] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if name[0].isupper() and not name.isupper())


def public_names(tree: ast.Module) -> Iterator[str]:
    """Yield the importable names that a module defines."""
    yield from public_types(tree)
    yield from (node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_")


def test_the_package_keeps_to_the_bounds_of_its_modules() -> None:
    script = runpy.run_path(str(ROOT / "scripts/structure.py"))
    figures = script["figures"](script["lines_by_module"](script["PACKAGE"]))
    assert {name for name, _, _, keeps in figures if not keeps} == set()


def test_public_types_and_modules_have_unique_names() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in {*public_types(ast.parse(path.read_text()))} | ({path.name} - {"__init__.py"}):
            found[name].append(str(path.relative_to(PACKAGE)))
    assert len(found) > 100
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_no_public_name_is_one_of_the_standard_library() -> None:
    found = {name for path in PACKAGE.rglob("*.py") for name in public_names(ast.parse(path.read_text()))}
    assert found & STANDARD == set()
