"""Names of run directories: built from the values that varied when a run was first scaffolded, and kept afterwards.

A row of the table is an earlier run if everything that is trained is the same. Otherwise it can only be a run if the
name of its directory still describes the row; the run with the same Run Name is preferred, then the run with the most
equal settings. If two are equally near, the user is asked.
"""

import itertools
import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from scaffold_torchtune.findings import Collector, Finding, Question, Scalar, escape, few, finding, shown
from scaffold_torchtune.models import PlannedRun, Run, Setting, Source, SourceKind
from scaffold_torchtune.plan.run_settings import PlanContext, parameters_of
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import NAMING_ORDER, PARAMETERS, SURROUNDINGS
from scaffold_torchtune.system import layout
from scaffold_torchtune.torchtune_facts import FULL, OF_LORA, method_of

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", re.ASCII)
_ALLOWED = "at most 200 letters, digits, '.', '_', '+' and '-', and not a reserved name"
# Names that a system reserves: device names of Windows, from which users may browse shared folders.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_SPLIT_NAMES = frozenset({"train", "training"})


def varying_parameters(columns: Sequence[str], runs: Sequence[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """Return the columns that vary over the runs, in naming order: model, lora_rank, lr, batch_size, then the rest."""
    differing = [c for c in columns if len({(type(run.get(c)), run.get(c)) for run in runs}) > 1]
    first = [name for name in NAMING_ORDER if name in differing]
    return (*first, *(name for name in differing if name not in first))


@dataclass(frozen=True)
class Names:
    """Names of runs: a `pattern` for people, one name per run, and the texts behind `prompt1`, `prompt2`, ..."""

    pattern: str
    names: tuple[str, ...]
    legend: dict[str, str]


def names_by_varying(
    varying: Sequence[str], runs: Sequence[Mapping[str, Scalar]], known: Mapping[str, str] | None = None
) -> Names:
    """Build names such as `rank8_lr1e-5`. Texts of `known`, an earlier legend, keep their numbers.

    A parameter that a run does not have is omitted: `rank8_recipe-lora`, but `recipe-full` for full fine-tuning.
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
            if run.get("recipe") != FULL or name not in OF_LORA or run.get(name) is not None
        ]
        made.append("_".join(parts))
    pattern = "_".join(f"{prefixes[name]}{{{name}}}" for name in varying)
    legend = {part: text for numbered in texts.values() for text, part in numbered.items()}
    return Names(pattern, tuple(made), dict(sorted(legend.items())))


def _prefix(name: str, varying: Sequence[str]) -> str:
    """Return the prefix of a value: an abbreviation, unless another varying parameter has that name."""
    if name in {"model", "dataset"}:
        return ""
    short = PARAMETERS[name].abbreviation
    return short if short and short not in varying else name


def _free_text(value: Scalar) -> str:
    return "(not given)" if value is None else str(value)


def _numbered(prefix: str, texts: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return `prompt1`, `prompt2`, ... for each text, in order; texts that already have a number keep it."""
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
        stem = layout.data_label(str(value))[0]  # the folder if the name is only a split (`train.parquet`)
        return posixpath.basename(posixpath.dirname(str(value))) if stem in _SPLIT_NAMES else stem
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{prefix}{kinds.shortest_number(value)}"
    return f"{prefix}-{'none' if value is None else str(value).lower().replace(':', '-').replace(',', '+')}"


def single_name(row_name: str, parameters: Mapping[str, Scalar]) -> str:
    """Return a run's name if nothing varies: the row's own if it is safe, else a name such as `MODEL_rank8_lr1e-5`."""
    if row_name and is_safe(row_name):
        return row_name
    method = ("recipe",) if parameters.get("recipe") == FULL else ()
    return names_by_varying(("model", "lora_rank", "lr", *method), [parameters]).names[0]


def is_safe(name: str) -> bool:
    """Return whether a directory may have a name: letters, digits and `._+-`, not reserved by this tool or a system."""
    reserved = name.lower() in layout.RESERVED or bool(_DEVICES.fullmatch(name))
    return bool(_SAFE.fullmatch(name)) and not reserved and ".." not in name and not name.endswith(".")


def check_names(names: Sequence[str], lines: Sequence[int], file: str) -> list[Finding]:
    """Return the problems of names: unsafe ones, and names that differ only in case, which some file systems ignore."""
    found = Collector(file)
    seen: dict[str, int] = {}
    for name, line in zip(names, lines, strict=True):
        field, actual = "run name", escape(name)
        if not is_safe(name):
            message = f"the run at line {line} would get the directory {shown(name)}, which is not a safe name"
            fix = "rename the run, model or data set from which the name is derived"
            found.add("unsafe-name", message, field=field, expected=_ALLOWED, actual=actual, line=line, fix=fix)
        if name.lower() in seen:
            message = f"the runs at lines {seen[name.lower()]} and {line} would share the directory {shown(name)}"
            fix = "make the names distinct: use --names table with distinct Run Names, or rename a data set"
            found.add("name-collision", message, field=field, actual=actual, line=line, fix=fix)
        seen.setdefault(name.lower(), line)
    return found.findings


class PlannedRow(NamedTuple):
    """A row of the table with its settings and the values, by parameter, that distinguish runs."""

    run: Run
    settings: Mapping[str, Setting]
    values: Mapping[str, Scalar]


def row_of(run: Run, settings: Mapping[str, Setting], data: Setting) -> PlannedRow:
    """Return a row with the values that names of directories may contain."""
    return PlannedRow(run, settings, _values(settings, data))


class Directories(NamedTuple):
    """The directory of each row; `ties` and a question if the user must decide which run a row is."""

    names: list[str]
    ties: list[Finding]
    ask: list[Question]


def kept_directories(
    fresh: Sequence[str], rows: Sequence[PlannedRow], columns: Sequence[str], context: PlanContext, file: str
) -> Directories:
    """Return the directory of each row: its run's directory, or a new one with a name that no other run had.

    Args:
        fresh: the names that new runs would get.
        rows: the rows of fine-tuned runs.
        columns: the parameters that distinguish runs in the table.
        context: the runs scaffolded before, the legend of their names, and the user's answer about ties.
        file: the summary.
    """
    known = context.known
    exact = {_identity(run.settings, columns): name for name, run in known.items()}
    kept = {i: name for i, row in enumerate(rows) if (name := exact.pop(_identity(row.settings, columns), ""))}
    said = {part for each in context.ties.split(",") if (part := each.strip())}
    every: list[_Tie] = []
    settled = {*kept}
    while True:
        taken = {*kept.values()}
        left = {name: run for name, run in known.items() if name not in taken}
        nearest, ties = _nearest({i: row for i, row in enumerate(rows) if i not in settled}, left, context.legend)
        kept |= nearest
        every += ties
        if not ties or not said:
            break
        kept |= {i: name for i, name in ties if not said.isdisjoint(_spellings(rows[i], name))}
        settled |= {*kept, *(i for i, _ in ties)}  # a tied row that the answer does not name is new
    if every and not (said and _is_one_to_one(said, every, rows)):
        return Directories([*fresh], [*_tied(every, rows, known, context.ties, file)], [_question(every, rows)])
    return Directories(_named(fresh, kept, known), [], [])


def legend_of(now: Mapping[str, str], context: PlanContext, names: Iterable[str]) -> dict[str, str]:
    """Return the legend of all names, including earlier names, which runs may get again."""
    every = [f"_{name}_" for name in (*context.known, *names)]
    before = {part: text for part, text in context.legend.items() if any(f"_{part}_" in name for name in every)}
    return dict(sorted({**before, **now}.items()))


def _named(fresh: Sequence[str], kept: Mapping[int, str], known: Iterable[str]) -> list[str]:
    """Return the names of all rows; number a new name that another run already had."""
    taken = {name.lower() for name in known}
    names: list[str] = []
    for index, name in enumerate(fresh):
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        free = itertools.chain([name], numbered)
        names.append(kept.get(index) or next(one for one in free if one.lower() not in taken))
    return names


_Tie = tuple[int, str]
"""A row's number and a run's directory, if the row is as near to another run, or the run as near to another row."""
_Score = tuple[bool, int]


def _nearest(
    rows: Mapping[int, PlannedRow], left: Mapping[str, PlannedRun], legend: Mapping[str, str]
) -> tuple[dict[int, str], list[_Tie]]:
    """Return, by row number, the directory of each row that has a single nearest run, and the ties."""
    scores = _scores(rows, left, legend)
    by_row: dict[int, dict[str, _Score]] = {}
    by_name: dict[str, dict[int, _Score]] = {}
    for (index, name), score in scores.items():
        by_row.setdefault(index, {})[name] = by_name.setdefault(name, {})[index] = score
    nearest: dict[int, str] = {}
    taken: set[str] = set()

    def rivals(index: int, name: str) -> Iterator[_Score]:
        yield from (other for each, other in by_row[index].items() if each != name and each not in taken)
        yield from (other for each, other in by_name[name].items() if each != index and each not in nearest)

    for (index, name), score in sorted(scores.items(), key=lambda one: one[1], reverse=True):
        if index not in nearest and name not in taken and all(score > other for other in rivals(index, name)):
            nearest[index] = name
            taken.add(name)
    open_pairs = [pair for pair in scores if pair[0] not in nearest and pair[1] not in taken]
    return nearest, [pair for pair in open_pairs if all(scores[pair] >= other for other in rivals(*pair))]


def _scores(
    rows: Mapping[int, PlannedRow], left: Mapping[str, PlannedRun], legend: Mapping[str, str]
) -> dict[_Tie, _Score]:
    """Return the scores of rows and runs, for runs with a directory name that fits the row.

    If the name contains no value, the Run Names must be equal.
    """
    found: dict[_Tie, _Score] = {}
    by_held: dict[tuple[str, ...], dict[tuple[Scalar, ...], list[PlannedRun]]] = {}
    for name, run in left.items() if rows else ():
        values = _values(run.settings, Setting(value=run.data_path, source=_UNKNOWN)) | run.parameters
        held = tuple(sorted(held_by(name, values, legend)))
        by_held.setdefault(held, {}).setdefault(tuple(values.get(one) for one in held), []).append(run)
    for index, row in rows.items():
        for held, runs in by_held.items():
            for old in runs.get(tuple(row.values.get(one) for one in held), ()):
                if held or old.name == row.run.name:
                    same = sum(old.value(key) == setting.value for key, setting in row.settings.items())
                    found[index, old.directory] = (old.name == row.run.name, same)
    return found


_UNKNOWN: Final = Source(kind=SourceKind.DERIVED)


def _values(settings: Mapping[str, Setting], data: Setting) -> dict[str, Scalar]:
    """Return the value of each parameter that a directory's name may contain."""
    values = {name: setting.value for name, setting in settings.items() if name in PARAMETERS}
    return values | parameters_of(("dataset", "recipe"), settings, data)


def held_by(name: str, values: Mapping[str, Scalar], legend: Mapping[str, str]) -> frozenset[str]:
    """Return the parameters with values that a directory's name contains.

    Args:
        name: the directory.
        values: the values of its run, by parameter.
        legend: the texts that `prompt1`, `prompt2`, ... abbreviate.
    """
    parts = {text: part for part, text in legend.items()}
    whole = f"_{name}_"
    return frozenset(
        parameter
        for parameter, value in values.items()
        for part in _parts(parameter, value, name, parts)
        if part and f"_{part}_" in whole
    )


def _parts(parameter: str, value: Scalar, name: str, texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the part of a name that would represent a value, for each prefix that occurs in the name."""
    if PARAMETERS[parameter].kind == "text":
        yield texts.get(_free_text(value), "")
        return
    for prefix in {_prefix(parameter, ()), _prefix(parameter, (PARAMETERS[parameter].abbreviation or "",))}:
        if prefix in name:
            yield _part(parameter, prefix, value)


def _identity(settings: Mapping[str, Setting], columns: Sequence[str]) -> str:
    """Return the identity of a run: the settings that change training, and the columns of the table."""
    left_out = SURROUNDINGS - set(columns) | {"my_wandb_run_name"}
    values = {k: s.value for k, s in settings.items() if k not in left_out and s.source.kind is not SourceKind.TEMPLATE}
    if "custom_recipe" in values:  # a recipe also depends on the number of GPUs
        values["custom_recipe"] = method_of(str(values["custom_recipe"]))
    return json.dumps(values, sort_keys=True)


TIES: Final = "directories"
"""The field of the question that assigns rows to runs that are equally near."""
NEW: Final = "new"
_LISTED: Final = 4
_MOST_OPTIONS: Final = 6


def _spellings(row: PlannedRow, name: str) -> set[str]:
    """Return the answers that assign a row to a directory: by its Run Name or its line."""
    return {f"{row.run.name}={name}", f"{row.run.line}={name}"}


def _is_one_to_one(said: set[str], ties: Sequence[_Tie], rows: Sequence[PlannedRow]) -> bool:
    """Return whether the answer names only ties, and each row and each directory at most once."""
    chosen = [pair for pair in ties if not said.isdisjoint(_spellings(rows[pair[0]], pair[1]))]
    known = {NEW}.union(*(_spellings(rows[index], name) for index, name in chosen))
    return said <= known and len({i for i, _ in chosen}) == len({name for _, name in chosen}) == len(chosen)


def _question(ties: Sequence[_Tie], rows: Sequence[PlannedRow]) -> Question:
    pairs = [f"{rows[index].run.name}={name}" for index, name in ties]
    is_choice = len({i for i, _ in ties}) == 1 or len({name for _, name in ties}) == 1
    question = (
        f"Which rows of the table are runs that were scaffolded before? Answer {NEW} if none of them is one;"
        f" otherwise answer with some of these pairs, separated by commas: {few(pairs, _MOST_OPTIONS)}"
    )
    options = (NEW, *pairs) if is_choice and len(pairs) < _MOST_OPTIONS else ()
    return Question(field=TIES, question=escape(question, 1000), options=options)


def _tied(
    ties: Sequence[_Tie], rows: Sequence[PlannedRow], known: Mapping[str, PlannedRun], said: str, file: str
) -> Iterator[Finding]:
    """Yield one problem for each group of rows that are equally near to the same runs."""
    runs_of: dict[int, list[str]] = {}
    for index, name in ties:
        runs_of.setdefault(index, []).append(name)
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, near in runs_of.items():
        alike.setdefault(tuple(near), []).append(index)
    for named, indexes in alike.items():
        names = [*named]
        tied = few([f"{shown(rows[i].run.name)} (line {rows[i].run.line})" for i in indexes], _LISTED)
        runs = few([f"{name} (Run Name {shown(known[name].name)})" for name in names], _LISTED)
        are, which = ("is" if len(indexes) == 1 else "are"), ("the run" if len(names) == 1 else "the runs")
        message = (
            f"{tied} {are} equally close to {which} that {'was' if len(names) == 1 else 'were'} scaffolded in {runs}"
        )
        if said:
            message += f"; the answer {shown(said)} does not settle this"
        answer = shlex.quote(f"{TIES}={rows[indexes[0]].run.name}={names[0]}")
        new = "it is a new run" if len(indexes) == 1 else "all of them are new runs"
        fix = (
            f"if {new}, answer {TIES}={NEW} (--answer, or answers of a tool); if one is an existing run, name it, for"
            f" example --answer {answer}, or write the Run Name of the existing run in its row"
        )
        line = rows[indexes[0]].run.line
        yield finding("tied-run", message, field=TIES, actual=names[0], file=file, line=line, fix=fix)
