"""This process, and the only code that starts other programs.

This process always has standard streams, and handles the signals that are sent to it. Programs get argument lists, no
stdin or a given one, bounded output, and a deadline. Their output is read immediately and only its end is kept, so that
neither memory nor disk fills. When a program ends, or is ended, all processes that it started end too, even outside its
process group; the same happens when this process ends for any reason. A process in between ensures that: see
`supervisor.py`. If a program ends its supervisor, its processes become children of this process, which ends them.
"""

import contextlib
import errno
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

from scaffold_torchtune.system import supervisor

_STREAMS: Final = (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))

# Signals that end a process by default, and have no use here: signal(7). Linux has more of them than macOS.
_FOR_OTHERS: Final = (
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGVTALRM",
    "SIGPROF",
    "SIGPOLL",
    "SIGIO",
    "SIGPWR",
    "SIGSTKFLT",
)
_TO_THE_END: Final = ("SIGTERM", "SIGHUP")

Handler = Callable[[int, FrameType | None], Any]


def open_streams() -> None:
    """Open the null device for a closed standard stream: otherwise the next opened file would become that stream."""
    for number, (name, access) in enumerate(_STREAMS):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, access)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, os.fdopen(number, "r" if access == os.O_RDONLY else "w"))


def heed_signals(end: Handler, *, also: tuple[str, ...] = ()) -> None:
    """Let `end` handle SIGTERM and SIGHUP (and `also`); ignore signals that this process does not use.

    Scripts may send any signal to any process of their user. They do not inherit handlers other than `SIG_IGN`.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        return
    handlers: dict[str, Handler] = dict.fromkeys((*_TO_THE_END, *also), end)
    handlers |= dict.fromkeys(_FOR_OTHERS, lambda _number, _frame: None)
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        # the parent process may have set it to ignored (nohup), or handles it
        if number is not None and (signal.getsignal(number) is signal.SIG_DFL or name in also):
            signal.signal(number, handler)
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if hasattr(signal, "SIGRTMIN") else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda _number, _frame: None)


def give_up_output(error: OSError) -> str:
    """Discard output that cannot be printed from now on, and return why; empty if the reader is gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):  # prevent the same error when Python exits
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
            with contextlib.suppress(OSError, ValueError):  # discards what is still buffered
                stream.flush()
    return "" if error.errno == errno.EPIPE else error.strerror or str(error)


VARIABLE: Final = "SCAFFOLD_TORCHTUNE_PROCESS"
"""The environment variable that marks the processes of a program."""

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")

TAIL = 20_000
"""The kept bytes of a process's output, from its end."""

MOST = 10_000_000_000
"""The maximum output of a process in bytes, after which it is ended."""

_INTERVAL = 0.1  # seconds between two checks whether a process must be ended
_READ = 1_000_000  # bytes at a time
_REAPED = 5.0  # seconds to wait for a killed process: on a hanging file system, it may not end at all
_PAUSE = 0.002

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|_KEY$", re.IGNORECASE)
_SHORTEST_SECRET = 6  # a shorter value may be anything
# Prefixes of tokens of Hugging Face, OpenAI, GitHub, GitLab and Slack.
_TOKEN = re.compile(r"\b(?:hf|sk|gh[opsu]|github_pat|glpat|xox[abp])[-_][A-Za-z0-9_-]{16,}")
# Variables that make a shell or Python run unrequested code, or load libraries of a different Python.
_HIJACK = re.compile(r"BASH_ENV|ENV|SHELLOPTS|BASHOPTS|PS4|PYTHON(?!PATH|UTF8|IOENCODING|NOUSERSITE).*")

Ended = Literal["", "deadline", "output", "stopped"]
"""The reason for which a process was ended; empty if it ended by itself."""


@dataclass(frozen=True)
class Completed:
    """The end of a process: its exit status (negative: the signal), its last output, and the reason if it was ended.

    `seconds` is its run time. Secrets of the environment are removed from the output.
    """

    status: int
    output: str
    ended: Ended = ""
    seconds: float = 0.0


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment without secrets and variables that could hijack a shell or Python."""
    kept = {k: v for k, v in variables.items() if not _HIJACK.fullmatch(k) and not _SECRET.search(k)}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Environment:
    """The environment of an external script: the path of its Python, and its environment variables.

    `how` describes the selection for people. `name` is the active environment, such as `the conda environment cruijff`;
    empty if no named one is active. `commands` would activate the named environment.
    """

    python: str
    variables: Mapping[str, str]
    how: str = ""
    name: str = ""
    commands: str = ""


def python(variables: Mapping[str, str] = os.environ) -> str:
    """Return the Python of the active environment in `variables`, else the running one."""
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
    """Run a command in `cwd`; all processes that it started end with it.

    It is ended after `timeout` seconds, after more than `MOST` bytes of output, and when `stop` is set. It reads
    `given` from its stdin, has the variables of `env` (`environment()` by default), and the last `tail` bytes of its
    output are kept.

    Raises:
        OSError: the command cannot be started.
    """
    began = time.monotonic()
    mark = secrets.token_hex(16)
    variables = {**(environment() if env is None else env), VARIABLE: mark}
    told = _told(command, cwd, variables)
    with _stdin(given) as stdin, contextlib.ExitStack() as pipes:
        supervised = _Supervised(stdin, pipes)
        output = _Tail(supervised.output, tail)
        try:
            supervised.tell(told)
            ended = _watch(supervised, output, began + timeout, stop)
        finally:
            seconds = time.monotonic() - began
            supervised.end(mark)
        output.drain()
    if supervised.error:
        raise OSError(supervised.error, os.strerror(supervised.error))
    return Completed(supervised.status, without_secrets(output.text()), ended, seconds)


def _told(command: Sequence[str], cwd: Path, variables: Mapping[str, str]) -> bytes:
    """Return the input of the supervisor.

    Raises:
        OSError: a part of it has a NUL, which no program accepts.
    """
    words = [str(cwd), str(len(command)), *command, *(f"{name}={value}" for name, value in variables.items())]
    if any("\0" in word for word in words):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    told = b"".join(os.fsencode(word) + b"\0" for word in words)
    return b"%08x" % len(told) + told


class _Supervised:
    """A program and its supervisor. `error` is the errno of a failed start, `status` the exit status."""

    def __init__(self, stdin: int, pipes: contextlib.ExitStack) -> None:
        self.error = 0
        self.status = -signal.SIGKILL
        self._leader = 0
        self._lines = b""
        told, self._control = os.pipe()
        self.report, reported = os.pipe()
        self._is_controlled = True
        pipes.callback(self._let_go)
        pipes.callback(os.close, self.report)
        try:
            with _starting:
                self._others = _adoptable()
                self._process = subprocess.Popen(  # noqa: S603 - our own program; what it runs is named by the operator
                    [sys.executable, "-I", "-S", str(_SUPERVISOR), str(told), str(reported)],
                    bufsize=0,
                    cwd="/",
                    env=environment(),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(told, reported),
                )
                _supervisors.add(self._process.pid)
        finally:
            os.close(told)
            os.close(reported)
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        self.output = pipes.enter_context(self._process.stdout).fileno()

    def tell(self, told: bytes) -> None:
        """Send the command to the supervisor."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: its report shows that
            while told:
                told = told[os.write(self._control, told) :]

    def read_report(self) -> bool:
        """Read the supervisor's report; return false at the end, or if the program has ended."""
        data = os.read(self.report, 4096)
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"started":
                self._leader = int(number)
            elif word == b"failed":
                self.error = int(number)
            elif word == b"ended":
                self.status = int(number)
                return False
        return bool(data)

    def _let_go(self) -> None:
        if self._is_controlled:
            self._is_controlled = False
            os.close(self._control)

    def end(self, mark: str) -> None:
        """Let the supervisor end all remaining processes, and wait for it; if it does not, end them here."""
        self._let_go()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAPED)
        os.set_blocking(self.report, False)
        with contextlib.suppress(BlockingIOError):
            while self.read_report():
                pass
        if self._process.returncode != 0:  # it hangs, or the program has ended or stopped it
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAPED)
            if not self._leader and not self.error:
                self.error = errno.ECHILD
            _end_marked(mark, self._leader)
            _end_adopted(self._others)
        _supervisors.discard(self._process.pid)


def _end_marked(mark: str, leader: int) -> None:
    """End the process group of a program, and the processes with its mark."""
    if leader:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    deadline = time.monotonic() + _REAPED
    while (left := _marked(mark)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE)


_starting: Final = threading.Lock()
_supervisors: Final[set[int]] = set()


def _adoptable() -> set[int]:
    """Return children that may come from a supervisor: in a different session, and not started by this process.

    From the first call on, this process adopts the children of killed supervisors (Linux, prctl(2)).
    """
    supervisor.control_process(supervisor.PR_SET_CHILD_SUBREAPER, 1)
    found: set[int] = set()
    for pid in supervisor.children() - _supervisors:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) != os.getsid(0):
                found.add(pid)
    return found


def _end_adopted(others: AbstractSet[int]) -> None:
    """End the adopted processes of a killed supervisor, and those that they started, which are adopted in turn.

    `others` were children of this process before.
    """
    deadline = time.monotonic() + _REAPED
    while time.monotonic() < deadline:
        with _starting:
            left = _adoptable() - others
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_PAUSE)


def _marked(mark: str) -> list[int]:
    """Return the processes that have a mark in their environment (proc(5))."""
    found: list[int] = []
    wanted = f"{VARIABLE}={mark}".encode()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - many, and often
            with contextlib.suppress(OSError, ValueError):
                if wanted in Path(f"/proc/{int(name)}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found


class _Tail:
    """The end of a pipe's output."""

    def __init__(self, pipe: int, size: int) -> None:
        self.pipe, self.size = pipe, size
        self.total = 0
        self._kept = bytearray()

    def read(self) -> bool:
        """Read the available output; return false at the end."""
        data = os.read(self.pipe, _READ)
        self.total += len(data)
        self._kept += data
        if len(self._kept) > 2 * self.size:
            del self._kept[: -self.size]
        return bool(data)

    def drain(self) -> None:
        """Read the remaining output, without waiting for processes that may hold the pipe."""
        os.set_blocking(self.pipe, False)
        most = self.total + _READ
        with contextlib.suppress(BlockingIOError):
            while self.total < most and self.read():
                pass

    def text(self) -> str:
        return bytes(self._kept[-self.size :]).decode("utf-8", "replace")


@contextlib.contextmanager
def _stdin(given: bytes) -> Iterator[int]:
    """Yield the stdin of a process: a file, so that nothing blocks if the process does not read it."""
    if not given:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        yield file.fileno()


def _watch(of: _Supervised, output: _Tail, deadline: float, stop: threading.Event | None) -> Ended:
    """Read the output until the program has ended, or return the reason to end it."""
    poll = select.poll()
    for descriptor in (output.pipe, of.report):
        poll.register(descriptor, select.POLLIN)
    while True:
        left = max(0.0, deadline - time.monotonic())
        for ready, _ in poll.poll(1000 * min(_INTERVAL, left)):
            if ready == of.report and not of.read_report():
                return ""
            if ready == output.pipe and not output.read():
                poll.unregister(output.pipe)
        if time.monotonic() >= deadline:
            return "deadline"
        if output.total > MOST:
            return "output"
        if stop is not None and stop.is_set():
            return "stopped"


def without_secrets(text: str) -> str:
    """Return a text in which the values of the environment's secrets, and texts that look like tokens, are replaced."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, f"[{name}]")
    return _TOKEN.sub("[secret]", text)
