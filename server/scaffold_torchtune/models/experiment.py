"""What parse hands on: the experiment as its documents describe it, typed, with the source of every value."""

from typing import Literal

from pydantic import Field

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models.base import Answer, Model, RunType, Setting, Value, Values

SummaryForm = Literal["markdown", "yaml"]


class Run(Model):
    """One row of the runs table.

    `parameters` holds the row's own cells by canonical name (`lora_rank`, `lr`, `dataset`, ...), typed. A cell that is
    empty or a dash is absent.
    """

    name: str
    type: RunType
    model: str
    parameters: Values
    line: int


class Dataset(Model):
    """A data set: `path` as written, `label` its stem, `extension` with its dot (`.json`)."""

    path: Value
    label: str
    extension: str
    splits: dict[str, int]


class ModelPath(Model):
    """A base model and the directory that holds its checkpoint."""

    name: str
    path: Value


class Experiment(Model):
    """Everything that the two documents say about the experiment.

    `columns` are the canonical names of the parameter columns in the table's order. `config` holds the Configuration
    section by canonical name. `environment` holds claude.local.md (`conda_env`, `output_dir_base`,
    `my_wandb_project`, `scratch_dir`, `account`, `partition`, `constraint`, `time`, `gpus`, `modules`, `models_dir`,
    `working_dir`, ...); what is unset is absent. `template` holds what the operator's plain YAML template gives by key
    of setup_finetune.yaml, for where the documents say nothing; `template_others` has those of its keys that only an
    external script can know. `answers` are those values that no document gives and the user was asked for.
    """

    name: str
    form: SummaryForm = "markdown"
    summary_file: str
    local_file: str
    columns: tuple[str, ...]
    runs: tuple[Run, ...]
    dataset: Dataset | None
    models: tuple[ModelPath, ...]
    config: dict[str, Setting]
    environment: dict[str, Setting]
    template: dict[str, Setting] = Field(default={})
    template_others: dict[str, Setting] = Field(default={})
    answers: tuple[Answer, ...] = ()
    warnings: tuple[Finding, ...] = ()
