"""Find the jobs of runs by their records: tasks of arrays, unrecorded jobs and killed calls."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models import RunState
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, change, everything
from support.scaffolding import codes, refusal, scaffold
from support.stand_in_slurm import answers, scaffold_with_slurm

ARRAY: dict[str, Any] = {
    "token": "3f2a", "name": "sweep-3f2a", "at": "2026-11-27T12:00:00Z", "runs": RUNS, "is_array": True,
    "job": "4711", "progress": "released", "logged": True,
}  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a scaffold with visible outputs, and a squeue and a sacct without jobs."""
    experiment = scaffold_with_slurm(tmp_path, monkeypatch)
    says(experiment)
    return experiment


def says(experiment: Path, squeue: str = "", sacct: str = "exit 1") -> None:
    """Set the answers of the SLURM programs, which are shell scripts; `{root}` is the experiment."""
    texts = {"squeue": squeue, "sacct": sacct}
    answers(experiment, **{name: f"{text.replace('{root}', str(experiment))}\n:" for name, text in texts.items()})


def record(experiment: Path, *submissions: dict[str, Any]) -> None:
    (experiment / ".scaffold" / "jobs.json").write_text(json.dumps({"submissions": submissions}))


def states(experiment: Path) -> dict[str, RunState]:
    with Tree(experiment) as tree:
        return states_of(tree, existing_plan(tree).runs, Request(experiment))


def test_tasks_of_a_recorded_array_are_the_jobs_of_its_runs(sweep: Path) -> None:
    record(sweep, ARRAY)
    says(
        sweep,
        "echo '4711_0|RUNNING|{root}'; echo '4711_[1,2-2%2]|PENDING|{root}'; echo '4711_3|TIMEOUT|{root}'",
    )
    found = states(sweep)
    assert [each.state for each in found.values()] == ["running", "submitted", "submitted", "failed"]
    assert [each.jobs for each in found.values()] == [("4711_0",), ("4711_1",), ("4711_2",), ()]
    assert found[RUNS[3]].past == ("4711_3",)


def test_the_states_of_tasks_come_from_the_accounting(sweep: Path) -> None:
    record(sweep, ARRAY)
    says(sweep, sacct="case \"$*\" in *--jobs=4711) echo '4711_0|COMPLETED|{root}'; echo '4711_1|FAILED|{root}';; esac")
    assert [each.state for each in states(sweep).values()] == ["finished", "failed", "failed", "failed"]
    assert states(sweep)[RUNS[2]].past == ("4711_2",), "nobody knows it, and it was submitted"


def test_without_slurm_submitted_runs_stay_submitted(sweep: Path) -> None:
    record(sweep, ARRAY)
    says(sweep, "exit 1")
    assert {each.state for each in states(sweep).values()} == {"submitted"}
    assert all(each.unknown and "4711" in each.told for each in states(sweep).values())


def test_a_manually_submitted_task_is_found_by_its_output(sweep: Path) -> None:
    (sweep / RUNS[1] / "slurm-815_7.out").write_text("training\n")
    says(sweep, "echo '815_7|RUNNING|{root}'; echo '815_8|PENDING|/elsewhere'")
    assert [each.state for each in states(sweep).values()] == ["scaffolded", "running", "scaffolded", "scaffolded"]
    says(sweep, sacct="echo '815_7|COMPLETED|{root}'")
    assert states(sweep)[RUNS[1]].state == "finished"


def test_a_manually_resubmitted_array_is_found_by_its_name(sweep: Path) -> None:
    record(sweep, ARRAY)
    again = "echo '9_0|PENDING|{root}'"
    says(sweep, f"case \"$*\" in *--name=sweep-3f2a*) echo 'sweep-3f2a|9_0|PENDING|{{root}}';; *) {again};; esac")
    assert states(sweep)[RUNS[0]].jobs == ("9_0",)
    assert states(sweep)[RUNS[1]].state == "failed"


@pytest.mark.parametrize(
    ("squeue", "expected"),
    [
        ("echo 'sweep-3f2a|9_0|PENDING|{root}'; echo 'sweep-3f2a|9_[1-3]|PENDING|{root}'", {"submitted"}),
        ("exit 1", {"submitted"}),  # it may have been submitted
        ("true", {"scaffolded"}),
    ],
)
def test_jobs_of_a_call_killed_before_it_had_the_id_are_found_by_name(
    sweep: Path, squeue: str, expected: set[str]
) -> None:
    record(sweep, ARRAY | {"job": "", "progress": "intended"})
    says(sweep, f'case "$*" in *--name=sweep-3f2a*) {squeue};; esac')
    assert {each.state for each in states(sweep).values()} == expected
    change(sweep / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    before = {run: everything(sweep / run) for run in RUNS}
    if expected == {"submitted"}:
        assert codes(refusal(steps.scaffold, sweep))[0] == "started-run"
        assert {run: everything(sweep / run) for run in RUNS} == before
    else:
        assert scaffold(sweep).ok


def test_jobs_of_another_cluster_are_queried_there(sweep: Path) -> None:
    record(sweep, ARRAY | {"clusters": "far"})
    says(sweep, "case \"$*\" in *--clusters=far*) echo 'CLUSTER: far'; echo '4711_0|RUNNING|{root}';; esac")
    assert [each.state for each in states(sweep).values()] == ["running", "failed", "failed", "failed"]


@pytest.mark.long
def test_jobs_of_replaced_files_do_not_affect_the_present_state(sweep: Path) -> None:
    record(sweep, ARRAY)
    change(sweep / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    assert scaffold(sweep, started="replace").ok
    assert {each.state for each in states(sweep).values()} == {"scaffolded"}
    record(sweep, ARRAY, ARRAY | {"token": "5c", "name": "sweep-5c", "job": "4800"})
    assert {each.state for each in states(sweep).values()} == {"failed"}
    change(sweep / "experiment_summary.md", "- **Epochs:** 5", "- **Epochs:** 4")
    assert scaffold(sweep, started="replace").ok
    assert {each.state for each in states(sweep).values()} == {"scaffolded"}, "of both generations"


@pytest.mark.parametrize("is_original_kept", [True, False])
def test_recorded_jobs_are_the_jobs_of_a_copied_and_of_a_moved_experiment(
    sweep: Path, tmp_path: Path, is_original_kept: bool
) -> None:
    record(sweep, ARRAY)
    says(sweep, "echo '4711_0|RUNNING|{root}'; echo '4711_[1-2]|PENDING|{root}'; echo '4711_3|FAILED|{root}'")
    shutil.copytree(sweep, tmp_path / "copy") if is_original_kept else sweep.rename(tmp_path / "copy")
    found = states(tmp_path / "copy")
    assert [each.state for each in found.values()] == ["running", "submitted", "submitted", "failed"]
    says(sweep, sacct="echo '4711_0|COMPLETED|{root}'")
    assert states(tmp_path / "copy")[RUNS[0]].state == "finished"


@pytest.mark.parametrize("number", ["815", "815_7"])
@pytest.mark.parametrize("place", ["{root}", f"{{root}}/{RUNS[1]}", "/", "/elsewhere"])
def test_the_job_of_a_copied_output_is_found_unless_its_id_was_used_again(
    sweep: Path, tmp_path: Path, number: str, place: str
) -> None:
    (sweep / RUNS[1] / f"slurm-{number}.out").write_text("training\n")
    shutil.copytree(sweep, tmp_path / "copy")
    says(sweep, f"echo '{number}|RUNNING|{place}'")
    state = "failed" if place == "/" else "running"
    assert [each.state for each in states(tmp_path / "copy").values()] == ["scaffolded", state, *["scaffolded"] * 2]


@pytest.mark.parametrize(
    "damage",
    [
        {"runs": ["../../etc"]},
        {"runs": []},
        {"job": "1; rm -rf /"},
        {"name": "a,b"},
        {"clusters": "--help x"},
        {"progress": "done"},
        {"token": "é"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused_and_names_its_file(sweep: Path, damage: dict[str, Any]) -> None:
    record(sweep, ARRAY | damage)
    with pytest.raises(Refused) as caught:
        states(sweep)
    (problem,) = caught.value.problems
    assert (problem.code, problem.file) == ("document-unreadable", ".scaffold/jobs.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"submissions": 1}', "\0", "[" * 100_000])
def test_an_unparsable_record_is_refused(sweep: Path, text: str) -> None:
    (sweep / ".scaffold" / "jobs.json").write_text(text)
    assert codes(refusal(steps.plan, sweep)) == ["document-unreadable"]


def test_a_duplicate_submission_is_refused(sweep: Path) -> None:
    record(sweep, ARRAY, ARRAY)
    assert codes(refusal(steps.plan, sweep)) == ["document-unreadable"]
