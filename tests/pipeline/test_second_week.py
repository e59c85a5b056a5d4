"""Experiments that change, grow and have been trained: a started run is never changed without an answer."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.models import RunChange
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, change, everything, log, make_experiment, many_runs, run_directories
from support.scaffolding import refusal, scaffold

SUMMARY = "experiment_summary.md"
TRAINED, OTHERS = RUNS[:2], RUNS[2:]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Return the scaffolded example with outputs below a directory of this test."""
    experiment = make_experiment(
        tmp_path / "sweep", replace={"/scratch/gpfs/LAB/ada/ck-outputs": str(tmp_path / "outputs")}
    )
    assert scaffold(experiment).ok
    return experiment


def outputs_of(experiment: Path, run: str) -> Path:
    """Return the planned output directory of a run."""
    with Tree(experiment) as tree:
        (planned,) = [each for each in existing_plan(tree).runs if each.directory == run]
    base = Path(planned.text("output_dir_base"), planned.text("experiment_name"))
    return base / f"ck-out-{run}"


def train(experiment: Path, runs: Iterable[str], *, epochs: int = 0, job: int = 4711) -> None:
    """Write the files of jobs of some runs: the output of each, and checkpoints of this many epochs."""
    for number, run in enumerate(runs):
        (experiment / run / f"slurm-{job + number}.out").write_text("training\n")
        for epoch in range(epochs):
            (outputs_of(experiment, run) / f"epoch_{epoch}").mkdir(parents=True)


def kept(experiment: Path, runs: Iterable[str]) -> dict[str, object]:
    return {run: everything(experiment / run) for run in runs}


def changes(experiment: Path, **given: object) -> dict[str, RunChange]:
    found = prepare.prepare(Request(experiment, **given)).changes  # type: ignore[arg-type]
    return {each.directory: each for each in found}


def kinds(experiment: Path) -> dict[str, str]:
    return {name: each.kind for name, each in changes(experiment).items()}


def submitted(result: ScaffoldResult) -> list[str]:
    """Return the runs in the submit line."""
    return result.submit.partition("for run in ")[2].partition(";")[0].split()


def more_epochs(experiment: Path) -> None:
    change(experiment / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 5")


def row_of(experiment: Path, name: str) -> str:
    (line,) = [each for each in (experiment / SUMMARY).read_text().splitlines(keepends=True) if f"_{name} |" in each]
    return line


def remove_row(experiment: Path, name: str) -> str:
    line = row_of(experiment, name)
    change(experiment / SUMMARY, line, "")
    return line


# Started runs are frozen.


def test_changing_a_started_run_is_refused_until_started_is_answered(sweep: Path) -> None:
    train(sweep, TRAINED)
    more_epochs(sweep)
    before = everything(sweep)
    for step in (steps.render, steps.scaffold):
        refused = refusal(step, sweep)
        assert {problem.code for problem in refused.problems} == {"started-run"}
        assert [(each.field, each.options) for each in refused.ask] == [("started", ("keep", "replace"))]
    (problem,) = refused.problems
    assert all(run in problem.message for run in TRAINED)
    assert "epochs 2 -> 5" in problem.message
    assert (problem.file, problem.line is not None) == (SUMMARY, True)
    after = everything(sweep)
    assert {path for path in after if before.get(path) != after[path]} <= {".", "scaffold.log"}


def test_kept_runs_are_unchanged_and_the_others_are_scaffolded(sweep: Path) -> None:
    train(sweep, TRAINED)
    more_epochs(sweep)
    before = kept(sweep, TRAINED)
    result = scaffold(sweep, started="keep")
    assert result.ok
    assert kept(sweep, TRAINED) == before
    assert {run: "epochs: 5" in (sweep / run / "finetune.yaml").read_text() for run in RUNS} == {
        run: run in OTHERS for run in RUNS
    }
    assert (result.render.kept, result.validation.kept, result.validation.started) == (2, 2, TRAINED)
    assert submitted(result) == [*OTHERS]
    assert "kept-run" in {each.code for each in result.validation.findings}
    assert "[" in log(sweep)
    assert "CHANGES" in log(sweep)


@pytest.mark.long
def test_a_kept_run_is_asked_about_again_only_after_another_change(sweep: Path) -> None:
    train(sweep, TRAINED)
    more_epochs(sweep)
    assert scaffold(sweep, started="keep").ok
    before = everything(sweep)
    again = scaffold(sweep)
    assert again.ok
    assert again.unchanged
    assert everything(sweep) == before
    assert steps.validate(Request(sweep)).passed
    change(sweep / SUMMARY, "- **Epochs:** 5", "- **Epochs:** 7")
    assert refusal(steps.scaffold, sweep).ask
    change(sweep / SUMMARY, "- **Epochs:** 7", "- **Epochs:** 2")  # the values that they started with
    assert scaffold(sweep).ok
    assert kinds(sweep) == dict.fromkeys(RUNS, "unchanged")


@pytest.mark.parametrize("name", ["setup_finetune.yaml", "finetune.yaml", "finetune.slurm"])
def test_an_edited_file_of_a_kept_run_fails_the_validation(sweep: Path, name: str) -> None:
    train(sweep, TRAINED)
    more_epochs(sweep)
    assert scaffold(sweep, started="keep").ok
    file = sweep / TRAINED[0] / name
    file.write_text(file.read_text() + "# later\n")
    result = steps.validate(Request(sweep))
    assert [run.directory for run in result.runs if run.findings] == [TRAINED[0]]


def test_a_started_run_is_replaced_only_after_its_results_are_moved(sweep: Path) -> None:
    train(sweep, TRAINED, epochs=2)
    old = {run: (sweep / run / "finetune.yaml").read_bytes() for run in RUNS}
    more_epochs(sweep)
    refused = refusal(steps.scaffold, sweep, started="replace")
    assert [problem.actual for problem in refused.problems] == [str(outputs_of(sweep, run)) for run in TRAINED]
    for run in TRAINED:
        command = refused.problems[TRAINED.index(run)].fix.partition(": ")[2].strip("`")
        assert os.system(command) == 0  # noqa: S605 - as it is said
    result = scaffold(sweep, started="replace")
    assert result.ok
    assert submitted(result) == [*RUNS]
    for run in RUNS:
        (version,) = (sweep / ".scaffold/history" / run).iterdir()
        assert (version / "finetune.yaml").read_bytes() == old[run]
        assert json.loads((version / "reason.json").read_text())["changes"][0].startswith("epochs 2 -> 5")
        assert [each.name for each in version.glob("slurm-*.out")] == (
            [f"slurm-{4711 + TRAINED.index(run)}.out"] if run in TRAINED else []
        )


@pytest.mark.parametrize("name", ["setup_finetune.yaml", "finetune.yaml"])
def test_an_edited_file_of_a_started_run_is_not_overwritten_without_an_answer(sweep: Path, name: str) -> None:
    train(sweep, TRAINED)
    file = sweep / TRAINED[0] / name
    file.write_text(file.read_text() + "# mine\n")
    before = kept(sweep, RUNS)
    refused = refusal(steps.scaffold, sweep, overwrite=True)
    assert {problem.code for problem in refused.problems} == {"started-run"}
    assert kept(sweep, RUNS) == before
    assert scaffold(sweep, overwrite=True, started="replace").ok
    assert "mine" not in file.read_text()


def test_setting_up_a_started_run_again_is_refused(sweep: Path) -> None:
    train(sweep, TRAINED)
    (sweep / TRAINED[0] / "finetune.yaml").unlink()
    before = kept(sweep, RUNS)
    refused = refusal(steps.setup, sweep, overwrite=True)
    assert [problem.code for problem in refused.problems] == ["started-run"]
    assert kept(sweep, RUNS) == before
    assert steps.setup(Request(sweep, started="replace")).failed == 0
    assert (sweep / TRAINED[0] / "finetune.yaml").exists()


def test_nothing_is_left_to_submit_if_all_runs_were_started(sweep: Path) -> None:
    train(sweep, RUNS)
    result = scaffold(sweep)
    assert result.ok
    assert result.submit == ""
    assert result.validation.started == RUNS


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("- **Account**: `lab`", "- **Account**: `other`", "account"),
        ("- **Constraint**: `gpu80`", "- **Constraint**: `gpu40`", "constraint"),
        ("# cap_4L_lora_lr_sweep", "# other_title", "output_dir"),
        ("- **Epochs:** 2", "- **Epochs:** 2\n- **Warmup steps:** 11", "num_warmup_steps"),
    ],
)
def test_every_change_of_a_started_run_is_refused(sweep: Path, old: str, new: str, field: str) -> None:
    train(sweep, TRAINED)
    file = sweep / SUMMARY
    change(file if old in file.read_text() else sweep / "claude.local.md", old, new)
    found = changes(sweep)
    assert {found[run].kind for run in RUNS} == {"changed"}
    assert field in {each.field for each in found[TRAINED[0]].fields}
    before = kept(sweep, RUNS)
    assert refusal(steps.scaffold, sweep).ask
    assert kept(sweep, RUNS) == before


@pytest.mark.long
def test_a_template_change_that_affects_only_text_is_a_change_too(sweep: Path, tmp_path: Path) -> None:
    from scaffold_torchtune.system.layout import TEMPLATES

    for file in TEMPLATES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path / file.name)
    template = tmp_path / "setup_finetune_json.yaml.j2"
    assert scaffold(sweep, template=template).ok
    train(sweep, TRAINED)
    base = tmp_path / "setup_finetune_template.yaml.j2"
    base.write_text(base.read_text() + "\n# of the group\n")
    assert refusal(steps.scaffold, sweep, template=template).ask
    before = kept(sweep, TRAINED)
    assert scaffold(sweep, template=template, started="keep").ok
    assert kept(sweep, TRAINED) == before


def test_outputs_of_a_different_training_are_refused_and_described(sweep: Path, tmp_path: Path) -> None:
    train(sweep, TRAINED, epochs=1)
    folder = outputs_of(sweep, TRAINED[0])
    (folder / "torchtune_config.yaml").write_text("my_wandb_run_name: theirs\nepochs: 3\noptimizer: {lr: 0.5}\n")
    shutil.copytree(sweep, copied := tmp_path / "copied", ignore=shutil.ignore_patterns(".scaffold", "rank*"))
    change(copied / SUMMARY, f"- Experiment: `{sweep}`", f"- Experiment: `{copied}`")
    for step in (steps.plan, steps.scaffold):
        refused = refusal(step, copied)
        found = [problem for problem in refused.problems if problem.code == "output-taken"]
        assert [problem.actual for problem in found] == [str(outputs_of(sweep, run)) for run in TRAINED]
    (text,) = [problem.message for problem in found if problem.actual == str(folder)]
    assert all(part in text for part in ("'theirs'", "epochs 3", "lr 0.5", "epoch_0"))
    assert not list(copied.glob("rank*"))
    change(copied / SUMMARY, "# cap_4L_lora_lr_sweep", "# another_title")
    assert scaffold(copied).ok


# A row keeps its directory.


def test_newly_varying_columns_and_changed_shared_values_rename_no_run(sweep: Path) -> None:
    text = (sweep / SUMMARY).read_text()
    first = row_of(sweep, "rank8_lr1e-5")
    change(sweep / SUMMARY, first, first + first.replace("_rank8_lr1e-5", "_big").replace("| 4 |", "| 8 |"))
    assert scaffold(sweep).ok
    assert run_directories(sweep) == sorted([*RUNS, "rank8_lr1e-5_bs8"])
    more_epochs(sweep)
    assert scaffold(sweep).ok
    assert run_directories(sweep) == sorted([*RUNS, "rank8_lr1e-5_bs8"])
    (sweep / SUMMARY).write_text(text)  # it no longer varies
    assert scaffold(sweep).ok
    assert kinds(sweep) == dict.fromkeys(RUNS, "unchanged") | {"rank8_lr1e-5_bs8": "dropped"}


def test_reordered_rows_and_swapped_names_keep_their_directories(sweep: Path) -> None:
    train(sweep, RUNS)
    before = kept(sweep, RUNS)
    rows = [row_of(sweep, name) for name in RUNS]
    text = (sweep / SUMMARY).read_text()
    (sweep / SUMMARY).write_text(text.replace("".join(rows), "".join(reversed(rows))))
    assert scaffold(sweep).ok
    change(sweep / SUMMARY, "_rank8_lr1e-5 |", "_one |")
    change(sweep / SUMMARY, "_rank8_lr5e-5 |", "_rank8_lr1e-5 |")
    change(sweep / SUMMARY, "_one |", "_rank8_lr5e-5 |")
    assert set(kinds(sweep).values()) == {"unchanged"}
    assert kept(sweep, RUNS) == before


def test_a_returning_row_has_its_directory_again(sweep: Path) -> None:
    train(sweep, TRAINED)
    before = kept(sweep, RUNS)
    rows = [remove_row(sweep, name) for name in RUNS[1:3]]
    assert kinds(sweep) == {RUNS[0]: "unchanged", RUNS[1]: "dropped", RUNS[2]: "dropped", RUNS[3]: "unchanged"}
    assert scaffold(sweep).ok
    assert everything(sweep / RUNS[1]) == before[RUNS[1]]  # it was started
    assert not (sweep / RUNS[2] / "finetune.slurm").exists()
    more = row_of(sweep, RUNS[3])
    change(sweep / SUMMARY, more, more + "".join(rows))
    result = scaffold(sweep)
    assert result.ok
    assert kept(sweep, TRAINED) == {run: before[run] for run in TRAINED}
    assert (sweep / RUNS[2] / "finetune.slurm").exists()
    assert sorted(submitted(result)) == sorted(OTHERS)


def test_a_changed_value_in_the_name_makes_a_new_run(sweep: Path) -> None:
    train(sweep, TRAINED)
    before = kept(sweep, RUNS)
    change(sweep / SUMMARY, row_of(sweep, RUNS[0]), row_of(sweep, RUNS[0]).replace("| 8 |", "| 64 |"))
    assert scaffold(sweep).ok
    assert kinds(sweep)["rank64_lr1e-5"] == "unchanged"
    assert kept(sweep, RUNS) == before


# States from files and from SLURM.


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, str]) -> None:
    """Put stand-ins for programs of SLURM on PATH that print an answer."""
    folder.mkdir(exist_ok=True)
    for name, text in answers.items():
        (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)


def states(experiment: Path) -> dict[str, str]:
    with Tree(experiment) as tree:
        found = states_of(tree, existing_plan(tree).runs, Request(experiment))
    return {name: each.state for name, each in found.items()}


def test_without_slurm_the_state_of_a_run_comes_from_its_files(sweep: Path) -> None:
    assert set(states(sweep).values()) == {"scaffolded"}
    train(sweep, RUNS[:1])
    train(sweep, RUNS[1:2], epochs=2)
    (outputs_of(sweep, RUNS[2]) / "logs").mkdir(parents=True)
    shutil.rmtree(sweep / RUNS[3])
    assert [*states(sweep).values()] == ["submitted", "finished", "submitted", "planned"]


def test_slurm_reports_waiting_running_and_ended_jobs(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(sweep, RUNS[2:], job=20)
    train(sweep, RUNS[1:2], job=19)
    queue = f"18|PENDING|{sweep / RUNS[0]}\n19|RUNNING|{sweep / RUNS[1]}\n7|RUNNING|/elsewhere/with|bar"
    past = f"20|COMPLETED|{sweep / RUNS[2]}\n21|CANCELLED by 1000|{sweep / RUNS[3]}"
    programs(tmp_path / "bin", monkeypatch, {"squeue": queue, "sacct": past})
    assert [*states(sweep).values()] == ["submitted", "running", "finished", "failed"]
    more_epochs(sweep)
    refused = refusal(steps.scaffold, sweep, started="replace")
    assert {str(problem.actual) for problem in refused.problems} == {"18", "19"}


def test_a_job_that_left_the_queue_without_its_last_epoch_has_failed(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(sweep, RUNS[:1], epochs=1)
    programs(tmp_path / "bin", monkeypatch, {"squeue": ""})
    assert states(sweep)[RUNS[0]] == "failed"


@pytest.mark.parametrize("status", [1, 127])
def test_a_slurm_that_does_not_answer_is_reported(
    status: int, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(sweep, RUNS[:1])
    programs(tmp_path / "bin", monkeypatch, {"squeue": ""})
    (tmp_path / "bin/squeue").write_text(f"#!/bin/sh\necho 'slurm_load_jobs error' >&2\nexit {status}\n")
    with Tree(sweep) as tree:
        found = states_of(tree, existing_plan(tree).runs, Request(sweep))
    assert found[RUNS[0]].state == "submitted"
    assert "slurm_load_jobs error" in found[RUNS[0]].unknown


# Displayed results.


def test_a_plan_first_shows_the_effect_on_each_run(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(sweep, TRAINED)
    more_epochs(sweep)
    remove_row(sweep, RUNS[3])
    assert main(["plan", str(sweep)]) == 0
    first, second, *lines = capsys.readouterr().out.splitlines()
    assert first == "3 runs: 1 would change, 2 would change though already submitted, 1 no longer in the table"
    assert second.startswith(f"states: 1 scaffolded, 2 submitted ({', '.join(TRAINED)})")
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2].isdigit()] == ["2", "1", "1"]
    assert lines[-1].endswith(f"scaffold-torchtune scaffold {sweep}")
    assert main(["plan", str(sweep), "--all"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith(f" {RUNS[0]} ")]
    assert main(["scaffold", str(sweep), "--started", "keep", "--no-sbatch"]) == 0


@pytest.mark.long
def test_slurm_is_queried_once_for_the_states_of_all_runs(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(sweep, TRAINED)
    programs(tmp_path / "bin", monkeypatch, {"squeue": "", "sacct": "", "sbatch": ""})
    for name in ("squeue", "sacct"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/asked\n")
    for step in (steps.plan, steps.validate, steps.scaffold):
        step(Request(sweep, sbatch=True))
        assert sorted((tmp_path / "asked").read_text().split()) == ["sacct", "squeue"], step
        (tmp_path / "asked").unlink()
    more_epochs(sweep)  # validate plans again, as the documents have changed
    steps.validate(Request(sweep))
    assert sorted((tmp_path / "asked").read_text().split()) == ["sacct", "squeue"]


def test_missing_programs_and_file_systems_are_reported(sweep: Path, tmp_path: Path) -> None:
    for states in (steps.plan(Request(sweep)).changes.states, steps.validate(Request(sweep)).states):
        assert states.startswith("4 scaffolded; ")
        assert "squeue was not found on this machine" in states
        assert "outputs" not in states
    away = make_experiment(tmp_path / "away", replace={"/scratch/gpfs/LAB/ada/ck-outputs": "/no/such/mount"})
    assert scaffold(away).ok
    for states in (steps.plan(Request(away)).changes.states, steps.validate(Request(away)).states):
        assert "/no" in states.partition("outputs (")[2]


def test_the_log_has_the_submit_line_of_the_remaining_runs(sweep: Path) -> None:
    def last() -> str:
        return log(sweep).rpartition("Submit with: ")[2].splitlines()[0]

    assert all(run in last() for run in RUNS)
    train(sweep, TRAINED)
    result = steps.validate(Request(sweep))
    assert result.submit == last()
    assert not any(run in last() for run in TRAINED)
    before = log(sweep)
    steps.validate(Request(sweep))
    assert scaffold(sweep).unchanged
    assert log(sweep) == before
    train(sweep, OTHERS)
    assert steps.validate(Request(sweep)).submit == ""
    assert "Submit with" not in log(sweep).rpartition("SCAFFOLD_TORCHTUNE_COMPLETE")[2]


def test_removed_rows_alone_are_logged_as_changes_too(sweep: Path) -> None:
    remove_row(sweep, RUNS[0])
    assert scaffold(sweep).ok
    assert f"dropped ({RUNS[0]})" in log(sweep)


def test_a_plan_names_the_results_that_prevent_replacing_started_runs(sweep: Path) -> None:
    train(sweep, TRAINED, epochs=1)
    more_epochs(sweep)
    asked = [each for each in steps.plan(Request(sweep)).warnings if each.code == "started-run"]
    assert len(asked) == 1, "which ones, the changes tell"
    told = [each for each in steps.plan(Request(sweep, started="replace")).warnings if each.code == "started-run"]
    assert [each.actual for each in told] == [str(outputs_of(sweep, run)) for run in TRAINED]


def test_a_new_title_is_one_change_of_all_runs(sweep: Path) -> None:
    train(sweep, RUNS)
    change(sweep / SUMMARY, "# cap_4L_lora_lr_sweep", "# other_title")
    (group,) = steps.plan(Request(sweep)).changes.groups
    assert (group.count, len(group.fields)) == (4, 1)
    assert "other_title/ck-out-RUN" in group.fields[0]
    assert len(refusal(steps.scaffold, sweep).problems) == 1


@pytest.mark.long
def test_changes_that_differ_in_each_of_many_runs_are_summarized(tmp_path: Path) -> None:
    experiment = many_runs(tmp_path, 30)
    file = experiment / SUMMARY
    text = file.read_text().replace("| Batch Size |", "| Batch Size | Seed |", 1).replace("|----|", "|----|----|", 1)
    rows = [line for line in text.splitlines(keepends=True) if "_rank8_lr" in line]
    for number, row in enumerate(rows):
        text = text.replace(row, row.replace("| 4 |", f"| 4 | {number} |"))
    file.write_text(
        text.replace("|---------------|", "|---------------|------|", 1).replace("| - | - | - |", "| - | - | - | - |")
    )
    assert scaffold(experiment).ok
    text = file.read_text()
    for number, row in enumerate(rows):
        changed = row.replace("| 4 |", f"| 4 | {number} |")
        text = text.replace(changed, changed.replace(f"| 4 | {number} |", f"| 4 | {number + 500} |"))
    file.write_text(text)
    found = steps.plan(Request(experiment)).changes
    assert found.told.startswith("30 runs: ")
    assert len(found.groups) <= 2


def test_a_first_scaffold_reports_no_changes(tmp_path: Path) -> None:
    result = scaffold(make_experiment(tmp_path / "new"))
    assert result.plan.changes.groups == ()
    assert "CHANGES" not in log(tmp_path / "new")


def choices(experiment: Path) -> str:
    (problem,) = refusal(steps.scaffold, experiment).problems
    assert (problem.code, problem.field) == ("started-run", "started")
    (planned,) = [each for each in steps.plan(Request(experiment)).warnings if each.code == "started-run"]
    assert planned.fix == problem.fix
    return problem.fix


def edit_file(experiment: Path) -> None:
    change(experiment / TRAINED[0] / "finetune.yaml", "lora_rank: 8", "lora_rank: 9")


def remove_file(experiment: Path) -> None:
    (experiment / TRAINED[0] / "finetune.slurm").unlink()


def more_memory(experiment: Path) -> None:
    change(experiment / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 2\n- **Memory:** 64G")


def larger_batch(experiment: Path) -> None:
    row = row_of(experiment, TRAINED[0])
    change(experiment / SUMMARY, row, row.replace("| 4 |", "| 8 |"))


@pytest.mark.parametrize("edit", [edit_file, remove_file, more_memory, larger_batch, more_epochs])
def test_a_column_is_a_choice_only_if_the_value_can_have_a_new_one(sweep: Path, edit: Callable[[Path], None]) -> None:
    train(sweep, TRAINED[:1])
    edit(sweep)
    assert ("column" in choices(sweep)) is (edit is more_epochs)
