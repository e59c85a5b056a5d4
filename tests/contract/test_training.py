"""torchtune 0.6.1 trains with the finetune.yaml of a scaffold, on the CPU and with random weights."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.cli.dispatch import DEMO, prepare_demo
from support import needs
from support.random_model import VOCABULARY, make_qwen

pytestmark = [*needs.TORCHTUNE, pytest.mark.timeout(600)]

MODEL = "Qwen2.5-0.5B-Instruct"
RUNS = {"json": "rank8_lr5e-5", "parquet": "rank8_lr5e-5", "full": "lr5e-5_recipe-full"}
"""The run that is trained, by case."""

USUAL_PLACES = {"q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
"""The default modules of LoRA, as PEFT names them."""

STEPS = 2
CPU = ["device=cpu", "dtype=fp32", f"max_steps_per_epoch={STEPS}"]
"""All differences from the job: this machine has no GPU and little time."""

CHANGES = {
    "Llama-3.2-1B-Instruct": MODEL,
    "| 4 | Fine-tuned": "| 2 | Fine-tuned",
}
"""Changes to the bundled example in each case, in addition to its paths."""

PLACES = {"q_proj", "k_proj"}
"""The only modules with LoRA in the Parquet case."""

PARQUET = {
    "words_5L_300.json": "words_5L_300.parquet",
    "**Format:** JSON": "**Format:** Parquet",
    "- **Epochs:** 2": "- **Epochs:** 1\n- **Adapter weights only:** true\n- **W&B mode:** disabled\n"
    f"- **Target modules:** {', '.join(sorted(PLACES))}",
}
"""Further changes in the Parquet case; it does not save the whole model, unlike the JSON case."""

FULL = {
    "| LoRA Rank |": "| Recipe |",
    " | 8 | ": " | LoRA | ",
    " | 16 | ": " | full | ",
    "- **Epochs:** 2": "- **Epochs:** 1",
}
"""Further changes for full fine-tuning: the runs compare it with LoRA. It needs 8 GB of memory."""

OTHER = {"json": {}, "parquet": PARQUET, "full": FULL}


@dataclass(frozen=True)
class Trained:
    """The plan and the outcome of one training: its output directory, and its losses as (epoch, step, loss)."""

    epochs: int
    adapter: bool
    whole_model: bool
    places: frozenset[str]
    is_logged: bool
    results: Path
    losses: list[tuple[int, int, float]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Create a models directory with a single model of 1 GB, and remove it afterwards."""
    folder = tmp_path_factory.mktemp("models")
    make_qwen(folder / MODEL)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=OTHER)
def trained(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    """Scaffold the bundled example for the small model, train a few steps, and remove it afterwards."""
    folder = tmp_path_factory.mktemp(request.param)
    parquet, full = request.param == "parquet", request.param == "full"
    experiment, run = example(folder, models, request.param), RUNS[request.param]
    assert main(["scaffold", str(experiment)]) == 0
    output = train(experiment / run, folder / "cache", "full" if full else "lora")
    found = re.findall(r"(\d+)\|(\d+)\|Loss: (\S+?):", output)
    losses = list(dict.fromkeys((int(epoch), int(step), float(loss)) for epoch, step, loss in found))
    results = folder / "ck-outputs" / DEMO / f"ck-out-{run}"
    places = frozenset(PLACES if parquet else USUAL_PLACES)
    yield Trained(1 if parquet or full else 2, not full, not parquet, places, not parquet, results, losses)
    shutil.rmtree(folder)


def example(folder: Path, models: Path, tried: str) -> Path:
    """Create the bundled example with a different model, paths of this machine and the changes of a case."""
    experiment = prepare_demo(folder / "experiment")
    changes = CHANGES | {"/scratch/lab/pretrained-llms": str(models), "/scratch/lab/ada": str(folder)}
    changes |= OTHER[tried]
    if tried == "parquet":
        as_parquet(experiment / "data" / "words_5L_300.json")
    texts = {name: (experiment / name).read_text() for name in ("experiment_summary.md", "claude.local.md")}
    for old, new in changes.items():
        assert any(old in text for text in texts.values()), old
        texts = {name: text.replace(old, new) for name, text in texts.items()}
    for name, text in texts.items():
        (experiment / name).write_text(text)
    return experiment


def as_parquet(file: Path) -> None:
    """Move the train split of a JSON file into a Parquet file."""
    from datasets import Dataset

    Dataset.from_list(json.loads(file.read_text())["train"]).to_parquet(file.with_suffix(".parquet"))
    file.unlink()


def train(run: Path, cache: Path, method: str) -> str:
    """Train a run with the command of its finetune.slurm, and return the output."""
    command = (run / "finetune.slurm").read_text().splitlines()[-1]
    assert command == f"tune run {method}_finetune_single_device --config finetune.yaml"
    tune = str(Path(sys.executable).with_name("tune"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HF_HOME": str(cache), "HOME": str(cache)}
    done = subprocess.run(
        [tune, *command.split()[1:], *CPU],
        cwd=run,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_step_was_trained_with_the_loss_of_a_random_model(trained: Trained) -> None:
    steps = [(step // STEPS + 1, step + 1) for step in range(STEPS * trained.epochs)]
    assert [(epoch, step) for epoch, step, _ in trained.losses] == steps
    assert all(loss == pytest.approx(math.log(VOCABULARY), abs=1) for *_, loss in trained.losses)


def test_the_adapter_is_in_the_planned_directory_and_has_changed(trained: Trained) -> None:
    from safetensors.torch import load_file

    last = trained.results / f"epoch_{trained.epochs - 1}"
    if not trained.adapter:
        assert not list(last.glob("adapter*"))
        return
    config = json.loads((last / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    adapter = load_file(last / "adapter_model.safetensors")
    outputs = [weights for name, weights in adapter.items() if "lora_B" in name]
    assert {name.split(".")[-3] for name in adapter} == trained.places == set(config["target_modules"])
    assert len(outputs) == 24 * len(trained.places)  # in each of 24 layers
    assert all(weights.shape[1] == 8 for weights in outputs)
    assert all(weights.count_nonzero() > 0 for weights in outputs)  # zero until a step with a gradient


def test_the_whole_model_is_saved_only_if_planned(trained: Trained) -> None:
    saved = sorted(str(path.relative_to(trained.results)) for path in trained.results.glob("epoch_*/model-*"))
    epochs = range(trained.epochs if trained.whole_model else 0)
    assert saved == [f"epoch_{epoch}/model-00001-of-00001.safetensors" for epoch in epochs]


def test_every_weight_has_changed_if_all_are_trained(trained: Trained, models: Path) -> None:
    from safetensors.torch import load_file

    if not trained.whole_model:
        return
    before = load_file(models / MODEL / "model.safetensors")
    after = load_file(trained.results / f"epoch_{trained.epochs - 1}" / "model-00001-of-00001.safetensors")
    assert before.keys() == after.keys()
    kept = {name for name, weights in before.items() if weights.float().equal(after[name].float())}
    untouched = {name for name in before if "norm" in name or name.endswith("bias") or "k_proj" in name}
    embedding = {name for name in before if "embed_tokens" in name}
    assert kept == (set() if not trained.adapter else untouched | embedding)


def test_metrics_are_in_the_planned_directory_unless_logging_is_disabled(trained: Trained) -> None:
    logged = list((trained.results / "logs" / "wandb").glob("offline-run-*/*.wandb"))
    assert bool(logged) == trained.is_logged
