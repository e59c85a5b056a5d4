"""Reading JSON piece by piece, with the same result as reading it at once."""

import io
import json
import random
import tracemalloc
from typing import Any

import pytest

from scaffold_torchtune.system import serialization
from scaffold_torchtune.system.serialization import JsonStream, NotJson, TooLarge


def read(data: bytes) -> dict[str, Any]:
    stream = JsonStream(io.BytesIO(data))
    found: dict[str, Any] = {}
    for name in stream.members():
        found[name] = list(stream.items()) if stream.peek() == "[" else stream.value()
    if stream.peek():
        raise stream.error("Extra data")
    return found


def drawn_value(drawn: random.Random, depth: int = 0) -> Any:
    kind = drawn.randrange(8 if depth < 4 else 6)
    if kind < 2:
        return drawn.choice([1, -1, 12345, 1.5e10, 1e-7, 0.25, 10**20, -2.5e-300])
    if kind == 2:
        return drawn.choice([True, False, None])
    if kind < 6:
        return "".join(drawn.choices('aé\n"\\😀 \t', k=drawn.randrange(8)))
    if kind == 6:
        return [drawn_value(drawn, depth + 1) for _ in range(drawn.randrange(4))]
    return {str(number): drawn_value(drawn, depth + 1) for number in range(drawn.randrange(4))}


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_values_are_those_that_json_reads(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_CHUNK", chunk)
    drawn = random.Random(chunk)  # noqa: S311 - a fixed seed
    for _ in range(1_500):
        content = {str(number): drawn_value(drawn) for number in range(drawn.randrange(4))}
        text = json.dumps(content, ensure_ascii=drawn.random() < 0.5, indent=drawn.choice([None, 1]))
        assert read(text.encode()) == content


@pytest.mark.parametrize("chunk", [1, 100_000])
def test_invalid_json_is_refused_like_json_refuses_it(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_CHUNK", chunk)
    drawn = random.Random(chunk)  # noqa: S311 - a fixed seed
    refused = 0
    for _ in range(1_000):
        text = json.dumps({str(number): drawn_value(drawn) for number in range(3)}, indent=drawn.choice([None, 1]))
        at = drawn.randrange(len(text))
        text = text[:at] + drawn.choice(["", "x", ",", "]", "}", '"', "\\", "1e"]) + text[at + drawn.randrange(2) :]
        try:
            expected: Any = json.loads(text, strict=False)
        except json.JSONDecodeError:
            expected = None
        if isinstance(expected, dict):
            assert read(text.encode()) == expected
        else:
            refused += 1
            with pytest.raises(NotJson, match=r"line \d+ column \d+ \(char \d+\)"):
                read(text.encode())
    assert refused > 300


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": [' + b"[" * 100_000, "nested"),
        (b'{"a": [' + b"1" * 5_000 + b"]}", "digits"),
        (b'{\n "a": 1,\n}', "line 3 column 1"),
    ],
)
def test_the_reason_for_a_refusal_is_reported(data: bytes, said: str) -> None:
    with pytest.raises(NotJson, match=said):
        read(data)


def test_the_size_of_a_value_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_CHUNK", 100)
    monkeypatch.setattr(serialization, "MAX_JSON_VALUE", 1_000)
    assert read(b'{"a": ["' + b"x" * 500 + b'"]}') == {"a": ["x" * 500]}
    with pytest.raises(TooLarge):
        read(b'{"a": ["' + b"x" * 5_000 + b'"]}')


@pytest.mark.long
def test_memory_depends_on_one_value_and_not_on_the_file() -> None:
    data = b'{"train": [' + b",".join([b'{"a": [[], [], []]}'] * 60_000) + b"]}"  # 30 MB if read at once
    tracemalloc.start()
    stream = JsonStream(io.BytesIO(data))
    count = sum(1 for _ in stream.members() for _ in stream.items())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 8 * 1024**2
