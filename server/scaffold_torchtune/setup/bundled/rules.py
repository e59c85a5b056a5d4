"""The `dataset` node of finetune.yaml, and rules that concern more than one key of setup_finetune.yaml."""

import string
from typing import Any, Final

from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.parameters import KEYS
from scaffold_torchtune.setup.bundled.keys import Report, Settings, is_full, recipe
from scaffold_torchtune.system.text import did_you_mean, shown
from scaffold_torchtune.torchtune_facts.model_registry import ModelEntry, find_model, known_models

# The `dataset` node of finetune.yaml: which data set builder, with which arguments, and what each cannot honour.
#
# torchtune's own builders are those of torchtune 0.6.1 (torchtune/datasets/_instruct.py, _chat.py,
# _text_completion.py);
# `chat_completion` and `text_completion` are cruijff_kit v0.3.4's (cruijff_kit/tools/torchtune/datasets), which read
# JSON
# only, take neither `field` nor unknown arguments, and load their own tokenizer from `model_path`.

_CRUIJFF: Final = {
    "chat_completion": "cruijff_kit.tools.torchtune.datasets.chat_completion.chat_completion_dataset",
    "text_completion": "cruijff_kit.tools.torchtune.datasets.text_completion.text_completion_dataset",
}
_TORCHTUNE: Final = {
    name: f"torchtune.datasets.{name}" for name in ("instruct_dataset", "chat_dataset", "text_completion_dataset")
}
_TYPES: Final = (*_TORCHTUNE, *_CRUIJFF)
_SAME_AS_INPUT: Final = ("", "\n")  # what may follow the input where the tokenizer strips the parts of a message


def model_directory(settings: Settings) -> str:
    """The model's directory, as an interpolation."""
    return f"${{models_dir}}/{settings.text('model_checkpoint') or settings.text('torchtune_model_name')}"


def dataset_node(settings: Settings, split: str = "train") -> dict[str, Any]:
    """The data set node for `split`; `training_samples` limits only the training split."""
    kind = settings.text("dataset_type")
    samples = settings.values["training_samples"] if split == "train" else None
    if kind in _CRUIJFF:
        return _cruijff_node(settings, kind, split, samples)
    source = settings.text("dataset_ext").removeprefix(".")
    built: dict[str, Any] = {
        "_component_": _TORCHTUNE[kind],
        "source": source,
        "data_files": f"${{input_dir}}/${{dataset_label}}.{source}",
    }
    if source == "json":
        built["field"] = split
    # what the datasets library calls a split is the whole of the files given; a part of a JSON file is its `field`
    built["split"] = "train" if samples is None else f"train[:{samples}]"
    if kind == "chat_dataset":
        built |= {"conversation_column": "messages", "conversation_style": "openai"}
    if kind == "text_completion_dataset":
        built["column"] = settings.text("input_key") or "text"
    else:
        built["train_on_input"] = settings.flag("train_on_input")
        if settings.text("system_prompt"):
            built["new_system_prompt"] = settings.text("system_prompt")
    if kind == "instruct_dataset" and (settings.text("input_key") or settings.text("output_key")):
        built["column_map"] = {
            "input": settings.text("input_key") or "input",
            "output": settings.text("output_key") or "output",
        }
    return built | {"packed": settings.flag("packed")}


def _cruijff_node(settings: Settings, kind: str, split: str, samples: Any) -> dict[str, Any]:
    built: dict[str, Any] = {
        "_component_": _CRUIJFF[kind],
        "source": "json",
        "data_files": "${input_dir}/${dataset_label}.json",
        "split": split,
        "model_path": model_directory(settings),
        "prompt": settings.text("prompt") or "{input}",
    }
    if kind == "chat_completion":
        built["system_prompt"] = settings.text("system_prompt")
    built |= {
        "input_key": settings.text("input_key") or "input",
        "output_key": settings.text("output_key") or "output",
        "train_on_input": settings.flag("train_on_input"),
    }
    if samples is not None:
        built["max_samples"] = samples
    return built | {"packed": False}


def prompt_template(settings: Settings) -> dict[str, list[str]] | None:
    """What the tokenizer puts around the user's message, or None where `prompt` asks for nothing.

    torchtune's tokenizers take a mapping from role to the text before and after (data/_prompt_templates.py); a mapping
    in the config arrives there as a plain dict, since config.instantiate converts it (OmegaConf.to_object).
    """
    parts = _around_input(settings.text("prompt"))
    if settings.text("dataset_type") in _CRUIJFF or parts is None or parts == ("", ""):
        return None
    return {"user": list(parts)}


def _around_input(prompt: str) -> tuple[str, str] | None:
    """The text before and after `{input}`, or None where the prompt is not text around exactly one of it."""
    parsed = _parse(prompt)
    names = [name for _, name, *_ in parsed if name is not None]
    if names != ["input"] or "{input}" not in prompt:
        return None
    at = next(i for i, (_, name, *_) in enumerate(parsed) if name is not None)
    return "".join(p[0] for p in parsed[: at + 1]), "".join(p[0] for p in parsed[at + 1 :])


def _parse(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError:  # a lone brace
        return []


def check_dataset(settings: Settings, entry: ModelEntry | None, report: Report) -> None:
    """Refuse what the data set cannot honour. `entry` is None where the model is unknown."""
    kind = settings.text("dataset_type")
    if kind not in _TYPES:
        report.refuse(
            "invalid-value",
            "dataset_type",
            did_you_mean(kind, _TYPES, f"dataset_type is {shown(kind)}."),
            f"write one of {', '.join(_TYPES)}",
            found=kind,
            allowed=", ".join(_TYPES),
        )
        return
    if kind in _CRUIJFF:
        _check_cruijff(settings, kind, report)
    else:
        _check_torchtune(settings, kind, report)
    if kind not in {"instruct_dataset", "chat_dataset", "chat_completion"} and settings.text("system_prompt"):
        _refuse(report, "system_prompt", f"{kind} has no system prompt", "take it out, or put it into the data")
    if "prompt" in settings.given:
        _check_prompt(settings, kind, entry, report)
    if settings.integer("run_val_every_n_steps") and settings.text("dataset_ext") == ".parquet":
        fix = "take it out, or give the data as JSON with a part named validation"
        _refuse(report, "run_val_every_n_steps", "one Parquet file holds one split, so nothing to validate on", fix)
    if (
        entry
        and entry.prompt == "own"
        and kind in {"instruct_dataset", "chat_dataset"}
        and settings.text("system_prompt")
    ):
        message = f"{entry.name}'s chat template in torchtune 0.6.1 takes no system prompt"
        _refuse(report, "system_prompt", message, "take it out, or put it into the data")


def _check_cruijff(settings: Settings, kind: str, report: Report) -> None:
    if settings.text("dataset_ext") == ".parquet":
        fix = "convert the data to JSON, or write dataset_type: instruct_dataset"
        _refuse(report, "dataset_ext", f"{kind} of cruijff_kit reads JSON only", fix)
    if settings.flag("packed"):
        fix = "take it out, or write dataset_type: instruct_dataset"
        _refuse(report, "packed", f"{kind} of cruijff_kit does not pack samples", fix)
    if settings.values["max_seq_len"] != KEYS["max_seq_len"].default:
        message = f"{kind} of cruijff_kit has its own tokenizer and does not cut samples at max_seq_len"
        fix = "take it out, or write dataset_type: instruct_dataset"
        report.add("unread-setting", message, field="max_seq_len", fix=fix)


def _check_torchtune(settings: Settings, kind: str, report: Report) -> None:
    unused = {"instruct_dataset": (), "chat_dataset": ("input_key", "output_key")}.get(kind, ("output_key",))
    for key in unused:
        if settings.text(key):
            _refuse(report, key, f"torchtune's {kind} has no such argument", "take it out")


def _check_prompt(settings: Settings, kind: str, entry: ModelEntry | None, report: Report) -> None:
    prompt = settings.text("prompt")
    if "{input}" not in prompt or not _parse(prompt):
        report.refuse(
            "invalid-value",
            "prompt",
            f"prompt is {shown(prompt)}: it must hold {{input}}, and other braces doubled",
            "write the place of the input as {input}",
            found=prompt,
            allowed="text with {input}",
        )
        return
    if kind in _CRUIJFF or entry is None:
        return
    parts = _around_input(prompt)
    reason = _why_not(kind, entry, parts)
    if reason:
        fix = "put the text into the data, or write dataset_type: chat_completion (cruijff_kit's own, JSON only)"
        _refuse(report, "prompt", reason, fix, found=prompt)


def _why_not(kind: str, entry: ModelEntry, parts: tuple[str, str] | None) -> str:
    """Why torchtune 0.6.1 would not train on that prompt exactly, or nothing where it does."""
    if parts is None:
        return f"torchtune's {kind} fills in {{input}} once and nothing else"
    if parts == ("", ""):
        return ""
    if kind == "text_completion_dataset":
        return "torchtune's text_completion_dataset puts nothing around the text"
    if entry.prompt == "own":
        return f"a prompt would replace the chat template that {entry.name} needs in torchtune 0.6.1"
    if entry.prompt == "stripped" and (parts[0] or parts[1] not in _SAME_AS_INPUT):
        return f"torchtune 0.6.1's tokenizer of {entry.name} strips white space around the input"
    return ""


def _refuse(report: Report, key: str, message: str, fix: str, found: str | None = None) -> None:
    report.refuse("unsupported-setting", key, f"{key}: {message}", fix, found=found)


# The rules of setup_finetune.yaml that concern more than one key, or a choice among what torchtune 0.6.1 has.

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


def check_rules(settings: Settings, report: Report) -> ModelEntry | None:
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
    check_dataset(settings, entry, report)
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
