"""What torchtune is asked: each node of the configs, but what many configs have alike only once."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scaffold_torchtune.shared.yamlio import YamlDocument


@dataclass(frozen=True)
class Config:
    """A run's finetune.yaml: the directory, the file as read, its data with every interpolation resolved.

    `unresolved` are the top-level keys below which something could not be resolved.
    """

    directory: str
    document: YamlDocument
    data: Mapping[str, Any]
    unresolved: frozenset[str] = frozenset()


@dataclass
class Questions:
    """The nodes to ask about as (key, node), and the configs that have each, by its number."""

    nodes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    configs: list[list[Config]] = field(default_factory=list)


def questions(configs: Iterable[Config]) -> Questions:
    """Every distinct node that names a component. What could not be resolved is not asked about."""
    asked = Questions()
    numbers: dict[str, int] = {}
    for config in configs:
        for part, node in config.data.items():
            if not isinstance(node, dict) or "_component_" not in node or part in config.unresolved:
                continue
            key = json.dumps([part, node], sort_keys=True)
            if key not in numbers:
                numbers[key] = len(asked.nodes)
                asked.nodes.append((part, node))
                asked.configs.append([])
            asked.configs[numbers[key]].append(config)
    return asked


def request(asked: Questions, mark: str) -> bytes:
    """What the program reads. `mark` is what its answers begin with: a text that no document can know."""
    nodes = [{"part": part, "node": node} for part, node in asked.nodes]
    return json.dumps({"mark": mark, "nodes": nodes}).encode()
