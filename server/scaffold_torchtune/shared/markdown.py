"""Markdown as a tree of sections, bullets, tables and fences, each with its line; read by markdown-it-py.

Fenced blocks are never looked into, comments and other HTML are dropped, and every text is plain: emphasis, code spans
and escapes are resolved as Markdown defines them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from markdown_it import MarkdownIt
from markdown_it.rules_block.table import escapedSplit
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from scaffold_torchtune.shared.markdown_text import Text, inline_of, plain_of, source_of, text_of

MAX_DEPTH = 50
"""Levels of lists, quotes, emphasis and so on, that a document may have. The tree is built by recursion."""

_LABELLED = re.compile(r"[^\"'“`:=]{1,60}[:=]")
# Where Markdown knows spaces and tabs alone: before and after the mark of a bullet, quote or heading, and in the line
# below a table's header. Editors on some keyboards put other spaces there, which cannot be seen.
_OTHER_SPACES = "\u00a0\u2007\u202f"
_SPACE = rf"[ \t{_OTHER_SPACES}]"
_MARKS = re.compile(rf"^{_SPACE}*(?:(?:[-*+>]|#{{1,6}}|[0-9]{{1,9}}[.)]){_SPACE}+)*", re.MULTILINE)
_DELIMITERS = re.compile(rf"^[|: \t{_OTHER_SPACES}-]+$", re.MULTILINE)


class TooDeepError(ValueError):
    """The document is nested deeper than `MAX_DEPTH`. `line` is where, from 1."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.message = f"it is nested deeper than {MAX_DEPTH} levels"
        self.line = line


@dataclass(frozen=True)
class Bullet:
    """A list item and the items below it."""

    text: Text
    children: tuple["Bullet", ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a table. `cells` has as many entries as were written."""

    cells: tuple[Text, ...]
    line: int


@dataclass(frozen=True)
class Table:
    """A table with its header."""

    header: tuple[Text, ...]
    rows: tuple[Row, ...]
    line: int


@dataclass(frozen=True)
class Fence:
    """A fenced code block."""

    language: str
    content: str
    line: int


@dataclass
class Section:
    """A heading and what stands below it, in order; level 0 is the document itself."""

    title: str
    level: int
    line: int
    bullets: list[Bullet] = field(default_factory=list)
    paragraphs: list[Text] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)
    sections: list["Section"] = field(default_factory=list)
    last_is_text: bool = False

    def walk(self) -> Iterator["Section"]:
        """This section and all below it, in document order."""
        yield self
        for section in self.sections:
            yield from section.walk()

    def all_bullets(self) -> Iterator[Bullet]:
        """Every bullet of this section itself, nested ones after their parents."""
        stack = list(reversed(self.bullets))
        while stack:
            bullet = stack.pop()
            yield bullet
            stack.extend(reversed(bullet.children))


def read(text: str) -> Section:
    """Read a Markdown document into its tree of sections.

    Raises:
        TooDeepError: it is nested deeper than `MAX_DEPTH` levels.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for where in (_MARKS, _DELIMITERS):
        text = where.sub(_plain_spaces, text)
    lines = text.split("\n")
    parser = MarkdownIt("commonmark", {"maxNesting": 2 * MAX_DEPTH}).enable("table")
    tokens = parser.parse(text)
    _check_depth(tokens)
    root = Section("", 0, 1)
    path = [root]
    for node in SyntaxTreeNode(tokens).children:
        if node.type == "heading":
            level = int(node.tag[1])
            path = [s for s in path if s.level < level]
            section = Section(plain_of(inline_of(node)), level, _line(node))
            path[-1].sections.append(section)
            path.append(section)
        else:
            _add(path[-1], node, lines)
    return root


def _plain_spaces(found: re.Match[str]) -> str:
    return re.sub(f"[{_OTHER_SPACES}]", " ", found[0])


def _check_depth(tokens: Iterable[Token]) -> None:
    line = 1
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        if max([token.level, *(child.level for child in token.children or ())]) > MAX_DEPTH:
            raise TooDeepError(line)


def _add(section: Section, node: SyntaxTreeNode, lines: list[str]) -> None:
    found = None if node.type == "paragraph" else _below(node)
    if found is not None and section.paragraphs and _lacks_value(section.paragraphs[-1]) and section.last_is_text:
        section.paragraphs[-1] = replace(section.paragraphs[-1], below=found, fenced=node.type == "fence")
    section.last_is_text = node.type == "paragraph"
    if node.type in {"bullet_list", "ordered_list"}:
        section.bullets.extend(_bullet(item) for item in node.children)
    elif node.type == "paragraph":
        section.paragraphs.extend(_texts(node))
    elif node.type == "table":
        section.tables.append(_table(node, lines))
    elif node.type in {"fence", "code_block"}:
        section.fences.append(Fence(node.info.strip() if node.type == "fence" else "", node.content, _line(node)))
    elif node.type == "blockquote":
        for child in node.children:
            _add(section, child, lines)


def _below(node: SyntaxTreeNode) -> str | None:
    """What stands in a block below a label: the text of a fence, quote, paragraph or list of one item."""
    if node.type == "fence":
        return str(node.content).removesuffix("\n")
    if node.type in {"blockquote", "bullet_list", "list_item"}:
        found = _below(node.children[0]) if len(node.children) == 1 else None
        # one item that has a label is a setting, not the value of the label above it
        return None if found is not None and node.type == "bullet_list" and _LABELLED.match(found) else found
    return source_of(inline_of(node)).strip() if node.type == "paragraph" else None


def _lacks_value(text: Text) -> bool:
    pair = text.labelled()
    return pair is not None and not pair.full and text.below is None


def _line(node: SyntaxTreeNode) -> int:
    return node.map[0] + 1 if node.map else 1


def _texts(paragraph: SyntaxTreeNode) -> list[Text]:
    """A paragraph's text, line by line."""
    inline = inline_of(paragraph)
    texts: list[Text] = []
    parts: list[SyntaxTreeNode] = []
    line, more = _line(paragraph), 1
    for child in inline.children if inline else []:
        if child.type in {"softbreak", "hardbreak"}:
            texts.append(text_of(parts, line))
            parts, line, more = [], line + more, 1
        else:
            parts.append(child)
            more += child.content.count("\n") if child.type == "html_inline" else 0
    return [*texts, text_of(parts, line)]


def _bullet(item: SyntaxTreeNode) -> Bullet:
    text = Text("", _line(item))
    children: list[Bullet] = []
    for child in item.children:
        if child.type == "paragraph" and not text.plain:
            inline = inline_of(child)
            text = text_of(list(inline.children) if inline else [], _line(child))
            continue
        found = _below(child)
        if found is not None and not children and _lacks_value(text):
            text = replace(text, below=found, fenced=child.type == "fence")
        if child.type in {"bullet_list", "ordered_list"}:
            children.extend(_bullet(nested) for nested in child.children)
    return Bullet(text, tuple(children))


def _table(node: SyntaxTreeNode, lines: list[str]) -> Table:
    rows = [row for part in node.children for row in part.children]
    header, *body = [
        Row(
            tuple(
                text_of(list(inline.children) if (inline := inline_of(cell)) else [], _line(row))
                for cell in row.children
            ),
            _line(row),
        )
        for row in rows
    ]
    return Table(header.cells, tuple(_as_written(row, lines) for row in body), _line(node))


def _as_written(row: Row, lines: list[str]) -> Row:
    """The row with as many cells as the document has; the parser pads short rows and cuts long ones."""
    cells = escapedSplit(lines[row.line - 1].lstrip("> \t").strip())
    if cells and not cells[0]:
        cells = cells[1:]
    if cells and not cells[-1]:
        cells = cells[:-1]
    missing = tuple(Text(cell.strip(), row.line) for cell in cells[len(row.cells) :])
    return Row(row.cells[: len(cells)] + missing, row.line)
