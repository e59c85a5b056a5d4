"""Inspection of base models and free space on disk. Nothing is written."""

import contextlib
import itertools
import math
import os
import re
import stat
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from scaffold_torchtune.findings import close_matches, counted, escape
from scaffold_torchtune.models import CheckpointState, Results, TensorFile
from scaffold_torchtune.system.files import NotRegular, is_directory, is_file, is_there, open_regular
from scaffold_torchtune.system.serialization import read_json


class Unfit(Exception):
    """A file that cannot be read. The message is a predicate: it follows the path in a sentence."""


def regular_file(path: str) -> BinaryIO:
    """Open a file of the user for reading, if it is a regular file; never block.

    Raises:
        FileNotFoundError: no accessible file has this path.
        Unfit: the path is not a readable regular file.
    """
    try:
        return open_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except NotRegular as error:
        raise Unfit("is a directory, not a file" if is_directory(path) else "is not a regular file") from error
    except (OSError, ValueError) as error:
        raise Unfit(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def near(path: str) -> tuple[str, ...]:
    """Return names similar to a path that does not exist, from its directory or as Hugging Face's cache spells them."""
    try:
        beside = _names(str(Path(path).parent))
    except (OSError, ValueError):
        return ()
    cached = [name for name in beside if name.startswith("models--") and name.endswith(f"--{Path(path).name}")]
    return (*cached, *close_matches(Path(path).name, beside, cutoff=0.75))


def free_bytes(directory: str) -> int | None:
    """Return the space that an unprivileged user may still use below a directory, which may not exist yet.

    Returns:
        Free bytes on the file system of the nearest existing directory other than `/`, which is not the file system
        that compute nodes will write to. None if no such directory exists. Quotas are not considered.
    """
    for folder in (Path(directory), *Path(directory).parents):
        if folder == Path(folder.anchor):
            break
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize
    return None


def in_the_way(directory: str) -> str | None:
    """Return the path that keeps a directory from being created, itself or a parent that is not a directory, else None.

    A path behind a link that is not found on this machine is accepted: compute nodes may have it.
    """
    for folder in (Path(directory), *Path(directory).parents):
        if is_directory(folder):
            return None
        if is_there(folder):
            return str(folder)
    return None


def unwritable(directory: str) -> str | None:
    """Return the nearest existing directory of a path if this user cannot create files there, else None.

    As for free space, `/` is not considered: compute nodes may have the rest of the path.
    """
    for folder in (Path(directory), *Path(directory).parents):
        if folder == Path(folder.anchor) or (is_there(folder) and not is_directory(folder)):
            break
        if is_directory(folder):
            can_write = os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
            return None if can_write else str(folder)
    return None


_MAX_CONFIG = 200_000
_MAX_OUTPUTS = 10_000
_MAX_ENTRIES = 200_000
_UNLISTED = "files that cannot be listed (permission denied)"
_EPOCH = re.compile(r"epoch_([0-9]{1,9})", re.ASCII)


_LEFT = re.compile(r"epoch_[0-9]{1,9}|recipe_state|logs|torchtune_config\.yaml|checkpoint.*|adapter_.*", re.ASCII)


def inspect_results(directory: str) -> Results | None:
    """Return the files that a training left in its output directory; None if no training is visible.

    An existing directory without permission to list it counts as results, which must not be overwritten.

    torchtune 0.6.1 saves the weights of each epoch in epoch_N, recipe_state/recipe_state.pt between epochs, and writes
    its whole config to torchtune_config.yaml at the start of each training (training/metric_logging.py, save_config).
    """
    try:
        with os.scandir(directory) as entries:
            left = (entry.name for entry in itertools.islice(entries, _MAX_ENTRIES) if _LEFT.fullmatch(entry.name))
            names = sorted(itertools.islice(left, _MAX_OUTPUTS))
        can_resume = is_file(Path(directory, "recipe_state", "recipe_state.pt"))
    except PermissionError:
        return Results(names=(_UNLISTED,), text=None) if is_directory(directory) else None
    except (OSError, ValueError):
        return None
    if not names:
        return None
    done = [int(match[1]) + 1 for match in map(_EPOCH.fullmatch, names) if match]
    text = None
    with contextlib.suppress(Unfit, OSError, ValueError), regular_file(f"{directory}/torchtune_config.yaml") as file:
        data = file.read(_MAX_CONFIG + 1)
        text = data.decode() if len(data) <= _MAX_CONFIG else None
    told = tuple(map(escape, names[:_LISTED]))
    return Results(names=told, text=text, epochs=max(done, default=0), can_resume=can_resume)


def unseen(directory: str) -> str:
    """Return why the content of a directory is unknown; '' if it is known, or if the directory does not exist.

    A path without any part on this machine is on a file system of other machines.
    """
    try:
        os.scandir(directory).close()
    except (FileNotFoundError, NotADirectoryError):
        above = [folder for folder in Path(directory).parents if folder != Path(folder.anchor)]
        return (
            ""
            if any(map(is_there, above))
            else (f"{escape(str(above[-1] if above else directory))} was not found on this machine")
        )
    except (OSError, ValueError) as error:
        return f"{escape(directory)} cannot be read: {getattr(error, 'strerror', None) or error}"
    return ""


_MAX_HEADER = 4 * 1024**2  # a model needs a tenth of that; the format allows 100 MB (tensor.rs: MAX_HEADER_SIZE)
_MAX_HEADERS = 16 * 1024**2  # for all files of a directory
_MAX_JSON = 4 * 1024**2
_MAX_FILES = 2_000
_MAX_NAME = 500
_LISTED = 20
_MAX_INTEGER = 2**63 - 1
_INDEX = "model.safetensors.index.json"
_TORCH_INDEX = "pytorch_model.bin.index.json"
_DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
    "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of an element by type (safetensors, tensor.rs: Dtype)."""


def inspect_checkpoint(directory: str) -> CheckpointState:
    """Return the content of a base model's directory. Never raises because of that content."""
    try:
        files = _files(directory)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(directory):
            return CheckpointState(problem="is not a directory")
        return CheckpointState(absent=True, near=near(directory))
    except (OSError, ValueError) as error:
        return CheckpointState(problem=f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if "config.json" not in files and (snapshots := _snapshots(directory)):
        return CheckpointState(snapshots=snapshots)
    budget, tensors = _MAX_HEADERS, {}
    for name in [name for name in files if name.endswith(".safetensors") and "/" not in name]:
        tensors[name], used = _tensors(f"{directory}/{name}", min(_MAX_HEADER, budget))
        budget -= used
    index, config = _mapped(f"{directory}/{_INDEX}"), _object(f"{directory}/config.json")
    return CheckpointState(
        files=files,
        tensors=tensors,
        weights=_weights(files, index or _mapped(f"{directory}/{_TORCH_INDEX}") or {}),
        index=index,
        config=None if config is None else {k: v for k, v in map(_of_config, config.items()) if k},
    )


def _snapshots(directory: str) -> tuple[str, ...]:
    """Return the versions of a model in an entry of Hugging Face's cache: `models--ORG--NAME/snapshots/HASH`."""
    main = ""
    with contextlib.suppress(Unfit, OSError, ValueError), regular_file(f"{directory}/refs/main") as file:
        main = file.read(_MAX_NAME).decode().strip()
    try:
        names = _names(f"{directory}/snapshots")
    except OSError:
        return ()
    return tuple(sorted(names[:_LISTED], key=lambda name: name != main))


def _of_config(item: tuple[str, Any]) -> tuple[str, int]:
    """Return the whole numbers of config.json by key, true as 1 and false as 0, without other values."""
    key, value = item
    is_number = isinstance(value, int) and abs(value) <= _MAX_INTEGER
    return (key, int(value)) if is_number and _is_plain(key) else ("", 0)


def _is_plain(name: Any) -> bool:
    """Return whether a text from a file can be a file name; results do not show other texts."""
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()


def _files(directory: str) -> dict[str, int]:
    """Return the size by name of the regular files in a directory and its subdirectories."""
    found: dict[str, int] = {}
    for name in _names(directory):
        mode, size = _kind(f"{directory}/{name}")
        if stat.S_ISREG(mode):
            found[name] = size
        elif stat.S_ISDIR(mode):
            with contextlib.suppress(OSError):
                below = [f"{name}/{each}" for each in _names(f"{directory}/{name}")]
                kinds = {each: _kind(f"{directory}/{each}") for each in below}
                found |= {each: size for each, (mode, size) in kinds.items() if stat.S_ISREG(mode)}
        if len(found) > _MAX_FILES:
            break
    return found


def _kind(path: str) -> tuple[int, int]:
    """Return mode and size of a path; mode 0 if unknown."""
    with contextlib.suppress(OSError):
        there = Path(path).stat()
        return there.st_mode, there.st_size
    return 0, 0


def _names(directory: str) -> list[str]:
    """Return the first names in a directory, sorted, without names that no model file has: not UTF-8 or invisible."""
    with os.scandir(directory) as entries:
        names = [entry.name for entry in itertools.islice(entries, 4 * _MAX_FILES)]
    return sorted(filter(_is_plain, names))[:_MAX_FILES]


def _object(path: str) -> dict[str, Any] | None:
    """Return a JSON object, or None."""
    try:
        with regular_file(path) as file:
            content = read_json(file.read(_MAX_JSON + 1), _MAX_JSON)
    except (Unfit, OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _mapped(path: str) -> dict[str, str] | None:
    """Return the file of each tensor by an index; None without a readable index."""
    content = _object(path)
    mapped = {} if content is None else content.get("weight_map", {})
    if content is None or not isinstance(mapped, dict):
        return None if content is None else {}
    return {str(k): v for k, v in mapped.items() if _is_plain(k) and _is_plain(v)}


_WEIGHTS = re.compile(
    r"(?!adapter|consolidated|optimizer|scheduler|training_args|rng_state)[A-Za-z0-9][A-Za-z0-9._+-]*"
)
_SHARD = re.compile(r"(?P<set>.*?)-?(?P<number>[0-9]{1,9})-of-(?P<last>[0-9]{1,9})(?P<end>\.[a-z]+)", re.ASCII)


def _weights(files: Iterable[str], index: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files of a model, by its index or else by their names; empty if unclear.

    Adapters are not a model, and neither are the files in Meta's or Mistral's own format (consolidated).
    """
    there = {name for name in files if _WEIGHTS.fullmatch(name)}
    if index and there.issuperset(index.values()):
        return tuple(sorted(set(index.values())))
    for end, whole in ((".safetensors", "model.safetensors"), (".bin", "pytorch_model.bin")):
        names = sorted(name for name in there if name.endswith(end))
        shards: dict[tuple[str, str], list[str]] = {}
        for match in filter(None, map(_SHARD.fullmatch, names)):
            shards.setdefault((match["set"], match["last"]), []).append(match[0])
        complete = [each for (_, last), each in shards.items() if len(each) == int(last)]
        if whole in names or len(names) == 1:
            return (whole,) if whole in names else tuple(names)
        if len(complete) == 1:
            return tuple(complete[0])
    return ()


def _tensors(path: str, most: int) -> tuple[TensorFile, int]:
    """Read the header of a safetensors file with a limit in bytes; return it and its length in bytes.

    The format: eight bytes of length, little-endian, then JSON (safetensors README).
    """
    try:
        with regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            begin = file.read(8)
            if begin == b"version ":
                return TensorFile(problem="is a Git LFS pointer, not the weights", is_pointer=True), 0
            length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0  # noqa: PLR2004 - see above
            if not 0 < length <= size - 8:
                return TensorFile(problem="is not a complete safetensors file"), 0
            if length > most:
                return TensorFile(problem=f"has a header of {length} bytes, more than a model's tensors need"), 0
            return _header(read_json(file.read(length), most), size - 8 - length), length
    except (Unfit, OSError, ValueError):
        return TensorFile(problem="cannot be read as a safetensors file"), 0


def _header(header: Any, size: int) -> TensorFile:
    """Return the shapes, if the file is as long as its header requires.

    Raises:
        ValueError: it is not a header.
    """
    tensors = {name: entry for name, entry in _dict(header).items() if name != "__metadata__"}
    shapes: dict[str, tuple[int, ...]] = {}
    needed = 0
    for name, entry in tensors.items():
        (begin, end), shape = _whole_numbers(_dict(entry).get("data_offsets"), 2, 2), _whole_numbers(entry.get("shape"))
        if not _is_plain(name) or begin > end:
            raise ValueError(name)
        item = _DTYPES.get(str(entry.get("dtype")))
        if item is not None and math.prod(shape) * item != end - begin:
            return TensorFile(problem=f"has {end - begin} bytes for {escape(name)}, which does not match its shape")
        needed, shapes[name] = max(needed, end), shape
    if needed > size:
        are = "is" if needed - size == 1 else "are"
        return TensorFile(problem=f"is truncated: {counted(needed - size, 'byte')} of its tensors {are} missing")
    if needed < size:
        return TensorFile(problem=f"has {counted(size - needed, 'byte')} more than its tensors need")
    return TensorFile(shapes=shapes)


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of what a file holds
    return value


def _whole_numbers(value: Any, least: int = 0, most: int = 16) -> tuple[int, ...]:
    """Return the whole numbers of a list, each from 0 to the largest 64-bit number."""
    fits = isinstance(value, list) and least <= len(value) <= most
    if not fits or not all(type(number) is int and 0 <= number <= _MAX_INTEGER for number in value):
        raise ValueError("not whole numbers")
    return tuple(value)
