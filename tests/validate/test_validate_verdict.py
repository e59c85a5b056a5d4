"""The verdict on all runs: success with no runs checked, or with too few, is a failure."""

import pytest
import yaml

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import finding
from scaffold_torchtune.models import Arrival
from scaffold_torchtune.validate import chosen_by_setup, validate_run, verdict
from scaffold_torchtune.validate.run_files import RunFiles
from support.good_files import GOOD_CONFIG, files_of, planned, replaced
from support.plans import plan_of, plan_of_directories
from support.wording import absent


def test_the_verdict_requires_every_run_and_no_error() -> None:
    warning, error = finding("default-differs", "w"), finding("value-mismatch", "e")
    good = verdict(plan_of_directories("a", "b"), {"b": (warning,), "a": ()})
    assert (good.passed, good.checked, good.planned, good.findings) == (True, 2, 2, ())
    assert [run.directory for run in good.runs] == ["a", "b"]
    bad = verdict(plan_of_directories("a", "b"), {"a": (), "b": (error,)})
    assert (bad.passed, [run.passed for run in bad.runs]) == (False, [True, False])
    assert not verdict(plan_of_directories("a"), {"a": ()}, [error]).passed
    assert verdict(plan_of_directories("a"), {"a": ()}, [warning]).passed


@pytest.mark.parametrize(
    ("planned", "checked"), [([], []), (["a"], []), (["a", "b"], ["a"]), (["a"], ["c"]), (["a", "a"], ["a"])]
)
def test_success_with_too_few_runs_checked_is_a_failure(planned: list[str], checked: list[str]) -> None:
    result = verdict(plan_of_directories(*planned), dict.fromkeys(checked, ()))
    assert not result.passed
    assert [(f.code, f.severity) for f in result.findings] == [("nothing-checked", Severity.ERROR)]


def test_settings_that_only_the_setup_script_chose_are_listed() -> None:
    plan = plan_of({"seed": None, "clip_grad_norm": None})
    run = plan.runs[0]
    config = yaml.safe_load(GOOD_CONFIG) | {"clip_grad_norm": None, "save_adapter_weights_only": True, "seed": 7}
    chosen = chosen_by_setup(plan, {run.directory: RunFiles({"finetune.yaml": yaml.safe_dump(config)})})
    assert chosen["seed"] == 7
    assert chosen["clip_grad_norm"] == "none"
    assert "batch_size" not in chosen, "the plan has it"
    assert chosen["optimizer"] == config["optimizer"]["_component_"].rpartition(".")[2]
    assert not [name for name in chosen if name.startswith(("save_", "epochs_", "resume_"))]
    assert not [name for name in chosen if name in {"output_dir", "device", "tokenizer", "model"}]


def test_settings_that_the_setup_script_chose_differently_are_listed_with_each_value() -> None:
    plan = plan_of({}, {"torchtune_model_name": "Llama-3.2-3B-Instruct"})
    texts = {"run0": GOOD_CONFIG, "run1": replaced(GOOD_CONFIG, "dtype: bf16", "dtype: fp32")}
    chosen = chosen_by_setup(plan, {run: RunFiles({"finetune.yaml": text}) for run, text in texts.items()})
    assert chosen["dtype"] == "bf16 or fp32"
    assert chosen["shuffle"] is True
    (alone,) = chosen_by_setup(plan, {"run0": RunFiles({"finetune.yaml": "dtype: bf16\n"})}).items()
    assert alone == ("dtype", "bf16")


def test_a_value_of_a_directory_name_that_finetune_yaml_lacks_is_missing() -> None:
    run = planned()
    found = validate_run(run, files_of(run, replaced(GOOD_CONFIG, "  lora_rank: 8\n", "")), bundled=True)
    (one,) = (each for each in found if each.code == "name-mismatch")
    assert (one.field, one.actual) == ("lora_rank", None)
    assert absent(one.message, "is missing") == []


def test_every_looked_up_value_is_recorded_with_its_place() -> None:
    run, found = planned(), list[Arrival]()
    assert validate_run(run, files_of(run, GOOD_CONFIG), bundled=True, arrivals=found) == ()
    lr = next(each for each in found if each.setting == "lr" and each.file == "finetune.yaml")
    assert (lr.expected, lr.found, lr.arrived) == (1e-5, 1e-5, True)
    assert GOOD_CONFIG.splitlines()[(lr.line or 0) - 1].strip().startswith("lr:")
    assert any(each.file == "finetune.slurm" and each.arrived for each in found)
