"""The form of experiment_summary.yaml: its keys and shapes, its JSON Schema, and checks of a document.

It is the form of cruijff_kit v0.3.4. Sections and keys that this tool does not use (evaluation, data generation, tools)
are accepted in any shape and ignored.
"""

from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from scaffold_torchtune.findings import close_matches, few, shown
from scaffold_torchtune.parse import compound, headings, values
from scaffold_torchtune.parse.drafts import SourceText, UnreadLine
from scaffold_torchtune.parse.yaml_source import YamlSource
from scaffold_torchtune.settings.parameters import (
    PARAMETERS,
    WORDS_OF_TRAINING,
    Parameter,
    by_label,
    by_plural,
    nearest_label,
    normalize,
)
from scaffold_torchtune.system.serialization import KeyPath, put_in_quotes, without_quotes

YamlValue = Annotated[Any, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
"""A single value. The reader types it by its parameter, and reports its problems."""


YamlSetting = Annotated[
    Any, WithJsonSchema({"type": ["string", "number", "boolean", "null", "array"], "items": {"type": "string"}})
]
"""A single value, or a list of texts for a setting with several values, such as LoRA's modules."""


class Form(BaseModel):
    """A part of the form. The reader checks unknown keys."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


class ExperimentForm(Form):
    """`experiment`: the experiment's name and directory."""

    name: str = Field(description="name of the experiment: letters, digits, '.', '_' and '-'")
    dir: str | None = Field(default=None, description="the directory that contains this file")
    project: Any = Field(default=None, description="blueprint of the experiment; not used")
    question: Any = None
    date: Any = None
    hypothesis: Any = None
    purpose: Any = None


class ModelForm(Form):
    """An entry of `models.base`: a base model and its checkpoint."""

    name: str = Field(description="name of the model, as in the runs")
    path: str = Field(description="directory of its checkpoint")
    size_gb: YamlValue = None


class ModelsForm(Form):
    """`models`: the base models."""

    base: list[ModelForm] = Field(default_factory=list)


class TrainingDataForm(Form):
    """`data.training`: the training data set, and settings that may also be in `controls`."""

    path: str = Field(description="the data set, a .json or .parquet file")
    dataset_label: YamlValue = Field(default=None, description="the file's name without its extension")
    format: str | None = Field(default=None, description="json or parquet")
    size_kb: YamlValue = None
    splits: dict[str, int] = Field(default_factory=dict, description="number of samples by split")
    dataset_type: YamlValue = Field(default=None, description="data set builder, e.g. chat_completion")
    system_prompt: YamlValue = None
    prompt: YamlValue = Field(default=None, description="text around {input}")
    input_key: YamlValue = None
    output_key: YamlValue = None
    train_on_input: YamlValue = None
    packed: YamlValue = None
    max_seq_len: YamlValue = None
    training_samples: YamlValue = Field(default=None, description="number of samples to train on")


class DataForm(Form):
    """`data`: the data set."""

    training: TrainingDataForm | None = None


class OutputForm(Form):
    """`output`: the place where results are reported."""

    wandb_project: str | None = Field(default=None, description="Weights & Biases project")
    wandb_mode: YamlValue = Field(default=None, description="online, offline (the default) or disabled")
    wandb_entity: YamlValue = Field(default=None, description="user or team")
    wandb_group: YamlValue = None
    wandb_tags: Any = Field(default=None, description="tags, separated by commas or as a list")


class ComputeForm(Form):
    """A run's `compute`: resources of its SLURM job."""

    time: YamlValue = Field(default=None, description="time limit, hours:minutes:seconds, in quotes")
    gpus: YamlValue = Field(default=None, description="number of GPUs")
    mem: YamlValue = Field(default=None, description="memory, e.g. 80G")
    cpus_per_task: YamlValue = Field(default=None, description="CPUs")
    nodes: YamlValue = Field(default=None, description="number of nodes, which must be 1")


class RunForm(Form):
    """An entry of `runs`."""

    name: str = Field(description="name of the run, and of its directory")
    type: Literal["fine-tuned", "control", "eval-only"]
    model: str = Field(description="name of an entry of models.base")
    parameters: dict[str, YamlSetting] = Field(
        default_factory=dict,
        description="the run's own values, which override controls; no lora_rank if its recipe is full",
    )
    compute: ComputeForm | None = None
    prompt: str | None = Field(default=None, description="overrides controls.prompt for this run")
    system_prompt: str | None = Field(default=None, description="overrides controls.system_prompt for this run")
    dataset_path: str | None = Field(default=None, description="overrides data.training.path for this run")


class SummaryForm(Form):
    """experiment_summary.yaml."""

    experiment: ExperimentForm
    tools: Any = Field(default=None, description="not used")
    variables: Any = Field(default=None, description="what varies; the values in the runs are used")
    controls: dict[str, YamlSetting] = Field(
        default_factory=dict,
        description="values that all runs share, such as epochs, batch_size, recipe (LoRA or full)",
    )
    models: ModelsForm | None = None
    data: DataForm | None = None
    output: OutputForm | None = None
    runs: list[RunForm] = Field(description="all runs: fine-tuned, control, eval-only")
    evaluation: Any = Field(default=None, description="not used")


def schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment_summary.yaml, for editors."""
    made = SummaryForm.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "experiment_summary.yaml"}


_LIKELY_MISSPELT: Final = 0.8
COMPUTE: Final = tuple(ComputeForm.model_fields)
# Keys for other tools.
_NOT_OURS: Final = frozenset({"checkpoint_path", "training_condition", "vis_label"})
# Unused keys of the form. Keys with similar names are not used, either.
_UNUSED: Final = frozenset(
    {"tools", "variables", "evaluation", "project", "question", "date", "hypothesis", "purpose", "size_gb", "size_kb"}
)
# Keys for people, like columns of the same names in the Markdown form.
_REMARKS: Final = frozenset({"description", "note", "notes", "purpose", "comment", "comments", "remark", "remarks"})
_FOR_PEOPLE: Final = _REMARKS | {"status", "est time", "estimated time", "gpu hours", "job id"}
_OF_SETTINGS: Final = frozenset(
    {"training", "hyperparameters", "peft", "finetuning", "settings", "config", "configuration", "defaults", "setup"}
)
# Settings that `data.training` may contain; below `data` a number of samples only describes the file.
_OF_DATA: Final = frozenset(TrainingDataForm.model_fields) & PARAMETERS.keys()
# Settings that all runs need: if there are no controls, a section with one of these is probably intended as controls.
_REQUIRED: Final = frozenset({"epochs", "batch_size"})
# Keys of a run that are not names of sections.
_OF_RUNS: Final = frozenset(RunForm.model_fields) - {"name"}


def is_for_people(key: str) -> bool:
    """Return whether a key does not change runs: a remark, or a key for other tools."""
    return key in _NOT_OURS or normalize(key) in _FOR_PEOPLE


def is_remark(key: str) -> bool:
    """Return whether a key contains free text about the experiment or a run."""
    return normalize(key) in _REMARKS | {"question", "hypothesis", "goal", "summary", "overview", "objective"}


def _check_keys(source: YamlSource, form: type[Form], path: KeyPath) -> None:
    """Report each key that is not in the form; read on as if a clearly intended key were there."""
    for key in [key for key in source.mapping(path) if key not in form.model_fields]:
        is_generation = path == ("data",) and "generat" in key.lower()  # generation of data is not used
        is_resource = path[-1:] == ("compute",) and resource_of(str(key)) is not None
        if not (is_for_people(key) or is_remark(key) or is_generation or is_resource):
            _unknown(source, (*path, key), form.model_fields)


def resource_of(key: str) -> str | None:
    """Return the setting that a key of `compute` gives, with a unit or without: `mem`, `mem_gb`."""
    label, unit, parameter = values.split_unit(key)
    name = parameter.name if parameter and unit else label
    return name if name in COMPUTE else None


def _unknown(source: YamlSource, path: KeyPath, known: dict[str, Any]) -> None:
    key, above, name = str(path[-1]), path[:-1], source.name(path)
    parameter = by_label(key)
    is_setting = parameter is not None and not (path[0] == "data" and parameter.name == "training_samples")
    near = close_matches(key, known, limit=1, cutoff=_LIKELY_MISSPELT)
    if parameter is not None and is_setting and parameter.name in known:
        _misspelt(source, path, parameter.name, (*above, parameter.name))
    elif parameter is not None and is_setting and (to := _belongs(path, parameter)) is not None:
        _move(source, path, to)
    elif path == ("data", "path"):
        _move(source, path, ("data", "training", key))
    elif path == ("name",) and source.at(("experiment", "name")) is None:
        _move(source, path, ("experiment", key))
    elif not above and key in _OF_RUNS and not (near and isinstance(source.at(path), dict | list)):
        message = f"{shown(key)} is not read at the top level of the file"
        fix = "move it into each run, or into 'controls' if all runs share it"
        source.draft.add("misspelt-field", message, field=name, line=source.line(path), fix=fix)
    elif near and near[0] not in _UNUSED:
        _misspelt(source, path, near[0], (*above, near[0]))
    elif not above and source.at(("controls",)) is None and _REQUIRED & _held(source.at(path)):
        message = f"'{name}' is not a section here; settings that all runs share belong in 'controls'"
        source.draft.add("misspelt-field", message, field=name, line=source.line(path), fix="rename it to `controls`")
        source.move(path, ("controls",))
    elif similar := _nearly_a_parameter(key, above):
        to = _belongs(path, similar) or (*above, similar.name)
        where = ".".join(map(str, to[2:-1] if _is_run(above) else to[:-1]))
        _misspelt(source, path, similar.name, to, f" in '{where}'")
    else:
        _not_used(source, path, parameter)


def _misspelt(source: YamlSource, path: KeyPath, meant: str, to: KeyPath, where: str = "") -> None:
    name = source.name(path)
    message = f"'{name}' is not a key here; did you mean {meant!r}?"
    source.draft.add("misspelt-field", message, field=name, line=source.line(path), fix=f"write `{to[-1]}`{where}")
    _read_on(source, path, to)


def nearest_parameter(key: str) -> Parameter | None:
    """Return the parameter of runs with a similar name to a key; None for a key that is a parameter itself."""
    near = nearest_label(key)
    similar = by_label(near) if near else None
    return similar if similar is not None and similar.column else None


def _nearly_a_parameter(key: str, above: KeyPath) -> Parameter | None:
    """Return the parameter with a similar name to a key of a run, or of the settings that all runs share."""
    similar = nearest_parameter(key) if not above or _is_run(above) or above == ("data", "training") else None
    return similar if similar is not None and similar.name != "model" else None


def _is_run(path: KeyPath) -> bool:
    return len(path) == 2 and path[0] == "runs"  # noqa: PLR2004 - runs, and a number


def _belongs(path: KeyPath, parameter: Parameter) -> KeyPath | None:
    """Return the right path of a parameter; None if it may be a description where it is, or the path is unclear."""
    above, name = path[:-1], parameter.name
    if not parameter.column or name == "model":
        return None
    if _is_run(above) or (above[:1] == ("runs",) and above[-1:] == ("compute",)):
        return (*above[:2], "compute" if name in COMPUTE else "parameters", name)
    if name == "dataset":
        return ("data", "training", "path") if above in {(), ("controls",), ("data",), ("data", "training")} else None
    if above == ("data",) and name in _OF_DATA:
        return ("data", "training", name)
    return ("controls", name) if above in {(), ("data",), ("data", "training")} else None


def _move(source: YamlSource, path: KeyPath, to: KeyPath) -> None:
    """Report a key that is not read at its path, and read on as if it were at the right path."""
    run = _is_run(to[:2])
    section = ".".join(map(str, to[2:-1] if run else to[:-1]))
    also = "" if path[-1] == to[-1] else f", and rename it to `{to[-1]}`"
    if run and to[-1] == "dataset":
        also = ", or rename it to `dataset_path`"
    name, where = source.name(path), "here" if len(path) > 1 else "at the top level of the file"
    message, fix = f"'{name}' is not read {where}; it belongs in '{section}'", f"move it into '{section}'{also}"
    source.draft.add("misspelt-field", message, field=name, line=source.line(path), fix=fix)
    _read_on(source, path, to)


def _read_on(source: YamlSource, path: KeyPath, to: KeyPath) -> None:
    """Read a key as if it were at the right path, and create the sections above it."""
    for end in range(1, len(to)):
        above = to[:end]
        if isinstance(above[-1], str) and source.at(above) is None and isinstance(source.at(above[:-1]), dict):
            source.at(above[:-1])[above[-1]] = {}
    source.move(path, to)


def _not_used(source: YamlSource, path: KeyPath, parameter: Parameter | None) -> None:
    """Report a key that changes nothing. If it contains settings, suggest their place."""
    held, name = sorted(_held(source.at(path))), source.name(path)
    value, several = source.at(path), by_plural(str(path[-1]))
    if several is not None and isinstance(value, int | list):
        written = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        text = SourceText(written, source.line(path), name)
        source.draft.unread_lines.append(UnreadLine(several.name, text, str(path[-1]), plural=True))
        return
    if isinstance(value, str) and headings.is_naming(str(path[-1])):
        source.draft.names.append(SourceText(value, source.line(path), name))
        return
    if (asked := _asked(source, path, parameter)) is not None:
        is_more = normalize(asked) not in {"", normalize(str(path[-1]))}
        requests = f"the key '{name}' requests {shown(asked)}, but" if is_more else f"'{name}'"
        message = f"{requests} is not read here"
        fix = f"if this applies to the runs, {_move_to(parameter)}; otherwise remove it"
        source.draft.add("misspelt-field", message, field=name, line=source.line(path), fix=fix)
        return
    message = f"'{name}' is not used" + (f", although it contains {few(held, len(held))}" if held else "")
    fix = "no action, unless it should change the runs"
    if parameter is not None and not parameter.column:
        fix += f"; in that case, {_move_to(parameter)}"
    elif path[0] == "output":
        fix += "; the directory for outputs belongs in claude.local.md"
    elif held or parameter is not None:
        fix += f"; in that case, {_move_to(parameter)}"
    else:
        fix += "; in that case, write it under `controls` with a key from workflows/labels.md"
    source.draft.add("unused-field", message, field=name, line=source.line(path), fix=fix)


def _move_to(parameter: Parameter | None) -> str:
    """Return the fix that moves a key to a section where its parameter is read."""
    if parameter is None or parameter.column:
        return "move it to 'controls' or to the 'parameters' of a run"
    where = "'controls' or to claude.local.md" if parameter.common else "claude.local.md"
    return f"move it to {where}, because {parameter.name} is the same for all runs"


def _asked(source: YamlSource, path: KeyPath, parameter: Parameter | None) -> str | None:
    """Return the request of a key that would change the runs; None if there is none."""
    value = source.at(path)
    if isinstance(value, list) and value and not any(isinstance(each, dict | list) for each in value):
        value = ", ".join(map(str, value))
    if value is None or isinstance(value, list):
        return None
    if compound.names_wandb(str(path[-1])) and compound.has_words_of_its_own(str(path[-1])):
        return str(next(iter(value.values()), None)) if isinstance(value, dict) else str(value)
    if isinstance(value, dict):
        found = [_asked(source, (*path, key), by_label(str(key))) for key in value]
        return next((asked for asked in found if asked is not None), None)
    is_of_all_jobs = parameter is not None and parameter.name in headings.OF_JOBS
    if parameter is not None and (parameter.name in compound.OF_OTHER_RUNS or is_of_all_jobs or _is_setting(path)):
        return str(value)
    return compound.asked_of(str(path[-1]), str(value))


def _is_setting(path: KeyPath) -> bool:
    """Return whether a key is in a separate section with a name for settings: `lora: {r: 16}`."""
    return len(path) > 1 and bool(set(normalize(str(path[0])).split()) & (WORDS_OF_TRAINING | _OF_SETTINGS))


def _held(value: Any) -> set[str]:
    """Return the parameters of runs in a section."""
    found = [by_label(key) for key in value] if isinstance(value, dict) else []
    return {parameter.name for parameter in found if parameter is not None and parameter.column}


# The expected form of each part, and the fix. `*` is the number of an item.
_MODEL = "- {name: NAME, path: /path/to/model}"
_RUN = "- {name: NAME, type: fine-tuned, model: MODEL, parameters: {lora_rank: 8}}"
_RIGHT: Final = {
    "experiment": ("a mapping with the key 'name'", "write `experiment: {name: NAME}`"),
    "controls": ("a mapping of settings to values", "write a mapping, such as `controls: {epochs: 1, batch_size: 4}`"),
    "models": (
        "a mapping with the key 'base', a list of models",
        f"write `base:` below `models:`, and add one line `{_MODEL}` for each model below `base:`",
    ),
    "models.base": (
        "a list of models, each with a name and a path",
        f"add one line `{_MODEL}` for each model below `base:`",
    ),
    "models.base.*": ("a mapping with the keys 'name' and 'path'", f"write `{_MODEL}`"),
    "data": ("a mapping with the key 'training'", "write `data: {training: {path: /path/to/data.json}}`"),
    "data.training": (
        "a mapping with the key 'path'",
        "write `training: {path: /path/to/data.json}`; if a run uses a different data set, set its dataset_path",
    ),
    "data.training.splits": (
        "a mapping of each split to its number of samples",
        "write a mapping, such as `splits: {train: 800, validation: 100}`",
    ),
    "output": ("a mapping with the key 'wandb_project'", "write `output: {wandb_project: NAME}`"),
    "runs": ("a list of runs", f"below `runs:`, write one line for each run, such as `{_RUN}`"),
    "runs.*": ("a mapping with the keys 'name', 'type' and 'model'", f"write the run as a mapping, such as `{_RUN}`"),
    "runs.*.parameters": (
        "a mapping of parameters to values",
        "write a mapping, such as `parameters: {lora_rank: 8, lr: 1e-5}`",
    ),
    "runs.*.compute": (
        "a mapping of the job's resources",
        'write a mapping, such as `compute: {time: "1:00:00", gpus: 1}`',
    ),
}
# Fields that are not reported as missing if a part of theirs cannot be read.
_FIELDS: Final = {"experiment": "experiment_name", "data": "dataset", "runs": "runs"}
_SCALARS: Final = {"string_type": "text", "int": "a number of samples"}  # the only integers are those of splits
_PATHS: Final = frozenset({"path", "dir", "dataset_path"})


def check_shape(source: YamlSource, form: type[Form] = SummaryForm, path: KeyPath = ()) -> None:
    """Report each key and shape that does not fit the form, from the top."""
    _check_keys(source, form, path)
    for key, field in form.model_fields.items():
        place = (*path, key)
        below, shape = _wanted(field.annotation)
        if shape is None or source.at(place) is None:
            continue
        _put_right(source, place, below, shape)
        for part in [(*place, i) for i in range(len(source.items(place)))] if shape is list else [place]:
            if shape is list:
                _put_right(source, part, below, dict)
            if below and isinstance(source.at(part), dict):
                check_shape(source, below, part)


def _wanted(annotation: Any) -> tuple[type[Form] | None, type | None]:
    """Return the form of a field's content, and whether it is a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Form):
        return annotation, dict
    origin = get_origin(annotation)
    if origin in {list, dict}:
        return _wanted(get_args(annotation)[-1])[0], origin
    found = [_wanted(part) for part in get_args(annotation)]
    return next((wanted for wanted in found if any(wanted)), (None, None))


def _put_right(source: YamlSource, path: KeyPath, below: type[Form] | None, shape: type) -> None:
    """Report a part that is not the expected list or mapping; read on if its meaning is clear, else skip it."""
    value = source.at(path)
    if isinstance(value, shape):
        return
    what, fix = _RIGHT[".".join("*" if isinstance(part, int) else part for part in path)]
    name, origin = source.name(path), source.origin(path)
    subject = name if path[1:] else shown(name)
    message, field = f"{subject} is {source.described(path)}; it must be {what}", _FIELDS.get(str(path[0]), name)
    source.draft.add("invalid-value", message, field=field, line=source.line(path), fix=fix)
    source.reported.add(path)
    if shape is list and isinstance(value, dict):
        _items_of_mapping(source, path, value, below)
    elif isinstance(value, list) and path == ("models",):
        source.put(path, {}, origin)
        source.put((*path, "base"), value, origin)
    elif isinstance(value, list) and _is_dashed(value):
        source.put(path, {}, origin)
        for i, item in enumerate(value):
            for key, one in item.items():
                source.put((*path, key), one, (*origin, i, key))
    else:
        source.at(path[:-1])[path[-1]] = None
        # Parameters that the run may give are not reported as missing.
        source.unread.add("controls" if path[-1] == "parameters" else str(path[0]))


def _items_of_mapping(source: YamlSource, path: KeyPath, value: dict[str, Any], below: type[Form] | None) -> None:
    """Read a mapping instead of a list: one item without its dash, or items by their names."""
    origin, items = source.origin(path), list[Any]()
    source.put(path, items, origin)
    if below and any(key in below.model_fields for key in value):
        items.append(value)
        source.moved[(*path, 0)] = origin
        return
    for i, (name, item) in enumerate(value.items()):
        source.moved |= {(*path, i): (*origin, name), (*path, i, "name"): (*origin, name)}
        if path == ("models", "base") and not isinstance(item, dict):
            source.moved[(*path, i, "path")] = (*origin, name)
            item = {"path": item}  # noqa: PLW2901 - the intended item
        items.append({"name": name, **(item if isinstance(item, dict) else {})})


def _is_dashed(value: list[Any]) -> bool:
    """Return whether a list is a mapping with a dash before each key."""
    keys = [key for item in value if isinstance(item, dict) for key in item]
    return bool(keys) and len(keys) == len(set(keys)) and all(isinstance(item, dict) for item in value)


def check_values(source: YamlSource) -> None:
    """Report each value that does not fit the form; missing values are reported where they are used."""
    try:
        SummaryForm.model_validate(source.data)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            path = one["loc"]
            if source.reported.isdisjoint(path[:end] for end in range(1, len(path) + 1)):
                _value_problem(source, path, one["type"], one["input"])


def _value_problem(source: YamlSource, path: KeyPath, kind: str, found: Any) -> None:
    name, line = source.name(path), source.line(path)
    if kind == "missing" and path[-1] == "name" and len(path) > 2:  # noqa: PLR2004 - of a list
        of_run = path[0] == "runs"
        message = f"'{source.name(path[:-1])}' has no name"
        fix = f"add `name: NAME` to this {'run' if of_run else 'item'}"
        source.draft.add("missing-field", message, field=name, line=line, fix=fix)
        source.unread.add(str(path[0]))
    elif found is not None and kind != "missing" and path[-1] != "type":  # reported where they are used
        described = source.described(path)
        what = next(
            (what for start, what in _SCALARS.items() if kind.startswith(start)), "a value of the documented form"
        )
        what = "a single path" if kind == "string_type" and isinstance(found, list) and path[-1] in _PATHS else what
        is_text = kind == "string_type" and not isinstance(found, dict | list)
        example = ", such as 800" if kind.startswith("int") else ""
        fix = put_in_quotes(described) if is_text else f"write {what}{example}"
        described = without_quotes(described, found) if is_text else described
        field = "dataset" if path == ("data", "training", "path") else name
        message = f"{name} is {described}; it must be {what}"
        source.draft.add("invalid-value", message, field=field, line=line, fix=fix)
        if path[0] == "models":
            source.unread.add("models")
