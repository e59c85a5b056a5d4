"""Inspection of base models and free space on disk. It only reads."""

import contextlib
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any, BinaryIO

from scaffold_torchtune.models import CheckpointState, TensorFile
from scaffold_torchtune.system.files import NotRegular, open_regular
from scaffold_torchtune.system.text import close_matches


class Unfit(Exception):
    """What lies there cannot be read; the message says why, to follow the path in a sentence."""


def regular_file(path: str) -> BinaryIO:
    """Open what a document names for reading, if it is a regular file, without waiting for anybody.

    Raises:
        FileNotFoundError: nothing lies there, or not where we may look.
        Unfit: something else than a readable regular file lies there.
    """
    try:
        return open_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except NotRegular as error:
        is_directory = Path(path).is_dir()
        raise Unfit("is a directory, not a file" if is_directory else "is not a regular file") from error
    except (OSError, ValueError) as error:
        raise Unfit(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def near(path: str) -> tuple[str, ...]:
    """Return what lies beside a path that does not exist, with nearly its name."""
    try:
        beside = [entry.name for entry in Path(path).parent.iterdir()]
    except OSError:
        return ()
    return tuple(close_matches(Path(path).name, beside, cutoff=0.75))


def free_bytes(directory: str) -> int | None:
    """Return what an unprivileged user may still write below a directory, which need not exist yet.

    Returns:
        Free bytes of the file system of the nearest directory that exists, the root aside: what exists of a path only
        as `/` is not the file system that a compute node will write to. None where nothing of it exists. Quotas are
        not known here.
    """
    for folder in (Path(directory), *Path(directory).parents):
        if folder == Path(folder.anchor):
            break
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize
    return None


_MAX_HEADER = 100_000_000  # the format's own bound (safetensors, tensor.rs: MAX_HEADER_SIZE)
_MAX_JSON = 50_000_000
_MAX_FILES = 2_000
_INDEX = "model.safetensors.index.json"


def inspect_checkpoint(directory: str) -> CheckpointState:
    """Return what lies in the directory of a base model. Never raises for what lies there."""
    try:
        files = _files(directory)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(directory):
            return CheckpointState(problem="is not a directory")
        return CheckpointState(absent=True, near=near(directory))
    except (OSError, ValueError) as error:
        return CheckpointState(problem=f"cannot be looked into: {getattr(error, 'strerror', None) or error}")
    weights = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    index, config = _object(f"{directory}/{_INDEX}"), _object(f"{directory}/config.json")
    listed = index.get("weight_map") if index else None
    listed = listed if isinstance(listed, dict) else {}
    return CheckpointState(
        files=files,
        tensors={name: _tensors(f"{directory}/{name}") for name in weights},
        index=None if index is None else {str(k): str(v) for k, v in listed.items()},
        config=None if config is None else {k: int(v) for k, v in config.items() if isinstance(v, int)},
    )


def _files(directory: str) -> dict[str, int]:
    """Size by name of the regular files in a directory and in those directly below it."""
    found: dict[str, int] = {}
    for entry in sorted(os.scandir(directory), key=lambda e: e.name):
        if len(found) > _MAX_FILES:
            break
        if entry.is_file():
            found[entry.name] = entry.stat().st_size
        else:
            found |= {f"{entry.name}/{name}": size for name, size in _below(entry.path)}
    return found


def _below(directory: str) -> list[tuple[str, int]]:
    with contextlib.suppress(OSError):
        entries = sorted(os.scandir(directory), key=lambda e: e.name)[:_MAX_FILES]
        return [(entry.name, entry.stat().st_size) for entry in entries if stat.S_ISREG(entry.stat().st_mode)]
    return []


def _object(path: str) -> dict[str, Any] | None:
    """A JSON object; None where there is none."""
    try:
        with regular_file(path) as file:
            content = json.loads(file.read(_MAX_JSON))
    except (Unfit, OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _tensors(path: str) -> TensorFile:
    """The header of a safetensors file: eight bytes of length, little-endian, then JSON (the format's README)."""
    try:
        with regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            begin = file.read(8)
            if begin == b"version ":
                return TensorFile(problem="is a Git LFS pointer, not the weights: git lfs pull fetches them")
            length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0  # noqa: PLR2004 - see above
            if not 0 < length <= min(_MAX_HEADER, size - 8):
                return TensorFile(problem="is not a whole safetensors file")
            return _header(json.loads(file.read(length)), size - 8 - length)
    except (Unfit, OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return TensorFile(problem="cannot be read as a safetensors file")


def _header(header: dict[str, Any], size: int) -> TensorFile:
    """The shapes, where the file is as long as its header says."""
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    needed = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    if needed > size:
        return TensorFile(problem=f"is cut off: {needed - size} bytes of its tensors are missing")
    return TensorFile(shapes={name: tuple(int(n) for n in entry["shape"]) for name, entry in tensors.items()})
