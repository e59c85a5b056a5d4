"""Directories that are named by Run Names: names that are corrected, mislead, move to other values, or return."""

from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from support.second_week import EPOCHS, Week, codes, moved_away, submitted, two_by_two


@pytest.fixture
def week(tmp_path: Path) -> Week:
    """Return two ranks with two learning rates."""
    return two_by_two(tmp_path)


@pytest.fixture(params=["yaml", "markdown"])
def named(week: Week, request: pytest.FixtureRequest) -> Week:
    """Return runs whose directories have their Run Names; one name contains a different learning rate."""
    week.form, week.given = request.param, {} if request.param == "yaml" else {"names": "table"}
    week.rows = {
        "r8_lr1e-5": {"lora_rank": 8, "lr": "1e-5"},
        "r8_lr5e-5": {"lora_rank": 8, "lr": "5e-5"},
        "r16_lr2e-5": {"lora_rank": 16, "lr": "1e-5"},
    }
    return week


def misnamed(week: Week) -> list[tuple[str, str, str | None]]:
    """Return the file, severity and field of each name-mismatch that a validation reports."""
    result = steps.validate(week.request())
    found = [each for run in result.runs for each in run.findings if each.code == "name-mismatch"]
    return [(str(each.file), str(each.severity), each.field) for each in found]


def renamed(week: Week, old: str, new: str) -> None:
    week.rows = {new if name == old else name: row for name, row in week.rows.items()}


def test_a_corrected_run_name_gives_a_run_that_is_not_started_a_new_directory(named: Week) -> None:
    named.scaffold()
    assert misnamed(named) == [("r16_lr2e-5/finetune.yaml", "warning", "lr")]
    renamed(named, "r16_lr2e-5", "r16_lr1e-5")
    result = named.scaffold()
    assert submitted(result) == ["r8_lr1e-5", "r8_lr5e-5", "r16_lr1e-5"]
    assert named.kinds()["r16_lr2e-5"] == "dropped"
    assert not (named.directory / "r16_lr2e-5" / "finetune.slurm").exists()
    assert misnamed(named) == []
    assert "name-mismatch" not in codes(named)


@pytest.mark.long
def test_a_corrected_run_name_of_a_started_run_keeps_its_directory_and_passes(named: Week) -> None:
    named.scaffold()
    named.train("r16_lr2e-5")
    renamed(named, "r16_lr2e-5", "r16_lr1e-5")
    assert submitted(named.scaffold()) == ["r8_lr1e-5", "r8_lr5e-5"]
    assert misnamed(named) == [("r16_lr2e-5/finetune.yaml", "warning", "lr")]
    named.shared = EPOCHS
    assert named.refused().ask
    named.scaffold(started="keep")
    assert misnamed(named) == [("r16_lr2e-5/finetune.yaml", "warning", "lr")]


def test_an_edited_value_changes_the_run_of_the_run_name_which_then_may_be_corrected(named: Week) -> None:
    named.scaffold()
    named.rows["r8_lr5e-5"]["lr"] = "3e-5"
    assert named.kinds()["r8_lr5e-5"] == "changed"
    assert submitted(named.scaffold()) == ["r8_lr1e-5", "r8_lr5e-5", "r16_lr2e-5"]
    assert ("r8_lr5e-5/finetune.yaml", "warning", "lr") in misnamed(named)
    renamed(named, "r8_lr5e-5", "r8_lr3e-5")
    assert submitted(named.scaffold()) == ["r8_lr1e-5", "r8_lr3e-5", "r16_lr2e-5"]


@pytest.mark.long
def test_a_lower_learning_rate_replaces_the_started_run_of_the_run_name(named: Week) -> None:
    named.scaffold()
    named.train("r8_lr5e-5")
    named.rows["r8_lr5e-5"]["lr"] = "1e-6"
    assert {each.actual for each in named.refused().problems if each.code == "started-run"} == {"r8_lr5e-5"}
    moved_away(named, "replace=r8_lr5e-5")
    named.frozen = {}
    assert submitted(named.scaffold(started="replace=r8_lr5e-5")) == [*named.rows]


@pytest.mark.long
def test_exchanged_values_change_both_runs_and_are_a_question_if_one_is_started(named: Week) -> None:
    named.rows = {"alpha": {"lr": "1e-5"}, "beta": {"lr": "5e-5"}}
    named.scaffold()
    named.rows = {"alpha": {"lr": "5e-5"}, "beta": {"lr": "1e-5"}}
    assert named.kinds() == {"alpha": "changed", "beta": "changed"}
    named.scaffold()
    named.train("alpha")
    named.rows = {"alpha": {"lr": "1e-5"}, "beta": {"lr": "5e-5"}}
    assert {each.actual for each in named.refused().problems if each.code == "started-run"} == {"alpha"}
    assert submitted(named.scaffold(started="keep")) == ["beta"]
    assert named.kinds() == {"alpha": "kept", "beta": "unchanged"}


@pytest.mark.long
def test_a_new_run_in_the_row_of_a_trained_one_is_trained_too(named: Week) -> None:
    named.scaffold()
    named.train("r8_lr5e-5")
    named.rows["r8_lr5e-5"]["lora_rank"] = 32
    renamed(named, "r8_lr5e-5", "r32_lr5e-5")
    assert named.kinds()["r32_lr5e-5"] == "new"
    result = named.scaffold()
    assert submitted(result) == ["r8_lr1e-5", "r32_lr5e-5", "r16_lr2e-5"]
    assert (named.directory / "r8_lr5e-5" / "finetune.slurm").exists()


@pytest.mark.long
def test_swapped_misleading_run_names_exchange_the_directories_of_runs_that_are_not_started(named: Week) -> None:
    named.rows["r16_lr1e-5"] = {"lora_rank": 16, "lr": "2e-5"}
    named.scaffold()
    assert len(misnamed(named)) == 2
    one, other = named.rows.pop("r16_lr1e-5"), named.rows.pop("r16_lr2e-5")
    named.rows |= {"r16_lr1e-5": other, "r16_lr2e-5": one}
    named.scaffold()
    assert misnamed(named) == []
    assert set(named.kinds().values()) == {"unchanged"}


@pytest.mark.long
def test_shifted_values_pass_although_a_name_that_was_used_gets_a_number(named: Week) -> None:
    named.rows = {"lr1e-5": {"lr": "1e-5"}, "lr5e-5": {"lr": "5e-5"}}
    named.scaffold()
    named.rows = {"lr1e-5": {"lr": "5e-5"}, "lr5e-5": {"lr": "1e-4"}}
    named.scaffold()
    assert misnamed(named) == [("lr5e-5_2/finetune.yaml", "warning", "lr")]


def test_a_run_of_one_row_is_changed_if_its_value_is_edited(week: Week) -> None:
    week.rows = {"rank8": {"lora_rank": 8}}
    week.scaffold()
    week.rows["rank8"]["lora_rank"] = 16
    assert week.kinds() == {"rank8": "changed"}
    week.scaffold()
    assert misnamed(week) == [("rank8/finetune.yaml", "warning", "lora_rank")]
    renamed(week, "rank8", "rank16")
    assert submitted(week.scaffold()) == ["rank16"]
    assert misnamed(week) == []


@pytest.mark.long
def test_a_log_interval_in_a_name_may_change(week: Week) -> None:
    week.rows = {"a": {"lr": "1e-5", "log_every_n_steps": 1}, "b": {"lr": "1e-5", "log_every_n_steps": 10}}
    week.scaffold()
    week.rows, week.shared["log_every_n_steps"] = {"a": {"lr": "1e-5"}}, 5
    assert week.kinds() == {"log_every_n_steps1": "changed", "log_every_n_steps10": "dropped"}
    week.scaffold()
