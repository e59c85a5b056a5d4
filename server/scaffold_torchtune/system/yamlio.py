"""The one reader and the one writer of YAML.

The reader takes what torchtune's own loader takes (PyYAML's safe loader with OmegaConf's wider float rule, which reads
`1e-5` as a number), and nothing that can surprise: no aliases, tags, duplicate keys or several documents, and bounded
size, depth and length of numbers. The writer makes every scalar read back as the same value and type in every loader.
"""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.system.text import LineError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_NUMBER = 64
"""Characters of a number. What a loader makes of a longer one takes it time that grows with the square of the length:
decimal digits, and parts in the base of 60 (`1:30:00`)."""

KeyPath = tuple[str | int, ...]

_Event = Any  # the type stubs of PyYAML leave out what events hold
_TEXT = "tag:yaml.org,2002:str"
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
# They make tags, which are not taken; the parser compares each with all before it.
_TAG_DIRECTIVE = "\n%TAG"
_MAX_DIRECTIVES = 100


class YamlError(LineError):
    """The text is not YAML that we take."""


@dataclass(frozen=True)
class YamlDocument:
    """Plain data, and the line (from 1) of every key and item by its path, e.g. `("model", "lora_rank")`.

    `plain` holds unquoted scalars as they are written (`012`, `1:30`, `yes`): what a loader makes of them can surprise.
    """

    data: Any
    lines: dict[KeyPath, int]
    plain: dict[KeyPath, str] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """Return the line of the path, or of the nearest part of it that exists."""
        parts = (path[:end] for end in range(len(path), 0, -1))
        return next((self.lines[part] for part in parts if part in self.lines), None)


# libyaml's parser is many times faster; every wheel of PyYAML has it, a build from source may not.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Resolver(yaml.resolver.Resolver):
    """PyYAML's rules for plain scalars with OmegaConf's float rule and without dates."""


_Resolver.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# The float rule of omegaconf (omegaconf/_utils.py, get_yaml_loader): a dot is not needed before an exponent.
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


def read(text: str) -> YamlDocument:
    """Read one YAML document.

    Raises:
        YamlError: it is too large or deep, malformed, or has an alias, tag, duplicate key or second document.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise YamlError(f"the text is larger than {MAX_BYTES} bytes")
    if text.count(_TAG_DIRECTIVE) > _MAX_DIRECTIVES:
        raise YamlError("tags are not taken", text.count("\n", 0, text.index(_TAG_DIRECTIVE)) + 2)
    document = YamlDocument(None, {})
    try:
        events = iter(_screened(text))
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


def _screened(text: str) -> list[yaml.Event]:
    """Return the events of the content; what could surprise is refused before anything is built."""
    depth = documents = 0
    events: list[_Event] = []
    event: _Event
    for event in yaml.parse(text, Loader=_Loader):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise YamlError("there is more than one document", _line(event))
        if not isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            continue
        events.append(event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if getattr(event, "anchor", None):
            raise YamlError("anchors and aliases are not taken", _line(event))
        if tag := getattr(event, "tag", None):
            raise YamlError(f"the tag {tag} is not taken", _line(event))
        if depth > MAX_DEPTH:
            raise YamlError(f"it is nested deeper than {MAX_DEPTH} levels", _line(event))
    return events


def _line(event: _Event) -> int:
    return int(event.start_mark.line) + 1


def _build(event: _Event, rest: Iterator[_Event], path: KeyPath, document: YamlDocument) -> Any:
    """Build what begins with the event, and take the events that belong to it from the rest."""
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
            raise YamlError(f"a number of more than {MAX_NUMBER} characters is not taken", _line(event))
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
            raise YamlError("merge keys (<<) are not taken", line)
        if tag != _TEXT:
            raise YamlError("a key is not text", line)
        if key.value in built:
            raise YamlError(f"the key {key.value!r} stands twice", line)
        document.lines[*path, key.value] = line
        built[key.value] = _build(next(rest), rest, (*path, key.value), document)
    return built


def _resolved(plain: str) -> str:
    """Return the tag that a plain scalar has by its form. Long ones are not remembered."""
    return _tag(plain) if len(plain) <= MAX_NUMBER else _tag.__wrapped__(plain)


@functools.lru_cache(maxsize=4096)
def _tag(plain: str) -> str:
    return str(_RESOLVER.resolve(yaml.ScalarNode, plain, (True, False)))  # type: ignore[no-untyped-call]


@functools.lru_cache(maxsize=4096)
def _value(plain: str) -> Scalar:
    """Return what a plain scalar is."""
    value: Scalar = yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(_tag(plain), plain))
    return value


# Plain text that no loader can take for anything but text: it starts with a letter, slash or underscore ...
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+-]*")
# ... and is none of the words that YAML 1.1 or 1.2 reads as something else.
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"})


def scalar(value: Scalar | list[str]) -> str:
    """Return a value in YAML, on one line, that reads back with its value and type in every loader.

    A float always has a dot (`1.0e-05`), which PyYAML needs; text is quoted unless it cannot be anything else.

    Raises:
        ValueError: the value is not finite.
    """
    if isinstance(value, list):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
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
