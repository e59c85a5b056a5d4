"""From the two drafts to one typed `Experiment`, or every problem of both documents at once."""

from collections.abc import Callable, Mapping

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Refused, Scalar, errors_in, sort_findings
from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.models.experiment import Dataset, Experiment, ModelPath, Run, SummaryForm
from scaffold_torchtune.parse import (
    configuration,
    environment,
    levels,
    local,
    markdown_summary,
    resources,
    rows,
    template,
    yaml_summary,
)
from scaffold_torchtune.parse.answers import apply, used
from scaffold_torchtune.parse.questions import questions
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.shared.text import escape, shown

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
    found.findings += apply(answers, found.summary, found.local, {question.field for question in ask})
    experiment = _experiment(found)
    return experiment.model_copy(update={"answers": tuple(used(answers, found.summary, found.local, ask))})


def _reading(
    summary: tuple[str, str],
    local_document: tuple[str, str],
    is_experiment_dir: Callable[[str], bool],
    plain_template: tuple[str, str] | None,
) -> Reading:
    """The drafts of all documents, before anything is typed."""
    form: SummaryForm = "yaml" if summary[0].endswith((".yaml", ".yml")) else "markdown"
    read = yaml_summary.read if form == "yaml" else markdown_summary.read
    reading = Reading(
        read(summary[1], summary[0]), local.read(local_document[1], local_document[0]), form, is_experiment_dir
    )
    if plain_template is not None:
        reading.template = template.read(plain_template[1], plain_template[0])
    return reading


def _experiment(reading: Reading) -> Experiment:
    """The experiment that the drafts tell of.

    Raises:
        Refused: see `parse_experiment`.
    """
    reading.findings += [*reading.summary.findings, *reading.local.findings]
    name = _name(reading)
    _experiment_dir(reading)
    columns, runs = rows.read(reading)
    config = configuration.read(reading, runs)
    reading.findings += levels.differing(reading.summary, runs, config)
    surroundings = environment.read(reading)
    dataset = resources.dataset(reading)
    runs = resources.by_name(runs, dataset)
    models = resources.models(reading, runs, surroundings)
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
