"""A plain YAML template in the plan: its values, the values that override them, and the findings about both."""

from collections.abc import Mapping

import pytest

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import Interface, Option, Plan
from scaffold_torchtune.plan import plan_result
from support.documents import local_md, refusal, runs, summary, told
from support.templates import JSON, NAME, OWN_RECIPE, PATH, SILENT, line_of, planned_with, setting, value
from support.wording import absent

KIT = Interface(options={name: Option() for name in (
    "my_wandb_run_name", "my_wandb_project", "input_formatting", "input_dir_base", "dataset_label", "dataset_ext",
    "dataset_type", "output_dir_base", "experiment_name", "lora_rank", "lr", "batch_size", "epochs", "models_dir",
    "conda_env", "time", "gpus", "torchtune_model_name", "model_checkpoint", "custom_recipe", "fast_mode",
)} | {"dataset_type": Option(default="chat_completion")}, template={})  # fmt: skip


def overridden(plan: Plan) -> dict[str, Finding]:
    """Return the findings about overridden values of the template, by key."""
    return {str(f.field): f for f in plan.warnings if f.code == "overridden" and f.file == NAME}


def test_template_values_override_defaults_and_have_their_source() -> None:
    plan = planned_with(JSON)
    assert (value(plan, "log_every_n_steps"), value(plan, "stash_adapter_weights")) == (7, True)
    common = plan_result(plan).common
    assert str(common["log_every_n_steps"].source) == f"{NAME}:{line_of(JSON, 'log_every')} (template)"
    assert not {"log_every_n_steps", "system_prompt"} & plan_result(plan).defaults.keys()
    assert plan.template == PATH


SEED: Mapping[str, tuple[str, str]] = {
    "a row": (summary(table=runs(1, Seed=["5"]), training={"Seed": "5"}), local_md()),
    "Configuration": (summary(table=runs(1), training={"Seed": "5"}), local_md()),
}
TIME: Mapping[str, tuple[str, str]] = {
    "a row": (summary(table=runs(1, Time=["2:00:00"])), local_md(time="1:00:00")),
    "Configuration": (summary(table=runs(1), training={"Time": "2:00:00"}), local_md(time="1:00:00")),
    "claude.local.md": (summary(table=runs(1)), local_md(time="2:00:00")),
}


@pytest.mark.parametrize("kind", SEED)
def test_the_summary_overrides_the_template(kind: str) -> None:
    plan = planned_with("# x\nseed: 9\n", *SEED[kind])
    found = overridden(plan)["seed"]
    assert (value(plan, "seed"), found.severity, found.expected, found.actual, found.line) == (5, "info", 5, 9, 2)
    source = setting(plan, "seed").source
    assert absent(found.message, f"{source.file}:{source.line}") == []
    assert value(planned_with("seed: 9", summary(table=runs(1))), "seed") == 9


@pytest.mark.parametrize("kind", TIME)
def test_any_document_overrides_the_template(kind: str) -> None:
    plan = planned_with("time: 3:00:00", *TIME[kind])
    assert value(plan, "time") == "2:00:00"
    source = setting(plan, "time").source
    assert absent(overridden(plan)["time"].message, f"{source.file}:{source.line}") == []
    assert value(planned_with("time: 3:00:00"), "time") == "3:00:00"


def test_each_overridden_key_is_reported_once_and_only_if_it_differs() -> None:
    table = runs(3, LoRA_Rank=["8", "16", "32"], Seed=["4", "-", "4"])
    template = "lora_rank: 8\nseed: 4\nmodels_dir: /models/\nconda_env: tune\nmy_wandb_project: other\n"
    found = overridden(planned_with(template, summary(table=table)))
    assert set(found) == {"lora_rank", "my_wandb_project"}
    assert absent(found["lora_rank"].message, "2 runs", "'rank16'") == []
    assert absent(found["my_wandb_project"].message, "all runs") == []


def test_equal_paths_and_times_in_other_notations_are_not_reported() -> None:
    plan = planned_with("input_dir_base: /data/\ntime: 00:30:00\n", None, local_md(time="0:30:00"))
    assert overridden(plan) == {}


def test_values_that_identify_a_run_always_come_from_the_experiment() -> None:
    template = JSON + "experiment_name: other\nproject_dir: /other\ntorchtune_model_name: Llama-3.2-3B-Instruct\n"
    plan = planned_with(template)
    assert {value(plan, n) for n in ("experiment_name", "dataset_label", "torchtune_model_name")} == {
        "sweep",
        "words",
        "Llama-3.2-1B-Instruct",
    }
    assert "project_dir" not in plan.runs[0].settings
    found = overridden(plan)
    assert {"my_wandb_run_name", "input_dir_base", "dataset_label", "experiment_name", "project_dir"} <= found.keys()
    assert (found["my_wandb_run_name"].expected, found["project_dir"].expected) == ("rank8", None)
    assert absent(found["project_dir"].message, "'/other'") == []


def test_values_that_only_the_template_gives_are_planned() -> None:
    template = JSON + "output_dir_base: out\nmodels_dir: /models\n"
    plan = planned_with(template, summary(models={}, training={"Epochs": None}), local_md(**SILENT))
    assert (value(plan, "epochs"), value(plan, "conda_env"), value(plan, "my_wandb_project")) == (3, "kit", "words")
    assert (value(plan, "output_dir_base"), value(plan, "models_dir")) == ("/lab/sweep/out", "/models")
    assert not {"epochs", "output_dir_base", "models_dir"} & overridden(plan).keys()


def test_a_virtual_environment_is_used_only_if_no_document_gives_an_environment() -> None:
    found = overridden(planned_with("venv: envs/tune"))
    assert (found["venv"].expected, found["venv"].actual) == (None, "envs/tune")
    assert absent(found["venv"].message, "conda") == []
    plan = planned_with("venv: envs/tune", None, local_md(conda_env=None))
    assert (value(plan, "venv"), "conda_env" in plan.runs[0].settings) == ("envs/tune", False)


def test_a_run_is_named_by_its_row_and_by_template_values() -> None:
    plan = planned_with("lora_rank: 16\nlr: 1e-3\n", summary(table=runs(2, LoRA_Rank=["8", "-"])))
    assert [run.directory for run in plan.runs] == ["rank8", "rank16"]


# --- recipes ---


@pytest.mark.parametrize("said", [{}, {"Method": "LoRA"}])
def test_a_recipe_in_a_package_is_planned_and_reported(said: dict[str, str]) -> None:
    plan = planned_with(JSON, summary(training=said))
    assert value(plan, "custom_recipe") == OWN_RECIPE
    assert value(plan, "lora_alpha") == 16
    (found,) = [f for f in plan.warnings if f.code == "own-recipe"]
    assert (found.severity, found.file, found.line) == ("warning", NAME, line_of(JSON, "custom_recipe"))
    kit = planned_with(f"custom_recipe: {OWN_RECIPE}", interface=KIT, script="/kit/setup_finetune.py")
    assert [f.severity for f in kit.warnings if f.code == "own-recipe"] == ["info"]


def test_the_recipe_of_the_summary_overrides_the_template() -> None:
    text = summary(table=runs(1, LoRA_Rank=["-"]), training={"Recipe": "full"})
    plan = planned_with(JSON + "lora_rank: 8\n", text)
    assert value(plan, "custom_recipe") == "full_finetune_single_device"
    assert not {"lora_rank", "stash_adapter_weights"} & plan.runs[0].settings.keys()
    assert {"custom_recipe", "lora_rank", "stash_adapter_weights"} <= overridden(plan).keys()
    plan = planned_with("custom_recipe: full_finetune_single_device", summary(training={"Recipe": "LoRA"}))
    assert "custom_recipe" not in plan.runs[0].settings
    found = overridden(plan)["custom_recipe"]
    assert (found.expected, found.actual) == (None, "full_finetune_single_device")


def test_the_template_may_request_full_fine_tuning() -> None:
    text = summary(table=runs(1, LoRA_Rank=["-"]))
    plan = planned_with("custom_recipe: full_finetune_single_device\nlora_dropout: 0.1\n", text)
    assert value(plan, "custom_recipe") == "full_finetune_single_device"
    assert not {"lora_rank", "lora_alpha", "lora_dropout"} & plan.runs[0].settings.keys()
    assert not [f for f in plan.warnings if f.code == "own-recipe"]
    (problem,) = refusal(planned_with, "custom_recipe: full_finetune_single_device", summary(table=runs(1)))
    assert (problem.field, problem.file) == ("lora_rank", "experiment_summary.md")


@pytest.mark.parametrize(
    ("recipe", "code", "hint"),
    [
        ("lora_dpo_single_device", "unsupported-setting", "'lora_finetune_single_device'"),
        ("lora_finetune_single_devise", "unsupported-setting", "'lora_finetune_single_device'"),
        ("full_finetune_distributed", "wrong-recipe", "1 GPU"),
        ("lora_finetune_distributed", "wrong-recipe", "1 GPU"),
    ],
)
def test_recipes_that_are_unsupported_or_do_not_fit_are_refused_at_their_line(
    recipe: str, code: str, hint: str
) -> None:
    (problem,) = refusal(planned_with, f"# x\ncustom_recipe: {recipe}\n", summary(table=runs(1, LoRA_Rank=["-"])))
    assert told([problem]) == [(code, "recipe", NAME, 2)]
    assert problem.actual == recipe
    assert absent(problem.message, recipe, hint) == []


def test_full_fine_tuning_with_an_external_script_is_refused() -> None:
    template, text = "custom_recipe: full_finetune_single_device", summary(table=runs(1, LoRA_Rank=["-"]))
    problems = refusal(planned_with, template, text, interface=KIT, script="/kit/setup_finetune.py")
    assert ("unsupported-setting", "recipe", NAME, 1) in told(problems)


# --- keys that only a script knows ---


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("learning_rate", "'lr'"),
        ("lora_rnk", "'lora_rank'"),
        ("recipe", ""),
        ("model", ""),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(key: str, hint: str) -> None:
    for interface in (None, Interface(), KIT):
        (problem,) = refusal(planned_with, f"# x\n{key}: 1e-5\n", interface=interface)
        assert told([problem]) == [("unknown-key", key, NAME, 2)]
        assert hint in problem.message


def test_a_key_that_the_script_accepts_is_passed_on_unchanged() -> None:
    plan = planned_with("fast_mode: 1e-3", interface=KIT, script="/kit/setup_finetune.py")
    assert (value(plan, "fast_mode"), list(plan.runs[0].settings)[-1]) == (1e-3, "fast_mode")
    (problem,) = refusal(planned_with, "fast_mode: 1")
    assert problem.code == "unknown-key"


def test_a_key_that_the_script_cannot_accept_is_refused_at_its_line() -> None:
    problems = refusal(planned_with, "batch_size_val: 9", interface=KIT, script="/kit/setup_finetune.py")
    assert told(problems) == [("untaken-setting", "batch_size_val", NAME, 1)]
    assert absent(problems[0].fix, NAME, "--setup-script bundled") == []
