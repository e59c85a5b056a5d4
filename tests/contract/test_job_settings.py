"""torchtune 0.6.1 accepts entity, group and tags of W&B, and resumes as finetune.slurm decides: trained on the CPU."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.system.serialization import yaml_scalar
from support import needs
from support.random_model import make_qwen

pytestmark = [*needs.TORCHTUNE, pytest.mark.timeout(600)]

MODEL = "Qwen2.5-0.5B-Instruct"
TOOLS = """\
conda() { if [ "$1" = shell.bash ]; then echo 'conda() { :; }'; fi; }
tune() { command tune "$@" device=cpu dtype=fp32 max_steps_per_epoch=1; }
"""


def made(folder: Path, models: Path, **more: Any) -> Any:
    """Return the two files of a run with its paths below a folder."""
    keys = {
        "my_wandb_project": "words", "my_wandb_run_name": "rank8", "models_dir": str(models),
        "torchtune_model_name": MODEL, "input_dir_base": str(folder), "input_formatting": "", "dataset_label": "words",
        "dataset_ext": ".json", "output_dir_base": str(folder / "out"), "conda_env": "tune", "epochs": 2,
        "batch_size": 2, "lora_rank": 8, "num_warmup_steps": 1, "save_adapter_weights_only": True, **more,
    }  # fmt: skip
    return build("".join(f"{name}: {yaml_scalar(value)}\n" for name, value in keys.items()))


def test_torchtune_and_wandb_accept_entity_group_and_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omegaconf import OmegaConf
    from torchtune import config

    whose = {"wandb_entity": "team", "wandb_group": "sweep", "wandb_tags": "lora,4 letters,true"}
    written = OmegaConf.create(made(tmp_path, tmp_path, resume_from_checkpoint=True, **whose).finetune_yaml)
    config.validate(written)
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = config.instantiate(written.metric_logger)
    import wandb

    assert wandb.run is not None
    assert (wandb.run.group, wandb.run.tags) == ("sweep", ("lora", "4 letters", "true"))
    assert wandb.run.entity == "team"
    logger.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Create a models directory with a single model of 1 GB, and remove it afterwards."""
    folder = tmp_path_factory.mktemp("models")
    make_qwen(folder / MODEL)
    yield folder
    shutil.rmtree(folder)


def start(folder: Path) -> tuple[int, str]:
    """Start the job; return its exit status and its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "finetune.slurm"],
        cwd=folder,
        env={"PATH": path, "BASH_ENV": "tools.sh", "HOME": str(folder), "HF_HOME": str(folder / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def epochs_trained(said: str) -> list[int]:
    return sorted({int(epoch) for epoch in re.findall(r"(\d+)\|\d+\|Loss: ", said)})


def test_a_restarted_job_continues_after_its_last_epoch(tmp_path: Path, models: Path) -> None:
    rows = [{"input": "word", "output": "Word"}] * 8
    (tmp_path / "words.json").write_text(json.dumps({"train": rows}))
    outputs = made(tmp_path, models, resume_from_checkpoint=True, offline=True)
    (tmp_path / "finetune.yaml").write_text(outputs.finetune_yaml)
    (tmp_path / "finetune.slurm").write_text(outputs.finetune_slurm)
    (tmp_path / "tools.sh").write_text(TOOLS)
    results = tmp_path / "out" / "ck-out-rank8"
    status, said = start(tmp_path)
    assert status == 0, said
    assert epochs_trained(said) == [1, 2]
    shutil.rmtree(results / "epoch_1")  # like a node failure after the first epoch
    status, said = start(tmp_path)
    assert status == 0, said
    assert epochs_trained(said) == [2]
    assert (results / "epoch_1" / "adapter_model.pt").is_file()
    shutil.rmtree(results)
    (tmp_path / "finetune.slurm").write_text(outputs.finetune_slurm.replace("resume=false", "resume=true"))
    status, said = start(tmp_path)  # therefore the script checks first
    assert status != 0
    assert epochs_trained(said) == []
