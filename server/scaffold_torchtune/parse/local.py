"""Reads claude.local.md into a `LocalDraft`."""

import shlex

from scaffold_torchtune.errors import finding
from scaffold_torchtune.parse import clean
from scaffold_torchtune.parse.draft import Field, LocalDraft
from scaffold_torchtune.shared import markdown
from scaffold_torchtune.shared.parameters import normalize
from scaffold_torchtune.shared.text import shown

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


# Sections whose labels are about something else: an account there is not SLURM's.
_ELSEWHERE = frozenset({"github", "git", "gitlab", "examples", "example", "commands"})


def read(text: str, file: str) -> LocalDraft:
    """Read a claude.local.md. What is left open (`<placeholder>`, `(leave empty)`) is absent."""
    draft = LocalDraft(file)
    for section in markdown.read(text).walk():
        if _ELSEWHERE & set(normalize(section.title).split()):
            continue
        for item in [*(b.text for b in section.all_bullets()), *section.paragraphs]:
            pair = item.labelled()
            name = _LABELS.get(normalize(pair.label)) if pair else None
            if pair and name and not clean.is_unset(pair.value):
                note = f"{section.title} > {pair.label}" if section.title else pair.label
                _set(draft, name, Field(pair.value, item.line, note))
        if normalize(section.title) in {"module system", "modules", "environment modules"}:
            _modules(section, draft)
    return draft


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
    except clean.NotTyped:
        return None
