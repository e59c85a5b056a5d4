"""Comparison of typed values, and the collector of findings about one file of one run."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Unpack

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Parts, Scalar
from scaffold_torchtune.models import PlannedRun, SourceKind
from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.text import escape

# Comparing typed values and paths, and showing any value as a scalar that is safe to print.

_LARGEST = 10**30

BROKEN = "(not resolved)"
"""What stands for a value that could not be resolved: no planned value."""


def as_scalar(value: Any) -> Scalar:
    """Any value read from a file as a scalar for a finding: text escaped and cut, what is no scalar described."""
    if value is None:
        return None
    if isinstance(value, int):
        return value if abs(value) < _LARGEST else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return escape("[" + ", ".join(str(as_scalar(item)) for item in value[:20]) + "]")
    if isinstance(value, dict):
        return escape("{" + ", ".join(map(str, list(value)[:20])) + "}")
    return type(value).__name__


def quoted(value: Any) -> str:
    """A value as messages show it: text in quotes, so that a type is never in doubt."""
    return f"'{as_scalar(value)}'" if isinstance(value, str) else str(as_scalar(value))


def dotted(path: Iterable[str | int]) -> str:
    """A path in a YAML file as a person names it, `model.lora_rank`, with its keys escaped."""
    return ".".join(escape(str(part)) for part in path)


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def compare(expected: Scalar, actual: Any) -> str | None:
    """The code of the finding that a value deserves, or None where it is what was expected.

    A whole number stands for a float, never the other way; a boolean is no number; `wrong-type` is a value with the
    expected content in another type, e.g. the text `8` for the number 8.
    """
    if type(expected) is type(actual) and expected == actual:
        return None
    if isinstance(expected, float) and type(actual) is int:
        return None if expected == actual else "value-mismatch"
    alike = str(expected).casefold() == str(as_scalar(actual)).strip().casefold() or _equal(expected, actual)
    return "wrong-type" if alike and type(expected) is not type(actual) else "value-mismatch"


def _equal(one: Any, other: Any) -> bool:
    first = _as_number(one)
    return first is not None and first == _as_number(other)


def normal_path(path: str) -> str:
    """A path without duplicate and trailing slashes; nothing else is changed."""
    absolute = "/" if path.startswith("/") else ""
    return absolute + "/".join(part for part in path.split("/") if part)


def join(*parts: str) -> str:
    """Parts of a path put together, empty ones left out."""
    return normal_path("/".join(part for part in parts if part))


def below(path: str, folder: str) -> bool:
    """Whether a path is the folder or lies under it, lexically."""
    inner, outer = normal_path(path), normal_path(folder)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def leaves(data: Any) -> Iterator[Any]:
    """Every value in plain data that is no mapping or list."""
    below = data.values() if isinstance(data, dict) else data if isinstance(data, list) else None
    if below is None:
        yield data
        return
    for value in below:
        yield from leaves(value)


def interpolates(data: Any) -> bool:
    """Whether there is an interpolation anywhere in the data."""
    return any(isinstance(value, str) and "${" in value for value in leaves(data))


# Collecting the findings about one file of one run.

FIX = "Do not edit the file by hand: check setup_finetune and its template, then run setup again."
FIX_MISSING = "Run setup again; where it fails, its reason says why."
FIX_SETUP_MISSING = "Run render again, then setup."
FIX_SETUP = "Do not edit the file by hand: run render again, then setup."


class ReportParts(Parts, total=False):
    """The parts of a finding about a file: values as they were read, and the path at which they stand."""

    expected: Any
    actual: Any
    path: yamlio.KeyPath


class Report(Collector):
    """The findings about one file.

    Args:
        run: the run as planned.
        name: the file's name in the run directory.
        bundled: whether the bundled setup_finetune wrote it; what another script adds is judged more leniently.
        fix: what to do about findings, unless said otherwise.
    """

    def __init__(self, run: PlannedRun, name: str, *, bundled: bool, fix: str = FIX) -> None:
        super().__init__(f"{run.directory}/{name}", fix=fix)
        self.run = run
        self.name = name
        self.bundled = bundled
        self.document: yamlio.YamlDocument | None = None  # as read, for line numbers; other files are no YAML
        self.paths: set[yamlio.KeyPath] = set()

    def planned(self, setting: str) -> Any:
        """The planned value of a setting; None where it is not planned."""
        return self.run.value(setting)

    def lenient(self, setting: str) -> bool:
        """Whether a difference in a setting is only a warning: a default of ours, and a script that has its own."""
        found = self.run.settings.get(setting)
        return not self.bundled and found is not None and found.source.kind is SourceKind.DEFAULT

    def add(
        self,
        code: str,
        message: str,
        *,
        expected: Any = None,
        actual: Any = None,
        path: yamlio.KeyPath = (),
        **parts: Unpack[Parts],
    ) -> None:
        """Add a finding; its line is that of `path`, or of the nearest part of it that is there."""
        if path:
            self.paths.add(path)
            parts["line"] = self.document.line(path) if self.document else None
        field = parts.get("field")
        parts["field"] = None if field is None else escape(field)
        super().add(code, message, expected=as_scalar(expected), actual=as_scalar(actual), **parts)

    def unplanned(self, message: str, otherwise: Severity, **parts: Unpack[ReportParts]) -> None:
        """Add the finding that nobody planned something; `otherwise` is how much it matters from another's script."""
        parts["severity"] = None if self.bundled else otherwise
        self.add("unplanned-value", message, **parts)

    def differs(  # noqa: PLR0913 - as add
        self,
        code: str,
        setting: str,
        *,
        place: str,
        expected: Any,
        actual: Any = None,
        path: yamlio.KeyPath = (),
        line: int | None = None,
        note: str = "",
        source_of: str | None = None,
    ) -> None:
        """Add the finding that a planned value is not where it must arrive.

        Args:
            code: `missing-value`, `value-mismatch`, `wrong-type`, `unplanned-value` or `wrong-recipe`.
            setting: the setting's name.
            place: where it must arrive, as a person would name it.
            expected: the planned value.
            actual: what stands there.
            path: its path in a YAML file.
            line: its line in another file.
            note: what else there is to say.
            source_of: the setting whose source decides on leniency, where it is another.
        """
        planned = "nothing" if expected is None else quoted(expected)
        if code == "missing-value":
            message = f"{place} is absent, planned is {planned}"
        elif code == "wrong-type":
            kind = type(actual).__name__
            message = f"{place} is {quoted(actual)}, of type {kind}, planned is {planned}"
        else:
            message = f"{place} is {quoted(actual)}, planned is {planned}"
        if self.lenient(source_of or setting) and code in {"missing-value", "value-mismatch"}:
            code, note = "default-differs", f"nobody asked for the planned default; the script has its own. {note}"
        self.add(
            code,
            f"{message}: {note.strip()}" if note else message,
            field=setting,
            expected=expected,
            actual=actual,
            path=path,
            line=line,
        )
