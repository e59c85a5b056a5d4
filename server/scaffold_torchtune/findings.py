"""What can go wrong: one finding model and one exception, and texts of others shown safely in messages.

A problem in a run is a value (a `Finding`). An exception (`Refused`) means that the work cannot proceed; it carries
every problem that was found, so that one answer names them all. finding_codes.py has the registry of codes. Texts that
come from elsewhere are shown so that they can neither hide nor forge anything.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from scaffold_torchtune.finding_codes import CODES, Severity

Scalar = bool | int | float | str | None
"""A value as it stands in a table cell, in YAML or in a plan."""


class Finding(BaseModel):
    """One problem or remark: what it is, where it is, and what to do about it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

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
    fix_in_document: SkipJsonSchema[str] = Field(
        default="", exclude=True, description="the next step in a document, where it is another than in the file"
    )
    choices: SkipJsonSchema[tuple[Scalar, ...]] = Field(
        default=(), exclude=True, description="the values of which one is meant"
    )

    def location(self) -> str:
        """Return the place as `file:line`, as much of it as is known."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def sentence(self) -> str:
        """Return the whole finding on one line, for a person."""
        place = f"{self.location()}: " if self.location() else ""
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{place}{self.message}" + (f"{stop} Fix: {self.fix}" if self.fix else "")

    def unplaced(self) -> "Finding":
        """Return the finding without its place and its value: the same for all runs of which the same is found."""
        return self.model_copy(update={"file": None, "line": None, "actual": None})


class Question(BaseModel):
    """What only the user can say: a field that no document gives, or gives twice, or gives wrongly."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    field: str = Field(description="the name under which the answer is given")
    question: str = Field(description="one sentence, for the user")
    kind: str = Field(default="text", description="text, integer, number or boolean")
    options: tuple[str, ...] = Field(default=(), description="what is meant may be one of these")
    file: str = Field(default="", description="the document that the answer belongs in")
    add: str = Field(default="", description="the line, or the lines, to write there")
    where: str = Field(default="", description="where in the document that line goes")


class Location(NamedTuple):
    """A place in a file, as much of it as is known."""

    file: str | None = None
    line: int | None = None


class Located(Protocol):
    """What has a place in a file: the source of a value, a `Location`."""

    @property
    def file(self) -> str | None: ...  # noqa: D102
    @property
    def line(self) -> int | None: ...  # noqa: D102


class Parts(TypedDict, total=False):
    """The parts of a finding that it may lack. `at` gives `file` and `line`."""

    field: str | None
    file: str | None
    line: int | None
    at: Located | None
    fix: str | None
    fix_in_document: str
    severity: Severity | None
    choices: tuple[Scalar, ...]


def in_utf8(text: str) -> str:
    """Return a text with an escape for each byte of a file's name that is not UTF-8: no result or log can hold it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def finding(
    code: str, message: str, *, expected: Scalar = None, actual: Scalar = None, **parts: Unpack[Parts]
) -> Finding:
    """Make a finding; its severity is that of its code, where none is given.

    Raises:
        KeyError: the code is not in `CODES`.
    """
    given: dict[str, Any] = {name: part for name, part in parts.items() if part is not None and name != "at"}
    if at := parts.get("at"):
        given |= {"file": at.file, "line": at.line}
    given |= {"message": message, "expected": expected, "actual": actual}
    given = {name: in_utf8(part) if isinstance(part, str) else part for name, part in given.items()}
    return Finding(code=code, **given | {"severity": parts.get("severity") or CODES[code].severity})


class Collector:
    """Collects the findings about one document in `findings`.

    Args:
        file: the document, as findings name it.
        lines: the line of each field.
        fix: the next step, where a finding names none.
    """

    def __init__(self, file: str | None = None, lines: Mapping[str, int] | None = None, *, fix: str = "") -> None:
        self.file = file
        self.lines = lines or {}
        self.fix = fix
        self.findings: list[Finding] = []

    def add(
        self, code: str, message: str, *, expected: Scalar = None, actual: Scalar = None, **parts: Unpack[Parts]
    ) -> None:
        """Add a finding, at the line of its field in the document where it is not given another place."""
        if parts.get("fix") is None:
            parts["fix"] = self.fix
        if parts.get("at") is None:
            parts.setdefault("file", self.file)
            parts.setdefault("line", self.lines.get(parts.get("field") or ""))
        self.findings.append(finding(code, message, expected=expected, actual=actual, **parts))


class Refused(Exception):
    """The work cannot proceed.

    Carries every problem that was found, what the user may be asked, and the heads of what scaffold.log got of it.
    """

    def __init__(self, message: str, problems: Iterable[Finding], ask: Iterable[Question] = ()) -> None:
        super().__init__(message)
        self.message = in_utf8(message)
        self.problems = tuple(sort_findings(problems))
        self.ask = tuple(ask)
        self.logged: tuple[str, ...] = ()


def refuse(
    code: str, message: str, *, expected: Scalar = None, actual: Scalar = None, **parts: Unpack[Parts]
) -> Refused:
    """Return a refusal with one problem."""
    return Refused(message, [finding(code, message, expected=expected, actual=actual, **parts)])


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by file and line, those without a place first."""
    return sorted(findings, key=lambda f: (f.file or "", f.line or 0, f.field or "", f.code))


def errors_in(findings: Iterable[Finding]) -> list[Finding]:
    """Return those findings that are errors."""
    return [f for f in findings if f.severity is Severity.ERROR]


def serious(findings: Iterable[Finding]) -> list[Finding]:
    """Return those findings that are more than information."""
    return [f for f in findings if f.severity is not Severity.INFO]


_SEVERITIES: Final = tuple(Severity)
_WORD: Final = re.compile(r"(?<!\w)'[^']*'(?!\w)|\S+")
_RUN: Final = "RUN"


class Alike(NamedTuple):
    """Findings that differ in their run, their place and their values alone.

    `first` stands for all. `members` are all of them, each with the run that it is about, empty where it is about none.
    """

    first: Finding
    members: tuple[tuple[str, Finding], ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that they are about, each once."""
        return tuple(dict.fromkeys(run for run, _ in self.members if run))

    def others(self) -> Iterator[tuple[str, Finding, tuple[str, ...]]]:
        """Yield each but the first: its run, itself, and the words of its message that the first has otherwise."""
        run, _ = self.members[0]
        words = _words(self.first.message, run)
        for other, each in self.members[1:]:
            pairs = zip(words, _words(each.message, other), strict=True)
            yield other, each, tuple(there for here, there in pairs if here != there)


def alike(found: Iterable[tuple[str, Finding]]) -> list[Alike]:
    """Return findings grouped, each with the run that it is about: those with the same code, field and fix together.

    Their messages may differ in numbers, names with a number, and what stands in quotes. Groups are in the order of
    their first finding.
    """
    groups: dict[object, list[tuple[str, Finding]]] = {}
    for run, each in found:
        shape = tuple("" if _varies(word) else word for word in _words(each.message, run))
        key = (each.code, each.severity, each.field, _without(each.file or "", run), _without(each.fix, run), shape)
        groups.setdefault(key, []).append((run, each))
    return [Alike(members[0][1], tuple(members)) for members in groups.values()]


def _words(text: str, run: str) -> list[str]:
    return _WORD.findall(_without(text, run))


def _without(text: str, run: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(run)}(?!\w)", _RUN, text) if run and run in text else text


def _varies(word: str) -> bool:
    return word.startswith("'") or any(character.isdigit() for character in word)


def by_severity(groups: Iterable[Alike]) -> list[Alike]:
    """Return groups of findings with the most serious last, next to the verdict that follows them."""
    return sorted(groups, key=lambda each: _SEVERITIES.index(each.first.severity), reverse=True)


class LineError(ValueError):
    """A text cannot be read. `line` is where, from 1, where that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def with_line_feeds(text: str) -> str:
    """Return a text whose lines end with a line feed alone, without a byte order mark: as Markdown counts them."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _visible(character: str) -> str:
    """Return the character itself, or its escape where it is not plainly printable (controls, bidi, invisible)."""
    if character.isprintable():
        return "\\\\" if character == "\\" else character
    return character.encode("unicode_escape").decode("ascii")


def escape(text: str, limit: int = 200) -> str:
    """Return one line of text in which every control, invisible or bidirectional character is escaped.

    Longer text is cut at `limit` characters, with the number of characters left out.
    """
    if text.isprintable() and "\\" not in text and len(text) <= limit:
        return text  # as nearly all are
    left_out = f"... ({len(text) - limit} more characters)" if len(text) > limit else ""
    return "".join(map(_visible, text[:limit])) + left_out


def one_line(text: str) -> str:
    """Return the whole text with what cannot be seen plainly escaped; what is plain stays as it is."""
    return "".join(character if character == "\\" else _visible(character) for character in text)


def shown(value: Scalar) -> str:
    """Return a value as messages show it: text in quotes, so that a type is never in doubt."""
    return f"'{escape(value)}'" if isinstance(value, str) else str(value)


def counted(number: int, thing: str) -> str:
    """Return a number with what it counts: `1 run`, `2 runs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def few(texts: Sequence[str], most: int, *, between: str = ", ", more: str = ", and {} more") -> str:
    """Return at most so many texts in a row, with how many more there are."""
    left_out = len(texts) - most
    return between.join(texts[:most]) + (more.format(left_out) if left_out > 0 else "")


_LONGEST_WORD: Final = 200  # what is longer is no misspelling of a name
_MOST_WORDS: Final = 1_000
_compared: ContextVar[dict[tuple[object, ...], list[str]] | None] = ContextVar("compared", default=None)


@contextmanager
def few_suggestions() -> Iterator[None]:
    """Let as many words be compared with known ones as people misspell: it takes long, and a document may have any."""
    token = _compared.set({})
    try:
        yield
    finally:
        _compared.reset(token)


def close_matches(word: str, known: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return known words that may be meant, best first; case does not matter. `cutoff` is difflib's, 0 to 1."""
    if len(word) > _LONGEST_WORD:
        return []
    compared, names = _compared.get(), tuple(known)
    key = (word, names, limit, cutoff)
    if compared is not None and (key in compared or len(compared) >= _MOST_WORDS):
        return compared.get(key, [])
    by_lower = {name.lower(): name for name in names}
    found = [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=limit, cutoff=cutoff)]
    if compared is not None:
        compared[key] = found
    return found


def did_you_mean(word: str, known: Iterable[str], message: str = "", meant: str | None = None) -> str:
    """Return the message, with `Did you mean 'x' or 'y'?` after it where known words are near.

    `meant` is what the word surely means, where that is known; it counts if it is one of the known words.
    """
    known = list(known)
    matches = [meant] if meant in known else close_matches(word, known)
    return f"{message} Did you mean {' or '.join(map(repr, matches))}?".lstrip() if matches else message
