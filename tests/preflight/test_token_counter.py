"""Counting tokens with tokenizer files written here; tests/contract/test_sample_lengths.py compares with torchtune."""

import importlib.util
from pathlib import Path

import pytest

from scaffold_torchtune.preflight import tokenizers
from scaffold_torchtune.preflight.tokenizers import TokenCounter, counter_of
from support.byte_tokenizers import sentencepiece_file, tiktoken_file

# ruff: noqa: E501 - the tables of texts have their counts in the same line

LLAMA3 = "torchtune.models.llama3.llama3_tokenizer"
QWEN, PHI4 = "torchtune.models.qwen2_5.qwen2_5_tokenizer", "torchtune.models.phi4.phi4_tokenizer"
SENTENCEPIECE = ("mistral.mistral_tokenizer", "gemma.gemma_tokenizer", "phi3.phi3_mini_tokenizer")


def counter(folder: Path, tokenizer: str, *contents: bytes) -> TokenCounter | None:
    files = [folder / str(number) for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    return counter_of(tokenizer, [str(file) for file in files])


def counts(found: TokenCounter | None, texts: dict[str, int]) -> dict[str, int]:
    assert found is not None
    return {text: found.count(text) for text in texts}


def test_llama3_merges_by_rank_within_the_parts_of_its_pattern(tmp_path: Path) -> None:
    model = tiktoken_file(b"he", b"ll", b"llo", b"hello", b"12", b"123", b"1234", b"  ", b"\xc3\xa9")
    texts = {
        "": 0, "hello": 1, "hell": 2, "hello hello": 3, "1234": 2, "12": 1, "   ": 2, "  a": 3, "\u00e9": 1, "e\u0301": 3,
        "he's": 3, "<|eot_id|>": 10,
    }  # fmt: skip
    assert counts(counter(tmp_path, LLAMA3, model), texts) == texts
    assert counts(counter(tmp_path, LLAMA3, b"\n" + model.replace(b"\n", b"\n\n")), texts) == texts


MERGES = "h e\nl l\nll o\nhe llo\n\u0120 W\n\u00c3 \u00a9\n1 2\n< |"


@pytest.mark.parametrize("head", ["#version: 0.2\n", "", "#version: 0.2 - Trained by `huggingface/tokenizers`\r\n"])
def test_qwen_merges_in_the_order_of_its_file(head: str, tmp_path: Path) -> None:
    texts = {
        "hello": 1, "hell": 2, " W": 1, "a W": 2, "\u00e9": 1, "e\u0301": 1, "12": 2, "<|im_end|>": 1, "a<|im_end|>b": 3,
        "<|": 1, "<tool_call>x</tool_call>": 3, "<|im_ends|>": 10, "": 0,
    }  # fmt: skip
    merges = f"{head}{MERGES}\n\n".encode()
    assert counts(counter(tmp_path, QWEN, b"{}", merges), texts) == texts


@pytest.mark.parametrize(
    "name",
    [
        "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start",
        "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad", "fim_prefix", "fim_middle",
        "fim_suffix", "fim_pad", "repo_name", "file_sep",
    ],
)  # fmt: skip
def test_special_tokens_of_qwen_are_single_tokens(name: str, tmp_path: Path) -> None:
    found = counter(tmp_path, QWEN, b"{}", b"#version: 0.2\n")
    assert counts(found, {f"a<|{name}|>b": 3, f"<|{name}>": 3 + len(name)}) == {
        f"a<|{name}|>b": 3,
        f"<|{name}>": 3 + len(name),
    }


def test_phi4_ignores_the_first_and_the_last_line(tmp_path: Path) -> None:
    found = counter(tmp_path, PHI4, b"{}", f"{MERGES}\nx y".encode())
    texts = {
        "he": 2,
        "ll": 1,
        "llo": 1,
        "xy": 2,
        "12": 1,
        "\u00e9": 1,
        "e\u0301": 3,
        "a W": 2,
        "<|im_end|>": 9,
        "\n \n": 3,
    }
    assert counts(found, texts) == texts


def test_letters_of_a_vocabulary_are_the_bytes_of_gpt2(tmp_path: Path) -> None:
    """Map bytes without a visible letter to letters from 256 on: 0 is \u0100, a space \u0120, 127 \u0121."""
    pairs = ["\u0100 \u0100", "\u0121 ~", "! !", "\u00c2 \u0142", "\u00c2 \u00a1", "\u00c2 \u00ac", "\u00c2 \u0143", "\u00c2 \u00ae",
             "\u00f0 \u0141", "\u00ff \u00ff"]  # fmt: skip
    texts = dict.fromkeys(["\0\0", "\x7f~", "!!", "\u00a0", "\u00a1", "\u00ac", "\u00ad", "\u00ae"], 1) | {
        "\U0001f600": 3
    }
    assert counts(counter(tmp_path, QWEN, b"{}", "\n".join(pairs).encode()), texts) == texts


@pytest.mark.parametrize("tokenizer", SENTENCEPIECE)
def test_sentencepiece_puts_a_space_before_a_text_unless_it_is_trimmed(tokenizer: str, tmp_path: Path) -> None:
    """Expect that torchtune encodes a trimmed text after a newline, which it then removes."""
    for prefix in (True, False):
        found = counter(tmp_path, f"torchtune.models.{tokenizer}", sentencepiece_file(prefix=prefix))
        assert found is not None
        assert [found.count(text) for text in ("", "ab", " a", "\u00e9", "a b")] == [
            0,
            *(n + prefix for n in (2, 2, 2, 3)),
        ]
        assert [found.count(text, trim=True) for text in ("", "ab", " a", "a b")] == [0, 2, 2, 3]


@pytest.mark.parametrize(
    ("tokenizer", "contents"),
    [
        (LLAMA3, [b""]), (LLAMA3, [tiktoken_file().partition(b"\n")[2]]),  # a byte is missing
        (LLAMA3, [tiktoken_file() + b"aGU= 255\n"]),  # two tokens with one rank
        (LLAMA3, [tiktoken_file() + b"a GU= 256\n"]), (LLAMA3, [tiktoken_file() + b"aG*U= 256\n"]),
        (LLAMA3, [tiktoken_file() + b"aGU= x\n"]), (LLAMA3, [tiktoken_file() + b"aGU=\n"]),
        (QWEN, [b"{}", b"#version\nh e l\n"]), (QWEN, [b"{}", b"#version: 0.2\nh\n"]), (QWEN, [b"{}", b"\xff\xfe"]),
        (QWEN, [b"{}", "#version: 0.2\nh \u65e5\n".encode()]), (QWEN, [b"{}"]),
        (PHI4, [b"{}", b"a\nh\nb"]), (f"torchtune.models.{SENTENCEPIECE[0]}", [b"x"]),
        (f"torchtune.models.{SENTENCEPIECE[0]}", [b"x", b"y"]), ("torchtune.models.mine.tokenizer", [b"x"]),
    ],
)  # fmt: skip
def test_an_invalid_tokenizer_counts_nothing(tokenizer: str, contents: list[bytes], tmp_path: Path) -> None:
    assert counter(tmp_path, tokenizer, *contents) is None


def test_without_files_or_library_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counter_of(LLAMA3, []) is None
    assert counter_of(LLAMA3, [str(tmp_path / "none")]) is None
    assert counter_of(LLAMA3, [str(tmp_path)]) is None
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", asked.append)
    for tokenizer in (LLAMA3, QWEN, PHI4, *(f"torchtune.models.{name}" for name in SENTENCEPIECE)):
        assert counter(tmp_path, tokenizer, tiktoken_file()) is None
    assert asked == ["tiktoken"] * 3 + ["sentencepiece"] * 3


def test_the_size_of_a_tokenizer_file_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "_MAX_FILE", len(tiktoken_file()))
    found = counter(tmp_path, LLAMA3, tiktoken_file() + b"no token")
    assert counts(found, {"ab": 2}) == {"ab": 2}
