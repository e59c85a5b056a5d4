"""Conversations: what torchtune 0.6.1 demands of them, and how each of its tokenizers lays them out.

`OpenAIToMessages` and `validate_messages` are in torchtune/data/_messages.py; what a tokenizer takes besides is in
`tokenize_messages` of torchtune/models/*/_tokenizer.py and in mistral/_prompt_template.py, which have the layouts too.
tests/contract/test_sample_lengths.py holds what follows from them to the tokenizers themselves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


class Piece(NamedTuple):
    """A part of a sample: some special tokens, or a text; `fixed` is a text of the layout, not of the data."""

    masked: bool
    tokens: int = 0
    text: str = ""
    fixed: bool = False
    trim: bool = False


Masked = Sequence[tuple[Message, bool]]
"""A conversation, and of each message whether it is masked."""


def _end() -> Piece:
    return Piece(masked=True, tokens=1)


def _llama3(messages: Masked) -> Iterator[Piece]:
    yield Piece(masked=True, tokens=1)
    for (role, texts), masked in messages:
        yield Piece(masked, 3)  # start_header, end_header, eot
        yield Piece(masked, text=role, fixed=True)
        yield Piece(masked, text="\n\n", fixed=True)
        yield from (Piece(masked, text=text.strip()) for text in texts)
    yield _end()


def _qwen(messages: Masked) -> Iterator[Piece]:
    for number, ((role, texts), masked) in enumerate(messages):
        header, footer, specials = f"{role}\n", "\n", 2  # im_start, im_end
        if role == "ipython":
            first = number == 0 or messages[number - 1][0].role != role
            last = number == len(messages) - 1 or messages[number + 1][0].role != role
            header = "user\n<tool_response>\n" if first else "\n<tool_response>\n"
            footer, specials = "\n</tool_response>" + ("\n" if last else ""), first + last
        elif role == "assistant" and number == len(messages) - 1:
            footer, specials = "", 1
        yield Piece(masked, specials)
        yield Piece(masked, text=header, fixed=True)
        yield from (Piece(masked, text=text) for text in texts)
        yield Piece(masked, text=footer, fixed=True)
    yield _end()


def _turns(messages: Masked) -> Iterator[Piece]:
    """tokenize_messages_no_special_tokens of modules/transforms/tokenizers/_utils.py: Mistral and Gemma."""
    starts, trim = True, False
    for (role, texts), masked in messages:
        if starts:
            yield Piece(masked, 1)
        for text in texts:
            yield Piece(masked, text=text.rstrip(" "), trim=trim)
        starts = role == "assistant"
        trim = not starts and not (texts and texts[-1].endswith(" "))
        if starts:
            yield Piece(masked, 1)


def _mistral(messages: Masked) -> Iterator[Piece]:
    """MistralChatTemplate of models/mistral/_prompt_template.py."""
    around = {"user": ("[INST] ", " [/INST] ")}
    templated = []
    for (role, texts), masked in messages:
        before, after = around.get(role, ("", ""))
        templated.append((Message(role, (before, *texts, after)), masked))
    yield from _turns(templated)


def _phi3(messages: Masked) -> Iterator[Piece]:
    for number, ((_, texts), masked) in enumerate(messages):
        yield Piece(masked, 3 if number == 0 else 2)  # bos, role, end
        yield from (Piece(masked, text="\n", fixed=True) for _ in range(2))
        yield from (Piece(masked, text=text.rstrip(" "), trim=True) for text in texts)


def _phi4(messages: Masked) -> Iterator[Piece]:
    for (role, texts), masked in messages:
        yield Piece(masked, 2 if role == "assistant" else 3)  # im_start, im_sep, im_end
        yield Piece(masked, text=role, fixed=True)
        yield from (Piece(masked, text=text.rstrip(" ")) for text in texts)


@dataclass(frozen=True)
class Layout:
    """How a tokenizer makes tokens of a sample.

    `pieces`: those of a conversation. `ends`: special tokens around a text without messages; `around_nothing`: whether
    an empty text has them too. `last_masked`: the last token of a sample never has a label.
    `templates_input`: whether a prompt of the run is put around the input, and not a template of the model's own.
    `more`: tokens that a text may have beyond its bytes. `normalized`: texts are brought into NFC first.
    """

    pieces: Callable[[Masked], Iterator[Piece]]
    ends: int = 2
    around_nothing: bool = True
    templates_input: bool = True
    last_masked: bool = False
    more: int = 0
    normalized: bool = False


LAYOUTS: Final[Mapping[str, Layout]] = {
    "torchtune.models.llama3.llama3_tokenizer": Layout(_llama3, around_nothing=False, last_masked=True),
    "torchtune.models.qwen2_5.qwen2_5_tokenizer": Layout(_qwen, ends=1, last_masked=True, normalized=True),
    "torchtune.models.mistral.mistral_tokenizer": Layout(_mistral, templates_input=False, more=1),
    "torchtune.models.gemma.gemma_tokenizer": Layout(_turns, more=1),
    "torchtune.models.phi3.phi3_mini_tokenizer": Layout(_phi3, more=1),
    "torchtune.models.phi4.phi4_tokenizer": Layout(_phi4),
}
"""By torchtune's builder of the tokenizer."""
