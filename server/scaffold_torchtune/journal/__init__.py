"""Step 8: the text of scaffold.log. Pure: entries in, text out."""

from scaffold_torchtune.journal.entries import (
    Entry,
    closing_entries,
    format_entries,
    head,
    refused_entry,
    render_entries,
    setup_entries,
    stopped_entry,
)

__all__ = [
    "Entry",
    "closing_entries",
    "format_entries",
    "head",
    "refused_entry",
    "render_entries",
    "setup_entries",
    "stopped_entry",
]
