"""What may be asked for, and what was: the options of `new`, and their values."""

import itertools
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from scaffold_torchtune.findings import Finding, Scalar, finding
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.pipeline.locate import Document
from scaffold_torchtune.plan import Place, naming
from scaffold_torchtune.shared import recipes
from scaffold_torchtune.shared.parameters import PARAMETERS
from scaffold_torchtune.shared.resources import TEMPLATES

MOST_RUNS: Final = 2_000


class Option(NamedTuple):
    """An option of the command: the parameter that it gives, and whether it may have several values."""

    flag: str
    parameter: str
    metavar: str
    help: str
    many: bool = False


OPTIONS: Final = (
    Option("--name", "experiment_name", "NAME", "name of the experiment; default: that of DIR"),
    Option("--model", "model", "MODEL", "base model; may be repeated", many=True),
    Option("--recipe", "recipe", "NAME", "LoRA or full, or torchtune's name of such a recipe; default: LoRA"),
    Option("--rank", "lora_rank", "N,...", "LoRA ranks", many=True),
    Option("--lr", "lr", "X,...", "learning rates", many=True),
    Option("--batch-size", "batch_size", "N,...", "batch sizes", many=True),
    Option("--epochs", "epochs", "N", "number of epochs"),
    Option("--seed", "seed", "N,...", "seeds", many=True),
    Option("--data", "dataset", "PATH", "data set, .json or .parquet; a relative path is taken from DIR"),
    Option("--system-prompt", "system_prompt", "TEXT", "system prompt, exactly as given"),
    Option("--model-dir", "models_dir", "PATH", "directory that holds the models; a relative path is taken from DIR"),
    Option("--conda-env", "conda_env", "NAME", "conda environment of the jobs"),
    Option("--project", "my_wandb_project", "NAME", "Weights & Biases project; default: the experiment's name"),
    Option("--output-dir", "output_dir_base", "PATH", "where checkpoints go; default: outputs, taken from DIR"),
    Option("--account", "account", "NAME", "SLURM account"),
    Option("--partition", "partition", "NAME", "SLURM partition"),
    Option("--constraint", "constraint", "FEATURES", "SLURM constraint"),
    Option("--qos", "qos", "NAME", "SLURM quality of service"),
    Option("--gpu-type", "gpu_type", "NAME", "type of the GPUs, as SLURM calls it, such as a100"),
    Option("--mail-user", "mail_user", "ADDRESS", "where SLURM's mails about the jobs go"),
    Option("--mail-type", "mail_type", "EVENT,...", "what SLURM writes mails about, such as END,FAIL"),
    Option("--entity", "wandb_entity", "NAME", "Weights & Biases entity: user or team"),
    Option("--time", "time", "H:MM:SS", "time limit of a job"),
    Option("--gpus", "gpus", "N", "GPUs of a job"),
    Option("--module", "modules", "NAME", "module that a job loads; may be repeated", many=True),
)
"""What may be asked for. A value is known by the name of its parameter."""

OPTION: Final = {option.parameter: option for option in OPTIONS}
COLUMNS: Final = {"lora_rank": "LoRA Rank", "lr": "Learning Rate", "batch_size": "Batch Size", "seed": "Seed"}
TRAINING: Final = {
    "recipe": "Recipe",
    "epochs": "Epochs",
    "seed": "Seed",
    "gpus": "GPUs",
    "time": "Time limit",
    "system_prompt": "System prompt",
}
# What only claude.local.md says.
OF_LOCAL: Final = (
    "conda_env", "my_wandb_project", "wandb_entity", "output_dir_base", "account", "partition", "constraint",
    "gpu_type", "qos", "mail_user", "mail_type", "modules",
)  # fmt: skip
# What a run's settings do not hold as it was given.
PLACED: Final = frozenset({"model", "dataset", "models_dir", "output_dir_base", "modules", "recipe"})


@dataclass
class Asked:
    """What was asked for, typed: the values by parameter, the runs that follow from them, and what is wrong.

    `local` is the claude.local.md that was found, and `said` what it says as text; None where one is to be written.
    """

    directory: Path
    control: bool
    local: Document | None = None
    said: dict[str, Field] = field(default_factory=dict)
    values: dict[str, list[Scalar]] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)

    def one(self, name: str) -> Scalar:
        """The value of a parameter that has one; None where it has none."""
        return self.values[name][0] if name in self.values else None

    def is_full(self) -> bool:
        """Whether all weights are to be trained."""
        return recipes.method_of(str(self.one("recipe"))) == recipes.FULL

    def problem(self, code: str, name: str, message: str, fix: str, **found: Scalar) -> None:
        """Note what is wrong with an option."""
        self.problems.append(finding(code, message, field=name, fix=fix, **found))  # type: ignore[arg-type]

    def below(self, name: str) -> str:
        """An absolute path: a relative one is taken from the experiment directory."""
        return posixpath.normpath(posixpath.join(str(self.directory), str(self.one(name))))

    def place(self) -> Place:
        """Where the experiment will be planned."""
        folder = self.local.path.parent if self.local else self.directory
        return Place(str(self.directory), str(folder), str(TEMPLATES), lambda path: Path(path).is_file())

    @property
    def columns(self) -> list[str]:
        """The parameters that are columns of the runs table beside the model. One seed is a line of Configuration."""
        given = {name: len(self.values.get(name, ())) for name in COLUMNS}
        return [name for name, count in given.items() if count > 1 or (count and name != "seed")]

    def rows(self) -> list[tuple[str, dict[str, Scalar]]]:
        """Every fine-tuned run: its name, as `plan` names it, and its parameters."""
        names = ["model", *self.columns]
        rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*(self.values[n] for n in names))]
        varying = naming.varying_parameters(names, rows)
        if varying:
            return list(zip(naming.names_by_varying(varying, rows).names, rows, strict=True))
        usual = {name: PARAMETERS[name].default for name in ("lora_rank", "lr")}
        if self.is_full():
            usual = {"lr": usual["lr"], "recipe": recipes.FULL}
        return [(naming.single_name("", usual | rows[0]), rows[0])]
