"""The only part that starts processes: argument lists, a given text or none as stdin, a bounded output, a deadline."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TAIL = 20_000
"""How much of a process's output is kept, in bytes, from its end."""

MOST = 100_000_000
"""How much a process may print, in bytes, before it is ended."""

_LOOK = 0.2  # seconds between two looks at a running process

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|_KEY$", re.IGNORECASE)
# They make a shell or Python run something that nobody named.
_HIJACK = frozenset({"BASH_ENV", "ENV", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT"})


Ended = Literal["", "deadline", "output", "stopped"]
"""Why a process was ended; empty where it ended by itself."""


@dataclass(frozen=True)
class Completed:
    """How a process ended: its exit status (negative: the signal), the end of its output, and why we ended it if so."""

    status: int
    output: str
    ended: Ended = ""


def environment() -> dict[str, str]:
    """Our environment without secrets and without what makes a shell or Python run something unasked."""
    kept = {k: v for k, v in os.environ.items() if k not in _HIJACK and not _SECRET.search(k)}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Environment:
    """What an external script runs with: the path of its Python, and its environment variables."""

    python: str
    variables: Mapping[str, str]


def python(variables: Mapping[str, str] | None = None) -> str:
    """The Python of the environment that is active in `variables` (by default ours), else the one that runs us."""
    active = os.environ if variables is None else variables
    if not (active.get("VIRTUAL_ENV") or active.get("CONDA_PREFIX")):
        return sys.executable
    return shutil.which("python", path=active.get("PATH")) or sys.executable


def as_it_is() -> Environment:
    """The environment that is active already."""
    return Environment(python(), environment())


def run(
    command: Sequence[str],
    cwd: Path,
    timeout: float,
    stop: threading.Event | None = None,
    *,
    given: bytes = b"",
    env: Mapping[str, str] | None = None,
    tail: int = TAIL,
) -> Completed:
    """Run a command in `cwd`; its whole process group ends with it.

    It is ended after `timeout` seconds, when it has printed more than `MOST` bytes, and when `stop` is set. It reads
    `given` from its stdin, has the variables of `env` (`environment()` by default), and of what it prints the last
    `tail` bytes are kept.

    Raises:
        OSError: the command cannot be started.
    """
    with tempfile.TemporaryFile() as output, _stdin(given) as stdin:
        process = subprocess.Popen(  # noqa: S603 - an argument list; what runs is named by the operator
            command,
            cwd=cwd,
            env=environment() if env is None else env,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = _watch(process, output.fileno(), time.monotonic() + timeout, stop)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - tail))
        return Completed(status, output.read().decode("utf-8", "replace"), ended)


@contextlib.contextmanager
def _stdin(given: bytes) -> Iterator[int]:
    """What a process reads as its stdin: a file, so that nobody waits where it does not read it."""
    if not given:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        yield file.fileno()


def _watch(process: subprocess.Popen[bytes], output: int, deadline: float, stop: threading.Event | None) -> Ended:
    """Wait for the process's end, or say why it must be ended."""
    while True:
        try:
            process.wait(max(0.0, min(_LOOK, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                return "deadline"
            if os.fstat(output).st_size > MOST:
                return "output"
            if stop is not None and stop.is_set():
                return "stopped"
        else:
            return ""
