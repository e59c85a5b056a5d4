"""The report as a page: one HTML file that needs nothing else, with its style, its script and its charts."""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from scaffold_torchtune.findings import Finding, counted, few, one_line
from scaffold_torchtune.results.report_contents import (
    ExperimentReport,
    FoundInRuns,
    LogEntry,
    ReportedRun,
    duration,
    gpu_hours,
    loss_text,
    progress,
    total,
    value_text,
)
from scaffold_torchtune.results.step_results import LossPoint
from scaffold_torchtune.system.templating import render_page, shipped_text

GENERATOR: Final = "scaffold-torchtune"
_TEMPLATE: Final = "report.html.j2"
_DIGEST: Final = re.compile(rb'<meta name="scaffold-torchtune-digest" content="([0-9a-f]{64})">')
_WRITTEN: Final = re.compile(rb'<meta name="scaffold-torchtune-written" content="([^"<>]{1,40})">')
_NO_DIGEST: Final = "0" * 64
_GIB: Final = 1024**3

_MOST_CHARTS: Final = 60
_MOST_LISTED: Final = 5_000  # so that a page of as many runs as a plan may have can be read back
_MOST_DETAILED: Final = 1_000
_MOST_LEVELS_TO_CHOOSE: Final = 40
_LONGEST_LINE: Final = 600
_NAMED: Final = 12

_GOOD: Final = frozenset({"SCAFFOLD_TORCHTUNE_COMPLETE"})
_BAD: Final = frozenset({"SCAFFOLD_TORCHTUNE_FAILED", "SCAFFOLD_TORCHTUNE_REFUSED", "SETUP_RUN_FAILED"})


class Size(NamedTuple):
    """A chart's size, and the space around the lines."""

    width: int
    height: int
    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


SPARK: Final = Size(96, 24, top=3, bottom=3, left=2, right=2)
CHART: Final = Size(260, 124, left=40, right=8, top=8, bottom=20)


def page(report: ExperimentReport) -> str:
    """Return the page. It holds the SHA-256 of itself, by which a page that was edited is known."""
    style, script = Markup(shipped_text("report.css")), Markup(shipped_text("report.js"))  # noqa: S704 - ours
    values = _values(report) | {
        "generator": f"{GENERATOR} {report.version}",
        "digest": _NO_DIGEST,
        "style": style,
        "script": script,
        "policy": f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:;"
        f" style-src {_allowed(style)}; script-src {_allowed(script)}",
    }
    text = render_page(_TEMPLATE, values)
    return text.replace(_NO_DIGEST, _sha256(text.encode()), 1)


def _allowed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_page(data: bytes) -> bool:
    """Return whether bytes are a page that was made here, edited or not."""
    return _DIGEST.search(data, 0, 10_000) is not None


def is_unedited(data: bytes) -> bool:
    """Return whether bytes are a page as it was made here."""
    match = _DIGEST.search(data, 0, 10_000)
    return match is not None and _sha256(data.replace(match[1], _NO_DIGEST.encode(), 1)) == match[1].decode()


def written_at(data: bytes) -> str:
    """Return when a page was made, as it says; nothing where it does not."""
    match = _WRITTEN.search(data, 0, 10_000)
    return match[1].decode() if match else ""


def _values(report: ExperimentReport) -> dict[str, Any]:
    """Return what the template shows, as texts."""
    numbers = {run.directory: number for number, run in enumerate(report.runs)}
    charted = _charted(report.runs)
    scale = Scale.of(run.status.losses for run in report.runs)
    return {
        "report": report,
        "title": report.experiment,
        "place": report.experiment_dir,
        "states": [(state, count) for state, count in report.counts.items()],
        "bar": _bar(report.counts),
        "refused": [_cut(each) for each in report.refused[:_NAMED]],
        "attention": [_found(each, numbers) for each in report.unwell],
        "tiles": _tiles(report),
        "levels": [(each.name, [value_text(level, 60) for level in each.levels]) for each in report.factors],
        "grid": _grid(report),
        "columns": _columns(report),
        "rows": [_row(number, run, report, scale) for number, run in enumerate(report.runs[:_MOST_LISTED])],
        "unlisted": max(0, len(report.runs) - _MOST_LISTED),
        "choices": [
            (number + 1, each.name, [value_text(level) for level in each.levels])
            for number, each in enumerate(report.factors)
            if len(each.levels) <= _MOST_LEVELS_TO_CHOOSE
        ],
        "scale": f"All on the same scale{f'; losses above {scale.high:.3g} are cut off' if scale.is_cut else ''}.",
        "charts": [(numbers[run.directory], run.directory, _chart(run, scale)) for run in charted],
        "shared": [_value(each) for each in report.shared],
        "runs": [
            {
                "number": numbers[run.directory],
                "name": run.directory,
                "row": run.name if run.name != run.directory else "",
                "state": run.status.state,
                "is_well": run.is_well,
                "values": [_value(each) for each in run.values],
                "facts": _facts(run),
                "findings": [_finding(each) for each in run.findings],
                "has_errors": run.has_errors,
                "cause": _finding(run.status.cause) if run.status.cause else None,
                "chart": _chart(run, scale) if not charted and _has_curve(run) else None,
            }
            for run in report.runs[:_MOST_DETAILED]
        ],
        "undetailed": max(0, len(report.runs) - _MOST_DETAILED),
        "findings": [_found(each, numbers) for each in report.findings],
        "log": [_entry(each) for each in report.log],
        "total": counted(len(report.runs), "run"),
    }


# --- charts


class Scale(NamedTuple):
    """The values at the sides of charts: steps, and losses up to the highest that is shown; others are cut off."""

    first: int
    last: int
    low: float
    high: float
    is_cut: bool = False

    @classmethod
    def of(cls, curves: Iterable[Sequence[LossPoint]]) -> "Scale":
        """Return the scale for some curves. Those that go much higher than most do not flatten the others."""
        curves = [*filter(None, curves)]
        steps = [each.step for points in curves for each in points]
        losses = [[each.loss for each in points if each.loss is not None] for points in curves]
        highest = sorted(max(each) for each in losses if each) or [1.0]
        low = min((min(each) for each in losses if each), default=0.0)
        high = min(highest[-1], low + 2 * (highest[len(highest) // 2] - low))
        return cls(min(steps, default=0), max(steps, default=1), low, high, is_cut=high < highest[-1])

    def at(self, point: LossPoint, size: Size) -> tuple[float, float]:
        """Return where a point is; a loss that is no number is at the top."""
        wide = size.width - size.left - size.right
        high = size.height - size.top - size.bottom
        share = (point.step - self.first) / ((self.last - self.first) or 1)
        loss = self.high if point.loss is None else point.loss
        level = max(0.0, self.high - loss) / (self.high - self.low) if self.high > self.low else 0.5
        return round(size.left + wide * share, 1), round(size.top + high * level, 1)


def _has_curve(run: ReportedRun) -> bool:
    return len(run.status.losses) > 1


def _charted(runs: Sequence[ReportedRun]) -> list[ReportedRun]:
    """Return the runs whose curves are shown beside each other; none where they are too many for that."""
    found = [run for run in runs if _has_curve(run)]
    return found if len(found) <= _MOST_CHARTS else []


def _curves(points: Sequence[LossPoint], size: Size, scale: Scale) -> dict[str, Any]:
    """Return the lines of a curve, which end where a loss is no number, and where those are."""
    lines: list[list[str]] = [[]]
    broken: list[tuple[float, float]] = []
    for point in points:
        x, y = scale.at(point, size)
        if point.loss is None:
            broken.append((x, y))
            lines.append([])
        else:
            lines[-1].append(f"{x:g},{y:g}")
    ends = [line[0].split(",") for line in lines if len(line) == 1]
    return {"lines": [" ".join(line) for line in lines if len(line) > 1], "dots": ends, "broken": broken[:1]}


def _chart(run: ReportedRun, scale: Scale) -> dict[str, Any]:
    """Return a chart with its axes, and in words what it shows."""
    points = run.status.losses
    bottom = CHART.height - CHART.bottom
    middle = (CHART.top + bottom) / 2
    lines = [(CHART.top, scale.high), (middle, (scale.high + scale.low) / 2), (bottom, scale.low)]
    return _curves(points, CHART, scale) | {
        "text": _in_words(run.directory, points),
        "state": run.status.state,
        "is_well": run.is_well,
        "loss": loss_text(run.loss),
        "grid": [(y, f"{loss:.3g}") for y, loss in (lines if scale.high > scale.low else lines[1:2])],
        "steps": [(CHART.left, "start", scale.first), (CHART.width - CHART.right, "end", scale.last)],
    }


def _in_words(name: str, points: Sequence[LossPoint]) -> str:
    known = [point for point in points if point.loss is not None]
    broken = [point for point in points if point.loss is None]
    parts = []
    if known:
        first, last, least = known[0], known[-1], min(known, key=lambda point: point.loss or 0.0)
        parts.append(f"from {loss_text(first.loss)} at step {first.step} to {loss_text(last.loss)} at step {last.step}")
        parts.append(f"lowest {loss_text(least.loss)} at step {least.step}")
    if broken:
        parts.append(f"not a number from step {broken[0].step} on")
    return f"loss of {name}: {', '.join(parts)}"


# --- tables


_SHARES: Final = 1000  # the width of the bar


def _bar(counts: Mapping[str, int]) -> list[tuple[str, float, float]]:
    """Return where the part of each state begins in a bar, and how wide it is."""
    whole, done, parts = sum(counts.values()), 0, []
    for state, count in counts.items():
        parts.append((state, round(_SHARES * done / whole, 1), round(_SHARES * count / whole, 1)))
        done += count
    return parts


def _tiles(report: ExperimentReport) -> list[tuple[str, str, str]]:
    """Return the estimates: label, figure, and on what it is based."""
    runs = report.runs
    requested, used = total(run.requested for run in runs), total(run.used for run in runs)
    held = [run.held for run in runs if run.held is not None]
    saved = total(run.saved for run in runs)
    steps = [run.status.steps for run in runs if run.status.steps is not None]
    gpus = sorted({run.gpus for run in runs})
    found = [("GPUs for each run", _span(gpus, str), "")]
    if requested is not None:
        unlimited = sum(run.requested is None for run in runs)
        more = f"; {counted(unlimited, 'run')} without a limit" if unlimited else ""
        found.append(("GPU-hours requested", gpu_hours(requested), f"if each job uses its whole time limit{more}"))
    if used is not None:
        known = sum(run.used is not None for run in runs)
        found.append(("GPU-hours used", gpu_hours(used), f"by the last jobs of {counted(known, 'run')}"))
    if held:
        found.append(("memory on each GPU", _span(sorted(set(held)), _gib), "weights, gradients and optimizer states"))
    if saved:
        found.append(("checkpoints", _gib(saved), "of all epochs of all runs"))
    if steps:
        found.append(("optimizer steps of a run", _span(sorted(set(steps)), "{:,}".format), ""))
    return found


def _span(numbers: Sequence[Any], text: Any) -> str:
    first, last = text(numbers[0]), text(numbers[-1])
    unit = last.partition(" ")[1:]  # once
    return first if first == last else f"{first.removesuffix(''.join(unit))} to {last}"


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB" if size < 1000 * _GIB else f"{size / _GIB / 1024:.1f} TiB"


def _grid(report: ExperimentReport) -> dict[str, Any] | None:
    """Return the matrix of two factors: its heads, and the runs in each cell."""
    grid = report.grid
    if grid is None:
        return None
    numbers = {run.directory: number for number, run in enumerate(report.runs)}
    across = range(len(grid.across.labels))
    return {
        "down": grid.down.name,
        "across": grid.across.name,
        "columns": grid.across.labels,
        "rows": [
            (label, [[_mark(numbers[run.directory], run) for run in grid.cells.get((y, x), ())] for x in across])
            for y, label in enumerate(grid.down.labels)
        ],
    }


def _mark(number: int, run: ReportedRun) -> dict[str, Any]:
    """Return the mark of a run in the matrix, with the one figure that says most."""
    loss, done = loss_text(run.loss), progress(run.status)
    figure = f"loss {loss}" if loss else f"epoch {done}" if done else ""
    return {
        "number": number,
        "name": run.directory,
        "state": run.status.state,
        "is_well": run.is_well,
        "has_errors": run.has_errors,
        "figure": figure,
    }


def _columns(report: ExperimentReport) -> dict[str, bool]:
    """Return which columns the table of runs has: those in which any run has something."""
    runs = report.runs
    return {
        "epochs": any(run.status.epochs_done is not None for run in runs),
        "loss": any(run.loss is not None for run in runs),
        "elapsed": any(run.status.elapsed is not None for run in runs),
        "limit": any(run.limit is not None for run in runs),
        "job": any(run.status.job for run in runs),
        "files": report.verdict == "failed" or any(run.findings for run in runs),
    }


def _row(number: int, run: ReportedRun, report: ExperimentReport, scale: Scale) -> dict[str, Any]:
    status, loss = run.status, run.loss
    return {
        "number": number,
        "name": run.directory,
        "state": status.state,
        "is_well": run.is_well,
        "has_errors": run.has_errors,
        "remarks": len(run.findings),
        "levels": [
            (factor.index_of(each), value_text(each, 200))
            for factor, each in zip(report.factors, run.levels, strict=True)
        ],
        "order": _STATES.index(status.state),
        "epochs": progress(status),
        "done": status.epochs_done,
        "loss": loss_text(loss),
        "loss_order": "" if loss is None or math.isnan(loss) else loss,
        "spark": _curves(status.losses, SPARK, scale) if _has_curve(run) and number < _MOST_DETAILED else None,
        "elapsed": "" if status.elapsed is None else duration(status.elapsed),
        "seconds": status.elapsed,
        "limit": "" if run.limit is None else duration(run.limit),
        "limit_seconds": run.limit,
        "job": status.job,
        "detailed": number < _MOST_DETAILED,
    }


_STATES: Final = ("failed", "running", "submitted", "scaffolded", "planned", "finished")
"""The order in which states are sorted: what needs a look comes first."""


def _value(of: Any) -> dict[str, Any]:
    return {
        "name": of.name,
        "value": value_text(of.value),
        "source": of.source,
        "is_default": of.is_default,
        "found": of.found,
    }


def _facts(run: ReportedRun) -> list[tuple[str, str]]:
    """Return what else is known of a run, label and text."""
    status = run.status
    hours = {"requested": run.requested, "used": run.used}
    steps = [str(each) for each in (status.step, status.steps) if each is not None]
    facts = {
        "job": f"{status.job} {status.job_state}".strip(),
        "shown by": "; ".join(status.evidence),
        "epochs": progress(status),
        "optimizer steps": " of ".join(steps),
        "last loss": loss_text(run.loss),
        "time": " of ".join(duration(each) for each in (status.elapsed, run.limit) if each is not None),
        "GPU-hours": ", ".join(f"{gpu_hours(each)} {name}" for name, each in hours.items() if each is not None),
        "memory on each GPU": "" if run.held is None else f"{_gib(run.held)} without activations",
        "checkpoints": "" if run.saved is None else _gib(run.saved),
        "output directory": status.output_dir,
        "output of the job": status.output,
        "could not be seen": "; ".join(status.unseen),
        "kept": "as it was when it started, unlike what the documents say now" if run.is_kept else "",
    }
    return [(label, text) for label, text in facts.items() if text]


def _finding(of: Finding) -> dict[str, Any]:
    return {
        "code": of.code,
        "severity": of.severity.value,
        "message": of.message,
        "place": of.location(),
        "fix": of.fix,
    }


def _found(of: FoundInRuns, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Return a finding with links to its runs."""
    runs = [(numbers[name], name) for name in of.runs if name in numbers]
    return _finding(of.finding) | {"runs": runs[:_NAMED], "more": max(0, len(runs) - _NAMED), "count": len(runs)}


def _entry(of: LogEntry) -> dict[str, Any]:
    """Return an entry of the log as the timeline has it."""
    action = of.action.removeprefix("SCAFFOLD_TORCHTUNE_")
    words = "scaffold " + action.lower() if action != of.action else _words(action)
    lines = [(label, _cut(text)) for label, text in of.lines]
    is_remark = of.action in {"WARNING", "INFO"}
    if is_remark:
        words = counted(len(of.lines), "remark")
    tone = "good" if of.action in _GOOD else "bad" if of.action in _BAD else "remark" if is_remark else ""
    date, _, time = of.time.partition(" ")
    return {"date": date, "time": time, "words": words, "lines": lines, "tone": tone, "is_remark": is_remark}


def _words(action: str) -> str:
    return {"CREATE_RUN_DIRS": "create run directories", "GENERATE_YAMLS": "generate setup_finetune.yaml"}.get(
        action, action.lower().replace("_", " ")
    )


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _LONGEST_LINE else few([text[:_LONGEST_LINE]], 1) + " ..."
