"""A YAML summary as it is read: its data, with the place of everything in the document.

What is refused for its shape or its key is put where it was meant to be, so that the rest of the document is read on as
it would be once that is mended, and one answer names every problem without naming what follows from another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.shared.text import escape
from scaffold_torchtune.shared.yamlio import Path, YamlDocument


@dataclass
class Source:
    """The document, and what was put elsewhere (`moved`: where it is now, to where it stands in the document).

    `told` are the places whose problem was named; `unread` are the sections of which nobody knows what they hold.
    """

    document: YamlDocument
    data: dict[str, Any]
    draft: SummaryDraft
    moved: dict[Path, Path] = field(default_factory=dict)
    told: set[Path] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)

    def place(self, path: Path) -> Path:
        """Where the document has what is at a path now."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.moved:
                return (*self.moved[path[:end]], *path[end:])
        return path

    def name(self, path: Path) -> str:
        """A place as messages name it."""
        return escape(".".join(map(str, self.place(path))))

    def line(self, path: Path) -> int:
        """The line of a place."""
        return self.document.line(self.place(path)) or 1

    def plain(self, path: Path) -> str | None:
        """An unquoted scalar as it is written."""
        return self.document.plain.get(self.place(path))

    def at(self, path: Path) -> Any:
        """What lies at a path, or None."""
        found: Any = self.data
        for part in path:
            if isinstance(found, list) and isinstance(part, int):
                found = found[part]
            else:
                found = found.get(part) if isinstance(found, dict) else None
        return found

    def mapping(self, path: Path) -> Mapping[str, Any]:
        """The mapping at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, dict) else {}

    def items(self, path: Path) -> list[Any]:
        """The list at a path, empty where there is none."""
        found = self.at(path)
        return found if isinstance(found, list) else []

    def has(self, path: Path) -> bool:
        """Whether a key stands there, be it with null."""
        return path[-1] in self.mapping(path[:-1])

    def put(self, path: Path, value: Any, place: Path) -> None:
        """Put a value at a path; `place` is where the document has it."""
        self.moved[path] = place
        parent = self.at(path[:-1])
        parent[path[-1]] = value

    def move(self, old: Path, new: Path) -> None:
        """Read what is at `old` as if it were at `new`, unless something is there already."""
        above = self.at(new[:-1])
        if isinstance(above, dict) and new[-1] not in above:
            value, place = self.at(old), self.place(old)
            del self.at(old[:-1])[old[-1]]
            self.put(new, value, place)

    def problem(self, code: str, message: str, path: Path, fix: str, field_name: str | None = None) -> None:
        """Note a problem at a path; its field is its name, unless another is given."""
        self.draft.problem(code, message, self.line(path), fix, field_name or self.name(path))

    def text(self, path: Path, *, exact: bool) -> Field:
        """The scalar at a path as it is written."""
        value = self.at(path)
        written = value if isinstance(value, str) else self.plain(path)
        return Field(str(value) if written is None else written, self.line(path), self.name(path), exact=exact)

    def sections(self) -> dict[str, int]:
        """The line of every key and item by its name."""
        lines = {".".join(map(str, path)): line for path, line in self.document.lines.items()}
        return lines | {".".join(map(str, path)): self.line(path) for path in self.moved}
