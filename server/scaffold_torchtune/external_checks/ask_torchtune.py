"""torchtune's own check of every finetune.yaml, in a separate process of the operator's Python."""

import importlib.util
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, ValidationError

from scaffold_torchtune.external_checks import WHOLE, Checked, FilesByRun, RunFinding
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, counted, escape, few, finding, shown
from scaffold_torchtune.models import Model, Plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ExternalCheck
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import temporary_directory
from scaffold_torchtune.system.layout import FINETUNE_YAML
from scaffold_torchtune.system.serialization import KeyPath
from scaffold_torchtune.torchtune_facts.facts import load
from scaffold_torchtune.validate.report import at
from scaffold_torchtune.validate.run_files import ResolvedConfig

PYTHON_VARIABLE: Final = "SCAFFOLD_TORCHTUNE_PYTHON"
"""The environment variable with the path of a Python that has torchtune; `off`: run torchtune only on request."""

PROGRAM: Final = Path(__file__).with_name("torchtune_program.py")

DEADLINE: Final = 300.0
"""The time limit of torchtune in seconds: importing torch from a slow file system takes a minute."""

_KEPT: Final = 10_000_000
_LISTED: Final = 5
_LONGEST: Final = 500
_FIX: Final = "correct {} in the documents, or correct setup_finetune and its template; then scaffold again"
# no GPU, one thread, and no network
_SPARING: Final = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


class Python(NamedTuple):
    """The Python to use, and whether the user requested it: problems are then errors, otherwise warnings."""

    path: str
    asked_for: bool


class Config(NamedTuple):
    """A run's finetune.yaml, and the run's directory."""

    directory: str
    file: ResolvedConfig


class NodeQuestion(NamedTuple):
    """A node that names a component, its key, and the configs that have it under that key."""

    part: str
    node: dict[str, Any]
    configs: list[Config]


class Line(Model):
    """One line of the program's answer, as its docstring describes it."""

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
class TorchtuneAnswers:
    """All answers; `nodes` by number, `done` if the answer is complete."""

    torchtune: str = ""
    torch: str = ""
    missing: str = ""
    nodes: dict[int, Line] = field(default_factory=dict)
    done: bool = False
    noise: str = ""


def ask_torchtune(_root: Path, plan: Plan, files: FilesByRun, request: Request) -> Checked:
    """Return torchtune's findings for every readable config; a node that several configs share is checked once."""
    python = python_to_ask(request)
    if python is None:
        return _check("switched off", "off") if _is_off(request) else _check("not installed"), []
    # validate itself reports unreadable ones
    configs = ((run.directory, files[run.directory].readable_config) for run in plan.runs)
    asked = questions(Config(directory, config) for directory, config in configs if config)
    if not asked:
        return _check("no readable config"), []
    request.report("torchtune", 0, len(asked))
    found = _ask(python, asked)
    request.report("torchtune", len(asked), len(asked))
    return found


def _check(told: str, state: Literal["ran", "off", "not run"] = "not run") -> ExternalCheck:
    return ExternalCheck(program="torchtune", state=state, told=told)


def _is_off(request: Request) -> bool:
    return request.with_torchtune is False or (
        request.with_torchtune is None and os.environ.get(PYTHON_VARIABLE) == "off"
    )


def python_to_ask(request: Request) -> Python | None:
    """Return the operator's Python, else the running one; None if torchtune is not to be used."""
    wanted, named = request.with_torchtune, os.environ.get(PYTHON_VARIABLE, "")
    if _is_off(request):
        return None
    if named not in {"", "off"}:
        return Python(os.path.expanduser(named), asked_for=True)  # noqa: PTH111 - no home is no error here
    if wanted is None and importlib.util.find_spec("torchtune") is None:
        return None
    return Python(sys.executable, asked_for=bool(wanted))


def _ask(python: Python, asked: Sequence[NodeQuestion]) -> Checked:
    mark = secrets.token_hex(16)
    program = shutil.which(python.path)
    if program is None:
        return _without_torchtune(python, f"{PYTHON_VARIABLE} is not the path of a program")
    # not resolved: a virtual environment is identified by the link to its Python
    command = [os.path.abspath(program), str(PROGRAM)]  # noqa: PTH100
    env, given = processes.environment() | _SPARING, request_text(asked, mark)
    try:
        with temporary_directory() as empty:
            done = processes.run(command, empty, DEADLINE, given=given, env=env, tail=_KEPT)
    except OSError as error:
        return _without_torchtune(python, f"the program cannot be started: {error.strerror}")
    answers = read_answers(done.output, mark, len(asked))
    if answers.missing:
        return _without_torchtune(python, answers.missing)
    if not answers.done:
        how = f"ran longer than {DEADLINE:g} s" if done.ended else f"exited with status {done.status}"
        reason = f"the program {how}" + (
            f"; its last output: {answers.noise}" if answers.noise else " and printed nothing"
        )
        return _check("no answer"), [untested("torchtune-unanswered", python, reason)]
    configs = {config.directory for question in asked for config in question.configs}
    told = f"{escape(answers.torchtune)}, {counted(len(configs), 'config')} checked"
    return _check(told, "ran"), findings(asked, answers, python.path)


def _without_torchtune(python: Python, reason: str) -> Checked:
    return _check("not installed"), [untested("torchtune-missing", python, reason)]


def questions(configs: Iterable[Config]) -> list[NodeQuestion]:
    """Return every distinct node that names a component, except unresolved ones."""
    asked: dict[str, NodeQuestion] = {}
    for config in configs:
        unresolved = {path[0] for path in config.file.problems}
        for part, node in config.file.data.items():
            if isinstance(node, dict) and "_component_" in node and part not in unresolved:
                key = json.dumps([part, node], sort_keys=True)
                asked.setdefault(key, NodeQuestion(part, node, [])).configs.append(config)
    return list(asked.values())


def request_text(asked: Iterable[NodeQuestion], mark: str) -> bytes:
    """Return the program's input. `mark` begins each answer: a text that no document can contain."""
    nodes = [{"part": question.part, "node": question.node} for question in asked]
    return json.dumps({"mark": mark, "nodes": nodes}).encode()


def read_answers(output: str, mark: str, count: int) -> TorchtuneAnswers:
    """Return the answers to `count` questions in the program's output; `noise` is the last other line."""
    answers = TorchtuneAnswers()
    for text in output.splitlines():
        if not text.startswith(mark):
            answers.noise = text.strip() or answers.noise
            continue
        try:
            line = Line.model_validate_json(text.removeprefix(mark))
        except ValidationError:
            answers.noise = text.removeprefix(mark)
            continue
        answers.torchtune, answers.torch = line.torchtune or answers.torchtune, line.torch or answers.torch
        answers.missing = line.missing or answers.missing
        if line.node is not None:
            answers.nodes[line.node] = line
        answers.done = line.done is not None and answers.nodes.keys() == set(range(count))
    return answers


def untested(code: str, python: Python, reason: str) -> RunFinding:
    """Return the finding that the configs were not tested with torchtune; a warning if not requested."""
    message = f"the configs were not tested with the torchtune of {shown(python.path)}: {escape(reason)}"
    named = f"set {PYTHON_VARIABLE} to the path of a Python with a working torchtune {load().torchtune}"
    fix = f"{named}, then run validate again; or skip this check with `--no-with-torchtune`"
    return WHOLE, finding(code, message, severity=None if python.asked_for else Severity.WARNING, fix=fix)


def findings(asked: Sequence[NodeQuestion], answers: TorchtuneAnswers, python: str) -> list[RunFinding]:
    """Return the findings of complete answers, for each run and for the whole experiment."""
    found: list[RunFinding] = []
    for number, question in enumerate(asked):
        line = answers.nodes[number]
        for config in question.configs:
            about = [*_refused(config, line, answers.torchtune), *_lora(config, question.node, line)]
            found += [(config.directory, one) for one in about]
    whole = [*_unasked(asked, answers), *([] if found else [_agrees(asked, answers, python)])]
    return found + [(WHOLE, one) for one in whole]


def _at(config: Config, code: str, message: str, path: KeyPath, **values: Any) -> Finding:
    """Return a finding about the value at a path of a config."""
    field = escape(".".join(map(str, path)))
    location = Location(f"{config.directory}/{FINETUNE_YAML}", config.file.document.line(path))
    fix = _FIX.format("the LoRA settings" if code == "lora-differs" else "the setting")
    return finding(code, message, field=field, at=location, fix=fix, **values)


def _refused(config: Config, line: Line, version: str) -> Iterator[Finding]:
    if line.refused:
        value = at(config.file.data, line.path)
        actual = escape(str(value)) if isinstance(value, str | int | float) else None
        rejected = escape(".".join(line.path))
        message = f"torchtune {version} rejects the setting '{rejected}': {escape(line.refused, _LONGEST)}"
        yield _at(config, "torchtune-refused", message, line.path, actual=actual)


def _lora(config: Config, node: dict[str, Any], line: Line) -> Iterator[Finding]:
    """Report a model without the requested LoRA modules or rank; other nodes have no parameters."""
    if not line.parameters:
        return
    modules = node.get("lora_attn_modules")
    wanted = [str(module) for module in modules] if isinstance(modules, list) else []
    whole = {module for module, count in line.attention.items() if count == line.layers}
    if line.layers and (set(wanted) != whole or line.attention.keys() != whole):
        has = ", ".join(sorted(line.attention))
        names, path = escape(", ".join(wanted)), ("model", "lora_attn_modules")
        only = "only " if has and line.attention.keys() < set(wanted) else ""
        message = (
            f"in the model that torchtune builds, LoRA is applied {only}to {escape(has) or 'no attention module'}"
            f" (expected {names or 'none'})"
        )
        yield _at(config, "lora-differs", message, path, expected=names or "none", actual=escape(has) or "none")
    expected = _expected(node)
    if expected not in {None, line.lora}:
        message = f"the LoRA adapter that torchtune builds has {line.lora:,} parameters (expected {expected:,})"
        yield _at(config, "lora-differs", message, ("model", "lora_rank"), expected=expected, actual=line.lora)


def _expected(node: dict[str, Any]) -> int | None:
    """Return the expected LoRA parameters of a node; None if the facts do not determine them."""
    rank, modules = node.get("lora_rank"), node.get("lora_attn_modules")
    mlp, output = node.get("apply_lora_to_mlp", False), node.get("apply_lora_to_output", False)
    model = next((m for m in load().models.values() if m.lora_builder == node["_component_"]), None)
    if type(rank) is not int or not isinstance(modules, list) or not isinstance(mlp, bool):
        return None
    if model is None or not isinstance(output, bool) or node.get("use_dora"):
        return None
    each = model.lora_parameters(map(str, modules), mlp=mlp, output=output)
    return None if each is None else rank * each


def _unasked(asked: Sequence[NodeQuestion], answers: TorchtuneAnswers) -> Iterator[Finding]:
    """Return one finding that names all components that were not checked with torchtune."""
    named = {
        f"{shown(question.part)} ({shown(str(question.node['_component_']))}: {escape(reason)})": None
        for number, question in enumerate(asked)
        if (reason := answers.nodes[number].unasked)
    }
    if named:
        which, these = ("component", "this component") if len(named) == 1 else ("components", "these components")
        message = f"torchtune did not check the {which} {few(list(named), len(named))}"
        yield finding("torchtune-unasked", message, fix=f"check {these} yourself")


def _built(node: dict[str, Any], line: Line) -> str:
    name = escape(str(node["_component_"])).rpartition(".")[2]
    if "lora_rank" not in node:
        return f"{name} ({line.parameters:,} parameters, all trained)"
    rank = escape(str(node["lora_rank"]))
    return f"{name} with rank {rank} ({line.parameters:,} parameters, {line.lora:,} of them LoRA)"


def _agrees(asked: Sequence[NodeQuestion], answers: TorchtuneAnswers, python: str) -> Finding:
    """Return the finding that torchtune accepts all checked nodes."""
    configs = {config.directory for question in asked for config in question.configs}
    lines = [(question.node, answers.nodes[number]) for number, question in enumerate(asked)]
    built = [_built(node, line) for node, line in lines if line.parameters]
    models = few(list(dict.fromkeys(built)), _LISTED, more="...")
    made = f" and built {counted(len(built), 'distinct model')}: {models}" if built else ""
    own = load().torchtune
    same = answers.torchtune.partition("+")[0] == own
    other = "" if same else f". The other checks of validate assume torchtune {own}"
    message = (
        f"torchtune {escape(answers.torchtune)} with torch {escape(answers.torch)} ({shown(python)}) accepted"
        f" {counted(len(configs), 'config')}{made}{other}"
    )
    fix = "" if same else f"train with torchtune {own}, or make sure that the settings mean the same in your version"
    return finding("torchtune-agrees", message, fix=fix)
