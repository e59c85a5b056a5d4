"""`submit` hands each run to SLURM once: its question, its refusals, and how it continues after an interruption."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.reporting import status
from scaffold_torchtune.pipeline.submit import Wanted, submit
from scaffold_torchtune.request import Request
from support.experiments import RUNS, actions, change, everything, make_experiment
from support.scaffolding import refusal, scaffold, validated
from support.stand_in_slurm import StandInSlurm, slurm_on_path
from support.submitting import OUTPUTS, assert_each_once, codes, records, refused, submitted, to_submit


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    return slurm_on_path(tmp_path / "slurm-bin", monkeypatch)


@pytest.fixture
def sweep(tmp_path: Path, slurm: StandInSlurm) -> Path:
    return to_submit(tmp_path, slurm)


def test_all_runs_with_equal_resources_are_one_array(sweep: Path, slurm: StandInSlurm) -> None:
    result = submitted(sweep)
    assert (result.outcome, [each.job for each in result.batches]) == ("submitted", ["4711"])
    assert result.batches[0].runs == RUNS
    assert [job.id for job in slurm.jobs()] == ["4711_0", "4711_1", "4711_2", "4711_3"]
    assert_each_once(sweep, slurm)
    assert actions(sweep)[-1] == "SUBMIT"
    calls = slurm.calls("sbatch")
    assert "--test-only" in calls[-2]
    (call,) = slurm.submitted()
    assert call == "--parsable --hold finetune_array.slurm"
    for number, run in enumerate(RUNS):
        link = sweep / ".scaffold" / "arrays" / records(sweep)[0]["token"] / str(number)
        assert link.resolve() == sweep / run


def test_a_second_call_submits_nothing(sweep: Path, slurm: StandInSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    submitted(sweep)
    before, jobs = everything(sweep), slurm.jobs()
    assert main(["submit", str(sweep), "--yes"]) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert (everything(sweep), slurm.jobs()) == (before, jobs)
    result = validated(sweep)
    assert (result.submit, result.started) == ("", RUNS)


@pytest.mark.parametrize("alone", [False, True])
def test_a_copy_that_replaces_its_original_submits_no_run_again(
    sweep: Path, slurm: StandInSlurm, tmp_path: Path, alone: bool
) -> None:
    submitted(sweep, arrays=not alone)
    (sweep / RUNS[0] / f"slurm-{slurm.jobs()[0].id}.out").write_text("training\n")
    shutil.copytree(sweep, tmp_path / "copy", symlinks=True)
    (sweep / ".scaffold").rename(sweep / ".scaffold.orig")
    change(tmp_path / "copy" / "experiment_summary.md", str(sweep), str(tmp_path / "copy"))
    assert codes(refusal(steps.scaffold, tmp_path / "copy", started="keep")) == ["copied-scaffold"]
    slurm.hook("squeue", "exit 1")
    assert scaffold(tmp_path / "copy", started="keep").ok
    slurm.hook("squeue", "")
    jobs = slurm.jobs()
    for failed in (False, True):
        assert submitted(tmp_path / "copy", failed=failed).outcome == "nothing"
    assert slurm.jobs() == jobs


def test_a_copy_replaces_its_original_once_its_manually_submitted_jobs_have_ended(
    sweep: Path, slurm: StandInSlurm, tmp_path: Path
) -> None:
    subprocess.run(["/bin/sh", "-c", "sbatch finetune.slurm"], cwd=sweep / RUNS[1], check=True)
    copy = tmp_path / "copy"
    shutil.copytree(sweep, copy)
    (sweep / ".scaffold").rename(sweep / ".scaffold.orig")
    change(copy / "experiment_summary.md", str(sweep), str(copy))
    assert codes(refusal(steps.scaffold, copy)) == ["copied-scaffold"]
    assert codes(refused(copy)) == ["copied-scaffold"]
    assert [each.code for each in status(Request(copy)).findings] == ["copied-scaffold"]
    slurm.ends("4711", "CANCELLED")
    assert scaffold(copy).ok
    assert submitted(copy).batches[0].runs == RUNS


def test_a_copy_of_a_submitted_experiment_that_was_made_separate_is_submitted(
    sweep: Path, slurm: StandInSlurm, tmp_path: Path
) -> None:
    submitted(sweep)
    copy = tmp_path / "copy"
    shutil.copytree(sweep, copy, symlinks=True)
    change(copy / "experiment_summary.md", str(sweep), str(copy))
    change(copy / "experiment_summary.md", "# cap_4L_lora_lr_sweep", "# another_title")
    (problem,) = refusal(steps.scaffold, copy).problems
    command = problem.fix.partition(", then run `")[2].partition("`")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert scaffold(copy).ok
    assert submitted(copy).outcome == "submitted"
    assert sorted(run for one in records(copy) for run in one["runs"]) == sorted(RUNS)
    assert len(slurm.jobs()) == 2 * len(RUNS)


def test_invalid_outdated_or_incomplete_runs_are_not_submitted(sweep: Path, slurm: StandInSlurm) -> None:
    change(sweep / RUNS[0] / "finetune.yaml", "epochs: 2", "epochs: 3")
    assert "value-mismatch" in codes(refused(sweep))
    change(sweep / RUNS[0] / "finetune.yaml", "epochs: 3", "epochs: 2")
    change(sweep / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    assert codes(refused(sweep)) == ["plan-outdated"]
    (sweep / RUNS[1] / "finetune.slurm").unlink()
    assert "missing-file" in codes(refused(sweep))
    assert slurm.submitted() == []
    assert not records(sweep)


def test_an_experiment_without_a_scaffold_is_refused(tmp_path: Path, slurm: StandInSlurm) -> None:
    experiment = make_experiment(tmp_path / "new")
    assert codes(refused(experiment)) == ["not-rendered"]
    assert slurm.calls("sbatch") == []


def test_a_dry_run_writes_nothing(sweep: Path, slurm: StandInSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(sweep)
    assert main(["submit", str(sweep), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert [run for run in RUNS if run not in shown] == []
    assert "mem=" in shown
    assert everything(sweep) == before
    assert slurm.submitted() == []


def test_without_a_terminal_submit_is_refused_with_the_confirming_command(
    sweep: Path, slurm: StandInSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(sweep)
    assert main(["submit", str(sweep), "--max", "2"]) == 2
    assert f"submit {sweep} --max 2 --yes" in capsys.readouterr().err
    assert main(["submit", str(sweep), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["problems"][0]["code"] == "not-confirmed"
    assert everything(sweep) == before
    assert slurm.submitted() == []


def test_declining_the_prompt_submits_nothing(sweep: Path, slurm: StandInSlurm) -> None:
    before = everything(sweep)
    result = submit(Request(sweep), Wanted(), lambda _: False)
    assert result.outcome == "declined"
    assert everything(sweep) == before
    assert slurm.submitted() == []


@pytest.mark.long
def test_selected_runs_are_submitted_and_later_the_rest(sweep: Path, slurm: StandInSlurm) -> None:
    assert [each.runs for each in submitted(sweep, only="rank8*").batches] == [RUNS[:2]]
    assert validated(sweep).started == RUNS[:2]
    assert [each.runs for each in submitted(sweep, only="*5e-5").batches] == [RUNS[3:]]
    assert submitted(sweep).batches[0].script == f"{RUNS[2]}/finetune.slurm"
    assert_each_once(sweep, slurm)
    assert codes(refused(sweep, only="rank9*")) == ["invalid-value"]


@pytest.mark.long
def test_each_run_is_submitted_separately(sweep: Path, slurm: StandInSlurm) -> None:
    result = submitted(sweep, arrays=False)
    assert [each.job for each in result.batches] == ["4711", "4712", "4713", "4714"]
    assert [Path(job.place).name for job in slurm.jobs()] == [*RUNS]
    assert_each_once(sweep, slurm)
    assert not [*sweep.glob("finetune_array*")]
    assert actions(sweep).count("SUBMIT") == 1


# Submitted again, unchanged.


@pytest.mark.long
def test_failed_runs_are_submitted_again_unchanged(sweep: Path, slurm: StandInSlurm) -> None:
    submitted(sweep)
    for task, state in enumerate(("COMPLETED", "FAILED", "TIMEOUT", "RUNNING")):
        slurm.ends(f"4711_{task}", state)
    before = {run: everything(sweep / run) for run in RUNS}
    assert submitted(sweep).outcome == "nothing"
    result = submitted(sweep, failed=True)
    assert [each.runs for each in result.batches] == [RUNS[1:3]]
    assert {run: everything(sweep / run) for run in RUNS} == before
    assert submitted(sweep, failed=True).outcome == "nothing", "they wait now"
    slurm.ends("4712_0", "COMPLETED")
    assert validated(sweep).states.startswith("1 submitted"), "the last job counts"


@pytest.mark.long
def test_more_time_for_failed_runs_is_a_change_of_started_runs(sweep: Path, slurm: StandInSlurm) -> None:
    submitted(sweep)
    for task in range(4):
        slurm.ends(f"4711_{task}", "TIMEOUT")
    local = sweep / "claude.local.md"
    change(local, "0:59:00", "5:59:00")
    assert "started-run" in [problem.code for problem in refusal(steps.scaffold, sweep).problems]
    assert codes(refused(sweep, failed=True)) == ["plan-outdated"]
    assert scaffold(sweep, started="replace").ok
    result = submitted(sweep)
    assert result.batches[0].runs == RUNS
    assert "time=5:59:00" in result.batches[0].asks


@pytest.mark.long
def test_runs_with_an_unknown_outcome_are_submitted_again_only_if_named(tmp_path: Path, slurm: StandInSlurm) -> None:
    experiment = make_experiment(tmp_path / "away", replace={OUTPUTS: "/no/such/mount"})
    assert scaffold(experiment).ok
    slurm.reset()
    submitted(experiment)
    (slurm.folder / "jobs").write_text("")  # SLURM no longer has them
    result = submitted(experiment, failed=True)
    assert (result.outcome, [each.code for each in result.warnings]) == ("nothing", ["outcome-unseen"])
    assert submitted(experiment, failed=True, only=RUNS[0]).batches[0].runs == RUNS[:1]


# On a terminal.


@pytest.mark.long
@pytest.mark.parametrize(("typed", "status", "count"), [(b"y\n", 0, 4), (b"n\n", 1, 0), (b"\n", 1, 0), (b"\x04", 1, 0)])
def test_submit_asks_on_a_terminal(typed: bytes, status: int, count: int, sweep: Path, slurm: StandInSlurm) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "scaffold_torchtune", "submit", str(sweep)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 10_000)
        assert all(run.encode() in shown for run in RUNS)
        assert slurm.submitted() == []
        os.write(ours, typed)
        with contextlib.suppress(OSError):
            while os.read(ours, 10_000):
                pass
        assert process.wait(60) == status
    os.close(ours)
    assert len(slurm.jobs()) == count


def test_json_output_is_only_the_result(sweep: Path, slurm: StandInSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", str(sweep), "--yes", "--json", "--max", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["outcome"], result["batches"][0]["job"], result["at_once"]) == ("submitted", "4711", 2)
    assert_each_once(sweep, slurm)
