"""Results of tools and commands: each model is the schema of its reply. Keys are a contract with other programs.

A field declares its treatment in a reply: `exclude` omits it, `exclude_if` omits it if it has no information, and `Cut`
is the rule that shortens a long value.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from operator import not_
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, get_args

from pydantic import Field, PlainSerializer, computed_field, field_serializer

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Scalar, counted, errors_in, escape, few
from scaffold_torchtune.models import (
    Answer,
    CommandResult,
    Dataset,
    Excluded,
    Lines,
    Model,
    ModelPath,
    Run,
    RunProgress,
    Setting,
    Source,
    SourceKind,
    Values,
    lines_of,
)
from scaffold_torchtune.settings.kinds import written

_NAMED_CODES = 8
LONGEST_SUBMIT: Final = 700


class Cut(Enum):
    """The kinds of fields that a reply shortens in their own way."""

    NEVER = "texts that are useless if cut"
    RUNS = "runs, selected by a pattern of names"
    NAMES = "names of runs whose number is given elsewhere"
    FINDINGS = "findings and questions"
    PROBLEMS = "the problems of a refusal"
    EXPLAINED = "settings, each with its source and the places where it arrives"


_T = TypeVar("_T")
OmitEmpty = Annotated[_T, Field(exclude_if=not_)]
"""A field that a reply omits if it is empty, zero, false or None."""

_ANSWERS = "values that the user gave for fields that no document gives"
Answers = Annotated[OmitEmpty[tuple[Answer, ...]], Field(description=_ANSWERS)]
Findings = Annotated[tuple[Finding, ...], Cut.FINDINGS]
Logged = Annotated[tuple[str, ...], Field(description="heads of the entries added to scaffold.log")]


class StepResult(CommandResult):
    """The result of one step."""

    LISTED: ClassVar[tuple[str, ...]]
    """The keys of the reply that the output schema lists for agents."""

    FIRST: ClassVar[str | None] = None
    """The next action after a result that no tool follows; None if reply.py decides it."""

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of the items that a reply may list only in part."""
        return self._numbers() | _severities(self.all_findings())

    def all_findings(self) -> Sequence[Finding]:
        """Return the findings of the whole experiment, then of each run."""
        found: tuple[Finding, ...] = getattr(self, "warnings", ())
        return found

    def _numbers(self) -> dict[str, int]:
        return {}


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
    template: OmitEmpty[Values] = Field(description="values of a plain YAML template that no document gives")
    answers: Answers = ()
    sources: Lines = Field(description="lines by document and name")
    warnings: Findings

    def _numbers(self) -> dict[str, int]:
        return {"runs": len(self.runs)} | Counter(run.type for run in self.runs)

    @property
    def summary(self) -> str:
        """Return the number of rows and warnings."""
        tuned = sum(run.type == "fine-tuned" for run in self.runs)
        rows = f"{self.experiment}: {counted(len(self.runs), 'row')} read, {tuned} fine-tuned"
        return f"{rows}; {_warnings(self.warnings)}. Nothing was written."


class ChangedRuns(Model):
    """Runs with the same change."""

    what: str = Field(description="new, changed, kept (as started), or dropped (no longer in the table)")
    count: int = Field(description="number of runs")
    started: OmitEmpty[bool] = Field(default=False, description="whether they were submitted, run, or have results")
    runs: tuple[str, ...]
    fields: OmitEmpty[tuple[str, ...]] = Field(default=(), description="old -> new, with the line of the new value")
    state: OmitEmpty[str] = Field(default="", description="state of these runs, with its evidence")


class Changes(Model):
    """The changes of the runs, compared with the previous scaffold."""

    told: str = Field(exclude=True, description="number of new, unchanged, changed, kept and dropped runs")
    states: OmitEmpty[str] = Field(default="", description="number of runs of the table in each state")
    groups: tuple[ChangedRuns, ...] = Field(description="all runs that are not unchanged, grouped by their change")
    is_first: bool = Field(default=False, exclude=True, description="whether no run was scaffolded before")


UNSETTLED: Final = frozenset({"started-run", "copied-scaffold", "edited-output"})
"""The codes of a plan's warnings for which a scaffold would be refused until the user decides."""


class RunPlan(Model):
    """A planned run directory."""

    directory: str
    name: str = Field(description="the row's Run Name")
    change: OmitEmpty[str] = Field(default="", description="its change, if runs were scaffolded before")
    line: int = Field(description="line of the row in the summary")
    parameters: dict[str, Scalar]
    derived: OmitEmpty[dict[str, Scalar]] = Field(
        description="derived values, and those of a template, that differ between runs"
    )
    sources: dict[str, Source] = Field(exclude=True, description="source of each value that not all runs share")


class PlanResult(StepResult):
    """The plan: directories and values that would be written."""

    LISTED = ("counts", "changes", "runs", "varying", "levels", "common", "defaults", "excluded", "warnings")

    changes: Changes = Field(description="changes of the runs, compared with the previous scaffold")
    varying: tuple[str, ...] = Field(description="varying parameters, in naming order")
    levels: OmitEmpty[dict[str, str]] = Field(
        description="levels of each varying parameter, each with its number of runs: `1e-5 x 8, 3e-5 x 7`"
    )
    pattern: str = Field(description="naming pattern of run directories")
    outputs: OmitEmpty[str] = Field(
        default="", description="where runs save their checkpoints: RUN is the name of the run directory"
    )
    template: str
    setup: str = Field(description="'bundled', or the external setup_finetune.py")
    answers: Answers = ()
    defaults: dict[str, Scalar] = Field(description="settings left at their defaults, which nobody chose")
    legend: OmitEmpty[dict[str, str]] = Field(description="free text behind prompt1, prompt2, ...")
    excluded: tuple[Excluded, ...]
    warnings: Findings
    runs: Annotated[tuple[RunPlan, ...], Cut.RUNS]
    common: Values = Field(description="settings that all runs share; a reply omits defaults")
    repeated: Findings = Field(default=(), exclude=True, description="its warnings that the previous plan also had")
    told_before: OmitEmpty[int] = Field(default=0, description="number of omitted infos, which the previous plan had")
    ask: OmitEmpty[tuple[Question, ...]] = Field(
        default=(), description="questions that the user decides before the runs are scaffolded"
    )

    @field_serializer("common")
    def _chosen(self, common: Values) -> dict[str, Scalar]:
        return {
            name: each.value for name, each in common.items() if not (name in self.defaults or _is_empty(name, each))
        }

    @computed_field  # type: ignore[prop-decorator]  # mypy does not support decorated properties
    @property
    def sources(self) -> Lines:
        """Return lines by document and name of the settings that all runs share."""
        return lines_of((name, each.source) for name, each in self.common.items() if name not in self.defaults)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rules(self) -> dict[str, str]:
        """Return the rule of each value that is derived from others: it differs between runs, or no document has it."""
        own = {name: source for run in self.runs for name, source in run.sources.items()}
        derived = {name: each for name, each in self.common.items() if each.source.kind is SourceKind.DERIVED}
        shared = {name: each.source for name, each in derived.items() if not _is_empty(name, each)}
        rules = {name: _rule(source) for name, source in own.items() if not (source.file and source.line)}
        return rules | {name: _rule(source) for name, source in shared.items()}

    def without_told(self) -> "PlanResult":
        """Return the plan without infos that the previous plan also had; warnings are always listed."""
        told = {id(each) for each in self.repeated if each.severity is Severity.INFO}
        kept = tuple(each for each in self.warnings if id(each) not in told)
        return self.model_copy(update={"warnings": kept, "told_before": len(self.warnings) - len(kept)})

    def _numbers(self) -> dict[str, int]:
        return {"runs": len(self.runs), "excluded": len(self.excluded)}

    @property
    def summary(self) -> str:
        """Return the number of runs, or of their changes, the varying parameters and the number of warnings."""
        varying = ", ".join(self.varying) or "nothing"
        runs = f"{counted(len(self.runs), 'run')} planned, {counted(len(self.excluded), 'row')} skipped"
        runs = f"{runs if self.changes.is_first else self.changes.told}; varying: {varying}"
        return f"{runs}; {_warnings(self.warnings)}. Nothing was written."


RunName = Annotated[str, Field(exclude=True, description="the run's name in the table, by which it can be selected")]


class RenderedRun(Model):
    """A run with its setup_finetune.yaml."""

    directory: str
    name: RunName = ""
    created: bool = Field(description="false if it was already up to date")


class RenderResult(StepResult):
    """The result of step render."""

    LISTED = ("created", "unchanged", "runs", "warnings")

    created: int
    unchanged: int
    kept: OmitEmpty[int] = Field(default=0, description="number of kept started runs among the unchanged")
    changes: OmitEmpty[Changes | None] = Field(default=None, description="changes of the runs")
    history: OmitEmpty[str] = Field(default="", description="where replaced files are kept")
    runs: Annotated[tuple[RenderedRun, ...], Cut.RUNS]
    plan_warnings: Findings = Field(default=(), exclude=True, description="the warnings of the plan")
    warnings: Findings = Field(description="warnings in addition to the plan's")
    logged: Logged = ()

    @property
    def summary(self) -> str:
        """Return the number of written files and of warnings."""
        done = f"{counted(self.created, 'setup_finetune.yaml file')} written, {self.unchanged} unchanged"
        planned = _severities(self.plan_warnings)["warnings"]
        return f"{done}; {_warnings(self.warnings)} in addition to the plan's {planned}."


class SetupRun(Model):
    """The result of setup_finetune for one run."""

    directory: str
    name: RunName = ""
    ok: bool
    unchanged: OmitEmpty[bool] = Field(description="true if it was up to date and nothing was run")
    reason: str = Field(default="", description="reason of the failure, with the relevant line of the output")
    cause: OmitEmpty[str] = Field(default="", description="likely cause of the failure, if known")
    fix: OmitEmpty[str] = Field(default="", description="the next step")
    status: OmitEmpty[int | None] = Field(default=None, description="exit status of a script, or minus its signal")
    seconds: OmitEmpty[float | None] = Field(default=None, description="run time of an external script")
    output: OmitEmpty[str] = Field(default="", description="file with the output of a failed script")


class SetupResult(StepResult):
    """The result of run_setup."""

    LISTED = ("processed", "succeeded", "failed", "runs", "warnings")

    environment: OmitEmpty[str] = Field(default="", description="environment of an external script")
    processed: int
    succeeded: int
    failed: int
    warnings: Findings
    history: OmitEmpty[str] = Field(default="", description="where replaced files are kept")
    runs: Annotated[tuple[SetupRun, ...], Cut.RUNS]
    logged: Logged = ()

    @property
    def summary(self) -> str:
        """Return the number of runs that succeeded and failed, and of warnings."""
        already = sum(run.unchanged for run in self.runs)
        done = f"{counted(self.processed, 'run')} processed: {self.succeeded} succeeded, {self.failed} failed"
        return f"{done}{f'; {already} unchanged' if already else ''}; {_warnings(self.warnings)}."


class ValidatedRun(Model):
    """One run's verdict."""

    directory: str
    name: RunName = ""
    passed: bool
    findings: tuple[Finding, ...]


class ExternalCheck(Model):
    """The check by sbatch or torchtune: its extent, or the reason why it did not run.

    `off`: the operator switched it off.
    """

    program: str
    state: Literal["ran", "off", "not run"]
    told: str


_FLAGS: Final = {
    "local": "--local",
    "template": "--template",
    "names": "--names",
    "setup_script": "--setup-script",
    "answers": "--answer",
}
"""The options that a plan stores, and what the command line calls them."""


def option_words(options: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the words of a command line that give options of a plan, by name: `--answer epochs=2`."""
    found: dict[str, tuple[str, ...]] = {}
    for name, flag in _FLAGS.items():
        value = options.get(name)
        if isinstance(value, Mapping):
            value = [f"{escape(field)}={written(each)}" for field, each in value.items()]
        if value:
            several = value if isinstance(value, list) else [value]
            found[name] = tuple(word for each in several for word in (flag, str(each)))
    return found


def submit_command(experiment_dir: str) -> str:
    """Return the command that submits the runs of an experiment."""
    return f"scaffold-torchtune submit {shlex.quote(experiment_dir)}"


class ValidateResult(StepResult):
    """The verdict: `passed` only if every planned run was checked and has no error."""

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
        default=(), description="started runs, which the submit line skips"
    )
    asked: Annotated[
        tuple[ExternalCheck, ...],
        PlainSerializer(lambda of: {each.program: each.told for each in of}, return_type=dict[str, str]),
    ] = Field(default=(), exclude_if=not_, description="checks by sbatch and torchtune, or why they did not run")
    states: OmitEmpty[str] = Field(default="", description="number of runs in each state; empty unless passed")
    kept: OmitEmpty[int] = Field(default=0, description="started runs that stay as started, unlike the documents")
    kept_values: OmitEmpty[tuple[str, ...]] = Field(default=(), description="their values that differ from documents")
    tracking: Annotated[OmitEmpty[str], Cut.NEVER] = Field(
        default="", description="command that sends offline logs to Weights & Biases; empty unless passed"
    )
    logged: Logged = ()

    def all_findings(self) -> Sequence[Finding]:
        """Return the findings of the whole experiment, then of each run."""
        return [*self.findings, *(each for run in self.runs for each in run.findings)]

    @field_serializer("submit")
    def _command(self, submit: str) -> str:
        """Return the submit line, or the command `submit` if the line is too long for a reply."""
        return submit if len(submit) <= LONGEST_SUBMIT else submit_command(self.experiment_dir)

    @property
    def verdict(self) -> str:
        """Return the verdict with the number of failed runs: `validation failed: 2 of 36 runs`."""
        if self.passed:
            return f"validation passed: {self.planned} of {counted(self.planned, 'run')}"
        failed, unchecked = self.counts["failed"], self.planned - self.checked
        parts = [f"{failed} of {counted(self.planned, 'run')}"] if failed else []
        parts += [f"{unchecked} of {counted(self.planned, 'run')} not checked"] if unchecked else []
        codes = dict.fromkeys(each.code for each in errors_in(self.findings) if each.code != "nothing-checked")
        parts += [f"all {counted(self.planned, 'run')} ({few([*codes], _NAMED_CODES)})"] if codes else []
        return f"validation failed: {', '.join(parts) or 'no run is planned'}"

    @property
    def not_asked(self) -> str:
        """Return the programs that did not check the files, each with the reason: `sbatch (not on PATH)`."""
        return ", ".join(
            f"{one.program} ({one.told.partition(':')[0]})" for one in self.asked if one.state == "not run"
        )

    @property
    def kept_told(self) -> str:
        """Return the kept runs: `, 3 kept as started (epochs 3, but the summary has 5)`; an empty text without any."""
        values = f" ({'; '.join(self.kept_values)})" if self.kept_values else ""
        return f", {self.kept} kept as started{values}" if self.kept else ""

    @property
    def accepts_edits(self) -> str:
        """Return the option of a scaffold that ends the findings about edited files; empty without such findings.

        Files that a kept run was started with are never generated again; their edits can only be accepted or undone.
        """
        edited = {each.severity for each in self.all_findings() if each.code == "changed-output"}
        return "--started keep" if Severity.ERROR in edited else "--overwrite" if edited else ""

    @property
    def left_told(self) -> str:
        """Return the number of runs in the submit line, and of runs that it skips because they were started."""
        left = self.planned - len(self.started)
        left_out = f", {len(self.started)} skipped as started" if self.started else ""
        return f"{left} to submit{left_out}" if left else f"nothing to submit: all {self.planned} were started"

    def _numbers(self) -> dict[str, int]:
        return {"failed": sum(not run.passed for run in self.runs)}

    @property
    def summary(self) -> str:
        """Return the verdict, with the codes of errors and the number of warnings."""
        found = self.all_findings()
        if self.passed:
            checked = f"{self.checked} of {counted(self.planned, 'run')} checked, every planned value arrived"
            left = f"; {self.left_told}" if self.started else ""
            return f"Validation passed: {checked}{self.kept_told}{left}; {_warnings(found)}."
        codes = Counter(each.code for each in errors_in(found))
        kinds = ", ".join(f"{code} ({count})" for code, count in codes.most_common(_NAMED_CODES))
        more = f" and {len(codes) - _NAMED_CODES} more kinds" if len(codes) > _NAMED_CODES else ""
        return f"{self.verdict.capitalize()}: {kinds}{more}."


class ScaffoldResult(CommandResult):
    """All steps in one."""

    parse: ParseResult
    plan: PlanResult
    render: RenderResult
    setup: SetupResult
    validation: ValidateResult = Field(serialization_alias="validate")  # `validate` is taken in pydantic
    ok: bool
    unchanged: bool = Field(description="true if everything was up to date and nothing was written")
    log: str = Field(description="path of scaffold.log")
    submit: str = Field(description="the command that submits the runs; empty unless all runs passed")

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
        """Return the verdict with the number of failed runs by step: `not ready: setup failed in 1 of 4 runs`."""
        failed = {run.directory for run in self.setup.runs if not run.ok}
        if not failed:
            return self.validation.verdict
        told = f"not ready: setup failed in {len(failed)} of {counted(self.setup.processed, 'run')}"
        more = sum(not run.passed and run.directory not in failed for run in self.validation.runs)
        return f"{told}, validation in {more} more" if more else told

    @property
    def logged(self) -> tuple[str, ...]:
        """Return the heads of the entries added to scaffold.log."""
        return (*self.render.logged, *self.setup.logged, *self.validation.logged)

    @property
    def summary(self) -> str:
        """Return the verdict of all steps, with the counts of the last two."""
        state = "Ready to submit" if self.ok else "Not ready"
        unchanged = " Nothing was changed." if self.unchanged else ""
        return f"{state}. {self.setup.summary} {self.validation.summary}{unchanged}"


class RefusalError(Model):
    """The `error` of a refusal: its problems and questions."""

    message: str
    problems: Annotated[tuple[Finding, ...], Cut.PROBLEMS]
    ask: Annotated[OmitEmpty[tuple[Question, ...]], Cut.FINDINGS] = ()
    """The questions for the user."""


def _rule(source: Source) -> str:
    """Return the rule of a derived value: `2 x lora_rank`; for another value, its source."""
    return source.note if source.kind is SourceKind.DERIVED and source.note else str(source)


def _is_empty(name: str, setting: Setting) -> bool:
    """Return whether a setting has no information: a part of the data set's path that is not needed."""
    return name == "input_formatting" and not setting.value


def _warnings(found: Iterable[Finding]) -> str:
    return counted(_severities(found)["warnings"], "warning")


def _severities(found: Iterable[Finding]) -> dict[str, int]:
    """Return the number of findings by severity; errors and infos only if there are any."""
    counts = Counter(each.severity for each in found)
    names = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.INFO: "infos"}
    return {name: counts[each] for each, name in names.items() if counts[each] or each is Severity.WARNING}


SETTINGS_OF: Final = {
    "model": ("torchtune_model_name",),
    "dataset": ("dataset_label", "input_dir_base", "dataset_ext"),
    "recipe": ("custom_recipe",),
    "warmup_ratio": ("num_warmup_steps",),
    "lora_alpha_ratio": ("lora_alpha",),
}
"""The settings that hold a parameter, if they have other names."""
OF_RATIOS: Final = frozenset(key for name in ("warmup_ratio", "lora_alpha_ratio") for key in SETTINGS_OF[name])
"""The settings that may differ between runs although one line gives them all."""


_STATES: Final = get_args(RunProgress)


def _is_none(value: object) -> bool:
    return value is None


class LossPoint(Model):
    """A loss printed in the run's output; `loss` is None if it is not finite (nan, inf)."""

    step: int = Field(ge=0, description="optimizer steps done")
    loss: float | None


class RunStatus(Model):
    """The status of one run, from its files, its job's output and SLURM.

    An unknown value is None, and `unseen` has the reason.
    """

    directory: str
    state: RunProgress
    evidence: OmitEmpty[tuple[str, ...]] = Field(default=(), description="evidence of the state")
    job: OmitEmpty[str] = Field(default="", description="id of its last job: 4711, or 4711_3 in an array")
    job_state: OmitEmpty[str] = Field(default="", description="the job's state in SLURM's terms")
    output: OmitEmpty[str] = Field(default="", description="the job's output file, relative to the experiment")
    output_dir: OmitEmpty[str] = Field(default="", description="the directory of its checkpoints")
    epochs_done: int | None = Field(default=None, exclude_if=_is_none, description="epochs trained")
    epochs: int | None = Field(default=None, exclude_if=_is_none, description="epochs planned")
    step: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps done")
    steps: int | None = Field(default=None, exclude_if=_is_none, description="optimizer steps expected in total")
    loss: float | None = Field(
        default=None, exclude_if=_is_none, description="the last loss; None with a cause if it is nan"
    )
    losses: tuple[LossPoint, ...] = Field(default=(), exclude=True, description="a sample of the losses over time")
    elapsed: int | None = Field(default=None, exclude_if=_is_none, description="run time of the job in seconds")
    limit: int | None = Field(default=None, exclude_if=_is_none, description="time limit of the job in seconds")
    cause: OmitEmpty[Finding | None] = Field(default=None, description="cause of a failure or problem, with its fix")
    unseen: OmitEmpty[tuple[str, ...]] = Field(default=(), description="sources that could not be read, and why")


class StatusResult(StepResult):
    """The status of all runs of an experiment."""

    LISTED = ()
    FIRST = (
        "report the findings, the number of runs in each state, then each cause with its fix, former, changed_documents"
        " and not_asked; do not submit, cancel or change anything without being asked"
    )

    experiment: str
    experiment_dir: str
    verdict: str = Field(description="the last verdict of validation, in one line")
    findings: OmitEmpty[Findings] = Field(default=(), description="the directory is a copy of a different experiment")
    runs: Annotated[tuple[RunStatus, ...], Cut.RUNS]
    former: Annotated[OmitEmpty[tuple[RunStatus, ...]], Cut.RUNS] = Field(
        default=(), description="started runs that are no longer in the table"
    )
    changed_documents: OmitEmpty[tuple[str, ...]] = Field(
        default=(), description="documents that changed since the scaffold; `plan` shows the effect"
    )
    not_asked: OmitEmpty[tuple[str, ...]] = Field(default=(), description="programs that could not be asked, and why")
    options: dict[str, Any] = Field(default={}, exclude=True, description="options that a new plan must repeat")

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of runs in each state, in the order of progress; states without a run are omitted."""
        return _numbers_of_states(self.runs)

    @property
    def former_told(self) -> str:
        """Return the started runs that are no longer in the table by state; an empty text if there are none."""
        counts = ", ".join(f"{number} {state}" for state, number in _numbers_of_states(self.former).items())
        return f"{counted(len(self.former), 'run')} no longer in the table: {counts}" if self.former else ""

    @property
    def changed_told(self) -> str:
        """Return the documents that changed, and the command that shows the effect; an empty text if none changed."""
        if not self.changed_documents:
            return ""
        options = [word for words in option_words(self.options).values() for word in words]
        line = shlex.join(["scaffold-torchtune", "plan", self.experiment_dir, *options])
        return f"{' and '.join(self.changed_documents)} changed since the scaffold; `{line}` shows the effect"

    def all_findings(self) -> Sequence[Finding]:
        """Return the problem of the whole experiment, and the causes of failures and problems of runs."""
        return [*self.findings, *(run.cause for run in (*self.runs, *self.former) if run.cause)]

    @property
    def summary(self) -> str:
        """Return the number of runs in each state, and of runs with a problem."""
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items())
        unwell = sum(run.cause is not None and run.state != "failed" for run in self.runs)
        more = f"; {counted(unwell, 'run')} with a problem but not failed" if unwell else ""
        more += f"; {self.former_told}" if self.former else ""
        more += f"; {self.changed_told}" if self.changed_documents else ""
        more += f"; {self.findings[0].message}" if self.findings else ""
        return f"{counted(len(self.runs), 'run')}: {counts or 'none'}{more}. Nothing was written."


def _numbers_of_states(runs: Iterable[RunStatus]) -> dict[str, int]:
    found = Counter(run.state for run in runs)
    return {state: found[state] for state in _STATES if found[state]}
