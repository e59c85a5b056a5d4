"""What can go wrong: one finding model and one exception; finding_codes.py has the registry of codes.

A problem in a run is a value (a `Finding`). An exception (`Refused`) means that the work cannot proceed; it carries
every problem that was found, so that one answer names them all.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from scaffold_torchtune.finding_codes import CODES, Severity

Scalar = bool | int | float | str | None
"""A value as it stands in a table cell, in YAML or in a plan."""


class Finding(BaseModel):
    """One problem or remark: what it is, where it is, and what to do about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(description="kebab-case name of the kind of finding, see workflows/troubleshooting.md")
    severity: Severity = Field(description="error, warning or info")
    message: str = Field(description="one sentence that says what was found")
    field: str | None = Field(default=None, description="the field, setting or parameter that it is about")
    expected: Scalar = Field(default=None, description="what was expected, or what is allowed")
    actual: Scalar = Field(default=None, description="what was found")
    file: str | None = Field(
        default=None, description="the file, relative to the experiment directory where it lies there"
    )
    line: int | None = Field(default=None, description="the line in that file, from 1")
    fix: str = Field(default="", description="the next step")

    def place(self) -> str:
        """The place as `file:line`, as much of it as is known."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def sentence(self) -> str:
        """The whole finding on one line, for a person."""
        place = f"{self.place()}: " if self.place() else ""
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{place}{self.message}" + (f"{stop} Fix: {self.fix}" if self.fix else "")


class Question(BaseModel):
    """What only the user can say: a field that no document gives, or gives twice, or gives wrongly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field(description="the name under which the answer is given")
    question: str = Field(description="one sentence, for the user")
    kind: str = Field(default="text", description="text, integer, number or boolean")
    options: tuple[str, ...] = Field(default=(), description="what is meant may be one of these")
    file: str = Field(default="", description="the document that the answer belongs in")
    add: str = Field(default="", description="the line to write there, with the answer in it")


def finding(  # noqa: PLR0913 - a finding has this many parts, all of them named at the call
    code: str,
    message: str,
    *,
    field: str | None = None,
    expected: Scalar = None,
    actual: Scalar = None,
    file: str | None = None,
    line: int | None = None,
    fix: str = "",
    severity: Severity | None = None,
) -> Finding:
    """Make a finding whose code is in the registry.

    Raises:
        KeyError: the code is not in `CODES`.
    """
    return Finding(
        code=code,
        severity=severity or CODES[code].severity,
        message=message,
        field=field,
        expected=expected,
        actual=actual,
        file=file,
        line=line,
        fix=fix,
    )


class Refused(Exception):
    """The work cannot proceed.

    Carries every problem that was found, what the user may be asked, and the heads of what scaffold.log got of it.
    """

    def __init__(self, message: str, problems: Iterable[Finding], ask: Iterable[Question] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(sort_findings(problems))
        self.ask = tuple(ask)
        self.logged: tuple[str, ...] = ()


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by file and line, those without a place first."""
    return sorted(findings, key=lambda f: (f.file or "", f.line or 0, f.field or "", f.code))


def errors_in(findings: Iterable[Finding]) -> list[Finding]:
    """Those findings that are errors."""
    return [f for f in findings if f.severity is Severity.ERROR]


def serious(findings: Iterable[Finding]) -> list[Finding]:
    """Those findings that are more than information."""
    return [f for f in findings if f.severity is not Severity.INFO]
