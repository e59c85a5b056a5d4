"""Scaffold an experiment on disk: the generated files, the changes by a second scaffold, and the reported results."""

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import omegaconf
import pytest
import yaml

from scaffold_torchtune.findings import Refused, errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import (
    ACTIONS,
    AGAIN,
    FILES,
    RUNS,
    Clock,
    actions,
    change,
    everything,
    log,
    make_experiment,
    outputs,
    run_directories,
)
from support.golden_files import golden
from support.scaffolding import codes, refusal, scaffold


def test_the_example_becomes_four_run_directories_with_three_files_each(experiment: Path) -> None:
    result = scaffold(experiment)
    assert result.ok
    assert not result.unchanged
    assert run_directories(experiment) == sorted(RUNS)
    for run in RUNS:
        assert sorted(path.name for path in (experiment / run).iterdir()) == list(FILES)
    assert [run.directory for run in result.plan.runs] == list(RUNS)
    assert [row.name for row in result.plan.excluded] == ["Llama-3.2-1B-Instruct_base"]
    assert result.plan.varying == ("lora_rank", "lr")
    assert (result.validation.checked, result.validation.planned) == (4, 4)
    assert all(not run.findings for run in result.validation.runs)


@pytest.mark.parametrize(("run", "rank", "rate"), [("rank8_lr1e-5", 8, 1e-5), ("rank16_lr5e-5", 16, 5e-5)])
def test_numbers_are_numbers_for_pyyaml_and_for_omegaconf(experiment: Path, run: str, rank: int, rate: float) -> None:
    scaffold(experiment)
    file = experiment / run / "finetune.yaml"
    resolved: Any = omegaconf.OmegaConf.load(file)
    for loaded in (yaml.safe_load(file.read_text()), resolved):
        assert type(loaded["optimizer"]["lr"]) is float
        assert loaded["optimizer"]["lr"] == rate
        assert (loaded["model"]["lora_rank"], loaded["model"]["lora_alpha"]) == (rank, 2 * rank)


def test_the_job_has_the_account_and_the_time_and_no_partition(experiment: Path) -> None:
    scaffold(experiment)
    lines = (experiment / "rank8_lr1e-5" / "finetune.slurm").read_text().splitlines()
    assert "#SBATCH --account=lab" in lines
    assert "#SBATCH --time=0:59:00" in lines
    assert not any("partition" in line for line in lines)


@pytest.mark.parametrize(
    ("mode", "tracking"),
    [("offline", "/ck-out-*/logs/wandb/offline-run-*"), ("online", ""), ("disabled", "")],
)
def test_ready_runs_show_the_command_that_uploads_offline_logs(tmp_path: Path, mode: str, tracking: str) -> None:
    line = f"- **Epochs:** 2\n- **W&B mode:** {mode}"
    experiment = make_experiment(tmp_path / "sweep", replace={"- **Epochs:** 2": line})
    result = scaffold(experiment)
    assert result.ok
    assert result.validation.tracking.endswith(tracking)
    assert bool(result.validation.tracking) == bool(tracking)
    assert ("wandb sync" in log(experiment)) == bool(tracking)
    for run in run_directories(experiment):
        assert f"  mode: {mode}\n" in (experiment / run / "finetune.yaml").read_text()
    refused = make_experiment(tmp_path / "other", replace={"- **Epochs:** 2": line})
    steps.render(Request(refused))
    assert steps.validate(Request(refused)).tracking == ""


def test_one_run_directory_and_the_whole_log_match_the_golden_files(experiment: Path) -> None:
    scaffold(experiment, now=Clock())
    made = {name: (experiment / "rank8_lr1e-5" / name).read_text() for name in FILES}
    made["scaffold.log"] = log(experiment).replace(str(experiment), "/EXPERIMENT")
    assert made == golden("scaffold", made)


def test_the_last_entry_has_the_submit_line(experiment: Path, tmp_path: Path) -> None:
    result = scaffold(experiment)
    line = log(experiment).rstrip().splitlines()[-2]
    assert line.startswith("Result: ")
    assert line.endswith(f": {result.submit}")
    tool = tmp_path / "bin" / "sbatch"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$PWD/$1"\n')
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", result.submit], capture_output=True, text=True, env={"PATH": path}, check=True
    )
    assert done.stdout.split() == [str(experiment / run / "finetune.slurm") for run in RUNS]


def test_a_path_that_needs_quotes_is_logged_exactly_as_in_the_submit_line(tmp_path: Path) -> None:
    experiment = make_experiment(
        tmp_path / "it's a\\n sweep", replace={"- Experiment: `EXPERIMENT`": "- Experiment: `.`"}
    )
    result = scaffold(experiment)
    assert "it'\"'\"'s a\\n sweep" in result.submit
    assert f": {result.submit}\n" in log(experiment)


# --- repeated scaffolds -----------------------------------------------------------------------------------------------


def test_a_second_scaffold_changes_no_byte_inode_or_mtime(experiment: Path) -> None:
    first = scaffold(experiment)
    before = everything(experiment)
    second = scaffold(experiment)
    assert everything(experiment) == before
    assert second.unchanged
    assert second.ok
    assert (second.render.created, second.render.unchanged) == (0, 4)
    assert all(run.unchanged for run in second.setup.runs)
    assert second.submit == first.submit


def test_repeated_single_steps_change_nothing_either(experiment: Path) -> None:
    scaffold(experiment)
    before = everything(experiment)
    for step in (steps.render, steps.setup, steps.validate):
        step(Request(experiment))
    assert everything(experiment) == before


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("- **Run val every n steps:** 25", "unread-setting"),
        ("- **LoRA alpha:** 128 (2 x rank, 64 by default)", "ignored-remark"),
    ],
)
def test_a_second_scaffold_changes_nothing_despite_warnings(experiment: Path, line: str, code: str) -> None:
    change(experiment / "experiment_summary.md", "- **Epochs:**", f"{line}\n- **Epochs:**")
    assert code in [found.code for found in scaffold(experiment).plan.warnings]
    before = everything(experiment)
    assert scaffold(experiment).unchanged
    assert everything(experiment) == before


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_generated_again_and_no_other_run_is_changed(experiment: Path, name: str) -> None:
    scaffold(experiment)
    before, bytes_before = everything(experiment), outputs(experiment)
    (experiment / "rank8_lr5e-5" / name).unlink()
    result = scaffold(experiment)
    after = everything(experiment)
    assert [run.directory for run in result.setup.runs if not run.unchanged] == ["rank8_lr5e-5"]
    assert not result.unchanged
    assert outputs(experiment) == bytes_before
    for run in set(RUNS) - {"rank8_lr5e-5"}:
        assert {k: v for k, v in after.items() if k.startswith(run)} == {
            k: v for k, v in before.items() if k.startswith(run)
        }
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_a_remark_in_the_summary_changes_no_run(experiment: Path) -> None:
    scaffold(experiment)
    before = {k: v for k, v in everything(experiment).items() if k.startswith("rank")}
    change(experiment / "experiment_summary.md", "**Created:** 2026-11-20", "**Created:** 2026-11-21")
    result = scaffold(experiment)
    assert {k: v for k, v in everything(experiment).items() if k.startswith("rank")} == before
    assert actions(experiment) == [*ACTIONS, *(a for a in ACTIONS if a != "RUN_SETUP_SCRIPTS")]
    assert not result.unchanged
    assert scaffold(experiment).unchanged


def test_a_changed_value_regenerates_its_runs(experiment: Path) -> None:
    scaffold(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    result = scaffold(experiment)
    assert result.ok
    assert result.render.created == 4
    assert all("epochs: 3\n" in (experiment / run / "finetune.yaml").read_text() for run in RUNS)
    assert actions(experiment) == [*ACTIONS, *AGAIN]
    assert scaffold(experiment).unchanged


def test_a_run_keeps_its_directory_when_the_table_grows(experiment: Path) -> None:
    scaffold(experiment)
    before = {k: v for k, v in everything(experiment).items() if k.startswith("rank")}
    row = "| Llama-3.2-1B-Instruct_base |"
    change(
        experiment / "experiment_summary.md",
        row,
        f"| new | Llama-3.2-1B-Instruct | 8 | 1e-5 | 2 | Fine-tuned | |\n{row}",
    )
    result = scaffold(experiment)
    assert [run.directory for run in result.plan.runs] == [*RUNS, "rank8_lr1e-5_bs2"]
    assert {k: v for k, v in everything(experiment).items() if k.startswith("rank") and "bs2" not in k} == before


def test_a_moved_experiment_is_submitted_from_its_new_place(tmp_path: Path) -> None:
    old = make_experiment(tmp_path / "old", replace={"- Experiment: `EXPERIMENT`": "- Experiment: `.`"})
    scaffold(old)
    new = old.rename(tmp_path / "new")
    (new / RUNS[0] / "finetune.slurm").unlink()
    steps.setup(Request(new))
    assert steps.validate(Request(new)).passed
    assert f"cd {new} &&" in log(new).rpartition("SCAFFOLD_TORCHTUNE_COMPLETE")[2]


def test_a_moved_experiment_with_relative_paths_must_be_rendered_again(tmp_path: Path) -> None:
    relative = {
        "- Experiment: `EXPERIMENT`": "- Experiment: `.`",
        "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json": "data/words.json",
    }
    old = make_experiment(tmp_path / "old", replace=relative)
    scaffold(old)
    new = old.rename(tmp_path / "new")
    assert codes(refusal(steps.setup, new)) == ["plan-outdated"]
    assert [f.code for f in errors_in(steps.validate(Request(new)).findings)] == ["plan-outdated"]
    assert scaffold(new).ok
    assert f"input_dir_base: {new}/data/" in (new / RUNS[0] / "setup_finetune.yaml").read_text()


# --- other effects and reports ----------------------------------------------------------------------------------------


def test_each_run_may_have_its_own_data_set(tmp_path: Path) -> None:
    table = {"| Est. Time |": "| Dataset |", "| ~10min |": "| data/words.json |", "| N/A |": "| - |"}
    experiment = make_experiment(tmp_path / "sweep", replace=table, without=["**Path**: `", "- Dataset: `"])
    assert steps.parse(Request(experiment)).dataset is None
    assert scaffold(experiment).ok
    text = (experiment / RUNS[0] / "setup_finetune.yaml").read_text()
    assert f"input_dir_base: {experiment}/data/\n" in text


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_modes_of_the_umask(experiment: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        scaffold(experiment)
    finally:
        os.umask(before)
    for path in [*experiment.glob("rank*/*"), experiment / "scaffold.log", experiment / ".scaffold" / "plan.json"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    for path in [*experiment.glob("rank*"), experiment / ".scaffold"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


def test_progress_is_reported_after_each_run(experiment: Path) -> None:
    told: list[tuple[str, int, int]] = []
    scaffold(experiment, progress=lambda *now: told.append(now))
    begun = [("parse", 0, 0), ("plan", 0, 4)]
    done = [(step, done, 4) for step in ("plan", "render", "setup", "validate") for done in (1, 2, 3, 4)]
    assert told == begun + done


def test_a_run_of_an_earlier_plan_is_reported_only_if_it_was_started(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    steps.scaffold(Request(experiment))
    (experiment / "rank8_lr5e-5" / "slurm-1.out").write_text("")
    change(experiment / "experiment_summary.md", "| 5e-5 |", "| 3e-5 |")
    result = steps.scaffold(Request(experiment))
    assert result.ok
    assert not (experiment / "rank16_lr5e-5" / "finetune.slurm").exists()
    assert {f.file for f in result.validation.findings if f.code == "left-over-run"} == {"rank8_lr5e-5"}
    assert "rank8_lr5e-5" not in result.submit


def test_data_sets_with_names_like_parameters_pass_the_check_of_names(tmp_path: Path) -> None:
    table = {
        "| Learning Rate |": "| Dataset |",
        "| 1e-5 |": "| data/words_seed1.json |",
        "| 5e-5 |": "| data/lr5_words.json |",
    }
    result = steps.scaffold(Request(make_experiment(tmp_path / "sweep", replace=table)))
    assert result.ok
    assert [run.directory for run in result.plan.runs][:2] == ["rank8_words_seed1", "rank8_lr5_words"]


def test_unused_columns_are_reported_with_identical_runs(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"| Learning Rate |": "| Colour |"})
    with pytest.raises(Refused) as refused:
        steps.plan(Request(experiment))
    assert {"identical-runs", "unused-column"} <= set(codes(refused.value))


def test_activating_an_environment_does_not_change_the_plan(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    steps.scaffold(Request(experiment))
    assert steps.scaffold(Request(experiment, activate=False)).unchanged


def test_the_defaults_are_reported_as_planned_and_logged_once(experiment: Path) -> None:
    result = scaffold(experiment)
    (one,) = (found for found in steps.validate(Request(experiment)).findings if found.code == "defaults-unchosen")
    listed = one.message.partition(": ")[2].replace(" and ", ", ")
    names = {part.split()[0] for part in listed.split(", ")}
    assert names == set(result.plan.defaults)
    assert one in result.validation.findings
    assert log(experiment).count(one.message) == 1
