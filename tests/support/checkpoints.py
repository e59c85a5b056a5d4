"""Create the directory of a base model: real headers of safetensors files over holes, and the other files."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

from scaffold_torchtune.torchtune_facts.facts import ModelFacts, load

Shapes = Mapping[str, tuple[int, ...]]


def facts_of(model: str) -> ModelFacts:
    found = load().model(model)
    assert found is not None
    return found


def make_checkpoint(directory: Path, model: str, files: int = 1, changes: Shapes | None = None) -> Path:
    """Create the directory as Hugging Face publishes the model, in bf16, with its tensors spread over some files.

    `changes` gives tensors another shape, or adds them. The weights are holes, which use no disk space.
    """
    directory.mkdir(parents=True)
    shapes = dict(facts_of(model).tensors()) | dict(changes or {})
    names = sorted(shapes)
    last = f"{files:05}"
    index: dict[str, str] = {}
    for number in range(files):
        name = "model.safetensors" if files == 1 else f"model-{number + 1:05}-of-{last}.safetensors"
        held = names[number::files]
        write_safetensors(directory / name, {tensor: shapes[tensor] for tensor in held})
        index |= dict.fromkeys(held, name)
    if files > 1:
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    width = shapes["model.embed_tokens.weight"][1]
    config = {"hidden_size": width, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True}
    (directory / "config.json").write_text(json.dumps(config))
    for name in facts_of(model).tokenizer_files.values():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("tokens")
    return directory


def write_safetensors(file: Path, shapes: Shapes) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + end)
