"""The values of files: their comparison and interpolations, and the collector of findings about one file of one run.

`${...}` is resolved as torchtune does, but never calls a resolver.
"""

import math
import re
from collections.abc import Callable, Iterator
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

Problems = dict[KeyPath, str]

_CHAIN = 4  # depth of nested references; deeper ones are left to OmegaConf
_MISSING = "???"  # OmegaConf's marker for a missing value
_LONGEST = 50_000_000
_PLAIN = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\}")
_ROOT = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_]*)")


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


def has_resolver(text: str) -> bool:
    """Return whether text has an interpolation that calls a resolver: a colon anywhere within `${...}`."""
    depth, index = 0, 0
    while index < len(text):
        if text.startswith("${", index):
            depth += 1
        elif depth and text[index] == "}":
            depth -= 1
        elif depth and text[index] == ":":
            return True
        index += 1
    return False


def interpolated(data: Any) -> frozenset[str]:
    """Return the top-level keys that some interpolation in the data names."""
    return frozenset(name for text in leaves(data) if isinstance(text, str) for name in _ROOT.findall(text))


def resolve(data: dict[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Return plain data with every interpolation resolved, and the failures by path.

    An interpolation that cannot be resolved becomes a placeholder text, which is never a planned value. Text that calls
    a resolver is not resolved: `${oc.env:NAME}` would read the environment of the validating process. Most
    interpolations only name a text or integer; they are resolved here, because OmegaConf takes milliseconds.
    """
    problems: Problems = {}

    def broken(text: str, path: KeyPath) -> str:
        reason = _unresolvable(text)
        if reason:
            problems[path] = reason
        return BROKEN if reason else text

    def too_many(_text: str, path: KeyPath) -> str:
        problems[path] = "is not resolved, because the file has too many interpolations"
        return BROKEN

    screened = _replaced(data, broken)
    if _growth(screened) > _LONGEST:
        return _replaced(screened, too_many), problems
    known = _Values(screened)
    put_in = _replaced(screened, lambda text, _path: known.value(text))
    if interpolates(put_in):
        from omegaconf import OmegaConf

        put_in = _children(put_in, OmegaConf.create(screened), (), problems)
    return put_in, problems


def _replaced(data: Any, replacement: Callable[[str, KeyPath], Any], path: KeyPath = ()) -> Any:
    """Return data in which `replacement` replaces each text with an interpolation, given the text and its path."""
    if isinstance(data, dict):
        return {key: _replaced(value, replacement, (*path, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [_replaced(value, replacement, (*path, index)) for index, value in enumerate(data)]
    return replacement(data, path) if isinstance(data, str) and "${" in data else data


def _unresolvable(text: str) -> str:
    """Return why a text must not be resolved, as a predicate; empty if it may be."""
    if has_resolver(text):
        return "calls a resolver of OmegaConf, which would read data from outside the file"
    if not _is_plain(text):
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            OmegaConf.create([text])
        except (OmegaConfBaseException, RecursionError):
            return "is not an interpolation that OmegaConf can parse"
    return ""


def _children(data: Any, config: Any, path: KeyPath, problems: Problems) -> Any:
    """Return data in which OmegaConf resolved the remaining interpolations; `config` is the same data in OmegaConf."""
    if isinstance(data, dict):
        return {key: _resolved(value, config, key, (*path, key), problems) for key, value in data.items()}
    return [_resolved(value, config, index, (*path, index), problems) for index, value in enumerate(data)]


def _resolved(data: Any, config: Any, key: str | int, path: KeyPath, problems: Problems) -> Any:
    if not interpolates(data):
        return data
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found = config[key]
        if isinstance(data, dict | list):
            return _children(data, found, path, problems)
        if isinstance(found, DictConfig | ListConfig):
            return OmegaConf.to_container(found, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        reason, _, _ = str(error).partition("\n")
        problems[path] = f"cannot be resolved ({reason})"
        return BROKEN
    return found


class _Values:
    """Return the texts and integers that names in plain data refer to, from the root."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[str, int], str | int | None] = {}

    def value(self, text: str) -> str | int:
        """Return the resolved text; the text itself if only OmegaConf can resolve it."""
        found = self._value(text, _CHAIN)
        return text if found is None else found

    def _value(self, text: str, steps: int) -> str | int | None:
        """Return the resolved text, after at most so many references; None if only OmegaConf can resolve it."""
        if not _is_plain(text):
            return None
        values = [self._target(found[0][2:-1], steps) for found in _PLAIN.finditer(text)]
        if None in values:
            return None
        if _PLAIN.fullmatch(text):
            return values[0]
        parts = iter(values)
        return _PLAIN.sub(lambda _: str(next(parts)), text)

    def _target(self, name: str, steps: int) -> str | int | None:
        """Return the text or integer that a name refers to; None for other values."""
        if (name, steps) not in self._known:
            self._known[name, steps] = self._found(name, steps)
        return self._known[name, steps]

    def _found(self, name: str, steps: int) -> str | int | None:
        node: Any = self._root
        for key in name.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, str) or node == _MISSING:
            return node if type(node) is int else None
        if "${" not in node:
            return node
        return self._value(node, steps - 1) if steps else None


def _is_plain(text: str) -> bool:
    """Return whether all interpolations in a text name their node from the root, such as `${output_dir}`."""
    return "\\" not in text and "${" not in _PLAIN.sub("", text)


def _growth(data: dict[str, Any]) -> int:
    """Return an upper bound of the resolved text's length: all text, times the numbers of interpolations."""
    growth = max(1, sum(len(value) for value in leaves(data) if isinstance(value, str)))
    for value in data.values():
        for count in _references(value):
            growth = min(growth * max(1, count), _LONGEST + 1)
    return growth


def _references(node: Any) -> list[int]:
    """Return the number of interpolations of a node, then of every node below it."""
    if isinstance(node, str):
        return [node.count("${")]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    below = [_references(child) for child in children]
    return [sum(counts[0] for counts in below), *(count for counts in below for count in counts)]


FIX = "do not edit this file; instead, correct the setup script or its template, then run setup again"


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
        written: str = "",
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
            written: the planned value in the form of the file, if it differs.
        """
        code = code or ("missing-value" if actual is None else "value-mismatch")
        planned = quoted(written or expected)
        kind = f", which is {_TYPES.get(type(actual), type(actual).__name__)}" if code == "wrong-type" else ""
        found = "missing" if actual is None or code == "missing-value" else quoted(actual) + kind
        parts: Parts = {"field": setting, "line": line}
        if self.lenient(source_of or setting) and code in {"missing-value", "value-mismatch"}:
            own = "no document sets it; the plan and the setup script have different defaults"
            if actual is None:
                own = "no document sets it, and the setup script does not write the plan's default"
            code, note = "default-differs", f"{own}; {note}" if note else own
            whose = "torchtune's default" if actual is None else "the script's value"
            otherwise = "set the intended value in the summary"
            if (source_of or setting) in self.run.unwritten:
                otherwise = "use a setup_finetune.py with an option for it, or use `--setup-script bundled`"
            parts["fix"] = f"no action if {whose} is intended; otherwise {otherwise}"
        expects = ", but must be absent" if expected is None else f" (expected {planned})"
        message = f"{where} is {found}{expects}" + (f": {note}" if note else "")
        self.add(code, message, expected=expected, actual=actual, path=path, **parts)
