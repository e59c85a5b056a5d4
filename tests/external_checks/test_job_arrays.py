"""The runs of one array, its script, and the meaning of the answers of sbatch and scontrol."""

import os
import shutil
from pathlib import Path

import pytest

from scaffold_torchtune.external_checks import sbatch, slurm_jobs
from scaffold_torchtune.external_checks.slurm_jobs import SbatchCall, Submitted, array_script, grouped, read_script
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.request import Request
from support.experiments import RUNS
from support.plans import plan_of_directories
from support.stand_in_slurm import StandInSlurm, slurm_on_path


@pytest.fixture
def runs() -> list[PlannedRun]:
    return list(plan_of_directories(*RUNS).runs)


SCRIPT = "#SBATCH --time=1:00:00\n#SBATCH --job-name={name}\n\ntune run\n"


@pytest.mark.parametrize(
    ("first", "interpreter"),
    [
        ("#!/bin/bash\n", "/bin/bash"),
        ("#!/bin/bash -l\n", "/bin/bash -l"),
        ("#! /usr/bin/env bash\n", "/usr/bin/env bash"),
        ("#!/usr/bin/env -S bash -l\n", "/usr/bin/env '-S bash -l'"),
    ],
)
def test_a_task_runs_its_script_as_sbatch_would(first: str, interpreter: str, runs: list[PlannedRun]) -> None:
    scripts = [read_script(run, first + SCRIPT.format(name=f"job-{run.directory}")) for run in runs]
    (group,) = grouped(scripts, 1001, arrays=True)
    text = array_script(group, "sweep-1", "folder", None)
    assert text.endswith(f"exec {interpreter} finetune.slurm\n")
    assert f"names=(\n    job-{RUNS[0]}\n" in text


@pytest.mark.parametrize(
    "line", ["--array=0-3", "--chdir=/tmp", "-D /tmp", "--wait", "--hold", "--comment='a\"b'", "-x n1", "--input=here"]
)
def test_a_script_that_cannot_be_a_task_is_a_single_job(line: str, runs: list[PlannedRun]) -> None:
    first, *others = runs
    text = "#!/bin/bash\n" + SCRIPT.format(name="job")
    scripts = [read_script(first, text.replace("#SBATCH", f"#SBATCH {line}\n#SBATCH", 1))]
    scripts += [read_script(run, text) for run in others]
    assert [len(group) for group in grouped(scripts, 1001, arrays=True)] == [1, 3]


@pytest.mark.parametrize(("most", "sizes"), [(3, [3, 1]), (2, [2, 2]), (1, [1] * 4), (0, [1] * 4), (4, [4])])
def test_an_array_has_at_most_the_number_of_tasks_that_a_site_allows(
    most: int, sizes: list[int], runs: list[PlannedRun]
) -> None:
    scripts = [read_script(run, "#!/bin/bash\n" + SCRIPT.format(name="job")) for run in runs]
    assert [len(group) for group in grouped(scripts, most, arrays=True)] == sizes
    assert [len(group) for group in grouped(scripts, most, arrays=False)] == [1] * 4


def test_scripts_with_different_shells_or_times_are_separate(runs: list[PlannedRun]) -> None:
    text = SCRIPT.format(name="job")
    texts = [f"#!/bin/bash\n{text}", f"#!/bin/bash -l\n{text}", f"#!/bin/bash\n{text.replace('1:00', '2:00')}", text]
    scripts = [read_script(run, each) for run, each in zip(runs, texts, strict=True)]
    assert [len(group) for group in grouped(scripts, 1001, arrays=True)] == [1, 1, 1, 1]
    assert [script.fits_array for script in scripts] == [True, True, True, False], "no interpreter, no task"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    made = slurm_on_path(tmp_path / "bin", monkeypatch)
    (tmp_path / "it.slurm").write_text("#!/bin/bash\n#SBATCH --job-name=it\n")
    return made


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo 17", Submitted(job="17")),
        ("echo '17;far.away'", Submitted(job="17", cluster="far.away")),
        ("echo hello; echo 17", Submitted(job="17")),
        ("echo 17; exit 1", None),
        ("echo 17 jobs", None),
        ("echo 17; echo 18", None),
    ],
)
def test_the_id_is_the_only_line_that_has_the_form_of_an_id(
    answer: str, expected: Submitted | None, slurm: StandInSlurm, tmp_path: Path
) -> None:
    slurm.hook("sbatch", f"{answer}; exit")
    found = slurm_jobs.submit(SbatchCall((), "it.slurm", tmp_path), Request(tmp_path))
    assert found == expected or (expected is None and not found.job and found.said)


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("QOSMaxSubmitJobPerUserLimit", True),
        ("Batch job submission failed: Invalid account", True),
        ("Socket timed out on send/recv operation", False),
        ("Unable to contact slurm controller (connect failure)", False),
    ],
)
def test_only_an_explicit_refusal_proves_that_there_is_no_job(
    said: str, refused: bool, slurm: StandInSlurm, tmp_path: Path
) -> None:
    slurm.hook("sbatch", f"echo 'sbatch: error: {said}' >&2; exit 1")
    found = slurm_jobs.submit(SbatchCall((), "it.slurm", tmp_path), Request(tmp_path))
    assert (found.is_refused, found.job) == (refused, "")
    assert said in found.said
    assert said in slurm_jobs.test(SbatchCall((), "", tmp_path, text="#!/bin/sh\n"), Request(tmp_path))


def test_a_job_is_released_on_its_cluster(slurm: StandInSlurm, tmp_path: Path) -> None:
    assert slurm_jobs.release("17", "far", tmp_path, Request(tmp_path)) == ""
    assert slurm_jobs.release("18", "", tmp_path, Request(tmp_path)) == ""
    assert slurm.calls("scontrol") == ["--clusters=far release 17", "release 18"]
    slurm.hook("scontrol", "echo 'slurm_suspend error: Access/permission denied'; exit 1")
    assert "permission denied" in slurm_jobs.release("17", "", tmp_path, Request(tmp_path))
    slurm.hook("scontrol", "exit 3")
    assert "3" in slurm_jobs.release("17", "", tmp_path, Request(tmp_path))


def test_the_largest_array_size_comes_from_scontrol(slurm: StandInSlurm, tmp_path: Path) -> None:
    slurm.largest(77)
    assert slurm_jobs.largest_array("far", tmp_path, Request(tmp_path)) == 77
    assert slurm.calls("scontrol") == ["--clusters=far show config"]
    slurm.hook("scontrol", "exit 1")
    assert slurm_jobs.largest_array("", tmp_path, Request(tmp_path)) == 1001


def test_a_missing_configuration_is_reported_without_a_call(
    slurm: StandInSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "none.conf"))
    assert "none.conf" in slurm_jobs.release("17", "", tmp_path, Request(tmp_path))
    assert slurm.calls("scontrol") == []


@pytest.mark.parametrize("name", ["sbatch", "squeue", "scontrol"])
def test_a_missing_program_is_named(
    name: str, slurm: StandInSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slurm_jobs.missing() == []
    shutil.copytree(slurm.folder, tmp_path / "less")
    (tmp_path / "less" / name).unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "less"))
    assert slurm_jobs.missing() == [name]


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of SLURM on PATH that runs a shell script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)


def test_a_failing_squeue_is_not_an_empty_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "squeue", "echo down; exit 1", monkeypatch)
    queue = slurm_jobs.queued(tmp_path, Request(tmp_path))
    assert queue.unknown
    assert not queue.jobs
    program(tmp_path / "bin", "squeue", "exit 0", monkeypatch)
    assert not slurm_jobs.queued(tmp_path, Request(tmp_path)).unknown


def test_a_release_that_hangs_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "scontrol", "trap '' TERM; sleep 1000", monkeypatch)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr(sbatch, "DEADLINE", 1.0)
    assert "1 s" in slurm_jobs.release("7", "", tmp_path, Request(tmp_path))


def test_sbatch_gets_the_options_of_a_call(slurm: StandInSlurm, tmp_path: Path) -> None:
    slurm.hook("sbatch", "echo 17; exit")
    call = SbatchCall(("--qos=day",), "it.slurm", tmp_path)
    slurm_jobs.submit(call, Request(tmp_path))
    slurm_jobs.test(call, Request(tmp_path))
    assert ["--qos=day" in each.split() for each in slurm.calls("sbatch")] == [True, True]
