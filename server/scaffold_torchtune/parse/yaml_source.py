"""A YAML summary with the place of everything in it, and single values as they are written.

What is refused for its shape or its key is put where it was meant to be, so that the rest of the document is read on as
it would be once that is mended, and one answer names every problem without naming what follows from another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaffold_torchtune.parse.drafts import SourceText, SummaryDraft
from scaffold_torchtune.settings.kinds import LISTS
from scaffold_torchtune.settings.parameters import by_label
from scaffold_torchtune.system.text import escape, shown
from scaffold_torchtune.system.yamlio import KeyPath, YamlDocument


@dataclass
class YamlSource:
    """The document, and what was put elsewhere (`moved`: where it is now, to where it stands in the document).

    `reported` are the places whose problem was named; `unread` are the sections of which nobody knows what they hold.
    """

    document: YamlDocument
    data: dict[str, Any]
    draft: SummaryDraft
    moved: dict[KeyPath, KeyPath] = field(default_factory=dict)
    reported: set[KeyPath] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)

    def origin(self, path: KeyPath) -> KeyPath:
        """Return where the document has what is at a path now."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.moved:
                return (*self.moved[path[:end]], *path[end:])
        return path

    def name(self, path: KeyPath) -> str:
        """Return a place as messages name it."""
        return escape(".".join(map(str, self.origin(path))))

    def line(self, path: KeyPath) -> int:
        """Return the line of a place."""
        return self.document.line(self.origin(path)) or 1

    def plain(self, path: KeyPath) -> str | None:
        """Return an unquoted scalar as it is written."""
        return self.document.plain.get(self.origin(path))

    def at(self, path: KeyPath) -> Any:
        """Return what lies at a path, or None."""
        found: Any = self.data
        for part in path:
            if isinstance(found, list) and isinstance(part, int):
                found = found[part]
            else:
                found = found.get(part) if isinstance(found, dict) else None
        return found

    def mapping(self, path: KeyPath) -> Mapping[str, Any]:
        """Return the mapping at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, dict) else {}

    def items(self, path: KeyPath) -> list[Any]:
        """Return the list at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, list) else []

    def has(self, path: KeyPath) -> bool:
        """Return whether a key stands there, be it with null."""
        return path[-1] in self.mapping(path[:-1])

    def put(self, path: KeyPath, value: Any, origin: KeyPath) -> None:
        """Put a value at a path; `origin` is where the document has it."""
        self.moved[path] = origin
        self.at(path[:-1])[path[-1]] = value

    def move(self, old: KeyPath, new: KeyPath) -> None:
        """Read what is at `old` as if it were at `new`, unless something is there already."""
        above = self.at(new[:-1])
        if isinstance(above, dict) and new[-1] not in above:
            value, origin = self.at(old), self.origin(old)
            del self.at(old[:-1])[old[-1]]
            self.put(new, value, origin)

    def described(self, path: KeyPath) -> str:
        """Return what stands at a path, as messages say it."""
        value, plain = self.at(path), self.plain(path)
        if isinstance(value, dict | list):
            return "a list" if isinstance(value, list) else "a mapping"
        if value is None:
            return "empty"
        return shown(value) if isinstance(value, str) or plain is None else escape(plain)

    def sections(self) -> dict[str, int]:
        """Return the line of every key and item by its name."""
        lines = {".".join(map(str, path)): line for path, line in self.document.lines.items()}
        return lines | {".".join(map(str, path)): self.line(path) for path in self.moved}


_TEXT_KINDS = frozenset(
    {"text", "name", "label", "path", "pattern_free_path", "memory", "constraint", "folder", "extension", "recipe"}
)


def field_at(source: YamlSource, path: KeyPath, by_key: str | None = None) -> SourceText | None:
    """Return the scalar at a path as it is written; None where there is none or it is null.

    `by_key` is the parameter that it is of: text that YAML reads as something else is refused there.
    """
    value = source.at(path)
    if value is None:
        return None
    if isinstance(value, list) and (joined := _joined(source, path, value, by_key)):
        return SourceText(joined, source.line(path), source.name(path))
    if isinstance(value, dict | list):
        if by_key is not None:
            _not_single(source, path, value, by_key)
        return None
    parameter, plain, name, line = by_label(by_key or ""), source.plain(path), source.name(path), source.line(path)
    wants_text = by_key in {None, "name", "type"} or (parameter is not None and parameter.kind in _TEXT_KINDS)
    if isinstance(value, str):
        return SourceText(value, line, name, exact=wants_text)
    plain = plain or str(value)
    if by_key and wants_text:
        message = f"{name} is {plain}, which YAML reads as {shown(value)}, not as text"
        source.draft.add("invalid-value", message, field=by_key, line=line, fix=f'write "{plain}" in quotes')
        source.reported.add(path)
        return None
    return SourceText(plain, line, name)


def _joined(source: YamlSource, path: KeyPath, items: list[Any], key: str | None) -> str:
    """Return a list of texts by commas, where the parameter is one that YAML may give as a list; else nothing."""
    parameter = by_label(key or "")
    is_list = parameter is not None and parameter.kind in LISTS and all(isinstance(item, str | int) for item in items)
    return ",".join(source.plain((*path, i)) or str(item) for i, item in enumerate(items)) if is_list else ""


def _not_single(source: YamlSource, path: KeyPath, value: dict[str, Any] | list[Any], key: str) -> None:
    """Note a mapping or a list where one value belongs."""
    items = value if isinstance(value, list) else []
    choices = [escape(str(item)) for item in items if isinstance(item, str | int | float)]
    name, parameter = source.name(path), by_label(key)
    if len(choices) != len(items) or len(choices) <= 1:
        code, message = "invalid-value", f"{name} is {source.described(path)}, not a single value"
        fix = "give it one value"
    else:
        code, message = "ambiguous", f"{name} gives {len(choices)} values: {', '.join(choices)}"
        fix = f"keep one of them: {' or '.join(choices)}"
        if path[0] == "runs":
            fix += "; a run has one value, so give each a run of its own"
        elif parameter is not None and parameter.column:
            fix += "; where it differs by run, write it in each run's parameters"
    source.draft.add(code, message, field=key or name, line=source.line(path), fix=fix)
    source.reported.add(path)
