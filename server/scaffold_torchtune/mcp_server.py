"""The MCP server: five tools over stdio, each a thin wrapper of one pipeline step.

A refusal is a result with `is_error` and the structured `error`: raising would lose the structure. The pipeline is
imported at the first call, so that the server answers soon after its start.
"""

import inspect
import logging
import os
import reprlib
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, ValidationError

from scaffold_torchtune import __version__, mcp_resources, mcp_work
from scaffold_torchtune.errors import Finding, Refused, finding
from scaffold_torchtune.models.results import (
    ParseResult,
    PlanResult,
    Refusal,
    RefusalError,
    RenderResult,
    SetupResult,
    ValidateResult,
)
from scaffold_torchtune.shared.text import did_you_mean, escape, shown

INSTRUCTIONS = """\
Scaffolds torchtune fine-tuning experiments: reads experiment_summary.md and claude.local.md, makes one directory per
fine-tuned run with setup_finetune.yaml, finetune.yaml and finetune.slurm, and proves that every planned value arrived.
Call in this order, with the same `experiment`: parse_summary, plan_runs (show the plan to the user before anything is
written), render_yaml, run_setup, validate. An experiment is scaffolded only when validate returns passed: true.
Never edit finetune.yaml or finetune.slurm by hand and never copy them from another experiment: correct the summary and
run the steps again. An error lists every problem with file, line and fix; ask the user for what is missing.
The resource torchtune://doctor tells whether this machine is ready; torchtune://doctor/PATH for an experiment.
"""
MAX_PROBLEMS = 20
"""How many problems of a call's arguments are listed."""

_log = logging.getLogger(__name__)


def _a_path(text: str) -> str:
    if "\0" in text:
        raise ValueError("a path has no NUL character")
    return text


_Path = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_a_path)]
Experiment = Annotated[_Path, Field(description="Experiment directory, or its experiment_summary.md. Absolute path.")]
Local = Annotated[
    _Path | None,
    Field(description="The claude.local.md to use. Default: in the experiment, a parent of it, or the project."),
]
Names = Annotated[
    Literal["varying", "table"] | None,
    Field(description="Name run directories by what varies (default), or by the table's Run Name column."),
]
Template = Annotated[
    _Path | None,
    Field(
        description="A template of setup_finetune.yaml: Jinja2 (.j2), or plain YAML (.yaml) whose values count where"
        " the documents say nothing. Give the same one to parse_summary, plan_runs and render_yaml."
    ),
]
Script = Annotated[
    Literal["bundled"] | None,
    Field(description="'bundled' chooses the bundled setup_finetune where the operator configured no script."),
]
Overwrite = Annotated[bool, Field(description="Replace files that a person edited. Only when the user said so.")]
Jobs = Annotated[
    int | None, Field(ge=1, le=64, description="External scripts at a time. Default: as many as cores, at most 4.")
]
WithTorchtune = Annotated[
    bool | None,
    Field(description="Ask torchtune itself whether it takes finetune.yaml. Default: where the server has torchtune."),
]
Timeout = Annotated[float, Field(gt=0, le=86400, description="Seconds for one external script.")]

_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_LOGS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_REPLACES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
_RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)

Call = Context[None, Any]

R = TypeVar("R", bound=BaseModel)


class Answer(RootModel[R | Refusal], Generic[R]):
    """A step's result or its refusal: clients of the TypeScript SDK hold error results to the output schema too."""

    model_config = ConfigDict(json_schema_extra={"type": "object"})  # which the older protocol demands at the root


def make_server(roots: Sequence[Path]) -> MCPServer[None]:
    """A server whose experiments must lie under one of `roots`."""
    tools = _tools(tuple(roots))
    server = _Server(
        "torchtune", title="scaffold-torchtune", version=__version__, instructions=INSTRUCTIONS, tools=tools
    )
    mcp_resources.add_to(server, roots)
    return server


class _Server(MCPServer[None]):
    """Gives a structure to those failures too that never reach a step, or that nobody foresaw."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            cause = error.__cause__ or error
            _log.error("%s failed unexpectedly", name, exc_info=cause)  # the SDK has not logged it yet
            said = f"{type(cause).__name__}: {escape(str(cause))}"
            message = f"{name} failed unexpectedly ({said}). The server's log has the details; report it"
            return _refusal(Refused(message, []))
        except ToolError as error:
            return _refusal(_misuse(name, {tool.name: tool.input_schema for tool in await self.list_tools()}, error))


def _misuse(name: str, tools: Mapping[str, dict[str, Any]], error: ToolError) -> Refused:
    """What is wrong with a call that reached no step: its tool's name, or its arguments."""
    if name not in tools:
        message = f"there is no tool {shown(name)}"
        fix = did_you_mean(name, tools) or f"call one of {', '.join(tools)}"
        return Refused(message, [finding("invalid-value", message, field="name", actual=escape(name), fix=fix)])
    assert isinstance(error.__cause__, ValidationError), "no tool raises ToolError itself"  # noqa: S101
    known = tools[name]["properties"]
    found = error.__cause__.errors(include_url=False)
    problems = [_argument(str(one["loc"][0]), one["type"], one["msg"], one["input"], known) for one in found]
    return Refused(f"{len(found)} problem(s) with the arguments of {name}", problems[:MAX_PROBLEMS])


def _argument(name: str, kind: str, message: str, value: object, known: Mapping[str, dict[str, Any]]) -> Finding:
    """What is wrong with one argument, in pydantic's words where they are plain."""
    field = escape(name)
    if kind == "extra_forbidden":
        fix = did_you_mean(name, known) or f"the arguments are {', '.join(known)}"
        return finding("unknown-key", f"there is no argument {shown(name)}", field=field, fix=fix)
    meaning = known[name]["description"]
    if kind == "missing":
        return finding("missing-field", f"the argument {field} is missing", field=field, fix=f"give it: {meaning}")
    actual = escape(value if isinstance(value, str) else reprlib.repr(value))
    return finding("invalid-value", f"{field}: {message}", field=field, actual=actual, fix=f"correct it: {meaning}")


def _tools(roots: tuple[Path, ...]) -> list[Tool]:
    tools: list[Tool] = []

    def tool(title: str, annotations: ToolAnnotations) -> Callable[[Callable[..., Awaitable[CallToolResult]]], None]:
        return lambda function: tools.append(_strict(function, title, annotations))

    async def answer(
        context: Call, step: str, experiment: str, local: str | None, setup_script: str | None = None, **given: Any
    ) -> CallToolResult:
        # The operator's script wins over the caller's choice, which can only be the bundled one.
        script = os.environ.get("SCAFFOLD_TORCHTUNE_SETUP_SCRIPT") or setup_script

        def work(work: mcp_work.Work) -> CallToolResult:
            told = {"progress": work.progress, "stop": work.stop}
            return _answer(step, Path(experiment), _path(local), roots=roots, setup_script=script, **told, **given)

        return await mcp_work.run(work, context)

    @tool("Parse the experiment's documents", _READS)
    async def parse_summary(
        context: Call, experiment: Experiment, local: Local = None, template: Template = None
    ) -> Annotated[CallToolResult, Answer[ParseResult]]:
        """Step 1: read experiment_summary.md and claude.local.md: runs, parameters, paths, environment. Writes nothing.

        If required fields are missing or unclear, the error names every one with file, line and the line to add.
        """
        return await answer(context, "parse", experiment, local, template=_path(template))

    @tool("Plan the run directories", _READS)
    async def plan_runs(
        context: Call,
        experiment: Experiment,
        local: Local = None,
        names: Names = None,
        template: Template = None,
        setup_script: Script = None,
    ) -> Annotated[CallToolResult, Answer[PlanResult]]:
        """Steps 2 and 4: which parameters vary, the directory of each run, the template, every value and its source.

        Writes nothing. Show the plan, its warnings and its defaults to the user before render_yaml.
        """
        return await answer(context, "plan", experiment, local, setup_script, names=names, template=_path(template))

    @tool("Write run directories and setup_finetune.yaml", _REPLACES)
    async def render_yaml(
        context: Call,
        experiment: Experiment,
        local: Local = None,
        names: Names = None,
        template: Template = None,
        setup_script: Script = None,
        overwrite: Overwrite = False,
    ) -> Annotated[CallToolResult, Answer[RenderResult]]:
        """Steps 3 and 5: freeze the plan, make the run directories, write setup_finetune.yaml into each, log it.

        Repeating it changes nothing. A file that a person edited is refused unless overwrite is true.
        """
        given = {"names": names, "template": _path(template), "overwrite": overwrite}
        return await answer(context, "render", experiment, local, setup_script, **given)

    @tool("Run setup_finetune in each run directory", _RUNS)
    async def run_setup(
        context: Call,
        experiment: Experiment,
        local: Local = None,
        overwrite: Overwrite = False,
        jobs: Jobs = None,
        timeout: Timeout = 300.0,  # noqa: ASYNC109 - of each script, not of the call
    ) -> Annotated[CallToolResult, Answer[SetupResult]]:
        """Step 6: run setup_finetune for each run: finetune.yaml and finetune.slurm. Needs render_yaml first.

        One run's failure does not stop the others: look at failed, and at each run's reason.
        """
        given: dict[str, Any] = {} if jobs is None else {"jobs": jobs}
        return await answer(context, "setup", experiment, local, overwrite=overwrite, timeout=timeout, **given)

    @tool("Validate every planned value", _LOGS)
    async def validate(
        context: Call, experiment: Experiment, local: Local = None, with_torchtune: WithTorchtune = None
    ) -> Annotated[CallToolResult, Answer[ValidateResult]]:
        """Step 7: prove that every planned value arrived in finetune.yaml and finetune.slurm; closes scaffold.log.

        Only passed: true means that the runs may be submitted. Each finding says where, what was expected, and the fix.
        """
        return await answer(context, "validate", experiment, local, with_torchtune=with_torchtune)

    return tools


def _strict(function: Callable[..., Awaitable[CallToolResult]], title: str, annotations: ToolAnnotations) -> Tool:
    """A tool that takes what its input schema says and nothing else: the SDK itself drops unknown arguments unsaid."""
    tool = Tool.from_function(function, title=title, description=inspect.getdoc(function), annotations=annotations)
    arguments = tool.fn_metadata.arg_model
    arguments.model_config["extra"] = "forbid"
    arguments.model_config["strict"] = True
    arguments.model_rebuild(force=True)
    tool.parameters = arguments.model_json_schema()
    return tool


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _answer(step: str, experiment: Path, local: Path | None, **given: Any) -> CallToolResult:
    """The step's result, or its refusal."""
    from scaffold_torchtune import pipeline

    try:
        return _result(getattr(pipeline, step)(pipeline.Request(experiment, local, **given)), failed=False)
    except Refused as refused:
        return _refusal(refused)


def _refusal(refused: Refused) -> CallToolResult:
    return _result(Refusal(error=RefusalError(message=refused.message, problems=refused.problems)), failed=True)


def _result(model: BaseModel, *, failed: bool) -> CallToolResult:
    """The same JSON as text and as structure."""
    text = TextContent(type="text", text=model.model_dump_json(by_alias=True))
    return CallToolResult(
        content=[text], structured_content=model.model_dump(mode="json", by_alias=True), is_error=failed
    )


def serve(roots: Sequence[Path]) -> int:
    """Serve over stdio until the client closes the pipe. `roots` default to `default_roots`."""
    configured = os.environ.get("SCAFFOLD_TORCHTUNE_ROOT")
    given = list(roots) or ([Path(configured)] if configured else [])
    if not given:
        from scaffold_torchtune.pipeline import default_roots

        given = default_roots()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, mcp_work.end_all)
    make_server(given).run("stdio")
    return 0
