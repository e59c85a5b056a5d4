"""The exit status, the problems listed, and that nothing is written, when the command line refuses."""

import os
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from support.command_line import answer
from support.experiments import actions, log, make_experiment
from support.wording import absent

# The lines that set each required field, and the field as the refusal names it.
REQUIRED = {
    "experiment name": ["# cap_4L_lora_lr_sweep"],
    "fine-tuned runs": ["| Fine-tuned |"],
    "path of model Llama-3.2-1B-Instruct": ["**Llama-3.2-1B-Instruct**", "Models directory", "- Models: `"],
    "dataset": ["**Path**: `", "- Dataset: `"],
    "epochs": ["**Epochs:**"],
    "conda_env": ["Default conda environment"],
    "my_wandb_project": ["Default project"],
    "output_dir_base": ["Output base directory", "Checkpoint directory"],
}


def check_refused(experiment: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Check that every step refuses with status 2; writing steps log one entry each, and nothing else is written."""
    problems: list[dict[str, Any]] = []
    for step in ("parse", "plan", "render", "scaffold"):
        if step == "parse" and options:
            continue
        before = actions(experiment)
        status = main([step, str(experiment), "--json", *(options if step != "parse" else ())])
        found = answer(capsys)
        if step == "parse" and status == 0:
            continue  # only planning detects it
        assert status == 2
        problems = found["error"]["problems"]
        assert actions(experiment)[len(before) :] == (
            ["SCAFFOLD_TORCHTUNE_REFUSED"] if step in {"render", "scaffold"} else []
        )
        assert sorted(path.name for path in experiment.iterdir() if path.name != "scaffold.log") == [
            "claude.local.md",
            "data",
            "experiment_summary.md",
        ]
    assert all(problem["fix"] for problem in problems)
    return problems


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named_and_nothing_is_written(
    tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=REQUIRED[field])
    problems = check_refused(experiment, capsys)
    assert field in [p["field"] for p in problems if p["code"] in {"missing-field", "no-runs"}], problems
    assert field.rpartition(" ")[2] in log(experiment)


def test_a_missing_batch_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = {f"| {rate} | 4 |": f"| {rate} | - |" for rate in ("1e-5", "5e-5")}
    experiment = make_experiment(tmp_path / "sweep", without=["**Batch size:**"], replace=cells)
    assert [p["field"] for p in check_refused(experiment, capsys)] == ["batch_size"]


def test_every_missing_field_is_listed_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = [part for name, parts in REQUIRED.items() if name != "fine-tuned runs" for part in parts]
    experiment = make_experiment(tmp_path / "sweep", without=without)
    problems = check_refused(experiment, capsys)
    assert {p["field"] for p in problems} == REQUIRED.keys() - {"fine-tuned runs"}
    assert {p["file"] for p in problems} == {"experiment_summary.md", "claude.local.md"}


def test_a_data_format_without_a_template_is_refused_with_the_supported_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"words_4L_80P_300.json": "words_4L_80P_300.csv"})
    (problem,) = check_refused(experiment, capsys)
    assert (problem["code"], problem["actual"], problem["expected"]) == (
        "unsupported-format",
        ".csv",
        ".json or .parquet",
    )


def test_a_missing_template_is_refused_with_its_path_and_a_way_to_create_one(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "gone.yaml.j2"
    (problem,) = check_refused(experiment, capsys, "--template", str(template))
    assert (problem["code"], problem["expected"]) == ("missing-template", str(template))
    assert "setup_finetune_template.yaml.j2" in problem["fix"]


def test_an_unknown_model_is_refused_with_a_close_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"Llama-3.2-1B-Instruct": "Llama-3.2-1B-Instrct"})
    (problem,) = check_refused(experiment, capsys)
    assert problem["code"] == "unknown-model"
    assert absent(problem["message"], "'Llama-3.2-1B-Instrct'", "'Llama-3.2-1B-Instruct'") == []


@pytest.mark.long
def test_a_broken_template_is_refused_before_anything_is_written(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.yaml.j2"
    template.write_text("lora_rank: {{ settings.lora_rnk }}\n")
    (problem,) = check_refused(experiment, capsys, "--template", str(template))
    assert problem["code"] == "template-error"


@pytest.mark.long
def test_settings_that_setup_finetune_rejects_are_refused_before_anything_is_written(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.yaml.j2"
    template.write_text('{% extends "setup_finetune_template.yaml.j2" %}{% block checkpoints %}{{ super() }}\n'
                        "base_recipe: llama3_2/1B_lora_single_device\n{% endblock %}\n")  # fmt: skip
    problems = check_refused(experiment, capsys, "--template", str(template))
    assert {problem["code"] for problem in problems} <= {"unsupported-setting", "unknown-key"}


def test_setup_and_validate_without_a_plan_are_refused(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in ("setup", "validate"):
        assert main([step, str(experiment)]) == 2
        assert "[not-rendered]" in capsys.readouterr().err


def test_a_step_stopped_midway_has_status_1_and_reports_it(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def full(source: str, target: str, **given: int) -> None:
        if target == "setup_finetune.yaml":
            raise OSError(28, "No space left on device")
        rename(source, target, **given)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        assert main(["scaffold", str(experiment)]) == 1
        error = capsys.readouterr().err
        assert absent(error, "setup_finetune.yaml", "No space left on device") == []
        assert not error.startswith("Refused")
        assert "changed" not in error
        assert main(["scaffold", str(experiment), "--json"]) == 1
        assert answer(capsys)["error"]["problems"][0]["code"] == "write-failed"
    assert main(["scaffold", str(experiment)]) == 0


@pytest.mark.parametrize("name", ["x" * 300, "loop"])
def test_an_inaccessible_path_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert main(["parse", str(tmp_path / name)]) == 2
    assert "Refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["plan", "EXPERIMENT/nothing"], False),
        (["plan", "EXPERIMENT", "--root", "EXPERIMENT/data"], False),
        (["plan", "EXPERIMENT/claude.local.md"], False),
        (["plan", "EXPERIMENT", "--template", "EXPERIMENT/nothing"], True),
    ],
)
def test_the_next_command_does_not_repeat_a_wrong_path(
    experiment: Path, words: list[str], *, again: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("EXPERIMENT", str(experiment)) for word in words]) == 2
    assert ("scaffold-torchtune plan" in capsys.readouterr().err) == again
