"""The only part that starts processes: argument lists, no stdin, a bounded tail of output, a deadline."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL = 20_000
"""How much of a process's output is kept, in bytes, from its end."""

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|_KEY$", re.IGNORECASE)
# They make a shell or Python run something that nobody named.
_HIJACK = frozenset({"BASH_ENV", "ENV", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT"})


@dataclass(frozen=True)
class Completed:
    """How a process ended. `status` is its exit status (negative: the signal), None where the deadline ended it."""

    status: int | None
    output: str


def environment() -> dict[str, str]:
    """Our environment without secrets and without what makes a shell or Python run something unasked."""
    kept = {k: v for k, v in os.environ.items() if k not in _HIJACK and not _SECRET.search(k)}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


def python() -> str:
    """The Python of the active conda or virtual environment, else the one that runs us."""
    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    found = shutil.which("python") if active else None
    return found or sys.executable


def run(command: Sequence[str], cwd: Path, timeout: float) -> Completed:
    """Run a command in `cwd` for at most `timeout` seconds; its whole process group is ended at the deadline.

    Raises:
        OSError: the command cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - an argument list; what runs is named by the operator
            command,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - TAIL))
        return Completed(status, output.read().decode("utf-8", "replace"))
