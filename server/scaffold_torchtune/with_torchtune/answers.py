"""What torchtune's answers mean: findings in the runs, and about the whole experiment."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, ValidationError

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, Scalar, finding
from scaffold_torchtune.models.base import Model
from scaffold_torchtune.shared.layout import FINETUNE_YAML
from scaffold_torchtune.shared.text import escape, few, shown
from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.torchtune_facts import load
from scaffold_torchtune.with_torchtune.questions import Config, Questions

_FIX = "correct the value where it comes from, or setup_finetune and its template, then scaffold again"
_NAMED = "SCAFFOLD_TORCHTUNE_PYTHON=PATH names the Python of an environment that has torchtune {version}"
_LISTED = 5
_LONGEST = 500


class Line(Model):
    """One line that the program answers, as its docstring has them."""

    torchtune: str = ""
    torch: str = ""
    missing: str = ""
    node: int | None = Field(default=None, ge=0)
    refused: str = ""
    path: tuple[str, ...] = ()
    unasked: str = ""
    parameters: int = 0
    lora: int = 0
    layers: int = 0
    attention: dict[str, int] = Field(default_factory=dict)
    done: int | None = None


@dataclass
class Heard:
    """All that was answered; `nodes` by their number, `done` whether nothing is left out."""

    torchtune: str = ""
    torch: str = ""
    missing: str = ""
    nodes: dict[int, Line] = field(default_factory=dict)
    done: bool = False
    noise: str = ""


def hear(output: str, mark: str, asked: Questions) -> Heard:
    """The answers in what the program printed; `noise` is the last line that is none."""
    heard = Heard()
    for text in output.splitlines():
        if not text.startswith(mark):
            heard.noise = text.strip() or heard.noise
            continue
        try:
            line = Line.model_validate_json(text.removeprefix(mark))
        except ValidationError:
            heard.noise = text.removeprefix(mark)
            continue
        heard.torchtune, heard.torch = line.torchtune or heard.torchtune, line.torch or heard.torch
        heard.missing = line.missing or heard.missing
        if line.node is not None:
            heard.nodes[line.node] = line
        heard.done = line.done is not None and heard.nodes.keys() == set(range(len(asked.nodes)))
    return heard


def missing(python: str, reason: str, *, asked_for: bool) -> Finding:
    """The finding that torchtune cannot be imported; a warning where nobody asked for it."""
    message = f"{shown(python)} cannot import torchtune, so the configs were not tested with it: {escape(reason)}"
    fix = f"{_NAMED.format(version=load().torchtune)}; or do without (--no-with-torchtune)"
    return finding("torchtune-missing", message, severity=None if asked_for else Severity.WARNING, fix=fix)


def unanswered(python: str, reason: str, *, asked_for: bool) -> Finding:
    """The finding that the program gave no whole answer; a warning where nobody asked for it."""
    message = f"torchtune was asked with {shown(python)}, but the configs are not tested with it: {reason}"
    fix = f"validate again; {_NAMED.format(version=load().torchtune)}; or do without (--no-with-torchtune)"
    return finding("torchtune-unanswered", message, severity=None if asked_for else Severity.WARNING, fix=fix)


def findings(asked: Questions, heard: Heard, python: str) -> tuple[dict[str, list[Finding]], list[Finding]]:
    """Findings by the run's directory, and about the whole experiment, from whole answers."""
    runs: dict[str, list[Finding]] = {}
    for number, (_, node) in enumerate(asked.nodes):
        line = heard.nodes[number]
        for config in asked.configs[number]:
            found = [*_refused(config, line, heard.torchtune), *_lora(config, node, line)]
            runs.setdefault(config.directory, []).extend(found)
    unasked = list(_unasked(asked, heard))
    return runs, unasked if any(runs.values()) else [*unasked, _agrees(asked, heard, python)]


def _at(
    config: Config, code: str, message: str, path: Path, *, expected: Scalar = None, actual: Scalar = None
) -> Finding:
    """A finding about what stands at a path of a config."""
    field = escape(".".join(map(str, path)))
    place = Location(f"{config.directory}/{FINETUNE_YAML}", config.document.line(path))
    return finding(code, message, field=field, expected=expected, actual=actual, at=place, fix=_FIX)


def _refused(config: Config, line: Line, version: str) -> Iterable[Finding]:
    if line.refused:
        value: Any = config.data
        for key in line.path:
            value = value.get(key) if isinstance(value, dict) else None
        actual = escape(str(value)) if isinstance(value, str | int | float) else None
        message = f"torchtune {version} does not take it: {escape(line.refused, _LONGEST)}"
        yield _at(config, "torchtune-refused", message, line.path, actual=actual)


def _lora(config: Config, node: dict[str, Any], line: Line) -> Iterable[Finding]:
    """Whether a model has LoRA where, and of the size, that was asked for; of other parts no parameters are told."""
    if not line.parameters:
        return
    modules = node.get("lora_attn_modules")
    wanted = [str(module) for module in modules] if isinstance(modules, list) else []
    whole = {module for module, count in line.attention.items() if count == line.layers}
    if line.layers and (set(wanted) != whole or line.attention.keys() != whole):
        has = ", ".join(sorted(line.attention)) or "none"
        message = f"the attention that torchtune builds has LoRA in {escape(has)}, not in all that is asked for"
        path = ("model", "lora_attn_modules")
        yield _at(config, "lora-differs", message, path, expected=escape(", ".join(wanted)), actual=escape(has))
    expected = _expected(node)
    if expected not in {None, line.lora}:
        message = f"the LoRA that torchtune builds has {line.lora:,} parameters, not {expected:,}"
        yield _at(config, "lora-differs", message, ("model", "lora_rank"), expected=expected, actual=line.lora)


def _expected(node: dict[str, Any]) -> int | None:
    """The LoRA parameters that a node must have by the facts; None where they do not say."""
    rank, facts = node.get("lora_rank"), load()
    model = next((m for m in facts.models.values() if m.lora_builder == node["_component_"]), None)
    if model is None or type(rank) is not int or node.get("use_dora"):
        return None
    for name, counted in facts.lora_counted_with.items():
        given = node.get(name)
        if (sorted(map(str, given)) if isinstance(given, list) else given) != (
            sorted(counted) if isinstance(counted, tuple) else counted
        ):
            return None
    return rank * model.lora_parameters_per_rank


def _unasked(asked: Questions, heard: Heard) -> Iterable[Finding]:
    """One remark that names all components that torchtune was not asked about."""
    named = {
        f"{escape(part)} is {shown(str(node['_component_']))} ({escape(heard.nodes[number].unasked)})": None
        for number, (part, node) in enumerate(asked.nodes)
        if heard.nodes[number].unasked
    }
    if named:
        message = f"torchtune was not asked about all components: {few(list(named), _LISTED, between='; ')}"
        yield finding("torchtune-unasked", message, fix="nothing, if they are meant; look at them yourself")


def _built(node: dict[str, Any], line: Line) -> str:
    name = escape(str(node["_component_"])).rpartition(".")[2]
    if "lora_rank" not in node:
        return f"{name}: {line.parameters:,} parameters, all trained"
    rank = escape(str(node["lora_rank"]))
    return f"{name} with rank {rank}: {line.parameters:,} parameters, {line.lora:,} of them LoRA"


def _agrees(asked: Questions, heard: Heard, python: str) -> Finding:
    """The remark that torchtune takes everything that it was asked about."""
    configs = {config.directory for having in asked.configs for config in having}
    built = {
        _built(node, line): None
        for number, (_, node) in enumerate(asked.nodes)
        if (line := heard.nodes[number]).parameters
    }
    count = sum(1 for line in heard.nodes.values() if line.parameters)
    models = few(list(built), _LISTED, between="; ", more="; ...")
    own = heard.torchtune.partition("+")[0]
    other = "" if own == load().torchtune else f" All else that validate checks is known of {load().torchtune}."
    message = (
        f"torchtune {escape(heard.torchtune)} with torch {escape(heard.torch)} ({shown(python)}) takes {len(configs)}"
        f" config(s), and built {count} distinct model(s){': ' if models else ''}{models}.{other}"
    )
    fix = "" if not other else f"train with torchtune {load().torchtune}, or compare the two versions"
    return finding("torchtune-agrees", message, fix=fix)
