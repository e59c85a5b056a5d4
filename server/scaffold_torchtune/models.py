"""Frozen models that the stages exchange: the experiment, the plan, and what was found on disk."""

import posixpath
from collections.abc import Iterable, Sequence
from enum import StrEnum
from operator import not_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from scaffold_torchtune.findings import Finding, Scalar


class Model(BaseModel):
    """A frozen pydantic model that takes no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class SourceKind(StrEnum):
    """Where a value can come from."""

    ROW = "row"  # a cell of the runs table
    CONFIGURATION = "configuration"  # the summary's Configuration section
    RESOURCES = "resources"  # the summary's Resources section
    SUMMARY = "summary"  # elsewhere in the summary
    LOCAL = "local"  # claude.local.md
    TEMPLATE = "template"  # the template of setup_finetune.yaml
    DERIVED = "derived"  # computed from other values, e.g. the run's name
    ANSWER = "answer"  # what the user said when asked
    DEFAULT = "default"  # nobody asked for it


class Source(Model):
    """Where a value comes from."""

    kind: SourceKind
    file: str | None = Field(default=None, description="document, by its name")
    line: int | None = Field(default=None, description="line in it, from 1")
    note: str = Field(default="", description="section, column or rule")

    def __str__(self) -> str:
        """Short form for people: `experiment_summary.md:24 (LoRA Rank)`, `default`."""
        place = f"{self.file}:{self.line}" if self.file and self.line else (self.file or self.kind.value)
        return f"{place} ({self.note})" if self.note else place


class Setting(Model):
    """A typed value and where it comes from."""

    value: Scalar
    source: Source

    @property
    def text(self) -> str:
        """The value as text."""
        return str(self.value)

    @property
    def integer(self) -> int:
        """The value of a setting that holds a whole number."""
        return int(self.text)


Value = Annotated[Setting, PlainSerializer(lambda setting: setting.value, return_type=Scalar)]
"""A setting that is written as its value alone."""

Values = Annotated[
    dict[str, Setting],
    PlainSerializer(lambda of: {name: setting.value for name, setting in of.items()}, return_type=dict[str, Scalar]),
]
"""Settings by name that are written as their values alone."""

Lines = dict[str, dict[str, int]]
"""Lines by document and name."""


def lines_of(sources: Iterable[tuple[str, Source]]) -> Lines:
    """Return the line of each name that stands in a document."""
    found: Lines = {}
    for name, source in sources:
        if source.file and source.line:
            found.setdefault(source.file, {})[name] = source.line
    return found


class Answer(Model):
    """What the user said when asked for a field, and the line that would say so in a document."""

    field: str
    value: Scalar
    file: str = Field(default="", description="the document that it belongs in")
    add: str = Field(default="", description="the line to write there")
    where: str = Field(default="", description="where in the document that line goes")


RunType = Literal["fine-tuned", "control", "eval-only", "cancelled"]


SummaryFormat = Literal["markdown", "yaml"]


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
    form: SummaryFormat = "markdown"
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


class Option(Model):
    """One option of a script, which is a key of its setup_finetune.yaml too."""

    default: Scalar = None
    required: bool = False
    choices: tuple[str, ...] = ()


class Interface(Model):
    """What a script says that it takes, when it is asked.

    `options` is None where it could not be asked, as it reads its arguments without argparse. `modules` are those that
    its SLURM template loads. `drops_conda`: where modules are planned, it deletes the activation of the conda
    environment.
    """

    options: dict[str, Option] | None = None
    modules: tuple[str, ...] = ()
    drops_conda: bool = False

    @property
    def of_cruijff_kit(self) -> bool:
        """Whether it is a version of cruijff_kit's setup_finetune.py: its keys are those of all of them."""
        return self.options is not None and self.options.keys() >= _OF_ALL_VERSIONS

    @property
    def generation(self) -> str:
        """Which generation of cruijff_kit's script it is, by the options that came and went; else empty."""
        options = self.options or {}
        if not self.of_cruijff_kit:
            return ""
        if "torchtune_model_name" not in options:
            return "2025-11"
        return "2025-12" if "output_dir_base" in options else "v0.3.4"


_OF_ALL_VERSIONS = frozenset({"my_wandb_run_name", "input_formatting", "dataset_label", "dataset_ext", "lora_rank"})


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


RunProgress = Literal["planned", "scaffolded", "submitted", "running", "finished", "failed"]
"""How far a run has come; from `submitted` on it is started."""


class JobState(Model):
    """A run's last job, as SLURM describes it."""

    id: str
    state: str
    elapsed: int | None = Field(default=None, description="seconds that it has run")
    limit: int | None = Field(default=None, description="seconds that it may run")
    reason: str = Field(default="", description="why it waits, as squeue has it")
    exit_code: str = Field(default="", description="exit status and signal, as sacct has them: `1:0`")


class RunState(Model):
    """How far a run has come, as far as it can be seen from here, and what shows it."""

    state: RunProgress
    evidence: tuple[str, ...] = Field(default=(), description="what shows it: `slurm-4711.out`, `job 4711 is PENDING`")
    jobs: tuple[str, ...] = Field(default=(), description="ids of its jobs in the queue")
    past: tuple[str, ...] = Field(default=(), description="ids of its jobs that have ended")
    results: tuple[str, ...] = Field(default=(), description="names in its output directory that a training left")
    output_dir: str = Field(default="", description="that directory")
    unknown: str = Field(default="", description="why SLURM could not be asked")
    unseen: tuple[str, ...] = Field(default=(), description="what cannot be looked at from here, and why")
    job: JobState | None = Field(default=None, exclude=True, description="the last job that SLURM knows")
    epochs: int | None = Field(default=None, exclude=True, description="epochs saved; None where that cannot be seen")
    unasked: str = Field(default="", exclude=True, description="why SLURM was not asked, whatever else shows the state")

    @property
    def started(self) -> bool:
        """Whether a job of the run was submitted, or has left something."""
        return self.state not in {"planned", "scaffolded"}

    @property
    def told(self) -> str:
        """The state and what shows it: `finished (job 4711 was COMPLETED; slurm-4711.out)`."""
        shows = "; ".join(self.evidence)
        unknown = f"; it may run, or have failed: {self.unknown}" if self.unknown else ""
        return f"{self.state} ({shows}{unknown})" if shows else self.state


class FieldChange(Model):
    """One value of a run that would become another; None where there was or would be none."""

    field: str
    old: Scalar = None
    new: Scalar = None
    source: Source | None = Field(default=None, description="where the new value comes from")

    def unplaced(self) -> "FieldChange":
        """Return the change without the place of the new value."""
        return self.model_copy(update={"source": None})

    def __str__(self) -> str:
        """Short form for people: `epochs 3 -> 5 (experiment_summary.md:48)`."""
        texts = ("nothing" if each is None else str(each) for each in (self.old, self.new))
        source = self.source
        place = f" ({source.file}:{source.line})" if source and source.file and source.line else ""
        return f"{self.field} {' -> '.join(texts)}{place}"


def same_changes(several: Sequence[tuple[FieldChange, ...]]) -> tuple[FieldChange, ...]:
    """Return changes that are the same for several runs; the place of a value only where it is one for all of them."""
    return tuple(
        each if all(other[index].source == each.source for other in several) else each.unplaced()
        for index, each in enumerate(several[0])
    )


class Arrival(Model):
    """A place where a planned value must arrive, and what stands there."""

    setting: str
    file: str = Field(description="name of the file in the run directory")
    line: int | None = None
    where: str = Field(description="`optimizer.lr`, `--time`, a command")
    expected: Scalar = None
    found: Scalar = Field(default=None, description="None where nothing stands there")
    arrived: bool


_RunFile = Annotated[str, Field(pattern=r"^(?:setup_finetune\.yaml|finetune\.(?:yaml|slurm))$")]
_Digest = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{64})?$")]


class Kept(Model):
    """A started run that the plan has as it was when it started, though the documents say something else by now.

    `fields` are what they say, `digest` is the SHA-256 of its setup_finetune.yaml as it would be rendered. `edited` has
    the SHA-256 of those of its files that somebody had changed when it was kept, and "" for one that was removed.
    """

    directory: str
    state: RunProgress
    fields: tuple[FieldChange, ...]
    digest: str
    edited: dict[_RunFile, _Digest] = Field(default={}, exclude_if=not_)


class Plan(Model):
    """The frozen plan of a scaffold.

    `id` is the SHA-256 of everything else but `warnings`. `inputs` maps each input file to the SHA-256 of its bytes.
    `varying` lists the parameter names in naming order; `pattern` shows how directories are named.
    `legend` explains abbreviated free text (`prompt1`) in directory names. `splits` holds, by a data set's absolute
    path, how many samples each of its parts has as the summary says. `answers` are those of
    the user's answers that the plan uses. `kept` are started runs that it has as they were, `former` those that were
    scaffolded and that the table has no more.
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
    kept: tuple[Kept, ...] = Field(default=(), exclude_if=not_)  # as in plans that are older than it
    former: tuple[PlannedRun, ...] = Field(default=(), exclude_if=not_)
    warnings: tuple[Finding, ...] = ()


ChangeKind = Literal["new", "unchanged", "changed", "kept", "dropped"]


class RunChange(Model):
    """What would become of a run that is planned, or that was and is no more."""

    directory: str
    kind: ChangeKind
    state: RunState | None = Field(default=None, description="how far it has come; None where it is new")
    fields: tuple[FieldChange, ...] = ()

    @property
    def is_started(self) -> bool:
        """Whether it is known to be started."""
        return self.state is not None and self.state.started

    @property
    def shared(self) -> tuple[FieldChange, ...]:
        """The changes as they may be those of other runs too: the run's own name in a text is `RUN`."""
        texts = ((each, self._shared(each.old), self._shared(each.new)) for each in self.fields)
        return tuple(each.model_copy(update={"old": old, "new": new}) for each, old, new in texts)

    def _shared(self, value: Scalar) -> Scalar:
        return value.replace(self.directory, "RUN") if isinstance(value, str) else value


CellKind = Literal["text", "number", "boolean", "null", "list", "object", "absent"]
"""What a cell of a data set holds; `absent` where its row has no such column."""


class SampleForm(Model):
    """How a run makes a training sample of a row, as far as the length and the labels of the sample depend on it."""

    dataset_type: str = Field(description="of torchtune: instruct_dataset, chat_dataset, text_completion_dataset")
    columns: tuple[str, ...] = Field(description="input and output; of the other types the one column that is read")
    tokenizer: str = Field(description="torchtune's builder of the tokenizer; empty where the model is not known")
    tokenizer_files: tuple[str, ...] = Field(default=(), description="absolute paths, in the order of the registry")
    max_seq_len: int
    system_prompt: str = ""
    around: tuple[str, str] = Field(default=("", ""), description="what the prompt puts before and after the input")
    train_on_input: bool = False
    packed: bool = False
    rows: int | None = Field(default=None, description="how many rows are used, the first ones; None where all are")


class RowCount(Model):
    """Some rows: how many, and the first of them, from 1."""

    count: int = 0
    first: int = 0


class Packs(Model):
    """How many packs the samples make: at least, likely, and at most; the same where tokens were counted."""

    least: int
    likely: int
    most: int
    bare: int = Field(default=0, description="of those that are likely, packs in which no sample has a label")


class SampleCounts(Model):
    """What the samples of a part are for one form. What is `likely` includes what is certain."""

    form: SampleForm
    rows: int = Field(description="rows that are used")
    exact: bool = Field(default=False, description="whether the model's tokenizer counted wherever it matters")
    cut: RowCount = Field(default=RowCount(), description="samples certainly longer than max_seq_len")
    likely_cut: RowCount = RowCount()
    empty: RowCount = Field(default=RowCount(), description="samples certainly without a label that is left")
    likely_empty: RowCount = RowCount()
    filling: int = Field(default=0, description="of `empty`, those that fill a pack by themselves")
    longest: int = Field(default=0, description="likely tokens of the longest sample that is cut")
    packs: Packs | None = Field(default=None, description="where samples are packed")
    blank: dict[str, RowCount] = Field(default={}, description="by column, rows whose text is empty")
    faults: dict[str, RowCount] = Field(default={}, description="what the tokenizer or its template refuses in a chat")


class DataPart(Model):
    """One part of a data set: a field of a JSON file, or all of a Parquet file. RowCount count from 1."""

    rows: int
    columns: dict[str, dict[CellKind, int]] = Field(description="by column, what its cells hold and the first such row")
    characters: dict[str, int] = Field(default={}, description="by column, how many characters its texts have in all")
    filled: dict[str, int] = Field(
        default={}, description="by column, in how many rows it holds text, a list or an object that is not empty"
    )
    messages: dict[str, int] = Field(default={}, description="faults in the column `messages`, and the first such row")
    faults: dict[str, int] = Field(
        default={}, description="what keeps the datasets library from reading the part, and the first such row"
    )
    samples: tuple[SampleCounts, ...] = Field(default=(), description="of the part `train`, one for each form")


class DataFile(Model):
    """A data set file. Where it could not be read, `parts` is empty and one of the others says why."""

    absent: bool = False
    near: tuple[str, ...] = Field(default=(), description="files beside it with nearly its name, where it is absent")
    problem: str = Field(default="", description="why what lies there is no data set")
    unread: str = Field(default="", description="why it was not looked into, though it may be a data set")
    parts: dict[str, DataPart] = Field(default={}, description="by field; a Parquet file is one part, `train`")


class TensorFile(Model):
    """A safetensors file: its tensors' shapes by name, or why its header cannot be read."""

    problem: str = ""
    shapes: dict[str, tuple[int, ...]] = Field(default={})


class CheckpointState(Model):
    """The directory of a base model. Files are named relative to it."""

    absent: bool = False
    near: tuple[str, ...] = Field(default=(), description="directories beside it with nearly its name")
    problem: str = Field(default="", description="why it cannot be looked into")
    files: dict[str, int] = Field(default={}, description="size in bytes by name, also of files one level below")
    snapshots: tuple[str, ...] = Field(
        default=(), description="of an entry of Hugging Face's cache, the directories of its states, its own first"
    )
    tensors: dict[str, TensorFile] = Field(default={}, description="the *.safetensors files")
    weights: tuple[str, ...] = Field(default=(), description="those that hold the model, by its index or their names")
    index: dict[str, str] | None = Field(
        default=None, description="file by tensor, as model.safetensors.index.json says; None where there is none"
    )
    config: dict[str, int] | None = Field(
        default=None, description="the whole numbers of config.json; None where it is absent or unreadable"
    )


class Results(Model):
    """What a training has left in a run's output directory."""

    names: tuple[str, ...] = Field(description="of what torchtune writes there: epoch_0, recipe_state, logs, ...")
    text: str | None = Field(description="torchtune_config.yaml as torchtune wrote it; None where it cannot be read")
    epochs: int = Field(default=0, description="epochs that are done, by the directories epoch_N")
    can_resume: bool = Field(default=False, description="whether recipe_state.pt is there")


class DiskState(Model):
    """Everything that was looked at, by its absolute path. What is not here was not looked at."""

    data: dict[str, DataFile] = Field(default={})
    checkpoints: dict[str, CheckpointState] = Field(default={})
    free: dict[str, int] = Field(default={}, description="free bytes of the file system below which outputs go")
    in_the_way: dict[str, str] = Field(default={}, description="what is no directory where outputs, or a parent, go")
    states: dict[str, Results] = Field(default={}, description="by run directory, what its job would resume from")


State = Literal["ok", "warning", "problem"]


class Check(Model):
    """One thing that was looked at."""

    name: str = Field(description="what was looked at")
    state: State = Field(description="'problem' keeps the machine from being ready, a 'warning' does not")
    found: str = Field(description="what was found")
    fix: str = Field(default="", description="the next step; empty where nothing is to be done")


class Readiness(Model):
    """Whether this machine is ready."""

    ready: bool = Field(description="true where no check is a problem")
    checks: tuple[Check, ...]


def shared_fields(of: Model, result: type[Model]) -> dict[str, Any]:
    """Return the fields that a stage's model and its result have both."""
    return {name: getattr(of, name) for name in result.model_fields if name in type(of).model_fields}
