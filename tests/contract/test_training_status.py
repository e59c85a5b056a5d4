"""`status` of directories that real trainings with torchtune 0.6.1 left: finished, interrupted, NaN, failed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.cli.dispatch import prepare_demo
from scaffold_torchtune.pipeline.reporting import status
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import RunStatus
from support import needs
from support.experiments import everything
from support.random_model import write_tokenizer
from support.tiny_qwen import SIZES, make_tiny_qwen
from support.waiting import wait_until
from support.wording import absent

pytestmark = [*needs.TORCHTUNE, pytest.mark.timeout(600)]

MODEL = "Qwen2.5-0.5B-Instruct"
RUNS = ("rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5")
STEPS = 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny model: one run finishes, one is killed, one has a NaN loss, one lacks its data."""
    folder = tmp_path_factory.mktemp("trained")
    make_tiny_qwen(folder / "tiny")
    (folder / MODEL).mkdir()
    write_tokenizer(folder / MODEL)
    experiment = prepare_demo(folder / "experiment")
    changes = {"Llama-3.2-1B-Instruct": MODEL, "/scratch/lab/ada": str(folder), "| 4 | Fine-tuned": "| 2 | Fine-tuned"}
    for name in ("experiment_summary.md", "claude.local.md"):
        text = (experiment / name).read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        (experiment / name).write_text(text)
    assert main(["scaffold", str(experiment), "--no-with-torchtune"]) == 0
    whole, killed, ruined, lacking = (experiment / run for run in RUNS)
    assert train(whole, folder) == 0
    assert train(killed, folder, "max_steps_per_epoch=100", until=lambda text: "1|4|Loss" in text) == -signal.SIGKILL
    assert train(ruined, folder, "optimizer.lr=1e30") == 0
    assert train(lacking, folder, "dataset.data_files=/nowhere/words.json") == 1
    return experiment


def train(run: Path, folder: Path, *overrides: str, until: Callable[[str], bool] | None = None) -> int:
    """Train a run on the CPU like its job, with its output in slurm-4711.out; kill it if `until` is true."""
    tune = str(Path(sys.executable).with_name("tune"))
    tokenizer = {"path": "vocab.json", "merges_file": "merges.txt"}
    command = [
        tune, "run", "lora_finetune_single_device", "--config", "finetune.yaml", "device=cpu", "dtype=fp32",
        f"max_steps_per_epoch={STEPS}", "model._component_=torchtune.models.qwen2.lora_qwen2",
        "metric_logger._component_=torchtune.training.metric_logging.DiskLogger",
        *(f"model.{name}={value}" for name, value in SIZES.items()),
        *(f"tokenizer.{name}={folder / MODEL / file}" for name, file in tokenizer.items()),
        f"checkpointer.checkpoint_dir={folder / 'tiny'}", "checkpointer.checkpoint_files=[model.safetensors]",
        "checkpointer.model_type=QWEN2", *overrides,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HF_HOME": str(folder / "cache"), "HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    file = run / "slurm-4711.out"
    with file.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=run, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
    if until:
        wait_until(lambda: until(file.read_text(errors="replace")) or process.poll() is not None)
        process.kill()
    return process.wait(500)


def shown(experiment: Path, run: str) -> RunStatus:
    return next(each for each in status(Request(experiment, sbatch=False)).runs if each.directory == run)


def test_a_finished_training_shows_all_steps(trained: Path) -> None:
    found = shown(trained, RUNS[0])
    assert (found.state, found.epochs_done, found.epochs, found.step, found.steps) == ("finished", 2, 2, 6, 6)
    assert found.cause is None
    assert found.loss is not None
    assert [point.step for point in found.losses] == [1, 2, 3, 4, 5, 6]
    assert found.losses[-1].loss == found.loss
    log = next((Path(found.output_dir) / "logs").glob("log_*.txt")).read_text()
    assert f"Step 6 | loss:{found.loss}" in log


def test_a_killed_training_shows_its_progress(trained: Path) -> None:
    found = shown(trained, RUNS[1])
    assert (found.state, found.epochs_done, found.steps, found.cause) == ("submitted", 0, 200, None)
    assert found.step is not None
    assert found.step >= 4
    assert found.loss is not None


def test_a_training_with_a_nan_loss_is_finished_with_an_error(trained: Path) -> None:
    found = shown(trained, RUNS[2])
    assert (found.state, found.epochs_done, found.step, found.loss) == ("finished", 2, 6, None)
    assert found.cause is not None
    assert (found.cause.code, found.cause.severity) == ("job-nan-loss", "error")
    first = next(point.step for point in found.losses if point.loss is None)
    assert absent(found.cause.message, first) == []


def test_a_training_without_its_data_shows_the_cause(trained: Path) -> None:
    found = shown(trained, RUNS[3])
    assert (found.state, found.step) == ("failed", None)
    assert found.cause is not None
    assert found.cause.code == "job-data"
    assert absent(found.cause.message, "'/nowhere/words.json'") == []


def test_the_command_lists_all_runs_and_writes_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(trained)
    assert main(["status", str(trained), "--no-sbatch"]) == 1
    assert absent(capsys.readouterr().out, *RUNS, "job-nan-loss", "job-data") == []
    assert everything(trained) == before
