"""The parameters of a run: their one name, what people call them, their type and range, and their default.

Names are torchtune's and setup_finetune's. Every key of a setup_finetune.yaml is here. Defaults are those of
cruijff_kit's setup_finetune.py, but for what concerns one site or one package only.
"""

from dataclasses import dataclass
from typing import Final, Literal

from scaffold_torchtune.findings import Scalar

Kind = Literal[
    "int", "float", "bool", "text", "name", "names", "path", "time", "memory",
    "mail", "events", "reservations", "nodes", "tags", "comment",
]  # fmt: skip
"""`name`: letters, digits and `._-`, as account, partition or environment have; `names`: several, by commas. Those of
the second line are told in `job_options.ALLOWED`."""


@dataclass(frozen=True)
class Parameter:
    """One key of setup_finetune.yaml.

    `aliases` are what documents call it, in lower case, words apart by spaces. `minimum` and `maximum` bound numbers,
    inclusive; `above` is an exclusive lower bound. `abbreviation` stands in directory names. `column` says that it may
    be a column of the runs table.
    """

    name: str
    kind: Kind
    aliases: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    default: Scalar = None
    abbreviation: str = ""
    column: bool = True


def _int(name: str, *aliases: str, default: int | None = None, minimum: int = 1, abbreviation: str = "") -> Parameter:
    return Parameter(
        name, "int", aliases, minimum=minimum, maximum=1_000_000_000, default=default, abbreviation=abbreviation
    )


_ALL: Final = (
    # which run, where to
    Parameter("experiment_name", "name", column=False),
    Parameter("my_wandb_project", "name", ("wandb project", "default project", "project"), column=False),
    Parameter("my_wandb_run_name", "name", column=False),
    Parameter("wandb_entity", "name", column=False),
    Parameter("wandb_group", "name"),
    Parameter("wandb_tags", "tags"),
    Parameter("output_dir_base", "path", ("output base directory", "outputs", "output directory"), column=False),
    Parameter("project_dir", "path", column=False),
    # data
    Parameter("input_dir_base", "path", column=False),
    Parameter("input_formatting", "text", column=False),
    Parameter("dataset_label", "name", column=False),
    Parameter("dataset_ext", "text", column=False),
    Parameter("dataset", "path", ("data set", "dataset path", "data", "training data"), abbreviation="data"),
    Parameter("dataset_type", "name", ("data set type",), default="instruct_dataset"),
    Parameter("system_prompt", "text", ("system message",), default="", abbreviation="prompt"),
    Parameter("prompt", "text", ("prompt template",)),
    Parameter("input_key", "name", ("input column",)),
    Parameter("output_key", "name", ("output column",)),
    Parameter("train_on_input", "bool", ("train on inputs",), default=False),
    Parameter("packed", "bool", ("packing", "sample packing"), default=False),
    _int(
        "max_seq_len",
        "max sequence length",
        "maximum sequence length",
        "max seq length",
        "sequence length",
        default=2048,
    ),
    _int("training_samples", "train samples", "samples"),
    # model
    Parameter("model", "name", ("base model", "torchtune model name"), abbreviation=""),
    Parameter("torchtune_model_name", "name", column=False),
    Parameter("model_checkpoint", "name", column=False),
    Parameter("models_dir", "path", ("models directory", "model directory"), column=False),
    # adapter and optimizer
    _int("lora_rank", "rank", "r", default=64, abbreviation="rank"),
    _int("lora_alpha", "alpha"),
    Parameter("lora_dropout", "float", ("dropout",), minimum=0, maximum=0.999_999, default=0.0),
    Parameter(
        "lr",
        "float",
        ("learning rate", "peak lr", "peak learning rate"),
        above=0,
        maximum=10,
        default=1e-4,
        abbreviation="lr",
    ),
    Parameter(
        "lr_scheduler",
        "name",
        ("scheduler", "lr schedule", "learning rate schedule", "learning rate scheduler"),
        default="get_cosine_schedule_with_warmup",
    ),
    _int("num_warmup_steps", "warmup steps", "warm up steps", "warmup", default=100, minimum=0),
    Parameter("weight_decay", "float", ("wd",), minimum=0, maximum=10, default=0.01),
    # training
    _int("batch_size", "batch", "bs", abbreviation="bs"),
    _int("batch_size_val", "validation batch size"),
    _int("epochs", "epoch", "ep", "num epochs", "number of epochs", abbreviation="ep"),
    _int(
        "gradient_accumulation_steps",
        "gradient accumulation",
        "grad accumulation",
        "accumulation steps",
        "grad accum",
        default=1,
    ),
    _int("max_steps_per_epoch", "maximum steps per epoch"),
    _int("seed", "random seed", default=14, minimum=0, abbreviation="seed"),
    _int("log_every_n_steps", "log every", default=1),
    _int("run_val_every_n_steps", "validation every n steps", default=0, minimum=0),
    # checkpoints
    Parameter("save_adapter_weights_only", "bool", ("adapter weights only",), default=False),
    Parameter("save_last_epoch_only", "bool"),
    Parameter("epochs_to_save", "text"),
    Parameter("stash_adapter_weights", "bool"),
    Parameter("resume_from_checkpoint", "bool", ("resume", "resume training")),
    # recipe
    Parameter("recipe", "name", ("method", "fine tuning method", "finetuning method", "training method")),
    Parameter("custom_recipe", "name", column=False),
    Parameter("base_recipe", "text", column=False),
    # SLURM and environment
    Parameter("time", "time", ("time limit", "default time", "walltime", "wall time"), default="00:15:00"),
    _int("gpus", "gpu", "number of gpus", "default gpus", "num gpus", default=1),
    Parameter("mem", "memory", ("memory",)),
    _int("cpus_per_task", "cpus", "cpus per task"),
    Parameter("account", "name", ("slurm account",), column=False),
    Parameter("partition", "name", ("slurm partition",), column=False),
    Parameter("constraint", "text", ("gpu constraint",), column=False),
    Parameter("gpu_type", "name"),
    Parameter("qos", "name", ("quality of service",)),
    Parameter("reservation", "reservations", column=False),
    Parameter("exclude", "nodes", column=False),
    Parameter("requeue", "bool"),
    Parameter("mail_user", "mail", column=False),
    Parameter("mail_type", "events", column=False),
    Parameter("comment", "comment", column=False),
    Parameter("offline", "bool", column=False),
    Parameter("conda_env", "name", ("default conda environment", "conda environment"), column=False),
    Parameter("venv", "path", column=False),
    Parameter("modules", "names", column=False),
)

PARAMETERS: Final = {p.name: p for p in _ALL}
"""Every parameter by name."""

OF_DOCUMENTS: Final = frozenset({"dataset", "model", "recipe"})
"""Names that documents use; no key of setup_finetune.yaml is called so."""

NAMING_ORDER: Final = ("model", "lora_rank", "lr", "batch_size")
"""What comes first in directory names; the rest follows in the table's order."""


NOT_PLANNED: Final = {
    "max steps": "max_steps_per_epoch limits the steps of each epoch, nothing those of all",
    "total steps": "the steps follow from the data, the batch size and the epochs",
    "training steps": "the steps follow from the data, the batch size and the epochs",
    "warmup ratio": "warm-up is planned in steps (num_warmup_steps)",
    "warmup fraction": "warm-up is planned in steps (num_warmup_steps)",
    "warm up ratio": "warm-up is planned in steps (num_warmup_steps)",
    "target modules": "LoRA is applied to q_proj, v_proj, output_proj and the MLP",
    "lora target modules": "LoRA is applied to q_proj, v_proj, output_proj and the MLP",
    "gradient clipping": "gradients are not clipped",
    "max grad norm": "gradients are not clipped",
    "clip grad norm": "gradients are not clipped",
    "quantization": "models are trained in bf16, not quantized",
    "momentum": "the optimizer is AdamW",
    "label smoothing": "the loss is cross-entropy without smoothing",
}
"""What people call hyperparameters that no scaffold can honour, and why: refused, as the runs would be other runs."""


WORDS_OF_TRAINING: Final = frozenset(
    {"lora", "rank", "lr", "learning", "alpha", "batch", "epochs", "warmup", "dropout", "optimizer"}
)
"""Words of labels that are about how a run is trained: a label with one is never read over, whatever else it says."""


def normalize(label: str) -> str:
    """A label as aliases are written: lower case, words apart by single spaces."""
    return " ".join("".join(c if c.isalnum() else " " for c in label.lower()).split())


_BY_LABEL: Final = {normalize(label): p for p in _ALL for label in (p.name, *p.aliases)}


def by_label(label: str) -> Parameter | None:
    """The parameter that a document means by `label` (`LoRA Rank`, `lora_rank`, `r`), or None."""
    return _BY_LABEL.get(normalize(label))


def labels() -> list[str]:
    """Every label that documents may use, for suggestions."""
    return sorted(_BY_LABEL)
