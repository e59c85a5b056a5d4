"""What is remarked on in a claude.local.md: lines that look like a setting and are none, and those that are unclear."""

from collections.abc import Iterator, Sequence

from scaffold_torchtune.parse import clean
from scaffold_torchtune.parse import local_labels as labels
from scaffold_torchtune.parse.draft import Field, LocalDraft
from scaffold_torchtune.parse.local_labels import Topic
from scaffold_torchtune.parse.local_lines import Part, Said, pair_of
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import Parameter
from scaffold_torchtune.shared.markdown import Fence, Table
from scaffold_torchtune.shared.markdown_text import Text
from scaffold_torchtune.shared.text import escape, shown

_AS_A_LINE = "if it is meant as a setting, write it as a line '- **Name**: value'"


def unused(draft: LocalDraft, name: str, line: int, message: str, fix: str) -> None:
    """Note that something looks like a setting and is not used."""
    draft.problem("unused-field", message, line, fix, escape(name))


def _is_one(parameter: Parameter, said: Said) -> bool:
    """Whether the value is one that the parameter may have."""
    try:
        clean.typed(parameter, Field(said.value, said.line, said.note, said.full))
    except NotTyped:
        return False
    return True


def of_line(said: Said, draft: LocalDraft) -> None:
    """Remark on a label that sets nothing where it stands, if it may have been meant to."""
    topic = said.topic
    if labels.is_of_others(topic) or clean.is_unset(said.value) or clean.is_placeholder(said.value):
        return
    if name := labels.slurms(said.label):
        if not labels.is_of_slurm(topic) and _is_one(labels.parameter(name), said):
            message = f"{said.note}: {name} is not taken from here, where it may be another than SLURM's"
            unused(draft, name, said.line, message, "if it is SLURM's, write it below '## SLURM Defaults'")
        return
    if labels.is_strict(topic) or labels.is_of_slurm(topic):
        _of_no_setting(said, draft)


def _of_no_setting(said: Said, draft: LocalDraft) -> None:
    """Remark on a label that names no setting, in a part of the document that has settings."""
    near = labels.nearly(said.label)
    parameter = labels.of_the_summary(said.label)
    is_strict = labels.is_strict(said.topic)
    where = f"{said.note}: {shown(said.label)} is not a setting"
    if near and _is_one(labels.parameter(near[1]), said):
        where += f"; did you mean {near[0]!r}?"
        if is_strict or "top" in said.topic:
            _refuse(draft, "misspelt-field", said, said.label, where, f"write {near[0]!r}, or remove the line")
        else:
            unused(draft, said.label, said.line, where, f"if {near[0]!r} is meant, write that")
    elif parameter and _is_one(parameter, said):
        unused(draft, parameter.name, said.line, f"{where} of {draft.file}", "write it in the experiment's summary")
    elif labels.is_other_option(said.label) or (is_strict and not labels.is_for_people(said.label)):
        unused(draft, said.label, said.line, where, "nothing, unless it was meant to change the jobs")


def _refuse(draft: LocalDraft, code: str, said: Said, name: str, message: str, fix: str) -> None:
    draft.add(code, message, field=escape(name), actual=escape(said.value), line=said.line, fix=fix)


def of_the_machine(said: Said, draft: LocalDraft) -> None:
    """Remark on `GPUs: 8` below Cluster, which a job asks for or a node has: refused where nothing else says it."""
    name = labels.slurms(said.label)
    if name is None or clean.is_unset(said.value) or clean.is_placeholder(said.value):
        return
    if name == "gpu_type" or name in draft.settings or not _is_one(labels.parameter(name), said):
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
    if labels.parameter(name).kind != "path":
        return
    left = [part for part in said.value.split("/") if clean.is_placeholder(part)]
    left += ["/path/to"] if said.value.startswith("/path/to/") else []
    if left:
        message = f"{said.note}: {shown(said.value)} still has the placeholder {shown(left[0])}"
        _refuse(draft, "invalid-value", said, name, message, "write the path out")


def too_deep(note: str, nested: dict[str, object], line: int, topic: Topic, draft: LocalDraft) -> None:
    """Remark on settings too deep in a block of YAML."""
    if not labels.is_of_others(topic) and any(labels.is_label(key) for key in nested):
        fix = "write its settings one level higher"
        unused(draft, note, line, f"{note}: what is nested so deeply is not read", fix)


def of_parts(parts: Sequence[Part], draft: LocalDraft, read_blocks: frozenset[int]) -> None:
    """Remark on what sections hold besides lines: tables of other forms, blocks of code, lines without a colon."""
    for part in parts:
        title = part.title or "the document"
        for said in part.unclear:
            if labels.setting(said.label, said.topic) and not clean.is_unset(said.value):
                unused(draft, said.label, said.line, f"{said.note}: a line without a colon is not read", _AS_A_LINE)
        for table, topic in part.tables:
            if not labels.is_of_others(topic) and (labels.is_strict(topic) or _names_settings(table, topic)):
                message = f"{title}: a table of this form is not read for settings"
                unused(draft, "table", table.line, message, f"give it two columns, Setting and Value; {_AS_A_LINE}")
        for fence, topic in part.fences:
            line = next(_settings_in(fence, topic), None) if fence.line not in read_blocks else None
            if line:
                message = f"{title}: a block of code is not read for settings"
                unused(draft, "block of code", line, message, _AS_A_LINE)


def _names_settings(table: Table, topic: Topic) -> bool:
    cells = [*table.header, *(row.cells[0] for row in table.rows if row.cells)]
    return any(labels.setting(cell.plain, topic) for cell in cells)


def _settings_in(fence: Fence, topic: Topic) -> Iterator[int]:
    """The lines of a block below SLURM Defaults or the like that set something."""
    if "slurm" in topic:
        for number, line in enumerate(fence.content.splitlines(), start=fence.line + 1):
            pair = pair_of(Text(line.strip(), number))
            if pair and labels.setting(pair.label, topic) and not clean.is_unset(pair.value):
                yield number
