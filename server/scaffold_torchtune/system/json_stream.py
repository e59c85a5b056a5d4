"""The one reader of JSON: of whole texts, and of large files, of which it holds one value at a time; in bounded memory.

Files come from strangers: a value of the file may take so many characters, and no more of the text is held than that.
What is read is what the readers of data sets take (ujson): also control characters in a text, NaN and Infinity.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

MAX_VALUE: Final = 4 * 1024**2
"""How many characters a single value may take: a row, or what is no list of rows."""

_SPARSE: Final = 16  # bytes of a text for each mapping or list, at least
_FEW: Final = 1_000
_CHUNK = 256 * 1024
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder(strict=False)
_END_OF_NUMBER = 3  # of a number that is cut off, at most `e+` is left over by the decoder


class NotJson(ValueError):
    """The text is not JSON; the message says why and where, to follow the name of the file in a sentence."""


class TooLarge(ValueError):
    """A value takes more than `MAX_VALUE` characters."""


def read_json(data: bytes, most: int, **hooks: Any) -> Any:
    """Return what a text of at most so many bytes holds. `hooks` are those of `json.loads` for numbers.

    Raises:
        NotJson: it is not JSON, larger, nested too deeply, or has more mappings and lists than a text of its size.
    """
    if len(data) > most:
        raise NotJson(f"it is larger than {most} bytes")
    # one takes many times as much in memory as in the text
    if data.count(b"{") + data.count(b"[") > len(data) // _SPARSE + _FEW:
        raise NotJson("it has more mappings and lists than a text of its size")
    try:
        return json.loads(data.decode(), **hooks)
    except RecursionError as error:
        raise NotJson("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise NotJson("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"it is not JSON (line {error.lineno})") from error
    except ValueError as error:  # a number of more digits than Python reads, or what a hook does not take
        raise NotJson(str(error)) from error


class JsonStream:
    """A JSON text, read from a file piece by piece. Each method reads on from where the one before ended."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode: Callable[..., str] = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._text = ""
        self._at = 0
        self._ended = False
        self._before = 0  # characters, lines and characters in the last line that are no longer held
        self._lines = 0
        self._column = 0

    def peek(self) -> str:
        """Return the next character that is no white space; '' at the end.

        Raises:
            NotJson: the text is not UTF-8.
        """
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or not self._more(_CHUNK):
                return self._text[self._at : self._at + 1]

    def take(self, characters: str) -> str:
        """Read one of some characters, after white space.

        Raises:
            NotJson: another character is next.
        """
        found = self.peek()
        if not found or found not in characters:
            expected = " or ".join(f"'{character}'" for character in characters)
            raise self.error(f"Expecting {expected}", self._at)
        self._at += 1
        return found

    def value(self) -> Any:
        """Read one value.

        Raises:
            NotJson: there is none; it is not JSON, or nested too deeply.
            TooLarge: it takes more than `MAX_VALUE` characters.
        """
        self.peek()
        while True:
            held = len(self._text) - self._at
            more = max(min(held, MAX_VALUE - held), _CHUNK)
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more(more):
                    raise self.error(error.msg, error.pos) from error
            except RecursionError as error:
                raise NotJson("is nested too deeply") from error
            except ValueError as error:  # a number of more digits than Python reads
                raise NotJson(f"is not JSON: {error}") from error
            else:
                is_whole = end < len(self._text) - _END_OF_NUMBER or not isinstance(value, int | float)
                if is_whole or not self._more(more):
                    self._at = end
                    return value
            if held > MAX_VALUE:
                raise TooLarge

    def members(self) -> Iterator[str]:
        """Read an object: yield the name of each member; its value must be read before the next one is asked for.

        Raises:
            NotJson: the object is malformed.
        """
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.error("Expecting property name enclosed in double quotes", self._at)
            name = self.value()
            self.take(":")
            yield name
            if self.take(",}") == "}":
                return

    def items(self) -> Iterator[Any]:
        """Read a list: yield each of its values.

        Raises:
            NotJson: the list is malformed.
            TooLarge: a value in it is.
        """
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def error(self, message: str, position: int | None = None) -> NotJson:
        """Return what is wrong at a position of the text that is held, or at the next character."""
        at = self._at if position is None else position
        line_start = self._text.rfind("\n", 0, at) + 1
        lines = self._lines + self._text.count("\n", 0, at)
        column = at - line_start + 1 + (0 if line_start else self._column)
        return NotJson(f"is not JSON: {message}: line {lines + 1} column {column} (char {self._before + at})")

    def _more(self, size: int) -> bool:
        """Hold more of the text; what was read is let go. False at the end."""
        if self._ended:
            return False
        gone = self._text[: self._at]
        newline = gone.rfind("\n")
        self._before += len(gone)
        self._lines += gone.count("\n")
        self._column = len(gone) - newline - 1 if newline >= 0 else self._column + len(gone)
        data = self._file.read(size)
        self._ended = not data
        try:
            self._text = self._text[self._at :] + self._decode(data, not data)
        except UnicodeDecodeError as error:
            raise NotJson("is not UTF-8 text") from error
        self._at = 0
        return True
