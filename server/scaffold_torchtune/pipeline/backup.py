"""Earlier files, kept when they are written anew: those that a person edited, and those of runs that change.

.scaffold/backup has the edited ones, .scaffold/history/RUN/TIME the versions of a run, each with its reason.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from scaffold_torchtune.findings import Finding, Refused, finding
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, sha256

_MOST: Final = 1_000
"""How many backups one second can have."""
_VERSION: Final = re.compile(r"(\d{4}-\d\d-\d\d_\d{6})(?:_(\d{1,3}))?", re.ASCII)
"""The name of a version: the second one of a second ends in _2."""


class Backup:
    """What one call keeps: .scaffold/backup/TIME holds it under the paths that it had, once there is any.

    .scaffold/backup/TIME.json is its manifest: where each file lay, where it is now, its SHA-256, and why it was moved.
    """

    def __init__(self, tree: Tree, now: Callable[[], datetime]) -> None:
        self._tree, self._now = tree, now
        self._directory = ""
        self._manifest: list[dict[str, Any]] = []
        self.findings: list[Finding] = []

    def keep(self, path: str, when: str) -> None:
        """Move a file there that is about to be written anew, and tell it. `when` says when it was edited."""
        copy = self._free(path)
        self._note(path, copy, when)
        self._tree.move(path, copy)
        message = f"{path} was edited {when}, and was written anew; what was there is kept in {copy}"
        fix = "compare the two; a value worth keeping goes into the summary"
        self.findings.append(finding("edit-kept", message, file=path, fix=fix))

    def _note(self, path: str, copy: str, when: str) -> None:
        """Write the manifest before the move, so that no copy is there that it does not tell of."""
        digest = None
        with suppress(Refused):  # a link, a directory, a file that is too large: moved as it is, whatever it holds
            digest = sha256(self._tree.read(path) or b"")
        self._manifest.append({"path": path, "copy": copy, "sha256": digest, "edited": when})
        text = json.dumps({"made": self._now().isoformat(), "files": self._manifest}, indent=1) + "\n"
        self._tree.write(f"{self._directory}.json", text.encode())

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


REASON: Final = "reason.json"


class History:
    """What one call replaces, run by run.

    A version appears whole, under its name, by a rename. What the last version of a run holds already is not kept
    again: a call that was killed kept it.
    """

    def __init__(self, tree: Tree, now: Callable[[], datetime]) -> None:
        self._tree, self._now = tree, now
        self._versions: dict[str, str] = {}

    def keep(self, run: str, names: Iterable[str], reason: str, changes: Iterable[str] = ()) -> None:
        """Copy those of a run's files that are there, with the reason."""
        files = {name: data for name in names if (data := self._read(f"{run}/{name}")) is not None}
        last = self._last(run)
        if files and last and all(self._read(f"{last}/{name}") == data for name, data in files.items()):
            self._versions[run] = last
        elif files:
            self._make(run, files, reason, changes)

    def take(self, run: str, names: Iterable[str], reason: str) -> None:
        """Move files of a run there, with the reason."""
        for name in names:
            version = self._versions.get(run)
            if version is None or self._tree.kind(f"{version}/{name}") is not None:
                version = self._make(run, {}, reason)
            self._tree.move(f"{run}/{name}", f"{version}/{name}")

    def _read(self, path: str) -> bytes | None:
        return self._tree.read(path) if self._tree.kind(path) == "file" else None

    def _last(self, run: str) -> str:
        """Return the last version of a run; nothing where it has none."""
        folder = f"{layout.HISTORY}/{run}"
        named = filter(None, map(_VERSION.fullmatch, self._tree.names(folder)))
        there = [found for found in named if self._tree.kind(f"{folder}/{found[0]}") == "directory"]
        return f"{folder}/{max(there, key=lambda one: (one[1], int(one[2] or 1)))[0]}" if there else ""

    def _make(self, run: str, files: Mapping[str, bytes], reason: str, changes: Iterable[str] = ()) -> str:
        """Make this call's version of a run, and return its directory."""
        tree, staged = self._tree, f"{layout.STAGING}/{secrets.token_hex(8)}"
        told = {"time": self._now().isoformat(), "reason": reason, "changes": [*changes]}
        tree.make_directory(staged, durable=False)
        for name, data in {**files, REASON: (json.dumps(told, indent=1) + "\n").encode()}.items():
            tree.write(f"{staged}/{name}", data, durable=False)
        for path in (layout.HISTORY, f"{layout.HISTORY}/{run}"):
            tree.make_directory(path, durable=False)
        name = f"{layout.HISTORY}/{run}/{self._now():%Y-%m-%d_%H%M%S}"
        names = (name if number == 1 else f"{name}_{number}" for number in range(1, _MOST))
        version = next(name for name in names if tree.kind(name) is None)
        tree.move(staged, version, durable=False)
        self._versions[run] = version
        return version
