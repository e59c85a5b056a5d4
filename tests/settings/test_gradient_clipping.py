"""Gradient clipping and activation checkpointing, from the documents to finetune.yaml and its validation."""

from typing import Any

import pytest

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import Interface, Option, Options
from scaffold_torchtune.plan import make_plan
from scaffold_torchtune.plan.run_settings import PlanContext
from scaffold_torchtune.validate import validate_run
from support import good_files
from support.documents import MODEL, parsed, planned, refusal, runs, summary, table
from support.good_files import GOOD_CONFIG, files_of, replaced
from support.setup_texts import config_of, problems_of, text_of
from support.templates import planned_with


def configured(label: str, text: str) -> Any:
    rows = table(["Run Name", "Model", "Type"], [["run_1", MODEL, "Fine-tuned"]])
    return planned(summary(table=rows, training={label: text})).runs[0].settings


@pytest.mark.parametrize("label", ["Gradient clipping", "Max grad norm", "clip_grad_norm", "Clip Grad Norm"])
@pytest.mark.parametrize(("text", "value"), [("1.0", 1.0), ("1", 1.0), ("`0.5`", 0.5), ("1e-2", 0.01)])
def test_a_norm_is_planned_under_each_label(label: str, text: str, value: float) -> None:
    found = configured(label, text)["clip_grad_norm"].value
    assert (type(found), found) == (float, value)


@pytest.mark.parametrize("text", ["none", "off", "Off", "no", "disabled", "default", "-", "(none)", "n/a"])
def test_switched_off_clipping_is_not_planned(text: str) -> None:
    assert "clip_grad_norm" not in configured("Gradient clipping", text)
    rows = runs(2, Gradient_clipping=[text, "1.0"])
    plan = planned(summary(table=rows))
    assert ["clip_grad_norm" in run.settings for run in plan.runs] == [False, True]
    assert plan.varying == ("clip_grad_norm",)
    assert "clip_grad_norm" not in planned_with(f"clip_grad_norm: {text!r}\n").runs[0].settings


@pytest.mark.parametrize("text", ["0", "-1", "yes", "1,0", "strong", "1e7", "inf"])
def test_a_value_that_is_not_a_positive_number_is_refused(text: str) -> None:
    (problem,) = refusal(configured, "Gradient clipping", text)
    assert (problem.code, problem.field) == ("invalid-value", "clip_grad_norm")
    if text != "1,0":
        assert problems_of(text_of() + f"clip_grad_norm: {text}\n") == [("invalid-value", "clip_grad_norm")]


def test_the_norm_is_written_to_the_top_level() -> None:
    assert config_of(clip_grad_norm=1.5)["clip_grad_norm"] == 1.5
    assert config_of()["clip_grad_norm"] is None
    assert config_of(clip_grad_norm=None)["clip_grad_norm"] is None


def with_script(options: dict[str, Option], **training: str) -> Any:
    context = PlanContext("/lab/sweep", "/home/ada", "/templates", lambda _: True, interface=Interface(options=options))
    return make_plan(parsed(summary(training=dict(training))), Options(setup_script="/opt/setup_finetune.py"), context)


@pytest.mark.parametrize(("key", "text"), [("clip_grad_norm", "1.0"), ("enable_activation_checkpointing", "no")])
def test_a_setting_without_an_option_of_the_script_is_refused(key: str, text: str) -> None:
    taken = [
        "experiment_name", "my_wandb_project", "my_wandb_run_name", "output_dir_base", "input_dir_base",
        "input_formatting", "dataset_label", "dataset_ext", "torchtune_model_name", "model_checkpoint", "models_dir",
        "lora_rank", "lr", "batch_size", "epochs", "conda_env",
    ]  # fmt: skip
    options = {name: Option() for name in taken}
    found: tuple[Finding, ...] = refusal(with_script, options, **{key: text})
    assert [(p.code, p.field) for p in found] == [("untaken-setting", key)]
    plan = with_script({**options, key: Option()}, **{key: text})
    assert key in plan.runs[0].settings
    assert key not in plan.runs[0].unwritten


@pytest.mark.parametrize(
    ("written", "code"),
    [("1.5", None), ("2.0", "value-mismatch"), ("'1.5'", "wrong-type"), ("null", "missing-value")],
)
def test_the_norm_is_validated_where_torchtune_reads_it(written: str, code: str | None) -> None:
    run = good_files.planned({"clip_grad_norm": 1.5})
    config = replaced(GOOD_CONFIG, "compile: false", f"compile: false\nclip_grad_norm: {written}")
    found = validate_run(run, files_of(run, config), bundled=True)
    assert [(f.code, f.field) for f in found] == ([(code, "clip_grad_norm")] if code else [])


@pytest.mark.parametrize("label", ["Activation checkpointing", "enable_activation_checkpointing"])
def test_activation_checkpointing_is_planned_if_it_is_given(label: str) -> None:
    assert configured(label, "yes")["enable_activation_checkpointing"].value is True
    assert configured(label, "no")["enable_activation_checkpointing"].value is False
    assert "enable_activation_checkpointing" not in configured(label, "-")


@pytest.mark.parametrize(
    ("model", "recipe", "stock"),
    [
        ("Llama-3.2-1B-Instruct", "lora_finetune_single_device", False),
        ("Llama-3.2-3B-Instruct", "lora_finetune_single_device", True),
        ("Llama-3.2-3B-Instruct", "full_finetune_single_device", True),
    ],
)
def test_the_stock_value_of_the_model_is_the_default(model: str, recipe: str, stock: bool) -> None:
    key = "enable_activation_checkpointing"
    usual: dict[str, Any] = {"torchtune_model_name": model, "custom_recipe": recipe}
    assert config_of(**usual)[key] is stock
    assert [config_of(**usual, **{key: given})[key] for given in (True, False)] == [True, False]
    assert problems_of(text_of(**usual, **{key: "on"})) == [("invalid-value", key)]


@pytest.mark.parametrize(("written", "code"), [("true", None), ("false", "value-mismatch"), ("'true'", "wrong-type")])
def test_activation_checkpointing_is_validated_where_torchtune_reads_it(written: str, code: str | None) -> None:
    key = "enable_activation_checkpointing"
    run = good_files.planned({key: True})
    found = validate_run(run, files_of(run, replaced(GOOD_CONFIG, f"{key}: false", f"{key}: {written}")), bundled=True)
    assert [(f.code, f.field) for f in found] == ([(code, key)] if code else [])
