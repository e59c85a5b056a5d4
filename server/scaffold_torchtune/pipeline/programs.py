"""Looks at programs that scaffolds are for, for doctor: torchtune where jobs have theirs, and SLURM."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from scaffold_torchtune.models.readiness import Check, State
from scaffold_torchtune.pipeline import ask_sbatch
from scaffold_torchtune.pipeline.ask_torchtune import python_to_ask
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.shared import processes
from scaffold_torchtune.shared.text import escape, shown
from scaffold_torchtune.torchtune_facts import load

SECONDS: Final = 20.0
"""How long one program may take to answer."""

_OF_JOBS: Final = ("torchtune", "wandb")
_VERSIONS: Final = """\
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print(name, "-")
"""


def torchtune(environment: processes.Environment | None, request: Request) -> Iterator[Check]:
    """Whether the environment of the jobs has torchtune and wandb, and the Python to be asked for torchtune has it.

    `environment` is None where that of the jobs is not to be had here; what was not activated is not looked at.
    """
    if environment is not None and environment.name:
        yield _packages("packages of jobs", environment.python, environment.variables, _OF_JOBS, "warning")
    asked = python_to_ask(request)
    if asked is not None:
        state: State = "problem" if asked.asked_for else "warning"
        yield _packages("torchtune", asked.path, processes.environment(), ("torchtune",), state)


def _packages(name: str, python: str, variables: Mapping[str, str], packages: Sequence[str], state: State) -> Check:
    """Which versions of packages a Python has; `state` is that of one that lacks some."""
    known = load().torchtune
    program = shutil.which(python, path=variables.get("PATH"))
    output = _output_of([program, "-c", _VERSIONS, *packages], variables) if program else None
    rows = [line.split() for line in (output or "").splitlines()]
    found = {row[0]: row[1] for row in rows if len(row) == 2}  # noqa: PLR2004 - a name and its version
    if found.keys() != set(packages):
        fix = "name a Python that runs, or install one there"
        return Check(name=name, state=state, found=f"{shown(python)} does not say which packages it has", fix=fix)
    listed = ", ".join(f"{package} {escape(version)}" for package, version in found.items() if version != "-")
    absent = " and ".join(package for package, version in found.items() if version == "-")
    listing = f"{listed or 'none of them'} in {escape(python)}"
    if absent:
        fix = f"install it there: {escape(python)} -m pip install {absent.replace(' and ', ' ')}"
        return Check(name=name, state=state, found=f"{listing}; no {absent}", fix=fix)
    if found["torchtune"] != known:
        fix = f"use torchtune {known}, whose rules validate knows, or look at what has changed since"
        return Check(name=name, state="warning", found=listing, fix=fix)
    return Check(name=name, state="ok", found=listing)


def sbatch(request: Request) -> Check:
    """Whether there is a SLURM to submit to, and whether its controller answers."""
    name, program = "sbatch", ask_sbatch.program(request)
    if program is None:
        off = not request.sbatch or os.environ.get(ask_sbatch.SWITCH) == "off"
        found = f"switched off ({ask_sbatch.SWITCH})" if off else "there is none on PATH: scripts are not tried"
        fix = "" if off else "nothing, if jobs are submitted elsewhere; else scaffold on a login node"
        return Check(name=name, state="ok" if off else "warning", found=found, fix=fix)
    variables = processes.environment()
    configuration = variables.get("SLURM_CONF", "")
    if configuration and not Path(configuration).exists():  # Slurm's programs would wait a minute for it
        found = f"{escape(program)}; SLURM_CONF names {shown(configuration)}, which is not there"
        return Check(name=name, state="warning", found=found, fix="correct SLURM_CONF, or unset it")
    output = (_output_of([program, "--version"], variables) or "").split()
    version = escape(" ".join(output)) if output[:1] == ["slurm"] else "of an unknown version"
    control = shutil.which("scontrol")
    answer = _output_of([control, "ping"], variables) if control else None
    where = f"{escape(program)}, {version}"
    if answer is not None and " is UP" in answer:
        return Check(name=name, state="ok", found=f"{where}; its controller answers")
    last = next((line.strip() for line in reversed((answer or "").splitlines()) if line.strip()), "")
    found = f"{where}; no controller answers" + (f": {escape(last)}" if last else "")
    return Check(name=name, state="warning", found=found, fix="look at `scontrol ping`, or go to a login node")


def _output_of(command: Sequence[str], variables: Mapping[str, str]) -> str | None:
    """What a program prints; None where it cannot be started, or takes too long."""
    try:
        with tempfile.TemporaryDirectory() as empty:
            done = processes.run(command, Path(empty), SECONDS, env=variables)
    except OSError:
        return None
    return None if done.ended else done.output
