"""What can go wrong: one finding model, one registry of codes, one exception.

A problem in a run is a value (a `Finding`). An exception (`Refused`) means that the work cannot proceed; it carries
every problem that was found, so that one answer names them all.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str | None
"""A value as it stands in a table cell, in YAML or in a plan."""


class Severity(StrEnum):
    """How much a finding matters: an `error` fails the run or refuses the work, a `warning` stays visible."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(BaseModel):
    """One problem or remark: what it is, where it is, and what to do about it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    code: str = Field(description="kebab-case name of the kind of finding, see workflows/troubleshooting.md")
    severity: Severity = Field(description="error, warning or info")
    message: str = Field(description="one sentence that says what was found")
    field: str | None = Field(default=None, description="the field, setting or parameter that it is about")
    expected: Scalar = Field(default=None, description="what was expected, or what is allowed")
    actual: Scalar = Field(default=None, description="what was found")
    file: str | None = Field(
        default=None, description="the file, relative to the experiment directory where it lies there"
    )
    line: int | None = Field(default=None, description="the line in that file, from 1")
    fix: str = Field(default="", description="the next step")

    def place(self) -> str:
        """The place as `file:line`, as much of it as is known."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def sentence(self) -> str:
        """The whole finding on one line, for a person."""
        place = f"{self.place()}: " if self.place() else ""
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{place}{self.message}" + (f"{stop} Fix: {self.fix}" if self.fix else "")


class Question(BaseModel):
    """What only the user can say: a field that no document gives, or gives twice, or gives wrongly."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    field: str = Field(description="the name under which the answer is given")
    question: str = Field(description="one sentence, for the user")
    kind: str = Field(default="text", description="text, integer, number or boolean")
    options: tuple[str, ...] = Field(default=(), description="what is meant may be one of these")
    file: str = Field(default="", description="the document that the answer belongs in")
    add: str = Field(default="", description="the line to write there, with the answer in it")


class Code(NamedTuple):
    """An entry of the registry."""

    severity: Severity
    meaning: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

CODES: dict[str, Code] = {
    # documents and their fields
    "document-missing": Code(_E, "a document that the scaffold needs is not there"),
    "document-unreadable": Code(_E, "a document is not a regular UTF-8 text file of a sensible size"),
    "missing-field": Code(_E, "a required field is absent"),
    "invalid-value": Code(_E, "a value is not what its field must hold"),
    "ambiguous": Code(_E, "a document says two things at once"),
    "answer-differs": Code(_E, "the user's answer is another value than a document plainly gives"),
    "duplicate-column": Code(_E, "two columns of the runs table mean the same parameter"),
    "malformed-table": Code(_E, "a row of the runs table has too few or too many cells"),
    "unknown-model": Code(_E, "the model is not in the registry of models"),
    "wrong-experiment-dir": Code(_E, "the summary names another experiment directory than its own"),
    "two-summaries": Code(_I, "both forms of the summary are there and plan the same; the YAML form is used"),
    "misspelt-field": Code(_E, "a column or field is nearly the name of a parameter, but not quite"),
    "unused-column": Code(_W, "a column of the runs table is not a parameter"),
    "unused-row": Code(_W, "a row or table that looks like runs is not planned"),
    "unused-field": Code(_W, "a field looks like a setting but is not used"),
    "ignored-remark": Code(_W, "something stands beside a value and is not part of it"),
    "overridden": Code(_W, "one place gives another value than another that wins: a row wins over Configuration"),
    "short-time": Code(_W, "a time of two parts, which SLURM reads as minutes and seconds"),
    "runs-differ": Code(_W, "the summary says another number of runs than its table has"),
    "levels-differ": Code(_W, "the summary names other values of what varies than its runs have"),
    "own-recipe": Code(_W, "the runs start a recipe that is not torchtune's own"),
    "default-used": Code(_W, "a hyperparameter comes from a default that nobody asked for"),
    "begins-anew": Code(_W, "a job that starts again trains from the beginning"),
    # planning
    "identical-runs": Code(_E, "two rows plan the same run"),
    "name-collision": Code(_E, "two runs would share a directory"),
    "unsafe-name": Code(_E, "a name cannot be a directory name"),
    "unsupported-format": Code(_E, "the data format has no template"),
    "missing-template": Code(_E, "the template is not where it is expected"),
    # foresight: what lies on disk, and what follows from the plan
    "not-seen": Code(_W, "a data set or model cannot be seen from here, so that it is not checked"),
    "data-mismatch": Code(_E, "a data set does not hold what the runs read"),
    "split-differs": Code(_W, "a data set has another number of samples than was said"),
    "no-steps": Code(_E, "a run would end without a training step"),
    "long-warmup": Code(_W, "the warm-up takes more than half of the training steps, or all of them"),
    "checkpoint-mismatch": Code(_E, "a model's directory does not hold what torchtune will load"),
    "output-in-checkpoint": Code(_E, "outputs would go into the directory of the base model"),
    "incomplete-factorial": Code(_I, "some combinations of what varies are not planned, or not as often as others"),
    "confound": Code(_I, "two things change together with each other by the design"),
    "estimate": Code(_I, "what the runs will need of GPU memory, disk and steps"),
    "gpu-memory": Code(_W, "a run needs more memory than the GPUs have that it asks for"),
    "disk-space": Code(_W, "the outputs take more than what is free where they go"),
    "time-limit": Code(_W, "a run cannot be done in the time that it asks for"),
    # access
    "outside-roots": Code(_E, "the experiment does not lie under a root that the operator gave"),
    "not-a-directory": Code(_E, "the experiment is not a directory or a summary file"),
    "unsafe-path": Code(_E, "a path leads through a link or to something that is not a plain file or directory"),
    "write-failed": Code(_E, "the file system refused a write"),
    "busy": Code(_E, "another scaffold works on this experiment"),
    "changed-meanwhile": Code(_W, "something in the experiment changed while setup scripts ran there"),
    "left-over-run": Code(_W, "a run directory of an earlier plan still looks ready to submit"),
    "setup-failed": Code(_E, "the last setup of a run failed; what lies there is older"),
    "stale-output": Code(_E, "an output was not made by this setup from this plan"),
    "changed-output": Code(_W, "an output was changed by hand since setup made it"),
    "edited-output": Code(_E, "a file was changed by hand, or is not ours, and would be overwritten"),
    # applying
    "template-error": Code(_E, "the template could not be rendered"),
    "render-mismatch": Code(_E, "what the template rendered does not read back as the plan"),
    "not-rendered": Code(_E, "there is no plan yet: render first"),
    "plan-outdated": Code(_E, "the inputs have changed since the plan was made"),
    "unknown-key": Code(_E, "a key of setup_finetune.yaml, or an argument of a tool, that is not taken"),
    "unsupported-setting": Code(_E, "a setting that this setup_finetune cannot honour"),
    "unread-setting": Code(_W, "a setting that is written but that the recipe does not read"),
    "setup-choice": Code(_E, "a setup script lies in the working directory and none was chosen"),
    "setup-script-missing": Code(_E, "the configured setup script is not there"),
    "modules-missing": Code(_E, "modules are to be loaded, and there is no module system"),
    "module-missing": Code(_E, "a module is to be loaded that is not there"),
    "conda-missing": Code(_E, "a conda environment is to be activated, and there is no conda"),
    "environment-missing": Code(_E, "the conda or virtual environment is not there"),
    "activation-failed": Code(_E, "a module or an environment is there, and cannot be activated"),
    "package-missing": Code(_E, "the setup script needs a package that its environment does not have"),
    "script-unasked": Code(_E, "the setup script cannot run, so it cannot say what it takes"),
    "script-writes": Code(_I, "what this setup script does in its own way"),
    "submitted-with": Code(_I, "the line that submits hands over what the setup script has no option for"),
    "setup-would-fail": Code(_E, "the setup script, tried on the first run of a kind, fails"),
    "untaken-setting": Code(_E, "the setup script has no way to take a planned setting"),
    # validation
    "nothing-checked": Code(_E, "no run was checked: success over nothing is a failure"),
    "missing-file": Code(_E, "a file of the run is missing"),
    "unreadable-file": Code(_E, "a file of the run cannot be read as what it should be"),
    "missing-value": Code(_E, "a planned value is absent"),
    "value-mismatch": Code(_E, "a value differs from the plan"),
    "wrong-type": Code(_E, "a value has the planned content but another type"),
    "name-mismatch": Code(_E, "the name of a run says another value than it has"),
    "unplanned-value": Code(_E, "a value that nobody planned"),
    "default-differs": Code(_W, "a default of the plan is another in what the setup script wrote"),
    "wrong-recipe": Code(_E, "the recipe does not fit the number of GPUs or the plan"),
    "duplicate-directive": Code(_E, "a SLURM directive is given twice"),
    "late-directive": Code(_E, "a SLURM directive stands after the first command and is ignored"),
    "placeholder-left": Code(_E, "a placeholder was not replaced"),
    "defaults-unchosen": Code(_I, "settings whose values are defaults that nobody chose, all in one list"),
    "sbatch-refused": Code(_E, "SLURM's own sbatch --test-only does not take the script"),
    "sbatch-unavailable": Code(_I, "sbatch is there, but no SLURM answers it, so the scripts were not tested with it"),
    "torchtune-refused": Code(_E, "torchtune itself does not take what finetune.yaml holds"),
    "lora-differs": Code(_E, "the model that torchtune builds has other LoRA than what was asked for"),
    "torchtune-missing": Code(_E, "torchtune was to be asked, and cannot be imported"),
    "torchtune-unanswered": Code(_E, "torchtune was to be asked, and the program that asks it gave no whole answer"),
    "torchtune-unasked": Code(
        _I, "components of others than torchtune and torch, which are neither imported nor built"
    ),
    "torchtune-agrees": Code(_I, "torchtune itself takes every finetune.yaml"),
    "unproven-setting": Code(_W, "a planned setting of which validate does not know where it must arrive"),
}
"""Every finding code, with its usual severity and what it means in general."""


def finding(  # noqa: PLR0913 - a finding has this many parts, all of them named at the call
    code: str,
    message: str,
    *,
    field: str | None = None,
    expected: Scalar = None,
    actual: Scalar = None,
    file: str | None = None,
    line: int | None = None,
    fix: str = "",
    severity: Severity | None = None,
) -> Finding:
    """Make a finding whose code is in the registry.

    Raises:
        KeyError: the code is not in `CODES`.
    """
    return Finding(
        code=code,
        severity=severity or CODES[code].severity,
        message=message,
        field=field,
        expected=expected,
        actual=actual,
        file=file,
        line=line,
        fix=fix,
    )


class Refused(Exception):
    """The work cannot proceed.

    Carries every problem that was found, what the user may be asked, and the heads of what scaffold.log got of it.
    """

    def __init__(self, message: str, problems: Iterable[Finding], ask: Iterable[Question] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(sort_findings(problems))
        self.ask = tuple(ask)
        self.logged: tuple[str, ...] = ()


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by file and line, those without a place first."""
    return sorted(findings, key=lambda f: (f.file or "", f.line or 0, f.field or "", f.code))


def errors_in(findings: Iterable[Finding]) -> list[Finding]:
    """Those findings that are errors."""
    return [f for f in findings if f.severity is Severity.ERROR]


def serious(findings: Iterable[Finding]) -> list[Finding]:
    """Those findings that are more than information."""
    return [f for f in findings if f.severity is not Severity.INFO]
