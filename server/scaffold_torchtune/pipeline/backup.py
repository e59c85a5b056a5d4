"""Earlier files, kept when they are replaced: files edited while a call writes, and earlier versions of runs.

.scaffold/backup has the edits, .scaffold/history/RUN/TIME the versions of a run, each with its reason. Versions are
bounded in number and size; versions with edited files, and versions that were started, are never removed.
"""

import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from scaffold_torchtune.findings import Finding, Refused, counted, escape, finding
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, sha256
from scaffold_torchtune.system.serialization import NotJson, read_json

_MOST: Final = 1_000
"""The maximum number of backups in one second."""


class Backup:
    """The files that one call keeps: .scaffold/backup/TIME has them under their original paths.

    .scaffold/backup/TIME.json is its manifest: the original path and the copy of each file, its SHA-256, and the time
    of its edit.
    """

    def __init__(self, tree: Tree, now: Callable[[], datetime]) -> None:
        self._tree, self._now = tree, now
        self._directory = ""
        self._manifest: list[dict[str, Any]] = []
        self.findings: list[Finding] = []

    def keep(self, path: str, when: str, *, removed: bool = False) -> None:
        """Move a file to the backup before it is replaced, and report it. `when` is the time of its edit, in words."""
        copy = self._free(path)
        self._note(path, copy, when)
        self._tree.move(path, copy)
        then = "moved to" if removed else "regenerated, and the edited file is kept in"
        message = f"{path} was edited {when}; it has been {then} {copy}"
        fix = "compare both files, and copy into the summary each value that you want to keep"
        if removed:
            fix = (
                "no action if the run is not needed; otherwise put its row back, and copy into the summary each value"
                " that you want to keep"
            )
        self.findings.append(finding("edit-kept", message, file=path, fix=fix))

    def _note(self, path: str, copy: str, when: str) -> None:
        """Write the manifest before the move, so that it lists every copy."""
        digest = None
        with suppress(Refused):  # a link, a directory, or a file that is too large is moved without a digest
            digest = sha256(self._tree.read(path) or b"")
        self._manifest.append({"path": path, "copy": copy, "sha256": digest, "edited": when})
        text = json.dumps({"made": self._now().isoformat(), "files": self._manifest}, indent=1) + "\n"
        self._tree.write(f"{self._directory}.json", text.encode())

    def _free(self, path: str) -> str:
        """Return an unused path in the backup, and create its directories."""
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
"""The file of a version with the time and the reason why it was kept."""

MOST_VERSIONS: Final = 20
"""The number of versions kept of a run, not counting versions with edited files or of a started run."""

MOST_BYTES: Final = 100_000_000
"""The size of all versions of an experiment above which the oldest are removed."""

_NAME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{6})(?:_([0-9]{1,4}))?", re.ASCII)
_LONGEST_REASON: Final = 100_000


class Reason(StrEnum):
    """The reason why earlier files of a run are kept."""

    PLANNED = "plan changed"
    REPLACED = "replaced after it was started"
    OVERWRITTEN = "edited, and overwritten as requested"
    SET_UP = "set up again"
    DROPPED = "no longer in the table of runs"


def order_of(version: str) -> tuple[str, int] | None:
    """Return the sort key of a version's name, by its time; None if it is not the name of a version."""
    match = _NAME.fullmatch(version)
    return (match[1], int(match[2] or 1)) if match else None


def versions_of(tree: Tree, run: str) -> list[str]:
    """Return the names of the versions of a run, the oldest first; other names are skipped."""
    orders = {name: order for name in tree.names(f"{layout.HISTORY}/{run}") if (order := order_of(name))}
    return sorted(orders, key=orders.__getitem__)


def read_reason(tree: Tree, version: str) -> dict[str, Any]:
    """Return the content of a version's reason.json; `version` is its path.

    Raises:
        Refused: the file is a link, or cannot be read.
        ValueError: the file is missing, or not a JSON object.
    """
    path = f"{version}/{REASON}"
    if tree.size(path) > _LONGEST_REASON:
        raise NotJson(f"it is larger than {_LONGEST_REASON} bytes")
    data = tree.read(path)
    if data is None:
        raise NotJson("it is missing")
    told = read_json(data, _LONGEST_REASON)
    if not isinstance(told, dict):
        raise NotJson("it is not a JSON object")
    return told


def _is_directory(tree: Tree, path: str) -> bool:
    return tree.kind(path) == "directory"


def history_in_the_way(tree: Tree, runs: Iterable[str]) -> list[Finding]:
    """Return a finding for each path where earlier files of some runs must be kept and that is not a directory."""
    kind = tree.kind(layout.HISTORY)
    if kind in {None, "directory"}:
        paths = [f"{layout.HISTORY}/{run}" for run in runs] if kind else []
        paths = [path for path in paths if tree.kind(path) not in {None, "directory"}]
    else:
        paths = [layout.HISTORY]
    message = "{} is a link or a file (expected a directory in which earlier files are kept)"
    fix = "look at {}, and remove or rename it"
    return [
        finding("unsafe-path", message.format(path), file=path, fix=fix.format(path)) for path in map(escape, paths)
    ]


class History:
    """The files that one call replaces: .scaffold/history/RUN/TIME has a version of a run, with its reason.

    A version appears whole or not at all, before its files are replaced. Files that the newest version already has,
    because a scaffold was killed after it kept them, are not kept twice.
    """

    def __init__(self, tree: Tree, now: Callable[[], datetime]) -> None:
        self._tree, self._now = tree, now
        self._time: datetime | None = None
        self._versions: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._removed = 0

    def keep(
        self,
        run: str,
        names: Iterable[str],
        reason: Reason,
        *,
        changes: Iterable[str] = (),
        edited: Collection[str] = (),
        started: bool = False,
    ) -> None:
        """Copy the existing files of a run.

        Args:
            run: its directory.
            names: the files that are about to be replaced.
            reason: the reason.
            changes: the values that change, old -> new.
            edited: the names of files that a person edited: they survive a crash of the machine, and are never removed.
            started: whether the run was started: the files of its training are kept in the same way.
        """
        paths = {name: f"{run}/{name}" for name in names}
        files = {name: self._tree.read(path) or b"" for name, path in paths.items() if self._tree.kind(path) == "file"}
        if not files or self._is_kept(run, files, started=started):
            return
        told = {"files": [*files], "edited": sorted({*edited} & {*files}), "started": started}
        self._make(run, reason, changes, files, told)

    def take(self, run: str, names: Iterable[str], reason: Reason) -> None:
        """Move files of a started run into its version."""
        for name in names:
            version = self._versions.get(run)
            if version is None or self._tree.kind(f"{version}/{name}") is not None:
                self._make(run, reason, (), {}, {"files": [], "edited": [], "started": True})
            self._tree.move(f"{run}/{name}", f"{self._versions[run]}/{name}")

    def _is_kept(self, run: str, files: Mapping[str, bytes], *, started: bool) -> bool:
        """Return whether the newest version of a run has exactly these files; then this call uses that version."""
        names = versions_of(self._tree, run)
        newest = f"{layout.HISTORY}/{run}/{names[-1]}" if names else ""
        with suppress(Refused, ValueError):
            if newest and all(self._tree.read(f"{newest}/{name}") == data for name, data in files.items()):
                if started and read_reason(self._tree, newest).get("started") is not True:
                    return False
                self._versions.setdefault(run, newest)
                return True
        return False

    def _make(
        self, run: str, reason: Reason, changes: Iterable[str], files: Mapping[str, bytes], told: Mapping[str, object]
    ) -> None:
        """Create a version in staging, then move it into the history."""
        self._time = self._time or self._now()
        told = {"time": self._time.isoformat(), "reason": reason.value, "changes": [*changes], **told}
        durable = bool(told["edited"] or told["started"])
        staged = f"{layout.STAGING}/{secrets.token_hex(8)}"
        self._tree.make_directory(staged, durable=False)
        for name, data in {**files, REASON: (json.dumps(told, indent=1) + "\n").encode()}.items():
            self._tree.write(f"{staged}/{name}", data, durable=durable)
        for path in (layout.HISTORY, f"{layout.HISTORY}/{run}"):
            self._tree.make_directory(path, durable=durable)
        first = f"{layout.HISTORY}/{run}/{self._time:%Y-%m-%d_%H%M%S}"
        names = (first if number == 1 else f"{first}_{number}" for number in range(1, _MOST))
        version = next(name for name in names if self._tree.kind(name) is None)
        self._tree.move(staged, version, durable=durable)
        self._versions[run] = self._made[run] = version

    def trimmed(self) -> str:
        """Remove the oldest versions if there are too many; return a sentence about kept and removed versions.

        The newest version of each run stays, and every version of a started run or with edited or unknown files.
        """
        if not self._made:
            return ""
        with suppress(Refused):  # a failure here must not stop the call
            for run in self._made:
                self._trim(run)
            self._trim_all()
        run, version = next(iter(self._made.items()))
        where = f"{layout.HISTORY}/{run if len(self._made) == 1 else 'RUN'}/{version.rpartition('/')[2]}"
        removed = f"; {counted(self._removed, 'older version')} removed" if self._removed else ""
        return f"earlier files of {counted(len(self._made), 'run')} are kept in {where}{removed}"

    def _trim(self, run: str) -> None:
        """Remove the oldest removable versions of a run until their number is within the limit."""
        names = versions_of(self._tree, run)
        if len(names) > MOST_VERSIONS:
            paths = [f"{layout.HISTORY}/{run}/{name}" for name in names[:-1]]
            plain = [path for path in paths if self._is_plain(path)]
            for path in plain[: max(0, len(plain) + 1 - MOST_VERSIONS)]:
                self._remove(path)

    def _trim_all(self) -> None:
        """Remove the oldest removable versions of all runs until the size of all versions is within the limit."""
        runs = [run for run in self._tree.names(layout.HISTORY) if _is_directory(self._tree, f"{layout.HISTORY}/{run}")]
        found = {run: versions_of(self._tree, run) for run in runs}
        sizes = {
            (name, run): sum(self._tree.sizes(f"{layout.HISTORY}/{run}/{name}").values())
            for run, names in found.items()
            for name in names
        }
        total = sum(sizes.values())
        older = [(name, run) for run, names in found.items() for name in names[:-1]] if total > MOST_BYTES else []
        for name, run in sorted(older, key=lambda each: (order_of(each[0]), each[1])):
            if total <= MOST_BYTES:
                return
            path = f"{layout.HISTORY}/{run}/{name}"
            if self._is_plain(path) and self._remove(path):
                total -= sizes[name, run]

    def _is_plain(self, version: str) -> bool:
        """Return whether a version has only generated files, of a run that was not started."""
        with suppress(Refused, ValueError):
            told, names = read_reason(self._tree, version), self._tree.names(version)
            files = told.get("files")
            ours = [REASON, *(files if isinstance(files, list) else [])]
            return told.get("edited") == [] and told.get("started") is False and all(name in ours for name in names)
        return False

    def _remove(self, version: str) -> bool:
        """Remove a version, whole or not at all; return whether it is gone."""
        gone = f"{layout.STAGING}/{secrets.token_hex(8)}"
        try:
            self._tree.move(version, gone, durable=False)
        except Refused:
            return False
        self._removed += 1
        with suppress(Refused):  # the next call clears staging
            self._tree.clear(gone)
        return True
