"""Collecting the findings about one file of one run."""

from typing import Any, Unpack

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Parts
from scaffold_torchtune.models.base import SourceKind
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.shared import yamlio
from scaffold_torchtune.shared.text import escape
from scaffold_torchtune.validate.values import as_scalar, quoted

FIX = "Do not edit the file by hand: check setup_finetune and its template, then run setup again."
FIX_MISSING = "Run setup again; where it fails, its reason says why."
FIX_SETUP_MISSING = "Run render again, then setup."
FIX_SETUP = "Do not edit the file by hand: run render again, then setup."


class ReportParts(Parts, total=False):
    """The parts of a finding about a file: values as they were read, and the path at which they stand."""

    expected: Any
    actual: Any
    path: yamlio.Path


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
        self.paths: set[yamlio.Path] = set()

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
        path: yamlio.Path = (),
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
        path: yamlio.Path = (),
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
