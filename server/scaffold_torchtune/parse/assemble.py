"""From the two drafts to one typed `Experiment`, or every problem of both documents at once."""

import itertools
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from scaffold_torchtune.errors import Finding, Refused, Severity, errors_in, finding
from scaffold_torchtune.models.base import Setting, Source, SourceKind
from scaffold_torchtune.models.experiment import Dataset, Experiment, ModelPath, Run, SummaryForm
from scaffold_torchtune.parse import clean, local, markdown_summary, rows, yaml_summary
from scaffold_torchtune.parse.draft import Field, LocalDraft, SummaryDraft
from scaffold_torchtune.setup_finetune.registry import find_model
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.parameters import PARAMETERS, Parameter, by_label, labels, normalize
from scaffold_torchtune.shared.text import close_matches, escape, shown

_RECIPE = Parameter("recipe", "name")
_LOCAL_PARAMETERS = {name: Parameter(name, "path") for name in ("scratch_dir", "working_dir")}
# Lines of a Configuration section that are remarks, not settings.
_NOT_SETTINGS = frozenset({"notes", "note", "purpose", "used by", "description", "optimizer", "method"})
_LIKELY_MISSPELT = 0.9
# What Configuration does not set: the runs table and Resources name models and data sets.
_ELSEWHERE = frozenset({"model", "dataset"})
_VALIDATION = frozenset({"validation during training", "validation"})
_REQUIRED_LOCAL = {
    "conda_env": ("SLURM Defaults", "- **Default conda environment**: `NAME`"),
    "my_wandb_project": ("Weights & Biases", "- **Default project**: `NAME`"),
}


# Where the YAML form says what a Markdown summary says in its sections, and what to add there.
_IN_YAML = {
    "experiment name": ("experiment", "name: NAME"),
    "epochs": ("controls", "epochs: NUMBER"),
    "batch_size": ("controls", "batch_size: NUMBER"),
    "dataset": ("data.training", "path: /path/to/data.json"),
    "fine-tuned runs": ("runs", "- {name: NAME, type: fine-tuned, model: MODEL, parameters: {lora_rank: 8}}"),
}


@dataclass
class _Reading:
    """The two drafts and what was found wrong or remarkable so far."""

    summary: SummaryDraft
    local: LocalDraft
    form: SummaryForm
    findings: list[Finding] = field(default_factory=list)

    def missing(self, name: str, section: str, line: str, *, file: str | None = None) -> None:
        """Note that a required field is absent; `line` is what to add. A document that cannot be read lacks nothing."""
        if not (self.summary if file is None else self.local).readable:
            return
        if file is None and self.form == "yaml":
            section, line = _IN_YAML.get(name, ("models.base", f"- {{name: NAME, path: /path/to/it}}  # {name}"))
        file = file or self.summary.file
        self.findings.append(
            finding(
                "missing-field",
                f"{name} is missing: {file} does not give it ({section})",
                field=name,
                file=file,
                fix=f"add this line ({section}): {line}",
            )
        )

    def contradiction(self, name: str, here: Setting, first: Setting, fix: str = "keep one of the two lines") -> None:
        """Note that the summary gives a field two values."""
        self.findings.append(
            finding(
                "ambiguous",
                f"{name} is {shown(here.value)} here and {shown(first.value)} at line {first.source.line}",
                field=name,
                file=self.summary.file,
                line=here.source.line,
                fix=fix,
            )
        )

    def value(self, parameter: Parameter, text: Field, kind: SourceKind, file: str) -> Setting | None:
        """The typed value, or None with the problem noted."""
        try:
            value = clean.typed(parameter, text)
        except clean.NotTyped as problem:
            self.findings.append(
                finding(
                    "invalid-value",
                    f"{text.note}: {shown(text.text)} is not {problem.allowed}",
                    field=parameter.name,
                    expected=problem.allowed,
                    actual=escape(text.text),
                    file=file,
                    line=text.line,
                    fix=f"write {problem.allowed}",
                )
            )
            return None
        return Setting(value=value, source=Source(kind=kind, file=file, line=text.line, note=text.note))


def parse_experiment(
    summary: tuple[str, str], local_document: tuple[str, str], is_experiment_dir: Callable[[str], bool]
) -> Experiment:
    """Read an experiment from the (name, text) of its summary and of its claude.local.md.

    `is_experiment_dir` tells whether a path is the directory that holds the summary (compared as files).

    Raises:
        Refused: something required is missing, or something is not what it must be; names every problem of both.
    """
    form: SummaryForm = "yaml" if summary[0].endswith((".yaml", ".yml")) else "markdown"
    read = yaml_summary.read if form == "yaml" else markdown_summary.read
    reading = _Reading(read(summary[1], summary[0]), local.read(local_document[1], local_document[0]), form)
    reading.findings += [*reading.summary.problems, *reading.local.problems]
    name = _name(reading)
    _experiment_dir(reading, is_experiment_dir)
    columns, runs = rows.read(reading.summary, reading.findings)
    config = _configuration(reading, runs)
    environment = _environment(reading)
    dataset = _dataset(reading)
    models = _models(reading, runs, environment)
    _required_by_runs(reading, runs, config, dataset)
    experiment = Experiment(
        name=name,
        form=form,
        summary_file=summary[0],
        local_file=local_document[0],
        columns=columns,
        runs=runs,
        dataset=dataset,
        models=models,
        config=config,
        environment=environment,
        warnings=tuple(f for f in reading.findings if f.severity is not Severity.ERROR),
    )
    if problems := errors_in(reading.findings):
        raise Refused(f"{len(problems)} problem(s) in the experiment's documents", problems)
    return experiment


def _name(reading: _Reading) -> str:
    title = reading.summary.name
    if title is None and "experiment_name" in {f.field for f in reading.findings}:
        return ""
    if title is None:
        reading.missing("experiment name", "at the top", "# EXPERIMENT_NAME")
        return ""
    setting = reading.value(PARAMETERS["experiment_name"], title, SourceKind.SUMMARY, reading.summary.file)
    return str(setting.value) if setting else ""


def _experiment_dir(reading: _Reading, is_experiment_dir: Callable[[str], bool]) -> None:
    for text in reading.summary.directories:
        if not is_experiment_dir(text.text):
            reading.findings.append(
                finding(
                    "wrong-experiment-dir",
                    f"{text.note} says {shown(text.text)}, which is not the directory of {reading.summary.file}",
                    field="experiment directory",
                    actual=escape(text.text),
                    file=reading.summary.file,
                    line=text.line,
                    fix="correct the path, or move the summary to the directory that it names",
                )
            )


def _configuration(reading: _Reading, runs: tuple[Run, ...]) -> dict[str, Setting]:
    config: dict[str, Setting] = {}
    tuned = [run.parameters.keys() for run in runs if run.type == "fine-tuned"]
    given = set.intersection(*map(set, tuned)) if tuned else set()
    for label, text in reading.summary.configuration:
        if normalize(label) in _VALIDATION:
            label, text = "run_val_every_n_steps", _validation_steps(text)  # noqa: PLW2901 - one setting, two names
        parameter = _RECIPE if normalize(label) == "recipe" else by_label(label)
        if parameter is None or not parameter.column or parameter.name in _ELSEWHERE:
            _unused_label(reading, label, text)
            continue
        if clean.is_unset(text.text):
            continue
        setting = reading.value(parameter, text, SourceKind.CONFIGURATION, reading.summary.file)
        if setting is None:
            if parameter.name in given:  # `8, 16`, `see the table`: harmless where every row says its own
                reading.findings[-1] = _not_needed(reading.findings[-1])
            continue
        first = config.setdefault(parameter.name, setting)
        if first.value != setting.value:
            reading.contradiction(parameter.name, setting, first)
    return config


def _not_needed(problem: Finding) -> Finding:
    """The problem of a value that nobody needs, as a warning."""
    return finding(
        "unused-field",
        f"{problem.message}; it is not needed, as every row gives its own",
        field=problem.field,
        actual=problem.actual,
        file=problem.file,
        line=problem.line,
        fix="nothing, if the rows are right",
    )


def _validation_steps(text: Field) -> Field:
    """`Yes (every 25 steps during training)` as the number of steps, `Yes` as cruijff_kit's 50, `No` as 0."""
    written = text.full or text.text
    words = normalize(written).split()
    if words and words[0] in {"no", "false", "off", "none"}:
        return replace(text, text="0", full=None)
    every = [after for word, after in itertools.pairwise(words) if word == "every"]
    if words and words[0] in {"yes", "true", "on"}:
        return replace(text, text=every[0] if every else "50", full=None)
    return replace(text, text=every[0], full=None) if every else text


def _unused_label(reading: _Reading, label: str, text: Field) -> None:
    """A label of Configuration that is not a setting there: nearly one, set elsewhere, or something else."""
    if normalize(label) in _NOT_SETTINGS:
        return
    near = close_matches(normalize(label), labels(), limit=1, cutoff=0.8) if by_label(label) is None else []
    reading.findings.append(
        finding(
            "misspelt-field" if near else "unused-field",
            f"{text.note}: {shown(label)} is not a setting here" + (f"; did you mean {near[0]!r}?" if near else ""),
            field=escape(label),
            file=reading.summary.file,
            line=text.line,
            fix=f"write {near[0]!r}" if near else "remove the line if it was meant to change the runs",
        )
    )


def _environment(reading: _Reading) -> dict[str, Setting]:
    environment: dict[str, Setting] = {}
    for name, text in reading.local.settings.items():
        parameter = _LOCAL_PARAMETERS.get(name) or PARAMETERS[name]
        setting = reading.value(parameter, text, SourceKind.LOCAL, reading.local.file)
        if setting is not None:
            environment[name] = setting
    _project(reading, environment)
    for name, (section, line) in _REQUIRED_LOCAL.items():
        if name not in reading.local.settings and name not in environment:
            reading.missing(name, section, line, file=reading.local.file)
    # Without one, the YAML form keeps each run's output in its own artifacts/.
    if "output_dir_base" not in reading.local.settings and reading.form == "markdown":
        if not reading.summary.output_dirs:
            line = "- **Output base directory**: `/path/to/outputs`"
            reading.missing("output_dir_base", "Common Paths", line, file=reading.local.file)
        else:
            text = reading.summary.output_dirs[0]
            setting = reading.value(PARAMETERS["output_dir_base"], text, SourceKind.CONFIGURATION, reading.summary.file)
            if setting is not None:
                environment["output_dir_base"] = setting
    return environment


def _project(reading: _Reading, environment: dict[str, Setting]) -> None:
    """The summary's own Weights & Biases project wins over the default of claude.local.md."""
    text = reading.summary.wandb_project
    if text is None:
        return
    project = PARAMETERS["my_wandb_project"]
    setting = reading.value(project, text, SourceKind.CONFIGURATION, reading.summary.file)
    default = environment.get(project.name)
    if setting is None:
        return
    environment[project.name] = setting
    if default is not None and default.value != setting.value:
        message = (
            f"the project is {shown(setting.value)} here, but {shown(default.value)} in {reading.local.file}"
            f" (line {default.source.line}); the summary wins"
        )
        reading.findings.append(
            finding(
                "overridden", message, field=project.name, expected=default.value, actual=setting.value,
                file=reading.summary.file, line=text.line, fix="nothing, if the summary is right",
            )
        )  # fmt: skip


def _dataset(reading: _Reading) -> Dataset | None:
    found: list[Setting] = []
    for text in reading.summary.datasets:
        setting = reading.value(PARAMETERS["dataset"], text, SourceKind.RESOURCES, reading.summary.file)
        if setting is not None:
            found.append(setting)
    if not found:
        return None
    for other in found[1:]:
        if other.value != found[0].value:
            fix = "name one data set; where it differs by run, give the runs table a column Dataset"
            reading.contradiction("dataset", other, found[0], fix)
    label, extension = layout.data_label(str(found[0].value))
    return Dataset(path=found[0], label=label, extension=extension, splits=reading.summary.splits)


def _models(reading: _Reading, runs: tuple[Run, ...], environment: dict[str, Setting]) -> tuple[ModelPath, ...]:
    """The path of every model that a run names: as listed, else below the models directory."""
    found: dict[str, Setting] = {}
    named = {run.model for run in runs}
    for name, text in reading.summary.models:
        if name not in named:  # remarks stand there too: Verified, Size, Source
            continue
        path = Parameter(f"path of model {name}", "path")
        setting = reading.value(path, text, SourceKind.RESOURCES, reading.summary.file)
        if setting is None:
            continue
        first = found.setdefault(name, setting)
        if first.value != setting.value:
            reading.contradiction(path.name, setting, first)
    bases = _model_folders(reading, environment)
    base = bases[0] if bases else environment.get("models_dir")
    listed = {name for name, _ in reading.summary.models}
    tuned = [run for run in runs if run.type == "fine-tuned"]
    lacking = {run.model: run for run in tuned if run.model and run.model not in listed}
    for other in bases[1:] if lacking else ():
        if other.value != bases[0].value:
            reading.contradiction("models_dir", other, bases[0])
    for name, run in lacking.items():
        near = [] if find_model(name) else close_matches(name, listed, limit=1, cutoff=_LIKELY_MISSPELT)
        if near:
            _misspelt_model(reading, run, near[0])
        elif base:
            folder = str(base.value)
            path_of = folder if posixpath.basename(folder) == name else posixpath.join(folder, name)
            found[name] = Setting(value=path_of, source=base.source)
        elif not any(f.field == "models_dir" for f in reading.findings):
            reading.missing(f"path of model {name}", "Resources > Models", f"- **{name}**: `/path/to/{name}`")
    return tuple(ModelPath(name=name, path=path) for name, path in found.items())


def _model_folders(reading: _Reading, environment: dict[str, Setting]) -> list[Setting]:
    """Where the summary says that all models lie; the environment knows it too, if nothing else said it there."""
    bases: list[Setting] = []
    for directory in reading.summary.models_dirs:
        setting = reading.value(PARAMETERS["models_dir"], directory, SourceKind.SUMMARY, reading.summary.file)
        if setting is not None:
            bases.append(setting)
            environment.setdefault("models_dir", setting)
    return bases


def _misspelt_model(reading: _Reading, run: Run, near: str) -> None:
    reading.findings.append(
        finding(
            "misspelt-field",
            f"{shown(run.model)} is not one of the listed models; did you mean {near!r}?",
            field="model",
            actual=escape(run.model),
            file=reading.summary.file,
            line=run.line,
            fix=f"write {near!r}, or list the path of {escape(run.model)} too",
        )
    )


def _required_by_runs(
    reading: _Reading, runs: tuple[Run, ...], config: dict[str, Setting], dataset: Dataset | None
) -> None:
    tuned = [run for run in runs if run.type == "fine-tuned"]
    given = {f.field for f in errors_in(reading.findings)}  # a value that cannot be read is not a missing one
    unread = not tuned and "runs" not in given
    for name, label in (("epochs", "Epochs"), ("batch_size", "Batch size")):
        lacking = unread or any(name not in run.parameters for run in tuned)
        if lacking and name not in config and name not in given:
            reading.missing(name, "Configuration > Training", f"- **{label}:** NUMBER")
    lacking = unread or any("dataset" not in run.parameters for run in tuned)
    if lacking and dataset is None and "dataset" not in given:
        reading.missing("dataset", "Resources > Dataset", "- **Path**: `/path/to/data.json`")
    if unread:
        reading.missing("fine-tuned runs", "All Runs", "| RUN_NAME | MODEL | ... | Fine-tuned |")
