"""What torchtune 0.6.1 demands of the conversations of a data set, read from its source.

`OpenAIToMessages` and `validate_messages` are in torchtune/data/_messages.py; what a tokenizer takes besides is in
`tokenize_messages` of torchtune/models/*/_tokenizer.py and in mistral/_prompt_template.py.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

ROLES: Final = ("system", "user", "assistant", "ipython", "tool")

_TAKEN: Final = {
    "torchtune.models.mistral.mistral_tokenizer": ("user", "assistant", "ipython"),  # keys of MistralChatTemplate
    "torchtune.models.phi3.phi3_mini_tokenizer": ("system", "user", "assistant"),  # any other raises
}
"""The roles that a tokenizer takes, where it does not take all."""

_GLUED: Final = "torchtune.models.gemma.gemma_tokenizer"  # nothing is put between messages


class Message(NamedTuple):
    """A message as torchtune makes it: its role, and its texts, which are encoded one by one."""

    role: str
    texts: tuple[str, ...]


def message_faults(messages: Sequence[Any]) -> Iterator[str]:
    """Yield what is wrong with a conversation of any run: what is no message, and contents that are no text."""
    if not messages:
        yield "there is no message in it"
    for message in messages:
        if not isinstance(message, dict):
            yield "a message is no object"
            continue
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            yield f"a message has no role among {', '.join(ROLES[:-1])} and {ROLES[-1]}"
        if isinstance(content, list):
            yield from _content_faults(content)
        elif not isinstance(content, str):
            yield "a message has no text as its content"


def _content_faults(content: Sequence[Any]) -> Iterator[str]:
    """Parts of a content that torchtune does not encode: of others than text and images nothing arrives, unsaid."""
    if not content:
        yield "a message has no text as its content"
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            yield "a part of a message's content is no object with a type"
        elif part["type"] == "image_url":
            yield "a message holds an image, which the models here do not take"
        elif part["type"] != "text" or not isinstance(part.get("text"), str):
            yield "a part of a message's content is no text"


def messages_of(cell: Any) -> list[Message] | None:
    """Return a conversation; None where it has a fault of `message_faults`."""
    if not isinstance(cell, list) or next(iter(message_faults(cell)), None):
        return None
    return [Message(message["role"], _texts(message["content"])) for message in cell]


def _texts(content: Any) -> tuple[str, ...]:
    return (content,) if isinstance(content, str) else tuple(part["text"] for part in content)


def with_system_prompt(messages: Sequence[Message], system_prompt: str) -> list[Message]:
    """Return the messages that are trained on: a system prompt of the run takes the place of those of the data."""
    if not system_prompt:
        return list(messages)
    return [Message("system", (system_prompt,)), *(each for each in messages if each.role != "system")]


def turn_faults(messages: Sequence[Message], tokenizer: str, *, train_on_input: bool) -> Iterator[str]:
    """Yield why torchtune would not train on a conversation as it stands.

    Args:
        messages: the conversation, with the system prompt of the run.
        tokenizer: torchtune's builder of the tokenizer; empty where it is not known.
        train_on_input: whether what is not the assistant's is trained on too.
    """
    roles = [message.role for message in messages]
    if len(roles) < 2:  # noqa: PLR2004 - as validate_messages has it
        yield "it has fewer than two messages, which torchtune refuses"
    last = "assistant"
    for number, role in enumerate(roles):
        if role == "assistant" and last != "user":
            after = f"a message of {last}" if number else "nothing"
            yield f"an assistant's message follows {after}, where torchtune wants a user's message before it"
        if role == last == "user":
            yield "two messages of the user follow each other, which torchtune refuses"
        if role == "system" and number:
            yield "a system message is not the first, which torchtune refuses"
        last = role
    taken = _TAKEN.get(tokenizer, ROLES)
    for role in dict.fromkeys(roles):
        if role not in taken:
            yield f"it has a message of {role}, for which the model's template in torchtune raises an error"
    if tokenizer == _GLUED and "system" in roles:
        yield "it has a system message, which the model's tokenizer in torchtune puts right before the user's text"
    if "assistant" not in roles and not train_on_input:
        yield "it has no message of the assistant, so nothing of it is trained on"
