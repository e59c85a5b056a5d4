"""Full fine-tuning from documents to validated files, alone and together with LoRA."""

from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import TO_RECIPES, make_experiment, run_directories
from support.new_experiments import finetune, make, refused, scaffolded


def test_lora_is_compared_with_full_fine_tuning(tmp_path: Path) -> None:
    directory = make_experiment(tmp_path / "compared", replace=TO_RECIPES)
    result = steps.scaffold(Request(experiment=directory))
    assert result.ok
    assert result.validation.passed
    assert run_directories(directory) == [f"lr{lr}_recipe-{of}" for lr in ("1e-5", "5e-5") for of in ("full", "lora")]
    full, lora = finetune(directory, "lr1e-5_recipe-full"), finetune(directory, "lr1e-5_recipe-lora")
    assert (full["model"], lora["model"]["lora_rank"]) == ({"_component_": "torchtune.models.llama3_2.llama3_2_1b"}, 64)
    assert full["optimizer"] == lora["optimizer"]
    by_name = {run.directory: run for run in result.plan.runs}
    assert str(by_name["lr1e-5_recipe-full"].sources["recipe"]) == "experiment_summary.md:24 (Recipe)"
    told = {w.field: w.actual for w in result.plan.warnings if w.code in {"default-used", "overridden"}}
    assert told == {"lora_rank": 64, "recipe": "full"}


def test_a_second_scaffold_of_full_runs_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_experiment(tmp_path / "twice", replace=TO_RECIPES)
    assert main(["scaffold", str(directory)]) == 0
    assert "recipe-full" in capsys.readouterr().out
    assert steps.scaffold(Request(experiment=directory)).unchanged


def test_a_template_with_an_adapter_for_a_full_run_is_refused(tmp_path: Path) -> None:
    directory = make_experiment(tmp_path / "own", replace=TO_RECIPES)
    template = tmp_path / "own.yaml.j2"
    template.write_text(
        '{% extends "setup_finetune_template.yaml.j2" %}{% block checkpoints %}lora_alpha: 16\n{% endblock %}'
    )
    assert main(["plan", str(directory), "--template", str(template)]) == 2


@pytest.mark.usefixtures("no_local_file")
@pytest.mark.parametrize(("gpus", "form"), [("1", "single_device"), ("2", "distributed")])
@pytest.mark.parametrize("rates", ["1e-5", "1e-5,2e-5", None])
def test_new_writes_documents_for_full_fine_tuning(tmp_path: Path, gpus: str, form: str, rates: str | None) -> None:
    directory = tmp_path / "all"
    make(directory, {"--recipe": "full", "--rank": None, "--lr": rates, "--gpus": gpus})
    assert "- **Recipe:** full\n" in (directory / "experiment_summary.md").read_text()
    for run in scaffolded(directory).plan.runs:
        script = (directory / run.directory / "finetune.slurm").read_text()
        assert f"full_finetune_{form} --config" in script
        assert finetune(directory, run.directory)["model"].keys() == {"_component_"}


@pytest.mark.usefixtures("no_local_file")
def test_new_refuses_a_rank_for_full_fine_tuning_and_accepts_lora_in_capitals(tmp_path: Path) -> None:
    assert refused(tmp_path / "both", {"--recipe": "full"}) == [("unsupported-setting", "lora_rank")]
    assert refused(tmp_path / "other", {"--recipe": "qat_distributed"}) == [("unsupported-setting", "recipe")]
    make(tmp_path / "one", {"--recipe": "LoRA"})
    assert len(scaffolded(tmp_path / "one").plan.runs) == 4
