"""What may be asked for, and what was: the options of `new`, and their values."""

import itertools
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Scalar, finding
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.pipeline.locate import Document
from scaffold_torchtune.plan import Place, naming
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.parameters import OF_LOCAL, PARAMETERS
from scaffold_torchtune.shared.resources import TEMPLATES

MOST_RUNS: Final = 2_000


_ORDER: Final = (
    "experiment_name", "model", "recipe", "lora_rank", "lr", "batch_size", "epochs", "seed", "dataset",
    "system_prompt", "models_dir", "conda_env", "my_wandb_project", "output_dir_base", "account", "partition",
    "constraint", "qos", "gpu_type", "mail_user", "mail_type", "wandb_entity", "time", "gpus", "modules",
)  # fmt: skip
_FOUND: Final = {name: p.option for name, p in PARAMETERS.items() if p.option is not None}

OPTIONS: Final = {name: _FOUND[name] for name in sorted(_FOUND, key=(*_ORDER, *_FOUND).index)}
"""What may be asked for, by parameter: what people need first stands first, the rest in the parameters' order."""

COLUMNS: Final = {name: option.label for name, option in OPTIONS.items() if option.label and option.many}
_LINES: Final = ("recipe", "epochs", "seed", "gpus", "time", "system_prompt")
TRAINING: Final = {
    name: option.label
    for name in (*_LINES, *OPTIONS)
    if (option := OPTIONS[name]).label and (name not in COLUMNS or name == "seed")
}
"""The lines of Configuration. One seed is such a line, several are a column."""

ONLY_LOCAL: Final = tuple(name for name in OPTIONS if name in OF_LOCAL.keys() - {"models_dir"} - TRAINING.keys())
"""What only claude.local.md says."""

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
