"""Step 1: read both documents into one typed `Experiment`, or report all of their problems.

This module checks the required fields and combines both documents.

markdown_summary.py  experiment_summary.md: sections, models, data, resources, Configuration
headings.py          its headings, and unread lines below them that look like settings
unread.py            lines, notes and sentences elsewhere that contradict the runs
free_text.py         the statements of a note or a sentence, apart from mere mentions
runs_table.py        its table of runs: columns and rows
marked_rows.py       rows that are not runs: struck out, cancelled, totals, headings of groups; blank cells; names
yaml_summary.py      experiment_summary.yaml
yaml_form.py         its keys, its JSON Schema
yaml_source.py       YAML with lines: the summary, a plain template, configurations of other trainers
local.py             claude.local.md
local_lines.py       its sections, line by line, and the meaning of its labels and headings
values.py            the typed value in a text
notations.py         notations of numbers, times, memory and models; words for LoRA and full fine-tuning
compound.py          lines that give several settings: batch and accumulation, GPUs and nodes, W&B
answers.py           questions to the user, and the answers
document_lines.py    insertion of a missing line into Markdown or YAML
drafts.py            the models that readers fill, with untyped values; the fine-tuned runs as stated
reading.py           the shared drafts and findings; missing lines and their places
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Refused,
    Scalar,
    close_matches,
    counted,
    errors_in,
    escape,
    few,
    lines_text,
    one_of,
    shown,
    sort_findings,
)
from scaffold_torchtune.models import (
    Dataset,
    Experiment,
    ModelPath,
    Run,
    Setting,
    Source,
    SourceKind,
    SummaryFormat,
    lines_of,
    shared_fields,
)
from scaffold_torchtune.parse import (
    free_text,
    local,
    markdown_summary,
    marked_rows,
    runs_table,
    values,
    yaml_source,
    yaml_summary,
)
from scaffold_torchtune.parse.answers import Answering, Asked, ask
from scaffold_torchtune.parse.drafts import SourceText, SummaryDraft, TemplateDraft
from scaffold_torchtune.parse.local_lines import parameter
from scaffold_torchtune.parse.reading import AT_THE_TOP, MODEL_PATH, NAME, Place, Reading, note_statements
from scaffold_torchtune.parse.unread import note_unread
from scaffold_torchtune.results.step_results import ParseResult
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import OF_CONFIGURATION, PARAMETERS, Parameter, normalize
from scaffold_torchtune.system import layout
from scaffold_torchtune.torchtune_facts import is_published, known_models, model_by_spelling

_FEW = 6
_LIKELY_MISSPELT = 0.9
_OF_WEIGHTS = frozenset(
    {"path", "location", "checkpoint", "checkpoints", "weights", "model", "models", "directory", "folder", "adapter"}
)
_STARTS = re.compile(r"\b(?:start|initiali[sz]|init|resum|continu)\w{0,6}\b", re.IGNORECASE)
_FORMATS = frozenset({"json", "parquet"})
_OFTEN_THE_CAUSE = frozenset({"unused-column", "unused-field", "unused-row"})
_REQUIRED_LOCAL = {"conda_env": "SLURM Defaults", "my_wandb_project": "Weights & Biases"}


def parse_experiment(
    summary: tuple[str, str],
    local_document: tuple[str, str],
    is_experiment_dir: Callable[[str], bool],
    plain_template: tuple[str, str] | None = None,
    answers: Mapping[str, Scalar] | None = None,
) -> Experiment:
    """Read an experiment from the (name, text) of its summary, its claude.local.md, and a plain YAML template, if any.

    `is_experiment_dir` returns whether a path is the directory that contains the summary (compared as files). The
    documents need not give values that the template gives. `answers` are the user's answers, by field.

    Raises:
        Refused: if something required is missing or invalid; contains every problem, and the questions for the user.
    """
    form: SummaryFormat = "yaml" if summary[0].endswith((".yaml", ".yml")) else "markdown"
    reader = yaml_summary.read_yaml_summary if form == "yaml" else markdown_summary.read_markdown_summary
    drafts = reader(summary[1], summary[0]), local.read_local(local_document[1], local_document[0])
    note_statements(drafts[0])
    plain = (
        TemplateDraft() if plain_template is None else yaml_source.read_template(plain_template[1], plain_template[0])
    )

    def reading() -> Reading:
        """Return the drafts with their problems, before values are typed."""
        return Reading(*drafts, form, is_experiment_dir, plain, [*drafts[0].unasked])

    if not answers:
        return _experiment(reading(), {})
    return _answered(reading, Answering(dict(answers), {}))


def _answered(reading: Callable[[], Reading], answering: Answering) -> Experiment:
    """Return the experiment of the drafts with the user's answers.

    An answer may raise a question that another answer settles, so answers are used until no question is left.

    Raises:
        Refused: see `parse_experiment`.
    """
    asked: list[Asked] = []
    while True:
        current = reading()
        try:
            _experiment(current, answering.taken)
            asked = []
        except _Unread as unread:
            asked = unread.asked
        if not answering.take(asked, current):
            break
    problems = answering.take_others(asked, current)
    current = reading()
    current.findings += problems
    experiment = _experiment(current, answering.taken)
    given = markdown_summary.given_by_every_run(experiment.runs)
    if unused := answering.refuse_unused(experiment.runs, given, experiment.summary_file):
        raise Refused(f"{counted(len(unused), 'problem')} with the answers", unused)
    return experiment.model_copy(update={"answers": tuple(answering.used(current))})


class _Unread(Refused):
    """A refusal, with the places of the answers to its questions."""

    def __init__(self, message: str, problems: Iterable[Finding], asked: list[Asked]) -> None:
        super().__init__(message, problems, (each.question for each in asked))
        self.asked = asked


def local_settings(text: str, file: str) -> tuple[dict[str, Setting], tuple[Finding, ...]]:
    """Return the typed settings of a claude.local.md by name, and its problems and warnings.

    Args:
        text: the document.
        file: its name in messages.
    """
    draft = local.read_local(text, file)
    reading = Reading(SummaryDraft(file), draft, "markdown", lambda _: False)
    settings = _environment(reading, {})
    return settings, (*draft.findings, *reading.findings)


def _experiment(reading: Reading, answered: Mapping[str, Place]) -> Experiment:
    """Return the experiment of the drafts. `answered` are the places of answers, by field.

    Raises:
        Refused: see `parse_experiment`.
    """
    reading.findings += [*reading.summary.findings, *reading.local.findings]
    name = _name(reading)
    _experiment_dir(reading)
    before = len(reading.findings)
    columns, runs = runs_table.read_rows(reading)
    reading.unasked += [each for each in reading.findings[before:] if each.field not in OF_CONFIGURATION]
    config = markdown_summary.read_configuration(reading, runs)
    reading.findings += runs_table.differing_levels(reading.summary, runs, config)
    environment = _environment(reading, config)
    before = len(reading.findings)
    given_to_all = reading.template.settings | environment | config
    note_unread(reading, given_to_all, runs)
    marked_rows.report_groups(reading, given_to_all, runs)
    _times_in_notes(reading, given_to_all, runs)
    contradicting = reading.findings[before:]
    reading.unasked += contradicting
    _drop_unused(reading, [each.line for each in errors_in(contradicting)], contradicting)
    reading.findings += marked_rows.blank_cells(reading, runs, config, environment)
    dataset, named = _dataset(reading, runs)
    _unlisted_data(reading, runs, named)
    runs = tuple(_with_dataset_path(run, named) for run in runs)
    models = _models(reading, runs, environment)
    _required_by_runs(reading, runs, config, dataset)
    # Problems of a template's value do not matter if the documents give the value for every run.
    given = {*config, *environment, *markdown_summary.given_by_every_run(runs)}
    if not any(model.path.source.kind is SourceKind.TEMPLATE for model in models):
        given.add("models_dir")
    reading.findings += reading.template.unusable(given)
    if problems := errors_in(reading.findings):
        # An unread line is often the cause of a missing value.
        unread = [f for f in reading.findings if f.code in _OFTEN_THE_CAUSE]
        message = f"{counted(len(problems), 'problem')} in the experiment's documents"
        raise _Unread(message, [*problems, *unread], ask(problems, reading, answered))
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
        names=tuple(_stated_name(reading, text) for text in reading.summary.names),
        stated=tuple(dict.fromkeys(reading.stated)),
        warnings=tuple(sort_findings(f for f in reading.findings if f.severity is not Severity.ERROR)),
    )


def _times_in_notes(reading: Reading, known: Mapping[str, Setting], runs: Sequence[Run]) -> None:
    """Report time limits in notes of runs that differ from the limits of the runs."""
    time, by_line = PARAMETERS["time"], {run.line: run for run in runs if run.type == "fine-tuned"}
    for row, run in ((row, by_line[row.line]) for row in reading.summary.rows if row.line in by_line):
        planned = run.parameters.get("time") or known.get("time")
        limit = str(planned.value if planned else time.default)
        for note in row.notes:
            for text in free_text.times_in_note(note.full or note.text):
                value = values.value_of(time, replace(note, text=text, full=None, source=None))
                if value is not None and kinds.slurm_seconds(str(value)) != kinds.slurm_seconds(limit):
                    message = (
                        f"time of the run {shown(run.name)} is {shown(limit)}, but {note.note} says {shown(value)}"
                    )
                    fix = f"write the intended value in {reading.own_place('time')}, and remove the value from the note"
                    reading.add(
                        "ambiguous", message, field="time", expected=limit, actual=value, line=note.line, fix=fix
                    )


def _drop_unused(reading: Reading, lines: Iterable[int | None], kept: Sequence[Finding] = ()) -> None:
    """Remove warnings that lines of the summary have no effect, because another finding says more about these lines."""
    places = {(reading.summary.file, line) for line in lines if line is not None}
    reading.findings = [
        each for each in reading.findings
        if each.code != "unused-field" or each in kept or (each.file, each.line) not in places
    ]  # fmt: skip


def _stated_name(reading: Reading, text: SourceText) -> Setting:
    source = Source(kind=SourceKind.SUMMARY, file=reading.summary.file, line=text.line, note=text.note)
    return Setting(value=text.text, source=source)


def _name(reading: Reading) -> str:
    """Return the experiment's name: the title, or its slug if it has several words."""
    title = reading.summary.name
    if title is None:
        if not {"experiment_name", NAME} & {f.field for f in reading.findings}:
            reading.missing(NAME, AT_THE_TOP)
        return ""
    known = PARAMETERS["experiment_name"]
    slug = None if title.answer or values.value_of(known, title) is not None else values.slug(title.text)
    if slug is not None:
        title = replace(title, text=slug, full=None, source=None)
        message = (
            f"the experiment and its output directory are named {shown(slug)}, because the title has several words"
        )
        fix = "no action if the name is fine; for a different name, use a one-word title"
        reading.add("name-from-title", message, field="experiment_name", actual=slug, line=title.line, fix=fix)
    setting = reading.value(known, title, SourceKind.SUMMARY)
    return setting.text if setting else ""


def _experiment_dir(reading: Reading) -> None:
    for text in reading.summary.directories:
        if not reading.is_experiment_dir(text.text):
            message = (
                f"{text.note} is {shown(text.text)}, which is not the directory that contains {reading.summary.file}"
            )
            fix = "correct the path, or move the summary to that directory"
            field, actual = "experiment directory", escape(text.text)
            reading.add("wrong-experiment-dir", message, field=field, actual=actual, line=text.line, fix=fix)


def _environment(reading: Reading, config: dict[str, Setting]) -> dict[str, Setting]:
    """Return the typed settings of claude.local.md by name; report missing required ones."""
    environment: dict[str, Setting] = {}
    for name, text in reading.local.settings.items():
        setting = reading.value(parameter(name), text, SourceKind.LOCAL, reading.local.file)
        if setting is not None:
            environment[name] = setting
    _project(reading, environment)
    for name, section in _REQUIRED_LOCAL.items():
        given = name in reading.local.settings or name in {*environment, *config} or reading.template.gives(name)
        if not given and not (name == "conda_env" and reading.template.gives("venv")):
            reading.missing(name, section, file=reading.local.file)
    base, texts = PARAMETERS["output_dir_base"], reading.summary.output_dirs
    # Without one, the YAML form keeps each run's output in its own artifacts/.
    if base.name not in reading.local.settings and reading.form == "markdown":
        if texts:
            setting = reading.value(base, texts[0], SourceKind.CONFIGURATION)
            environment |= {} if setting is None else {base.name: setting}
        elif not reading.template.gives(base.name):
            reading.missing(base.name, "Common Paths", file=reading.local.file)
    if base.name in environment and environment[base.name].source.kind is SourceKind.LOCAL:
        _checkpoints(reading, environment[base.name])
    return environment


def _checkpoints(reading: Reading, base: Setting) -> None:
    """Report a directory for checkpoints in the summary that claude.local.md overrides."""
    folder, file = posixpath.normpath(base.text), base.source.file
    name = reading.summary.name.text if reading.summary.name else ""
    for text in reading.summary.output_dirs:
        value = values.value_of(PARAMETERS["output_dir_base"], text)
        path = text.text if value is None else posixpath.normpath(str(value))
        if path not in {folder, posixpath.join(folder, name)}:
            message = (
                f"{text.note} is {shown(path)}, but the output base directory is {shown(folder)} in {file}"
                f" (line {base.source.line}), which overrides the summary"
            )
            reading.add(
                "overridden", message, field="output_dir_base", expected=folder, actual=escape(path), line=text.line,
                fix=f"no action if {file} is correct; otherwise remove the output base directory from {file}",
            )  # fmt: skip


def _project(reading: Reading, environment: dict[str, Setting]) -> None:
    """Override the Weights & Biases project of claude.local.md with that of the summary."""
    text, project = reading.summary.wandb_project, PARAMETERS["my_wandb_project"]
    setting = reading.value(project, text, SourceKind.CONFIGURATION) if text else None
    if setting is None:
        return
    default = environment.get(project.name, setting)
    environment[project.name] = setting
    if default.value != setting.value:
        message = (
            f"the W&B project is {shown(setting.value)} here, but {shown(default.value)} in {reading.local.file}"
            f" (line {default.source.line}), which the summary overrides"
        )
        reading.add(
            "overridden", message, field=project.name, expected=default.value, actual=setting.value,
            line=setting.source.line,
            fix="no action if the summary is correct; otherwise remove the project from"
            f" line {setting.source.line} of {reading.summary.file}",
        )  # fmt: skip


def _dataset(reading: Reading, runs: tuple[Run, ...]) -> tuple[Dataset | None, dict[str, Setting]]:
    """Return the summary's data set, if any, and all that it lists, by the names that rows may use.

    Two different data sets are a problem, unless each row has its own.
    """
    before = len(reading.findings)
    found = reading.all_values(PARAMETERS["dataset"], _listed_data(reading, runs), SourceKind.RESOURCES)
    if _each_has_own_data(runs):
        for problem in errors_in(reading.findings[before:]):
            reading.findings.remove(problem)
            reading.not_needed(problem)
    if not found:
        return None, {}
    pairs = [(name, setting) for setting in (*found, *_only_named(reading)) for name in _names_of_data(setting)]
    paths = {name: {posixpath.normpath(each.text) for other, each in pairs if other == name} for name, _ in pairs}
    named = {name: setting for name, setting in pairs if len(paths[name]) == 1}
    others = [other for other in found[1:] if not _same_file(reading, other.text, found[0].text)]
    if others and _each_has_own_data(runs):
        return None, named
    for other in others:
        own = (
            "set dataset_path in each run" if reading.form == "yaml" else "add a column `Dataset` to the table of runs"
        )
        fix = f"keep one data set; if the runs use different ones, {own}"
        reading.contradiction("dataset", other, found[0], fix)
    label, extension = layout.data_label(found[0].text)
    for what, claim in reading.summary.data_claims:
        _hold_claim(reading, what, claim, label, extension.removeprefix("."))
    return Dataset(path=found[0], label=label, extension=extension, splits=reading.summary.splits), named


def _only_named(reading: Reading) -> list[Setting]:
    """Return the listed data that only rows may name; its problems do not matter if no row does."""
    texts = [text for text in reading.summary.other_data if text not in reading.summary.datasets]
    before = len(reading.findings)
    found = reading.all_values(PARAMETERS["dataset"], texts, SourceKind.RESOURCES)
    del reading.findings[before:]
    return found


def _each_has_own_data(runs: tuple[Run, ...]) -> bool:
    return "dataset" in markdown_summary.given_by_every_run(runs)


def _listed_data(reading: Reading, runs: tuple[Run, ...]) -> list[SourceText]:
    """Return the summary's data sets; split a line that lists several if each row names its own."""
    texts: list[SourceText] = []
    for text in reading.summary.datasets:
        parts = values.several(PARAMETERS["dataset"], text) if _each_has_own_data(runs) else ()
        texts += [replace(text, text=part, full=None, source=None) for part in parts] or [text]
    return texts


def _names_of_data(setting: Setting) -> tuple[str, str]:
    """Return the names that a row may use for a listed data set: its file's stem, or its label in the list."""
    return layout.data_label(setting.text)[0], setting.source.note.rpartition(" > ")[2]


def _hold_claim(reading: Reading, what: str, claim: SourceText, label: str, extension: str) -> None:
    """Report a format or label that contradicts the path. No answer can settle which of the two is wrong."""
    written = values.without_remark(claim.text).lower().removeprefix(".")
    expected = label if what == "label" else extension
    is_known = what == "label" or reading.form == "yaml" or {written, extension.lower()} <= _FORMATS
    if written != expected.lower() and is_known:
        message = f"{claim.note} is {shown(claim.text)}, but the path ends in {shown(expected)}"
        fix = f"correct {claim.note} or the path, whichever is wrong"
        reading.add("ambiguous", message, field="dataset", line=claim.line, fix=fix)
        reading.unasked.append(reading.findings[-1])


def _with_dataset_path(run: Run, named: Mapping[str, Setting]) -> Run:
    """Return the run with the path of the data set that its row names (`words`)."""
    own = run.parameters.get("dataset")
    listed = named.get(own.text) if own is not None else None
    if own is None or listed is None:
        return run
    parameters = run.parameters | {"dataset": Setting(value=listed.value, source=own.source)}
    return run.model_copy(update={"parameters": parameters})


def _unlisted_data(reading: Reading, runs: tuple[Run, ...], named: Mapping[str, Setting]) -> None:
    """Report names of data sets in rows that are not in the list, and are no paths either."""
    names = [name for name in named if normalize(name) not in markdown_summary.DATA_PATH]
    rows: dict[str, list[Setting]] = {}
    for run in runs if names else ():
        own = run.parameters.get("dataset") if run.type == "fine-tuned" else None
        if own is not None and own.text not in named and "/" not in own.text and not layout.data_label(own.text)[1]:
            rows.setdefault(own.text, []).append(own)
    for text, settings in rows.items():
        words = set(text.casefold().split())
        similar = [name for name in names if name.casefold() in words]
        near = similar or close_matches(text.casefold(), names, limit=1, cutoff=_LIKELY_MISSPELT - 0.2)
        lines = lines_text((each.source.line for each in settings), _FEW)
        where = f"in the column {settings[0].source.note} ({lines})"
        if reading.form == "yaml":
            where = f"on {lines}"
        which = one_of([f"`{escape(name)}`" for name in (near if len(near) == 1 else names)], _FEW)
        listed = few([*map(shown, names)], _FEW)
        message = f"the data set {shown(text)} is neither a path nor one of the listed data sets: {listed}"
        line, fix = settings[0].source.line, f"write {which} {where}, or the path of the file"
        expected = near[0] if len(near) == 1 else None
        reading.add(
            "invalid-value", message, field="dataset", expected=expected, actual=escape(text), line=line, fix=fix
        )
        reading.unasked.append(reading.findings[-1])


def _same_file(reading: Reading, one: str, other: str) -> bool:
    """Return whether two paths are equal, if a relative one is relative to the experiment directory."""
    short, long = sorted((posixpath.normpath(one), posixpath.normpath(other)), key=len)
    folder = long.removesuffix(f"/{short}")
    return short == long or (not short.startswith("/") and folder != long and reading.is_experiment_dir(folder))


def _models(reading: Reading, runs: tuple[Run, ...], environment: dict[str, Setting]) -> tuple[ModelPath, ...]:
    """Return the path of each model of the runs: as listed, else below the models directory."""
    found: dict[str, Setting] = {}
    named = {run.model for run in runs}
    for written, text in reading.summary.models:
        name = _named_as(written, named)
        path = Parameter(f"{MODEL_PATH}{name}", "path")
        # the list may contain remarks, too: Verified, Size, Source
        setting = reading.value(path, text, SourceKind.RESOURCES) if name in named else None
        if setting is not None:
            _refuse_model_name(reading, path.name, setting)
            first = found.setdefault(name, setting)
            if first.value != setting.value:
                reading.contradiction(path.name, setting, first)
    bases = reading.all_values(PARAMETERS["models_dir"], reading.summary.models_dirs, SourceKind.SUMMARY)
    if bases:  # also a setting of the environment, unless it has one
        environment.setdefault("models_dir", bases[0])
    base = bases[0] if bases else environment.get("models_dir") or reading.template.settings.get("models_dir")
    listed = {_named_as(name, named) for name, _ in reading.summary.models}
    tuned = [run for run in runs if run.type == "fine-tuned"]
    lacking = {run.model: run for run in tuned if run.model and run.model not in listed}
    for other in bases[1:] if lacking else ():
        if other.value != bases[0].value:
            reading.contradiction("models_dir", other, bases[0])
    for name, run in lacking.items():
        near = [] if name in known_models() else _similar(name, listed)
        if near:
            message = f"{shown(name)} is not one of the listed models; did you mean {near[0]!r}?"
            fix = f"write `{near[0]}`, or add the path of {escape(name)} to the list"
            reading.add("misspelt-field", message, field="model", actual=escape(name), line=run.line, fix=fix)
        elif base:
            path_of = base.text if posixpath.basename(base.text) == name else posixpath.join(base.text, name)
            found[name] = Setting(value=path_of, source=base.source)
        elif reading.template.readable and not any(f.field == "models_dir" for f in reading.findings):
            reading.missing(f"{MODEL_PATH}{name}", "Resources > Models")
    _unused_paths(reading, found, bases)
    return tuple(ModelPath(name=name, path=path) for name, path in found.items())


def _unused_paths(reading: Reading, found: Mapping[str, Setting], bases: list[Setting]) -> None:
    """Report paths of models in the summary that no run uses.

    A path is a problem if a model that the list does not name gets its path from elsewhere, or if the line is about
    the weights to start from.
    """
    unlisted = [name for name, setting in found.items() if setting.source.kind is not SourceKind.RESOURCES]
    unlisted = [name for name in unlisted if found[name].source.kind is not SourceKind.ANSWER]
    used = [posixpath.normpath(setting.text) for setting in (*found.values(), *bases)]
    sources = [setting.source for setting in (*found.values(), *bases)]
    lines = {source.line for source in sources if source.file == reading.summary.file}
    reported = {each.line for each in reading.findings if each.field and each.field.startswith(MODEL_PATH)}
    paths = [each for each in reading.summary.model_paths if found and _is_of_weights(*each)]
    _drop_unused(reading, [text.line for _, text in paths])
    for label, text in paths:
        path = posixpath.normpath(text.text)
        is_used = any(f"{one}/".startswith(f"{path}/") or f"{path}/".startswith(f"{one}/") for one in used)
        if is_used or text.line in lines | reported:
            continue
        reported.add(text.line)
        named = _models_called(label, text)
        other = next((each for each in named if not any(_is_model(each, name) for name in found)), None)
        of_others = [name for name in unlisted if other is None or _model_called(name)]  # the plan refuses unknown ones
        if of_others:
            of = next((name for name in of_others if any(_is_model(each, name) for each in named)), of_others[0])
            _unlisted(reading, of, found[of], text, None if of in named else other)
        elif other is None:
            _other_path(reading, found, text)


def _is_of_weights(label: str, text: SourceText) -> bool:
    """Return whether a path is that of a model, according to its label, its sentence or its last part."""
    words = set(normalize(label or text.note).split())
    return bool(words & _OF_WEIGHTS or _models_called(label, text) or _STARTS.search(text.note))


def _models_called(label: str, text: SourceText) -> list[str]:
    return [each for part in (label, posixpath.basename(text.text)) if (each := _model_called(part))]


def _model_called(text: str) -> str | None:
    known = model_by_spelling(values.without_remark(text))
    return known.name if known else None


def _is_model(known: str, name: str) -> bool:
    return known == name or _model_called(name) == known


def _unlisted(reading: Reading, name: str, planned: Setting, text: SourceText, other: str | None) -> None:
    """Report a path in the summary beside a model that gets its path from elsewhere."""
    field, path = f"{MODEL_PATH}{name}", escape(planned.text if other else text.text)
    what = f"is the path of {other}, which no run uses" if other else "is not read as the path of a model"
    message = (
        f"{shown(text.text)} {what}; {name} would be read from {shown(planned.text)}, the path at {planned.source}"
    )
    where, _ = reading.advised(field, reading.summary)
    add = f"add `- **{name}:** {path}` {where}, followed by an empty line,"  # a paragraph may follow
    if other:
        fix = f"{add} if the runs start from {name}; otherwise write `{other}` in the table of runs"
    elif posixpath.basename(text.text) == name:
        fix = f"{add} if {path} is the path of {name}; otherwise remove the path"
    else:
        fix = f"{add} if {path} is the path of {name}; if {path} contains {name}, add `- **Models directory:** {path}`"
        fix += " there instead"
    reading.add(
        "ambiguous", message, field=field, expected=planned.value, actual=escape(text.text), line=text.line, fix=fix
    )
    reading.unasked.append(reading.findings[-1])


def _other_path(reading: Reading, found: Mapping[str, Setting], text: SourceText) -> None:
    """Report a path beside models that all have their own paths."""
    name, setting = next(iter(found.items()))
    message = f"{shown(text.text)} is not used: each model has its own path"
    fix = f"if the runs should start from {shown(text.text)}, write it as the path of its model; otherwise"
    if len(found) == 1:
        message = f"{shown(text.text)} is not used: {name} is read from {shown(setting.text)}"
        source = setting.source
        place = f"in {source.file or reading.summary.file}:{source.line}" if source.line else "in the answer"
        fix = (
            f"if the runs should start from {shown(text.text)}, write it in place of {shown(setting.text)} {place};"
            " otherwise"
        )
    code, rest = ("ambiguous", "remove it") if _STARTS.search(text.note) else ("unused-field", "no action")
    reading.add(
        code, message, field=f"{MODEL_PATH}{name}", actual=escape(text.text), line=text.line, fix=f"{fix} {rest}"
    )
    reading.unasked.append(reading.findings[-1])


def _named_as(written: str, named: set[str]) -> str:
    """Return the runs' name of a listed model: the listed name, or the only name of a run that means the same model."""
    if written in named:
        return written
    known = model_by_spelling(written)
    same = [name for name in sorted(named) if known is not None and model_by_spelling(name) is known]
    return same[0] if len(same) == 1 else written


def _refuse_model_name(reading: Reading, field: str, setting: Setting) -> None:
    """Report the name of a model on Hugging Face that is given as a path: `meta-llama/Llama-3.2-1B-Instruct`."""
    if is_published(setting.text):
        message = f"{shown(setting.value)} is the name of a model on Hugging Face, not a directory"
        fix = "write the path of the downloaded model, or ./NAME for a directory in the experiment directory"
        expected, line = "the path of a directory", setting.source.line
        reading.add("invalid-value", message, field=field, expected=expected, actual=setting.value, line=line, fix=fix)


def _similar(name: str, listed: set[str]) -> list[str]:
    """Return the listed model that a row probably means, by a similar name or a part of one name (`1B`)."""
    parts = [other for other in sorted(listed) if name.casefold() in other.casefold()]
    return close_matches(name, listed, limit=1, cutoff=_LIKELY_MISSPELT) or (parts if len(parts) == 1 else [])


def _required_by_runs(
    reading: Reading, runs: tuple[Run, ...], config: dict[str, Setting], dataset: Dataset | None
) -> None:
    tuned = [run for run in runs if run.type == "fine-tuned"]
    given = {f.field for f in errors_in(reading.findings)}  # an invalid value is not a missing one
    unread = not tuned and "runs" not in given
    for name in ("epochs", "batch_size"):
        lacking = unread or any(name not in run.parameters for run in tuned)
        if lacking and name not in config and name not in given and not reading.template.gives(name):
            reading.missing(name, "Configuration > Training")
    lacking = unread or any("dataset" not in run.parameters for run in tuned)
    if lacking and dataset is None and "dataset" not in given:
        reading.missing("dataset", "Resources > Dataset")
    if unread and given.isdisjoint({"type", "fine-tuned runs"}):
        reading.missing("fine-tuned runs", "All Runs", "| RUN_NAME | MODEL | ... | Fine-tuned |")


def parse_result(experiment: Experiment, directory: str) -> ParseResult:
    """Return the experiment as the result of parse_summary."""
    settings = [*experiment.config.items(), *experiment.environment.items()]
    settings += [(f"models.{model.name}", model.path) for model in experiment.models]
    settings += [(f"template.{name}", setting) for name, setting in experiment.template.items()]
    settings += [("dataset", experiment.dataset.path)] if experiment.dataset else []
    sources = lines_of((name, setting.source) for name, setting in settings)
    own = {"experiment": experiment.name, "experiment_dir": directory, "sources": sources}
    return ParseResult(**shared_fields(experiment, ParseResult) | own)
