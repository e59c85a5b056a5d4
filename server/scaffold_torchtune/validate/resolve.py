"""Resolving `${...}` in finetune.yaml as torchtune's own loader does, but never through a resolver.

torchtune loads its config with OmegaConf. `${oc.env:NAME}` and other resolvers would read the environment of whoever
validates, so text that has one is reported and not resolved.
"""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scaffold_torchtune.shared.yamlio import Path

Problems = dict[Path, str]

_BROKEN = "(not resolved)"
_LARGEST = 50_000_000
_ROOT = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_]*)")


def leaves(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value in plain data that is no mapping or list, with its path."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from leaves(value, (*path, index))
    else:
        yield path, data


def has_resolver(text: str) -> bool:
    """Whether text has an interpolation that calls a resolver: a colon anywhere within `${...}`."""
    depth, index = 0, 0
    while index < len(text):
        if text.startswith("${", index):
            depth += 1
            index += 1
        elif depth and text[index] == "}":
            depth -= 1
        elif depth and text[index] == ":":
            return True
        index += 1
    return False


def interpolated(data: Any) -> frozenset[str]:
    """The top-level keys that some interpolation in the data names."""
    texts = [value for _, value in leaves(data) if isinstance(value, str)]
    return frozenset(name for text in texts for name in _ROOT.findall(text))


def resolve(data: dict[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Plain data with every interpolation resolved, and what could not be, by path.

    What could not be resolved stands as a placeholder text that is no planned value.
    """
    problems: Problems = {}
    screened = _screen(data, (), problems)
    if _growth(screened) > _LARGEST:
        return _replace(screened, (), problems), problems
    if not any(isinstance(value, str) and "${" in value for _, value in leaves(screened)):
        return screened, problems
    config = OmegaConf.create(screened)
    return _values(screened, config, (), problems), problems


def _growth(data: dict[str, Any]) -> int:
    """At most how many characters resolving can make: what each text and each node refers to, multiplied."""
    growth = max(1, sum(len(value) for _, value in leaves(data) if isinstance(value, str)))
    for value in data.values():
        for count in _references(value):
            growth = min(growth * max(1, count), _LARGEST + 1)
    return growth


def _references(node: Any) -> list[int]:
    """How many interpolations a node has, then the same of every node below it."""
    if isinstance(node, str):
        return [node.count("${")]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    below = [_references(child) for child in children]
    return [sum(counts[0] for counts in below), *(count for counts in below for count in counts)]


def _replace(data: Any, path: Path, problems: Problems) -> Any:
    if isinstance(data, dict):
        return {key: _replace(value, (*path, key), problems) for key, value in data.items()}
    if isinstance(data, list):
        return [_replace(value, (*path, index), problems) for index, value in enumerate(data)]
    if isinstance(data, str) and "${" in data:
        problems[path] = "the interpolations in this file are too many to resolve"
        return _BROKEN
    return data


def _screen(data: Any, path: Path, problems: Problems) -> Any:
    if isinstance(data, dict):
        return {key: _screen(value, (*path, key), problems) for key, value in data.items()}
    if isinstance(data, list):
        return [_screen(value, (*path, index), problems) for index, value in enumerate(data)]
    if not isinstance(data, str) or "${" not in data:
        return data
    if has_resolver(data):
        problems[path] = "it calls a resolver, which would read something outside the file"
        return _BROKEN
    try:
        OmegaConf.create([data])
    except (OmegaConfBaseException, RecursionError):
        problems[path] = "it is not an interpolation that OmegaConf can read"
        return _BROKEN
    return data


def _values(data: Any, config: Any, path: Path, problems: Problems) -> Any:
    if isinstance(data, dict):
        return {key: _value(value, config, key, (*path, key), problems) for key, value in data.items()}
    return [_value(value, config, index, (*path, index), problems) for index, value in enumerate(data)]


def _value(data: Any, config: Any, key: str | int, path: Path, problems: Problems) -> Any:
    if not isinstance(data, dict | list) and not (isinstance(data, str) and "${" in data):
        return data
    try:
        found = config[key]
        if isinstance(data, dict | list):
            return _values(data, found, path, problems)
        if isinstance(found, DictConfig | ListConfig):
            return OmegaConf.to_container(found, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        problems[path] = f"it cannot be resolved ({reason})"
        return _BROKEN
    return found
