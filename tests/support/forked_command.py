"""The command in a fork of this process, which has imported everything that it needs: many trials in little time.

Its output goes to files, and its end is observed as a shell observes it.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scaffold_torchtune.cli import main
from support.measuring import megabytes_of

_KILOBYTE: Final = 1024
_FRESH: Final = 60.0  # MB of a process that has imported the command: pytest's additional memory is not its own
_UNCAUGHT: Final = 1  # as Python itself does


@dataclass(frozen=True)
class Ended:
    """The end of the command: status (negative: a signal), output, and peak memory in MB."""

    status: int
    out: str
    err: str
    megabytes: float


class Forked:
    """A fork that waits with its work until `release`.

    `thread` is the thread that may be traced: the first one, or with `in_worker` the first one that the work
    starts.
    """

    def __init__(self, work: Callable[[], int], streams: Path, *, in_worker: bool = False) -> None:
        self._streams = streams
        told, tell = os.pipe()
        waits, go = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._ours = megabytes_of("VmRSS")
        self.pid = os.fork()
        if self.pid == 0:
            os.close(told)
            os.close(go)
            _become(work, streams, tell, waits, in_worker=in_worker)
        os.close(tell)
        os.close(waits)
        self._go, self._told = go, told
        # a fork that ends before it starts a thread has none
        self.thread = int(os.read(told, 32) or b"0")

    def release(self) -> None:
        """Make it continue."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, b"x")

    def wait(self) -> Ended:
        """Wait for its end."""
        _, status, used = os.wait4(self.pid, 0)
        for descriptor in (self._go, self._told):
            os.close(descriptor)
        out, err = (Path(f"{self._streams}.{name}").read_text(errors="replace") for name in ("out", "err"))
        megabytes = used.ru_maxrss / _KILOBYTE - max(0.0, self._ours - _FRESH)
        return Ended(os.waitstatus_to_exitcode(status), out, err, megabytes)


def in_fork(work: Callable[[], int], streams: Path) -> Ended:
    """Do some work in a fork, and return its end."""
    process = Forked(work, streams)
    process.release()
    return process.wait()


def command(*arguments: str | Path) -> Callable[[], int]:
    """Return the command as work."""
    return lambda: main([str(argument) for argument in arguments])


def _become(work: Callable[[], int], streams: Path, tell: int, waits: int, *, in_worker: bool) -> None:
    """Do the work instead of this process, and end with its status as Python would."""
    status = _UNCAUGHT
    try:
        for heeded in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(heeded, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((1, "out"), (2, "err")):
            opened = os.open(f"{streams}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, buffering, closefd=False)
            for number, mode, buffering in ((0, "r", -1), (1, "w", -1), (2, "w", 1))
        )

        def wait() -> None:
            os.write(tell, b"%d" % threading.get_native_id())
            os.read(waits, 1)

        if in_worker:
            _before_the_first_thread(wait)
        else:
            wait()
        status = work()
        sys.stdout.flush()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else _UNCAUGHT
    except BaseException:  # noqa: BLE001 - what Python would print
        traceback.print_exc()
        status = _UNCAUGHT
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def _before_the_first_thread(wait: Callable[[], None]) -> None:
    """Make the first thread that is started wait before it runs."""
    run: Callable[..., Any] = threading.Thread.run
    is_first = [True]

    def gated(self: threading.Thread) -> None:
        if is_first:
            is_first.clear()
            wait()
        run(self)

    threading.Thread.run = gated  # type: ignore[method-assign]


@contextlib.contextmanager
def variables(**given: str) -> Iterator[None]:
    """Set variables of the environment temporarily."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
