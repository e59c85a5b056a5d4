"""`skill`: puts SKILL.md and workflows/ where agents look for skills, for those who installed the package alone.

A record in the folder says what was written, so that a later version replaces it, and that nothing else is replaced.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scaffold_torchtune import __version__
from scaffold_torchtune.findings import Refused, finding
from scaffold_torchtune.models import Model
from scaffold_torchtune.system.files import MAX_READ, sha256
from scaffold_torchtune.system.json_stream import read_json
from scaffold_torchtune.system.layout import shipped
from scaffold_torchtune.system.text import escape

NAME: Final = "scaffold-torchtune"
"""The skill's name, which its folder must have."""

RECORD: Final = ".scaffold-torchtune.json"
"""The file of the folder that says what was written into it: the version, and the SHA-256 of each file."""


class SkillResult(Model):
    """What was done: the skill's folder and its files; whether all of it was there already, or was another version."""

    directory: str
    files: tuple[str, ...]
    unchanged: bool
    replaced: bool


def install_skill(directory: Path | None = None) -> SkillResult:
    """Put the skill into a folder of its own name, whole or not at all.

    `directory` is where an agent looks for skills, or the skill's own folder there. By default it is where Claude Code
    does: `skills` in CLAUDE_CONFIG_DIR, else in `~/.claude`.

    Raises:
        Refused: what lies there was not written by this command or was edited since, or nothing can be written there.
    """
    try:
        directory = directory or Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / "skills"
    except RuntimeError as error:
        raise _refused("write-failed", "this user has no home directory", [], "name the directory") from error
    target = directory if directory.name == NAME else directory / NAME
    files = _files()
    try:
        there, known = _hashes(target), _recorded(target)
        edited = [name for name, found in there.items() if found is None or known.get(name) != found]
        if others := [target / name for name in edited if name != RECORD or not known]:
            raise _not_ours(target, others)
        unchanged = there == {name: sha256(data) for name, data in files.items()}
        if not unchanged:
            _publish(target, files)
    except OSError as error:
        message = f"cannot write {escape(str(target))}: {error.strerror}"
        raise _refused("write-failed", message, [target], "make room or give write permission") from error
    return SkillResult(
        directory=str(target),
        files=tuple(name for name in sorted(files) if name != RECORD),
        unchanged=unchanged,
        replaced=bool(there) and not unchanged,
    )


def _files() -> dict[str, bytes]:
    """Return every file of the skill by its path in the folder, the record among them."""
    sources = [shipped("SKILL.md"), *shipped("workflows").glob("*.md")]
    files = {source.relative_to(shipped()).as_posix(): source.read_bytes() for source in sources}
    hashes = {name: sha256(data) for name, data in sorted(files.items())}
    record = json.dumps({"version": __version__, "files": hashes}, indent=2)
    return files | {RECORD: record.encode() + b"\n"}


def _hashes(target: Path) -> dict[str, str | None]:
    """Return the SHA-256 of each file in the folder by its path, sorted; None for a link and what is no file.

    Raises:
        Refused: the folder is a link, or no folder.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise _not_ours(target, [target])
    below = {path.relative_to(target).as_posix(): path for path in target.rglob("*")}
    found = {name: path for name, path in sorted(below.items()) if path.is_symlink() or not path.is_dir()}
    regular = {name for name, path in found.items() if path.is_file() and not path.is_symlink()}
    return {name: sha256(path.read_bytes()) if name in regular else None for name, path in found.items()}


def _recorded(target: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that an earlier call wrote; none where there is no readable record."""
    try:
        return dict(read_json((target / RECORD).read_bytes(), MAX_READ)["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder beside its place, then move it there; what lay there is removed last."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}.", dir=target.parent) as work:
        made = Path(work, "new")
        for name, data in files.items():
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        if target.exists():
            target.rename(Path(work, "old"))
        made.rename(target)


def _not_ours(target: Path, paths: list[Path]) -> Refused:
    message = f"{escape(str(target))} holds what this command did not write, or what was edited since"
    return _refused("edited-output", message, paths, "move the folder away and repeat, or name another directory")


def _refused(code: str, message: str, paths: list[Path], fix: str) -> Refused:
    """Return a refusal with a finding for each path, or one where there is none."""
    edited = "a file was changed by hand, or is not ours, and would be overwritten"
    why = edited if code == "edited-output" else "the file system refused a write"
    files: list[str | None] = [escape(str(path)) for path in paths]
    return Refused(message, [finding(code, why, file=file, fix=fix) for file in files or [None]])
