"""Takes single values of a YAML summary as they are written; they are typed later, by their parameter."""

from typing import Any

from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.parse.yaml_source import Source
from scaffold_torchtune.settings.parameters import by_label
from scaffold_torchtune.shared.text import escape, shown
from scaffold_torchtune.shared.yamlio import Path

_TEXT_KINDS = frozenset(
    {"text", "name", "label", "path", "pattern_free_path", "memory", "constraint", "folder", "extension", "recipe"}
)


def field(source: Source, path: Path, by_key: str | None = None) -> Field | None:
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


def _not_single(source: Source, path: Path, value: dict[str, Any] | list[Any], key: str) -> None:
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
