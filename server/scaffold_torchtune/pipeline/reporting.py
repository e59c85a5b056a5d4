"""`report`: an experiment as a page, a Markdown text or a CSV table. The page is renewed after each scaffold.

Who wants the page asks for it once: from then on it is there, and where it is there as it was made, it is renewed.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, escape, finding, refuse
from scaffold_torchtune.models import Model, Plan
from scaffold_torchtune.pipeline import journal, state, validation
from scaffold_torchtune.pipeline.apply import writing
from scaffold_torchtune.pipeline.locate import experiment_directory
from scaffold_torchtune.pipeline.status import status
from scaffold_torchtune.preflight.training import need_of
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.report_contents import (
    ExperimentReport,
    LogEntry,
    RunCost,
    csv_table,
    markdown,
    report_of,
)
from scaffold_torchtune.results.report_page import is_page, is_unedited, page, written_at
from scaffold_torchtune.results.step_results import ValidateResult
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import MAX_READ, Tree, is_taken, publish, read_regular
from scaffold_torchtune.torchtune_facts.facts import load

ReportForm = Literal["page", "markdown", "csv"]
PRINTED: Final = "-"
_MOST_LOG: Final = 400_000  # bytes of the log's end


class ReportResult(Model):
    """A report that was written, or is to be printed."""

    form: ReportForm
    path: str = Field(default="", description="the file that was written; empty where the text is to be printed")
    text: str = Field(default="", exclude=True, description="what is to be printed")
    verdict: str
    runs: int


def report(request: Request, form: ReportForm, output: str | None = None) -> ReportResult:
    """Make a report of an experiment as it is now.

    Args:
        request: the experiment. What `validate` asks, is asked here too. `overwrite`: a file in the way is replaced.
        form: what to make.
        output: the file to write, `-` to print; None: scaffold.html in the experiment, the other forms are printed.

    Raises:
        Refused: nothing was rendered yet; or a file in the way is not a page as it was made here.
    """
    with Tree(experiment_directory(request)) as tree:
        made = _collect(tree, request)
        result = ReportResult(form=form, verdict=made.verdict, runs=len(made.runs))
        text = {"page": page, "markdown": markdown, "csv": csv_table}[form](made)
        if output == PRINTED or (output is None and form != "page"):
            return result.model_copy(update={"text": text})
        own = tree.root / layout.PAGE
        path = own if output is None else Path(output).absolute()
        if path == own:
            _check(tree.read(layout.PAGE), layout.PAGE, request)
            with writing(tree):
                tree.write(layout.PAGE, text.encode())
        else:
            _write(path, text.encode(), request)
        return result.model_copy(update={"path": str(path)})


def _write(path: Path, data: bytes, request: Request) -> None:
    """Write a file that the user named.

    Raises:
        Refused: something is in its place that is no page as it was made here, or the file system says no.
    """
    name = escape(str(path))
    try:
        _check(read_regular(path, MAX_READ * 10, follow=False) if is_taken(path) else None, name, request)
        publish({path: data})
    except OSError as error:
        message = f"cannot write {name}: {error.strerror}"
        raise refuse("write-failed", message, file=name, fix="name another file with --output") from error


def _check(there: bytes | None, name: str, request: Request) -> None:
    """Refuse to replace what is not a page as it was made here."""
    if there is None or request.overwrite or is_unedited(there):
        return
    what = "was edited since it was made" if is_page(there) else "is not a report of scaffold-torchtune"
    fix = "name another file with --output, or move it away to keep it, or replace it with --overwrite"
    raise refuse("edited-output", f"{name} {what}", file=name, fix=fix)


def renew(request: Request, validated: ValidateResult | None = None) -> Finding | None:
    """Renew the page where it is there as it was made; return a warning where that is not possible.

    Nothing is written where nothing but the time would change, nor over a file that was not made here.

    Args:
        request: the experiment.
        validated: the verdict; None: it is found anew.
    """
    with Tree(experiment_directory(request)) as tree:
        if tree.kind(layout.PAGE) != "file":
            return None
        try:
            there = tree.read(layout.PAGE) or b""
            if not is_page(there):
                return None
            _check(there, layout.PAGE, request)
            made = _collect(tree, request, validated)
            same = page(made.model_copy(update={"written": written_at(there)}))
            if same.encode() != there:
                with writing(tree):
                    tree.write(layout.PAGE, page(made).encode())
        except Refused as refused:
            reason = refused.problems[0] if refused.problems else None
            message = f"{layout.PAGE} was not renewed: {reason.message if reason else refused.message}"
            fix = reason.fix if reason else "make it again with: scaffold-torchtune report"
            return finding("report-outdated", message, severity=Severity.WARNING, file=layout.PAGE, fix=fix)
    return None


def with_page(request: Request, result: ValidateResult) -> ValidateResult:
    """Renew the page after a verdict; where that is not possible, the verdict says so."""
    found = renew(request, result)
    return result.model_copy(update={"findings": (*result.findings, found)}) if found else result


def _collect(tree: Tree, request: Request, validated: ValidateResult | None = None) -> ExperimentReport:
    plan = state.existing_plan(tree)
    if validated is None:
        validated = validation.validate_plan(tree, plan, request)
        if validated.passed:
            validated = validated.model_copy(update={"tracking": validation.tracking(plan)})
    written = f"{request.now():%Y-%m-%d %H:%M}"
    return report_of(plan, status(request), validated, _needs(plan), _log(tree), written)


def _needs(plan: Plan) -> dict[str, RunCost]:
    found = {}
    for run in plan.runs:
        facts = load().model(run.text("torchtune_model_name"))
        need = need_of(run, facts) if facts else None
        gpus = run.integer("gpus", 1)
        found[run.directory] = RunCost(gpus, need.held, need.saved) if need else RunCost(gpus)
    return found


def _log(tree: Tree) -> list[LogEntry]:
    """Return the last entries of scaffold.log; none where it cannot be read."""
    with suppress(Refused):
        start = max(0, tree.size(layout.LOG) - _MOST_LOG)
        text = (tree.read(layout.LOG, start=start) or b"").decode(errors="replace")
        return [*journal.read_entries(text[text.find("\n[") + 1 :] if start else text)]
    return []
