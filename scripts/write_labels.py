"""Generate the tables of workflows/labels.md from the table of parameters; the prose is unchanged."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from generated_tables import table_of, with_tables
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import ValueKind
from scaffold_torchtune.settings.parameters import (
    DIRECTORIES,
    OF_CONFIGURATION,
    OF_LOCAL,
    PARAMETERS,
    LocalLabels,
    Parameter,
)

PAGE: Final = Path(__file__).resolve().parent.parent / "workflows" / "labels.md"

_SPELLING: Final = {
    "w b": "W&B", "weights biases": "Weights & Biases", "weights and biases": "Weights and Biases", "wandb": "WandB",
    "lora": "LoRA", "mlp": "MLP", "peft": "PEFT", "lr": "LR", "gpu": "GPU", "gpus": "GPUs", "cpu": "CPU",
    "cpus": "CPUs", "slurm": "SLURM", "qos": "QOS", "bs": "BS", "wd": "WD", "ga": "GA", "e mail": "E-mail",
    "gas": "GAS",
}  # fmt: skip
"""The usual spelling of words of labels, which the table of parameters has in lower case and without punctuation."""

_SECTIONS: Final = {
    "wandb": "Weights & Biases", "slurm": "SLURM", "top": "outside all sections", "machine": "Cluster",
    "defaults": "Defaults", "general": "Environment", "conda": "Conda", "modules": "Module System",
}  # fmt: skip
"""A usual heading for each topic of `parse/local_labels.py`."""

_KINDS: Final[dict[ValueKind, str]] = {
    "int": "whole number", "float": "number", "bool": "yes or no", "text": "text", "name": "name", "path": "path",
    "pattern_free_path": "path", "modules": "names of modules", "recipe": "name of a recipe",
    "time": "SLURM time: `0:59:00`, `1-12:00:00`", "memory": "`32G`", "constraint": "features joined by `&` or `\\|`",
    "gpu_type": "name", "mail": "mail address", "events": "SLURM events: `END,FAIL`", "reservations": "names",
    "nodes": "names of nodes: `node01,gpu[03-05]`", "tags": "tags, separated by commas",
    "projections": "`q_proj`, `k_proj`, `v_proj`, `output_proj`", "wandb_mode": "`online`, `offline`, `disabled`",
}  # fmt: skip
"""What the values of each kind are, in the words of a table cell."""

_DERIVED: Final = {
    "model": "required", "lora_alpha": "2 x `lora_rank`", "recipe": "LoRA", "nodes": "`1`",
    "enable_activation_checkpointing": "as torchtune's stock config", "mem": "by model", "cpus_per_task": "by model",
}  # fmt: skip
"""Defaults that are derived in the plan, which the table of parameters does not have."""


def label(text: str) -> str:
    """Return a label as people write it: `W&B mode` for `w b mode`."""
    for word, spelling in _SPELLING.items():
        text = re.sub(rf"\b{word}\b(?!')", spelling, text)
    return text[0].upper() + text[1:] if len(text) > 1 else text


def _labels(texts: Iterable[str]) -> str:
    return ", ".join(label(text) for text in texts)


def _default(parameter: Parameter) -> str:
    default = parameter.default
    if parameter.name in _DERIVED:
        return _DERIVED[parameter.name]
    if default in {None, ""}:
        return "required" if parameter.question and parameter.name not in OF_CONFIGURATION else ""
    return ("yes" if default else "no") if isinstance(default, bool) else f"`{kinds.written(default)}`"


def _elsewhere(of: LocalLabels) -> Iterator[str]:
    """Yield the labels that are read only in some sections, with these sections."""
    if of.unless_of_others:
        yield f"{_labels(of.unless_of_others)} (not about another service)"
    for topics, labels in of.within.items():
        yield f"{_labels(labels)} ({', '.join(_SECTIONS[topic] for topic in topics.split())})"


def _of_the_summary(parameters: Iterable[Parameter]) -> Iterator[tuple[str, ...]]:
    yield "setting", "other labels", "value", "default"
    for one in parameters:
        yield f"`{one.name}`", _labels((*one.aliases, *one.words)), _KINDS[one.kind], _default(one)


def _of_the_environment() -> Iterator[tuple[str, ...]]:
    yield "setting", "in any section", "in sections about jobs", "in some sections only"
    for one in (OF_LOCAL | DIRECTORIES).values():
        labels = one.local or LocalLabels()
        yield f"`{one.name}`", _labels(labels.anywhere), _labels(labels.of_jobs), "; ".join(_elsewhere(labels))


def tables() -> dict[str, Iterable[tuple[str, ...]]]:
    """Return the rows of each table, its header first, by the heading above it."""
    rows = [p for p in PARAMETERS.values() if p.column]
    shared = [p for p in PARAMETERS.values() if not p.column and (p.common or p.name in OF_CONFIGURATION)]
    return {
        "Columns of the table of runs, and lines of Configuration": _of_the_summary(rows),
        "Lines of Configuration only": _of_the_summary(shared),
        "Lines of claude.local.md": _of_the_environment(),
    }


def page(text: str) -> str:
    """Return the page with each table generated again."""
    return with_tables(text, {title: table_of(rows) for title, rows in tables().items()})


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
