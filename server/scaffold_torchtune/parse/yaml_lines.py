"""A value put into a YAML document as a person would write it: the rest of the text stays as it is.

Only places are taken from the parser; what is written there is text. So comments, quotes and the style of what stands
around it are kept.
"""

import re
from collections.abc import Sequence

import yaml

from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.yamlio import KeyPath

_BREAKS = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")


class _Text:
    """A text with the places of its nodes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(found.end() for found in _BREAKS.finditer(text))]
        self.root = yamlio.compose(text)

    def index(self, mark: yaml.Mark) -> int:
        return min(self.starts[min(mark.line, len(self.starts) - 1)] + mark.column, len(self.text))

    def start(self, node: yaml.Node) -> int:
        return self.index(node.start_mark)

    def end(self, node: yaml.Node) -> int:
        """Return where a node ends: a block one with the last of what it holds, as the parser looks further."""
        start, end = self.start(node), self.index(node.end_mark)
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            last = node.value[-1] if node.value else None
            return start if last is None else self.end(last[1] if isinstance(last, tuple) else last)
        return max(start, start + len(self.text[start:end].rstrip()))

    def line_start(self, at: int) -> int:
        return max(start for start in self.starts if start <= at)


def put(text: str, existing: Sequence[KeyPath], missing: KeyPath, value: str) -> str:
    """Return a document with a value, which is written as YAML.

    Args:
        text: the document.
        existing: the places that have a value; each gets this one.
        missing: where it goes if there is none. A last part that is empty is an item to add to a list.
        value: the value.
    """
    document = _Text(text)
    found = [pair for path in existing if (pair := _pair(document.root, path)) is not None]
    if not found:
        return _added(document, missing, value)
    for key, node in sorted(found, key=lambda pair: document.start(pair[1]), reverse=True):
        text = _replaced(document, text, key, node, value)
    return text


def _pair(root: yaml.Node | None, path: KeyPath) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Return the key and the value at a path, or None."""
    key, node = None, root
    for part in path:
        if isinstance(node, yaml.MappingNode):
            key, node = next(((k, v) for k, v in node.value if k.value == part), (None, None))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            key, node = None, node.value[part]
        else:
            return None
    return None if node is None else (key, node)


def _replaced(document: _Text, text: str, key: yaml.Node | None, node: yaml.Node, value: str) -> str:
    """Return the text with another value in the place of a node; a value of several lines begins beside its key."""
    start, end = document.start(node), document.end(node)
    if key is not None and (start == end or document.line_start(start) > document.line_start(document.start(key))):
        start = text.index(":", document.end(key)) + 1
        end, value = max(start, end), f" {value}"
    return text[:start] + value + text[end:]


def _added(document: _Text, path: KeyPath, value: str) -> str:
    """Return the text with an entry that it lacks, in the innermost part of its place that is there."""
    there, depth = document.root, 0
    key: yaml.Node | None = None
    for depth in range(len(path)):
        pair = _pair(document.root, path[: depth + 1])
        if pair is None or path[depth] == "":
            break
        key, there = pair
    rest = path[depth:]
    if there is None or (depth == 0 and not isinstance(there, yaml.MappingNode)):
        return f"{document.text}{_line_break(document.text)}{_entry(path, value)}\n"
    if not isinstance(there, yaml.CollectionNode) or (isinstance(there, yaml.SequenceNode) is not (rest[0] == "")):
        return _replaced(document, document.text, key, there, _flow(rest, value))
    return _beside(document, key, there, _entry(rest, value))


def _line_break(text: str) -> str:
    return "" if not text or text.endswith("\n") else "\n"


def _flow(path: KeyPath, value: str) -> str:
    """Return a value within the mappings, or the list, that lead to it: `{training: {path: x}}`."""
    for part in reversed(path):
        value = f"[{value}]" if part == "" else f"{{{part}: {value}}}"
    return value


def _entry(path: KeyPath, value: str) -> str:
    """Return an entry of a mapping, or an item of a list: `training: {path: x}`, `- x`."""
    inner = _flow(path[1:], value)
    return f"- {inner}" if path[0] == "" else f"{path[0]}: {inner}"


def _beside(document: _Text, key: yaml.Node | None, there: yaml.CollectionNode, entry: str) -> str:
    """Return the text with an entry as the first of a mapping or list, in its style; at the top as the last."""
    text, start = document.text, document.start(there)
    if there.flow_style:
        more = ", " if there.value else ""
        return f"{text[: start + 1]}{entry.removeprefix('- ')}{more}{text[start + 1 :]}"
    column = there.start_mark.column
    is_whole = key is None and isinstance(there, yaml.MappingNode) and column == 0
    if is_whole and not re.search(r"^\.\.\.", text, re.MULTILINE):
        return f"{text}{_line_break(text)}{entry}\n"
    at = document.line_start(start)
    if text[at:start].strip():  # behind the dash of an item: below its first entry
        first = there.value[0]
        at = text.find("\n", document.end(first[1] if isinstance(first, tuple) else first)) + 1
        if at == 0:
            return f"{text}\n{' ' * column}{entry}\n"
    elif key is not None:
        at = text.index("\n", document.end(key)) + 1
    return f"{text[:at]}{' ' * column}{entry}\n{text[at:]}"
