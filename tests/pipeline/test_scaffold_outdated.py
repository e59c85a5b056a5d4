"""Documents that change between the steps, and state that was damaged or comes from a different experiment."""

import json
from pathlib import Path

import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request, Stopped
from support.experiments import RUNS, actions, change
from support.plan_files import change_plan
from support.scaffolding import codes, refusal, scaffold
from support.wording import absent


def test_setup_and_validate_need_a_plan(experiment: Path) -> None:
    for step in (steps.setup, steps.validate):
        assert codes(refusal(step, experiment)) == ["not-rendered"]
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_REFUSED"]  # setup writes, validate had nothing to close


def test_setup_needs_every_setup_finetune_yaml(experiment: Path) -> None:
    steps.render(Request(experiment))
    (experiment / RUNS[0] / "setup_finetune.yaml").unlink()
    (experiment / ".scaffold" / "runs" / f"{RUNS[1]}.json").unlink()
    assert codes(refusal(steps.setup, experiment)) == ["not-rendered", "not-rendered"]


def test_setup_refuses_a_plan_that_no_longer_fits_the_documents(experiment: Path) -> None:
    steps.render(Request(experiment))
    change(experiment / "experiment_summary.md", "| 8 | 5e-5 |", "| 8 | 6e-5 |")
    refused = refusal(steps.setup, experiment)
    assert codes(refused) == ["plan-outdated"]
    assert absent(refused.problems[0].message, *RUNS) == [run for run in RUNS if run != "rank8_lr5e-5"]
    assert not (experiment / RUNS[0] / "finetune.yaml").exists()


def test_setup_continues_if_changed_documents_give_the_same_plan(experiment: Path) -> None:
    steps.render(Request(experiment))
    change(experiment / "experiment_summary.md", "**Created:** 2026-11-20", "**Created:** 2026-11-21")
    assert steps.setup(Request(experiment)).failed == 0
    assert steps.validate(Request(experiment)).passed


def test_validate_reports_an_outdated_plan_and_the_log_has_failed(experiment: Path) -> None:
    scaffold(experiment)
    change(experiment / "claude.local.md", "`cruijff`", "`other`")
    result = steps.validate(Request(experiment))
    assert [f.code for f in errors_in(result.findings)] == ["plan-outdated"]
    assert not result.passed
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"


def test_refused_documents_make_the_plan_outdated(experiment: Path) -> None:
    scaffold(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** two")
    (finding,) = errors_in(steps.validate(Request(experiment)).findings)
    assert finding.code == "plan-outdated"
    assert "experiment_summary.md:46" in finding.message


def test_unreadable_documents_make_the_plan_outdated(experiment: Path) -> None:
    scaffold(experiment)
    (experiment / "experiment_summary.md").unlink()
    (finding,) = errors_in(steps.validate(Request(experiment)).findings)
    assert "experiment_summary.md" in finding.message


@pytest.mark.long
def test_a_template_of_the_operator_is_an_input(experiment: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.yaml.j2"
    template.write_text('{% extends "setup_finetune_template.yaml.j2" %}\n{% block checkpoints %}\n'
                        "save_adapter_weights_only: false\nsave_last_epoch_only: true\n{% endblock %}\n")  # fmt: skip
    assert scaffold(experiment, template=template).ok
    assert "save_last_epoch_only: true\n" in (experiment / RUNS[0] / "finetune.yaml").read_text()
    assert steps.validate(Request(experiment)).passed
    change(template, "only: true", "only: false")
    assert [f.code for f in errors_in(steps.validate(Request(experiment)).findings)] == ["plan-outdated"]
    template.unlink()
    assert [f.code for f in errors_in(steps.validate(Request(experiment)).findings)] == ["plan-outdated"]


# --- state from a different experiment --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plan.json", "progress.json", "runs/rank8_lr1e-5.json"])
def test_a_damaged_state_file_is_refused_with_its_name(experiment: Path, name: str) -> None:
    scaffold(experiment)
    (experiment / ".scaffold" / name).write_text('{"half": ')
    (experiment / RUNS[0] / "finetune.slurm").unlink()
    refused = refusal(steps.scaffold, experiment)
    assert not isinstance(refused, Stopped)
    assert codes(refused) == ["document-unreadable"]
    assert refused.problems[0].file == f".scaffold/{name}"


def test_an_invalid_start_time_is_refused(experiment: Path) -> None:
    scaffold(experiment)
    file = experiment / ".scaffold" / "progress.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"started": "yesterday"}))
    assert codes(refusal(steps.validate, experiment)) == ["document-unreadable"]


def test_a_plan_with_an_outside_directory_writes_nothing_there(experiment: Path) -> None:
    scaffold(experiment)
    change_plan(experiment, lambda plan: plan["runs"][0].update(directory="../elsewhere"))
    (experiment.parent / "elsewhere").mkdir()
    refused = refusal(steps.setup, experiment)
    assert codes(refused) == ["document-unreadable"]
    assert not list((experiment.parent / "elsewhere").iterdir())
