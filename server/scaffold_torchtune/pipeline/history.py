"""`history`: the kept versions of earlier files, and the difference of two versions. It writes nothing.

.scaffold may contain files of anyone: an entry that is not a version as this tool keeps it is reported.
"""

import difflib
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import Field, computed_field

from scaffold_torchtune.findings import (
    Finding,
    Refused,
    counted,
    did_you_mean,
    escape,
    few,
    finding,
    one_of,
    refuse,
    shown,
)
from scaffold_torchtune.models import Model
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.backup import REASON, order_of, read_reason
from scaffold_torchtune.pipeline.locate import experiment_directory, summary_path
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import Findings, OmitEmpty, StepResult
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import Tree, is_directory, is_taken

NOW: Final = "now"
"""The name of the present files, among the names of kept versions."""

_BACKUP: Final = "backup"
_EDITED: Final = "edited while a scaffold was running"
_MOST_READ: Final = 1_000
"""The maximum number of versions of a run that are read, the newest first."""

_LISTED: Final = 50
_LONGEST: Final = 300
_MOST_LINES: Final = 3_000
"""The maximum number of lines of a file that is compared, because the time grows faster than the number of lines."""


class KeptVersion(Model):
    """Earlier files of a run, kept when they were replaced."""

    run: str
    version: str = Field(description="its name; usually a time")
    time: str = Field(description="the time when it was kept")
    reason: str
    changes: OmitEmpty[tuple[str, ...]] = Field(default=(), description="old -> new, with the line of the document")
    edited: OmitEmpty[tuple[str, ...]] = Field(default=(), description="files that a person had edited")
    started: OmitEmpty[bool] = Field(default=False, description="true if the run had been started")
    files: tuple[str, ...]
    size: int = Field(description="bytes of all files")
    path: str = Field(description="its path, relative to the experiment directory")


class ComparedFile(Model):
    """A file of a run in two versions."""

    name: str
    old: str | None = Field(exclude=True, description="the whole text; None if the file is missing")
    new: str | None = Field(exclude=True)
    compared: bool = Field(default=True, exclude=True, description="false if it is too long")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def differs(self) -> bool:
        """Return whether the two texts differ."""
        return self.old != self.new

    @computed_field  # type: ignore[prop-decorator]
    @property
    def diff(self) -> str:
        """Return the difference, as `diff -u` prints it."""
        if not self.compared or not self.differs:
            return ""
        old, new = ((text or "").splitlines() for text in (self.old, self.new))
        return "\n".join(difflib.unified_diff(old, new, "old", "new", n=2, lineterm=""))


class HistoryResult(StepResult):
    """The kept versions of a run, or of all runs, the newest first; and two of them compared."""

    LISTED = ()
    FIRST = ""

    experiment_dir: str
    run: OmitEmpty[str] = Field(default="", description="the run; all runs if omitted")
    versions: tuple[KeptVersion, ...]
    unread: OmitEmpty[int] = Field(default=0, description="number of older versions that were not read")
    old: OmitEmpty[str] = Field(default="", description="the version on the left")
    new: OmitEmpty[str] = Field(default="", description="the version on the right; `now`: the present files")
    compared: OmitEmpty[tuple[ComparedFile, ...]] = ()
    warnings: Findings

    def _numbers(self) -> dict[str, int]:
        return {"versions": len(self.versions)}

    @property
    def summary(self) -> str:
        """Return the counts."""
        runs = len({version.run for version in self.versions})
        kept = f"{counted(len(self.versions), 'earlier version')} of {counted(runs, 'run')} kept"
        differs = sum(each.differs for each in self.compared)
        compared = f"; {self.old} and {self.new} differ in {counted(differs, 'file')}" if self.old else ""
        return f"{kept}{compared}; {counted(self.counts['warnings'], 'warning')}. Nothing was written."


class VersionPlace(NamedTuple):
    """The place of a version of a run; `name` is the name for the user."""

    run: str
    name: str

    @property
    def path(self) -> str:
        """Return its directory."""
        if self.name == NOW:
            return self.run
        folder, _, time = self.name.rpartition("/")
        return f"{layout.BACKUP}/{time}/{self.run}" if folder == _BACKUP else f"{layout.HISTORY}/{self.run}/{time}"

    @property
    def order(self) -> tuple[str, int]:
        """Return its sort key, by its time."""
        return order_of(self.name.rpartition("/")[2]) or ("", 0)


class Found(NamedTuple):
    """The versions of all runs, by run, the newest first; and findings about other entries."""

    places: dict[str, list[VersionPlace]]
    problems: list[Finding]


def find_versions(tree: Tree, only: str | None = None) -> Found:
    """Return the places of the versions of all runs, or of one. An entry that is not a version is reported."""
    found = Found({}, [])
    problems = found.problems if only is None else []  # problems of other runs are ignored
    runs = _directories(tree, layout.HISTORY, problems) if only is None else [only]
    for run in runs:
        folder = f"{layout.HISTORY}/{run}"
        found.places[run] = [VersionPlace(run, name) for name in _times(tree, folder, found.problems)]
    for time in _times(tree, layout.BACKUP, problems, beside=".json"):
        for run in _directories(tree, f"{layout.BACKUP}/{time}", problems):
            if only in {None, run}:
                found.places.setdefault(run, []).append(VersionPlace(run, f"{_BACKUP}/{time}"))
    for places in found.places.values():
        places.sort(key=lambda place: place.order, reverse=True)
    return found


def _times(tree: Tree, folder: str, problems: list[Finding], beside: str = "") -> list[str]:
    """Return the directories named by their time. `beside` is the suffix of a file that belongs to each of them."""
    names = _directories(tree, folder, problems, beside)
    problems += [
        _damaged(f"{folder}/{name}", "its name is not a date and time") for name in names if order_of(name) is None
    ]
    return [name for name in names if order_of(name)]


def _directories(tree: Tree, folder: str, problems: list[Finding], beside: str = "") -> list[str]:
    """Return the names of directories in a directory; other entries are reported."""
    try:
        if tree.kind(folder) is None:
            return []
        names = tree.names(folder)
        kinds = {name: tree.kind(f"{folder}/{name}") for name in names}
    except Refused as refused:
        problems += [_damaged(folder, problem.message) for problem in refused.problems]
        return []
    others = [name for name, kind in kinds.items() if kind != "directory"]
    expected = {name + beside for name in names} if beside else set[str]()
    problems += [
        _damaged(f"{folder}/{name}", "it is a link or a file (expected a directory)")
        for name in others
        if name not in expected or kinds[name] != "file"
    ]
    return [name for name in names if kinds[name] == "directory"]


def _damaged(path: str, reason: str, version: str = "") -> Finding:
    """Return the finding about a path; `version` is the version that is useless without it."""
    name = escape(path.rpartition("/")[2])
    what = f"{name} {reason.removeprefix('it ')}" if reason.startswith("it ") else f"{name}: {reason}"
    message = (
        f"{escape(version) or name} was not saved by this tool, or was changed later: {what if version else reason}"
    )
    fix = f"look at {escape(version or path)}, and remove it if nobody needs it"
    return finding("history-damaged", message, file=escape(path), fix=fix)


def read_version(tree: Tree, place: VersionPlace) -> tuple[KeptVersion, list[Finding]]:
    """Return the description of a version, and findings about it."""
    problems: list[Finding] = []
    sizes: dict[str, int] = {}
    others: list[str] = []
    try:
        sizes = tree.sizes(place.path)
        others = [name for name in tree.names(place.path) if name not in sizes]
    except Refused as refused:
        problems += [_damaged(place.path, problem.message) for problem in refused.problems]
    problems += [_damaged(f"{place.path}/{name}", "it is a link or a directory, not a file") for name in others]
    told: Mapping[str, object] = {}
    if place.name.startswith(f"{_BACKUP}/"):
        told = {"reason": _EDITED, "edited": [*sizes]}
    elif not problems or REASON in sizes:
        try:
            told = read_reason(tree, place.path)
        except Refused as refused:
            problems += [_damaged(f"{place.path}/{REASON}", each.message, place.path) for each in refused.problems]
        except ValueError as error:
            problems.append(_damaged(f"{place.path}/{REASON}", str(error), place.path))
    files = {
        name: sizes[name]
        for name in (*layout.RUN_FILES, *sorted({*sizes} - {*layout.RUN_FILES, REASON}))
        if name in sizes
    }
    reason = told.get("reason")
    version = KeptVersion(
        run=escape(place.run),
        version=place.name,
        time=_time(told.get("time"), place),
        reason=escape(reason, _LONGEST) if isinstance(reason, str) else "unknown",
        changes=tuple(_texts(told.get("changes"))),
        edited=tuple(name for name in _texts(told.get("edited")) if name in files),
        started=told.get("started") is True,
        files=tuple(escape(name) for name in [*files][:_LISTED]),
        size=sum(files.values()),
        path=escape(place.path),
    )
    return version, problems


def _texts(value: object) -> list[str]:
    found = [escape(text, _LONGEST) for text in value if isinstance(text, str)] if isinstance(value, list) else []
    return found[:_LISTED]


def _time(told: object, place: VersionPlace) -> str:
    """Return the time when a version was kept, from its reason.json or its name."""
    with suppress(ValueError, OverflowError):
        if isinstance(told, str):
            return datetime.fromisoformat(told[:40]).isoformat(sep=" ", timespec="seconds")
    text = place.order[0]
    return f"{text[:10]} {text[11:13]}:{text[13:15]}:{text[15:17]}"


def run_named(tree: Tree, name: str) -> str:
    """Return the directory of a run that has versions or is planned, by its directory or its Run Name.

    Raises:
        Refused: no run has the name.
    """
    by_name: dict[str, str] = {}
    with suppress(Refused):  # the history can be shown without a plan
        if plan := state.load_plan(tree):
            by_name = {run.name: run.directory for run in (*plan.former, *plan.runs)}
    if name in by_name.values():
        return name
    if name in by_name:
        return by_name[name]
    directories = [*dict.fromkeys((*by_name.values(), *find_versions(tree).places))]
    if name in directories:
        return name
    known = [*directories, *by_name]
    message = did_you_mean(name, known, f"there is no run {shown(name)}.")
    fix = f"specify {one_of([escape(each) for each in directories], 8)}" if directories else "scaffold first"
    raise refuse("unknown-name", message, field="run", actual=escape(name), fix=fix)


def _check_is_experiment(tree: Tree, request: Request) -> None:
    """Refuse a directory without state and without a summary: the user may have named only a run."""
    if tree.kind(layout.STATE) or is_taken(summary_path(request, tree.root)):
        return
    above, name = tree.root.parent, tree.root.name
    fix = "give the experiment directory as the first argument and the run as the second"
    if is_directory(above / layout.STATE):
        command = shlex.join(["scaffold-torchtune", "history", str(above), name])
        fix = f"{fix}: `{command}`"
    message = f"{shown(str(tree.root))} is not an experiment: it has neither a summary nor {layout.STATE}"
    raise refuse("not-a-directory", message, field="experiment", fix=fix)


def history(request: Request, run: str | None = None, versions: list[str] | None = None) -> HistoryResult:
    """Return the kept versions of a run, or of all runs, the newest first.

    Args:
        request: the experiment; its documents may be missing.
        run: the run's directory or Run Name; None: all runs.
        versions: the versions to compare. None: no comparison; empty: the last version with the present files; one
            version with them; or two versions with each other.

    Raises:
        Refused: the experiment does not exist; no run or version has that name; or there is nothing to compare.
    """
    with Tree(experiment_directory(request)) as tree:
        _check_is_experiment(tree, request)
        if run is not None:
            run = run_named(tree, run)
        found = find_versions(tree, run)
        if run is None and versions is not None:
            message = "--diff compares versions of one run, but no run is specified"
            fix = "specify the run: `scaffold-torchtune history EXPERIMENT RUN --diff`"
            raise refuse("missing-field", message, field="run", fix=fix)
        problems = [*found.problems]
        listed: list[tuple[VersionPlace, KeptVersion]] = []
        unread = 0
        for name, places in found.places.items():
            if run not in {None, name}:
                continue
            unread += max(0, len(places) - _MOST_READ)
            for place in places[:_MOST_READ]:
                version, wrong = read_version(tree, place)
                listed.append((place, version))
                problems += wrong
        listed.sort(key=lambda each: each[0].order, reverse=True)
        compared: tuple[ComparedFile, ...] = ()
        sides = ("", "")
        if run is not None and versions is not None:
            old, new = _sides(run, found.places.get(run, []), versions)
            sides = (old.name, new.name)
            compared = tuple(_compared(tree, old, new, problems))
        return HistoryResult(
            experiment_dir=str(tree.root),
            run=run or "",
            versions=tuple(version for _, version in listed),
            unread=unread,
            old=sides[0],
            new=sides[1],
            compared=compared,
            warnings=tuple(problems),
        )


def _sides(run: str, places: list[VersionPlace], versions: list[str]) -> tuple[VersionPlace, VersionPlace]:
    """Return the two versions to compare, the left one first."""
    if not places:
        message = f"no files of {shown(run)} have been replaced, so there is no earlier version"
        fix = "read the files in the run directory, which are the only version"
        raise refuse("unknown-name", message, field="version", fix=fix)
    if len(versions) > 2:  # noqa: PLR2004 - a left and a right one
        message = f"{len(versions)} versions are specified, but at most 2 can be compared"
        raise refuse("invalid-value", message, field="version", fix="specify at most 2 versions")
    named = [_version(run, places, name) for name in versions] or [places[0]]
    return named[0], named[1] if len(named) > 1 else VersionPlace(run, NOW)


def _version(run: str, places: list[VersionPlace], name: str) -> VersionPlace:
    """Return the version with a name, or with a unique beginning of its name."""
    if name == NOW:
        return VersionPlace(run, NOW)
    matches = [place for place in places if place.name == name] or [
        place for place in places if name and place.name.startswith(name)
    ]
    if len(matches) == 1:
        return matches[0]
    known = [place.name for place in places]
    message = f"{shown(name)} is ambiguous: the names of {len(matches)} versions of {shown(run)} begin with it"
    if not matches:
        message = did_you_mean(name, known, f"there is no version {shown(name)} of {shown(run)}.")
    fix = f"specify one of {few(known, 8, last='')}, or `{NOW}` for the current files"
    raise refuse("unknown-name", message, field="version", actual=escape(name), fix=fix)


def _compared(tree: Tree, old: VersionPlace, new: VersionPlace, problems: list[Finding]) -> Iterator[ComparedFile]:
    """Yield each file of a run that one of two versions has, with both texts."""
    for name in layout.RUN_FILES:
        texts = [_text(tree, place, name, problems) for place in (old, new)]
        if texts == [None, None]:
            continue
        long = max(len((text or "").splitlines()) for text in texts) > _MOST_LINES
        if long:
            reason = f"{name} has more than {_MOST_LINES} lines, so this tool did not compare its two versions"
            fix = f"compare them yourself: `diff -y {old.path}/{name} {new.path}/{name}`"
            problems.append(finding("history-damaged", reason, file=f"{new.path}/{name}", fix=fix))
        yield ComparedFile(name=name, old=texts[0], new=texts[1], compared=not long)


def _text(tree: Tree, place: VersionPlace, name: str, problems: list[Finding]) -> str | None:
    """Return the text of a file of a version; None if it is missing or cannot be read."""
    path = f"{place.path}/{name}"
    try:
        data = tree.read(path) if tree.kind(place.path) == "directory" else None
    except Refused as refused:
        problems += [_damaged(path, problem.message) for problem in refused.problems]
        return None
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        problems.append(_damaged(path, "it is not UTF-8 text"))
        return data.decode(errors="replace")


def texts_of(tree: Tree, run: str, most: int) -> Iterator[tuple[KeptVersion, Mapping[str, str | None]]]:
    """Yield the newest versions of a run, the newest first, with the texts of its readable files."""
    for place in find_versions(tree, run).places[run][:most]:
        version, _ = read_version(tree, place)
        yield version, {name: _text(tree, place, name, []) for name in layout.RUN_FILES if name in version.files}
