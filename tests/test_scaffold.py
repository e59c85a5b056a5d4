import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import omegaconf
import pytest
import yaml

from experiments import (
    ACTIONS,
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
from golden_files import golden
from permissions import held_to_modes
from scaffold_torchtune import pipeline
from scaffold_torchtune.errors import Refused
from scaffold_torchtune.models.results import ScaffoldResult, ValidateResult
from scaffold_torchtune.pipeline import Request, Stopped
from scaffold_torchtune.shared.files import Tree


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return make_experiment(tmp_path / "sweep")


def scaffold(experiment: Path, **given: Any) -> ScaffoldResult:
    return pipeline.scaffold(Request(experiment, **given))


def lay(kind: str, file: Path, target: Path) -> None:
    """Put something where a plain file belongs."""
    if kind == "link":
        file.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()


def refusal(step: Any, experiment: Path, **given: Any) -> Refused:
    """The refusal of a step."""
    with pytest.raises(Refused) as caught:
        step(Request(experiment, **given))
    return caught.value


def codes(refused: Refused) -> list[str]:
    return [problem.code for problem in refused.problems]


# --- the example ------------------------------------------------------------------------------------------------------


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
def test_values_arrive_as_numbers_for_pyyaml_and_for_omegaconf(
    experiment: Path, run: str, rank: int, rate: float
) -> None:
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


def test_one_run_directory_and_the_whole_log_are_as_golden(experiment: Path) -> None:
    scaffold(experiment, now=Clock())
    made = {name: (experiment / "rank8_lr1e-5" / name).read_text() for name in FILES}
    made["scaffold.log"] = log(experiment).replace(str(experiment), "/EXPERIMENT")
    assert made == golden("scaffold", made)


def test_the_last_entry_holds_the_line_that_submits_the_runs(experiment: Path, tmp_path: Path) -> None:
    result = scaffold(experiment)
    assert log(experiment).rstrip().splitlines()[-2] == f"Result: Submit with: {result.submit}"
    tool = tmp_path / "bin" / "sbatch"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$PWD/$1"\n')
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", result.submit], capture_output=True, text=True, env={"PATH": path}, check=True
    )
    assert done.stdout.split() == [str(experiment / run / "finetune.slurm") for run in RUNS]


def test_a_path_that_needs_quotes_is_logged_exactly_as_the_line_that_submits(tmp_path: Path) -> None:
    experiment = make_experiment(
        tmp_path / "it's a\\n sweep", replace={"- Experiment: `EXPERIMENT`": "- Experiment: `.`"}
    )
    result = scaffold(experiment)
    assert "it'\"'\"'s a\\n sweep" in result.submit
    assert f"Submit with: {result.submit}\n" in log(experiment)


# --- again ------------------------------------------------------------------------------------------------------------


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


def test_the_single_steps_change_nothing_either_when_repeated(experiment: Path) -> None:
    scaffold(experiment)
    before = everything(experiment)
    for step in (pipeline.render, pipeline.setup, pipeline.validate):
        step(Request(experiment))
    assert everything(experiment) == before


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_made_again_and_no_other_run_is_touched(experiment: Path, name: str) -> None:
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


def test_a_changed_value_makes_its_runs_again(experiment: Path) -> None:
    scaffold(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    result = scaffold(experiment)
    assert result.ok
    assert result.render.created == 4
    assert all("epochs: 3\n" in (experiment / run / "finetune.yaml").read_text() for run in RUNS)
    assert actions(experiment) == [*ACTIONS, *ACTIONS]
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


def test_a_moved_experiment_is_submitted_from_where_it_lies_now(tmp_path: Path) -> None:
    old = make_experiment(tmp_path / "old", replace={"- Experiment: `EXPERIMENT`": "- Experiment: `.`"})
    scaffold(old)
    new = old.rename(tmp_path / "new")
    (new / RUNS[0] / "finetune.slurm").unlink()
    pipeline.setup(Request(new))
    assert pipeline.validate(Request(new)).passed
    assert f"cd {new} &&" in log(new).rpartition("Submit with")[2]


def test_a_moved_experiment_with_relative_paths_must_be_rendered_again(tmp_path: Path) -> None:
    relative = {
        "- Experiment: `EXPERIMENT`": "- Experiment: `.`",
        "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json": "data/words.json",
    }
    old = make_experiment(tmp_path / "old", replace=relative)
    scaffold(old)
    new = old.rename(tmp_path / "new")
    assert codes(refusal(pipeline.setup, new)) == ["plan-outdated"]
    assert [f.code for f in pipeline.validate(Request(new)).findings] == ["plan-outdated"]
    assert scaffold(new).ok
    assert f"input_dir_base: {new}/data/" in (new / RUNS[0] / "setup_finetune.yaml").read_text()


# --- tampering --------------------------------------------------------------------------------------------------------


def tampered(experiment: Path) -> Path:
    """Scaffold, and change one value in one finetune.yaml."""
    scaffold(experiment)
    file = experiment / "rank16_lr1e-5" / "finetune.yaml"
    change(file, "lr: 1.0e-05", "lr: 1.0e-04")
    return file


def mismatch(result: ValidateResult) -> tuple[object, ...]:
    (finding,) = [f for run in result.runs for f in run.findings if f.code == "value-mismatch"]
    return (finding.field, finding.expected, finding.actual, finding.file, finding.line)


def test_a_tampered_value_fails_with_run_field_values_file_and_line(experiment: Path) -> None:
    file = tampered(experiment)
    result = pipeline.validate(Request(experiment))
    line = next(n for n, text in enumerate(file.read_text().splitlines(), start=1) if "lr: 1.0e-04" in text)
    assert mismatch(result) == ("lr", 1e-5, 1e-4, "rank16_lr1e-5/finetune.yaml", line)
    assert [run.directory for run in result.runs if not run.passed] == ["rank16_lr1e-5"]
    assert not result.passed
    assert actions(experiment)[-2:] == ["VALIDATE_PARAMETERS", "SCAFFOLD_TORCHTUNE_FAILED"]
    assert f"rank16_lr1e-5/finetune.yaml:{line}" in log(experiment)


def test_a_later_verdict_lasts_as_long_as_its_own_validation(experiment: Path) -> None:
    scaffold(experiment, now=Clock())
    (experiment / RUNS[0] / "finetune.yaml").unlink()
    pipeline.validate(Request(experiment))  # long after the scaffold began
    assert re.search(r"Duration: [0-9]\.[0-9] s$", log(experiment).rstrip())


def test_the_same_failure_is_logged_once(experiment: Path) -> None:
    tampered(experiment)
    pipeline.validate(Request(experiment))
    before = everything(experiment)
    assert not pipeline.validate(Request(experiment)).passed
    assert everything(experiment) == before


def test_a_failure_that_a_person_mended_is_complete_again(experiment: Path) -> None:
    file = tampered(experiment)
    pipeline.validate(Request(experiment))
    change(file, "lr: 1.0e-04", "lr: 1.0e-05")
    assert pipeline.validate(Request(experiment)).passed
    assert actions(experiment)[-2:] == ["VALIDATE_PARAMETERS", "SCAFFOLD_TORCHTUNE_COMPLETE"]


def test_an_edited_output_is_refused_until_overwrite_restores_it(experiment: Path) -> None:
    scaffold(experiment)
    good = outputs(experiment)
    file = experiment / "rank16_lr1e-5" / "finetune.yaml"
    change(file, "lr: 1.0e-05", "lr: 1.0e-04")
    edited = outputs(experiment)
    refused = refusal(pipeline.scaffold, experiment)
    assert codes(refused) == ["edited-output"]
    assert refused.problems[0].file == "rank16_lr1e-5/finetune.yaml"
    assert outputs(experiment) == edited
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_REFUSED"
    assert scaffold(experiment, overwrite=True).ok
    assert outputs(experiment) == good
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_an_edited_setup_finetune_yaml_is_refused_by_every_writing_step(experiment: Path) -> None:
    scaffold(experiment)
    good = outputs(experiment)
    change(experiment / RUNS[0] / "setup_finetune.yaml", "epochs: 2", "epochs: 20")
    for step in (pipeline.render, pipeline.setup, pipeline.scaffold):
        assert codes(refusal(step, experiment)) == ["edited-output"]
    assert codes(refusal(pipeline.setup, experiment, overwrite=True)) == ["edited-output"]
    assert scaffold(experiment, overwrite=True).ok
    assert outputs(experiment) == good


def test_a_file_of_ours_that_is_not_text_any_more_is_refused_and_judged(experiment: Path) -> None:
    scaffold(experiment)
    file = experiment / RUNS[0] / "setup_finetune.yaml"
    file.write_bytes(b"\xff\xfe")
    assert codes(refusal(pipeline.setup, experiment)) == ["edited-output"]
    result = pipeline.validate(Request(experiment))
    assert "unreadable-file" in [f.code for f in result.runs[0].findings]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_user_in_the_way_is_not_lost(experiment: Path, name: str) -> None:
    mine = experiment / RUNS[1] / name
    mine.parent.mkdir()
    mine.write_text("mine\n")
    refused = refusal(pipeline.scaffold, experiment)
    assert codes(refused) == ["edited-output"]
    assert mine.read_text() == "mine\n"
    assert run_directories(experiment) == [RUNS[1]]
    assert scaffold(experiment, overwrite=True).ok


def test_other_files_in_a_run_directory_stay(experiment: Path) -> None:
    (experiment / RUNS[0]).mkdir()
    notes = experiment / RUNS[0] / "notes.txt"
    notes.write_text("keep")
    assert scaffold(experiment).ok
    assert notes.read_text() == "keep"


# --- the inputs change between the steps ------------------------------------------------------------------------------


def test_setup_and_validate_need_a_plan(experiment: Path) -> None:
    for step in (pipeline.setup, pipeline.validate):
        assert codes(refusal(step, experiment)) == ["not-rendered"]
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_REFUSED"]  # setup writes, validate had nothing to close


def test_setup_needs_every_setup_finetune_yaml(experiment: Path) -> None:
    pipeline.render(Request(experiment))
    (experiment / RUNS[0] / "setup_finetune.yaml").unlink()
    (experiment / ".scaffold" / "runs" / f"{RUNS[1]}.json").unlink()
    assert codes(refusal(pipeline.setup, experiment)) == ["not-rendered", "not-rendered"]


def test_setup_refuses_a_plan_that_the_documents_do_not_give_any_more(experiment: Path) -> None:
    pipeline.render(Request(experiment))
    change(experiment / "experiment_summary.md", "| 8 | 5e-5 |", "| 8 | 6e-5 |")
    refused = refusal(pipeline.setup, experiment)
    assert codes(refused) == ["plan-outdated"]
    assert "rank8_lr5e-5" in refused.problems[0].message
    assert "rank16" not in refused.problems[0].message
    assert not (experiment / RUNS[0] / "finetune.yaml").exists()


def test_setup_goes_on_where_changed_documents_plan_the_same(experiment: Path) -> None:
    pipeline.render(Request(experiment))
    change(experiment / "experiment_summary.md", "**Created:** 2026-11-20", "**Created:** 2026-11-21")
    assert pipeline.setup(Request(experiment)).failed == 0
    assert pipeline.validate(Request(experiment)).passed


def test_validate_reports_an_outdated_plan_and_the_log_says_failed(experiment: Path) -> None:
    scaffold(experiment)
    change(experiment / "claude.local.md", "`cruijff`", "`other`")
    result = pipeline.validate(Request(experiment))
    assert [f.code for f in result.findings] == ["plan-outdated"]
    assert not result.passed
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"


def test_documents_that_are_refused_now_make_the_plan_outdated(experiment: Path) -> None:
    scaffold(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** two")
    (finding,) = pipeline.validate(Request(experiment)).findings
    assert finding.code == "plan-outdated"
    assert "experiment_summary.md:46" in finding.message


def test_documents_that_cannot_be_read_make_the_plan_outdated(experiment: Path) -> None:
    scaffold(experiment)
    (experiment / "experiment_summary.md").unlink()
    (finding,) = pipeline.validate(Request(experiment)).findings
    assert "experiment_summary.md" in finding.message


def test_a_template_of_the_operator_is_an_input(experiment: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.yaml.j2"
    template.write_text('{% extends "setup_finetune_template.yaml.j2" %}\n{% block checkpoints %}\n'
                        "save_adapter_weights_only: false\nsave_last_epoch_only: true\n{% endblock %}\n")  # fmt: skip
    assert scaffold(experiment, template=template).ok
    assert "save_last_epoch_only: true\n" in (experiment / RUNS[0] / "finetune.yaml").read_text()
    assert pipeline.validate(Request(experiment)).passed
    change(template, "only: true", "only: false")
    assert [f.code for f in pipeline.validate(Request(experiment)).findings] == ["plan-outdated"]
    template.unlink()
    assert [f.code for f in pipeline.validate(Request(experiment)).findings] == ["plan-outdated"]


# --- state that comes from elsewhere ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plan.json", "progress.json", "runs/rank8_lr1e-5.json"])
def test_a_damaged_state_file_is_refused_by_name(experiment: Path, name: str) -> None:
    scaffold(experiment)
    (experiment / ".scaffold" / name).write_text('{"half": ')
    (experiment / RUNS[0] / "finetune.slurm").unlink()
    refused = refusal(pipeline.scaffold, experiment)
    assert not isinstance(refused, Stopped)
    assert codes(refused) == ["document-unreadable"]
    assert refused.problems[0].file == f".scaffold/{name}"


def test_a_start_that_is_no_time_is_refused(experiment: Path) -> None:
    scaffold(experiment)
    file = experiment / ".scaffold" / "progress.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"started": "yesterday"}))
    assert codes(refusal(pipeline.validate, experiment)) == ["document-unreadable"]


def test_a_plan_that_names_a_directory_elsewhere_writes_nothing_there(experiment: Path) -> None:
    scaffold(experiment)
    state = experiment / ".scaffold"
    plan = (state / "plan.json").read_text().replace('"directory": "rank8_lr1e-5"', '"directory": "../elsewhere"')
    (state / "plan.json").write_text(plan)
    (experiment.parent / "elsewhere").mkdir()
    refused = refusal(pipeline.setup, experiment)
    assert codes(refused) == ["unsafe-path"]
    assert not list((experiment.parent / "elsewhere").iterdir())


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_a_second_scaffold_at_the_same_time_is_refused(experiment: Path) -> None:
    with Tree(experiment) as tree:
        tree.prepare()
        with tree.locked():
            assert codes(refusal(pipeline.scaffold, experiment)) == ["busy"]
            assert not run_directories(experiment)
    assert scaffold(experiment).ok
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_REFUSED", *ACTIONS]
    assert not (experiment / ".scaffold" / "lock").exists()


def test_the_lock_of_a_dead_process_on_this_host_is_taken_over(experiment: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (experiment / ".scaffold").mkdir()
    (experiment / ".scaffold" / "lock").write_text(f"{dead.pid}\n{socket.gethostname()}\n")
    assert scaffold(experiment).ok


def test_the_lock_of_another_host_is_never_taken_over(experiment: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (experiment / ".scaffold").mkdir()
    (experiment / ".scaffold" / "lock").write_text(f"{dead.pid}\nanother.host\n")
    refused = refusal(pipeline.scaffold, experiment)
    assert codes(refused) == ["busy"]
    assert ".scaffold/lock" in refused.problems[0].fix


@pytest.mark.parametrize("moment", ["render", "setup"])
def test_a_plan_that_another_scaffold_replaced_meanwhile_is_not_taken_for_ours(experiment: Path, moment: str) -> None:
    def progress(step: str, done: int, _total: int) -> None:
        if (step, done) == (moment, 4):  # the last moment of our step: another scaffold renders next
            change(experiment / ".scaffold" / "plan.json", '"id": "', '"id": "0')

    refused = refusal(pipeline.scaffold, experiment, progress=progress)
    assert codes(refused) == ["busy"]
    assert (experiment / RUNS[0] / "finetune.yaml").exists() == (moment == "setup")


# --- what lies where ours belongs -------------------------------------------------------------------------------------


def test_a_linked_run_directory_is_refused_and_its_target_untouched(experiment: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (experiment / RUNS[0]).symlink_to(target)
    refused = refusal(pipeline.scaffold, experiment)
    assert codes(refused) == ["unsafe-path"]
    assert not list(target.iterdir())
    assert run_directories(experiment) == [RUNS[0]]


def test_a_linked_state_directory_is_refused_and_its_target_untouched(experiment: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (experiment / ".scaffold").symlink_to(target)
    for step in (pipeline.plan, pipeline.render, pipeline.setup, pipeline.validate, pipeline.scaffold):
        assert codes(refusal(step, experiment)) == ["unsafe-path"]
    assert not list(target.iterdir())
    assert not run_directories(experiment)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_fifo_or_a_link_as_an_output_is_refused(experiment: Path, tmp_path: Path, overwrite: bool) -> None:
    run = experiment / RUNS[0]
    run.mkdir()
    os.mkfifo(run / "setup_finetune.yaml")
    assert codes(refusal(pipeline.scaffold, experiment, overwrite=overwrite)) == ["unsafe-path"]
    (run / "setup_finetune.yaml").unlink()
    target = tmp_path / "target"
    target.write_text("mine")
    (run / "finetune.yaml").symlink_to(target)
    assert codes(refusal(pipeline.scaffold, experiment, overwrite=overwrite)) == ["unsafe-path"]
    assert target.read_text() == "mine"
    assert run_directories(experiment) == [RUNS[0]]


def test_validate_reports_a_fifo_and_a_missing_directory(experiment: Path) -> None:
    scaffold(experiment)
    (experiment / RUNS[0] / "finetune.yaml").unlink()
    os.mkfifo(experiment / RUNS[0] / "finetune.yaml")
    (experiment / RUNS[1]).rename(experiment / "gone")
    result = pipeline.validate(Request(experiment))
    assert "unsafe-path" in [f.code for f in result.runs[0].findings]
    assert {f.code for f in result.runs[1].findings} == {"missing-file"}
    assert not result.passed


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_log_that_is_no_plain_file_is_refused_before_anything_is_written(
    experiment: Path, tmp_path: Path, kind: str
) -> None:
    file, target = experiment / "scaffold.log", tmp_path / "target"
    target.write_text("mine")
    lay(kind, file, target)
    assert codes(refusal(pipeline.scaffold, experiment)) == ["unsafe-path"]
    assert target.read_text() == "mine"
    assert not list(experiment.glob("rank*"))
    assert not (experiment / ".scaffold").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_summary_that_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    experiment = make_experiment(tmp_path / "sweep", summary=None)
    file, target = experiment / "experiment_summary.md", tmp_path / "target"
    target.write_text("# mine")
    lay(kind, file, target)
    assert codes(refusal(pipeline.parse, experiment)) == ["document-unreadable"]
    if kind != "directory":
        assert codes(refusal(pipeline.parse, file)) == ["document-unreadable"]


def test_a_file_in_place_of_a_run_directory_is_refused(experiment: Path) -> None:
    (experiment / RUNS[2]).write_text("mine")
    assert codes(refusal(pipeline.scaffold, experiment)) == ["unsafe-path"]
    assert (experiment / RUNS[2]).read_text() == "mine"
    assert not run_directories(experiment)


def test_a_read_only_experiment_is_refused(experiment: Path) -> None:
    experiment.chmod(0o555)
    try:
        with held_to_modes():
            assert codes(refusal(pipeline.scaffold, experiment)) == ["write-failed"]
    finally:
        experiment.chmod(0o755)
    assert not run_directories(experiment)


# --- documents, roots, modes ------------------------------------------------------------------------------------------


def test_an_experiment_without_a_summary_gets_no_log(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", summary=None)
    before = everything(experiment)
    assert codes(refusal(pipeline.scaffold, experiment)) == ["document-missing"]
    assert everything(experiment) == before


def test_both_documents_are_named_when_both_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = make_experiment(tmp_path / "sweep", summary=None, local=None)
    monkeypatch.chdir(experiment)
    refused = refusal(pipeline.parse, experiment)
    assert [problem.file for problem in refused.problems] == ["claude.local.md", "experiment_summary.md"]


def test_documents_that_are_too_large_or_not_utf8_are_refused(experiment: Path) -> None:
    (experiment / "experiment_summary.md").write_bytes(b"# x\n\n\xff\n")
    (experiment / "claude.local.md").write_bytes(b" " * 1_000_001)
    refused = refusal(pipeline.parse, experiment)
    assert codes(refused) == ["document-unreadable", "document-unreadable"]
    assert [(p.file, p.line) for p in refused.problems] == [("claude.local.md", None), ("experiment_summary.md", 3)]


def test_claude_local_md_is_taken_from_the_nearest_parent_the_project_or_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(tmp_path / "a" / "sweep")
    local = (experiment / "claude.local.md").rename(tmp_path / "claude.local.md")
    other = tmp_path / "a" / "other"
    other.mkdir()

    def account(**given: Any) -> object:
        return pipeline.parse(Request(experiment, **given)).environment["account"]

    assert account() == "lab"
    local = local.rename(other / "claude.local.md")
    assert account(local=local) == "lab"
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(other))
    assert account() == "lab"
    monkeypatch.delenv("CLAUDE_PROJECT_DIR")
    monkeypatch.chdir(other)
    assert account() == "lab"


def test_a_root_that_holds_the_experiment_lets_it_through(experiment: Path, tmp_path: Path) -> None:
    assert scaffold(experiment, roots=(tmp_path / "nowhere", tmp_path)).ok
    assert scaffold(experiment, roots=(experiment,)).ok


def test_a_root_that_does_not_hold_it_refuses_and_names_the_line_that_adds_one(
    experiment: Path, tmp_path: Path
) -> None:
    before = everything(experiment)
    for step in (pipeline.parse, pipeline.plan, pipeline.render, pipeline.setup, pipeline.validate, pipeline.scaffold):
        refused = refusal(step, experiment, roots=(tmp_path / "sweep2", tmp_path / "swe"))
        assert codes(refused) == ["outside-roots"]
        assert f"--root {tmp_path}" in refused.problems[0].fix
        assert f"SCAFFOLD_TORCHTUNE_ROOT={tmp_path}" in refused.problems[0].fix
    assert everything(experiment) == before


def test_a_linked_experiment_counts_where_it_really_lies(experiment: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(experiment)
    assert codes(refusal(pipeline.scaffold, root / "link", roots=(root,))) == ["outside-roots"]
    assert scaffold(root / "link", roots=(experiment,)).ok


@pytest.mark.parametrize("path", ["nothing", "nothing/experiment_summary.md", "~nobody-of-that-name/sweep", "nul\0"])
def test_an_experiment_that_is_not_there_is_refused(tmp_path: Path, path: str) -> None:
    assert codes(refusal(pipeline.scaffold, tmp_path / path if path[0] != "~" else Path(path))) == ["not-a-directory"]


def test_a_path_that_cannot_be_printed_is_refused(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "two\nlines", replace={"- Experiment: `EXPERIMENT`": "- Experiment: `.`"})
    before = everything(experiment)
    assert codes(refusal(pipeline.scaffold, experiment)) == ["unsafe-path"]
    assert everything(experiment) == before


def test_the_summary_file_may_be_given_instead_of_the_directory(experiment: Path) -> None:
    (experiment / "experiment_summary.md").rename(experiment / "plan.md")
    assert scaffold(experiment / "plan.md").ok
    assert run_directories(experiment) == sorted(RUNS)


def test_a_server_has_the_project_and_the_scratch_directory_as_roots(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(experiment))
    assert pipeline.default_roots() == [experiment, Path("/scratch/gpfs/LAB/ada")]
    change(experiment / "claude.local.md", "- **Scratch directory**: `/scratch/gpfs/LAB/ada`\n", "")
    assert pipeline.default_roots() == [experiment]
    monkeypatch.delenv("CLAUDE_PROJECT_DIR")
    monkeypatch.chdir(tmp_path)
    assert pipeline.default_roots() == [tmp_path]


@pytest.mark.parametrize("path", ["nowhere", "data", "no\0where", "x" * 300])
def test_a_summary_that_names_another_directory_is_refused(experiment: Path, path: str) -> None:
    change(experiment / "experiment_summary.md", f"- Experiment: `{experiment}`", f"- Experiment: `{path}`")
    refused = refusal(pipeline.scaffold, experiment)
    assert set(codes(refused)) <= {"wrong-experiment-dir", "invalid-value"}
    assert not run_directories(experiment)


def test_the_data_set_may_be_the_runs_own(tmp_path: Path) -> None:
    table = {"| Est. Time |": "| Dataset |", "| ~10min |": "| data/words.json |", "| N/A |": "| - |"}
    experiment = make_experiment(tmp_path / "sweep", replace=table, without=["**Path**: `", "- Dataset: `"])
    assert pipeline.parse(Request(experiment)).dataset is None
    assert scaffold(experiment).ok
    text = (experiment / RUNS[0] / "setup_finetune.yaml").read_text()
    assert f"input_dir_base: {experiment}/data/\n" in text


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_modes_that_the_umask_says(experiment: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        scaffold(experiment)
    finally:
        os.umask(before)
    for path in [*experiment.glob("rank*/*"), experiment / "scaffold.log", experiment / ".scaffold" / "plan.json"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    for path in [*experiment.glob("rank*"), experiment / ".scaffold"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


def test_progress_is_told_when_a_run_is_done(experiment: Path) -> None:
    told: list[tuple[str, int, int]] = []
    scaffold(experiment, progress=lambda *now: told.append(now))
    assert told == [(step, done, 4) for step in ("render", "setup", "validate") for done in (1, 2, 3, 4)]


def test_a_run_of_an_earlier_plan_that_still_looks_ready_is_named_by_render_and_validate(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    pipeline.scaffold(Request(experiment))
    change(experiment / "experiment_summary.md", "| 5e-5 |", "| 3e-5 |")
    result = pipeline.scaffold(Request(experiment))
    assert result.ok
    left = {f.file for f in result.render.warnings if f.code == "left-over-run"}
    assert left == {"rank8_lr5e-5", "rank16_lr5e-5"}
    assert {f.file for f in result.validation.findings} == left
    assert "rank8_lr5e-5" not in result.submit


def test_data_sets_whose_names_look_like_parameters_do_not_fail_the_check_of_names(tmp_path: Path) -> None:
    table = {
        "| Learning Rate |": "| Dataset |",
        "| 1e-5 |": "| data/words_seed1.json |",
        "| 5e-5 |": "| data/lr5_words.json |",
    }
    result = pipeline.scaffold(Request(make_experiment(tmp_path / "sweep", replace=table)))
    assert result.ok
    assert [run.directory for run in result.plan.runs][:2] == ["rank8_words_seed1", "rank8_lr5_words"]


def test_what_was_not_taken_for_a_parameter_is_told_with_identical_runs(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"| Learning Rate |": "| Rate of learning |"})
    with pytest.raises(Refused) as refused:
        pipeline.plan(Request(experiment))
    assert {"identical-runs", "unused-column"} <= set(codes(refused.value))


def test_whether_an_environment_is_activated_does_not_change_the_plan(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    pipeline.scaffold(Request(experiment))
    assert pipeline.scaffold(Request(experiment, activate=False)).unchanged
