"""Reads the runs of a YAML summary into rows of a table whose columns are all that any of them gives."""

from dataclasses import replace
from typing import Any

from scaffold_torchtune.parse.draft import Field, RowDraft
from scaffold_torchtune.parse.yaml_keys import COMPUTE, LIKELY_MISSPELT, is_for_people
from scaffold_torchtune.parse.yaml_source import Source
from scaffold_torchtune.parse.yaml_values import field
from scaffold_torchtune.settings.parameters import Parameter, by_label, labels, normalize
from scaffold_torchtune.shared.text import close_matches, escape
from scaffold_torchtune.shared.yamlio import Path

_OWN = {"prompt": "prompt", "system_prompt": "system_prompt", "dataset_path": "dataset"}


def read(source: Source) -> None:
    """Fill the draft's columns and rows. Problems are noted."""
    columns: dict[str, int] = {}
    places: dict[str, int] = {}
    unknown: set[str] = set()
    for i, run in enumerate(source.items(("runs",))):
        if isinstance(run, dict):
            cells: dict[int, Field] = {}
            for key, path in _keys(source, i, unknown).items():
                found = _cell(source, key, path)
                column = columns.setdefault(key, len(columns))
                places.setdefault(key, source.line(path))
                if found is not None:
                    cells[column] = found
            source.draft.rows.append(RowDraft(cells, source.line(("runs", i))))
    if columns:
        for key in ("type", "model"):  # where no run says it, each lacks it
            columns.setdefault(key, len(columns))
    whole = source.line(("runs",))
    source.draft.columns = [Field(key, places.get(key, whole), "runs") for key in columns]


def _keys(source: Source, i: int, unknown: set[str]) -> dict[str, Path]:
    """The place of everything that a run says, by its one name. What is given twice is refused."""
    run: Path = ("runs", i)
    found: list[tuple[str, Path]] = [(key, (*run, key)) for key in ("name", "type", "model")]
    for key in source.mapping((*run, "parameters")):
        path = (*run, "parameters", key)
        if not is_for_people(key) and (parameter := _parameter(source, path, unknown)):
            found.append((parameter.name, path))
    found += [(key, (*run, "compute", key)) for key in COMPUTE]
    found += [(name, (*run, key)) for key, name in _OWN.items()]
    keys: dict[str, Path] = {}
    for name, path in found:
        if not source.has(path):
            continue
        if name in keys and _says(source, path) and _says(source, keys[name]):
            first = keys[name]
            # Two names of one parameter are refused as two columns of a table are; one value in two places is one.
            if path[:-1] == first[:-1] or source.at(path) != source.at(first):
                _given_twice(source, name, first, path)
        elif name not in keys or _says(source, path):
            keys[name] = path
    return keys


def _says(source: Source, path: Path) -> bool:
    return source.at(path) is not None


def _given_twice(source: Source, name: str, first: Path, second: Path) -> None:
    message = (
        f"{name} is given twice in one run: {source.name(first)} (line {source.line(first)}) and"
        f" {source.name(second)} (line {source.line(second)})"
    )
    source.problem("ambiguous", message, second, "keep one of the two", name)


def _parameter(source: Source, path: Path, unknown: set[str]) -> Parameter | None:
    """The parameter that a key of a run's `parameters` means. One that is unknown is told of the first run."""
    key = str(path[-1])
    found = by_label(key)
    if found is not None and found.column:
        return found
    near = close_matches(normalize(key), labels(), limit=1, cutoff=LIKELY_MISSPELT) if found is None else []
    meant = by_label(near[0]) if near else None
    if meant is not None and not meant.column:
        meant = None
    if key not in unknown:
        unknown.add(key)
        _unknown(source, path, found, meant)
    return meant


def _unknown(source: Source, path: Path, found: Parameter | None, meant: Parameter | None) -> None:
    key = escape(str(path[-1]))
    if meant is not None:
        message = f"{source.name(path)} is not a parameter; did you mean {meant.name!r}?"
        source.problem("misspelt-field", message, path, f"write {meant.name!r}", key)
        return
    if isinstance(source.at(path), dict | list):
        shape = "a mapping" if isinstance(source.at(path), dict) else "a list"
        message = f"{source.name(path)} is {shape}, and not a parameter of a run"
        source.problem("invalid-value", message, path, "write each setting in parameters itself, with one value", key)
        source.unread.add("controls")  # nobody knows whether it holds what all runs need
        return
    fix = "nothing, unless it was meant to change the runs: see the parameters in workflows/torchtune.md"
    if found is not None:
        fix = "take it out, or write it in claude.local.md: it is the same for all runs"
    source.problem("unused-field", f"{source.name(path)} is not a parameter of a run", path, fix, key)


def _cell(source: Source, key: str, path: Path) -> Field | None:
    """What a run gives for a parameter. Free text that is null says that there is none."""
    if _says(source, path):
        return field(source, path, key)
    if key == "system_prompt":
        return replace(Field("", source.line(path), source.name(path)), exact=True)
    if key == "prompt" and _is_trained(source.at(path[:2])) and (shared := _shared_prompt(source)):
        message = (
            f"{source.name(path)} is null, where {source.name(shared)} (line {source.line(shared)}) gives one,"
            " and no run is trained without a prompt"
        )
        fix = 'write the run\'s own prompt ("{input}" is the input alone), or take the line out for the shared one'
        source.problem("ambiguous", message, path, fix, key)
    return None


def _is_trained(run: Any) -> bool:
    return not (isinstance(run, dict) and run.get("type") in {"control", "eval-only"})


def _shared_prompt(source: Source) -> Path | None:
    shared: tuple[Path, ...] = (("controls", "prompt"), ("data", "training", "prompt"))
    return next((path for path in shared if _says(source, path)), None)
