"""What a call asked for, as far as its reply depends on it."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A call.

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
