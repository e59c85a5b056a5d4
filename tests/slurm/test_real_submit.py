"""`submit` on a real Slurm: one job for each run despite kills, a limit on concurrent jobs, logs next to their runs."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.system.files import Tree
from support.acting_jobs import ActingJobs
from support.experiments import actions, log, many_runs
from support.needs import SLURM
from support.one_node_slurm import Slurm
from support.scaffolding import scaffold
from support.waiting import PATIENCE, wait_until

pytestmark = SLURM

OUTPUTS = "/scratch/gpfs/LAB/ada/ck-outputs"


@pytest.fixture
def jobs(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActingJobs]:
    """Return jobs with defined actions, in the environment of the submitting user."""
    made = ActingJobs(tmp_path / "acts")
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    variables = {"SLURM_CONF": slurm.environment["SLURM_CONF"], **made.variables(slurm.environment["PATH"])}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)
    yield made
    slurm.call("scancel", "--state=PENDING", "--user", str(os.getuid()))
    slurm.call("scancel", "--user", str(os.getuid()))
    wait_until(lambda: not slurm.call("squeue", "--noheader").stdout)


def scaffolded(folder: Path, runs: int, time: str = "0:59:00") -> Path:
    """Return an experiment with this many runs, ready to submit."""
    experiment = many_runs(folder, runs)
    for name in ("experiment_summary.md", "claude.local.md"):
        file = experiment / name
        file.write_text(file.read_text().replace(OUTPUTS, str(folder / "outputs")).replace("0:59:00", time))
    assert scaffold(experiment, sbatch=False).ok
    return experiment


def states(experiment: Path) -> list[str]:
    with Tree(experiment) as tree:
        return [each.state for each in states_of(tree, existing_plan(tree).runs, Request(experiment)).values()]


def names(runs: int) -> list[str]:
    return [f"lr{number}e-6" if number < 10 else "" for number in range(1, runs + 1)]


def in_queue(slurm: Slurm) -> list[str]:
    """Return the sorted ids of all jobs and tasks of the controller: squeue sorts them by state."""
    return sorted(slurm.call("squeue", "--noheader", "--array", "--states=all", "--format=%i").stdout.split())


def logs(experiment: Path) -> dict[str, list[str]]:
    """Return the names of the logs in each run's directory."""
    return {
        folder.name: sorted(file.name for file in folder.glob("slurm-*.out"))
        for folder in sorted(experiment.glob("lr*"))
    }


def test_six_runs_two_at_once_one_fails_one_is_too_slow_one_is_cancelled(
    slurm: Slurm, jobs: ActingJobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, runs = scaffolded(tmp_path, 6, time="0:01:00"), names(6)
    jobs.acts(runs[0], "exit 3")
    jobs.acts(runs[1], "sleep 1000")
    jobs.acts(runs[2], "sleep 1000")
    assert main(["submit", str(experiment), "--max", "2", "--yes"]) == 0
    (job,) = re.findall(r"job (\d+) ", capsys.readouterr().out)
    wait_until(lambda: states(experiment) == ["failed", "running", "running", "submitted", "submitted", "submitted"])
    assert main(["submit", str(experiment), "--yes"]) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert slurm.call("scancel", f"{job}_2").returncode == 0
    wait_until(lambda: states(experiment) == ["failed", "running", "failed", "finished", "finished", "finished"])
    wait_until(lambda: states(experiment)[1] == "failed")
    assert slurm.state(f"{job}_1") == "TIMEOUT"
    assert jobs.most_at_once() == 2
    assert Counter(jobs.began()) == Counter(runs)
    assert logs(experiment) == {run: [f"slurm-{job}_{task}.out"] for task, run in enumerate(runs)}
    said = [(experiment / run / f"slurm-{job}_{task}.out").read_text() for task, run in enumerate(runs)]
    assert all(text.startswith(f"training {run} as {run}\n") for run, text in zip(runs, said, strict=True))
    assert "DUE TO TIME LIMIT" in said[1], "what SLURM says of a job is in its run's log"
    assert "CANCELLED" in said[2]
    assert actions(experiment).count("SUBMIT") == 1
    assert job in log(experiment).rpartition("SUBMIT")[2]
    # submitted again, unchanged
    for run in runs[:3]:
        jobs.acts(run, "")
    assert main(["submit", str(experiment), "--failed", "--yes"]) == 0
    wait_until(lambda: states(experiment) == ["finished"] * 6)
    assert Counter(jobs.began()) == Counter([*runs, *runs[:3]])


def test_a_manually_submitted_array_script_runs_nothing_twice_and_loses_no_log(
    slurm: Slurm, jobs: ActingJobs, tmp_path: Path
) -> None:
    experiment, runs = scaffolded(tmp_path, 3), names(3)
    jobs.acts(runs[2], f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
    assert main(["submit", str(experiment), "--yes"]) == 0
    wait_until(lambda: states(experiment) == ["finished", "finished", "running"])
    before = logs(experiment)
    done = slurm.call("sh", "-c", f"cd {experiment} && sbatch --parsable finetune_array.slurm", **os.environ)
    again = done.stdout.strip()
    for task in range(3):
        assert slurm.state(f"{again}_{task}") == "COMPLETED"
    assert logs(experiment) == before
    assert states(experiment) == ["finished", "finished", "running"]
    kept = [*experiment.glob(f".scaffold/arrays/*/slurm-{again}_*.out")]
    assert [("was started by job" in file.read_text()) for file in kept] == [True] * 3
    (tmp_path / "go").touch()
    wait_until(lambda: states(experiment) == ["finished"] * 3)
    assert Counter(jobs.began()) == Counter(runs)


def test_a_requeued_task_runs_again(slurm: Slurm, jobs: ActingJobs, tmp_path: Path) -> None:
    experiment, runs = scaffolded(tmp_path, 2), names(2)
    jobs.acts(runs[0], f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; sleep 1000; }}")
    before = {*in_queue(slurm)}
    assert main(["submit", str(experiment), "--yes"]) == 0
    wait_until(lambda: (tmp_path / "once").exists() and states(experiment)[1] == "finished")
    (job,) = {one.partition("_")[0] for one in in_queue(slurm) if one not in before}
    assert slurm.call("scontrol", "requeue", f"{job}_0").returncode == 0
    wait_until(lambda: states(experiment) == ["finished", "finished"])
    assert Counter(jobs.began()) == Counter([runs[0], *runs])


def test_two_hundred_runs_are_one_array(slurm: Slurm, jobs: ActingJobs, tmp_path: Path) -> None:
    experiment = scaffolded(tmp_path, 200)
    before = {*in_queue(slurm)}
    assert main(["submit", str(experiment), "--max", "8", "--yes"]) == 0
    new = [one for one in in_queue(slurm) if one not in before]
    assert len(new) == 200
    assert len({one.partition("_")[0] for one in new}) == 1
    assert set(states(experiment)) <= {"submitted", "running", "finished"}
    wait_until(lambda: states(experiment).count("finished") >= 16)
    assert jobs.most_at_once() <= 8
    assert main(["submit", str(experiment), "--yes"]) == 0
    assert len([one for one in in_queue(slurm) if one not in before]) == 200


@pytest.mark.parametrize("name", ["with a space", "ha#sh", "quo'te", 'dou"ble', "$HOME ;&", "é|ñ"])
def test_the_directory_may_have_any_name(name: str, jobs: ActingJobs, tmp_path: Path) -> None:
    plain = scaffolded(tmp_path / "plain", 2)
    experiment = tmp_path / name
    plain.rename(experiment)
    summary = experiment / "experiment_summary.md"
    summary.write_text(summary.read_text().replace(str(plain), str(experiment)))
    assert main(["scaffold", str(experiment), "--no-sbatch"]) == 0
    assert main(["submit", str(experiment), "--yes"]) == 0
    wait_until(lambda: states(experiment) == ["finished", "finished"])
    assert sorted(jobs.began()) == names(2)


# Killed at every step, and repeated. A command of SLURM kills its caller, before or after the real command.

MOMENTS = [
    ("sbatch", "--hold", "before"),
    ("sbatch", "--hold", "after"),
    ("scontrol", "release", "before"),
    ("scontrol", "release", "after"),
]


def killer(parent: Path, slurm: Slurm, program: str, word: str, when: str, call: int) -> Path:
    """Return a directory with a command of SLURM that kills the process in the file `victim` at its `call`-th call."""
    folder = parent / "killer"
    folder.mkdir()
    real = shutil.which(program, path=slurm.environment["PATH"])
    kill = f"kill -9 $(cat {folder}/victim)"
    (folder / program).write_text(
        f'#!/bin/bash\nnow=\ncase " $* " in *" {word} "*) echo >> {folder}/calls;'
        f" [ $(wc -l < {folder}/calls) != {call} ] || now={when};; esac\n"
        f'[ "$now" != before ] || {{ {kill}; sleep 1000; }}\n'
        f'{real} "$@"\nstatus=$?\n'
        f'[ "$now" != after ] || {{ {kill}; sleep 1000; }}\nexit $status\n'
    )
    (folder / program).chmod(0o755)
    return folder


def submit_killed(experiment: Path, folder: Path, *given: str) -> None:
    """Run `submit` in a process that the command of SLURM in a directory kills."""
    command = [sys.executable, "-m", "scaffold_torchtune", "submit", str(experiment), "--yes", *given]
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(command, env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL)
    (folder / "victim").write_text(str(process.pid))
    assert process.wait(PATIENCE) == -9


@pytest.mark.parametrize("given", [[], ["--no-array"]], ids=["array", "each"])
@pytest.mark.parametrize("moment", MOMENTS, ids=" ".join)
def test_after_a_kill_at_any_step_each_run_has_one_job(
    moment: tuple[str, str, str], given: list[str], slurm: Slurm, jobs: ActingJobs, tmp_path: Path
) -> None:
    experiment = scaffolded(tmp_path, 3)
    before = {*in_queue(slurm)}
    submit_killed(experiment, killer(tmp_path, slurm, *moment, call=2 if given else 1), *given)
    assert main(["submit", str(experiment), "--yes", *given]) == 0
    new = [one for one in in_queue(slurm) if one not in before]
    assert len(new) == 3, "a job for each run"
    wait_until(lambda: states(experiment) == ["finished"] * 3)
    assert Counter(jobs.began()) == Counter(names(3))
    assert [len(found) for found in logs(experiment).values()] == [1, 1, 1]
    told = " ".join(re.findall(r"Job ids: (.*)", log(experiment)))
    assert {one.partition("_")[0] for one in new} == {*re.findall(r"\b(\d+) \(", told)}
    assert main(["submit", str(experiment), "--yes", *given]) == 0
    assert [one for one in in_queue(slurm) if one not in before] == new


def test_an_array_of_which_some_runs_have_ended_counts_as_released(
    slurm: Slurm, jobs: ActingJobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, runs = scaffolded(tmp_path, 3), names(3)
    jobs.acts(runs[1], f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
    submit_killed(experiment, killer(tmp_path, slurm, "scontrol", "release", "after", call=1), "--max", "1")
    wait_until(lambda: states(experiment) == ["finished", "running", "submitted"])
    assert main(["submit", str(experiment), "--yes"]) == 0, capsys.readouterr().out
    (tmp_path / "go").touch()
    wait_until(lambda: states(experiment) == ["finished"] * 3)
    assert Counter(jobs.began()) == Counter(runs)
