"""The one reader and the one writer of YAML.

The reader takes what torchtune's own loader takes (PyYAML's safe loader with OmegaConf's wider float rule, which reads
`1e-5` as a number), and nothing that can surprise: no aliases, tags, duplicate keys or several documents, and bounded
size and depth. The writer makes every scalar read back as the same value and type in every loader.
"""

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import yaml

from scaffold_torchtune.findings import Scalar

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

Path = tuple[str | int, ...]


class YamlError(ValueError):
    """The text is not YAML that we take. `line` is where, from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True)
class YamlDocument:
    """Plain data, and the line (from 1) of every key and item by its path, e.g. `("model", "lora_rank")`.

    `plain` holds unquoted scalars as they are written (`012`, `1:30`, `yes`): what a loader makes of them can surprise.
    """

    data: Any
    lines: dict[Path, int]
    plain: dict[Path, str] = field(default_factory=dict)

    def line(self, path: Path) -> int | None:
        """The line of the path, or of the nearest part of it that exists."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return None


if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:  # libyaml's loader is many times faster; every wheel of PyYAML has it, a build from source may not
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """PyYAML's safe loader with OmegaConf's float rule and without dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# The float rule of omegaconf (omegaconf/_utils.py, get_yaml_loader): a dot is not needed before an exponent.
_Loader.add_implicit_resolver(
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


def read(text: str) -> YamlDocument:
    """Read one YAML document.

    Raises:
        YamlError: it is too large or deep, malformed, or has an alias, tag, duplicate key or second document.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise YamlError(f"the text is larger than {MAX_BYTES} bytes")
    try:
        _screen(text)
        node = yaml.compose(text, Loader=_Loader)
        document = YamlDocument(None, {})
        data = None if node is None else _build(node, (), document, _Loader(""))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(str(error.problem or error.context), mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        raise YamlError(str(error).splitlines()[0], text.count("\n", 0, error.position) + 1) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, YamlError):
            raise
        raise YamlError(str(error).splitlines()[0]) from error
    return replace(document, data=data)


def _screen(text: str) -> None:
    """Refuse what could surprise, before anything is built."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlError("there is more than one document", line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlError("anchors and aliases are not taken", line)
        if getattr(event, "tag", None):
            raise YamlError(f"the tag {getattr(event, 'tag', '')} is not taken", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlError(f"it is nested deeper than {MAX_DEPTH} levels", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _build(node: yaml.Node, path: Path, document: YamlDocument, loader: _Loader) -> Any:
    if path and path not in document.lines:
        document.lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise YamlError("merge keys (<<) are not taken", line)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise YamlError("a key is not text", line)
            if key_node.value in built:
                raise YamlError(f"the key {key_node.value!r} stands twice", line)
            document.lines[(*path, key_node.value)] = line
            built[key_node.value] = _build(value_node, (*path, key_node.value), document, loader)
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), document, loader) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and not node.style:
        document.plain[path] = node.value
    return loader.construct_object(node)


# Plain text that no loader can take for anything but text: it starts with a letter, slash or underscore ...
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+-]*")
# ... and is none of the words that YAML 1.1 or 1.2 reads as something else.
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"})


def scalar(value: Scalar | list[str]) -> str:
    """A value in YAML, on one line, that reads back with its value and type in every loader.

    A float always has a dot (`1.0e-05`), which PyYAML needs; text is quoted unless it cannot be anything else.

    Raises:
        ValueError: the value is not finite.
    """
    if isinstance(value, list):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
            return value
        return yaml.safe_dump(value, default_style='"', width=math.inf, allow_unicode=True).removesuffix("\n")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be a setting")
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return text.split("\n", 1)[0]
