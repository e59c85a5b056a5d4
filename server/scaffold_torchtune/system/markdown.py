"""Markdown as a tree of sections, bullets, tables and fences, each with its line; parsed by markdown-it-py.

The content of fenced blocks is not parsed, comments and other HTML are dropped, and all texts are plain: emphasis, code
spans and escapes are resolved as Markdown defines them. Struck-out text is dropped from lines; in tables and headings,
it is kept with its marks.
"""

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from scaffold_torchtune.findings import LineError, with_line_feeds

_OF_PATHS = frozenset("/.-")
COLONS = ":：﹕∶꞉"
"""The colon, and characters that keyboards for Chinese and Japanese, and some editors, insert instead of it."""
_AFTER_LABEL = (*COLONS, "=", "–", "—", "→", "- ")
_ASIDE = re.compile(rf"\([^()]*\)\s*(?=[{COLONS}=–—→])")
_LABEL = re.compile(rf"([^{COLONS}=]*)[{COLONS}=]")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ESCAPED = "\ufdd0"  # a noncharacter that replaces a backslash to be kept for `source`
_KEPT_ESCAPES = frozenset("\"'“”‘’„\\")
_CHECKBOX = re.compile(r"^\[[ xX]\]\s+")
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“", "«": "»", "「": "」", "『": "』"}
"""The quotes that open a text, with those that close it."""
OPENS_BEFORE = frozenset("([{<-/–—:")
"""Characters before an opening quote, in addition to spaces."""
_SAME = frozenset("\"'")  # quotes that open and close
_MARKED = ("\0", "\1")  # stand for the marks before and behind struck-out text
_PART = {"softbreak": "\n", "hardbreak": "\n", "code_inline": "x", "html_inline": "x", "image": "x"}
_TAGS = "s|del|strike"
_STRIKE = re.compile(rf"<(?P<close>/?)(?P<name>{_TAGS})>", re.IGNORECASE)
_IN_TAGS = rf"<(?P<tag>{_TAGS})>(?P<inner>[^<>]{{0,500}})</(?P=tag)>"
STRUCK = re.compile(rf"~~[^~]{{1,500}}~~|{_IN_TAGS}", re.IGNORECASE)
"""Struck-out text with its marks."""
_ALL_STRUCK = re.compile(rf"~{{1,2}}(?P<text>[^~]+)~{{1,2}}|{_IN_TAGS}", re.IGNORECASE)


class Labelled(NamedTuple):
    """A label and its value.

    `full` is the value with the text after it: more than `value` if that is a code span. `source` is `full` with the
    marks of emphasis, code and links. `exact`: the value is the content of a fenced block. `last` is the last line of a
    value below its label, else 0.
    """

    label: str
    value: str
    full: str
    source: str
    exact: bool = False
    last: int = 0


@dataclass(frozen=True)
class Text:
    """One inline text. `lead` is its bold, italic or code label, `rest` the text after it.

    `code` is the code span at the start of `rest`, or of `plain` after a label; None if there are several. `source`
    is the text, or `rest`, with the marks of emphasis, code and links; `whole` is the whole text with them.
    `below` is the content directly below a label without a value: a fenced block (`fenced`), a quote, one paragraph or
    one item; it ends in line `below_last`.
    """

    plain: str
    line: int
    lead: str = ""
    rest: str = ""
    code: str | None = None
    source: str = ""
    whole: str = ""
    below: str | None = None
    fenced: bool = False
    below_last: int = 0

    def labelled(self) -> Labelled | None:
        """Return label and value of `**Label:** value`, `**Label**: value`, `Label: value`, `label = value`; else None.

        If a value starts with a code span, only the code span is the value: the text after it is a remark.
        """
        if self.lead:
            label, value, source = self.lead, self.rest, self.source
            if not label.endswith(tuple(COLONS)):
                if aside := _ASIDE.match(value):  # **NAME** (remark): value
                    value, source = value[aside.end() :], source[aside.end() :]
                if not value.startswith(_AFTER_LABEL):
                    return None
                value, source = value[1:], source[1:]
        else:
            match = _LABEL.match(self.plain)
            if not match:
                return None
            label, value = match[1], self.plain[match.end() :]
            source = self.source[match.end() :] if self.source.startswith(match[0]) else value
            if label.startswith("**") and value.startswith("**"):  # **Label:**value, which Markdown does not make bold
                label, value, source = label[2:], value[2:], source.removeprefix("**")
        label = _CHECKBOX.sub("", label.rstrip(COLONS).strip())
        if not label:
            return None
        value, source = value.strip(), source.strip()
        if not value and self.below is not None:
            return Labelled(label, self.below, self.below, self.below, self.fenced, self.below_last)
        return Labelled(label, value if self.code in {None, self.plain} else str(self.code), value, source)


def _inline(block: SyntaxTreeNode) -> list[SyntaxTreeNode]:
    """Return the inline nodes of a block's text."""
    return next((list(child.children) for child in block.children if child.type == "inline"), [])


def _plain(node: SyntaxTreeNode) -> str:
    """Return the text of a node without its marks; comments are empty, breaks are line breaks."""
    is_html = node.type == "html_inline"
    if node.type in {"softbreak", "hardbreak"} or (is_html and _BREAK.fullmatch(node.content)):
        return "\n"
    if is_html and node.content.startswith("<!--"):
        return ""
    if node.children:
        return _joined(node.children)
    return node.content.replace(_ESCAPED, "") if node.type in {"text", "code_inline", "html_inline"} else ""


def _joined(nodes: list[SyntaxTreeNode]) -> str:
    """Return the text of several nodes. Underscores inside a word or path are part of it, not emphasis."""
    texts = [_plain(node) for node in nodes]
    for i, node in enumerate(nodes):
        before = texts[i - 1][-1:] if i else ""
        after = texts[i + 1][:1] if i + 1 < len(nodes) else ""
        if node.markup in {"_", "__"} and (before in _OF_PATHS or after in _OF_PATHS):
            texts[i] = f"{node.markup}{texts[i]}{node.markup}"
    return "".join(texts)


def _source(node: SyntaxTreeNode) -> str:
    """Return the text of a node with the marks of emphasis, code and links; only escapes of quotes are kept."""
    if node.type == "text":
        return node.content.replace(_ESCAPED, "\\")
    inner = "".join(map(_source, node.children)) if node.children else _plain(node)
    if node.type == "link" and node.markup != "autolink":
        return f"[{inner}]({node.attrs.get('href', '')})"
    is_marked = bool(inner) and node.type in {"em", "strong", "code_inline"}
    return f"{node.markup}{inner}{node.markup}" if is_marked else inner


def _sources(parts: list[SyntaxTreeNode]) -> str:
    """Return the source of several nodes; of a single emphasised node, its text."""
    filled = _filled(parts)
    if len(filled) == 1 and filled[0].type in {"em", "strong"}:
        return _plain(filled[0])
    return "".join(map(_source, parts))


def _filled(parts: list[SyntaxTreeNode]) -> list[SyntaxTreeNode]:
    """Return the nodes without those of white space, and without emphasis of text that is struck out."""
    return [part for part in parts if part.type not in {"text", "em", "strong"} or _plain(part).strip()]


def _is_label(part: SyntaxTreeNode, after: list[SyntaxTreeNode]) -> bool:
    """Return whether the first part of a text is its label: bold, or italic or code with a colon in or after it."""
    if part.type == "strong":
        return True
    follows = after[0].content.lstrip() if after and after[0].type == "text" else ""
    has_colon = _plain(part).rstrip().endswith(tuple(COLONS)) or follows.startswith((*COLONS, "="))
    return part.type in {"em", "code_inline"} and has_colon


def _text(parts: list[SyntaxTreeNode], line: int) -> Text:
    """Return the inline text of nodes in `line`."""
    if parts and parts[0].type == "text" and _CHECKBOX.fullmatch(parts[0].content):
        return _text(parts[1:], line)
    plain, written = _joined(parts).strip(), parts
    source, whole = _sources(parts).strip(), "".join(map(_source, parts)).strip()
    parts, lead = _filled(parts), ""
    if parts and _is_label(parts[0], parts[1:]):
        source = _sources(written[written.index(parts[0]) + 1 :]).strip()
        lead, parts = _plain(parts[0]).strip(), parts[1:]
    rest = _joined(parts).strip()
    before_code = parts[0].content.strip() if parts and parts[0].type == "text" else ""
    spans = [i for i, part in enumerate(parts) if part.type == "code_inline"]
    starts = len(spans) == 1 and (spans[0] == 0 or (spans[0] == 1 and before_code.endswith(tuple(COLONS))))
    code = parts[spans[0]].content.strip() if starts else None
    return Text(plain, line, lead, rest, code, source, whole)


MAX_DEPTH = 50
"""Levels of lists, quotes, emphasis and so on, that a document may have. The tree is built by recursion."""

MAX_CHARACTERS = 400_000
"""Characters of a document: the parser takes up to 25 microseconds per character, and more for brackets of links."""

MAX_BRACKETS = 10_000

_LABELLED = re.compile(rf"[^\"'“`{COLONS}=]{{1,60}}[{COLONS}=]")
# Places where Markdown accepts only spaces and tabs: before and after the mark of a bullet, quote or heading, and in
# the line below a table's header. Editors on some keyboards insert other, invisible spaces there.
_OTHER_SPACES = "\u00a0\u2007\u202f"
_SPACE = rf"[ \t{_OTHER_SPACES}]"
_MARKS = re.compile(rf"^{_SPACE}*(?:(?:[-*+>]|#{{1,6}}|[0-9]{{1,9}}[.)]){_SPACE}+)*", re.MULTILINE)
_DELIMITERS = re.compile(rf"^[|: \t{_OTHER_SPACES}-]+$", re.MULTILINE)


class MarkdownError(LineError):
    """The document is nested too deeply or too large to parse in acceptable time. `fix` is the fix."""

    def __init__(self, message: str, line: int | None, fix: str) -> None:
        super().__init__(message, line)
        self.fix = fix


@dataclass(frozen=True)
class Bullet:
    """A list item and the items below it."""

    text: Text
    children: tuple["Bullet", ...] = ()

    def all_children(self) -> Iterator["Bullet"]:
        """Yield every bullet below this one, nested ones after their parents."""
        stack = list(reversed(self.children))
        while stack:
            bullet = stack.pop()
            yield bullet
            stack.extend(reversed(bullet.children))


@dataclass(frozen=True)
class Row:
    """A row of a table. `cells` has as many entries as written; `active` are its cells without struck-out text."""

    cells: tuple[Text, ...]
    line: int
    active: tuple[Text, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table with its header."""

    header: tuple[Text, ...]
    rows: tuple[Row, ...]
    line: int


@dataclass(frozen=True)
class Fence:
    """A block of code, fenced or indented; its content begins below `line`."""

    language: str
    content: str
    line: int


@dataclass
class Section:
    """A heading and its content in order; level 0 is the document itself.

    `struck` are the lines with struck-out text, each complete and without marks; `last` is the kind of its last node.
    """

    title: str
    level: int
    line: int
    bullets: list[Bullet] = field(default_factory=list)
    paragraphs: list[Text] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)
    sections: list["Section"] = field(default_factory=list)
    struck: list[Text] = field(default_factory=list)
    last: str = ""

    def walk(self) -> Iterator["Section"]:
        """Yield this section and all sections below it, in document order."""
        yield self
        for section in self.sections:
            yield from section.walk()

    def all_bullets(self) -> Iterator[Bullet]:
        """Yield every bullet of this section itself, nested ones after their parents."""
        for bullet in self.bullets:
            yield bullet
            yield from bullet.all_children()


@functools.lru_cache(maxsize=4)  # the documents of an experiment, which each step reads
def read(text: str) -> Section:
    """Read a Markdown document into its tree of sections, which is shared and must not be changed.

    Raises:
        MarkdownError: it is nested deeper than `MAX_DEPTH` levels, or is too large.
    """
    _check_size(text)
    text = with_line_feeds(text).replace(_ESCAPED, "\ufffd")
    for where in (_MARKS, _DELIMITERS):
        text = where.sub(lambda found: re.sub(f"[{_OTHER_SPACES}]", " ", found[0]), text)
    lines = text.split("\n")
    tokens = _parser().parse(text)
    _check_depth(tokens)
    root = Section("", 0, 1)
    path = [root]
    for node in SyntaxTreeNode(tokens).children:
        if node.type == "heading":
            level = int(node.tag[1])
            path = [s for s in path if s.level < level]
            section = Section(_joined(_inline(node)), level, _line(node))
            path[-1].sections.append(section)
            path.append(section)
        else:
            _add(path[-1], node, lines)
    return root


@functools.cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": 2 * MAX_DEPTH}).enable(["table", "strikethrough"])
    parser.core.ruler.before("text_join", "keep_escapes", _keep_escapes)
    parser.core.ruler.before("text_join", "drop_struck", _drop_struck)
    return parser


def _keep_escapes(state: StateCore) -> None:
    """Mark escaped quotes and backslashes before the parser joins them to other text."""
    for token in (child for block in state.tokens for child in block.children or ()):
        if token.type == "text_special" and token.info == "escape" and token.content in _KEPT_ESCAPES:
            token.content = _ESCAPED + token.content


def _drop_struck(state: StateCore) -> None:
    """Drop struck-out text from lines; elsewhere, keep it with its marks. Its lines are in the token's `meta`."""
    above = ""
    for token in state.tokens:
        children = token.children or []
        if token.type == "inline" and any(map(_strike, children)):
            if state.inlineMode or above == "paragraph_open":
                token.meta["struck"] = _struck_lines(children)
            for child in children:
                if child.type in {"s_open", "s_close"} and not token.meta:
                    _become_text(child, child.markup)
        above = token.type


def _strike(token: Token) -> tuple[str, bool] | None:
    """Return the name of the mark that begins or ends struck-out text, and whether it ends it."""
    if token.type in {"s_open", "s_close"}:
        return token.markup, token.type == "s_close"
    found = _STRIKE.fullmatch(token.content) if token.type == "html_inline" else None
    return (found["name"].lower(), bool(found["close"])) if found else None


def struck_text(text: str) -> str | None:
    """Return a text without its marks if it is struck out as a whole, also by single tildes; else None."""
    match = _ALL_STRUCK.fullmatch(text.strip())
    return None if match is None else (match["text"] or match["inner"]).strip()


def _become_text(token: Token, content: str) -> None:
    token.type, token.content, token.nesting, token.children = "text", content, 0, None


def _struck_lines(children: list[Token]) -> dict[int, str]:
    """Empty the tokens that are struck out; return their lines with that text, by number from 0.

    Marks inside quotes belong to a quoted text.
    """
    is_quoted, spans = _in_quotes(children), list[tuple[int, int]]()
    for start, end in _pairs(children):
        for token in (children[start], children[end]):
            if token.type in {"s_open", "s_close"}:
                _become_text(token, token.markup if is_quoted[start] else "")
        if not is_quoted[start]:
            spans.append((start, end))
    return _erase(children, spans)


def _pairs(children: list[Token]) -> list[tuple[int, int]]:
    """Return the positions of the marks that begin and end each struck-out text."""
    found: list[tuple[int, int]] = []
    opened: dict[str, list[int]] = {}
    for i, token in enumerate(children):
        name, ends = _strike(token) or ("", False)
        if name and not ends:
            opened.setdefault(name, []).append(i)
        elif opened.get(name):
            found.append((opened[name].pop(), i))
    return found


def _in_quotes(children: list[Token]) -> list[bool]:
    """Return, for each token, whether it begins inside quotes: on one line, or of the whole value after a label."""
    marks = [_strike(token) for token in children]
    parts = [_MARKED[mark[1]] if mark else _PART.get(token.type) for token, mark in zip(children, marks, strict=True)]
    texts = [token.content if part is None else part for token, part in zip(children, parts, strict=True)]
    text = "".join(texts)
    changes = Counter[int]()
    for start, end in _quotations(text):
        changes[start] += 1
        changes[end] -= 1
    depths = list(itertools.accumulate(changes[i] for i in range(len(text) + 1)))
    return [depths[end - len(one)] > 0 for one, end in zip(texts, itertools.accumulate(map(len, texts)), strict=True)]


def _quotations(text: str) -> Iterator[tuple[int, int]]:
    """Yield the positions of quotes and of the quotes that close them."""
    label = _LABEL.match(text)
    starts = {len(text) - len(text[at:].lstrip()) for at in (0, label.end() if label else 0)}
    whole = text.rstrip()
    end = len(whole[: whole.rfind("(")].rstrip() if whole.endswith(")") else whole)
    opened: dict[str, list[int]] = {}
    line, last = 0, -2  # the beginning of the line, and the last quote that opened
    for i, here in enumerate(text):
        before, after = text[i - 1 : i], text[i + 1 : i + 2]
        if here == "\n":
            opened = {close: [at for at in found if at in starts] for close, found in opened.items()}
            line = i + 1
        elif before == _ESCAPED or (here in "'’" and before.isalnum() and after.isalnum()):
            continue
        if i in starts or here not in _SAME:
            may_open = not opened.get(here)  # “ also closes „
        else:
            follows = last == i - 1 or not before.strip() or before in OPENS_BEFORE or before == _MARKED[0]
            may_open = follows and bool(after.strip())
        if may_open and here in QUOTES:
            opened.setdefault(QUOTES[here], []).append(i)
            last = i
        elif opened.get(here) and (opened[here][-1] >= line or i + 1 == end):
            yield opened[here].pop(), i


def _erase(children: list[Token], spans: Iterable[tuple[int, int]]) -> dict[int, str]:
    """Empty the tokens of some spans; return the lines that they touch as they were, by number from 0."""
    changes = Counter[int]()
    for start, end in spans:
        changes[start] += 1
        changes[end + 1] -= 1
    lines, touched, depth, before = [""], set[int](), 0, " "
    for i, token in enumerate(children):
        depth += changes[i]
        if token.type in {"softbreak", "hardbreak"}:
            lines.append("")
            before = " "
            continue
        lines[-1] += "" if _strike(token) else token.content
        if depth:
            touched.add(len(lines) - 1)
            if not token.nesting:
                _become_text(token, "")
        elif token.content:
            token.content = token.content.lstrip(" ") if before.endswith(" ") and touched else token.content
            before = token.content or before
    return {number: lines[number].replace(_ESCAPED, "").strip() for number in touched}


def _check_size(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        fix = "split the experiment into several, or remove text that does not describe its runs"
        raise MarkdownError(f"the document has {len(text)} characters, more than {MAX_CHARACTERS}", None, fix)
    if text.count("[") > MAX_BRACKETS:  # for each, the parser searches the following text for the end of a link
        line = text.count("\n", 0, text.index("[")) + 1
        raise MarkdownError(f"the document has more than {MAX_BRACKETS} opening square brackets", line, "remove links")


def _check_depth(tokens: Iterable[Token]) -> None:
    line = 1
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        if max([token.level, *(child.level for child in token.children or ())]) > MAX_DEPTH:
            fix = "reduce the nesting of lists, block quotes or emphasis"
            message = f"its lists, block quotes or emphasis are nested more than {MAX_DEPTH} levels deep"
            raise MarkdownError(message, line, fix)


def _add(section: Section, node: SyntaxTreeNode, lines: list[str]) -> None:
    found = None if node.type == "paragraph" else _below(node)
    if found is not None and section.last == "paragraph" and _lacks_value(section.paragraphs[-1]):
        section.paragraphs[-1] = _with_below(section.paragraphs[-1], found, node)
    if found is not None and section.last == "bullet_list" and node.type in {"fence", "blockquote"}:
        section.bullets[-1] = _completed(section.bullets[-1], found, node)
    section.last = node.type
    for inline in (each for each in node.walk() if each.type == "inline") if node.type != "blockquote" else ():
        struck = inline.meta.get("struck", {}).items()
        section.struck += [Text(text, _line(inline) + number) for number, text in struck]
    if node.type in {"bullet_list", "ordered_list"}:
        section.bullets.extend(_bullet(item) for item in node.children)
    elif node.type == "paragraph":
        section.paragraphs.extend(_texts(node))
    elif node.type == "table":
        section.tables.append(_table(node, lines))
        for row in section.tables[-1].rows:
            if row.active != row.cells:
                section.struck.append(Text(": ".join(cell.plain.replace("~~", "") for cell in row.cells), row.line))
    elif node.type in {"fence", "code_block"}:
        is_fenced = node.type == "fence"
        line = _line(node) if is_fenced else _line(node) - 1
        section.fences.append(Fence(node.info.strip() if is_fenced else "", node.content, line))
    elif node.type == "blockquote":
        for child in node.children:
            _add(section, child, lines)


def _below(node: SyntaxTreeNode) -> str | None:
    """Return the content of a block below a label: the text of a fence, quote, paragraph or list of one item."""
    if node.type == "fence":
        return str(node.content).removesuffix("\n")
    if node.type in {"blockquote", "bullet_list", "list_item"}:
        found = _below(node.children[0]) if len(node.children) == 1 else None
        # a single item with a label is a setting, not the value of the label above it
        return None if found is not None and node.type == "bullet_list" and _LABELLED.match(found) else found
    return "".join(map(_source, _inline(node))).strip() if node.type == "paragraph" else None


def _with_below(text: Text, found: str, node: SyntaxTreeNode) -> Text:
    last = node
    while last.type in {"blockquote", "bullet_list", "list_item"}:  # a list ends after the blank lines below it
        last = last.children[0]
    return replace(text, below=found, fenced=node.type == "fence", below_last=last.map[1] if last.map else 0)


def _completed(bullet: Bullet, found: str, node: SyntaxTreeNode) -> Bullet:
    """Return a bullet with a block that follows its list: the value of its last label, if that has none."""
    if bullet.children:
        return replace(bullet, children=(*bullet.children[:-1], _completed(bullet.children[-1], found, node)))
    return Bullet(_with_below(bullet.text, found, node)) if _lacks_value(bullet.text) else bullet


def _lacks_value(text: Text) -> bool:
    pair = text.labelled()
    return pair is not None and not pair.full and text.below is None


def _line(node: SyntaxTreeNode) -> int:
    return node.map[0] + 1 if node.map else 1


def _texts(paragraph: SyntaxTreeNode) -> list[Text]:
    """Return a paragraph's text, line by line."""
    texts: list[Text] = []
    parts: list[SyntaxTreeNode] = []
    line, more = _line(paragraph), 1
    for child in _inline(paragraph):
        if child.type in {"softbreak", "hardbreak"}:
            texts.append(_text(parts, line))
            parts, line, more = [], line + more, 1
        else:
            parts.append(child)
            more += child.content.count("\n") if child.type == "html_inline" else 0
    return [*texts, _text(parts, line)]


def _bullet(item: SyntaxTreeNode) -> Bullet:
    text = Text("", _line(item))
    children: list[Bullet] = []
    for child in item.children:
        if child.type == "paragraph" and not text.plain:
            text = _text(_inline(child), _line(child))
            continue
        found = _below(child)
        if found is not None and not children and _lacks_value(text):
            text = _with_below(text, found, child)
        if child.type in {"bullet_list", "ordered_list"}:
            children.extend(_bullet(nested) for nested in child.children)
    return Bullet(text, tuple(children))


def _table(node: SyntaxTreeNode, lines: list[str]) -> Table:
    header, *body = [_row(row, _line(row)) for part in node.children for row in part.children]
    return Table(header.cells, tuple(_as_written(row, lines) for row in body), _line(node))


def _row(node: SyntaxTreeNode, line: int) -> Row:
    cells = tuple(_text(_inline(cell), line) for cell in node.children)
    active = (
        _text(_active(cell), line) if "~~" in text.plain else text
        for cell, text in zip(node.children, cells, strict=True)
    )
    return Row(cells, line, tuple(active))


def _active(cell: SyntaxTreeNode) -> list[SyntaxTreeNode]:
    """Return the nodes of a cell without struck-out text."""
    return _inline(SyntaxTreeNode(_parser().parseInline("".join(child.content for child in cell.children))))


def _as_written(row: Row, lines: list[str]) -> Row:
    """Return the row with as many cells as the document has; the parser pads short rows and cuts long ones."""
    cells = escapedSplit(lines[row.line - 1].lstrip("> \t").strip())
    if cells and not cells[0]:
        cells = cells[1:]
    if cells and not cells[-1]:
        cells = cells[:-1]
    missing = tuple(Text(cell.strip(), row.line) for cell in cells[len(row.cells) :])
    return Row(row.cells[: len(cells)] + missing, row.line, row.active[: len(cells)] + missing)


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table with padded columns. Cells are Markdown."""
    lines = [header, *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]
    cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    texts = [f"| {' | '.join(line)} |" for line in cells]
    return [texts[0], rule, *texts[1:]]
