"""Typed settings from the text of one setup_finetune.yaml, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scaffold_torchtune.findings import Collector, Finding, Refused, Scalar, errors_in, finding
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import KEYS, Parameter, by_label
from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.text import did_you_mean, escape, shown

# Reads the text of one setup_finetune.yaml into typed settings, and collects everything that is wrong with it.
#
# Names, kinds, bounds and defaults are those of settings/parameters.py. What does not fit is refused, never repaired.

_EMPTY_IS_A_VALUE: Final = frozenset({"input_formatting", "prompt", "system_prompt"})


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


def read_keys(content: str | yamlio.YamlDocument, file: str) -> tuple[Settings, Report]:
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
    meant = by_label(key)
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
    """Return the value in its key's type.

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


def _boolean(value: Any, plain: str | None) -> bool:
    """Return a real YAML boolean, or the text that cruijff_kit's templates quote."""
    word = value if isinstance(value, str) else plain
    if word is None or word.lower() not in {"true", "false"}:
        raise _Unfit("it is neither true nor false", "true or false")
    return word.lower() == "true"


# Which recipe a run is trained with, and whether that trains all weights or an adapter.


def recipe(settings: Settings) -> str:
    """The recipe as setup_finetune.yaml names it, else torchtune's own for LoRA on that many GPUs."""
    return settings.text("custom_recipe") or recipes.for_gpus(recipes.LORA, settings.integer("gpus"))


def is_full(settings: Settings) -> bool:
    """Whether all weights are trained. A recipe that torchtune does not have is taken for one of LoRA."""
    return recipes.method_of(recipe(settings)) == recipes.FULL
