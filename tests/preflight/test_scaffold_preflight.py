"""Predicted failures refuse the plan before anything is written, and `validate` checks for them again."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.preflight import data_files
from scaffold_torchtune.preflight.disk import regular_file
from scaffold_torchtune.request import Request
from support.checkpoints import make_checkpoint
from support.experiments import DATA, change, everything, log, make_experiment, outputs
from support.scaffolding import codes, refusal, scaffold
from support.wording import absent

MODEL = "Llama-3.2-1B-Instruct"
OWN_DATA = {"/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json": "data/words.json"}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Create the example with its data set and its model on this machine."""
    make_checkpoint(tmp_path / "models" / MODEL, MODEL)
    replace = {**OWN_DATA, "/scratch/gpfs/LAB/pretrained-llms": str(tmp_path / "models")}
    return make_experiment(tmp_path / "sweep", replace=replace)


def test_correct_data_and_model_give_only_information(here: Path) -> None:
    change(here / "experiment_summary.md", "**Batch size:** 4", "**Batch size:** 4\n- **Warmup steps:** 10")
    change(here / "experiment_summary.md", "ck-out-{run_name}", "ck-out-{run_directory}")
    result = scaffold(here)
    assert result.ok
    assert {f.code: f.severity.value for f in result.plan.warnings} == {"estimate": "info", "confound": "info"}
    assert [f.code for f in result.validation.findings] == ["defaults-unchosen"]
    (estimate,) = [f.message for f in result.plan.warnings if f.code == "estimate"]
    assert absent(estimate, 120, 240) == []
    assert estimate in log(here)
    assert "WARNING" not in log(here)


@pytest.mark.parametrize("step", [steps.plan, steps.render, steps.scaffold])
def test_a_predicted_failure_is_refused_before_anything_is_written(here: Path, step: Any) -> None:
    (here / "data" / "words.json").write_text(json.dumps({"train": [{"input": "a"}]}))
    (here.parent / "models" / MODEL / "config.json").unlink()
    before = set(everything(here))
    refused = refusal(step, here)
    assert {"data-mismatch", "no-steps", "checkpoint-mismatch"} <= set(codes(refused))
    assert len(errors_in(refused.problems)) == 3
    assert absent(refused.message, 3) == []
    assert all(problem.file == "experiment_summary.md" and problem.line for problem in errors_in(refused.problems))
    assert set(everything(here)) - {"scaffold.log"} == before


def test_damage_after_the_scaffold_fails_the_validation(here: Path) -> None:
    assert scaffold(here).ok
    (here.parent / "models" / MODEL / "original" / "tokenizer.model").unlink()
    (here / "data" / "words.json").write_text(json.dumps({**DATA, "train": []}))
    result = steps.validate(Request(here))
    assert not result.passed
    assert sorted(f.code for f in errors_in(result.findings)) == ["checkpoint-mismatch", "data-mismatch", "no-steps"]
    assert all(run.passed for run in result.runs)


def test_the_actual_checkpoint_files_are_used(here: Path) -> None:
    """Split a model that is published as one file into two."""
    directory = here.parent / "models" / MODEL
    directory.rename(directory.with_name("whole"))
    make_checkpoint(directory, MODEL, files=2)
    assert scaffold(here).ok
    (directory / "model-00002-of-00002.safetensors").unlink()
    (problem,) = errors_in(steps.validate(Request(here)).findings)
    assert problem.code == "checkpoint-mismatch"
    assert absent(problem.message, "model-00002-of-00002.safetensors") == []


def test_a_second_scaffold_without_changes_changes_nothing(here: Path) -> None:
    assert scaffold(here).ok
    before = everything(here)
    assert scaffold(here).unchanged
    assert everything(here) == before


def test_data_that_appear_later_change_the_warnings_but_no_run(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace=OWN_DATA)
    (experiment / "data" / "words.json").rename(experiment / "data" / "later.json")
    assert "not-seen" in {f.code for f in scaffold(experiment).plan.warnings if f.field == "dataset"}
    made = outputs(experiment)
    (experiment / "data" / "later.json").rename(experiment / "data" / "words.json")
    result = scaffold(experiment)
    assert result.ok
    assert not [f for f in result.plan.warnings if f.field == "dataset"]
    assert outputs(experiment) == made


def test_parquet_rows_are_counted(tmp_path: Path) -> None:
    replace = {"/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json": "data/words.parquet"}
    replace["**Format:** JSON"] = "**Format:** Parquet"
    experiment = make_experiment(tmp_path / "sweep", replace=replace)
    columns = {"input": ["a"] * 3, "output": ["b"] * 3}
    pyarrow.parquet.write_table(pa.table(columns), experiment / "data" / "words.parquet")
    (problem,) = errors_in(refusal(steps.plan, experiment).problems)
    assert problem.code == "no-steps"
    assert absent(problem.message, "words.parquet", 3) == []


def test_invalid_data_are_a_warning_for_an_external_script(here: Path, tmp_path: Path) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text("")
    (here / "data" / "words.json").write_text(json.dumps({"training": []}))
    found = steps.plan(Request(here, setup_script=str(script))).warnings
    assert {f.severity.value for f in found if f.code == "data-mismatch"} == {"warning"}


def test_a_data_set_is_read_once_for_all_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def opens(path: str) -> Any:
        opened.append(path)
        return regular_file(path)

    monkeypatch.setattr(data_files, "regular_file", opens)
    assert len(steps.plan(Request(here)).runs) == 4
    assert opened == [str(here / "data" / "words.json")]


def test_unread_columns_and_truncated_samples_are_warnings(here: Path) -> None:
    rows = [{"instruction": "Capitalise it.", "input": "a " * 100, "output": "A"}, *DATA["train"][1:]]
    (here / "data" / "words.json").write_text(json.dumps({**DATA, "train": rows}))
    change(here / "experiment_summary.md", "**Batch size:** 4", "**Batch size:** 4\n- **Max sequence length:** 64")
    found = {f.code: f for f in steps.plan(Request(here)).warnings}
    assert {"unread-column", "samples-cut", "no-labels"} <= found.keys()
    assert found["unread-column"].actual == "instruction"
    assert (found["samples-cut"].actual, found["no-labels"].actual) == (1, 1)
