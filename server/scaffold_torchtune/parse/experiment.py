"""From the drafts of both documents to one typed `Experiment`, or every problem of both at once."""

import posixpath
from collections.abc import Callable, Mapping

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Refused, Scalar, errors_in, sort_findings
from scaffold_torchtune.models import Dataset, Experiment, ModelPath, Run, Setting, SourceKind, SummaryFormat
from scaffold_torchtune.parse import configuration, local, markdown_summary, runs_table, template, values, yaml_summary
from scaffold_torchtune.parse.answers import MODEL_PATH, apply_answers, questions, used_answers
from scaffold_torchtune.parse.drafts import SummaryDraft
from scaffold_torchtune.parse.local_labels import parameter
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.text import close_matches, escape, shown
from scaffold_torchtune.torchtune_facts.model_registry import find_model, known_models

_LIKELY_MISSPELT = 0.9
_OFTEN_THE_CAUSE = frozenset({"unused-column", "unused-field", "unused-row"})
_REQUIRED_LOCAL = {
    "conda_env": ("SLURM Defaults", "- **Default conda environment**: `NAME`"),
    "my_wandb_project": ("Weights & Biases", "- **Default project**: `NAME`"),
}
_ORGANISATIONS = frozenset({"meta-llama", "qwen", "mistralai", "google", "microsoft", "unsloth"})


def parse_experiment(
    summary: tuple[str, str],
    local_document: tuple[str, str],
    is_experiment_dir: Callable[[str], bool],
    plain_template: tuple[str, str] | None = None,
    answers: Mapping[str, Scalar] | None = None,
) -> Experiment:
    """Read an experiment from the (name, text) of its summary, its claude.local.md, and a plain YAML template, if any.

    `is_experiment_dir` returns whether a path is the directory that holds the summary (compared as files). What the
    template gives, no document needs to give. `answers` are what the user gave when asked, by field.

    Raises:
        Refused: something required is missing, or something is not what it must be; names every problem of all, and
            what the user may be asked.
    """

    def read() -> Reading:
        """Return the drafts of all documents, before anything is typed."""
        form: SummaryFormat = "yaml" if summary[0].endswith((".yaml", ".yml")) else "markdown"
        reader = yaml_summary.read_yaml_summary if form == "yaml" else markdown_summary.read_markdown_summary
        local_draft = local.read_local(local_document[1], local_document[0])
        reading = Reading(reader(summary[1], summary[0]), local_draft, form, is_experiment_dir)
        if plain_template is not None:
            reading.template = template.read_template(plain_template[1], plain_template[0])
        return reading

    if not answers:
        return _experiment(read())
    ask: tuple[Question, ...] = ()
    try:
        _experiment(read())
    except Refused as refused:
        ask = refused.ask
    found = read()
    found.additions |= {question.field: (question.file, question.add) for question in ask}
    found.findings += apply_answers(answers, found.summary, found.local, {question.field for question in ask})
    experiment = _experiment(found)
    return experiment.model_copy(update={"answers": tuple(used_answers(answers, found.summary, found.local, ask))})


def local_settings(text: str, file: str) -> tuple[dict[str, Setting], tuple[Finding, ...]]:
    """Return the typed settings of a claude.local.md by name, and what is wrong or remarkable with it.

    Args:
        text: the document.
        file: its name in messages.
    """
    draft = local.read_local(text, file)
    reading = Reading(SummaryDraft(file), draft, "markdown", lambda _: False)
    settings = _environment(reading, {})
    return settings, (*draft.findings, *reading.findings)


def _experiment(reading: Reading) -> Experiment:
    """Return the experiment of the drafts.

    Raises:
        Refused: see `parse_experiment`.
    """
    reading.findings += [*reading.summary.findings, *reading.local.findings]
    name = _name(reading)
    _experiment_dir(reading)
    columns, runs = runs_table.read_rows(reading)
    config = configuration.read_configuration(reading, runs)
    reading.findings += runs_table.differing_levels(reading.summary, runs, config)
    environment = _environment(reading, config)
    dataset = _dataset(reading)
    runs = tuple(_with_dataset_path(run, dataset) for run in runs) if dataset else runs
    models = _models(reading, runs, environment)
    _required_by_runs(reading, runs, config, dataset)
    # What is wrong with a template's values that documents give for every run does not matter.
    given = {*config, *environment, *configuration.given_by_every_run(runs)}
    if not any(model.path.source.kind is SourceKind.TEMPLATE for model in models):
        given.add("models_dir")
    reading.findings += reading.template.unusable(given)
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
        environment=environment,
        template=reading.template.settings,
        template_others=reading.template.others,
        warnings=tuple(sort_findings(f for f in reading.findings if f.severity is not Severity.ERROR)),
    )


def _name(reading: Reading) -> str:
    title = reading.summary.name
    if title is None:
        if "experiment_name" not in {f.field for f in reading.findings}:
            reading.missing("experiment name", "at the top", "# EXPERIMENT_NAME")
        return ""
    setting = reading.value(PARAMETERS["experiment_name"], title, SourceKind.SUMMARY)
    return setting.text if setting else ""


def _experiment_dir(reading: Reading) -> None:
    for text in reading.summary.directories:
        if not reading.is_experiment_dir(text.text):
            message = f"{text.note} says {shown(text.text)}, which is not the directory of {reading.summary.file}"
            fix = "correct the path, or move the summary to the directory that it names"
            field, actual = "experiment directory", escape(text.text)
            reading.add("wrong-experiment-dir", message, field=field, actual=actual, line=text.line, fix=fix)


def _environment(reading: Reading, config: dict[str, Setting]) -> dict[str, Setting]:
    """Return the typed settings of the surroundings by name. What is required and in no document is noted."""
    environment: dict[str, Setting] = {}
    for name, text in reading.local.settings.items():
        setting = reading.value(parameter(name), text, SourceKind.LOCAL, reading.local.file)
        if setting is not None:
            environment[name] = setting
    _project(reading, environment)
    for name, (section, line) in _REQUIRED_LOCAL.items():
        given = name in reading.local.settings or name in {*environment, *config} or reading.template.gives(name)
        if not given and not (name == "conda_env" and reading.template.gives("venv")):
            reading.missing(name, section, line, file=reading.local.file)
    base, texts = PARAMETERS["output_dir_base"], reading.summary.output_dirs
    # Without one, the YAML form keeps each run's output in its own artifacts/.
    if base.name not in reading.local.settings and reading.form == "markdown":
        if texts:
            setting = reading.value(base, texts[0], SourceKind.CONFIGURATION)
            environment |= {} if setting is None else {base.name: setting}
        elif not reading.template.gives(base.name):
            line = "- **Output base directory**: `/path/to/outputs`"
            reading.missing(base.name, "Common Paths", line, file=reading.local.file)
    if base.name in environment and environment[base.name].source.kind is SourceKind.LOCAL:
        _checkpoints(reading, environment[base.name])
    return environment


def _checkpoints(reading: Reading, base: Setting) -> None:
    """Note where the summary has the checkpoints elsewhere than claude.local.md: that one wins."""
    folder, file = posixpath.normpath(base.text), base.source.file
    name = reading.summary.name.text if reading.summary.name else ""
    for text in reading.summary.output_dirs:
        value = values.value_of(PARAMETERS["output_dir_base"], text)
        path = text.text if value is None else posixpath.normpath(str(value))
        if path not in {folder, posixpath.join(folder, name)}:
            message = (
                f"{text.note} is {shown(path)}, but the output base directory is {shown(folder)} in {file}"
                f" (line {base.source.line}); {file} wins"
            )
            reading.add(
                "overridden", message, field="output_dir_base", expected=folder, actual=escape(path), line=text.line,
                fix=f"nothing, if {file} is right; else remove its output base directory",
            )  # fmt: skip


def _project(reading: Reading, environment: dict[str, Setting]) -> None:
    """Let the summary's own Weights & Biases project win over the default of claude.local.md."""
    text, project = reading.summary.wandb_project, PARAMETERS["my_wandb_project"]
    setting = reading.value(project, text, SourceKind.CONFIGURATION) if text else None
    if setting is None:
        return
    default = environment.get(project.name, setting)
    environment[project.name] = setting
    if default.value != setting.value:
        message = (
            f"the project is {shown(setting.value)} here, but {shown(default.value)} in {reading.local.file}"
            f" (line {default.source.line}); the summary wins"
        )
        reading.add(
            "overridden", message, field=project.name, expected=default.value, actual=setting.value,
            line=setting.source.line, fix="nothing, if the summary is right",
        )  # fmt: skip


def _dataset(reading: Reading) -> Dataset | None:
    """Return the data set that the summary names, or None where it names none. Two different ones are noted."""
    found = reading.all_values(PARAMETERS["dataset"], reading.summary.datasets, SourceKind.RESOURCES)
    if not found:
        return None
    for other in found[1:]:
        if not _same_file(reading, other.text, found[0].text):
            fix = "name one data set; where it differs by run, give the runs table a column Dataset"
            reading.contradiction("dataset", other, found[0], fix)
    label, extension = layout.data_label(found[0].text)
    return Dataset(path=found[0], label=label, extension=extension, splits=reading.summary.splits)


def _with_dataset_path(run: Run, dataset: Dataset) -> Run:
    """Return the run, with the path of the summary's data set where its row names that (`words`)."""
    own = run.parameters.get("dataset")
    if own is None or own.value != dataset.label:
        return run
    parameters = run.parameters | {"dataset": Setting(value=dataset.path.value, source=own.source)}
    return run.model_copy(update={"parameters": parameters})


def _same_file(reading: Reading, one: str, other: str) -> bool:
    """Return whether two paths are one: spelt otherwise, or one of them taken from the experiment directory."""
    short, long = sorted((posixpath.normpath(one), posixpath.normpath(other)), key=len)
    folder = long.removesuffix(f"/{short}")
    return short == long or (not short.startswith("/") and folder != long and reading.is_experiment_dir(folder))


def _models(reading: Reading, runs: tuple[Run, ...], environment: dict[str, Setting]) -> tuple[ModelPath, ...]:
    """Return the path of every model that a run names: as listed, else below the models directory."""
    found: dict[str, Setting] = {}
    named = {run.model for run in runs}
    for name, text in reading.summary.models:
        path = Parameter(f"{MODEL_PATH}{name}", "path")
        # remarks stand there too: Verified, Size, Source
        setting = reading.value(path, text, SourceKind.RESOURCES) if name in named else None
        if setting is not None:
            _refuse_model_name(reading, path.name, setting)
            first = found.setdefault(name, setting)
            if first.value != setting.value:
                reading.contradiction(path.name, setting, first)
    bases = reading.all_values(PARAMETERS["models_dir"], reading.summary.models_dirs, SourceKind.SUMMARY)
    if bases:  # the environment knows it too, if nothing else gave it there
        environment.setdefault("models_dir", bases[0])
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
            message = f"{shown(name)} is not one of the listed models; did you mean {near[0]!r}?"
            fix = f"write {near[0]!r}, or list the path of {escape(name)} too"
            reading.add("misspelt-field", message, field="model", actual=escape(name), line=run.line, fix=fix)
        elif base:
            path_of = base.text if posixpath.basename(base.text) == name else posixpath.join(base.text, name)
            found[name] = Setting(value=path_of, source=base.source)
        elif reading.template.readable and not any(f.field == "models_dir" for f in reading.findings):
            reading.missing(f"{MODEL_PATH}{name}", "Resources > Models", f"- **{name}**: `/path/to/{name}`")
    return tuple(ModelPath(name=name, path=path) for name, path in found.items())


def _refuse_model_name(reading: Reading, field: str, setting: Setting) -> None:
    """Refuse as a path the name of a model on Hugging Face: `meta-llama/Llama-3.2-1B-Instruct`."""
    organisation, _, name = setting.text.partition("/")
    if organisation.casefold() in _ORGANISATIONS and find_model(name) is not None:
        message = f"{shown(setting.value)} is the name of a model on Hugging Face, not the directory that holds it"
        fix = "write the path of the downloaded model; for a directory of that name below the experiment, begin with ./"
        expected, line = "the path of a directory", setting.source.line
        reading.add("invalid-value", message, field=field, expected=expected, actual=setting.value, line=line, fix=fix)


def _meant(name: str, listed: set[str]) -> list[str]:
    """Return the listed model that a row means: nearly its name, or a part of one name alone (`1B`)."""
    parts = [other for other in sorted(listed) if name.casefold() in other.casefold()]
    return close_matches(name, listed, limit=1, cutoff=_LIKELY_MISSPELT) or (parts if len(parts) == 1 else [])


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
