"""Notices what an external script changes in the experiment besides its own staging directory."""

import contextlib
import os
from collections.abc import Callable, Iterable

from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree

Status = tuple[int, int, int, int]
"""Inode, mode, size and time of the last change of content, in nanoseconds."""

# Ours: we write there while scripts run, and so does who asks for what is running.
_OURS = frozenset({layout.STATE})


class Watch:
    """What lies in the experiment directory and in its run directories, as it was when we looked last."""

    def __init__(self, tree: Tree, directories: Iterable[str]) -> None:
        self._root = tree.root
        self._directories = tuple(directories)
        self._seen = self._look("", *self._directories)

    def _look(self, *directories: str) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for directory in directories:
            # the directory may be gone, or not readable, which is a change too
            with contextlib.suppress(OSError), os.scandir(self._root / directory) as entries:
                for entry in entries:
                    path = f"{directory}/{entry.name}" if directory else entry.name
                    if path not in _OURS:
                        found[path] = _status(entry)
        return found

    def changes(self) -> list[str]:
        """The paths that are not as they were, relative to the experiment; from now on they are to stay as they are."""
        before, self._seen = self._seen, self._look("", *self._directories)
        changed = {path for path in {*before, *self._seen} if before.get(path) != self._seen.get(path)}
        # a directory has another time when something in it comes or goes, which is told itself
        return sorted(p for p in changed if not any(other.startswith(f"{p}/") for other in changed))

    def wrote(self, directory: str, is_ours: Callable[[str], bool]) -> None:
        """Take a run directory for as we have just left it, but for the files in it that are not ours.

        They are asked about after they were looked at, so that nothing that changes meanwhile is taken for ours.
        """
        kept = {path: status for path, status in self._seen.items() if not path.startswith(f"{directory}/")}
        with contextlib.suppress(OSError):
            status = os.lstat(self._root / directory)
            kept[directory] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
        self._seen = kept | {path: status for path, status in self._look(directory).items() if is_ours(path)}


def _status(entry: "os.DirEntry[str]") -> Status:
    status = entry.stat(follow_symlinks=False)
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns
