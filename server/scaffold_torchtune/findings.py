"""Findings and the exception of a refusal, and functions that show foreign texts safely in messages.

A problem in a run is a value (a `Finding`). An exception (`Refused`) means that the work cannot proceed; it carries
every problem, so that one answer names all of them. finding_codes.py has the registry of codes. Foreign texts are
shown so that they can neither hide nor forge anything.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from scaffold_torchtune.finding_codes import CODES, Severity

Scalar = bool | int | float | str | None
"""A value in a table cell, in YAML or in a plan."""


class Finding(BaseModel):
    """One problem or remark: its subject, its location, and its fix."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    code: str = Field(description="kebab-case name of the kind of finding, see workflows/troubleshooting.md")
    severity: Severity = Field(description="error, warning or info")
    message: str = Field(description="one sentence that describes the problem")
    field: str | None = Field(default=None, description="the field, setting or parameter with the problem")
    expected: Scalar = Field(default=None, description="the expected or allowed value")
    actual: Scalar = Field(default=None, description="the found value")
    file: str | None = Field(default=None, description="the file, relative to the experiment directory if it is in it")
    line: int | None = Field(default=None, description="the line in that file, from 1")
    fix: str = Field(default="", description="the next step")
    fix_in_document: SkipJsonSchema[str] = Field(
        default="", exclude=True, description="the next step in a document, if it differs from the one in the file"
    )
    choices: SkipJsonSchema[tuple[Scalar, ...]] = Field(
        default=(), exclude=True, description="the values of which one is intended"
    )

    def location(self) -> str:
        """Return the location as `file:line`, or its known part."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def sentence(self) -> str:
        """Return the whole finding on one line, for a person."""
        place = f"{self.location()}: " if self.location() else ""
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{place}{self.message}" + (f"{stop} Fix: {self.fix}" if self.fix else "")

    def unplaced(self) -> "Finding":
        """Return the finding without its location and value, so that it is equal for all runs that share it."""
        return self.model_copy(update={"file": None, "line": None, "actual": None})


class Question(BaseModel):
    """A question to the user about a field that is missing, given twice, or wrong in the documents."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    field: str = Field(description="the field of the answer")
    question: str = Field(description="one sentence, for the user")
    kind: str = Field(default="text", description="text, integer, number or boolean")
    options: tuple[str, ...] = Field(default=(), description="the possible values, if limited")
    file: str = Field(default="", description="the document for the answer")
    add: str = Field(default="", description="the line, or the lines, to write there")
    where: str = Field(default="", description="the place of that line in the document")


class Location(NamedTuple):
    """A location in a file, or its known part."""

    file: str | None = None
    line: int | None = None


class Located(Protocol):
    """An object with a location in a file: the source of a value, a `Location`."""

    @property
    def file(self) -> str | None: ...  # noqa: D102
    @property
    def line(self) -> int | None: ...  # noqa: D102


class Parts(TypedDict, total=False):
    """The optional parts of a finding. `at` gives `file` and `line`."""

    field: str | None
    file: str | None
    line: int | None
    at: Located | None
    fix: str | None
    fix_in_document: str
    severity: Severity | None
    choices: tuple[Scalar, ...]


def in_utf8(text: str) -> str:
    """Return a text with escapes for bytes of file names that are not UTF-8, which no result or log can hold."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def finding(
    code: str, message: str, *, expected: Scalar = None, actual: Scalar = None, **parts: Unpack[Parts]
) -> Finding:
    """Return a new finding; by default it has the severity of its code.

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
        fix: the fix of findings that name none.
    """

    def __init__(self, file: str | None = None, lines: Mapping[str, int] | None = None, *, fix: str = "") -> None:
        self.file = file
        self.lines = lines or {}
        self.fix = fix
        self.findings: list[Finding] = []

    def add(
        self, code: str, message: str, *, expected: Scalar = None, actual: Scalar = None, **parts: Unpack[Parts]
    ) -> None:
        """Add a finding, by default at the line of its field in the document."""
        if parts.get("fix") is None:
            parts["fix"] = self.fix
        if parts.get("at") is None:
            parts.setdefault("file", self.file)
            parts.setdefault("line", self.lines.get(parts.get("field") or ""))
        self.findings.append(finding(code, message, expected=expected, actual=actual, **parts))


class Refused(Exception):
    """The work cannot proceed.

    Carries every problem, the questions to the user, and the heads of its entries in scaffold.log.
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
    """Return findings by file and line, those without a location first."""
    return sorted(findings, key=lambda f: (f.file or "", f.line or 0, f.field or "", f.code))


def errors_in(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are errors."""
    return [f for f in findings if f.severity is Severity.ERROR]


def serious(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are errors or warnings."""
    return [f for f in findings if f.severity is not Severity.INFO]


_SEVERITIES: Final = tuple(Severity)
_WORD: Final = re.compile(r"(?<!\w)'[^']*'(?!\w)|\S+")
_RUN: Final = "RUN"


class Alike(NamedTuple):
    """Findings that differ only in their run, location and values.

    `first` represents all. `members` are all of them, each with its run, which is empty if it concerns no run.
    """

    first: Finding
    members: tuple[tuple[str, Finding], ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the distinct runs of the findings."""
        return tuple(dict.fromkeys(run for run, _ in self.members if run))

    def others(self) -> Iterator[tuple[str, Finding, tuple[str, ...]]]:
        """Yield each except the first: its run, itself, and the words of its message that differ from the first."""
        run, _ = self.members[0]
        words = _words(self.first.message, run)
        for other, each in self.members[1:]:
            pairs = zip(words, _words(each.message, other), strict=True)
            yield other, each, tuple(there for here, there in pairs if here != there)


def alike(found: Iterable[tuple[str, Finding]]) -> list[Alike]:
    """Return groups of findings, each with its run: those with the same code, field and fix are in one group.

    Their messages may differ in numbers, names with a number, and quoted texts. Groups are in the order of their first
    finding.
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
    """A text cannot be read. `line` is the place, from 1, if known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def with_line_feeds(text: str) -> str:
    """Return a text with line feeds as only line ends and without a byte order mark, as Markdown counts lines."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _visible(character: str) -> str:
    """Return the character itself, or its escape if it is not printable (controls, bidi, invisible)."""
    if character.isprintable():
        return "\\\\" if character == "\\" else character
    return character.encode("unicode_escape").decode("ascii")


def escape(text: str, limit: int = 200) -> str:
    """Return one line of text in which every control, invisible or bidirectional character is escaped.

    Longer text is cut at `limit` characters, followed by the number of omitted characters.
    """
    if text.isprintable() and "\\" not in text and len(text) <= limit:
        return text  # the usual case
    left_out = f"... ({counted(len(text) - limit, 'more character')})" if len(text) > limit else ""
    return "".join(map(_visible, text[:limit])) + left_out


def one_line(text: str) -> str:
    """Return the whole text with invisible characters escaped and all other text unchanged."""
    if text.isprintable():
        return text  # the usual case
    return "".join(character if character == "\\" else _visible(character) for character in text)


def shown(value: Scalar) -> str:
    """Return a value as in messages: text in quotes, so that its type is clear, and numbers as `1e-5`."""
    return f"'{escape(value)}'" if isinstance(value, str) else number_text(value)


def number_text(value: object) -> str:
    """Return a value as text: a fraction in its shortest form; `8.0` differs from `8`."""
    is_fraction = isinstance(value, float) and math.isfinite(value) and not value.is_integer()
    return shortest_number(value) if is_fraction else str(value)  # type: ignore[arg-type]


_LARGE: Final = 1e12  # from this value on, a whole float is written with an exponent, as it is read


def shortest_number(number: float) -> str:
    """Return the shortest form of a number, as in directory names: `1e-5`, `0.1`, `2.5e-5`, `8`.

    If the plain and the scientific form are equally long, return the plain one.
    """
    if isinstance(number, int) or (number.is_integer() and number < _LARGE):
        return str(int(number))
    plain = format(Decimal(repr(number)), "f")
    digits = Decimal(repr(number)).normalize().as_tuple()
    exponent = len(digits.digits) - 1 + int(digits.exponent)
    mantissa = "".join(map(str, digits.digits))
    mantissa = mantissa[0] + ("." + mantissa[1:] if len(mantissa) > 1 else "")
    scientific = f"{'-' if digits.sign else ''}{mantissa}e{exponent}"
    return min(plain, scientific, key=len)


def counted(number: int, thing: str) -> str:
    """Return a number with its unit: `1 run`, `2 runs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    """Return a number of bytes as a limit in messages: `10 MB`, or `500 bytes`."""
    return f"{size / 1e6:g} MB" if size >= 1e6 else f"{size} bytes"  # noqa: PLR2004


def few(texts: Sequence[str], most: int, *, between: str = ", ", more: str = "{} more", last: str = "and") -> str:
    """Return at most so many texts as a list in prose, followed by the number of omitted ones: `a, b and 3 more`.

    Args:
        texts: the texts.
        most: the largest number of texts to list.
        between: what separates them; semicolons separate texts with commas.
        more: how to state the number of omitted texts, or `...`.
        last: the word before the last text of a whole list; without it, the list can be pasted.
    """
    left_out = len(texts) - most
    listed = [*texts[:most], *([more.format(left_out)] if left_out > 0 else [])]
    word = last if left_out <= 0 else "" if more.startswith("...") else "and"
    if len(listed) <= 1 or not word:
        return between.join(listed)
    *others, end = listed
    return f"{between.join(others)}{'' if between == ', ' else between.rstrip()} {word} {end}"


def one_of(texts: Sequence[str], most: int) -> str:
    """Return a choice in prose: `a`, `one of a or b`, `one of a, b and 3 more`."""
    return texts[0] if len(texts) == 1 else f"one of {few(texts, most, last='or')}"


_MOST_LINES: Final = 12


def lines_text(lines: Iterable[int | str | None], most: int = _MOST_LINES) -> str:
    """Return the different line numbers: `line 3`, or `lines 3, 4 and 2 more`."""
    different = [*dict.fromkeys(map(str, lines))]
    return f"line{'' if len(different) == 1 else 's'} {few(different, most)}"


_LONGEST_WORD: Final = 200  # a longer word is not a misspelt name
_MOST_WORDS: Final = 1_000
_compared: ContextVar[dict[tuple[object, ...], list[str]] | None] = ContextVar("compared", default=None)


@contextmanager
def few_suggestions() -> Iterator[None]:
    """Limit the number of words that are compared with known ones: it is slow, and a document may have any number."""
    token = _compared.set({})
    try:
        yield
    finally:
        _compared.reset(token)


def close_matches(word: str, known: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return similar known words, best first; case does not matter. `cutoff` is difflib's, 0 to 1."""
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
    """Return the message, followed by `Did you mean 'x', 'y' or 'z'?` if known words are similar.

    `meant` is the certain meaning of the word, if known; it is used if it is one of the known words.
    """
    known = list(known)
    matches = [each for each in ([meant] if meant in known else close_matches(word, known)) if each != word]
    if not matches:
        return message.removesuffix(".")
    return f"{message} Did you mean {few([*map(repr, matches)], len(matches), last='or')}?".lstrip()
