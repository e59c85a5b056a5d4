"""The lock of an experiment: a file that names its maker, who also holds a kernel lock on it.

The kernel releases a lock when its owner ends, for any reason: the kernel lock of an existing file is free only if its
maker is dead. It is a POSIX lock (fcntl(2)), the kind that NFS, GPFS, CephFS and Lustre share between
machines. If the file system has no locks, or may not share them, the record decides: a maker on this machine is looked
up, one on a different machine is assumed to live.

The file is created elsewhere, locked, filled and synced, and only then gets its name, by a hard link: under that name
it is never empty or incomplete. If it is, after a crash or because of another program, it has no maker. A dead one is
replaced by a rename while its kernel lock is held, so that only one of several finders replaces it.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import stat
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from scaffold_torchtune.system.serialization import read_json

NAME: Final = "lock"

_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN})
_LACKING: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_FILE: Final = "it is not a regular file"
_LARGEST: Final = 4096  # bytes of a record
_LARGEST_PID: Final = 2**31 - 1
_TRIES: Final = 20  # the file may be released at the same time
_SETTLE: Final = 1.0  # a file is replaced only this many seconds after it was first inspected

# File systems of one machine, and those that share locks between machines, with the mount options that disable it
# (nfs(5), mount.lustre(8), mount.gfs2(8), mount.cifs(8)). For others it is unknown: FUSE, 9p, BeeGFS, AFS.
_LOCAL: Final = {
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs", "tmpfs", "ramfs", "overlay",
    "vfat", "exfat",
}  # fmt: skip
_SHARING: Final = {
    "nfs": ("nolock", "local_lock=all", "local_lock=posix"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=posix"),
    "gpfs": (),
    "ceph": (),
    "gfs2": ("localflocks", "lockproto=lock_nolock"),
    "ocfs2": (),
    "cifs": ("nobrl", "nolock"),
    "smb3": ("nobrl", "nolock"),
}
_SHARING_IF: Final = {"lustre": "flock"}

_held: dict[tuple[int, int], "Maker"] = {}  # the locks that this process holds, by device and inode
# Closing any descriptor of a file releases this process's lock on it: only one thread at a time inspects files.
_one_at_a_time = threading.RLock()


@dataclass(frozen=True)
class Maker:
    """The maker of a lock: a process of a machine.

    `boot` names the boot of the machine's kernel, `space` the process's namespace, `started` the start time in ticks of
    the kernel's clock; each is empty if unknown. `since` is the time of the lock. `is_locked` is false if the file
    system has no kernel locks.
    """

    pid: int
    host: str
    boot: str = ""
    space: str = ""
    started: str = ""
    since: str = ""
    is_locked: bool = False

    def __str__(self) -> str:
        since = f", since {self.since}" if self.since else ""
        return f"process {self.pid} on {self.host}{since}"


class Busy(Exception):
    """Another scaffold holds the lock; `maker` is None if unknown."""

    def __init__(self, maker: Maker | None) -> None:
        super().__init__(str(maker or ""))
        self.maker = maker


@dataclass(frozen=True)
class Leftover:
    """The lock of a dead or unknown maker."""

    maker: Maker | None


class HeldLock(NamedTuple):
    """A lock that this process holds: its open file, and the device and inode of that file."""

    descriptor: int
    identity: tuple[int, int]


def acquire(state: int, aside: int) -> HeldLock:
    """Take the lock in the directory `state`. Files are created in the directory `aside`.

    Raises:
        Busy: another scaffold holds it.
        OSError: the file system reported an error; `ELOOP` or `EINVAL` if the path is not a regular file.
    """
    name = f"lock-{secrets.token_hex(8)}"
    with _one_at_a_time:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666, dir_fd=aside)
        try:
            lock = HeldLock(descriptor, _identity(os.fstat(descriptor)))
            ourselves = _ourselves(is_locked=_lock(descriptor))
            _write(descriptor, ourselves)
            _publish(name, lock, state, aside)
            _unlink(name, aside)
        except BaseException:
            _close(descriptor)
            _unlink(name, aside)
            raise
        _held[lock.identity] = ourselves
        return lock


def _publish(name: str, lock: HeldLock, state: int, aside: int) -> None:
    for _ in range(_TRIES):
        if _linked(name, lock, state, aside) or _replaced(name, lock, state, aside):
            return
    raise Busy(None)


def _unlink(name: str, aside: int) -> None:
    with contextlib.suppress(OSError):  # it is cleared with all its contents
        os.unlink(name, dir_fd=aside)


def release(lock: HeldLock, state: int) -> None:
    """Release the lock. Errors of the file system are ignored: a lock without a holder blocks nobody."""
    with _one_at_a_time:
        try:
            if _lies_there(lock.identity, state):
                os.unlink(NAME, dir_fd=state)
        except OSError:
            with contextlib.suppress(OSError):  # without kernel locks, an empty one has no maker
                os.ftruncate(lock.descriptor, 0)
        finally:
            del _held[lock.identity]
            _close(lock.descriptor)


def look(state: int) -> Maker | Leftover | None:
    """Return the holder of the lock, or the leftovers of one; None without a lock. Changes nothing.

    Raises:
        OSError: as `acquire`.
    """
    with _one_at_a_time:
        try:
            found = _examine(state, os.O_RDONLY)
        except Busy as busy:
            return busy.maker or Maker(0, "unknown")
        if found is None:
            return None
        _close(found.descriptor)
        return Leftover(found.maker)


@dataclass(frozen=True)
class _Dead:
    """An open lock with a dead maker; `is_ours` if this process has its exclusive kernel lock."""

    descriptor: int
    maker: Maker | None
    is_ours: bool


def _linked(name: str, lock: HeldLock, state: int, aside: int) -> bool:
    """Give the file its name unless another file has it."""
    try:
        os.link(name, NAME, src_dir_fd=aside, dst_dir_fd=state, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno == errno.ENOENT and os.fstat(lock.descriptor).st_nlink == 0:
            raise Busy(None) from error  # the holder of the lock has cleared the directory
        if error.errno not in _NO_LINKS:
            raise
        with contextlib.suppress(
            FileExistsError
        ):  # without hard links, create an empty one, which is replaced like any other
            os.close(os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666, dir_fd=state))
        return False
    return True


def _replaced(name: str, lock: HeldLock, state: int, aside: int) -> bool:
    """Replace the lock of a dead maker with the file; return false if it is missing by now, or a different one."""
    began = time.monotonic()
    dead = _examine(state, os.O_RDWR)
    if dead is None:
        return False
    try:
        if not _lies_there(_identity(os.fstat(dead.descriptor)), state):
            return False
        os.rename(name, NAME, src_dir_fd=aside, dst_dir_fd=state)
        if not (dead.is_ours and _are_shared(state)):
            _settle(lock, state, began)
    finally:
        _close(dead.descriptor)
    return True


def _settle(lock: HeldLock, state: int, began: float) -> None:
    """Wait for others that may have inspected the same lock since `began`: the last of them gets it.

    Raises:
        Busy: it is another one.
    """
    if time.monotonic() - began >= _SETTLE:  # too late: the process with the lock may no longer wait
        raise Busy(None)
    time.sleep(_SETTLE)
    if not _lies_there(lock.identity, state):
        raise Busy(None)


def _examine(state: int, access: int) -> _Dead | None:
    """Open an existing lock whose maker is dead; None if it does not exist.

    Raises:
        Busy: its maker lives, or may live.
        OSError: as `acquire`.
    """
    try:
        status = os.stat(NAME, dir_fd=state, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, _NO_FILE)
        if _identity(status) in _held:
            raise Busy(_held[_identity(status)])
        try:
            descriptor = os.open(NAME, access | _FLAGS, dir_fd=state)
        except PermissionError:  # owned by another user: a shared kernel lock can be tested without write permission
            access = os.O_RDONLY
            descriptor = os.open(NAME, access | _FLAGS, dir_fd=state)
    except FileNotFoundError:
        return None
    try:
        return _dead(descriptor, state, is_alone=access == os.O_RDWR)
    except BaseException:
        _close(descriptor)
        raise


def _dead(descriptor: int, state: int, *, is_alone: bool) -> _Dead:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, _NO_FILE)
    is_free = _lock(descriptor, is_alone=is_alone)
    maker = _read(descriptor)
    if maker is not None and _lives(maker, state, is_free=is_free):
        raise Busy(maker)
    return _Dead(descriptor, maker, is_ours=is_free and is_alone)


def _lock(descriptor: int, *, is_alone: bool = True) -> bool:
    """Get the kernel lock of a file; return false if the file system has none.

    Raises:
        Busy: another process has it.
    """
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise Busy(_read(descriptor)) from error
        if error.errno in _LACKING:
            return False
        raise
    return True


def _lives(maker: Maker, state: int, *, is_free: bool) -> bool:
    """Return whether a maker may live. `is_free`: this process got the kernel lock of its file."""
    is_here = maker.boot == _boot() if maker.boot and _boot() else maker.host == socket.gethostname()
    if maker.is_locked and is_free:
        return not (is_here or maker.host == socket.gethostname() or _are_shared(state))
    if maker.host != socket.gethostname() or maker.space not in {"", _space()}:
        return True
    if not is_here or maker.pid == os.getpid():  # the machine was restarted; this process holds none, as `_held` shows
        return False
    try:
        os.kill(maker.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # owned by another user
        pass
    started = _started(maker.pid)
    return not (maker.started and started and maker.started != started)


def _are_shared(state: int) -> bool:
    """Return whether kernel locks in a directory hold for all processes that can access it."""
    try:
        path = str(Path(f"/proc/self/fd/{state}").readlink())
        return shares_locks(path, Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
    except OSError:  # not Linux
        return False


def shares_locks(path: str, mounts: str) -> bool:
    """Return whether the mount of a path shares kernel locks with all machines that can access it.

    `mounts` is in the format of mountinfo (proc(5)); of several mounts at a path, the last one is visible.
    """
    kind, options, length = "", [""], -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4])
        if len(point) >= length and (path == point or path.startswith(f"{point.rstrip('/')}/")):
            (kind, _, mounted), length = after.split(" ", 2), len(point)
            options = mounted.split(",")
    if kind in _SHARING:
        return not set(_SHARING[kind]).intersection(options)
    return kind in _LOCAL or _SHARING_IF.get(kind, "") in options


def _write(lock: int, maker: Maker) -> None:
    data = json.dumps(asdict(maker)).encode() + b"\n"
    if os.write(lock, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(lock)


def _read(descriptor: int) -> Maker | None:
    """Return the maker that a lock names; None if it is empty or damaged."""
    data = os.pread(descriptor, _LARGEST, 0)
    text = data.decode("utf-8", "replace")
    if not text.endswith("\n"):
        return None
    try:
        found = read_json(data, _LARGEST)
        if isinstance(found, dict):
            maker = Maker(**found)
            is_sound = all(type(getattr(maker, name)) is type(value) for name, value in asdict(_NOBODY).items())
            return maker if is_sound and 0 < maker.pid <= _LARGEST_PID else None
    except (ValueError, TypeError):
        pass
    lines = text.splitlines()  # of an earlier version: the process, the host, and its start time
    is_number = re.fullmatch(r"[0-9]{1,10}", lines[0]) if lines else None
    if is_number and len(lines) in {2, 3} and lines[1] and 0 < int(lines[0]) <= _LARGEST_PID:
        return Maker(int(lines[0]), lines[1])
    return None


_NOBODY: Final = Maker(0, "")


def _ourselves(*, is_locked: bool) -> Maker:
    now = datetime.now().astimezone()
    pid, host = os.getpid(), socket.gethostname()
    return Maker(pid, host, _boot(), _space(), _started(pid), f"{now:%Y-%m-%d %H:%M:%S}", is_locked)


def _boot() -> str:
    """Return the id of the kernel's current boot; empty if it has none (random(4))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _space() -> str:
    """Return the process namespace; empty without one (pid_namespaces(7))."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return the start time of a process in ticks since boot; empty if not visible (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lies_there(identity: tuple[int, int], state: int) -> bool:
    """Return whether a file is the one that has the lock's name."""
    try:
        there = os.stat(NAME, dir_fd=state, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return _identity(there) == identity


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # it is closed anyway
        os.close(descriptor)
