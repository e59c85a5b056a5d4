"""What tools and commands return: each model is the schema of its reply. Keys are a contract: others rely on them.

A field declares what becomes of it in a reply: `exclude` keeps it out, `exclude_if` does so where it says nothing, and
`Cut` is the rule by which it is shortened where it is long.
"""

import shlex
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from operator import not_
from typing import Annotated, ClassVar, Final, TypeVar, get_args

from pydantic import Field, computed_field, field_serializer

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Scalar, counted, errors_in, few
from scaffold_torchtune.models import (
    Answer,
    Dataset,
    Excluded,
    Lines,
    Model,
    ModelPath,
    Run,
    RunProgress,
    Source,
    Values,
    lines_of,
)

_NAMED_CODES = 8
LONGEST_SUBMIT: Final = 700


class Cut(Enum):
    """What a field holds that a reply cuts in its own way."""

    NEVER = "what is worth nothing when it is cut"
    RUNS = "runs, of which a pattern of names chooses"
    NAMES = "names of runs that are counted elsewhere"
    FINDINGS = "findings and questions"
    PROBLEMS = "the problems of a refusal"
    EXPLAINED = "settings, each with where it comes from and arrives"


_T = TypeVar("_T")
OmitEmpty = Annotated[_T, Field(exclude_if=not_)]
"""What a reply leaves out where it is empty, zero, false or None."""

_ANSWERS = "values that the user gave where documents do not"
Answers = Annotated[OmitEmpty[tuple[Answer, ...]], Field(description=_ANSWERS)]
Findings = Annotated[tuple[Finding, ...], Cut.FINDINGS]
Logged = Annotated[tuple[str, ...], Field(description="heads of the entries that scaffold.log got")]


class StepResult(Model):
    """What one step returns."""

    LISTED: ClassVar[tuple[str, ...]]
    """The keys of the reply that the output schema lists for agents."""

    FIRST: ClassVar[str | None] = None
    """What is to be done with a result after which no tool is next; None where reply.py knows what is."""

    @property
    def counts(self) -> dict[str, int]:
        """Return how many there are of what a reply may list in part."""
        return self._numbers() | _severities(self.all_findings())

    @property
    def outcome(self) -> str:
        """Return what came of the step, in one line."""
        return self._outcome()

    def all_findings(self) -> Sequence[Finding]:
        """Return what was found of the whole experiment, then of each run."""
        found: tuple[Finding, ...] = getattr(self, "warnings", ())
        return found

    def _numbers(self) -> dict[str, int]:
        return {}

    @abstractmethod
    def _outcome(self) -> str: ...


class ParseResult(StepResult):
    """The experiment as its documents describe it."""

    LISTED = ("counts", "runs", "config", "environment", "warnings")

    experiment: str = Field(description="the experiment's name")
    experiment_dir: str
    runs: Annotated[tuple[Run, ...], Cut.RUNS] = Field(description="every row, controls too")
    dataset: Dataset | None
    models: tuple[ModelPath, ...]
    config: Values = Field(description="Configuration by parameter name")
    environment: Values = Field(description="claude.local.md by setting name")
    template: OmitEmpty[Values] = Field(description="what a plain YAML template gives where documents say nothing")
    answers: Answers = ()
    sources: Lines = Field(description="lines by document and name")
    warnings: Findings

    def _numbers(self) -> dict[str, int]:
        return {"runs": len(self.runs)} | Counter(run.type for run in self.runs)

    def _outcome(self) -> str:
        tuned = sum(run.type == "fine-tuned" for run in self.runs)
        rows = f"{self.experiment}: {counted(len(self.runs), 'row')}, {tuned} fine-tuned"
        return f"{rows}; {_warnings(self.warnings)}. Nothing was written."


class ChangedRuns(Model):
    """Runs of which the same would become."""

    what: str = Field(description="new, changed, kept (as it was when it started), or dropped (no longer in the table)")
    count: int = Field(description="how many runs")
    started: OmitEmpty[bool] = Field(default=False, description="whether they were submitted, run, or left something")
    runs: tuple[str, ...]
    fields: OmitEmpty[tuple[str, ...]] = Field(default=(), description="old -> new, with the line that says so")
    state: OmitEmpty[str] = Field(default="", description="how far these runs have come, and what shows it")


class Changes(Model):
    """What would become of the runs, beside what was scaffolded before."""

    summary: str = Field(description="how many are new, unchanged, changed, kept and dropped")
    states: OmitEmpty[str] = Field(default="", description="how many runs of the table have come how far")
    groups: tuple[ChangedRuns, ...] = Field(description="all that is not unchanged, alike ones together")
    is_first: bool = Field(default=False, exclude=True, description="whether nothing was scaffolded before")


class RunPlan(Model):
    """A run directory to be."""

    directory: str
    name: str = Field(description="the row's Run Name")
    change: OmitEmpty[str] = Field(default="", description="what would become of it, where runs were scaffolded before")
    line: int = Field(description="line of the row in the summary")
    parameters: dict[str, Scalar]
    derived: OmitEmpty[dict[str, Scalar]] = Field(description="what else differs by run as it follows from these")
    sources: dict[str, Source] = Field(exclude=True, description="where each value stands that is not the same in all")


class PlanResult(StepResult):
    """What would be written."""

    LISTED = ("counts", "changes", "runs", "varying", "levels", "common", "defaults", "excluded", "warnings")

    changes: Changes = Field(description="what would become of the runs, beside what was scaffolded before")
    varying: tuple[str, ...] = Field(description="parameters that vary, in naming order")
    levels: OmitEmpty[dict[str, str]] = Field(
        description="by parameter that varies, its levels, each with its number of runs: `1e-5 x 8, 3e-5 x 7`"
    )
    pattern: str = Field(description="how run directories are named")
    template: str
    setup: str = Field(description="'bundled', or the external setup_finetune.py")
    answers: Answers = ()
    defaults: dict[str, Scalar] = Field(description="settings that come from a default nobody asked for")
    legend: OmitEmpty[dict[str, str]] = Field(description="free text behind prompt1, prompt2, ...")
    excluded: tuple[Excluded, ...]
    warnings: Findings
    runs: Annotated[tuple[RunPlan, ...], Cut.RUNS]
    common: Values = Field(description="settings that all runs share; a reply has those that somebody chose")
    told: Findings = Field(default=(), exclude=True, description="those of its warnings that the plan before had too")
    told_before: OmitEmpty[int] = Field(default=0, description="infos that are left out, as the plan before had them")
    ask: OmitEmpty[tuple[Question, ...]] = Field(
        default=(), description="what the user decides before it is scaffolded"
    )

    @field_serializer("common")
    def _chosen(self, common: Values) -> dict[str, Scalar]:
        return {name: setting.value for name, setting in common.items() if name not in self.defaults}

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def sources(self) -> Lines:
        """Lines by document and name, of settings that all runs share."""
        return lines_of((name, each.source) for name, each in self.common.items() if name not in self.defaults)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rules(self) -> dict[str, str]:
        """From what each value follows that differs between runs and stands in no document."""
        own = {name: source for run in self.runs for name, source in run.sources.items()}
        return {name: str(source) for name, source in own.items() if not (source.file and source.line)}

    def without_told(self) -> "PlanResult":
        """Return the plan without remarks that the plan before had too: what warns is told each time."""
        told = {id(each) for each in self.told if each.severity is Severity.INFO}
        kept = tuple(each for each in self.warnings if id(each) not in told)
        return self.model_copy(update={"warnings": kept, "told_before": len(self.warnings) - len(kept)})

    def _numbers(self) -> dict[str, int]:
        return {"runs": len(self.runs), "excluded": len(self.excluded)}

    def _outcome(self) -> str:
        varying = ", ".join(self.varying) or "nothing"
        runs = f"{counted(len(self.runs), 'run')} planned, {len(self.excluded)} left out; varying: {varying}"
        if not self.changes.is_first:
            runs = f"{self.changes.summary}; varying: {varying}"
        return f"{runs}; {_warnings(self.warnings)}. Nothing was written."


class RenderedRun(Model):
    """A run whose setup_finetune.yaml is written."""

    directory: str
    created: bool = Field(description="false where it already was as planned")


class RenderResult(StepResult):
    """What render wrote."""

    LISTED = ("created", "unchanged", "runs", "warnings")

    created: int
    unchanged: int
    kept: OmitEmpty[int] = Field(default=0, description="started runs that stay as they were, among the unchanged")
    changes: OmitEmpty[Changes | None] = Field(default=None, description="what became of the runs")
    history: OmitEmpty[str] = Field(default="", description="where earlier files are kept that were replaced")
    runs: Annotated[tuple[RenderedRun, ...], Cut.RUNS]
    plan_warnings: Findings = Field(default=(), exclude=True, description="those of the plan, as plan_runs tells them")
    warnings: Findings = Field(description="what was found besides")
    logged: Logged = ()

    def _outcome(self) -> str:
        done = f"{self.created} setup_finetune.yaml written, {self.unchanged} already as planned"
        return f"{done}; {_warnings(self.warnings)} besides the plan's {_severities(self.plan_warnings)['warnings']}."


class SetupRun(Model):
    """What setup_finetune did for one run."""

    directory: str
    ok: bool
    unchanged: OmitEmpty[bool] = Field(description="true where it was already done and nothing was run")
    reason: str = Field(default="", description="why it failed: what happened, and the line of its output that matters")
    cause: OmitEmpty[str] = Field(default="", description="what likely caused it, where that is known")
    fix: OmitEmpty[str] = Field(default="", description="the next step")
    status: OmitEmpty[int | None] = Field(default=None, description="exit status of a script; negative: the signal")
    seconds: OmitEmpty[float | None] = Field(default=None, description="how long an external script ran")
    output: OmitEmpty[str] = Field(default="", description="file with what was kept of its output, where it failed")


class SetupResult(StepResult):
    """What run_setup did."""

    LISTED = ("processed", "succeeded", "failed", "runs", "warnings")

    environment: str = Field(default="", description="what an external script ran in; empty for the bundled one")
    processed: int
    succeeded: int
    failed: int
    warnings: Findings
    history: OmitEmpty[str] = Field(default="", description="where earlier files are kept that were replaced")
    runs: Annotated[tuple[SetupRun, ...], Cut.RUNS]
    logged: Logged = ()

    def _outcome(self) -> str:
        already = sum(run.unchanged for run in self.runs)
        done = f"{counted(self.processed, 'run')} processed: {self.succeeded} succeeded, {self.failed} failed"
        return f"{done}{f'; {already} were done already' if already else ''}; {_warnings(self.warnings)}."


class ValidatedRun(Model):
    """One run's verdict."""

    directory: str
    passed: bool
    findings: tuple[Finding, ...]


def submit_command(experiment_dir: str) -> str:
    """Return the command that submits the runs of an experiment."""
    return f"scaffold-torchtune submit {shlex.quote(experiment_dir)}"


class ValidateResult(StepResult):
    """The verdict: `passed` only when every planned run was checked and has no error."""

    LISTED = ("passed", "checked", "planned", "runs", "findings", "submit")

    passed: bool
    checked: int
    planned: int
    runs: Annotated[tuple[ValidatedRun, ...], Cut.RUNS]
    findings: Findings = Field(description="findings about the whole experiment")
    submit: Annotated[str, Cut.NEVER] = Field(
        default="", description="the command that submits the runs; empty unless passed"
    )
    experiment_dir: str = Field(default="", exclude=True)
    started: Annotated[OmitEmpty[tuple[str, ...]], Cut.NAMES] = Field(
        default=(), description="runs that were started, which it leaves out"
    )
    states: OmitEmpty[str] = Field(default="", description="how many runs have come how far; empty unless passed")
    kept: OmitEmpty[int] = Field(default=0, description="started runs that stay as they were, whatever documents say")
    kept_values: OmitEmpty[tuple[str, ...]] = Field(default=(), description="what is other in them than documents say")
    tracking: Annotated[OmitEmpty[str], Cut.NEVER] = Field(
        default="", description="how to send what runs log offline to Weights & Biases; empty unless passed"
    )
    logged: Logged = ()

    def all_findings(self) -> Sequence[Finding]:
        """Return what was found of the whole experiment, then of each run."""
        return [*self.findings, *(each for run in self.runs for each in run.findings)]

    @field_serializer("submit")
    def _command(self, submit: str) -> str:
        """Return a command in any case: a line that is long for many runs is what `submit` does."""
        return submit if len(submit) <= LONGEST_SUBMIT else submit_command(self.experiment_dir)

    @property
    def verdict(self) -> str:
        """The verdict, with how many runs failed: `validation failed: 2 of 36 runs`."""
        if self.passed:
            return f"validation passed: {self.planned} of {counted(self.planned, 'run')}"
        failed, unchecked = self.counts["failed"], self.planned - self.checked
        parts = [f"{failed} of {counted(self.planned, 'run')}"] if failed else []
        parts += [f"{unchecked} of {counted(self.planned, 'run')} not checked"] if unchecked else []
        codes = dict.fromkeys(each.code for each in errors_in(self.findings) if each.code != "nothing-checked")
        parts += [f"all {counted(self.planned, 'run')} ({few([*codes], _NAMED_CODES)})"] if codes else []
        return f"validation failed: {', '.join(parts) or 'no run is planned'}"

    @property
    def kept_told(self) -> str:
        """What is kept: `, 3 kept as started (epochs 3, the summary says 5)`; nothing where nothing is."""
        values = f" ({'; '.join(self.kept_values)})" if self.kept_values else ""
        return f", {self.kept} kept as started{values}" if self.kept else ""

    @property
    def left_told(self) -> str:
        """How many runs the line submits, and how many are left out as they were started."""
        left = self.planned - len(self.started)
        left_out = f", {len(self.started)} left out as started" if self.started else ""
        return f"{left} to submit{left_out}" if left else f"nothing to submit: all {self.planned} were started"

    def _numbers(self) -> dict[str, int]:
        return {"failed": sum(not run.passed for run in self.runs)}

    def _outcome(self) -> str:
        found = self.all_findings()
        if self.passed:
            checked = f"{self.checked} of {counted(self.planned, 'run')} checked, every planned value arrived"
            left = f"; {self.left_told}" if self.started else ""
            return f"PASSED: {checked}{self.kept_told}{left}; {_warnings(found)}."
        codes = Counter(each.code for each in errors_in(found))
        kinds = ", ".join(f"{code} ({count})" for code, count in codes.most_common(_NAMED_CODES))
        more = f" and {len(codes) - _NAMED_CODES} more kinds" if len(codes) > _NAMED_CODES else ""
        return f"FAILED: {self.verdict.partition(': ')[2]}: {kinds}{more}."


class ScaffoldResult(Model):
    """All steps in one."""

    parse: ParseResult
    plan: PlanResult
    render: RenderResult
    setup: SetupResult
    validation: ValidateResult = Field(serialization_alias="validate")  # `validate` is taken in pydantic
    ok: bool
    unchanged: bool = Field(description="true where everything already was as planned and nothing was written")
    log: str = Field(description="path of scaffold.log")
    submit: str = Field(description="the command that submits the runs; empty unless all is well")

    @field_serializer("submit")
    def _command(self, submit: str) -> str:
        return submit if len(submit) <= LONGEST_SUBMIT else submit_command(self.parse.experiment_dir)

    @property
    def steps(self) -> dict[str, StepResult]:
        """Return the results of the steps by command."""
        named = {"parse": self.parse, "plan": self.plan, "render": self.render, "setup": self.setup}
        return {**named, "validate": self.validation}

    @property
    def verdict(self) -> str:
        """The verdict, with how many runs failed in which step: `not ready: setup failed in 1 of 4 runs`."""
        failed = {run.directory for run in self.setup.runs if not run.ok}
        if not failed:
            return self.validation.verdict
        told = f"not ready: setup failed in {len(failed)} of {counted(self.setup.processed, 'run')}"
        more = sum(not run.passed and run.directory not in failed for run in self.validation.runs)
        return f"{told}, validation in {more} more" if more else told

    @property
    def logged(self) -> tuple[str, ...]:
        """Return heads of the entries that scaffold.log got."""
        return (*self.render.logged, *self.setup.logged, *self.validation.logged)

    @property
    def outcome(self) -> str:
        """Return what came of all steps, in one line."""
        state = "ready to submit" if self.ok else "NOT READY"
        unchanged = "; nothing was changed" if self.unchanged else ""
        return f"{state}: {self.setup.outcome} {self.validation.outcome}{unchanged}"


class RefusalError(Model):
    """Why the work cannot proceed: a refusal's `error`."""

    message: str
    problems: Annotated[tuple[Finding, ...], Cut.PROBLEMS]
    ask: Annotated[OmitEmpty[tuple[Question, ...]], Cut.FINDINGS] = ()
    """What to ask the user."""


def _warnings(found: Iterable[Finding]) -> str:
    return counted(_severities(found)["warnings"], "warning")


def _severities(found: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each severity; of errors and information only where there are any."""
    counts = Counter(each.severity for each in found)
    names = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.INFO: "infos"}
    return {name: counts[each] for each, name in names.items() if counts[each] or each is Severity.WARNING}


SETTINGS_OF: Final = {
    "model": ("torchtune_model_name",),
    "dataset": ("dataset_label", "input_dir_base", "dataset_ext"),
    "recipe": ("custom_recipe",),
    "warmup_ratio": ("num_warmup_steps",),
}
"""The settings that hold a parameter, where they have other names."""


_STATES: Final = get_args(RunProgress)


def _is_none(value: object) -> bool:
    return value is None


class LossPoint(Model):
    """A loss as the run's output printed it; `loss` is None where it is not a number (nan, inf)."""

    step: int = Field(ge=0, description="optimizer steps done")
    loss: float | None


class RunStatus(Model):
    """The status of one run, as far as its files, its job's output and SLURM show it.

    What could not be seen is None, and `unseen` says why.
    """

    directory: str
    state: RunProgress
    evidence: OmitEmpty[tuple[str, ...]] = Field(default=(), description="what shows the state")
    job: OmitEmpty[str] = Field(default="", description="id of its last job: 4711, or 4711_3 in an array")
    job_state: OmitEmpty[str] = Field(default="", description="the job's state, as SLURM names it")
    output: OmitEmpty[str] = Field(default="", description="the job's output file, relative to the experiment")
    output_dir: OmitEmpty[str] = Field(default="", description="where the run saves its checkpoints")
    epochs_done: int | None = Field(default=None, exclude_if=_is_none, description="epochs trained")
    epochs: int | None = Field(default=None, exclude_if=_is_none, description="epochs planned")
    step: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps done")
    steps: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps expected in all")
    loss: float | None = Field(
        default=None, exclude_if=_is_none, description="the last loss; None with a cause where it is nan"
    )
    losses: tuple[LossPoint, ...] = Field(default=(), exclude=True, description="the loss over time, thinned")
    elapsed: int | None = Field(default=None, exclude_if=_is_none, description="seconds that the job has run")
    limit: int | None = Field(default=None, exclude_if=_is_none, description="seconds that it may run")
    cause: OmitEmpty[Finding | None] = Field(default=None, description="why it failed or is not well, with its fix")
    unseen: OmitEmpty[tuple[str, ...]] = Field(default=(), description="what could not be looked at, and why")


class StatusResult(StepResult):
    """The status of all runs of an experiment."""

    LISTED = ()
    FIRST = (
        "report how many runs are in each state, then each cause with its fix, and what could not be asked (not_asked);"
        " submit, cancel and change nothing unasked"
    )

    experiment: str
    experiment_dir: str
    verdict: str = Field(description="the last verdict of validation, in one line")
    runs: Annotated[tuple[RunStatus, ...], Cut.RUNS]
    not_asked: OmitEmpty[tuple[str, ...]] = Field(default=(), description="what could not be asked, and why")

    @property
    def counts(self) -> dict[str, int]:
        """Return how many runs are in each state, in the order of their lives; states of no run are left out."""
        found = Counter(run.state for run in self.runs)
        return {state: found[state] for state in _STATES if found[state]}

    def all_findings(self) -> Sequence[Finding]:
        """Return the causes."""
        return [run.cause for run in self.runs if run.cause]

    def _outcome(self) -> str:
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items())
        unwell = sum(run.cause is not None and run.state != "failed" for run in self.runs)
        more = f"; {counted(unwell, 'run')} not well though not failed" if unwell else ""
        return f"{counted(len(self.runs), 'run')}: {counts}{more}. Nothing was written."
