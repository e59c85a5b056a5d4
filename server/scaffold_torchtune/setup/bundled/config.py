"""What finetune.yaml says: torchtune 0.6.1's configuration as plain data, in the order of the stock configs.

The fixed values (optimizer, loss, profiler, ...) are those of recipes/configs/llama3_2/1B_lora_single_device.yaml. Full
fine-tuning keeps them, AdamW of torch and the schedule too, which its recipes take too, so that runs of both kinds
can be compared; what only its recipes read is that of recipes/configs/llama3_2/1B_full.yaml, with the optimizer's step
after the whole backward pass (optimizer_in_bwd would forbid gradient accumulation).
Only this module and rules.py write `${...}`; a value that holds it was refused before.
"""

from typing import Any, Final

from scaffold_torchtune.setup.bundled import rules
from scaffold_torchtune.setup.bundled.keys import Settings, SettingsReport
from scaffold_torchtune.system.text import escape
from scaffold_torchtune.torchtune_facts.model_registry import ModelEntry

UNREAD: Final = {
    "run_val_every_n_steps": 0,
    "batch_size_val": None,
    "save_last_epoch_only": False,
    "epochs_to_save": "",
    "stash_adapter_weights": False,
}
"""Keys that no recipe of torchtune 0.6.1 for LoRA or full fine-tuning reads, with the value that asks for nothing."""


def output_dir(settings: Settings) -> str:
    """Return where the run's checkpoints and logs go: the rule of 2025 with `output_dir_base`, else that of v0.3.4."""
    run, experiment = settings.text("my_wandb_run_name"), settings.text("experiment_name")
    if project := settings.text("project_dir"):
        return f"{project.rstrip('/')}/{experiment}/{run}/artifacts/"
    inner = f"{experiment}/" if experiment else ""
    return f"{settings.text('output_dir_base').rstrip('/')}/{inner}ck-out-{run}/"


def input_dir(settings: Settings) -> str:
    """Return where the data set is: `input_dir_base`, and below it the folder `input_formatting`, by default `raw`."""
    base, value = settings.text("input_dir_base"), settings.values["input_formatting"]
    folder = "raw" if value is None else value
    return f"{base.rstrip('/')}/{folder}" if folder else base


def _unread(settings: Settings) -> dict[str, Any]:
    """Return settings that are asked for although no stock recipe reads them, by key."""
    values = {name: settings.values[name] for name in UNREAD}
    return {name: value for name, value in values.items() if value not in {None, UNREAD[name]}}


def finetune_config(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    """Return the whole of finetune.yaml as plain data, in the order in which it is written."""
    texts = ("models_dir", "dataset_label", "my_wandb_project", "my_wandb_run_name")
    return {
        "output_dir": output_dir(settings),
        "input_dir": input_dir(settings),
        **{name: settings.text(name) for name in texts},
        "model": _model(settings, entry),
        **_checkpoints(settings, entry),
        **_data(settings),
        **_training(settings),
        **_machine(settings, entry),
    }


def _model(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    if settings.is_full:
        return {"_component_": entry.full_component}
    rank = settings.integer("lora_rank")
    return {
        "_component_": entry.component,
        "lora_attn_modules": settings.text("lora_attn_modules").split(","),
        "apply_lora_to_mlp": settings.flag("apply_lora_to_mlp"),
        **({"apply_lora_to_output": True} if settings.flag("apply_lora_to_output") else {}),  # not of all builders
        "lora_rank": rank,
        "lora_alpha": settings.integer("lora_alpha") or 2 * rank,
        "lora_dropout": settings.values["lora_dropout"],
    }


def _checkpoints(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    """Return the tokenizer, and what is loaded and saved."""
    directory, template = rules.model_directory(settings), rules.prompt_template(settings)
    files = settings.text("checkpoint_files")
    only_adapter = {"save_adapter_weights_only": settings.flag("save_adapter_weights_only")}
    return {
        "tokenizer": {
            "_component_": entry.tokenizer,
            **{argument: f"{directory}/{name}" for argument, name in entry.tokenizer_files},
            "max_seq_len": settings.integer("max_seq_len"),
            **({"prompt_template": template} if template else {}),
        },
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": f"{directory}/",
            "checkpoint_files": files.split(",") if files else entry.checkpoint_files,
            "recipe_checkpoint": None,
            "output_dir": "${output_dir}",
            "model_type": entry.model_type,
        },
        "resume_from_checkpoint": settings.flag("resume_from_checkpoint"),
        **({} if settings.is_full else only_adapter),
    }


def _data(settings: Settings) -> dict[str, Any]:
    validates = settings.integer("run_val_every_n_steps")
    return {
        "dataset": rules.dataset_node(settings),
        **({"dataset_val": rules.dataset_node(settings, "validation")} if validates else {}),
        "seed": settings.integer("seed"),
        "shuffle": True,
        "batch_size": settings.integer("batch_size"),
    }


def _training(settings: Settings) -> dict[str, Any]:
    return {
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "fused": True,
            "weight_decay": settings.values["weight_decay"],
            "lr": settings.values["lr"],
        },
        "lr_scheduler": {
            "_component_": f"torchtune.training.lr_schedulers.{settings.text('lr_scheduler')}",
            "num_warmup_steps": settings.integer("num_warmup_steps"),
        },
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "epochs": settings.integer("epochs"),
        "max_steps_per_epoch": settings.values["max_steps_per_epoch"],
        "gradient_accumulation_steps": settings.integer("gradient_accumulation_steps"),
        **({"optimizer_in_bwd": False} if settings.is_full else {}),
        "clip_grad_norm": settings.values["clip_grad_norm"],
        "compile": False,
        **_unread(settings),
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.WandBLogger",
            "project": "${my_wandb_project}",
            **_whose(settings),
            "name": "${my_wandb_run_name}",
            "log_dir": "${output_dir}/logs",
            "mode": settings.text("wandb_mode"),
        },
        "log_every_n_steps": settings.integer("log_every_n_steps"),
        "log_peak_memory_stats": True,
    }


def _whose(settings: Settings) -> dict[str, Any]:
    """Return entity, group and tags of the run, as far as they are given; WandBLogger hands tags on to wandb.init."""
    found = {name: settings.text(f"wandb_{name}") for name in ("entity", "group")}
    tags = settings.text("wandb_tags")
    return {name: text for name, text in found.items() if text} | ({"tags": tags.split(",")} if tags else {})


def _machine(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    full, checkpointing = settings.is_full, settings.values["enable_activation_checkpointing"]
    offload = full and entry.full_offload and settings.integer("gpus") > 1
    return {
        "device": "cuda",
        "dtype": "bf16",
        "enable_activation_checkpointing": entry.checkpointing(full=full) if checkpointing is None else checkpointing,
        "enable_activation_offloading": False,
        **({"fsdp_cpu_offload": True} if offload else {}),
        "profiler": {
            "_component_": "torchtune.training.setup_torch_profiler",
            "enabled": False,
            "output_dir": "${output_dir}/profiling_outputs",
            "cpu": True,
            "cuda": True,
            "profile_memory": False,
            "with_stack": False,
            "record_shapes": True,
            "with_flops": False,
            "wait_steps": 5,
            "warmup_steps": 3,
            "active_steps": 2,
            "num_cycles": 1,
        },
    }


def warn_unread(settings: Settings, report: SettingsReport) -> None:
    """Warn about each setting that is written but that the stock recipe does not read."""
    for key, value in _unread(settings).items():
        message = f"{key} is written, but the recipe {settings.recipe} of torchtune 0.6.1 does not read it"
        fix = "take it out, or name a custom_recipe that reads it"  # which no document can name
        instead = "take it out, or leave it: it changes nothing"
        actual = escape(value) if isinstance(value, str) else value
        report.add("unread-setting", message, field=key, actual=actual, fix=fix, fix_in_document=instead)
