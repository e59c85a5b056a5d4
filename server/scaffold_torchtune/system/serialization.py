"""The only reader of JSON, and the only reader and writer of YAML.

Files may be from strangers. JSON is read as a whole text, or from a large file, one value at a time: a value has a
maximum of characters, and only that much of the text is in memory. The reader accepts the same as the readers of data
sets (ujson), including control characters in a text, NaN and Infinity.

The reader of YAML accepts the same as torchtune's own loader (PyYAML's safe loader with OmegaConf's wider float rule,
which reads `1e-5` as a number), except for surprising features: no tags, merge keys, duplicate keys or multiple
documents, aliases only if the caller accepts them, and limits for size, depth and length of numbers. The writer
produces scalars that every loader reads as the same value and type.
"""

import codecs
import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final

import yaml

from scaffold_torchtune.findings import LineError, Scalar, escape, megabytes, number_text

MAX_JSON_VALUE: Final = 4 * 1024**2
"""The maximum number of characters of a single value: a row, or a value that is not a list of rows."""

_SPARSE: Final = 16  # minimum bytes of a text for each mapping or list
_FEW: Final = 1_000
_CHUNK = 256 * 1024
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder(strict=False)
_END_OF_NUMBER = 3  # of a truncated number, the decoder leaves at most `e+`


class NotJson(ValueError):
    """The text is not JSON; the message gives the reason and place as a predicate that follows the file's name."""


class TooLarge(ValueError):
    """A value has more than `MAX_VALUE` characters."""


def read_json(data: bytes, most: int, **hooks: Any) -> Any:
    """Return the content of a text of at most so many bytes. `hooks` are those of `json.loads` for numbers.

    Raises:
        NotJson: it is not JSON, is larger, is nested too deeply, or has too many mappings and lists for its size.
    """
    if len(data) > most:
        raise NotJson(f"it is larger than {megabytes(most)}")
    # each takes many times its text's size in memory
    if data.count(b"{") + data.count(b"[") > len(data) // _SPARSE + _FEW:
        raise NotJson(f"it contains more than one mapping or list per {_SPARSE} bytes")
    try:
        return json.loads(data.decode(), **hooks)
    except RecursionError as error:
        raise NotJson("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise NotJson("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"it is not JSON (line {error.lineno})") from error
    except ValueError as error:  # a number with more digits than Python reads, or a value that a hook rejects
        raise NotJson(str(error)) from error


class JsonStream:
    """A JSON text, read from a file piece by piece. Each method continues at the end of the previous one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode: Callable[..., str] = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._text = ""
        self._at = 0
        self._ended = False
        self._before = 0  # characters, lines, and characters in the last line that are no longer in memory
        self._lines = 0
        self._column = 0

    def peek(self) -> str:
        """Return the next character that is not white space; '' at the end.

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
            NotJson: the next character is a different one.
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
            NotJson: it is missing, not JSON, or nested too deeply.
            TooLarge: it has more than `MAX_VALUE` characters.
        """
        self.peek()
        while True:
            held = len(self._text) - self._at
            more = max(min(held, MAX_JSON_VALUE - held), _CHUNK)
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more(more):
                    raise self.error(error.msg, error.pos) from error
            except RecursionError as error:
                raise NotJson("is nested too deeply") from error
            except ValueError as error:  # a number with more digits than Python reads
                raise NotJson(f"is not JSON: {error}") from error
            else:
                is_whole = end < len(self._text) - _END_OF_NUMBER or not isinstance(value, int | float)
                if is_whole or not self._more(more):
                    self._at = end
                    return value
            if held > MAX_JSON_VALUE:
                raise TooLarge

    def members(self) -> Iterator[str]:
        """Read an object: yield the name of each member; read its value before the next iteration.

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
        """Return the problem at a position of the text in memory, or at the next character."""
        at = self._at if position is None else position
        line_start = self._text.rfind("\n", 0, at) + 1
        lines = self._lines + self._text.count("\n", 0, at)
        column = at - line_start + 1 + (0 if line_start else self._column)
        return NotJson(f"is not JSON: {message}: line {lines + 1} column {column} (char {self._before + at})")

    def _more(self, size: int) -> bool:
        """Read more of the text, and drop the text that was parsed. Return false at the end."""
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


MAX_YAML_BYTES = 1_000_000
MAX_YAML_DEPTH = 20
MAX_COPIES = 100_000
"""Characters of all values that aliases repeat, with one more for each value, mapping and list."""
MAX_NUMBER = 64
"""Characters of a number. Loaders need quadratic time for the conversion of longer ones: decimal digits, and parts in
base 60 (`1:30:00`).
"""

KeyPath = tuple[str | int, ...]

_Event = Any  # PyYAML's type stubs lack the attributes of events
_TEXT = "tag:yaml.org,2002:str"
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
# Tag directives are refused; the parser compares each with all earlier ones.
_TAG_DIRECTIVE = "\n%TAG"
_MAX_DIRECTIVES = 100


class YamlError(LineError):
    """The text is not valid or not supported YAML. `fix` says how to correct it."""

    def __init__(self, message: str, line: int | None = None, fix: str = "") -> None:
        super().__init__(message, line)
        self.fix = (
            fix or "correct the YAML: one `key: value` on each line, with quotes around text with special characters"
        )


_TOO_DEEP: Final = f"the document is nested deeper than {MAX_YAML_DEPTH} levels"
_NO_TAGS: Final = "write the value without a tag"
_NO_ALIASES: Final = "write the values out, without anchors (&) or aliases (*)"


@dataclass(frozen=True)
class YamlDocument:
    """Plain data, and the line (from 1) of every key and item by its path, e.g. `("model", "lora_rank")`.

    `plain` has unquoted scalars as written (`012`, `1:30`, `yes`), because loaders may read them in surprising ways.
    """

    data: Any
    lines: dict[KeyPath, int]
    plain: dict[KeyPath, str] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """Return the line of the path, or of its nearest existing parent."""
        parts = (path[:end] for end in range(len(path), 0, -1))
        return next((self.lines[part] for part in parts if part in self.lines), None)


# libyaml's parser is many times faster; every wheel of PyYAML has it, a build from source may not
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Resolver(yaml.resolver.Resolver):
    """PyYAML's rules for plain scalars with OmegaConf's float rule and without dates."""


_Resolver.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# The float rule of omegaconf (omegaconf/_utils.py, get_yaml_loader): no dot is needed before an exponent.
_Resolver.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |\.[0-9_]+(?:[eE][-+][0-9]+)?
        |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
        |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)
_RESOLVER = _Resolver()


def read_yaml(text: str, *, aliases: bool = False) -> YamlDocument:
    """Read one YAML document.

    Args:
        text: the text.
        aliases: whether it may have aliases, which PyYAML writes if an object occurs twice. Each is read as a copy of
            its anchor's node, with the lines of that node.

    Raises:
        YamlError: it is too large or deep, malformed, or has a tag, merge key, duplicate key, second document, or an
            alias that is not accepted.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_YAML_BYTES:
        raise YamlError(f"the text is larger than {megabytes(MAX_YAML_BYTES)}")
    if text.count(_TAG_DIRECTIVE) > _MAX_DIRECTIVES:
        raise YamlError("tags are not supported", text.count("\n", 0, text.index(_TAG_DIRECTIVE)) + 2, _NO_TAGS)
    document = YamlDocument(None, {})
    try:
        screened = _screened(text, aliases=aliases)
        events = iter(_expanded(screened) if aliases else screened)
        first = next(events, None)
        return document if first is None else replace(document, data=_build(first, events, (), document))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(str(error.problem or error.context), mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        raise YamlError(str(error).splitlines()[0], text.count("\n", 0, error.position) + 1) from error
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise YamlError(str(error).splitlines()[0]) from error


def compose_yaml(text: str) -> yaml.Node | None:
    """Return the nodes of a document that `read` accepts, for their places; None if it is empty."""
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node


_STARTS: Final = frozenset({yaml.MappingStartEvent, yaml.SequenceStartEvent})
_ENDS: Final = frozenset({yaml.MappingEndEvent, yaml.SequenceEndEvent})
_CONTENT: Final = frozenset({yaml.AliasEvent, yaml.ScalarEvent, *_STARTS, *_ENDS})
"""The kinds of events of a document's content. They are compared by type, which is faster than by isinstance."""


def _screened(text: str, *, aliases: bool) -> list[yaml.Event]:
    """Return the events of the content; refuse surprising features before any data is built."""
    depth = documents = 0
    events: list[_Event] = []
    event: _Event
    for event in yaml.parse(text, Loader=_Loader):
        kind = type(event)
        if kind not in _CONTENT:
            documents += kind is yaml.DocumentStartEvent
            if documents > 1:
                raise YamlError("it contains more than one YAML document", _line(event), "remove this `---` line")
            continue
        events.append(event)
        if kind in _ENDS:
            depth -= 1
            continue
        depth += kind in _STARTS
        if event.anchor and not aliases:
            raise YamlError("anchors and aliases are not supported", _line(event), _NO_ALIASES)
        if kind is not yaml.AliasEvent and event.tag:
            name = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise YamlError(f"the tag {name} is not supported", _line(event), _NO_TAGS)
        if depth > MAX_YAML_DEPTH:
            raise YamlError(_TOO_DEEP, _line(event))
    return events


def _expanded(events: list[_Event]) -> list[_Event]:
    """Return the events with a copy of the anchor's node in place of each alias.

    Raises:
        YamlError: an alias does not follow its anchor's node, an anchor occurs twice, or there are too many copies.
    """
    found: list[_Event] = []
    nodes: dict[str, tuple[int, int]] = {}  # by anchor, the place in `found`, empty until the node is complete
    unfinished: list[tuple[str, int]] = []
    copies = 0
    for event in events:
        anchor, start = str(getattr(event, "anchor", None) or ""), len(found)
        if isinstance(event, yaml.AliasEvent):
            node = found[slice(*nodes.get(anchor, (0, 0)))]
            copies += sum(1 + len(getattr(each, "value", "")) for each in node)
            if not node:
                message = f"the alias *{anchor} does not follow a complete value &{anchor}"
                raise YamlError(message, _line(event), _NO_ALIASES)
            if copies > MAX_COPIES:
                raise YamlError(f"aliases repeat more than {MAX_COPIES} characters", _line(event), _NO_ALIASES)
            found += node
            continue
        if anchor in nodes:
            raise YamlError(f"the anchor &{anchor} occurs more than once", _line(event), _NO_ALIASES)
        if anchor:
            nodes[anchor] = (0, 0)
        found.append(event)
        if isinstance(event, yaml.CollectionStartEvent):
            unfinished.append((anchor, start))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, start = unfinished.pop()
        if anchor:
            nodes[anchor] = (start, len(found))
    return found


def _line(event: _Event) -> int:
    return int(event.start_mark.line) + 1


def _build(event: _Event, rest: Iterator[_Event], path: KeyPath, document: YamlDocument) -> Any:
    """Build the data that begins with the event, and consume its remaining events."""
    if len(path) > MAX_YAML_DEPTH:
        raise YamlError(_TOO_DEEP, _line(event))
    if path:
        document.lines.setdefault(path, _line(event))
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(rest, path, document)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Any] = []
        while not isinstance(item := next(rest), yaml.CollectionEndEvent):
            items.append(_build(item, rest, (*path, len(items)), document))
        return items
    if not event.implicit[0]:
        return event.value
    document.plain[path] = event.value
    if len(event.value) > MAX_NUMBER:  # never converted: it is text or refused
        if _resolved(event.value) in _NUMBERS:
            raise YamlError(f"a number with more than {MAX_NUMBER} characters is not allowed", _line(event))
        return event.value
    try:
        return _value(event.value)
    except yaml.constructor.ConstructorError as error:
        raise YamlError(str(error.problem), _line(event)) from error
    except (ValueError, OverflowError) as error:  # `0x_`, `._`
        raise YamlError(f"{event.value} is not a number", _line(event)) from error


def _mapping(rest: Iterator[_Event], path: KeyPath, document: YamlDocument) -> dict[str, Any]:
    built: dict[str, Any] = {}
    while not isinstance(key := next(rest), yaml.CollectionEndEvent):
        line = _line(key)
        tag = "" if not isinstance(key, yaml.ScalarEvent) else _resolved(key.value) if key.implicit[0] else _TEXT
        if tag == "tag:yaml.org,2002:merge":
            raise YamlError("merge keys (<<) are not supported", line, "write the keys out instead of <<")
        if tag != _TEXT:
            raise YamlError("a key is not a string", line)
        if key.value in built:
            raise YamlError(
                f"the key {key.value!r} occurs more than once", line, "keep only one of the lines with this key"
            )
        document.lines[*path, key.value] = line
        built[key.value] = _build(next(rest), rest, (*path, key.value), document)
    return built


def _resolved(plain: str) -> str:
    """Return the tag of a plain scalar by its form. Long ones are not cached."""
    return _tag(plain) if len(plain) <= MAX_NUMBER else _tag.__wrapped__(plain)


@functools.lru_cache(maxsize=4096)
def _tag(plain: str) -> str:
    return str(_RESOLVER.resolve(yaml.ScalarNode, plain, (True, False)))  # type: ignore[no-untyped-call]


@functools.lru_cache(maxsize=4096)
def _value(plain: str) -> Scalar:
    """Return the value of a plain scalar."""
    value: Scalar = yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(_tag(plain), plain))
    return value


# Plain text that every loader reads as text: it starts with a letter, slash or underscore ...
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+-]*")
# ... and is not a word that YAML 1.1 or 1.2 reads as another type.
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"})


def without_quotes(plain: str, value: Any) -> str:
    """Return a description of an unquoted scalar that should be text: the number, or the value that YAML reads."""
    read = number_text(value)
    is_number = read == plain and not isinstance(value, bool)
    return f"the number {plain}" if is_number else f"`{escape(plain)}` without quotes, which YAML reads as {read}"


def put_in_quotes(plain: str) -> str:
    """Return the fix for an unquoted scalar that should be text."""
    return f'put the value in quotes: `"{escape(plain)}"`'


def yaml_scalar(value: Scalar | list[str]) -> str:
    """Return a value in YAML, on one line, that every loader reads with the same value and type.

    A float always has a dot (`1.0e-05`), which PyYAML needs; text is quoted unless every loader reads it as text.

    Raises:
        ValueError: the value is not finite.
    """
    if isinstance(value, list):
        return "[" + ", ".join(yaml_scalar(item) for item in value) + "]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED else _quoted(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be a setting")
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")
    return "null" if value is None else str(value).lower()


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return yaml.safe_dump(text, default_style='"', width=math.inf, allow_unicode=True).removesuffix("\n")
