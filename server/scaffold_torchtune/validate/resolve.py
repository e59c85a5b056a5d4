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
_PLAIN = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\}")
_ROOT = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_]*)")


def leaves(data: Any) -> Iterator[Any]:
    """Every value in plain data that is no mapping or list."""
    below = data.values() if isinstance(data, dict) else data if isinstance(data, list) else None
    if below is None:
        yield data
        return
    for value in below:
        yield from leaves(value)


def has_resolver(text: str) -> bool:
    """Whether text has an interpolation that calls a resolver: a colon anywhere within `${...}`."""
    depth, index = 0, 0
    while index < len(text):
        if text.startswith("${", index):
            depth += 1
        elif depth and text[index] == "}":
            depth -= 1
        elif depth and text[index] == ":":
            return True
        index += 1
    return False


def interpolated(data: Any) -> frozenset[str]:
    """The top-level keys that some interpolation in the data names."""
    texts = [value for value in leaves(data) if isinstance(value, str)]
    return frozenset(name for text in texts for name in _ROOT.findall(text))


def resolve(data: dict[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Plain data with every interpolation resolved, and what could not be, by path.

    What could not be resolved stands as a placeholder text that is no planned value.
    """
    problems: Problems = {}
    screened = _screen(data, (), problems)
    if _growth(screened) > _LARGEST:
        return _replace(screened, (), problems), problems
    if not _interpolates(screened):
        return screened, problems
    return _values(screened, OmegaConf.create(_needed(screened)), (), problems), problems


def _interpolates(data: Any) -> bool:
    """Whether there is an interpolation anywhere in the data."""
    return any(isinstance(value, str) and "${" in value for value in leaves(data))


def _needed(data: dict[str, Any]) -> dict[str, Any]:
    """What OmegaConf needs to resolve the data: building its nodes takes most of the time, and few refer to others."""
    texts = [value for value in leaves(data) if isinstance(value, str) and "${" in value]
    if not all(_is_plain(text) for text in texts):
        return data
    named = interpolated(data)
    return {key: value if key in named else _referring(value) for key, value in data.items()}


def _referring(data: Any) -> Any:
    """The data without the values that refer to nothing; what stays keeps its path."""
    if isinstance(data, dict):
        return {key: _referring(value) for key, value in data.items() if _interpolates(value)}
    if isinstance(data, list):
        return [_referring(value) for value in data]
    return data if _interpolates(data) else None


def _is_plain(text: str) -> bool:
    """Whether all interpolations in a text name their node from the root on, as `${output_dir}` does."""
    return "\\" not in text and "${" not in _PLAIN.sub("", text)


def _growth(data: dict[str, Any]) -> int:
    """At most how many characters resolving can make: what each text and each node refers to, multiplied."""
    growth = max(1, sum(len(value) for value in leaves(data) if isinstance(value, str)))
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
    if _is_plain(data):
        return data
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
    if not _interpolates(data):
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
