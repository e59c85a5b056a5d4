"""All access to the disk: an experiment directory, opened once, which never follows a link.

Files are created in staging, synced, and published by rename, so that an incomplete file never has a final name. Their
modes follow the user's umask.
"""

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, Self

from scaffold_torchtune.findings import Refused, escape, megabytes, refuse, shown
from scaffold_torchtune.system import layout, locking

MAX_READ = 10_000_000
_NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_READING = frozenset({"open", "inspect", "read", "list"})


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class NotRegular(OSError):
    """The path is not a regular file."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file")


def open_regular(path: str | Path, *, follow: bool = True, dir_fd: int | None = None) -> BinaryIO:
    """Open a regular file for reading without blocking. `follow`: whether it may be a link.

    A device is not even opened, because opening may have effects: a tape rewinds, a watchdog starts.

    Raises:
        OSError: it is missing or cannot be opened; `NotRegular` if it is not a regular file.
    """
    try:
        if not stat.S_ISREG(os.stat(path, dir_fd=dir_fd, follow_symlinks=follow).st_mode):
            raise NotRegular
        # O_NONBLOCK: do not block on a FIFO that replaces the file in the meantime
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        descriptor = os.open(path, flags, dir_fd=dir_fd)
    except ValueError as error:  # a NUL, or a character that this system does not allow in names
        raise OSError(errno.EINVAL, str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular
    return os.fdopen(descriptor, "rb")


def read_regular(
    path: str | Path, most: int = MAX_READ, *, start: int = 0, follow: bool = True, dir_fd: int | None = None
) -> bytes:
    """Return the bytes of a regular file, from `start` on. `follow`: whether it may be a link.

    The file system's size is not used: files of the kernel have none, and a file may grow.

    Raises:
        OSError: it is missing, cannot be read, or has more than `most` bytes (EFBIG).
    """
    with open_regular(path, follow=follow, dir_fd=dir_fd) as stream:
        if start:
            stream.seek(start)
        data: bytes | None = stream.read(most + 1)
    if data is None:  # a file of the kernel without current content
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {megabytes(most)}")
    return data


def is_file(path: str | Path) -> bool:
    """Return whether the path is a visible regular file, through links.

    Unlike pathlib, this never raises: a name that is too long or invalid does not exist.
    """
    return os.path.isfile(path)  # noqa: PTH113


def is_directory(path: str | Path) -> bool:
    """Return whether the path is a visible directory, through links; never raises."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: str | Path) -> bool:
    """Return whether the path is visible, through links; never raises."""
    return os.path.exists(path)  # noqa: PTH110


def is_taken(path: str | Path) -> bool:
    """Return whether the name exists, also as a dangling link; never raises."""
    return os.path.lexists(path)


def is_same(path: str | Path, other: str | Path) -> bool:
    """Return whether two paths lead to the same file or directory; never raises."""
    try:
        return os.path.samefile(path, other)  # noqa: PTH121
    except (OSError, ValueError):
        return False


def others_write(path: str | Path) -> bool:
    """Return whether other users may write to a directory: by its owner, its mode, or a group of several users.

    A group with the user's name counts as the user's own, as many systems create one for each user. Never raises.
    """
    try:
        found = os.stat(path)  # noqa: PTH116
        if not hasattr(os, "getuid") or found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
            return hasattr(os, "getuid")
        group, owner = grp.getgrgid(found.st_gid), pwd.getpwuid(found.st_uid)
        return bool(found.st_mode & stat.S_IWGRP) and (group.gr_name != owner.pw_name or len(group.gr_mem) > 1)
    except KeyError:  # a user or a group without a name
        return True
    except (OSError, ValueError):
        return False


def make_directories(path: str | Path) -> None:
    """Create a directory and its missing parents.

    Raises:
        OSError: the file system reported an error.
    """
    os.makedirs(path, exist_ok=True)  # noqa: PTH103


def real_path(path: str | Path) -> Path:
    """Return the path with all links resolved; a loop of links is unchanged, and cannot be opened."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(path)


def publish(files: Mapping[Path, bytes]) -> None:
    """Write files: each appears complete, and all of them or none.

    The last file marks the set as complete: it is removed first and published last, so that a mixture of two
    generations never looks complete.

    Raises:
        OSError: the file system reported an error.
    """
    halves: list[Path] = []
    done: list[Path] = []
    try:
        for path, data in files.items():
            half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o666)
            halves.append(half)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(descriptor)
        [*files][-1].unlink(missing_ok=True)
        for half, path in zip(halves, files, strict=True):
            half.replace(path)
            done.append(path)
    except BaseException:
        for path in (*halves, *done):
            path.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in files}:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Tree:
    """An experiment directory. Paths are relative to it, with `/`; use it as a context manager.

    Every method raises `Refused` with `unsafe-path` if a part of the path is a link or of the wrong type, and with
    `write-failed` if the file system reports an error.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: tuple[locking.HeldLock, int] | None = None
        try:
            self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(str(root), error, "open") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._fd)

    def renew(self) -> None:
        """Create the experiment directory again if it was removed; refuse a different one at its path."""
        try:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self.root.lstat(), os.fstat(self._fd)):
                    return
                raise _refused(str(self.root), OSError(errno.EINVAL, "a different directory has this path"), "open")
            self.root.mkdir()
            made = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
        except OSError as error:
            raise _refused(str(self.root), error, "create the directory") from error
        os.dup2(made, self._fd, inheritable=False)
        os.close(made)

    @contextlib.contextmanager
    def _opened(self, parts: Sequence[str], path: str, action: str) -> Iterator[int]:
        """Open the directory at the parts; an error of the file system is a refusal about `path`."""
        fd = os.dup(self._fd)
        try:
            for part in parts:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        except OSError as error:
            raise _refused(path, error, action) from error
        finally:
            _close(fd)

    @contextlib.contextmanager
    def _parent(self, path: str, action: str, *, synced: bool = False) -> Iterator[tuple[int, str]]:
        """Open the parent directory of a path, and yield it with the last part; it is `synced` at the end."""
        parts = path.split("/")
        if not {"", ".", ".."}.isdisjoint(parts):
            raise _refused(path, OSError(errno.EINVAL, "it is not a path in the experiment"), action)
        with self._opened(parts[:-1], path, action) as fd:
            yield fd, parts[-1]
            if synced:
                os.fsync(fd)

    def _check_file(self, path: str, action: str) -> None:
        """Refuse a path that exists and is not a regular file."""
        if self.kind(path) not in {None, "file"}:
            raise _refused(path, NotRegular(), action)

    def _status(self, path: str) -> os.stat_result | None:
        try:
            with self._parent(path, "inspect") as (fd, name):
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except Refused as refused:
            if isinstance(refused.__cause__, FileNotFoundError):
                return None
            raise

    def kind(self, path: str) -> Literal["file", "directory", "other"] | None:
        """Return the type of a path, without following a link; None if nothing exists there."""
        status = self._status(path)
        if status is None:
            return None
        return "file" if stat.S_ISREG(status.st_mode) else "directory" if stat.S_ISDIR(status.st_mode) else "other"

    def size(self, path: str) -> int:
        """Return the size of a file in bytes; 0 if it does not exist."""
        status = self._status(path)
        return 0 if status is None else status.st_size

    def read(self, path: str, *, start: int = 0) -> bytes | None:
        """Return the bytes of a regular file, from `start` on; None if it does not exist."""
        try:
            with self._parent(path, "read") as (fd, name):
                return read_regular(name, start=start, follow=False, dir_fd=fd)
        except Refused as refused:
            if isinstance(refused.__cause__, FileNotFoundError):
                return None
            raise

    def read_parts(self, path: str, first: int, last: int, *, pieces: int, length: int) -> list[tuple[int, bytes]]:
        """Return the beginning and the end of a regular file of any size, and evenly spread pieces in between.

        Each part comes with its offset. A file that is hardly longer than all of them is one part. The file may grow
        in the meantime: parts are those of its size when it was opened.
        """
        with self._parent(path, "read") as (fd, name), open_regular(name, follow=False, dir_fd=fd) as stream:
            file = stream.fileno()
            size = os.fstat(file).st_size
            between = size - first - last
            if between <= 2 * pieces * length:
                return [(0, os.pread(file, size, 0))]
            starts = [first + between * number // pieces for number in range(pieces)]
            wanted = [(0, first), *((start, length) for start in starts), (size - last, last)]
            return [(start, os.pread(file, most, start)) for start, most in wanted]

    def names(self, path: str = "") -> list[str]:
        """Return the sorted names in a directory; none if it does not exist."""
        if path and self.kind(path) is None:
            return []
        with self._opened(path.split("/") if path else [], path, "list") as fd:
            return sorted(os.listdir(fd))  # noqa: PTH208 - a descriptor has no path

    def sizes(self, path: str) -> dict[str, int]:
        """Return the size in bytes of each regular file in a directory, by name."""
        with self._opened(path.split("/"), path, "list") as fd, os.scandir(fd) as entries:
            return {
                each.name: each.stat(follow_symlinks=False).st_size
                for each in entries
                if each.is_file(follow_symlinks=False)
            }

    def make_directory(self, path: str, *, durable: bool = True) -> bool:
        """Create a directory, not its parents; return whether it is new. `durable` as in `write`."""
        found = self.kind(path)
        if found == "directory":
            return False
        if found is not None:
            raise _refused(
                path, OSError(errno.ENOTDIR, "something that is not a directory has this name"), "create the directory"
            )
        with self._parent(path, "create the directory", synced=durable) as (fd, name):
            try:
                os.mkdir(name, dir_fd=fd)
            except FileExistsError:  # created in the meantime
                if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise
                return False
        return True

    def write(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file through staging: it appears complete or not at all. An existing one must be a regular file.

        A file that may be lost in a crash of the machine is not `durable`: it is not synced.
        """
        self._check_file(path, "write")
        staged = f"{layout.STAGING}/{secrets.token_hex(8)}"
        with self._parent(staged, "write") as (staging, temporary):
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o666, dir_fd=staging)
            try:
                with os.fdopen(file, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    if durable:
                        os.fsync(file)
                with self._parent(path, "write", synced=durable) as (fd, name):
                    os.rename(temporary, name, src_dir_fd=staging, dst_dir_fd=fd)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=staging)
                raise

    def link(self, path: str, target: str) -> None:
        """Create a symbolic link with a relative target at a new path; this module never follows links."""
        with self._parent(path, "create the link", synced=True) as (fd, name):
            os.symlink(target, name, dir_fd=fd)

    def link_target(self, path: str) -> str | None:
        """Return the target of a symbolic link; None if it does not exist."""
        with contextlib.suppress(Refused), self._parent(path, "read") as (fd, name):
            return os.readlink(name, dir_fd=fd)
        return None

    def move(self, path: str, to: str, *, durable: bool = True) -> None:
        """Move a file or directory of any type to a path that does not exist; it is never copied."""
        here, there = (self._parent(each, "move", synced=durable) for each in (path, to))
        with here as (source, name), there as target:
            os.rename(name, target[1], src_dir_fd=source, dst_dir_fd=target[0])

    def append(self, path: str, data: bytes) -> None:
        """Append to a file in one write; create it if needed."""
        self._check_file(path, "append to")
        with self._parent(path, "append to") as (fd, name):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | _NOFOLLOW, 0o666, dir_fd=fd)
            with os.fdopen(file, "ab", buffering=0) as stream:
                size = os.fstat(file).st_size
                if stream.write(data) != len(data):
                    os.ftruncate(file, size)
                    raise OSError(errno.ENOSPC, "only a part was written")
                os.fsync(file)

    def remove(self, path: str, *, durable: bool = True) -> None:
        """Remove a file, if it exists. `durable` as in `write`."""
        if self.kind(path) is None:
            return
        with self._parent(path, "remove", synced=durable) as (fd, name):
            os.unlink(name, dir_fd=fd)

    def unprepared(self) -> list[str]:
        """Return the missing state directories."""
        return [path for path in layout.STATE_DIRECTORIES if self.kind(path) is None]

    def prepare(self) -> None:
        """Create the state directories. `locked` clears the leftovers of a killed scaffold in staging."""
        for path in layout.STATE_DIRECTORIES:
            self.make_directory(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the only lock of the experiment; `prepare` must have been called. Staging is cleared.

        Raises:
            Refused: another scaffold holds it (`busy`).
        """
        self._lock = self._acquired()
        try:
            for name in self.names(layout.STAGING):
                with contextlib.suppress(Refused):  # no name in staging is used twice, so it does not get in the way
                    self.clear(f"{layout.STAGING}/{name}")
            yield
        finally:
            self._give_back()

    def holds_lock(self) -> bool:
        """Return whether the held lock still has its path: it may have been removed."""
        if self._lock is None:
            return False
        with contextlib.suppress(Refused):
            there = self._status(layout.LOCK)
            return there is not None and (there.st_dev, there.st_ino) == self._lock[0].identity
        return False

    def relock(self) -> None:
        """Take the lock again if it was held and removed; `prepare` must have been called.

        Raises:
            Refused: a different scaffold holds it now (`busy`).
        """
        if self._lock is not None and not self.holds_lock():
            again = self._acquired()
            self._give_back()
            self._lock = again

    def _give_back(self) -> None:
        """Release the lock in the directory in which it was taken."""
        if self._lock is not None:
            (lock, state), self._lock = self._lock, None
            try:
                locking.release(lock, state)
            finally:
                _close(state)

    def _acquired(self) -> tuple[locking.HeldLock, int]:
        """Take the lock; return it, and its open directory."""
        action = "create the lock"
        with self._opened((layout.STATE,), layout.LOCK, action) as opened:
            state = os.dup(opened)
        try:
            with self._opened(layout.STAGING.split("/"), layout.LOCK, action) as aside:
                return locking.acquire(state, aside), state
        except locking.Busy as busy:
            _close(state)
            message = "another scaffold is working on this experiment"
            fix = "wait until it finishes, then repeat the step"
            if busy.maker:
                message = f"{message}: {escape(str(busy.maker))}"
                fix = f"{fix}; if process {busy.maker.pid} is no longer running on its host, remove {layout.LOCK}"
            raise refuse("busy", message, file=layout.LOCK, fix=fix) from busy
        except BaseException:
            _close(state)
            raise

    def look_at_lock(self) -> locking.Maker | locking.Leftover | None:
        """Return the holder of the lock, or the leftovers of one; None without a lock."""
        if self.kind(layout.LOCK) is None:
            return None
        with self._opened((layout.STATE,), layout.LOCK, "inspect") as state:
            return locking.look(state)

    def clear(self, path: str) -> None:
        """Remove a leftover in staging, of any type and depth, without leaving staging."""
        if self.kind(path) != "directory":
            self.remove(path, durable=False)
            return
        with self._parent(path, "remove") as (fd, name):
            _remove_directory(fd, name)


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield an empty directory for a program to work in; it is removed at the end with all its contents."""
    outer = Path(tempfile.mkdtemp())
    inner = outer / "work"
    inner.mkdir()
    try:
        yield inner
    finally:
        with contextlib.suppress(OSError):
            descriptor = os.open(outer, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
            try:
                _remove_directory(descriptor, inner.name)
            finally:
                _close(descriptor)
            outer.rmdir()


def _remove_directory(parent: int, name: str) -> None:
    """Remove a directory with all its contents; a link is not followed.

    Its subdirectories are first moved up to its own level, so that neither the stack nor the number of descriptors
    limits the depth.
    """
    waiting = [name]
    while waiting:
        one = waiting.pop()
        _allow(one, parent)
        directory = os.open(one, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=parent)
        try:
            for entry in os.listdir(directory):  # noqa: PTH208 - a descriptor has no path
                if stat.S_ISDIR(os.stat(entry, dir_fd=directory, follow_symlinks=False).st_mode):
                    _allow(entry, directory)
                    waiting.append(secrets.token_hex(8))
                    os.rename(entry, waiting[-1], src_dir_fd=directory, dst_dir_fd=parent)
                else:
                    os.unlink(entry, dir_fd=directory)
        finally:
            _close(directory)
        os.rmdir(one, dir_fd=parent)


def _allow(name: str, parent: int) -> None:
    """Make one of our own directories readable and writable, whatever its mode; a link is not followed."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # owned by another user: a denied operation reports itself
            directory = os.open(name, os.O_PATH | os.O_DIRECTORY | _NOFOLLOW, dir_fd=parent)
            try:
                os.chmod(f"/proc/self/fd/{directory}", 0o700)  # noqa: PTH101 - a descriptor
            finally:
                _close(directory)


def _close(descriptor: int) -> None:
    """Close a descriptor that was not written to."""
    with contextlib.suppress(OSError):  # it is closed anyway
        os.close(descriptor)


_NOT_EXPECTED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENXIO})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def _refused(path: str, error: OSError, action: str) -> Refused:
    """Return an error of the file system as a refusal."""
    named = os.strerror(error.errno or 0)
    reason, at = error.strerror or named, escape(path)
    if error.errno in _NOT_EXPECTED:
        code = "unsafe-path"
        fix = f"see what it is with `ls -ld {at}`, move it elsewhere, and repeat the step"
        if reason == named:
            reason = "a part of this path is a link, or is not of the expected type"
            fix = f"find that part of the path with `namei -l {at}`, move it elsewhere, and repeat the step"
    else:
        code = "unreadable-file" if action in _READING else "write-failed"
        fix = f"{_next_step(at, error.errno, action)}, then repeat the step"
    return refuse(code, f"cannot {action} {shown(path)}: {reason}", file=at, fix=fix)


def _next_step(path: str, number: int | None, action: str) -> str:
    """Return what to do about an error number of the file system."""
    if number in _DENIED and action in _READING:
        return f"get read permission for {path}, or move it away"
    if number in _DENIED:
        return f"get write permission for {path} and the directory that contains it"
    if number in _FULL:
        return "free up disk space, or request a larger quota"
    if number == errno.ENOENT:
        return f"make sure that nothing moves or removes {path} or its directory"
    if number == errno.EROFS:
        return "have the file system mounted writable, or move the experiment to a writable one"
    if number == errno.EFBIG:
        return f"move {path} away"
    return f"check the file system of {path}"
