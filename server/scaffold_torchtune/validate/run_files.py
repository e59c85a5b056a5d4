"""The files of a run, parsed once, with `${...}` resolved as torchtune does, but never through a resolver."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML
from scaffold_torchtune.system.yamlio import KeyPath, YamlDocument, YamlError, read
from scaffold_torchtune.validate.report import BROKEN, interpolates, leaves
from scaffold_torchtune.validate.slurm_script import SlurmScript, parse_script

Problems = dict[KeyPath, str]

_CHAIN = 4  # references to texts that refer to others: more of them are OmegaConf's to follow
_MISSING = "???"  # what OmegaConf takes for a value that is still to come
_LARGEST = 50_000_000
_PLAIN = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\}")
_ROOT = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_]*)")


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
    return frozenset(name for text in leaves(data) if isinstance(text, str) for name in _ROOT.findall(text))


def resolve(data: dict[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Return plain data with every interpolation resolved, and what could not be, by path.

    What could not be resolved stands as a placeholder text that is no planned value. Text that calls a resolver is
    not resolved: `${oc.env:NAME}` would read the environment of whoever validates. What only puts a text or whole
    number in the place of its name is done here: most interpolations are no more, and OmegaConf takes milliseconds.
    """
    problems: Problems = {}

    def broken(text: str, path: KeyPath) -> str:
        reason = _unresolvable(text)
        if reason:
            problems[path] = reason
        return BROKEN if reason else text

    def too_many(_text: str, path: KeyPath) -> str:
        problems[path] = "the interpolations in this file are too many to resolve"
        return BROKEN

    screened = _replaced(data, broken)
    if _growth(screened) > _LARGEST:
        return _replaced(screened, too_many), problems
    known = _Values(screened)
    put_in = _replaced(screened, lambda text, _path: known.value(text))
    if interpolates(put_in):
        from omegaconf import OmegaConf

        put_in = _children(put_in, OmegaConf.create(screened), (), problems)
    return put_in, problems


def _replaced(data: Any, replacement: Callable[[str, KeyPath], Any], path: KeyPath = ()) -> Any:
    """Data in which each text with an interpolation is what `replacement` makes of it and its path."""
    if isinstance(data, dict):
        return {key: _replaced(value, replacement, (*path, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [_replaced(value, replacement, (*path, index)) for index, value in enumerate(data)]
    return replacement(data, path) if isinstance(data, str) and "${" in data else data


def _unresolvable(text: str) -> str:
    """Why a text is not to be resolved; empty where it is."""
    if has_resolver(text):
        return "it calls a resolver, which would read something outside the file"
    if not _is_plain(text):
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            OmegaConf.create([text])
        except (OmegaConfBaseException, RecursionError):
            return "it is not an interpolation that OmegaConf can read"
    return ""


def _children(data: Any, config: Any, path: KeyPath, problems: Problems) -> Any:
    """Data resolved by OmegaConf where it still has an interpolation; `config` is what it has read of the same."""
    if isinstance(data, dict):
        return {key: _resolved(value, config, key, (*path, key), problems) for key, value in data.items()}
    return [_resolved(value, config, index, (*path, index), problems) for index, value in enumerate(data)]


def _resolved(data: Any, config: Any, key: str | int, path: KeyPath, problems: Problems) -> Any:
    if not interpolates(data):
        return data
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found = config[key]
        if isinstance(data, dict | list):
            return _children(data, found, path, problems)
        if isinstance(found, DictConfig | ListConfig):
            return OmegaConf.to_container(found, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        reason, _, _ = str(error).partition("\n")
        problems[path] = f"it cannot be resolved ({reason})"
        return BROKEN
    return found


class _Values:
    """The texts and whole numbers that names in plain data refer to, from the root on."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[str, int], str | int | None] = {}

    def value(self, text: str) -> str | int:
        """Return what a text comes to; itself where OmegaConf must say it."""
        found = self._value(text, _CHAIN)
        return text if found is None else found

    def _value(self, text: str, steps: int) -> str | int | None:
        """What a text comes to, its references followed at most so many steps; None where OmegaConf must say it."""
        if not _is_plain(text):
            return None
        values = [self._target(found[0][2:-1], steps) for found in _PLAIN.finditer(text)]
        if None in values:
            return None
        if _PLAIN.fullmatch(text):
            return values[0]
        parts = iter(values)
        return _PLAIN.sub(lambda _: str(next(parts)), text)

    def _target(self, name: str, steps: int) -> str | int | None:
        """The text or whole number that a name refers to; None where it is something else."""
        if (name, steps) not in self._known:
            self._known[name, steps] = self._found(name, steps)
        return self._known[name, steps]

    def _found(self, name: str, steps: int) -> str | int | None:
        node: Any = self._root
        for key in name.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, str) or node == _MISSING:
            return node if type(node) is int else None
        if "${" not in node:
            return node
        return self._value(node, steps - 1) if steps else None


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


@dataclass(frozen=True)
class ResolvedConfig:
    """A finetune.yaml as read, and its data with interpolations resolved: empty where it holds no mapping.

    `problems` has what could not be resolved, by its path.
    """

    document: YamlDocument
    data: dict[str, Any]
    problems: Problems


class RunFiles:
    """The files of a run; `texts` has the text of each by its name, None where it is missing or cannot be read."""

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self.texts = texts

    def document(self, name: str) -> YamlDocument | None:
        """Read a YAML file.

        Raises:
            YamlError: it is no YAML that we take.
        """
        text = self.texts.get(name)
        return None if text is None else read(text)

    @cached_property
    def script(self) -> SlurmScript | None:
        """finetune.slurm."""
        text = self.texts.get(FINETUNE_SLURM)
        return None if text is None else parse_script(text)

    @cached_property
    def config(self) -> ResolvedConfig | None:
        """finetune.yaml.

        Raises:
            YamlError: it is no YAML that we take.
        """
        document = self.document(FINETUNE_YAML)
        if document is None:
            return None
        data, problems = resolve(document.data) if isinstance(document.data, dict) else ({}, {})
        return ResolvedConfig(document, data, problems)

    @property
    def readable_config(self) -> ResolvedConfig | None:
        """finetune.yaml, where it can be read."""
        try:
            return self.config
        except (YamlError, RecursionError):
            return None
