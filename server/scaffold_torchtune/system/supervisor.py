"""The parent of one program that `processes.py` runs, itself a program: ends all processes that the program started.

It does so when the program ends, and when its caller ends or requests it: in both cases, the pipe with the command is
closed. As the subreaper of all processes that it starts (Linux, prctl(2)), it is also the parent of those that left the
program's process group or session. On systems other than Linux it can only end the process group.

    python -I -S supervisor.py CONTROL REPORT

CONTROL and REPORT are descriptors of pipes. From CONTROL it reads a length in 8 hexadecimal digits, and as many bytes:
the directory, the number of arguments, the arguments, and the variables, each followed by a NUL. To REPORT it
writes a line each: `started PID`, or `failed ERRNO`; then `ended STATUS`, negative for a signal.
"""

import ctypes
import os
import select
import sys
import time

# Each started program waits for these imports: contextlib, pathlib, and signal, which builds enums from _signal, take
# as long as all others together.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    import _signal as signal

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_SECONDS = 4.0  # a limit for programs that start processes faster than they can be ended
_PAUSE = 0.002
# Signals of the kernel for our own faults; SIGKILL and SIGSTOP cannot be handled.
_OURS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGKILL", "SIGSTOP"}


def main(control: int, report: int) -> None:
    """Run the program that `control` describes, and end the processes that it started."""
    for descriptor in (control, report):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - its second parameter has no name
    woken = _ignore_signals()
    control_process(PR_SET_CHILD_SUBREAPER, 1)
    size = _read(control, 8)
    told = _read(control, int(size, 16)) if size else b""
    if not told:
        return
    directory, count, *words = told[:-1].split(b"\0")
    arguments = [os.fsdecode(word) for word in words[: int(count)]]
    variables = dict(os.fsdecode(word).split("=", 1) for word in words[int(count) :])
    leader = os.fork()
    if leader == 0:
        _become(arguments, variables, os.fsdecode(directory), report)
    os.write(report, b"started %d\n" % leader)
    _let_go_of_streams()
    status = _watch(leader, control, woken)
    status = _end(leader, status)
    os.write(report, b"ended %d\n" % os.waitstatus_to_exitcode(status))


def _ignore_signals() -> int:
    """Ignore or catch all signals, as programs may send any to their parent; return a descriptor that shows them."""
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in signal.valid_signals() - {getattr(signal, name) for name in _OURS if hasattr(signal, name)}:
        try:
            signal.signal(number, lambda _number, _frame: None)
        except (OSError, ValueError):
            continue
    return reading


def control_process(option: int, value: int) -> None:
    """Set a property of this process (prctl(2)), where the system has it."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
        except (OSError, AttributeError):  # a C library without prctl
            return


def _read(control: int, size: int) -> bytes:
    """Read so many bytes; return none if the pipe is closed before."""
    data = b""
    while len(data) < size:
        more = os.read(control, size - len(data))
        if not more:
            return b""
        data += more
    return data


def _become(arguments: "list[str]", variables: "dict[str, str]", directory: str, report: int) -> None:
    """Become the program, in its own session; report why if that fails."""
    try:
        os.setsid()
        control_process(PR_SET_PDEATHSIG, signal.SIGKILL)  # if the supervisor is killed
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        os.chdir(directory)
        os.execvpe(arguments[0], arguments, variables)  # noqa: S606 - an argument list; what runs is named by the operator
    except OSError as error:
        os.write(report, b"failed %d\n" % (error.errno or 0))
    finally:
        os._exit(127)


def _let_go_of_streams() -> None:
    """Close the program's output: it ends when all processes of the program have ended."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _watch(leader: int, control: int, woken: int) -> "int | None":
    """Wait until the program has ended, and return its status; None if it must be ended."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if woken in ready:
            os.read(woken, 65536)  # more than a pipe holds
        status = _reap(leader)
        if status is not None or control in ready:
            return status


def _reap(leader: int) -> "int | None":
    """Reap ended processes; return the status of the program if it is one of them.

    Raises:
        ChildProcessError: no process remains.
    """
    status = None
    while True:
        pid, ended = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return status
        if pid == leader:
            return ended


def _end(leader: int, status: "int | None") -> int:
    """End all remaining processes; return the status of the program."""
    _kill(os.killpg, leader)
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        for child in children():
            _kill(os.kill, child)
        try:
            found = _reap(leader)
        except ChildProcessError:  # no process remains
            break
        status = found if status is None else status
        if sys.platform != "linux" and status is not None:
            break
        time.sleep(_PAUSE)
    return signal.SIGKILL if status is None else status


def _kill(how: "Callable[[int, int], None]", number: int) -> None:
    try:
        how(number, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def children() -> "set[int]":
    """Return the children of this process: as the kernel lists each thread's, else by all processes' parents."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
            with open(f"/proc/self/task/{thread}/children") as file:  # noqa: PTH123
                found.update(int(pid) for pid in file.read().split())
    except OSError:
        names = os.listdir("/proc") if os.path.isdir("/proc") else []  # noqa: PTH112, PTH208
        return {int(name) for name in names if name.isdecimal() and _parent(name) == os.getpid()}
    return found


def _parent(pid: str) -> "int | None":
    """Return the parent of a process; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except BrokenPipeError:  # the reader of the report is gone
        sys.exit(1)
