"""A Qwen2.5-0.5B with random weights, on disk as Hugging Face publishes it.

It has the size of the real model, because the builder that finetune.yaml names determines it. Tests that import this
need torch and torchtune.
"""

import json
from pathlib import Path
from typing import Any

VOCABULARY = 151_936
"""The number of tokens of the model; without training, its loss is close to the logarithm of that."""


def make_qwen(directory: Path) -> None:
    """Write the checkpoint, its config.json and a tokenizer over single bytes into a new directory."""
    directory.mkdir(parents=True)
    _write_weights(directory / "model.safetensors")
    config = {"hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
    (directory / "config.json").write_text(json.dumps(config))
    write_tokenizer(directory)


def _write_weights(file: Path) -> None:
    """Write random weights in bf16 with the names that torchtune's own conversion gives them."""
    import torch
    from safetensors.torch import save_file
    from torchtune.models.qwen2._convert_weights import qwen2_tune_to_hf
    from torchtune.models.qwen2_5 import qwen2_5_0_5b

    torch.manual_seed(14)
    with torch.device("meta"):
        shapes = qwen2_5_0_5b().state_dict()
    weights = {name: _weight(name, shape.shape) for name, shape in shapes.items()}
    save_file(qwen2_tune_to_hf(weights, tie_word_embeddings=True), file, metadata={"format": "pt"})


def _weight(name: str, shape: Any) -> Any:
    """Return one tensor: scales of norms are 1, all other values are small and random, as before training."""
    import torch

    if name.endswith("scale"):
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).uniform_(-0.02, 0.02)


def write_tokenizer(directory: Path) -> None:
    from torchtune.models.qwen2._tokenizer import bytes_to_unicode

    letters = bytes_to_unicode().values()
    (directory / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    (directory / "merges.txt").write_text("#version: 0.2\n")
