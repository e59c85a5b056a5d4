"""What is to be active, and whether it is so already."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """Modules, and a conda environment or, in its place, a virtual environment (its directory); empty for none."""

    modules: tuple[str, ...] = ()
    conda_env: str = ""
    venv: str = ""

    @property
    def environment(self) -> str:
        """What messages call the environment: `the conda environment cruijff`."""
        if self.venv:
            return f"the virtual environment {self.venv}"
        return f"the conda environment {self.conda_env}" if self.conda_env else ""

    @property
    def commands(self) -> str:
        """What a person would type: `module load anaconda3/2025.6; conda activate cruijff`."""
        commands = [f"module load {name}" for name in self.modules]
        if self.venv:
            commands.append(f"source {self.venv}/bin/activate")
        elif self.conda_env:
            commands.append(f"conda activate {self.conda_env}")
        return "; ".join(commands)

    def is_active(self, variables: Mapping[str, str]) -> bool:
        """Whether environment variables tell that all of it is active."""
        if self.venv:
            active = variables.get("VIRTUAL_ENV", "")
            there = bool(active) and os.path.realpath(active) == os.path.realpath(self.venv)
        else:
            there = variables.get("CONDA_DEFAULT_ENV", "") == self.conda_env or not self.conda_env
        loaded = variables.get("LOADEDMODULES", "").split(":")
        return there and all(any(one == name or one.startswith(f"{name}/") for one in loaded) for name in self.modules)
