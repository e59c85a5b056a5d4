"""Components: what a `_component_` can name, and the arguments that each takes."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from installed_torchtune.stock import FAMILIES, covered_configs, stock_config

EXTRA_COMPONENTS = (
    "torch.optim.Adam",
    "torch.optim.AdamW",
    "torch.optim.SGD",
    "torchtune.datasets.chat_dataset",
    "torchtune.datasets.instruct_dataset",
    "torchtune.datasets.text_completion_dataset",
    "torchtune.training.FullModelHFCheckpointer",
)
COMPONENT_MODULES = ("torchtune.training.lr_schedulers", "torchtune.training.metric_logging")


def component(dotpath: str) -> Callable[..., Any]:
    """Return the object that a `_component_` names."""
    module, _, name = dotpath.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def signature(dotpath: str) -> dict[str, Any]:
    """Return the arguments of a component, the required ones, the other defaults, and whether it accepts any others.

    A default that YAML cannot say (an enumeration, a function) is left out.
    """
    parameters = inspect.signature(component(dotpath)).parameters.values()
    named = [p for p in parameters if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}]
    return {
        "arguments": [p.name for p in named],
        "required": [p.name for p in named if p.default is p.empty],
        "defaults": {p.name: _plain(p.default) for p in named if p.default is not None and _is_plain(p.default)},
        "open": any(p.kind is p.VAR_KEYWORD for p in parameters),
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return type(value) in {bool, int, float, str}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def components_in(node: Any) -> Iterator[str]:
    """Every `_component_` in plain data."""
    if isinstance(node, dict):
        if isinstance(node.get("_component_"), str):
            yield node["_component_"]
        for value in node.values():
            yield from components_in(value)


def _contents(module: str) -> Iterator[tuple[str, str]]:
    """Return the names in a module, each with its defining module."""
    for name, thing in vars(importlib.import_module(module)).items():
        yield name, getattr(thing, "__module__", "")


def model_builders() -> Iterator[str]:
    """Return the dotpaths of the builders of models and tokenizers of the covered families."""
    for family in FAMILIES:
        module = f"torchtune.models.{family}"
        yield from (f"{module}.{name}" for name, home in _contents(module) if home.endswith("._model_builders"))


def schedules_and_loggers() -> Iterator[str]:
    """Return the dotpaths of torchtune's cosine schedules and metric loggers."""
    for module in COMPONENT_MODULES:
        own = [name for name, home in _contents(module) if home == module and not name.startswith("_")]
        yield from (f"{module}.{name}" for name in own if name.startswith("get_cosine") or name.endswith("Logger"))


def all_components() -> dict[str, Any]:
    """Every component that the covered models can be trained with, by its dotpath."""
    names = {*EXTRA_COMPONENTS, *model_builders(), *schedules_and_loggers()}
    for config in covered_configs():
        names.update(components_in(stock_config(config)))
    return {name: signature(name) for name in sorted(names) if not name.startswith("bitsandbytes.")}
