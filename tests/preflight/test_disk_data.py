"""Reading data set files: the counts, and the problems of paths and content."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from scaffold_torchtune.models import DataFile, DataPart
from scaffold_torchtune.preflight import data_files
from scaffold_torchtune.preflight.data_files import inspect_data
from support.wording import absent


def looked_at(tmp_path: Path, content: Any) -> DataFile:
    file = tmp_path / "words.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return inspect_data(str(file), ".json")


def test_rows_and_columns_of_every_split_are_counted(tmp_path: Path) -> None:
    found = looked_at(
        tmp_path,
        {
            "train": [{"input": "ab", "output": "A"}, {"input": 5}, {"input": None, "output": "A", "n": True}],
            "validation": [{"input": [1], "output": {}}],
            "note": "not rows",
        },
    )
    assert found.parts == {
        "train": DataPart(
            rows=3,
            columns={
                "input": {"text": 1, "number": 2, "null": 3},
                "output": {"text": 1, "absent": 2},
                "n": {"absent": 1, "boolean": 3},
            },
            characters={"input": 2, "output": 2, "n": 0},
            filled={"input": 1, "output": 2},
        ),
        "validation": DataPart(
            rows=1,
            columns={"input": {"list": 1}, "output": {"object": 1}},
            characters={"input": 0, "output": 0},
            filled={"input": 1},
        ),
    }


def test_a_split_may_be_a_list_for_each_column_or_a_list_of_texts(tmp_path: Path) -> None:
    """Expect the forms that the datasets library accepts (tests/contract/test_data_sets.py)."""
    found = looked_at(tmp_path, {"train": {"input": ["a", "b"], "output": ["c"]}, "validation": ["x", "y"]})
    assert found.parts["train"].columns == {"input": {"text": 1}, "output": {"text": 1, "absent": 2}}
    assert found.parts["validation"].columns == {"text": {"text": 1}}
    assert [part.rows for part in found.parts.values()] == [2, 2]


def test_a_value_that_is_neither_rows_nor_columns_is_not_a_split(tmp_path: Path) -> None:
    assert looked_at(tmp_path, {"train": {}, "validation": {"input": 1}, "test": {"input": ["a"], "n": 1}}).parts == {}


@pytest.mark.parametrize("cell", [5, 0.5])
def test_integers_and_decimals_are_numbers(tmp_path: Path, cell: float) -> None:
    assert looked_at(tmp_path, {"train": [{"n": cell}]}).parts["train"].columns == {"n": {"number": 1}}


def test_a_number_that_python_cannot_read_is_invalid_json(tmp_path: Path) -> None:
    found = looked_at(tmp_path, b'{"train": [' + b"1" * 5000 + b"]}")
    assert absent(found.problem, "JSON", ": Exceeds the limit") == []
    assert "JSON Lines" not in found.problem


@pytest.mark.parametrize("role", ["system", "user", "assistant", "ipython", "tool"])
@pytest.mark.parametrize("content", ["hello", [{"type": "text", "text": "hello"}]])
def test_a_message_has_a_role_and_a_text_or_list(tmp_path: Path, role: str, content: Any) -> None:
    rows = [{"messages": [{"role": role, "content": content}]}]
    assert looked_at(tmp_path, {"train": rows}).parts["train"].messages == {}


def test_rows_that_are_not_objects_have_no_columns(tmp_path: Path) -> None:
    assert looked_at(tmp_path, {"train": [1, 2]}).parts == {"train": DataPart(rows=2, columns={})}


def test_conversations_are_checked(tmp_path: Path) -> None:
    good = {"role": "user", "content": "hello"}
    rows = [[good], [], [{**good, "role": "human"}], [{"role": "user", "content": None}], ["hello"]]
    part = looked_at(tmp_path, {"train": [{"messages": row} for row in rows]}).parts["train"]
    assert list(part.messages.values()) == [2, 3, 4, 5]
    _, role, content, kind = part.messages
    assert absent(role, "role", "system", "user", "assistant", "ipython", "tool") == []
    assert absent(content, "content", "text") == []
    assert absent(kind, "object") == []
    assert part.characters == {"messages": 10}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"train": [', "JSON: Expecting value: line 1 column 12 (char 11)"),
        (b'{"input": "a"}\n{"input": "b"}\n', "JSON Lines"),
        (b'\xef\xbb\xbf{"train": []}', "byte order mark"),
        (b'{"train": "\xff"}', "UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b'[{"input": "a"}]', "a list"),
        (b"3", "a number"),
        (b"[" * 100_000, "nested"),
    ],
)
def test_each_kind_of_invalid_data_set_has_its_reason(tmp_path: Path, content: bytes, problem: str) -> None:
    found = looked_at(tmp_path, content)
    assert problem in found.problem
    assert not found.parts


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "MAX_JSON", 1024**2)
    found = looked_at(tmp_path, b" " * (1024**2 + 1))
    assert (found, absent(found.unread, "1 MiB")) == (DataFile(unread=found.unread), [])
    whole = b'{"train": []}'
    assert looked_at(tmp_path, whole + b" " * (1024**2 - len(whole))).parts == {"train": DataPart(rows=0, columns={})}


def test_a_missing_file_is_reported_with_similar_names(tmp_path: Path) -> None:
    (tmp_path / "words_4L_300.json").write_text("{}")
    found = inspect_data(str(tmp_path / "words_4L_30.json"), ".json")
    assert found == DataFile(absent=True, near=("words_4L_300.json",))
    assert inspect_data(str(tmp_path / "none" / "words.json"), ".json") == DataFile(absent=True)
    assert inspect_data(str(tmp_path / "words_4L_300.json" / "words.json"), ".json") == DataFile(absent=True)


def test_only_regular_files_are_opened_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    assert absent(inspect_data(str(tmp_path / "pipe.json"), ".json").problem, "regular file") == []
    assert absent(inspect_data(str(tmp_path), ".json").problem, "directory") == []
    assert inspect_data("a\0b", ".json").problem.endswith(": embedded null byte")
    assert inspect_data(f"/{'a' * 300}", ".json").problem.endswith(": File name too long")


def test_every_opened_file_is_closed(tmp_path: Path) -> None:
    inspect_data(str(tmp_path), ".json")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        inspect_data(str(tmp_path), ".json")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_read_error_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: Any, _forms: Any) -> DataFile:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(data_files, "_json", fail)
    assert looked_at(tmp_path, {}).problem.endswith(": Input/output error")


def test_a_link_is_followed(tmp_path: Path) -> None:
    looked_at(tmp_path, {"train": [{"input": "a"}]})
    (tmp_path / "link.json").symlink_to(tmp_path / "words.json")
    assert inspect_data(str(tmp_path / "link.json"), ".json").parts["train"].rows == 1


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_rows_and_columns_of_parquet_are_read_from_its_footer(tmp_path: Path) -> None:
    columns = {"input": ["a", "b"], "n": [1, 2], "f": [0.5, 1.0], "b": [True, False], "l": [["x"], []],
               "o": [{"k": 1}, {"k": 2}], "z": pa.nulls(2)}  # fmt: skip
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "words.parquet")
    found = inspect_data(str(tmp_path / "words.parquet"), ".parquet")
    kinds = {"input": "text", "n": "number", "f": "number", "b": "boolean", "l": "list", "o": "object", "z": "null"}
    assert {name: next(iter(kind)) for name, kind in found.parts["train"].columns.items()} == kinds
    assert found.parts["train"].rows == 2


def test_large_and_dictionary_types_of_parquet_have_the_kind_of_their_values(tmp_path: Path) -> None:
    table = pa.table(
        {
            "s": pa.array(["a"], pa.large_string()),
            "l": pa.array([["a"]], pa.large_list(pa.string())),
            "d": pa.array(["a"]).dictionary_encode(),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "words.parquet")
    found = inspect_data(str(tmp_path / "words.parquet"), ".parquet")
    kinds = {name: next(iter(kind)) for name, kind in found.parts["train"].columns.items()}
    assert kinds == {"s": "text", "l": "list", "d": "text"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", []),
        (b"version https://git-lfs", ["Git LFS", "git lfs pull"]),
        (b"PAR1 and more", [": "]),
    ],
)
def test_an_invalid_parquet_file_is_reported(tmp_path: Path, content: bytes, problem: list[str]) -> None:
    (tmp_path / "words.parquet").write_bytes(content)
    found = inspect_data(str(tmp_path / "words.parquet"), ".parquet").problem
    assert absent(found, "a Parquet file", *problem) == []
    assert (": " in found, "LFS" in found) == (bool(problem), len(problem) == 2)


def test_without_pyarrow_parquet_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    (tmp_path / "words.parquet").write_bytes(b"PAR1")
    found = inspect_data(str(tmp_path / "words.parquet"), ".parquet")
    assert (found, absent(found.unread, "pyarrow")) == (DataFile(unread=found.unread), [])
