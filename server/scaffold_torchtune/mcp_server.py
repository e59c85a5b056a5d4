"""The MCP server: five tools over stdio, each a thin wrapper of one pipeline step.

A refusal is a result with `is_error` and the structured `error`: raising would lose the structure.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from scaffold_torchtune import __version__, pipeline
from scaffold_torchtune.errors import Refused
from scaffold_torchtune.models.results import (
    ParseResult,
    PlanResult,
    Refusal,
    RefusalError,
    RenderResult,
    SetupResult,
    ValidateResult,
)
from scaffold_torchtune.pipeline import Request, default_roots

INSTRUCTIONS = """\
Scaffolds torchtune fine-tuning experiments: reads experiment_summary.md and claude.local.md, makes one directory per
fine-tuned run with setup_finetune.yaml, finetune.yaml and finetune.slurm, and proves that every planned value arrived.
Call in this order, with the same `experiment`: parse_summary, plan_runs (show the plan to the user before anything is
written), render_yaml, run_setup, validate. An experiment is scaffolded only when validate returns passed: true.
Never edit finetune.yaml or finetune.slurm by hand and never copy them from another experiment: correct the summary and
run the steps again. An error lists every problem with file, line and fix; ask the user for what is missing.
"""

Experiment = Annotated[str, Field(description="Experiment directory, or its experiment_summary.md. Absolute path.")]
Local = Annotated[
    str | None,
    Field(description="The claude.local.md to use. Default: in the experiment, a parent of it, or the project."),
]
Names = Annotated[
    Literal["varying", "table"] | None,
    Field(description="Name run directories by what varies (default), or by the table's Run Name column."),
]
Template = Annotated[str | None, Field(description="A template for setup_finetune.yaml instead of the bundled one.")]
Script = Annotated[
    Literal["bundled"] | None,
    Field(description="'bundled' chooses the bundled setup_finetune where the operator configured no script."),
]
Overwrite = Annotated[bool, Field(description="Replace files that a person edited. Only when the user said so.")]

_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)


def make_server(roots: Sequence[Path]) -> MCPServer[None]:
    """A server whose experiments must lie under one of `roots`."""
    server: MCPServer[None] = MCPServer(
        "torchtune", title="scaffold-torchtune", version=__version__, instructions=INSTRUCTIONS
    )
    base = tuple(roots)

    def request(experiment: str, local: str | None, **given: object) -> Request:
        return Request(Path(experiment), Path(local) if local else None, base, **given)  # type: ignore[arg-type]

    @server.tool(title="Parse the experiment's documents", annotations=_READS)
    def parse_summary(experiment: Experiment, local: Local = None) -> Annotated[CallToolResult, ParseResult]:
        """Step 1: read experiment_summary.md and claude.local.md: runs, parameters, paths, environment. Writes nothing.

        If required fields are missing or unclear, the error names every one with file, line and the line to add.
        """
        return _answer(pipeline.parse, request(experiment, local))

    @server.tool(title="Plan the run directories", annotations=_READS)
    def plan_runs(
        experiment: Experiment,
        local: Local = None,
        names: Names = None,
        template: Template = None,
        setup_script: Script = None,
    ) -> Annotated[CallToolResult, PlanResult]:
        """Steps 2 and 4: which parameters vary, the directory of each run, the template, every value and its source.

        Writes nothing. Show the plan, its warnings and its defaults to the user before render_yaml.
        """
        return _answer(pipeline.plan, request(experiment, local, **_choices(names, template, setup_script)))

    @server.tool(title="Write run directories and setup_finetune.yaml", annotations=_WRITES)
    def render_yaml(  # noqa: PLR0913, PLR0917 - the tool's arguments
        experiment: Experiment,
        local: Local = None,
        names: Names = None,
        template: Template = None,
        setup_script: Script = None,
        overwrite: Overwrite = False,  # noqa: FBT002 - the tool's argument
    ) -> Annotated[CallToolResult, RenderResult]:
        """Steps 3 and 5: freeze the plan, make the run directories, write setup_finetune.yaml into each, log it.

        Repeating it changes nothing. A file that a person edited is refused unless overwrite is true.
        """
        choices = _choices(names, template, setup_script)
        return _answer(pipeline.render, request(experiment, local, overwrite=overwrite, **choices))

    @server.tool(title="Run setup_finetune in each run directory", annotations=_RUNS)
    def run_setup(
        experiment: Experiment,
        local: Local = None,
        overwrite: Overwrite = False,  # noqa: FBT002 - the tool's argument
        jobs: Annotated[int, Field(ge=1, le=64, description="External scripts at a time.")] = 1,
        timeout: Annotated[float, Field(gt=0, le=86400, description="Seconds for one external script.")] = 300.0,
    ) -> Annotated[CallToolResult, SetupResult]:
        """Step 6: run setup_finetune for each run: finetune.yaml and finetune.slurm. Needs render_yaml first.

        One run's failure does not stop the others: look at failed, and at each run's reason.
        """
        return _answer(pipeline.setup, request(experiment, local, overwrite=overwrite, jobs=jobs, timeout=timeout))

    @server.tool(title="Validate every planned value", annotations=_WRITES)
    def validate(experiment: Experiment, local: Local = None) -> Annotated[CallToolResult, ValidateResult]:
        """Step 7: prove that every planned value arrived in finetune.yaml and finetune.slurm; closes scaffold.log.

        Only passed: true means that the runs may be submitted. Each finding says where, what was expected, and the fix.
        """
        return _answer(pipeline.validate, request(experiment, local))

    return server


def _choices(names: str | None, template: str | None, setup_script: str | None) -> dict[str, object]:
    """The planning options; the operator's script wins over the caller's choice, which can only be the bundled one."""
    configured = os.environ.get("SCAFFOLD_TORCHTUNE_SETUP_SCRIPT")
    return {
        "names": names,
        "template": Path(template) if template else None,
        "setup_script": setup_script or configured,
    }


def _answer(step: Callable[[Request], BaseModel], request: Request) -> CallToolResult:
    """The step's result, or its refusal as an error result that keeps its structure."""
    try:
        result, failed = step(request), False
    except Refused as refused:
        result, failed = Refusal(error=RefusalError(message=refused.message, problems=refused.problems)), True
    text = TextContent(type="text", text=result.model_dump_json(by_alias=True))
    return CallToolResult(
        content=[text], structured_content=result.model_dump(mode="json", by_alias=True), is_error=failed
    )


def serve(roots: Sequence[Path]) -> int:
    """Serve over stdio until the client closes the pipe. `roots` default to `default_roots`."""
    configured = os.environ.get("SCAFFOLD_TORCHTUNE_ROOT")
    given = list(roots) or ([Path(configured)] if configured else default_roots())
    make_server(given).run("stdio")
    return 0
