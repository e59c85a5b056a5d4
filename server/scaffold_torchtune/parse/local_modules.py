"""The modules that lines of a shell load: `module load a b`, and `ml a b`, Lmod's short form."""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scaffold_torchtune.parse.clean import is_unset
from scaffold_torchtune.parse.draft import Field, LocalDraft
from scaffold_torchtune.parse.local_labels import Topic
from scaffold_torchtune.parse.local_lines import Part
from scaffold_torchtune.parse.local_remarks import unused
from scaffold_torchtune.shared.markdown import Fence
from scaffold_torchtune.shared.markdown_text import Text
from scaffold_torchtune.shared.text import shown

_LOAD = frozenset({"load", "add", "try-load"})
# They change which modules are loaded, and no setting of ours stands for them. A job purges by itself.
_CHANGE = frozenset({"unload", "rm", "del", "delete", "swap", "sw", "switch", "use", "unuse", "restore"})
_REST = frozenset(
    {"purge", "list", "av", "avail", "spider", "show", "display", "whatis", "help", "keyword", "save", "savelist"}
    | {"reset", "refresh", "reload", "is-loaded", "is-avail", "overview", "category", "describe"}
)
_IN_A_BLOCK = "if a job is to load it, write it as a line of the code block below '## Module System'"
_VERSIONED = re.compile(r"[A-Za-z0-9][\w.+-]*(?:/[\w.+-]+)+", re.ASCII)
_ONE_WORD = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


class Loads(NamedTuple):
    """What a line loads, and whether it changes the modules in another way too."""

    names: tuple[str, ...] = ()
    changes: bool = False


def is_versioned(text: str) -> bool:
    """Whether a text is plainly a module with its version: `cuda/12.4`."""
    return bool(_VERSIONED.fullmatch(text)) and any(c.isdigit() for c in text)


def _commands(line: str) -> Iterator[list[str]]:
    """The commands of a line, each as its words."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a quote that is not closed: as it is, to be refused where it is in a name
        words = line.split()
    command: list[str] = []
    for word in words:
        ends = word in {"&&", ";"} or word.endswith(";")
        if (rest := word.removesuffix(";")) and word != "&&":
            command.append(rest)
        if ends:
            yield command
            command = []
    yield command


def loads(line: str) -> Loads:
    """What a line of a shell loads; names are as written, valid or not."""
    names: list[str] = []
    changes = False
    for command in _commands(line):
        words = command[1:] if command[:1] == ["$"] else command
        if words[:1] not in (["module"], ["ml"]):
            continue
        is_short = words[0] == "ml"
        words = words[1:]
        if not is_short and words and words[0].startswith("-"):  # module --quiet load x
            words = words[1:]
        verb = words[0] if words else ""
        if verb in _LOAD:
            names += words[1:]
        elif verb in _CHANGE:
            changes = True
        elif is_short and verb not in _REST:
            names += words
    return Loads(tuple(names), changes)


def plainly_loads(line: str, *, in_prose: bool) -> tuple[str, ...]:
    """The names that a line plainly loads: `ml` may be a variable, and prose may go on behind `module load x`."""
    found = loads(line).names
    is_doubtful = "module" not in line.split() or (in_prose and len(found) > 1)
    return () if is_doubtful and not all(map(is_versioned, found)) else found


def names_of(value: str) -> str:
    """The names of a value that is written as a command: `module load a b` is `a,b`."""
    found = loads(value)
    return ",".join(found.names) if found.names and not found.changes else value


def fields(parts: Sequence[Part], draft: LocalDraft) -> list[Field]:
    """What each section about modules loads, in order, as `a,b`. A line that does more is remarked on."""
    found: list[Field] = []
    for part in parts:
        names: list[str] = []
        first = 0
        for line, text, loaded in _of_modules(part, draft):
            if loaded.changes:
                fix = "load what is meant by name and version: a job starts with no module loaded"
                unused(draft, "modules", line, f"{shown(text)} changes the modules otherwise than by loading one", fix)
            names += loaded.names
            first = first or (line if loaded.names else 0)
        if names:
            found.append(Field(",".join(dict.fromkeys(names)), first, part.title))
    return found


def _of_modules(part: Part, draft: LocalDraft) -> Iterator[tuple[int, str, Loads]]:
    """The lines of a section that may load modules, in order, each with what it loads."""
    said: list[tuple[int, str, Loads]] = []
    for fence, topic in part.fences:
        if "modules" in topic:
            said += [(line, text, loads(text)) for line, text in _lines(fence)]
    for text, topic in part.lines:
        if "modules" in topic and text.labelled() is None:
            said.append((text.line, text.plain, _of_text(text, draft)))
    yield from sorted(said, key=lambda one: one[0])


def _of_text(text: Text, draft: LocalDraft) -> Loads:
    """What a line of Markdown in a section about modules loads: a command, or a name with its version."""
    written = text.code or text.plain
    if text.plain.startswith(("module ", "ml ")):
        is_prose = text.code is None or not text.plain.startswith(text.code)
        found = Loads(plainly_loads(text.plain, in_prose=True)) if is_prose else loads(written)
        is_lost = not found.names and bool(loads(text.plain).names)
    else:
        found = Loads((written,) if is_versioned(written) else ())
        is_lost = not found.names and _ONE_WORD.fullmatch(text.plain) is not None and not is_unset(text.plain)
    if is_lost:
        unused(draft, "modules", text.line, f"{shown(text.plain)} is not plainly a module, and not read", _IN_A_BLOCK)
    return found


def _lines(fence: Fence) -> Iterator[tuple[int, str]]:
    return iter(enumerate(fence.content.splitlines(), start=fence.line + 1))


def tell_of_others(parts: Sequence[Part], draft: LocalDraft) -> None:
    """Remark on modules that are loaded elsewhere than in a section about them, and that no setting names."""
    setting = draft.settings.get("modules")
    known = {name.strip() for name in setting.text.split(",")} if setting else set()
    for part in parts:
        for line, text in _elsewhere(part):
            names = plainly_loads(text, in_prose=False)
            if names and not known.issuperset(names):
                message = f"{shown(text.strip())} is not read here: modules are read below Module System alone"
                unused(draft, "modules", line, message, _IN_A_BLOCK)


def _elsewhere(part: Part) -> Iterator[tuple[int, str]]:
    for fence, topic in part.fences:
        if _is_elsewhere(topic):
            yield from _lines(fence)
    for text, topic in part.lines:
        if _is_elsewhere(topic) and text.code is not None and text.labelled() is None:
            yield text.line, text.code


def _is_elsewhere(topic: Topic) -> bool:
    return not topic & {"modules", "nothing"}
