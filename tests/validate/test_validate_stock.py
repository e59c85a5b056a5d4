"""Values that are neither in the plan nor in torchtune's stock configs: reported wherever the recipe reads them."""

from pathlib import Path

import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.system.serialization import read_yaml
from scaffold_torchtune.torchtune_facts import known_models
from scaffold_torchtune.torchtune_facts.facts import load
from scaffold_torchtune.validate import finetune, validate_run
from scaffold_torchtune.validate.report import Report
from support.experiments import make_experiment
from support.good_files import (
    CONFIG,
    EXTERNAL_CONFIG,
    EXTERNAL_SLURM,
    GOOD_CONFIG,
    GOOD_SLURM,
    RUN,
    files_of,
    planned,
    replaced,
)
from support.sampling import spread
from support.wording import absent

# ruff: noqa: E501 - the table of faults has one fault a line


# The replacement in a correct finetune.yaml, and the field of the only finding.
FAULTS = [
    ("dtype: bf16", "dtype: fp32", "dtype"),
    ("device: cuda", "device: cpu", "device"),
    ("shuffle: true", "shuffle: false", "shuffle"),
    ("shuffle: true", "shuffle: 1", "shuffle"),
    ("compile: false", "compile: true", "compile"),
    ("compile: false", "compile: 'false'", "compile"),
    ("compile: false", "compile: false\nclip_grad_norm: 1.0", "clip_grad_norm"),
    ("max_steps_per_epoch: null", "max_steps_per_epoch: 3", "max_steps_per_epoch"),
    ("fused: true", "fused: false", "optimizer.fused"),
    ("fused: true", "fused: true\n  amsgrad: true", "optimizer.amsgrad"),
    ("fused: true", "fused: true\n  betas: [0.9, 0.95]", "optimizer.betas"),
    ("num_warmup_steps: 100", "num_warmup_steps: 100\n  num_cycles: 2", "lr_scheduler.num_cycles"),
    ("apply_lora_to_mlp: true", "apply_lora_to_mlp: false", "model.apply_lora_to_mlp"),
    ("apply_lora_to_mlp: true", "apply_lora_to_mlp: true\n  quantize_base: true", "model.quantize_base"),
    ("[q_proj, v_proj, output_proj]", "[q_proj]", "model.lora_attn_modules"),
    ("[q_proj, v_proj, output_proj]", "[q_proj, k_proj, v_proj, output_proj]", "model.lora_attn_modules"),
    ("max_seq_len: 2048\n", "max_seq_len: 2048\n  prompt_template: {user: ['Say ', '!']}\n", "tokenizer.prompt_template.user"),
    ("max_seq_len: 2048\n", "max_seq_len: 2048\n  prompt_template: {assistant: ['So: ', '']}\n", "tokenizer.prompt_template.assistant"),
    ("enable_activation_offloading: false", "enable_activation_offloading: true", "enable_activation_offloading"),
    ("mode: offline", "mode: online", "metric_logger.mode"),
    ("mode: offline", "mode: offline\n  group: mine", "metric_logger.group"),
    ("dtype: bf16", "dtype: bf16\nprofiler: {_component_: torchtune.training.setup_torch_profiler, enabled: true}", "profiler.enabled"),
    ("dtype: bf16", "dtype: bf16\nprofiler: {_component_: torchtune.training.setup_torch_profiler, output_dir: /x}", "profiler.output_dir"),
    ("log_dir: ${output_dir}/logs", "log_dir: /scratch/me/out/capitals/ck-out-rank8_lr1e-51", "metric_logger.log_dir"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "field"), FAULTS, ids=[f"{new}" for _, new, _ in FAULTS])
def test_an_unplanned_value_is_an_error_at_its_line(old: str, new: str, field: str) -> None:
    run = planned()
    text = replaced(GOOD_CONFIG, old, new)
    (finding,) = errors_in(validate_run(run, files_of(run, text), bundled=True))
    assert (finding.code, finding.field, finding.file) == ("unplanned-value", field, f"{RUN}/{CONFIG}")
    assert finding.line is not None
    assert field.rsplit(".", 1)[-1] in text.splitlines()[finding.line - 1]


def test_the_value_of_the_stock_configs_is_the_expected_one() -> None:
    run = planned()
    files = files_of(run, replaced(GOOD_CONFIG, "dtype: bf16", "dtype: fp32"))
    (finding,) = errors_in(validate_run(run, files, bundled=True))
    assert absent(finding.message, "dtype", "'fp32'", "'bf16'") == []
    assert (finding.expected, finding.actual) == ("bf16", "fp32")


@pytest.mark.parametrize(
    ("model", "text", "expected"),
    [
        ("Llama-3.2-1B-Instruct", "model: {apply_lora_to_output: true}", False),
        ("Llama-3.2-1B-Instruct", "model: {apply_lora_to_output: false}", None),
        ("Llama-3.1-8B", "model: {apply_lora_to_output: true}", False),
        ("Mistral-7B-v0.1", "model: {apply_lora_to_output: true}", None),
        ("Llama-3.2-1B-Instruct", "lr_scheduler: {num_warmup_steps: 10}", 100),
        ("gemma-2-2b-it", "lr_scheduler: {num_warmup_steps: 10}", None),
        ("a model of mine", "model: {apply_lora_to_output: true}", None),
    ],
)
def test_the_stock_values_of_the_model_are_used_not_those_of_other_models(
    model: str, text: str, expected: bool | int | None
) -> None:
    run = planned({"torchtune_model_name": model})
    report = Report(run, CONFIG, bundled=False)
    data = read_yaml(text).data
    facts = load().model(model)
    data.setdefault("model", {})["_component_"] = facts.lora_builder if facts else "mine.own"
    finetune.check_unplanned(report, data, [])
    assert [(str(f.severity), f.expected) for f in report.findings] == (
        [("warning", expected)] if expected is not None else []
    )


@pytest.mark.parametrize("same", ["use_dora: false", "quantize_base: false", "tie_word_embeddings: true"])
def test_the_default_of_an_argument_has_no_finding(same: str) -> None:
    run = planned()
    text = replaced(GOOD_CONFIG, "lora_rank: 8\n", f"lora_rank: 8\n  {same}\n")
    assert not validate_run(run, files_of(run, text), bundled=True)


def test_the_default_is_the_expected_value_if_no_stock_config_has_one() -> None:
    run = planned()
    files = files_of(run, replaced(GOOD_CONFIG, "fused: true", "fused: true\n  amsgrad: true"))
    (finding,) = errors_in(validate_run(run, files, bundled=True))
    assert (finding.code, finding.expected, finding.actual) == ("unplanned-value", False, True)
    assert absent(finding.message, "optimizer.amsgrad", "True", "False") == []


OTHER_RECIPES = {"": "", "my.recipe": "my.recipe.__main__", "own": "kit.lora_finetune_single_device_nightly.__main__"}


@pytest.mark.parametrize("recipe", OTHER_RECIPES)
@pytest.mark.parametrize(
    ("old", "new", "field", "severity"),
    [
        ("dtype: bf16", "dtype: fp32", "dtype", "error"),
        ("max_steps_per_epoch: null", "max_steps_per_epoch: 5", "max_steps_per_epoch", "error"),
        ("compile: false", "compile: true", "compile", "warning"),
        ("fused: true", "fused: true\n  amsgrad: true", "optimizer.amsgrad", "warning"),
    ],
)
def test_an_unplanned_value_of_an_external_script_is_an_error_if_it_changes_the_training(
    recipe: str, old: str, new: str, field: str, severity: str
) -> None:
    run = planned({"custom_recipe": recipe} if recipe == "my.recipe" else {})
    slurm = replaced(EXTERNAL_SLURM, "lora_finetune_single_device", OTHER_RECIPES[recipe]) if recipe else EXTERNAL_SLURM
    files = files_of(run, replaced(EXTERNAL_CONFIG, old, new), slurm)
    found = [f for f in validate_run(run, files, bundled=False) if f.field == field]
    assert [(f.code, str(f.severity)) for f in found] == [("unplanned-value", severity)]


def test_additional_keys_of_a_custom_recipe_have_no_finding() -> None:
    run = planned({"custom_recipe": "my.recipe"})
    slurm = replaced(EXTERNAL_SLURM, "lora_finetune_single_device", "my.recipe.__main__")
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG + "my_own: 7\n", slurm), bundled=False)
    assert "my_own" not in {f.field for f in found}


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("model", spread(known_models(), 4))
def test_no_scaffolded_model_has_a_finding(tmp_path: Path, model: str, gpus: int) -> None:
    replace = {"Llama-3.2-1B-Instruct": model, "**GPUs:** 1": f"**GPUs:** {gpus}"}
    without = ["- **Recipe:**", "- **Runs:**", "_rank16_", "_rank8_lr5e-5"]
    if model.startswith(("Mistral", "gemma-2")):
        without.append("System prompt")  # its chat template accepts none, or its tokenizer joins it to the input
    experiment = make_experiment(tmp_path / "sweep", replace=replace, without=without)
    result = steps.scaffold(Request(experiment))
    assert result.ok
    assert [f for run in result.validation.runs for f in run.findings] == []


@pytest.mark.parametrize(
    ("recipe", "gpus", "text", "fields"),
    [
        ("mine.train", 1, "low_cpu_ram: true", ["low_cpu_ram"]),
        ("mine.train", 2, "low_cpu_ram: true", []),
        ("mine.train", None, "low_cpu_ram: true", ["low_cpu_ram"]),
        ("mine.train", 1, "fsdp_cpu_offload: true", []),
        ("mine.train", 2, "fsdp_cpu_offload: true", ["fsdp_cpu_offload"]),
        ("full_finetune_single_device", 1, "optimizer:\n  _component_: bitsandbytes.optim.PagedAdamW", []),
        (
            "lora_finetune_single_device",
            1,
            "optimizer:\n  _component_: bitsandbytes.optim.PagedAdamW",
            ["optimizer._component_"],
        ),
    ],
)
def test_the_stock_configs_of_the_method_and_the_gpus_are_used(
    recipe: str, gpus: int | None, text: str, fields: list[str]
) -> None:
    run = planned({"custom_recipe": recipe, "gpus": gpus})
    report = Report(run, CONFIG, bundled=True)
    finetune.check_unplanned(report, read_yaml(text).data, [])
    assert [found.field for found in report.findings] == fields


def test_components_that_the_plan_determines_are_checked_elsewhere() -> None:
    report = Report(planned(), CONFIG, bundled=True)
    parts = ("model", "tokenizer", "checkpointer", "dataset")
    finetune.check_unplanned(report, {part: {"_component_": "mine.own"} for part in parts}, [])
    assert report.findings == []


def test_without_a_planned_output_directory_logs_may_be_anywhere() -> None:
    report = Report(planned(without="output_dir_base"), CONFIG, bundled=True)
    finetune.check_unplanned(report, {"metric_logger": {"log_dir": "/x"}, "output_dir": "/y"}, [])
    assert report.findings == []


_NODE = {
    "optimizer": "  _component_: torch.optim.AdamW\n",
    "loss": "  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss\n",
    "metric_logger": "  _component_: torchtune.training.metric_logging.WandBLogger\n",
}


@pytest.mark.parametrize("bundled", [True, False])
@pytest.mark.parametrize("name", _NODE)
def test_a_node_without_a_component_is_an_error(name: str, *, bundled: bool) -> None:
    run = planned(without="my_wandb_project")
    config = replaced(GOOD_CONFIG, _NODE[name], "  {}\n" if name == "loss" else "")
    found = errors_in(validate_run(run, files_of(run, config), bundled=bundled))
    field = f"{name}._component_"
    assert [(f.code, f.field) for f in found if f.field == field] == [("missing-value", field)]


@pytest.mark.parametrize("value", ["null", "torchtune.modules.loss.CEWithChunkedOutputLoss", "[]", "{}"])
@pytest.mark.parametrize("recipe", ["", "my.recipe"])
def test_a_node_that_is_not_a_mapping_with_a_component_is_an_error_for_a_known_recipe(value: str, recipe: str) -> None:
    run = planned({"custom_recipe": recipe} if recipe else {})
    config = replaced(GOOD_CONFIG, f"loss:\n{_NODE['loss']}", f"loss: {value}\n")
    slurm = replaced(GOOD_SLURM, "lora_finetune_single_device", recipe) if recipe else GOOD_SLURM
    found = validate_run(run, files_of(run, config, slurm), bundled=False)
    reported = [(f.code, str(f.severity)) for f in found if f.field == "loss._component_"]
    assert reported == [("missing-value", "warning" if recipe else "error")]


def test_full_fine_tuning_needs_no_lr_scheduler() -> None:
    report = Report(planned({"custom_recipe": "full_finetune_single_device"}), CONFIG, bundled=True)
    finetune.check_named(report, {"lr_scheduler": None}, "full_finetune_single_device")
    assert report.findings == []
    finetune.check_named(report, {"optimizer": None}, "full_finetune_single_device")
    assert [f.field for f in report.findings] == ["optimizer._component_"]
