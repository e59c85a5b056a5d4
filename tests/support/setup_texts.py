"""Texts of setup_finetune.yaml, and the results of the bundled setup_finetune."""

from typing import Any

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.system.serialization import read_yaml, yaml_scalar

MINIMAL: dict[str, Any] = {
    "my_wandb_project": "words",
    "my_wandb_run_name": "rank8_lr1e-5",
    "torchtune_model_name": "Llama-3.2-1B-Instruct",
    "models_dir": "/data/models",
    "input_dir_base": "/data/sets",
    "input_formatting": "",
    "dataset_label": "words_5L",
    "dataset_ext": ".json",
    "output_dir_base": "/scratch/out",
    "conda_env": "tune",
    "epochs": 1,
    "batch_size": 4,
}


def text_of(**changes: Any) -> str:
    """Return a setup_finetune.yaml; a key that is changed to `...` is omitted."""
    keys = {name: value for name, value in {**MINIMAL, **changes}.items() if value is not ...}
    return "".join(f"{name}: {yaml_scalar(value)}\n" for name, value in keys.items())


def config_of(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = read_yaml(build(text_of(**changes)).finetune_yaml).data
    return data


def script_of(**changes: Any) -> str:
    return build(text_of(**changes)).finetune_slurm


def problems_of(text: str) -> list[tuple[str, str | None]]:
    with pytest.raises(Refused) as refusal:
        build(text)
    return [(p.code, p.field) for p in refusal.value.problems]
