"""The steps, composed: what the command line and the MCP server both call."""

from scaffold_torchtune.pipeline.locate import check_roots, default_roots
from scaffold_torchtune.pipeline.readiness import doctor
from scaffold_torchtune.pipeline.reading import frozen_plan, log_text, run_file
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.steps import parse, plan, render, scaffold, setup, validate
from scaffold_torchtune.pipeline.stopping import Interrupted, Stopped

__all__ = [
    "Interrupted",
    "Request",
    "Stopped",
    "check_roots",
    "default_roots",
    "doctor",
    "frozen_plan",
    "log_text",
    "parse",
    "plan",
    "render",
    "run_file",
    "scaffold",
    "setup",
    "validate",
]
