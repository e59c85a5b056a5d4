"""Asks torchtune itself whether it takes the configs, in a process of its own and in the operator's Python."""

import importlib.util
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scaffold_torchtune import with_torchtune
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.said import FilesByRun, Said
from scaffold_torchtune.shared import processes
from scaffold_torchtune.shared.text import escape
from scaffold_torchtune.with_torchtune import Config, Questions

NAMED = "SCAFFOLD_TORCHTUNE_PYTHON"
"""The environment variable with the path of a Python that has torchtune; `off`: torchtune is not asked unasked for."""

PROGRAM = Path(with_torchtune.__file__).with_name("program.py")

DEADLINE = 300.0
"""How long torchtune may take, in seconds: importing torch from a slow file system takes a minute."""

_KEPT = 10_000_000

# It needs no GPU, one thread, and no network.
_SPARING = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


class Python(NamedTuple):
    """The Python to ask in, and whether somebody asked for it: what goes wrong is an error then, else a warning."""

    path: str
    asked_for: bool


def ask(_root: Path, plan: Plan, files: FilesByRun, request: Request) -> Said:
    """What torchtune says of every config that can be read; what many of them have alike is asked about once.

    Nothing, where nobody asked for it and there is no torchtune at hand, or no config can be read.
    """
    python = python_to_ask(request)
    asked = with_torchtune.questions(_configs(plan, files)) if python else Questions()
    if python is None or not asked.nodes:
        return Said()
    request.told("torchtune", 0, len(asked.nodes))
    said = _said(python, asked)
    request.told("torchtune", len(asked.nodes), len(asked.nodes))
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
        return Said(whole=[with_torchtune.missing(python.path, reason, asked_for=python.asked_for)])
    # not resolved: a virtual environment is known by the link that its Python is
    command = [os.path.abspath(program), str(PROGRAM)]  # noqa: PTH100
    env = processes.environment() | _SPARING
    given = with_torchtune.request(asked, mark)
    try:
        with tempfile.TemporaryDirectory() as empty:
            done = processes.run(command, Path(empty), DEADLINE, given=given, env=env, tail=_KEPT)
    except OSError as error:
        reason = f"it cannot be started: {error.strerror}"
        return Said(whole=[with_torchtune.missing(python.path, reason, asked_for=python.asked_for)])
    heard = with_torchtune.hear(done.output, mark, asked)
    if heard.missing:
        return Said(whole=[with_torchtune.missing(python.path, heard.missing, asked_for=python.asked_for)])
    if not heard.done:
        how = f"ran longer than {DEADLINE:g} s" if done.ended else f"ended with status {done.status}"
        reason = f"the program {how}, and said: {escape(heard.noise) or 'nothing'}"
        return Said(whole=[with_torchtune.unanswered(python.path, reason, asked_for=python.asked_for)])
    return Said(*with_torchtune.findings(asked, heard, python.path))
