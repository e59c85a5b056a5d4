"""Names of run directories: built from the values that varied when a run was first scaffolded, and kept afterwards.

A row of the table is an earlier run if everything that is trained is the same. Otherwise, if directories have the Run
Names, it is the run with its Run Name, also before a run with equal values, unless that name contains a value that
differs. If not, it can only be a run if the name of its directory still describes the row; the run with the same Run
Name is preferred, then the run with the most equal settings. If two are equally near, the user is asked.
"""

import itertools
import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from scaffold_torchtune import findings
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, Question, Scalar, escape, few, finding, shown
from scaffold_torchtune.models import Plan, PlannedRun, Run, Setting, Source, SourceKind
from scaffold_torchtune.plan.run_settings import PlanContext, parameters_of
from scaffold_torchtune.settings.parameters import NAMING_ORDER, PARAMETERS, SURROUNDINGS, by_label, normalize
from scaffold_torchtune.system import layout
from scaffold_torchtune.torchtune_facts import FULL, OF_LORA, method_of

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", re.ASCII)
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
        return f"{prefix}{findings.shortest_number(value)}"
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


class PlannedRow(NamedTuple):
    """A row, its settings, its values by parameter, and whether a new directory gets its Run Name (`is_named`)."""

    run: Run
    settings: Mapping[str, Setting]
    values: Mapping[str, Scalar]
    is_named: bool


def row_of(run: Run, settings: Mapping[str, Setting], data: Setting, *, is_named: bool) -> PlannedRow:
    """Return a row with the values that names of directories may contain."""
    return PlannedRow(run, settings, _values(settings, data), is_named)


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
    exact: dict[str, list[PlannedRun]] = {}
    for run in known.values():
        exact.setdefault(_identity(run.settings, columns), []).append(run)
    equal = {i: exact.pop(_identity(row.settings, columns), []) for i, row in enumerate(rows)}
    # Of equally near runs, the last one is kept: runs that are no longer in the table come first.
    kept = {i: max(runs[::-1], key=lambda run: _equal(rows[i], run)).directory for i, runs in equal.items() if runs}
    kept |= _by_run_name(kept, equal, rows, context)
    named = {row.run.name: i for i, row in enumerate(rows) if row.is_named and i not in kept and row.run.name in known}
    kept |= {i: name for name, i in named.items() if name not in {*kept.values()}}
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


def _by_run_name(
    kept: Mapping[int, str], equal: Mapping[int, Sequence[PlannedRun]], rows: Sequence[PlannedRow], context: PlanContext
) -> dict[int, str]:
    """Return the rows that are the run with their Run Name, although only other runs have equal values.

    Equal values decide if the name contains a value that differs, or if that run is a row with a new Run Name.
    """
    found: dict[int, str] = {}
    for i in kept:
        row, own = rows[i], context.known.get(rows[i].run.name)
        if not row.is_named or own is None or own in equal[i] or own.name != row.run.name:
            continue
        old = _values_of_run(own)
        held = held_by(own.directory, old, context.legend) | held_by(own.directory, row.values, context.legend)
        if all(old.get(name) == row.values.get(name) for name in held):
            found[i] = own.directory
    owners = {name: i for i, name in found.items()}
    taken = [name for i, name in kept.items() if i not in found]
    while taken:  # a row that keeps its run takes it from the row with its name, which then keeps its own
        if found.pop(i := owners.get(taken.pop(), -1), ""):
            taken.append(kept[i])
    return found


def _named(fresh: Sequence[str], kept: Mapping[int, str], known: Iterable[str]) -> list[str]:
    """Return the names of all rows; number a new name that another run already had."""
    taken = {name.lower() for name in known}
    names: list[str] = []
    for index, name in enumerate(fresh):
        free = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
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

    If the name contains no value, or Run Names are the names of directories, the Run Names must be equal.
    """
    found: dict[_Tie, _Score] = {}
    by_held: dict[tuple[str, ...], dict[tuple[Scalar, ...], list[PlannedRun]]] = {}
    for name, run in left.items() if rows else ():
        values = _values_of_run(run)
        held = tuple(sorted(held_by(name, values, legend)))
        by_held.setdefault(held, {}).setdefault(tuple(values.get(one) for one in held), []).append(run)
    for index, row in rows.items():
        for held, runs in by_held.items():
            for old in runs.get(tuple(row.values.get(one) for one in held), ()):
                if old.name == row.run.name or (held and not row.is_named):
                    found[index, old.directory] = _equal(row, old)[::-1]
    return found


def _equal(row: PlannedRow, old: PlannedRun) -> tuple[int, bool]:
    """Return the number of equal settings of a row and a run, and whether their Run Names are equal."""
    return sum(old.value(key) == setting.value for key, setting in row.settings.items()), old.name == row.run.name


_UNKNOWN: Final = Source(kind=SourceKind.DERIVED)


def _values(settings: Mapping[str, Setting], data: Setting) -> dict[str, Scalar]:
    """Return the value of each parameter that a directory's name may contain."""
    values = {name: setting.value for name, setting in settings.items() if name in PARAMETERS}
    return values | parameters_of(("dataset", "recipe"), settings, data)


def _values_of_run(run: PlannedRun) -> dict[str, Scalar]:
    return _values(run.settings, Setting(value=run.data_path, source=_UNKNOWN)) | run.parameters


def held_by(name: str, values: Mapping[str, Scalar], legend: Mapping[str, str]) -> frozenset[str]:
    """Return the parameters with values that a directory's name contains.

    Args:
        name: the directory.
        values: the values of its run, by parameter.
        legend: the texts that `prompt1`, `prompt2`, ... abbreviate.
    """
    parts = {text: part for part, text in legend.items()}
    return frozenset(
        parameter
        for parameter, value in values.items()
        for part in _parts(parameter, value, name, parts)
        if part and f"_{part}_" in f"_{name}_"
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
        f" otherwise answer with some of these pairs, separated by commas: {few(pairs, _MOST_OPTIONS, last='')}"
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
    for names, indexes in alike.items():
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


_PLACEHOLDER: Final = re.compile(
    r"\$?\{{1,2}[^{}\n]{0,60}+\}{1,2}|<[^<>\n]{1,60}+>|\[[^\[\]\n]{1,60}+\]|%\([^()\n]{1,60}+\)[a-z]?|%[a-z]"
    r"|\$[A-Za-z][A-Za-z0-9_]{0,60}+|\*{1,9}+|\.\.\.|…|(?<![A-Z0-9])[A-Z]{1,10}(?:_[A-Z]{1,10}){0,3}+(?![A-Za-z0-9])"
)
_OF_THE_RUN: Final = frozenset(
    {"run", "run name", "run names", "name", "runname", "run id", "example run", "example run name", "experiment run"}
)
_OF_THE_DIRECTORY: Final = frozenset(
    {"directory", "run directory", "run dir", "dir", "run folder", "folder", "my wandb run name", "wandb run name"}
)
_OF_THE_EXPERIMENT: Final = frozenset({"experiment", "experiment name", "exp", "exp name"})
_ANY: Final = frozenset(
    {"x", "n", "nn", "value", "val", "date", "timestamp", "time", "i", "k", "id", "epoch", "epochs"}
)
_ABOVE: Final = frozenset({"base", "output", "outputs", "scratch", "home", "root", "project", "experiment"})
_NOT_IN_NAMES: Final = frozenset(" \t\n:=|\"'`()")
_OF_CHECKPOINTS: Final = re.compile(r"ck-out|epoch|checkpoint|output|artifacts", re.IGNORECASE)
_OF_DIRECTORIES: Final = re.compile(r"\bdir|folder|\brun name|w&b|wandb", re.IGNORECASE)
_NUMBERS: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e-?[0-9]{1,3})?")
_COMPARED: Final = 200  # runs
_BY_TABLE: Final = re.compile(r"(?:[a-z]{1,20} ){0,5}run names?(?: column)?", re.IGNORECASE | re.ASCII)
_BETWEEN: Final = re.compile(r"[,;+&/]|\b(?:then|and|by|the|of|plus|with|first|finally)\b", re.IGNORECASE)
_LONGEST_LIST: Final = 200
_OF_THE_TABLE: Final = "{Run Name of the table}"
_FILE: Final = re.compile(r"\.[A-Za-z]{2,12}$")
_EPOCH: Final = "epoch_0"
"""The first directory of checkpoints (FullModelHFCheckpointer, save_checkpoint)."""


class _Token(NamedTuple):
    """A text of a pattern, or a placeholder, as written."""

    text: str
    is_open: bool

    @property
    def name(self) -> str:
        """Return the normalized name in a placeholder, without its brackets and format: `{lora_rank:d}`."""
        inner = self.text.strip("${}<>[]%")
        inner = inner[1:].partition(")")[0] if inner.startswith("(") else inner  # %(rank)s
        return normalize(re.split("[:!]", inner, maxsplit=1)[0])


_Part = tuple[_Token, ...]
"""A part of a pattern between slashes."""


class _Pattern(NamedTuple):
    """A pattern or an example of a path: its parts, and whether it begins at the root directory."""

    parts: tuple[_Part, ...]
    is_rooted: bool

    @property
    def tokens(self) -> tuple[_Token, ...]:
        """Return the tokens of all parts."""
        return tuple(token for part in self.parts for token in part)


def stated_names(stated: Sequence[Setting], plan: Plan, outputs: Mapping[str, str | None]) -> list[Finding]:
    """Return at most one finding: a pattern or example of the summary that the planned names do not follow.

    A pattern is followed if successive parts of the path of each run's directory or checkpoints match it; an unknown
    placeholder stands for any text. An example is compared if it names a run. `{run_name}` may be the Run Name or, as
    for setup_finetune (`my_wandb_run_name`), the name of the directory; the second is an info.

    Args:
        stated: the patterns and examples.
        plan: the plan.
        outputs: the output directory of each run, by the run's directory.
    """
    found = [each for one in stated if (each := _compared(one, plan, outputs))]
    found.sort(key=lambda each: each.severity is Severity.INFO)
    return found[:1]


def _compared(stated: Setting, plan: Plan, outputs: Mapping[str, str | None]) -> Finding | None:
    pattern = _read(stated.text)
    if not pattern.parts:
        return _listed(stated, plan)
    if not any(token.is_open for token in pattern.tokens):
        if any(_follows(pattern, run, plan, outputs, run.name) for run in plan.runs[:_COMPARED]):
            return None
        run = _run_in(stated.text, plan)
    else:
        every = plan.runs[:_COMPARED]
        run = next((run for run in every if not _follows(pattern, run, plan, outputs, run.name)), None)
    return None if run is None else _differing(stated, pattern, run, plan, outputs)


def _listed(stated: Setting, plan: Plan) -> Finding | None:
    """Return the difference between parameters that a text lists (`model, then rank`) and those in the names."""
    words = [normalize(part) for part in _BETWEEN.split(stated.text[:_LONGEST_LIST])]
    found = [by_label(word) for word in words if word]
    names = {each.name for each in found if each}
    if None in found or len(names) <= 1 or names == set(plan.varying) or plan.options.names == "table":
        return None
    source, has = stated.source, few(plan.varying, len(plan.varying)) or "no parameter"
    message = f"{shown(source.note)} states {shown(stated.text)}, but the names of run directories contain {has}"
    return finding(
        "naming-differs", message, field="names", expected=plan.pattern, actual=escape(stated.text),
        at=Location(source.file or "", source.line),
        fix=f"replace `{stated.text}` with `{plan.pattern}` in {source.file}:{source.line}",
    )  # fmt: skip


def _read(text: str) -> _Pattern:
    """Return the parts of a pattern or an example, without files; without parts if the text is not a name."""
    text, at = text.strip("\"' \t"), 0
    if " " in text and _BY_TABLE.fullmatch(text):
        return _Pattern(((_Token(_OF_THE_TABLE, is_open=True),),), is_rooted=False)
    parts: list[list[_Token]] = [[]]
    for start, end in [*(each.span() for each in _PLACEHOLDER.finditer(text)), (len(text), len(text))]:
        if _is_literal(text[start:end]):
            continue
        for number, piece in enumerate(text[at:start].split("/")):
            parts += [[]] if number else []
            parts[-1] += [_Token(piece, is_open=False)] if piece else []
        parts[-1] += [_Token(text[start:end], is_open=True)] if end > start else []
        at = end
    filled = [tuple(part) for part in parts if part and part != [_Token(".", is_open=False)]]
    filled = filled[:-1] if filled and _FILE.search(filled[-1][-1].text) else filled
    if any(_NOT_IN_NAMES & set(token.text) for part in filled for token in part if not token.is_open):
        return _Pattern((), is_rooted=False)
    above = [*itertools.takewhile(_is_above, filled)]
    return _Pattern(tuple(filled[len(above) :]), is_rooted=text.startswith("/") and not above)


def _is_literal(placeholder: str) -> bool:
    """Return whether capital letters are no placeholder: `SFT`, but not `RANK`, `LR`, `N`."""
    if not placeholder.replace("_", "").isalpha():
        return False
    name = normalize(placeholder)
    return by_label(name) is None and name not in _OF_THE_RUN | _OF_THE_DIRECTORY | _OF_THE_EXPERIMENT | _ANY


def _is_above(part: _Part) -> bool:
    """Return whether a part stands for directories above those of the runs: `{output_dir_base}`, `$SCRATCH`, `~`."""
    (first, *rest) = part
    return not rest and (first.text in {"~", "...", "…"} or (first.is_open and bool(_ABOVE & set(first.name.split()))))


def _follows(
    pattern: _Pattern,
    run: PlannedRun,
    plan: Plan,
    outputs: Mapping[str, str | None],
    run_name: str,
    directory: str = "",
) -> bool:
    """Return whether the path of a run's directory or checkpoints follows a pattern.

    Args:
        pattern: the pattern.
        run: the run.
        plan: its plan.
        outputs: the output directory of each run.
        run_name: the name for `{run_name}`.
        directory: another name of the run's directory, to try it.
    """
    output = outputs.get(run.directory)
    paths = [f"{plan.experiment_dir}/{run.directory}", *([f"{output}/{_EPOCH}"] if output else [])]
    texts = [_texts(part, run, run_name) for part in pattern.parts]
    for path in paths:
        names = [each for each in path.replace(run.directory, directory or run.directory).split("/") if each]
        for start in range(1 if pattern.is_rooted else len(names)):
            here = names[start:]
            is_within = len(texts) <= len(here) or here[-1] == _EPOCH
            if is_within and all(_is_one(some, name) for some, name in zip(texts, here, strict=False)):
                return True
    return False


_Texts = list[tuple[str, ...] | None]
"""The texts that each token of a part may stand for; None for any text."""


def _texts(part: _Part, run: PlannedRun, run_name: str) -> _Texts:
    return [_values_of(token, run, run_name) if token.is_open else (token.text,) for token in part]


def _values_of(token: _Token, run: PlannedRun, run_name: str) -> tuple[str, ...] | None:
    """Return the texts that a placeholder may stand for in the path of a run; None for any text."""
    inner, name = token.text.strip("${}<>[]%()"), token.name
    if "," in inner or "|" in inner:  # {8,16}
        return tuple(each.strip() for each in re.split("[,|]", inner))
    if name in _OF_THE_RUN:
        return (run_name,)
    if token.text == _OF_THE_TABLE:
        return (run.name,)
    if name in _OF_THE_DIRECTORY:
        return (run.directory,)
    if name in _OF_THE_EXPERIMENT:
        return (run.text("experiment_name"),)
    parameter = None if name in _ANY else by_label(name)
    if parameter is None:
        return None
    if parameter.name == "model":
        return (run.model,)
    value = run.parameters.get(parameter.name, run.value(parameter.name))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (findings.shortest_number(value),) if is_number else None  # type: ignore[arg-type]


def _is_one(texts: _Texts, name: str) -> bool:
    """Return whether a part of a pattern stands for a name; the directory of an epoch may have any number."""
    first = texts[0]
    if name == _EPOCH and first is not None and first[0].startswith("epoch"):
        return True
    ends = {0}
    for some in texts:
        if not ends:
            return False
        if some is None:
            ends = set(range(min(ends) + 1, len(name) + 1))
        else:
            ends = {end + len(one) for end in ends for one in some if name.startswith(one, end)}
    return len(name) in ends


def _run_in(example: str, plan: Plan) -> PlannedRun | None:
    """Return the run that an example names: by its Run Name or directory, or by all its numbers that vary."""
    parts = [f"_{part.replace('-', '_')}" for part in example.split("/")]

    def is_in(name: str) -> bool:
        return any(part.endswith(f"_{name.replace('-', '_')}") for part in parts)

    if named := [run for run in plan.runs if is_in(run.name) or is_in(run.directory)]:
        return max(named, key=lambda run: len(run.name if is_in(run.name) else run.directory))
    numbers = {float(each) for each in _NUMBERS.findall(example)}
    varying = [name for name in plan.varying if PARAMETERS[name].kind in {"int", "float"}]
    alike = [run for run in plan.runs if {run.parameters.get(name) for name in varying} <= numbers]
    return alike[0] if varying and len(alike) == 1 else None


def _differing(
    stated: Setting, pattern: _Pattern, run: PlannedRun, plan: Plan, outputs: Mapping[str, str | None]
) -> Finding:
    """Return the finding that the names of a run differ from a pattern or an example."""
    source, output = stated.source, outputs.get(run.directory) or ""
    at, written = Location(source.file or "", source.line), stated.text
    if _follows(pattern, run, plan, outputs, run.directory):
        message = (
            f"in {shown(written)} ({source.note}), the name of a run is taken to be that of its directory"
            f" ({shown(run.directory)}), not its Run Name in the table ({shown(run.name)})"
        )
        fix = "no action if intended; otherwise use `--names table`"
        return finding(
            "naming-differs", message, field="names", expected=run.directory, actual=run.name, at=at,
            severity=Severity.INFO, fix=fix,
        )  # fmt: skip
    is_open = any(token.is_open for token in pattern.tokens)
    own = (
        output[output.rfind(f"/{run.directory}") + 1 :] if f"/{run.directory}" in output else posixpath.basename(output)
    )
    is_of_directories = _OF_DIRECTORIES.search(source.note.rpartition(" > ")[2])
    if output and not is_of_directories and _OF_CHECKPOINTS.search(f"{source.note} {written}"):
        kind, planned = "checkpoint path", f"{output if pattern.is_rooted else own}/{_EPOCH}"
        suggested = f"{own.replace(run.directory, '{run_directory}')}/epoch_{{N}}" if is_open else planned
    else:
        kind, planned = "directory", run.directory
        follows = all(_follows(_read(plan.pattern), each, plan, outputs, each.directory) for each in plan.runs)
        suggested = planned if not is_open else plan.pattern if follows else "{run_directory}"
    but = f"but the planned {kind} of the run {shown(run.name)} is {shown(planned)}"
    message = f"{shown(source.note)} states {shown(written)}, {but}"
    fix = f"replace `{escape(written)}` with `{suggested}` in {source.file}:{source.line}"
    if run.name != run.directory and _follows(pattern, run, plan, outputs, run.name, run.name):
        fix = f"use `--names table`, which names the runs in this way, or {fix}"
    return finding("naming-differs", message, field="names", expected=planned, actual=escape(written), at=at, fix=fix)
