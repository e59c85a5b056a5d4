"""Test that validate finds edited output, that no step loses it, and that overwrite restores the generated file."""

import re
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results import reply
from scaffold_torchtune.results.step_results import ValidateResult
from support.experiments import FILES, RUNS, Clock, actions, change, everything, log, outputs, run_directories
from support.sampling import spread
from support.scaffolding import codes, refusal, scaffold
from support.wording import absent


def tampered(experiment: Path) -> Path:
    """Scaffold, and change one value in one finetune.yaml."""
    scaffold(experiment)
    file = experiment / "rank16_lr1e-5" / "finetune.yaml"
    change(file, "lr: 1.0e-05", "lr: 1.0e-04")
    return file


def mismatch(result: ValidateResult) -> tuple[object, ...]:
    (finding,) = [f for run in result.runs for f in run.findings if f.code == "value-mismatch"]
    return (finding.field, finding.expected, finding.actual, finding.file, finding.line)


def test_a_changed_value_fails_with_run_field_values_file_and_line(experiment: Path) -> None:
    file = tampered(experiment)
    result = steps.validate(Request(experiment))
    line = next(n for n, text in enumerate(file.read_text().splitlines(), start=1) if "lr: 1.0e-04" in text)
    assert mismatch(result) == ("lr", 1e-5, 1e-4, "rank16_lr1e-5/finetune.yaml", line)
    assert [run.directory for run in result.runs if not run.passed] == ["rank16_lr1e-5"]
    assert not result.passed
    assert actions(experiment)[-2:] == ["VALIDATE_PARAMETERS", "SCAFFOLD_TORCHTUNE_FAILED"]
    assert f"rank16_lr1e-5/finetune.yaml:{line}" in log(experiment)


def test_a_later_verdict_has_the_duration_of_its_own_validation(experiment: Path) -> None:
    scaffold(experiment, now=Clock())
    (experiment / RUNS[0] / "finetune.yaml").unlink()
    steps.validate(Request(experiment))  # long after the scaffold started
    assert re.search(r"Duration: [0-9]\.[0-9] s$", log(experiment).rstrip())


def test_the_same_failure_is_logged_once(experiment: Path) -> None:
    tampered(experiment)
    steps.validate(Request(experiment))
    before = everything(experiment)
    assert not steps.validate(Request(experiment)).passed
    assert everything(experiment) == before


def test_a_scaffold_that_replaces_an_edited_file_shows_the_change_as_made(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tampered(experiment)
    result = scaffold(experiment, overwrite=True)
    assert result.render.changes is not None
    assert [(each.what, each.runs) for each in result.render.changes.groups] == [("changed", ("rank16_lr1e-5",))]
    assert result.render.changes.told != result.plan.changes.told
    assert scaffold(experiment, overwrite=True).render.changes is None, "nothing was changed"
    change(experiment / "rank16_lr1e-5" / "finetune.yaml", "lr: 1.0e-05", "lr: 1.0e-04")
    assert main(["scaffold", str(experiment), "--overwrite"]) == 0
    assert "would" not in capsys.readouterr().out


def test_a_fixed_failure_is_complete_again(experiment: Path) -> None:
    file = tampered(experiment)
    steps.validate(Request(experiment))
    change(file, "lr: 1.0e-04", "lr: 1.0e-05")
    assert steps.validate(Request(experiment)).passed
    assert actions(experiment)[-2:] == ["VALIDATE_PARAMETERS", "SCAFFOLD_TORCHTUNE_COMPLETE"]


def test_an_edited_output_is_refused_until_overwrite_restores_it(experiment: Path) -> None:
    scaffold(experiment)
    good = outputs(experiment)
    file = experiment / "rank16_lr1e-5" / "finetune.yaml"
    change(file, "lr: 1.0e-05", "lr: 1.0e-04")
    edited = outputs(experiment)
    refused = refusal(steps.scaffold, experiment)
    assert codes(refused) == ["edited-output"]
    assert refused.problems[0].file == "rank16_lr1e-5/finetune.yaml"
    assert outputs(experiment) == edited
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_REFUSED"
    assert scaffold(experiment, overwrite=True).ok
    assert outputs(experiment) == good
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_an_edited_setup_finetune_yaml_is_refused_by_every_writing_step(experiment: Path) -> None:
    scaffold(experiment)
    good = outputs(experiment)
    change(experiment / RUNS[0] / "setup_finetune.yaml", "epochs: 2", "epochs: 20")
    for step in (steps.render, steps.setup, steps.scaffold):
        assert codes(refusal(step, experiment)) == ["edited-output"]
    assert codes(refusal(steps.setup, experiment, overwrite=True)) == ["edited-output"]
    assert scaffold(experiment, overwrite=True).ok
    assert outputs(experiment) == good


def test_output_that_is_no_longer_text_is_refused_and_reported(experiment: Path) -> None:
    scaffold(experiment)
    file = experiment / RUNS[0] / "setup_finetune.yaml"
    file.write_bytes(b"\xff\xfe")
    assert codes(refusal(steps.setup, experiment)) == ["edited-output"]
    result = steps.validate(Request(experiment))
    assert "unreadable-file" in [f.code for f in result.runs[0].findings]


@pytest.mark.parametrize("name", FILES)
def test_an_existing_user_file_is_not_lost(experiment: Path, name: str) -> None:
    mine = experiment / RUNS[1] / name
    mine.parent.mkdir()
    mine.write_text("mine\n")
    refused = refusal(steps.scaffold, experiment)
    assert codes(refused) == ["edited-output"]
    assert mine.read_text() == "mine\n"
    assert run_directories(experiment) == [RUNS[1]]
    assert scaffold(experiment, overwrite=True).ok


def test_other_files_in_a_run_directory_stay(experiment: Path) -> None:
    (experiment / RUNS[0]).mkdir()
    notes = experiment / RUNS[0] / "notes.txt"
    notes.write_text("keep")
    assert scaffold(experiment).ok
    assert notes.read_text() == "keep"


def test_overwrite_of_render_extends_to_setup_but_not_to_later_edits(experiment: Path) -> None:
    scaffold(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 4")
    file = experiment / RUNS[0] / "finetune.yaml"
    change(file, "weight_decay: 0.01", "weight_decay: 0.05")
    assert codes(refusal(steps.render, experiment)) == ["edited-output"]
    steps.render(Request(experiment, overwrite=True))
    kept = file.read_text()
    change(file, "weight_decay: 0.05", "weight_decay: 0.5")
    assert codes(refusal(steps.setup, experiment)) == ["edited-output"]
    file.write_text(kept)
    assert steps.setup(Request(experiment)).succeeded == 4
    assert steps.validate(Request(experiment)).passed
    change(file, "weight_decay: 0.01", "weight_decay: 0.05")  # overwrite applied once only
    assert codes(refusal(steps.setup, experiment)) == ["edited-output"]


def edited_outputs(experiment: Path) -> list[str | None]:
    """Return the files of the warnings of a plan about edited files."""
    found = [each for each in steps.plan(Request(experiment)).warnings if each.code == "edited-output"]
    assert {each.severity for each in found} <= {"warning"}
    return [each.file for each in found]


@pytest.mark.parametrize("name", spread(FILES, every=3))
@pytest.mark.parametrize("changes", [False, True])
def test_the_plan_warns_exactly_if_a_scaffold_would_be_refused(
    experiment: Path, name: str, changes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scaffold(experiment)
    assert edited_outputs(experiment) == []
    file = experiment / RUNS[0] / name
    before = file.read_bytes()
    file.write_bytes(before + b"# edited\n")
    if changes:
        change(experiment / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    assert edited_outputs(experiment) == [f"{RUNS[0]}/{name}"]
    assert main(["plan", str(experiment)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next, once that is settled: ")
    call = reply.Call("plan_runs", {"experiment": str(experiment)})
    following = reply.of_result(steps.plan(Request(experiment)), call)["next"]
    assert absent(following["first"], "edited-output", "overwrite: true") == []
    refused = refusal(steps.scaffold, experiment)
    assert [(each.code, each.file) for each in refused.problems] == [("edited-output", f"{RUNS[0]}/{name}")]
    file.write_bytes(before)
    assert edited_outputs(experiment) == []
    assert scaffold(experiment).ok


@pytest.mark.parametrize("name", FILES)
def test_a_removed_file_needs_no_decision(experiment: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    scaffold(experiment)
    (experiment / RUNS[0] / name).unlink()
    assert edited_outputs(experiment) == []
    assert main(["plan", str(experiment)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: ")
    assert scaffold(experiment).ok
