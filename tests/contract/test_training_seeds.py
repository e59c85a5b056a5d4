"""Effects of a seed, of saved weights and of a different plan's state in torchtune 0.6.1: trained on the CPU."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.preflight.disk import inspect_checkpoint
from support import needs
from support.checkpoints import facts_of, write_safetensors
from support.experiments import change, make_experiment
from support.scaffolding import refusal
from support.tiny_qwen import make_tiny_qwen, train_tiny

pytestmark = [*needs.TORCHTUNE, pytest.mark.timeout(600)]

MODEL = "Qwen2.5-0.5B-Instruct"
SUMMARY = "experiment_summary.md"
RESUME = "- **Resume from checkpoint:** yes\n- **Warmup steps:** 1"
ROW = "| {name} | {model} | {recipe} | {rank} | 1e-4 | {seed} | Fine-tuned |"


def experiment(folder: Path, rows: list[str], *more: str, model: Path | None = None) -> Path:
    """Scaffold an experiment before its model exists: the model created later is smaller than its name suggests.

    `model` is the directory of an existing one.
    """
    header = ["| Run Name | Model | Recipe | LoRA Rank | LR | Seed | Type |", "|---|---|---|---|---|---|---|"]
    here = make_experiment(
        folder / "sweep",
        replace={
            "Llama-3.2-1B-Instruct": MODEL,
            "/scratch/gpfs/LAB/pretrained-llms": str(folder / "models"),
            "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json": "data/words.json",
            "/scratch/gpfs/LAB/ada": str(folder),
            "- **Recipe:** lora_finetune_single_device": "\n".join(["- **Max sequence length:** 64", *more]),
        },
        without=["- **Runs:**", "| LoRA Rank | 8, 16 |", "| Learning Rate | 1e-5"],
    )
    lines = (here / SUMMARY).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| Run Name"))
    last = max(i for i, line in enumerate(lines) if line.startswith("|"))
    (here / SUMMARY).write_text("\n".join([*lines[:first], *header, *rows, *lines[last + 1 :], ""]))
    if model is not None:
        change(here / SUMMARY, f"`{folder / 'models' / MODEL}`", f"`{model}`")
    assert main(["scaffold", str(here)]) == 0
    if model is None:
        make_tiny_qwen(folder / "models" / MODEL)
    return here


def row(name: str, recipe: str, seed: int, rank: str = "8") -> str:
    return ROW.format(name=name, model=MODEL, recipe=recipe, seed=seed, rank=rank)


def results(run: Path) -> Path:
    (folder,) = re.findall(r"(?m)^output_dir: (\S+)", (run / "finetune.yaml").read_text())
    return Path(folder)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_seed_changes_only_the_adapter(tmp_path: Path) -> None:
    rows = [row("one", "LoRA", 1), row("two", "LoRA", 2), row("all", "full", 1, "-")]
    here = experiment(tmp_path, rows)
    names = {"one": "rank8_recipe-lora_seed1", "two": "rank8_recipe-lora_seed2", "all": "recipe-full_seed1"}
    runs = {name: here / directory for name, directory in names.items()}
    losses = {name: re.findall(r"1\|1\|Loss: ([0-9.]+)", train_tiny(runs[name], "epochs=1")) for name in ("one", "two")}
    assert losses["one"][0] == losses["two"][0]  # the same samples: an adapter adds nothing before its first step
    adapters = [digest(results(runs[name]) / "epoch_0" / "adapter_model.safetensors") for name in ("one", "two")]
    assert len(set(adapters)) == 2
    whole = set()
    for seed in (1, 2):
        output = tmp_path / f"full{seed}"
        train_tiny(runs["all"], "epochs=1", f"seed={seed}", f"output_dir={output}")
        whole.add(digest(output / "epoch_0" / "model-00001-of-00001.safetensors"))
    assert len(whole) == 1
    change(here / SUMMARY, rows[-1], f"{rows[-1]}\n{row('again', 'full', 2, '-')}")
    codes = [each.code for each in errors_in(refusal(steps.plan, here).problems)]
    assert "seed-effect" in codes


def test_saved_weights_are_read_by_their_index_and_trained_further(tmp_path: Path) -> None:
    here = experiment(tmp_path, [row("one", "LoRA", 1)])
    train_tiny(here / "one", "epochs=1")
    saved = results(here / "one") / "epoch_0"
    found = inspect_checkpoint(str(saved))
    assert not found.tensors[found.weights[0]].problem
    files = f"checkpointer.checkpoint_files=[{','.join(found.weights)}]"
    output = tmp_path / "second"
    train_tiny(here / "one", "epochs=1", f"output_dir={output}", f"checkpointer.checkpoint_dir={saved}", files)
    assert digest(output / "epoch_0" / found.weights[0]) != digest(saved / found.weights[0])


@pytest.mark.parametrize(("first", "second"), [("LoRA", "full"), ("full", "LoRA")])
def test_a_second_stage_trains_the_model_saved_by_the_first(tmp_path: Path, first: str, second: str) -> None:
    """Use the first experiment's epoch_0 as the model of the second one, which must find its files."""
    here = experiment(tmp_path / "one", [row("one", first, 1, "8" if first == "LoRA" else "-")])
    faster = ("optimizer.lr=0.05", "lr_scheduler.num_warmup_steps=1")
    began = train_tiny(here / "one", "epochs=1", *faster, steps=4)
    saved = results(here / "one") / "epoch_0"
    weights = inspect_checkpoint(str(saved)).weights
    aside = tmp_path / "aside"
    saved.rename(aside)
    make_large(aside, saved)  # of the size that its name suggests, because the plan is compared with it
    later = experiment(tmp_path / "two", [row("two", second, 1, "8" if second == "LoRA" else "-")], model=saved)
    shutil.rmtree(saved)
    aside.rename(saved)
    config = yaml.safe_load((later / "two" / "finetune.yaml").read_text())
    assert config["checkpointer"]["checkpoint_files"] == list(weights)
    printed = train_tiny(later / "two", "epochs=1", steps=1)
    made = results(later / "two") / "epoch_0" / "model-00001-of-00001.safetensors"
    assert digest(made) == digest(saved / weights[0])  # a warm-up begins with a step at lr 0, which changes nothing
    assert first_loss(printed) != first_loss(began)  # the same samples, different weights


def first_loss(printed: str) -> str:
    found: list[str] = re.findall(r"1\|1\|Loss: ([0-9.]+)", printed)
    return found[0]


def make_large(tiny: Path, directory: Path) -> None:
    """Copy the directory, with weight files that have the tensors of the published model."""
    shutil.copytree(tiny, directory)
    (weights,) = inspect_checkpoint(str(tiny)).weights
    write_safetensors(directory / weights, dict(facts_of(MODEL).tensors()))
    index = {"metadata": {}, "weight_map": dict.fromkeys(dict(facts_of(MODEL).tensors()), weights)}
    for file in directory.glob("*.index.json"):
        file.write_text(json.dumps(index))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"hidden_size": 896}))


def test_a_resumed_state_restores_its_learning_rate(tmp_path: Path) -> None:
    here = experiment(tmp_path, [row("one", "LoRA", 1)], RESUME)
    run = here / "one"
    train_tiny(run, "resume_from_checkpoint=False")  # the job does so if there is no state
    logged = results(run) / "logs"
    before = set(logged.glob("*.txt"))
    assert main(["validate", str(here)]) in {0, 1}  # the model there differs from its name
    (results(run) / "torchtune_config.yaml").write_text((run / "finetune.yaml").read_text())
    change(here / SUMMARY, "| 1e-4 | 1 |", "| 1e-2 | 1 |")
    problems = errors_in(refusal(steps.plan, here).problems)
    assert ("other-state", "lr") in {(each.code, each.field) for each in problems}
    train_tiny(run, "resume_from_checkpoint=True", "optimizer.lr=1e-2")
    (log,) = set(logged.glob("*.txt")) - before
    rates = [float(found) for found in re.findall(r"lr:([0-9.e-]+)", log.read_text())]
    assert rates
    assert max(rates) <= 1e-4
