"""What plan hands on: every run with every value that will be written, frozen before anything is."""

import posixpath
from typing import Literal

from pydantic import Field

from scaffold_torchtune.findings import Finding, Scalar
from scaffold_torchtune.models.base import Answer, Model, Setting


class Options(Model):
    """What the operator chose; part of the plan's identity."""

    names: Literal["varying", "table"] = "varying"
    template: str | None = Field(default=None, description="a template file instead of the bundled one")
    setup_script: str = Field(default="bundled", description="'bundled', or the path of a setup_finetune.py")
    answers: dict[str, Scalar] = Field(default={}, description="what the user said when asked, by field")


class PlannedRun(Model):
    """One run directory to be.

    `parameters` are the run's hyperparameters by canonical name (what an experimenter would list: model, lora_rank,
    lr, batch_size, epochs and every other column). `settings` are all keys of its setup_finetune.yaml, in the order
    in which they are written, each with its source. `data_path` is the data set as the document names it. `unwritten`
    are those settings that setup_finetune.yaml does not hold: what an external script does anyway, and has no key for,
    is planned, and proved, all the same. `submitted` are those settings that no file says, but the line that submits
    the run: an external script has no key for them, and SLURM or the job takes them from there. `generation` says which
    generation of cruijff_kit's script makes its files (`2025-11`, `2025-12`, `v0.3.4`); empty for any other script.
    """

    directory: str
    name: str
    line: int
    model: str
    data_path: str
    parameters: dict[str, Scalar]
    settings: dict[str, Setting]
    unwritten: tuple[str, ...] = ()
    submitted: tuple[str, ...] = ()
    generation: str = ""

    def value(self, name: str) -> Scalar:
        """Return a planned value; None where it is not planned."""
        setting = self.settings.get(name)
        return None if setting is None else setting.value

    def text(self, name: str) -> str:
        """Return a planned value as text; '' where it is not planned."""
        found = self.value(name)
        return "" if found is None else str(found)

    def integer(self, name: str, default: int) -> int:
        """Return a planned whole number, or what is taken where none is planned."""
        found = self.value(name)
        return found if isinstance(found, int) else default

    @property
    def checkpoint_dir(self) -> str | None:
        """The directory of the base model, `models_dir/model_checkpoint`, absolute; None where it is not planned."""
        folder, name = self.text("models_dir"), self.text("model_checkpoint") or self.text("torchtune_model_name")
        if name.startswith("/"):
            return posixpath.normpath(name)
        return posixpath.normpath(posixpath.join(folder, name)) if folder and name else None


class Excluded(Model):
    """A row that is not fine-tuned, and why it is left out."""

    name: str
    reason: str


class Plan(Model):
    """The frozen plan of a scaffold.

    `id` is the SHA-256 of everything else but `warnings`. `inputs` maps each input file to the SHA-256 of its bytes.
    `varying` lists the parameter names in naming order; `pattern` shows how directories are named.
    `legend` explains abbreviated free text (`prompt1`) in directory names. `splits` holds, by a data set's absolute
    path, how many samples each of its parts has as the summary says. `answers` are those of
    the user's answers that the plan uses.
    """

    id: str
    version: str
    experiment: str
    experiment_dir: str
    options: Options
    inputs: dict[str, str]
    varying: tuple[str, ...]
    pattern: str
    template: str
    legend: dict[str, str]
    runs: tuple[PlannedRun, ...]
    excluded: tuple[Excluded, ...]
    splits: dict[str, dict[str, int]] = Field(default={})
    answers: tuple[Answer, ...] = ()
    warnings: tuple[Finding, ...] = ()
