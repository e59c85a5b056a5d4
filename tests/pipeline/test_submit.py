"""`submit` hands each run to SLURM once: its question, its refusals, and how it continues after an interruption."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, escape, refuse, shown
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.diagnosis import doctor
from scaffold_torchtune.pipeline.submit import SubmitResult, Wanted, submit
from scaffold_torchtune.request import Request, Stopped
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, actions, change, everything, log, make_experiment, many_runs
from support.kit_generations import kit
from support.sampling import spread
from support.scaffolding import refusal, scaffold, validated
from support.stand_in_slurm import StandInSlurm, slurm_on_path
from support.waiting import wait_until
from support.wording import absent

OUTPUTS = "/scratch/gpfs/LAB/ada/ck-outputs"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    return slurm_on_path(tmp_path / "slurm-bin", monkeypatch)


@pytest.fixture
def sweep(tmp_path: Path, slurm: StandInSlurm) -> Path:
    experiment = make_experiment(tmp_path / "sweep", replace={OUTPUTS: str(tmp_path / "outputs")})
    assert scaffold(experiment).ok
    slurm.reset()
    return experiment


def submitted(experiment: Path, **wanted: Any) -> SubmitResult:
    return submit(Request(experiment), Wanted(**wanted), lambda _: True)


def refused(experiment: Path, **wanted: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        submitted(experiment, **wanted)
    return caught.value


def codes(of: Refused | SubmitResult) -> list[str]:
    return [problem.code for problem in of.problems]


def records(experiment: Path) -> list[dict[str, Any]]:
    file = experiment / ".scaffold" / "jobs.json"
    found: list[dict[str, Any]] = json.loads(file.read_text())["submissions"] if file.exists() else []
    return found


def assert_each_once(experiment: Path, slurm: StandInSlurm, runs: tuple[str, ...] = RUNS) -> None:
    """Check that each run has one job, which may start, and which is recorded and logged."""
    kept = records(experiment)
    assert sorted(run for one in kept for run in one["runs"]) == sorted(runs)
    assert [job.state for job in slurm.jobs()] == ["PENDING"] * len(runs)
    assert {job.id.partition("_")[0] for job in slurm.jobs()} == {one["job"] for one in kept}
    assert all(one["progress"] == "released" and one["logged"] for one in kept)
    told = re.findall(r"Job ids: (.*)", log(experiment))
    assert sorted(re.findall(r"\b(\d{4,}) \(", " ".join(told))) == sorted(one["job"] for one in kept)


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


# A limit on concurrent jobs.


def waits(slurm: StandInSlurm) -> list[str]:
    """Return the dependency of each submitted job."""
    found = [re.search(r"--dependency=afterany:(\S+)", call) for call in slurm.submitted()]
    return [match[1] if match else "" for match in found]


def test_an_array_limits_itself(sweep: Path, slurm: StandInSlurm) -> None:
    submitted(sweep, at_once=2)
    assert "#SBATCH --array=0-3%2\n" in (sweep / "finetune_array.slurm").read_text()
    assert waits(slurm) == [""]


@pytest.mark.long
def test_each_of_several_arrays_waits_for_the_previous_one(tmp_path: Path, slurm: StandInSlurm) -> None:
    experiment = many_runs(tmp_path, 5)
    assert scaffold(experiment).ok
    slurm.largest(2)
    slurm.reset()
    result = submitted(experiment, at_once=2)
    assert [len(each.runs) for each in result.batches] == [2, 2, 1]
    assert [each.script for each in result.batches][:2] == ["finetune_array.slurm", "finetune_array_2.slurm"]
    assert waits(slurm) == ["", "4711", "4712"]


@pytest.mark.long
def test_each_single_job_waits_for_an_earlier_one(sweep: Path, slurm: StandInSlurm) -> None:
    submitted(sweep, at_once=2, arrays=False)
    assert waits(slurm) == ["", "", "4711", "4712"]


@pytest.mark.long
def test_running_jobs_count_toward_the_limit(sweep: Path, slurm: StandInSlurm) -> None:
    submitted(sweep, only="rank8*")
    submitted(sweep, at_once=2)
    assert waits(slurm) == ["", "4711"]


@pytest.mark.long
@pytest.mark.parametrize("largest", [0, 1])
def test_a_site_without_arrays_gets_single_jobs(largest: int, sweep: Path, slurm: StandInSlurm) -> None:
    slurm.largest(largest)
    assert len(submitted(sweep).batches) == 4
    assert_each_once(sweep, slurm)


# Directives, options and variables.


@pytest.mark.long
def test_runs_with_different_resources_are_different_arrays(tmp_path: Path, slurm: StandInSlurm) -> None:
    times = {"| LoRA Rank |": "| Time |", " | 8 | ": " | 1:00:00 | ", " | 16 | ": " | 2:00:00 | "}
    experiment = make_experiment(tmp_path / "sweep", replace=times)
    assert scaffold(experiment).ok
    slurm.reset()
    result = submitted(experiment)
    assert [len(each.runs) for each in result.batches] == [2, 2]
    one, other = ((experiment / each.script).read_text() for each in result.batches)
    assert ["--time=1:00:00\n" in one, "--time=2:00:00\n" in other] == [True, True]
    assert_each_once(experiment, slurm, tuple(run for each in result.batches for run in each.runs))


def test_only_variables_of_slurm_are_removed_from_the_environment_of_sbatch(
    sweep: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "slurm.conf").write_text("")
    given = {"SBATCH_PARTITION": "long", "SBATCH_ARRAY_INX": "0-99", "SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}
    site = {"SLURM_CONF": str(tmp_path / "slurm.conf"), "WANDB_API_KEY": "0123456789abcdef", "MINE": "a b"}
    for name, value in (given | site).items():
        monkeypatch.setenv(name, value)
    result = submitted(sweep)
    found = slurm.environment("sbatch")
    assert not found.keys() & given.keys()
    assert {name: found[name] for name in site} == site, "the job inherits what the user has"
    assert "SCAFFOLD_TORCHTUNE_PROCESS" not in found
    assert "PYTHONDONTWRITEBYTECODE" not in found or "PYTHONDONTWRITEBYTECODE" in os.environ
    assert {each.actual for each in result.warnings} == {"SBATCH_PARTITION", "SBATCH_ARRAY_INX"}


@pytest.mark.long
def test_settings_that_an_external_script_lacks_are_in_the_array_script(
    tmp_path: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")
    given = "- **QOS**: high\n- **Comment**: second # try; of (two) & more\n- **Offline**: yes\n"
    experiment = make_experiment(tmp_path / "it's a sweep", replace={"- **Default GPUs**: `1`\n": given})
    tool = str(kit(tmp_path / "kit", "december"))
    assert scaffold(experiment, setup_script=tool).ok
    slurm.reset()
    done = submit(Request(experiment, setup_script=tool), Wanted(), lambda _: True)
    assert [each.job for each in done.batches] == ["4711"]
    text = (experiment / "finetune_array.slurm").read_text()
    for line in ("#SBATCH --qos=high", '#SBATCH --comment="second # try; of (two) & more"', "export HF_HUB_OFFLINE=1"):
        assert f"{line}\n" in text
    assert subprocess.run(["/bin/bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert_each_once(experiment, slurm)


@pytest.mark.long
def test_log_directories_of_single_jobs_are_created(
    tmp_path: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")
    out = {"/scratch/gpfs/LAB/ada/ck-outputs/": f"{tmp_path}/out", "**Epochs:** 2": CHAT}
    experiment = make_experiment(tmp_path / "sweep", replace=out)
    tool = str(kit(tmp_path / "kit", "august"))
    assert scaffold(experiment, setup_script=tool).ok
    slurm.reset()
    submit(Request(experiment, setup_script=tool), Wanted(arrays=False), lambda _: True)
    for run in RUNS:
        assert (tmp_path / "out" / "cap_4L_lora_lr_sweep" / run / "artifacts").is_dir()
    assert_each_once(experiment, slurm)


CHAT = "**Epochs:** 2\n- **Dataset type:** chat_completion"


@pytest.mark.parametrize("name", ["50%", "per%j", "back\\slash"])
def test_a_directory_with_a_slurm_pattern_in_its_name_is_refused(
    name: str, tmp_path: Path, slurm: StandInSlurm
) -> None:
    experiment = make_experiment(tmp_path / name)
    assert scaffold(experiment).ok
    assert codes(refused(experiment)) == ["unsafe-path"]
    assert slurm.submitted() == []


@pytest.mark.parametrize("name", ["50%", "back\\slash"])
def test_plan_and_verdict_warn_of_such_a_directory_once_with_the_same_fix(
    name: str, tmp_path: Path, slurm: StandInSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = tmp_path / name
    experiment = make_experiment(parent / "sweep")
    (warning,) = of_path(steps.plan(Request(experiment)).warnings)
    assert (warning.severity, warning.file) == (Severity.WARNING, escape(str(experiment)))
    assert absent(warning.fix, shown(name)) == []
    assert main(["scaffold", str(experiment)]) == 0
    assert capsys.readouterr().out.count("[unsafe-path]") == 1
    assert of_path(steps.validate(Request(experiment)).findings) == [warning]
    (refusal,) = refused(experiment).problems
    assert (refusal.message, refusal.fix) == (warning.message, warning.fix)
    (check,) = [check for check in doctor(Request(experiment), with_experiment=True).checks if check.fix == warning.fix]
    assert check.state == "warning"
    moved = parent.rename(tmp_path / "plain") / "sweep"
    assert of_path(steps.validate(Request(moved)).findings) == [], "the fix works"
    assert slurm.jobs() == []


def of_path(found: Iterable[Finding]) -> list[Finding]:
    return [each for each in found if each.code == "unsafe-path"]


# SLURM that refuses, prints something else, or does not answer.


@pytest.mark.long
def test_the_second_of_three_arrays_is_refused(tmp_path: Path, slurm: StandInSlurm) -> None:
    experiment = many_runs(tmp_path, 6)
    assert scaffold(experiment).ok
    runs = tuple(f"lr{number}e-6" for number in range(1, 7))
    slurm.largest(2)
    slurm.reset()
    said = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    slurm.hook("sbatch", f'case "$*" in *--hold*array_2.slurm) echo "{said}" >&2; exit 1;; esac')
    result = submitted(experiment)
    assert (result.outcome, [each.job for each in result.batches]) == ("stopped", ["4711", "", ""])
    (problem,) = result.problems
    assert (problem.code, problem.actual) == ("submit-refused", runs[2])
    assert "--only" in problem.fix
    assert_each_once(experiment, slurm, runs[:2])
    assert not (experiment / "finetune_array_2.slurm").exists()
    slurm.hook("sbatch", "")
    assert main(["submit", str(experiment), "--yes"]) == 0
    assert_each_once(experiment, slurm, runs)


def test_runs_that_sbatch_rejects_are_refused_before_anything_is_submitted(sweep: Path, slurm: StandInSlurm) -> None:
    slurm.hook("sbatch", 'case "$*" in *--test-only*) echo "error: invalid partition specified: x" >&2; exit 1;; esac')
    before = everything(sweep)
    assert {"sbatch-refused", "submit-refused"} & {*codes(refused(sweep))}
    assert everything(sweep) == before


ODD = [
    "echo hello; exit 0",
    "exit 0",
    "echo 4711; echo 4712; exit 0",
    "echo 'Submitted batch job x'; exit 0",
    "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1",
    "kill -9 $$",
]


@pytest.mark.long
@pytest.mark.parametrize("answer", ODD)
def test_sbatch_prints_no_id_and_there_is_no_job(answer: str, sweep: Path, slurm: StandInSlurm) -> None:
    slurm.hook("sbatch", f'case "$*" in *--hold*) {answer};; esac')
    result = submitted(sweep)
    assert (result.outcome, codes(result)) == ("stopped", ["submit-unanswered"])
    assert slurm.jobs() == []
    slurm.hook("sbatch", "")
    assert submitted(sweep).outcome == "submitted"
    assert_each_once(sweep, slurm)


@pytest.mark.parametrize("answer", spread(ODD, len(ODD)))
def test_sbatch_prints_no_id_and_there_is_a_job(answer: str, sweep: Path, slurm: StandInSlurm) -> None:
    real = f"sed '/sbatch.hook/d' {slurm.folder}/sbatch > {slurm.folder}/real; sh {slurm.folder}/real"
    slurm.hook("sbatch", f'case "$*" in *--hold*) {real} "$@" > /dev/null; {answer};; esac')
    assert submitted(sweep).outcome == "submitted"
    assert_each_once(sweep, slurm)


def test_a_banner_around_the_id_is_ignored(sweep: Path, slurm: StandInSlurm) -> None:
    slurm.hook("sbatch", 'echo "Welcome to the cluster, 2026"; echo "lua: checked" >&2')
    assert submitted(sweep).batches[0].job == "4711"
    assert_each_once(sweep, slurm)


@pytest.mark.long
def test_an_id_with_its_cluster_is_accepted(sweep: Path, slurm: StandInSlurm) -> None:
    slurm.hook("sbatch", 'case "$*" in *--hold*) echo "99;far"; exit 0;; esac')
    assert submitted(sweep).batches[0].job == "99"
    (one,) = records(sweep)
    assert (one["job"], one["clusters"]) == ("99", "far")
    assert slurm.calls("scontrol")[-1] == "--clusters=far release 99"
    validated(sweep)
    assert any("--clusters=far" in call for call in slurm.calls("squeue"))


@pytest.mark.long
def test_sbatch_hangs(sweep: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.hook("sbatch", 'case "$*" in *--hold*) exec sleep 1000;; esac')
    monkeypatch.setattr(sbatch, "DEADLINE", 1.0)
    assert codes(submitted(sweep)) == ["submit-unanswered"]
    monkeypatch.setattr(sbatch, "DEADLINE", 30.0)
    slurm.hook("sbatch", "")
    submitted(sweep)
    assert_each_once(sweep, slurm)


@pytest.mark.long
def test_a_job_that_cannot_be_released_is_recorded_and_released_later(sweep: Path, slurm: StandInSlurm) -> None:
    slurm.hook("scontrol", 'case "$*" in *release*) echo "Access/permission denied for job" >&2; exit 1;; esac')
    result = submitted(sweep)
    assert codes(result) == ["still-held"]
    assert result.problems[0].fix.endswith(": scontrol release 4711")
    assert validated(sweep).started == RUNS
    again = submitted(sweep)
    assert (again.outcome, codes(again)) == ("nothing", ["still-held"])
    assert [job.state for job in slurm.jobs()] == ["HELD"] * 4
    slurm.hook("scontrol", "")
    assert submitted(sweep).problems == ()
    assert_each_once(sweep, slurm)


@pytest.mark.parametrize("said", ["exit 1", "exec sleep 1000"])
def test_nothing_is_submitted_if_squeue_does_not_answer(
    said: str, sweep: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.hook("squeue", said)
    monkeypatch.setattr(sbatch, "DEADLINE", 1.0)
    before = everything(sweep)
    assert codes(refused(sweep)) == ["queue-unknown"]
    assert everything(sweep) == before
    assert slurm.submitted() == []


@pytest.mark.parametrize("name", ["sbatch", "squeue", "scontrol"])
def test_a_missing_slurm_command_is_refused(
    name: str, sweep: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm.folder / name).unlink()
    monkeypatch.setenv("PATH", str(slurm.folder))
    assert codes(refused(sweep)) == ["submit-unavailable"]


# Events between the question and the answer.


def meanwhile(experiment: Path, act: Any) -> Refused:
    def confirm(_: SubmitResult) -> bool:
        act()
        return True

    with pytest.raises(Refused) as caught:
        submit(Request(experiment), Wanted(), confirm)
    return caught.value


@pytest.mark.long
def test_two_users_submit_at_the_same_moment(sweep: Path, slurm: StandInSlurm) -> None:
    assert codes(meanwhile(sweep, lambda: submitted(sweep))) == ["runs-changed"]
    assert_each_once(sweep, slurm)


@pytest.mark.long
def test_a_concurrent_call_is_busy(sweep: Path, slurm: StandInSlurm) -> None:
    busy = sweep.with_name("busy")
    slurm.hook("sbatch", f'case "$*" in *--hold*) touch {busy}; while [ -e {busy} ]; do sleep 0.05; done;; esac')
    with called(sweep) as process:
        wait_until(busy.exists)
        assert codes(refused(sweep)) == ["busy"]
        busy.unlink()
        assert process.wait(60) == 0
    assert_each_once(sweep, slurm)


@contextlib.contextmanager
def called(experiment: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command in a separate process."""
    command = [sys.executable, "-m", "scaffold_torchtune", "submit", str(experiment), "--yes"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
def test_a_run_is_edited_removed_or_renamed(sweep: Path, slurm: StandInSlurm) -> None:
    script = sweep / RUNS[0] / "finetune.slurm"
    text = script.read_text()
    assert codes(meanwhile(sweep, lambda: script.write_text(text + "# mine\n"))) == ["runs-changed"]
    script.write_text(text)
    assert codes(meanwhile(sweep, lambda: (sweep / RUNS[1]).rename(sweep / "away"))) == ["runs-changed"]
    assert slurm.submitted() == []


@pytest.mark.long
def test_a_file_of_the_user_is_not_overwritten(sweep: Path, slurm: StandInSlurm) -> None:
    mine = sweep / "finetune_array.slurm"
    mine.write_text("mine\n")
    assert codes(refused(sweep)) == ["edited-output"]
    assert mine.read_text() == "mine\n"
    mine.unlink()
    mine.mkdir()
    assert codes(refused(sweep)) == ["unsafe-path"]
    mine.rmdir()
    submitted(sweep, only="rank8*")
    assert submitted(sweep).outcome == "submitted", "our own is"
    assert_each_once(sweep, slurm)


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


# Files of ended arrays.


def accounting(slurm: StandInSlurm, experiment: Path, job: str, *states: str) -> None:
    """Make sacct report the states of an array's tasks."""
    lines = [f"{job}_{task}|{state}|1:00|59:00|1:0|{experiment}" for task, state in enumerate(states)]
    slurm.hook("sacct", "cat <<'END'\n{}\nEND\nexit 0".format("\n".join(lines)))


def arrays(experiment: Path) -> list[str]:
    return sorted(path.name for path in (experiment / ".scaffold" / "arrays").iterdir())


@pytest.fixture
def ended(sweep: Path, slurm: StandInSlurm) -> tuple[Path, str]:
    """Return an experiment and the token of its array, which has ended in the accounting and has left the queue."""
    submitted(sweep)
    accounting(slurm, sweep, "4711", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED by 1000")
    (slurm.folder / "jobs").write_text("")
    return sweep, records(sweep)[0]["token"]


def test_the_next_submission_removes_the_files_of_ended_arrays(ended: tuple[Path, str], slurm: StandInSlurm) -> None:
    sweep, token = ended
    (sweep / ".scaffold" / "arrays" / token / "0.started").symlink_to("4711")
    (sweep / ".scaffold" / "arrays" / token / "slurm-4800_0.out").write_text("was started by job 4711\n")
    assert submitted(sweep).outcome == "nothing"
    assert arrays(sweep) == [token], "a call that submits nothing writes nothing"
    before = {run: everything(sweep / run) for run in RUNS}
    result = submitted(sweep, failed=True)
    assert [each.runs for each in result.batches] == [RUNS[1:]]
    kept = records(sweep)
    assert kept[0]["token"] == token, "the record of the jobs stays"
    assert arrays(sweep) == [kept[1]["token"]]
    assert {run: everything(sweep / run) for run in RUNS} == before
    slurm.hook("sacct", "")


def test_an_unused_array_script_is_removed_and_an_edited_one_stays(
    ended: tuple[Path, str], slurm: StandInSlurm
) -> None:
    sweep, _ = ended
    submitted(sweep, failed=True, only=RUNS[1])
    assert not (sweep / "finetune_array.slurm").exists(), "its links are gone, so it could not even fail aloud"
    assert arrays(sweep) == []
    submitted(sweep, failed=True, only="rank16*")
    accounting(slurm, sweep, "4713", "FAILED", "FAILED")
    (slurm.folder / "jobs").write_text("")
    script = sweep / "finetune_array.slurm"
    script.write_text(script.read_text() + "# mine\n")
    submitted(sweep, failed=True, only=RUNS[2])
    assert (arrays(sweep), script.read_text().endswith("# mine\n")) == ([], True)


@pytest.mark.parametrize(
    "case", ["running", "in the queue", "submitted by the user", "no accounting", "a file", "killed"]
)
def test_files_of_arrays_are_kept_while_they_may_be_needed(
    case: str, ended: tuple[Path, str], slurm: StandInSlurm
) -> None:
    sweep, token = ended
    (name,) = {one["name"] for one in records(sweep)}
    jobs = slurm.folder / "jobs"
    if case == "running":
        accounting(slurm, sweep, "4711", "COMPLETED", "FAILED", "RUNNING", "FAILED")
        jobs.write_text(f"{name}|4711_2|RUNNING|{sweep}\n")
    elif case == "in the queue":  # SLURM may still requeue them
        jobs.write_text("".join(f"{name}|4711_{task}|FAILED|{sweep}\n" for task in range(4)))
    elif case == "submitted by the user":
        jobs.write_text(f"{name}|4800_3|PENDING|{sweep}\n")
    elif case == "no accounting":
        slurm.hook("sacct", "exit 1")
        (sweep / RUNS[1] / "slurm-4711_1.out").write_text("torch.OutOfMemoryError: CUDA out of memory.\n")
    elif case == "a file":
        (sweep / ".scaffold" / "arrays" / token / "notes.txt").write_text("mine\n")
    else:
        accounting(slurm, sweep, "4711", "COMPLETED", "FAILED")  # the other tasks are not reported
    before = everything(sweep / ".scaffold" / "arrays" / token)
    result = submitted(sweep, failed=True, only=RUNS[1])
    assert result.outcome == "submitted"
    assert everything(sweep / ".scaffold" / "arrays" / token) == before


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


# Ctrl-C.


@pytest.mark.long
@pytest.mark.parametrize(("program", "left"), [("sbatch", []), ("scontrol", ["HELD"] * 4)])
def test_submit_continues_after_ctrl_c(program: str, left: list[str], sweep: Path, slurm: StandInSlurm) -> None:
    asked = sweep.with_name("asked")
    slurm.hook(program, f'case "$*" in *--hold*|*release*) touch {asked}; exec sleep 1000;; esac')
    with called(sweep) as process:
        wait_until(asked.exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert [job.state for job in slurm.jobs()] == left
    slurm.hook(program, "")
    assert main(["submit", str(sweep), "--yes"]) == 0
    assert_each_once(sweep, slurm)


@pytest.mark.long
def test_the_disk_is_full_after_sbatch_answered(
    sweep: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Tree.write

    def full(self: Tree, path: str, data: bytes, *, durable: bool = True) -> None:
        if path == ".scaffold/jobs.json" and b'"job": "4711"' in data:
            raise refuse("write-failed", "no space left", file=path)
        write(self, path, data, durable=durable)

    monkeypatch.setattr(Tree, "write", full)
    assert isinstance(refused(sweep), Stopped)
    monkeypatch.undo()
    for name, value in slurm.variables.items():
        monkeypatch.setenv(name, value)
    assert submitted(sweep).outcome == "nothing"
    assert_each_once(sweep, slurm)
