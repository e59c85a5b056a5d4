"""Finds lines of a Markdown summary that look like settings of training and were not read as such."""

import re
from collections.abc import Iterator
from typing import Final

from scaffold_torchtune.parse import titles
from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.settings.parameters import by_label, normalize
from scaffold_torchtune.shared.markdown import Section

_MARKS: Final = " \t>|*+-_`~"
_BEFORE_LABEL: Final = re.compile(r"\[[ xX]\]|[0-9]{1,9}[.)]|<[a-z]{1,20}>")
_SEPARATOR: Final = re.compile(r"[:=]")
_LONGEST: Final = 300


def read(text: str, root: Section, draft: SummaryDraft) -> None:
    """Note in `draft.overlooked` every line that names a hyperparameter and gave nothing to the draft."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    taken = {row.line for row in draft.rows}
    for _, field in draft.configuration:  # a text of several lines may begin below its label, and below a mark
        taken |= set(range(field.line, field.line + (field.text.count("\n") + 4 if "\n" in field.text else 1)))
    for section in titles.topmost(root, titles.is_prompt):
        taken |= set(range(section.line, _end(root, section, len(lines)) + 1))
    taken |= {problem.line for problem in draft.findings if problem.line}
    hidden = _fenced(root) | set(_commented(lines))
    sections = [(section, above) for section, above in _walk(root)]
    for number, line in enumerate(lines, start=1):
        label, value = _parted(line) if number not in taken and number not in hidden else ("", "")
        parameter = by_label(label) if label and value else None
        if parameter is None or not parameter.warn_unread:
            continue
        here = [one for one in sections if one[0].line <= number][-1:]
        title, above = (here[0][0].title.split("\n")[0], here[0][1]) if here else ("", ())
        about_else = titles.is_factors(title) or any(map(titles.is_elsewhere, (*above, title)))
        if normalize(label) not in parameter.words and not about_else:
            draft.overlooked.append((parameter.name, Field(value, number, title or "the top of the file", value)))


def _parted(line: str) -> tuple[str, str]:
    """Label and value of `label: value` or `label = value` without the marks around them; empty for other lines."""
    line = line[:_LONGEST].lstrip(_MARKS)
    while before := _BEFORE_LABEL.match(line):
        line = line[before.end() :].lstrip(_MARKS)
    found = _SEPARATOR.search(line)
    if found is None:
        return "", ""
    value = line[found.end() :].strip(_MARKS).partition("</")[0]
    return line[: found.start()].strip(_MARKS), value.strip(_MARKS)


def _end(root: Section, section: Section, last: int) -> int:
    """The last line of a section."""
    return min([other.line - 1 for other in root.walk() if other.line > section.line], default=last)


def _walk(root: Section, above: tuple[str, ...] = ()) -> Iterator[tuple[Section, tuple[str, ...]]]:
    for section in root.sections:
        yield section, above
        yield from _walk(section, (*above, section.title))


def _fenced(root: Section, within: bool = False) -> set[int]:
    """Lines of fenced blocks that are examples: all but those in a section of settings."""
    lines: set[int] = set()
    for section in root.sections:
        of_settings = within or titles.is_configuration(section.title)
        for fence in section.fences if not of_settings else ():
            lines |= set(range(fence.line, fence.line + fence.content.count("\n") + 2))
        lines |= _fenced(section, of_settings)
    return lines


def _commented(lines: list[str]) -> Iterator[int]:
    """Lines that an HTML comment covers."""
    inside = False
    for number, line in enumerate(lines, start=1):
        opens = "<!--" in line
        if inside or opens:
            yield number
        inside = (inside or opens) and "-->" not in line.rpartition("<!--")[2]
