"""Hostile data sets: any content is read or refused in limited time and memory, without an exception."""

import io
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.models import DataFile, DiskState
from scaffold_torchtune.preflight import check_plan, data_files
from scaffold_torchtune.preflight.data_files import inspect_data
from scaffold_torchtune.preflight.samples import form_of
from support.measuring import untraced
from support.plans import Changes, plan_of, run_of
from support.sampling import spread
from support.wording import absent

pytestmark = pytest.mark.long

CHAT: Changes = {"dataset_type": "chat_dataset", "system_prompt": ""}
TEXT: Changes = {"dataset_type": "text_completion_dataset", "system_prompt": "", "packed": True}
KILOBYTE = 1024 if sys.platform == "linux" else 1  # the unit of ru_maxrss
KINDS: list[Changes] = [{}, {"packed": True, "max_seq_len": 40}, CHAT, TEXT, {"max_seq_len": 8, "train_on_input": True}]


def looked_at(file: Path, content: bytes) -> tuple[DataFile, list[str]]:
    """Return the content found for runs of every kind, and the codes of the errors."""
    file.write_bytes(content)
    runs = [run_of({"batch_size": 1, **each}, number, data=str(file)) for number, each in enumerate(KINDS)]
    forms = [form for run in runs if (form := form_of(run))]
    found = inspect_data(str(file), file.suffix, forms)
    findings = check_plan(plan_of(*runs), DiskState(data={str(file): found}), {})
    for each in findings:
        json.dumps(each.model_dump(mode="json")).encode()
    return found, [each.code for each in errors_in(findings)]


def train(*rows: str) -> bytes:
    return ('{"train": [' + ", ".join(rows) + "]}").encode()


GOOD = '{"input": "a", "output": "b", "messages": [], "text": "c"}'


@pytest.mark.parametrize(
    "row",
    [
        '{"messages": [{"role": ["user"], "content": "x"}]}', '{"messages": [{"role": {"a": []}, "content": "x"}]}',
        '{"messages": [[]]}', '{"messages": [null, {"role": null}]}', '{"messages": {"role": "user"}}',
        '{"messages": [{"role": "user", "content": [[], {}, null, {"type": []}, {"type": "text", "text": {}}]}]}',
        '{"input": "\\ud800", "output": "\\udfff", "text": "\\ud800x"}', '{"\\ud800": "x", "input": 5}',
        '{"messages": [{"role": "\\ud800", "content": "\\ud800"}]}', '{"messages": [{"\\ud800": "\\ud800"}]}',
        '{"input": NaN, "output": -Infinity, "n": 1e999}', '{"input": 1' + "0" * 400 + "}",
        '{"input": "a", "input": 5, "input": null}', '{"": "", " ": " "}', "null", "5", '"x"', "[]", "{}", "true",
        '{"input": {"a": {"a": {"a": [[[["x"]]]]}}}, "output": [1, "x", null]}', '{"n": [' * 200 + "]}" * 200,
        '{"input": "' + "a" * 100_000 + '", "output": "' + "b " * 50_000 + '"}', '{"text": "' + " " * 100_000 + '"}',
        '{"input": "\\u0000\\u202e\\ufeff", "output": "\\n\\r\\u2028"}',
        "{" + ", ".join(f'"c{n}": {n}' for n in range(5_000)) + "}",
        '{"x": [' + ", ".join(f'{{"k{n}": {n}}}' for n in range(3_000)) + "]}",
    ],
)  # fmt: skip
def test_a_hostile_row_is_refused_or_read(row: str, tmp_path: Path) -> None:
    for content in (train(row), train(GOOD, row), train(row, GOOD)):
        found, refused = looked_at(tmp_path / "words.json", content)
        assert found.problem or found.parts
        assert refused


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000, b'{"train": ' + b"[" * 1_000_000, b'{"train": [' + b'{"a":' * 200_000, b'{"a":' * 200_000,
        b'"' + b"x" * 5_000_000, b'{"train": ["' + b"x" * 5_000_000, b" " * 5_000_000, b"{" * 1_000_000,
        b'{"train": {"input": [' + b"[]," * 50_000 + b"[]]}}", b'{"note": {"a": [' + b"[]," * 50_000 + b"[]]}}",
        pytest.param(b'{"train": {"input": [' + b"[]," * 500_000 + b"[]]}}", marks=pytest.mark.long),
        b"{" + b",".join(b'"p%d": []' % n for n in range(200_000)) + b"}",
        b'{"train": [{' + b",".join(b'"c%d": ""' % n for n in range(100_000)) + b"}]}",
        b'{"train": [' + b"9" * 5_000_000 + b"]}", b"\\" * 100_000, b"\x00" * 100_000, b"\xf0\x9f\x98\x80" * 100_000,
        b'{"train": [{"input": "' + b"\\ud83d\\ude00" * 200_000 + b'", "output": "b"}]}',
        b'{"train": [{"input": "' + b"a" * 3_000_000 + b'", "output": "b"}]}',
        b'{"train": [{"input": "' + b"a " * 1_500_000 + b'", "output": "b"}]}',
    ],
    ids=range(20),
)  # fmt: skip
def test_time_and_memory_are_limited(content: bytes, tmp_path: Path) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    with untraced():
        found, _ = looked_at(tmp_path / "words.json", content)
    spent, after = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF)
    assert found.problem or found.parts or found.unread
    assert (after.ru_maxrss - before.ru_maxrss) * KILOBYTE < 250 * 1024**2
    assert spent < 10


def test_too_many_rows_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "_MAX_ROWS", 1_000)
    found, _ = looked_at(tmp_path / "words.json", b'{"train": [' + b"[]," * 1_000 + b"[]]}")
    assert absent(found.unread, 1000) == []
    assert not looked_at(tmp_path / "words.json", b'{"train": [' + b"[]," * 999 + b"[]]}")[0].unread


def test_later_columns_are_found_if_runs_read_them(tmp_path: Path) -> None:
    row = {f"c{number}": "x" for number in range(200)} | {"input": "a", "output": "b"}
    found, _ = looked_at(tmp_path / "words.json", json.dumps({"train": [row]}).encode())
    assert {"input", "output"} <= found.parts["train"].columns.keys()
    table = pa.table({name: [text] for name, text in row.items()})
    pyarrow.parquet.write_table(table, tmp_path / "words.parquet")
    found, _ = looked_at(tmp_path / "words.parquet", (tmp_path / "words.parquet").read_bytes())
    assert {"input", "output"} <= found.parts["train"].columns.keys()


# --- a sample of random files -----------------------------------------------------------------------------------------


def drawn_json(drawn: random.Random) -> bytes:
    """Return a data set with some bytes changed and some values replaced."""
    message = {
        "role": drawn.choice(["user", "assistant", "tool", ["x"], None, 5]),
        "content": drawn.choice(["x", [], 5]),
    }
    row: dict[str, Any] = {
        "input": drawn.choice(["a", "", "é" * 50, 5, None, ["x"]]), "output": drawn.choice(["b " * 40, "b", {}, True]),
        "messages": [message] * drawn.randrange(3), "text": drawn.choice(["c", "", "\ud800", 2**70]),
        "n": drawn.choice([1, 1.5, "x", [1, "x"], {"a": {"b": []}}, None]),
    }  # fmt: skip
    rows = [{key: value for key, value in row.items() if drawn.random() < 0.8} for _ in range(drawn.randrange(4))]
    data = bytearray(json.dumps({drawn.choice(["train", "test"]): rows, "x": drawn.choice([1, [], rows])}).encode())
    for _ in range(drawn.randrange(3)):
        at = drawn.randrange(len(data))
        data[at : at + drawn.randrange(3)] = drawn.choice(
            [b"", b"\xff", b'"', b"{", b"]", b",", b"\\", b"9" * 30, b"NaN"]
        )
    return bytes(data)


def drawn_parquet(drawn: random.Random, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(drawn.randrange(1, 6)):
        data[drawn.randrange(len(data))] = drawn.randrange(256)
    return bytes(data[: drawn.randrange(len(data))] if drawn.random() < 0.1 else data)


def parquet_of(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize("seed", spread(range(4), every=4))
def test_random_json_is_refused_or_read(seed: int, tmp_path: Path) -> None:
    drawn = random.Random(seed)  # noqa: S311 - a fixed seed
    found = [looked_at(tmp_path / "words.json", drawn_json(drawn)) for _ in range(250)]
    assert {bool(each.problem) for each, _ in found} == {True, False}
    assert all(each.problem or each.parts or refused for each, refused in found)


@pytest.mark.parametrize("seed", range(2))
def test_random_parquet_is_refused_or_read(seed: int, tmp_path: Path) -> None:
    drawn = random.Random(seed)  # noqa: S311 - a fixed seed
    chat = [[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]] * 20
    whole = parquet_of({"input": ["a"] * 20, "output": ["b"] * 20, "text": ["c"] * 20, "messages": chat})
    found = [looked_at(tmp_path / "words.parquet", drawn_parquet(drawn, whole))[0] for _ in range(150)]
    assert {bool(each.problem) for each in found} == {True, False}


def drawn_lines(drawn: random.Random) -> bytes:
    """Return a data set in JSON Lines."""
    return b"\n".join(drawn_json(drawn) for _ in range(drawn.randrange(4)))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["json", "lines", "parquet"])
def test_many_random_files_are_refused_or_read(kind: str, tmp_path: Path) -> None:
    drawn = random.Random(19)  # noqa: S311 - a fixed seed
    whole = parquet_of({"input": ["a"] * 20, "output": ["b"] * 20, "text": ["c"] * 20})
    for _ in range(int(os.environ.get("HOSTILE_FILES", "400"))):
        content = {"json": drawn_json, "lines": drawn_lines}.get(kind, lambda one: drawn_parquet(one, whole))(drawn)
        found, refused = looked_at(tmp_path / f"words.{'parquet' if kind == 'parquet' else 'json'}", content)
        assert found.problem or found.parts or found.unread or refused


@pytest.mark.parametrize(
    "columns",
    [
        {"input": pa.array([b"\xff"], pa.binary()), "output": ["b"]},
        {"input": pa.array([1], pa.timestamp("ns")), "output": ["b"]},
        {"input": pa.array([1], pa.decimal128(38)), "output": pa.array([1], pa.duration("s"))},
        {"input": pa.array([None], pa.string()), "output": ["b"]},
        {"input": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "output": ["b"]},
        {"messages": [[{"role": "user", "content": None}]], "input": [None], "output": [None]},
        {"input": pa.array([], pa.string()), "output": pa.array([], pa.string())},
    ],
)
def test_parquet_with_unsupported_types_is_refused(columns: dict[str, Any], tmp_path: Path) -> None:
    found, refused = looked_at(tmp_path / "words.parquet", parquet_of(columns))
    assert found.parts
    assert refused


def test_parquet_rows_are_read_like_json_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"input": "a", "output": "b"}] * 150 + [
        {"input": None, "output": "b"},
        {"input": "", "output": "b"},
    ]
    found, _ = looked_at(
        tmp_path / "words.parquet", parquet_of({name: [row[name] for row in rows] for name in rows[0]})
    )
    part = found.parts["train"]
    assert (part.rows, part.columns["input"]) == (152, {"text": 1, "null": 151})
    assert [each.blank["input"].first for each in part.samples if "input" in each.form.columns] == [152] * 3


def test_a_long_text_repeated_in_parquet_needs_memory_only_once(tmp_path: Path) -> None:
    """Read a file that is small because its texts are dictionary-encoded; decoded, they would need 2 GB."""
    long = pa.array(["x" * 1_000_000]).dictionary_encode().dictionary
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), long)
    content = parquet_of({"input": column, "output": column})
    assert len(content) < 3_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, _ = looked_at(tmp_path / "words.parquet", content)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert found.parts["train"].rows == 2_000
    assert (after - before) * KILOBYTE < 600 * 1024**2


def test_a_value_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    found, _ = looked_at(tmp_path / "words.json", train('{"input": "' + "x" * 5_000_000 + '"}'))
    assert absent(found.unread, "4 MiB") == []
