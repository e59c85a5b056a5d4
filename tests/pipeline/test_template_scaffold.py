"""Scaffolds with a plain YAML template on disk: bundled and external setup_finetune, both data formats."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.command_line import answer
from support.experiments import change, log, make_experiment, outputs
from support.kit_generations import kit
from support.mcp_calls import call
from support.new_experiments import finetune
from support.sampling import spread
from support.scaffolding import codes, refusal, scaffold
from support.templates import JSON, NAME, OWN_RECIPE, PARQUET, line_of
from support.wording import absent

RUN = "rank8_lr1e-5"
CHAT = {"**Epochs:** 2": "**Epochs:** 2\n- **Dataset type:** chat_completion"}
TO_PARQUET = {"words_4L_80P_300.json": "words_4L_80P_300.parquet", "**Format:** JSON": "**Format:** Parquet"}
SILENT = ["**Epochs:** 2", "Default conda environment"]
"""Settings that the documents leave to the template."""
STOCK = "".join(line for line in JSON.splitlines(keepends=True) if "custom_recipe" not in line)


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")


def template(folder: Path, text: str = JSON, name: str = NAME) -> Path:
    (folder / "templates").mkdir(exist_ok=True)
    file = folder / "templates" / name
    file.write_text(text)
    return file


def setup_yaml(experiment: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((experiment / RUN / "setup_finetune.yaml").read_text())
    return found


@pytest.mark.parametrize(("text", "replace"), [(JSON, {}), (PARQUET, TO_PARQUET)], ids=["json", "parquet"])
def test_the_bundled_setup_finetune_scaffolds_with_a_template(
    tmp_path: Path, text: str, replace: dict[str, str]
) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace=replace, without=SILENT)
    file = template(tmp_path, text)
    result = scaffold(experiment, template=file)
    assert result.ok
    written = setup_yaml(experiment)
    assert (written["epochs"], written["conda_env"], written["stash_adapter_weights"]) == (3, "kit", True)
    assert (written["lr"], written["batch_size"], written["dataset_label"]) == (1e-5, 4, "words_4L_80P_300")
    assert finetune(experiment, RUN)["epochs"] == 3
    script = (experiment / RUN / "finetune.slurm").read_text()
    assert f"tune run {OWN_RECIPE}" in script
    assert "conda activate kit" in script
    assert re.search(rf"GENERATE_YAMLS\nDetails: .*{re.escape(str(file))}\n", log(experiment))
    assert f"experiment_summary.md, claude.local.md, {NAME}" in log(experiment)
    assert result.plan.template == str(file)
    assert str(result.parse.template["epochs"].source) == f"{NAME}:{line_of(text, 'epochs')} (template)"
    assert result.parse.sources[NAME]["template.epochs"] == line_of(text, "epochs")
    assert {f.severity for f in result.plan.warnings if f.code == "overridden"} == {"info"}
    before = outputs(experiment)
    assert scaffold(experiment, template=file).unchanged
    assert outputs(experiment) == before


@pytest.mark.long
@pytest.mark.parametrize("generation", spread(["november", "december", "august"], every=2))
def test_each_external_generation_scaffolds_with_a_template(tmp_path: Path, generation: str) -> None:
    own = {"november": JSON, "december": JSON, "august": STOCK.replace("stash_adapter_weights: 'true'\n", "")}[
        generation
    ]
    replace = {} if generation == "november" else CHAT
    experiment = make_experiment(tmp_path / "sweep", replace=replace)
    script = str(kit(tmp_path / "kit", generation))
    result = scaffold(experiment, template=template(tmp_path, own), setup_script=script)
    assert result.ok
    found = [f for run in result.validation.runs for f in run.findings if f.severity != "info"]
    assert [f.sentence() for f in found] == []
    assert setup_yaml(experiment)["log_every_n_steps"] == 7
    assert ("custom_recipe" in setup_yaml(experiment)) == ("custom_recipe" in own)


def test_a_version_whose_format_loads_no_data_is_refused(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace=TO_PARQUET)
    script = str(kit(tmp_path / "kit", "november"))
    refused = refusal(steps.scaffold, experiment, template=template(tmp_path, PARQUET), setup_script=script)
    assert {p.field for p in refused.problems} == {"dataset.data_dir", "dataset_label"}
    assert not (experiment / RUN).exists()


def test_a_key_that_the_version_lacks_is_refused_at_the_line_of_the_template(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace=CHAT)
    script = str(kit(tmp_path / "kit", "august"))
    refused = refusal(steps.scaffold, experiment, template=template(tmp_path, STOCK), setup_script=script)
    (problem,) = refused.problems
    assert (problem.code, problem.field) == ("untaken-setting", "stash_adapter_weights")
    assert (problem.file, problem.line) == (NAME, line_of(STOCK, "stash"))


def test_the_external_script_cannot_use_a_recipe_of_torchtune(tmp_path: Path) -> None:
    text = STOCK + "custom_recipe: lora_finetune_single_device\n"
    script = str(kit(tmp_path / "kit", "december"))
    experiment = make_experiment(tmp_path / "sweep")
    refused = refusal(steps.scaffold, experiment, template=template(tmp_path, text), setup_script=script)
    (problem,) = errors_in(refused.problems)
    assert (problem.code, problem.file, problem.line) == ("wrong-recipe", NAME, line_of(text, "custom_recipe"))
    assert "lora_finetune_single_device.__main__" in problem.message


@pytest.mark.long
def test_a_key_of_the_external_script_keeps_its_yaml_form(tmp_path: Path) -> None:
    script = kit(tmp_path / "kit", "december")
    generation = script.parent / "generation.json"
    change(generation, '"batch_size": 4', '"batch_size": 4, "fast_mode": 1.0')
    file = template(tmp_path, STOCK + "fast_mode: 5e-1\n")
    experiment = make_experiment(tmp_path / "sweep")
    result = scaffold(experiment, template=file, setup_script=str(script))
    assert result.ok
    assert "fast_mode: 0.5\n" in (experiment / RUN / "setup_finetune.yaml").read_text()
    assert [f.field for f in result.validation.findings if f.code == "unproven-setting"] == ["fast_mode"]


def test_a_key_that_the_bundled_script_rejects_is_refused_at_the_line_of_the_template(tmp_path: Path) -> None:
    text = STOCK + "base_recipe: llama3_2/1B_lora_single_device\n"
    experiment = make_experiment(tmp_path / "sweep")
    (problem,) = refusal(steps.scaffold, experiment, template=template(tmp_path, text)).problems
    assert (problem.code, problem.file) == ("unsupported-setting", NAME)
    assert problem.line == line_of(text, "base_recipe")


def test_files_next_to_the_template_do_not_replace_bundled_ones(tmp_path: Path) -> None:
    file = template(tmp_path)
    for name in ("setup_finetune_json.yaml.j2", "setup_finetune_template.yaml.j2"):
        (file.parent / name).write_text("{{ 7 * 7 }}")
    assert scaffold(make_experiment(tmp_path / "sweep"), template=file).ok


def test_a_changed_template_makes_the_plan_outdated_if_it_changes_values(tmp_path: Path) -> None:
    experiment, file = make_experiment(tmp_path / "sweep"), template(tmp_path)
    steps.render(Request(experiment, template=file))
    change(file, "# Wandb Configuration", "# Weights & Biases")
    assert steps.setup(Request(experiment)).failed == 0
    assert steps.validate(Request(experiment)).passed
    change(file, "log_every_n_steps: 7", "log_every_n_steps: 8")
    assert codes(refusal(steps.setup, experiment)) == ["plan-outdated"]
    found = errors_in(steps.validate(Request(experiment)).findings)
    assert [f.code for f in found] == ["plan-outdated"]
    file.unlink()
    assert "missing-template" not in codes(refused := refusal(steps.setup, experiment))
    assert absent(refused.problems[0].message, file.name) == []


def test_a_missing_template_is_reported_before_the_documents(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=SILENT)
    for step in (steps.parse, steps.plan, steps.scaffold):
        (problem,) = refusal(step, experiment, template=tmp_path / "gone.yaml").problems
        assert (problem.code, problem.file) == ("missing-template", str(tmp_path / "gone.yaml"))


def test_an_unused_summary_is_read_with_the_template_too(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=SILENT)
    run = {"name": "r", "type": "fine-tuned", "model": "m", "parameters": {}}
    (experiment / "experiment_summary.yaml").write_text(yaml.safe_dump({"experiment": {"name": "x"}, "runs": [run]}))
    refused = refusal(steps.plan, experiment / "experiment_summary.md", template=template(tmp_path))
    assert "epochs" not in {p.field for p in refused.problems}


def test_the_parse_command_accepts_a_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment, file = make_experiment(tmp_path / "sweep", without=SILENT), template(tmp_path)
    assert main(["parse", str(experiment), "--json"]) == 2
    assert {p["field"] for p in answer(capsys)["error"]["problems"]} == {"epochs", "conda_env"}
    assert main(["parse", str(experiment), "--template", str(file), "--json"]) == 0
    assert answer(capsys)["template"]["epochs"] == 3
    assert main(["parse", str(experiment), "--template", str(file)]) == 0
    assert f"{NAME}:{line_of(JSON, 'epochs')} (template)" in capsys.readouterr().out.replace("\n", "")


def test_the_tools_accept_a_template(tmp_path: Path) -> None:
    experiment, file = make_experiment(tmp_path / "sweep", without=SILENT), template(tmp_path)
    given, more = {"experiment": str(experiment)}, {"experiment": str(experiment), "template": str(file)}
    calls = (
        ("parse_summary", more),
        ("plan_runs", more),
        ("render_yaml", more),
        ("run_setup", given),
        ("validate", given),
    )
    results = call(tmp_path, *calls)
    assert not any(result.is_error for result in results)
    assert (results[-1].structured_content or {})["passed"]
