"""Differences allowed between a saved state and the plan that resumes it, key by key of finetune.yaml."""

from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import DiskState, Results
from scaffold_torchtune.preflight import resuming_findings
from support.plans import LINES, SUMMARY, plan_of, run_of
from support.wording import absent

# ruff: noqa: E501 - the tables of cases have one case a line

CONFIG: dict[str, Any] = {
    "seed": 14,
    "epochs": 2,
    "model": {"_component_": "torchtune.models.llama3_2.lora_llama3_2_1b", "lora_attn_modules": ["q_proj", "v_proj"]},
    "optimizer": {"lr": 1e-5, "fused": True},
}


def found(
    there: dict[str, Any] | None, here: dict[str, Any] | None = CONFIG, *, done: int = 1, epochs: int | None = 2
) -> list[Finding]:
    """Return the findings about a planned run that would resume a state after `done` epochs of that training."""
    plan = plan_of({"epochs": epochs}, {})
    disk = DiskState(states={"run0": Results(names=(), text="", epochs=done)})
    planned = {name: here for name in ("run0", "run1") if here is not None}
    saved = {"run0": there} if there is not None else {}
    return list(resuming_findings(plan, disk, planned, saved))


def test_the_same_training_has_no_finding() -> None:
    assert found(CONFIG) == []
    assert found({**CONFIG, "seed": 15}, None) == []  # the plan is not known yet


def test_a_state_without_a_config_is_a_warning() -> None:
    (finding,) = found(None)
    assert (finding.code, finding.severity, finding.field) == (
        "other-state",
        Severity.WARNING,
        "resume_from_checkpoint",
    )
    assert absent(finding.message, "run0", "torchtune_config.yaml") == []


@pytest.mark.parametrize(
    ("there", "field", "expected", "actual"),
    [
        ({"seed": 15}, "seed", 14, 15),
        ({"seed": None}, "seed", 14, None),
        ({"compile": True}, "compile", None, True),
        ({"optimizer": {"lr": 2e-5, "fused": True}}, "lr", 1e-5, 2e-5),
        ({"optimizer": {"lr": 1e-5, "fused": False}}, "fused", True, False),
        ({"optimizer": {"lr": 1e-5, "fused": True, "epochs": 3}}, "epochs", None, 3),  # not the epochs of the recipe
        ({"model": {**CONFIG["model"], "lora_attn_modules": ["q_proj"]}}, "lora_attn_modules", "['q_proj', 'v_proj']", "['q_proj']"),
        ({"model": {**CONFIG["model"], "_component_": "x"}}, "torchtune_model_name", CONFIG["model"]["_component_"], "x"),
        ({"checkpointer": {"checkpoint_dir": "/m"}}, "model_checkpoint", None, "/m"),
        ({"dataset": {"data_files": "/d"}}, "dataset_label", None, "/d"),
        ({"dataset": {"_component_": "c"}}, "dataset_type", None, "c"),
        ({"dataset": {"new_system_prompt": "p"}}, "system_prompt", None, "p"),
        ({"dataset": {"split": "train[:4]"}}, "training_samples", None, "train[:4]"),
        ({"dataset": {"packed": "x" * 300}}, "packed", None, "x" * 200),
        ({"dataset": {"field": ["x" * 300]}}, "field", None, str(["x" * 300])[:200]),
    ],
)  # fmt: skip
def test_a_different_value_is_refused(there: dict[str, Any], field: str, expected: Any, actual: Any) -> None:
    (finding,) = found({**CONFIG, **there})
    assert (finding.code, finding.severity) == ("other-state", Severity.ERROR)
    assert (finding.field, finding.expected, finding.actual) == (field, expected, actual)
    assert "; so would" not in finding.message
    is_none = None in {expected, actual}
    assert absent(finding.message, "not set", "None") == (["None"] if is_none else ["not set", "None"])
    named = "the path of the data set" if field == "dataset_label" else field
    assert absent(finding.fix, named, "Resume from checkpoint") == []


def test_a_value_that_the_state_lacks_is_refused() -> None:
    (finding,) = found(CONFIG, {**CONFIG, "compile": True})
    assert (finding.field, finding.expected, finding.actual) == ("compile", True, None)


@pytest.mark.parametrize(
    "key",
    [
        "resume_from_checkpoint", "metric_logger", "log_every_n_steps", "log_peak_memory_stats", "profiler",
        "save_adapter_weights_only", "low_cpu_ram", "models_dir", "input_dir", "dataset_label", "my_wandb_project",
        "my_wandb_run_name", "dataset_val", "run_val_every_n_steps", "batch_size_val", "enable_activation_checkpointing",
        "enable_activation_offloading",
    ],
)  # fmt: skip
def test_keys_that_do_not_affect_the_training_may_differ(key: str) -> None:
    assert found({**CONFIG, key: "x"}) == []
    assert found({**CONFIG, key: {"a": 1}}, {**CONFIG, key: {"a": 2}}) == []
    assert len(found({**CONFIG, "loss": {key: "x"}})) == 1


def test_null_equals_absent_and_a_tuple_equals_a_list() -> None:
    assert found({**CONFIG, "clip_grad_norm": None, "loss": {"a": None}}) == []
    assert found({**CONFIG, "betas": (0.9, 0.95)}, {**CONFIG, "betas": [0.9, 0.95]}) == []


def test_all_differences_are_listed_and_the_first_one_gives_the_line() -> None:
    (finding,) = found({**CONFIG, "seed": 15, "optimizer": {"lr": 2e-5, "fused": False}, "x": 1, "y": 2, "z": 3})
    assert (finding.field, finding.file, finding.line) == ("seed", SUMMARY, LINES["seed"])
    assert absent(finding.message, "seed", "optimizer.lr", "optimizer.fused", "x", "y") == []


@pytest.mark.parametrize(
    ("planned", "before", "done", "severity", "expected", "actual"),
    [
        (2, 2, 1, None, None, None), (3, 2, 1, None, None, None), (1, 1, 1, None, None, None), (2, 2, 2, None, None, None),
        (1, 2, 1, Severity.ERROR, "more than 1", 1), (2, 3, 2, Severity.ERROR, "more than 2", 2),
        (2, 3, 3, Severity.ERROR, "more than 3", 2), (2, 3, 1, None, None, None),
        (3, 2, 2, Severity.WARNING, None, None), (3, 2, 3, Severity.ERROR, "more than 3", 3),
        (None, 2, 1, Severity.ERROR, "more than 1", 1), (None, 2, 0, None, None, None),
        (2, None, 1, None, None, None), (2, "x", 1, None, None, None),
    ],
)  # fmt: skip
def test_epochs_of_the_plan_and_of_the_state(
    planned: int | None, before: Any, done: int, severity: Severity | None, expected: Any, actual: Any
) -> None:
    """Expect no completed epoch to be repeated, except the last one of a completed training."""
    findings = found({**CONFIG, "epochs": before}, done=done, epochs=planned)
    assert [(each.field, each.severity) for each in findings] == ([("epochs", severity)] if severity else [])
    for each in findings:
        assert (each.code, each.expected, each.actual) == ("other-state", expected, actual)
        assert each.line == (LINES["epochs"] if planned is not None else None)


def test_runs_without_a_state_start_from_the_beginning() -> None:
    assert list(resuming_findings(plan_of(run_of({})), DiskState(), {}, {})) == []
