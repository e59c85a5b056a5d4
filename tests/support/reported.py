"""Create experiments with runs in any state, and reports of them; read the content of a page."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import Plan, PlannedRun
from scaffold_torchtune.pipeline import reporting, state, validation
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.report_contents import ExperimentReport, LogEntry, report_of
from scaffold_torchtune.results.step_results import LossPoint, RunStatus, StatusResult
from scaffold_torchtune.system.files import Tree
from support.experiments import make_experiment

EVIL: Final = """</script><script>document.title="pwned"</script><img src=//evil.test/x onerror=alert(1)>"""
"""A text that a browser must show, and never interpret."""


def losses(count: int, last: float, *, nan_from: int | None = None) -> tuple[LossPoint, ...]:
    """Return losses that fall to about `last`, and are not finite from some point on."""
    return tuple(
        LossPoint(
            step=5 * n + 1, loss=None if nan_from is not None and n >= nan_from else last + 2 * math.exp(-n / count * 4)
        )
        for n in range(count)
    )


def out_of_memory(run: str) -> Finding:
    message, fix = f"the GPU ran out of memory in {run}", "halve batch_size and double gradient_accumulation_steps"
    return Finding(
        code="estimate", severity=Severity.ERROR, message=message, file=f"{run}/slurm-7.out", line=9, fix=fix
    )


def no_number(run: str) -> Finding:
    message = "the loss is nan from step 46 on"
    return Finding(
        code="estimate", severity=Severity.WARNING, message=message, file=f"{run}/slurm-7.out", fix="lower lr"
    )


_MADE: Final[Sequence[Callable[[str], dict[str, Any]]]] = (
    lambda _run: {"state": "finished", "epochs_done": 2, "losses": losses(40, 0.5), "elapsed": 1800, "job": "7_1"},
    lambda run: {"state": "failed", "epochs_done": 0, "losses": losses(3, 2.0), "cause": out_of_memory(run)},
    lambda _run: {"state": "running", "epochs_done": 1, "losses": losses(20, 0.7), "elapsed": 900, "job": "7_2"},
    lambda run: {"state": "finished", "losses": losses(20, 1, nan_from=9), "cause": no_number(run), "epochs_done": 2},
    lambda _run: {"state": "submitted", "job": "7_3"},
    lambda _run: {"state": "scaffolded"},
)


def in_all_states(run: PlannedRun, number: int) -> RunStatus:
    """Return the status of a run; successive numbers have different states."""
    own = _MADE[number % len(_MADE)](run.directory)
    return RunStatus(directory=run.directory, epochs=2, output_dir=f"/out/ck-out-{run.directory}", **own)


def scaffolded_only(run: PlannedRun, _number: int) -> RunStatus:
    return RunStatus(directory=run.directory, state="scaffolded", epochs=2)


def report_on(
    experiment: Path, status_of: Callable[[PlannedRun, int], RunStatus] = in_all_states, **given: Any
) -> ExperimentReport:
    """Return the report of a scaffolded experiment with runs in these states."""
    with Tree(experiment) as tree:
        plan = state.existing_plan(tree)
        verdict = validation.validate_plan(tree, plan, Request(experiment))
        runs = tuple(status_of(run, number) for number, run in enumerate(plan.runs))
        found = StatusResult(experiment=plan.experiment, experiment_dir=str(experiment), verdict="", runs=runs, **given)
        return report_of(plan, found, verdict, needs(plan), log_entries(tree), "2026-11-27 04:30")


needs: Callable[[Plan], Mapping[str, Any]] = reporting._needs  # noqa: SLF001
log_entries: Callable[[Tree], Sequence[LogEntry]] = reporting._log  # noqa: SLF001


def design(folder: Path, ranks: Sequence[int], rates: Sequence[str], seeds: Sequence[int] = ()) -> Path:
    """Create the example with a run for each combination of levels."""
    experiment = make_experiment(folder / "design", without=["- **Runs:**", "_rank16_", "_rank8_lr5e-5"])
    summary = experiment / "experiment_summary.md"
    made: list[str] = []
    for line in summary.read_text().splitlines():
        if line.startswith("| Run Name"):
            made.append(line + " Seed |" * bool(seeds))
        elif made and made[-1].startswith("| Run Name"):
            made.append(line + "---|" * bool(seeds))
        elif "_rank8_lr1e-5" in line:
            for rank, rate, seed in product(ranks, rates, seeds or (None,)):
                row = line.replace("| 8 |", f"| {rank} |").replace("| 1e-5 |", f"| {rate} |")
                row = row.replace("rank8_lr1e-5", f"rank{rank}_lr{rate}" + (f"_s{seed}" if seed is not None else ""))
                made.append(row + (f" {seed} |" if seed is not None else ""))
        else:
            made.append(line + " - |" * bool(seeds and "_base |" in line))
    summary.write_text("\n".join(made) + "\n")
    return experiment


class Page(HTMLParser):
    """The content of a page, as a parser reads it: its text, its elements, its ids and links.

    Each element must be closed.
    """

    VOID: Final = frozenset({"meta", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.shown: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self._note(tag, attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self._note(tag, attrs)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & {*self._open}:
            self.shown.append(data)

    @property
    def text(self) -> str:
        """Return the visible text, with single spaces."""
        return " ".join(" ".join(self.shown).split())
