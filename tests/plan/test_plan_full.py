"""Full fine-tuning in the plan: by a method or a recipe, for all runs or together with LoRA runs."""

from typing import Any

import pytest

from scaffold_torchtune.models import Plan
from scaffold_torchtune.torchtune_facts import OF_LORA
from support.documents import MODEL, SUMMARY, local_md, planned, refusal, runs, summary, table, told
from support.wording import absent

FULL = table(
    ["Run Name", "Model", "LR", "Type"], [["a", MODEL, "1e-5", "Fine-tuned"], ["b", MODEL, "2e-5", "Fine-tuned"]]
)
MIXED = runs(3, Recipe=["LoRA", "LoRA", "full"], LoRA_Rank=["8", "16", "-"])


def recipes_of(plan: Plan) -> list[Any]:
    return [run.settings["custom_recipe"].value if "custom_recipe" in run.settings else None for run in plan.runs]


@pytest.mark.parametrize("label", ["Recipe", "Method", "Fine-tuning method", "Training method"])
@pytest.mark.parametrize(
    ("says", "method"),
    [
        *((text, "full") for text in ("full", "Full fine-tuning", "full_finetune", "full-parameter finetuning")),
        ("Full weight training (1 GPU)", "full"),
        ("full_finetune_single_device", "full"),
        *((text, "lora") for text in ("LoRA", "lora fine-tuning", "PEFT: LoRA", "lora_finetune_single_device")),
    ],
)
def test_the_method_may_be_given_in_words_or_as_a_recipe(label: str, says: str, method: str) -> None:
    plan = planned(summary(table=FULL, training={label: says}))
    assert recipes_of(plan) == [None if method == "lora" else "full_finetune_single_device"] * 2
    assert ("lora_rank" in plan.runs[0].settings) == (method == "lora")


@pytest.mark.parametrize("says", ["fully sharded", "full precision", "Fullness", "QLoRA", "DPO", "prefix tuning"])
def test_an_unsupported_method_is_refused(says: str) -> None:
    (problem,) = refusal(planned, summary(table=FULL, training={"Method": says}))
    assert (problem.code, problem.field, problem.expected) == (
        "unsupported-setting", "method", "LoRA or full fine-tuning",
    )  # fmt: skip


def test_the_recipe_depends_on_the_gpus() -> None:
    text = summary(table=FULL, training={"Recipe": "full"})
    assert recipes_of(planned(text, local_md(gpus="4"))) == ["full_finetune_distributed"] * 2
    by_row = summary(table=runs(2, Recipe=["full", "full"], LoRA_Rank=["-", "-"], GPUs=["1", "2"]))
    assert recipes_of(planned(by_row)) == ["full_finetune_single_device", "full_finetune_distributed"]


def test_full_runs_have_no_lora_settings_and_no_warning_about_their_defaults() -> None:
    plan = planned(summary(table=FULL, training={"Recipe": "full"}))
    assert not plan.runs[0].settings.keys() & set(OF_LORA)
    assert plan.warnings == ()
    assert plan.runs[0].parameters == {"model": MODEL, "lr": 1e-5, "batch_size": 4, "epochs": 2, "recipe": "full"}
    assert [run.directory for run in plan.runs] == ["lr1e-5", "lr2e-5"]


def test_lora_settings_in_configuration_apply_only_to_lora_runs() -> None:
    plan = planned(summary(table=MIXED, training={"LoRA dropout": "0.1"}))
    assert [run.directory for run in plan.runs] == ["rank8_recipe-lora", "rank16_recipe-lora", "recipe-full"]
    assert ["lora_dropout" in run.settings for run in plan.runs] == [True, True, False]
    assert [run.parameters["recipe"] for run in plan.runs] == ["lora", "lora", "full"]


@pytest.mark.parametrize(
    ("label", "says"), [("LoRA rank", "8"), ("LoRA alpha", "8"), ("Dropout", "0"), ("Adapter weights only", "no")]
)
def test_a_lora_setting_is_refused_at_its_line_if_all_runs_are_full(label: str, says: str) -> None:
    (problem,) = refusal(planned, summary(table=FULL, training={"Recipe": "full", label: says}))
    assert (problem.code, problem.file, problem.line) == ("unsupported-setting", SUMMARY, 26)
    assert problem.field in OF_LORA


def test_a_lora_setting_in_a_full_row_is_refused_once() -> None:
    text = summary(table=runs(3, Recipe=["LoRA", "full", "full"], LoRA_Rank=["8", "8", "16"]))
    (problem,) = refusal(planned, text)
    assert told([problem]) == [("unsupported-setting", "lora_rank", SUMMARY, 7)]
    assert (problem.actual, absent(problem.message, "lora_rank", "7 and 8")) == (8, [])


def test_a_recipe_that_fits_only_some_runs_is_reported_once() -> None:
    rows = runs(3, Recipe=["full_finetune_single_device", "full", "-"], LoRA_Rank=["-", "-", "8"], GPUs=["2", "2", "2"])
    problems = refusal(planned, summary(table=rows, training={"Recipe": "lora_finetune_single_device"}))
    found = [problem for problem in told(problems) if problem[0] == "wrong-recipe"]
    assert found == [("wrong-recipe", "recipe", SUMMARY, 6), ("wrong-recipe", "recipe", SUMMARY, 26)]


def test_full_fine_tuning_with_an_external_script_is_refused() -> None:
    (problem,) = refusal(planned, summary(table=FULL, training={"Recipe": "full"}), setup_script="/opt/setup.py")
    assert (problem.code, problem.field, problem.line) == ("unsupported-setting", "recipe", 25)
    assert "--setup-script bundled" in problem.fix


def test_a_run_keeps_its_directory_when_its_gpus_change_and_the_table_grows() -> None:
    first = planned(summary(table=runs(1, Recipe=["full"], LoRA_Rank=["-"])), local_md(gpus="1"))
    grown = summary(table=runs(2, Recipe=["full", "LoRA"], LoRA_Rank=["-", "8"]))
    again = planned(grown, local_md(gpus="2"), previous=first)
    assert [run.directory for run in again.runs] == ["run_1", "rank8_recipe-lora"]
    assert recipes_of(again) == ["full_finetune_distributed", None]


def test_rows_that_differ_only_in_the_recipe_are_two_runs() -> None:
    plan = planned(summary(table=runs(2, Recipe=["LoRA", "full"], LoRA_Rank=["8", "-"])))
    assert plan.varying == ("lora_rank", "recipe")
    same = summary(table=runs(2, Recipe=["full", "full_finetune_single_device"], LoRA_Rank=["-", "-"]))
    assert [problem.code for problem in refusal(planned, same)] == ["identical-runs"]
