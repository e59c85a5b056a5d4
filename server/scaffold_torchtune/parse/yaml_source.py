"""A YAML summary with the place of everything in it, and single values as they are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaffold_torchtune.parse.drafts import Field, SummaryDraft
from scaffold_torchtune.settings.parameters import by_label
from scaffold_torchtune.system.text import escape, shown
from scaffold_torchtune.system.yamlio import KeyPath, YamlDocument

# A YAML summary as it is read: its data, with the place of everything in the document.
#
# What is refused for its shape or its key is put where it was meant to be, so that the rest of the document is read on
# as
# it would be once that is mended, and one answer names every problem without naming what follows from another.


@dataclass
class Source:
    """The document, and what was put elsewhere (`moved`: where it is now, to where it stands in the document).

    `told` are the places whose problem was named; `unread` are the sections of which nobody knows what they hold.
    """

    document: YamlDocument
    data: dict[str, Any]
    draft: SummaryDraft
    moved: dict[KeyPath, KeyPath] = field(default_factory=dict)
    told: set[KeyPath] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)

    def place(self, path: KeyPath) -> KeyPath:
        """Where the document has what is at a path now."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.moved:
                return (*self.moved[path[:end]], *path[end:])
        return path

    def name(self, path: KeyPath) -> str:
        """A place as messages name it."""
        return escape(".".join(map(str, self.place(path))))

    def line(self, path: KeyPath) -> int:
        """The line of a place."""
        return self.document.line(self.place(path)) or 1

    def plain(self, path: KeyPath) -> str | None:
        """An unquoted scalar as it is written."""
        return self.document.plain.get(self.place(path))

    def at(self, path: KeyPath) -> Any:
        """What lies at a path, or None."""
        found: Any = self.data
        for part in path:
            if isinstance(found, list) and isinstance(part, int):
                found = found[part]
            else:
                found = found.get(part) if isinstance(found, dict) else None
        return found

    def mapping(self, path: KeyPath) -> Mapping[str, Any]:
        """The mapping at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, dict) else {}

    def items(self, path: KeyPath) -> list[Any]:
        """The list at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, list) else []

    def has(self, path: KeyPath) -> bool:
        """Whether a key stands there, be it with null."""
        return path[-1] in self.mapping(path[:-1])

    def put(self, path: KeyPath, value: Any, place: KeyPath) -> None:
        """Put a value at a path; `place` is where the document has it."""
        self.moved[path] = place
        parent = self.at(path[:-1])
        parent[path[-1]] = value

    def move(self, old: KeyPath, new: KeyPath) -> None:
        """Read what is at `old` as if it were at `new`, unless something is there already."""
        above = self.at(new[:-1])
        if isinstance(above, dict) and new[-1] not in above:
            value, place = self.at(old), self.place(old)
            del self.at(old[:-1])[old[-1]]
            self.put(new, value, place)

    def problem(self, code: str, message: str, path: KeyPath, fix: str, field_name: str | None = None) -> None:
        """Note a problem at a path; its field is its name, unless another is given."""
        self.draft.problem(code, message, self.line(path), fix, field_name or self.name(path))

    def text(self, path: KeyPath, *, exact: bool) -> Field:
        """The scalar at a path as it is written."""
        value = self.at(path)
        written = value if isinstance(value, str) else self.plain(path)
        return Field(str(value) if written is None else written, self.line(path), self.name(path), exact=exact)

    def sections(self) -> dict[str, int]:
        """The line of every key and item by its name."""
        lines = {".".join(map(str, path)): line for path, line in self.document.lines.items()}
        return lines | {".".join(map(str, path)): self.line(path) for path in self.moved}


# Takes single values of a YAML summary as they are written; they are typed later, by their parameter.

_TEXT_KINDS = frozenset(
    {"text", "name", "label", "path", "pattern_free_path", "memory", "constraint", "folder", "extension", "recipe"}
)


def field_at(source: Source, path: KeyPath, by_key: str | None = None) -> Field | None:
    """The scalar at a path as it is written; None where there is none or it is null.

    `by_key` is the parameter that it is of: text that YAML reads as something else is refused there.
    """
    value = source.at(path)
    if value is None:
        return None
    if isinstance(value, dict | list):
        if by_key is not None:
            _not_single(source, path, value, by_key)
            source.told.add(path)
        return None
    parameter = by_label(by_key) if by_key else None
    wants_text = by_key in {None, "name", "type"} or (parameter is not None and parameter.kind in _TEXT_KINDS)
    if by_key and wants_text and not isinstance(value, str):
        plain = source.plain(path) or str(value)
        message = f"{source.name(path)} is {plain}, which YAML reads as {shown(value)}, not as text"
        source.problem("invalid-value", message, path, f'write "{plain}" in quotes', by_key)
        source.told.add(path)
        return None
    return source.text(path, exact=isinstance(value, str) and wants_text)


def _not_single(source: Source, path: KeyPath, value: dict[str, Any] | list[Any], key: str) -> None:
    """Note a mapping or a list where one value belongs."""
    items = value if isinstance(value, list) else []
    choices = [escape(str(item)) for item in items if isinstance(item, str | int | float)]
    name = source.name(path)
    if len(choices) != len(items) or len(choices) <= 1:
        what = "a list" if isinstance(value, list) else "a mapping"
        source.problem("invalid-value", f"{name} is {what}, not a single value", path, "give it one value", key)
        return
    of_run = "a run has one value, so give each a run of its own"
    elsewhere = of_run if path[0] == "runs" else _where_it_differs(key)
    fix = f"keep one of them: {' or '.join(choices)}{elsewhere and '; '}{elsewhere}"
    source.problem("ambiguous", f"{name} gives {len(choices)} values: {', '.join(choices)}", path, fix, key)


def _where_it_differs(key: str) -> str:
    parameter = by_label(key)
    by_run = parameter is not None and parameter.column
    return "where it differs by run, write it in each run's parameters" if by_run else ""
