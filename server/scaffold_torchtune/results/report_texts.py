"""The report as Markdown, short enough for a repository or a chat, and as a CSV table with one line for each run."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.results.report_contents import (
    ExperimentReport,
    FoundInRuns,
    ReportedRun,
    gpu_hours,
    loss_text,
    progress,
    total,
    value_text,
)
from scaffold_torchtune.system.text import counted, few, one_line

_MOST_ROWS: Final = 60
_MOST_COLUMNS: Final = 12
_NAMED: Final = 4
_SPECIAL: Final = re.compile(r"([\\`*\[\]<>|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_REFERENCE: Final = re.compile(r"#(?=[0-9])")  # GitHub links it to an issue
_MARKS: Final = {
    "planned": "planned",
    "scaffolded": "scaffolded",
    "submitted": "submitted",
    "running": "**running**",
    "finished": "finished",
    "failed": "**failed**",
}


# --- Markdown


def markdown(report: ExperimentReport) -> str:
    """Return the short form, in GitHub's Markdown. Values are code or escaped: none is Markdown or a mention."""
    states = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    parts = [
        f"# {_plain(report.experiment)}",
        f"**Validation {report.verdict}**: {_plain(report.told)}.",
        f"{counted(len(report.runs), 'run')}: {states}.{_hours(report)}",
    ]
    if report.refused:
        parts.insert(1, f"**The last scaffold was refused**: {_plain(few(report.refused, _NAMED, between='; '))}")
    parts.append(_matrix(report) if _has_matrix(report) else _run_table(report))
    if report.unwell:
        parts += ["## Needs attention", "\n".join(_item(each) for each in report.unwell)]
    serious = [each for each in report.findings if each.finding.severity is not Severity.INFO]
    if serious:
        rest = len(serious) - _MOST_ROWS
        more = f"\n- and {rest} more" if rest > 0 else ""
        parts += ["## Findings", "\n".join(_item(each) for each in serious[:_MOST_ROWS]) + more]
    parts.append(f"Made by scaffold-torchtune {report.version} on {report.written}.")
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    escaped = _SPECIAL.sub(r"\\\1", one_line(text).replace("&", "&amp;"))
    return _REFERENCE.sub("&#35;", escaped).replace("@", "&#64;")


def _code(text: str) -> str:
    """Return a text as code, in a fence that is longer than any in it; a table takes it, too."""
    text = one_line(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def _hours(report: ExperimentReport) -> str:
    requested, used = total(run.requested for run in report.runs), total(run.used for run in report.runs)
    parts = [f"{gpu_hours(hours)} {what}" for hours, what in ((used, "used"), (requested, "requested")) if hours]
    return f" GPU-hours: {', '.join(parts)}." if parts else ""


def _has_matrix(report: ExperimentReport) -> bool:
    grid = report.grid
    return grid is not None and len(report.factors[1].levels) <= _MOST_COLUMNS


def _matrix(report: ExperimentReport) -> str:
    grid, (down, across) = report.grid or {}, report.factors
    head = [f"{_code(down.name)} \\ {_code(across.name)}", *(_code(value_text(each, 60)) for each in across.levels)]
    rows = [
        [_code(value_text(level, 60)), *(_cell(grid.get((y, x), ())) for x in range(len(across.levels)))]
        for y, level in enumerate(down.levels)
    ]
    return _table(head, rows)


def _cell(runs: Sequence[ReportedRun]) -> str:
    return ", ".join(f"{_state(run)}{_figure(run)}" for run in runs)


def _state(run: ReportedRun) -> str:
    unwell = "" if run.is_well or run.status.state == "failed" else ", **not well**"
    return f"{_MARKS[run.status.state]}{unwell}{', validation failed' if run.has_errors else ''}"


def _figure(run: ReportedRun) -> str:
    done = progress(run.status)
    parts = [f"loss {loss_text(run.loss)}" if run.loss is not None else f"epoch {done}" if done else ""]
    return f" ({parts[0]})" if parts[0] else ""


def _run_table(report: ExperimentReport) -> str:
    has_epochs = any(progress(run.status) for run in report.runs)
    has_loss = any(run.loss is not None for run in report.runs)
    head = ["run", *(_code(each.name) for each in report.factors), "state"]
    head += [*(["epochs"] if has_epochs else []), *(["loss"] if has_loss else [])]
    rows = [
        [
            _code(run.directory),
            *(_code(value_text(each, 60)) for each in run.levels),
            _state(run),
            *([progress(run.status)] if has_epochs else []),
            *([loss_text(run.loss)] if has_loss else []),
        ]
        for run in sorted(report.runs, key=_needs_a_look)[:_MOST_ROWS]
    ]
    more = len(report.runs) - len(rows)
    return _table(head, rows) + (f"\n\nand {counted(more, 'more run')}" if more else "")


def _needs_a_look(run: ReportedRun) -> bool:
    """Return what runs are sorted by: those that failed, or are not well, are first where not all are listed."""
    return run.is_well and not run.has_errors


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _item(of: FoundInRuns) -> str:
    found = of.finding
    runs = f"{few([_code(name) for name in of.runs], _NAMED)}: " if of.runs else ""
    place = f"{_code(found.location())}: " if found.location() else ""
    fix = f". Fix: {_plain(found.fix)}" if found.fix else ""
    return f"- {found.severity.value}: {runs}{place}{_plain(found.message)}{fix}"


# --- CSV

_COLUMNS: Final = ("directory", "run_name")
_RESULTS: Final = ("state", "epochs_done", "epochs_planned", "last_loss", "output_directory")
_FORMULA: Final = tuple("=+-@\t\r")


def csv_table(report: ExperimentReport) -> str:
    """Return the table: a line for each run with every value that varies, its state, epochs, last loss and outputs.

    Numbers are plain numbers, lines end with a line feed. A text that a spreadsheet would take for a formula begins
    with an apostrophe, as such programs write it themselves.
    """
    values = [_varying(run, report) for run in report.runs]
    names = list(dict.fromkeys(name for each in values for name in each))
    own = {*_COLUMNS, *_RESULTS}
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*_COLUMNS, *(_cell_of(f"setting_{name}" if name in own else name) for name in names), *_RESULTS])
    for run, varying in zip(report.runs, values, strict=True):
        status = run.status
        done: tuple[Scalar, ...] = (status.state, status.epochs_done, status.epochs, run.loss, status.output_dir)
        cells = (run.directory, run.name, *(varying.get(name) for name in names), *done)
        table.writerow([_cell_of(each) for each in cells])
    return out.getvalue()


def _varying(run: ReportedRun, report: ExperimentReport) -> Mapping[str, Scalar]:
    """Return the factors of a run, and its other values that not all runs have."""
    factors = {factor.name: value for factor, value in zip(report.factors, run.levels, strict=True)}
    shared = {each.name for each in report.shared}
    return factors | {each.name: each.value for each in run.values if each.name not in shared}


def _cell_of(value: Scalar) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float):
        return value_text(value)
    text = one_line(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
