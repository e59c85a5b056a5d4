"""Mishaps of experiments over weeks: copies, lost state, manual edits, wrong answers of SLURM, two users, and ties."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.reply import Call, of_result
from scaffold_torchtune.system.files import Tree
from support.experiments import everything
from support.permissions import held_to_modes
from support.second_week import Week, grid, submitted

pytestmark = pytest.mark.long

FOUR = ["rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5"]
EPOCHS = {"epochs": 5, "batch_size": 4}
FILES = ("setup_finetune.yaml", "finetune.yaml", "finetune.slurm")


@pytest.fixture
def week(tmp_path: Path) -> Week:
    """Return a scaffolded experiment of two ranks and two learning rates."""
    made = Week(tmp_path / "sweep", tmp_path / "outputs", grid(lora_rank=[8, 16], lr=["1e-5", "5e-5"]))
    made.write()
    assert steps.scaffold(made.request()).ok
    return made


def codes(refused: Refused) -> set[str]:
    return {problem.code for problem in refused.problems}


# Ties.


@pytest.fixture
def tied(tmp_path: Path) -> Week:
    """Return two learning rates, one of them trained; then each row became two, with seeds that differ from before."""
    week = Week(tmp_path / "sweep", tmp_path / "outputs", grid(lr=["1e-5", "5e-5"]))
    week.scaffold()
    week.train("lr1e-5")
    week.rows = {"low a": {"lr": "1e-5", "seed": 1}, "low b": {"lr": "1e-5", "seed": 2}} | grid(lr=["5e-5"])
    return week


def test_rows_equally_close_to_a_run_are_a_question(tied: Week) -> None:
    refused = tied.refused()
    assert codes(refused) == {"tied-run"}
    (question,) = refused.ask
    assert question.field == "directories"
    assert question.options == ("new", "low a=lr1e-5", "low b=lr1e-5")


def test_new_rows_get_their_own_directories_and_no_second_question(tied: Week) -> None:
    result = tied.scaffold(answers={"directories": "new"})
    assert tied.kinds() == {
        "lr1e-5_seed1": "unchanged",
        "lr1e-5_seed2": "unchanged",
        "lr5e-5": "unchanged",
        "lr1e-5": "dropped",
    }
    assert submitted(result) == ["lr1e-5_seed1", "lr1e-5_seed2", "lr5e-5"]


@pytest.mark.parametrize("said", ["low b=lr1e-5", " 9=lr1e-5 "])
def test_a_row_assigned_to_the_run_has_its_directory(tied: Week, said: str) -> None:
    tied.write()
    line = next(
        n
        for n, text in enumerate((tied.directory / "experiment_summary.md").read_text().splitlines(), 1)
        if "low b" in text
    )
    answers = {"directories": said.replace("9", str(line)) if "low" not in said else said}
    assert codes(tied.refused(answers=answers)) == {"started-run"}
    tied.scaffold(answers=answers, started="keep")
    assert tied.kinds() == {"lr1e-5_seed1": "unchanged", "lr1e-5": "kept", "lr5e-5": "unchanged"}


@pytest.mark.parametrize("said", ["low c=lr1e-5", "low a=lr1e-5, low b=lr1e-5", "low a=lr5e-5", "low a"])
def test_an_answer_without_a_tie_or_with_two_rows_for_one_run_is_asked_again(tied: Week, said: str) -> None:
    refused = tied.refused(answers={"directories": said})
    assert codes(refused) == {"tied-run"}
    assert refused.ask


def test_many_ties_are_one_question(tmp_path: Path) -> None:
    week = Week(tmp_path / "sweep", tmp_path / "outputs", grid(lr=["1e-5", "2e-5", "3e-5"]))
    week.scaffold()
    week.rows = grid(lr=["1e-5", "2e-5", "3e-5"], seed=[1, 2, 3])
    (question,) = week.refused().ask
    assert question.options == ()
    week.scaffold(answers={"directories": "run_lr2e-5_seed2=lr2e-5"})
    assert sum(kind == "dropped" for kind in week.kinds().values()) == 2
    assert "lr2e-5_seed2" not in week.kinds()


# Copies, and moved directories.


def copy_of(week: Week, name: str = "copied") -> Week:
    shutil.copytree(week.directory, copied := week.directory.with_name(name))
    return Week(copied, week.base, dict(week.rows), dict(week.shared), week.title, dict(week.local))


@pytest.mark.parametrize("title", ["words_sweep", "another"])
def test_a_copy_of_an_existing_experiment_is_refused_until_it_is_independent(
    week: Week, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    week.train(FOUR[0])
    copied = copy_of(week)
    copied.title = title
    copied.shared = EPOCHS
    refused = copied.refused()
    assert codes(refused) == {"copied-scaffold"}
    assert refused.problems[0].actual == str(week.directory)
    plan = steps.plan(copied.request())
    assert "copied-scaffold" in {each.code for each in plan.warnings}
    following = of_result(plan, Call("plan_runs", {"experiment": str(copied.directory)}))["next"]
    assert "copied-scaffold" in following["first"]
    assert main(["plan", str(copied.directory)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next, once that is settled: ")
    assert codes_of_errors(steps.validate(copied.request())) == {"copied-scaffold"}
    for step in (steps.render, steps.setup):
        with pytest.raises(Refused):
            step(copied.request(started="replace", overwrite=True))
    copied.title = "another"
    command = (refused.problems[0].fix or "").partition(", then run `")[2].partition("`")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert submitted(copied.scaffold()) == FOUR
    week.hold()
    week.scaffold()


def codes_of_errors(result: Any) -> set[str]:
    return {each.code for each in result.all_findings() if each.severity == "error"}


def test_a_moved_experiment_continues_and_its_started_runs_are_unchanged(week: Week) -> None:
    week.train(FOUR[0], epochs=3)
    moved = week.directory.with_name("moved")
    week.directory.rename(moved)
    week.directory = moved
    found = week.changes()
    assert [[field.field for field in each.fields] for each in found.values()] == [["input_dir_base"]] * 4
    assert found[FOUR[0]].is_started
    assert codes(week.refused()) == {"started-run"}
    assert submitted(week.scaffold(started="keep")) == FOUR[1:]


def test_results_in_the_run_directories_move_with_them(tmp_path: Path) -> None:
    week = Week(tmp_path / "sweep", tmp_path / "outputs", grid(lora_rank=[8, 16]), form="yaml")
    week.local["output_dir_base"] = "(none)"
    week.scaffold()
    first = next(iter(week.rows))
    assert week.outputs(first) == week.directory / first / "artifacts"
    week.train(first, epochs=3)
    moved = week.directory.with_name("moved")
    week.directory.rename(moved)
    week.directory = moved
    assert week.changes()[first].state is not None
    assert week.changes()[first].state.results  # type: ignore[union-attr]
    week.scaffold(started="keep")


# Lost state.


@pytest.mark.parametrize("lost", [".scaffold/plan.json", ".scaffold/runs", ".scaffold"])
def test_after_a_loss_of_the_state_started_runs_are_recognized_by_their_files(week: Week, lost: str) -> None:
    week.rows |= grid(lora_rank=[8], lr=["1e-5"], batch_size=[8])  # names then need the scaffolded state
    week.scaffold()
    week.train(FOUR[0])
    path = week.directory / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert submitted(week.scaffold(told=False)) == [*FOUR[1:], "rank8_lr1e-5_bs8"]
    path = week.directory / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    week.shared = EPOCHS
    refused = week.refused(overwrite=True)
    assert codes(refused) == {"started-run"}
    assert refused.problems[0].actual == FOUR[0]
    week.scaffold(told=False, started="keep", overwrite=True)
    assert week.kinds()[FOUR[0]] == "kept"


@pytest.mark.parametrize(
    "line", ["other: .nan", "other: 1" + "0" * 30, 'other: "\\0"', "lr: fast", "[]", "- a: &x [*x]", "\0"]
)
def test_damaged_files_of_a_started_run_never_make_an_unreadable_plan(week: Week, line: str) -> None:
    week.train(FOUR[0])
    shutil.rmtree(week.directory / ".scaffold")
    file = week.directory / FOUR[0] / "setup_finetune.yaml"
    file.write_text(file.read_text() + line + "\n")
    week.freeze_files(FOUR[0])
    assert codes(week.refused(overwrite=True)) == {"started-run"}
    steps.scaffold(week.request(started="keep", overwrite=True))
    week.hold()
    with Tree(week.directory) as tree:
        assert [each.directory for each in existing_plan(tree).kept] == [FOUR[0]]


# Manual edits.


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["edited", "removed"])
def test_an_edited_started_run_is_a_question_and_kept_unchanged(week: Week, name: str, how: str) -> None:
    week.train(FOUR[0])
    file = week.directory / FOUR[0] / name
    file.unlink() if how == "removed" else file.write_text(file.read_text() + "# mine\n")
    week.freeze()
    week.rows |= grid(lora_rank=[32], lr=["1e-5"])
    change = week.changes()[FOUR[0]]
    assert (change.kind, [(field.field, field.old) for field in change.fields]) == (
        "changed",
        [(name, how)],
    )
    assert codes(week.refused(overwrite=True)) == {"started-run"}
    result = week.scaffold(started="keep")
    assert result.validation.kept_values == (f"{name} has been {how}, and was not restored",)
    file.write_text("later\n")  # the kept file is checked from now on
    later = steps.validate(week.request())
    assert "changed-output" in codes_of_errors(later)
    assert later.accepts_edits == "--started keep"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["edited", "removed"])
def test_an_undone_edit_of_a_kept_run_is_no_edit(week: Week, name: str, how: str) -> None:
    week.train(FOUR[0])
    file = week.directory / FOUR[0] / name
    generated = file.read_bytes()
    file.unlink() if how == "removed" else file.write_bytes(generated + b"# mine\n")
    week.freeze()
    week.scaffold(started="keep")
    (kept,) = [run for run in steps.validate(week.request()).runs if run.directory == FOUR[0]]
    assert all("--started replace" in each.fix for each in kept.findings if each.file == f"{FOUR[0]}/{name}")
    file.write_bytes(generated)
    result = steps.validate(week.request())
    assert result.passed
    assert {"kept-run", "changed-output"} & {each.code for each in result.all_findings()} == set()
    assert (result.kept, result.kept_values) == (0, ())


def test_a_run_with_a_new_output_directory_is_replaced_while_its_results_stay(week: Week) -> None:
    week.train(FOUR[0])
    old = week.outputs(FOUR[0])
    results = everything(old)
    week.frozen = {}
    week.local["output_dir_base"] = str(week.base / "later")
    assert codes(week.refused()) == {"started-run"}
    assert submitted(week.scaffold(started="replace")) == FOUR
    assert week.outputs(FOUR[0]) != old
    assert everything(old) == results


def test_edited_files_of_a_started_run_are_replaced_only_after_its_results_are_moved(week: Week) -> None:
    week.train(FOUR[0])
    file = week.directory / FOUR[0] / "finetune.yaml"
    file.write_text(file.read_text() + "# mine\n")
    week.freeze()
    assert codes(week.refused(overwrite=True, started="replace")) == {"started-run"}
    week.outputs(FOUR[0]).rename(week.base / "aside")
    week.frozen = {}
    assert submitted(week.scaffold(overwrite=True, started="replace")) == FOUR
    assert "mine" not in file.read_text()


def test_a_manually_removed_directory_of_a_trained_run_is_not_generated_again(week: Week) -> None:
    week.train(FOUR[0], epochs=3)
    shutil.rmtree(week.directory / FOUR[0])
    shutil.rmtree(week.directory / FOUR[1])  # never started: it is simply generated again
    week.frozen = {}
    assert week.changes()[FOUR[0]].is_started
    assert codes(week.refused()) == {"started-run"}
    assert codes(week.refused(started="replace")) == {"started-run"}
    result = week.scaffold(started="keep", told=False)
    assert not (week.directory / FOUR[0]).exists()
    assert submitted(result) == FOUR[1:]


def test_a_run_directory_replaced_by_a_link_is_refused(week: Week) -> None:
    week.train(FOUR[0])
    aside = week.directory.with_name("aside")
    (week.directory / FOUR[0]).rename(aside)
    (week.directory / FOUR[0]).symlink_to(aside)
    week.frozen = {}
    week.shared = EPOCHS
    before = {path: path.read_bytes() for path in aside.iterdir()}
    for said in (None, "keep", "replace"):
        with pytest.raises(Refused):
            steps.scaffold(week.request(started=said, overwrite=True))
    assert {path: path.read_bytes() for path in aside.iterdir()} == before


# SLURM.


def program(week: Week, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Put a stand-in for a program of SLURM on PATH: a shell script."""
    folder = week.directory.with_name("bin")
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    if str(folder) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)


def state_of(week: Week, run: str) -> Any:
    with Tree(week.directory) as tree:
        return states_of(tree, existing_plan(tree).runs, Request(week.directory))[run]


def test_a_run_submitted_during_planning_is_not_changed(week: Week, monkeypatch: pytest.MonkeyPatch) -> None:
    job = f"echo '7|PENDING|{week.directory / FOUR[0]}'"
    mark = week.directory.with_name("mark")
    program(week, monkeypatch, "squeue", f"if [ -e {mark} ]; then {job}; fi; touch {mark}")
    week.shared = EPOCHS
    week.write()
    before = week.runs()
    with pytest.raises(Refused) as caught:
        steps.scaffold(week.request())
    assert codes(caught.value) == {"started-run"}
    assert week.runs() == before
    mark.unlink()
    result = steps.scaffold(week.request(started="keep"))
    assert result.ok
    assert submitted(result) == FOUR[1:]
    assert week.runs()[FOUR[0]] == before[FOUR[0]]


def test_a_removed_run_that_is_submitted_meanwhile_keeps_its_script(
    week: Week, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = week.directory.with_name("mark")
    job = f"echo '7|PENDING|{week.directory / FOUR[0]}'"
    program(week, monkeypatch, "squeue", f"if [ -e {mark} ]; then {job}; fi; touch {mark}")
    del week.rows["run_lora_rank8_lr1e-5"]
    week.write()
    before = week.runs()
    assert steps.scaffold(week.request()).ok
    assert week.runs()[FOUR[0]] == before[FOUR[0]]


def test_jobs_of_replaced_files_do_not_affect_the_present_state(week: Week, monkeypatch: pytest.MonkeyPatch) -> None:
    week.train(FOUR[0])
    program(week, monkeypatch, "squeue", f"echo '101|CANCELLED|{week.directory / FOUR[0]}'")
    assert state_of(week, FOUR[0]).state == "failed"
    week.outputs(FOUR[0]).rename(week.base / "aside")
    week.frozen, week.shared = {}, EPOCHS
    assert submitted(week.scaffold(started="replace")) == FOUR
    assert state_of(week, FOUR[0]).state == "scaffolded"
    program(week, monkeypatch, "squeue", f"echo '102|PENDING|{week.directory / FOUR[0]}'")
    assert state_of(week, FOUR[0]).state == "submitted"


@pytest.mark.parametrize(
    ("queue", "accounting", "state"),
    [
        ("exit 1", "echo '101|RUNNING|{run}'", "running"),  # the controller is down: the accounting has it
        ("exit 1", "echo '101|COMPLETED|{run}'", "finished"),
        ("true", "echo '101|RUNNING|{run}'", "failed"),  # a job that SLURM lost: no queue has it
        ("true", "echo '101|COMPLETED|/elsewhere'", "failed"),  # the number is that of a different cluster's job
        ("true", "exit 1", "failed"),
        ("echo '101|COMPLETED|{run}'", "exit 1", "finished"),
        ("echo '99|CANCELLED|{run}'; echo '103|PENDING|{run}'", "echo '101|FAILED|{run}'", "submitted"),
        ("echo garbage; echo '1|'; printf '\\377\\n'", "echo '|||'", "failed"),
        ("exit 1", "exit 1", "submitted"),
    ],
)
def test_the_queue_and_the_accounting_are_combined(
    week: Week, monkeypatch: pytest.MonkeyPatch, queue: str, accounting: str, state: str
) -> None:
    (week.directory / FOUR[0] / "slurm-101.out").write_text("training\n")
    program(week, monkeypatch, "squeue", queue.format(run=week.directory / FOUR[0]))
    program(week, monkeypatch, "sacct", accounting.format(run=week.directory / FOUR[0]))
    assert state_of(week, FOUR[0]).state == state


def test_a_hanging_slurm_is_reported_after_one_timeout(week: Week, monkeypatch: pytest.MonkeyPatch) -> None:
    from scaffold_torchtune.external_checks import sbatch

    monkeypatch.setattr(sbatch, "DEADLINE", 0.2)
    (week.directory / FOUR[0] / "slurm-101.out").write_text("training\n")
    for name in ("squeue", "sacct"):
        program(week, monkeypatch, name, "exec sleep 1000")
    found = state_of(week, FOUR[0])
    assert found.state == "submitted"
    assert "squeue" in found.unknown
    assert any("squeue" in reason for reason in found.unseen)


@pytest.mark.parametrize(("mode", "everybody"), [(0o755, False), (0o777, True)])
def test_jobs_of_other_users_are_queried_if_they_may_submit(
    week: Week, monkeypatch: pytest.MonkeyPatch, mode: int, *, everybody: bool
) -> None:
    week.directory.chmod(mode)
    line = f"7|RUNNING|{week.directory / FOUR[0]}"  # a different user's job, which squeue omits with --user
    program(week, monkeypatch, "squeue", f'case "$*" in *--user=*) ;; *) echo "{line}" ;; esac')
    assert state_of(week, FOUR[0]).started is everybody


# Invisible outputs.


def test_results_locked_by_another_user_count_as_results(week: Week) -> None:
    week.train(FOUR[0])
    folder = week.outputs(FOUR[0])
    week.shared = EPOCHS
    folder.chmod(0)
    try:
        with held_to_modes():
            found = week.changes()[FOUR[0]]
            assert found.is_started
            assert any(str(folder) in reason for reason in found.state.evidence)  # type: ignore[union-attr]
            assert codes(week.refused(started="replace")) == {"started-run"}
    finally:
        folder.chmod(0o755)


def test_a_file_system_missing_on_this_machine_is_reported(tmp_path: Path) -> None:
    week = Week(tmp_path / "sweep", Path("/no-such-scratch/outputs"), grid(lora_rank=[8, 16]))
    week.scaffold()
    (week.directory / "rank8/slurm-1.out").write_text("training\n")
    week.freeze()
    week.shared = EPOCHS
    found = week.changes()
    for name in ("rank8", "rank16"):
        assert any("/no-such-scratch" in reason for reason in found[name].state.unseen)  # type: ignore[union-attr]
    assert codes(week.refused(started="replace")) == {"started-run"}
    week.scaffold(started="keep")


# Time, and two users.


def test_a_clock_set_back_loses_no_version(week: Week) -> None:
    time = datetime(2026, 11, 20, 12, tzinfo=UTC)
    for number, epochs in enumerate((5, 6, 7)):
        week.shared = EPOCHS | {"epochs": epochs}
        week.write()
        assert steps.scaffold(week.request(now=lambda number=number: time - timedelta(hours=number % 2))).ok
    versions = list((week.directory / ".scaffold/history" / FOUR[0]).iterdir())
    found = sorted((path / "setup_finetune.yaml").read_text().partition("epochs: ")[2][0] for path in versions)
    assert found == ["3", "5", "6"]


def test_a_restored_summary_makes_runs_started_with_it_unchanged(week: Week) -> None:
    old = week.texts()
    week.train(FOUR[0])
    week.shared = EPOCHS
    week.scaffold(started="keep")
    week.train(FOUR[1])
    for name, text in old.items():
        (week.directory / name).write_text(text)
    found = {each.directory: each for each in prepare.prepare(week.request()).changes}
    assert {name: each.kind for name, each in found.items()} == {FOUR[0]: "unchanged"} | dict.fromkeys(
        FOUR[1:], "changed"
    )
    week.shared = {"epochs": 3, "batch_size": 4}
    assert {problem.actual for problem in week.refused().problems} == {FOUR[1]}
    assert submitted(week.scaffold(started="keep")) == FOUR[2:]


@pytest.mark.long
def test_a_plan_is_compared_with_the_concurrent_scaffold_of_another_user(
    week: Week, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, local = week.directory.with_name("mark"), week.directory / "experiment_summary.md"
    theirs = f"{sys.executable} -m scaffold_torchtune scaffold {week.directory} --started keep --no-sbatch"
    edit = f"sed -i 's/Epochs:[*][*] {{}}/Epochs:** {{}}/' {local}"
    meanwhile = f"{edit.format(5, 6)}; {theirs} >{mark}.out 2>&1; {edit.format(6, 5)}"
    week.train(FOUR[0])
    week.shared = EPOCHS
    week.write()
    program(week, monkeypatch, "squeue", f"[ -e {mark} ] || {{ touch {mark}; {meanwhile}; }}")
    result = steps.scaffold(week.request(started="keep"))
    assert result.ok, result.validation.summary
    assert "validation passed" in Path(f"{mark}.out").read_text(), Path(f"{mark}.out").read_text()
    week.hold()
    assert "epochs: 5" in (week.directory / FOUR[1] / "finetune.yaml").read_text()


# The command line.


def test_the_command_accepts_answers_for_some_started_runs_and_for_a_tie(
    tied: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    tied.write()
    command = ["scaffold", str(tied.directory), "--no-sbatch"]
    assert main(command) == 2
    assert "--answer directories=" in capsys.readouterr().err
    said = [*command, "--answer", "directories=low a=lr1e-5"]
    assert main(said) == 2
    assert main([*said, "--started", "replace=lr5*", "--started", "keep=lr1e-5"]) == 0
    assert tied.kinds() == {"lr1e-5": "kept", "lr1e-5_seed2": "unchanged", "lr5e-5": "unchanged"}
    assert "2 new" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([*command, "--started", "sometimes"])
    assert ended.value.code == 2


# Directories of other machines.


def test_outputs_that_cannot_be_seen_are_reported_once_for_all_runs(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    week.local["output_dir_base"] = "/nowhere/outputs"
    week.scaffold()
    capsys.readouterr()
    assert main(["status", str(week.directory)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not found: outputs")]
    assert len(told) == 1
    assert told[0].endswith("for all runs")
