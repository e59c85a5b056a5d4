"""The shape of a YAML summary: what must be a mapping, a list or one value, and is something else."""

from typing import Any, Final, get_args, get_origin

from pydantic import ValidationError

from scaffold_torchtune.parse import yaml_keys
from scaffold_torchtune.parse.yaml_form import Form, SummaryForm
from scaffold_torchtune.parse.yaml_source import Source
from scaffold_torchtune.shared.text import escape, shown
from scaffold_torchtune.shared.yamlio import Path

# What each part must be, and how it is written. `*` is the number of an item.
_MODEL = "- {name: NAME, path: /path/to/it}"
_RUN = "- {name: NAME, type: fine-tuned, model: MODEL, parameters: {lora_rank: 8}}"
_RIGHT: Final = {
    "experiment": ("a mapping with the key name", "experiment: {name: NAME}"),
    "controls": ("a mapping of settings to values", "controls: {epochs: 1, batch_size: 4}"),
    "models": ("a mapping with the key base: a list of {name, path}", f"below models, base: and below it {_MODEL}"),
    "models.base": ("a list of {name, path}", f"below base {_MODEL}"),
    "models.base.*": ("a mapping with the keys name and path", _MODEL),
    "data": ("a mapping with the key training", "data: {training: {path: /path/to/data.json}}"),
    "data.training": (
        "a mapping with the key path",
        "training: {path: /path/to/data.json}; a run with another data set gives its dataset_path",
    ),
    "data.training.splits": ("a mapping of each split to its samples", "splits: {train: 800, validation: 100}"),
    "output": ("a mapping with the key wandb_project", "output: {wandb_project: NAME}"),
    "runs": ("a list of runs", f"below runs {_RUN}"),
    "runs.*": ("a mapping with the keys name, type and model", _RUN),
    "runs.*.parameters": ("a mapping of parameters to values", "parameters: {lora_rank: 8, lr: 1e-5}"),
    "runs.*.compute": ("a mapping of what the job asks for", 'compute: {time: "1:00:00", gpus: 1}'),
}
# What is not missing where it is here that something cannot be read.
_FIELDS: Final = {"experiment": "experiment_name", "data": "dataset", "runs": "runs"}
_SCALARS: Final = {"string_type": "text", "int": "a whole number"}


def check(source: Source) -> None:
    """Note every key and every shape that the form does not have, from the top."""
    _check(source, SummaryForm, ())


def _check(source: Source, form: type[Form], path: Path) -> None:
    yaml_keys.check(source, form, path)
    for key, field in form.model_fields.items():
        place = (*path, key)
        below, wants_list, wants_mapping = _wanted(field.annotation)
        if source.at(place) is None or not (below or wants_list or wants_mapping):
            continue
        _put_right(source, place, below, is_list=wants_list)
        for part in [(*place, i) for i in range(len(source.items(place)))] if wants_list else [place]:
            if wants_list:
                _put_right(source, part, below, is_list=False)
            if below and isinstance(source.at(part), dict):
                _check(source, below, part)


def _wanted(annotation: Any) -> tuple[type[Form] | None, bool, bool]:
    """The form that a field holds, and whether it is a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Form):
        return annotation, False, True
    origin = get_origin(annotation)
    if origin in {list, dict}:
        below = _wanted(get_args(annotation)[-1])[0]
        return below, origin is list, origin is dict
    found = [_wanted(part) for part in get_args(annotation)]
    return next((wanted for wanted in found if any(wanted)), (None, False, False))


def _put_right(source: Source, path: Path, below: type[Form] | None, *, is_list: bool) -> None:
    """Refuse what is no list or no mapping; read on what can be meant by it, and nothing where that is unclear."""
    value = source.at(path)
    if isinstance(value, list if is_list else dict):
        return
    what, right = _RIGHT[".".join("*" if isinstance(part, int) else part for part in path)]
    message = f"{source.name(path)} is {_found(source, path)}; it must be {what}"
    source.problem("invalid-value", message, path, f"write {right}", _FIELDS.get(str(path[0])))
    source.told.add(path)
    place = source.place(path)
    if is_list and isinstance(value, dict):
        _items_of_mapping(source, path, value, below)
    elif isinstance(value, list) and path == ("models",):
        source.put(path, {}, place)
        source.put((*path, "base"), value, place)
    elif isinstance(value, list) and _is_dashed(value):
        _keys_of_list(source, path, value)
    else:
        source.at(path[:-1])[path[-1]] = None
        # Parameters that a run may have given are not missing either.
        source.unread.add("controls" if path[-1] == "parameters" else str(path[0]))


def _items_of_mapping(source: Source, path: Path, value: dict[str, Any], below: type[Form] | None) -> None:
    """A mapping where a list belongs: one item without its dash, or items by their names."""
    place = source.place(path)
    source.put(path, [], place)
    if below and any(key in below.model_fields for key in value):
        source.at(path).append(value)
        source.moved[(*path, 0)] = place
        return
    for i, (name, item) in enumerate(value.items()):
        of_model = {"path": item} if path == ("models", "base") and not isinstance(item, dict) else item
        source.at(path).append({"name": name, **(of_model if isinstance(of_model, dict) else {})})
        source.moved |= {(*path, i): (*place, name), (*path, i, "name"): (*place, name)}
        if of_model is not item:
            source.moved[(*path, i, "path")] = (*place, name)


def _is_dashed(value: list[Any]) -> bool:
    """Whether a list holds mappings that together are one: each key with a dash before it."""
    keys = [key for item in value if isinstance(item, dict) for key in item]
    return bool(keys) and len(keys) == len(set(keys)) and all(isinstance(item, dict) for item in value)


def _keys_of_list(source: Source, path: Path, value: list[dict[str, Any]]) -> None:
    place = source.place(path)
    source.put(path, {}, place)
    for i, item in enumerate(value):
        for key, one in item.items():
            source.put((*path, key), one, (*place, i, key))


def _found(source: Source, path: Path) -> str:
    """What stands at a place, as messages say it."""
    value = source.at(path)
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    plain = source.plain(path)
    return shown(value) if isinstance(value, str) or plain is None else escape(plain)


def check_values(source: Source) -> None:
    """Note the values that are not what the form holds, but what was told; what is missing is told where it is used."""
    try:
        SummaryForm.model_validate(source.data)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            path = one["loc"]
            if not any(path[:end] in source.told for end in range(1, len(path) + 1)):
                _value_problem(source, path, one["type"], one["input"])


def _value_problem(source: Source, path: Path, kind: str, found: Any) -> None:
    name = source.name(path)
    if kind == "missing" and path[-1] == "name" and len(path) > 2:  # noqa: PLR2004 - of a list
        where = source.name(path[:-1])
        source.problem("missing-field", f"{where} has no name", path, "add name: NAME", name)
        source.unread.add(str(path[0]))
    elif found is None or kind == "missing" or path[-1] == "type":
        return  # told where it is used
    else:
        what = next((what for start, what in _SCALARS.items() if kind.startswith(start)), "what the form holds")
        is_text = kind == "string_type" and not isinstance(found, dict | list)
        reads = f", which YAML reads as {shown(found)}" if is_text and shown(found) != _found(source, path) else ""
        fix = f'write "{_found(source, path)}", in quotes' if is_text else f"write {what}"
        field = "dataset" if path == ("data", "training", "path") else name
        message = f"{name} is {_found(source, path)}{reads}; it must be {what}"
        source.problem("invalid-value", message, path, fix, field)
        if path[0] == "models":
            source.unread.add("models")
