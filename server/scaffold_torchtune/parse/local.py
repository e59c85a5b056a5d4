"""Reader of claude.local.md into a `LocalDraft`, with findings about lines that look like a setting and are none."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from scaffold_torchtune.parse import local_labels, values
from scaffold_torchtune.parse.drafts import Field, LocalDraft
from scaffold_torchtune.parse.local_labels import Topic
from scaffold_torchtune.parse.local_lines import Part, Said, pair_of, parts
from scaffold_torchtune.parse.values import is_unset, typed
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import Parameter
from scaffold_torchtune.system import markdown, yamlio
from scaffold_torchtune.system.markdown import Fence, Table, Text
from scaffold_torchtune.system.text import escape, shown

# What is remarked on in a claude.local.md: lines that look like a setting and are none, and those that are unclear.

_AS_A_LINE = "if it is meant as a setting, write it as a line '- **Name**: value'"


def unused(draft: LocalDraft, name: str, line: int, message: str, fix: str) -> None:
    """Note that something looks like a setting and is not used."""
    draft.problem("unused-field", message, line, fix, escape(name))


def _is_one(parameter: Parameter, said: Said) -> bool:
    """Whether the value is one that the parameter may have."""
    try:
        values.typed(parameter, Field(said.value, said.line, said.note, said.full))
    except NotTyped:
        return False
    return True


def of_line(said: Said, draft: LocalDraft) -> None:
    """Remark on a label that sets nothing where it stands, if it may have been meant to."""
    topic = said.topic
    if local_labels.is_of_others(topic) or values.is_unset(said.value) or values.is_placeholder(said.value):
        return
    if name := local_labels.slurms(said.label):
        if not local_labels.is_of_slurm(topic) and _is_one(local_labels.parameter(name), said):
            message = f"{said.note}: {name} is not taken from here, where it may be another than SLURM's"
            unused(draft, name, said.line, message, "if it is SLURM's, write it below '## SLURM Defaults'")
        return
    if local_labels.is_strict(topic) or local_labels.is_of_slurm(topic):
        _of_no_setting(said, draft)


def _of_no_setting(said: Said, draft: LocalDraft) -> None:
    """Remark on a label that names no setting, in a part of the document that has settings."""
    near = local_labels.nearly(said.label)
    parameter = local_labels.of_the_summary(said.label)
    is_strict = local_labels.is_strict(said.topic)
    where = f"{said.note}: {shown(said.label)} is not a setting"
    if near and _is_one(local_labels.parameter(near[1]), said):
        where += f"; did you mean {near[0]!r}?"
        if is_strict or "top" in said.topic:
            _refuse(draft, "misspelt-field", said, said.label, where, f"write {near[0]!r}, or remove the line")
        else:
            unused(draft, said.label, said.line, where, f"if {near[0]!r} is meant, write that")
    elif parameter and _is_one(parameter, said):
        unused(draft, parameter.name, said.line, f"{where} of {draft.file}", "write it in the experiment's summary")
    elif local_labels.is_other_option(said.label) or (is_strict and not local_labels.is_for_people(said.label)):
        unused(draft, said.label, said.line, where, "nothing, unless it was meant to change the jobs")


def _refuse(draft: LocalDraft, code: str, said: Said, name: str, message: str, fix: str) -> None:
    draft.add(code, message, field=escape(name), actual=escape(said.value), line=said.line, fix=fix)


def of_the_machine(said: Said, draft: LocalDraft) -> None:
    """Remark on `GPUs: 8` below Cluster, which a job asks for or a node has: refused where nothing else says it."""
    name = local_labels.slurms(said.label)
    if name is None or values.is_unset(said.value) or values.is_placeholder(said.value):
        return
    if name == "gpu_type" or name in draft.settings or not _is_one(local_labels.parameter(name), said):
        message = f"{said.note}: {shown(said.value)} is not taken for what a job asks for"
        unused(draft, name, said.line, message, "if it is, write it below '## SLURM Defaults'")
        return
    message = f"{said.note}: {shown(said.value)} may be what each job asks for, or what a node has"
    fix = f"for jobs, write 'Default {said.label}' below '## SLURM Defaults'; for nodes, '{said.label} per node' here"
    _refuse(draft, "ambiguous", said, name, message, escape(fix))


def no_name(name: str, said: Said, draft: LocalDraft) -> None:
    """Refuse `Account: default`, which may mean none, or one of that name."""
    message = f"{said.note}: {shown(said.value)} may mean that the site chooses, or be the name of one"
    fix = f"write '(none)' if the site is to choose, or `{said.value}` in backticks if that is the {name}'s name"
    _refuse(draft, "ambiguous", said, name, message, escape(fix))


def placeholder_in_path(name: str, said: Said, draft: LocalDraft) -> None:
    """Refuse a path a part of which is still to be written."""
    if local_labels.parameter(name).kind != "path":
        return
    left = [part for part in said.value.split("/") if values.is_placeholder(part)]
    left += ["/path/to"] if said.value.startswith("/path/to/") else []
    if left:
        message = f"{said.note}: {shown(said.value)} still has the placeholder {shown(left[0])}"
        _refuse(draft, "invalid-value", said, name, message, "write the path out")


def too_deep(note: str, nested: dict[str, object], line: int, topic: Topic, draft: LocalDraft) -> None:
    """Remark on settings too deep in a block of YAML."""
    if not local_labels.is_of_others(topic) and any(local_labels.is_label(key) for key in nested):
        fix = "write its settings one level higher"
        unused(draft, note, line, f"{note}: what is nested so deeply is not read", fix)


def of_parts(parts: Sequence[Part], draft: LocalDraft, read_blocks: frozenset[int]) -> None:
    """Remark on what sections hold besides lines: tables of other forms, blocks of code, lines without a colon."""
    for part in parts:
        title = part.title or "the document"
        for said in part.unclear:
            if local_labels.setting(said.label, said.topic) and not values.is_unset(said.value):
                unused(draft, said.label, said.line, f"{said.note}: a line without a colon is not read", _AS_A_LINE)
        for table, topic in part.tables:
            if not local_labels.is_of_others(topic) and (
                local_labels.is_strict(topic) or _names_settings(table, topic)
            ):
                message = f"{title}: a table of this form is not read for settings"
                unused(draft, "table", table.line, message, f"give it two columns, Setting and Value; {_AS_A_LINE}")
        for fence, topic in part.fences:
            line = next(_settings_in(fence, topic), None) if fence.line not in read_blocks else None
            if line:
                message = f"{title}: a block of code is not read for settings"
                unused(draft, "block of code", line, message, _AS_A_LINE)


def _names_settings(table: Table, topic: Topic) -> bool:
    cells = [*table.header, *(row.cells[0] for row in table.rows if row.cells)]
    return any(local_labels.setting(cell.plain, topic) for cell in cells)


def _settings_in(fence: Fence, topic: Topic) -> Iterator[int]:
    """The lines of a block below SLURM Defaults or the like that set something."""
    if "slurm" in topic:
        for number, line in enumerate(fence.content.splitlines(), start=fence.line + 1):
            pair = pair_of(Text(line.strip(), number))
            if pair and local_labels.setting(pair.label, topic) and not values.is_unset(pair.value):
                yield number


# The modules that lines of a shell load: `module load a b`, and `ml a b`, Lmod's short form.

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


# Reads claude.local.md into a `LocalDraft`.

# A document that sets one of these outside a block of YAML keeps its settings there.
_CORE = frozenset({"conda_env", "output_dir_base", "my_wandb_project"})
# As the value of one of these: the site's own choice, or something of this name?
_OF_THE_SITE = frozenset({"account", "partition", "constraint"})
_NO_NAMES = frozenset({"default", "any", "auto"})


def read_local(text: str, file: str) -> LocalDraft:
    """Read a claude.local.md. What is left open (`<placeholder>`, `(leave empty)`) is absent.

    A block of YAML is read where it opens the file (front matter), or where nothing else in the file sets what it sets:
    beside settings of its own, a document's block is an example.
    """
    draft = LocalDraft(file)
    front, rest = _front_matter(text)
    try:
        root = markdown.read(rest)
    except markdown.TooDeepError as error:
        fix = "take away lists, quotes or emphasis"
        draft.problem("invalid-value", error.message, error.line, fix)
        draft.readable = False
        return draft
    draft.sections = {s.title: s.line for s in reversed(list(root.walk())) if s.title}
    found = parts(root)
    said = [*_block(front, 1, local_labels.TOP, draft), *(said for part in found for said in part.said)]
    _take(said, draft)
    for field in fields(found, draft):
        _set(draft, "modules", field)
    read_blocks = frozenset[int]()
    if not draft.settings.keys() & _CORE:
        read_blocks = _blocks(found, draft)
    of_parts(found, draft, read_blocks)
    tell_of_others(found, draft)
    return draft


def _front_matter(text: str) -> tuple[str, str]:
    """The YAML between `---` lines that opens a document, and the text with those lines left blank."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return "", text
    end = next((i for i, line in enumerate(lines[1:], start=1) if line.strip() == "---"), None)
    if end is None:
        return "", text
    return "\n".join(lines[1:end]), "\n" * (end + 1) + "\n".join(lines[end + 1 :])


def _blocks(found: list[Part], draft: LocalDraft) -> frozenset[int]:
    """Take the settings of the document's blocks of YAML; the lines at which those begin."""
    lines: set[int] = set()
    for part in found:
        for fence, topic in part.fences:
            if fence.language.lower() in {"yaml", "yml"} and "nothing" not in topic:
                about = topic if local_labels.is_of_others(topic) else topic | local_labels.TOP
                _take(list(_block(fence.content, fence.line, about, draft)), draft)
                lines.add(fence.line)
    return frozenset(lines)


def _block(text: str, offset: int, topic: local_labels.Topic, draft: LocalDraft) -> Iterator[Said]:
    """What a block of YAML says, whose first line is line `offset` + 1 of the document: its keys and those below."""
    try:
        document = yamlio.read(text)
    except yamlio.YamlError as error:
        message = f"the block of YAML cannot be read: {escape(error.message)}"
        line = offset + (error.line or 1)
        draft.problem("invalid-value", message, line, "correct the YAML")
        draft.readable = False
        return
    for key, value in document.data.items() if isinstance(document.data, dict) else ():
        if not isinstance(value, dict):
            yield from _entry(document, (key,), value, offset, topic)
            continue
        below = local_labels.topic_of(key, topic)
        for name, nested in value.items():
            yield from _entry(document, (key, name), nested, offset, below)
            if isinstance(nested, dict):
                line = offset + (document.line((key, name)) or 1)
                too_deep(f"{key} > {name}", nested, line, below, draft)


def _entry(
    document: yamlio.YamlDocument,
    path: tuple[str, str] | tuple[str],
    value: object,
    offset: int,
    topic: local_labels.Topic,
) -> Iterator[Said]:
    """One key of a block of YAML, with its value as it is written."""
    if isinstance(value, list) and value:
        value = ",".join(document.plain.get((*path, i), str(item)) for i, item in enumerate(value))
    written = "" if value is None else document.plain.get(path, value)
    if isinstance(written, str):
        line = offset + (document.line(path) or 1)
        yield Said(path[-1], written, written, line, " > ".join(path), topic, literal=path not in document.plain)


def _take(said: list[Said], draft: LocalDraft) -> None:
    """Take every setting among what a document says. What each node of a cluster has is looked at last."""
    doubtful: list[Said] = []
    for one in said:
        name = local_labels.setting(one.label, one.topic)
        if local_labels.may_describe_the_machine(one.label, one.value, one.topic):
            doubtful.append(one)
        elif name is None:
            of_line(one, draft)
        elif not (values.is_unset(one.value) or values.is_placeholder(one.value)):
            _take_one(name, one, draft)
    for one in doubtful:
        of_the_machine(one, draft)


def _take_one(name: str, said: Said, draft: LocalDraft) -> None:
    if name == "modules":
        names = names_of(said.value)
        said = said if names == said.value else replace(said, value=names, full=names)
    if name in _OF_THE_SITE and said.value.lower() in _NO_NAMES and not said.literal:
        no_name(name, said, draft)
    else:
        placeholder_in_path(name, said, draft)
        field = Field(said.value, said.line, said.note, said.full)
        for part, text in (values.requested_gpus(field) if name == "gpus" else {name: field}).items():
            _set(draft, part, text)


def _set(draft: LocalDraft, name: str, field: Field) -> None:
    """Set what was not set yet; another value than was set is a contradiction."""
    first = draft.settings.setdefault(name, field)
    if not _same(name, first, field):
        choices = escape(first.text), escape(field.text)
        draft.add(
            "ambiguous",
            f"{name} is {shown(field.text)} here and {shown(first.text)} at line {first.line}",
            field=name,
            expected=choices[0],
            actual=choices[1],
            choices=choices,
            line=field.line,
            fix="keep one of the two lines",
        )


def _same(name: str, one: Field, other: Field) -> bool:
    """Whether two texts are one value: a slash at the end of a path, or quotes, make no other."""
    if one.text == other.text:
        return True
    try:
        values = [typed(local_labels.parameter(name), field).value for field in (one, other)]
    except NotTyped:
        return False
    if name == "time":
        values = [kinds.slurm_seconds(str(value)) for value in values]
    return values[0] == values[1]


def scratch_directory(text: str, file: str) -> str | None:
    """The scratch directory that a claude.local.md names, or None where it names none that is plainly a path."""
    found = read_local(text, file).settings.get("scratch_dir")
    try:
        return str(values.typed(local_labels.parameter("scratch_dir"), found).value) if found else None
    except NotTyped:
        return None
