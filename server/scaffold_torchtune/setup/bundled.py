"""The bundled setup_finetune: the text of one setup_finetune.yaml in, finetune.yaml and finetune.slurm out.

The output has the configuration structure of torchtune 0.6.1's recipes for LoRA and for full fine-tuning. The keys are
those of cruijff_kit's setup_finetune.py, of 2025 and of v0.3.4. A setting that cannot be honoured is refused, never
dropped.

finetune.yaml is built as plain data, in the order of the stock configs. The fixed values (optimizer, loss, profiler,
...) come from recipes/configs/llama3_2/1B_lora_single_device.yaml. Full fine-tuning keeps them, including AdamW and the
schedule, which its recipes also accept, so that runs of both methods can be compared; values that only its recipes read
come from recipes/configs/llama3_2/1B_full.yaml, except that the optimizer steps after the whole backward pass
(optimizer_in_bwd would forbid gradient accumulation). Only this module and keys.py write `${...}`; a value that
contains it is refused earlier.

finetune.slurm, the batch script that trains the run, is built as a list of directives and commands for its template.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scaffold_torchtune.findings import Finding, Refused, Scalar, counted, escape
from scaffold_torchtune.settings import parameters
from scaffold_torchtune.setup.keys import (
    Settings,
    SettingsReport,
    check_rules,
    dataset_node,
    model_directory,
    prompt_template,
    read_keys,
)
from scaffold_torchtune.system import templating
from scaffold_torchtune.system.layout import TEMPLATES
from scaffold_torchtune.system.serialization import KeyPath, YamlDocument, read_yaml
from scaffold_torchtune.torchtune_facts import RECIPE_NAMES, ModelEntry, Resources, default_resources

UNREAD: Final = {
    "run_val_every_n_steps": 0,
    "batch_size_val": None,
    "save_last_epoch_only": False,
    "epochs_to_save": "",
    "stash_adapter_weights": False,
}
"""Keys that no recipe of torchtune 0.6.1 for LoRA or full fine-tuning reads, with the value that has no effect."""


def output_directory(settings: Settings) -> str:
    """Return the directory of the run's checkpoints and logs: with `project_dir` as in v0.3.4, else as in 2025."""
    run, experiment = settings.text("my_wandb_run_name"), settings.text("experiment_name")
    if project := settings.text("project_dir"):
        return f"{project.rstrip('/')}/{experiment}/{run}/artifacts/"
    inner = f"{experiment}/" if experiment else ""
    return f"{settings.text('output_dir_base').rstrip('/')}/{inner}ck-out-{run}/"


def input_dir(settings: Settings) -> str:
    """Return the directory of the data set: the folder `input_formatting` (default `raw`) in `input_dir_base`."""
    base, value = settings.text("input_dir_base"), settings.values["input_formatting"]
    folder = "raw" if value is None else value
    return f"{base.rstrip('/')}/{folder}" if folder else base


def _unread(settings: Settings) -> dict[str, Any]:
    """Return the settings that are given although no stock recipe reads them, by key."""
    values = {name: settings.values[name] for name in UNREAD}
    return {name: value for name, value in values.items() if value not in {None, UNREAD[name]}}


def finetune_config(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    """Return the content of finetune.yaml as plain data, in the order in which it is written."""
    texts = ("models_dir", "dataset_label", "my_wandb_project", "my_wandb_run_name")
    return {
        "output_dir": output_directory(settings),
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
        **({"apply_lora_to_output": True} if settings.flag("apply_lora_to_output") else {}),  # not every builder has it
        "lora_rank": rank,
        "lora_alpha": settings.integer("lora_alpha") or 2 * rank,
        "lora_dropout": settings.values["lora_dropout"],
    }


def _checkpoints(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    """Return the tokenizer, the checkpointer and the keys of checkpoints."""
    directory, template = model_directory(settings), prompt_template(settings)
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
        "dataset": dataset_node(settings),
        **({"dataset_val": dataset_node(settings, "validation")} if validates else {}),
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
    """Return the run's W&B entity, group and tags, if given; WandBLogger passes them on to wandb.init."""
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
    """Warn about each setting that is written although the stock recipe does not read it."""
    for key, value in _unread(settings).items():
        message = f"{key} is set, but the recipe {settings.recipe} of torchtune 0.6.1 does not read it"
        fix = f"remove {key} (from the summary if this file was generated), or set custom_recipe to one that reads it"
        instead = "remove this setting, or leave it: it has no effect"  # documents cannot name a recipe
        actual = escape(value) if isinstance(value, str) else value
        report.add("unread-setting", message, field=key, actual=actual, fix=fix, fix_in_document=instead)


_RESUME = "resume_from_checkpoint=$resume"


def training_command(settings: Settings) -> list[str]:
    """Return the training command.

    `tune run` knows the stock recipes by name, and reads everything else as the path of a module, from which it cuts
    the file extension (torchtune/_cli/run.py, _convert_to_dotpath). It would cut `package.module` too, so a dotted name
    gets the extension `.__main__`, as in cruijff_kit.
    """
    name = settings.recipe
    last = name.rsplit("/", 1)[-1]
    if "." in last and not last.endswith((".py", ".__main__")):
        name += ".__main__"
    gpus = settings.integer("gpus")
    launch = ["--nproc_per_node", str(gpus)] if gpus > 1 else []
    resume = [_RESUME] if settings.flag("resume_from_checkpoint") else []
    return ["tune", "run", *launch, name, "--config", "finetune.yaml", *resume]


def _script_defaults(settings: Settings, entry: ModelEntry) -> Resources:
    gpus, epochs = settings.integer("gpus"), settings.integer("epochs")
    return default_resources(entry, gpus, full=settings.is_full, epochs=epochs)


def script_directives(settings: Settings, entry: ModelEntry) -> list[tuple[str, str]]:
    """Return the #SBATCH lines as (option, value); the values match allow-list grammars."""
    defaults = _script_defaults(settings, entry)
    lines = [
        ("job-name", settings.text("my_wandb_run_name")),
        ("nodes", "1"),
        ("ntasks", "1"),
        ("cpus-per-task", str(settings.integer("cpus_per_task") or defaults.cpus)),
        ("mem", settings.text("mem") or defaults.mem),
        ("time", settings.text("time")),
        ("gres", parameters.gres(settings.integer("gpus"), settings.text("gpu_type"))),
        ("output", "slurm-%j.out"),
    ]
    optional = [(name, settings.text(name)) for name in ("account", "partition", "constraint")]
    return [*lines, *(pair for pair in optional if pair[1]), *parameters.directives(settings.values)]


def script_values(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    """Return the variables of the template finetune.slurm.j2."""
    defaults, written = _script_defaults(settings, entry), "from setup_finetune.yaml"
    output_dir = output_directory(settings)
    # A resumed training continues from this file, which torchtune 0.6.1 finds by itself (get_recipe_checkpoint_path in
    # training/checkpointing/_utils.py); the adapter is in the newest epoch_N of the same directory. If the file is
    # missing, the recipe ends with an error, so the job tests for it first.
    state = f"{output_dir}recipe_state/recipe_state.pt" if settings.flag("resume_from_checkpoint") else ""
    return {
        "directives": [parameters.line(*pair) for pair in script_directives(settings, entry)],
        "mem_source": written if settings.text("mem") else defaults.mem_source,
        "cpus_source": written if settings.integer("cpus_per_task") else defaults.cpus_source,
        "modules": [name.strip() for name in settings.text("modules").split(",") if name.strip()],
        "venv": settings.text("venv").rstrip("/"),
        "conda_env": settings.text("conda_env"),
        "variables": list(parameters.OFFLINE.items()) if settings.flag("offline") else [],
        "logs": f"{output_dir}logs",
        "state": state,
        "command": [word for word in training_command(settings) if word != _RESUME],
    }


def read_back(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the script's directives and the words of its last command.

    sbatch ignores directives after the first command; they are returned with an empty name.
    """
    found: list[tuple[str, str]] = []
    lines, started = text.splitlines(), False
    for line in lines:
        started = started or bool(line and not line.startswith("#"))
        if line.startswith("#SBATCH"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            found.append(("" if started else name, value.removeprefix('"').removesuffix('"')))
    return found, shlex.split(lines[-1])


@dataclass(frozen=True)
class Outputs:
    """The texts of the two files, and the warnings."""

    finetune_yaml: str
    finetune_slurm: str
    warnings: tuple[Finding, ...]


def build(content: str | YamlDocument, *, file: str = "setup_finetune.yaml") -> Outputs:
    """Turn the text of one setup_finetune.yaml, or the document read from it, into the texts of the two outputs.

    Reads only its argument and the shipped templates, and writes nothing. `file` is the name used in findings.

    Raises:
        Refused: something in the file cannot be honoured; contains every problem.
        AssertionError: a template rendered a text that differs from the settings; nothing may be written then.
    """
    settings, report = read_keys(content, file)
    entry = check_rules(settings, report)
    if report.errors or entry is None:
        raise Refused(f"{file} cannot be used: {counted(len(report.errors), 'problem')}", report.errors)
    if settings.recipe in RECIPE_NAMES:
        warn_unread(settings, report)
    meant = finetune_config(settings, entry)
    kind = "full fine-tuning" if settings.is_full else "LoRA"
    finetune_yaml = templating.render("finetune.yaml.j2", {"config": meant, "kind": kind}, [TEMPLATES])
    _check_yaml(finetune_yaml, meant)
    finetune_slurm = templating.render("finetune.slurm.j2", script_values(settings, entry), [TEMPLATES])
    _check_slurm(finetune_slurm, script_directives(settings, entry), training_command(settings))
    return Outputs(finetune_yaml, finetune_slurm, tuple(report.findings))


def check_values(values: Mapping[str, Scalar]) -> None:
    """Check typed settings as `build` checks the settings of a file.

    Raises:
        Refused: something in them cannot be honoured; contains every problem.
    """
    plain: dict[KeyPath, str] = {(name,): str(value) for name, value in values.items()}
    settings, report = read_keys(YamlDocument(dict(values), {}, plain), "setup_finetune.yaml")
    check_rules(settings, report)
    if report.errors:
        raise Refused(f"the settings cannot be used: {counted(len(report.errors), 'problem')}", report.errors)


def _check_yaml(text: str, meant: dict[str, Any]) -> None:
    """Raise AssertionError if the text is not the configuration (JSON distinguishes 1, 1.0, true and "1")."""
    if json.dumps(read_yaml(text).data, sort_keys=True) != json.dumps(meant, sort_keys=True):
        raise AssertionError("the text that was rendered with finetune.yaml.j2 differs from the configuration")


def _check_slurm(text: str, directives: list[tuple[str, str]], command: list[str]) -> None:
    """Raise AssertionError if sbatch or the shell would read other directives or another command."""
    if read_back(text) != (directives, command):
        raise AssertionError("the text that was rendered with finetune.slurm.j2 differs from the job")
