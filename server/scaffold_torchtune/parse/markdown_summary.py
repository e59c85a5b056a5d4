"""Reader of experiment_summary.md: its resources and settings, as a `SummaryDraft`.

Its section Configuration contains the settings that all runs share unless their rows override them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from scaffold_torchtune.findings import escape, few, shown
from scaffold_torchtune.models import Run, Setting, SourceKind
from scaffold_torchtune.parse import compound, free_text, headings, notations, runs_table, values, yaml_source
from scaffold_torchtune.parse.drafts import SourceText, SummaryDraft, UnreadLine
from scaffold_torchtune.parse.marked_rows import names_some_runs, of_some_runs, sets_some_runs
from scaffold_torchtune.parse.notations import NotHonoured, not_supported, remove_unsupported
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings import parameters
from scaffold_torchtune.settings.parameters import (
    OF_CONFIGURATION,
    SURROUNDINGS,
    Parameter,
    by_label,
    by_plural,
    normalize,
)
from scaffold_torchtune.settings.unsupported import NOT_PLANNED, asks_for_nothing
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.system.markdown import Bullet, Labelled, Row, Section, Table, Text
from scaffold_torchtune.torchtune_facts import OF_LORA, RECIPE_NAMES, is_published, recipes_agree

# Labels with one of these words ask for another training, other jobs or other reports, and are never ignored.
_WORDS_OF_RUNS = frozenset(
    {"lora", "dora", "qlora", "adapter", "adapters", "recipe", "method", "batch", "node", "nodes", "wandb"}
    | {"quantization", "lr", "dropout", "optimizer"}
)
# Parameters that Configuration does not set: the table of runs and Resources name models and data sets.
_ELSEWHERE = frozenset({"model", "dataset"})
# `We follow the paper: ...` is prose; `Steps of the warm-up phase: 10` may be a setting.
_WORDS_OF_A_LABEL = 3
_WORDS_OF_SETTINGS = parameters.WORDS_OF_TRAINING.union(
    ("epoch", "seed", "steps", "warm", "decay", "prompt", "scheduler", "accumulation")
)
_OF_EACH_RUN = re.compile(r"(?P<what>.{1,40}?) (?:per|(?:for|of) (?:an?|each|every|one)) (?:single )?(?:run|job)")


def read_configuration(reading: Reading, runs: tuple[Run, ...]) -> dict[str, Setting]:
    """Return the typed settings of Configuration by parameter name. Problems are reported."""
    config: dict[str, Setting] = {}
    given = given_by_every_run(runs)
    for label, text in _lines(reading, given):
        parameter = values.configured(label)
        if normalize(label) in NOT_PLANNED:
            if not values.is_unset(text.text):
                reading.not_planned(label, text)
            continue
        if parameter is not None and parameter.name in OF_CONFIGURATION:
            reading.value(parameter, text, SourceKind.CONFIGURATION)  # the value is used when the rows are read
            continue
        if parameter is None or not (parameter.column or parameter.common) or parameter.name in _ELSEWHERE:
            _unused_label(reading, label, text)
            continue
        is_open = values.is_unset(text.text) and not compound.says_none(label, text.text)
        if is_open or values.is_left_out(parameter, text.text):
            continue
        setting = _setting(reading, parameter, label, text)
        if setting is None:
            if parameter.name in given:  # `8, 16`, `see the table`: harmless if every row has its own value
                reading.not_needed(reading.findings.pop())
            continue
        first = config.setdefault(parameter.name, setting)
        if parameter.name == "recipe" and recipes_agree(str(first.value), str(setting.value)):
            config["recipe"] = setting if setting.value in RECIPE_NAMES else first
        elif first.value != setting.value:
            reading.contradiction(parameter.name, setting, first)
    return config


def given_by_every_run(runs: tuple[Run, ...]) -> set[str]:
    """Return the parameters of which every fine-tuned run has its own value."""
    tuned = [set(run.parameters) for run in runs if run.type == "fine-tuned"]
    return set.intersection(*tuned) if tuned else set()


_NOTES = frozenset({"note", "notes", "comment", "comments", "remark", "remarks", "description"})


def _lines(reading: Reading, given: set[str]) -> Iterator[tuple[str, SourceText]]:
    """Yield labels and texts of Configuration, each for one parameter: `GPUs: a100:2` gives two."""
    for label, text in reading.summary.configuration:
        if normalize(label) in _NOTES:
            reading.summary.notes.append(replace(text, note=f"{text.note} > {label}"))
        known = _as_method(label, text)
        parameter = compound.parameter_of(known)
        if parameter is None or not compound.reads(known) or normalize(label) in NOT_PLANNED:
            yield label, text
            yield from compound.beside(label, text).items()
            continue
        try:
            yield from compound.parts(known, text).items()
        except NotHonoured as problem:
            reading.not_honoured(label, text, problem)
            if problem.several and parameter.name in given:  # harmless if every row has its own value
                reading.not_needed(reading.findings.pop())


def _as_method(label: str, text: SourceText) -> str:
    """Return `method` for an unknown label with a method as its value: `Approach: LoRA`."""
    written, words = text.full or text.text, normalize(label)
    is_unknown = compound.parameter_of(label) is None and words not in headings.FOR_PEOPLE | NOT_PLANNED.keys()
    is_prose = len(words.split()) > _WORDS_OF_A_LABEL
    return "method" if is_unknown and not is_prose and notations.speaks_of_method(written) else label


def _setting(reading: Reading, parameter: Parameter, label: str, text: SourceText) -> Setting | None:
    """Return the setting of a line; None, with the problem reported, if it has none."""
    text = compound.validation_steps(text) if values.says_validation(label) else text
    return reading.value(parameter, text, SourceKind.CONFIGURATION)


def _is_about_runs(label: str, text: str) -> bool:
    several = values.names_several(label) and any(map(str.isdigit, text))
    return several or bool(_WORDS_OF_RUNS & set(normalize(label).split())) or compound.names_wandb(label)


def _unused_label(reading: Reading, label: str, text: SourceText) -> None:
    """Report a label of Configuration that is not a setting there: misspelt, set elsewhere, or something else."""
    several = by_plural(label)
    if several is not None and free_text.of_levels(several.name, label, text.full or text.text) is not None:
        reading.summary.unread_lines.append(UnreadLine(several.name, text, label, plural=True, is_read=True))
        return
    if headings.is_naming(label):  # the plan compares it with the names
        return
    words = normalize(label).split()
    is_prose = len(label.split()) > _WORDS_OF_A_LABEL and not _WORDS_OF_SETTINGS & set(words)
    each = _OF_EACH_RUN.fullmatch(" ".join(words))
    is_prose &= by_label(values.without_remark(label)) is None and not (each and _is_setting_here(each["what"]))
    if " ".join(words) in headings.FOR_PEOPLE or is_prose:
        return
    unknown = "is not a known setting" if by_label(label) is None else "is not read as a setting in this section"
    message, name = f"{text.note}: {shown(label)} {unknown}", escape(label)
    if by_label(label) is None and (asked := compound.asked_of(label, text.full or text.text)):
        what = not_supported(asked, text.full or text.text)
        reading.not_honoured(label, text, NotHonoured(what, remove_unsupported()))
        return
    if _is_of_some(label, text, reading.summary):
        message = f"{text.note}: {shown(label)} applies only to some runs, but Configuration applies to all runs"
        fix = "write it in a column of the table of runs"
        reading.add("ambiguous", message, field=name, actual=text.text, line=text.line, fix=fix)
        return
    near = None if words[-1:] == ["runs"] or values.names_several(label) else values.nearest_label(label)
    near = near if near is not None and _is_setting_here(near) else None
    if near:
        near = near.replace(" ", "_") if reading.form == "yaml" else near
        message += f"; did you mean {near!r}?"
        reading.add("misspelt-field", message, field=name, line=text.line, fix=f"write `{near}`")
    elif by_label(label) is None and _is_about_runs(label, text.text) and not asks_for_nothing(text.text):
        fix = "write each setting on its own line, with a label from workflows/labels.md, or remove the line"
        message += f", but seems to {'name several settings' if values.names_several(label) else 'be one'}"
        reading.add("misspelt-field", message, field=name, line=text.line, fix=fix)
    else:
        fix = "no action, unless the line should change the runs; in that case, use a label from workflows/labels.md"
        reading.summary.prose.append(replace(text, text=f"{label}: {text.full or text.text}", full=None, source=None))
        reading.add("unused-field", message, field=name, line=text.line, fix=fix)


def _is_of_some(label: str, text: SourceText, draft: SummaryDraft) -> bool:
    """Return whether a line sets something for some of the runs: `Weight decay (B): 0.1`, `3B: weight decay 0.1`."""
    stated = free_text.settings_in_note(text.full or text.text) if names_some_runs(label, draft) else ()
    columns = {known.name for column in draft.columns if (known := by_label(column.text)) is not None}
    return sets_some_runs(label, draft) or any(name not in columns for name, _ in stated)


def _is_setting_here(label: str) -> bool:
    parameter = values.configured(label) or values.split_unit(label, values.configured)[2]
    return parameter is not None and (parameter.column or parameter.common) and parameter.name not in _ELSEWHERE


_TITLE_WORDS = frozenset({"experiment", "run", "runs", "plan", "summary", "fine", "tuning", "finetuning", "training"})
_OF_ALL = frozenset({"location", "models directory", "directory"})
_NAMES_ALONE = frozenset({"models used", "used", "model list"})
_PATH = frozenset(
    {"path", "location", "checkpoint", "directory", "local path", "checkpoint path", "model path", "folder", "weights"}
    | {"checkpoint directory", "model directory"}
)
_NAME_COLUMNS = frozenset(
    {"name", "model", "models", "base model", "model name", "dataset", "data set", "split", "label"}
)
_FILE_COLUMNS = frozenset({"path", "location", "file", "file name", "filename", "local path", "data path", "file path"})
# A path on this machine or on a node; a first part without a slash before it may be the name of an organisation.
_LOCAL_PATH = re.compile(
    r"(?<![\w./:~-])(?:(?:~|\.{1,2}|\$\{?[A-Za-z_]\w{0,40}\}?)/|/[\w.+@%=~-]{1,255}/)[\w.+@%=~/-]{1,400}"
    r"|(?<![^\s`(])/[A-Za-z][\w.-]{1,100}/?(?=`?\)?$)",
    re.ASCII,
)
_NOT_OF_MODELS = (".md", ".py", ".sh", ".txt", ".pdf", ".json", ".yaml", ".yml", ".html", ".csv", ".ipynb", ".log")
# A label of only these words gives the path of a model in any section.
_WORDS_OF_MODEL_PATHS = frozenset(
    {"model", "models", "base", "pretrained", "path", "directory", "dir", "location", "checkpoint", "local", "weights"}
    | {"starting", "initial", "folder"}
)
DATA_PATH = frozenset(
    {"path", "location", "dataset", "file", "training", "train", "training path", "train path", "training data"}
)
# Labels of a data set that are settings of the runs.
_DATA_SETTINGS = frozenset(
    {"dataset type", "data set type", "type", "packed", "training samples", "input key", "output key", "input column"}
    | {"output column", "max seq len", "max sequence length"}
)
# Labels that name a data set, if its path is not given.
_HUB_NAME = frozenset(
    {"name", "source", "hugging face", "huggingface", "hf", "hub", "hf dataset", "hugging face dataset", "repository"}
    | {"repo", "id", "dataset name", "link", "url", "dataset"}
)
_FORMATS = frozenset({"json", "parquet"})
_LABEL_COLUMNS = frozenset(
    {"parameter", "setting", "hyperparameter", "name", "key", "option", "field", "variable", "resource"}
)
_WANDB = frozenset({"wandb project", "w b project", "weights biases project", "project"})


def read_markdown_summary(text: str, file: str) -> SummaryDraft:
    """Read a Markdown summary. Problems of its form are reported in the draft."""
    draft = SummaryDraft(file, text=text)
    root = draft.read_markdown(text)
    if root is None:
        return draft
    _name(root, draft)
    root = headings.of_this_plan(root)
    draft.sections = headings.lines_of(root)
    runs_table.read_runs_table(root, draft)
    runs_table.read_levels(root, draft)
    for section in headings.topmost(root, headings.is_models):
        _models(section, draft)
    draft.model_paths += _model_paths(root)
    for section in headings.topmost(root, headings.is_data):
        _dataset(section, draft)
    for section in root.walk():
        if normalize(section.title) in {"quick reference", "paths"}:
            _paths(section, draft)
    for section in headings.topmost(root, headings.is_configuration):
        _training(section, "Configuration", draft)
    for section in headings.topmost(root, headings.is_jobs):
        _jobs(section, draft)
    for section in headings.topmost(root, compound.names_wandb):
        _tracking(section, draft)
    for section in headings.topmost(root, headings.is_prompt):
        _prompt(section, draft)
    headings.note_unread_lines(text, root, draft)
    draft.note_struck(root, _is_label)
    listed = {text.line for text in draft.prose}
    draft.prose[:] = [replace(text, alone=text.line in listed) for text in headings.prose(root)]
    draft.names += headings.stated_names(root)
    if not draft.columns and not runs_table.plan_grid(root, draft):
        _note_foreign(text, root, draft)
    return draft


def _is_label(label: str) -> bool:
    """Return whether a label names a setting, supported or not, or the path of a data set."""
    known = by_label(label) or by_plural(label) or compound.parameter_of(label)
    return known is not None or normalize(label) in NOT_PLANNED.keys() | DATA_PATH


def _note_foreign(text: str, root: Section, draft: SummaryDraft) -> None:
    """Report a summary without a table of runs that is, or contains, the configuration of another tool."""
    fences = (fence.content for section in root.walk() for fence in section.fences)
    for part in (text, *fences):
        if yaml_source.note_foreign(yaml_source.foreign_data(part), draft):
            return


def _name(root: Section, draft: SummaryDraft) -> None:
    first = [section for section in root.walk() if section.level == 1 and section.title]
    titled = first[0] if first else None
    is_section = titled is not None and len(first) > 1 and " " in titled.title and headings.is_of_content(titled.title)
    if titled is not None and not is_section:
        prefix, colon, rest = titled.title.partition(":")
        words = set(normalize(prefix).split())
        name = rest.strip() if colon and words and words <= _TITLE_WORDS else titled.title
        draft.name = SourceText(name, titled.line, "title")


def _pairs(texts: Iterable[Text]) -> Iterator[tuple[str, Labelled, int]]:
    """Yield the texts with a label and a value, each with its normalized label and its line."""
    for text in texts:
        if pair := text.labelled():
            yield normalize(pair.label), pair, text.line


def _models(section: Section, draft: SummaryDraft) -> None:
    """Read each model's path, after or below its name, or the `Location` of all models that `Models Used` lists."""
    note = "Resources > Models"
    _named_models(section.bullets, draft, note)
    for table in (table for part in section.walk() for table in part.tables):
        listed = _listed(table, note, _PATH)
        draft.models += [(name, path) for name, path in listed if "/" in path.text and not is_published(path.text)]
    for label, pair, line in _pairs(bullet.text for bullet in section.all_bullets()):
        if values.is_unset(pair.value):
            continue
        if label in _OF_ALL:
            draft.models_dirs.append(SourceText.of(pair, line, f"{note} > {pair.label}"))
        elif label not in _PATH | _NAMES_ALONE:
            draft.models.append((values.without_remark(pair.label), SourceText.of(pair, line, note)))
    for part in section.sections:  # `#### NAME` with its path below
        pairs = _pairs(bullet.text for bullet in part.bullets)
        draft.models += [(part.title, SourceText.of(pair, line, note)) for label, pair, line in pairs if label in _PATH]


def _named_models(bullets: list[Bullet], draft: SummaryDraft, note: str) -> None:
    """Read `- NAME` with `Path: ...` below it, and `- Name: NAME` followed by `- Path: ...`."""
    name = ""
    for bullet in bullets:
        pair = bullet.text.labelled()
        if pair is not None and normalize(pair.label) in {"name", "model"}:
            name = pair.value
        elif pair is not None and name and normalize(pair.label) in _PATH:
            draft.models.append((name, SourceText.of(pair, bullet.text.line, note)))
        if pair is None or not pair.value:
            own = values.without_remark(pair.label if pair else bullet.text.plain)
            below = [found for found in _pairs(child.text for child in bullet.children) if found[0] in _PATH]
            draft.models += [(own, SourceText.of(path, line, note)) for _, path, line in below[:1]]
        if pair is None:  # `- **NAME** (`/path`)`
            own = values.without_remark(bullet.text.plain)
            remark = bullet.text.plain.removeprefix(own).strip(" ()")
            if _LOCAL_PATH.fullmatch(remark):
                draft.models.append((own, SourceText(remark, bullet.text.line, note)))


def _listed(table: Table, note: str, paths: frozenset[str]) -> Iterator[tuple[str, SourceText]]:
    """Yield the names and paths of a table of models or of data sets. `paths` are labels of its column of paths."""
    header = [normalize(cell.plain) for cell in table.header]
    named = [i for i, label in enumerate(header) if label in _NAME_COLUMNS]
    at = [i for i, label in enumerate(header) if label in paths]
    for row in table.rows if named and at else ():
        if len(row.cells) == len(header) and not values.is_unset(row.cells[at[0]].plain):
            name = row.cells[named[0]].plain
            yield name, SourceText.of_cell(row.cells[at[0]], row.line, f"{note} > {name}")


def _model_paths(root: Section) -> Iterator[tuple[str, SourceText]]:
    """Yield the paths in sections about models, and those of labels such as `Model path` elsewhere, by label."""
    seen = set[int]()
    for section in headings.topmost(root, headings.is_models):
        for part in section.walk():
            for text in (*part.paragraphs, *(bullet.text for bullet in part.all_bullets())):
                pair = text.labelled()
                yield from _local_paths(pair.label if pair else "", text.plain, text.line)
            for row in (row for table in part.tables for row in table.rows):
                yield from _local_paths(row.cells[0].plain, " ".join(cell.plain for cell in row.cells), row.line)
            for fence in part.fences:
                for number, content in enumerate(fence.content.split("\n"), start=fence.line + 1):
                    yield from _local_paths(content.partition(":")[0].strip(), content, number)
            seen.add(part.line)
    for section in headings.of_training(root):
        texts = (*section.paragraphs, *(bullet.text for bullet in section.all_bullets()))
        for label, pair, line in _pairs(texts) if section.line not in seen else ():
            if _is_of_a_model(set(label.split())):
                yield from _local_paths(pair.label, pair.full, line)


def _is_of_a_model(words: set[str]) -> bool:
    is_start = "checkpoint" in words and words & {"base", "pretrained", "starting", "initial"}
    return words <= _WORDS_OF_MODEL_PATHS and bool(
        is_start or (words & {"model", "models"} and "checkpoint" not in words)
    )


def _local_paths(label: str, text: str, line: int) -> Iterator[tuple[str, SourceText]]:
    for found in _LOCAL_PATH.finditer(text):
        path = found[0].rstrip(".,;/")
        if not path.endswith(_NOT_OF_MODELS):
            yield label, SourceText(path, line, text)


def _dataset(section: Section, draft: SummaryDraft) -> None:
    note = "Resources > Dataset"
    groups = [b for b in section.bullets if (pair := b.text.labelled()) is None or not pair.value]
    bullets = [*section.bullets, *(child for bullet in groups for child in bullet.children)]
    of_hub: list[SourceText] = []
    for text in [*(text for text in section.paragraphs if text.labelled() is None), *(b.text for b in bullets)]:
        pair = text.labelled()
        if pair is not None and normalize(pair.label) in _HUB_NAME and values.hub_data(pair.source or pair.value):
            of_hub.append(SourceText.of(pair, text.line, f"{note} > {pair.label}"))
        if pair is None:
            if _is_path(text.plain) and " " not in text.plain:
                draft.datasets.append(SourceText(text.plain, text.line, note))
        elif not values.is_unset(pair.value):
            _of_dataset(
                normalize(pair.label), SourceText.of(pair, text.line, f"{note} > {pair.label}"), pair.label, draft
            )
    is_given = bool(draft.datasets)
    for name, field in (row for table in section.tables for row in _listed(table, note, _FILE_COLUMNS)):
        if is_given:  # the table describes the parts of the data set, or lists what rows name
            draft.other_data.append(field)
        else:
            _of_dataset(normalize(name), field, name, draft)
    if not draft.datasets:
        draft.datasets += of_hub or draft.other_data


_SAMPLES = re.compile(
    r"(?<![\w.,])(?P<count>[0-9]{1,9}|[0-9]{1,3}(?:,[0-9]{3}){1,2}) (?:train|training) (?:samples|examples|rows)(?!\w)",
    re.IGNORECASE,
)


def _of_dataset(label: str, field: SourceText, written: str, draft: SummaryDraft) -> None:
    """Read a line about the data set: its path, its splits, a setting of the runs or its format."""
    if label in DATA_PATH and (label != "dataset" or _is_path(field.text)):
        draft.datasets.append(field)
    elif label in {"splits", "split"}:
        draft.splits = values.splits_of(field.text)
        draft.samples += [replace(field, text=str(count)) for name, count in draft.splits.items() if name == "train"]
    elif label in {"size", "data size", "dataset size"} and (match := _SAMPLES.search(field.full or field.text)):
        draft.samples.append(replace(field, text=match["count"].replace(",", "")))
    elif label in _DATA_SETTINGS and (label != "type" or "_" in field.text):
        draft.configuration.append(("dataset type" if label == "type" else written, field))
    elif label == "format":
        draft.data_claims.append(("format", field))
    elif label.startswith(("validation", "test")) and _is_path(field.text):
        message = f"{field.note}: this separate file is not read, because runs read only the splits of their data set"
        draft.add(
            "unused-field",
            message,
            field="dataset",
            line=field.line,
            fix="add its samples to the data set as a separate split",
        )
    elif "://" not in field.text and " " not in values.without_remark(field.text):
        if _extension(field.text) in _FORMATS:
            draft.datasets.append(field)
        elif f".{_extension(field.text)}" in values.OF_FILES:
            draft.other_data.append(field)


def _is_path(text: str) -> bool:
    return "/" in text or data_label(text)[1] in {".json", ".parquet"}


def _extension(path: str) -> str:
    return data_label(values.without_remark(path))[1].removeprefix(".").lower()


def _paths(section: Section, draft: SummaryDraft) -> None:
    fields = dict.fromkeys(("experiment", "experiment directory"), draft.directories)
    fields |= {"models": draft.models_dirs} | dict.fromkeys(("dataset", "data set"), draft.datasets)
    for label, pair, line in _pairs([*(bullet.text for bullet in section.bullets), *section.paragraphs]):
        if label in fields and not values.is_unset(pair.value):
            field = SourceText.of(pair, line, f"{section.title} > {pair.label}")
            fields[label].append(replace(field, text=values.without_remark(pair.value)))


def _training(section: Section, note: str, draft: SummaryDraft) -> None:
    """Read settings of training in a section and below it, except below Evaluation or Output."""
    for text in [*_texts(section.bullets, note, draft), *section.paragraphs]:
        pair = text.labelled()
        if pair and normalize(pair.label) in _WANDB and draft.wandb_project is None and pair.value:
            draft.wandb_project = SourceText.of(pair, text.line, note)
        elif pair and pair.value:
            draft.configuration.append(values.with_unit(pair.label, SourceText.of(pair, text.line, note)))
        elif unclear := _unclear(text) if pair is None else None:
            label, value = unclear
            message = f"{note}: {shown(text.plain)} begins with a setting's name, but is not of the form 'name: value'"
            fix = f"write `- **{label}:** {value}`"
            draft.add("misspelt-field", message, field=escape(label), line=text.line, fix=escape(fix))
        elif pair is None:
            draft.prose.append(SourceText(text.plain, text.line, note))
    for table in section.tables:
        _table(table, note, draft)
    for below in section.sections:
        if headings.is_output(below.title):
            _output(below, draft)
        elif _is_limited(below.title, _all_texts(below), draft):
            _conditional(below.title, below.line, _all_texts(below), draft)
        elif compound.names_wandb(below.title):  # which `_tracking` reads
            continue
        elif not (
            headings.is_elsewhere(below.title)
            or headings.is_prompt(below.title)
            or headings.is_of_another_plan(below.title)
        ):
            _training(below, f"{note} > {below.title}", draft)


def _unclear(text: Text) -> tuple[str, str] | None:
    """Return the label and value of a setting without a colon: `**Seed** 42`, `Seed → 42`; None for other text."""
    if text.lead and by_label(text.lead) is not None:
        return text.lead, text.rest
    label, _, value = (part.strip() for part in text.plain.replace("->", "→").partition("→"))
    parameter = by_label(label)
    is_value = parameter is not None and values.value_of(parameter, SourceText(value, text.line, label)) is not None
    return (label, value) if is_value else None


_OF_ALL_JOBS = re.compile(r"(?:(?:all|each|every|per|for all|for each) )?(?:jobs?|runs?)(?: each)?|request(?:ed|s)?")


def _jobs(section: Section, draft: SummaryDraft) -> None:
    """Read the settings of all jobs in a section about jobs: account, time, ...; ignore the rest."""
    read = replace(draft, configuration=[], output_dirs=[], wandb_project=None)
    _training(section, section.title, read)
    others = {table.line for part in section.walk() for table in part.tables if not _has_labels(table)}
    draft.findings += [found for found in read.findings if found.code != "unused-field" and found.line not in others]
    for part in section.walk():
        read.configuration += headings.sbatch_lines(part)
    for label, text in read.configuration:
        parameter = compound.parameter_of(label)
        if parameter is not None and parameter.name in SURROUNDINGS | {"nodes"}:
            draft.configuration.append((label, text))
        elif _OF_ALL_JOBS.fullmatch(normalize(label)):
            draft.prose.append(text)


def _tracking(section: Section, draft: SummaryDraft) -> None:
    """Read a section about Weights & Biases, where `Mode` and `Project` mean its mode and its project."""
    read = SummaryDraft(draft.file)
    _training(section, section.title, read)
    draft.wandb_project = draft.wandb_project or read.wandb_project
    for label, text in read.configuration:
        full = next((each for each in (label, f"wandb {label}") if _is_of_wandb(each)), None)
        if full is not None:
            draft.configuration.append((full, text))


def _is_of_wandb(label: str) -> bool:
    parameter = compound.parameter_of(label)
    return parameter is not None and parameter.name.startswith("wandb_")


def _texts(bullets: Iterable[Bullet], note: str, draft: SummaryDraft) -> Iterator[Text]:
    """Yield the texts of bullets and their children; report a group of settings for some runs only."""
    for bullet in bullets:
        pair = bullet.text.labelled()
        label = pair.label if pair else bullet.text.plain
        below = [child.text for child in bullet.children]
        if _is_limited(label, below, draft):
            _conditional(label, bullet.text.line, below, draft)
            continue
        yield bullet.text
        others = headings.of_other_work(label, bullet, draft)
        draft.skipped |= others
        if bullet.text.below is None or not (pair and by_label(pair.label)):
            yield from _texts([child for child in bullet.children if child.text.line not in others], note, draft)


def _is_limited(title: str, texts: Iterable[Text], draft: SummaryDraft) -> bool:
    """Return whether a title limits the settings below it to some runs. Those of LoRA never apply to other runs."""
    pairs = [pair for text in texts if (pair := text.labelled()) is not None and pair.value]
    named = {one.name for pair in pairs if (one := by_label(pair.label)) is not None and one.column}
    is_of_lora = "lora" in normalize(title).split() and named <= {*OF_LORA}
    return bool(named) and not is_of_lora and of_some_runs(title, draft)


def _all_texts(section: Section) -> Iterator[Text]:
    for part in section.walk():
        yield from part.paragraphs
        yield from (bullet.text for bullet in part.all_bullets())


def _conditional(group: str, line: int, below: Iterable[Text], draft: SummaryDraft) -> None:
    draft.skipped |= {text.line for text in below}
    message = f"the settings below {shown(group)} apply only to some runs, but Configuration applies to all runs"
    fix = "move each of these settings to a column of the table of runs"
    draft.add("ambiguous", message, field="configuration", line=line, fix=fix)


def _prompt(section: Section, draft: SummaryDraft) -> None:
    """Read `## System prompt` with the text below it: one fenced block, or only paragraphs."""
    title, paragraphs, fences = section.title, section.paragraphs, section.fences
    others = section.bullets or section.tables or section.sections
    if len(fences) == 1 and not paragraphs and not others:
        last = fences[0].line + fences[0].content.count("\n") + 1
        content = fences[0].content.removesuffix("\n")
        text = SourceText(content, fences[0].line, title, exact=True, last=last, alone=True)
        draft.configuration.append((title, text))
    elif paragraphs and not fences and not others:
        plain = "\n".join(text.plain for text in paragraphs)
        source = "\n".join(text.whole for text in paragraphs)
        first, last = paragraphs[0].line, paragraphs[-1].line
        text = SourceText(plain, first, title, plain, source=source, last=last, alone=True)
        draft.configuration.append((title, text))
    elif paragraphs or fences or others:
        message = f"the section {shown(title)} must contain one block of text"
        fix = "write the whole text in one fenced code block below this heading, and nothing else"
        draft.add("ambiguous", message, field=normalize(title), line=section.line, fix=fix)


def _table(table: Table, note: str, draft: SummaryDraft) -> None:
    """Read a table of names and values; report another table with the settings that it names."""
    header = [normalize(cell.plain) for cell in table.header]
    units = [i for i, label in enumerate(header) if i and label in {"unit", "units"}]
    is_first = _is_setting(table.header)  # the header is a setting, too
    column = compound.column_of_values(table, lambda text: names_some_runs(text, draft))
    if column is not None and (_has_labels(table) or is_first):
        for row in (*([Row(table.header, table.line)] if is_first else ()), *table.rows):
            cells = row.active or row.cells
            if len(cells) > column and cells[0].plain and not values.is_empty(cells[column].plain):
                field = SourceText.of_cell(cells[column], row.line, note)
                unit = next((cells[i].plain for i in units if i < len(cells)), "")
                draft.configuration.append(values.with_unit(cells[0].plain, field, unit))
    else:
        _several(table, note, draft)


def _has_labels(table: Table) -> bool:
    return normalize(table.header[0].plain) in _LABEL_COLUMNS


def _several(table: Table, note: str, draft: SummaryDraft) -> None:
    """Report a table of another form: as an error if it names settings, which would be lost."""
    first = [cell.plain for row in table.rows for cell in row.cells[:1]]
    named = [label for label in [*first, *(cell.plain for cell in table.header)] if by_label(label)]
    message = f"{note}: a table of this form is not read" + (
        f", although it contains {few([shown(label) for label in named], len(named))}" if named else ""
    )
    fix = "write each setting as a line `- **Name:** value`, or in a table with the columns Parameter and Value;"
    fix += " if a setting differs between runs, add a column for it to the table of runs"
    code = "misspelt-field" if named else "unused-field"
    draft.add(code, message, field="configuration", line=table.line, fix=fix)


def _is_setting(cells: tuple[Text, ...]) -> bool:
    """Return whether two cells are the name of a setting and its value."""
    if len(cells) != len(("name", "value")):
        return False
    label, value = (cell.plain for cell in cells)
    is_label = compound.parameter_of(label) is not None or normalize(label) in NOT_PLANNED
    return (
        is_label
        and not values.is_empty(value)
        and normalize(value) not in compound.VALUE_COLUMNS
        and not by_label(value)
    )


def _output(section: Section, draft: SummaryDraft) -> None:
    for label, pair, line in _pairs(bullet.text for bullet in section.bullets):
        field = SourceText.of(pair, line, f"Configuration > Output > {pair.label}")
        if values.is_unset(pair.value):
            continue
        if label == "checkpoint directory":
            draft.output_dirs.append(field)
        elif label in _WANDB and draft.wandb_project is None:
            draft.wandb_project = field
