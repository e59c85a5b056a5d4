"""Started runs that are kept, replaced, or resumed after the documents changed, and results that are moved away."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Refused, errors_in
from scaffold_torchtune.pipeline import prepare, steps
from support.experiments import everything
from support.second_week import EPOCHS, FOUR, Week, grid, moved_away, submitted, two_by_two
from support.wording import absent


@pytest.fixture
def week(tmp_path: Path) -> Week:
    """Return two ranks with two learning rates."""
    return two_by_two(tmp_path)


def test_some_runs_are_kept_and_others_replaced(week: Week) -> None:
    week.scaffold()
    week.train(*FOUR[:3])
    week.shared = EPOCHS
    assert {problem.code for problem in week.refused(started=f"keep={FOUR[0]}").problems} == {"started-run"}
    assert {problem.actual for problem in week.refused(started=f"keep={FOUR[0]}").problems} == {FOUR[1]}
    said = f"keep replace={FOUR[1]}"
    moved_away(week, said)
    del week.frozen[FOUR[1]]
    result = week.scaffold(started=said)
    assert result.validation.kept == 2
    assert submitted(result) == [FOUR[1], FOUR[3]]
    assert week.kinds(started=said)[FOUR[1]] == "unchanged", "the same call again changes nothing"
    (version,) = (week.directory / ".scaffold/history" / FOUR[1]).iterdir()
    assert {path.name for path in version.iterdir()} >= {"finetune.yaml", "finetune.slurm", "slurm-102.out"}
    moved_away(week, "replace=rank16_*")  # a kept run can be replaced later
    del week.frozen[FOUR[2]]
    assert submitted(week.scaffold(started="replace=rank16_*")) == FOUR[1:]


@pytest.mark.parametrize("said", ["kept", "keep=", "replace=nothing*", f"keep={FOUR[0]} replace={FOUR[0]}", "keep,x"])
def test_an_invalid_answer_for_started_runs_is_refused(week: Week, said: str) -> None:
    week.scaffold()
    week.train(FOUR[0])
    week.shared = EPOCHS
    refused = week.refused(started=said)
    assert [(problem.code, problem.field) for problem in refused.problems] == [("invalid-value", "started")]
    assert [question.field for question in refused.ask] == ["started"]


def test_a_resumed_run_is_replaced_in_place_and_submitted_again(week: Week) -> None:
    week.scaffold()
    week.train(FOUR[0], epochs=2)
    state = week.outputs(FOUR[0]) / "recipe_state"
    state.mkdir()
    (state / "recipe_state.pt").write_bytes(b"state")
    week.shared |= {"resume_from_checkpoint": "yes"}
    assert week.refused().ask
    week.frozen = {}
    assert submitted(week.scaffold(started="replace")) == FOUR
    assert state.exists()
    week.train(FOUR[0])
    assert week.started() == [FOUR[0]]


def obstacles(refused: Refused) -> list[tuple[str, str | None, Any]]:
    return [(each.code, each.field, each.actual) for each in errors_in(refused.problems)]


@pytest.mark.parametrize("state", [None, "recipe_state"])
def test_a_finished_run_without_a_state_to_resume_from_is_not_overwritten(week: Week, state: str | None) -> None:
    week.shared["epochs"] = 1
    week.scaffold()
    week.train(FOUR[0])
    outputs = week.outputs(FOUR[0])
    if state:
        (outputs / state).mkdir()  # as a training leaves it that was stopped before it wrote the file
    week.shared |= {"epochs": 3, "resume_from_checkpoint": "yes"}
    refused = week.refused(started="replace")
    assert obstacles(refused) == [("started-run", "started", str(outputs))]
    assert absent(refused.problems[0].message, "epoch_0", "recipe_state.pt") == []
    assert "logs" not in refused.problems[0].message
    (warning,) = [each for each in steps.plan(week.request(started="replace")).warnings if each.code == "started-run"]
    assert warning.actual == str(outputs)
    moved_away(week, "replace")
    week.frozen = {}
    assert FOUR[0] in submitted(week.scaffold(started="replace"))
    assert (outputs.with_name(f"{outputs.name}.old") / "epoch_0").is_dir()


@pytest.mark.long
def test_a_resuming_run_that_saved_no_weights_is_replaced_in_place(week: Week) -> None:
    week.shared["resume_from_checkpoint"] = "yes"
    week.scaffold()
    week.train(FOUR[0], epochs=0)
    outputs = week.outputs(FOUR[0])
    (outputs / "logs").mkdir(parents=True)
    (outputs / "torchtune_config.yaml").write_bytes((week.directory / FOUR[0] / "finetune.yaml").read_bytes())
    week.shared["batch_size"] = 8
    assert week.refused().ask
    week.frozen = {}
    assert submitted(week.scaffold(started="replace")) == FOUR


@pytest.mark.long
def test_a_run_replaced_to_resume_is_not_overwritten_after_it_no_longer_resumes(week: Week) -> None:
    week.shared["resume_from_checkpoint"] = "yes"
    week.scaffold()
    week.train(FOUR[0], epochs=2)
    outputs = week.outputs(FOUR[0])
    (outputs / "recipe_state").mkdir()
    (outputs / "recipe_state" / "recipe_state.pt").write_bytes(b"state")
    week.shared["epochs"] = 5
    week.frozen = {}
    assert submitted(week.scaffold(started="replace")) == FOUR  # its results are no evidence of a start any longer
    del week.shared["resume_from_checkpoint"]
    refused = week.refused()
    assert obstacles(refused) == [("output-taken", "output_dir_base", str(outputs))]
    week.shared |= {"resume_from_checkpoint": "yes", "epochs": 6}
    week.write()
    (outputs / "recipe_state" / "recipe_state.pt").unlink()
    assert obstacles(week.refused()) == [("output-taken", "output_dir_base", str(outputs))]
    moved_away(week)
    assert submitted(week.scaffold()) == FOUR


@pytest.mark.long
@pytest.mark.parametrize("resumes", [True, False])
def test_a_new_run_that_cannot_resume_does_not_overwrite_the_results_of_a_different_training(
    week: Week, *, resumes: bool
) -> None:
    week.scaffold()
    week.train(FOUR[0])
    outputs = week.outputs(FOUR[0])
    shutil.rmtree(week.directory)
    week.frozen = {}
    week.shared["resume_from_checkpoint"] = "yes"
    if resumes:
        (outputs / "recipe_state").mkdir()
        (outputs / "recipe_state" / "recipe_state.pt").write_bytes(b"state")
        assert submitted(week.scaffold()) == FOUR[1:]
    else:
        assert obstacles(week.refused()) == [("output-taken", "output_dir_base", str(outputs))]


def test_a_column_with_the_values_of_old_runs_resolves_the_question(week: Week) -> None:
    week.scaffold()
    week.train(*FOUR[:2])
    week.shared = EPOCHS
    assert week.refused().ask
    for number, row in enumerate(week.rows.values()):
        row["epochs"] = 3 if number < 2 else 5
    assert submitted(week.scaffold()) == FOUR[2:]
    assert set(week.kinds().values()) == {"unchanged"}
    week.rows |= grid(lora_rank=[32], lr=["1e-5"], epochs=[5])
    week.scaffold()


@pytest.mark.long
@pytest.mark.parametrize("form", ["markdown", "yaml"])
@pytest.mark.parametrize(
    "shared",
    [{"epochs": 5}, {"epochs": 5, "batch_size": 8}, {"system_prompt": '"Be brief: one word."'}],
    ids=["one", "two", "a text"],
)
def test_the_proposed_lines_of_that_column_work_verbatim(week: Week, form: str, shared: dict[str, Any]) -> None:
    week.form = form
    week.shared |= {"system_prompt": '"Be terse."'} if "system_prompt" in shared else {}
    week.scaffold()
    runs = list(week.kinds())
    week.train(*runs[:2])
    week.shared |= shared
    (question,) = week.refused().ask
    assert steps.plan(week.request()).ask == (question,), "a plan has it, too"
    document = week.directory / question.file
    lines = document.read_text().split("\n")
    first, last = map(int, re.findall("[0-9]+", question.where))
    document.write_text("\n".join([*lines[: first - 1], *question.add.split("\n"), *lines[last:]]))
    plan = prepare.prepare(week.request())
    assert {each.directory: each.kind for each in plan.changes} == dict.fromkeys(runs[:2], "unchanged") | dict.fromkeys(
        runs[2:], "changed"
    )
    result = steps.scaffold(week.request())
    assert (result.ok, result.validation.started) == (True, tuple(runs[:2]))
    assert {run: everything(week.directory / run) for run in runs[:2]} == week.frozen


@pytest.mark.parametrize(
    "change",
    [{"title": "another"}, {"local": {"account": "other", "constraint": "gpu80", "time": "0:59:00"}}],
    ids=lambda change: next(iter(change)),
)
def test_a_change_that_no_column_can_hold_has_no_proposed_lines(week: Week, change: dict[str, Any]) -> None:
    week.scaffold()
    week.train(FOUR[0])
    for name, value in change.items():
        setattr(week, name, value)
    (question,) = week.refused().ask
    assert (question.field, question.add, question.where) == ("started", "", "")


def test_an_answered_started_run_is_not_asked_about_again(week: Week) -> None:
    week.scaffold()
    week.train(*FOUR[:2])
    week.shared = EPOCHS
    some = f"replace={FOUR[0]}"
    (question,) = week.refused(started=some).ask
    assert steps.plan(week.request(started=some)).ask == (question,)
    assert [line.split("|")[-2].strip() for line in question.add.split("\n")[2:]] == ["5", "3", "5", "5"]
    assert steps.plan(week.request(started="keep")).ask == ()
    assert steps.plan(week.request(started="replace")).ask == ()


def test_disk_use_by_others_is_not_a_change(week: Week, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [3]
    real = os.statvfs
    block = 1024**3

    def statvfs(path: str) -> os.statvfs_result:
        return os.statvfs_result((block, block, free[0], free[0], free[0], *real(path)[5:]))

    monkeypatch.setattr(os, "statvfs", statvfs)
    week.scaffold()
    told = steps.plan(week.request()).warnings
    assert "disk-space" in {each.code for each in told}
    free[0] = 2
    assert steps.plan(week.request()).warnings != told
    before = everything(week.directory)
    assert steps.scaffold(week.request()).unchanged
    assert everything(week.directory) == before


@pytest.mark.long
def test_results_are_moved_away_twice_to_different_names(week: Week) -> None:
    week.scaffold()
    for epochs in (5, 7):
        week.train(FOUR[0])
        week.shared = EPOCHS | {"epochs": epochs}
        moved_away(week, "replace")
        week.frozen = {}
        week.scaffold(started="replace")
    names = {path.name for path in (week.base / week.title).iterdir()}
    assert names == {f"ck-out-{FOUR[0]}.old", f"ck-out-{FOUR[0]}.old2"}
