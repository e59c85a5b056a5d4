"""The form of experiment_summary.yaml, as cruijff_kit v0.3.4 writes it: what it may hold, and its JSON Schema.

Sections and keys that are not ours (evaluation, data generation, tools) are taken in any shape and left alone.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

Value = Annotated[Any, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
"""A single value. The reader types it by its parameter, and says what is wrong with it there."""


class Form(BaseModel):
    """A part of the form. Keys that it does not know are looked at by the reader."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


class ExperimentForm(Form):
    """`experiment`: which experiment this is."""

    name: str = Field(description="name of the experiment: letters, digits, '.', '_' and '-'")
    dir: str | None = Field(default=None, description="the directory that holds this file")
    project: Any = Field(default=None, description="blueprint that the experiment follows; not used here")
    question: Any = None
    date: Any = None
    hypothesis: Any = None
    purpose: Any = None


class ModelForm(Form):
    """An entry of `models.base`: a base model and where its checkpoint lies."""

    name: str = Field(description="name of the model, as the runs call it")
    path: str = Field(description="directory that holds its checkpoint")
    size_gb: Value = None


class ModelsForm(Form):
    """`models`: the base models."""

    base: list[ModelForm] = Field(default_factory=list)


class TrainingDataForm(Form):
    """`data.training`: the data set that runs are trained on, and settings of it that may stand in `controls` too."""

    path: str = Field(description="the data set, a .json or .parquet file")
    dataset_label: Value = Field(default=None, description="the file's name without its extension")
    format: str | None = Field(default=None, description="json or parquet")
    size_kb: Value = None
    splits: dict[str, int] = Field(default_factory=dict, description="samples by split")
    dataset_type: Value = Field(default=None, description="data set builder, e.g. chat_completion")
    system_prompt: Value = None
    prompt: Value = Field(default=None, description="text around {input}")
    input_key: Value = None
    output_key: Value = None
    train_on_input: Value = None
    packed: Value = None
    max_seq_len: Value = None
    training_samples: Value = Field(default=None, description="train on that many samples only")


class DataForm(Form):
    """`data`: the data set."""

    training: TrainingDataForm | None = None


class OutputForm(Form):
    """`output`: where results are reported."""

    wandb_project: str | None = Field(default=None, description="Weights & Biases project")


class ComputeForm(Form):
    """A run's `compute`: what its job asks of SLURM."""

    time: Value = Field(default=None, description="time limit, hours:minutes:seconds, in quotes")
    gpus: Value = Field(default=None, description="number of GPUs")
    mem: Value = Field(default=None, description="memory, e.g. 80G")
    cpus_per_task: Value = Field(default=None, description="CPUs")


class RunForm(Form):
    """An entry of `runs`."""

    name: str = Field(description="name of the run, and of its directory")
    type: Literal["fine-tuned", "control", "eval-only"]
    model: str = Field(description="name of an entry of models.base")
    parameters: dict[str, Value] = Field(
        default_factory=dict,
        description="the run's own values; they win over controls. No lora_rank where its recipe is full",
    )
    compute: ComputeForm | None = None
    prompt: str | None = Field(default=None, description="overrides controls.prompt for this run")
    system_prompt: str | None = Field(default=None, description="overrides controls.system_prompt for this run")
    dataset_path: str | None = Field(default=None, description="overrides data.training.path for this run")


class SummaryForm(Form):
    """experiment_summary.yaml."""

    experiment: ExperimentForm
    tools: Any = Field(default=None, description="not used here")
    variables: Any = Field(default=None, description="what varies; the runs themselves decide")
    controls: dict[str, Value] = Field(
        default_factory=dict,
        description="values that all runs share, such as epochs, batch_size, recipe (LoRA or full)",
    )
    models: ModelsForm | None = None
    data: DataForm | None = None
    output: OutputForm | None = None
    runs: list[RunForm] = Field(description="every run: fine-tuned, control, eval-only")
    evaluation: Any = Field(default=None, description="not used here")


def schema() -> dict[str, Any]:
    """The JSON Schema of experiment_summary.yaml, for editors."""
    made = SummaryForm.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "experiment_summary.yaml"}
