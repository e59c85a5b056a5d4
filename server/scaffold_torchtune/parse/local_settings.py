"""What a claude.local.md sets, read alone, without an experiment beside it."""

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.parse import environment, local
from scaffold_torchtune.parse.draft import SummaryDraft
from scaffold_torchtune.parse.reading import Reading


def local_settings(text: str, file: str) -> tuple[dict[str, Setting], tuple[Finding, ...]]:
    """The typed settings of a claude.local.md by name, and what is wrong or remarkable with it.

    Args:
        text: the document.
        file: its name in messages.
    """
    draft = local.read(text, file)
    reading = Reading(SummaryDraft(file), draft, "markdown", lambda _: False)
    settings = environment.read(reading)
    return settings, (*draft.findings, *reading.findings)
