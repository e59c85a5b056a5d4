"""Texts that come from elsewhere: shown so that they can neither hide nor forge anything, or refused at a line."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from scaffold_torchtune.findings import Scalar


class LineError(ValueError):
    """A text cannot be read. `line` is where, from 1, where that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def with_line_feeds(text: str) -> str:
    """Return a text whose lines end with a line feed alone, without a byte order mark: as Markdown counts them."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _visible(character: str) -> str:
    """Return the character itself, or its escape where it is not plainly printable (controls, bidi, invisible)."""
    if character.isprintable():
        return "\\\\" if character == "\\" else character
    return character.encode("unicode_escape").decode("ascii")


def escape(text: str, limit: int = 200) -> str:
    """Return one line of text in which every control, invisible or bidirectional character is escaped.

    Longer text is cut at `limit` characters, with the number of characters left out.
    """
    if text.isprintable() and "\\" not in text and len(text) <= limit:
        return text  # as nearly all are
    left_out = f"... ({len(text) - limit} more characters)" if len(text) > limit else ""
    return "".join(map(_visible, text[:limit])) + left_out


def one_line(text: str) -> str:
    """Return the whole text with what cannot be seen plainly escaped; what is plain stays as it is."""
    return "".join(character if character == "\\" else _visible(character) for character in text)


def shown(value: Scalar) -> str:
    """Return a value as messages show it: text in quotes, so that a type is never in doubt."""
    return f"'{escape(value)}'" if isinstance(value, str) else str(value)


def counted(number: int, thing: str) -> str:
    """Return a number with what it counts: `1 run`, `2 runs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def few(texts: Sequence[str], most: int, *, between: str = ", ", more: str = ", and {} more") -> str:
    """Return at most so many texts in a row, with how many more there are."""
    left_out = len(texts) - most
    return between.join(texts[:most]) + (more.format(left_out) if left_out > 0 else "")


_LONGEST_WORD: Final = 200  # what is longer is no misspelling of a name
_MOST_WORDS: Final = 1_000
_compared: ContextVar[dict[tuple[object, ...], list[str]] | None] = ContextVar("compared", default=None)


@contextmanager
def few_suggestions() -> Iterator[None]:
    """Let as many words be compared with known ones as people misspell: it takes long, and a document may have any."""
    token = _compared.set({})
    try:
        yield
    finally:
        _compared.reset(token)


def close_matches(word: str, known: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return known words that may be meant, best first; case does not matter. `cutoff` is difflib's, 0 to 1."""
    if len(word) > _LONGEST_WORD:
        return []
    compared, names = _compared.get(), tuple(known)
    key = (word, names, limit, cutoff)
    if compared is not None and (key in compared or len(compared) >= _MOST_WORDS):
        return compared.get(key, [])
    by_lower = {name.lower(): name for name in names}
    found = [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=limit, cutoff=cutoff)]
    if compared is not None:
        compared[key] = found
    return found


def did_you_mean(word: str, known: Iterable[str], message: str = "", meant: str | None = None) -> str:
    """Return the message, with `Did you mean 'x' or 'y'?` after it where known words are near.

    `meant` is what the word surely means, where that is known; it counts if it is one of the known words.
    """
    known = list(known)
    matches = [meant] if meant in known else close_matches(word, known)
    return f"{message} Did you mean {' or '.join(map(repr, matches))}?".lstrip() if matches else message
