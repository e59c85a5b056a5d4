"""Names of run directories: they hold exactly what varied when the run was first scaffolded."""

import itertools
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaffold_torchtune.findings import Collector, Finding, Scalar
from scaffold_torchtune.settings import kinds, recipes
from scaffold_torchtune.settings.parameters import NAMING_ORDER, PARAMETERS
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.text import escape, shown

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", re.ASCII)
_ALLOWED = "letters, digits, '.', '_', '+' and '-', at most 200, not reserved"
# Names that some system keeps for itself: devices of Windows, whose users look at shared folders.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_SPLIT_NAMES = frozenset({"train", "training"})


def varying_parameters(columns: Sequence[str], runs: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """Return the columns that vary over the runs, in naming order: model, lora_rank, lr, batch_size, then the rest."""
    differing = [c for c in columns if len({(type(run.get(c)), run.get(c)) for run in runs}) > 1]
    first = [name for name in NAMING_ORDER if name in differing]
    return (*first, *(name for name in differing if name not in first))


@dataclass(frozen=True)
class Names:
    """How runs are named: `pattern` for people, one name a run, and what `prompt1` and the like stand for."""

    pattern: str
    names: tuple[str, ...]
    legend: dict[str, str]


def names_by_varying(
    varying: Sequence[str], runs: Sequence[Mapping[str, Scalar]], known: Mapping[str, str] | None = None
) -> Names:
    """Make names such as `rank8_lr1e-5` from what varies. `known` is an earlier legend: its texts keep their numbers.

    What a run cannot have is not in its name: `rank8_recipe-lora`, but `recipe-full` where all weights are trained.
    """
    prefixes = {name: _prefix(name, varying) for name in varying}
    texts = {
        name: _numbered(prefixes[name], [_free_text(run.get(name)) for run in runs], known or {})
        for name in varying
        if PARAMETERS[name].kind == "text"
    }
    made = []
    for run in runs:
        parts = [
            texts[name][_free_text(run.get(name))] if name in texts else _part(name, prefixes[name], run.get(name))
            for name in varying
            if run.get("recipe") != recipes.FULL or name not in recipes.OF_LORA or run.get(name) is not None
        ]
        made.append("_".join(parts))
    pattern = "_".join(f"{prefixes[name]}{{{name}}}" for name in varying)
    legend = {part: text for numbered in texts.values() for text, part in numbered.items()}
    return Names(pattern, tuple(made), dict(sorted(legend.items())))


def _prefix(name: str, varying: Sequence[str]) -> str:
    """What stands before a value: an abbreviation, but not one that is the name of another that varies."""
    if name in {"model", "dataset"}:
        return ""
    short = PARAMETERS[name].abbreviation
    return short if short and short not in varying else name


def _free_text(value: Scalar) -> str:
    return "(not given)" if value is None else str(value)


def _numbered(prefix: str, texts: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """`prompt1`, `prompt2`, ... for each text, in order; texts that had a number before keep it."""
    numbered = {text: part for part, text in known.items() if re.fullmatch(rf"{prefix}[0-9]+", part) and text in texts}
    free = (part for i in itertools.count(1) if (part := f"{prefix}{i}") not in known)
    for text in texts:
        if text not in numbered:
            numbered[text] = next(free)
    return numbered


def _part(name: str, prefix: str, value: Scalar) -> str:
    if name == "model":
        return str(value)
    if name == "dataset":
        stem = layout.data_label(str(value))[0]  # or the folder where that is only a split (`train.parquet`)
        return posixpath.basename(posixpath.dirname(str(value))) if stem in _SPLIT_NAMES else stem
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{prefix}{kinds.shortest_number(value)}"
    return f"{prefix}-{'none' if value is None else str(value).lower().replace(':', '-').replace(',', '+')}"


def held_by(
    name: str, varying: Sequence[str], parameters: Mapping[str, Scalar], legend: Mapping[str, str]
) -> frozenset[str]:
    """Return the parameters whose values a directory's name holds.

    Args:
        name: the directory.
        varying: what varied when it was named, or since.
        parameters: of its run.
        legend: what `prompt1` and the like stand for.
    """
    parts = {text: part for part, text in legend.items()}
    held = set()
    for parameter in varying:
        value = parameters.get(parameter)
        is_text = PARAMETERS[parameter].kind == "text"
        part = parts.get(_free_text(value)) if is_text else _part(parameter, _prefix(parameter, varying), value)
        if part and f"_{part}_" in f"_{name}_":
            held.add(parameter)
    return frozenset(held)


def single_name(row_name: str, parameters: Mapping[str, Scalar]) -> str:
    """Return the name of a run where nothing varies: the row's own if it is safe, else `MODEL_rankR_lrLR` or such."""
    if row_name and is_safe(row_name):
        return row_name
    method = ("recipe",) if parameters.get("recipe") == recipes.FULL else ()
    return names_by_varying(("model", "lora_rank", "lr", *method), [parameters]).names[0]


def is_safe(name: str) -> bool:
    """Return whether a directory may have a name: letters, digits and `._+-`, not reserved by us or by a system."""
    reserved = name.lower() in layout.RESERVED or bool(_DEVICES.fullmatch(name))
    return bool(_SAFE.fullmatch(name)) and not reserved and ".." not in name and not name.endswith(".")


def check_names(names: Sequence[str], lines: Sequence[int], file: str) -> list[Finding]:
    """Return the problems of the names: unsafe ones, and two that are the same on some file system (but for case)."""
    found = Collector(file)
    seen: dict[str, int] = {}
    for name, line in zip(names, lines, strict=True):
        field, actual = "run name", escape(name)
        if not is_safe(name):
            message = f"the run at line {line} would get the directory {shown(name)}, which is not a safe name"
            fix = "rename what the name is made of"
            found.add("unsafe-name", message, field=field, expected=_ALLOWED, actual=actual, line=line, fix=fix)
        if name.lower() in seen:
            message = f"the runs at lines {seen[name.lower()]} and {line} would share the directory {shown(name)}"
            fix = "let the names differ: by --names table with distinct Run Names, or distinct data set names"
            found.add("name-collision", message, field=field, actual=actual, line=line, fix=fix)
        seen.setdefault(name.lower(), line)
    return found.findings
