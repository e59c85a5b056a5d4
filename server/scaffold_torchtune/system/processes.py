"""Our own process, and the only part that starts others.

Our own has streams that are there, and heeds signals that are meant for it. Others get argument lists, no stdin or a
given one, a bounded output, a deadline. What a program prints is read as it comes, and only its end is kept: neither
memory nor disk fills. When a program ends, or is ended, everything that it started ends too, also what left its process
group; and so it does when we end, however that comes. A process between us and the program sees to that: see
`supervisor.py`. Where a program ends that one, what it started comes to us, and we end it.
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

# What ends a process unless it says otherwise, and means nothing to ours: signal(7). Linux has more of them than macOS.
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
    """Let a stream that was closed lead nowhere: else the next file that we open would be taken for it."""
    for number, (name, access) in enumerate(_STREAMS):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, access)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, os.fdopen(number, "r" if access == os.O_RDONLY else "w"))


def heed_signals(end: Handler, *, also: tuple[str, ...] = ()) -> None:
    """Let `end` handle a plain kill and the end of the terminal (and `also`); ignore what is not meant for us.

    Scripts may send any signal to any process of their user. A handler, other than `SIG_IGN`, is not inherited by them.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may say so
        return
    handlers: dict[str, Handler] = dict.fromkeys((*_TO_THE_END, *also), end)
    handlers |= dict.fromkeys(_FOR_OTHERS, lambda _number, _frame: None)
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        # whoever started us may want it ignored (nohup), or handle it
        if number is not None and (signal.getsignal(number) is signal.SIG_DFL or name in also):
            signal.signal(number, handler)
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if hasattr(signal, "SIGRTMIN") else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda _number, _frame: None)


def give_up_output(error: OSError) -> str:
    """Let nothing be printed any more that cannot be, and return why; empty where nobody reads it any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):  # Python must not find it out again when it ends
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
            with contextlib.suppress(OSError, ValueError):  # what is still buffered leads nowhere now
                stream.flush()
    return "" if error.errno == errno.EPIPE else error.strerror or str(error)


VARIABLE: Final = "SCAFFOLD_TORCHTUNE_PROCESS"
"""The environment variable that marks what a program started."""

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")

TAIL = 20_000
"""How much of a process's output is kept, in bytes, from its end."""

MOST = 10_000_000_000
"""How much a process may print, in bytes, before it is ended."""

_INTERVAL = 0.1  # seconds between two looks at whether a process must be ended
_READ = 1_000_000  # bytes at a time
_REAPED = 5.0  # seconds that a killed process may take: on a file system that hangs, it may not end at all
_PAUSE = 0.002

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
    """Return what the supervisor reads.

    Raises:
        OSError: a part of it holds a NUL, which no program takes.
    """
    words = [str(cwd), str(len(command)), *command, *(f"{name}={value}" for name, value in variables.items())]
    if any("\0" in word for word in words):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    told = b"".join(os.fsencode(word) + b"\0" for word in words)
    return b"%08x" % len(told) + told


class _Supervised:
    """A program and its supervisor. `error` is why it could not be started (errno), `status` how it ended."""

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
        """Tell the supervisor what to run."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: that is seen by its report
            while told:
                told = told[os.write(self._control, told) :]

    def read_report(self) -> bool:
        """Read what the supervisor reports; false at the end, or where the program has ended."""
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
        """Let the supervisor end what still runs, and wait for it; do it ourselves where it does not."""
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
    """End the process group of a program, and what has its mark."""
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
    """Return our children that may have come to us from a supervisor: in another session, and started by none of us.

    From the first call on we get what a supervisor leaves that somebody killed (Linux, prctl(2)).
    """
    supervisor.control_process(supervisor.PR_SET_CHILD_SUBREAPER, 1)
    found: set[int] = set()
    for pid in supervisor.children() - _supervisors:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) != os.getsid(0):
                found.add(pid)
    return found


def _end_adopted(others: AbstractSet[int]) -> None:
    """End what came to us of a supervisor that was killed, with all that it started: that comes to us in turn.

    `others` were our children before.
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


def _watch(of: _Supervised, output: _Tail, deadline: float, stop: threading.Event | None) -> Ended:
    """Read the output until the program has ended, or say why it must be ended."""
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
    """Return a text with the values of our environment's secrets, and what looks like a token, replaced."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, f"[{name}]")
    return _TOKEN.sub("[secret]", text)
