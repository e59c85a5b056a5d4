"""A Qwen2.5 of one small layer with random weights, which torchtune trains on the CPU in seconds.

Its finetune.yaml is that of Qwen2.5-0.5B except for the model's dimensions, which the command line gives. Tests that
import this need torch and torchtune.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.random_model import VOCABULARY, write_tokenizer

SIZES = {
    "vocab_size": VOCABULARY, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "embed_dim": 16,
    "intermediate_dim": 32, "max_seq_len": 4096, "tie_word_embeddings": True,
}  # fmt: skip


def make_tiny_qwen(directory: Path) -> None:
    """Write the checkpoint, its config.json and a tokenizer over single bytes into a new directory."""
    import torch
    from safetensors.torch import save_file
    from torchtune.models.qwen2 import qwen2
    from torchtune.models.qwen2._convert_weights import qwen2_tune_to_hf

    directory.mkdir(parents=True)
    torch.manual_seed(14)
    builder: Any = qwen2
    weights = qwen2_tune_to_hf(
        builder(**SIZES).state_dict(), num_heads=2, num_kv_heads=1, dim=16, tie_word_embeddings=True
    )
    save_file({name: each.contiguous().clone() for name, each in weights.items()}, directory / "model.safetensors")
    config = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    (directory / "config.json").write_text(json.dumps(config))
    write_tokenizer(directory)


def train_tiny(run: Path, *overrides: str, steps: int = 2) -> str:
    """Train a run with the command of its finetune.slurm, on the CPU, and return the output."""
    command = next(line for line in reversed((run / "finetune.slurm").read_text().splitlines()) if "tune run" in line)
    words = command.split()
    recipe = words[words.index("run") + 1]
    builder = "qwen2" if recipe.startswith("full") else "lora_qwen2"
    sizes = [f"model.{name}={value}" for name, value in SIZES.items()]
    cache = run / "cache"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("tune")), "run", recipe, "--config", "finetune.yaml", "device=cpu",
            "dtype=fp32", f"max_steps_per_epoch={steps}",
            "metric_logger._component_=torchtune.training.metric_logging.DiskLogger",
            f"model._component_=torchtune.models.qwen2.{builder}", *sizes, *overrides,
        ],
        cwd=run,
        env=environment | {"HF_HOME": str(cache), "HOME": str(cache), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
