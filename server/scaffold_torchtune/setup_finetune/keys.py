"""Reads the text of one setup_finetune.yaml into typed settings, and collects everything that is wrong with it.

Names, types, ranges and defaults are those of shared/parameters.py. What does not fit is refused, never repaired.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scaffold_torchtune.findings import Collector, Finding, Refused, Scalar, errors_in, finding
from scaffold_torchtune.shared import job_options, numbers, parameters, slurm_time, yamlio
from scaffold_torchtune.shared.parameters import Parameter
from scaffold_torchtune.shared.text import did_you_mean, escape, shown

KEYS: Final = {name: p for name, p in parameters.PARAMETERS.items() if name not in parameters.OF_DOCUMENTS}
"""Every key of setup_finetune.yaml."""

_EMPTY_IS_A_VALUE: Final = frozenset({"input_formatting", "prompt", "system_prompt"})
_LONGEST: Final = {"path": 4096, "text": 100_000}


class Report(Collector):
    """The findings about one file, at the lines of its keys: errors refuse it, warnings do not."""

    @property
    def errors(self) -> list[Finding]:
        """What refuses the file."""
        return errors_in(self.findings)

    def refuse(
        self, code: str, key: str, message: str, fix: str, *, found: Scalar = None, allowed: Scalar = None
    ) -> None:
        """Add an error about `key`, at its line."""
        actual = escape(found) if isinstance(found, str) else found
        self.add(code, message, field=key, expected=allowed, actual=actual, fix=fix)


@dataclass(frozen=True)
class Settings:
    """Typed values of every key, with defaults filled in; None where a key has neither. `given` are those written."""

    values: Mapping[str, Scalar]
    given: frozenset[str]

    def text(self, name: str) -> str:
        """The value of a text key, or '' where there is none."""
        value = self.values[name]
        return value if isinstance(value, str) else ""

    def integer(self, name: str) -> int:
        """The value of an int key, or 0 where there is none."""
        value = self.values[name]
        return value if isinstance(value, int) else 0

    def flag(self, name: str) -> bool:
        """The value of a bool key, False where there is none."""
        return self.values[name] is True


class _Unfit(Exception):
    """A value does not fit its key: what is wrong, what is allowed, what to do."""

    def __init__(self, message: str, allowed: str, fix: str = "") -> None:
        super().__init__(message)
        self.message, self.allowed, self.fix = message, allowed, fix


def read(content: str | yamlio.YamlDocument, file: str) -> tuple[Settings, Report]:
    """The typed settings of the file and the findings so far; a value that does not fit has its default.

    Raises:
        Refused: the text is not a YAML mapping.
    """
    try:
        document = yamlio.read(content) if isinstance(content, str) else content
    except yamlio.YamlError as error:
        raise _not_yaml(file, error.message, error.line) from error
    if not isinstance(document.data, dict):
        raise _not_yaml(file, "it is not a mapping of keys to values", 1)
    report = Report(file, {str(path[0]): line for path, line in document.lines.items() if len(path) == 1})
    values: dict[str, Scalar] = {name: parameter.default for name, parameter in KEYS.items()}
    given: set[str] = set()
    for key, value in document.data.items():
        if key not in KEYS:
            _unknown(key, value, report)
            continue
        plain = document.plain.get((key,))
        try:
            if not _is_absent(KEYS[key], value):
                given.add(key)
                values[key] = _typed(KEYS[key], value, plain)
        except _Unfit as error:
            found = plain if plain is not None else (value if isinstance(value, str) else _kind_of(value))
            message = f"{key} is {shown(found)}: {error.message}"
            fix = error.fix or f"write {error.allowed}"
            report.refuse("invalid-value", key, message, fix, found=found, allowed=error.allowed)
    return Settings(values, frozenset(given)), report


def _not_yaml(file: str, message: str, line: int | None) -> Refused:
    problem = finding(
        "unreadable-file",
        f"it cannot be read as a setup_finetune.yaml: {escape(message)}",
        file=file,
        line=line,
        expected="one YAML mapping of keys to values",
        fix="correct the YAML, one `key: value` a line",
    )
    return Refused(f"{file} cannot be read", [problem])


def _unknown(key: str, value: Any, report: Report) -> None:
    meant = parameters.by_label(key)
    message = f"{shown(key)} is not a key of setup_finetune.yaml."
    report.refuse(
        "unknown-key",
        key,
        did_you_mean(key, KEYS, message, meant.name if meant else None),
        "correct the key's name or take the line out",
        found=value if isinstance(value, str) else _kind_of(value),
        allowed="a key of setup_finetune.yaml",
    )


def _kind_of(value: Any) -> str:
    """A value as messages show it: a scalar as it is, else what it is."""
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else str(value)


def _is_absent(parameter: Parameter, value: Any) -> bool:
    """Whether the file leaves the key open: null, or empty text where that can mean nothing else."""
    if parameter.default is not None or parameter.name in _EMPTY_IS_A_VALUE:
        return False
    return value is None or value == ""


def _typed(parameter: Parameter, value: Any, plain: str | None) -> Scalar:
    """The value in its key's type.

    Raises:
        _Unfit: it does not fit.
    """
    if parameter.kind in {"int", "float"}:
        return _number(parameter, value, plain)
    if parameter.kind == "bool":
        return _boolean(value, plain)
    if not isinstance(value, str):
        if parameter.kind == "time":
            raise _Unfit("unquoted, YAML reads it as a number", "a quoted time, such as '12:30:00'")
        if parameter.kind == "memory":
            raise _Unfit("it is not text", "a quoted size with its unit, such as '64G'")
        raise _Unfit("it is not text", "text, in quotes where YAML reads it as something else")
    if len(value) > _LONGEST.get(parameter.kind, 255):
        raise _Unfit("it is too long", f"at most {_LONGEST.get(parameter.kind, 255)} characters")
    if "${" in value or value == "???":
        raise _Unfit(
            "torchtune's loader would take it for an interpolation or a gap", "text without ${ and other than ???"
        )
    check = _GRAMMARS.get(parameter.name) or _KINDS[parameter.kind]
    check(value)
    return value


def _number(parameter: Parameter, value: Any, plain: str | None) -> int | float:
    whole = parameter.kind == "int"
    if isinstance(value, str) or plain is None:
        raise _Unfit("it is not a number", _range(parameter), f"write {_range(parameter)}, without quotes")
    number = numbers.read_int(plain) if whole else numbers.read_float(plain)
    if number is None or number != value:
        raise _Unfit("it is not plainly such a number", _range(parameter))
    low, high, above = parameter.minimum, parameter.maximum, parameter.above
    if (
        (low is not None and number < low)
        or (high is not None and number > high)
        or (above is not None and number <= above)
    ):
        raise _Unfit("it is out of range", _range(parameter))
    return number


def _range(parameter: Parameter) -> str:
    noun = "a whole number" if parameter.kind == "int" else "a number"
    low = f"above {parameter.above:g}" if parameter.above is not None else f"from {parameter.minimum:g}"
    return f"{noun} {low} to {parameter.maximum:.15g}"


def _boolean(value: Any, plain: str | None) -> bool:
    """A real YAML boolean, or the text that cruijff_kit's templates quote."""
    word = value if isinstance(value, str) else plain
    if word is None or word.lower() not in {"true", "false"}:
        raise _Unfit("it is neither true nor false", "true or false")
    return word.lower() == "true"


def _matches(pattern: str, allowed: str, *, without: str = "..") -> Callable[[str], None]:
    """A check that text matches the whole pattern and does not hold `without`."""
    rule = re.compile(pattern, re.ASCII)

    def check(value: str) -> None:
        if not rule.fullmatch(value) or without in value:
            raise _Unfit("it is not what the key takes", allowed)

    return check


def _path(value: str) -> None:
    if "$USER" in value:
        raise _Unfit("$USER is not filled in", "a path without $", "write the path out, with your user name")
    if not value or value != value.strip() or value[0] in "-~":
        raise _Unfit("it is not a path that every program reads alike", "a path that starts with / or a name")
    if not value.isprintable() or any(c in "'\"`\\$" for c in value):
        raise _Unfit("it has a character that a path may not have here", "no quotes, backslash, $ or control character")


def _data_path(value: str) -> None:
    _path(value)
    if any(c in "*?[]" for c in value):
        raise _Unfit("the datasets library would read it as a pattern of file names", "a path without * ? [ ]")


def _free_text(value: str) -> None:
    """Text for people; what YAML or a file cannot carry is refused."""
    if any((ord(c) < ord(" ") and c not in "\n\t") or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in value):
        raise _Unfit("it has a control character", "text with no control characters but newline and tab")


def _time(value: str) -> None:
    if not slurm_time.seconds(value):
        raise _Unfit("SLURM would not take it as a limit", "a time such as '12:30:00' or '1-00:00:00', above 0")


def _of_job(kind: str) -> Callable[[str], None]:
    """A check that text is a value of that kind, as it goes into the job."""

    def check(value: str) -> None:
        if job_options.canonical(kind, value) != value:
            raise _Unfit("it is not what the key takes", job_options.ALLOWED[kind])

    return check


_NAME: Final = _matches(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits and . _ - only, a letter or digit first")
_RUN_NAME: Final = _matches(r"[A-Za-z0-9][A-Za-z0-9._+-]*", "letters, digits and . _ + - only, a letter or digit first")
_MODULE: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9][A-Za-z0-9._+-]*)*"
_RECIPE: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_][A-Za-z0-9_-]*)*"

_KINDS: Final[dict[str, Callable[[str], None]]] = {
    "name": _NAME,
    "names": _matches(rf"{_MODULE}(?:\s*,\s*{_MODULE})*", "bare names of modules, such as anaconda3/2025.6, by commas"),
    "path": _path,
    "text": _free_text,
    "time": _time,
    "memory": _matches(r"[0-9]{1,9}[KMGT]?", "digits and K, M, G or T, such as 64G"),
    **{kind: _of_job(kind) for kind in job_options.ALLOWED},
}

_GRAMMARS: Final[dict[str, Callable[[str], None]]] = {
    "my_wandb_run_name": _RUN_NAME,
    "experiment_name": _RUN_NAME,
    "dataset_label": _RUN_NAME,
    "dataset_ext": _matches(r"\.(?:json|parquet)", ".json or .parquet"),
    "input_dir_base": _data_path,
    "input_formatting": _matches(
        r"(?:[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*)?", "'' or the name of a folder"
    ),
    "constraint": _matches(
        r"[A-Za-z0-9(\[][A-Za-z0-9._&|()\[\]*,;-]*", "names of features, with & | ( ) [ ] * , ; between them"
    ),
    "custom_recipe": _matches(_RECIPE, "a recipe's dotted name or its relative path"),
}
