"""Looking into the directory of a base model: its files, the headers of its safetensors, its index and config."""

import json
import os
import stat
import struct
from typing import Any

from scaffold_torchtune.look.opened import Unfit, near, regular_file
from scaffold_torchtune.models.seen import CheckpointSeen, TensorsSeen

_MAX_HEADER = 100_000_000  # the format's own bound (safetensors, tensor.rs: MAX_HEADER_SIZE)
_MAX_JSON = 50_000_000
_MAX_FILES = 2_000
_INDEX = "model.safetensors.index.json"


def look_at_checkpoint(directory: str) -> CheckpointSeen:
    """What lies in the directory of a base model. Never raises for what lies there."""
    try:
        files = _files(directory)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(directory):
            return CheckpointSeen(problem="is not a directory")
        return CheckpointSeen(absent=True, near=near(directory))
    except (OSError, ValueError) as error:
        return CheckpointSeen(problem=f"cannot be looked into: {getattr(error, 'strerror', None) or error}")
    tensors = {name: _tensors(f"{directory}/{name}") for name in files if _is_weights(name)}
    index, config = _object(f"{directory}/{_INDEX}"), _object(f"{directory}/config.json")
    return CheckpointSeen(
        files=files,
        tensors=tensors,
        index=None if index is None else _texts(index.get("weight_map")),
        config=None if config is None else {k: int(v) for k, v in config.items() if isinstance(v, int)},
    )


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name


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
    try:
        entries = sorted(os.scandir(directory), key=lambda e: e.name)[:_MAX_FILES]
        return [(entry.name, entry.stat().st_size) for entry in entries if stat.S_ISREG(entry.stat().st_mode)]
    except OSError:
        return []


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _object(path: str) -> dict[str, Any] | None:
    """A JSON object; None where there is none."""
    try:
        with regular_file(path) as file:
            content = json.loads(file.read(_MAX_JSON))
    except (Unfit, OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _tensors(path: str) -> TensorsSeen:
    """The header of a safetensors file: eight bytes of length, little-endian, then JSON (the format's README)."""
    try:
        with regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            begin = file.read(8)
            if begin == b"version ":
                return TensorsSeen(problem="is a Git LFS pointer, not the weights: git lfs pull fetches them")
            length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0  # noqa: PLR2004 - see above
            if not 0 < length <= min(_MAX_HEADER, size - 8):
                return TensorsSeen(problem="is not a whole safetensors file")
            return _header(json.loads(file.read(length)), size - 8 - length)
    except (Unfit, OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return TensorsSeen(problem="cannot be read as a safetensors file")


def _header(header: dict[str, Any], size: int) -> TensorsSeen:
    """The shapes, where the file is as long as its header says."""
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    needed = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    if needed > size:
        return TensorsSeen(problem=f"is cut off: {needed - size} bytes of its tensors are missing")
    return TensorsSeen(shapes={name: tuple(int(n) for n in entry["shape"]) for name, entry in tensors.items()})
