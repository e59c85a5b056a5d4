"""Tokenizers of torchtune 0.6.1: the layout of conversations, the conversations that they refuse, and token counts.

`OpenAIToMessages` and `validate_messages` are in torchtune/data/_messages.py. Further restrictions and the layouts are
in `tokenize_messages` of torchtune/models/*/_tokenizer.py and in mistral/_prompt_template.py.
tests/contract/test_sample_lengths.py compares this module with the tokenizers themselves.

Tokens are counted by the libraries that torchtune uses itself, if they are installed:
`pip install "scaffold-torchtune[tokens]"` installs tiktoken (Llama 3, and the byte-level BPE of Qwen2.5 and Phi-4) and
sentencepiece (Mistral, Gemma, Phi-3). Without them, or without the tokenizer's files, lengths are estimated.
"""

import base64
import functools
import importlib
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from scaffold_torchtune.preflight.disk import Unfit, regular_file

ROLES: Final = ("system", "user", "assistant", "ipython", "tool")

_TAKEN: Final = {
    "torchtune.models.mistral.mistral_tokenizer": ("user", "assistant", "ipython"),  # keys of MistralChatTemplate
    "torchtune.models.phi3.phi3_mini_tokenizer": ("system", "user", "assistant"),  # any other raises
}
"""The accepted roles of tokenizers that do not accept all roles."""

_GLUED: Final = "torchtune.models.gemma.gemma_tokenizer"  # it puts nothing between messages


class Message(NamedTuple):
    """A message as torchtune makes it: its role, and its texts, which are encoded separately."""

    role: str
    texts: tuple[str, ...]


def message_faults(messages: Sequence[Any]) -> Iterator[str]:
    """Yield faults of a conversation in any run: values that are not messages, and contents that are not text."""
    if not messages:
        yield "the conversation has no messages"
    for message in messages:
        if not isinstance(message, dict):
            yield "a message is not an object"
            continue
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            yield f"the role of a message is not one of {', '.join(ROLES)}"
        if isinstance(content, list):
            yield from _content_faults(content)
        elif not isinstance(content, str):
            yield "the content of a message is not text"


def _content_faults(content: Sequence[Any]) -> Iterator[str]:
    """Yield parts of a content that torchtune does not encode: it silently skips parts other than text and images."""
    if not content:
        yield "the content of a message is not text"
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            yield "a part of the content of a message is not an object with a type"
        elif part["type"] == "image_url":
            yield "a message contains an image, which these models do not accept"
        elif part["type"] != "text" or not isinstance(part.get("text"), str):
            yield "a part of the content of a message is not text"


def messages_of(cell: Any) -> list[Message] | None:
    """Return a conversation; None if it has a fault of `message_faults`."""
    if not isinstance(cell, list) or next(iter(message_faults(cell)), None):
        return None
    return [Message(message["role"], _texts(message["content"])) for message in cell]


def _texts(content: Any) -> tuple[str, ...]:
    return (content,) if isinstance(content, str) else tuple(part["text"] for part in content)


def with_system_prompt(messages: Sequence[Message], system_prompt: str) -> list[Message]:
    """Return the messages used in training: a system prompt of the run replaces the system messages of the data."""
    if not system_prompt:
        return list(messages)
    return [Message("system", (system_prompt,)), *(each for each in messages if each.role != "system")]


def turn_faults(messages: Sequence[Message], tokenizer: str, *, train_on_input: bool) -> Iterator[str]:
    """Yield reasons why torchtune would not train on a conversation.

    Args:
        messages: the conversation, with the system prompt of the run.
        tokenizer: torchtune's builder of the tokenizer; empty if unknown.
        train_on_input: whether messages of other roles than the assistant are trained on too.
    """
    roles = [message.role for message in messages]
    if len(roles) < 2:  # noqa: PLR2004 - as validate_messages has it
        yield "the conversation has fewer than two messages, which torchtune rejects"
    last = "assistant"
    for number, role in enumerate(roles):
        if role == "assistant" and last != "user":
            place = f"follows a message with the role {last}" if number else "is the first message"
            yield f"a message of the assistant {place}, but torchtune requires a message of the user before it"
        if role == last == "user":
            yield "two messages of the user follow each other, which torchtune rejects"
        if role == "system" and number:
            yield "a system message is not the first message, which torchtune rejects"
        last = role
    taken = _TAKEN.get(tokenizer, ROLES)
    for role in dict.fromkeys(roles):
        if role not in taken:
            yield f"a message has the role {role}, for which the model's template in torchtune raises an error"
    if tokenizer == _GLUED and "system" in roles:
        yield (
            "the model's tokenizer in torchtune joins the system message to the text of the user without a separator"
        )
    if "assistant" not in roles and not train_on_input:
        yield "the conversation has no message of the assistant, so it contains nothing to train on"


class Piece(NamedTuple):
    """A part of a sample: special tokens, or a text; `fixed`: a text of the layout, not of the data."""

    masked: bool
    tokens: int = 0
    text: str = ""
    fixed: bool = False
    trim: bool = False


Masked = Sequence[tuple[Message, bool]]
"""A conversation, with a flag for each message: whether it is masked."""


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
    """Yield pieces of tokenize_messages_no_special_tokens (modules/transforms/tokenizers/_utils.py): Mistral, Gemma."""
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
    """Yield the pieces of MistralChatTemplate in models/mistral/_prompt_template.py."""
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
    """The layout of a tokenizer's samples.

    `pieces`: the pieces of a conversation. `ends`: special tokens around a text without messages; `around_nothing`:
    whether an empty text has them too. `last_masked`: the last token of a sample never has a label.
    `templates_input`: whether the run's prompt is put around the input, instead of the model's own template.
    `more`: tokens that a text may have in addition to its bytes. `normalized`: texts are normalized to NFC first.
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
"""Layouts by torchtune's builder of the tokenizer."""


# CL100K_PATTERN of models/llama3/_tokenizer.py
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# PRETOKENIZE_REGEX of models/qwen2/_tokenizer.py
_QWEN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# `pat` of GPT2BaseTokenizer, modules/transforms/tokenizers/_gpt2.py, which also uses Python's re
_PHI4: Final = re.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\w]+| ?\d+| ?[^\s\w\d]+|\s+(?!\S)|\s+""")
# QWEN2_5_SPECIAL_TOKENS of models/qwen2_5/_tokenizer.py, each one token anywhere in a text
_QWEN_SPECIAL: Final = (
    "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start",
    "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad", "fim_prefix", "fim_middle",
    "fim_suffix", "fim_pad", "repo_name", "file_sep",
)  # fmt: skip
_MAX_FILE: Final = 64 * 1024**2  # the largest of these models has 4 MiB
_BYTES: Final = 256


class TokenCounter(Protocol):
    """Counts the tokens of a text."""

    def count(self, text: str, *, trim: bool = False) -> int:
        """Return the number of tokens of a text; `trim` as `trim_leading_whitespace` of torchtune's sentencepiece."""
        ...


def counter_of(tokenizer: str, files: Sequence[str]) -> TokenCounter | None:
    """Return a counter like the model's tokenizer; None without its library or its files.

    Args:
        tokenizer: torchtune's builder of the tokenizer.
        files: the files that it reads, in the order of the model registry.
    """
    if tokenizer not in _MAKERS or importlib.util.find_spec(_MAKERS[tokenizer][0]) is None:
        return None
    try:
        return _MAKERS[tokenizer][1](*[_content(file) for file in files])
    except (Unfit, OSError, ValueError, TypeError, LookupError, RuntimeError, OverflowError):
        return None  # faults of the files are reported for the model's directory


def _content(path: str) -> bytes:
    with regular_file(path) as file:
        return file.read(_MAX_FILE)


class _ByteLevel:
    """Byte-level BPE by tiktoken: a pattern splits the text, and merges combine the bytes of each part."""

    def __init__(self, ranks: Mapping[bytes, int], pattern: str, split: Callable[[str], Sequence[str]]) -> None:
        if len(set(ranks.values())) < len(ranks) or any(bytes([byte]) not in ranks for byte in range(_BYTES)):
            raise ValueError  # tiktoken would panic
        encoding: Any = importlib.import_module("tiktoken").Encoding
        self._encoding = encoding("counted", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self._split = split

    def count(self, text: str, *, trim: bool = False) -> int:  # noqa: ARG002 - nothing is put before a text
        return sum(len(self._encoding.encode_ordinary(piece)) for piece in self._split(text))


def _whole(text: str) -> Sequence[str]:
    return (text,)


def _llama3_counter(model: bytes) -> TokenCounter:
    """Return the ranks of tiktoken's own file format: each line has a token in base64, and its rank."""
    lines = (line.split() for line in model.splitlines() if line)
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    return _ByteLevel(ranks, _LLAMA3, _whole)


def _byte_level(merges: Sequence[str], pattern: str, split: Callable[[str], Sequence[str]]) -> TokenCounter:
    """Return a counter by the merges of byte-level BPE, in order. Merges outside the vocabulary are tokens too.

    tiktoken merges by the rank of the merged token, GPT-2's BPE by the rank of the pair. In a learnt list of merges,
    each pair follows the merges that produce its halves, so both orders are the same.
    """
    letters = _letters()
    ranks = {bytes([byte]): byte for byte in range(_BYTES)}
    for line in merges:
        first, second = line.split()
        ranks.setdefault(bytes(letters[letter] for letter in first + second), len(ranks))
    return _ByteLevel(ranks, pattern, split)


@functools.cache
def _letters() -> dict[str, int]:
    """Return the byte of each letter of a vocabulary (bytes_to_unicode of models/qwen2/_tokenizer.py)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(_BYTES) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(_BYTES + number): byte for number, byte in enumerate(others)}


class _Qwen:
    """A counter of texts in NFC, in which each special token is one token."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        names = (*(f"<|{name}|>" for name in _QWEN_SPECIAL), "<tool_call>", "</tool_call>")
        self._special = re.compile("|".join(map(re.escape, names)))

    def count(self, text: str, *, trim: bool = False) -> int:  # noqa: ARG002 - nothing is put before a text
        pieces = self._special.split(unicodedata.normalize("NFC", text))
        return len(pieces) - 1 + sum(self._counter.count(piece) for piece in pieces)


def _qwen_counter(_vocabulary: bytes, merges: bytes) -> TokenCounter:
    lines = [line.strip() for line in merges.decode().split("\n")]
    head = 1 if lines[0].startswith("#version:") else 0
    return _Qwen(_byte_level([line for line in lines[head:] if line], _QWEN, _whole))


def _phi4_counter(_vocabulary: bytes, merges: bytes) -> TokenCounter:
    lines = merges.decode().split("\n")[1:-1]  # the first and the last are removed, whatever they hold
    return _byte_level(lines, r"(?s:.+)", _PHI4.findall)


class _SentencePiece:
    """A counter by sentencepiece. It trims white space with a prefix, as SentencePieceBaseTokenizer does."""

    def __init__(self, model: bytes) -> None:
        self._processor: Any = importlib.import_module("sentencepiece").SentencePieceProcessor(model_proto=model)
        self._prefix = len(self._processor.encode("\n"))

    def count(self, text: str, *, trim: bool = False) -> int:
        if trim:
            return len(self._processor.encode(f"\n{text}")) - self._prefix
        return len(self._processor.encode(text))


_MAKERS: Final[Mapping[str, tuple[str, Callable[..., TokenCounter]]]] = {
    "torchtune.models.llama3.llama3_tokenizer": ("tiktoken", _llama3_counter),
    "torchtune.models.qwen2_5.qwen2_5_tokenizer": ("tiktoken", _qwen_counter),
    "torchtune.models.phi4.phi4_tokenizer": ("tiktoken", _phi4_counter),
    "torchtune.models.mistral.mistral_tokenizer": ("sentencepiece", _SentencePiece),
    "torchtune.models.gemma.gemma_tokenizer": ("sentencepiece", _SentencePiece),
    "torchtune.models.phi3.phi3_mini_tokenizer": ("sentencepiece", _SentencePiece),
}
"""The library for a tokenizer, and a function that makes a counter from the contents of its files."""
