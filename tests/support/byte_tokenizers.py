"""Files of tokenizers in which each byte is a token, so that the expected counts are easy to compute.

Those of sentencepiece have one additional token, a space: Mistral's and Phi-3's put one before each text, as real ones
do.
"""

import base64
import struct
from pathlib import Path

MODELS = {
    "llama3": "Llama-3.2-1B-Instruct",
    "qwen2_5": "Qwen2.5-0.5B-Instruct",
    "phi4": "phi-4",
    "mistral": "Mistral-7B-Instruct-v0.1",
    "gemma": "gemma-2-2b-it",
    "phi3": "Phi-3-mini-4k-instruct",
}
"""A model for each tokenizer."""


def write_tokenizers(folder: Path) -> Path:
    """Write the files of each model's tokenizer into its directory below a folder."""
    for model in MODELS.values():
        (folder / model / "original").mkdir(parents=True)
    (folder / MODELS["llama3"] / "original" / "tokenizer.model").write_bytes(tiktoken_file())
    for name in ("qwen2_5", "phi4"):
        (folder / MODELS[name] / "vocab.json").write_text("{}")
        (folder / MODELS[name] / "merges.txt").write_text("#version: 0.2\n")
    for name in ("mistral", "gemma", "phi3"):
        (folder / MODELS[name] / "tokenizer.model").write_bytes(sentencepiece_file(prefix=name != "gemma"))
    return folder


def tiktoken_file(*more: bytes) -> bytes:
    """Return a file of tiktoken with the single bytes and some additional tokens."""
    tokens = [*(bytes([byte]) for byte in range(256)), *more]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def sentencepiece_file(*, prefix: bool) -> bytes:
    """Return a model of sentencepiece: BPE that falls back to bytes, without merges (sentencepiece_model.proto)."""
    unknown, control, normal, byte = 2, 3, 1, 6
    kinds = [("<unk>", unknown), ("<s>", control), ("</s>", control), *((f"<0x{n:02X}>", byte) for n in range(256))]
    pieces = b"".join(
        _part(1, _part(1, name.encode()) + b"\x15" + struct.pack("<f", 0) + b"\x18" + bytes([kind]))
        for name, kind in [*kinds, ("\u2581", normal)]
    )
    trainer = b"\x18\x02" + _number(35, 1)  # model_type BPE, byte_fallback
    normalizer = _part(1, b"identity") + _number(3, prefix) + _number(4, 0) + _number(5, 1)
    return pieces + _part(2, trainer) + _part(3, normalizer)


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])
