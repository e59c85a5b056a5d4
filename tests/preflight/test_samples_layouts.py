"""Lengths and labels of samples in each model's layout, counted by hand with tokenizers that have one token per byte.

The layouts are those of torchtune 0.6.1: tokenize_messages of models/*/_tokenizer.py, and the models' templates.
"""

from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scaffold_torchtune.models import SampleCounts, SampleForm
from scaffold_torchtune.preflight.samples import CHAT, INSTRUCT, TEXT, Sizes, Tally, Tokens
from scaffold_torchtune.torchtune_facts import find_model
from support.byte_tokenizers import MODELS, sentencepiece_file, write_tokenizers

# ruff: noqa: E501 - the tables of cases have one case a line

_MOST = 400
COLUMNS = {CHAT: ("messages",), INSTRUCT: ("input", "output"), TEXT: ("text",)}
ROLES = {"s": "system", "u": "user", "a": "assistant", "i": "ipython", "t": "tool"}


class Measured(NamedTuple):
    """The smallest max_seq_len that keeps a sample complete, and the smallest that keeps a label of it."""

    whole: int
    labelled: int | None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizers(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens(budget=10**9)


def form_of(name: str, folder: Path | None, kind: str, **more: Any) -> SampleForm:
    """Return the form of samples for the model of a tokenizer, with its files if there is a folder."""
    entry = find_model(MODELS[name])
    assert entry is not None
    files = tuple(str(folder / entry.name / file) for _, file in entry.tokenizer_files) if folder else ()
    given: dict[str, Any] = {"max_seq_len": 2048, "columns": COLUMNS[kind], **more}
    return SampleForm(dataset_type=kind, tokenizer=entry.tokenizer, tokenizer_files=files, **given)


def counted(form: SampleForm, tokens: Tokens, *rows: dict[str, Any]) -> SampleCounts:
    tally = Tally(form, tokens, Sizes())
    for number, row in enumerate(rows, 1):
        tally.add(number, row)
        tally.sizes.clear()
    return tally.counts()


def measured(form: SampleForm, tokens: Tokens, row: dict[str, Any]) -> Measured:
    def at(size: int) -> SampleCounts:
        found = counted(form.model_copy(update={"max_seq_len": size}), tokens, row)
        assert (found.rows, found.exact) == (1, True)
        assert (found.likely_cut, found.likely_empty) == (found.cut, found.empty)
        return found

    sizes = range(1, _MOST)
    whole = bisect_left(sizes, 1, key=lambda size: not at(size).cut.count)
    labelled = bisect_left(sizes, 1, key=lambda size: not at(size).empty.count)
    return Measured(sizes[whole], sizes[labelled] if labelled < len(sizes) else None)


def chat(turns: str) -> dict[str, Any]:
    """Return messages from turns such as `u:abc a:de`: a role's letter and the text; `+` splits it, `_` is a space."""
    messages = []
    for turn in turns.split():
        texts = turn[2:].replace("_", " ").split("+")
        content: Any = texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]
        messages.append({"role": ROLES[turn[0]], "content": content})
    return {"messages": messages}


# begin; each message: header of 2 tokens, its role and two newlines, text, end; end. The last has no label.
LLAMA3 = [
    ("s:ab u:cde a:fghi", 1 + (3 + 6 + 2 + 2) + (3 + 4 + 2 + 3) + (3 + 9 + 2 + 4) + 1, 26 + 2),
    ("u:_ab_ a:c", 1 + (3 + 4 + 2 + 2) + (3 + 9 + 2 + 1) + 1, 12 + 2),  # white space around texts is removed
    ("u:ab+cd a:c", 1 + (3 + 4 + 2 + 2 + 2) + (3 + 9 + 2 + 1) + 1, 14 + 2),
    ("u:a a:b u:cd", 1 + (3 + 4 + 2 + 1) + (3 + 9 + 2 + 1) + (3 + 4 + 2 + 2) + 1, 11 + 2),
    ("u:a a:b i:c u:d", 1 + (3 + 4 + 2 + 1) + (3 + 9 + 2 + 1) + (3 + 7 + 2 + 1) + (3 + 4 + 2 + 1) + 1, 11 + 2),
]
# each message: begin, role, newline, text, end, newline; the last one of the assistant ends with the text; end
QWEN = [
    ("s:ab u:cde a:fghi", (2 + 7 + 2 + 1) + (2 + 5 + 3 + 1) + (1 + 10 + 4) + 1, 23 + 2),
    ("u:_ab_ a:c", (2 + 5 + 4 + 1) + (1 + 10 + 1) + 1, 12 + 2),
    ("u:ab+cd a:c", (2 + 5 + 4 + 1) + (1 + 10 + 1) + 1, 12 + 2),
    ("u:a a:b u:cd", (2 + 5 + 1 + 1) + (2 + 10 + 1 + 1) + (2 + 5 + 2 + 1) + 1, 9 + 2),
    # a tool response: begin, `user`, `<tool_response>` on a line, text, `</tool_response>` on a line, end
    ("u:a a:b i:c u:d", (2 + 5 + 1 + 1) + (2 + 10 + 1 + 1) + (2 + 5 + 16 + 1 + 17 + 1) + (2 + 5 + 1 + 1) + 1, 9 + 2),
    # several tool responses are one message: begin and `user` before the first, end after the last
    (
        "u:a a:b i:c i:de i:f u:g a:h",
        (2 + 5 + 1 + 1) + (2 + 10 + 1 + 1) + (1 + 5 + 16 + 1 + 17) + (17 + 2 + 17) + (1 + 17 + 1 + 17 + 1)
        + (2 + 5 + 1 + 1) + (1 + 10 + 1) + 1,
        9 + 2,
    ),
    # the first message has no predecessor
    ("i:c u:a a:b i:d", (2 + 5 + 16 + 1 + 17 + 1) + (2 + 5 + 1 + 1) + (2 + 10 + 1 + 1) + (2 + 5 + 16 + 1 + 17 + 1) + 1, 51 + 2),
    ("u:a a:b i:c", (2 + 5 + 1 + 1) + (2 + 10 + 1 + 1) + (2 + 5 + 16 + 1 + 17 + 1) + 1, 9 + 2),
]  # fmt: skip
# begin, role, separator, text, end; the role of the assistant has one token less
PHI4 = [
    ("s:ab u:cde a:fghi", (3 + 6 + 2) + (3 + 4 + 3) + (2 + 9 + 4), 21 + 1),
    ("u:_ab_ a:c", (3 + 4 + 3) + (2 + 9 + 1), 10 + 1),  # trailing spaces are removed
    ("u:a a:b u:cd", (3 + 4 + 1) + (2 + 9 + 1) + (3 + 4 + 2), 8 + 1),
]
# a turn: begin, `[INST] `, text, ` [/INST] `, each with a space before it and none after it; text, end
MISTRAL = [
    ("u:cde a:fghi", 1 + (7 + 4 + 9) + (1 + 4) + 1, 21 + 1),
    ("u:cd_ a:f", 1 + (7 + 3 + 9) + (1 + 1) + 1, 20 + 1),
    ("u:a a:b u:cd a:e", 1 + (7 + 2 + 9) + (1 + 1) + 1 + 1 + (7 + 3 + 9) + (1 + 1) + 1, 19 + 1),
    # a further message of the turn has no space before it, because the previous one does not end with one
    ("u:a i:b u:c a:d", 1 + (7 + 2 + 9) + (1 + 1) + (6 + 1 + 8) + (1 + 1) + 1, 36 + 1),
]
# a turn: begin, texts, end; no space is added before a text
GEMMA = [
    ("u:cde a:fghi", 1 + 3 + 4 + 1, 4 + 1),
    ("u:c_ a:_f", 1 + 1 + 2 + 1, 2 + 1),  # trailing spaces are removed
    ("u:a+bc a:f", 1 + 3 + 1 + 1, 4 + 1),
    ("u:a a:b u:cd a:e", 1 + 1 + 1 + 1 + 1 + 2 + 1 + 1, 2 + 1),
    ("u:a a:b u:cd", 1 + 1 + 1 + 1 + 1 + 2, 2 + 1),
    ("u:a i:b u:c a:d", 1 + 1 + 1 + 1 + 1 + 1, 4 + 1),
]
# begin; each message: role, newline with a space before it, text without one, end, newline as before
PHI3 = [
    ("s:ab u:cde a:fghi", 1 + (2 + 4 + 2) + (2 + 4 + 3) + (2 + 4 + 4), 18 + 1),
    ("u:a_ a:b", 1 + (2 + 4 + 1) + (2 + 4 + 1), 8 + 1),
    ("u:a a:b u:cd", 1 + (2 + 4 + 1) + (2 + 4 + 1) + (2 + 4 + 2), 8 + 1),
]
CHATS = {"llama3": LLAMA3, "qwen2_5": QWEN, "phi4": PHI4, "mistral": MISTRAL, "gemma": GEMMA, "phi3": PHI3}


@pytest.mark.parametrize(
    ("name", "turns", "whole", "labelled"), [(name, *case) for name, cases in CHATS.items() for case in cases]
)
def test_lengths_of_chats(name: str, turns: str, whole: int, labelled: int, folder: Path, tokens: Tokens) -> None:
    assert measured(form_of(name, folder, CHAT), tokens, chat(turns)) == (whole, labelled)


PAIR = {"input": "cde", "output": "fghi"}
INSTRUCTIONS: list[tuple[str, dict[str, Any], int, int]] = [
    ("llama3", {}, 1 + 12 + 18 + 1, 13 + 2),
    ("llama3", {"system_prompt": "ab"}, 1 + 13 + 12 + 18 + 1, 26 + 2),
    ("llama3", {"around": ("Q:", "!")}, 1 + (9 + 2 + 3 + 1) + 18 + 1, 16 + 2),
    ("llama3", {"around": ("", "!")}, 1 + (9 + 3 + 1) + 18 + 1, 14 + 2),
    ("llama3", {"train_on_input": True}, 1 + 12 + 18 + 1, 1 + 2),
    ("llama3", {"train_on_input": True, "system_prompt": "ab"}, 1 + 13 + 12 + 18 + 1, 14 + 2),
    ("qwen2_5", {}, 11 + 15 + 1, 11 + 2),
    ("qwen2_5", {"train_on_input": True}, 11 + 15 + 1, 1 + 2),  # nothing precedes the first token
    ("qwen2_5", {"around": ("Q:", "")}, 2 + 11 + 15 + 1, 13 + 2),
    ("phi4", {"around": ("Q:", "!")}, (3 + 4 + 2 + 3 + 1) + 15, 13 + 1),
    ("phi4", {"train_on_input": True}, 10 + 15, 1 + 1),
    ("mistral", {}, 1 + (7 + 4 + 9) + 5 + 1, 21 + 1),
    ("mistral", {"around": ("Q:", "!")}, 1 + (7 + 4 + 9) + 5 + 1, 21 + 1),  # its own template is used
    ("gemma", {"around": ("Q:", "!")}, 1 + (2 + 3 + 1) + 4 + 1, 7 + 1),
    ("phi3", {"around": ("Q:", "!")}, 1 + (2 + 4 + 2 + 3 + 1) + 10, 13 + 1),
]
MASKED: list[tuple[dict[str, Any], int]] = [
    ({}, 26 + 2), ({"train_on_input": True}, 1 + 2), ({"train_on_input": True, "system_prompt": "xy"}, 14 + 2),
]  # fmt: skip
TEXTS = [
    ("llama3", "abc", 1 + 3 + 1, True), ("llama3", "", 0, False),
    ("qwen2_5", "abc", 3 + 1, True), ("qwen2_5", "a", 1 + 1, True), ("qwen2_5", "", 1, False),
    ("phi4", "abc", 1 + 3 + 1, True), ("phi4", "", 2, True),
    ("mistral", "abc", 1 + 4 + 1, True), ("mistral", "", 2, True),
    ("gemma", "ab c", 1 + 4 + 1, True), ("gemma", "", 2, True),
    ("phi3", "abc", 1 + 4 + 1, True), ("phi3", "", 2, True),
]  # fmt: skip
CHARACTERS = [
    ("llama3", "\u00e9", 2), ("llama3", "e\u0301", 3), ("llama3", "<|eot_id|>", 10), ("llama3", "a" * 60, 60),
    ("qwen2_5", "e\u0301", 2), ("qwen2_5", "\u0958", 6), ("qwen2_5", "a<|im_end|>b<|im_end|>", 4),
    ("qwen2_5", "<tool_call>a</tool_call>", 3), ("qwen2_5", "<|eot_id|>", 10),
    ("phi4", "\u65e5 1\n", 6), ("phi4", "e\u0301", 3), ("phi4", "<|im_end|>", 10),
    ("gemma", "\u65e5 1\n", 6), ("gemma", "  ", 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "more", "whole", "labelled"), INSTRUCTIONS)
def test_lengths_of_instructions(
    name: str, more: dict[str, Any], whole: int, labelled: int, folder: Path, tokens: Tokens
) -> None:
    assert measured(form_of(name, folder, INSTRUCT, **more), tokens, PAIR) == (whole, labelled)


@pytest.mark.parametrize(("more", "labelled"), MASKED)
def test_only_a_system_prompt_of_the_data_is_trained_on_with_the_input(
    more: dict[str, Any], labelled: int, folder: Path, tokens: Tokens
) -> None:
    row = chat("s:ab u:cde a:fghi")
    assert measured(form_of("llama3", folder, CHAT, **more), tokens, row) == (45, labelled)


@pytest.mark.parametrize(("name", "text", "length", "labels"), TEXTS)
def test_lengths_of_texts(name: str, text: str, length: int, labels: bool, folder: Path, tokens: Tokens) -> None:
    """Truncate a text at max_seq_len - 1; its first token has no label, because nothing precedes it."""
    found = measured(form_of(name, folder, TEXT), tokens, {"text": text})
    assert found == (length + 1, 3 if labels else None)


@pytest.mark.parametrize(("name", "text", "count"), CHARACTERS)
def test_tokens_of_special_characters(name: str, text: str, count: int, folder: Path, tokens: Tokens) -> None:
    form = form_of(name, folder, TEXT)
    one = measured(form, tokens, {"text": "a"}).whole - 1
    assert measured(form, tokens, {"text": text}).whole - one == count


def test_the_end_of_the_prompt_decides_about_the_space_before_the_answer(tmp_path: Path) -> None:
    """Let Gemma's tokenizer add a prefix: it puts a space before a text unless the previous one ends with a space."""
    write_tokenizers(tmp_path)
    (tmp_path / MODELS["gemma"] / "tokenizer.model").write_bytes(sentencepiece_file(prefix=True))
    lengths = {
        turns: measured(form_of("gemma", tmp_path, CHAT, around=around), Tokens(), chat(turns)).whole
        for around, turns in ((("", ""), "u:c a:f"), (("", ""), "u:c_ a:f"), (("", "!"), "u:cd_ a:f"))
    }
    assert lengths == {"u:c a:f": 1 + 2 + 1 + 1, "u:c_ a:f": 1 + 2 + 2 + 1, "u:cd_ a:f": 1 + 3 + 2 + 1 + 1}


# --- without a tokenizer ----------------------------------------------------------------------------------------------

NOTHING = Tokens(budget=0)
Bounds = tuple[int, int, int]
# a text has at least one token per word, probably one per four bytes, and at most one per byte
BOUNDS: list[tuple[str, str, dict[str, Any], dict[str, Any], Bounds, Bounds]] = [
    # begin and end, 3 tokens per message, its role and the newlines, each of which is at least one token
    ("llama3", CHAT, {}, chat("u:aa_bbbbbbb a:c_c_c_c_c_c_c_c_c_c"),
     (2 + 5 + 2 + 5 + 10, 2 + 5 + 3 + 5 + 10, 2 + (3 + 4 + 2 + 10) + (3 + 9 + 2 + 19)), (1 + 5 + 2, 1 + 5 + 3, 1 + 9 + 10)),
    ("llama3", INSTRUCT, {"around": ("Say this:", ""), "system_prompt": "a b"}, {"input": "x", "output": "y " * 40},
     (2 + 5 + 2 + 5 + 2 + 1 + 5 + 40, 2 + 5 + 2 + 5 + 3 + 1 + 5 + 40, 2 + 11 + 3 + 9 + 9 + 1 + 14 + 80),
     (1 + 5 + 2 + 5 + 2 + 1, 1 + 5 + 2 + 5 + 3 + 1, 1 + 11 + 3 + 9 + 9 + 1)),
    ("llama3", TEXT, {}, {"text": "a" * 90}, (2 + 1, 2 + 23, 2 + 90), (1, 1, 1)),
    # NFC turns three bytes into six
    ("qwen2_5", CHAT, {}, chat("u:\u0958 a:c_c_c_c_c_c_c_c_c_c_c_c"),
     (3 + 1 + 1 + 2 + 12 + 1, 3 + 2 + 1 + 2 + 12 + 1, (2 + 5 + 6 + 1) + (1 + 10 + 23) + 1), (3 + 1 + 1, 3 + 2 + 1, 2 + 5 + 6 + 1)),
    # a text has an additional token for the space before it
    ("mistral", INSTRUCT, {}, {"input": "x x x", "output": "y " * 30},
     (1 + 1 + 3 + 1 + 30 + 1, 1 + 2 + 3 + 2 + 30 + 1, 1 + 7 + 6 + 9 + 61 + 1), (1 + 1 + 3 + 1, 1 + 2 + 3 + 2, 1 + 7 + 6 + 9)),
    # an empty text has no token
    ("mistral", INSTRUCT, {}, {"input": "", "output": "y " * 30},
     (1 + 1 + 1 + 30 + 1, 1 + 2 + 2 + 30 + 1, 1 + 7 + 9 + 61 + 1), (1 + 1 + 1, 1 + 2 + 2, 1 + 7 + 9)),
    ("gemma", INSTRUCT, {}, {"input": "xxxxx", "output": "y " * 30}, (1 + 1 + 30 + 1, 1 + 2 + 30 + 1, 1 + 6 + 61 + 1), (2, 3, 7)),
    ("phi3", INSTRUCT, {"train_on_input": True}, {"input": "xxxxx", "output": "y " * 30},
     (1 + 4 + 1 + 4 + 30, 1 + 4 + 2 + 4 + 30, 1 + 6 + 6 + 6 + 61), (1, 1, 1)),
    ("phi4", INSTRUCT, {}, {"input": "xxxxx", "output": "y " * 30}, (4 + 1 + 3 + 30, 4 + 2 + 3 + 30, 7 + 5 + 11 + 60), (5, 6, 12)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "more", "row", "length", "before"), BOUNDS)
def test_bounds_of_lengths_and_of_the_tokens_before_the_first_label(
    name: str, kind: str, more: dict[str, Any], row: dict[str, Any], length: Bounds, before: Bounds
) -> None:
    seen = {
        size: counted(form_of(name, None, kind, max_seq_len=size, **more), NOTHING, row)
        for size in range(1 + (kind == TEXT), length[2] + 20)
    }
    text, last = (
        kind == TEXT,
        name in {"llama3", "qwen2_5"} and kind != TEXT,
    )  # the tokens that a sample loses; its last label

    def sizes(wanted: Callable[[SampleCounts], object]) -> set[int]:
        return {size for size, found in seen.items() if wanted(found)}

    def up_to(bound: int) -> set[int]:
        return {size for size in seen if size < bound}

    assert sizes(lambda found: found.cut.count) == up_to(length[0] + text)
    assert sizes(lambda found: found.likely_cut.count) == up_to(length[1] + text)
    assert sizes(lambda found: found.empty.count) == up_to(before[0] + text + 1 + last)
    assert sizes(lambda found: found.likely_empty.count) == up_to(before[1] + text + 1 + last)
    assert sizes(lambda found: not found.exact) == (
        up_to(length[2] + text) - up_to(length[0] + text)
        | up_to(before[2] + text + 1 + last) - up_to(before[0] + text + 1 + last)
    )
    assert {found.longest for found in seen.values() if found.likely_cut.count} == {length[1]}
