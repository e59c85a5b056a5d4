"""Real faults of the system, by strace: a kill right before a call that changes the disk, or an error instead of it.

A thread is traced alone, and strace counts its calls of each kind, so that a point is a call and its number.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHANGING: Final = (
    "openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "link", "linkat",
    "symlink", "symlinkat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "chmod", "fchmod", "fchmodat",
    "utimensat", "close",
)  # fmt: skip
"""The calls that change a disk; of `open` those that write or create a file, of `close` those after these."""

ERRORS: Final = ("ENOSPC", "EIO", "EROFS", "EACCES", "EDQUOT")

_CALL: Final = re.compile(r"^(?P<name>\w+)\((?P<arguments>.*)$")
_WRITES: Final = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_OPENED: Final = re.compile(r"= \d+<(?P<path>[^>]*)>")
_PLACE: Final = re.compile(r'(?:AT_FDCWD|\d+)<(?P<at>[^>]*)>(?:, "(?P<below>[^"]*)")?|"(?P<alone>/[^"]*)"')


@dataclass(frozen=True)
class Point:
    """A call that changes the disk: its number among the calls of its kind in its thread, from 1."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


@dataclass(frozen=True)
class Call:
    """A call that changes the disk, its point, and the paths that it names."""

    point: Point
    paths: tuple[str, ...]


def lacks() -> str:
    """Return the programs and rights that are missing for these faults; empty if none is."""
    if shutil.which("strace") is None:
        return "strace is not on this machine: `scripts/install_packages strace` as root"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)  # noqa: S607
    return f"strace may not trace here: {done.stderr.strip()}" if done.returncode else ""


def attached(thread: int, trace: Path, fault: tuple[Point, str] | None = None) -> "subprocess.Popen[str]":
    """Trace a waiting thread; return once it is traced. `fault` is `signal=KILL` or `error=ENOSPC` at a point."""
    # kinds are counted separately, and one that a system does not have is skipped
    command = ["strace", "-y", "-s", "1", "-o", str(trace), "-e", f"trace=?{',?'.join(CHANGING)}", "-e", "signal=none"]
    if fault is not None:
        point, what = fault
        command += ["-e", f"inject={point.name}:{what}:when={point.number}"]
    process = subprocess.Popen([*command, "-p", str(thread)], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    line = process.stderr.readline()
    if "attached" not in line:
        process.kill()
        raise RuntimeError(line + process.stderr.read())
    return process


def calls(trace: Path) -> Iterator[Call]:
    """Return the calls of a trace that change the disk."""
    numbers: Counter[str] = Counter()
    written: set[str] = set()
    for line in trace.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        name, arguments = match["name"], match["arguments"]
        numbers[name] += 1
        if name == "openat":
            if not _WRITES.search(arguments):
                continue
            if opened := _OPENED.search(arguments):
                written.add(opened["path"])
        if name == "close" and (_paths(arguments) or ("",))[0] not in written:
            continue
        yield Call(Point(name, numbers[name]), _paths(arguments))


def _paths(arguments: str) -> tuple[str, ...]:
    """Return the paths that the arguments of a call name: open files, and names in directories."""
    found: list[str] = []
    for match in _PLACE.finditer(arguments):
        at, below = match["at"] or "", match["below"]
        if match["alone"]:
            found.append(match["alone"])
        elif below is None:
            found.append(at)
        else:
            found.append(below if below.startswith("/") else f"{at}/{below}")
    return tuple(found)


def was_injected(trace: Path) -> bool:
    """Return whether an error was injected instead of a call."""
    return "(INJECTED)" in trace.read_text(errors="replace")
