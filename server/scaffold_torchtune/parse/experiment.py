"""From the drafts of both documents to one typed `Experiment`, or every problem of both at once."""

import posixpath
from collections.abc import Callable, Mapping

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Refused, Scalar, errors_in, finding, sort_findings
from scaffold_torchtune.models import Dataset, Experiment, ModelPath, Run, Setting, SourceKind, SummaryForm
from scaffold_torchtune.parse import configuration, local, markdown_summary, runs_table, template, values, yaml_summary
from scaffold_torchtune.parse.answers import apply_answers, questions, used_answers
from scaffold_torchtune.parse.drafts import Field, SummaryDraft
from scaffold_torchtune.parse.local_labels import parameter
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.text import close_matches, escape, shown
from scaffold_torchtune.torchtune_facts.model_registry import find_model, known_models

# The summary's Resources: the data set, and where the base models lie.

_LIKELY_MISSPELT = 0.9
_ORGANISATIONS = frozenset({"meta-llama", "qwen", "mistralai", "google", "microsoft", "unsloth"})


def read_dataset(reading: Reading) -> Dataset | None:
    """The data set that the summary names, or None where it names none. Two different ones are noted."""
    found: list[Setting] = []
    for text in reading.summary.datasets:
        setting = reading.value(PARAMETERS["dataset"], text, SourceKind.RESOURCES, reading.summary.file)
        if setting is not None:
            found.append(setting)
    if not found:
        return None
    for other in found[1:]:
        if not _same_file(reading, str(other.value), str(found[0].value)):
            fix = "name one data set; where it differs by run, give the runs table a column Dataset"
            reading.contradiction("dataset", other, found[0], fix)
    label, extension = layout.data_label(str(found[0].value))
    return Dataset(path=found[0], label=label, extension=extension, splits=reading.summary.splits)


def model_fields(runs: tuple[Run, ...], dataset: Dataset | None) -> tuple[Run, ...]:
    """The runs, where a row that names the summary's data set (`words` for `/data/words.json`) has its path."""
    if dataset is None:
        return runs
    resolved = []
    for run in runs:
        own = run.parameters.get("dataset")
        if own is not None and own.value == dataset.label:
            parameters = run.parameters | {"dataset": Setting(value=dataset.path.value, source=own.source)}
            run = run.model_copy(update={"parameters": parameters})  # noqa: PLW2901 - the same run, with its path
        resolved.append(run)
    return tuple(resolved)


def _same_file(reading: Reading, one: str, other: str) -> bool:
    """Whether two paths are one: spelt otherwise, or one of them taken from the experiment directory."""
    short, long = sorted((posixpath.normpath(one), posixpath.normpath(other)), key=len)
    folder = long.removesuffix(f"/{short}")
    return short == long or (not short.startswith("/") and folder != long and reading.is_experiment_dir(folder))


def read_models(reading: Reading, runs: tuple[Run, ...], environment: dict[str, Setting]) -> tuple[ModelPath, ...]:
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
        if _on_hugging_face(str(setting.value)):
            reading.findings.append(_no_directory(reading, path.name, setting))
        first = found.setdefault(name, setting)
        if first.value != setting.value:
            reading.contradiction(path.name, setting, first)
    bases = _model_folders(reading, environment)
    base = bases[0] if bases else environment.get("models_dir") or reading.template.settings.get("models_dir")
    listed = {name for name, _ in reading.summary.models}
    tuned = [run for run in runs if run.type == "fine-tuned"]
    lacking = {run.model: run for run in tuned if run.model and run.model not in listed}
    for other in bases[1:] if lacking else ():
        if other.value != bases[0].value:
            reading.contradiction("models_dir", other, bases[0])
    for name, run in lacking.items():
        near = [] if name in known_models() else _meant(name, listed)
        if near:
            _misspelt_model(reading, run, near[0])
        elif base:
            folder = str(base.value)
            path_of = folder if posixpath.basename(folder) == name else posixpath.join(folder, name)
            found[name] = Setting(value=path_of, source=base.source)
        elif reading.template.readable and not any(f.field == "models_dir" for f in reading.findings):
            reading.missing(f"path of model {name}", "Resources > Models", f"- **{name}**: `/path/to/{name}`")
    return tuple(ModelPath(name=name, path=path) for name, path in found.items())


def _no_directory(reading: Reading, field: str, setting: Setting) -> Finding:
    return finding(
        "invalid-value",
        f"{shown(setting.value)} is the name of a model on Hugging Face, not the directory that holds it",
        field=field,
        expected="the path of a directory",
        actual=setting.value,
        file=reading.summary.file,
        line=setting.source.line,
        fix="write the path of the downloaded model; for a directory of that name below the experiment, begin with ./",
    )


def _meant(name: str, listed: set[str]) -> list[str]:
    """The listed model that a row means: nearly its name, or a part of one name alone (`1B`)."""
    parts = [other for other in sorted(listed) if name.casefold() in other.casefold()]
    return close_matches(name, listed, limit=1, cutoff=_LIKELY_MISSPELT) or (parts if len(parts) == 1 else [])


def _on_hugging_face(path: str) -> bool:
    """Whether a path is the name of a model on Hugging Face: `meta-llama/Llama-3.2-1B-Instruct`."""
    organisation, _, name = path.partition("/")
    return organisation.casefold() in _ORGANISATIONS and find_model(name) is not None


def _model_folders(reading: Reading, environment: dict[str, Setting]) -> list[Setting]:
    """Where the summary says that all models lie; the environment knows it too, if nothing else said it there."""
    bases: list[Setting] = []
    for directory in reading.summary.models_dirs:
        setting = reading.value(PARAMETERS["models_dir"], directory, SourceKind.SUMMARY, reading.summary.file)
        if setting is not None:
            bases.append(setting)
            environment.setdefault("models_dir", setting)
    return bases


def _misspelt_model(reading: Reading, run: Run, near: str) -> None:
    message = f"{shown(run.model)} is not one of the listed models; did you mean {near!r}?"
    fix = f"write {near!r}, or list the path of {escape(run.model)} too"
    reading.add("misspelt-field", message, field="model", actual=escape(run.model), line=run.line, fix=fix)


# What the surroundings give: claude.local.md, and what a summary says of project and output itself.

_REQUIRED_LOCAL = {
    "conda_env": ("SLURM Defaults", "- **Default conda environment**: `NAME`"),
    "my_wandb_project": ("Weights & Biases", "- **Default project**: `NAME`"),
}


def read_environment(reading: Reading) -> dict[str, Setting]:
    """The typed settings of the surroundings by name. What is required and missing is noted."""
    environment: dict[str, Setting] = {}
    for name, text in reading.local.settings.items():
        setting = reading.value(parameter(name), text, SourceKind.LOCAL, reading.local.file)
        if setting is not None:
            environment[name] = setting
    _project(reading, environment)
    for name, (section, line) in _REQUIRED_LOCAL.items():
        given = name in reading.local.settings or name in environment or reading.template.gives(name)
        if not given and not (name == "conda_env" and reading.template.gives("venv")):
            reading.missing(name, section, line, file=reading.local.file)
    # Without one, the YAML form keeps each run's output in its own artifacts/.
    if "output_dir_base" not in reading.local.settings and reading.form == "markdown":
        if not reading.summary.output_dirs and reading.template.gives("output_dir_base"):
            return environment
        if not reading.summary.output_dirs:
            line = "- **Output base directory**: `/path/to/outputs`"
            reading.missing("output_dir_base", "Common Paths", line, file=reading.local.file)
        else:
            text = reading.summary.output_dirs[0]
            setting = reading.value(PARAMETERS["output_dir_base"], text, SourceKind.CONFIGURATION, reading.summary.file)
            if setting is not None:
                environment["output_dir_base"] = setting
    if "output_dir_base" in environment:
        _checkpoints(reading, environment["output_dir_base"])
    return environment


def _checkpoints(reading: Reading, base: Setting) -> None:
    """Note where the summary has the checkpoints elsewhere than claude.local.md: that one wins."""
    folder = posixpath.normpath(str(base.value))
    name = reading.summary.name.text if reading.summary.name else ""
    for text in reading.summary.output_dirs:
        said = _normal(text)
        if base.source.kind is not SourceKind.LOCAL or said in {folder, posixpath.join(folder, name)}:
            continue
        message = (
            f"{text.note} is {shown(said)}, but the output base directory is {shown(folder)} in {base.source.file}"
            f" (line {base.source.line}); {base.source.file} wins"
        )
        reading.add(
            "overridden",
            message,
            field="output_dir_base",
            expected=folder,
            actual=escape(said),
            line=text.line,
            fix=f"nothing, if {base.source.file} is right; else remove its output base directory",
        )


def _normal(text: Field) -> str:
    """A path as it is compared; a text that is no path, as it is."""
    try:
        return posixpath.normpath(str(values.typed(PARAMETERS["output_dir_base"], text).value))
    except NotTyped:
        return text.text


def _project(reading: Reading, environment: dict[str, Setting]) -> None:
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
        reading.add(
            "overridden",
            message,
            field=project.name,
            expected=default.value,
            actual=setting.value,
            line=text.line,
            fix="nothing, if the summary is right",
        )


# From the two drafts to one typed `Experiment`, or every problem of both documents at once.

_OFTEN_THE_CAUSE = frozenset({"unused-column", "unused-field", "unused-row"})


def parse_experiment(
    summary: tuple[str, str],
    local_document: tuple[str, str],
    is_experiment_dir: Callable[[str], bool],
    plain_template: tuple[str, str] | None = None,
    answers: Mapping[str, Scalar] | None = None,
) -> Experiment:
    """Read an experiment from the (name, text) of its summary, its claude.local.md, and a plain YAML template, if any.

    `is_experiment_dir` tells whether a path is the directory that holds the summary (compared as files). What the
    template gives, no document needs to give. `answers` are what the user said when asked, by field.

    Raises:
        Refused: something required is missing, or something is not what it must be; names every problem of all, and
            what the user may be asked.
    """

    def reading() -> Reading:
        return _reading(summary, local_document, is_experiment_dir, plain_template)

    if not answers:
        return _experiment(reading())
    ask: tuple[Question, ...] = ()
    try:
        _experiment(reading())
    except Refused as refused:
        ask = refused.ask
    found = reading()
    found.additions |= {question.field: (question.file, question.add) for question in ask}
    found.findings += apply_answers(answers, found.summary, found.local, {question.field for question in ask})
    experiment = _experiment(found)
    return experiment.model_copy(update={"answers": tuple(used_answers(answers, found.summary, found.local, ask))})


def _reading(
    summary: tuple[str, str],
    local_document: tuple[str, str],
    is_experiment_dir: Callable[[str], bool],
    plain_template: tuple[str, str] | None,
) -> Reading:
    """The drafts of all documents, before anything is typed."""
    form: SummaryForm = "yaml" if summary[0].endswith((".yaml", ".yml")) else "markdown"
    read = yaml_summary.read_yaml_summary if form == "yaml" else markdown_summary.read_markdown_summary
    reading = Reading(
        read(summary[1], summary[0]), local.read_local(local_document[1], local_document[0]), form, is_experiment_dir
    )
    if plain_template is not None:
        reading.template = template.read_template(plain_template[1], plain_template[0])
    return reading


def _experiment(reading: Reading) -> Experiment:
    """The experiment that the drafts tell of.

    Raises:
        Refused: see `parse_experiment`.
    """
    reading.findings += [*reading.summary.findings, *reading.local.findings]
    name = _name(reading)
    _experiment_dir(reading)
    columns, runs = runs_table.read_rows(reading)
    config = configuration.read_configuration(reading, runs)
    reading.findings += runs_table.differing_levels(reading.summary, runs, config)
    surroundings = read_environment(reading)
    dataset = read_dataset(reading)
    runs = model_fields(runs, dataset)
    models = read_models(reading, runs, surroundings)
    _required_by_runs(reading, runs, config, dataset)
    reading.findings += _of_template(reading, runs, {*config, *surroundings}, models)
    if problems := errors_in(reading.findings):
        # What was not read often is the cause of what is missing.
        unread = [f for f in reading.findings if f.code in _OFTEN_THE_CAUSE]
        ask = questions(problems, reading.additions, [row.line for row in reading.summary.rows], reading.summary.file)
        raise Refused(f"{len(problems)} problem(s) in the experiment's documents", [*problems, *unread], ask)
    return Experiment(
        name=name,
        form=reading.form,
        summary_file=reading.summary.file,
        local_file=reading.local.file,
        columns=columns,
        runs=runs,
        dataset=dataset,
        models=models,
        config=config,
        environment=surroundings,
        template=reading.template.settings,
        template_others=reading.template.others,
        warnings=tuple(sort_findings(f for f in reading.findings if f.severity is not Severity.ERROR)),
    )


def _of_template(
    reading: Reading, runs: tuple[Run, ...], common: set[str], models: tuple[ModelPath, ...]
) -> list[Finding]:
    """What is wrong with the template, but for values that are not needed, as documents give them for every run."""
    by_run = [run.parameters.keys() for run in runs if run.type == "fine-tuned"]
    given = common | (set.intersection(*map(set, by_run)) if by_run else set[str]())
    if not any(model.path.source.kind is SourceKind.TEMPLATE for model in models):
        given.add("models_dir")
    return reading.template.unusable(given.__contains__)


def _name(reading: Reading) -> str:
    title = reading.summary.name
    if title is None and "experiment_name" in {f.field for f in reading.findings}:
        return ""
    if title is None:
        reading.missing("experiment name", "at the top", "# EXPERIMENT_NAME")
        return ""
    setting = reading.value(PARAMETERS["experiment_name"], title, SourceKind.SUMMARY, reading.summary.file)
    return str(setting.value) if setting else ""


def _experiment_dir(reading: Reading) -> None:
    for text in reading.summary.directories:
        if not reading.is_experiment_dir(text.text):
            message = f"{text.note} says {shown(text.text)}, which is not the directory of {reading.summary.file}"
            fix = "correct the path, or move the summary to the directory that it names"
            field, actual = "experiment directory", escape(text.text)
            reading.add("wrong-experiment-dir", message, field=field, actual=actual, line=text.line, fix=fix)


def _required_by_runs(
    reading: Reading, runs: tuple[Run, ...], config: dict[str, Setting], dataset: Dataset | None
) -> None:
    tuned = [run for run in runs if run.type == "fine-tuned"]
    given = {f.field for f in errors_in(reading.findings)}  # a value that cannot be read is not a missing one
    unread = not tuned and "runs" not in given
    for name, label in (("epochs", "Epochs"), ("batch_size", "Batch size")):
        lacking = unread or any(name not in run.parameters for run in tuned)
        if lacking and name not in config and name not in given and not reading.template.gives(name):
            reading.missing(name, "Configuration > Training", f"- **{label}:** NUMBER")
    lacking = unread or any("dataset" not in run.parameters for run in tuned)
    if lacking and dataset is None and "dataset" not in given:
        reading.missing("dataset", "Resources > Dataset", "- **Path**: `/path/to/data.json`")
    if unread and "type" not in given:
        reading.missing("fine-tuned runs", "All Runs", "| RUN_NAME | MODEL | ... | Fine-tuned |")


# What a claude.local.md sets, read alone, without an experiment beside it.


def local_settings(text: str, file: str) -> tuple[dict[str, Setting], tuple[Finding, ...]]:
    """The typed settings of a claude.local.md by name, and what is wrong or remarkable with it.

    Args:
        text: the document.
        file: its name in messages.
    """
    draft = local.read_local(text, file)
    reading = Reading(SummaryDraft(file), draft, "markdown", lambda _: False)
    settings = read_environment(reading)
    return settings, (*draft.findings, *reading.findings)
