"""An external setup_finetune.py: its environment, what it takes, why it failed."""

import functools
import re
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from scaffold_torchtune.models import Interface, Option
from scaffold_torchtune.system import processes

# What a script takes: asked of the script itself, once for each content of it.

PROGRAM = Path(__file__).with_name("options_program.py")

SLURM_TEMPLATE = "templates/finetune_template.slurm"
"""Where cruijff_kit's setup_finetune.py has its SLURM template, from its own directory (seen in all versions)."""

_LOADS = re.compile(r"^module load (\S.*)$", re.MULTILINE)
# All versions until August 2026 take out each line with the word where modules are set, by this very expression.
_DROPS_CONDA = re.compile(r"""["']conda["'] not in""")
# What fails before the arguments matter will fail in each run too.
_NEVER_RUNS = re.compile(r"(?:ModuleNotFound|Import|Syntax|Indentation)Error\b")
_OPTIONS = TypeAdapter(dict[str, Option])


@dataclass(frozen=True)
class InterfaceFault:
    """Why a script cannot be asked: the last line that it said, or what became of it; all that it said."""

    reason: str
    output: str = ""


def ask_interface(
    script: Path, python: str, environment: Mapping[str, str], timeout: float
) -> Interface | InterfaceFault:
    """What the script takes.

    Args:
        script: an existing file.
        python: the Python that is to run it.
        environment: the variables that it is to have.
        timeout: in seconds.
    """
    try:
        text = script.read_text(encoding="utf-8", errors="replace")
        folder = script.parent / SLURM_TEMPLATE
        template = folder.read_text(encoding="utf-8", errors="replace") if folder.is_file() else ""
    except OSError as error:
        return InterfaceFault(f"it cannot be read: {error.strerror}")
    options: dict[str, Option] | None = None
    try:
        if "argparse" in text:
            options = _asked(script, text, python, tuple(environment.items()), timeout)
    except _CannotBeAskedError as error:
        return error.fault
    modules = tuple(name for line in _LOADS.findall(template) for name in line.split())
    return Interface(options=options, modules=modules, drops_conda=bool(_DROPS_CONDA.search(text)))


class _CannotBeAskedError(Exception):
    """Carries a fault: unlike an answer, it is not remembered, as it may be mended while a server runs."""

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.fault = InterfaceFault(reason, output)


@functools.lru_cache(maxsize=16)
def _asked(
    script: Path, _text: str, python: str, environment: tuple[tuple[str, str], ...], timeout: float
) -> dict[str, Option] | None:
    mark = f"@{secrets.token_hex(8)} "
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(PROGRAM), mark, str(script)]
        try:
            done = processes.run(command, Path(folder), timeout, env=dict(environment))
        except OSError as error:
            raise _CannotBeAskedError(f"{python} cannot be started: {error.strerror}") from error
    answers = [line.removeprefix(mark) for line in done.output.splitlines() if line.startswith(mark)]
    if answers:
        try:
            return _OPTIONS.validate_json(answers[-1]) or None
        except ValidationError:
            return None
    if done.ended:
        raise _CannotBeAskedError(f"it did not say what it takes within {timeout:g} s", done.output)
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    if done.status != 0 and lines and _NEVER_RUNS.match(lines[-1]):
        raise _CannotBeAskedError(lines[-1], done.output)
    return None
