"""Copies of what a person wrote into files of ours, kept in .scaffold/backup when the files must be written anew."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree

_MOST: Final = 1_000
"""How many backups one second can have."""


class Backup:
    """What one call keeps: .scaffold/backup/TIME holds it under the paths that it had, once there is any."""

    def __init__(self, tree: Tree, now: Callable[[], datetime]) -> None:
        self._tree, self._now = tree, now
        self._directory = ""
        self.findings: list[Finding] = []

    def keep(self, path: str, when: str) -> None:
        """Move a file there that is about to be written anew, and tell it. `when` says when it was edited."""
        copy = self._free(path)
        self._tree.move(path, copy)
        message = f"{path} was edited {when}, and was written anew; what was there is kept in {copy}"
        fix = "compare the two; a value worth keeping goes into the summary"
        self.findings.append(finding("edit-kept", message, file=path, fix=fix))

    def _free(self, path: str) -> str:
        """Return a path in the backup where nothing lies, and make the directories that it needs."""
        if not self._directory:
            self._tree.make_directory(layout.BACKUP)
            name = f"{layout.BACKUP}/{self._now():%Y-%m-%d_%H%M%S}"
            names = (name if number == 1 else f"{name}_{number}" for number in range(1, _MOST))
            self._directory = next(name for name in names if self._tree.make_directory(name))
        folder, name = path.rsplit("/", 1)
        self._tree.make_directory(f"{self._directory}/{folder}")
        free = f"{self._directory}/{folder}/{name}"
        number = 1
        while self._tree.kind(free) is not None:  # it was edited twice
            number += 1
            free = f"{self._directory}/{folder}/{name}.{number}"
        return free
