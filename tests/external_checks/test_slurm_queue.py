"""The arguments of squeue and sacct, and the meaning of their lines."""

from pathlib import Path

import pytest

from scaffold_torchtune.external_checks import slurm_jobs
from scaffold_torchtune.external_checks.slurm_jobs import Job, ended, named, queued, read_script
from scaffold_torchtune.models import Setting, Source, SourceKind
from scaffold_torchtune.request import Request
from support.plans import plan_of_directories
from support.stand_in_slurm import StandInSlurm, slurm_on_path


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    return slurm_on_path(tmp_path / "bin", monkeypatch)


def says(*lines: str) -> str:
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND\nexit 0"


def asked(tmp_path: Path) -> Request:
    return Request(tmp_path)


def test_squeue_lists_each_task_of_an_array_with_its_times_and_reason(slurm: StandInSlurm, tmp_path: Path) -> None:
    run = tmp_path / "a|b"
    run.mkdir()
    slurm.hook(
        "squeue", says(f"17_3|RUNNING|1:30|2:00:00|None|{run}", f"18_[0,2-4%2]|PENDING|0:00|10:00|Priority|{run}")
    )
    queue = queued(tmp_path, asked(tmp_path))
    assert queue.unknown == ""
    assert list(queue.jobs) == [str(run)]
    jobs = queue.by_id()
    assert jobs["17_3"] == Job("17_3", "RUNNING", str(run), 90, 7200, "None")
    assert sorted(jobs) == ["17_3", "18_0", "18_2", "18_3", "18_4"]
    assert {jobs[f"18_{task}"].detail for task in (0, 2, 3, 4)} == {"Priority"}


@pytest.mark.parametrize(
    "line", ["", "17", "17|RUNNING", "17|RUNNING|1:30|relative/directory", "17| |/somewhere", "slurm_load_jobs: error"]
)
def test_a_line_that_is_not_a_job_is_skipped(line: str, slurm: StandInSlurm, tmp_path: Path) -> None:
    slurm.hook("squeue", says(line, f"9|RUNNING|1:00|2:00|None|{tmp_path}"))
    assert list(queued(tmp_path, asked(tmp_path)).by_id()) == ["9"]


def test_jobs_are_looked_up_by_name(slurm: StandInSlurm, tmp_path: Path) -> None:
    line = f"17|PENDING|0:00|10:00|None|{tmp_path}"
    slurm.hook("squeue", says(f"sweep-1|{line}", f"sweep-1|{line.replace('17', '18')}", f"sweep-2|{line}"))
    found, unknown = named(tmp_path, ["sweep-2", "sweep-1", "sweep-2"], asked(tmp_path), "far")
    assert unknown == ""
    assert {name: [job.id for job in jobs] for name, jobs in found.items() if jobs} == {
        "sweep-1": ["17", "18"],
        "sweep-2": ["17"],
    }
    (call,) = slurm.calls("squeue")
    assert {"--name=sweep-1,sweep-2", "--clusters=far"} <= set(call.split())
    assert "--format=%j|" in call, "the name comes first"


def test_the_accounting_is_queried_in_batches(
    slurm: StandInSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_jobs, "_ASKED", 2)
    slurm.hook("sacct", says(f"17_0|CANCELLED by 1000|0:10|1:00|0:15|{tmp_path}"))
    queue = ended(tmp_path, ["19", "17", "18"], asked(tmp_path), "far")
    assert [call.split()[-1] for call in slurm.calls("sacct")] == ["--jobs=17,18", "--jobs=19"]
    assert all("--clusters=far" in call.split() for call in slurm.calls("sacct"))
    assert all("--noheader" in call.split() for call in slurm.calls("sacct"))
    assert queue.unknown == ""
    assert [job.state for job in queue.jobs[str(tmp_path)]] == ["CANCELLED", "CANCELLED"], "one of each answer"


def test_an_accounting_that_fails_midway_reports_it_with_its_partial_answer(
    slurm: StandInSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_jobs, "_ASKED", 1)
    slurm.hook(
        "sacct",
        'case "$*" in *--jobs=18*) echo "no storage" >&2; exit 1;; esac\n'
        + says(f"17|FAILED|1:00|1:00|1:0|{tmp_path}"),
    )
    queue = ended(tmp_path, ["17", "18"], asked(tmp_path))
    assert list(queue.by_id()) == ["17"]
    assert "no storage" in queue.unknown


def test_an_answer_is_reused_within_a_call(slurm: StandInSlurm, tmp_path: Path) -> None:
    request = asked(tmp_path)
    queued(tmp_path, request)
    queued(tmp_path, request)
    assert len(slurm.calls("squeue")) == 1
    queued(tmp_path, asked(tmp_path))
    assert len(slurm.calls("squeue")) == 2


def test_variables_missing_from_all_files_reach_the_job_with_all_others() -> None:
    run = plan_of_directories("one").runs[0]
    text = "#!/bin/bash\n#SBATCH --job-name=one\n"
    assert read_script(run, text).options == ()
    offline = Setting(value=True, source=Source(kind=SourceKind.SUMMARY))
    own = run.model_copy(update={"submitted": ("offline",), "settings": {**run.settings, "offline": offline}})
    script = read_script(own, text)
    assert dict(script.variables)["WANDB_MODE"] == "offline"
    assert ("export", "ALL") in script.options
