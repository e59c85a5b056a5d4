"""The limits on reading a data set, and cells that no Arrow column can hold."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from scaffold_torchtune.models import DataFile, DataPart, SampleForm
from scaffold_torchtune.preflight import data_files
from scaffold_torchtune.preflight.data_files import inspect_data
from support.wording import absent

FORM = SampleForm(
    dataset_type="instruct_dataset", columns=("input", "output"), tokenizer="torchtune.models.phi4.phi4_tokenizer",
    max_seq_len=2048,
)  # fmt: skip
PAIR = {"input": "ab", "output": "c"}


def looked_at(folder: Path, content: Any, *forms: SampleForm) -> DataFile:
    file = folder / "words.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return inspect_data(str(file), ".json", forms)


def rows(folder: Path, *cells: Any) -> DataPart:
    """Return the split that contains these cells in one column."""
    return looked_at(folder, {"train": [{"x": cell} for cell in cells]}, FORM).parts["train"]


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_the_number_of_splits_is_limited(tmp_path: Path) -> None:
    parts: dict[str, Any] = {f"part{number}": [PAIR] for number in range(100)}
    assert looked_at(tmp_path, parts).parts.keys() == parts.keys()
    assert absent(looked_at(tmp_path, {**parts, "more": 1}).unread, "100 splits") == []


def test_the_number_of_rows_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "_MAX_ROWS", 3)
    assert looked_at(tmp_path, {"train": [PAIR] * 3}).parts["train"].rows == 3
    assert absent(looked_at(tmp_path, {"train": [PAIR] * 4}).unread, "3 rows") == []


def test_the_number_of_columns_is_limited_except_for_those_that_runs_read(tmp_path: Path) -> None:
    names = [f"c{number:02}" for number in range(50)]
    row = dict.fromkeys(names, 1)
    assert looked_at(tmp_path, {"train": [row]}, FORM).parts["train"].columns.keys() == row.keys()
    later = looked_at(tmp_path, {"train": [row, {**row, "more": 1, **PAIR}]}, FORM).parts["train"].columns
    assert list(later) == [*names, "input", "output"]
    assert later["input"] == {"absent": 1, "text": 2}


def test_only_texts_lists_and_objects_fill_a_column(tmp_path: Path) -> None:
    cells = [1, 0.5, True, "", [], {}, None]
    assert rows(tmp_path, *cells).filled == {}
    assert rows(tmp_path, " ", [0], {"a": None}).filled == {"x": 3}


def test_samples_are_counted_only_in_the_train_split(tmp_path: Path) -> None:
    found = looked_at(tmp_path, {"train": [PAIR, {}, "x", 5], "validation": [PAIR]}, FORM).parts
    assert [(counts.form, counts.rows) for counts in found["train"].samples] == [(FORM, 1)]
    assert found["validation"].samples == ()


def test_the_last_of_several_splits_with_one_name_is_used(tmp_path: Path) -> None:
    twice = '{"train": [{"a": 1}], "test": [1], "train": [{"b": 1}, {}]}'
    assert {name: part.rows for name, part in looked_at(tmp_path, twice).parts.items()} == {"test": 1, "train": 2}
    assert list(looked_at(tmp_path, twice).parts) == ["test", "train"]
    assert looked_at(tmp_path, '{"train": [1], "train": 5}').parts == {}


def test_insufficient_memory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: Any, _forms: Any) -> DataFile:
        raise MemoryError

    monkeypatch.setattr(data_files, "_json", fail)
    found = looked_at(tmp_path, {})
    assert (found, absent(found.unread, "memory")) == (DataFile(unread=found.unread), [])


# --- cells that no column can hold ------------------------------------------------------------------------------------


def deep(levels: int, kind: type) -> Any:
    """Return a list or object, nested in this many others of its kind."""
    cell: Any = kind()
    for _ in range(levels - 1):
        cell = [cell] if kind is list else {"a": cell}
    return cell


@pytest.mark.parametrize(
    ("cells", "fault_rows"),
    [
        (["a", "\u00e9", "\U0001f600", "", None, 2**64 - 1, -(2**63), True, 0.5, [], {}], []),
        (["a", "x\ud800", "\udc00"], [2]),
        ([["a"], ["b", "\ud800"]], [2]),
        ([1, 2**64, 2**70], [2]),
        ([-(2**63) - 1], [1]),
        ([[1, 2, None], [[]]], [2]),  # a different kind in the same place
        ([[1, "a"]], [1]),
        ([{"a": 1, "b": "x"}, {"a": None}, {"b": "y"}, {"a": "x"}], [4]),
        ([{"a": 1}, {"a": 0.5}, {"a": True}], [3]),
        ([{"a": [1]}, {"a": [{"b": 1}]}], [2]),
        ([{"a": 1}, [1]], []),  # the kinds of the cells themselves are counted by column
        ([{"a": 1, "b": [2]}, {"a": 1, "b": ["x"]}, {"a": "x"}], [2]),
        ([deep(60, list)], []), ([deep(61, list)], [1]), ([deep(60, dict), deep(61, dict)], [2]),
    ],
)  # fmt: skip
def test_values_without_an_arrow_type_are_faults(cells: list[Any], fault_rows: list[int], tmp_path: Path) -> None:
    part = rows(tmp_path, *cells)
    assert list(part.faults.values()) == fault_rows
    assert all(absent(fault, "x") == [] for fault in part.faults)


def test_each_fault_has_its_first_row_and_such_rows_are_not_samples(tmp_path: Path) -> None:
    cells: list[Any] = [[1], ["a"], 2**64, "\ud800", 2**65, [[]], ["a"]]
    found = looked_at(tmp_path, {"train": [{**PAIR, "x": cell} for cell in cells]}, FORM).parts["train"]
    assert list(found.faults.values()) == [2, 3, 4, 6]
    assert [counts.rows for counts in found.samples] == [
        3
    ]  # the first row, and the rows of faults that were already found


def test_the_numbers_of_faults_and_places_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {f"c{number}": 2**64 for number in range(21)}
    assert len(looked_at(tmp_path, {"train": [columns]}).parts["train"].faults) == 20
    monkeypatch.setattr(data_files, "_MAX_PLACES", 2)
    faults = rows(tmp_path, {"a": 1, "b": 1, "c": 1}, {"c": "x"}, {"b": "x"}).faults
    assert list(faults.values()) == [3]


# --- Parquet ----------------------------------------------------------------------------------------------------------


def parquet(folder: Path, columns: dict[str, Any], *forms: SampleForm) -> DataPart:
    file = folder / "words.parquet"
    pyarrow.parquet.write_table(pa.table(columns), file)
    return inspect_data(str(file), ".parquet", forms).parts["train"]


TEXTS: dict[str, Any] = {"input": ["ab", "c"], "output": ["d", "ef"]}
FOOTER = DataPart(rows=2, columns={"input": {"text": 1}, "output": {"text": 1}})


def test_parquet_columns_that_are_needed_are_read(tmp_path: Path) -> None:
    found = parquet(tmp_path, {"n": [1, 2], "note": ["x", ""], "l": [["x"], []], **TEXTS}, FORM)
    kinds = {"input": "text", "output": "text", "n": "number", "note": "text", "l": "list"}
    assert {name: next(iter(kind)) for name, kind in found.columns.items()} == kinds
    assert found.characters == {"input": 3, "output": 3, "note": 1}
    assert found.filled == {"input": 2, "output": 2, "note": 1}
    assert [counts.rows for counts in found.samples] == [2]


def test_null_cells_of_parquet_are_counted(tmp_path: Path) -> None:
    found = parquet(tmp_path, {"input": ["ab", None], "output": ["d", "ef"]}, FORM)
    assert found.columns["input"] == {"text": 1, "null": 2}


@pytest.mark.parametrize("kind", ["number", "absent", "boolean"])
def test_only_the_footer_is_used_if_no_run_can_read_the_columns(kind: str, tmp_path: Path) -> None:
    columns = {
        "number": {**TEXTS, "input": [1, 2]},
        "absent": {"text": ["a", "b"]},
        "boolean": {**TEXTS, "output": [True, False]},
    }
    found = parquet(tmp_path, columns[kind], FORM)
    assert (found.rows, found.characters, found.samples) == (2, {}, ())


def test_the_numbers_of_parquet_rows_and_characters_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parquet(tmp_path, TEXTS).samples == ()
    monkeypatch.setattr(data_files, "_MAX_CHARACTERS", 6)
    monkeypatch.setattr(data_files, "_MAX_ROWS", 2)
    assert parquet(tmp_path, TEXTS, FORM).characters == {"input": 3, "output": 3}
    monkeypatch.setattr(data_files, "_MAX_CHARACTERS", 5)
    assert parquet(tmp_path, TEXTS, FORM) == FOOTER
    monkeypatch.setattr(data_files, "_MAX_CHARACTERS", 6)
    monkeypatch.setattr(data_files, "_MAX_ROWS", 1)
    assert parquet(tmp_path, TEXTS, FORM) == FOOTER


def test_parquet_without_rows_has_the_columns_of_its_footer(tmp_path: Path) -> None:
    empty = pa.array([], pa.string())
    found = parquet(tmp_path, {"input": empty, "output": empty}, FORM)
    assert found == FOOTER.model_copy(update={"rows": 0})


def test_parquet_columns_that_runs_read_come_first(tmp_path: Path) -> None:
    many = {f"c{number}": [1, 2] for number in range(60)}
    found = parquet(tmp_path, {**many, **TEXTS}, FORM)
    assert list(found.columns) == ["input", "output", *(f"c{number}" for number in range(48))]


def test_chats_in_parquet_are_samples(tmp_path: Path) -> None:
    chat = FORM.model_copy(update={"dataset_type": "chat_dataset", "columns": ("messages",)})
    turns = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    found = parquet(tmp_path, {"messages": [turns, turns[:1]]}, chat)
    assert [(counts.rows, len(counts.faults)) for counts in found.samples] == [(1, 2)]
    assert found.characters == {"messages": 5}
