"""Three generations of cruijff_kit's setup_finetune.py as stand-ins, written from their known interface.

Options and defaults are those of November 2025, December 2025 and August 2026 (v0.3.4).
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

KIT = Path(__file__).parent / "kit"

_NOVEMBER: Final[dict[str, Any]] = {
    "my_wandb_project": "PredictingZygosity", "my_wandb_run_name": None, "input_formatting": "raw",
    "dataset_label": "tune_dataset", "dataset_ext": "", "experiment_name": "", "output_dir_base": "/site/$USER/",
    "input_dir_base": "/site/in/", "models_dir": "/site/models/", "batch_size": 4, "epochs": 1,
    "save_adapter_weights_only": False, "save_last_epoch_only": False, "stash_adapter_weights": False,
    "epochs_to_save": "all", "max_steps_per_epoch": None, "log_every_n_steps": 5, "run_val_every_n_steps": 0,
    "system_prompt": "", "train_on_input": False, "lora_rank": 64, "lr": 1e-4, "num_warmup_steps": 100,
    "lr_scheduler": "get_cosine_schedule_with_warmup", "dataset_type": "instruct_dataset", "time": "00:15:00",
    "gpus": 1, "conda_env": "cruijff", "venv": "", "modules": "", "account": None, "partition": None,
    "constraint": None, "custom_recipe": None,
}  # fmt: skip
_DECEMBER: Final[dict[str, Any]] = {
    **_NOVEMBER, "torchtune_model_name": "Llama-3.2-1B-Instruct", "model_checkpoint": None, "mem": None,
    "prompt": "{input}\n", "input_key": "input", "output_key": "output", "packed": False, "max_seq_len": 2048,
    "dataset_type": "chat_completion",
}  # fmt: skip
_GONE: Final = {"output_dir_base", "save_last_epoch_only", "stash_adapter_weights", "epochs_to_save"}
_AUGUST: Final[dict[str, Any]] = {
    **{name: default for name, default in _DECEMBER.items() if name not in _GONE},
    "project_dir": None, "input_dir_base": None, "models_dir": None, "dataset_type": None, "base_recipe": None,
    "gradient_accumulation_steps": 1, "weight_decay": 0.01, "lora_dropout": 0.0, "seed": 14, "training_samples": None,
    "batch_size_val": None, "cpus_per_task": None, "save_adapter_weights_only": True,
}  # fmt: skip
_STOCK = "lora_finetune_single_device"

GENERATIONS: Final[dict[str, dict[str, Any]]] = {
    "november": {
        "options": _NOVEMBER, "converts": False, "own_data_sets": False, "project_dir": False,
        "slurm": {"mem": "8G", "cpus": 1, "recipe": _STOCK},
    },
    "december": {
        "options": _DECEMBER, "converts": False, "own_data_sets": True, "project_dir": False,
        "slurm": {"mem": "40G", "cpus": 4, "recipe": _STOCK, "partition": "nomig"},
    },
    "august": {
        "options": _AUGUST, "converts": True, "own_data_sets": True, "project_dir": True,
        "slurm": {
            "mem": "40G", "cpus": 4, "recipe": f"cruijff_kit.tools.torchtune.custom_recipes.{_STOCK}_nightly",
        },
    },
}  # fmt: skip


def kit(folder: Path, generation: str) -> Path:
    """Write the stand-in of a generation into a new folder, and return the path of its setup_finetune.py."""
    (folder / "templates").mkdir(parents=True)
    for name in ("finetune_template.slurm", "finetune_template.yaml"):
        shutil.copy(KIT / name, folder / "templates")
    (folder / "generation.json").write_text(json.dumps(GENERATIONS[generation]))
    return Path(shutil.copy(KIT / "setup_finetune.py", folder))
