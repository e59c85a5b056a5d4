"""Replacement of the tables of a Markdown page by generated ones; the prose around them is unchanged."""

import re
from collections.abc import Iterable, Mapping, Sequence


def table_of(rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its header."""
    header, *lines = [re.sub(" +", " ", f"| {' | '.join(cells)} |\n") for cells in rows]
    return header + "|---" * (header.count("|") - 1) + "|\n" + "".join(lines)


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """Return a page with the first table below each heading replaced.

    Args:
        text: the page.
        tables: the new table of each section, by its title.

    Raises:
        ValueError: the page lacks a section, or its table.
    """
    for title, table in tables.items():
        head, found, rest = text.partition(f"## {title}\n")
        old = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
        if not found or not old:
            raise ValueError(f"there is no section {title} with a table")
        text = head + found + rest[: old.start()] + table + rest[old.end() :]
    return text
