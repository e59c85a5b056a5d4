"""Insertion of a value into a document, in the form in which people write it, and lines that list several values.

In Markdown, the value goes into the line that has another one, or into a new line. This includes claude.local.md, where
a line may be in a block of YAML or of shell commands. In YAML, only the places come from the parser and the rest of the
text is unchanged, to keep comments, quotes and style.
"""

import functools
import itertools
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.drafts import SourceText
from scaffold_torchtune.parse.free_text import COUNTS
from scaffold_torchtune.settings.kinds import ValueKind
from scaffold_torchtune.settings.parameters import Parameter, by_label
from scaffold_torchtune.system.markdown import COLONS, read
from scaffold_torchtune.system.serialization import KeyPath, compose_yaml, yaml_scalar

_BARE: Final[frozenset[ValueKind]] = frozenset({"int", "float", "bool", "time", "memory"})
_SIMPLE: Final = re.compile(r"(?:[A-Za-z0-9{(](?:[A-Za-z0-9 ,.;:!?()'/{}-]*[A-Za-z0-9,.;:!?)}])?)?", re.ASCII)
_SEPARATOR: Final = re.compile(
    rf".*?(?:[{COLONS}](?:\*\*|__|\*)|\*\*\s*[{COLONS}=]|__\s*[{COLONS}=]|`\s*[{COLONS}=]|[{COLONS}=]"
    r"|(?:\*\*|`)?\s[–—→-]+>?(?=\s))",
    re.DOTALL,
)
_LIST: Final = re.compile(r" {0,3}(?:[-*+]|[0-9]{1,9}[.)])\s")
_FENCE: Final = re.compile(r"\s{0,99}(?:>\s{0,9}){0,99}(?:[-*+]\s{1,9})?(`{3,}|~{3,})(.*)")
_UNDERLINE: Final = re.compile(r" {0,3}(?:=+|-+)\s*")
_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
_H1: Final = re.compile(r" {0,3}#\s")
_MINUTES: Final = re.compile(r"(?<!\S)(?:-t ?|--time[ =])(?P<minutes>[0-9]{1,6})(?![\w:-])")
_LETTER: Final = re.compile(r"\s-[A-Za-z]")
_UNESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
_BAR: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Written:
    """A value in the form of each kind of document; `holder`: it is a placeholder for a value to fill in."""

    kind: ValueKind
    text: str
    holder: bool = False

    @property
    def markdown(self) -> str:
        """The value after a label."""
        if self.kind == "text":
            return f'"{self.text}"'
        if self.kind in _BARE:
            return self.text
        return f'`"{self.text}"`' if self.text.endswith(")") else f"`{self.text}`"  # the text could end with a remark

    @property
    def yaml(self) -> str:
        """The value after a key."""
        return self.text if self.holder or self.kind in {"int", "float", "bool"} else yaml_scalar(self.text)

    @property
    def local_yaml(self) -> str:
        """The value after a key of claude.local.md, where a remark may follow a quoted value."""
        return yaml_scalar(f'"{self.text}"') if self.text.endswith(")") else self.yaml

    @property
    def needs_block(self) -> bool:
        """Return whether Markdown would change the text, so that it needs a fenced block."""
        return self.kind == "text" and not _SIMPLE.fullmatch(self.text)

    def lines(self, label: str) -> list[str]:
        """Return the lines of a bullet with this value; `label` is the text before it, `- **Epochs:**`."""
        if not self.needs_block:
            return [f"{label} {self.markdown}"]
        longest = max([2, *(len(found[0]) for found in re.finditer("`+", self.text))])
        fence = "`" * (longest + 1)
        return [label, f"  {fence}", *(f"  {line}" if line else "" for line in self.text.split("\n")), f"  {fence}"]


def replaced(text: str, fields: Sequence[SourceText], others: Iterable[int], value: Written) -> str:
    """Return a document with a value instead of some texts: in the line of the first; the others are removed.

    `others` are lines to remove, too.
    """
    rows = text.split("\n")
    first = min(fields, key=lambda field: field.line)
    gone = {line for field in fields for line in _span(rows, field)} | set(others)
    new = _in_place(rows, first, value)
    kept = enumerate(rows, start=1)
    return "\n".join(
        row for line, old in kept for row in (new if line == first.line else [] if line in gone else [old])
    )


def retitled(text: str, title: SourceText, value: Written) -> str:
    """Return a document with another title."""
    rows = text.split("\n")
    last = title.line if rows[title.line - 1].lstrip().startswith("#") else _heading_end(rows, title.line)
    return "\n".join([*rows[: title.line - 1], f"# {value.text}", *rows[last:]])


def below_heading(text: str, heading: int, new: Sequence[str]) -> str:
    """Return a document with new list lines below the heading that begins in a line."""
    rows = text.split("\n")
    return _inserted(rows, _heading_end(rows, heading), new)


def at_top(text: str, new: Sequence[str]) -> str:
    """Return a document with new lines at its top, below its front matter."""
    rows = text.split("\n")
    marks = [i for i, row in enumerate(rows) if row.strip() == "---"]
    return _inserted(rows, marks[1] + 1 if marks[:1] == [0] and len(marks) > 1 else 0, new)


def at_end(text: str, titles: str, new: Sequence[str]) -> str:
    """Return a document with a new section at its end, on the level of its sections."""
    rows = text.split("\n")
    level = "#" if _headings_of_first_level(rows) > 1 else "##"
    apart = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
    return "\n".join([f"{text}{apart}{level} {titles}", "", *new, ""])


def in_block(text: str, fence: int, new: str) -> str:
    """Return a document with a new line at the top of the block of code that begins in a line."""
    rows = text.split("\n")
    return "\n".join([*rows[:fence], new, *rows[fence:]])


def with_columns(text: str, columns: Mapping[str, Mapping[int, str]]) -> str | None:
    """Return a document with columns added to its table of runs; None if the rows are not in one table.

    Args:
        text: the document.
        columns: the cells by heading and by the line of their row. Rows without a cell get a dash.
    """
    rows = text.split("\n")
    lines = sorted({line for cells in columns.values() for line in cells})
    rule = next((line for line in range(lines[0] - 1, 1, -1) if _is_rule(rows[line - 1])), None)
    if rule is None:
        return None
    end = next((line for line in range(rule, len(rows)) if not _BAR.search(rows[line])), len(rows))
    table = range(rule - 1, end + 1)
    if end < lines[-1] or len({len(_BAR.findall(rows[line - 1])) for line in table}) > 1:
        return None
    for title, cells in columns.items():
        for line in table:
            cell = {rule - 1: title, rule: "---"}.get(line) or cells.get(line, "-").replace("|", "\\|")
            row = rows[line - 1].rstrip()
            rows[line - 1] = f"{row} {cell} |" if row.endswith("|") else f"{row} | {cell}"
    return "\n".join(rows)


def _is_rule(row: str) -> bool:
    """Return whether a line is the delimiter row of a table: `|---|:--|`."""
    return "-" in row and "|" in row and set(row) <= set("|:- \t>")


def _headings_of_first_level(rows: Sequence[str]) -> int:
    code, above, number = _code_lines(rows), "", 0
    for line, row in enumerate(rows, start=1):
        is_underline = bool(_UNDERLINE.fullmatch(row)) and "=" in row and bool(above.strip())
        number += line not in code and (is_underline or bool(_H1.match(row)))
        above = row
    return number


def _inserted(rows: list[str], at: int, new: Sequence[str]) -> str:
    follows = rows[at] if at < len(rows) else ""
    apart = [""] if follows.strip() and not _LIST.match(follows) else []
    return "\n".join([*rows[:at], *new, *apart, *rows[at:]])


def _heading_end(rows: Sequence[str], line: int) -> int:
    """Return the last line of a heading, which may be underlined instead of marked."""
    if rows[line - 1].lstrip().startswith("#"):
        return line
    underlines = (number for number in range(line + 1, len(rows) + 1) if _UNDERLINE.fullmatch(rows[number - 1]))
    return next(underlines, line)


def _span(rows: Sequence[str], field: SourceText) -> range:
    """Return the lines of a text; `<br>` does not begin a new line."""
    breaks = len(_BREAK.findall(rows[field.line - 1]))
    more = 0 if field.exact else max(0, (field.full or field.text).count("\n") - breaks)
    return range(field.line, max(field.last, field.line + more) + 1)


def _in_place(rows: Sequence[str], field: SourceText, value: Written) -> list[str]:
    """Return the line of a text with a value instead of the text, in the form of the line."""
    row = rows[field.line - 1]
    is_code = field.line in _code_lines(rows)
    if field.alone and value.kind == "modules":
        command = f"module load {value.text.replace(',', ' ')}"
        return [command if is_code else f"- `{command}`"]
    if field.alone:
        return [value.markdown]
    if "#SBATCH" in row:
        return [_in_options(row, field, value)]
    if is_code and not re.match(r"\s*export\b|[^:]*=", row):
        return [f"{row[: row.index(':') + 1]} {value.local_yaml}"] if ":" in row else [value.local_yaml]
    cell = _cell(row, field)
    if cell is not None:
        start, end = cell
        return [f"{row[:start]} {value.markdown.replace('|', chr(92) + '|')} {row[end:]}".rstrip()]
    row = row.rstrip()
    for written in filter(None, (field.source, field.full, field.text)):
        if row.endswith(written) and len(written) < len(row):
            head = row[: -len(written)]
            break
    else:
        found = _SEPARATOR.match(row) or _LIST.match(row)
        head = found[0] if found else ""
    if head.rstrip().endswith("=") and not head.endswith(" "):
        if not value.text.endswith(")"):
            return [f"{head}{value.text}"]
        return [f'{head}"{value.text}"' if is_code else f"{head}{value.markdown}"]
    return [f"{head.rstrip()} {value.markdown}" if head.strip() else value.markdown]


def _in_options(row: str, field: SourceText, value: Written) -> str:
    """Return an #SBATCH line with a new value; a line in another notation becomes that option alone."""
    minutes = _MINUTES.search(row) if value.kind == "time" else None
    start, end = minutes.span("minutes") if minutes else _option(row, field.text)
    if start >= 0:
        is_quoted = row[start - 1] in {"'", '"'} and row[end : end + 1] == row[start - 1]
        return f"{row[:start]}{value.text if is_quoted else shlex.quote(value.text)}{row[end:]}"
    mark = row[: row.index("#SBATCH")]
    label = field.note.rpartition(" > ")[2].replace(" ", "-")
    return f"{mark}#SBATCH --{label}={shlex.quote(value.text)}{'`' if '`' in mark else ''}"


def _option(row: str, text: str) -> tuple[int, int]:
    """Return the position of the last value of an #SBATCH line that equals a text, else -1."""
    start = row.rfind(text)
    while start > 0:
        end, before = start + len(text), row[:start]
        is_value = not before[-1].isalnum() or _LETTER.fullmatch(before[-3:]) is not None
        if is_value and not row[end : end + 1].isalnum():
            return start, end
        start = row.rfind(text, 0, start)
    return -1, -1


def _cell(row: str, field: SourceText) -> tuple[int, int] | None:
    """Return the position of the cell with a text; None if the line is not in a table."""
    bars = [found.start() for found in _BAR.finditer(row)]
    if not bars:
        return None
    cells = [(start + 1, end) for start, end in itertools.pairwise([-1, *bars, len(row)])]
    filled = [(start, end) for start, end in cells if row[start:end].strip()]
    texts = {_plainly(text) for text in (field.source, field.full, field.text) if text is not None}
    same = [cell for cell in filled[1:] if _plainly(_UNESCAPED.sub(r"\1", row[slice(*cell)])) in texts]
    if same:
        return same[0]
    return filled[1] if row.lstrip("> \t").startswith("|") and len(filled) > 1 else None


def _plainly(text: str) -> str:
    """Return a text without the marks of emphasis and code."""
    return re.sub(r"[`*]", "", text).strip()


def is_in_code(text: str, line: int) -> bool:
    """Return whether a line of a Markdown document is in a block of code."""
    return line in _blocks_of_code(text)


@functools.lru_cache(maxsize=4)
def _blocks_of_code(text: str) -> frozenset[int]:
    fences = [fence for section in read(text).walk() for fence in section.fences]
    lines = (range(fence.line, fence.line + fence.content.count("\n") + 1) for fence in fences)
    return frozenset(itertools.chain.from_iterable(lines))


def _code_lines(rows: Sequence[str]) -> set[int]:
    """Return the lines of fenced blocks and of the front matter."""
    found: set[int] = set()
    start, fence = 0, ""
    if rows and rows[0].strip() == "---":
        start = next((number for number, row in enumerate(rows[1:], start=2) if row.strip() == "---"), 0)
        found = set(range(1, start + 1))
    for line, row in enumerate(rows[start:], start=start + 1):
        mark = _FENCE.match(row)
        if fence:
            found.add(line)
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark:
            fence = mark[1]
            found.add(line)
    return found


_STRONG: Final = re.compile(r"[,;:()] ?|[.!?] (?=[A-Z])| (?:and|plus) |\.$")
_WEAK: Final = re.compile(r" (?:with|on|for|at|using|in|[–—-]) ")
_SUBJECT: Final = re.compile(
    r"(?:(?:each|every|all|per|the|our) (?:runs?|jobs?)(?: each)?"
    r"(?: (?:gets?|uses?|needs?|has|have|requests?|requires?))?"
    r"|we (?:use|request|need)|use|using|request|needs?|with|on|for|at)(?: |$)",
    re.IGNORECASE,
)
_OF_EACH: Final = re.compile(r" (?:each|(?:per|for each|for every) (?:run|job))$", re.IGNORECASE)
_OTHERWISE: Final = re.compile(
    r"\b(?:if|unless|when|otherwise|except|only|pilot|previous\w*|earlier|later|maybe|perhaps|or|not|instead|than|was"
    r"|were|could|would|should|may|might|estimat\w{1,3}|expected|about|roughly|approximately|in parallel"
    r"|one per (?:run|job)|at (?:once|a time)|shared|across|total|cluster|machines?|servers?|available"
    r"|nodes? (?:with|of|each|has|have)|(?:per|each) node|[0-9]{1,6} nodes? ?[x×*])\b|\?",
    re.IGNORECASE,
)
_SOME_OF_A_TYPE: Final = re.compile(
    r"(?P<value>[0-9]{1,4}|one|two|three|four|six|eight) ?(?:[x×*] ?)?(?:nvidia )?"
    r"(?:(?:(?:(?:rtx ?|gh|[abhlv])[0-9]{2,4}[a-z]{0,2}|[lt]4)(?:[ -][0-9]{2,3} ?gb)?s?)(?: gpus?)?|gpus?)",
    re.IGNORECASE,
)
_BARE_TIME: Final = re.compile(
    r"(?P<value>[0-9]{1,4}(?:\.[0-9]{1,2})? ?(?:h|hrs?|hours?|min|minutes?|days?))(?: (?:walltime|limit))?",
    re.IGNORECASE,
)
_BARE_MEMORY: Final = re.compile(
    r"(?P<value>[0-9]{1,5} ?[GT]i?B?)(?P<of> (?:of )?(?:(?:main|cpu|system) )?(?:ram|memory))?", re.IGNORECASE
)
_CORES: Final = re.compile(r"(?P<value>[0-9]{1,3}) (?:cpu )?cores", re.IGNORECASE)
_FORMS: Final = {"gpus": _SOME_OF_A_TYPE, "time": _BARE_TIME, "mem": _BARE_MEMORY, "cpus_per_task": _CORES}
_OF_A_GPU: Final = frozenset({"11", "12", "16", "24", "32", "40", "48", "80", "94", "96", "141", "180", "192"})
_KINDS_IN_LISTS: Final = frozenset({"int", "float", "time", "memory", "bool"})
_NAMED_IN_LISTS: Final = frozenset({"account", "partition", "qos", "constraint"})
_BEFORE_VALUE: Final = re.compile(r"(?:[=–—-]|of|is|to|set to)\s", re.IGNORECASE)
_ACRONYM: Final = re.compile(r"\s*[A-Za-z]{1,20}[A-Z][A-Za-z]{0,20}\s*$")
_LONGEST_LIST: Final = 400
_WORDS_OF_A_FRAGMENT: Final = 3
_WORDS_OF_A_SETTING: Final = 6


def listed(text: str) -> list[tuple[str, str]]:
    """Return the settings of a line without a label that lists them: `4 × A100, 24 h, 128 GB`, `AdamW, lr 1e-4`.

    A sentence about something else, or about other circumstances, lists none.
    """
    text, found, is_gpu = " ".join(text[:_LONGEST_LIST].split()), list[tuple[str, str]](), False
    for part in () if _OTHERWISE.search(text) else _STRONG.split(text):
        whole = _without_subject(part)
        pieces = [whole] if _listed_setting(whole) else [each for each in _WEAK.split(whole) if each.strip(" .`*")]
        settings = [_listed_setting(_without_subject(each)) for each in pieces]
        fragments = [
            piece for piece, one in zip(pieces, settings, strict=True) if one is None and not _ACRONYM.match(piece)
        ]
        if fragments and (len(pieces) > 1 or len(part.split()) > _WORDS_OF_A_FRAGMENT):
            return []
        for piece, setting in zip(pieces, settings, strict=True):
            is_of_gpu = is_gpu and setting is not None and setting[0] == "mem" and _is_of_gpu(piece)
            found += [setting] if setting is not None and not is_of_gpu else []
            is_gpu = setting is not None and setting[0] == "gpus"
    is_of_jobs = any(name not in _NAMED_IN_LISTS for name, _ in found)
    return [each for each in found if is_of_jobs or each[0] not in _NAMED_IN_LISTS or re.search(r"[0-9_-]", each[1])]


def _without_subject(part: str) -> str:
    part = _OF_EACH.sub("", part.strip(" .`*"))
    for _ in range(_WORDS_OF_A_FRAGMENT):
        part = _SUBJECT.sub("", part, count=1) if _SUBJECT.match(part) else part
    return part.strip(" .`*")


def _is_of_gpu(piece: str) -> bool:
    match = _BARE_MEMORY.fullmatch(_without_subject(piece))
    return match is not None and not match["of"] and match["value"].rstrip("GTiB gtb") in _OF_A_GPU


def _listed_setting(piece: str) -> tuple[str, str] | None:
    """Return parameter and text of a piece that is a setting and nothing else: `weight decay 0.1`, `64 GB of RAM`."""
    for name, form in _FORMS.items():
        if match := form.fullmatch(piece):
            return name, str(COUNTS.get(match["value"].lower(), match["value"]))
    words = piece.split()
    for i in range(1, len(words)) if len(words) <= _WORDS_OF_A_SETTING else ():
        first, last = " ".join(words[:i]), " ".join(words[i:])
        for label, value in ((first, _BEFORE_VALUE.sub("", last, count=1)), (last, first)):
            parameter = by_label(label) if "%" not in label else None
            is_one = parameter is not None and parameter.kind in _KINDS_IN_LISTS
            is_name = parameter is not None and parameter.name in _NAMED_IN_LISTS and " " not in value
            if parameter is not None and (is_one or is_name) and _is_value(parameter, value.strip("`")):
                return parameter.name, value.strip("`")
    return None


def _is_value(parameter: Parameter, text: str) -> bool:
    return values.value_of(parameter, SourceText(text, 0, "")) is not None


_BREAKS = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")


class _Text:
    """A text with the places of its nodes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(found.end() for found in _BREAKS.finditer(text))]
        self.root = compose_yaml(text)

    def index(self, mark: yaml.Mark) -> int:
        return min(self.starts[min(mark.line, len(self.starts) - 1)] + mark.column, len(self.text))

    def start(self, node: yaml.Node) -> int:
        return self.index(node.start_mark)

    def end(self, node: yaml.Node) -> int:
        """Return the end of a node: of a block node, the end of its last entry, because the parser's mark is later."""
        start, end = self.start(node), self.index(node.end_mark)
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            last = node.value[-1] if node.value else None
            return start if last is None else self.end(last[1] if isinstance(last, tuple) else last)
        return max(start, start + len(self.text[start:end].rstrip()))

    def line_start(self, at: int) -> int:
        return max(start for start in self.starts if start <= at)


def put_in_yaml(text: str, existing: Sequence[KeyPath], missing: KeyPath, value: str) -> str:
    """Return a document with a value in YAML.

    Args:
        text: the document.
        existing: the places with a value, each of which gets the new one.
        missing: the place for the value if there is none. An empty last part means a new item of a list.
        value: the value.
    """
    document = _Text(text)
    found = [pair for path in existing if (pair := _pair(document.root, path)) is not None]
    if not found:
        return _added(document, missing, value)
    for key, node in sorted(found, key=lambda pair: document.start(pair[1]), reverse=True):
        text = _replaced(document, text, key, node, value)
    return text


def _pair(root: yaml.Node | None, path: KeyPath) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Return the key and the value at a path, or None."""
    key, node = None, root
    for part in path:
        if isinstance(node, yaml.MappingNode):
            key, node = next(((k, v) for k, v in node.value if k.value == part), (None, None))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            key, node = None, node.value[part]
        else:
            return None
    return None if node is None else (key, node)


def _replaced(document: _Text, text: str, key: yaml.Node | None, node: yaml.Node, value: str) -> str:
    """Return the text with another value instead of a node; a value of several lines begins after its key."""
    start, end = document.start(node), document.end(node)
    if key is not None and (start == end or document.line_start(start) > document.line_start(document.start(key))):
        start = text.index(":", document.end(key)) + 1
        end, value = max(start, end), f" {value}"
    return text[:start] + value + text[end:]


def _added(document: _Text, path: KeyPath, value: str) -> str:
    """Return the text with a missing entry, in the innermost existing part of its path."""
    inner, depth = document.root, 0
    key: yaml.Node | None = None
    for depth in range(len(path)):
        pair = _pair(document.root, path[: depth + 1])
        if pair is None or path[depth] == "":
            break
        key, inner = pair
    rest = path[depth:]
    if inner is None or (depth == 0 and not isinstance(inner, yaml.MappingNode)):
        return f"{document.text}{_line_break(document.text)}{_entry(path, value)}\n"
    if not isinstance(inner, yaml.CollectionNode) or (isinstance(inner, yaml.SequenceNode) is not (rest[0] == "")):
        return _replaced(document, document.text, key, inner, _flow(rest, value))
    return _beside(document, key, inner, _entry(rest, value))


def _line_break(text: str) -> str:
    return "" if not text or text.endswith("\n") else "\n"


def _flow(path: KeyPath, value: str) -> str:
    """Return a value inside the mappings or the list of a path: `{training: {path: x}}`."""
    for part in reversed(path):
        value = f"[{value}]" if part == "" else f"{{{part}: {value}}}"
    return value


def _entry(path: KeyPath, value: str) -> str:
    """Return an entry of a mapping, or an item of a list: `training: {path: x}`, `- x`."""
    inner = _flow(path[1:], value)
    return f"- {inner}" if path[0] == "" else f"{path[0]}: {inner}"


def _beside(document: _Text, key: yaml.Node | None, there: yaml.CollectionNode, entry: str) -> str:
    """Return the text with a new first entry of a mapping or list, in its style; at the top level, a new last entry."""
    text, start = document.text, document.start(there)
    if there.flow_style:
        more = ", " if there.value else ""
        return f"{text[: start + 1]}{entry.removeprefix('- ')}{more}{text[start + 1 :]}"
    column = there.start_mark.column
    is_whole = key is None and isinstance(there, yaml.MappingNode) and column == 0
    if is_whole and not re.search(r"^\.\.\.", text, re.MULTILINE):
        return f"{text}{_line_break(text)}{entry}\n"
    at = document.line_start(start)
    if text[at:start].strip():  # after the dash of an item: below its first entry
        first = there.value[0]
        at = text.find("\n", document.end(first[1] if isinstance(first, tuple) else first)) + 1
        if at == 0:
            return f"{text}\n{' ' * column}{entry}\n"
    elif key is not None:
        at = text.index("\n", document.end(key)) + 1
    return f"{text[:at]}{' ' * column}{entry}\n{text[at:]}"
