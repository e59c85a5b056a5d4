"""Data sets that preflight refuses fail in torchtune's own builders, and those that it accepts are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.models import DiskState
from scaffold_torchtune.preflight import check_plan
from scaffold_torchtune.preflight.data_files import inspect_data
from scaffold_torchtune.preflight.samples import form_of
from support import needs
from support.plans import Changes, plan_of, run_of
from support.random_model import write_tokenizer

pytestmark = needs.TORCHTUNE

GOOD = {"input": "a", "output": "b"}
SAYS = {"role": "user", "content": "x"}
ANSWERS = {"role": "assistant", "content": "y"}
SYSTEM, TOOL = {"role": "system", "content": "z"}, {"role": "tool", "content": "5"}
PARTS = [{"type": "text", "text": "x"}]
CHAT: Changes = {"dataset_type": "chat_dataset"}
TEXT: Changes = {"dataset_type": "text_completion_dataset"}


def text(content: Any) -> bytes:
    return json.dumps(content).encode()


CASES: dict[str, tuple[bytes, Changes, bool]] = {
    "rows": (text({"train": [GOOD, GOOD]}), {}, True),
    "more columns": (text({"train": [GOOD | {"n": None}]}), {}, True),
    "a list for each column": (text({"train": {"input": ["a"], "output": ["b"]}}), {}, True),
    "columns by name": (text({"train": [{"q": "a", "a": "b"}]}), {"input_key": "q", "output_key": "a"}, True),
    "no part": (text({"test": [GOOD]}), {}, False),
    "no rows": (text({"train": []}), {}, False),
    "a list": (text([GOOD]), {}, False),
    "lines": (text(GOOD) + b"\n" + text(GOOD), {}, False),
    "a byte order mark": (b"\xef\xbb\xbf" + text({"train": [GOOD]}), {}, False),
    "cut off": (text({"train": [GOOD]})[:-3], {}, False),
    "no column": (text({"train": [{"input": "a"}]}), {}, False),
    "a row without the column": (text({"train": [GOOD, {"input": "a"}]}), {}, False),
    "null": (text({"train": [GOOD, GOOD | {"output": None}]}), {}, False),
    "a number": (text({"train": [GOOD | {"input": 5}]}), {}, False),
    "numbers and texts": (text({"train": [GOOD, GOOD | {"input": 5}]}), {}, False),
    "a list in a cell": (text({"train": [GOOD | {"input": ["a"]}]}), {}, False),
    "conversations": (text({"train": [{"messages": [SAYS, ANSWERS]}]}), CHAT, True),
    "an unknown role": (text({"train": [{"messages": [SAYS | {"role": "human"}, ANSWERS]}]}), CHAT, False),
    "a conversation without messages": (text({"train": [{"messages": []}]}), CHAT, False),
    "no content": (text({"train": [{"messages": [SAYS | {"content": None}, ANSWERS]}]}), CHAT, False),
    "an image": (text({"train": [{"messages": [SAYS | {"content": [{"type": "image_url"}]}, ANSWERS]}]}), CHAT, False),
    "a part without a type": (
        text({"train": [{"messages": [SAYS | {"content": [{"text": "x"}]}, ANSWERS]}]}),
        CHAT,
        False,
    ),
    "one message": (text({"train": [{"messages": [SAYS]}]}), CHAT, False),
    "two users": (text({"train": [{"messages": [SAYS, SAYS, ANSWERS]}]}), CHAT, False),
    "two assistants": (text({"train": [{"messages": [SAYS, ANSWERS, ANSWERS]}]}), CHAT, False),
    "an assistant first": (text({"train": [{"messages": [ANSWERS, SAYS]}]}), CHAT, False),
    "a late system message": (text({"train": [{"messages": [SAYS, SYSTEM, ANSWERS]}]}), CHAT, False),
    "an assistant after system": (text({"train": [{"messages": [SYSTEM, ANSWERS, SAYS]}]}), CHAT, False),
    "an assistant after a tool": (text({"train": [{"messages": [SAYS, ANSWERS, TOOL, ANSWERS]}]}), CHAT, False),
    "a user after a tool": (text({"train": [{"messages": [SAYS, ANSWERS, TOOL, SAYS, ANSWERS]}]}), CHAT, True),
    "a role that is a list": (text({"train": [{"messages": [SAYS | {"role": ["user"]}, ANSWERS]}]}), CHAT, False),
    "a role that is an object": (text({"train": [{"messages": [SAYS | {"role": {"a": "b"}}, ANSWERS]}]}), CHAT, False),
    "texts and lists as contents": (text({"train": [{"messages": [SAYS, ANSWERS | {"content": PARTS}]}]}), CHAT, False),
    "lists as contents": (
        text({"train": [{"messages": [SAYS | {"content": PARTS}, ANSWERS | {"content": PARTS}]}]}),
        CHAT,
        True,
    ),
    "numbers and texts that nobody reads": (text({"train": [GOOD | {"n": 1}, GOOD | {"n": "x"}]}), {}, False),
    "integers and fractions": (text({"train": [GOOD | {"n": 1}, GOOD | {"n": 1.5}]}), {}, True),
    "numbers and booleans": (text({"train": [GOOD | {"n": 1}, GOOD | {"n": True}]}), {}, False),
    "null and lists": (text({"train": [GOOD | {"n": None}, GOOD | {"n": [1]}]}), {}, True),
    "other keys in objects": (text({"train": [GOOD | {"n": {"a": 1}}, GOOD | {"n": {"b": "x"}}]}), {}, True),
    "other types in objects": (text({"train": [GOOD | {"n": {"a": 1}}, GOOD | {"n": {"a": "x"}}]}), {}, False),
    "other types in lists": (text({"train": [GOOD | {"n": [1]}, GOOD | {"n": ["x"]}]}), {}, False),
    "a number of 65 bits": (text({"train": [GOOD | {"n": 2**64}]}), {}, False),
    "a number of 64 bits": (text({"train": [GOOD | {"n": 2**64 - 1}]}), {}, True),
    "NaN": (b'{"train": [{"input": "a", "output": "b", "n": NaN}]}', {}, True),
    "infinity as a text": (b'{"train": [{"input": Infinity, "output": "b"}]}', {}, False),
    "half a surrogate pair": (b'{"train": [{"input": "a", "output": "\\udc00"}]}', {}, False),
    "half a surrogate pair that nobody reads": (
        b'{"train": [{"input": "a", "output": "b", "n": "\\udc00"}]}',
        {},
        False,
    ),
    "the same column twice": (b'{"train": [{"input": 5, "input": "a", "output": "b"}]}', {}, True),
    "the same part twice": (b'{"train": [5], "train": [{"input": "a", "output": "b"}]}', {}, True),
    "a control character": (b'{"train": [{"input": "a\x01", "output": "b"}]}', {}, True),
    "a comma too many": (b'{"train": [{"input": "a", "output": "b"},]}', {}, False),
    "more behind it": (b'{"train": [{"input": "a", "output": "b"}]} x', {}, False),
    "deep": (text({"train": [GOOD | {"n": json.loads("[" * 50 + "]" * 50)}]}), {}, True),
    "too deep": (text({"train": [GOOD | {"n": json.loads("[" * 70 + "]" * 70)}]}), {}, False),
    "texts": (text({"train": [{"text": "a"}]}), TEXT, True),
    "texts in a list": (text({"train": ["a", "b"]}), TEXT, True),
    "no texts": (text({"train": [GOOD]}), TEXT, False),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from torchtune.models.qwen2_5 import qwen2_5_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return qwen2_5_tokenizer(path=str(folder / "vocab.json"), merges_file=str(folder / "merges.txt"))


@pytest.mark.parametrize("case", CASES)
def test_a_data_set_is_refused_exactly_if_it_fails_in_torchtune(case: str, tmp_path: Path, tokenizer: Any) -> None:
    content, changes, good = CASES[case]
    file = tmp_path / "words.json"
    file.write_bytes(content)
    assert _ours(file, changes) == good
    assert _theirs(file, changes, tokenizer) == good


def _ours(file: Path, changes: Changes) -> bool:
    run = run_of({"batch_size": 1, "num_warmup_steps": 0, "system_prompt": "", **changes}, data=str(file))
    form = form_of(run)
    assert form is not None
    seen = DiskState(data={str(file): inspect_data(str(file), ".json", [form])})
    return not [f for f in errors_in(check_plan(plan_of(run), seen, {})) if f.code in {"data-mismatch", "no-steps"}]


def _theirs(file: Path, changes: Changes, tokenizer: Any) -> bool:
    """Return whether torchtune reads every sample; it and its dependencies raise any kind of exception."""
    try:
        load = {"data_files": str(file), "field": "train", "split": "train", "cache_dir": str(file.parent / "cache")}
        samples = _builder(changes)(tokenizer, source="json", **load)
        found = [samples[i] for i in range(len(samples))]
    except Exception:  # noqa: BLE001 - see above
        return False
    return all(sample["tokens"] for sample in found)


def _builder(changes: Changes) -> Callable[..., Any]:
    from torchtune import datasets

    if changes == CHAT:
        return lambda *a, **k: datasets.chat_dataset(
            *a, conversation_column="messages", conversation_style="openai", **k
        )
    if changes == TEXT:
        return lambda *a, **k: datasets.text_completion_dataset(*a, column="text", **k)
    columns = {"input": changes.get("input_key", "input"), "output": changes.get("output_key", "output")}
    return lambda *a, **k: datasets.instruct_dataset(*a, column_map=columns, **k)
