"""An external setup_finetune.py: its environment, what it takes, why it failed."""

import functools
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from scaffold_torchtune.models import Interface, Option
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import open_regular, temporary_directory

PROGRAM = Path(__file__).with_name("options_program.py")

SLURM_TEMPLATE = "templates/finetune_template.slurm"
"""Where cruijff_kit's setup_finetune.py has its SLURM template, from its own directory (seen in all versions)."""

_LOADS = re.compile(r"^module load (\S.*)$", re.MULTILINE)
# All versions until August 2026 take out each line with the word where modules are set, by this very expression.
_DROPS_CONDA = re.compile(r"""["']conda["'] not in""")
# What fails before the arguments matter will fail in each run too.
_NEVER_RUNS = re.compile(r"(?:ModuleNotFound|Import|Syntax|Indentation)Error\b")
_OPTIONS = TypeAdapter(dict[str, Option])


class InterfaceFault(Exception):
    """Why a script cannot be asked: the last line that it printed, or what became of it."""


def ask_interface(script: Path, python: str, environment: Mapping[str, str], timeout: float) -> Interface:
    """Ask a script what it takes, once for each content of it.

    Args:
        script: an existing file.
        python: the Python that is to run it.
        environment: the variables that it is to have.
        timeout: in seconds.

    Raises:
        InterfaceFault: it cannot be asked; this is not remembered, as it may be mended while a server runs.
    """
    try:
        text, file = _read(script), script.parent / SLURM_TEMPLATE
        template = _read(file) if file.is_file() else ""
    except OSError as error:
        raise InterfaceFault(f"it cannot be read: {error.strerror}") from error
    options = _ask(script, text, python, tuple(environment.items()), timeout) if "argparse" in text else None
    modules = tuple(name for line in _LOADS.findall(template) for name in line.split())
    return Interface(options=options, modules=modules, drops_conda=bool(_DROPS_CONDA.search(text)))


def _read(path: Path) -> str:
    with open_regular(path) as file:
        return file.read().decode("utf-8", "replace")


@functools.lru_cache(maxsize=16)
def _ask(
    script: Path, _text: str, python: str, environment: tuple[tuple[str, str], ...], timeout: float
) -> dict[str, Option] | None:
    mark = f"@{secrets.token_hex(8)} "
    with temporary_directory() as folder:
        command = [python, str(PROGRAM), mark, str(script)]
        try:
            done = processes.run(command, folder, timeout, env=dict(environment))
        except OSError as error:
            raise InterfaceFault(f"{python} cannot be started: {error.strerror}") from error
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    answers = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    if answers:
        try:
            return _OPTIONS.validate_json(answers[-1]) or None
        except ValidationError:
            return None
    if done.ended:
        raise InterfaceFault(f"it did not say what it takes within {timeout:g} s")
    if done.status != 0 and lines and _NEVER_RUNS.match(lines[-1]):
        raise InterfaceFault(lines[-1])
    return None
