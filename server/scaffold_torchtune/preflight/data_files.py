"""Inspection of data set files: their content as the datasets library and torchtune read it. Nothing is written.

A file is read once for all runs, row by row, in bounded memory. The behaviour of the datasets library was tested with
its releases 3 to 5. Their JSON reader passes the rows to pandas and Arrow: one type for each column.
"""

import importlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from scaffold_torchtune.findings import shown
from scaffold_torchtune.models import CellKind, DataFile, DataPart, PlannedRun, SampleForm, Setting
from scaffold_torchtune.preflight.disk import Unfit, near, regular_file
from scaffold_torchtune.preflight.samples import Sizes, Tally, Tokens, forms_by_data
from scaffold_torchtune.preflight.tokenizers import message_faults
from scaffold_torchtune.preflight.training import TRAIN
from scaffold_torchtune.system.serialization import MAX_JSON_VALUE, JsonStream, NotJson, TooLarge

MAX_JSON = 64 * 1024**2
_MAX_COLUMNS = 50
_MAX_PARTS = 100
_MAX_ROWS = 1_000_000
_MAX_FAULTS = 20
_DEEPEST = 60  # levels of lists and objects in a cell; Arrow's schema accepts 64 in all
_MAX_PLACES = 1_000  # compared paths in nested cells
_INTEGERS = range(-(2**63), 2**64)  # the integers that ujson and Arrow read
_KINDS: dict[type, CellKind] = {
    bool: "boolean", str: "text", list: "list", dict: "object", type(None): "null",
}  # fmt: skip
AS_NOUN: dict[CellKind, str] = {
    "boolean": "a boolean", "text": "text", "list": "a list", "object": "an object", "null": "null",
    "number": "a number", "absent": "nothing",
}  # fmt: skip
"""The kinds of cells as in messages."""


def inspect_data(path: str, extension: str, forms: Sequence[SampleForm] = ()) -> DataFile:
    """Return the content of a data set file: JSON as `load_dataset("json", field=...)` reads it, or Parquet.

    Args:
        path: its absolute path.
        extension: `.json` or `.parquet`; other formats are not read.
        forms: the ways in which runs make samples of it.

    Returns:
        Rows and columns of every part, and the samples of the part `train` for each form; JSON files up to
        `MAX_JSON` bytes. Never raises because of the file's content.
    """
    try:
        with regular_file(path) as file:
            if extension == ".parquet":
                return _parquet(file, forms)
            size = file.seek(0, 2)
            if size > MAX_JSON:
                sizes = f"{size / 1024**2:.0f} MiB, more than the limit of {MAX_JSON // 1024**2} MiB"
                return DataFile(unread=f"is too large to inspect ({sizes})")
            file.seek(0)
            return _json(file, forms)
    except FileNotFoundError:
        return DataFile(absent=True, near=near(path))
    except Unfit as unfit:
        return DataFile(problem=str(unfit))
    except OSError as error:
        return DataFile(problem=f"cannot be read: {error.strerror}")
    except MemoryError:
        return DataFile(unread="needs more memory for its inspection than is available")


class DataSets:
    """Inspected data sets. Each file is read once for all forms that are requested together."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[set[SampleForm], DataFile]] = {}

    def inspect(self, path: str, extension: str, forms: Sequence[SampleForm] = ()) -> DataFile:
        """Return the result of `inspect_data`; read a file again only for a new form."""
        known, found = self._seen.get((path, extension), (set[SampleForm](), None))
        if found is None or not known.issuperset(forms):
            found = inspect_data(path, extension, forms)
            self._seen[path, extension] = set(forms), found
        return found

    def train_rows(self, path: str, extension: str, runs: Sequence[Mapping[str, Setting]]) -> int | None:
        """Return the number of samples of the training part for the settings of its runs; None if not inspected."""
        unnamed = [
            PlannedRun(directory="", name="", line=0, model="", data_path=path, parameters={}, settings=dict(settings))
            for settings in runs
        ]
        part = self.inspect(path, extension, forms_by_data(unnamed).get(path, ())).parts.get(TRAIN)
        return None if part is None else part.rows


def _json(file: BinaryIO, forms: Sequence[SampleForm]) -> DataFile:
    begin = file.read(len(b"version https://git-lfs"))
    if begin == b"version https://git-lfs":
        return DataFile(problem="is a Git LFS pointer, not the data: run `git lfs pull` to download it")
    if begin.startswith(b"\xef\xbb\xbf"):
        return DataFile(problem="begins with a byte order mark, which the datasets library rejects")
    file.seek(0)
    stream = JsonStream(file)
    try:
        if stream.peek() != "{":
            return _no_object(stream)
        parts = _json_parts(stream, forms)
        if stream.peek():
            hint = "; it looks like JSON Lines, which has no splits" if stream.peek() == "{" else ""
            return DataFile(problem=f"{stream.error('Extra data')}{hint}")
    except NotJson as error:
        return DataFile(problem=str(error))
    except TooLarge:
        most = (
            f"a value of more than {MAX_JSON_VALUE // 1024**2} MiB, more than {_MAX_ROWS} rows, or more than"
            f" {_MAX_PARTS} splits"
        )
        return DataFile(unread=f"contains {most}")
    return DataFile(parts=parts)


def _no_object(stream: JsonStream) -> DataFile:
    """Return the problem of a file that does not hold an object, usually a list of rows."""
    kind = "list" if stream.peek() == "[" else _kind_of(stream.value())
    if kind == "list":
        for _ in stream.items():
            break
    return DataFile(
        problem=f'contains {AS_NOUN[kind]} instead of named splits: {{"train": [...], "validation": [...]}}'
    )


def _json_parts(stream: JsonStream, forms: Sequence[SampleForm]) -> dict[str, DataPart]:
    """Return every part by its name: a list of rows or of texts, or a list for each column. Other values are not parts.

    If two parts have the same name, the last one is used, as in the datasets library.
    """
    parts: dict[str, DataPart] = {}
    for number, name in enumerate(stream.members()):
        if number >= _MAX_PARTS:
            raise TooLarge
        part = _RowReader(forms if name == TRAIN else ())
        parts.pop(name, None)
        rows = stream.items() if stream.peek() == "[" else _rows_of_columns(stream.value())
        if rows is not None:
            part.read(rows)
            parts[name] = part.found()
    return parts


def _rows_of_columns(value: Any) -> Iterator[dict[str, Any]] | None:
    """Return the rows of an object with one list for each column, or None."""
    if not isinstance(value, dict) or not value or not all(isinstance(cells, list) for cells in value.values()):
        return None
    longest = max(len(cells) for cells in value.values())
    return ({name: cells[i] for name, cells in value.items() if i < len(cells)} for i in range(longest))


class _RowReader:
    """Inspects the rows of one part, one by one."""

    def __init__(self, forms: Sequence[SampleForm]) -> None:
        self._sizes, tokens = Sizes(), Tokens()
        self._tallies = [Tally(form, tokens, self._sizes) for form in forms]
        self._wanted = {column for form in forms for column in form.columns}
        self._count = 0
        self._columns: dict[str, dict[CellKind, int]] = {}
        self._characters: dict[str, int] = {}
        self._filled: dict[str, int] = {}
        self._messages: dict[str, int] = {}
        self._types = _Types()

    def read(self, rows: Iterable[Any]) -> None:
        """Inspect rows."""
        for row in rows:
            self._count += 1
            if self._count > _MAX_ROWS:
                raise TooLarge
            self._row({"text": row} if isinstance(row, str) else row if isinstance(row, dict) else {})

    def found(self) -> DataPart:
        """Return the result."""
        return DataPart(
            rows=self._count,
            columns=self._columns,
            characters=self._characters,
            filled=self._filled,
            messages=self._messages,
            faults=self._types.faults,
            samples=tuple(tally.counts() for tally in self._tallies),
        )

    @property
    def characters(self) -> int:
        """Return the number of inspected characters."""
        return sum(self._characters.values())

    def _row(self, row: Mapping[str, Any]) -> None:
        number = self._count
        for name in [name for name in row if name not in self._columns]:  # in this order, which messages show
            if len(self._columns) < _MAX_COLUMNS or name in self._wanted:
                self._columns[name] = {"absent": 1} if number > 1 else {}
                self._characters[name] = 0
        faults = len(self._types.faults)
        for name, kinds in self._columns.items():
            cell = row.get(name)
            kinds.setdefault(_kind_of(cell) if name in row else "absent", number)
            self._characters[name] += len(cell) if isinstance(cell, str) else _characters(cell)
            self._types.see((name,), cell, number)
            if cell and not isinstance(cell, int | float):
                self._filled[name] = self._filled.get(name, 0) + 1
        messages = row.get("messages")
        if isinstance(messages, list):
            for fault in message_faults(messages):
                self._messages.setdefault(fault, number)
        if len(self._types.faults) == faults:
            for tally in self._tallies:
                tally.add(number, row)
            self._sizes.clear()


def _kind_of(value: Any) -> CellKind:
    return _KINDS.get(type(value), "number")  # Parquet also has dates, bytes and similar types


def _characters(cell: Any) -> int:
    """Return the number of characters of a conversation's contents; 0 for other values."""
    contents = (m.get("content") for m in cell if isinstance(m, dict)) if isinstance(cell, list) else ()
    return sum(len(content) for content in contents if isinstance(content, str))


class _Types:
    """Values that the datasets library cannot read because Arrow has no type for them, with the first such row.

    Arrow uses one type for all cells of a column, and for all values at the same path inside them, apart from null. The
    kinds of the cells themselves are counted by column.
    """

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}
        self._kinds: dict[tuple[str, ...], CellKind] = {}

    def see(self, place: tuple[str, ...], value: Any, row: int) -> None:
        """Inspect a value: a cell or a value nested in one; `place` begins with the column."""
        if value is None:
            return
        if len(place) > 1:
            self._kind(place, value, row)
        if isinstance(value, str):
            if _has_surrogate(value):
                self._fault(
                    f"a text in the column {shown(place[0])} has half of a surrogate pair, an invalid character", row
                )
        elif isinstance(value, int):
            if value not in _INTEGERS:
                self._fault(f"a number in the column {shown(place[0])} does not fit in 64 bits", row)
        elif isinstance(value, dict | list) and len(place) > _DEEPEST:
            self._fault(f"{shown(place[0])} is nested more deeply than Arrow accepts", row)
        elif isinstance(value, dict):
            for name, within in value.items():
                self.see((*place, name), within, row)
        elif isinstance(value, list):
            for within in value:
                self.see((*place, ""), within, row)

    def _kind(self, place: tuple[str, ...], value: Any, row: int) -> None:
        kind, known = _kind_of(value), self._kinds.get(place)
        if known is None:
            if len(self._kinds) < _MAX_PLACES:
                self._kinds[place] = kind
        elif known != kind:
            self._fault(
                f"a value inside {shown(place[0])} is {AS_NOUN[kind]}, but {AS_NOUN[known]} in earlier rows", row
            )

    def _fault(self, fault: str, row: int) -> None:
        if len(self.faults) < _MAX_FAULTS:
            self.faults.setdefault(fault, row)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# --- Parquet ----------------------------------------------------------------------------------------------------------

_MAX_CHARACTERS = 256 * 1024**2  # of inspected text; a small file may repeat one text a million times
_BATCH = 100  # rows in memory at once
_FEW_ROWS = 8  # same, if texts are not dictionary-encoded
_PIECE = 1024**2  # bytes per read
_CODED = (
    8 * 1024**2
)  # of a file: each batch keeps all earlier texts, so larger dictionaries need too much time and memory


def _parquet(file: BinaryIO, forms: Sequence[SampleForm]) -> DataFile:
    begin = file.read(4)  # also at the end of a Parquet file
    if begin != b"PAR1":
        pointer = (
            "; it looks like a Git LFS pointer: run `git lfs pull` to download the data" if begin == b"vers" else ""
        )
        return DataFile(problem=f"is not a Parquet file{pointer}")
    if importlib.util.find_spec("pyarrow") is None:
        return DataFile(
            unread="is a Parquet file, and pyarrow, which is needed to inspect it, is not installed on this machine"
        )
    arrow = importlib.import_module("pyarrow")
    try:
        return DataFile(parts={TRAIN: _parquet_part(file, forms)})
    except (arrow.ArrowException, OSError, ValueError, RuntimeError, LookupError, TypeError, RecursionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return DataFile(problem=f"is not a Parquet file: {reason}")


def _parquet_part(file: BinaryIO, forms: Sequence[SampleForm]) -> DataPart:
    """Return the rows of a file that runs read; if there are too many, return only the contents of its footer."""
    parquet = importlib.import_module("pyarrow.parquet")
    found = parquet.ParquetFile(file)
    there = {field.name: _arrow_kind(str(field.type)) for field in found.schema_arrow}
    wanted = [name for form in forms for name in form.columns if name in there]
    names = list(dict.fromkeys([*wanted, *there]))[:_MAX_COLUMNS]
    texts = [name for name in names if there[name] == "text"]
    columns: dict[str, dict[CellKind, int]] = {name: {there[name]: 1} for name in names}
    part = DataPart(rows=found.metadata.num_rows, columns=columns)
    other = any(there[name] not in {"text", "list"} for name in wanted)
    if not wanted or other or found.metadata.num_rows > _MAX_ROWS:
        return part
    # Read dictionary-encoded texts as dictionaries: otherwise each row would hold a copy. Do not ask for their size:
    # pyarrow crashes the process on a damaged file
    is_coded = os.fstat(file.fileno()).st_size <= _CODED
    coded = texts if is_coded else None
    reading = parquet.ParquetFile(file, read_dictionary=coded, buffer_size=_PIECE, pre_buffer=False)
    reader, rows = _RowReader(forms), _BATCH if is_coded else _FEW_ROWS
    columns_read = list(dict.fromkeys([*wanted, *texts]))
    for batch in reading.iter_batches(batch_size=rows, columns=columns_read, use_threads=False):
        reader.read(batch.to_pylist())
        if reader.characters > _MAX_CHARACTERS:
            return part
    read = reader.found()
    return read.model_copy(update={"columns": columns | read.columns}) if read.rows else part


def _arrow_kind(name: str) -> CellKind:
    """Return the cell kind of an Arrow type."""
    starts: dict[str, CellKind] = {
        "string": "text", "large_string": "text", "bool": "boolean", "list": "list", "large_list": "list",
        "struct": "object", "null": "null", "dictionary<values=string": "text",
    }  # fmt: skip
    return next((kind for start, kind in starts.items() if name.startswith(start)), "number")
