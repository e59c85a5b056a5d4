"""`submit` when SLURM refuses, answers oddly or not at all, when others act meanwhile, and when it is interrupted."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.pipeline.submit import SubmitResult, Wanted, submit
from scaffold_torchtune.request import Request, Stopped
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, everything, many_runs
from support.sampling import spread
from support.scaffolding import scaffold, validated
from support.stand_in_slurm import StandInSlurm, slurm_on_path
from support.submitting import assert_each_once, codes, records, refused, submitted, to_submit
from support.waiting import wait_until


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    return slurm_on_path(tmp_path / "slurm-bin", monkeypatch)


@pytest.fixture
def sweep(tmp_path: Path, slurm: StandInSlurm) -> Path:
    return to_submit(tmp_path, slurm)


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
    assert result.problems[0].fix.endswith(": `scontrol release 4711`")
    assert validated(sweep).started == RUNS
    again = submitted(sweep)
    assert (again.outcome, codes(again)) == ("nothing", ["still-held"])
    assert [job.state for job in slurm.jobs()] == ["HELD"] * 4
    slurm.hook("scontrol", "")
    assert submitted(sweep).problems == ()
    assert_each_once(sweep, slurm)


@pytest.mark.parametrize(
    ("states", "found"),
    [
        (["COMPLETED", "PENDING", "PENDING", "PENDING"], []),
        (["PENDING", "RUNNING", "PENDING", "PENDING"], []),
        (["COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED"], []),
        (["PENDING", "PENDING", "PENDING", "PENDING"], ["still-held"]),
        (["COMPLETED", "HELD", "PENDING", "PENDING"], ["still-held"]),
    ],
)
def test_a_failed_release_of_an_array_that_has_started_is_no_problem(
    states: list[str], found: list[str], sweep: Path, slurm: StandInSlurm
) -> None:
    slurm.hook("scontrol", 'case "$*" in *release*) echo "4711_0: No error" >&2; exit 1;; esac')
    assert codes(submitted(sweep)) == ["still-held"]
    for task, state in enumerate(states):
        slurm.ends(f"4711_{task}", state)
    assert codes(submitted(sweep)) == found
    assert len(slurm.submitted()) == 1


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


def test_submit_names_the_variable_that_switches_slurm_off(
    sweep: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sbatch.SWITCH, "off")
    (problem,) = refused(sweep).problems
    assert (problem.code, problem.actual) == ("submit-unavailable", sbatch.SWITCH)
    assert slurm.submitted() == []


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
