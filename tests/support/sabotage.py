"""What can be broken in code that checks, one place at a time: a mutant for each.

A mutant drops a statement that emits a finding, forces a condition, turns a comparison round, leaves out an operand, an
entry of a table or an expectation, or changes how severe a finding is. mutmut leaves the tables of a module alone, and
cosmic-ray drops no statement and no entry, so neither serves.
"""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final

_TURNED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_SEVERITY: Final = {"ERROR": "INFO", "WARNING": "ERROR", "INFO": "ERROR"}
_NOT_RUN: Final = frozenset({"annotation", "returns", "decorator_list"})
_WORDS: Final = frozenset({"fix", "hint", "message", "note"})
"""Names of what only words a finding: neither whether there is one nor where depends on it."""

_ASSERTED: Final = frozenset({"strict"})
"""Names of what only makes sure of something: `zip` of what is equally long."""

Place = tuple[ast.AST, str, int | None, ast.AST]
"""The parent of a node, the field that holds it, the index where that is a list, and the node."""


@dataclass(frozen=True)
class Mutant:
    """A module with one place broken: where, how, and the how manieth mutant of the module it is.

    `within` names the function or class in which the place is, `_Commands._add`; it is empty outside of all.
    """

    module: str
    path: Path
    within: str
    lines: range
    change: str
    number: int

    @property
    def file(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def code(self) -> CodeType:
        """The code of the whole module; compiled when asked for, as a sample asks for few."""
        tree, _, _ = next(itertools.islice(_broken(self.path), self.number, None))
        return compile(ast.fix_missing_locations(tree), str(self.path), "exec")


def mutants(module: str, path: Path) -> Iterator[Mutant]:
    """Every mutant of a module, always in the same order."""
    named = list(_named(ast.parse(path.read_text(encoding="utf-8"))))
    for number, (_, node, changed) in enumerate(_broken(path)):
        lines = _lines(node)
        within = [name for name, around in named if lines.start in around]
        yield Mutant(module, path, within[-1] if within else "", lines, _change(node, changed), number)


def _named(parent: ast.AST, above: str = "") -> Iterator[tuple[str, range]]:
    """Every function and class with its lines, one within another after it."""
    for node in ast.iter_child_nodes(parent):
        name = above
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{above}.{node.name}" if above else node.name
            yield name, _lines(node)
        yield from _named(node, name)


def _broken(path: Path) -> Iterator[tuple[ast.Module, ast.AST, ast.AST]]:
    """The module with each place broken in turn, what stood there, and what stands there until the next."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for parent, field, index, node in list(_places(tree)):
        for changed in _alternatives(parent, field, node):
            _put(parent, field, index, ast.copy_location(changed, node))
            yield tree, node, changed
            _put(parent, field, index, node)


def _change(node: ast.AST, changed: ast.AST) -> str:
    for field in ("keys", "elts"):
        left = [item for item in getattr(node, field, []) if item not in getattr(changed, field, [])]
        if left and left[0] is not None:  # None is the key of `**`
            return f"without {_shown(left[0])}"
    return f"{_shown(node)} -> {_shown(changed)}"


def _shown(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def _lines(node: ast.AST) -> range:
    first = getattr(node, "lineno", 1)
    return range(first, getattr(node, "end_lineno", first) + 1)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _places(parent: ast.AST) -> Iterator[Place]:
    """Every node that runs and decides about a finding, with the place that holds it."""
    for field, value in ast.iter_fields(parent):
        if field in _NOT_RUN or (field == "value" and _is_left(parent)):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(node, ast.AST):
                yield parent, field, index if isinstance(value, list) else None, node
                yield from _places(node)


def _is_left(parent: ast.AST) -> bool:
    """Whether a node gives a value to what only words a finding, or only makes sure of something."""
    match parent:
        case ast.keyword(arg=str(name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name in _WORDS | _ASSERTED or name == "__all__"
    return False


def _alternatives(parent: ast.AST, field: str, node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node so that the code is broken there."""
    if field in {"test", "ifs"}:
        forced = (False,) if isinstance(parent, ast.While) else (True, False)
        yield from (ast.Constant(value) for value in forced)
    match node:
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield ast.Pass()
        case ast.Compare(left=left, ops=[op], comparators=right) if type(op) in _TURNED:
            yield ast.Compare(left, [_TURNED[type(op)]()], right)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(op=ast.BitOr() | ast.Add(), left=first, right=second):
            yield from (first, second)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Attribute(value=ast.Name(id="Severity") as severity, attr=attr):
            yield ast.Attribute(severity, _SEVERITY[attr], ast.Load())
        case _:
            yield from _without_one(field, node)


def _without_one(field: str, node: ast.AST) -> Iterator[ast.AST]:
    """A node of several without one of them: operands, entries of a table, members of a set or list."""
    match node:
        case ast.BoolOp(op=op, values=values):
            yield from (rest[0] if len(rest) == 1 else ast.BoolOp(op, rest) for rest in _shorter(values))
        case ast.Dict(keys=keys, values=values):
            yield from (ast.Dict(*rest) for rest in zip(_shorter(keys), _shorter(values), strict=True))
        case ast.Set(elts=elts):
            yield from (ast.Set(rest) for rest in _shorter(elts) if rest)
        case ast.List(elts=elts, ctx=ast.Load()):
            yield from (ast.List(rest, ast.Load()) for rest in _shorter(elts))
        case ast.Tuple(elts=elts, ctx=ast.Load()) if field in {"iter", "comparators", "args"}:
            yield from (ast.Tuple(rest, ast.Load()) for rest in _shorter(elts))


def _shorter(items: list[Any]) -> Iterator[list[Any]]:
    """A list with one of its items left out, for each of them."""
    return ([*items[:index], *items[index + 1 :]] for index in range(len(items)))
