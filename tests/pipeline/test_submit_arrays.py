"""Job arrays of `submit`: limits, options and variables of the jobs, and the files of arrays that have ended."""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, escape, shown
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.diagnosis import doctor
from scaffold_torchtune.pipeline.submit import Wanted, submit
from scaffold_torchtune.request import Request
from support.experiments import RUNS, everything, make_experiment, many_runs
from support.kit_generations import kit
from support.sampling import spread
from support.scaffolding import scaffold
from support.stand_in_slurm import StandInSlurm, slurm_on_path
from support.submitting import assert_each_once, codes, records, refused, submitted, to_submit
from support.wording import absent


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    return slurm_on_path(tmp_path / "slurm-bin", monkeypatch)


@pytest.fixture
def sweep(tmp_path: Path, slurm: StandInSlurm) -> Path:
    return to_submit(tmp_path, slurm)


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


@pytest.mark.parametrize("name", spread(["50%", "back\\slash"], every=2))
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
    "case",
    spread(["running", "in the queue", "submitted by the user", "no accounting", "a file", "killed"], every=3),
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
