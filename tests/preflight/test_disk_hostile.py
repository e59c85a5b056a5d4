"""Hostile files of a base model: each is reported with a reason, without an exception and in limited time."""

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.models import CheckpointState, DiskState
from scaffold_torchtune.preflight import check_plan, disk
from scaffold_torchtune.preflight.disk import inspect_checkpoint
from support.checkpoints import make_checkpoint, write_safetensors
from support.damaged import LARGE, flipped, mutated
from support.plans import plan_of

pytestmark = pytest.mark.long

MODEL = "Llama-3.2-1B-Instruct"


def header(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]} | changes}


def write_header(directory: Path, content: Any, *, size: int = 12, length: int | None = None) -> None:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    data = struct.pack("<Q", len(text) if length is None else length) + text + bytes(size)
    (directory / "model.safetensors").write_bytes(data)


HEADERS: dict[str, Any] = {
    "no offsets": header(data_offsets=[]),
    "one offset": header(data_offsets=[12]),
    "three offsets": header(data_offsets=[0, 12, 24]),
    "offsets that are text": header(data_offsets=["0", "12"]),
    "offsets that are an object": header(data_offsets={"0": 0, "1": 12}),
    "infinite offsets": b'{"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, Infinity]}}',
    "an exponent without end": b'{"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 1e999]}}',
    "NaN": b'{"a": {"dtype": "BF16", "shape": [NaN, 3], "data_offsets": [0, 12]}}',
    "negative offsets": header(data_offsets=[-12, 0]),
    "offsets that go back": header(data_offsets=[12, 0]),
    "huge offsets": header(data_offsets=[0, LARGE]),
    "booleans": header(data_offsets=[False, True]),
    "fractions": header(data_offsets=[0.0, 12.5]),
    "a negative shape": header(shape=[-2, -3]),
    "a huge shape": header(shape=[LARGE, 3]),
    "an infinite shape": b'{"a": {"dtype": "BF16", "shape": [Infinity], "data_offsets": [0, 12]}}',
    "a shape without end": header(shape=[1] * 100_000),
    "a shape that is text": header(shape="2x3"),
    "no shape": {"a": {"dtype": "BF16", "data_offsets": [0, 12]}},
    "nested shapes": header(shape=[[2], [3]]),
    "an entry that is a list": {"a": [1, 2]},
    "an entry that is null": {"a": None},
    "a list": [1],
    "null": b"null",
    "a name of half a character": b'{"\\ud800": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}',
    "an invisible name": {"a\u202eb": header()["a"]},
    "a long name": {"a" * 10_000: header()["a"]},
    "deep nesting": b"[" * 5_000_000,
    "many digits": b'{"a": {"dtype": "BF16", "shape": [' + b"9" * 5_000 + b'], "data_offsets": [0, 12]}}',
    "not UTF-8": b'{"\xff": 1}',
    "more bytes than the shape takes": header(shape=[2, 2]),
    "more bytes than there are": header() | {"b": {"shape": [9], "dtype": "I8", "data_offsets": [12, 21]}},
    "fewer bytes than there are": header(shape=[2, 2], data_offsets=[0, 8]),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_an_invalid_header_has_a_reason(tmp_path: Path, case: str) -> None:
    write_header(tmp_path, HEADERS[case])
    found = inspect_checkpoint(str(tmp_path)).tensors["model.safetensors"]
    assert found.problem
    assert found.shapes == {}


def test_unusual_but_valid_headers_are_accepted(tmp_path: Path) -> None:
    write_header(tmp_path, {"__metadata__": {"x": "y"}, "s": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "e": {"dtype": "F16", "shape": [0, 7], "data_offsets": [4, 4]}}, size=4)  # fmt: skip
    found = inspect_checkpoint(str(tmp_path)).tensors["model.safetensors"]
    assert (found.problem, found.shapes) == ("", {"s": (), "e": (0, 7)})


def test_the_size_of_headers_is_limited_each_and_in_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write_safetensors(tmp_path / f"{name}.safetensors", {"t" * 100: (1,)})
    (size,) = {(tmp_path / f"{name}.safetensors").stat().st_size - 10 for name in "abc"}
    monkeypatch.setattr(disk, "_MAX_HEADERS", 2 * size)
    tensors = inspect_checkpoint(str(tmp_path)).tensors
    assert [bool(each.problem) for each in tensors.values()] == [False, False, True]
    monkeypatch.setattr(disk, "_MAX_HEADER", 10)
    assert all(each.problem for each in inspect_checkpoint(str(tmp_path)).tensors.values())


OBJECTS: list[bytes] = [
    b'{"weight_map": {"a": 1, "b": null, "c": ["x"]}, "hidden_size": Infinity}',
    b'{"weight_map": {"\\ud800": "x", "a": "\\udfff"}, "\\ud800": 3}',
    b'{"weight_map": [1, 2], "hidden_size": [1]}',
    b'{"weight_map": "model.safetensors", "hidden_size": "2048"}',
    b'{"hidden_size": ' + b"9" * 4_000 + b"}",
    b'{"hidden_size": -1e400, "num_attention_heads": NaN}',
    b'{"weight_map": {"a": "../../../etc/passwd", "b": "/etc/passwd", "c": "\\u0000"}}',
    b"{" * 200_000,
    b'{"a": ' * 200_000,
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"",
]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json"])
@pytest.mark.parametrize("content", OBJECTS, ids=lambda content: str(content[:30]))
def test_an_invalid_index_or_config_raises_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    directory = make_checkpoint(tmp_path / "model", MODEL)
    (directory / name).write_bytes(content)
    assert judged(directory).files


def judged(directory: Path) -> CheckpointState:
    """Inspect a directory, and require that its findings fit into a result."""
    found = inspect_checkpoint(str(directory))
    changes = {"models_dir": str(directory.parent), "model_checkpoint": directory.name, "torchtune_model_name": MODEL}
    for each in check_plan(plan_of(changes), DiskState(checkpoints={str(directory): found}), {}):
        assert len(each.model_dump_json()) < 5_000
    return found


def test_names_that_a_result_cannot_contain_are_skipped(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", MODEL)
    (directory / "original" / "a\nb").write_text("")
    for name in (b"\xff.safetensors", b"model-\xe9.bin"):
        os.close(os.open(os.fsencode(directory) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    (directory / "loop").symlink_to("loop")
    Path(os.fsdecode(os.fsencode(directory) + b"/\xff")).mkdir()
    found = judged(directory)
    assert all(name.isprintable() for name in found.files)
    assert list(found.tensors) == ["model.safetensors"]
    beside = inspect_checkpoint(str(directory / "nothing.safetensors"))
    assert all(name.isprintable() for name in beside.near)


def hostile_header(choose: random.Random) -> bytes:
    content = {
        "__metadata__": {"format": "pt"},
        **header(),
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]},
    }
    text = json.dumps(mutated(content, choose)).encode()
    length = len(text) if choose.random() < 0.9 else choose.choice([0, 1, 2**63, 2**64 - 1, len(text) + 1])
    data = struct.pack("<Q", length) + text + bytes(16)
    return flipped(data, choose) if choose.random() < 0.3 else data


def hostile_json(content: dict[str, Any]) -> Callable[[random.Random], bytes]:
    def make(choose: random.Random) -> bytes:
        data = json.dumps(mutated(content, choose)).encode()
        return flipped(data, choose) if choose.random() < 0.3 else data

    return make


FILES: dict[str, Callable[[random.Random], bytes]] = {
    "model.safetensors": hostile_header,
    "config.json": hostile_json({"hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8, "x": [1]}),
    "model.safetensors.index.json": hostile_json({"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "x"}}),
}


def tried(directory: Path, name: str, seed: int, count: int) -> int:
    """Judge a directory with this many hostile versions of one file; return the number of those with a reason."""
    choose, reasons = random.Random(seed), 0  # noqa: S311 - not used for secrets
    for _ in range(count):
        (directory / name).write_bytes(FILES[name](choose))
        found = judged(directory)
        reasons += bool(found.tensors["model.safetensors"].problem) or found.config is None or not found.index
    return reasons


@pytest.mark.parametrize("name", FILES)
def test_a_sample_of_hostile_files(tmp_path: Path, name: str) -> None:
    directory = make_checkpoint(tmp_path / "model", MODEL)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert tried(directory, name, 14, 400) > 100


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_many_hostile_files(tmp_path: Path, name: str) -> None:
    directory = make_checkpoint(tmp_path / "model", MODEL)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    count = int(os.environ.get("HOSTILE_FILES", "700"))
    assert tried(directory, name, 15, count) > count // 4
