import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from experiments import RUNS, actions, change, everything, log, make_experiment, outputs, run_directories
from scaffold_torchtune import __version__, pipeline
from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import Request
from scaffold_torchtune.shared.resources import EXAMPLES

KEYS = {
    "parse": {"experiment", "experiment_dir", "runs", "dataset", "models", "config", "environment", "warnings"},
    "plan": {"varying", "pattern", "template", "runs", "excluded", "warnings"},
    "render": {"created", "unchanged", "runs"},
    "setup": {"processed", "succeeded", "failed", "runs"},
    "validate": {"passed", "checked", "planned", "runs", "findings"},
    "scaffold": {"parse", "plan", "render", "setup", "validate", "ok", "log"},
}
RUN_KEYS = {
    "parse": {"name", "type", "model", "parameters", "line"},
    "plan": {"directory", "name", "parameters"},
    "render": {"directory"},
    "setup": {"directory", "ok", "reason"},
    "validate": {"directory", "passed", "findings"},
}
FINDING = {"code", "severity", "field", "expected", "actual", "file", "line", "message", "fix"}

# What gives each required field, and the field as the refusal names it.
REQUIRED = {
    "experiment name": ["# cap_4L_lora_lr_sweep"],
    "fine-tuned runs": ["| Fine-tuned |"],
    "path of model Llama-3.2-1B-Instruct": ["**Llama-3.2-1B-Instruct**", "Models directory", "- Models: `"],
    "dataset": ["**Path**: `", "- Dataset: `"],
    "epochs": ["**Epochs:**"],
    "conda_env": ["Default conda environment"],
    "my_wandb_project": ["Default project"],
    "output_dir_base": ["Output base directory", "Checkpoint directory"],
}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return make_experiment(tmp_path / "sweep")


def command(*arguments: str | Path, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    line = [sys.executable, "-m", "scaffold_torchtune", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60, **given)


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout; nothing on stderr."""
    out, error = capsys.readouterr()
    assert error == ""
    return json.loads(out)


# --- the steps --------------------------------------------------------------------------------------------------------


def test_each_step_works_alone_in_a_process_of_its_own(experiment: Path, tmp_path: Path) -> None:
    results = {}
    for step in ("parse", "plan", "render", "setup", "validate"):
        before = everything(experiment)
        done = command(step, experiment, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        results[step] = json.loads(done.stdout)
        assert results[step].keys() >= KEYS[step]
        if step in {"parse", "plan"}:
            assert everything(experiment) == before
    assert results["render"]["created"] == 4
    assert (results["setup"]["processed"], results["setup"]["succeeded"]) == (4, 4)
    assert results["validate"]["passed"]
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"
    at_once = make_experiment(tmp_path / "at once" / "sweep")
    pipeline.scaffold(Request(at_once))
    assert outputs(experiment) == outputs(at_once)
    assert actions(experiment) == actions(at_once)


def test_steps_by_hand_say_what_they_do(experiment: Path) -> None:
    said = {step: command(step, experiment).stdout for step in ("parse", "plan", "render", "setup", "validate")}
    assert "rank{lora_rank}_lr{lr}" in said["plan"]
    assert "4 setup_finetune.yaml written, 0 already as planned" in said["render"]
    assert "4 processed, 4 succeeded, 0 failed" in said["setup"]
    assert "validation passed: 4 of 4 runs checked" in said["validate"]
    assert not any("\x1b" in text for text in said.values())


def test_json_has_the_contracts_keys_at_every_level(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaffold", str(experiment), "--json"]) == 0
    result = answer(capsys)
    assert result.keys() >= KEYS["scaffold"]
    for step in ("parse", "plan", "render", "setup", "validate"):
        assert result[step].keys() >= KEYS[step]
        for run in result[step]["runs"]:
            assert run.keys() >= RUN_KEYS[step]
    assert all(row.keys() >= {"name", "reason"} for row in result["plan"]["excluded"])
    assert result["ok"] is True
    assert result["log"] == str(experiment / "scaffold.log")
    change(experiment / RUNS[0] / "finetune.yaml", "lora_rank: 8", "lora_rank: 9")
    assert main(["validate", str(experiment), "--json"]) == 1
    findings = [finding for run in answer(capsys)["runs"] for finding in run["findings"]]
    assert findings
    assert all(finding.keys() >= FINDING for finding in findings)


@pytest.mark.parametrize("step", ["parse", "plan", "render", "setup", "validate"])
def test_json_equals_the_steps_structured_result(
    experiment: Path, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.scaffold(Request(experiment))
    assert main([step, str(experiment), "--json"]) == 0
    result = getattr(pipeline, step)(Request(experiment))
    assert answer(capsys) == result.model_dump(mode="json", by_alias=True)


def test_a_refusal_is_json_too(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** two\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert main(["parse", str(experiment), "--json"]) == 2
    out = capsys.readouterr().out
    assert out.isascii()
    error = json.loads(out)["error"]
    assert set(error) == {"message", "problems"}
    assert error["problems"][0].keys() >= FINDING
    assert error["problems"][0]["line"] == 46


@pytest.mark.parametrize("step", ["parse", "plan", "validate"])
def test_reading_steps_write_nothing_at_all(experiment: Path, step: str) -> None:
    before = everything(experiment)
    main([step, str(experiment)])
    assert everything(experiment) == before
    pipeline.scaffold(Request(experiment))
    before = everything(experiment)
    assert main([step, str(experiment)]) == 0
    assert everything(experiment) == before


def test_a_dry_run_is_the_plan_and_writes_nothing(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(experiment)
    assert main(["scaffold", str(experiment), "--dry-run", "--json"]) == 0
    dry = answer(capsys)
    assert main(["plan", str(experiment), "--json"]) == 0
    assert answer(capsys) == dry
    assert everything(experiment) == before


def test_a_scaffold_shows_the_runs_and_a_second_one_that_nothing_changed(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaffold", str(experiment)]) == 0
    first = capsys.readouterr()
    assert first.err == ""
    assert all(run in first.out for run in RUNS)
    assert "Ready." in first.out
    assert f"log: {experiment / 'scaffold.log'}\n" in first.out
    assert f"submit with: cd {experiment} && " in first.out
    before = everything(experiment)
    assert main(["scaffold", str(experiment)]) == 0
    assert "Everything already was as planned: nothing was changed." in capsys.readouterr().out
    assert everything(experiment) == before


def test_a_tampered_value_fails_and_overwrite_restores_it(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["scaffold", str(experiment)])
    good = outputs(experiment)
    change(experiment / RUNS[2] / "finetune.yaml", "lr: 1.0e-05", "lr: 1.0e-04")
    capsys.readouterr()
    assert main(["validate", str(experiment)]) == 1
    out = capsys.readouterr().out
    assert f"error: {RUNS[2]}/finetune.yaml:" in out
    assert "0.0001" in out
    assert "1e-05" in out
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    assert main(["scaffold", str(experiment)]) == 2
    error = capsys.readouterr().err
    assert "[edited-output]" in error
    assert "No run directory or file was changed." in error
    assert main(["scaffold", str(experiment), "--overwrite"]) == 0
    assert outputs(experiment) == good
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


# --- what is refused --------------------------------------------------------------------------------------------------


def check_refused(experiment: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Every step refuses with status 2; the writing ones leave one entry each, and nothing else is written."""
    problems: list[dict[str, Any]] = []
    for step in ("parse", "plan", "render", "scaffold"):
        if step == "parse" and options:
            continue
        before = actions(experiment)
        status = main([step, str(experiment), "--json", *(options if step != "parse" else ())])
        found = answer(capsys)
        if step == "parse" and status == 0:
            continue  # only planning sees it
        assert status == 2
        problems = found["error"]["problems"]
        assert actions(experiment)[len(before) :] == (
            ["SCAFFOLD_TORCHTUNE_REFUSED"] if step in {"render", "scaffold"} else []
        )
        assert sorted(path.name for path in experiment.iterdir() if path.name != "scaffold.log") == [
            "claude.local.md",
            "data",
            "experiment_summary.md",
        ]
    assert all(problem["fix"] for problem in problems)
    return problems


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named_and_nothing_is_written(
    tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=REQUIRED[field])
    problems = check_refused(experiment, capsys)
    assert field in [p["field"] for p in problems if p["code"] in {"missing-field", "no-runs"}], problems
    assert field.rpartition(" ")[2] in log(experiment)


def test_a_missing_batch_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = {f"| {rate} | 4 |": f"| {rate} | - |" for rate in ("1e-5", "5e-5")}
    experiment = make_experiment(tmp_path / "sweep", without=["**Batch size:**"], replace=cells)
    assert [p["field"] for p in check_refused(experiment, capsys)] == ["batch_size"]


def test_every_missing_field_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = [part for name, parts in REQUIRED.items() if name != "fine-tuned runs" for part in parts]
    experiment = make_experiment(tmp_path / "sweep", without=without)
    problems = check_refused(experiment, capsys)
    assert {p["field"] for p in problems} == REQUIRED.keys() - {"fine-tuned runs"}
    assert {p["file"] for p in problems} == {"experiment_summary.md", "claude.local.md"}


def test_a_data_format_without_a_template_is_refused_with_those_that_have_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"words_4L_80P_300.json": "words_4L_80P_300.csv"})
    (problem,) = check_refused(experiment, capsys)
    assert (problem["code"], problem["actual"], problem["expected"]) == (
        "unsupported-format",
        ".csv",
        ".json or .parquet",
    )


def test_a_missing_template_is_refused_with_the_path_and_how_to_make_one(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "gone.yaml.j2"
    (problem,) = check_refused(experiment, capsys, "--template", str(template))
    assert (problem["code"], problem["expected"]) == ("missing-template", str(template))
    assert "setup_finetune_template.yaml.j2" in problem["fix"]


def test_an_unknown_model_is_refused_with_a_close_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"Llama-3.2-1B-Instruct": "Llama-3.2-1B-Instrct"})
    (problem,) = check_refused(experiment, capsys)
    assert problem["code"] == "unknown-model"
    assert "Did you mean 'Llama-3.2-1B-Instruct'" in problem["message"]


def test_a_broken_template_is_refused_before_anything_is_written(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.yaml.j2"
    template.write_text("lora_rank: {{ settings.lora_rnk }}\n")
    (problem,) = check_refused(experiment, capsys, "--template", str(template))
    assert problem["code"] == "template-error"


def test_what_setup_finetune_would_refuse_is_refused_before_anything_is_written(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.yaml.j2"
    template.write_text('{% extends "setup_finetune_template.yaml.j2" %}{% block checkpoints %}{{ super() }}\n'
                        "base_recipe: llama3_2/1B_lora_single_device\n{% endblock %}\n")  # fmt: skip
    problems = check_refused(experiment, capsys, "--template", str(template))
    assert {problem["code"] for problem in problems} <= {"unsupported-setting", "unknown-key"}


def test_setup_and_validate_without_a_plan_are_refused(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in ("setup", "validate"):
        assert main([step, str(experiment)]) == 2
        assert "[not-rendered]" in capsys.readouterr().err


def test_a_step_that_is_stopped_midway_has_status_1_and_says_so(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def full(source: str, target: str, **given: int) -> None:
        if target == "setup_finetune.yaml":
            raise OSError(28, "No space left on device")
        rename(source, target, **given)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        assert main(["scaffold", str(experiment)]) == 1
        error = capsys.readouterr().err
        assert "Stopped midway: cannot write" in error
        assert "No run directory or file was changed" not in error
        assert main(["scaffold", str(experiment), "--json"]) == 1
        assert answer(capsys)["error"]["problems"][0]["code"] == "write-failed"
    assert main(["scaffold", str(experiment)]) == 0


# --- roots and options ------------------------------------------------------------------------------------------------


def test_the_root_is_taken_from_the_option_else_from_the_environment(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["parse", str(experiment), "--root", str(tmp_path / "other"), "--json"]) == 2
    (problem,) = answer(capsys)["error"]["problems"]
    assert f"--root {tmp_path}" in problem["fix"]
    assert main(["parse", str(experiment), "--root", str(tmp_path / "other"), "--root", str(tmp_path)]) == 0
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_ROOT", str(tmp_path / "other"))
    assert main(["scaffold", str(experiment)]) == 2
    assert not log(experiment)
    assert main(["parse", str(experiment), "--root", str(tmp_path)]) == 0
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_ROOT", str(tmp_path))
    assert main(["scaffold", str(experiment)]) == 0


def test_a_local_file_may_be_named(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.md"
    other.write_text((experiment / "claude.local.md").read_text().replace("`lab`", "`lab2`"))
    assert main(["parse", str(experiment), "--local", str(other), "--json"]) == 0
    assert answer(capsys)["environment"]["account"] == "lab2"


def test_names_may_be_those_of_the_table(experiment: Path) -> None:
    assert main(["scaffold", str(experiment), "--names", "table"]) == 0
    assert run_directories(experiment) == sorted(f"Llama-3.2-1B-Instruct_{run}" for run in RUNS)


@pytest.mark.parametrize("arguments", [
    [], ["scaffold"], ["nothing"], ["scaffold", ".", "--jobs", "0"], ["scaffold", ".", "--jobs", "1.5"],
    ["scaffold", ".", "--timeout", "nan"], ["scaffold", ".", "--timeout", "inf"], ["scaffold", ".", "--names", "x"],
])  # fmt: skip
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: scaffold-torchtune" in capsys.readouterr().err


def test_jobs_and_timeout_reach_the_scripts(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text("import time\ntime.sleep(600)\n")
    options = ["--setup-script", str(script), "--jobs", "4", "--timeout", "0.75", "--no-activate", "--json"]
    assert main(["scaffold", str(experiment), *options]) == 1
    result = answer(capsys)
    assert {run["reason"] for run in result["setup"]["runs"]} == {
        "the script ran longer than 0.75 s and was ended. It said nothing."
    }


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["scaffold", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert "Exit status" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"scaffold-torchtune {__version__}\n"


def test_serve_serves_until_the_client_closes_the_pipe(tmp_path: Path) -> None:
    done = command("serve", "--root", tmp_path, input="")
    assert (done.returncode, done.stdout) == (0, "")


# --- the process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_traceback(experiment: Path, options: list[str]) -> None:
    line = [sys.executable, "-m", "scaffold_torchtune", "parse", str(experiment), *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 1


def test_an_interrupt_is_no_traceback_and_the_next_scaffold_goes_on(experiment: Path, tmp_path: Path) -> None:
    script, mark = tmp_path / "setup_finetune.py", tmp_path / "mark"
    script.write_text(f"import time\nopen({str(mark)!r}, 'w')\ntime.sleep(600)\n")
    line = [sys.executable, "-m", "scaffold_torchtune", "scaffold", str(experiment), "--setup-script", str(script)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        waiting = threading.Event()
        while not mark.exists() and process.poll() is None:
            waiting.wait(0.02)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (130, "", "Interrupted. Repeat the command to go on from there.\n")
    assert not (experiment / ".scaffold" / "lock").exists()
    assert main(["scaffold", str(experiment), "--setup-script", "bundled"]) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_poor_terminal_shows_what_it_can(tmp_path: Path, encoding: str) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"Capitalize the given word": "Écris ✓"})
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for options in ([], ["--json"]):
        done = command("parse", experiment, *options, env=environment, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["config"]["system_prompt"] == "Écris ✓"


def test_output_need_not_be_a_real_stream(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["parse", str(experiment), "--json"]) == 0
    assert json.loads(stream.getvalue())["experiment"] == "cap_4L_lora_lr_sweep"


def test_a_terminal_gets_a_progress_bar_on_stderr(experiment: Path) -> None:
    done = command("scaffold", experiment, env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": "120"})
    assert done.returncode == 0
    assert "validate" in done.stderr
    assert "\x1b[" in done.stdout


# --- the demo ---------------------------------------------------------------------------------------------------------


def test_the_demo_works_and_a_second_one_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (EXAMPLES / "capitalization_lora_sweep").is_dir()
    demo = tmp_path / "demo"
    assert main(["demo", str(demo)]) == 0
    assert "Ready." in capsys.readouterr().out
    assert actions(demo)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"
    before = everything(demo)
    assert main(["demo", str(demo)]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert everything(demo) == before


def test_the_demo_leaves_what_lies_there(tmp_path: Path) -> None:
    demo = make_experiment(tmp_path / "demo")
    mine = (demo / "experiment_summary.md").read_text()
    assert main(["demo", str(demo)]) == 0
    assert (demo / "experiment_summary.md").read_text() == mine
    assert run_directories(demo) == sorted(RUNS)


def test_a_demo_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").write_text("in the way")
    assert main(["demo", str(tmp_path / "demo"), "--json"]) == 2
    assert answer(capsys)["error"]["problems"][0]["code"] == "write-failed"
    assert (tmp_path / "demo").read_text() == "in the way"


def test_the_demo_outside_the_roots_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    assert main(["demo", str(tmp_path / "demo"), "--root", str(tmp_path / "root")]) == 2
    assert not (tmp_path / "demo").exists()
    assert "lies under none of the roots" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300, "loop"])
def test_a_path_that_cannot_be_looked_at_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert main(["parse", str(tmp_path / name)]) == 2
    assert "Refused" in capsys.readouterr().err
