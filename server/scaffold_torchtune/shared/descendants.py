"""Ends every process that a program leaves behind, those too that left its process group.

While a program runs, this process is the subreaper of all that it starts (Linux, prctl(2)): a process whose parent has
ended becomes our child, whatever session it made for itself. A mark in its environment says which program it came from.
Elsewhere than on Linux nothing is found here, and ending the process group has to do.
"""

import contextlib
import ctypes
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
        """Our children that came from this program; where no other runs, also those that hide where they come from."""
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
    """Our children: as the kernel lists them by thread, else as every process names its parent (proc(5))."""
    found: set[int] = set()
    is_listed = False
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found |= {int(pid) for pid in task.read_text().split()}
            is_listed = True
    return found if is_listed else {pid for pid in _processes() if _parent(pid) == os.getpid()}


def _processes() -> Iterator[int]:
    """All processes that can be seen."""
    with contextlib.suppress(OSError):
        yield from (int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208 - many, and often


def _parent(pid: int) -> int | None:
    """The parent of a process; None where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def _mark(pid: int) -> str:
    """The mark of a process; empty where it has none, or does not tell."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    start = f"{VARIABLE}=".encode()
    return next((one.removeprefix(start).decode("ascii", "replace") for one in variables if one.startswith(start)), "")
