"""The steps on the command line: their output as text and as JSON, and the files that they leave."""

import json
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results import reply
from scaffold_torchtune.results.reply import TOOLS, Call
from support.command_line import answer, command
from support.experiments import RUNS, actions, change, everything, make_experiment, outputs
from support.wording import absent

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


@pytest.mark.long
def test_each_step_works_alone_in_a_separate_process(experiment: Path, tmp_path: Path) -> None:
    results = {}
    for step in ("parse", "plan", "render", "setup", "validate"):  # each needs the files of the earlier ones
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
    steps.scaffold(Request(at_once))
    assert outputs(experiment) == outputs(at_once)
    assert actions(experiment) == actions(at_once)


def test_single_steps_print_their_results(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for step in ("parse", "plan", "render", "setup", "validate"):
        assert main([step, str(experiment)]) == 0
        said[step] = capsys.readouterr().out
    assert all(run in said["plan"] for run in RUNS)
    assert absent(said["render"], "setup_finetune.yaml", 4, 0) == []
    assert absent(said["setup"], 4) == []
    assert absent(said["validate"], "4 of 4") == []
    assert not any("\x1b" in text for text in said.values())


def test_json_has_the_documented_keys_at_every_level(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_json_equals_the_structured_result_of_the_step(
    experiment: Path, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.scaffold(Request(experiment))
    assert main([step, str(experiment), "--json"]) == 0
    asked = Call(TOOLS[step], {"experiment": str(experiment)})
    assert answer(capsys) == reply.of_result(getattr(steps, step)(Request(experiment)), asked)


def test_a_refusal_is_json_too(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** two\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert main(["parse", str(experiment), "--json"]) == 2
    out = capsys.readouterr().out
    assert out.isascii()
    error = json.loads(out)["error"]
    assert set(error) == {"message", "problems", "ask"}
    assert error["problems"][0].keys() >= FINDING
    assert error["problems"][0]["line"] == 46


@pytest.mark.parametrize("step", ["parse", "plan", "validate"])
def test_reading_steps_write_nothing(experiment: Path, step: str) -> None:
    before = everything(experiment)
    main([step, str(experiment)])
    assert everything(experiment) == before
    steps.scaffold(Request(experiment))
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


def test_a_scaffold_shows_its_runs_and_a_second_one_reports_no_change(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaffold", str(experiment)]) == 0
    first = capsys.readouterr()
    assert first.err == ""
    assert all(run in first.out for run in RUNS)
    assert "validation passed" in first.out
    assert f"log: {experiment / 'scaffold.log'}\n" in first.out
    assert f": cd {experiment} && " in first.out
    before = everything(experiment)
    assert main(["scaffold", str(experiment)]) == 0
    second = capsys.readouterr()
    assert (second.err, f": cd {experiment} && " in second.out) == ("", True)
    assert second.out != first.out, "it says that nothing was changed"
    assert everything(experiment) == before


def test_a_changed_value_fails_and_overwrite_restores_it(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["scaffold", str(experiment)])
    good = outputs(experiment)
    change(experiment / RUNS[2] / "finetune.yaml", "lr: 1.0e-05", "lr: 1.0e-04")
    capsys.readouterr()
    assert main(["validate", str(experiment)]) == 1
    out = capsys.readouterr().out
    assert f"error: {RUNS[2]}/finetune.yaml:" in out
    assert "1e-4" in out
    assert "1e-5" in out
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    assert main(["scaffold", str(experiment)]) == 2
    error = capsys.readouterr().err
    assert "[edited-output]" in error
    assert absent(error, "1 error") == []
    assert main(["scaffold", str(experiment), "--overwrite"]) == 0
    assert outputs(experiment) == good
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_the_rule_of_alpha_is_printed_without_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = make_experiment(
        tmp_path / "sweep", replace={"- **Epochs:** 2": "- **Epochs:** 2\n- **LoRA alpha:** 4 x rank"}
    )
    assert main(["plan", str(experiment)]) == 0
    assert "derived: lora_alpha = 4 x lora_rank\n" in capsys.readouterr().out
