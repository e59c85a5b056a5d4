"""`status`: state, progress and cause of each run from its files, its job output and SLURM; nothing is written."""

import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.reporting import report, status
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import RunStatus, StatusResult
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, everything, make_experiment, many_runs
from support.job_outputs import bar, corpus
from support.mcp_calls import with_client
from support.measuring import memory_at_most
from support.scaffolding import refusal, scaffold
from support.stand_in_slurm import answers, scaffold_with_slurm
from support.wording import absent

FIRST, SECOND, THIRD, FOURTH = RUNS
START = "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nepochs: 2\n\n"
TEXTS = {one.name: one.text.decode() for one in corpus()}
OOM = TEXTS["gpu_memory_after_steps"]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a scaffold with visible outputs, and a squeue and a sacct without jobs."""
    experiment = scaffold_with_slurm(tmp_path, monkeypatch)
    (tmp_path / "outputs").mkdir()
    slurm_says(experiment)
    return experiment


def slurm_says(experiment: Path, squeue: str = "", sacct: str = "") -> None:
    """Make squeue and sacct print lines `ID|STATE|ELAPSED|LIMIT|REASON or STATUS|DIRECTORY`."""
    texts = {"squeue": squeue, "sacct": sacct}
    answers(experiment, **{name: f"cat <<'END'\n{text}\nEND" for name, text in texts.items()})


def without_slurm(experiment: Path) -> None:
    for name in ("squeue", "sacct"):
        (experiment.parent / "bin" / name).write_text("#!/bin/sh\necho 'no controller' >&2\nexit 1\n")


def output(experiment: Path, run: str, text: str, job: str = "4711") -> None:
    (experiment / run / f"slurm-{job}.out").write_text(text, newline="")


def save(experiment: Path, run: str, epochs: int) -> None:
    """Write the checkpoints of this many epochs."""
    path = experiment.parent / "outputs" / "cap_4L_lora_lr_sweep" / f"ck-out-{run}"
    for epoch in range(epochs):
        (path / f"epoch_{epoch}").mkdir(parents=True)


def of(experiment: Path, run: str = FIRST, **given: Any) -> RunStatus:
    return next(each for each in status(Request(experiment, **given)).runs if each.directory == run)


def trained(epochs: int = 2, per_epoch: int = 10) -> str:
    """Return the output of a training of this many epochs."""
    text = START
    for epoch in range(1, epochs + 1):
        steps = range((epoch - 1) * per_epoch + 1, epoch * per_epoch + 1)
        text += "".join(bar(epoch, step, 3 - step / 10, per_epoch=per_epoch) for step in steps)
        text += "Starting checkpoint save...\nCheckpoint saved in 0.25 seconds.\n"
    return text


@pytest.mark.parametrize("name", ["finetune.slurm", "finetune.yaml", "setup_finetune.yaml"])
def test_a_run_with_a_missing_file_is_not_scaffolded(sweep: Path, name: str) -> None:
    (sweep / SECOND / name).unlink()
    result = status(Request(sweep))
    assert [run.state for run in result.runs] == ["scaffolded", "planned", "scaffolded", "scaffolded"]
    assert result.counts == {"scaffolded": 3, "planned": 1}


def test_runs_are_listed_in_plan_order_and_nothing_is_written(sweep: Path) -> None:
    output(sweep, THIRD, OOM)
    output(sweep, SECOND, trained())
    save(sweep, SECOND, 2)
    before = everything(sweep.parent)
    result = status(Request(sweep))
    assert [run.directory for run in result.runs] == [*RUNS]
    assert [run.state for run in result.runs] == ["scaffolded", "finished", "failed", "scaffolded"]
    assert result.counts == {"scaffolded": 2, "finished": 1, "failed": 1}
    assert result.not_asked == ()
    assert everything(sweep.parent) == before


def test_an_experiment_that_was_not_scaffolded_has_no_status(tmp_path: Path) -> None:
    assert {problem.code for problem in refusal(status, tmp_path).problems} == {"not-rendered"}


def test_a_finished_run_shows_epochs_steps_and_losses(sweep: Path) -> None:
    output(sweep, FIRST, trained())
    save(sweep, FIRST, 2)
    found = of(sweep)
    assert (found.state, found.epochs_done, found.epochs, found.step, found.steps) == ("finished", 2, 2, 20, 20)
    assert found.loss == pytest.approx(1.0)
    assert [point.step for point in found.losses] == [*range(1, 21)]
    assert (found.cause, found.output) == (None, f"{FIRST}/slurm-4711.out")


def test_a_running_job_shows_its_time_and_its_limit(sweep: Path) -> None:
    output(sweep, FIRST, START + bar(1, 1, 2.5) + bar(1, 2, 2.25))
    slurm_says(sweep, f"4711|RUNNING|1-02:03:04|2-00:00:00|None|{sweep / FIRST}")
    found = of(sweep)
    assert (found.state, found.job, found.job_state) == ("running", "4711", "RUNNING")
    assert (found.elapsed, found.limit) == (93_784, 172_800)
    assert (found.step, found.steps, found.epochs_done, found.cause) == (2, 200, 0, None)


def test_a_waiting_job_shows_its_reason_and_no_output_of_an_earlier_job(sweep: Path) -> None:
    output(sweep, FIRST, OOM, "4000")
    slurm_says(
        sweep, f"4711|PENDING|0:00|59:00|Dependency|{sweep / FIRST}", f"4000|FAILED|1:00|59:00|1:0|{sweep / FIRST}"
    )
    found = of(sweep)
    assert (found.state, found.job_state, found.limit) == ("submitted", "PENDING (Dependency)", 3540)
    assert (found.step, found.cause, found.output) == (None, None, "")


def test_the_last_of_several_jobs_of_a_run_is_shown(sweep: Path) -> None:
    output(sweep, FIRST, OOM, "999")
    output(sweep, FIRST, trained(1), "1000")
    lines = f"999|FAILED|1:00|59:00|1:0|{sweep / FIRST}\n1000|TIMEOUT|59:10|59:00|0:0|{sweep / FIRST}"
    slurm_says(sweep, sacct=lines)
    found = of(sweep)
    assert (found.job, found.job_state, found.step, found.elapsed) == ("1000", "TIMEOUT", 10, 3550)
    assert found.cause is not None
    assert found.cause.code == "job-time-limit"


def test_a_task_of_an_array_has_its_own_output(sweep: Path) -> None:
    output(sweep, FIRST, trained(1), "4711_0")
    output(sweep, SECOND, OOM, "4711_1")
    slurm_says(sweep, sacct=f"4711_0|RUNNING|1:00|59:00|0:0|{sweep}\n4711_1|FAILED|1:00|59:00|1:0|{sweep}")
    found = of(sweep, SECOND)
    assert (found.state, found.job) == ("failed", "4711_1")
    assert found.cause is not None
    assert found.cause.code == "job-gpu-memory"


def test_a_failed_job_shows_the_resources_of_the_run(sweep: Path) -> None:
    output(sweep, FIRST, OOM)
    slurm_says(sweep, sacct=f"4711|FAILED|1:00|59:00|1:0|{sweep / FIRST}")
    cause = of(sweep).cause
    assert cause is not None
    assert (cause.code, cause.file) == ("job-gpu-memory", f"{FIRST}/slurm-4711.out")
    assert absent(cause.message, 4, 2048) == []
    assert absent(cause.fix, 2, f"--started replace={FIRST}") == []


def test_memory_and_time_come_from_the_script(sweep: Path) -> None:
    script = sweep / FIRST / "finetune.slurm"
    script.write_text(script.read_text().replace("--mem=24G", "--mem=17G"))
    output(sweep, FIRST, TEXTS["node_memory"])
    cause = of(sweep).cause
    assert cause is not None
    assert absent(cause.message, "17G") == []
    assert "34G" in cause.fix


def test_an_unknown_failure_shows_state_status_and_last_lines(sweep: Path) -> None:
    output(sweep, FIRST, START + "something odd\n")
    slurm_says(sweep, sacct=f"4711|FAILED|1:00|59:00|3:0|{sweep / FIRST}")
    cause = of(sweep).cause
    assert cause is not None
    assert cause.code == "job-failed"
    assert absent(cause.message, "FAILED", 3, "something odd") == []


def test_a_job_without_output_is_classified_by_its_state(sweep: Path) -> None:
    slurm_says(sweep, f"4711|NODE_FAIL|1:00|59:00|None|{sweep / FIRST}")
    found = of(sweep)
    assert (found.state, found.output) == ("failed", "")
    assert found.cause is not None
    assert found.cause.code == "job-node-failure"


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETED"])
def test_a_nan_loss_is_reported_during_and_after_the_job(sweep: Path, state: str) -> None:
    output(sweep, FIRST, START + bar(1, 1, 2.5) + bar(1, 2, "nan") + bar(1, 3, "nan"))
    save(sweep, FIRST, 2 if state == "COMPLETED" else 0)
    slurm_says(sweep, f"4711|{state}|1:00|59:00|None|{sweep / FIRST}")
    found = of(sweep)
    assert found.state == ("running" if state == "RUNNING" else "finished")
    assert found.loss is None
    assert found.cause is not None
    assert found.cause.code == "job-nan-loss"
    assert absent(found.cause.message, "step 2") == []


def test_a_crashed_process_in_a_running_job_is_reported(sweep: Path) -> None:
    output(sweep, FIRST, OOM)
    slurm_says(sweep, f"4711|RUNNING|1:00|59:00|None|{sweep / FIRST}")
    found = of(sweep)
    assert found.state == "running"
    assert found.cause is not None
    assert found.cause.code == "job-gpu-memory"


def test_a_completed_job_without_all_epochs_is_reported(sweep: Path) -> None:
    output(sweep, FIRST, "sbatch: tune: nothing\n")
    save(sweep, FIRST, 1)
    slurm_says(sweep, sacct=f"4711|COMPLETED|1:00|59:00|0:0|{sweep / FIRST}")
    cause = of(sweep).cause
    assert cause is not None
    assert (cause.code, cause.expected, cause.actual) == ("epochs-missing", 2, 1)


# Without SLURM.


def test_files_alone_show_progress_and_end_and_the_missing_program(sweep: Path) -> None:
    without_slurm(sweep)
    output(sweep, FIRST, trained())
    save(sweep, FIRST, 2)
    output(sweep, SECOND, OOM)
    output(sweep, THIRD, START + bar(1, 1, 2.5))
    result = status(Request(sweep))
    assert [run.state for run in result.runs] == ["finished", "failed", "submitted", "scaffolded"]
    assert [run.cause.code if run.cause else "" for run in result.runs] == ["", "job-gpu-memory", "", ""]
    assert [run.step for run in result.runs] == [20, 3, 1, None]
    assert len(result.not_asked) == 1
    assert absent(result.not_asked[0], "no controller") == []
    with Tree(sweep) as tree:  # `plan` and `validate` have the same states
        found = states_of(tree, existing_plan(tree).runs, Request(sweep))
    assert [each.state for each in found.values()] == [run.state for run in result.runs]


def test_a_failed_output_does_not_affect_a_later_job(sweep: Path) -> None:
    without_slurm(sweep)
    output(sweep, FIRST, OOM, "4000")
    one = {"token": "3f2a", "name": "sweep-3f2a", "at": "2026-11-27T12:00:00Z", "runs": [FIRST], "is_array": False,
           "job": "4711", "progress": "released", "logged": True}  # fmt: skip
    (sweep / ".scaffold" / "jobs.json").write_text(json.dumps({"submissions": [one]}))
    assert of(sweep).state == "submitted"


def test_a_copy_is_named_and_its_run_that_trains_in_the_original_has_not_failed(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output(sweep, FIRST, START + bar(1, 1, 2.5))
    save(sweep, FIRST, 1)
    slurm_says(sweep, f"4711|RUNNING|1:00|59:00|None|{sweep / FIRST}")
    shutil.copytree(sweep, tmp_path / "copy")
    assert status(Request(sweep)).findings == ()
    result = status(Request(tmp_path / "copy"))
    assert [(each.code, each.severity, each.actual) for each in result.findings] == [
        ("copied-scaffold", "warning", str(sweep))
    ]
    assert result.counts == {"running": 1, "scaffolded": 3}
    assert main(["status", str(tmp_path / "copy")]) == 0
    assert "[copied-scaffold]" in capsys.readouterr().out
    made = report(Request(tmp_path / "copy"), "markdown").text
    assert "failed" not in made.partition("## Findings")[0].replace("Validation failed", "")
    assert str(sweep) in made


# Hostile output files.


def test_a_link_or_a_fifo_instead_of_an_output_is_not_read(sweep: Path) -> None:
    (sweep.parent / "elsewhere").write_text(OOM)
    (sweep / FIRST / "slurm-4711.out").symlink_to(sweep.parent / "elsewhere")
    os.mkfifo(sweep / SECOND / "slurm-4712.out")
    (sweep / THIRD / "slurm-4713.out").mkdir()
    for run in (FIRST, SECOND, THIRD):
        found = of(sweep, run)
        assert (found.state, found.step) == ("failed", None)
        assert found.cause is not None
        assert found.cause.code == "job-failed"
        assert absent(" ".join(found.unseen), found.output) == []


@pytest.mark.long
def test_only_parts_of_an_output_of_gigabytes_are_read(sweep: Path) -> None:
    file = sweep / FIRST / "slurm-4711.out"
    with file.open("wb") as stream:
        stream.write(START.encode())
        chunk = 0
        while stream.tell() < 300_000_000:
            stream.seek(20_000_000 if chunk else 0, os.SEEK_CUR)
            first = chunk * 1000 + 1
            stream.write("".join(bar(1, step, 3.0, per_epoch=10**7) for step in range(first, first + 1000)).encode())
            chunk += 1
        stream.write(OOM[OOM.index("Traceback") :].encode())
    with memory_at_most(200):
        found = of(sweep)
    assert found.step == chunk * 1000
    assert len(found.losses) == 60
    assert found.cause is not None
    assert found.cause.code == "job-gpu-memory"


@pytest.mark.long
def test_an_output_may_grow_while_it_is_read(sweep: Path) -> None:
    file, stop = sweep / FIRST / "slurm-4711.out", threading.Event()
    file.write_text(START)
    slurm_says(sweep, f"4711|RUNNING|1:00|59:00|None|{sweep / FIRST}")

    def write() -> None:
        step = 0
        with file.open("a", newline="") as stream:
            while not stop.is_set():
                step += 1
                stream.write(bar(1, step, 2.5, per_epoch=10**6))
                stream.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [of(sweep) for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    steps = [run.step or 0 for run in found]
    assert steps == sorted(steps)
    assert {run.cause for run in found} == {None}
    assert all(run.loss == 2.5 for run in found if run.step)


# Runs that are no longer in the table, and changed documents.


def remove_rows(experiment: Path, *runs: str) -> None:
    file = experiment / "experiment_summary.md"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not any(f"_{run} |" in line for run in runs)))


def test_started_runs_that_are_no_longer_in_the_table_are_listed(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(sweep, FIRST, 2)
    output(sweep, FIRST, trained())
    output(sweep, SECOND, OOM)
    remove_rows(sweep, FIRST, SECOND, THIRD)
    assert scaffold(sweep, sbatch=False).ok
    result = status(Request(sweep))
    assert [run.directory for run in result.runs] == [FOURTH]
    assert [(run.directory, run.state, run.epochs_done) for run in result.former] == [
        (FIRST, "finished", 2),
        (SECOND, "failed", 0),
    ], "a run that was not started is not listed"
    assert result.counts == {"scaffolded": 1}
    assert result.all_findings() == [], "nobody has to fix a run that was given up"
    done, text = shown(sweep, capsys)
    assert done == 0
    lines = [line.split() for line in text.splitlines()]
    title = next(number for number, line in enumerate(lines) if line[:2] == ["2", "runs"])
    assert [line[:2] for line in lines[title + 1 : title + 3]] == [[FIRST, "finished"], [SECOND, "failed"]]
    assert lines[title - 1][:2] == [FOURTH, "scaffolded"]
    _, text = shown(sweep, capsys, "--json", "--only", f"{SECOND}*")
    content = json.loads(text)
    assert (content["runs"], [run["directory"] for run in content["former"]]) == ([], [SECOND])
    assert refused(sweep, "--only", THIRD) == 2, "it was not started"
    shutil.rmtree(sweep / SECOND)
    assert [run.directory for run in status(Request(sweep)).former] == [FIRST], "its directory was removed"


def test_a_former_run_that_still_trains_shows_its_problem(sweep: Path) -> None:
    remove_rows(sweep, FIRST)
    assert scaffold(sweep, sbatch=False).ok
    output(sweep, FIRST, START + bar(1, 1, float("nan")) + bar(1, 2, float("nan")))
    slurm_says(sweep, f"4711|RUNNING|10:00|59:00|None|{sweep / FIRST}")
    (run,) = status(Request(sweep)).former
    assert (run.state, run.cause and run.cause.code) == ("running", "job-nan-loss")
    shutil.rmtree(sweep / FIRST)
    assert [run.state for run in status(Request(sweep)).former] == ["running"], "its job uses a GPU all the same"


def test_documents_changed_since_the_scaffold_are_named(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, local = sweep / "experiment_summary.md", sweep / "claude.local.md"
    assert status(Request(sweep)).changed_documents == ()
    before = summary.read_text()
    summary.write_text(before.replace("- **Epochs:** 2", "- **Epochs:** 3"))
    result = status(Request(sweep))
    assert result.changed_documents == (summary.name,)
    _, text = shown(sweep, capsys)
    (line,) = [line for line in text.splitlines() if summary.name in line]
    assert absent(line, f"`scaffold-torchtune plan {sweep}`") == []
    summary.write_text(before)
    assert status(Request(sweep)).changed_documents == ()
    local.write_text(local.read_text() + "\n- **Mail user:** ada@lab.org\n")
    (sweep / "experiment_summary.yaml").write_text("experiment: {}\n")
    assert status(Request(sweep)).changed_documents == (local.name, "experiment_summary.yaml")
    summary.unlink()
    local.unlink()
    (sweep / "experiment_summary.yaml").unlink()
    assert status(Request(sweep)).changed_documents == (summary.name,), "another claude.local.md may have been named"
    assert status(Request(sweep)).counts == {"scaffolded": 4}, "the state of runs needs no documents"


@pytest.mark.long
def test_a_renamed_summary_and_a_template_are_compared_too(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    summary = experiment / "experiment_summary.md"
    other, template = experiment / "second.md", tmp_path / "own.yaml"
    summary.rename(other)
    template.write_text("seed: 3\n")
    assert steps.scaffold(Request(other, template=template, sbatch=False)).ok
    assert status(Request(experiment)).changed_documents == ()
    template.write_text("seed: 4\n")
    other.write_text(other.read_text() + "\n")
    assert {*status(Request(experiment)).changed_documents} == {other.name, template.name}


# The command and the resource.


def shown(sweep: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    capsys.readouterr()
    done = main(["status", str(sweep), *options])
    return done, capsys.readouterr().out


def test_the_command_shows_counts_runs_causes_and_fixes(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output(sweep, FIRST, OOM)
    output(sweep, SECOND, trained())
    save(sweep, SECOND, 2)
    done, text = shown(sweep, capsys)
    assert done == 1
    assert absent(text.splitlines()[0], "2 scaffolded", "1 finished", "1 failed") == []
    (line,) = [line for line in text.splitlines() if line.startswith(f" {SECOND} ")]
    assert absent(line, "finished", "2/2", "20/20", 1) == []
    assert absent(text, "job-gpu-memory", f"--started replace={FIRST}") == []
    shutil.rmtree(sweep / FIRST)
    assert shown(sweep, capsys)[0] == 0, "a run that is planned and has no directory is no failure"


def test_the_command_prints_json_and_lists_the_selected_runs(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output(sweep, FIRST, OOM)
    done, text = shown(sweep, capsys, "--json", "--only", "rank8*")
    content = json.loads(text)
    assert done == 1
    assert [run["directory"] for run in content["runs"]] == [FIRST, SECOND]
    assert content["counts"] == {"scaffolded": 1, "failed": 1}
    assert content["runs"][0]["cause"]["code"] == "job-gpu-memory"
    assert "losses" not in content["runs"][0]
    _, text = shown(sweep, capsys, "--json", "--only", "Llama-*_rank16*")
    assert [run["directory"] for run in json.loads(text)["runs"]] == [THIRD, FOURTH], "a Run Name is a name too"
    _, text = shown(sweep, capsys, "--start", "2", "--only", "Llama-*_rank16*")
    assert {*RUNS} & {*text.split()} == {FOURTH}
    assert refused(sweep, "--only", "nothing*") == 2
    assert refused(sweep, "--watch") == 2


def refused(sweep: Path, *options: str) -> int:
    return main(["status", str(sweep), *options])


@pytest.mark.long
def test_only_runs_with_a_problem_are_shown_of_very_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = many_runs(tmp_path, 60)
    assert scaffold(experiment, sbatch=False).ok
    runs = [run.directory for run in status(Request(experiment)).runs]
    for run in runs[:30]:
        output(experiment, run, OOM)
    _, text = shown(experiment, capsys)
    lines = [line for line in text.splitlines() if line.startswith(" ")]
    assert len([line for line in lines if "failed" in line.split()]) == 30
    assert text.count("[job-gpu-memory]") == 1, "one cause of alike runs"
    assert absent(text, "30 runs", "--all", f"--started replace={','.join(runs[:30])}") == []
    assert len(shown(experiment, capsys, "--all")[1].splitlines()) == len(text.splitlines()) + 29


@pytest.mark.long
def test_the_resource_is_the_status_cut_to_size(tmp_path: Path) -> None:
    experiment = many_runs(tmp_path, 100)
    assert scaffold(experiment, sbatch=False).ok
    runs = [run.directory for run in status(Request(experiment)).runs]
    output(experiment, runs[70], OOM)

    async def use(client: Any) -> str:
        (content,) = (await client.read_resource(f"torchtune://status{experiment}")).contents
        return str(content.text)

    text = with_client(experiment, use)
    content = json.loads(text)
    assert content["counts"] == {"scaffolded": 99, "failed": 1}
    assert content["runs"][0]["directory"] == runs[70], "what needs a look comes first"
    assert content["left_out"]["runs"] > 0
    assert len(text) < 16_000
    assert StatusResult.model_validate(status(Request(experiment)).model_dump()).runs[70].cause


@pytest.mark.parametrize("name", ["gpu_memory_after_steps", "node_memory", "time_limit"])
def test_the_fix_of_a_failed_run_keeps_the_values_of_runs_with_results(sweep: Path, name: str) -> None:
    output(sweep, FIRST, TEXTS[name])
    output(sweep, SECOND, trained())
    save(sweep, SECOND, 2)
    found = of(sweep).cause
    assert found is not None
    columns = re.findall(
        r"add a column `([^`]+)` to the table of runs, with (\S+) for (\S+), and (\S+) for the others",
        found.fix.partition(", or ")[0],
    )
    assert [run for _, _, run, _ in columns] == [FIRST] * len(columns) != []
    assert "Configuration" not in found.fix
    file = sweep / "experiment_summary.md"
    lines = file.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| Run Name"))
    (first,) = [number for number, line in enumerate(lines) if line.startswith("|") and "_rank8_lr1e-5" in line]
    for number in range(start, next(at for at in range(start, len(lines)) if not lines[at].startswith("|"))):
        for label, new, _, old in columns:
            cell = {start: label, start + 1: "---", first: new}.get(number, old)
            lines[number] += f" {cell} |"
    file.write_text("\n".join(lines) + "\n")
    before = {run: everything(sweep / run) for run in RUNS}
    assert scaffold(sweep, started=f"replace={FIRST}", sbatch=False).ok
    assert [run for run in RUNS if everything(sweep / run) != before[run]] == [FIRST]


def test_the_fix_of_the_only_run_with_results_changes_the_line_for_all_runs(sweep: Path) -> None:
    output(sweep, FIRST, TEXTS["node_memory"])
    found = of(sweep).cause
    assert found is not None
    assert "`- **Memory:** " in found.fix
    assert "column" not in found.fix


def test_status_of_one_run_has_the_same_fix_as_status_of_all(sweep: Path) -> None:
    output(sweep, FIRST, TEXTS["node_memory"])
    output(sweep, SECOND, trained())
    save(sweep, SECOND, 2)
    (one,) = status(Request(sweep), FIRST).runs
    assert one.cause == of(sweep).cause


def test_a_verdict_names_the_files_that_changed_since(sweep: Path) -> None:
    passed = status(Request(sweep)).verdict
    config, job = sweep / FIRST / "finetune.yaml", sweep / SECOND / "finetune.slurm"
    before = config.read_bytes(), job.read_bytes()
    config.write_bytes(before[0] + b"# edited\n")
    job.unlink()
    verdict = status(Request(sweep)).verdict
    assert verdict.startswith(passed)
    assert absent(verdict, f"{FIRST}/finetune.yaml", f"{SECOND}/finetune.slurm") == []
    assert absent(verdict, f"{FIRST}/finetune.slurm", THIRD) == [f"{FIRST}/finetune.slurm", THIRD]
    config.write_bytes(before[0])
    job.write_bytes(before[1])
    assert status(Request(sweep)).verdict == passed


def test_edits_that_were_kept_with_a_started_run_are_part_of_its_verdict(sweep: Path) -> None:
    config = sweep / FIRST / "finetune.yaml"
    output(sweep, FIRST, START)
    config.write_bytes(config.read_bytes() + b"# edited\n")
    assert scaffold(sweep, started="keep").ok
    passed = status(Request(sweep)).verdict
    assert FIRST not in passed
    config.write_bytes(config.read_bytes() + b"# again\n")
    assert f"{FIRST}/finetune.yaml" in status(Request(sweep)).verdict
