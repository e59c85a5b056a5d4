"""Comparison of typed values, and the collector of findings about one file of one run."""

import math
from collections.abc import Iterator
from typing import Any, Unpack

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Parts, Scalar, escape, number_text
from scaffold_torchtune.models import Arrival, PlannedRun, SourceKind
from scaffold_torchtune.system.serialization import KeyPath, YamlDocument

_LARGEST = 10**30

_TYPES = {
    str: "text", int: "an integer", float: "a float", bool: "a boolean", list: "a list", dict: "a mapping",
}  # fmt: skip

BROKEN = "(not resolved)"
"""The placeholder for a value that could not be resolved; never a planned value."""


def as_scalar(value: Any) -> Scalar:
    """Return a value of a file as a scalar for a finding: text escaped and cut, other values as a description."""
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
    """Return a value as in messages: text in quotes, so that its type is clear, and None as in YAML."""
    return (
        f"'{as_scalar(value)}'"
        if isinstance(value, str)
        else "null"
        if value is None
        else number_text(as_scalar(value))
    )


def dotted(path: KeyPath) -> str:
    """Return a path in a YAML file as text, `model.lora_rank`, with its keys escaped."""
    return ".".join(escape(str(part)) for part in path)


def at(data: Any, path: KeyPath) -> Any:
    """Return the value at a path; None if missing."""
    for key in path:
        if isinstance(data, dict):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return None
    return data


def compare(expected: Scalar, actual: Any) -> str | None:
    """Return the code of the finding for a value, or None if it is the expected one.

    An integer is accepted for a float, never the other way; a boolean is not a number; `wrong-type` is the expected
    content in a different type, e.g. the text `8` for the number 8.
    """
    if type(expected) is type(actual) or (isinstance(expected, float) and type(actual) is int):
        return None if expected == actual else "value-mismatch"
    equal = str(expected).casefold() == str(as_scalar(actual)).strip().casefold() or _equal(expected, actual)
    return "wrong-type" if equal else "value-mismatch"


def _equal(*values: Any) -> bool:
    """Return whether two values of different types are or spell the same number; a boolean is not a number."""
    try:
        one, other = (None if isinstance(value, bool) else float(value) for value in values)
    except (ValueError, OverflowError, TypeError):
        return False
    return one == other


def normal_path(path: str) -> str:
    """Return a path without duplicate and trailing slashes, otherwise unchanged."""
    absolute = "/" if path.startswith("/") else ""
    return absolute + "/".join(part for part in path.split("/") if part)


def join(*parts: str) -> str:
    """Return joined parts of a path, without empty ones."""
    return normal_path("/".join(part for part in parts if part))


def below(path: str, folder: str) -> bool:
    """Return whether a path is the directory or is below it, lexically."""
    inner, outer = normal_path(path), normal_path(folder)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def leaves(data: Any) -> Iterator[Any]:
    """Yield every value in plain data that is not a mapping or list."""
    if not isinstance(data, dict | list):
        yield data
        return
    for value in data.values() if isinstance(data, dict) else data:
        yield from leaves(value)


def interpolates(data: Any) -> bool:
    """Return whether the data has an interpolation anywhere."""
    return any(isinstance(value, str) and "${" in value for value in leaves(data))


FIX = "do not edit the file: correct the setup script or its template, then run setup again"


class ReportParts(Parts, total=False):
    """The parts of a finding about a file: values as read, and their path."""

    expected: Any
    actual: Any
    path: KeyPath


class Report(Collector):
    """The findings about one file.

    Args:
        run: the run as planned.
        name: the file's name in the run directory.
        bundled: whether the bundled setup_finetune wrote it; additions of other scripts are less severe.
        fix: the fix of findings that name no other one.
        arrivals: receives every place where a planned value was looked for, found or not.
    """

    def __init__(
        self, run: PlannedRun, name: str, *, bundled: bool, fix: str = FIX, arrivals: list[Arrival] | None = None
    ) -> None:
        super().__init__(f"{run.directory}/{name}", fix=fix)
        self.run = run
        self.name = name
        self.bundled = bundled
        self.document = YamlDocument(None, {})  # as read, for line numbers; empty if the file is not YAML
        self.paths: set[KeyPath] = set()
        self._arrivals = arrivals

    def planned(self, setting: str) -> Any:
        """Return the planned value of a setting; None if not planned."""
        return self.run.value(setting)

    def lenient(self, setting: str) -> bool:
        """Return whether a difference is only a warning: the plan has a default, and the script has its own."""
        found = self.run.settings.get(setting)
        return not self.bundled and found is not None and found.source.kind is SourceKind.DEFAULT

    def add(
        self,
        code: str,
        message: str,
        *,
        expected: Any = None,
        actual: Any = None,
        path: KeyPath = (),
        **parts: Unpack[Parts],
    ) -> None:
        """Add a finding about `path`, at its line or at the line of its nearest existing parent."""
        if path:
            self.paths.add(path)
            parts["line"] = self.document.line(path)
            parts.setdefault("field", dotted(path))
        parts["field"] = escape(field) if (field := parts.get("field")) else field
        super().add(code, message, expected=as_scalar(expected), actual=as_scalar(actual), **parts)

    def looked(
        self,
        setting: str,
        where: str,
        expected: Any,
        actual: Any,
        *,
        arrived: bool,
        path: KeyPath = (),
        line: int | None = None,
    ) -> None:
        """Record the lookup of a planned value; if it did not arrive, `differs` adds the finding.

        Args:
            setting: the setting's name.
            where: the expected place, as text.
            expected: the expected value.
            actual: the found value.
            arrived: whether the found value is the expected one.
            path: its path in a YAML file.
            line: its line in another file.
        """
        if self._arrivals is None:
            return
        if path:
            line = self.document.lines.get(path)
        values = {"expected": as_scalar(expected), "found": as_scalar(actual)}
        self._arrivals.append(
            Arrival(setting=setting, file=self.name, line=line, where=where, arrived=arrived, **values)
        )

    def unplanned(self, message: str, otherwise: Severity, **parts: Unpack[ReportParts]) -> None:
        """Add the finding of an unplanned value; `otherwise` is its severity for other scripts than the bundled one."""
        parts["severity"] = None if self.bundled else otherwise
        self.add("unplanned-value", message, **parts)

    def differs(  # noqa: PLR0913 - as add
        self,
        setting: str,
        where: str,
        expected: Any,
        actual: Any = None,
        *,
        code: str | None = None,
        path: KeyPath = (),
        line: int | None = None,
        note: str = "",
        source_of: str | None = None,
    ) -> None:
        """Add the finding that a planned value did not arrive.

        Args:
            setting: the setting's name.
            where: the expected place, as text.
            expected: the planned value.
            actual: the found value.
            code: by default `value-mismatch`, or `missing-value` without an actual value.
            path: its path in a YAML file.
            line: its line in another file.
            note: a further explanation.
            source_of: a different setting whose source decides on leniency.
        """
        code = code or ("missing-value" if actual is None else "value-mismatch")
        planned = "no value" if expected is None else quoted(expected)
        kind = f", which is {_TYPES.get(type(actual), type(actual).__name__)}" if code == "wrong-type" else ""
        found = "missing" if actual is None or code == "missing-value" else quoted(actual) + kind
        parts: Parts = {"field": setting, "line": line}
        if self.lenient(source_of or setting) and code in {"missing-value", "value-mismatch"}:
            own = "no document sets it; the plan and the setup script have different defaults"
            code, note = "default-differs", f"{own}; {note}" if note else own
            otherwise = "set the intended value in the summary"
            if (source_of or setting) in self.run.unwritten:
                otherwise = "use a setup_finetune.py with an option for it, or use --setup-script bundled"
            parts["fix"] = f"no action if the script's value is intended; otherwise {otherwise}"
        message = f"{where} is {found} (expected {planned})" + (f": {note}" if note else "")
        self.add(code, message, expected=expected, actual=actual, path=path, **parts)
