"""One reader of kinds: the grammar of each, its allowed values, and the value of a text.

Documents and setup_finetune.yaml are read by it. A text that is not clearly a value of its kind is refused, never
corrected. The forms of a job's values are those of Slurm's sbatch(1). An #SBATCH line is not a shell line: sbatch
splits it at spaces, removes quotes, and a backslash escapes even inside single quotes, so values must not have one.

Fixes that give a setting a different value are here, too: the line or cell to write, and its place.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from scaffold_torchtune.findings import Scalar, escape, few, lines_text, shortest_number, shown
from scaffold_torchtune.models import PlannedRun, Source, SourceKind

ValueKind = Literal[
    "int", "float", "bool", "text", "name", "label", "modules", "path", "pattern_free_path", "folder", "extension",
    "recipe", "time", "memory", "constraint", "gpu_type", "mail", "events", "reservations", "nodes", "tags", "comment",
    "files", "projections", "wandb_mode",
]  # fmt: skip
"""`name`: letters, digits and `._-`, as in accounts, partitions or environments; a `label` may also have `+`.
`modules`: names of modules, comma-separated. `pattern_free_path`: a path that the datasets library uses unchanged.
`projections`: attention projections, comma-separated, in torchtune's order.
"""


@dataclass(frozen=True)
class Bounds:
    """The bounds of a number: `minimum` and `maximum` inclusive, `above` an exclusive lower one."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None

    def hold(self, number: float) -> bool:
        """Return whether a number is within them."""
        low = self.minimum is None or number >= self.minimum
        return low and (self.above is None or number > self.above) and (self.maximum is None or number <= self.maximum)

    def __str__(self) -> str:
        """Return the bounds as text that follows the noun: ` from 1 to 8`, ` above 0 and at most 10`."""
        above, least, most = (
            "" if each is None else shortest_number(each) for each in (self.above, self.minimum, self.maximum)
        )
        if above:
            return f" above {above}" + (f" and at most {most}" if most else "")
        if least:
            return f" from {least} to {most}" if most else f" of at least {least}"
        return f" of at most {most}" if most else ""


UNBOUNDED: Final = Bounds()


class NotTyped(ValueError):
    """The text is not a value of the parameter: the allowed values, or `choices` if it gives several values.

    `found` is the predicate of the text in a message, if known; `example` follows the allowed values in a fix, and
    `fix` is another fix.
    """

    def __init__(self, allowed: str, found: str = "", fix: str = "", example: str = "") -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.found = found
        self.fix = fix
        self.example = example
        self.choices: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """Return the predicate of the text: `is not a number from 0 to 1`."""
        return self.found or f"is not {self.allowed}"

    @property
    def correction(self) -> str:
        """Return the fix."""
        return self.fix or f"write {self.allowed}{self.example}"


def read(kind: ValueKind, text: str, bounds: Bounds = UNBOUNDED) -> Scalar:
    """Return the value of a text in its own form: without spaces after commas, events in upper case.

    Raises:
        NotTyped: the text is not clearly such a value; has the allowed values.
    """
    match kind:
        case "int" | "float":
            return _number(kind, text, bounds)
        case "bool":
            if text not in {"true", "false"}:
                raise NotTyped("yes or no", "is neither 'yes' nor 'no'", "write `yes` or `no`")
            return text == "true"
        case "text":
            return _free_text(text)
        case "path" | "pattern_free_path":
            return _path(text, pattern_free=kind == "pattern_free_path")
        case "time":
            if not slurm_seconds(text):
                fix = f"write {_TIMES}; 0, which means no limit, is not accepted"
                raise NotTyped(_TIMES, "is not a valid time limit", fix)
            return text
        case _:
            form = _FORMS[kind]
            value = form.canonical(text)
            fits = len(value) <= form.longest and (text.isprintable() or kind not in OF_JOBS)
            if not (fits and form.grammar.fullmatch(value) and form.holds(value)):
                raise NotTyped(form.allowed, "is not a valid value", form.fix)
            return value


# --- numbers

_INTEGER: Final = re.compile(r"(?:0|[1-9][0-9]{0,11})", re.ASCII)
# 40 decimals: a float's own shortest text has up to 17 digits after up to four zeros, and users write more zeros
_FLOAT: Final = re.compile(
    r"(?:(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII
)
# 1 × 10^-5, 5 x 10⁻⁵, 2*10^-4; an exponent without a mark (5 x 105) is not accepted
_POWER: Final = re.compile(
    r"([0-9]{1,12}(?:\.[0-9]{1,17})?)\s*[×xX*·]\s*10\s*(?:(?:\^|\*\*)\s*([-−]?[0-9]{1,3})|([⁻−]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}))"
)
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")


def read_int(text: str) -> int | None:
    """Return the integer value of `text`; None unless it is clearly one of at most 12 digits, without a sign."""
    return int(text) if _INTEGER.fullmatch(text) else None


def read_float(text: str) -> float | None:
    """Return the finite number of `text`, without a sign; None unless it is clearly one.

    Accepts `1e-5`, `5E-5`, `1e-05`, `0.00001`, `1 × 10^-5` and `5 x 10⁻⁵`; rejects full-width digits, underscores,
    leading zeros, decimal commas, nan and inf.
    """
    power = _POWER.fullmatch(text)
    if power:
        text = f"{power[1]}e{(power[2] or power[3]).translate(_SUPERSCRIPTS)}"
    if not _FLOAT.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) and (number > 0 or Decimal(text) == 0) else None


def written(value: Scalar) -> str:
    """Return a value as in a table of runs: `1e-5`, `16`; `-` without one."""
    if value is None:
        return "-"
    return shortest_number(value) if isinstance(value, float) else escape(str(value))


def _number(kind: ValueKind, text: str, bounds: Bounds) -> int | float:
    number = read_int(text) if kind == "int" else read_float(text)
    if number is None or not bounds.hold(number):
        if kind == "int":
            raise NotTyped(f"a whole number{bounds}")
        raise NotTyped(f"a number{bounds}", example=", such as 1e-5 or 0.1")
    return number


# --- times

_TIMES: Final = "a SLURM time such as 0:59:00 (hours:minutes:seconds) or 1-12:00:00 (days-hours:minutes:seconds)"
_TIME_FORMS: Final = [
    re.compile(r"(?P<d>[0-9]{1,4})-(?P<h>[0-9]{1,4})(?::(?P<m>[0-9]{1,4})(?::(?P<s>[0-9]{1,4}))?)?", re.ASCII),
    re.compile(r"(?P<h>[0-9]{1,4}):(?P<m>[0-9]{1,4}):(?P<s>[0-9]{1,4})", re.ASCII),
    re.compile(r"(?P<m>[0-9]{1,6})(?::(?P<s>[0-9]{1,4}))?", re.ASCII),
]
_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def slurm_seconds(text: str) -> int | None:
    """Return a SLURM time limit in seconds; None if sbatch(1) would reject the text for `--time`.

    The forms are `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` and
    `days-hours:minutes:seconds`; a bare number is minutes. 0 requests no limit.
    """
    for form in _TIME_FORMS:
        match = form.fullmatch(text)
        if match:
            return sum(int(value) * _UNITS[unit] for unit, value in match.groupdict().items() if value)
    return None


def slurm_time(seconds: float) -> str:
    """Return a time limit in whole minutes in its usual form: `2:00:00`."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}:00"


# --- free text and paths

_MAX_TEXT: Final = 20_000
_MAX_PATH: Final = 4_000
SAFE_PATH: Final = (
    "a path without variables, quotes, '$', ';', '|', braces, angle brackets, backslashes, wildcards or invisible"
    " characters"
)
_UNSAFE_IN_PATH: Final = re.compile(r"""["'`\\$;|<>*?{}]""")
_OF_CONTROL: Final = frozenset({"Cc", "Cs"})  # which UTF-8 file names or YAML cannot hold


def _free_text(text: str) -> str:
    """Return text that reaches torchtune unchanged."""
    if len(text) > _MAX_TEXT:
        raise NotTyped(f"text of at most {_MAX_TEXT} characters", f"is longer than {_MAX_TEXT} characters")
    if "${" in text or text == "???":
        found = "is not plain text: '${' and '???' have a special meaning in torchtune's configuration"
        raise NotTyped("text that does not contain '${' and is not '???'", found)
    if any(unicodedata.category(c) in _OF_CONTROL and c not in "\n\t" for c in text):
        raise NotTyped("text without control characters", "contains a control character")
    return text


def _path(text: str, *, pattern_free: bool) -> str:
    """Return a path that a shell, SLURM and OmegaConf read alike; if `pattern_free`, the datasets library too."""
    fits = 0 < len(text) <= _MAX_PATH and text == text.strip() and text.isprintable()
    if not fits or _UNSAFE_IN_PATH.search(text) or (pattern_free and not {"[", "]"}.isdisjoint(text)):
        raise NotTyped(SAFE_PATH, "is not a valid path")
    if "://" in text:
        fix = "write the path of the file or directory on the compute nodes"
        raise NotTyped("a path in a file system of the compute nodes", "is a URL", fix)
    if text.startswith("~"):
        raise NotTyped("a full path without '~'", "begins with '~'")
    if ".." in text.split("/"):
        raise NotTyped("a path without '..'", "contains '..'")
    if text.startswith("-"):
        raise NotTyped("a path that does not begin with a dash", "begins with a dash")
    return text


# --- names and the values of a job

_LONGEST: Final = 200


@dataclass(frozen=True)
class _Form:
    """The form of a kind that is not a number, a path or free text."""

    grammar: re.Pattern[str]
    allowed: str
    longest: int = _LONGEST
    canonical: Callable[[str], str] = str
    holds: Callable[[str], bool] = lambda text: ".." not in text
    fix: str = ""


_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_LABEL: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_FOLDER: Final = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
_STEP: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
_NODE: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]|\[[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*\])*"
_TAG: Final = r"[\w][\w .:/+=@-]{0,63}"
_MODULE: Final = rf"{_LABEL}(?:/{_LABEL})*"
_EVENTS: Final = (
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_90",
    "TIME_LIMIT_80", "TIME_LIMIT_50",
)  # fmt: skip


PROJECTIONS: Final = ("q_proj", "k_proj", "v_proj", "output_proj")
"""The attention modules that support LoRA: LORA_ATTN_MODULES of torchtune/modules/peft/_utils.py."""


def _in_order(text: str) -> str:
    """Return names of projections in torchtune's order; other text unchanged."""
    parts = text.split(",")
    return ",".join(sorted(parts, key=PROJECTIONS.index)) if set(parts) <= set(PROJECTIONS) else text


def _joined(text: str) -> str:
    return ",".join(part.strip() for part in text.split(","))


def _are_short(text: str) -> bool:
    return ".." not in text and all(len(part) <= _LONGEST for part in text.split(","))


def _distinct(text: str) -> bool:
    parts = text.split(",")
    return len(set(parts)) == len(parts)


def _by_commas(part: str, flags: int = re.ASCII) -> re.Pattern[str]:
    return re.compile(rf"{part}(?:,{part})*", flags)


def _one(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_FORMS: Final[dict[ValueKind, _Form]] = {
    "name": _Form(
        _one(_NAME),
        "a name that has only letters, digits, '.', '_' and '-', begins with a letter or digit, and does not contain"
        " '..'",
    ),
    "label": _Form(
        _one(_LABEL),
        "a name that has only letters, digits, '.', '_', '+' and '-', begins with a letter or digit, and does not"
        " contain '..'",
    ),
    "modules": _Form(
        _by_commas(_MODULE),
        "a comma-separated list of module names, such as anaconda3/2025.6",
        _MAX_PATH,
        _joined,
        _are_short,
    ),
    "folder": _Form(
        _one(rf"(?:{_FOLDER}(?:/{_FOLDER})*)?"),
        "the relative path of a directory, or ''",
        fix="write the relative path of a directory, such as raw, or `''` for none",
    ),
    "extension": _Form(_one(r"\.(?:json|parquet)"), ".json or .parquet", fix="write `.json` or `.parquet`"),
    "recipe": _Form(
        _one(rf"{_STEP}(?:[./]{_STEP})*"), "the dotted name or the relative path of a recipe, as `tune run` accepts it"
    ),
    "memory": _Form(_one(r"[1-9][0-9]{0,8}[KMGT]?"), "a whole number above 0 with the unit K, M, G or T, such as 32G"),
    "constraint": _Form(
        _one(r"[A-Za-z0-9\[(][A-Za-z0-9._&|()\[\]*,-]*"),
        "one or more feature names joined by & or |",
        canonical=lambda text: re.sub(r" {0,9}([&|]) {0,9}", r"\1", text),
        holds=lambda text: ".." not in text and not text.endswith(("&", "|")),
        fix="write one or more feature names joined by & or |, without spaces",
    ),
    "gpu_type": _Form(  # without a letter, `gpu:8:1` could also be read as a number
        _one(rf"(?=.*[A-Za-z]){_NAME}"),
        "a name that has only letters, digits, '.', '_' and '-', begins with a letter or digit, has at least one"
        " letter, and does not contain '..'",
    ),
    "mail": _Form(
        _one(r"[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"),
        "a single email address, such as ada@example.org",
        holds=bool,
    ),
    "events": _Form(
        _by_commas(f"(?:{'|'.join(_EVENTS)})"),
        f"a comma-separated list of events ({', '.join(_EVENTS)})",
        canonical=lambda text: _joined(text).upper(),
        holds=lambda text: _distinct(text) and (text == "NONE" or "NONE" not in text.split(",")),
    ),
    "reservations": _Form(_by_commas(_NAME), "a comma-separated list of reservation names", canonical=_joined),
    "nodes": _Form(
        _by_commas(_NODE),
        "a comma-separated list of node names, such as node01,gpu[03-05]",
        canonical=lambda text: re.sub(r",\s+", ",", text),
    ),
    "tags": _Form(
        _by_commas(_TAG, 0),
        "a comma-separated list of different tags of at most 64 characters each: letters, digits, spaces and any of"
        " '. : / + = @ _ -'",
        100_000,
        _joined,
        _distinct,
    ),
    "files": _Form(_by_commas(_LABEL), "a comma-separated list of file names", 100_000, _joined, _distinct),
    "projections": _Form(
        _by_commas(f"(?:{'|'.join(PROJECTIONS)})"),
        f"one or more of {', '.join(PROJECTIONS)}, separated by commas",
        canonical=lambda text: _in_order(_joined(text)),
        holds=_distinct,
        fix=f"write one or more of {', '.join(f'`{name}`' for name in PROJECTIONS)}, separated by commas",
    ),
    "wandb_mode": _Form(
        _one("online|offline|disabled"),
        "online, offline or disabled",
        canonical=str.lower,
        fix="write `online`, `offline` or `disabled`",
    ),
    "comment": _Form(
        re.compile(r"[^\"'\\`$<>{}]+"),
        "one line of at most 200 characters, without quotes, backslashes, backticks or any of $ < > { }",
        holds=lambda text: text.isprintable() and text.strip() == text,
    ),
}
LISTS: Final[frozenset[ValueKind]] = frozenset({"tags", "projections"})
"""Kinds that YAML may give as a list."""

OF_JOBS: Final[frozenset[ValueKind]] = frozenset({"mail", "events", "reservations", "nodes", "tags", "comment"})
"""Kinds of settings for sbatch or the job's environment; their text may have meaningful commas or brackets."""


_LABELS: Final = {
    "gpus": "GPUs", "lora_rank": "LoRA rank", "lr": "Learning rate", "max_seq_len": "Max sequence length",
    "num_warmup_steps": "Warmup steps", "recipe": "Method", "mem": "Memory", "time": "Time limit",
    "wandb_mode": "W&B mode", "enable_activation_checkpointing": "Activation checkpointing",
}  # fmt: skip
_LISTED: Final = 12
_ORDINARY_WORDS: Final = frozenset(
    {"time", "data", "runs", "controls", "name", "path", "method", "plan", "design", "compute", "offline"}
)


def setting_name(name: str) -> str:
    """Return the name of a setting in a sentence: `lora_rank`; in quotes if it is an ordinary word (`'time'`)."""
    return shown(name) if name in _ORDINARY_WORDS else escape(name)


def _label(name: str) -> str:
    """Return the label of a setting in a summary: `Warmup steps`."""
    return _LABELS.get(name) or name.replace("_", " ").capitalize()


def _text_of(value: Scalar) -> str:
    """Return a value in the form of documents."""
    return ("no", "yes")[value] if isinstance(value, bool) else written(value)


def typed(value: Scalar) -> str:
    """Return a value in the form of documents, in backticks, because a fix asks to write it."""
    return f"`{_text_of(value)}`"


def as_line(name: str, value: Scalar, *, yaml: bool) -> str:
    """Return the line that gives a setting, in the form of the summary, in backticks."""
    return f"`{_by_key(name, value)}`" if yaml else f"`- **{_label(name)}:** {_text_of(value)}`"


_SWITCHES: Final = ("yes", "no")


def _by_key(name: str, value: Scalar) -> str:
    """Return a key of YAML with a value, in quotes if YAML would not read it as this text."""
    from scaffold_torchtune.system.serialization import yaml_scalar

    is_text = isinstance(value, str) and value not in _SWITCHES
    return f"{name}: {yaml_scalar(value) if is_text else _text_of(value)}"


def common_section(*, yaml: bool) -> str:
    """Return the section of the summary for settings that all runs share."""
    return "`controls`" if yaml else "Configuration"


def line_of(name: str, value: Scalar, *, yaml: bool) -> str:
    """Return the line that gives a setting to all runs, in the form of the summary, and its place."""
    return f"{as_line(name, value, yaml=yaml)} to {common_section(yaml=yaml)}"


def to_give(name: str, wanted: Mapping[str, Scalar], some: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> str:
    """Return the fix that gives some runs a value: in their rows, in the line of the present value, or in a new line.

    If not all runs need the same value, the fix adds a column to the table.

    Args:
        name: the setting.
        wanted: the value of each run, by directory, that needs a different one: `some`, and runs of other findings.
        some: the runs of the finding.
        runs: all runs.
    """
    texts, yaml = {directory: typed(value) for directory, value in wanted.items()}, is_yaml(some[0])
    rows = [run for run in runs if _of_row(name, run)]
    if rows:
        column = "" if yaml else rows[0].settings[name].source.note
        return _in_rows(name, wanted, some, runs, column)
    groups = _grouped([run for run in runs if run.directory in texts], texts)
    if len(groups) == 1 and all(run.directory in texts for run in runs):
        if change := _in_line(name, next(iter(groups)), some[0]):
            return change
        return f"add {line_of(name, wanted[some[0].directory], yaml=yaml)}"
    if yaml:
        return _in_rows(name, wanted, some, runs, "")
    cells = [f"{text} for {_named(each)}" for text, each in groups.items()]
    others = [run for run in runs if run.directory not in texts]
    present = {*_grouped(others, {run.directory: typed(run.value(name)) for run in others})}
    if len(groups) == 1 and present == {*groups}:
        why = f"because {_named(others)} already {'has' if len(others) == 1 else 'have'} this value"
        return f"add a column `{_label(name)}` to the table of runs, with {next(iter(groups))} in every row, {why}"
    rest = "the other run" if len(others) == 1 else "the others"
    cells += [f"{present.pop() if len(present) == 1 else '`-`'} for {rest}"] if others else []
    listed = f"{', '.join(cells[:-1])}, and {cells[-1]}" if 1 < len(cells) <= _LISTED else few(cells, _LISTED)
    return f"add a column `{_label(name)}` to the table of runs, with {listed}"


def _in_line(name: str, text: str, run: PlannedRun) -> str:
    """Return the fix that changes a value in its line; empty if no document gives the value."""
    setting = run.settings.get(name)
    if setting is None or not setting.source.line or setting.source.kind is SourceKind.DERIVED:
        return ""
    place, old = f"{setting.source.file}:{setting.source.line}", typed(setting.value)
    of_line = [
        other
        for other, each in run.settings.items()
        if (each.source.file, each.source.line) == (setting.source.file, setting.source.line)
    ]
    if len(of_line) > 1:  # which may contain the same number twice
        return f"set {name} to {text} instead of {old} in {place}, which also sets other values"
    return f"replace {old} with {text} in {place}"


def _in_rows(
    name: str, wanted: Mapping[str, Scalar], some: Sequence[PlannedRun], runs: Sequence[PlannedRun], column: str
) -> str:
    """Return the fix that writes values into rows, unless two rows would be equal; without a column, of YAML."""
    texts = {directory: typed(value) for directory, value in wanted.items()}
    alike: dict[object, list[str]] = {}
    for run in runs:
        alike.setdefault(_with_text(name, run, texts), []).append(run.directory)
    parts: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in some:
        text, old = texts[run.directory], typed(run.value(name))
        twin = next((each for each in alike[_with_text(name, run, texts)] if each != run.directory), "")
        if twin and text != old:
            part = "correct the value in", f" (with {text}, the run would be the same as {shown(twin)})"
        elif _of_row(name, run):
            part = f"replace {old} with {text} in", ""
        else:
            line = _by_key(name, wanted[run.directory])
            part = f"write {text} in" if column else f"write `{line}` in the parameters of the", ""
        parts.setdefault(part, []).append(run)
    return " and ".join(f"{verb} {_cells(name, each, verb, column)}{why}" for (verb, why), each in parts.items())


def _with_text(name: str, run: PlannedRun, texts: Mapping[str, str]) -> tuple[object, ...]:
    """Return the parameters of a run with the new value of a setting, for comparison with other runs."""
    own = ((key, value) for key, value in run.parameters.items() if key != name)
    return *own, texts.get(run.directory, typed(run.value(name)))


def _cells(name: str, runs: Sequence[PlannedRun], verb: str, column: str) -> str:
    """Return the cells of a setting, or the runs of the YAML form that have none yet."""
    if verb.endswith("parameters of the"):
        return _of_runs(runs)
    lines = [run.settings[name].source.line if _of_row(name, run) else run.line for run in runs]
    return in_column(column, lines) if column else f"{name} ({lines_text(lines)})"


def _of_row(name: str, run: PlannedRun) -> bool:
    return name in run.settings and run.settings[name].source.kind is SourceKind.ROW


def _grouped(runs: Iterable[PlannedRun], texts: Mapping[str, str]) -> dict[str, list[PlannedRun]]:
    """Return the runs by the text of each."""
    found: dict[str, list[PlannedRun]] = {}
    for run in runs:
        found.setdefault(texts[run.directory], []).append(run)
    return found


_OF_RATIO: Final = re.compile(r": (?P<ratio>\S+) of [0-9]+ steps$")


def ratio_note(note: str, ratio: Scalar, total: int) -> str:
    """Return the note of the source of a number of steps that a ratio gives."""
    return f"{note}: {ratio} of {total} steps"


def ratio_of(source: Source) -> str:
    """Return the ratio that gives a number of steps; empty if a document gives the number."""
    found = _OF_RATIO.search(source.note)
    return found["ratio"] if found else ""


def in_cells(name: str, value: Scalar, runs: Sequence[PlannedRun], column: str) -> str:
    """Return the fix that writes a value into rows without one; without a column, of the YAML form."""
    if not column:
        return f"write `{_by_key(name, value)}` in the parameters of the {_of_runs(runs)}"
    return f"write {typed(value)} in {in_column(column, (run.line for run in runs))}"


def in_column(column: str, lines: Iterable[int | None]) -> str:
    """Return the description of cells of a column: `the column 'Learning Rate' (lines 7 and 8)`."""
    return f"the column {shown(column)} ({lines_text(lines)})"


def _of_runs(runs: Sequence[PlannedRun]) -> str:
    """Return the names of runs after `the`: `run 'first'`."""
    return f"{'run' if len(runs) == 1 else 'runs'} {few([shown(run.name) for run in runs], _LISTED)}"


def _named(runs: Sequence[PlannedRun]) -> str:
    return few([run.directory for run in runs], _LISTED)


def for_each(runs: Iterable[PlannedRun], value: Scalar) -> dict[str, Scalar]:
    """Return the same value for each of some runs, by directory."""
    return {run.directory: value for run in runs}


def is_yaml(run: PlannedRun) -> bool:
    """Return whether the summary of a run is in the YAML form."""
    model = run.settings.get("torchtune_model_name")
    return bool(model and model.source.file and model.source.file.endswith((".yaml", ".yml")))
