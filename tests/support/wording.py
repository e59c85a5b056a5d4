"""Check that a text for people contains whole values, in any wording and order."""

import re


def absent(text: str, *values: object) -> list[str]:
    """Return the values that the text does not contain as a whole: `8` is not in "18", "8.5" or "rank8"."""
    return [str(value) for value in values if not re.search(_whole(str(value)), text)]


def _whole(value: str) -> str:
    before = r"(?<!\w)(?<!\d[.,])" if re.match(r"\w", value) else ""
    after = r"(?!\w)(?![.,]\d)" if re.search(r"\w$", value) else ""
    return before + re.escape(value) + after
