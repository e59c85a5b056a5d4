"""Reads experiment_summary.md into a `SummaryDraft`."""

from scaffold_torchtune.parse import levels, markdown_resources, markdown_settings, overlooked, runs_table, titles
from scaffold_torchtune.parse.draft import Field, SummaryDraft
from scaffold_torchtune.settings.parameters import normalize
from scaffold_torchtune.shared import markdown
from scaffold_torchtune.shared.markdown import Section

_TITLE_WORDS = frozenset({"experiment", "run", "runs", "plan", "summary", "fine", "tuning", "finetuning", "training"})


def read(text: str, file: str) -> SummaryDraft:
    """Read a Markdown summary. Problems of its form are noted in the draft."""
    draft = SummaryDraft(file)
    try:
        root = markdown.read(text)
    except markdown.TooDeepError as error:
        draft.problem("invalid-value", error.message, error.line, "take away lists, quotes or emphasis")
        draft.readable = False
        return draft
    draft.sections = titles.lines_of(root)
    _name(root, draft)
    runs_table.read(root, draft)
    levels.read(root, draft)
    markdown_resources.read(root, draft)
    markdown_settings.read(root, draft)
    overlooked.read(text, root, draft)
    return draft


def _name(root: Section, draft: SummaryDraft) -> None:
    titled = [s for s in root.walk() if s.level == 1 and s.title]
    if not titled:
        return
    prefix, colon, rest = titled[0].title.partition(":")
    words = set(normalize(prefix).split())
    name = rest.strip() if colon and words and words <= _TITLE_WORDS else titled[0].title
    draft.name = Field(name, titled[0].line, "title")
