"""Checkpoints: the tensors that torchtune expects of a model's Hugging Face files.

torchtune's own checkpointer says it: it saves the model that the builder makes, and loads again what it saved. The
model is on torch's meta device, so the two functions that write and read a file are replaced; the conversion between
them is untouched.
"""

import collections
import contextlib
import gc
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from installed_torchtune.sizes import full_model, parameters

CHECKPOINTER = "torchtune.training.checkpointing._checkpointer"
FILE = "model.safetensors"
# What files on Hugging Face hold now and then although the model has no use for it.
SPARE = ("lm_head.weight", "model.layers.{n}.self_attn.rotary_emb.inv_freq")
REFUSED = "Found unexpected key"
LAYER = re.compile(r"\.layers\.\d+\.")


def _config(model: Any) -> dict[str, Any]:
    """Return the keys of config.json that the checkpointer reads, with the model's values."""
    attention = model.layers[0].attn
    return {
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "hidden_size": attention.embed_dim,
        "head_dim": attention.head_dim,
        "tie_word_embeddings": "output.weight" not in model.state_dict(),
    }


@contextlib.contextmanager
def _checkpointer(model: Any, model_type: str) -> Iterator[Any]:
    """Return the checkpointer of torchtune for a model, in a folder of its own."""
    from torchtune.training import FullModelHFCheckpointer

    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "source")
        source.mkdir()
        (source / FILE).touch()
        (source / "config.json").write_text(json.dumps(_config(model)), encoding="utf-8")
        yield FullModelHFCheckpointer(str(source), [FILE], model_type=model_type, output_dir=str(Path(place, "output")))


def _saved(checkpointer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors that the checkpointer writes for a model's state."""
    written: dict[str, Any] = {}

    def save_file(tensors: dict[str, Any], path: Path, **_: Any) -> None:
        written.update(tensors)
        path.touch()

    one_file: dict[str, str] = collections.defaultdict(lambda: "0001")
    with mock.patch.object(checkpointer, "_weight_map", one_file), mock.patch(f"{CHECKPOINTER}.save_file", save_file):
        checkpointer.save_checkpoint({"model": state}, epoch=0)
    return written


def _loaded(checkpointer: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the state that the checkpointer makes of the tensors in a file."""
    with mock.patch(f"{CHECKPOINTER}.safe_torch_load", return_value=tensors):
        state: dict[str, Any] = checkpointer.load_checkpoint()["model"]
    return state


def _shapes(tensors: dict[str, Any]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def _loads(checkpointer: Any, tensors: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether the checkpointer makes a state of these names and shapes of the tensors in a file."""
    try:
        return _shapes(_loaded(checkpointer, tensors)) == _shapes(state)
    except Exception as problem:
        if REFUSED in str(problem):
            return False
        raise


def patterns(shapes: dict[str, list[int]], layers: int) -> dict[str, list[int]]:
    """Return the shapes by name, `{n}` for the number of a layer; exit if the layers differ."""
    found = {LAYER.sub(".layers.{n}.", name): shape for name, shape in shapes.items()}
    alike = {
        pattern.replace("{n}", str(number)): shape
        for pattern, shape in found.items()
        for number in range(layers if "{n}" in pattern else 1)
    }
    if alike != shapes:
        odd = sorted(name for name in alike | shapes if alike.get(name) != shapes.get(name))
        raise SystemExit(f"the layers of the model are not alike: {odd}")
    return found


def checkpoint(builder: str, model_type: str) -> dict[str, Any]:
    """Return the tensors of a checkpoint; exit if torchtune does not load its own files, or tensors are missing."""
    model = full_model(builder)
    state = model.state_dict()
    with _checkpointer(model, model_type) as checkpointer:
        tensors = _saved(checkpointer, state)
        if not _loads(checkpointer, tensors, state):
            raise SystemExit(f"{builder}: torchtune does not load what it saves as {model_type}")
        some = next(iter(tensors.values()))
        spare = {name: {**tensors, name.replace("{n}", "0"): some} for name in SPARE if name not in tensors}
        skipped = [name for name, file in spare.items() if _loads(checkpointer, file, state)]
    if sum(tensor.numel() for tensor in tensors.values()) != parameters(model):
        raise SystemExit(f"{builder}: the tensors of the checkpoint are not the parameters of the model")
    return {"tensors": patterns(_shapes(tensors), len(model.layers)), "skipped": skipped}


def all_checkpoints(models: dict[str, Any]) -> dict[str, Any]:
    """Return the checkpoint of every builder for full training that the models name."""
    gc.freeze()  # torchtune collects garbage after each file that it loads: all that is imported need not be walked
    wanted = {model["full_builder"]: model["model_type"] for model in models.values()}
    return {builder: checkpoint(builder, model_type) for builder, model_type in wanted.items()}
