"""The rules of setup_finetune.yaml that concern more than one key, or a choice among what torchtune 0.6.1 has."""

from typing import Final

from scaffold_torchtune.settings import recipes
from scaffold_torchtune.setup_finetune import dataset
from scaffold_torchtune.setup_finetune.keys import Report, Settings
from scaffold_torchtune.setup_finetune.recipe import is_full, recipe
from scaffold_torchtune.setup_finetune.registry import ModelEntry, find_model, known_models
from scaffold_torchtune.shared.text import did_you_mean, shown

_REQUIRED: Final = (
    "my_wandb_project", "my_wandb_run_name", "torchtune_model_name", "models_dir", "input_dir_base", "dataset_label",
    "dataset_ext", "epochs", "batch_size",
)  # fmt: skip

# torchtune/_recipe_registry.py of 0.6.1, without those that are scaffolded
_OTHER_RECIPES: Final = frozenset({
    "lora_dpo_single_device", "lora_dpo_distributed", "full_dpo_distributed", "ppo_full_finetune_single_device",
    "generate", "eleuther_eval", "quantize", "qat_distributed", "qat_lora_finetune_distributed",
    "knowledge_distillation_single_device", "knowledge_distillation_distributed", "dev/early_exit_finetune_distributed",
    "dev/generate_v2", "dev/generate_v2_distributed", "dev/lora_finetune_distributed_multi_dataset",
})  # fmt: skip

_SCHEDULER: Final = "get_cosine_schedule_with_warmup"  # the only one in torchtune/training/lr_schedulers.py of 0.6.1


def check(settings: Settings, report: Report) -> ModelEntry | None:
    """Refuse what is missing, contradicts itself or cannot be honoured; returns the model where it is known."""
    for key in _REQUIRED:
        if key not in settings.given:
            _missing(report, key, f"{key} is missing", f"add a line `{key}: ...`")
    if not settings.given & {"conda_env", "venv"}:
        _missing(report, "conda_env", "conda_env is missing", "add conda_env, or venv for a virtual environment")
    _check_output(settings, report)
    _check_recipe(settings, report)
    _check_adapter(settings, report)
    _check_resume(settings, report)
    entry = _check_model(settings, report)
    scheduler = settings.text("lr_scheduler")
    if scheduler != _SCHEDULER:
        report.refuse(
            "unsupported-setting",
            "lr_scheduler",
            f"lr_scheduler is {shown(scheduler)}, which torchtune 0.6.1 does not have",
            f"write {_SCHEDULER}",
            found=scheduler,
            allowed=_SCHEDULER,
        )
    dataset.check(settings, entry, report)
    return entry


def _missing(report: Report, key: str, message: str, fix: str) -> None:
    report.refuse("missing-field", key, message, fix)


def _check_output(settings: Settings, report: Report) -> None:
    """Where outputs go: `output_dir_base` (2025) or `project_dir` with `experiment_name` (v0.3.4), not both."""
    given = settings.given & {"output_dir_base", "project_dir"}
    if not given:
        _missing(report, "output_dir_base", "output_dir_base is missing", "add a line `output_dir_base: ...`")
    if len(given) > 1:
        message = "output_dir_base and project_dir are both given, and each names another output directory"
        report.refuse("ambiguous", "project_dir", message, "keep one of them")
    if given == {"project_dir"} and "experiment_name" not in settings.given:
        _missing(report, "experiment_name", "project_dir needs an experiment_name", "add a line `experiment_name: ...`")


def _check_model(settings: Settings, report: Report) -> ModelEntry | None:
    name = settings.text("torchtune_model_name")
    entry = find_model(name)
    if name and entry is None:
        report.refuse(
            "unknown-model",
            "torchtune_model_name",
            did_you_mean(name, known_models(), f"torchtune_model_name {shown(name)} is not a model known here."),
            f"write one of {', '.join(known_models())}",
            found=name,
        )
    return entry


def _check_recipe(settings: Settings, report: Report) -> None:
    if settings.text("base_recipe"):
        report.refuse(
            "unsupported-setting",
            "base_recipe",
            "base_recipe: defaults are not taken from a recipe here, so that every value can be seen",
            "take it out and write the values that you want from it (lora_rank, lr, batch_size, ...) as keys",
            found=settings.text("base_recipe"),
        )
    if any(error.field == "gpus" for error in report.errors):
        return
    name, distributed = recipe(settings), settings.integer("gpus") > 1
    if name in _OTHER_RECIPES:
        report.refuse(
            "unsupported-setting",
            "custom_recipe",
            f"custom_recipe {name} is neither LoRA nor full fine-tuning, which is all that is done here",
            f"take it out, or write one of {', '.join(recipes.NAMES)}",
            found=name,
        )
    elif ("single_device" in name and distributed) or ("distributed" in name and not distributed):
        report.refuse(
            "wrong-recipe",
            "custom_recipe",
            f"custom_recipe {name} does not fit gpus: {settings.integer('gpus')}",
            "name a recipe for one device with gpus: 1, a distributed one with more",
            found=name,
        )


def _check_adapter(settings: Settings, report: Report) -> None:
    """Full fine-tuning has no adapter, so nothing of one can be honoured."""
    for key in recipes.OF_LORA if is_full(settings) else ():
        if key in settings.given:
            message = f"{key} is given, but the recipe {recipe(settings)} trains all weights, without LoRA"
            report.refuse("unsupported-setting", key, message, "take it out, or train with LoRA")


def _check_resume(settings: Settings, report: Report) -> None:
    """LoRA in torchtune 0.6.1 finds by itself what it goes on from, full fine-tuning does not.

    For the latter checkpointer.checkpoint_files would have to name the files of the last epoch
    (get_model_checkpoint_path in training/checkpointing/_utils.py), which is known only when the job starts anew.
    """
    if settings.flag("resume_from_checkpoint") and is_full(settings):
        report.refuse(
            "unsupported-setting",
            "resume_from_checkpoint",
            "resume_from_checkpoint is true, but full fine-tuning does not find the epoch to go on from by itself",
            "take it out, or train with LoRA",
            found=True,
        )
