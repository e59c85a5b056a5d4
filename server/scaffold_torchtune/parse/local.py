"""Reads claude.local.md into a `LocalDraft`."""

from collections.abc import Iterator
from dataclasses import replace

from scaffold_torchtune.parse import clean, local_modules, local_remarks
from scaffold_torchtune.parse import local_labels as labels
from scaffold_torchtune.parse.draft import Field, LocalDraft
from scaffold_torchtune.parse.local_lines import Part, Said, parts
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.shared import markdown, yamlio
from scaffold_torchtune.shared.text import escape, shown

# A document that sets one of these outside a block of YAML keeps its settings there.
_CORE = frozenset({"conda_env", "output_dir_base", "my_wandb_project"})
# As the value of one of these: the site's own choice, or something of this name?
_OF_THE_SITE = frozenset({"account", "partition", "constraint"})
_NO_NAMES = frozenset({"default", "any", "auto"})


def read(text: str, file: str) -> LocalDraft:
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
    said = [*_block(front, 1, labels.TOP, draft), *(said for part in found for said in part.said)]
    _take(said, draft)
    for field in local_modules.fields(found, draft):
        _set(draft, "modules", field)
    read_blocks = frozenset[int]()
    if not draft.settings.keys() & _CORE:
        read_blocks = _blocks(found, draft)
    local_remarks.of_parts(found, draft, read_blocks)
    local_modules.tell_of_others(found, draft)
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
                about = topic if labels.is_of_others(topic) else topic | labels.TOP
                _take(list(_block(fence.content, fence.line, about, draft)), draft)
                lines.add(fence.line)
    return frozenset(lines)


def _block(text: str, offset: int, topic: labels.Topic, draft: LocalDraft) -> Iterator[Said]:
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
        below = labels.topic_of(key, topic)
        for name, nested in value.items():
            yield from _entry(document, (key, name), nested, offset, below)
            if isinstance(nested, dict):
                line = offset + (document.line((key, name)) or 1)
                local_remarks.too_deep(f"{key} > {name}", nested, line, below, draft)


def _entry(
    document: yamlio.YamlDocument, path: tuple[str, str] | tuple[str], value: object, offset: int, topic: labels.Topic
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
        name = labels.setting(one.label, one.topic)
        if labels.may_describe_the_machine(one.label, one.value, one.topic):
            doubtful.append(one)
        elif name is None:
            local_remarks.of_line(one, draft)
        elif not (clean.is_unset(one.value) or clean.is_placeholder(one.value)):
            _take_one(name, one, draft)
    for one in doubtful:
        local_remarks.of_the_machine(one, draft)


def _take_one(name: str, said: Said, draft: LocalDraft) -> None:
    if name == "modules":
        names = local_modules.names_of(said.value)
        said = said if names == said.value else replace(said, value=names, full=names)
    if name in _OF_THE_SITE and said.value.lower() in _NO_NAMES and not said.literal:
        local_remarks.no_name(name, said, draft)
    else:
        local_remarks.placeholder_in_path(name, said, draft)
        field = Field(said.value, said.line, said.note, said.full)
        for part, text in (clean.requested_gpus(field) if name == "gpus" else {name: field}).items():
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
        values = [clean.typed(labels.parameter(name), field).value for field in (one, other)]
    except NotTyped:
        return False
    if name == "time":
        values = [kinds.slurm_seconds(str(value)) for value in values]
    return values[0] == values[1]


def scratch_directory(text: str, file: str) -> str | None:
    """The scratch directory that a claude.local.md names, or None where it names none that is plainly a path."""
    found = read(text, file).settings.get("scratch_dir")
    try:
        return str(clean.typed(labels.parameter("scratch_dir"), found).value) if found else None
    except NotTyped:
        return None
