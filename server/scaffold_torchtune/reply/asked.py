"""The steps as commands and tools call them, in one table; and one call, as far as its reply depends on it."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from scaffold_torchtune.models.results import (
    ParseResult,
    PlanResult,
    RenderResult,
    SetupResult,
    StepResult,
    ValidateResult,
)


class Step(NamedTuple):
    """A step: its command and tool, what its reply holds, and the arguments that it takes."""

    command: str
    tool: str
    help: str
    result: type[StepResult]
    arguments: tuple[str, ...]


_DOCUMENTS: Final = ("experiment", "local")
_PLANNING: Final = (*_DOCUMENTS, "names", "template", "setup_script", "answers")
_PAGE: Final = ("start", "only")

HANDED_ON: Final = frozenset(_PLANNING)
"""The arguments that hold for all calls of a scaffold, and so for the next one."""

STEPS: Final = (
    Step(
        "parse",
        "parse_summary",
        "step 1: read the experiment's documents; writes nothing",
        ParseResult,
        (*_DOCUMENTS, "template", "answers", *_PAGE),
    ),
    Step(
        "plan",
        "plan_runs",
        "steps 2 and 4: what varies, the run directories, the template; writes nothing",
        PlanResult,
        (*_PLANNING, *_PAGE),
    ),
    Step(
        "render",
        "render_yaml",
        "steps 3 and 5: make the run directories and their setup_finetune.yaml",
        RenderResult,
        (*_PLANNING, "overwrite", *_PAGE),
    ),
    Step(
        "setup",
        "run_setup",
        "step 6: run setup_finetune for every run: finetune.yaml and finetune.slurm",
        SetupResult,
        (*_DOCUMENTS, "overwrite", "jobs", "timeout", *_PAGE),
    ),
    Step(
        "validate",
        "validate",
        "step 7: prove that every planned value arrived",
        ValidateResult,
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
        """Whether a run is to be listed: by its directory, or by its name in the table."""
        names = [str(run[key]) for key in ("directory", "name") if key in run]
        return self.only is None or any(fnmatch.fnmatchcase(name, self.only) for name in names)
