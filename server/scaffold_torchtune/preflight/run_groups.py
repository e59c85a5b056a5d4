"""Runs as preflight checks see them: their places in the documents, their groups, their outputs."""

import posixpath
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, finding
from scaffold_torchtune.models import DiskState, Plan, PlannedRun
from scaffold_torchtune.settings.recipes import FULL, method_of
from scaffold_torchtune.system.text import few, shown

_Key = TypeVar("_Key", bound=Hashable)


def at(run: PlannedRun, *names: str) -> Location:
    """Return where the first of some settings stands that stands in a document; where none has a line, the file."""
    sources = [run.settings[name].source for name in names if name in run.settings]
    source = next((s for s in sources if s.line is not None), sources[0] if sources else Location())
    return Location(source.file, source.line)


def row(run: PlannedRun) -> Location:
    """Return the place of the run's row in the table of runs."""
    return Location(at(run, "torchtune_model_name").file, run.line)


def grouped(runs: Iterable[PlannedRun], key: Callable[[PlannedRun], _Key]) -> dict[_Key, list[PlannedRun]]:
    """Return the runs that have something in common, by it, in their order."""
    found: dict[_Key, list[PlannedRun]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def concerning(runs: Sequence[PlannedRun], plan: Plan) -> str:
    """Return which runs a finding is about: `all 4 runs`, `the run rank8`, `2 of 4 runs (rank8, rank16)`."""
    total = len(plan.runs)
    if len(runs) == total:
        return "the run" if total == 1 else f"all {total} runs"
    if len(runs) == 1:
        return f"the run {runs[0].directory}"
    return f"{len(runs)} of {total} runs ({few([run.directory for run in runs], 3, more=', ...')})"


@dataclass(frozen=True)
class Subject:
    """A data set or a model's directory that runs use, which makes findings at the place where it is named.

    `name` is the path of the data set, or the model's. `code` is that of a mismatch, whose message begins with
    `failure`; `severity` is None where it is the usual one.
    """

    name: str
    field: str
    at: Location
    code: str
    failure: str
    severity: Severity | None = None

    def mismatch(
        self, what: str, *, fix: str, expected: str | None = None, actual: str | None = None, at: Location | None = None
    ) -> Finding:
        """Return the finding that it is not what the runs need; `at` is where that is asked for, if it is elsewhere."""
        field, severity, message, at = self.field, self.severity, f"{self.failure}: {what}", at or self.at
        return finding(
            self.code, message, field=field, expected=expected, actual=actual, fix=fix, severity=severity, at=at
        )

    def not_seen(self, what: str, *, unchecked: str, near: Sequence[str]) -> Finding:
        """Return the finding that it cannot be looked at from here; `near` lies beside it with nearly its name."""
        message = f"{what}, so its {unchecked} are not checked{f'; beside it lies {shown(near[0])}' if near else ''}"
        fix = "correct the path if it is wrong; nothing if compute nodes see it there"
        return finding("not-seen", message, field=self.field, actual=near[0] if near else None, fix=fix, at=self.at)


def full(run: PlannedRun) -> bool:
    """Return whether all of the model is trained, not an adapter."""
    return method_of(run.text("custom_recipe")) == FULL


def output_dir(run: PlannedRun) -> str | None:
    """Return the directory of the run's outputs, by `output_dir_base` or `project_dir`; None without either."""
    base = run.value("output_dir_base") or run.value("project_dir")
    return posixpath.normpath(posixpath.join(str(base), run.text("experiment_name"))) if base else None


def output_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield outputs whose directory cannot be made, and those inside the base model's directory.

    The latter as check_outdir_not_in_ckptdir of training/checkpointing.
    """
    for path, several in grouped(plan.runs, lambda run: disk.in_the_way.get(output_dir(run) or "")).items():
        if path is not None:
            message = f"the outputs of {concerning(several, plan)} would go below {shown(path)}, which is no directory"
            where = at(several[0], "output_dir_base", "project_dir")
            fix = "name another output directory, or move what lies there"
            yield finding(
                "output-not-directory",
                message,
                field="output_dir_base",
                expected="a directory",
                actual=path,
                fix=fix,
                at=where,
            )
    for (outputs, model), runs in grouped(plan.runs, lambda run: (output_dir(run), run.checkpoint_dir)).items():
        if model and f"{outputs}/".startswith(f"{model}/"):
            message = (
                f"the outputs of {concerning(runs, plan)} would go into the directory of the base model, {model}, which"
                " torchtune refuses"
            )
            field, expected, fix = "output_dir_base", f"a directory outside {model}", "name another output directory"
            where = at(runs[0], field, "project_dir")
            yield finding(
                "output-in-checkpoint", message, field=field, expected=expected, actual=outputs, fix=fix, at=where
            )
