"""The only part that starts processes: argument lists, no stdin or a given one, a bounded output, a deadline.

What a program prints is read as it comes, and only its end is kept: neither memory nor disk fills. When a program ends,
or is ended, everything that it started ends too, also what left its process group. For that, this process is the
subreaper of all that it starts (Linux, prctl(2)): a process whose parent has ended becomes our child. A mark in its
environment says which program it came from. Elsewhere than on Linux ending the process group has to do.
"""

import contextlib
import ctypes
import os
import re
import secrets
import select
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
from typing import Final, Literal

VARIABLE: Final = "SCAFFOLD_TORCHTUNE_PROCESS"
"""The environment variable that marks what a program started."""

_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
_SECONDS: Final = 4.0  # a program that starts processes faster than they can be ended is given up then
_PAUSE: Final = 0.002

_lock = threading.Lock()
_running: set[str] = set()  # the marks of programs that run
_others: set[int] = set()  # children that we had before the first of those was started
_leaders: set[int] = set()


class Marked:
    """The processes of one program: `mark` is the value of `VARIABLE` in the environment of all of them."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)

    def started(self, leader: int) -> None:
        """Note the program's own process, which is waited for elsewhere."""
        self.leader = leader
        with _lock:
            _leaders.add(leader)

    def end(self) -> None:
        """End all that still runs of the program, which itself has ended."""
        deadline = time.monotonic() + _SECONDS
        while (left := self._left()) and time.monotonic() < deadline:
            for child in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(_PAUSE)
            for child in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)

    def _left(self) -> list[int]:
        """Return our children that came from this program; where no other runs, also those that hide their origin."""
        children = _children()
        # only now: a program that was started meanwhile is not among them, and one whose process is makes us not alone
        with _lock:
            known = _leaders | _others
            marks = {self.mark, ""} if len(_running) == 1 else {self.mark}
        return [child for child in children - known if _mark(child) in marks]


@contextlib.contextmanager
def marked() -> Iterator[Marked]:
    """Mark a program that is to be started in here; be the subreaper meanwhile."""
    program = Marked()
    with _lock:
        if not _running:
            _be_subreaper(on=True)
            _others.clear()
            _others.update(_children())
        _running.add(program.mark)
    try:
        yield program
    finally:
        with _lock:
            _running.discard(program.mark)
            _leaders.discard(getattr(program, "leader", 0))
            if not _running:
                _be_subreaper(on=False)


def _be_subreaper(*, on: bool) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def _children() -> set[int]:
    """Return our children: as the kernel lists them by thread, else as every process names its parent (proc(5))."""
    found: set[int] = set()
    is_listed = False
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found |= {int(pid) for pid in task.read_text().split()}
            is_listed = True
    if not is_listed:
        with contextlib.suppress(OSError):
            pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - many, and often
            found = {pid for pid in pids if _parent(pid) == os.getpid()}
    return found


def _parent(pid: int) -> int | None:
    """Return the parent of a process; None where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _mark(pid: int) -> str:
    """Return the mark of a process; empty where it has none, or does not tell."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    start = f"{VARIABLE}=".encode()
    return next((one.removeprefix(start).decode("ascii", "replace") for one in variables if one.startswith(start)), "")


TAIL = 20_000
"""How much of a process's output is kept, in bytes, from its end."""

MOST = 10_000_000_000
"""How much a process may print, in bytes, before it is ended."""

_INTERVAL = 0.1  # seconds between two looks at whether a process must be ended
_SOON = 0.0005  # seconds between two looks at whether a process has ended, at first
_READ = 1_000_000  # bytes at a time
_REAPED = 5.0  # seconds that a killed process may take: on a file system that hangs, it may not end at all

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|_KEY$", re.IGNORECASE)
_SHORTEST_SECRET = 6  # a shorter value may be anything
# Tokens of Hugging Face, OpenAI, GitHub, GitLab and Slack, by how they begin.
_TOKEN = re.compile(r"\b(?:hf|sk|gh[opsu]|github_pat|glpat|xox[abp])[-_][A-Za-z0-9_-]{16,}")
# They make a shell or Python run something that nobody named, or another Python's library.
_HIJACK = re.compile(r"BASH_ENV|ENV|SHELLOPTS|BASHOPTS|PS4|PYTHON(?!PATH|UTF8|IOENCODING|NOUSERSITE).*")

Ended = Literal["", "deadline", "output", "stopped"]
"""Why a process was ended; empty where it ended by itself."""


@dataclass(frozen=True)
class Completed:
    """How a process ended: its exit status (negative: the signal), the end of its output, and why we ended it if so.

    `seconds` is how long it ran. Secrets that our environment holds do not show in the output.
    """

    status: int
    output: str
    ended: Ended = ""
    seconds: float = 0.0


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment without secrets and without what makes a shell or Python run something unasked."""
    kept = {k: v for k, v in variables.items() if not _HIJACK.fullmatch(k) and not _SECRET.search(k)}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Environment:
    """What an external script runs with: the path of its Python, and its environment variables.

    `how` says for people how it came to be. `name` is what is active, such as `the conda environment cruijff`; empty
    where nothing that was named is. `commands` would activate what was named.
    """

    python: str
    variables: Mapping[str, str]
    how: str = ""
    name: str = ""
    commands: str = ""


def python(variables: Mapping[str, str] = os.environ) -> str:
    """Return the Python of the environment that is active in `variables`, else the one that runs us."""
    active = variables.get("VIRTUAL_ENV") or variables.get("CONDA_PREFIX")
    return (shutil.which("python", path=variables.get("PATH")) if active else None) or sys.executable


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
    """Run a command in `cwd`; everything that it started ends with it.

    It is ended after `timeout` seconds, when it has printed more than `MOST` bytes, and when `stop` is set. It reads
    `given` from its stdin, has the variables of `env` (`environment()` by default), and of what it prints the last
    `tail` bytes are kept.

    Raises:
        OSError: the command cannot be started.
    """
    began = time.monotonic()
    variables = environment() if env is None else env
    with marked() as program, _stdin(given) as stdin, contextlib.ExitStack() as pipe:
        process = subprocess.Popen(  # noqa: S603 - an argument list; what runs is named by the operator
            command,
            bufsize=0,
            cwd=cwd,
            env={**variables, VARIABLE: program.mark},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        program.started(process.pid)
        assert process.stdout is not None  # noqa: S101 - a pipe
        output = _Tail(pipe.enter_context(process.stdout).fileno(), tail)
        try:
            ended = _watch(process.pid, output, began + timeout, stop)
        finally:
            seconds = time.monotonic() - began
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_REAPED)
            program.end()
        output.drain()
    status = -signal.SIGKILL if process.returncode is None else process.returncode
    return Completed(status, without_secrets(output.text()), ended, seconds)


class _Tail:
    """The end of what comes out of a pipe."""

    def __init__(self, pipe: int, size: int) -> None:
        self.pipe, self.size = pipe, size
        self.total = 0
        self._kept = bytearray()

    def read(self) -> bool:
        """Read what is there; false at the end."""
        data = os.read(self.pipe, _READ)
        self.total += len(data)
        self._kept += data
        if len(self._kept) > 2 * self.size:
            del self._kept[: -self.size]
        return bool(data)

    def drain(self) -> None:
        """Read what is still there, without waiting for who may hold the pipe."""
        os.set_blocking(self.pipe, False)
        most = self.total + _READ
        with contextlib.suppress(BlockingIOError):
            while self.total < most and self.read():
                pass

    def text(self) -> str:
        return bytes(self._kept[-self.size :]).decode("utf-8", "replace")


@contextlib.contextmanager
def _stdin(given: bytes) -> Iterator[int]:
    """Yield what a process reads as its stdin: a file, so that nobody waits where it does not read it."""
    if not given:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        yield file.fileno()


def _watch(pid: int, output: _Tail, deadline: float, stop: threading.Event | None) -> Ended:
    """Read the output until the process ends, or say why it must be ended.

    The end of the output mostly is that of the process. Where it is not, we look again: soon at first, then less often.
    """
    pause = _SOON
    poll = select.poll()
    poll.register(output.pipe, select.POLLIN)
    is_open = True
    while True:
        left = max(0.0, deadline - time.monotonic())
        if not is_open:
            time.sleep(min(pause, left))
            pause = min(2 * pause, _INTERVAL)
        elif poll.poll(1000 * min(_INTERVAL, left)):
            is_open = output.read()
        if _has_ended(pid):
            return ""
        if time.monotonic() >= deadline:
            return "deadline"
        if output.total > MOST:
            return "output"
        if stop is not None and stop.is_set():
            return "stopped"


def _has_ended(pid: int) -> bool:
    """Return whether a child of ours has ended; it stays to be waited for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def without_secrets(text: str) -> str:
    """Return a text with the values of our environment's secrets, and what looks like a token, replaced."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, f"[{name}]")
    return _TOKEN.sub("[secret]", text)
