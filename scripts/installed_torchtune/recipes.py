"""Recipes: which keys of its config each reads, found by following the config through the source."""

import ast
import importlib.util
import inspect
import sys
import textwrap
from types import ModuleType
from typing import Any

from installed_torchtune.stock import RECIPES, recipes_folder, registry, stock_config
from installed_torchtune.values import stock_values


class _Uses(ast.NodeVisitor):
    """Collects what a piece of source reads of one configuration, and to whom it hands it whole."""

    def __init__(self, names: set[str], module: ModuleType) -> None:
        self.names = names
        self.module = module
        self.attributes: set[str] = set()
        self.optional: set[str] = set()
        self.calls: list[tuple[Any, int | str]] = []

    def _is_config(self, node: ast.expr) -> bool:
        return (isinstance(node, ast.Name) and node.id in self.names) or (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr == "_cfg"
        )

    def _resolve(self, node: ast.expr) -> Any:
        """Return the object behind a dotted name, or behind a constant; None where it is not known."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return getattr(self.module, node.id, None)
        return getattr(self._resolve(node.value), node.attr, None) if isinstance(node, ast.Attribute) else None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if self._is_config(node.value) and node.attr != "get":
            self.attributes.add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "get" and self._is_config(function.value):
            self.optional.add(str(self._resolve(node.args[0])))
        handed: list[tuple[int | str, ast.expr]] = list(enumerate(node.args))
        handed += [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
        self.calls += [(self._resolve(function), where) for where, value in handed if self._is_config(value)]
        self.generic_visit(node)


def recipe_module(name: str) -> ModuleType:
    """Return a recipe's file as a module, because torchtune forbids importing recipes as a package."""
    path = recipes_folder() / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"stock_recipe_{name}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def uses(thing: Any, names: set[str], seen: set[Any]) -> tuple[set[str], set[str]]:
    """Return the keys of the configuration that a module, class or function reads, as attributes or with `get`."""
    if thing in seen:
        return set(), set()
    seen.add(thing)
    module = thing if inspect.ismodule(thing) else inspect.getmodule(thing)
    if module is None or not module.__name__.startswith(("stock_recipe_", "torchtune.")):
        return set(), set()
    visitor = _Uses(names, module)
    visitor.visit(ast.parse(textwrap.dedent(inspect.getsource(thing))))
    attributes, optional = visitor.attributes, visitor.optional
    for called, where in visitor.calls:
        if inspect.isfunction(called) or inspect.isclass(called):
            parameters = list(inspect.signature(called).parameters)
            name = parameters[where] if isinstance(where, int) else where
            more = uses(called, {name}, seen)
            attributes, optional = attributes | more[0], optional | more[1]
    return attributes, optional


def recipe(name: str) -> dict[str, Any]:
    """Return the keys that a recipe reads; required keys have no default and are in each of its stock configs."""
    attributes, optional = uses(recipe_module(name), {"cfg"}, set())
    entry = registry()[name]
    stock = [set(stock_config(config.name)) for config in entry.configs]
    return {
        "distributed": entry.supports_distributed,
        "reads": sorted(attributes | optional),
        "required": sorted(attributes.intersection(*stock)),
        "stock": stock_values(name),
    }


def all_recipes() -> dict[str, Any]:
    """Return the covered recipes by name."""
    return {name: recipe(name) for name in RECIPES}
