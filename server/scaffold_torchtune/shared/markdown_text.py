"""The texts of a Markdown document: label and value, emphasis and code spans, and the marks that make them."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from markdown_it.tree import SyntaxTreeNode

_OF_PATHS = frozenset("/.-")
_AFTER_LABEL = (":", "=", "–", "—", "→", "- ")
_ASIDE = re.compile(r"\([^()]*\)\s*(?=[:=–—→])")
_LABEL = re.compile(r"([^:=]*)(?::|=)")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_CHECKBOX = re.compile(r"^\[[ xX]\]\s+")


class Labelled(NamedTuple):
    """A label and its value.

    `full` is the value with what follows it: more than `value` where that is a code span. `source` is `full` with the
    marks of emphasis, code and links left in. `exact` says that the value is the content of a fenced block.
    """

    label: str
    value: str
    full: str
    source: str
    exact: bool = False


@dataclass(frozen=True)
class Text:
    """One inline text. `lead` is the bold, italic or code label that it starts with, `rest` what follows it.

    `code` is the code span that `rest`, or `plain` after a label, starts with; None where there are several. `source`
    is the text, or `rest`, with the marks of emphasis, code and links left in; `whole` is all of the text with them.
    `below` is what stands directly below a label without a value: a fenced block (`fenced`), a quote, one paragraph or
    one item.
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

    def labelled(self) -> Labelled | None:
        """Label and value of `**Label:** value`, `**Label**: value`, `Label: value`, `label = value`; None else.

        A value that starts with a code span is that span's content: what follows it is a remark.
        """
        if self.lead:
            label, value, source = self.lead, self.rest, self.source
            if not label.endswith(":"):
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
        label = _CHECKBOX.sub("", label.rstrip(":").strip())
        value, source = value.strip(), source.strip()
        if not value and self.below is not None:
            return Labelled(label, self.below, self.below, self.below, self.fenced)
        return Labelled(label, value if self.code in {None, self.plain} else str(self.code), value, source)


def inline_of(node: SyntaxTreeNode) -> SyntaxTreeNode | None:
    """The node that holds the text of a block, if it has one."""
    return next((child for child in node.children if child.type == "inline"), None)


def plain_of(node: SyntaxTreeNode | None) -> str:
    """The text of a node without its marks; comments are nothing, breaks are line breaks."""
    if node is None:
        return ""
    if node.type in {"softbreak", "hardbreak"}:
        return "\n"
    if node.type == "html_inline" and node.content.startswith("<!--"):
        return ""
    if node.type == "html_inline" and _BREAK.fullmatch(node.content):
        return "\n"
    if node.children:
        return joined(node.children)
    return node.content if node.type in {"text", "code_inline", "html_inline"} else ""


def joined(nodes: list[SyntaxTreeNode]) -> str:
    """The text of several nodes. Underscores that stand in a word or path are part of it, not emphasis."""
    texts = [plain_of(node) for node in nodes]
    for i, node in enumerate(nodes):
        before = texts[i - 1][-1:] if i else ""
        after = texts[i + 1][:1] if i + 1 < len(nodes) else ""
        if node.markup in {"_", "__"} and (before in _OF_PATHS or after in _OF_PATHS):
            texts[i] = f"{node.markup}{texts[i]}{node.markup}"
    return "".join(texts)


def source_of(node: SyntaxTreeNode | None) -> str:
    """The text of a node with the marks of emphasis, code and links; escapes are resolved."""
    if node is None:
        return ""
    inner = "".join(map(source_of, node.children)) if node.children else plain_of(node)
    if node.type == "link" and node.markup != "autolink":
        return f"[{inner}]({node.attrs.get('href', '')})"
    return f"{node.markup}{inner}{node.markup}" if node.type in {"em", "strong", "code_inline"} else inner


def _sources(parts: list[SyntaxTreeNode]) -> str:
    """The source of several nodes; of one that is emphasised as a whole, its text."""
    said = [part for part in parts if part.type != "text" or part.content.strip()]
    if len(said) == 1 and said[0].type in {"em", "strong"}:
        return plain_of(said[0])
    return "".join(map(source_of, parts))


def _is_label(part: SyntaxTreeNode, after: list[SyntaxTreeNode]) -> bool:
    """Whether a text's first part is its label: bold; or italic or code that ends with a colon or has one after it."""
    if part.type == "strong":
        return True
    follows = after[0].content.lstrip() if after and after[0].type == "text" else ""
    return part.type in {"em", "code_inline"} and (
        plain_of(part).rstrip().endswith(":") or follows.startswith((":", "="))
    )


def text_of(parts: list[SyntaxTreeNode], line: int) -> Text:
    """The text that inline nodes make, which stand in `line`."""
    if parts and parts[0].type == "text" and _CHECKBOX.fullmatch(parts[0].content):
        return text_of(parts[1:], line)
    plain, written = joined(parts).strip(), parts
    source, whole = _sources(parts).strip(), "".join(map(source_of, parts)).strip()
    parts = [part for part in parts if part.type != "text" or part.content.strip()]
    lead = ""
    if parts and _is_label(parts[0], parts[1:]):
        source = _sources(written[written.index(parts[0]) + 1 :]).strip()
        lead, parts = plain_of(parts[0]).strip(), parts[1:]
    rest = joined(parts).strip()
    before_code = parts[0].content.strip() if parts and parts[0].type == "text" else ""
    spans = [i for i, part in enumerate(parts) if part.type == "code_inline"]
    starts = len(spans) == 1 and (spans[0] == 0 or (spans[0] == 1 and before_code.endswith(":")))
    code = parts[spans[0]].content.strip() if starts else None
    return Text(plain, line, lead, rest, code, source, whole)
