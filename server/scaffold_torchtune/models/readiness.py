"""Whether a machine is ready to scaffold: what doctor returns."""

from typing import Literal

from pydantic import Field

from scaffold_torchtune.models.base import Model

State = Literal["ok", "warning", "problem"]


class Check(Model):
    """One thing that was looked at."""

    name: str = Field(description="what was looked at")
    state: State = Field(description="'problem' keeps the machine from being ready, a 'warning' does not")
    found: str = Field(description="what was found")
    fix: str = Field(default="", description="the next step; empty where nothing is to be done")


class Readiness(Model):
    """Whether this machine is ready."""

    ready: bool = Field(description="true where no check is a problem")
    checks: tuple[Check, ...]
