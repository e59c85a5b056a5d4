"""Mutants of code that checks: one for each place that can be broken.

A mutant removes a statement that emits a finding, forces a condition, inverts a comparison, removes an operand, an
entry of a table or an expectation, or changes the severity of a finding. mutmut does not change the tables of a module,
and cosmic-ray removes no statement or entry, so neither is suitable.
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
"""Names that only affect the wording of a finding, not its existence or place."""

_ASSERTED: Final = frozenset({"strict"})
"""Names that only assert something: `zip` of sequences with the same length."""

Place = tuple[ast.AST, str, int | None, ast.AST]
"""The parent of a node, the field that holds it, the index if that is a list, and the node."""


@dataclass(frozen=True)
class Mutant:
    """A module with one broken place: its position, the change, and the number of the mutant within the module.

    `within` names the function or class with the place, `_Commands._add`; it is empty outside of all.
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
        """Return the code of the whole module; it is compiled on request, because a sample needs few."""
        tree, _, _ = next(itertools.islice(_broken(self.path), self.number, None))
        return compile(ast.fix_missing_locations(tree), str(self.path), "exec")


def mutants(module: str, path: Path) -> Iterator[Mutant]:
    """Return every mutant of a module, always in the same order."""
    named = list(_named(ast.parse(path.read_text(encoding="utf-8"))))
    for number, (_, node, changed) in enumerate(_broken(path)):
        lines = _lines(node)
        within = [name for name, around in named if lines.start in around]
        yield Mutant(module, path, within[-1] if within else "", lines, _change(node, changed), number)


def _named(parent: ast.AST, above: str = "") -> Iterator[tuple[str, range]]:
    """Return every function and class with its lines, inner ones after outer ones."""
    for node in ast.iter_child_nodes(parent):
        name = above
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{above}.{node.name}" if above else node.name
            yield name, _lines(node)
        yield from _named(node, name)


def _broken(path: Path) -> Iterator[tuple[ast.Module, ast.AST, ast.AST]]:
    """Yield the module with each place broken in turn, with the old and the new text; the next step restores it."""
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
    """Yield every executed node that affects a finding, with the place that holds it."""
    for field, value in ast.iter_fields(parent):
        if field in _NOT_RUN or (field == "value" and _is_left(parent)):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(node, ast.AST):
                yield parent, field, index if isinstance(value, list) else None, node
                yield from _places(node)


def _is_left(parent: ast.AST) -> bool:
    """Return whether a node is a value that only affects the wording of a finding, or only asserts something."""
    match parent:
        case ast.keyword(arg=str(name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name in _WORDS | _ASSERTED or name == "__all__"
    return False


def _alternatives(parent: ast.AST, field: str, node: ast.AST) -> Iterator[ast.AST]:
    """Yield replacements of a node that break the code."""
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
    """Yield a node without one of its parts: operands, entries of a table, members of a set or list."""
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
    """Yield a list without one of its items, for each of them."""
    return ([*items[:index], *items[index + 1 :]] for index in range(len(items)))
