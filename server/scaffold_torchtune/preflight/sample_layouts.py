"""How each tokenizer lays out a conversation: its special tokens, its texts, and which of them have no label.

Read from `tokenize_messages` of torchtune/models/*/_tokenizer.py, 0.6.1; tests/contract/test_sample_lengths.py holds
what follows from it to the tokenizers themselves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from scaffold_torchtune.preflight.conversations import Message


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
