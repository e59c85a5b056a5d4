"""The choice of the setup script: the user makes it, never a plan or a document."""

import json
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import change, everything, make_experiment, run_directories
from support.plan_files import change_plan
from support.scaffolding import refusal
from support.setup_scripts import MAKE, THREE, scaffold, script
from support.wording import absent


@pytest.mark.long
@pytest.mark.parametrize("folder", ["tools/torchtune", "src/tools/torchtune"])
def test_a_script_in_the_working_directory_must_be_chosen_by_the_user(tmp_path: Path, folder: str) -> None:
    home = tmp_path / "kit"
    experiment = make_experiment(tmp_path / "sweep", replace={"`/home/ada/cruijff_kit`": f"`{home}`"})
    file = script(home / folder, MAKE)
    for step in (steps.plan, steps.render, steps.scaffold):
        (problem,) = refusal(step, experiment).problems
        assert problem.code == "setup-choice"
        assert f"--setup-script {file}" in problem.fix
        assert "--setup-script bundled" in problem.fix
        assert (problem.file, problem.line) == ("claude.local.md", 9)
    assert not run_directories(experiment)
    assert scaffold(experiment, Path("bundled")).plan.setup == "bundled"
    assert scaffold(experiment, file).plan.setup == str(file)


def test_without_a_working_directory_the_bundled_script_runs(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=["Working directory"])
    assert steps.scaffold(Request(experiment)).plan.setup == "bundled"


def test_the_environment_variable_replaces_the_option(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = script(tmp_path, MAKE)
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SETUP_SCRIPT", str(file))
    assert main(["scaffold", str(three), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["setup"] == str(file)
    assert main(["scaffold", str(three), "--setup-script", "bundled", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["setup"] == "bundled"
    assert main(["setup", str(three)]) == 0


def test_an_empty_variable_selects_no_script(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts pass an empty one if the user chose none."""
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SETUP_SCRIPT", "")
    assert main(["scaffold", str(three), "--json"]) == 0
    assert main(["scaffold", str(three), "--setup-script", "", "--json"]) == 2


def test_a_missing_script_is_refused(three: Path, tmp_path: Path) -> None:
    before = everything(three / "data")
    (problem,) = refusal(steps.scaffold, three, setup_script=str(tmp_path / "gone.py")).problems
    assert (problem.code, problem.file) == ("setup-script-missing", str(tmp_path / "gone.py"))
    assert everything(three / "data") == before
    assert not run_directories(three)


def test_a_script_removed_after_render_is_refused(three: Path, tmp_path: Path) -> None:
    file = script(tmp_path, MAKE)
    steps.render(Request(three, setup_script=str(file)))
    file.unlink()
    assert refusal(steps.setup, three, setup_script=str(file)).problems[0].code == "setup-script-missing"


def test_setup_never_runs_a_script_that_only_the_plan_names(
    three: Path, tmp_path: Path, marks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = script(tmp_path, f"pathlib.Path({str(marks)!r}, run).touch()\n" + MAKE)
    steps.render(Request(three, setup_script=str(file)))
    assert main(["setup", str(three), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert problem["code"] == "setup-choice"
    other = script(tmp_path, MAKE, name="other.py")
    assert main(["setup", str(three), "--setup-script", str(other)]) == 2
    assert not list(marks.iterdir())
    assert main(["setup", str(three), "--setup-script", str(file)]) == 0
    assert len(list(marks.iterdir())) == 3


@pytest.mark.long
def test_a_script_that_only_the_plan_names_is_not_even_queried(three: Path, tmp_path: Path, marks: Path) -> None:
    file = script(tmp_path, "import argparse\n" + MAKE)
    assert scaffold(three, file).ok
    ran = f"import argparse, pathlib\npathlib.Path({str(marks)!r}, 'ran').touch()\n"
    other = script(tmp_path, ran, start="", name="other.py")
    change_plan(three, lambda plan: plan["options"].update(setup_script=str(other)))
    change(three / "experiment_summary.md", "## All Runs", "A remark.\n\n## All Runs")
    (problem,) = refusal(steps.setup, three).problems
    assert problem.code == "plan-outdated"
    assert absent(problem.message, *THREE) == list(THREE), "no run is compared"
    assert problem in steps.validate(Request(three)).findings
    assert not list(marks.iterdir())
    assert main(["validate", str(three), "--setup-script", str(other)]) == 1
    assert list(marks.iterdir())


def test_setup_refuses_a_script_that_the_plan_was_made_without(three: Path, tmp_path: Path) -> None:
    steps.render(Request(three))
    file = script(tmp_path, MAKE)
    assert refusal(steps.setup, three, setup_script=str(file)).problems[0].code == "setup-choice"
    assert steps.setup(Request(three, setup_script="bundled")).failed == 0
