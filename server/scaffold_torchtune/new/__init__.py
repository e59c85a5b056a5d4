"""`new`: writes an experiment_summary.md, and a claude.local.md where there is none, that scaffold as they are.

Options are typed by what reads documents. What was rendered is read back and planned in memory, and every value is
compared with what was asked for, before anything is written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scaffold_torchtune.findings import Finding, Refused, refuse
from scaffold_torchtune.models.base import Model
from scaffold_torchtune.new.asked import OPTIONS, Asked
from scaffold_torchtune.new.documents import local_text, summary_text
from scaffold_torchtune.new.files import write
from scaffold_torchtune.new.proof import absent_data, prove
from scaffold_torchtune.new.wishes import check, complete, find_local, type_wishes
from scaffold_torchtune.pipeline import Request, check_roots
from scaffold_torchtune.pipeline.locate import expanded
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.text import shown


class NewResult(Model):
    """What was written: paths, the experiment's name, its number of fine-tuned runs, the claude.local.md it uses."""

    created: tuple[str, ...]
    experiment: str
    runs: int
    local: str
    warnings: tuple[Finding, ...] = ()


def create(request: Request, wishes: Mapping[str, Sequence[str]], *, control: bool = False) -> NewResult:
    """Write the documents of a new experiment into `request.experiment`.

    `wishes` are the texts of the options by parameter, as they were typed. `control` adds a control for each model.

    Raises:
        Refused: something asked for is missing, is not what it must be or cannot be scaffolded, or a file is in the
            way; names every problem, and nothing was written.
    """
    asked = Asked(_directory(request), control)
    type_wishes(asked, wishes)
    find_local(asked, request)
    complete(asked)
    check(asked)
    if asked.problems:
        raise Refused(f"{len(asked.problems)} problem(s) with what was asked for", asked.problems)
    documents = {layout.SUMMARY: summary_text(asked, request)}
    if asked.local is None:
        documents[layout.LOCAL] = local_text(asked)
    warnings = prove(asked, documents)
    created = write(asked.directory, documents)
    path = asked.local.path if asked.local else asked.directory / layout.LOCAL
    return NewResult(
        created=tuple(str(file) for file in created),
        experiment=str(asked.one("experiment_name")),
        runs=len(asked.rows()),
        local=str(path),
        warnings=(*warnings, *absent_data(asked)),
    )


def _directory(request: Request) -> Path:
    """The real path of the directory, which need not be there."""
    given = expanded(request.experiment)
    try:
        real = given.resolve()
        taken = real.exists() and not real.is_dir()
    except (OSError, RuntimeError) as error:
        message = f"{shown(str(given))} cannot be looked at"
        raise refuse("not-a-directory", message, field="experiment", fix="give another path") from error
    if not str(real).isprintable():
        message = f"the path {shown(str(real))} holds a character that cannot be printed"
        raise refuse("unsafe-path", message, field="experiment", fix="give another directory")
    check_roots(real, request)
    if taken or real.name.lower() in layout.RESERVED:
        message = f"{shown(str(given))} is not a directory for an experiment"
        raise refuse("not-a-directory", message, field="experiment", fix="give another directory")
    return real


__all__ = ["OPTIONS", "NewResult", "create"]
