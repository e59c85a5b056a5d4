"""What tools and commands return. Keys are a contract: others rely on them."""

from pydantic import Field

from scaffold_torchtune.findings import Finding, Question, Scalar
from scaffold_torchtune.models.base import Answer, Model, RunType
from scaffold_torchtune.models.plan import Excluded


class ParsedRun(Model):
    """A row of the runs table."""

    name: str
    type: RunType
    model: str
    parameters: dict[str, Scalar] = Field(description="the row's own values by parameter name")
    line: int = Field(description="line of the row in the summary")


class ParsedDataset(Model):
    """The experiment's data set."""

    path: str
    label: str
    extension: str
    splits: dict[str, int] = Field(description="samples by split, as the summary says")


class ParsedModel(Model):
    """A base model."""

    name: str
    path: str


class ParseResult(Model):
    """The experiment as its documents describe it."""

    experiment: str = Field(description="the experiment's name")
    experiment_dir: str
    runs: tuple[ParsedRun, ...] = Field(description="every row, controls too")
    dataset: ParsedDataset | None
    models: tuple[ParsedModel, ...]
    config: dict[str, Scalar] = Field(description="Configuration by parameter name")
    environment: dict[str, Scalar] = Field(description="claude.local.md by setting name")
    template: dict[str, Scalar] = Field(description="what a plain YAML template gives where the documents say nothing")
    answers: tuple[Answer, ...] = Field(default=(), description="values that the user gave where documents do not")
    sources: dict[str, str] = Field(description="where each value stands, e.g. config.epochs: experiment_summary.md:49")
    warnings: tuple[Finding, ...]


class RunPlan(Model):
    """A run directory to be."""

    directory: str
    name: str = Field(description="the row's Run Name")
    line: int = Field(description="line of the row in the summary")
    parameters: dict[str, Scalar]
    derived: dict[str, Scalar] = Field(description="what else differs between runs because it follows from these")
    sources: dict[str, str] = Field(description="where each value stands that is not the same in all runs")


class CommonSetting(Model):
    """A setting that all runs share, and where it comes from."""

    name: str
    value: Scalar
    source: str


class PlanResult(Model):
    """What would be written."""

    varying: tuple[str, ...] = Field(description="parameters that vary, in naming order")
    pattern: str = Field(description="how run directories are named")
    template: str
    setup: str = Field(description="'bundled', or the external setup_finetune.py")
    runs: tuple[RunPlan, ...]
    answers: tuple[Answer, ...] = Field(default=(), description="values that the user gave where documents do not")
    common: tuple[CommonSetting, ...] = Field(description="settings that all runs share")
    defaults: dict[str, Scalar] = Field(description="settings that come from a default nobody asked for")
    legend: dict[str, str] = Field(description="free text behind prompt1, prompt2, ...")
    excluded: tuple[Excluded, ...]
    warnings: tuple[Finding, ...]


class RenderedRun(Model):
    """A run whose setup_finetune.yaml is written."""

    directory: str
    created: bool = Field(description="false where it already was as planned")


class RenderResult(Model):
    """What render wrote."""

    created: int
    unchanged: int
    runs: tuple[RenderedRun, ...]
    plan_warnings: tuple[Finding, ...] = Field(default=(), description="those of the plan, as plan_runs tells them")
    warnings: tuple[Finding, ...] = Field(description="what was found besides")
    logged: tuple[str, ...] = Field(default=(), description="heads of the entries that scaffold.log got")


class SetupRun(Model):
    """What setup_finetune did for one run."""

    directory: str
    ok: bool
    unchanged: bool = Field(description="true where it was already done and nothing was run")
    reason: str = Field(default="", description="why it failed: what happened, and the line of its output that matters")
    cause: str = Field(default="", description="what likely caused it, where that is known")
    fix: str = Field(default="", description="the next step")
    status: int | None = Field(default=None, description="exit status of an external script; negative: the signal")
    seconds: float | None = Field(default=None, description="how long an external script ran")
    output: str = Field(default="", description="file with all that was kept of its output, where it failed")


class SetupResult(Model):
    """What run_setup did."""

    environment: str = Field(default="", description="what an external script ran in; empty for the bundled one")
    processed: int
    succeeded: int
    failed: int
    runs: tuple[SetupRun, ...]
    warnings: tuple[Finding, ...]
    logged: tuple[str, ...] = Field(default=(), description="heads of the entries that scaffold.log got")


class ValidatedRun(Model):
    """One run's verdict."""

    directory: str
    passed: bool
    findings: tuple[Finding, ...]


class ValidateResult(Model):
    """The verdict: `passed` only when every planned run was checked and has no error."""

    passed: bool
    checked: int
    planned: int
    runs: tuple[ValidatedRun, ...]
    findings: tuple[Finding, ...] = Field(description="findings about the whole experiment")
    submit: str = Field(default="", description="the line that submits the runs; empty unless passed")
    logged: tuple[str, ...] = Field(default=(), description="heads of the entries that scaffold.log got")

    def all_findings(self) -> list[Finding]:
        """What was found of the whole experiment, then of each run."""
        return [*self.findings, *(each for run in self.runs for each in run.findings)]


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
    submit: str = Field(description="the line that submits the runs; empty unless all is well")


class RefusalError(Model):
    """Why the work cannot proceed: a refusal's `error`."""

    message: str
    problems: tuple[Finding, ...]
    ask: tuple[Question, ...] = Field(default=(), description="what to ask the user")
