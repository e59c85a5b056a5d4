"""Train a run's finetune.yaml with torchtune's own recipe in this process, with a tiny random model instead of its own.

The model is built as Qwen2.5 is, with one layer and a width of 16; data set, tokenizer, batches, steps, optimizer and
loss are those of the config. A training takes about half a second. Tests that import this need torch and torchtune.
"""

import math
import os
import runpy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.tiny_qwen import SIZES


@dataclass(frozen=True)
class Trained:
    """The result of a training: optimizer steps, losses, the number of trained values that are NaN, and the error."""

    steps: int
    losses: tuple[float, ...]
    values: int
    nan: int
    error: str = ""

    @property
    def ruined(self) -> bool:
        """Return whether no trained value is a number."""
        return self.values > 0 and self.nan == self.values


@cache
def _recipe(name: str) -> Any:
    """Return the class of a recipe; the directory of recipes is not a package."""
    import torchtune

    names = runpy.run_path(str(Path(torchtune.__file__).parents[1] / "recipes" / f"{name}.py"))
    return next(each for key, each in names.items() if key.endswith("RecipeSingleDevice"))


def train(run: Path, tiny: Path, output: Path, cache_dir: Path, recipe: str = "lora_finetune_single_device") -> Trained:
    """Train the finetune.yaml of a run directory, and return the result; an error is the exception of torchtune."""
    from omegaconf import OmegaConf

    config: Any = OmegaConf.load(run / "finetune.yaml")
    lora = {key: config.model[key] for key in config.model if key.startswith(("lora_", "apply_lora"))}
    builder = f"torchtune.models.qwen2.{'lora_qwen2' if lora else 'qwen2'}"
    config.model = {"_component_": builder, **lora, **SIZES}
    config.merge_with({
        "output_dir": str(output), "device": "cpu", "dtype": "fp32", "dataset": {"cache_dir": str(cache_dir)},
        "checkpointer": {"checkpoint_dir": str(tiny), "checkpoint_files": ["model.safetensors"], "model_type": "QWEN2"},
    })  # fmt: skip
    config.metric_logger = {
        "_component_": "torchtune.training.metric_logging.DiskLogger",
        "log_dir": str(output),
        "filename": "log.txt",
    }
    os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")
    try:
        made = _recipe(recipe)(cfg=config)
        made.setup(cfg=config)
        made.train()
        made.cleanup()
    except Exception as error:  # noqa: BLE001 - whatever torchtune raises is the result
        return Trained(0, (), 0, 0, f"{type(error).__name__}: {error}")
    trained = [each for each in made._model.parameters() if each.requires_grad]  # noqa: SLF001 - it has no other name
    losses = [
        float(part.removeprefix("loss:"))
        for line in (output / "log.txt").read_text().splitlines()
        for part in line.split()
        if part.startswith("loss:")
    ]
    nan = sum(int(each.isnan().sum()) for each in trained)
    return Trained(made.global_step, tuple(losses), sum(each.numel() for each in trained), nan)


def is_number(losses: tuple[float, ...]) -> bool:
    """Return whether there are losses and each is a number."""
    return bool(losses) and all(math.isfinite(loss) for loss in losses)
