"""What the MCP server has to read besides its tools: whether the machine is ready.

The pipeline is imported at the first reading, so that the server answers soon after its start.
"""

import os
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.resources.templates import ResourceSecurity

from scaffold_torchtune.errors import Refused
from scaffold_torchtune.mcp_work import Roots
from scaffold_torchtune.models.results import Refusal, RefusalError

DOCTOR = "torchtune://doctor"
"""The resource that tells whether the machine is ready; with an experiment's path behind it, its documents too."""

_JSON = "application/json"
# The path is held to the server's roots as that of any tool is.
_PATHS = ResourceSecurity(reject_path_traversal=False, reject_absolute_paths=False)


def add_to(server: MCPServer[Any], roots: Roots) -> None:
    """Add the resources to a server whose experiments must lie under one of `roots`."""

    @server.resource(DOCTOR, name="doctor", title="Is this machine ready?", mime_type=_JSON)
    def doctor() -> str:
        """Python, roots, claude.local.md, modules, conda, setup script, torchtune, SLURM: each with its fix."""
        return _looked(roots, None)

    @server.resource(
        f"{DOCTOR}{{+experiment}}",
        name="doctor-for-experiment",
        title="Is this machine ready for an experiment?",
        mime_type=_JSON,
        security=_PATHS,
    )
    def doctor_for(experiment: str) -> str:
        """The same for an experiment, by its absolute path: torchtune://doctor/path/to/experiment."""
        return _looked(roots, experiment)


def _looked(roots: Roots, experiment: str | None) -> str:
    """What doctor finds, or its refusal, as JSON."""
    from scaffold_torchtune import pipeline

    where = Path(experiment or os.environ.get("CLAUDE_PROJECT_DIR") or Path.cwd())
    try:
        request = pipeline.Request(where, roots=roots.all())
        return pipeline.doctor(request, with_experiment=experiment is not None).model_dump_json()
    except Refused as refused:
        return Refusal(error=RefusalError(message=refused.message, problems=refused.problems)).model_dump_json()
