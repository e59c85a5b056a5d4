"""The rules of torchtune for conversations; tests/contract/test_data_sets.py compares them with torchtune."""

from typing import Any

import pytest

from scaffold_torchtune.preflight.tokenizers import (
    Message,
    message_faults,
    messages_of,
    turn_faults,
    with_system_prompt,
)

LLAMA, MISTRAL = "torchtune.models.llama3.llama3_tokenizer", "torchtune.models.mistral.mistral_tokenizer"
PHI3, GEMMA = "torchtune.models.phi3.phi3_mini_tokenizer", "torchtune.models.gemma.gemma_tokenizer"
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "i": "ipython"}


def chat(turns: str) -> list[Message]:
    return [Message(ROLES[turn], ("x",)) for turn in turns]


@pytest.mark.parametrize(
    ("turns", "count"),
    [
        ("ua", 0), ("sua", 0), ("uaua", 0), ("uau", 0), ("uatua", 0), ("uaiiua", 0), ("utua", 0),
        ("u", 2), ("", 2), ("a", 2), ("au", 1), ("uua", 1), ("uaa", 1), ("sau", 1), ("usa", 2), ("uasua", 1),
        ("uata", 1), ("uaia", 1), ("su", 1), ("ut", 1), ("ss", 2),
    ],
)  # fmt: skip
def test_turns_that_torchtune_refuses_or_cannot_learn_from(turns: str, count: int) -> None:
    assert len(set(turn_faults(chat(turns), LLAMA, train_on_input=False))) == count


def test_an_answer_without_a_question_and_a_second_answer_are_different_faults() -> None:
    first, second = (list(turn_faults(chat(turns), LLAMA, train_on_input=False)) for turns in ("au", "uaa"))
    assert len(first) == len(second) == 1
    assert first != second


def test_training_on_the_input_needs_no_assistant() -> None:
    assert list(turn_faults(chat("su"), LLAMA, train_on_input=True)) == []
    assert len(list(turn_faults(chat("u"), LLAMA, train_on_input=True))) == 1


@pytest.mark.parametrize(
    ("tokenizer", "refused", "taken"),
    [(MISTRAL, "sua", "uaiua"), (MISTRAL, "uatua", "ua"), (PHI3, "uatua", "sua"), (PHI3, "uaiua", "ua"),
     (GEMMA, "sua", "uatua"), ("", "uaa", "suatua")],
)  # fmt: skip
def test_roles_that_a_tokenizer_accepts(tokenizer: str, refused: str, taken: str) -> None:
    assert list(turn_faults(chat(refused), tokenizer, train_on_input=False))
    assert not list(turn_faults(chat(taken), tokenizer, train_on_input=False))


def test_the_system_prompt_replaces_those_of_the_data() -> None:
    found = with_system_prompt(chat("uasua"), "Shout.")
    assert found == [Message("system", ("Shout.",)), *chat("uaua")]
    assert with_system_prompt(chat("sua"), "") == chat("sua")


TEXT: Any = {"type": "text", "text": "x"}


@pytest.mark.parametrize(
    "message",
    [
        5, None, "x", [], {}, {"role": "user"}, {"content": "x"}, {"role": "human", "content": "x"},
        {"role": ["user"], "content": "x"}, {"role": {"user": 1}, "content": "x"}, {"role": None, "content": "x"},
        {"role": 5, "content": "x"}, {"role": True, "content": "x"}, {"role": "user", "content": None},
        {"role": "user", "content": 5}, {"role": "user", "content": {}}, {"role": "user", "content": []},
        {"role": "user", "content": [5]}, {"role": "user", "content": [{}]}, {"role": "user", "content": [None]},
        {"role": "user", "content": [{"type": ["text"], "text": "x"}]},
        {"role": "user", "content": [{"type": "text"}]}, {"role": "user", "content": [{"type": "text", "text": 5}]},
        {"role": "user", "content": [{"type": "audio"}]}, {"role": "user", "content": [{"type": "audio", "text": "x"}]},
        {"role": "user", "content": [TEXT, {"type": "image_url"}]},
    ],
)  # fmt: skip
def test_invalid_messages(message: Any) -> None:
    assert list(message_faults([message]))
    assert messages_of([message]) is None


def test_an_image_and_invalid_content_are_different_faults() -> None:
    image, audio = ({"role": "user", "content": [{"type": kind, "text": "x"}]} for kind in ("image_url", "audio"))
    assert len([*message_faults([image]), *message_faults([audio])]) == 2
    assert list(message_faults([image])) != list(message_faults([audio]))


def test_invalid_conversations() -> None:
    cells: list[Any] = [None, "x", {}, [], 5]
    assert [messages_of(cell) for cell in cells] == [None] * 5


def test_texts_of_a_message_remain_separate() -> None:
    cell: Any = [{"role": "user", "content": [TEXT, TEXT]}, {"role": "assistant", "content": "y"}]
    assert messages_of(cell) == [Message("user", ("x", "x")), Message("assistant", ("y",))]
