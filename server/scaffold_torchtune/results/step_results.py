"""Results of tools and commands: each model is the schema of its reply. Keys are a contract with other programs.

A field declares its treatment in a reply: `exclude` omits it, `exclude_if` omits it if it has no information, and `Cut`
is the rule that shortens a long value.
"""

import shlex
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from operator import not_
from typing import Annotated, Any, ClassVar, Final, TypeVar, get_args

from pydantic import Field, computed_field, field_serializer

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Question, Scalar, counted, errors_in, escape, few
from scaffold_torchtune.models import (
    Answer,
    ChangeKind,
    Dataset,
    Excluded,
    Experiment,
    FieldChange,
    Lines,
    Model,
    ModelPath,
    Plan,
    PlannedRun,
    Run,
    RunChange,
    RunProgress,
    RunState,
    Setting,
    Source,
    SourceKind,
    Values,
    lines_of,
)
from scaffold_torchtune.settings import kinds

_NAMED_CODES = 8
_NAMED_RUNS = 3
_NAMED_UNSEEN = 2
_MOST_GROUPS = 6
_LONGEST_VALUE = 80
_TEXT = "the text of setup_finetune.yaml"
LONGEST_SUBMIT: Final = 700
_LISTED_LEVELS = 12
_LONGEST_LEVEL = 40


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


class StepResult(Model):
    """The result of one step."""

    LISTED: ClassVar[tuple[str, ...]]
    """The keys of the reply that the output schema lists for agents."""

    FIRST: ClassVar[str | None] = None
    """The next action after a result that no tool follows; None if reply.py decides it."""

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers of the items that a reply may list only in part."""
        return self._numbers() | _severities(self.all_findings())

    @property
    def outcome(self) -> str:
        """Return the result of the step in one line."""
        return self._outcome()

    def all_findings(self) -> Sequence[Finding]:
        """Return the findings of the whole experiment, then of each run."""
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
    template: OmitEmpty[Values] = Field(description="values of a plain YAML template that no document gives")
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
    """Runs with the same change."""

    what: str = Field(description="new, changed, kept (as started), or dropped (no longer in the table)")
    count: int = Field(description="number of runs")
    started: OmitEmpty[bool] = Field(default=False, description="whether they were submitted, run, or have results")
    runs: tuple[str, ...]
    fields: OmitEmpty[tuple[str, ...]] = Field(default=(), description="old -> new, with the line of the new value")
    state: OmitEmpty[str] = Field(default="", description="state of these runs, with its evidence")


class Changes(Model):
    """The changes of the runs, compared with the previous scaffold."""

    summary: str = Field(description="number of new, unchanged, changed, kept and dropped runs")
    states: OmitEmpty[str] = Field(default="", description="number of runs of the table in each state")
    groups: tuple[ChangedRuns, ...] = Field(description="all runs that are not unchanged, grouped by their change")
    is_first: bool = Field(default=False, exclude=True, description="whether no run was scaffolded before")


class RunPlan(Model):
    """A planned run directory."""

    directory: str
    name: str = Field(description="the row's Run Name")
    change: OmitEmpty[str] = Field(default="", description="its change, if runs were scaffolded before")
    line: int = Field(description="line of the row in the summary")
    parameters: dict[str, Scalar]
    derived: OmitEmpty[dict[str, Scalar]] = Field(description="derived values that differ between runs")
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
    template: str
    setup: str = Field(description="'bundled', or the external setup_finetune.py")
    answers: Answers = ()
    defaults: dict[str, Scalar] = Field(description="settings left at their defaults, which nobody chose")
    legend: OmitEmpty[dict[str, str]] = Field(description="free text behind prompt1, prompt2, ...")
    excluded: tuple[Excluded, ...]
    warnings: Findings
    runs: Annotated[tuple[RunPlan, ...], Cut.RUNS]
    common: Values = Field(description="settings that all runs share; a reply omits defaults")
    told: Findings = Field(default=(), exclude=True, description="its warnings that the previous plan also had")
    told_before: OmitEmpty[int] = Field(default=0, description="number of omitted infos, which the previous plan had")
    ask: OmitEmpty[tuple[Question, ...]] = Field(
        default=(), description="questions that the user decides before the runs are scaffolded"
    )

    @field_serializer("common")
    def _chosen(self, common: Values) -> dict[str, Scalar]:
        return {name: setting.value for name, setting in common.items() if name not in self.defaults}

    @computed_field  # type: ignore[prop-decorator]  # mypy does not support decorated properties
    @property
    def sources(self) -> Lines:
        """Return lines by document and name of the settings that all runs share."""
        return lines_of((name, each.source) for name, each in self.common.items() if name not in self.defaults)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rules(self) -> dict[str, str]:
        """Return the rule of each value that differs between runs and is in no document."""
        own = {name: source for run in self.runs for name, source in run.sources.items()}
        return {name: str(source) for name, source in own.items() if not (source.file and source.line)}

    def without_told(self) -> "PlanResult":
        """Return the plan without infos that the previous plan also had; warnings are always listed."""
        told = {id(each) for each in self.told if each.severity is Severity.INFO}
        kept = tuple(each for each in self.warnings if id(each) not in told)
        return self.model_copy(update={"warnings": kept, "told_before": len(self.warnings) - len(kept)})

    def _numbers(self) -> dict[str, int]:
        return {"runs": len(self.runs), "excluded": len(self.excluded)}

    def _outcome(self) -> str:
        varying = ", ".join(self.varying) or "nothing"
        runs = f"{counted(len(self.runs), 'run')} planned, {len(self.excluded)} skipped; varying: {varying}"
        if not self.changes.is_first:
            runs = f"{self.changes.summary}; varying: {varying}"
        return f"{runs}; {_warnings(self.warnings)}. Nothing was written."


class RenderedRun(Model):
    """A run with its setup_finetune.yaml."""

    directory: str
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

    def _outcome(self) -> str:
        done = f"{self.created} setup_finetune.yaml written, {self.unchanged} unchanged"
        planned = _severities(self.plan_warnings)["warnings"]
        return f"{done}; {_warnings(self.warnings)} in addition to the plan's {planned}."


class SetupRun(Model):
    """The result of setup_finetune for one run."""

    directory: str
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

    environment: str = Field(default="", description="environment of an external script; empty for the bundled one")
    processed: int
    succeeded: int
    failed: int
    warnings: Findings
    history: OmitEmpty[str] = Field(default="", description="where replaced files are kept")
    runs: Annotated[tuple[SetupRun, ...], Cut.RUNS]
    logged: Logged = ()

    def _outcome(self) -> str:
        already = sum(run.unchanged for run in self.runs)
        done = f"{counted(self.processed, 'run')} processed: {self.succeeded} succeeded, {self.failed} failed"
        return f"{done}{f'; {already} unchanged' if already else ''}; {_warnings(self.warnings)}."


class ValidatedRun(Model):
    """One run's verdict."""

    directory: str
    passed: bool
    findings: tuple[Finding, ...]


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
    def kept_told(self) -> str:
        """Return the kept runs: `, 3 kept as started (epochs 3, the summary says 5)`; an empty text without any."""
        values = f" ({'; '.join(self.kept_values)})" if self.kept_values else ""
        return f", {self.kept} kept as started{values}" if self.kept else ""

    @property
    def left_told(self) -> str:
        """Return the number of runs in the submit line, and of runs that it skips because they were started."""
        left = self.planned - len(self.started)
        left_out = f", {len(self.started)} skipped as started" if self.started else ""
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
    def outcome(self) -> str:
        """Return the result of all steps in one line."""
        state = "ready to submit" if self.ok else "NOT READY"
        unchanged = "; nothing was changed" if self.unchanged else ""
        return f"{state}: {self.setup.outcome} {self.validation.outcome}{unchanged}"


class RefusalError(Model):
    """The `error` of a refusal: its problems and questions."""

    message: str
    problems: Annotated[tuple[Finding, ...], Cut.PROBLEMS]
    ask: Annotated[OmitEmpty[tuple[Question, ...]], Cut.FINDINGS] = ()
    """The questions for the user."""


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
}
"""The settings that hold a parameter, if they have other names."""


def parse_result(experiment: Experiment, directory: str) -> ParseResult:
    """Return the experiment as the result of parse_summary."""
    settings = [*experiment.config.items(), *experiment.environment.items()]
    settings += [(f"models.{model.name}", model.path) for model in experiment.models]
    settings += [(f"template.{name}", setting) for name, setting in experiment.template.items()]
    settings += [("dataset", experiment.dataset.path)] if experiment.dataset else []
    sources = lines_of((name, setting.source) for name, setting in settings)
    own = {"experiment": experiment.name, "experiment_dir": directory, "sources": sources}
    return ParseResult(**_shared(experiment, ParseResult) | own)


_KINDS: tuple[ChangeKind, ...] = ("changed", "kept", "new", "dropped")
_STARTED_AS = {
    "finished": "are trained",
    "failed": "have failed",
    "running": "are running",
    "submitted": "are submitted",
}


def changes_of(found: Sequence[RunChange], *, done: bool = False, replaced: Collection[str] = ()) -> Changes:
    """Return the changes of runs, grouped; without groups if nothing was scaffolded before.

    Args:
        found: the change of each run.
        done: whether the changes have been made.
        replaced: the started runs to replace.
    """
    if all(each.kind == "new" for each in found):
        summary = f"{counted(len(found), 'run')}: all new" if found else ""
        return Changes(summary=summary, groups=(), is_first=True)
    numbers = Counter(each.kind for each in found)
    changed = [each for each in found if each.kind == "changed" and each.is_started]
    to_replace = {each.directory for each in changed if done or each.directory in replaced}
    started = Counter(each.state.state for each in changed if each.state and each.directory not in to_replace)
    how = _STARTED_AS[next(iter(started))] if len(started) == 1 else "are started"
    if started.total() == 1:
        how = how.replace("are ", "is ").replace("have ", "has ")
    left = sum(each.is_started for each in found if each.kind == "dropped")
    gone = f" ({left} of them started)" if left else ""
    parts = {
        "new": numbers["new"],
        "unchanged": numbers["unchanged"],
        "changed" if done else "would change": numbers["changed"] - len(changed),
        f"would change and {how}": started.total(),
        f"{'' if done else 'would be '}replaced though started": len(to_replace),
        "kept as started": numbers["kept"],
        f"no longer in the table{gone}": numbers["dropped"],
    }
    return Changes(
        summary=f"{counted(len(found) - numbers['dropped'], 'run')}: "
        + ", ".join(f"{number} {what}" for what, number in parts.items() if number),
        states="" if done else states_told({each.directory: each.state for each in found if each.kind != "dropped"}),
        groups=_groups(found),
    )


def states_told(states: Mapping[str, RunState | None]) -> str:
    """Return the number of runs in each state, the names if they are few, and the sources that cannot be read."""
    by_state: dict[str, list[str]] = {}
    for name, each in states.items():
        by_state.setdefault(each.state if each else "planned", []).append(name)
    order = [state for state in get_args(RunProgress) if state in by_state]
    counts = [f"{len(names)} {state}{_named(state, names)}" for state in order for names in [by_state[state]]]
    unseen = dict.fromkeys(reason for each in states.values() if each for reason in each.unseen)
    return ", ".join(counts) + (f"; not known: {few([*unseen], _NAMED_UNSEEN)}" if unseen else "")


def _named(state: str, names: Sequence[str]) -> str:
    """Return the names of runs in a state that needs attention, if they are few."""
    told = state in {"submitted", "running", "failed"} and len(names) <= _NAMED_RUNS
    return f" ({', '.join(names)})" if told else ""


def _groups(found: Iterable[RunChange]) -> tuple[ChangedRuns, ...]:
    """Return the groups of changed runs; if they are too many, runs with the same fields are one group."""
    exact: dict[tuple[Any, ...], list[RunChange]] = {}
    rough: dict[tuple[Any, ...], list[RunChange]] = {}
    for each in found:
        if each.kind in _KINDS:
            state = each.state.state if each.state else ""
            key = (not each.is_started, _KINDS.index(each.kind), state)
            exact.setdefault((*key, tuple(field.unplaced() for field in each.shared)), []).append(each)
            rough.setdefault((*key, tuple(field.field for field in each.fields)), []).append(each)
    groups = exact if len(exact) <= _MOST_GROUPS else rough
    return tuple(_changed_runs(groups[key]) for key in sorted(groups, key=_by_kind))


def _by_kind(key: tuple[Any, ...]) -> tuple[int, bool]:
    """Return the sort key of a group: by its change, started runs first."""
    return key[1], key[0]


def change_line(group: ChangedRuns, most: int) -> str:
    """Return the change of a group of runs in one line: `changed (36 runs: a, ...): epochs 3 -> 5; finished`."""
    told = "; ".join(filter(None, (", ".join(group.fields), group.state)))
    runs = f"{counted(group.count, 'run')}: " if group.count > 1 else ""
    return f"{group.what} ({runs}{few(group.runs, most)})" + (f": {told}" if told else "")


def _changed_runs(alike: Sequence[RunChange]) -> ChangedRuns:
    first = alike[0]
    state = first.state.told if first.state and first.kind != "new" else ""
    columns = [*zip(*(each.shared for each in alike), strict=True)]
    return ChangedRuns(
        what=first.kind,
        count=len(alike),
        started=first.is_started,
        runs=tuple(each.directory for each in alike),
        fields=tuple(map(_changed_field, columns)) or ((_TEXT,) if first.kind in {"changed", "kept"} else ()),
        state=f"{state}, as in {first.directory}" if len(alike) > 1 and " (" in state else state,
    )


def changed_fields(found: Iterable[RunChange]) -> list[str]:
    """Return the changed values, each once with its number of runs: `epochs 3 -> 5 (summary.md:48), 4 runs`."""
    groups: dict[FieldChange, list[FieldChange]] = {}
    for run in found:
        for each, shared in zip(run.fields, run.shared, strict=True):
            groups.setdefault(shared.unplaced(), []).append(shared if shared != each else each)
    return [f"{_changed_field(alike)}, {counted(len(alike), 'run')}" for alike in groups.values()]


def _changed_field(alike: Sequence[FieldChange]) -> str:
    """Return the change of a value in some runs, the first of several: `epochs 3 -> 5 (summary.md:48)`."""
    old, new = _old_and_new(alike[0])
    others = len({(each.old, each.new) for each in alike}) - 1
    sources = [each.source for each in alike if each.source and each.source.file and each.source.line]
    lines = dict.fromkeys(str(source.line) for source in sources if source.file == sources[0].file)
    place = f" ({sources[0].file}:{few([*lines], _NAMED_RUNS)})" if sources else ""
    return f"{alike[0].field} {old} -> {new}{place}" + (f", {counted(others, 'other change')}" if others else "")


def _old_and_new(change: FieldChange) -> tuple[str, str]:
    """Return both values as people write them; long texts are cut to the part where they differ."""
    texts = [
        "nothing" if each is None else each if isinstance(each, str) else kinds.written(each)
        for each in (change.old, change.new)
    ]
    if max(map(len, texts)) > _LONGEST_VALUE:
        differs = next((at for at, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), 0)
        start = max(differs - _LONGEST_VALUE // 4, 0)
        texts = [("..." if start else "") + text[start:] for text in texts]
    return escape(texts[0], _LONGEST_VALUE), escape(texts[1], _LONGEST_VALUE)


def plan_result(
    plan: Plan, changes: Sequence[RunChange] = (), before: Sequence[Finding] = (), replaced: Collection[str] = ()
) -> PlanResult:
    """Return the plan as plan_runs does: what differs by run, and what all runs share.

    Args:
        plan: the plan.
        changes: what becomes of each run.
        before: the warnings of the plan before.
        replaced: the started runs that are to be replaced.
    """
    compared = changes_of(changes, replaced=replaced)
    kinds_of = {} if compared.is_first else {each.directory: each.kind for each in changes}
    first = plan.runs[0].settings
    common = {name: each for name, each in first.items() if all(_has(run, name, each.value) for run in plan.runs)}
    every = [(name, setting) for run in plan.runs for name, setting in run.settings.items()]
    own = {
        "setup": plan.options.setup_script,
        "defaults": {name: setting.value for name, setting in every if setting.source.kind is SourceKind.DEFAULT},
        "runs": tuple(_run_plan(run, common, kinds_of.get(run.directory, "")) for run in plan.runs),
        "levels": {name: _levels([run.parameters.get(name) for run in plan.runs]) for name in plan.varying},
        "common": common,
        "changes": compared,
        "told": _told_before(plan.warnings, before),
    }
    return PlanResult(**_shared(plan, PlanResult) | own)


def _told_before(now: Iterable[Finding], before: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings of which there were as many before, by code and field: their texts may count other runs."""

    def by_kind(found: Iterable[Finding]) -> Counter[tuple[str, str | None]]:
        return Counter((each.code, each.field) for each in found)

    now, known = tuple(now), by_kind(before)
    same = {kind for kind, count in by_kind(now).items() if count <= known[kind]}
    return tuple(each for each in now if (each.code, each.field) in same)


def _levels(values: Sequence[Scalar]) -> str:
    """Return the levels of a parameter, each with its number of runs; where there are many, those that fewest have."""
    counts = Counter(values)
    if len(counts) == len(values):
        return f"{len(values)} levels, each in one run"
    numbers = [level for level in counts if isinstance(level, int | float)]
    levels = sorted(numbers) if len(numbers) == len(counts) else list(counts)
    kept = set(sorted(levels, key=counts.__getitem__)[:_LISTED_LEVELS])
    texts = [f"{kinds.written(level)[:_LONGEST_LEVEL]} x {counts[level]}" for level in levels if level in kept]
    return ", ".join([*texts, f"and {len(levels) - len(kept)} more"] if len(kept) < len(levels) else texts)


def _shared(of: Model, result: type[Model]) -> dict[str, Any]:
    """Return the fields that a stage's model and its result have both."""
    return {name: getattr(of, name) for name in result.model_fields if name in type(of).model_fields}


def _has(run: PlannedRun, name: str, value: Scalar) -> bool:
    return name in run.settings and run.settings[name].value == value


def _run_plan(run: PlannedRun, common: Mapping[str, Setting], change: str) -> RunPlan:
    """Return what a run has of its own, with its sources; what is derived is computed from others, but for names."""
    own = {name: setting for name, setting in run.settings.items() if name not in common}
    derived = {n: s for n, s in own.items() if s.source.kind is SourceKind.DERIVED and n != "my_wandb_run_name"}
    keys = {name: next((k for k in SETTINGS_OF.get(name, (name,)) if k in own), None) for name in run.parameters}
    stands = {name: own[key] for name, key in keys.items() if key} | derived
    sources = {name: setting.source for name, setting in stands.items()}
    values = {name: setting.value for name, setting in derived.items()}
    return RunPlan(**_shared(run, RunPlan) | {"change": change, "derived": values, "sources": sources})
