"""Frozen models that the stages exchange: the experiment, the plan, and the state of the disk."""

import posixpath
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from operator import not_
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from scaffold_torchtune.findings import Finding, Scalar, counted, few


class Model(BaseModel):
    """A frozen pydantic model that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class CommandResult(Model):
    """The result of a command. `summary` is a sentence or two that can be read to the user as it is."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """Return the verdict and the counts."""


class SourceKind(StrEnum):
    """Kinds of sources of a value."""

    ROW = "row"  # a cell of the runs table
    CONFIGURATION = "configuration"  # the summary's Configuration section
    RESOURCES = "resources"  # the summary's Resources section
    SUMMARY = "summary"  # elsewhere in the summary
    LOCAL = "local"  # claude.local.md
    TEMPLATE = "template"  # the template of setup_finetune.yaml
    DERIVED = "derived"  # computed from other values, e.g. the run's name
    ANSWER = "answer"  # the user's answer to a question
    DEFAULT = "default"  # not chosen by the user


class Source(Model):
    """The source of a value."""

    kind: SourceKind
    file: str | None = Field(default=None, description="name of the document")
    line: int | None = Field(default=None, description="line in it, from 1")
    note: str = Field(default="", description="section, column or rule")

    def __str__(self) -> str:
        """Return the short form for people: `experiment_summary.md:24 (LoRA Rank)`, `default`."""
        place = f"{self.file}:{self.line}" if self.file and self.line else (self.file or self.kind.value)
        return f"{place} ({self.note})" if self.note else place


class Setting(Model):
    """A typed value and its source."""

    value: Scalar
    source: Source

    @property
    def text(self) -> str:
        """Return the value as text."""
        return str(self.value)

    @property
    def integer(self) -> int:
        """Return the value of a setting that holds an integer."""
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
    """Return the line of each name with a source in a document."""
    found: Lines = {}
    for name, source in sources:
        if source.file and source.line:
            found.setdefault(source.file, {})[name] = source.line
    return found


class Answer(Model):
    """The user's answer for a field, and the line that gives it in a document."""

    field: str
    value: Scalar
    file: str = Field(default="", description="the document for the line")
    add: str = Field(default="", description="the line to write there")
    where: str = Field(default="", description="the place of the line in the document")


RunType = Literal["fine-tuned", "control", "eval-only", "cancelled"]


SummaryFormat = Literal["markdown", "yaml"]


class Run(Model):
    """One row of the runs table.

    `parameters` holds the row's own cells by canonical name (`lora_rank`, `lr`, `dataset`, ...), typed. Empty cells and
    dashes are missing.
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
    """The content of the two documents about the experiment.

    `columns` are the canonical names of the parameter columns in the table's order. `config` holds the Configuration
    section by canonical name. `environment` holds claude.local.md (`conda_env`, `output_dir_base`, `my_wandb_project`,
    `scratch_dir`, `account`, `partition`, `constraint`, `time`, `gpus`, `modules`, `models_dir`, `working_dir`, ...),
    without unset keys. `template` holds the values of the operator's plain YAML template by key of setup_finetune.yaml,
    for settings without a value in the documents; `template_others` has the keys of it that only an external script can
    know. `names` are patterns and examples that the summary gives for the names of run directories and outputs.
    `stated` are `training_samples`, `steps`, `most_steps` and `warmup_ratio` that texts give for the runs
    (for a single run, at the line of its row). `answers` are the user's answers for values that no document gives.
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
    names: tuple[Setting, ...] = ()
    stated: tuple[tuple[str, Setting], ...] = ()
    answers: tuple[Answer, ...] = ()
    warnings: tuple[Finding, ...] = ()


class Option(Model):
    """One option of a script, which is also a key of its setup_finetune.yaml."""

    default: Scalar = None
    required: bool = False
    choices: tuple[str, ...] = ()


class Interface(Model):
    """The options that a script reports for `--help`.

    `options` is None if unknown, because the script reads its arguments without argparse. `modules` are those that its
    SLURM template loads. `drops_conda`: if modules are planned, it deletes the activation of the conda environment.
    `template` has the values of settings in its template of finetune.yaml; it is None if there is no such template
    where cruijff_kit's script has it.
    """

    options: dict[str, Option] | None = None
    modules: tuple[str, ...] = ()
    drops_conda: bool = False
    template: dict[str, Scalar] | None = None

    @property
    def of_cruijff_kit(self) -> bool:
        """Return whether it is a version of cruijff_kit's setup_finetune.py.

        All versions have certain keys and fill a template; a script of another origin may have the same keys.
        """
        has_keys = self.options is not None and self.options.keys() >= _OF_ALL_VERSIONS
        return has_keys and self.template is not None

    @property
    def generation(self) -> str:
        """Return the generation of cruijff_kit's script, by options that were added or removed; else empty."""
        options = self.options or {}
        if not self.of_cruijff_kit:
            return ""
        if "torchtune_model_name" not in options:
            return "2025-11"
        return "2025-12" if "output_dir_base" in options else "v0.3.4"


_OF_ALL_VERSIONS = frozenset({"my_wandb_run_name", "input_formatting", "dataset_label", "dataset_ext", "lora_rank"})


class Options(Model):
    """The operator's options, which are part of the plan's identity."""

    names: Literal["varying", "table"] = "varying"
    template: str | None = Field(default=None, description="a template file instead of the bundled one")
    setup_script: str = Field(default="bundled", description="'bundled', or the path of a setup_finetune.py")
    answers: dict[str, Scalar] = Field(default={}, description="the user's answers, by field")
    local: str | None = Field(  # missing in older plans
        default=None, exclude_if=not_, description="a claude.local.md instead of the one that is found"
    )


class PlannedRun(Model):
    """One planned run directory.

    `parameters` are the run's hyperparameters by canonical name (those that an experimenter would list: model,
    lora_rank, lr, batch_size, epochs and every other column). `settings` are all keys of its setup_finetune.yaml, in
    written order, each with its source. `data_path` is the path of the data set in the document. `unwritten` are
    settings that setup_finetune.yaml lacks, because an external script has no key for them and always does the same;
    they are planned and validated anyway. `submitted` are settings that no file has, only the submit line: an external
    script has no key for them, and SLURM or the job reads them there. `generation` is the generation of cruijff_kit's
    script that makes its files (`2025-11`, `2025-12`, `v0.3.4`); empty for any other script. `by_author` means that the
    directory's name was a Run Name of the table, although the row has a different one now.
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
    by_author: bool = Field(default=False, exclude_if=not_)

    def value(self, name: str) -> Scalar:
        """Return a planned value; None if not planned."""
        setting = self.settings.get(name)
        return None if setting is None else setting.value

    def text(self, name: str) -> str:
        """Return a planned value as text; '' if not planned."""
        found = self.value(name)
        return "" if found is None else str(found)

    def integer(self, name: str, default: int) -> int:
        """Return a planned integer, or the default if not planned."""
        found = self.value(name)
        return found if isinstance(found, int) else default

    @property
    def checkpoint_dir(self) -> str | None:
        """Return the absolute directory of the base model, `models_dir/model_checkpoint`; None if not planned."""
        folder, name = self.text("models_dir"), self.text("model_checkpoint") or self.text("torchtune_model_name")
        if name.startswith("/"):
            return posixpath.normpath(name)
        return posixpath.normpath(posixpath.join(folder, name)) if folder and name else None


class Excluded(Model):
    """A row that is not fine-tuned, and the reason why it is skipped."""

    name: str
    reason: str


RunProgress = Literal["planned", "scaffolded", "submitted", "running", "finished", "failed"]
"""The progress of a run; from `submitted` on, it is started."""


class JobState(Model):
    """A run's last job, as SLURM describes it."""

    id: str
    state: str
    elapsed: int | None = Field(default=None, description="seconds that the job has run")
    limit: int | None = Field(default=None, description="time limit of the job in seconds")
    reason: str = Field(default="", description="reason why the job is waiting, from squeue")
    exit_code: str = Field(default="", description="exit status and signal, from sacct: `1:0`")


class RunState(Model):
    """The progress of a run as visible on this machine, and its evidence."""

    state: RunProgress
    evidence: tuple[str, ...] = Field(
        default=(), description="evidence, such as `slurm-4711.out exists` or `job 4711 is PENDING`"
    )
    jobs: tuple[str, ...] = Field(default=(), description="IDs of its jobs in the queue")
    past: tuple[str, ...] = Field(default=(), description="IDs of its ended jobs")
    results: tuple[str, ...] = Field(
        default=(), description="names in its output directory that a training run has left"
    )
    output_dir: str = Field(default="", description="its output directory")
    unknown: str = Field(default="", description="reason why SLURM could not be queried")
    unseen: tuple[str, ...] = Field(default=(), description="paths that this machine cannot read, and why")
    job: JobState | None = Field(default=None, exclude=True, description="the last job that SLURM knows")
    epochs: int | None = Field(default=None, exclude=True, description="saved epochs; None if unknown")
    unasked: str = Field(
        default="", exclude=True, description="reason why SLURM was not queried, even if the state is known"
    )

    @property
    def started(self) -> bool:
        """Return whether a job of the run was submitted, or has left files."""
        return self.state not in {"planned", "scaffolded"}

    @property
    def told(self) -> str:
        """Return the state and its evidence: `finished (job 4711 was COMPLETED; slurm-4711.out exists)`."""
        shows = "; ".join(self.evidence)
        unknown = f"; {self.unknown}, so the run may be running or may have failed" if self.unknown else ""
        return f"{self.state} ({shows}{unknown})" if shows else self.state


NOT_SET: Final = "(not set)"
"""The text for a value that a run does not have."""


class FieldChange(Model):
    """One changed value of a run; None if it had or will have none."""

    field: str
    old: Scalar = None
    new: Scalar = None
    source: Source | None = Field(default=None, description="the source of the new value")

    def unplaced(self) -> "FieldChange":
        """Return the change without the source of the new value."""
        return self.model_copy(update={"source": None})

    def __str__(self) -> str:
        """Return the short form for people: `epochs 3 -> 5 (experiment_summary.md:48)`."""
        texts = (NOT_SET if each is None else str(each) for each in (self.old, self.new))
        source = self.source
        place = f" ({source.file}:{source.line})" if source and source.file and source.line else ""
        return f"{self.field} {' -> '.join(texts)}{place}"


def same_changes(several: Sequence[tuple[FieldChange, ...]]) -> tuple[FieldChange, ...]:
    """Return changes that several runs share; a value keeps its source only if all of them have the same."""
    return tuple(
        each if all(other[index].source == each.source for other in several) else each.unplaced()
        for index, each in enumerate(several[0])
    )


class Arrival(Model):
    """The place of a planned value, and the value found there."""

    setting: str
    file: str = Field(description="name of the file in the run directory")
    line: int | None = None
    where: str = Field(description="`optimizer.lr`, `--time`, a command")
    expected: Scalar = None
    found: Scalar = Field(default=None, description="None if it is missing")
    arrived: bool


_RunFile = Annotated[str, Field(pattern=r"^(?:setup_finetune\.yaml|finetune\.(?:yaml|slurm))$")]
_Digest = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{64})?$")]


class Kept(Model):
    """A started run that the plan keeps as it was at its start, although the documents differ by now.

    `fields` are the differences of the documents, `digest` is the SHA-256 of its setup_finetune.yaml as it would be
    rendered. `edited` has the SHA-256 of each of its files that was edited before it was kept, and "" for a removed
    one.
    """

    directory: str
    state: RunProgress
    fields: tuple[FieldChange, ...]
    digest: str
    edited: dict[_RunFile, _Digest] = Field(default={}, exclude_if=not_)


class Plan(Model):
    """The frozen plan of a scaffold.

    `id` is the SHA-256 of everything except `warnings`. `inputs` maps each input file to the SHA-256 of its bytes.
    `varying` lists the parameter names in naming order; `pattern` shows the form of directory names.
    `legend` explains abbreviated free text (`prompt1`) in directory names. `splits` holds, by a data set's absolute
    path, the number of samples of each of its parts in the summary. `answers` are the user's answers that the plan
    uses.
    `kept` are started runs that the plan keeps unchanged, `former` scaffolded runs that are no longer in the table.
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
    kept: tuple[Kept, ...] = Field(default=(), exclude_if=not_)  # missing in older plans
    former: tuple[PlannedRun, ...] = Field(default=(), exclude_if=not_)
    warnings: tuple[Finding, ...] = ()


ChangeKind = Literal["new", "unchanged", "changed", "kept", "dropped"]


class RunChange(Model):
    """The change of a run that is planned, or no longer in the table."""

    directory: str
    kind: ChangeKind
    state: RunState | None = Field(default=None, description="its progress; None if it is new")
    fields: tuple[FieldChange, ...] = ()

    @property
    def is_started(self) -> bool:
        """Return whether it is known to be started."""
        return self.state is not None and self.state.started

    @property
    def shared(self) -> tuple[FieldChange, ...]:
        """Return the changes in a form that other runs may share: `RUN` replaces the run's own name in texts."""
        texts = ((each, self._shared(each.old), self._shared(each.new)) for each in self.fields)
        return tuple(each.model_copy(update={"old": old, "new": new}) for each, old, new in texts)

    def _shared(self, value: Scalar) -> Scalar:
        return value.replace(self.directory, "RUN") if isinstance(value, str) else value


CellKind = Literal["text", "number", "boolean", "null", "list", "object", "absent"]
"""The content of a cell of a data set; `absent` if its row has no such column."""


class SampleForm(Model):
    """Settings that determine the length and the labels of a run's samples."""

    dataset_type: str = Field(
        description="dataset builder of torchtune: instruct_dataset, chat_dataset, text_completion_dataset"
    )
    columns: tuple[str, ...] = Field(
        description="input and output column; for other types, the only column that is read"
    )
    tokenizer: str = Field(description="torchtune's builder of the tokenizer; empty if the model is unknown")
    tokenizer_files: tuple[str, ...] = Field(default=(), description="absolute paths, in the order of the registry")
    max_seq_len: int
    system_prompt: str = ""
    around: tuple[str, str] = Field(
        default=("", ""), description=("texts that the prompt puts before and after the input")
    )
    train_on_input: bool = False
    packed: bool = False
    rows: int | None = Field(default=None, description="number of used rows, from the first one; None for all")


class RowCount(Model):
    """Some rows: their number, and the first of them, from 1."""

    count: int = 0
    first: int = 0


class Packs(Model):
    """The number of packs of the samples: minimum, likely, and maximum; equal if tokens were counted."""

    least: int
    likely: int
    most: int
    bare: int = Field(default=0, description="number of likely packs in which no sample has a label")


class SampleCounts(Model):
    """The counts of a part's samples for one form. `likely` counts include certain ones."""

    form: SampleForm
    rows: int = Field(description="number of used rows")
    exact: bool = Field(
        default=False, description=("whether the model's tokenizer counted all samples whose exact length matters")
    )
    cut: RowCount = Field(default=RowCount(), description="samples that are certainly longer than max_seq_len")
    likely_cut: RowCount = RowCount()
    empty: RowCount = Field(default=RowCount(), description="samples that certainly have no remaining label")
    likely_empty: RowCount = RowCount()
    filling: int = Field(default=0, description="number of the samples in `empty` that fill a pack alone")
    longest: int = Field(default=0, description="likely tokens of the longest truncated sample")
    packs: Packs | None = Field(default=None, description="if samples are packed")
    blank: dict[str, RowCount] = Field(default={}, description="by column, rows whose text is empty")
    faults: dict[str, RowCount] = Field(
        default={}, description=("faults of a chat that the tokenizer or its template refuses")
    )


class DataPart(Model):
    """One part of a data set: a field of a JSON file, or all of a Parquet file. Row numbers count from 1."""

    rows: int
    columns: dict[str, dict[CellKind, int]] = Field(
        description=("by column, the kinds of its cells and the first row of each")
    )
    characters: dict[str, int] = Field(default={}, description="by column, the characters of all its texts")
    filled: dict[str, int] = Field(
        default={}, description="by column, the number of rows with a text, list or object that is not empty"
    )
    messages: dict[str, int] = Field(default={}, description="faults in the column `messages`, and the first such row")
    faults: dict[str, int] = Field(
        default={}, description="reasons why the datasets library cannot read the part, and the first such row"
    )
    samples: tuple[SampleCounts, ...] = Field(default=(), description="of the part `train`, one for each form")


class DataFile(Model):
    """A data set file. If it could not be read, `parts` is empty and another field gives the reason."""

    absent: bool = False
    near: tuple[str, ...] = Field(default=(), description="similar file names in the same directory, if it is missing")
    problem: str = Field(default="", description="reason why the file is not a data set")
    unread: str = Field(default="", description="reason why it was not inspected, although it may be a data set")
    parts: dict[str, DataPart] = Field(default={}, description="by field; a Parquet file is one part, `train`")


class TensorFile(Model):
    """A safetensors file: its tensors' shapes by name, or why its header cannot be read.

    `is_pointer`: it is a pointer of Git LFS.
    """

    problem: str = ""
    is_pointer: bool = False
    shapes: dict[str, tuple[int, ...]] = Field(default={})


class CheckpointState(Model):
    """The directory of a base model. Files are named relative to it."""

    absent: bool = False
    near: tuple[str, ...] = Field(default=(), description="similar names of directories next to it")
    problem: str = Field(default="", description="reason why it cannot be read")
    files: dict[str, int] = Field(default={}, description="size in bytes by name, including files one level below")
    snapshots: tuple[str, ...] = Field(
        default=(),
        description=("of an entry of Hugging Face's cache, the directories of its versions, the current one first"),
    )
    tensors: dict[str, TensorFile] = Field(default={}, description="the *.safetensors files")
    weights: tuple[str, ...] = Field(
        default=(), description=("the files that hold the model, by its index or their names")
    )
    index: dict[str, str] | None = Field(
        default=None, description="file by tensor, from model.safetensors.index.json; None without one"
    )
    config: dict[str, int] | None = Field(
        default=None, description="the integers of config.json; None if it is missing or unreadable"
    )


class Results(Model):
    """The files of a training in a run's output directory."""

    names: tuple[str, ...] = Field(description="names that torchtune writes: epoch_0, recipe_state, logs, ...")
    text: str | None = Field(description="torchtune_config.yaml as torchtune wrote it; None if it cannot be read")
    epochs: int = Field(default=0, description="number of finished epochs, by the directories epoch_N")
    can_resume: bool = Field(default=False, description="whether recipe_state.pt exists")


class DiskState(Model):
    """All inspected paths, by absolute path. Missing paths were not inspected."""

    data: dict[str, DataFile] = Field(default={})
    checkpoints: dict[str, CheckpointState] = Field(default={})
    free: dict[str, int] = Field(default={}, description="free bytes of the file systems of outputs")
    in_the_way: dict[str, str] = Field(
        default={}, description=("paths of outputs, or their parents, that are not directories")
    )
    unwritable: dict[str, str] = Field(
        default={}, description="by directory of outputs, the directory below which this user cannot create it"
    )
    states: dict[str, Results] = Field(
        default={}, description=("by run directory, the state from which its job would resume")
    )


_NAMED_CHECKS = 4
State = Literal["ok", "warning", "problem"]


class Check(Model):
    """One check."""

    name: str = Field(description="the subject of the check")
    state: State = Field(description="'problem': the machine is not ready; 'warning': it is ready")
    found: str = Field(description="the result")
    fix: str = Field(default="", description="the next step; empty if none is needed")


class Readiness(CommandResult):
    """The readiness of this machine."""

    ready: bool = Field(description="true if no check is a problem")
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        """Return the verdict with the number of problems and warnings: `not ready: 1 problem, 2 warnings`."""
        counts = Counter(check.state for check in self.checks)
        found = [counted(counts[state], state) for state in ("problem", "warning") if counts[state]]
        return ": ".join(["ready" if self.ready else "not ready", *([", ".join(found)] if found else [])])

    @property
    def summary(self) -> str:
        """Return the verdict, and the checks that are problems."""
        problems = [check.name for check in self.checks if check.state == "problem"]
        return f"This machine is {self.verdict}{f' ({few(problems, _NAMED_CHECKS)})' if problems else ''}."


def shared_fields(of: Model, result: type[Model]) -> dict[str, Any]:
    """Return the fields that a stage's model and its result have both."""
    return {name: getattr(of, name) for name in result.model_fields if name in type(of).model_fields}
