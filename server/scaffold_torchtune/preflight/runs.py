"""Runs as preflight checks see them: their places in the documents, their groups, their outputs."""

import posixpath
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, finding
from scaffold_torchtune.models import Plan, PlannedRun
from scaffold_torchtune.settings.recipes import FULL, method_of
from scaffold_torchtune.system.text import shown

# Where a run's outputs go, where in the documents a value comes from, and which runs a finding is about.

_Key = TypeVar("_Key", bound=Hashable)


def at(run: PlannedRun, *names: str) -> Location:
    """Where the first of some settings stands that stands in a document; the file alone where none has a line."""
    sources = [run.settings[name].source for name in names if name in run.settings]
    source = next((s for s in sources if s.line is not None), sources[0] if sources else Location())
    return Location(source.file, source.line)


def row(run: PlannedRun) -> Location:
    """The run's row in the table of runs."""
    return Location(at(run, "torchtune_model_name").file, run.line)


def grouped(runs: Iterable[PlannedRun], key: Callable[[PlannedRun], _Key]) -> dict[_Key, list[PlannedRun]]:
    """The runs that have something in common, by it, in their order."""
    found: dict[_Key, list[PlannedRun]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def concerning(runs: list[PlannedRun], total: int) -> str:
    """Which runs a finding is about: `all 4 runs`, `the run rank8`, `2 of 4 runs (rank8, rank16)`."""
    if len(runs) == total:
        return "the run" if total == 1 else f"all {total} runs"
    if len(runs) == 1:
        return f"the run {runs[0].directory}"
    shown = ", ".join(run.directory for run in runs[:3])
    return f"{len(runs)} of {total} runs ({shown}{', ...' if len(runs) > 3 else ''})"  # noqa: PLR2004 - as shown


@dataclass(frozen=True)
class Subject:
    """A data set or a model's directory that runs use, which makes findings at the place where it is named.

    `name` is the path of the data set, or the model's. `code` is that of a mismatch, whose message begins with
    `failure`; `severity` is None where it is the usual one.
    """

    name: str
    field: str
    place: Location
    code: str
    failure: str
    severity: Severity | None = None

    def mismatch(
        self,
        what: str,
        *,
        fix: str,
        expected: str | None = None,
        actual: str | None = None,
        place: Location | None = None,
    ) -> Finding:
        """Return the finding that it is not what the runs need; `place` is where that is said, if it is elsewhere."""
        return finding(
            self.code,
            f"{self.failure}: {what}",
            field=self.field,
            expected=expected,
            actual=actual,
            fix=fix,
            severity=self.severity,
            at=place or self.place,
        )

    def not_seen(self, what: str, *, unchecked: str, near: Sequence[str]) -> Finding:
        """Return the finding that it cannot be looked at from here; `near` lies beside it with nearly its name."""
        beside = f"; beside it lies {shown(near[0])}" if near else ""
        message = f"{what}, so its {unchecked} are not checked{beside}"
        fix = "correct the path if it is wrong; nothing if compute nodes see it there"
        return finding("not-seen", message, field=self.field, actual=near[0] if near else None, fix=fix, at=self.place)


def full(run: PlannedRun) -> bool:
    """Whether all of the model is trained, not an adapter."""
    return method_of(run.text("custom_recipe")) == FULL


def output_dir(run: PlannedRun) -> str | None:
    """Below what the run's outputs go, absolute: `output_dir_base` or `project_dir`; None where neither is planned."""
    base = run.value("output_dir_base") or run.value("project_dir")
    return posixpath.normpath(posixpath.join(str(base), run.text("experiment_name"))) if base else None


# Whether outputs go where torchtune takes them.


def output_findings(plan: Plan) -> Iterator[Finding]:
    """Outputs that lie inside the base model's directory (check_outdir_not_in_ckptdir, training/checkpointing)."""
    for (outputs, model), runs in grouped(plan.runs, lambda run: (output_dir(run), run.checkpoint_dir)).items():
        if model and f"{outputs}/".startswith(f"{model}/"):
            yield finding(
                "output-in-checkpoint",
                f"the outputs of {concerning(runs, len(plan.runs))} would go into the directory of the base model,"
                f" {model}, which torchtune refuses",
                field="output_dir_base",
                expected=f"a directory outside {model}",
                actual=outputs,
                fix="name another output directory",
                at=at(runs[0], "output_dir_base", "project_dir"),
            )
