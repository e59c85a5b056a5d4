"""Links, FIFOs, directories and file modes in the paths of generated files."""

import os
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import RUNS, make_experiment, run_directories
from support.permissions import held_to_modes
from support.scaffolding import codes, refusal, scaffold


def lay(kind: str, file: Path, target: Path) -> None:
    """Put something into the path of a plain file."""
    if kind == "link":
        file.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()


def test_a_linked_run_directory_is_refused_and_its_target_unchanged(experiment: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (experiment / RUNS[0]).symlink_to(target)
    refused = refusal(steps.scaffold, experiment)
    assert codes(refused) == ["unsafe-path"]
    assert not list(target.iterdir())
    assert run_directories(experiment) == [RUNS[0]]


def test_a_linked_state_directory_is_refused_and_its_target_unchanged(experiment: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (experiment / ".scaffold").symlink_to(target)
    for step in (steps.plan, steps.render, steps.setup, steps.validate, steps.scaffold):
        assert codes(refusal(step, experiment)) == ["unsafe-path"]
    assert not list(target.iterdir())
    assert not run_directories(experiment)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_fifo_or_a_link_as_an_output_is_refused(experiment: Path, tmp_path: Path, overwrite: bool) -> None:
    run = experiment / RUNS[0]
    run.mkdir()
    os.mkfifo(run / "setup_finetune.yaml")
    assert codes(refusal(steps.scaffold, experiment, overwrite=overwrite)) == ["unsafe-path"]
    (run / "setup_finetune.yaml").unlink()
    target = tmp_path / "target"
    target.write_text("mine")
    (run / "finetune.yaml").symlink_to(target)
    assert codes(refusal(steps.scaffold, experiment, overwrite=overwrite)) == ["unsafe-path"]
    assert target.read_text() == "mine"
    assert run_directories(experiment) == [RUNS[0]]


def test_validate_reports_a_fifo_and_a_missing_directory(experiment: Path) -> None:
    scaffold(experiment)
    (experiment / RUNS[0] / "finetune.yaml").unlink()
    os.mkfifo(experiment / RUNS[0] / "finetune.yaml")
    (experiment / RUNS[1]).rename(experiment / "gone")
    result = steps.validate(Request(experiment))
    assert "unsafe-path" in [f.code for f in result.runs[0].findings]
    assert {f.code for f in result.runs[1].findings} == {"missing-file"}
    assert not result.passed


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_log_that_is_not_a_plain_file_is_refused_before_anything_is_written(
    experiment: Path, tmp_path: Path, kind: str
) -> None:
    file, target = experiment / "scaffold.log", tmp_path / "target"
    target.write_text("mine")
    lay(kind, file, target)
    assert codes(refusal(steps.scaffold, experiment)) == ["unsafe-path"]
    assert target.read_text() == "mine"
    assert not list(experiment.glob("rank*"))
    assert not (experiment / ".scaffold").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_summary_that_is_not_a_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    experiment = make_experiment(tmp_path / "sweep", summary=None)
    file, target = experiment / "experiment_summary.md", tmp_path / "target"
    target.write_text("# mine")
    lay(kind, file, target)
    assert codes(refusal(steps.parse, experiment)) == ["document-unreadable"]
    if kind != "directory":
        assert codes(refusal(steps.parse, file)) == ["document-unreadable"]


def test_a_file_instead_of_a_run_directory_is_refused(experiment: Path) -> None:
    (experiment / RUNS[2]).write_text("mine")
    assert codes(refusal(steps.scaffold, experiment)) == ["unsafe-path"]
    assert (experiment / RUNS[2]).read_text() == "mine"
    assert not run_directories(experiment)


def test_a_read_only_experiment_is_refused(experiment: Path) -> None:
    experiment.chmod(0o555)
    try:
        with held_to_modes():
            assert codes(refusal(steps.scaffold, experiment)) == ["write-failed"]
    finally:
        experiment.chmod(0o755)
    assert not run_directories(experiment)
