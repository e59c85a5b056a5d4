"""Where each setting must arrive in finetune.yaml: a table, and what cannot be said in one.

The places are torchtune 0.6.1's own: what its recipes read of their config and what its components take as arguments.
Nothing here is shared with the code that writes finetune.yaml.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.torchtune_facts import load
from scaffold_torchtune.validate.values import join

SCHEDULERS: Final = "torchtune.training.lr_schedulers."
LOGGER: Final = "torchtune.training.metric_logging.WandBLogger"
CHECKPOINTER: Final = "torchtune.training.FullModelHFCheckpointer"


class Kind(StrEnum):
    """How a value in finetune.yaml is compared with the planned one."""

    SAME = "same"  # same type and value
    NUMBER = "number"  # a float, for which a whole number may stand
    PATH = "path"  # the same path but for duplicate and trailing slashes
    ENDS = "ends"  # text that ends with the planned text, a component of another package
    ABSENT = "absent"  # must not be there (null and the empty text count as absent)
    EPOCHS = "epochs"  # `all`, `none` or a list of numbers
    PRESENT = "present"  # there and not empty
    PARTS = "parts"  # a list of the parts between commas


@dataclass(frozen=True)
class Expectation:
    """One value that must stand in finetune.yaml.

    `setting` is what is planned, `path` the place, `value` what must be there. `absent_is` is the value that torchtune
    takes where the place is empty: it may then be left empty, by the bundled setup_finetune too where `optional`.
    `source_of` names the setting whose source decides on
    leniency where it is another, `note` says what else a finding should tell.
    """

    setting: str
    path: Path
    value: Any
    kind: Kind = Kind.SAME
    absent_is: Any = None
    optional: bool = False
    note: str = ""
    source_of: str | None = None


DIRECT: Final[dict[str, tuple[Path, Kind]]] = {
    "lora_rank": (("model", "lora_rank"), Kind.SAME),
    "lora_dropout": (("model", "lora_dropout"), Kind.NUMBER),
    "lr": (("optimizer", "lr"), Kind.NUMBER),
    "weight_decay": (("optimizer", "weight_decay"), Kind.NUMBER),
    "num_warmup_steps": (("lr_scheduler", "num_warmup_steps"), Kind.SAME),
    "max_seq_len": (("tokenizer", "max_seq_len"), Kind.SAME),
    "my_wandb_project": (("metric_logger", "project"), Kind.SAME),
    "my_wandb_run_name": (("metric_logger", "name"), Kind.SAME),
    "wandb_entity": (("metric_logger", "entity"), Kind.SAME),
    "wandb_group": (("metric_logger", "group"), Kind.SAME),
    "wandb_tags": (("metric_logger", "tags"), Kind.PARTS),
    "batch_size": (("batch_size",), Kind.SAME),
    "batch_size_val": (("batch_size_val",), Kind.SAME),
    "epochs": (("epochs",), Kind.SAME),
    "epochs_to_save": (("epochs_to_save",), Kind.EPOCHS),
    "gradient_accumulation_steps": (("gradient_accumulation_steps",), Kind.SAME),
    "clip_grad_norm": (("clip_grad_norm",), Kind.NUMBER),
    "enable_activation_checkpointing": (("enable_activation_checkpointing",), Kind.SAME),
    "log_every_n_steps": (("log_every_n_steps",), Kind.SAME),
    "max_steps_per_epoch": (("max_steps_per_epoch",), Kind.SAME),
    "save_adapter_weights_only": (("save_adapter_weights_only",), Kind.SAME),
    "save_last_epoch_only": (("save_last_epoch_only",), Kind.SAME),
    "seed": (("seed",), Kind.SAME),
    "stash_adapter_weights": (("stash_adapter_weights",), Kind.SAME),
    "resume_from_checkpoint": (("resume_from_checkpoint",), Kind.SAME),
}
"""Settings that arrive as they are, in one place."""

OF_THE_TRAINING: Final = frozenset({"clip_grad_norm", "dtype", "max_steps_per_epoch", "shuffle"})
"""Places of finetune.yaml with which it is another training, where nobody planned what stands there."""

GROUPED: Final = frozenset(
    {"experiment_name", "lora_alpha", "lr_scheduler", "model_checkpoint", "models_dir", "output_dir_base"}
    | {"project_dir", "torchtune_model_name"}
)
"""Settings that arrive together with others, or changed; see the functions below."""


def is_full(run: PlannedRun) -> bool:
    """Whether the planned recipe is one of torchtune's that train all weights. Any other is taken for LoRA."""
    planned = run.settings.get("custom_recipe")
    facts = load().recipes.get(planned.text) if planned is not None else None
    return facts is not None and not facts.trains_adapter


def direct(run: PlannedRun) -> list[Expectation]:
    """What settings that arrive as they are must have become, and `lora_alpha`, which is 2 x rank unless planned."""
    names = [name for name in run.settings if name in DIRECT and name not in run.submitted]
    found = [Expectation(name, *_place(name, run.settings[name].value)) for name in names]
    rank, alpha = run.settings.get("lora_rank"), run.settings.get("lora_alpha")
    place = ("model", "lora_alpha")
    if alpha is not None:
        found.append(Expectation("lora_alpha", place, alpha.value, Kind.NUMBER))
    elif rank is not None and type(rank.value) is int:
        note = "it must be 2 x lora_rank"
        found.append(Expectation("lora_alpha", place, 2 * rank.value, Kind.NUMBER, note=note, source_of="lora_rank"))
    return found


def _place(name: str, value: Any) -> tuple[Path, Any, Kind]:
    path, kind = DIRECT[name]
    return path, value, kind


def output(run: PlannedRun) -> list[Expectation]:
    """Where the run's output must go: `BASE/EXPERIMENT/ck-out-RUN`, or `PROJECT/EXPERIMENT/RUN/artifacts`."""
    values = {name: setting.value for name, setting in run.settings.items()}
    experiment = str(values.get("experiment_name") or "")
    if values.get("project_dir"):
        setting, parts = "project_dir", [str(values["project_dir"]), experiment, run.directory, "artifacts"]
    elif values.get("output_dir_base"):
        setting, parts = "output_dir_base", [str(values["output_dir_base"]), experiment, f"ck-out-{run.directory}"]
    else:
        return []
    place = join(*parts)
    return [
        Expectation(setting, ("output_dir",), place, Kind.PATH),
        Expectation(setting, ("checkpointer", "output_dir"), place, Kind.PATH),
    ]


def output_dir(run: PlannedRun) -> str | None:
    """The run's output directory, None where it is not planned."""
    return next((str(e.value) for e in output(run)), None)


def model(run: PlannedRun) -> list[Expectation]:
    """What the model must have become: builder, tokenizer, checkpointer, all from torchtune's stock configs."""
    folder = run.checkpoint_dir
    found = [Expectation("model_checkpoint", ("checkpointer", "checkpoint_files"), None, Kind.PRESENT)]
    if folder is not None:
        found.append(Expectation("model_checkpoint", ("checkpointer", "checkpoint_dir"), folder, Kind.PATH))
    name = run.settings.get("torchtune_model_name")
    facts = load().model(name.text) if name is not None else None
    if facts is None:
        return found
    setting = "torchtune_model_name"
    found += [
        Expectation(setting, ("model", "_component_"), facts.full_builder if is_full(run) else facts.lora_builder),
        Expectation(setting, ("tokenizer", "_component_"), facts.tokenizer),
        Expectation(setting, ("checkpointer", "_component_"), CHECKPOINTER),
        Expectation(setting, ("checkpointer", "model_type"), facts.model_type),
    ]
    if folder is not None:
        found += [
            Expectation(setting, ("tokenizer", argument), join(folder, file), Kind.PATH)
            for argument, file in facts.tokenizer_files.items()
        ]
    return found


def other(run: PlannedRun) -> list[Expectation]:
    """The learning rate scheduler, and the logger that takes project and name."""
    found = []
    scheduler = run.settings.get("lr_scheduler")
    if scheduler is not None:
        name = SCHEDULERS + scheduler.text.removeprefix(SCHEDULERS)
        found.append(Expectation("lr_scheduler", ("lr_scheduler", "_component_"), name))
    if "my_wandb_project" in run.settings:
        found.append(Expectation("my_wandb_project", ("metric_logger", "_component_"), LOGGER))
    return found
