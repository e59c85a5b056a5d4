"""Counting of tokens as torchtune 0.6.1 does it: by the libraries that it uses itself, where they are installed.

`pip install "scaffold-torchtune[tokens]"` brings them: tiktoken (Llama 3, and the byte-level BPE of Qwen2.5 and Phi-4)
and sentencepiece (Mistral, Gemma, Phi-3). Without them, or without the tokenizer's files, lengths are estimated.
"""

import base64
import functools
import importlib
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from scaffold_torchtune.preflight.disk import Unfit, regular_file

# CL100K_PATTERN of models/llama3/_tokenizer.py
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# PRETOKENIZE_REGEX of models/qwen2/_tokenizer.py
_QWEN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# `pat` of GPT2BaseTokenizer, modules/transforms/tokenizers/_gpt2.py, by Python's re as there
_PHI4: Final = re.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\w]+| ?\d+| ?[^\s\w\d]+|\s+(?!\S)|\s+""")
# QWEN2_5_SPECIAL_TOKENS of models/qwen2_5/_tokenizer.py, each one token wherever it stands in a text
_QWEN_SPECIAL: Final = (
    "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start",
    "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad", "fim_prefix", "fim_middle",
    "fim_suffix", "fim_pad", "repo_name", "file_sep",
)  # fmt: skip
_MAX_FILE: Final = 64 * 1024**2  # the largest of the models here has 4 MiB
_BYTES: Final = 256


class TokenCounter(Protocol):
    """Counts the tokens of a text."""

    def count(self, text: str, *, trim: bool = False) -> int:
        """Return how many tokens the text is; `trim` as `trim_leading_whitespace` of torchtune's sentencepiece."""
        ...


def counter_of(tokenizer: str, files: Sequence[str]) -> TokenCounter | None:
    """Return what counts as a model's tokenizer does; None where its library or its files are not there.

    Args:
        tokenizer: torchtune's builder of the tokenizer.
        files: the files that it reads, in the order of the registry of models.
    """
    if tokenizer not in _MAKERS or importlib.util.find_spec(_MAKERS[tokenizer][0]) is None:
        return None
    try:
        return _MAKERS[tokenizer][1](*[_content(file) for file in files])
    except (Unfit, OSError, ValueError, TypeError, LookupError, RuntimeError, OverflowError):
        return None  # what is wrong with the files is told of the model's directory


def _content(path: str) -> bytes:
    with regular_file(path) as file:
        return file.read(_MAX_FILE)


class _ByteLevel:
    """Byte-level BPE by tiktoken: the text is split by a pattern, and each piece merged."""

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


def _llama3(model: bytes) -> TokenCounter:
    """The format of tiktoken's own files: on each line a token in base64, and its rank."""
    lines = (line.split() for line in model.splitlines() if line)
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    return _ByteLevel(ranks, _LLAMA3, _whole)


def _byte_level(merges: Sequence[str], pattern: str, split: Callable[[str], Sequence[str]]) -> TokenCounter:
    """The merges of byte-level BPE, the first one first. What is not in the vocabulary is a token all the same.

    tiktoken merges by the rank of what comes of it, GPT-2's BPE by that of the pair. In a list of merges that was
    learnt, each pair stands behind what its halves come of, and both are the same.
    """
    letters = _letters()
    ranks = {bytes([byte]): byte for byte in range(_BYTES)}
    for line in merges:
        first, second = line.split()
        ranks.setdefault(bytes(letters[letter] for letter in first + second), len(ranks))
    return _ByteLevel(ranks, pattern, split)


@functools.cache
def _letters() -> dict[str, int]:
    """The byte that each letter of a vocabulary stands for (bytes_to_unicode of models/qwen2/_tokenizer.py)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(_BYTES) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(_BYTES + number): byte for number, byte in enumerate(others)}


class _Qwen:
    """Texts in NFC, in which special tokens are one token each."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        names = (*(f"<|{name}|>" for name in _QWEN_SPECIAL), "<tool_call>", "</tool_call>")
        self._special = re.compile("|".join(map(re.escape, names)))

    def count(self, text: str, *, trim: bool = False) -> int:  # noqa: ARG002 - nothing is put before a text
        pieces = self._special.split(unicodedata.normalize("NFC", text))
        return len(pieces) - 1 + sum(self._counter.count(piece) for piece in pieces)


def _qwen(_vocabulary: bytes, merges: bytes) -> TokenCounter:
    lines = [line.strip() for line in merges.decode().split("\n")]
    head = 1 if lines[0].startswith("#version:") else 0
    return _Qwen(_byte_level([line for line in lines[head:] if line], _QWEN, _whole))


def _phi4(_vocabulary: bytes, merges: bytes) -> TokenCounter:
    lines = merges.decode().split("\n")[1:-1]  # the first and the last are left out, whatever they hold
    return _byte_level(lines, r"(?s:.+)", _PHI4.findall)


class _SentencePiece:
    """sentencepiece, with white space trimmed as SentencePieceBaseTokenizer does: a prefix is encoded and cut off."""

    def __init__(self, model: bytes) -> None:
        self._processor: Any = importlib.import_module("sentencepiece").SentencePieceProcessor(model_proto=model)
        self._prefix = len(self._processor.encode("\n"))

    def count(self, text: str, *, trim: bool = False) -> int:
        if trim:
            return len(self._processor.encode(f"\n{text}")) - self._prefix
        return len(self._processor.encode(text))


_MAKERS: Final[Mapping[str, tuple[str, Callable[..., TokenCounter]]]] = {
    "torchtune.models.llama3.llama3_tokenizer": ("tiktoken", _llama3),
    "torchtune.models.qwen2_5.qwen2_5_tokenizer": ("tiktoken", _qwen),
    "torchtune.models.phi4.phi4_tokenizer": ("tiktoken", _phi4),
    "torchtune.models.mistral.mistral_tokenizer": ("sentencepiece", _SentencePiece),
    "torchtune.models.gemma.gemma_tokenizer": ("sentencepiece", _SentencePiece),
    "torchtune.models.phi3.phi3_mini_tokenizer": ("sentencepiece", _SentencePiece),
}
"""The library that counts for a tokenizer, and what makes a counter of the contents of its files."""
