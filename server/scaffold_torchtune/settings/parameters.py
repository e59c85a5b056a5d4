"""The table of the parameters of a run, from which everything else is derived.

Names are those of torchtune and setup_finetune, in the order of setup_finetune.yaml. Defaults are those of
cruijff_kit's setup_finetune.py, except for those that apply to one site or one package only.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from scaffold_torchtune.findings import Scalar, close_matches
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import UNBOUNDED, Bounds, ValueKind


@dataclass(frozen=True)
class LocalLabels:
    """The labels of a parameter in claude.local.md, normalized, by the sections in which they are read.

    `anywhere`: in any section. `unless_of_others`: in sections that are not about another service. `of_jobs`: in
    sections about jobs. `within`: in sections about one of several topics, which are separated by spaces.
    """

    anywhere: tuple[str, ...] = ()
    unless_of_others: tuple[str, ...] = ()
    of_jobs: tuple[str, ...] = ()
    within: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class NewOption:
    """An option of `new`, which may have several values if `many`.

    `label` is its label in the summary that `new` writes; an option without one is in claude.local.md, or
    handled separately.
    """

    flag: str
    metavar: str
    help: str
    many: bool = False
    label: str = ""


@dataclass(frozen=True)
class Parameter:
    """One key of setup_finetune.yaml, or a name that documents use for several of them.

    Attributes:
        name: its only name.
        kind: the kind of its values.
        aliases: other labels in documents, normalized.
        words: aliases that may also be ordinary words of a text outside sections with settings.
        bounds: the bounds of a number.
        usual: the bounds of a number in usual fine-tuning; a value outside of them is probably a typo.
        default: the value if no document gives one.
        abbreviation: its name in the names of directories.
        column: may be a column of the table of runs, and a line of Configuration.
        common: Configuration may give it for all runs, although no column may.
        optional: words such as `off` mean that a run has none; in a cell, they override the value that all runs share.
        none: the value for `none`, if the default is another one.
        key: is a key of setup_finetune.yaml; the plan converts other parameters to keys, or compares them with keys.
        scope: affects the training itself, where and how it is computed, or identifies the run and the experiment;
            everything that claude.local.md may give is part of the surroundings.
        local: its labels in claude.local.md, if that may give it.
        adopted: the default of an external script is planned, although this table has none.
        submit_as: the sbatch option or environment variable that passes it to a job, if a script has no option for it.
        warn_unread: a line with its name is a warning in sections without settings.
        option: the option of `new`.
        question: the question to the user if it is missing.
    """

    name: str
    kind: ValueKind
    aliases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    bounds: Bounds = UNBOUNDED
    usual: Bounds = UNBOUNDED
    default: Scalar = None
    abbreviation: str = ""
    column: bool = True
    common: bool = False
    optional: bool = False
    none: str = ""
    key: bool = True
    scope: Literal["training", "surroundings", "experiment"] = "training"
    local: LocalLabels | None = None
    adopted: bool = False
    submit_as: str = ""
    warn_unread: bool = False
    option: NewOption | None = None
    question: str = ""

    def read(self, text: str) -> Scalar:
        """Return the value of a text.

        Raises:
            NotTyped: the text is not a clear value of this kind.
        """
        return kinds.read(self.kind, text, self.bounds)


_COUNT: Final = Bounds(minimum=1, maximum=1_000_000_000)
_FROM_ZERO: Final = Bounds(minimum=0, maximum=1_000_000_000)
_WHERE_JOBS_ARE: Final = "top slurm machine defaults general"

_ALL: Final = (
    # which run, where to
    Parameter(
        "experiment_name", "label", column=False, scope="experiment",
        option=NewOption("--name", "NAME", "name of the experiment; default: the name of DIR"),
        question="What is the name of the experiment? (letters, digits, . _ -)",
    ),
    Parameter(
        "my_wandb_project", "name", ("wandb project", "default project", "project"), column=False,
        local=LocalLabels(
            anywhere=(
                "my wandb project", "wandb project", "w b project", "weights biases project",
                "weights and biases project",
            ),
            unless_of_others=("default project",), within={"wandb": ("project",)},
        ),
        option=NewOption("--project", "NAME", "Weights & Biases project; default: the experiment's name"),
        question="Which Weights & Biases project should the runs log to? (name of the project)",
    ),
    Parameter("my_wandb_run_name", "label", column=False, scope="experiment"),
    Parameter(
        "wandb_entity", "name", ("w b entity", "weights biases entity", "weights and biases entity"), column=False,
        common=True,
        local=LocalLabels(
            anywhere=("wandb entity", "w b entity", "weights biases entity", "weights and biases entity"),
            within={"wandb": ("entity",)},
        ),
        submit_as="WANDB_ENTITY", option=NewOption("--entity", "NAME", "Weights & Biases entity: user or team"),
    ),
    Parameter(
        "wandb_group", "name", ("w b group", "weights biases group"),
        local=LocalLabels(anywhere=("wandb group", "w b group"), within={"wandb": ("group", "run group")}),
        submit_as="WANDB_RUN_GROUP",
    ),
    Parameter(
        "wandb_tags", "tags", ("w b tags", "weights biases tags"),
        local=LocalLabels(anywhere=("wandb tags", "w b tags"), within={"wandb": ("tags",)}),
        submit_as="WANDB_TAGS",
    ),
    Parameter(
        "wandb_mode", "wandb_mode",
        ("w b mode", "weights biases mode", "weights and biases mode", "wandb logging mode", "w b logging mode"),
        default="offline", warn_unread=True,
        local=LocalLabels(
            anywhere=(
                "wandb mode", "w b mode", "weights biases mode", "weights and biases mode", "wandb offline",
                "w b offline", "wandb online", "w b online", "use wandb", "use w b", "wandb logging", "w b logging",
                "wandb enabled", "wandb disabled", "disable wandb", "w b disabled",
            ),
            within={
                "wandb": (
                    "mode", "logging mode", "offline", "offline mode", "online", "online mode", "enabled", "disabled",
                    "logging",
                )
            },
        ),
        option=NewOption("--wandb-mode", "MODE", "W&B mode: online, offline or disabled", label="W&B mode"),
    ),
    Parameter(
        "output_dir_base", "path", ("output base directory", "outputs", "output directory"), column=False,
        local=LocalLabels(
            anywhere=("output dir base", "output base directory", "output base dir", "base output directory"),
            unless_of_others=("outputs", "output directory", "output dir"),
        ),
        option=NewOption("--output-dir", "PATH", "directory for checkpoints; default: DIR/outputs"),
        question="In which directory should the outputs of the runs be stored? (absolute path)",
    ),
    Parameter("project_dir", "path", column=False, scope="experiment"),
    # data
    Parameter("input_dir_base", "pattern_free_path", column=False, scope="experiment"),
    Parameter("input_formatting", "folder", column=False, scope="experiment"),
    Parameter("dataset_label", "label", column=False, scope="experiment"),
    Parameter("dataset_ext", "extension", column=False, scope="experiment"),
    Parameter(
        "dataset", "pattern_free_path", ("data set", "dataset path", "data", "training data"), abbreviation="data",
        key=False,
        option=NewOption("--data", "PATH", "data set, .json or .parquet"),
        question="Which file contains the data set? (path of a .json or .parquet file)",
    ),
    Parameter("dataset_type", "name", ("data set type",), default="instruct_dataset", warn_unread=True),
    Parameter(
        "training_samples", "int",
        (
            "train samples", "samples", "max samples", "max train samples", "train size", "training size", "n train",
            "train set size", "training set size", "n samples", "num samples", "number of samples", "training examples",
            "train examples", "num train samples", "num training samples", "number of training samples",
        ),
        bounds=_COUNT, optional=True,
    ),
    Parameter(
        "system_prompt", "text", ("system message",), default="", abbreviation="prompt", warn_unread=True,
        option=NewOption("--system-prompt", "TEXT", "system prompt, used exactly as given", label="System prompt"),
    ),
    Parameter("prompt", "text", ("prompt template",), adopted=True, warn_unread=True),
    Parameter("input_key", "name", ("input column", "dataset text field", "text column"), adopted=True),
    Parameter("output_key", "name", ("output column",), adopted=True),
    Parameter("train_on_input", "bool", ("train on inputs",), default=False, warn_unread=True),
    Parameter("packed", "bool", ("sample packing",), words=("packing",), default=False, warn_unread=True),
    Parameter(
        "max_seq_len", "int",
        (
            "max sequence length", "maximum sequence length", "max seq length", "sequence length", "cutoff len",
            "cutoff length", "sequence len", "seq len", "max len", "max length", "seq length", "context length",
            "context window", "context size", "block size", "max context length", "maximum length",
        ),
        bounds=_COUNT, usual=Bounds(minimum=32, maximum=131_072), default=2048, warn_unread=True,
    ),
    # model
    Parameter(
        "model", "name", ("base model",), key=False,
        option=NewOption("--model", "MODEL", "base model; may be repeated", many=True),
    ),
    Parameter("torchtune_model_name", "name", column=False, scope="experiment"),
    Parameter("model_checkpoint", "name", column=False, scope="experiment"),
    Parameter(
        "models_dir", "path", ("models directory", "model directory"), column=False,
        local=LocalLabels(anywhere=("models directory", "models dir", "model directory")),
        option=NewOption("--model-dir", "PATH", "directory with the models; a relative path is resolved against DIR"),
        question="In which directory are the base models? (absolute path)",
    ),
    Parameter("checkpoint_files", "files", column=False, scope="surroundings"),
    # adapter and optimizer
    Parameter(
        "lora_rank", "int", ("lora r",), words=("rank", "r"), bounds=_COUNT, usual=Bounds(maximum=1024), default=64,
        abbreviation="rank", warn_unread=True,
        option=NewOption("--rank", "N,...", "LoRA ranks", many=True, label="LoRA Rank"),
    ),
    Parameter("lora_alpha", "int", words=("alpha",), bounds=_COUNT, usual=Bounds(maximum=2048), warn_unread=True),
    Parameter(
        "lora_alpha_ratio", "float",
        (
            "alpha ratio", "alpha rank ratio", "alpha to rank ratio", "alpha rank", "lora alpha rank", "alpha r",
            "lora alpha r", "alpha x rank", "lora alpha x rank", "alpha x lora rank", "lora alpha x lora rank",
            "alpha x r", "alpha factor", "alpha multiplier",
        ),
        bounds=Bounds(above=0, maximum=1024), key=False, warn_unread=True,
    ),
    Parameter(
        "lora_attn_modules", "projections", ("lora attention modules", "lora projections"),
        default="q_proj,v_proj,output_proj", warn_unread=True,
        option=NewOption(
            "--lora-attn-modules", "NAME,...", "attention modules to train with LoRA: q_proj, v_proj, ...",
            label="LoRA attention modules",
        ),
    ),
    Parameter(
        "apply_lora_to_mlp", "bool", ("lora on mlp", "lora to mlp", "apply lora to the mlp"), default=True,
        warn_unread=True,
        option=NewOption("--apply-lora-to-mlp", "yes|no", "apply LoRA to the MLP", label="Apply LoRA to MLP"),
    ),
    Parameter(
        "apply_lora_to_output", "bool", ("lora on output", "lora to output", "apply lora to the output"), default=False,
        warn_unread=True,
        option=NewOption(
            "--apply-lora-to-output", "yes|no", "apply LoRA to the output layer, if it has its own weights",
            label="Apply LoRA to output",
        ),
    ),
    Parameter(
        "target_modules", "projections",
        ("lora target modules", "lora modules", "lora targets", "lora layers", "lora target"),
        key=False, warn_unread=True,
    ),
    Parameter(
        "lora_dropout", "float", none="0", words=("dropout",), bounds=Bounds(minimum=0, maximum=0.999_999),
        usual=Bounds(maximum=0.5), default=0.0, warn_unread=True,
    ),
    Parameter(
        "lr", "float", ("learning rate", "peak lr", "peak learning rate"), bounds=Bounds(above=0, maximum=10),
        usual=Bounds(minimum=1e-7, maximum=1e-2), default=1e-4, abbreviation="lr", warn_unread=True,
        option=NewOption("--lr", "X,...", "learning rates", many=True, label="Learning Rate"),
    ),
    Parameter(
        "lr_scheduler", "name", (
            "lr schedule", "learning rate schedule", "learning rate scheduler", "lr scheduler type",
            "learning rate scheduler type", "scheduler type", "lr decay", "lr decay style", "learning rate decay",
            "decay schedule", "schedule type",
        ),
        words=("scheduler",), default="get_cosine_schedule_with_warmup", warn_unread=True,
    ),
    Parameter(
        "num_warmup_steps", "int", ("warmup steps", "warm up steps", "lr warmup steps"),
        words=("warmup", "warm up"), none="0", bounds=_FROM_ZERO,
        usual=Bounds(maximum=10_000), default=100, warn_unread=True,
        option=NewOption("--warmup-steps", "N", "number of warm-up steps", label="Warmup steps"),
    ),
    Parameter(
        "warmup_ratio", "float", ("warm up ratio", "warmup fraction", "warm up fraction", "warmup proportion"),
        none="0", bounds=Bounds(minimum=0, maximum=1), key=False, warn_unread=True,
        option=NewOption("--warmup-ratio", "X", "fraction of steps for warm-up, such as 0.03", label="Warmup ratio"),
    ),
    Parameter(
        "weight_decay", "float", ("wd",), none="0", bounds=Bounds(minimum=0, maximum=10), usual=Bounds(maximum=0.5),
        default=0.01, warn_unread=True,
    ),
    # training
    Parameter(
        "batch_size", "int",
        (
            "per device batch size", "batch size per device", "batch size per gpu", "per gpu batch size",
            "micro batch size", "per device train batch size",
        ),
        words=("batch", "bs"), bounds=_COUNT, usual=Bounds(maximum=1024), abbreviation="bs",
        warn_unread=True,
        option=NewOption("--batch-size", "N,...", "batch sizes", many=True, label="Batch Size"),
        question="Which batch size should the runs use?",
    ),
    Parameter(
        "effective_batch_size", "int",
        (
            "effective batch", "eff batch size", "eff batch", "total batch size", "total batch", "global batch size",
            "global batch", "eff bs", "effective bs", "global bs", "total bs",
            "batch size effective", "batch size total", "batch size global",
        ),
        bounds=_COUNT, key=False, warn_unread=True,
    ),
    Parameter(
        "batch_size_val", "int", ("validation batch size", "eval batch size", "per device eval batch size"),
        bounds=_COUNT, optional=True,
    ),
    Parameter(
        "epochs", "int",
        ("ep", "num epochs", "number of epochs", "num train epochs", "train epochs", "training epochs"),
        words=("epoch",), bounds=_COUNT,
        usual=Bounds(maximum=200), abbreviation="ep",
        warn_unread=True, option=NewOption("--epochs", "N", "number of epochs", label="Epochs"),
        question="For how many epochs should the runs train?",
    ),
    Parameter(
        "gradient_accumulation_steps", "int",
        (
            "gradient accumulation", "grad accumulation", "accumulation steps", "grad accum", "grad accum steps",
            "grad acc", "grad acc steps", "ga steps", "accumulation", "accum", "accum steps", "gas",
        ),
        words=("ga",), bounds=_COUNT,
        usual=Bounds(maximum=512), default=1,
        warn_unread=True,
    ),
    Parameter(
        "clip_grad_norm", "float", (
            "gradient clipping", "max grad norm", "max gradient norm", "gradient clip", "grad clip", "grad clipping",
            "gradient norm clipping", "grad norm clip", "clip norm", "gradient clip norm",
        ),
        words=("clip",), bounds=Bounds(above=0, maximum=1_000_000),
        usual=Bounds(minimum=0.01, maximum=100),
        optional=True, warn_unread=True,
    ),
    Parameter(
        "max_steps_per_epoch", "int", ("maximum steps per epoch",), bounds=_COUNT, optional=True, warn_unread=True
    ),
    Parameter(
        "seed", "int", ("random seed", "random state"), bounds=_FROM_ZERO, default=14, abbreviation="seed",
        warn_unread=True,
        option=NewOption("--seed", "N,...", "seeds", many=True, label="Seed"),
    ),
    Parameter(
        "enable_activation_checkpointing", "bool", ("activation checkpointing", "gradient checkpointing"),
        scope="surroundings",
    ),
    Parameter(
        "log_every_n_steps", "int", ("log every", "logging steps"), bounds=_COUNT, default=1, scope="surroundings"
    ),
    Parameter("run_val_every_n_steps", "int", ("validation every n steps",), none="0", bounds=_FROM_ZERO, default=0),
    # checkpoints
    Parameter("save_adapter_weights_only", "bool", ("adapter weights only",), default=False),
    Parameter("save_last_epoch_only", "bool", adopted=True),
    Parameter("epochs_to_save", "text", adopted=True),
    Parameter("stash_adapter_weights", "bool", adopted=True),
    Parameter("resume_from_checkpoint", "bool", ("resume", "resume training"), scope="surroundings"),
    # SLURM and environment
    Parameter(
        "conda_env", "name", ("default conda environment", "conda environment"), column=False, common=True,
        local=LocalLabels(
            anywhere=("conda env", "conda environment"),
            within={f"{_WHERE_JOBS_ARE} conda modules": ("conda",), "slurm conda": ("environment", "env")},
        ),
        option=NewOption("--conda-env", "NAME", "conda environment for the jobs"),
        question="Which conda environment should the jobs activate? (name of the environment)",
    ),
    Parameter("venv", "path", column=False),
    Parameter(
        "modules", "modules", column=False, common=True, local=LocalLabels(anywhere=("modules",)),
        option=NewOption("--module", "NAME", "module that a job loads; may be repeated", many=True),
    ),
    Parameter(
        "time", "time", ("time limit", "default time", "walltime", "wall time"), default="00:15:00",
        local=LocalLabels(of_jobs=("time", "time limit", "timelimit", "walltime", "wall time")),
        option=NewOption("--time", "H:MM:SS", "time limit per job", label="Time limit"),
    ),
    Parameter(
        "gpus", "int", ("gpu", "number of gpus", "default gpus", "num gpus"), bounds=_COUNT, usual=Bounds(maximum=16),
        default=1,
        local=LocalLabels(of_jobs=("gpus", "gpu", "number of gpus", "num gpus", "gres")),
        option=NewOption("--gpus", "N", "number of GPUs per job", label="GPUs"),
    ),
    Parameter(
        "nodes", "int", ("node", "number of nodes", "num nodes", "nnodes", "node count", "default nodes"),
        bounds=_COUNT, key=False, scope="surroundings", warn_unread=True,
        local=LocalLabels(within={"slurm top defaults": ("nodes", "number of nodes", "num nodes", "node count")}),
    ),
    Parameter(
        "gpu_type", "gpu_type", local=LocalLabels(of_jobs=("gpu type",)), submit_as="--gres",
        option=NewOption("--gpu-type", "NAME", "GPU type as named in SLURM, such as a100"),
    ),
    Parameter("mem", "memory", ("memory",), local=LocalLabels(of_jobs=("mem", "memory"))),
    Parameter(
        "cpus_per_task", "int", ("cpus",), bounds=_COUNT,
        local=LocalLabels(of_jobs=("cpus", "cpu", "cpus per task", "number of cpus")),
    ),
    Parameter(
        "account", "name", ("slurm account",), column=False, common=True, local=LocalLabels(of_jobs=("account",)),
        option=NewOption("--account", "NAME", "SLURM account"),
    ),
    Parameter(
        "partition", "name", ("slurm partition",), column=False, common=True, local=LocalLabels(of_jobs=("partition",)),
        option=NewOption("--partition", "NAME", "SLURM partition"),
    ),
    Parameter(
        "constraint", "constraint", ("gpu constraint",), column=False, common=True,
        local=LocalLabels(of_jobs=("constraint", "constraints", "gpu constraint")),
        option=NewOption("--constraint", "FEATURES", "SLURM constraint"),
    ),
    Parameter(
        "qos", "name", ("quality of service",), local=LocalLabels(of_jobs=("qos", "quality of service")),
        submit_as="--qos", option=NewOption("--qos", "NAME", "SLURM quality of service"),
    ),
    Parameter(
        "reservation", "reservations", column=False, common=True, local=LocalLabels(of_jobs=("reservation",)),
        submit_as="--reservation",
    ),
    Parameter(
        "exclude", "nodes", column=False, common=True,
        local=LocalLabels(of_jobs=("exclude", "exclude nodes", "excluded nodes", "nodes to exclude")),
        submit_as="--exclude",
    ),
    Parameter("requeue", "bool", local=LocalLabels(of_jobs=("requeue",)), submit_as="--requeue"),
    Parameter(
        "mail_user", "mail", column=False, common=True,
        local=LocalLabels(
            anywhere=("mail user",),
            within={  # an address among contacts is nobody's whom jobs should write to
                "slurm": (
                    "mail", "email", "e mail", "mail address", "email address", "mail to", "notify",
                    "notification email",
                )
            },
        ),
        submit_as="--mail-user", option=NewOption("--mail-user", "ADDRESS", "address for SLURM's emails about jobs"),
    ),
    Parameter(
        "mail_type", "events", column=False, common=True,
        local=LocalLabels(
            anywhere=("mail type",),
            within={
                "slurm": (
                    "mail types", "email type", "email types", "mail events", "email events", "email on", "mail on",
                    "notify on",
                )
            },
        ),
        submit_as="--mail-type",
        option=NewOption("--mail-type", "EVENT,...", "events that SLURM reports by email, such as END,FAIL"),
    ),
    Parameter(
        "comment", "comment", column=False, local=LocalLabels(within={"slurm": ("comment", "job comment")}),
        submit_as="--comment",
    ),
    Parameter(
        "offline", "bool", ("compute nodes offline", "compute nodes are offline", "compute nodes have no internet"),
        column=False, common=True,
        local=LocalLabels(
            anywhere=("compute nodes offline", "compute nodes are offline", "compute nodes have no internet"),
            within={_WHERE_JOBS_ARE: ("offline", "offline mode")},
        ),
        submit_as="WANDB_MODE",
    ),
    # recipe
    Parameter(
        "recipe", "name",
        (
            "method", "fine tuning method", "finetuning method", "training method", "peft method", "peft type", "peft",
            "adapter type", "fine tuning type", "finetuning type", "tuning method", "training type",
            "fine tuning approach", "training approach", "fine tuning strategy", "fine tuning technique",
            "finetune method", "fine tune method", "training recipe", "fine tuning recipe", "torchtune recipe",
        ),
        key=False, warn_unread=True,
        option=NewOption(
            "--recipe", "NAME", "LoRA, full, or the name of a recipe for one of them; default: LoRA", label="Recipe",
        ),
    ),
    Parameter(
        "plan_cancelled_runs", "bool", column=False, key=False, scope="experiment",
        question="Should runs that are marked as cancelled or struck out be planned anyway? (yes or no)",
    ),
    Parameter("custom_recipe", "recipe", column=False),
    Parameter("base_recipe", "recipe", column=False, common=True),
)  # fmt: skip

PARAMETERS: Final = {p.name: p for p in _ALL}
"""Every parameter by name."""

SUBJECTS: Final = {
    "experiment_name": "experiment", "input_dir_base": "data", "model": "model", "lora_rank": "adapter and optimizer",
    "batch_size": "training", "conda_env": "job", "recipe": "recipe",
}  # fmt: skip
"""The subjects of the table, by the parameter with which each begins."""

KEYS: Final = {name: p for name, p in PARAMETERS.items() if p.key}
"""Every key of setup_finetune.yaml, in the order in which it is written."""

OF_LOCAL: Final = {name: p for name, p in PARAMETERS.items() if p.local is not None}
"""The parameters that claude.local.md may give."""

DIRECTORIES: Final = {
    "scratch_dir": Parameter("scratch_dir", "path", local=LocalLabels(anywhere=("scratch dir", "scratch directory"))),
    "working_dir": Parameter("working_dir", "path", local=LocalLabels(anywhere=("working directory", "working dir"))),
}
"""The settings that claude.local.md may give but no run has."""

SURROUNDINGS: Final = OF_LOCAL.keys() | {name for name, p in PARAMETERS.items() if p.scope == "surroundings"}
"""The parameters of the place and manner of computation, which do not affect the training itself."""

ADOPTED: Final = frozenset(name for name, p in KEYS.items() if p.adopted or p.default not in {None, ""})
"""The parameters for which the default of an external script is planned."""

SUBMITTED: Final = {name: p.submit_as for name, p in PARAMETERS.items() if p.submit_as}
"""The option of sbatch or environment variable of each parameter that the submit line can pass."""

NAMING_ORDER: Final = ("model", "lora_rank", "lr", "batch_size")
"""The parameters that come first in names of directories; the others follow in the order of the table."""

OF_CONFIGURATION: Final = frozenset({"plan_cancelled_runs"})
"""The parameters that Configuration may give but no run has."""

WORDS_OF_TRAINING: Final = frozenset(
    {"lora", "rank", "lr", "learning", "alpha", "batch", "epochs", "warmup", "dropout", "optimizer"}
)
"""Words of labels about training: a label with one of them is never skipped."""


@functools.lru_cache(maxsize=2048)  # the same labels are asked for again and again
def normalize(label: str) -> str:
    """Return a label in normalized form: lower case, words separated by single spaces, Greek alpha as its name."""
    if not label.isascii():
        label = unicodedata.normalize("NFKC", label).replace("α", " alpha ")
    return " ".join("".join(c if c.isalnum() else " " for c in label.lower()).split())


_LIKELY_MISSPELT: Final = 0.8
_BY_LABEL = {normalize(label): p for p in _ALL for label in (p.name, *p.aliases, *p.words)}
_OF_JOBS: Final = frozenset(name for name, p in _BY_LABEL.items() if p.name in {"time", "gpus", "mem", "cpus_per_task"})
# `Time per run` may be an estimate.
_BY_LABEL |= {f"{label} per {each}": _BY_LABEL[label] for label in _OF_JOBS - {"time"} for each in ("run", "job")}
_LABELS: Final = tuple(sorted(_BY_LABEL))
_LONGEST_LABEL: Final = 80
_OF_GRIDS: Final = frozenset({"seed", "lora_rank", "lora_alpha", "lr", "batch_size", "lora_dropout", "weight_decay"})


def by_label(label: str) -> Parameter | None:
    """Return the parameter with a label (`LoRA Rank`, `lora_rank`, `r`), or None."""
    return _BY_LABEL.get(normalize(label))


_REPLICATES: Final = frozenset({"replicates", "replications", "repeats", "repetitions", "replicas"})
_HOW_MANY: Final = re.compile(
    r"(?:(?:the )?(?:number|no) of |n |num )?(?P<what>.+?)(?: (?:per|for each|in each) .+| each)?"
)

_RUNS_OF_A_CONDITION: Final = re.compile(r"runs per (?:condition|cell|setting|configuration|combination|arm|point)")


def by_plural(label: str) -> Parameter | None:
    """Return the parameter for a label of several values, or of their number: `Learning rates`, `Seeds per cell`."""
    match = _HOW_MANY.fullmatch(normalize(label)[:_LONGEST_LABEL])
    words = match["what"].split() if match else []
    if " ".join(words) in _REPLICATES or _RUNS_OF_A_CONDITION.fullmatch(normalize(label)):
        return PARAMETERS["seed"]
    if not words or not words[-1].endswith("s") or " ".join(words) in _BY_LABEL:
        return None
    found = _BY_LABEL.get(" ".join([*words[:-1], words[-1][:-1]]))
    return found if found is not None and found.name in _OF_GRIDS else None


def nearest_label(label: str) -> str | None:
    """Return the known label that is most similar to another; None without one, and for a label that is known."""
    if by_label(label) is not None:
        return None
    return next(iter(close_matches(normalize(label), _LABELS, limit=1, cutoff=_LIKELY_MISSPELT)), None)


_APART: Final = re.compile(r"[\s#]")

OFFLINE: Final = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1") | {
    "WANDB_MODE": "offline"
}
"""The variables with which a job does not wait for the internet on a node without it."""

# A type of GPU is part of another option, requeue is a flag that has an opposite, offline is several variables.
_PLAINLY_SUBMITTED: Final = {
    name: text for name, text in SUBMITTED.items() if name not in {"gpu_type", "requeue", "offline"}
}


def directives(values: Mapping[str, Scalar]) -> list[tuple[str, str]]:
    """Return the sbatch options of the settings that have a value, as (name, value); the value of a flag is empty.

    A GPU type is not an option of its own: it is part of `gres`.
    """
    options = [(name, text.removeprefix("--")) for name, text in _PLAINLY_SUBMITTED.items() if text.startswith("--")]
    found = [(option, str(values[name])) for name, option in options if values.get(name)]
    requeue = values.get("requeue")
    return found if requeue is None else [*found, ("requeue" if requeue else "no-requeue", "")]


def variables(values: Mapping[str, Scalar]) -> dict[str, str]:
    """Return the environment variables of the settings that have a value, by name.

    wandb.init reads its own (wandb's documentation, "Environment variables"); an argument overrides them.
    """
    names = {text: name for name, text in _PLAINLY_SUBMITTED.items() if not text.startswith("--")}
    found = {variable: str(values[name]) for variable, name in names.items() if values.get(name)}
    return found | (OFFLINE if values.get("offline") is True else {})


def gres(gpus: Scalar, gpu_type: Scalar) -> str:
    """Return the value of `--gres`: `gpu:2`, or `gpu:a100:2`."""
    return f"gpu:{gpu_type}:{gpus}" if gpu_type else f"gpu:{gpus}"


def line(name: str, value: str) -> str:
    """Return an option for an #SBATCH line. A value that sbatch would split is quoted; no value contains quotes."""
    if not value:
        return f"--{name}"
    return f'--{name}="{value}"' if _APART.search(value) else f"--{name}={value}"


def column_label(parameter: Parameter) -> str:
    """Return the label of a column of the table of runs as `new` writes it."""
    label = parameter.option.label if parameter.option else ""
    return "Model" if parameter.name == "model" else label or parameter.name
