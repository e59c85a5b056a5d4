"""The table of steps, with their commands and tools; and the parts of a call on which its reply depends."""

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
"""The arguments that apply to all calls of a scaffold, and are passed on to the next one."""

STEPS: Final = (
    Step(
        "parse",
        "step 1: read the documents of the experiment; writes nothing",
        "parse_summary",
        "Parse the experiment's documents",
        "Step 1: read experiment_summary.md and claude.local.md. Writes nothing.\n\n"
        "If fields are missing or unclear, the error lists all of them, each with file, line and the line to add.",
        results.ParseResult,
        (*_DOCUMENTS, "template", "answers", *_PAGE),
    ),
    Step(
        "plan",
        "steps 2 and 4: plan the run directories and select the template; writes nothing",
        "plan_runs",
        "Plan the run directories",
        "Steps 2 and 4: find the parameters that vary, plan each run's directory and values, select the template."
        " Writes nothing.\n\n"
        "Show the plan, its warnings and its defaults to the user before render_yaml.",
        results.PlanResult,
        (*_PLANNING, "explain", *_PAGE),
    ),
    Step(
        "render",
        "steps 3 and 5: create the run directories and their setup_finetune.yaml",
        "render_yaml",
        "Write run directories and setup_finetune.yaml",
        "Steps 3 and 5: freeze the plan, create the run directories, write setup_finetune.yaml. Safe to repeat.",
        results.RenderResult,
        (*_PLANNING, "overwrite", *_PAGE),
    ),
    Step(
        "setup",
        "step 6: generate finetune.yaml and finetune.slurm of every run with setup_finetune",
        "run_setup",
        "Run setup_finetune in each run directory",
        "Step 6: generate finetune.yaml and finetune.slurm of every run. Call render_yaml first.\n\n"
        "A failed run does not stop the others: check failed and each reason.",
        results.SetupResult,
        (*_DOCUMENTS, "overwrite", "started", "jobs", "timeout", *_PAGE),
    ),
    Step(
        "validate",
        "step 7: check that every planned value arrived",
        "validate",
        "Validate every planned value",
        "Step 7: check that every planned value arrived; writes the last entry of scaffold.log.\n\n"
        "Submit the runs only if passed is true.",
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
    """A call of a tool, or of the command that does the same.

    `tool` is its name in the server, `arguments` are the given ones. Lists begin with item `start`, counted from 1;
    `only` is a shell pattern for the names of runs to list. With `whole` nothing is cut.
    """

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    start: int = 1
    only: str | None = None
    whole: bool = False

    def wants(self, run: Mapping[str, Any]) -> bool:
        """Return whether to list a run, by its directory or by its name in the table."""
        names = [str(run[key]) for key in ("directory", "name") if key in run]
        return self.only is None or any(fnmatch.fnmatchcase(name, self.only) for name in names)
