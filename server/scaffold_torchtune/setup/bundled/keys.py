"""Typed settings from the text of one setup_finetune.yaml, and what is wrong with it.

Names, kinds, bounds and defaults are those of settings/parameters.py. What does not fit is refused, never repaired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scaffold_torchtune.findings import Collector, Finding, Refused, Scalar, errors_in, finding
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import KEYS, Parameter, by_label
from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.text import did_you_mean, escape, shown

_EMPTY_IS_A_VALUE: Final = frozenset({"input_formatting", "prompt", "system_prompt"})
# What is wrong with a value that is not text, and what is allowed, by kind.
_NO_TEXT: Final = {
    "time": ("unquoted, YAML reads it as a number", "a quoted time, such as '12:30:00'"),
    "memory": ("it is not text", "a quoted size with its unit, such as '64G'"),
}


class SettingsReport(Collector):
    """The findings about one file, at the lines of its keys: errors refuse it, warnings do not."""

    @property
    def errors(self) -> list[Finding]:
        """What refuses the file."""
        return errors_in(self.findings)

    def refuse(
        self,
        key: str,
        message: str,
        fix: str,
        *,
        code: str = "unsupported-setting",
        found: Scalar = None,
        allowed: Scalar = None,
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

    @property
    def recipe(self) -> str:
        """The recipe that is named, else torchtune's own for LoRA on that many GPUs."""
        return self.text("custom_recipe") or recipes.for_gpus(recipes.LORA, self.integer("gpus"))

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained. A recipe that torchtune does not have is taken for one of LoRA."""
        return recipes.method_of(self.recipe) == recipes.FULL


class _Unfit(Exception):
    """A value does not fit its key: what is wrong, what is allowed, what to do."""

    def __init__(self, message: str, allowed: str, fix: str = "") -> None:
        super().__init__(message)
        self.message, self.allowed, self.fix = message, allowed, fix or f"write {allowed}"


def read_keys(content: str | yamlio.YamlDocument, file: str) -> tuple[Settings, SettingsReport]:
    """Return the typed settings of the file and the findings so far; a value that does not fit has its default.

    Raises:
        Refused: the text is not a YAML mapping.
    """
    try:
        document = yamlio.read(content) if isinstance(content, str) else content
    except yamlio.YamlError as error:
        raise _not_yaml(file, error.message, error.line) from error
    if not isinstance(document.data, dict):
        raise _not_yaml(file, "it is not a mapping of keys to values", 1)
    report = SettingsReport(file, {str(path[0]): line for path, line in document.lines.items() if len(path) == 1})
    values: dict[str, Scalar] = {name: parameter.default for name, parameter in KEYS.items()}
    given: set[str] = set()
    for key, value in document.data.items():
        if key not in KEYS:
            _refuse_unknown(key, value, report)
            continue
        plain = document.plain.get((key,))
        try:
            if not _is_absent(KEYS[key], value):
                given.add(key)
                values[key] = _typed(KEYS[key], value, plain)
        except _Unfit as error:
            found = _text(value) if plain is None else plain
            message = f"{key} is {shown(found)}: {error.message}"
            report.refuse(key, message, error.fix, code="invalid-value", found=found, allowed=error.allowed)
    return Settings(values, frozenset(given)), report


def _not_yaml(file: str, reason: str, line: int | None) -> Refused:
    message = f"it cannot be read as a setup_finetune.yaml: {escape(reason)}"
    expected, fix = "one YAML mapping of keys to values", "correct the YAML, one `key: value` a line"
    problem = finding("unreadable-file", message, file=file, line=line, expected=expected, fix=fix)
    return Refused(f"{file} cannot be read", [problem])


def _refuse_unknown(key: str, value: Any, report: SettingsReport) -> None:
    meant = by_label(key)
    message = f"{shown(key)} is not a key of setup_finetune.yaml."
    message = did_you_mean(key, KEYS, message, meant.name if meant else None)
    fix, allowed = "correct the key's name or take the line out", "a key of setup_finetune.yaml"
    report.refuse(key, message, fix, code="unknown-key", found=_text(value), allowed=allowed)


def _text(value: Any) -> str:
    """Return a value as messages show it: a scalar as it is, else what it is."""
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else str(value)


def _is_absent(parameter: Parameter, value: Any) -> bool:
    """Return whether the file leaves the key open: null, or empty text where that can mean nothing else."""
    if parameter.default is not None or parameter.name in _EMPTY_IS_A_VALUE:
        return False
    return value is None or value == ""


def _typed(parameter: Parameter, value: Any, plain: str | None) -> Scalar:
    """Return the value in its key's type.

    Raises:
        _Unfit: it does not fit.
    """
    if parameter.kind in {"int", "float"}:
        return _number(parameter, value, plain)
    if parameter.kind == "bool":  # a real boolean, or the text that cruijff_kit's templates quote
        word = str(value if isinstance(value, str) else plain).lower()
        if word not in {"true", "false"}:
            raise _Unfit("it is neither true nor false", "true or false")
        return word == "true"
    if not isinstance(value, str):
        default = ("it is not text", "text, in quotes where YAML reads it as something else")
        raise _Unfit(*_NO_TEXT.get(parameter.kind, default))
    try:
        read = parameter.read(value)
    except NotTyped as problem:
        fix = "write the path out, with your user name" if "$USER" in value else ""
        raise _Unfit("it is not what the key takes", problem.allowed, fix) from problem
    if read != value and parameter.kind != "modules":  # here values stand as they arrive
        raise _Unfit("it is not what the key takes", str(read))
    return read


def _number(parameter: Parameter, value: Any, plain: str | None) -> Scalar:
    """Return the number that is written, which YAML must read as the same one."""
    text = "" if isinstance(value, str) or plain is None else plain
    try:
        number = parameter.read(text)
    except NotTyped as problem:
        fix = "" if text else f"write {problem.allowed}, without quotes"
        raise _Unfit("it is not such a number", problem.allowed, fix) from problem
    if number != value:
        raise _Unfit("YAML reads it as another number", "a decimal number")
    return number
