"""What the MCP server has to read besides its tools: the machine's readiness; a scaffold's log, plan, files; guides.

The pipeline is imported at the first reading, so that the server answers soon after its start.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcp.server import MCPServer
from mcp.server.mcpserver.resources.templates import ResourceSecurity

from scaffold_torchtune import reply
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.mcp_work import Roots
from scaffold_torchtune.shared.resources import shipped

if TYPE_CHECKING:
    from scaffold_torchtune.pipeline import Request

SCHEME: Final = "torchtune://"
"""How the address of each resource begins; a path follows the kind: `torchtune://log/path/to/experiment`."""

_JSON = "application/json"
# The path is held to the server's roots as that of any tool is.
_PATHS = ResourceSecurity(reject_path_traversal=False, reject_absolute_paths=False)


def add_to(server: MCPServer[Any], roots: Roots) -> None:
    """Add the resources to a server whose experiments must lie under one of `roots`."""
    _add_guides(server)

    @server.resource(f"{SCHEME}doctor", name="doctor", title="Is this machine ready?", mime_type=_JSON)
    def doctor() -> str:
        """Python, roots, claude.local.md, modules, conda, setup script, torchtune, SLURM: each with its fix."""
        return _readiness(roots, None)

    def template(kind: str, parameter: str, title: str, mime: str) -> Callable[[Callable[[str], str]], object]:
        uri = f"{SCHEME}{kind}{{+{parameter}}}"
        return server.resource(uri, name=f"{kind}-of-{parameter}", title=title, mime_type=mime, security=_PATHS)

    @template("doctor", "experiment", "Is this machine ready for an experiment?", _JSON)
    def doctor_for(experiment: str) -> str:
        """The same for an experiment, by its absolute path: torchtune://doctor/path/to/experiment."""
        return _readiness(roots, experiment)

    @template("log", "experiment", "scaffold.log of an experiment", "text/plain")
    def log(experiment: str) -> str:
        """What was done, when, and with what result; of a long log the end: torchtune://log/path/to/experiment."""
        from scaffold_torchtune import pipeline

        return _read(pipeline.log_text, experiment, roots)

    @template("plan", "experiment", "The plan of an experiment", _JSON)
    def plan(experiment: str) -> str:
        """The frozen plan, as plan_runs gives it: torchtune://plan/path/to/experiment."""
        from scaffold_torchtune import pipeline

        def read(request: "Request") -> str:
            return _dumped(reply.of_result(pipeline.frozen_plan(request), reply.Call("plan_runs")))

        return _read(read, experiment, roots)

    @template("run", "file", "A file of a run", "text/plain")
    def run(file: str) -> str:
        """setup_finetune.yaml, finetune.yaml or finetune.slurm: torchtune://run/path/to/experiment/RUN/finetune.yaml."""
        from scaffold_torchtune import pipeline

        return _read(pipeline.run_file, file, roots)


def _add_guides(server: MCPServer[Any]) -> None:
    """The workflows that SKILL.md points to, for who has the server and not the skill."""
    titles = {"torchtune": "The eight steps in full", "troubleshooting": "Every finding code, its cause and fix"}
    for name, title in titles.items():
        uri = f"{SCHEME}guide/{name}"
        server.resource(uri, name=f"guide-{name}", title=title, mime_type="text/markdown")(_guide(name))


def _guide(name: str) -> Callable[[], str]:
    def guide() -> str:
        return shipped("workflows", f"{name}.md").read_text(encoding="utf-8")

    return guide


def _read(read: "Callable[[Request], str]", path: str, roots: Roots) -> str:
    """What is read of an experiment, or the refusal, as JSON."""
    from scaffold_torchtune.pipeline import Request

    try:
        return read(Request(Path(path), roots=roots.all()))
    except Refused as refused:
        return _dumped(reply.of_refusal(refused, reply.Call("resource")))


def _dumped(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False)


def _readiness(roots: Roots, experiment: str | None) -> str:
    """What doctor finds, or its refusal, as JSON."""
    from scaffold_torchtune import pipeline

    def look(request: "Request") -> str:
        return pipeline.doctor(request, with_experiment=experiment is not None).model_dump_json()

    return _read(look, experiment or os.environ.get("CLAUDE_PROJECT_DIR") or str(Path.cwd()), roots)
