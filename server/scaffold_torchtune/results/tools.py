"""The steps as commands and tools call them, in one table; and one call, as far as its reply depends on it."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from scaffold_torchtune.results import step_results as results


class Step(NamedTuple):
    """A step: its command with its help, its tool with title and description, its result and its arguments."""

    command: str
    help: str
    tool: str
    title: str
    description: str
    result: type[results.StepResult]
    arguments: tuple[str, ...]


_DOCUMENTS: Final = ("experiment", "local")
_PLANNING: Final = (*_DOCUMENTS, "names", "template", "setup_script", "answers", "started")
_PAGE: Final = ("start", "only")

HANDED_ON: Final = frozenset(_PLANNING)
"""The arguments that hold for all calls of a scaffold, and so for the next one."""

STEPS: Final = (
    Step(
        "parse",
        "step 1: read the experiment's documents; writes nothing",
        "parse_summary",
        "Parse the experiment's documents",
        "Step 1: read experiment_summary.md and claude.local.md. Writes nothing.\n\n"
        "Missing or unclear fields are refused all at once, each with file, line and the line to add.",
        results.ParseResult,
        (*_DOCUMENTS, "template", "answers", *_PAGE),
    ),
    Step(
        "plan",
        "steps 2 and 4: what varies, the run directories, the template; writes nothing",
        "plan_runs",
        "Plan the run directories",
        "Steps 2 and 4: what varies, each run's directory and values, the template. Writes nothing.\n\n"
        "Show the plan, its warnings and its defaults to the user before render_yaml.",
        results.PlanResult,
        (*_PLANNING, "explain", *_PAGE),
    ),
    Step(
        "render",
        "steps 3 and 5: make the run directories and their setup_finetune.yaml",
        "render_yaml",
        "Write run directories and setup_finetune.yaml",
        "Steps 3 and 5: freeze the plan, make the run directories, write setup_finetune.yaml. Repeating is safe.",
        results.RenderResult,
        (*_PLANNING, "overwrite", *_PAGE),
    ),
    Step(
        "setup",
        "step 6: run setup_finetune for every run: finetune.yaml and finetune.slurm",
        "run_setup",
        "Run setup_finetune in each run directory",
        "Step 6: make finetune.yaml and finetune.slurm of every run. Needs render_yaml first.\n\n"
        "One run's failure does not stop the others: look at failed and each reason.",
        results.SetupResult,
        (*_DOCUMENTS, "overwrite", "started", "jobs", "timeout", *_PAGE),
    ),
    Step(
        "validate",
        "step 7: prove that every planned value arrived",
        "validate",
        "Validate every planned value",
        "Step 7: prove that every planned value arrived; closes scaffold.log.\n\n"
        "Only passed: true means that the runs may be submitted.",
        results.ValidateResult,
        (*_DOCUMENTS, "with_torchtune", *_PAGE),
    ),
)

TOOLS: Final = {step.command: step.tool for step in STEPS}
"""The tool of each command that does a step."""

ARGUMENTS: Final = {step.tool: step.arguments for step in STEPS}
"""The arguments of each tool."""


@dataclass(frozen=True)
class Call:
    """A call of a tool, or of a command in its place.

    `tool` is its name as the server has it, `arguments` are those that were given. Lists begin with item `start`,
    counted from 1; `only` is a shell pattern of the names of runs to list. `whole`: nothing is cut.
    """

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    start: int = 1
    only: str | None = None
    whole: bool = False

    def wants(self, run: Mapping[str, Any]) -> bool:
        """Return whether a run is to be listed: by its directory, or by its name in the table."""
        names = [str(run[key]) for key in ("directory", "name") if key in run]
        return self.only is None or any(fnmatch.fnmatchcase(name, self.only) for name in names)
