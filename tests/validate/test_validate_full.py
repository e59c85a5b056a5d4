"""The validate stage for full fine-tuning: correct files, and the same with one fault each."""

import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.torchtune_facts import OF_LORA
from scaffold_torchtune.validate import validate_run
from support import good_files
from support.good_files import CONFIG, GOOD_CONFIG, GOOD_SLURM, SETUP, SLURM, files_of, planned, replaced

# ruff: noqa: E501 - the table of faults has one fault a line


RUN = "lr1e-5_recipe-full"
BUILDER = "_component_: torchtune.models.llama3_2.llama3_2_1b\n"
LORA_BUILDER = "_component_: torchtune.models.llama3_2.lora_llama3_2_1b\n"
ARGUMENTS = """\
  lora_attn_modules: [q_proj, v_proj, output_proj]
  apply_lora_to_mlp: true
  lora_rank: 8
  lora_alpha: 16
  lora_dropout: 0.0
"""
GOOD = replaced(
    GOOD_CONFIG.replace(good_files.RUN, RUN), LORA_BUILDER + ARGUMENTS, BUILDER, "save_adapter_weights_only: true\n", "",
    "compile: false\n", "compile: false\noptimizer_in_bwd: false\n",
)  # fmt: skip
ONE_GPU = replaced(
    GOOD_SLURM.replace(good_files.RUN, RUN), "lora_finetune_single_device", "full_finetune_single_device"
)
TWO_GPUS = replaced(
    ONE_GPU, "gpu:1", "gpu:2", "run full_finetune_single_device", "run --nproc_per_node 2 full_finetune_distributed"
)


def full_run(gpus: int = 1, recipe: str = "") -> PlannedRun:
    form = "single_device" if gpus == 1 else "distributed"
    run = planned({"custom_recipe": recipe or f"full_finetune_{form}", "gpus": gpus, "my_wandb_run_name": RUN})
    kept = {name: setting for name, setting in run.settings.items() if name not in OF_LORA}
    return run.model_copy(update={"settings": kept, "directory": RUN})


def found_in(run: PlannedRun, config: str, slurm: str) -> list[tuple[str, str | None]]:
    return [(f.code, f.field) for f in errors_in(validate_run(run, files_of(run, config, slurm), bundled=True))]


@pytest.mark.parametrize(("gpus", "slurm"), [(1, ONE_GPU), (2, TWO_GPUS)])
def test_correct_files_have_no_finding(gpus: int, slurm: str) -> None:
    run = full_run(gpus)
    assert validate_run(run, files_of(run, GOOD, slurm), bundled=True) == ()


# One fault each: the file, the replacement, then the code, the field and the text on the line of the finding.
FAULTS: list[tuple[str, str, str, str, str, str]] = [
    (SETUP, "custom_recipe: full_finetune_single_device\n", "", "missing-value", "custom_recipe", ""),
    (SETUP, "custom_recipe: full_finetune_single_device\n", "custom_recipe: lora_finetune_single_device\n", "value-mismatch", "custom_recipe", "custom_recipe"),
    (SETUP, "batch_size: 4\n", "batch_size: 4\nlora_rank: 8\n", "unplanned-value", "lora_rank", "lora_rank"),
    (CONFIG, BUILDER, LORA_BUILDER, "value-mismatch", "torchtune_model_name", "lora_llama"),
    (CONFIG, BUILDER, LORA_BUILDER + ARGUMENTS, "value-mismatch", "torchtune_model_name", "lora_llama"),
    (CONFIG, "llama3_2_1b", "llama3_2_3b", "value-mismatch", "torchtune_model_name", "3b"),
    (CONFIG, BUILDER, BUILDER + "  lora_rank: 8\n", "unplanned-value", "model.lora_rank", "lora_rank"),
    (CONFIG, BUILDER, BUILDER + "  lora_attn_modules: [q_proj]\n", "unplanned-value", "model.lora_attn_modules", "lora_attn"),
    (CONFIG, BUILDER, BUILDER + "  apply_lora_to_mlp: false\n", "unplanned-value", "model.apply_lora_to_mlp", "apply_lora"),
    (CONFIG, "seed: 14\n", "seed: 14\nsave_adapter_weights_only: false\n", "unplanned-value", "save_adapter_weights_only", "save_adapter"),
    (CONFIG, "optimizer_in_bwd: false\n", "", "missing-value", "optimizer_in_bwd", ""),
    (CONFIG, "optimizer_in_bwd: false", "optimizer_in_bwd: true", "unplanned-value", "optimizer_in_bwd", "optimizer_in"),
    (CONFIG, "  lr: 1.0e-05\n", "", "missing-value", "lr", "optimizer:"),
    (CONFIG, "lr: 1.0e-05", "lr: 2.0e-05", "value-mismatch", "lr", "lr: 2"),
    (CONFIG, "weight_decay: 0.01", "weight_decay: 0.1", "value-mismatch", "weight_decay", "weight_decay"),
    (CONFIG, "torch.optim.AdamW", "bitsandbytes.optim.PagedAdamW", "unplanned-value", "optimizer._component_", "bitsandbytes"),
    (CONFIG, "lr_scheduler:\n  _component_: torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup\n  num_warmup_steps: 100\n", "", "missing-value", "num_warmup_steps", ""),
    (CONFIG, "gradient_accumulation_steps: 3\n", "", "missing-value", "gradient_accumulation_steps", ""),
    (SLURM, "full_finetune_single_device", "lora_finetune_single_device", "wrong-recipe", "custom_recipe", "tune run"),
    (SLURM, "full_finetune_single_device", "full_finetune_distributed", "wrong-recipe", "custom_recipe", "tune run"),
    (SLURM, "tune run", "tune run --nproc_per_node 1", "wrong-recipe", "gpus", "tune run"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "code", "field", "part"), FAULTS)
def test_each_fault_is_reported_at_its_line(file: str, old: str, new: str, code: str, field: str, part: str) -> None:
    run = full_run()
    files = files_of(run, GOOD, ONE_GPU)
    files[file] = replaced(str(files[file]), old, new)
    errors = errors_in(validate_run(run, files, bundled=True))
    found = [f for f in errors if (f.code, f.field, f.file) == (code, field, f"{RUN}/{file}")]
    assert found, errors
    lines = {n for n, line in enumerate(str(files[file]).split("\n"), 1) if part in line} if part else {None, 1}
    assert found[0].line in lines, found[0]
    assert {f.file for f in errors} == {f"{RUN}/{file}"}


@pytest.mark.parametrize("processes", ["--nproc_per_node 1 ", "--nproc_per_node 4 ", ""])
def test_processes_must_be_as_many_as_gpus(processes: str) -> None:
    slurm = replaced(TWO_GPUS, "--nproc_per_node 2 ", processes)
    assert found_in(full_run(2), GOOD, slurm) == [("wrong-recipe", "gpus")]


@pytest.mark.parametrize(
    ("gpus", "recipe", "slurm"),
    [(2, "full_finetune_single_device", TWO_GPUS), (1, "full_finetune_distributed", ONE_GPU)],
)
def test_a_planned_recipe_must_fit_the_planned_gpus(gpus: int, recipe: str, slurm: str) -> None:
    stock = "full_finetune_distributed" if gpus == 2 else "full_finetune_single_device"
    assert found_in(full_run(gpus, recipe), GOOD, replaced(slurm, stock, recipe)) == [("wrong-recipe", "gpus")]


def test_the_full_recipe_and_model_are_reported_if_lora_is_planned() -> None:
    run = planned()
    slurm = replaced(GOOD_SLURM, "lora_finetune", "full_finetune")
    assert found_in(run, GOOD_CONFIG, slurm) == [("wrong-recipe", "gpus")]
    assert ("value-mismatch", "torchtune_model_name") in found_in(
        run, replaced(GOOD_CONFIG, LORA_BUILDER, BUILDER), slurm
    )


def test_a_directory_with_a_rank_is_reported_for_a_full_run() -> None:
    run = full_run().model_copy(update={"directory": "rank8_lr1e-5"})
    assert ("name-mismatch", "lora_rank") in found_in(run, GOOD, ONE_GPU)


def test_an_external_script_may_add_keys_to_the_full_recipe() -> None:
    run = full_run()
    config = GOOD.replace("optimizer_in_bwd: false\n", "optimizer_in_bwd: false\nextra: 1\n")
    found = validate_run(run, files_of(run, config, ONE_GPU), bundled=False)
    assert [(f.code, str(f.severity)) for f in found] == [("unplanned-value", "warning")]
