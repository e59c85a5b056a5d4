"""Where a plan is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.models.script import Interface
from scaffold_torchtune.plan import external


@dataclass(frozen=True)
class Place:
    """Where the experiment lies, and what was planned there before. Paths are absolute.

    `inputs` maps input files to the SHA-256 of their bytes. `previous` is the plan that lies there, if any.
    `interface` is what the external script takes; None for the bundled setup_finetune.
    """

    experiment_dir: str
    local_dir: str
    templates_dir: str
    is_file: Callable[[str], bool]
    inputs: Mapping[str, str] = field(default_factory=dict)
    previous: Plan | None = None
    interface: Interface | None = None

    @cached_property
    def defaults(self) -> Mapping[str, Setting]:
        """What a setting is where nobody asked for it."""
        return external.defaults(self.interface)
