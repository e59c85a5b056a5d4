"""Looking into a data set file: JSON as `load_dataset("json", field=...)` reads it, and Parquet."""

import importlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from typing import Any

from scaffold_torchtune.look.opened import Unfit, near, regular_file
from scaffold_torchtune.models.seen import CellKind, DataSeen, PartSeen

MAX_JSON = 64 * 1024**2
_MAX_COLUMNS = 50
_PARQUET_ENDS = 4  # a Parquet file begins and ends with these four bytes
_KINDS: dict[type, CellKind] = {
    bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object", type(None): "null",
}  # fmt: skip


def look_at_data(path: str, extension: str) -> DataSeen:
    """What a data set file holds.

    Args:
        path: its absolute path.
        extension: `.json` or `.parquet`; of other formats nothing is known.

    Returns:
        Rows and columns of every part; of JSON files up to `MAX_JSON` bytes. Never raises for what lies there.
    """
    try:
        with regular_file(path) as file:
            if extension == ".parquet":
                return _parquet(file)
            size = file.seek(0, 2)
            if size > MAX_JSON:
                return DataSeen(unread=f"has {size / 1024**2:.0f} MiB; it is looked into up to {MAX_JSON // 1024**2}")
            file.seek(0)
            return _json(file.read(MAX_JSON))
    except FileNotFoundError:
        return DataSeen(absent=True, near=near(path))
    except Unfit as unfit:
        return DataSeen(problem=str(unfit))
    except OSError as error:
        return DataSeen(problem=f"cannot be read: {error.strerror}")


def _json(data: bytes) -> DataSeen:
    if data.startswith(b"version https://git-lfs"):
        return DataSeen(problem="is a Git LFS pointer, not the data: git lfs pull fetches it")
    if data.startswith(b"\xef\xbb\xbf"):
        return DataSeen(problem="begins with a byte order mark, which the datasets library does not take")
    try:
        content = json.loads(data.decode())
    except UnicodeDecodeError:
        return DataSeen(problem="is not UTF-8 text")
    except RecursionError:
        return DataSeen(problem="is nested too deeply to be a data set")
    except ValueError as error:
        more = error.msg == "Extra data" if isinstance(error, json.JSONDecodeError) else False
        hint = "; it looks like JSON Lines, which has no parts" if more else ""
        return DataSeen(problem=f"is not JSON: {error}{hint}")
    if not isinstance(content, dict):
        kind = _KINDS[type(content)]
        return DataSeen(problem=f'holds a {kind}, not parts by name: {{"train": [...], "validation": [...]}}')
    return DataSeen(parts={str(name): part for name, rows in content.items() if (part := _part(rows)) is not None})


def _part(rows: Any) -> PartSeen | None:
    """A part as the datasets library takes it: a list of rows or of texts, or a list for each column; else None."""
    if isinstance(rows, dict) and rows and all(isinstance(cells, list) for cells in rows.values()):
        longest = max(len(cells) for cells in rows.values())
        rows = [{k: cells[i] for k, cells in rows.items() if i < len(cells)} for i in range(longest)]
    if not isinstance(rows, list):
        return None
    if all(isinstance(row, str) for row in rows):
        rows = [{"text": row} for row in rows]
    return _counted([row if isinstance(row, dict) else {} for row in rows])


def _counted(rows: list[Mapping[str, Any]]) -> PartSeen:
    names = list(dict.fromkeys(name for row in rows for name in row))[:_MAX_COLUMNS]
    columns: dict[str, dict[CellKind, int]] = {name: {} for name in names}
    characters = dict.fromkeys(names, 0)
    messages: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        for name, kinds in columns.items():
            cell = row.get(name)
            kinds.setdefault(_KINDS[type(cell)] if name in row else "absent", number)
            characters[name] += len(cell) if isinstance(cell, str) else _characters(cell)
        if isinstance(row.get("messages"), list):
            for fault in _message_faults(row["messages"]):
                messages.setdefault(fault, number)
    return PartSeen(rows=len(rows), columns=columns, characters=characters, messages=messages)


def _characters(cell: Any) -> int:
    """Characters of a conversation's contents; 0 for what is none."""
    contents = (m.get("content") for m in cell if isinstance(m, dict)) if isinstance(cell, list) else ()
    return sum(len(content) for content in contents if isinstance(content, str))


def _message_faults(messages: list[Any]) -> Iterable[str]:
    """What is wrong with a conversation for torchtune's OpenAIToMessages (torchtune/data/_messages.py, 0.6.1)."""
    if not messages:
        yield "there is no message in it"
    for message in messages:
        if not isinstance(message, dict):
            yield "a message is no object"
            continue
        if message.get("role") not in {"system", "user", "assistant", "ipython", "tool"}:
            yield "a message has no role among system, user, assistant, ipython and tool"
        if not isinstance(message.get("content"), str | list):
            yield "a message has no text as its content"


def _parquet(file: Any) -> DataSeen:
    ends = file.read(_PARQUET_ENDS)
    if ends != b"PAR1":
        pointer = "; it looks like a Git LFS pointer: git lfs pull fetches the data" if ends == b"vers" else ""
        return DataSeen(problem=f"is not a Parquet file{pointer}")
    if importlib.util.find_spec("pyarrow") is None:
        return DataSeen(unread="is Parquet, and pyarrow is not installed here to look into it")
    parquet = importlib.import_module("pyarrow.parquet")
    try:
        found = parquet.ParquetFile(file)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        return DataSeen(problem=f"is not a Parquet file: {str(error).splitlines()[0]}")
    fields = list(found.schema_arrow)[:_MAX_COLUMNS]
    columns: dict[str, dict[CellKind, int]] = {field.name: {_arrow_kind(str(field.type)): 1} for field in fields}
    return DataSeen(parts={"train": PartSeen(rows=found.metadata.num_rows, columns=columns)})


def _arrow_kind(name: str) -> CellKind:
    """What a column of an Arrow type holds."""
    starts: dict[str, CellKind] = {
        "string": "text", "large_string": "text", "bool": "boolean", "list": "list", "large_list": "list",
        "struct": "object", "null": "null", "dictionary<values=string": "text",
    }  # fmt: skip
    return next((kind for start, kind in starts.items() if name.startswith(start)), "number")
