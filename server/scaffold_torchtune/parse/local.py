"""Reads claude.local.md into a `LocalDraft`."""

import shlex
from collections.abc import Iterable, Iterator

from scaffold_torchtune.errors import finding
from scaffold_torchtune.parse import clean
from scaffold_torchtune.parse.draft import Field, LocalDraft
from scaffold_torchtune.parse.typed import NotTyped
from scaffold_torchtune.shared import markdown, yamlio
from scaffold_torchtune.shared.parameters import normalize
from scaffold_torchtune.shared.text import escape, shown

_LABELS = {
    "conda env": "conda_env",
    "default conda environment": "conda_env",
    "conda environment": "conda_env",
    "output dir base": "output_dir_base",
    "output base directory": "output_dir_base",
    "outputs": "output_dir_base",
    "my wandb project": "my_wandb_project",
    "wandb project": "my_wandb_project",
    "default project": "my_wandb_project",
    "scratch dir": "scratch_dir",
    "scratch directory": "scratch_dir",
    "working directory": "working_dir",
    "working dir": "working_dir",
    "models directory": "models_dir",
    "models dir": "models_dir",
    "account": "account",
    "slurm account": "account",
    "partition": "partition",
    "constraint": "constraint",
    "default time": "time",
    "time": "time",
    "default gpus": "gpus",
    "gpus": "gpus",
    "modules": "modules",
}


# A document that sets one of these outside a block of YAML keeps its settings there.
_CORE = frozenset({"conda_env", "output_dir_base", "my_wandb_project"})
# Sections whose labels are about something else: an account there is not SLURM's.
_ELSEWHERE = frozenset({"github", "git", "gitlab", "examples", "example", "commands"})


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
        draft.problems.append(finding("invalid-value", error.message, file=file, line=error.line, fix=fix))
        draft.readable = False
        return draft
    draft.sections = {s.title: s.line for s in reversed(list(root.walk())) if s.title}
    if front:
        _block(front, 1, draft)
    _sections(root, draft)
    if not draft.settings.keys() & _CORE:
        for section in root.walk():
            if not _ELSEWHERE & set(normalize(section.title).split()):
                for fence in section.fences:
                    if fence.language.lower() in {"yaml", "yml"}:
                        _block(fence.content, fence.line, draft)
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


def _block(text: str, offset: int, draft: LocalDraft) -> None:
    """Settings of a block of YAML whose first line is line `offset` + 1 of the document."""
    try:
        document = yamlio.read(text)
    except yamlio.YamlError as error:
        message = f"the block of YAML cannot be read: {escape(error.message)}"
        line = offset + (error.line or 1)
        draft.problems.append(finding("invalid-value", message, file=draft.file, line=line, fix="correct the YAML"))
        draft.readable = False
        return
    for key, value in document.data.items() if isinstance(document.data, dict) else ():
        name = _LABELS.get(normalize(key))
        names = [str(item) for item in value] if isinstance(value, list) else []
        written = ",".join(names) if names else document.plain.get((key,), value)
        if name and isinstance(written, str) and not clean.is_unset(written):
            _set(draft, name, Field(written, offset + (document.line((key,)) or 1), key))


def _lines(texts: Iterable[markdown.Text]) -> Iterator[markdown.Text]:
    """The texts; where a bullet goes on with lines `key: value`, which Markdown takes for its text, those apart."""
    for text in texts:
        first, *more = text.plain.split("\n")
        known = [_LABELS.get(normalize(line.partition(":")[0])) if ":" in line else None for line in more]
        if not any(known):
            yield text
            continue
        code = text.code if text.code and text.code in first else None
        yield markdown.Text(first, text.line, text.lead, text.rest.split("\n")[0], code)
        for number, line in enumerate(more, start=1):
            yield markdown.Text(line.strip(), text.line + number)


def _sections(root: markdown.Section, draft: LocalDraft) -> None:
    for section in root.walk():
        if _ELSEWHERE & set(normalize(section.title).split()):
            continue
        for item in _lines([*(b.text for b in section.all_bullets()), *section.paragraphs]):
            pair = item.labelled()
            name = _LABELS.get(normalize(pair.label)) if pair else None
            if pair and name and not clean.is_unset(pair.value):
                note = f"{section.title} > {pair.label}" if section.title else pair.label
                _set(draft, name, Field(pair.value, item.line, note, pair.full))
        if normalize(section.title) in {"module system", "modules", "environment modules"}:
            _modules(section, draft)


def _set(draft: LocalDraft, name: str, field: Field) -> None:
    first = draft.settings.setdefault(name, field)
    if first.text != field.text:
        draft.problems.append(
            finding(
                "ambiguous",
                f"{name} is {shown(field.text)} here and {shown(first.text)} at line {first.line}",
                field=name,
                file=draft.file,
                line=field.line,
                fix="keep one of the two lines",
            )
        )


def _modules(section: markdown.Section, draft: LocalDraft) -> None:
    """`module load a b` lines of the section's code block, in order, as `a,b`."""
    names: list[str] = []
    first = 0
    for fence in section.fences:
        for number, line in enumerate(fence.content.splitlines(), start=fence.line + 1):
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                words = [line]
            if words[:2] in (["module", "load"], ["module", "add"]):
                names.extend(words[2:])
                first = first or number
    if names:
        _set(draft, "modules", Field(",".join(dict.fromkeys(names)), first, section.title))


def scratch_directory(text: str, file: str) -> str | None:
    """The scratch directory that a claude.local.md names, or None where it names none that is plainly a path."""
    found = read(text, file).settings.get("scratch_dir")
    try:
        return clean.path(found.text) if found else None
    except NotTyped:
        return None
