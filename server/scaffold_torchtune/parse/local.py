"""Reader of claude.local.md into a `LocalDraft`, with findings about unread lines that look like settings."""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import counted, escape, few, shown
from scaffold_torchtune.parse import compound, free_text, local_lines, notations, values
from scaffold_torchtune.parse.drafts import LocalDraft, SourceText
from scaffold_torchtune.parse.local_lines import LocalEntry, Part, Topic, pair_of, parts
from scaffold_torchtune.parse.notations import NotHonoured
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.system.markdown import Fence, Table, Text
from scaffold_torchtune.system.serialization import YamlDocument, YamlError, read_yaml
from scaffold_torchtune.torchtune_facts import LORA

# If a document sets one of these outside blocks of YAML, its blocks are examples.
_CORE = frozenset({"conda_env", "output_dir_base", "my_wandb_project"})
# Parameters with values that may mean the site's own choice, or a name.
_OF_THE_SITE = frozenset({"account", "partition", "constraint"})
_OF_ONE_SITE = _OF_THE_SITE | {"qos", "reservation"}
_NO_NAMES = frozenset({"default", "any", "auto"})
# These programs change nothing in the shell, and these files only define commands that jobs have anyway.
_ONLY_SHOW = frozenset(
    {"echo", "printf", "which", "type", "hash", "pwd", "ls", "date", "hostname", "nvidia-smi", "nvcc", "exit", "true"}
)
_USUAL_FILE = re.compile(
    r"(?:.*/)?(?:\.?bashrc|\.?(?:bash_)?profile|conda\.sh|mamba\.sh|micromamba\.sh|modules?\.sh|lmod\.sh|(?:lmod|modules)"
    r"/.*init/\w+)"
)
_IN_A_BLOCK = "if jobs should load the module, add it to the code block under '## Module System'"
_ONE_WORD = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
_FEW = 6
_OF_WANDB = re.compile(
    r"(?<!\w)(?:(?:project|entity|team|group|tags?|mode)(?: is|:|=)? ?[`'\"]?(?P<name>\w[\w./-]{0,80})"
    r"|(?P<mode>online|offline|disabled)(?!\w))",
    re.IGNORECASE,
)
_NAMED = re.compile(r"[A-Za-z0-9][\w-]{0,80}(?:/[A-Za-z0-9][\w.-]{0,80})?", re.ASCII)
_NO_PROJECT = frozenset({"installed", "configured", "available", "required", "optional", "recommended", "ready"})
_GPUS_OF_JOBS = re.compile(
    r"(?P<gpus>[0-9]{1,3}) (?:[A-Z][\w-]{1,20} )?gpus? (?:per|for each|each) (?:job|run)(?!\w)"
    r"|jobs? (?:each )?(?:uses?|gets?|requests?|needs?|has|have|runs? on) (?P<of>[0-9]{1,3}) (?:\w{2,9} )?gpus?(?!\w)",
    re.IGNORECASE,
)
_UNLESS = "no action, unless it should change the jobs; in that case, use a label from workflows/labels.md"
_AS_A_LINE = "if it is a setting, write it as a line `- **Name:** value`"
_AS_LINES = "if it contains settings, write each of them as a line `- **Name:** value`"


def read_local(text: str, file: str) -> LocalDraft:
    """Read a claude.local.md. Placeholders (`<placeholder>`, `(leave empty)`) are missing values.

    A block of YAML is read at the top of the file (front matter), or if no other line sets one of `_CORE`. Otherwise it
    is an example.
    """
    draft = LocalDraft(file, text=text)
    front, rest = _front_matter(text)
    root = draft.read_markdown(rest)
    if root is None:
        return draft
    found = parts(root)
    draft.sections = {p.title: p.line for p in reversed(found) if p.title and not p.topic & {"nothing", "apart"}}
    _take([*_block(front, 1, local_lines.TOP, draft), *(entry for part in found for entry in part.entries)], draft)
    _note_sites(found, draft)
    for field in _loaded_modules(found, draft):
        _set(draft, "modules", field)
    read_blocks = set() if draft.settings.keys() & _CORE else _blocks(found, draft)
    draft.block = min(read_blocks, default=0)
    draft.prose += _prose(found)
    struck = draft.note_struck(root, local_lines.is_label)
    _note_lost_options(text, found, struck, draft)
    _note_unread(found, draft, read_blocks)
    _note_other_loads(found, draft)
    _note_other_commands(found, draft)
    return draft


def scratch_directory(text: str, file: str) -> str | None:
    """Return the scratch directory of a claude.local.md; None if it names none, or no valid path."""
    found = read_local(text, file).settings.get("scratch_dir")
    value = values.value_of(local_lines.parameter("scratch_dir"), found) if found else None
    return None if value is None else str(value)


def _front_matter(text: str) -> tuple[str, str]:
    """Return the YAML between `---` lines at the top of a document, and the text with those lines blank."""
    lines = text.removeprefix("\ufeff").splitlines()
    marks = [i for i, line in enumerate(lines) if line.strip() == "---"]
    if marks[:1] != [0] or len(marks) == 1:
        return "", text
    end = marks[1]
    return "\n".join(lines[1:end]), "\n" * (end + 1) + "\n".join(lines[end + 1 :])


def _blocks(found: list[Part], draft: LocalDraft) -> set[int]:
    """Add the settings of the document's blocks of YAML; return the blocks' first lines."""
    lines: set[int] = set()
    for fence, topic in [pair for part in found for pair in part.fences]:
        if fence.language.lower() in {"yaml", "yml"} and "nothing" not in topic:
            about = topic if local_lines.is_of_others(topic) else topic | local_lines.TOP
            _take(list(_block(fence.content, fence.line, about, draft)), draft)
            lines.add(fence.line)
    return lines


def _block(text: str, offset: int, topic: Topic, draft: LocalDraft) -> Iterator[LocalEntry]:
    """Yield the entries of a block of YAML that begins in line `offset` + 1 of the document."""
    try:
        document = read_yaml(text)
    except YamlError as error:
        message = f"the YAML block cannot be read: {escape(error.message)}"
        draft.add("invalid-value", message, line=offset + (error.line or 1), fix=error.fix)
        draft.readable = False
        return
    for key, value in document.data.items() if isinstance(document.data, dict) else ():
        if not isinstance(value, dict):
            yield from _of_key(document, (key,), value, offset, topic)
            continue
        below = local_lines.topic_of(key, topic)
        for name, nested in value.items():
            yield from _of_key(document, (key, name), nested, offset, below)
            is_deep = isinstance(nested, dict) and any(map(local_lines.is_label, nested))
            if is_deep and not local_lines.is_of_others(below):
                note, line = f"{key} > {name}", offset + (document.line((key, name)) or 1)
                message = f"{note}: settings nested this deeply are not read"
                _unused(draft, note, line, message, "move these settings one level up")


def _of_key(
    document: YamlDocument, path: tuple[str, ...], value: object, offset: int, topic: Topic
) -> Iterator[LocalEntry]:
    """Yield the entry of a key in a block of YAML, with its value as written."""
    last = 0
    if isinstance(value, list) and value:
        last = offset + max(document.line((*path, i)) or 1 for i in range(len(value)))
        value = ",".join(document.plain.get((*path, i), str(item)) for i, item in enumerate(value))
    written = "" if value is None else document.plain.get(path, value)
    if isinstance(written, str):
        line = offset + (document.line(path) or 1)
        note, literal = " > ".join(path), path not in document.plain
        yield LocalEntry(path[-1], written, written, line, note, topic, literal, last).in_unit()


def _take(entries: list[LocalEntry], draft: LocalDraft) -> None:
    """Add the settings among a document's entries. Entries that may describe a node are last."""
    doubtful: list[LocalEntry] = []
    apart: list[LocalEntry] = []
    of_wandb: list[LocalEntry] = []
    for entry in entries:
        name, switches = local_lines.setting(entry.label, entry.topic), local_lines.may_switch_wandb(entry)
        if values.is_open(entry.value) and not (switches and compound.says_none(entry.label, entry.value)):
            continue
        if local_lines.is_apart(entry.topic):
            apart.append(entry)
        elif switches:
            of_wandb.append(entry)
        elif local_lines.may_describe_the_machine(entry.label, entry.value, entry.topic):
            doubtful.append(entry)
        elif name is None:
            _note_line(entry, draft)
        else:
            _take_one(name, entry, draft)
    for entry in of_wandb:
        _take_wandb(entry, draft)
    for entry in doubtful:
        _note_machine(entry, draft)
    for entry in apart:
        _note_apart(entry, draft)


def _take_one(name: str, entry: LocalEntry, draft: LocalDraft) -> None:
    if name == "modules":
        loaded = local_lines.loads(entry.value)
        names = ",".join(loaded.names)
        entry = replace(entry, value=names, full=names) if names and not loaded.changes else entry
    if name in _OF_THE_SITE and entry.value.lower() in _NO_NAMES and not entry.literal:
        message = f"{entry.note}: {shown(entry.value)} may mean that the site chooses, or may be the name of the {name}"
        fix = f"write '(none)' if the site chooses, or `{entry.value}` in backticks if it is the name of the {name}"
        _refuse(draft, "ambiguous", entry, name, message, escape(fix))
        return
    if name == "scratch_dir" and not _fits(name, entry):  # no run has it
        message = f"{entry.note}: {shown(entry.value)} is not used, because it is not the full path of a directory"
        _unused(draft, name, entry.line, message, "no action: no file of a run contains the scratch directory")
        return
    if local_lines.parameter(name).kind == "path":
        _refuse_placeholder(name, entry, draft)
    try:
        found = _parts(name, entry)
    except NotHonoured as problem:
        message = f"{entry.note} is {shown(entry.value)}, {problem.what}"
        _refuse(draft, "unsupported-setting", entry, name, message, problem.fix)
        return
    for part, text in found.items():
        _set(draft, part, text)


def _take_wandb(entry: LocalEntry, draft: LocalDraft) -> None:
    """Add the mode in a line such as `W&B: disabled`; report a project, an entity or another setting there."""
    is_read, unread = True, ""
    try:
        for name, text in compound.parts(entry.label, entry.as_field()).items():
            _set(draft, name, text)
    except NotHonoured:
        is_read = False
    if compound.names_wandb(entry.label):
        given = {text.text.casefold() for name, text in draft.settings.items() if "wandb" in name}
        given |= set() if "wandb_mode" in draft.settings else {str(PARAMETERS["wandb_mode"].default)}
        unread = _beside_mode(entry, given, is_read=is_read)
    if unread:
        message = f"{entry.note}: {shown(unread)} is not read, because each setting of W&B needs a label of its own"
        fix = "write each of them as a line of its own: `W&B project`, `W&B entity`, `W&B mode`"
        _unused(draft, "wandb", entry.line, message, fix)
    elif not is_read:
        _note_line(entry, draft)


def _beside_mode(entry: LocalEntry, given: Container[str], *, is_read: bool) -> str:
    """Return the settings after a label such as `W&B` that are neither its mode (`is_read`) nor `given` elsewhere.

    Prose without a setting, and an address, are ignored.
    """
    whole = entry.full.strip() or entry.value
    name = values.without_remark(whole)
    rest, name = whole[len(name) :].strip("() "), name.strip("`'\" ")
    if not is_read and name.casefold() not in _NO_PROJECT and name.casefold() not in given:
        return whole if _NAMED.fullmatch(name) or _OF_WANDB.search(whole) else ""
    named = [(match["name"] or match["mode"]).casefold() for match in _OF_WANDB.finditer(rest)]
    return rest if any(name not in given for name in named) else ""


def _parts(name: str, entry: LocalEntry) -> dict[str, SourceText]:
    """Return the texts of a line by setting: `GPUs: a100:2` gives two, `Offline: yes` below W&B its mode.

    Raises:
        NotHonoured: the line asks for something unsupported.
    """
    label = entry.label
    if name == "wandb_mode" and not compound.has_words_of_its_own(label):
        switched = local_lines.of_wandb(label)
        label = f"wandb {switched}" if switched else name
    elif name != "wandb_mode":
        label = name
    return compound.parts(label, entry.as_field()) if compound.reads(label) else {name: entry.as_field()}


def _refuse_placeholder(name: str, entry: LocalEntry, draft: LocalDraft) -> None:
    """Report a path with a placeholder."""
    left = [part for part in entry.value.split("/") if values.is_placeholder(part)]
    left += ["/path/to"] if entry.value.startswith("/path/to/") else []
    if left:
        message = f"{entry.note}: {shown(entry.value)} still contains the placeholder {shown(left[0])}"
        _refuse(draft, "invalid-value", entry, name, message, "write the full path")


def _set(draft: LocalDraft, name: str, field: SourceText) -> None:
    """Add a setting; another value for the same setting is a contradiction."""
    first = draft.settings.setdefault(name, field)
    if not _same(name, first, field):
        message = f"{name} is {shown(field.text)} here, but {shown(first.text)} on line {first.line}"
        choices = escape(first.text), escape(field.text)
        draft.add(
            "ambiguous", message, field=name, expected=choices[0], actual=choices[1], choices=choices,
            line=field.line, fix="keep one of the two values",
        )  # fmt: skip


def _same(name: str, one: SourceText, other: SourceText) -> bool:
    """Return whether two texts are the same value, regardless of quotes and a slash at the end of a path."""
    if one.text == other.text:
        return True
    first, second = (values.value_of(local_lines.parameter(name), field) for field in (one, other))
    if first is None or second is None:
        return False
    return kinds.slurm_seconds(str(first)) == kinds.slurm_seconds(str(second)) if name == "time" else first == second


def _is_so(name: str, text: SourceText, draft: LocalDraft) -> bool:
    """Return whether the settings have this value."""
    had = draft.settings.get(name)
    return had is not None and _same(name, had, text)


def _unused(draft: LocalDraft, name: str, line: int, message: str, fix: str) -> None:
    """Report something that looks like a setting, but is not used."""
    draft.add("unused-field", message, field=escape(name), line=line, fix=fix)


def _refuse(draft: LocalDraft, code: str, entry: LocalEntry, name: str, message: str, fix: str) -> None:
    draft.add(code, message, field=escape(name), actual=escape(entry.value), line=entry.line, fix=fix)


def _fits(name: str, entry: LocalEntry) -> bool:
    """Return whether the parameter accepts the value."""
    return values.value_of(local_lines.parameter(name), entry.as_field()) is not None


def _is_plainly(name: str, entry: LocalEntry) -> bool:
    """Return whether the text is exactly a value: `64 cores` and `512 GB` rather describe a node."""
    known = local_lines.parameter(name)
    return _fits(name, entry) and notations.plain(known, entry.value) == entry.value


def _note_line(entry: LocalEntry, draft: LocalDraft) -> None:
    """Report a label that sets nothing in its section, if it looks like a setting."""
    is_slurm, is_strict = local_lines.is_of_slurm(entry.topic), local_lines.is_strict(entry.topic)
    if local_lines.is_of_others(entry.topic) or local_lines.is_one_task(entry.label, entry.value):
        return
    if _asks_for_other_runs(entry):
        message = f"{entry.note}: {shown(entry.label)} is {shown(entry.value)}, which is not read here"
        fix = "if it applies to the runs, move it to the experiment's summary; otherwise remove it"
        _refuse(draft, "misspelt-field", entry, entry.label, message, fix)
        return
    if name := local_lines.slurms(entry.label):
        if not is_slurm and _is_plainly(name, entry):
            message = f"{entry.note}: {name} is not read here, because the line might not be intended for SLURM"
            _unused(draft, name, entry.line, message, "if it is intended for SLURM, move it under '## SLURM Defaults'")
        return
    if not is_strict and not is_slurm:
        return
    near = local_lines.nearly(entry.label)
    parameter = local_lines.of_the_summary(entry.label)
    message = f"{entry.note}: {shown(entry.label)} is not a setting"
    if near and _fits(near[1], entry):
        message += f"; did you mean {near[0]!r}?"
        if is_strict or "top" in entry.topic:
            fix = f"write `{near[0]}`, or remove the line"
            _refuse(draft, "misspelt-field", entry, entry.label, message, fix)
        else:
            _unused(draft, entry.label, entry.line, message, f"write `{near[0]}` if that is intended")
    elif parameter and _fits(parameter.name, entry):
        message += f" of {draft.file}"
        _unused(draft, parameter.name, entry.line, message, "move it to the experiment's summary")
    elif local_lines.is_other_option(entry.label) or (is_strict and not local_lines.is_for_people(entry.label)):
        _unused(draft, entry.label, entry.line, message, _UNLESS)


def _asks_for_other_runs(entry: LocalEntry) -> bool:
    """Return whether a line gives something that belongs in a summary, such as a method or LoRA's modules."""
    parameter = compound.parameter_of(entry.label)
    if parameter is None:
        return local_lines.is_of_slurm(entry.topic) and compound.asked_of(entry.label, entry.value) is not None
    return parameter.name in compound.OF_OTHER_RUNS and parameter.local is None and not is_usual(entry.value)


def is_usual(value: str) -> bool:
    """Return whether a text names the default method, LoRA, and nothing else."""
    return notations.is_method_named(value) and notations.read_method(value) == notations.Method(LORA, {})


def _note_machine(entry: LocalEntry, draft: LocalDraft) -> None:
    """Report `GPUs: 8` below Cluster, which may describe jobs or nodes: an error unless another line sets it."""
    name = local_lines.slurms(entry.label)
    if name is None:
        return
    if name == "gpu_type" or name in draft.settings or not _is_plainly(name, entry):
        message = f"{entry.note}: {shown(entry.value)} is not read as a resource that jobs request"
        _unused(draft, name, entry.line, message, "if jobs should request it, move the line under '## SLURM Defaults'")
        return
    message = f"{entry.note}: {shown(entry.value)} may be a value per job or per node"
    fix = f"for a value per job, write `Default {entry.label}` under '## SLURM Defaults'; for a value per node, write"
    fix += f" `{entry.label} per node` here"
    _refuse(draft, "ambiguous", entry, name, message, escape(fix))


def _note_apart(entry: LocalEntry, draft: LocalDraft) -> None:
    """Report a setting of other jobs, such as evaluation or debugging, that differs from that of the runs."""
    name = local_lines.setting(entry.label, frozenset({"slurm"}))
    if name is None or not _fits(name, entry) or _is_so(name, entry.as_field(), draft):
        return
    why = "which is not used, because the section is not about the jobs of the runs"
    message = f"{entry.note}: {name} is {shown(entry.value)}, {why}"
    fix = "no action if that is intended; otherwise move it under '## SLURM Defaults'"
    _unused(draft, name, entry.line, message, fix)


def _note_sites(found: Sequence[Part], draft: LocalDraft) -> None:
    """Report settings of jobs below several headings that may be names of clusters: an error if two have the same one.

    A setting with two values is a contradiction anyway.
    """
    sites: dict[str, dict[str, LocalEntry]] = {}
    for part in found:
        own = part.title if local_lines.is_of_a_site(part.title) else ""
        for entry in part.entries:
            name = local_lines.setting(entry.label, entry.topic)
            site = part.groups.get(entry.line, own if part.topic != local_lines.TOP else "")
            if site and name in _OF_ONE_SITE and not values.is_open(entry.value):
                sites.setdefault(site, {}).setdefault(name, entry)
    given: dict[str, list[LocalEntry]] = {}
    for name, entry in (pair for of_site in sites.values() for pair in of_site.items()):
        given.setdefault(name, []).append(entry)
    several = {name: entries for name, entries in given.items() if len(entries) > 1}
    contradicted = {problem.field for problem in draft.findings if problem.code == "ambiguous"}
    if len(sites) == 1 or several.keys() & contradicted or not given:
        return
    first, second = next(iter(several.values()), [next(iter(of_site.values())) for of_site in sites.values()])[:2]
    places = [f"{entry.note} on line {entry.line}" for entry in (first, second)]
    message = f"{' and '.join(places)} may be settings for different clusters, but all jobs run on one cluster"
    fix = "keep only the settings of the cluster that you use, and write them below '## SLURM Defaults'"
    fix = fix if several else f"no action if both are for the same cluster; otherwise {fix}"
    severity = None if several else Severity.WARNING
    draft.add("ambiguous", message, field="slurm", line=second.line, fix=escape(fix), severity=severity)


def _note_unread(found: Sequence[Part], draft: LocalDraft, read_blocks: set[int]) -> None:
    """Report other content that looks like settings: tables of other forms, blocks of code, lines without a colon."""
    for part in found:
        title = part.title or "the document"
        for entry in part.unclear:
            name = local_lines.setting(entry.label, entry.topic)
            if name and not values.is_unset(entry.value) and not _is_so(name, entry.as_field(), draft):
                message = f"{entry.note}: a line without a colon is not read"
                _unused(draft, entry.label, entry.line, message, _AS_A_LINE)
        for table, topic in part.tables:
            names = _named_settings(table, topic)
            if (local_lines.is_strict(topic) or names) and not local_lines.is_of_others(topic):
                message = f"{title}: settings are not read from a table of this form"
                is_lost = local_lines.is_strict(topic) and not names <= draft.settings.keys()
                code = "misspelt-field" if is_lost else "unused-field"
                fix = "use the two columns Setting and Value, or write each setting as a line `- **Name:** value`"
                draft.add(code, message, field="table", line=table.line, fix=fix)
        _note_sentences(part, draft)
        _note_examples(part, draft)
        for fence, topic in part.fences:
            line = next(_settings_in(fence, topic), None) if fence.line not in read_blocks else None
            if line:
                message = f"{title}: settings are not read from this code block"
                _unused(draft, "block of code", line, message, _AS_LINES)


def _note_sentences(part: Part, draft: LocalDraft) -> None:
    """Report sentences that give the jobs settings that they do not have, and keep options of sbatch as examples."""
    reported = {entry.line for entry in part.unclear}
    for text, topic in part.lines:
        lost: dict[str, set[str]] = {}
        for clause in local_lines.clauses(text, topic):
            for label, value in local_lines.options(clause):
                part.examples.append(part.entry(label, value, value, text.line, local_lines.OF_JOBS, literal=True))
            for name, value in local_lines.stated(clause):
                if values.value_of(local_lines.parameter(name), SourceText(value, text.line, name)) is not None:
                    lost.setdefault(name, set()).add(value)
        given = {name: each.pop() for name, each in lost.items() if len(each) == 1}
        others = {n: v for n, v in given.items() if not _is_so(n, SourceText(v, text.line, n), draft)}
        if others and text.line not in reported:
            message = f"{part.title or 'the document'}: settings are not read from sentences: {few([*others], _FEW)}"
            lines = few([kinds.as_line(name, value, yaml=False) for name, value in others.items()], _FEW)
            fix = f"if the jobs of the runs should have them, add under '## SLURM Defaults': {escape(lines)}"
            _unused(draft, next(iter(others)) if len(others) == 1 else "slurm", text.line, message, fix)


def _prose(found: Sequence[Part]) -> Iterator[SourceText]:
    """Yield sentences about jobs and about Weights & Biases, and its mode in shell exports."""
    for part in found:
        for text, topic in part.lines:
            if "nothing" not in topic and pair_of(text) is None:
                about = "W&B: " if "wandb" in topic and not free_text.names_wandb(text.plain) else ""
                yield SourceText(f"{about}{text.plain}", text.line, part.title or "the document")
                of_jobs = next(filter(None, map(_GPUS_OF_JOBS.search, local_lines.clauses(text, topic))), None)
                if of_jobs and not any(free_text.settings_in_sentences(text.plain)):
                    number = of_jobs["gpus"] or of_jobs["of"]
                    yield SourceText(f"Use {number} GPUs", text.line, part.title or "the document")
        for fence, topic in part.fences:
            for number, line in _numbered(fence) if "nothing" not in topic else ():
                pair = pair_of(Text(line.strip(), number)) if "WANDB_MODE" in line else None
                if pair is not None:
                    yield SourceText(f"W&B mode: {pair.value}", number, part.title)


def _note_lost_options(text: str, found: Sequence[Part], struck: set[int], draft: LocalDraft) -> None:
    """Report unread #SBATCH lines: in HTML, or in a block inside a list; but not those that are struck out."""
    read = struck | {entry.line for part in found for entry in (*part.entries, *part.examples)}
    for number, line in enumerate(text.splitlines(), start=1):
        if number not in read and any(value for _, value in notations.sbatch_options(line) if "#SBATCH" in line):
            message = f"{shown(line.strip())} is not read here"
            _unused(draft, "sbatch", number, message, "move it to a code block under '## SLURM Defaults'")


def _note_examples(part: Part, draft: LocalDraft) -> None:
    """Report an example of a job script with options that differ from the settings."""
    others: list[str] = []
    for entry in part.examples:
        name = local_lines.setting(entry.label, entry.topic)
        if name is None or values.is_open(entry.value):
            continue
        try:
            asked = _parts(name, entry)
        except NotHonoured:
            asked = {name: entry.as_field()}
        others += [f"{each}={text.text}" for each, text in asked.items() if not _is_so(each, text, draft)]
    if others:
        differ = f"{few(others, _FEW)} {'differs' if len(others) == 1 else 'differ'} from the options of the jobs"
        message = f"{part.title}: the sbatch options in this example are not used; {differ}"
        fix = "no action if it is only an example; otherwise write the options under '## SLURM Defaults'"
        _unused(draft, "sbatch", part.examples[0].line, message, escape(fix))


def _named_settings(table: Table, topic: Topic) -> set[str]:
    """Return the settings that the header of a table names, or else its first column."""
    columns = [table.header, [row.cells[0] for row in table.rows if row.cells]]
    named = [{name for cell in cells if (name := local_lines.setting(cell.plain, topic))} for cells in columns]
    return named[0] or named[1]


def _settings_in(fence: Fence, topic: Topic) -> Iterator[int]:
    """Yield the lines that look like settings in a block about SLURM."""
    for number, line in _numbered(fence) if "slurm" in topic else ():
        pair = None if notations.is_sbatch(line) else pair_of(Text(line.strip(), number))
        if pair and local_lines.setting(pair.label, topic) and not values.is_unset(pair.value):
            yield number


def _numbered(fence: Fence) -> Iterator[tuple[int, str]]:
    yield from enumerate(fence.content.splitlines(), start=fence.line + 1)


def _plainly_loads(line: str, *, in_prose: bool) -> tuple[str, ...]:
    """Return the names that a line clearly loads: `ml` may be a variable, and prose may follow."""
    found = local_lines.loads(line).names
    is_doubtful = "module" not in line.split() or (in_prose and len(found) > 1)
    return () if is_doubtful and not all(map(local_lines.is_versioned, found)) else found


def _loaded_modules(found: Sequence[Part], draft: LocalDraft) -> list[SourceText]:
    """Return the modules of each section about modules, in order, as `a,b`; report lines that do more."""
    fields: list[SourceText] = []
    for part in found:
        lines = [
            (n, text, local_lines.loads(text))
            for f, topic in part.fences
            if "modules" in topic
            for n, text in _numbered(f)
        ]
        for text, topic in part.lines:
            if "modules" in topic and text.labelled() is None:
                lines.append((text.line, text.plain, _of_text(text, draft)))
        lines.sort(key=lambda one: one[0])
        for line, written, loaded in lines:
            if loaded.changes:
                message = f"{shown(written)} is not used, because only `module load` is supported"
                fix = "load each module by name and version; a job starts without any modules"
                _unused(draft, "modules", line, message, fix)
        names = [(name, line) for line, _, loaded in lines for name in loaded.names]
        versions: dict[str, tuple[str, int]] = {}
        for name, line in names:
            base, _, version = name.rpartition("/")
            other, first = versions.setdefault(base, (name, line)) if version[:1].isdigit() else (name, line)
            if other != name:
                message = f"two versions of a module are listed: {shown(name)} here, and {shown(other)} on line {first}"
                fix = "keep only the version that the jobs should load"
                draft.add("ambiguous", message, field="modules", line=line, fix=fix)
        if names:
            loaded_names = ",".join(dict.fromkeys(name for name, _ in names))
            fields.append(SourceText(loaded_names, names[0][1], part.title, last=names[-1][1], alone=True))
    return fields


def _of_text(text: Text, draft: LocalDraft) -> local_lines.Loads:
    """Return the modules of a line in a section about modules: a command, or a name with its version."""
    written = text.code or text.plain
    if text.plain.startswith(("module ", "ml ")):
        is_prose = text.code is None or not text.plain.startswith(text.code)
        found = local_lines.Loads(_plainly_loads(text.plain, in_prose=True)) if is_prose else local_lines.loads(written)
        is_lost = not found.names and bool(local_lines.loads(text.plain).names)
    else:
        found = local_lines.Loads((written,) if local_lines.is_versioned(written) else ())
        is_lost = not found.names and _ONE_WORD.fullmatch(text.plain) is not None and not values.is_unset(text.plain)
    if is_lost:
        message = f"{shown(text.plain)} does not look like the name of a module, so it is not read"
        _unused(draft, "modules", text.line, message, _IN_A_BLOCK)
    return found


def _note_other_commands(found: Sequence[Part], draft: LocalDraft) -> None:
    """Report commands in sections about modules that jobs do not run, in one finding for each section."""
    for part in found:
        lines = [line for fence, topic in part.fences if "modules" in topic for line in _numbered(fence)]
        for text, topic in part.lines:
            if "modules" in topic and text.code == text.plain and not local_lines.is_versioned(text.plain):
                lines.append((text.line, text.plain))
        dropped: list[tuple[int, str]] = []
        for number, written in sorted(lines):
            for words in local_lines.commands(written):
                command = words[1:] if words[:1] == ["$"] else words
                env = _activated(command)
                if env:
                    _note_environment(env, number, draft)
                elif not _is_needless(command):
                    dropped.append((number, written.strip()))
        if dropped:
            number, first = dropped[0]
            more = f" and {counted(len(dropped) - 1, 'more command')} here are" if len(dropped) > 1 else " is"
            message = f"{shown(first)}{more} not part of the jobs, which only load the modules of this section"
            them = "it" if len(dropped) == 1 else "them"
            fix = (
                f"no action if the jobs do not need {them}; otherwise run {them} in the shell that submits the jobs,"
                " because sbatch passes the environment of that shell to the jobs"
            )
            _unused(draft, "modules", number, message, fix)


def _activated(command: Sequence[str]) -> str:
    """Return the environment that a command activates: `conda activate tune`, `source activate tune`."""
    is_one = len(command) == len(("conda", "activate", "NAME")) and command[1] == "activate"
    return command[2] if is_one and command[0] in {"conda", "mamba", "micromamba", "source"} else ""


def _note_environment(env: str, line: int, draft: LocalDraft) -> None:
    setting = draft.settings.get("conda_env")
    if setting is not None and env.rstrip("/").rpartition("/")[2] != setting.text.rstrip("/").rpartition("/")[2]:
        message = f"this command activates {shown(env)}, but jobs activate {shown(setting.text)} (line {setting.line})"
        fix = (
            f"if the jobs need {shown(env)}, replace {shown(setting.text)} with {shown(env)} on line {setting.line};"
            f" otherwise remove line {line}"
        )
        _unused(draft, "conda_env", line, message, escape(fix))


def _is_needless(command: Sequence[str]) -> bool:
    """Return whether jobs need not run a command: it loads modules, or sets up commands that jobs have anyway."""
    program, *rest = command or [""]
    if not program or program in {"module", "ml", *_ONLY_SHOW} or program.startswith("#"):
        return True
    if program in {"source", "."}:
        return len(rest) == 1 and _USUAL_FILE.fullmatch(rest[0]) is not None
    is_of_conda = program == "eval" and "conda" in " ".join(rest)
    is_read = any(word.startswith("WANDB_MODE=") for word in command)  # compared as a sentence
    return is_of_conda or is_read or command[:2] == ["conda", "deactivate"] or program == "set"


def _note_other_loads(found: Sequence[Part], draft: LocalDraft) -> None:
    """Report modules that are loaded outside a section about modules, and are not in the setting."""
    setting = draft.settings.get("modules")
    known = {name.strip() for name in setting.text.split(",")} if setting else set()
    read = {"modules", "nothing"}
    for part in found:
        lines = [line for fence, topic in part.fences if not topic & read for line in _numbered(fence)]
        for text, topic in part.lines:
            if not topic & read and text.code is not None and text.labelled() is None:
                lines.append((text.line, text.code))
        for number, written in lines:
            names = _plainly_loads(written, in_prose=False)
            if names and not known.issuperset(names):
                message = f"{shown(written.strip())} is not read here; modules are read only under '## Module System'"
                _unused(draft, "modules", number, message, _IN_A_BLOCK)
