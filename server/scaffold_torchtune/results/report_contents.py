"""An experiment's report: its contents, which the page also shows, a short Markdown text, and a CSV table."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, Literal, NamedTuple

from pydantic import Field

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Scalar, counted, escape, few, one_line
from scaffold_torchtune.models import Model, Plan, PlannedRun, Setting, SourceKind
from scaffold_torchtune.results.step_results import (
    SETTINGS_OF,
    RunStatus,
    StatusResult,
    ValidateResult,
    submit_command,
)
from scaffold_torchtune.settings import kinds

_SEVERITIES: Final = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_SPARSE: Final = 3  # cells for each run: a grid with more is mostly empty
_MOST_LEVELS: Final = 40
_NAME_OF_RUN: Final = "my_wandb_run_name"  # always equal to the directory


class RunCost(NamedTuple):
    """The resources of one run: GPUs, and bytes on each GPU without activations and of all its checkpoints."""

    gpus: int
    held: int | None = None
    saved: int | None = None


class Factor(Model):
    """A parameter that varies between the runs, with its levels: numbers ascending, texts in the order of the table."""

    name: str
    levels: tuple[Scalar, ...]

    def index_of(self, value: Scalar) -> int:
        """Return the index of a level."""
        return self._indices[_typed(value)]

    @cached_property
    def _indices(self) -> dict[tuple[str, Scalar], int]:
        return {_typed(level): index for index, level in enumerate(self.levels)}


class ReportedValue(Model):
    """The expected value of a setting and its source; `found` is a different value that a file has."""

    name: str
    value: Scalar
    source: str
    is_default: bool = False
    found: str = ""


class ReportedRun(Model):
    """A run with everything that the report shows; `values` are the values that not all runs share."""

    directory: str
    name: str = Field(description="the row's Run Name")
    status: RunStatus
    levels: tuple[Scalar, ...] = Field(description="its level of each factor")
    values: tuple[ReportedValue, ...]
    findings: tuple[Finding, ...] = ()
    is_kept: bool = Field(default=False, description="whether it is kept as started, unlike the documents")
    gpus: int = 1
    limit: int | None = Field(default=None, description="time limit of its job in seconds")
    held: int | None = Field(default=None, description="bytes on each GPU, without activations")
    saved: int | None = Field(default=None, description="bytes of all its checkpoints")

    @property
    def is_well(self) -> bool:
        """Return whether no problem with its training is known."""
        return self.status.state != "failed" and self.status.cause is None

    @property
    def has_errors(self) -> bool:
        """Return whether its files failed validation."""
        return any(each.severity is Severity.ERROR for each in self.findings)

    @property
    def loss(self) -> float | None:
        """Return the last loss; nan if it is not finite, None if no loss is known."""
        points = self.status.losses
        last = points[-1].loss if points else None
        return self.status.loss if self.status.loss is not None else math.nan if points and last is None else last

    @property
    def requested(self) -> float | None:
        """Return the GPU-hours that its job may use; None if it has no limit."""
        return None if self.limit is None else self.limit * self.gpus / 3600

    @property
    def used(self) -> float | None:
        """Return the GPU-hours that its job has used; None if that is not known."""
        return None if self.status.elapsed is None else self.status.elapsed * self.gpus / 3600


class Side(NamedTuple):
    """A side of a grid: the name of its factor, or of factors that vary together, and the labels of its levels."""

    name: str
    labels: tuple[str, ...]


class Grid(NamedTuple):
    """Runs by two factors; a cell of a row and a column has one run, several, or none."""

    down: Side
    across: Side
    cells: Mapping[tuple[int, int], Sequence[ReportedRun]]


class FoundInRuns(Model):
    """A finding, and the runs that have it; no runs if it concerns the whole experiment."""

    finding: Finding
    runs: tuple[str, ...] = ()


class LogEntry(Model):
    """An entry of scaffold.log: its action and its labelled lines. Successive remarks are one entry."""

    time: str
    action: str
    lines: tuple[tuple[str, str], ...] = Field(description="label and text")


Verdict = Literal["passed", "failed"]


class ExperimentReport(Model):
    """Everything that a report shows."""

    experiment: str
    experiment_dir: str
    version: str
    written: str = Field(description="when the report was made")
    verdict: Verdict
    verdict_text: str = Field(description="the verdict in one sentence")
    refused: tuple[str, ...] = Field(default=(), description="why the last call was refused, if after the verdict")
    factors: tuple[Factor, ...]
    runs: tuple[ReportedRun, ...]
    counts: Mapping[str, int] = Field(description="the number of runs by state")
    shared: tuple[ReportedValue, ...] = Field(description="the values that all runs have")
    findings: tuple[FoundInRuns, ...] = Field(description="errors first")
    estimates: tuple[str, ...] = ()
    excluded: tuple[tuple[str, str], ...] = Field(default=(), description="skipped rows, with the reason")
    legend: Mapping[str, str] = Field(default={}, description="texts that directory names abbreviate")
    not_asked: tuple[str, ...] = ()
    submit: str = Field(default="", description="the command that submits the ready runs; empty if there are none")
    former: tuple[RunStatus, ...] = Field(default=(), description="started runs that are no longer in the table")
    former_told: str = Field(default="", description="the number of these runs by state")
    tracking: str = ""
    log: tuple[LogEntry, ...] = ()
    log_before: int = Field(default=0, description="entries before those of `log`")

    @property
    def grid(self) -> "Grid | None":
        """Return the runs by two factors; None if others vary independently, or most cells would be empty.

        A factor that another factor determines, such as alpha that varies with the rank, is on the side of that factor.
        """
        sides = self._sides()
        if len(sides) != 2:  # noqa: PLR2004 - a grid has two sides
            return None
        down, across = (self._side(numbers) for numbers in sides)
        shape = len(down.labels), len(across.labels)
        if max(shape) > _MOST_LEVELS or math.prod(shape) > _SPARSE * len(self.runs):
            return None
        cells: dict[tuple[int, int], list[ReportedRun]] = {}
        rows, columns = (self.factors[numbers[0]] for numbers in sides)
        for run in self.runs:
            at = rows.index_of(run.levels[sides[0][0]]), columns.index_of(run.levels[sides[1][0]])
            cells.setdefault(at, []).append(run)
        return Grid(down, across, cells)

    def _sides(self) -> list[list[int]]:
        """Return the indices of the factors in groups; the first of each group determines the others."""
        sides = [[number] for number in range(len(self.factors))]
        for number in reversed(range(len(self.factors))):
            others = [side for side in sides if side[0] != number]
            side = next((side for side in others if self._determines(side[0], number)), None)
            if side is not None and len(sides) > 2:  # noqa: PLR2004 - two factors are both shown
                (own,) = (each for each in sides if each[0] == number)
                sides.remove(own)
                side.extend(own)
        return sides

    def _determines(self, one: int, other: int) -> bool:
        pairs = {(_typed(run.levels[one]), _typed(run.levels[other])) for run in self.runs}
        return len(pairs) == len(self.factors[one].levels)

    def _side(self, numbers: Sequence[int]) -> "Side":
        first = self.factors[numbers[0]]
        named = {
            first.index_of(run.levels[numbers[0]]): ", ".join(value_text(run.levels[each], 60) for each in numbers)
            for run in self.runs
        }
        name = ", ".join(self.factors[each].name for each in numbers)
        return Side(name, tuple(named[index] for index in range(len(first.levels))))

    @property
    def unwell(self) -> list[FoundInRuns]:
        """Return the causes of failures and problems, each once with its runs."""
        groups: dict[tuple[str, str, str], tuple[Finding, list[str]]] = {}
        for run in self.runs:
            if not run.is_well:
                cause = run.status.cause or _unknown(run.status)
                key = cause.code, _of_any(cause.message, run), _of_any(cause.fix, run)
                groups.setdefault(key, (cause, []))[1].append(run.directory)
        return [FoundInRuns(finding=cause, runs=tuple(names)) for cause, names in groups.values()]


def _typed(value: Scalar) -> tuple[str, Scalar]:
    """Return a key that tells values apart, because True equals 1 in Python."""
    return ("bool" if isinstance(value, bool) else "", value)


def _of_any(text: str, run: ReportedRun) -> str:
    return text.replace(run.directory, "RUN")


def _unknown(status: RunStatus) -> Finding:
    """Return the finding for a run that failed for an unknown reason."""
    shows = "; ".join(status.evidence) or "its job has ended"
    fix = f"look at the end of {status.output or 'its output'}"
    return Finding(code="", severity=Severity.ERROR, message=f"failed for an unknown reason: {shows}", fix=fix)


def report_of(
    plan: Plan,
    status: StatusResult,
    validated: ValidateResult,
    needs: Mapping[str, RunCost],
    log: Sequence[LogEntry],
    written: str,
) -> ExperimentReport:
    """Return the report of an experiment.

    Args:
        plan: the frozen plan.
        status: the status of its runs.
        validated: the verdict on the present files.
        needs: the resources of each run, by its directory.
        log: the last entries of scaffold.log.
        written: the time of the report.
    """
    own = {each.directory: each.findings for each in validated.runs}
    # another call may have replaced the plan since `status` was computed
    statuses = {run.directory: RunStatus(directory=run.directory, state="planned") for run in plan.runs}
    statuses |= {each.directory: each for each in status.runs}
    factors = tuple(Factor(name=name, levels=_levels(run.parameters.get(name) for run in plan.runs))
                    for name in plan.varying)  # fmt: skip
    common = _common(plan.runs)
    kept = {each.directory for each in plan.kept}
    runs = tuple(
        _run(run, statuses[run.directory], needs[run.directory], own.get(run.directory, ()), plan.varying, common)
        .model_copy(update={"is_kept": run.directory in kept})
        for run in plan.runs
    )  # fmt: skip
    found = [*validated.findings, *(each for each in plan.warnings if each not in validated.findings)]
    return ExperimentReport(
        experiment=plan.experiment,
        experiment_dir=status.experiment_dir,
        version=plan.version,
        written=written,
        verdict="passed" if validated.passed else "failed",
        verdict_text=_verdict_text(validated),
        refused=_refused(log),
        factors=factors,
        runs=runs,
        counts=status.counts,
        shared=tuple(_value(name, setting, ()) for name, setting in common.items()),
        findings=tuple(_grouped([each for each in found if each.code != "estimate"], runs)),
        estimates=tuple(each.message for each in plan.warnings if each.code == "estimate"),
        excluded=tuple((each.name, each.reason) for each in plan.excluded),
        legend=plan.legend,
        not_asked=status.not_asked,
        submit=submit_command(status.experiment_dir) if _has_ready(validated, status) else "",
        former=status.former,
        former_told=status.former_told,
        tracking=validated.tracking,
        log=tuple(log[-MOST_ENTRIES:]),
        log_before=max(0, len(log) - MOST_ENTRIES),
    )


def _has_ready(validated: ValidateResult, status: StatusResult) -> bool:
    """Return whether `submit` would submit runs."""
    is_possible = validated.passed and all(each.code != "unsafe-path" for each in validated.findings)
    return is_possible and any(run.state == "scaffolded" for run in status.runs)


def _verdict_text(of: ValidateResult) -> str:
    checked = f"{of.checked} of {counted(of.planned, 'run')} checked"
    if of.passed:
        return f"{checked}; every planned value arrived{of.kept_told}"
    failed = sum(not run.passed for run in of.runs)
    whole = sum(each.severity is Severity.ERROR for each in of.findings)
    about = f", {counted(whole, 'error')} of the whole experiment" if whole else ""
    return f"{checked}; {counted(failed, 'run')} with errors{about}. Do not submit"


def _levels(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    found = list({_typed(each): each for each in values}.values())
    numbers = [each for each in found if isinstance(each, int | float) and not isinstance(each, bool)]
    return tuple(sorted(numbers) if len(numbers) == len(found) else found)


def _common(runs: Sequence[PlannedRun]) -> dict[str, Setting]:
    """Return the settings that have the same value in all runs, with the first run's source."""
    first = runs[0].settings
    return {
        name: setting
        for name, setting in first.items()
        if name != _NAME_OF_RUN
        and all(name in run.settings and _typed(run.settings[name].value) == _typed(setting.value) for run in runs)
    }


def _run(
    run: PlannedRun,
    status: RunStatus,
    need: RunCost,
    found: tuple[Finding, ...],
    varying: Sequence[str],
    common: Mapping[str, Setting],
) -> ReportedRun:
    of_factors = [key for name in varying for key in SETTINGS_OF.get(name, (name,))]
    rest = [name for name in run.settings if name not in of_factors and name != _NAME_OF_RUN]
    differing = {each.field for each in found if each.field and each.actual is not None}
    shown = [
        name for name in (*of_factors, *rest) if name in run.settings and (name not in common or name in differing)
    ]
    limit = status.limit if status.limit is not None else kinds.slurm_seconds(run.text("time"))
    found = tuple(sorted(found, key=lambda each: _SEVERITIES.index(each.severity)))
    return ReportedRun(
        directory=run.directory,
        name=run.name,
        status=status,
        levels=tuple(run.parameters.get(name) for name in varying),
        values=tuple(_value(name, run.settings[name], found) for name in shown),
        findings=found,
        gpus=need.gpus,
        limit=limit or None,  # 0 means no limit
        held=need.held,
        saved=need.saved,
    )


def _value(name: str, setting: Setting, found: Iterable[Finding]) -> ReportedValue:
    others = [each for each in found if each.field == name and each.actual is not None]
    return ReportedValue(
        name=name,
        value=setting.value,
        source=str(setting.source),
        is_default=setting.source.kind is SourceKind.DEFAULT,
        found="; ".join(dict.fromkeys(f"{each.actual} in {_place(each)}" for each in others)),
    )


def _place(of: Finding) -> str:
    """Return the place of a finding within its run's directory."""
    return of.location().rpartition("/")[2]


def _grouped(whole: Iterable[Finding], runs: Sequence[ReportedRun]) -> Iterator[FoundInRuns]:
    """Yield findings, errors first; a finding that several runs have is yielded once."""
    groups: dict[object, tuple[Finding, list[str]]] = {}
    for each in whole:
        groups.setdefault(each, (each, []))
    for run in runs:
        for each in run.findings:
            file = (each.file or "").removeprefix(f"{run.directory}/")
            key = each.code, each.severity, each.field, file, _of_any(each.message, run), _of_any(each.fix, run)
            groups.setdefault(key, (each, []))[1].append(run.directory)
    order = sorted(groups.values(), key=lambda group: _SEVERITIES.index(group[0].severity))
    yield from (FoundInRuns(finding=each, runs=tuple(names)) for each, names in order)


MOST_ENTRIES: Final = 120
"""The number of the newest log entries that a report shows."""

_VERDICTS: Final = frozenset({"SCAFFOLD_TORCHTUNE_COMPLETE", "SCAFFOLD_TORCHTUNE_FAILED", "SCAFFOLD_TORCHTUNE_REFUSED"})


def _refused(entries: Sequence[LogEntry]) -> tuple[str, ...]:
    last = next((each for each in reversed(entries) if each.action in _VERDICTS), None)
    if last is None or last.action != "SCAFFOLD_TORCHTUNE_REFUSED":
        return ()
    return tuple(part for _, text in last.lines for part in text.split(" | "))


def duration(seconds: float) -> str:
    """Return a readable duration: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{rest} s"


def value_text(value: Scalar, longest: int = 4_000) -> str:
    """Return any value in one line."""
    if isinstance(value, str):
        return escape(value, longest) if value else "''"
    return kinds.written(value)


def loss_text(loss: float | None) -> str:
    """Return a loss with four digits; an empty text for None."""
    return "" if loss is None else f"{loss:.4g}"


def gpu_hours(hours: float) -> str:
    """Return GPU-hours rounded for display: `0.25`, `3.2`, `1,240`."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"  # noqa: PLR2004


def total(of: Iterable[float | None]) -> float | None:
    """Return the sum of the known numbers; None if no number is known."""
    known = [each for each in of if each is not None]
    return sum(known) if known else None


def progress(of: RunStatus) -> str:
    """Return the completed and planned epochs: `1 of 3`; an empty text if they are not known."""
    if of.epochs_done is None:
        return ""
    return f"{of.epochs_done} of {of.epochs}" if of.epochs is not None else str(of.epochs_done)


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
    """Return the short form in GitHub's Markdown. Values are code or escaped, so that none is markup or a mention."""
    states = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    parts = [
        f"# {_plain(report.experiment)}",
        f"**Validation {report.verdict}**: {_plain(report.verdict_text)}.",
        f"{counted(len(report.runs), 'run')}: {states}.{_hours(report)}",
        *([f"Submit the runs that are ready with {_code(report.submit)}."] if report.submit else []),
    ]
    if report.refused:
        reasons = few(report.refused, _NAMED, between="; ", last="")
        parts.insert(1, f"**The last scaffold was refused**: {_plain(reasons)}")
    grid = report.grid
    parts.append(_matrix(grid) if grid and len(grid.across.labels) <= _MOST_COLUMNS else _run_table(report))
    if report.former:
        names = few([f"{_code(run.directory)} ({run.state})" for run in report.former], _MOST_ROWS)
        parts.append(f"{report.former_told}: {names}.")
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
    """Return a text escaped so that Markdown shows it verbatim."""
    escaped = _SPECIAL.sub(r"\\\1", one_line(text).replace("&", "&amp;"))
    return _REFERENCE.sub("&#35;", escaped).replace("@", "&#64;")


def _code(text: str) -> str:
    """Return a text as code, in a fence longer than any in it; it also works in a table."""
    text = one_line(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def _hours(report: ExperimentReport) -> str:
    requested, used = total(run.requested for run in report.runs), total(run.used for run in report.runs)
    parts = [f"{gpu_hours(hours)} {what}" for hours, what in ((used, "used"), (requested, "requested")) if hours]
    return f" GPU-hours: {', '.join(parts)}." if parts else ""


def _matrix(grid: Grid) -> str:
    head = [f"{_code(grid.down.name)} \\ {_code(grid.across.name)}", *map(_code, grid.across.labels)]
    rows = [
        [_code(label), *(_cell(grid.cells.get((y, x), ())) for x in range(len(grid.across.labels)))]
        for y, label in enumerate(grid.down.labels)
    ]
    return _table(head, rows)


def _cell(runs: Sequence[ReportedRun]) -> str:
    return ", ".join(f"{_state(run)}{_figure(run)}" for run in runs)


def _state(run: ReportedRun) -> str:
    unwell = "" if run.is_well or run.status.state == "failed" else ", **problem**"
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
    """Return the sort key of runs: failed runs and runs with a problem come first."""
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
    """Return the table: a line for each run with every varying value, state, epochs, last loss and output directory.

    Numbers are plain numbers, lines end with a line feed. A text that a spreadsheet would read as a formula begins with
    an apostrophe, as spreadsheets themselves write it.
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
    """Return the factors of a run, and its other values that not all runs share."""
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
