"""The keys of a YAML summary that its form does not know: misspelt, out of place, for people, or not used."""

from typing import Any, Final

from scaffold_torchtune.parse.yaml_form import ComputeForm, Form, RunForm, TrainingDataForm
from scaffold_torchtune.parse.yaml_source import Source
from scaffold_torchtune.settings.parameters import PARAMETERS, Parameter, by_label, labels, normalize
from scaffold_torchtune.shared.text import close_matches
from scaffold_torchtune.shared.yamlio import Path

LIKELY_MISSPELT: Final = 0.8
COMPUTE: Final = tuple(ComputeForm.model_fields)
_NOTHING: Final = "nothing, unless it was meant to change the runs"
# Keys that other tools read.
_NOT_OURS: Final = frozenset({"checkpoint_path", "training_condition", "vis_label"})
# Keys of the form that are not used: one that is nearly called so is not used either.
_UNUSED: Final = frozenset(
    {"tools", "variables", "evaluation", "project", "question", "date", "hypothesis", "purpose", "size_gb", "size_kb"}
)
# Keys that are there for people, as columns of that name are in the Markdown form.
_FOR_PEOPLE: Final = frozenset(
    {
        "description", "note", "notes", "status", "purpose", "comment", "comments", "est time", "estimated time",
        "gpu hours", "job id",
    }
)  # fmt: skip
# Settings that `data.training` may hold, and what below `data` only describes the file.
_OF_DATA: Final = frozenset(TrainingDataForm.model_fields) & PARAMETERS.keys()
_DESCRIBES_DATA: Final = frozenset({"samples", "train samples"})
# What all runs need: a section that holds it, where there are no controls, is meant for them.
_REQUIRED: Final = frozenset({"epochs", "batch_size"})
# Keys of a run, of which no section of the document is called so.
_OF_RUNS: Final = frozenset(RunForm.model_fields) - {"name"}


def is_for_people(key: str) -> bool:
    """Whether a key changes no run: a remark, or a key that other tools read."""
    return key in _NOT_OURS or normalize(key) in _FOR_PEOPLE


def check(source: Source, form: type[Form], path: Path) -> None:
    """Note every key that the form does not know; what is plainly meant is read on as it was meant."""
    known = form.model_fields
    for key in [key for key in source.mapping(path) if key not in known]:
        if not is_for_people(key) and not _is_generation(key, path):
            _unknown(source, (*path, key), known)


def _is_generation(key: str, path: Path) -> bool:
    """Whether a section of `data` says how the data were made, which is not ours."""
    return path == ("data",) and "generat" in key.lower()


def _unknown(source: Source, path: Path, known: dict[str, Any]) -> None:
    key = str(path[-1])
    parameter = by_label(key)
    if parameter is not None and not (path[0] == "data" and normalize(key) in _DESCRIBES_DATA):
        if parameter.name in known:
            _misspelt(source, path, parameter.name)
            return
        if (to := _belongs(path, parameter)) is not None:
            _move(source, path, to)
            return
    if path == ("data", "path"):
        _move(source, path, ("data", "training", key))
        return
    if path == ("name",) and source.at(("experiment", "name")) is None:
        _move(source, path, ("experiment", key))
        return
    near = close_matches(key, known, limit=1, cutoff=LIKELY_MISSPELT)
    if len(path) == 1 and key in _OF_RUNS and not (near and isinstance(source.at(path), dict | list)):
        message = f"{key} stands beside runs, where it is not read"
        source.problem("misspelt-field", message, path, "write it in each run; what all runs share stands in controls")
    elif near and near[0] not in _UNUSED:
        _misspelt(source, path, near[0])
    elif len(path) == 1 and source.at(("controls",)) is None and _REQUIRED & _held(source.at(path)):
        message = f"{source.name(path)} is not a section here; what all runs share stands in controls"
        source.problem("misspelt-field", message, path, "call it controls")
        source.move(path, ("controls",))
    elif meant := _nearly_a_parameter(key, path):
        _misspelt_parameter(source, path, meant)
    else:
        _not_used(source, path, parameter)


def _misspelt(source: Source, path: Path, near: str) -> None:
    message = f"{source.name(path)} is not a key here; did you mean {near!r}?"
    source.problem("misspelt-field", message, path, f"write {near!r}")
    source.move(path, (*path[:-1], near))


def _nearly_a_parameter(key: str, path: Path) -> Parameter | None:
    """The parameter that a key of a run, or of what all runs share, is nearly called by."""
    if len(path) != 1 and not _is_run(path[:-1]) and path[:-1] != ("data", "training"):
        return None
    near = close_matches(normalize(key), labels(), limit=1, cutoff=LIKELY_MISSPELT) if by_label(key) is None else []
    meant = by_label(near[0]) if near else None
    return meant if meant is not None and meant.column and meant.name != "model" else None


def _misspelt_parameter(source: Source, path: Path, meant: Parameter) -> None:
    to = _belongs(path, meant) or (*path[:-1], meant.name)
    where = ".".join(map(str, to[:-1] if not _is_run(path[:-1]) else to[2:-1]))
    message = f"{source.name(path)} is not a key here; did you mean {meant.name!r}?"
    source.problem("misspelt-field", message, path, f"write {to[-1]!r}, in {where}")
    _read_on(source, path, to)


def _is_run(path: Path) -> bool:
    return len(path) == 2 and path[0] == "runs"  # noqa: PLR2004 - runs, and a number


def _belongs(path: Path, parameter: Parameter) -> Path | None:
    """Where a parameter belongs that stands at a path; None where it may describe something there, or nobody knows."""
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


def _move(source: Source, path: Path, to: Path) -> None:
    """Refuse a key that stands where nothing reads it, and read on as if it stood where it belongs."""
    run = _is_run(to[:2])
    section = ".".join(map(str, to[2:-1] if run else to[:-1]))
    beside = f"beside {section}" if path[:-1] == (to[:2] if run else to[:-2]) else f"outside {section}"
    also = "" if path[-1] == to[-1] else f", as {to[-1]}"
    if run and to[-1] == "dataset":
        also = ", or call it dataset_path"
    message = f"{source.name(path)} stands {beside}, where it is not read"
    source.problem("misspelt-field", message, path, f"move it into {section}{also}")
    _read_on(source, path, to)


def _read_on(source: Source, path: Path, to: Path) -> None:
    """Read a key as if it stood where it belongs, making the sections above it."""
    for end in range(1, len(to)):
        above = to[:end]
        if isinstance(above[-1], str) and source.at(above) is None and isinstance(source.at(above[:-1]), dict):
            source.at(above[:-1])[above[-1]] = {}
    source.move(path, to)


def _not_used(source: Source, path: Path, parameter: Parameter | None) -> None:
    """A key that changes nothing. Where it holds settings, say where those belong."""
    held = sorted(_held(source.at(path)))
    message = f"{source.name(path)} is not used" + (f", though it holds {', '.join(held)}" if held else "")
    fix = _NOTHING
    if parameter is not None and not parameter.column:
        fix = f"{_NOTHING}: {parameter.name} is the same for all, and claude.local.md gives it"
    elif path[0] == "output":
        fix = f"{_NOTHING}: where outputs go stands in claude.local.md"
    elif held or parameter is not None:
        fix = f"{_NOTHING}: then write it in controls, or in a run's parameters"
    source.problem("unused-field", message, path, fix)


def _held(value: Any) -> set[str]:
    """The parameters of runs that a section holds."""
    found = [by_label(key) for key in value] if isinstance(value, dict) else []
    return {parameter.name for parameter in found if parameter is not None and parameter.column}
