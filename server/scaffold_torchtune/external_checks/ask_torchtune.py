"""torchtune's own answer on every finetune.yaml."""

import importlib.util
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from scaffold_torchtune.external_checks import FilesByRun, Said
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, Scalar, finding
from scaffold_torchtune.models import Model, Plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.layout import FINETUNE_YAML
from scaffold_torchtune.system.text import escape, few, shown
from scaffold_torchtune.system.yamlio import KeyPath, YamlDocument
from scaffold_torchtune.torchtune_facts.facts import load

# What torchtune is asked: each node of the configs, but what many configs have alike only once.


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


# What torchtune's answers mean: findings in the runs, and about the whole experiment.

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
    config: Config, code: str, message: str, path: KeyPath, *, expected: Scalar = None, actual: Scalar = None
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


# Asks torchtune itself whether it takes the configs, in a process of its own and in the operator's Python.

NAMED = "SCAFFOLD_TORCHTUNE_PYTHON"
"""The environment variable with the path of a Python that has torchtune; `off`: torchtune is not asked unasked for."""

PROGRAM = Path(__file__).with_name("torchtune_program.py")

DEADLINE = 300.0
"""How long torchtune may take, in seconds: importing torch from a slow file system takes a minute."""

_KEPT = 10_000_000

# It needs no GPU, one thread, and no network.
_SPARING = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


class Python(NamedTuple):
    """The Python to ask in, and whether somebody asked for it: what goes wrong is an error then, else a warning."""

    path: str
    asked_for: bool


def ask_torchtune(_root: Path, plan: Plan, files: FilesByRun, request: Request) -> Said:
    """What torchtune says of every config that can be read; what many of them have alike is asked about once.

    Nothing, where nobody asked for it and there is no torchtune at hand, or no config can be read.
    """
    python = python_to_ask(request)
    asked = questions(_configs(plan, files)) if python else Questions()
    if python is None or not asked.nodes:
        return Said()
    request.report("torchtune", 0, len(asked.nodes))
    said = _said(python, asked)
    request.report("torchtune", len(asked.nodes), len(asked.nodes))
    return said


def python_to_ask(request: Request) -> Python | None:
    """The operator's Python, else the one that runs us; None where torchtune is not to be asked."""
    wanted, named = request.with_torchtune, os.environ.get(NAMED, "")
    if wanted is False or (wanted is None and named == "off"):
        return None
    if named not in {"", "off"}:
        return Python(os.path.expanduser(named), asked_for=True)  # noqa: PTH111 - no home is no error here
    if wanted is None and importlib.util.find_spec("torchtune") is None:
        return None
    return Python(sys.executable, asked_for=bool(wanted))


def _configs(plan: Plan, files: FilesByRun) -> Iterator[Config]:
    """The configs that can be read, resolved; validate itself reports those that cannot."""
    for run in plan.runs:
        if config := files[run.directory].readable_config:
            unresolved = frozenset(str(path[0]) for path in config.problems)
            yield Config(run.directory, config.document, config.data, unresolved)


def _said(python: Python, asked: Questions) -> Said:
    mark = secrets.token_hex(16)
    program = shutil.which(python.path)
    if program is None:
        reason = f"there is no such program ({NAMED})"
        return Said(whole=[missing(python.path, reason, asked_for=python.asked_for)])
    # not resolved: a virtual environment is known by the link that its Python is
    command = [os.path.abspath(program), str(PROGRAM)]  # noqa: PTH100
    env = processes.environment() | _SPARING
    given = request(asked, mark)
    try:
        with tempfile.TemporaryDirectory() as empty:
            done = processes.run(command, Path(empty), DEADLINE, given=given, env=env, tail=_KEPT)
    except OSError as error:
        reason = f"it cannot be started: {error.strerror}"
        return Said(whole=[missing(python.path, reason, asked_for=python.asked_for)])
    heard = hear(done.output, mark, asked)
    if heard.missing:
        return Said(whole=[missing(python.path, heard.missing, asked_for=python.asked_for)])
    if not heard.done:
        how = f"ran longer than {DEADLINE:g} s" if done.ended else f"ended with status {done.status}"
        reason = f"the program {how}, and said: {escape(heard.noise) or 'nothing'}"
        return Said(whole=[unanswered(python.path, reason, asked_for=python.asked_for)])
    return Said(*findings(asked, heard, python.path))
