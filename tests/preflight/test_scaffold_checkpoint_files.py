"""Base models whose files have unusual names on this machine: finetune.yaml lists the actual names."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.preflight.disk import inspect_checkpoint
from scaffold_torchtune.request import Request
from scaffold_torchtune.torchtune_facts import find_model, known_models
from support.checkpoints import facts_of, make_checkpoint, write_safetensors
from support.experiments import change, make_experiment
from support.kit_generations import GENERATIONS, kit
from support.sampling import spread
from support.scaffolding import refusal, scaffold
from support.wording import absent

MODEL = "Llama-3.2-1B-Instruct"
SUMMARY = "experiment_summary.md"
RUN = "rank8_lr1e-5"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Create the directory of the model as it is published."""
    return make_checkpoint(tmp_path / "models" / MODEL, MODEL)


@pytest.fixture
def here(tmp_path: Path, model: Path) -> Path:
    return make_experiment(tmp_path / "sweep", replace={"/scratch/gpfs/LAB/pretrained-llms": str(model.parent)})


def sharded(files: int, *, index: bool = True) -> Callable[[Path], object]:
    def make(model: Path) -> None:
        shutil.rmtree(model)
        make_checkpoint(model, MODEL, files=files)
        if not index:
            (model / INDEX).unlink(missing_ok=True)

    return make


def renamed(name: str) -> Callable[[Path], object]:
    return lambda model: (model / "model.safetensors").rename(model / name)


def twice(model: Path) -> None:
    (model / "b.safetensors").hardlink_to(model / "model.safetensors")
    renamed("a.safetensors")(model)


def as_torchtune_saves(model: Path) -> None:
    """Rename the files as torchtune 0.6.1 leaves epoch_N after LoRA (FullModelHFCheckpointer.save_checkpoint)."""
    name = "model-00001-of-00001.safetensors"
    (model / "model.safetensors").rename(model / name)
    weight_map = dict.fromkeys(dict(facts_of(MODEL).tensors()), name)
    (model / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    write_safetensors(model / "adapter_model.safetensors", {"a": (2, 2)})
    (model / "adapter_model.pt").write_bytes(b"adapter")
    (model / "adapter_config.json").write_text("{}")


def in_torch_format(*names: str, index: bool = False) -> Callable[[Path], object]:
    def make(model: Path) -> None:
        (model / "model.safetensors").unlink()
        for name in names:
            (model / name).write_bytes(b"PK")
        if index:
            held = {f"t{n}": name for n, name in enumerate(names)}
            (model / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": held}))

    return make


def beside_others(model: Path) -> None:
    sharded(2)(model)
    for name in ("consolidated.safetensors", "adapter_model.safetensors"):
        write_safetensors(model / name, {"a": (2, 2)})
    (model / "training_args.bin").write_bytes(b"PK")


SHARDS = {n: [f"model-{i:05}-of-{n:05}.safetensors" for i in range(1, n + 1)] for n in (1, 2, 3, 12)}
LAID: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "epoch of torchtune": (as_torchtune_saves, SHARDS[1]),
    "two shards": (sharded(2), SHARDS[2]),
    "three shards without an index": (sharded(3, index=False), SHARDS[3]),
    "twelve shards": (sharded(12), SHARDS[12]),
    "another name": (renamed("merged.safetensors"), ["merged.safetensors"]),
    "beside what is no model": (beside_others, SHARDS[2]),
    "torch": (in_torch_format("pytorch_model.bin"), ["pytorch_model.bin"]),
    "torch, sharded": (
        in_torch_format("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", index=True),
        ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
    ),
}


@pytest.mark.parametrize("case", spread(LAID, every=4))
def test_the_actual_file_names_are_written_to_finetune_yaml_and_validated(here: Path, model: Path, case: str) -> None:
    lay, names = LAID[case]
    lay(model)
    result = scaffold(here)
    assert result.ok, result.plan.warnings
    setup = yaml.safe_load((here / RUN / "setup_finetune.yaml").read_text())
    assert setup["checkpoint_files"] == ",".join(names)
    config = here / RUN / "finetune.yaml"
    assert yaml.safe_load(config.read_text())["checkpointer"]["checkpoint_files"] == names
    config.write_text(config.read_text().replace(names[0], "model-00007-of-00009.safetensors"))
    found = errors_in(steps.validate(Request(here)).all_findings())
    assert "checkpoint_files" in {each.field for each in found}


def test_a_published_model_and_a_missing_one_need_no_file_names(here: Path, model: Path) -> None:
    assert scaffold(here).ok
    made = (here / RUN / "setup_finetune.yaml").read_text()
    assert "checkpoint_files" not in made
    shutil.rmtree(model)
    scaffold(here)
    assert (here / RUN / "setup_finetune.yaml").read_text() == made


@pytest.mark.parametrize("name", known_models())
def test_every_model_has_the_file_names_of_its_publication(name: str) -> None:
    entry = find_model(name)
    assert entry is not None
    listed = entry.checkpoint_files
    if isinstance(listed, dict):
        last = listed["max_filename"]
        listed = [listed["filename_format"].format(f"{i:0{len(last)}}", last) for i in range(1, int(last) + 1)]
    assert entry.file_names == listed


def refused(here: Path) -> Any:
    (problem,) = [each for each in refusal(steps.plan, here).problems if each.code == "checkpoint-mismatch"]
    return problem


def test_an_adapter_is_not_a_base_model(here: Path, model: Path) -> None:
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    problem = refused(here)
    assert absent(problem.message, "adapter") == []


@pytest.mark.parametrize(
    "lay",
    [
        lambda model: (model / "model.safetensors").unlink(),
        lambda model: (sharded(3)(model), (model / SHARDS[3][1]).unlink()),
        lambda model: (sharded(3, index=False)(model), (model / SHARDS[3][1]).unlink()),
        twice,
    ],
)
def test_missing_or_ambiguous_weight_files_are_refused(here: Path, model: Path, lay: Any) -> None:
    lay(model)
    assert "model.safetensors" in str(refused(here).expected)


def test_an_index_that_names_different_files_is_ignored(model: Path) -> None:
    sharded(2)(model)
    (model / INDEX).write_text(json.dumps({"weight_map": {"a": "../other/model.safetensors", "b": "gone.safetensors"}}))
    assert inspect_checkpoint(str(model)).weights == tuple(SHARDS[2])


def test_the_index_selects_one_of_two_sets_of_shards(model: Path) -> None:
    sharded(3)(model)
    for name in SHARDS[2]:
        (model / name).hardlink_to(model / SHARDS[3][0])
    assert inspect_checkpoint(str(model)).weights == tuple(SHARDS[3])
    (model / INDEX).unlink()
    assert inspect_checkpoint(str(model)).weights == ()


def test_the_fix_for_an_entry_of_the_cache_names_its_snapshot(here: Path, model: Path) -> None:
    entry = model.parent / f"models--meta-llama--{MODEL}"
    for name in ("0a1b", "ffff"):
        (entry / "snapshots" / name).mkdir(parents=True)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("ffff")
    change(here / SUMMARY, str(model), str(entry))
    problem = refused(here)
    assert problem.fix.endswith(f"{entry}/snapshots/ffff")


def in_cache(model: Path, name: str) -> Path:
    """Move the model into a cache of the Hugging Face libraries: links to blobs."""
    entry = model.parent / f"models--org--{name}"
    snapshot = entry / "snapshots" / "0a1b2c"
    (entry / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in model.rglob("*") if path.is_file())):
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        file.rename(entry / "blobs" / str(number))
        link.symlink_to(os.path.relpath(entry / "blobs" / str(number), link.parent))
    return snapshot


@pytest.mark.parametrize(("name", "codes"), [(MODEL, []), ("Llama-3.2-1B", ["name-mismatch"])])
def test_a_snapshot_in_the_cache_is_read_and_its_name_is_checked(
    here: Path, model: Path, name: str, codes: list[str]
) -> None:
    change(here / SUMMARY, str(model), str(in_cache(model, name)))
    result = scaffold(here)
    assert result.ok
    assert [each.code for each in result.plan.warnings if each.code in {"name-mismatch", "not-seen"} and
        each.field != "dataset"] == codes  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("generation", GENERATIONS)
def test_an_external_script_that_names_different_files_is_refused_before_anything_is_written(
    here: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: str
) -> None:
    monkeypatch.setenv("USER", "ada")
    if generation == "august":
        change(here / SUMMARY, "**Epochs:** 2", "**Epochs:** 2\n- **Dataset type:** chat_completion")
    script = str(kit(tmp_path / "kit", generation))
    assert not errors_in(steps.plan(Request(here, setup_script=script)).warnings)
    sharded(3)(model)
    problems = refusal(steps.scaffold, here, setup_script=script).problems
    found = [each for each in problems if each.field == "checkpoint_files"]
    assert [each.code for each in found] == ["value-mismatch"]
    assert absent(found[0].fix, "bundled") == []
    assert not (here / RUN).exists()
