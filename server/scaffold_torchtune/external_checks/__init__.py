"""What the programs that the runs are for answer: sbatch and torchtune."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.validate.run_files import RunFiles

FilesByRun = Mapping[str, RunFiles]
"""The files of each run, by the run's directory."""


@dataclass
class Said:
    """Findings by the run's directory, and those about the whole experiment."""

    runs: dict[str, list[Finding]] = field(default_factory=dict)
    whole: list[Finding] = field(default_factory=list)

    def of(self, directory: str, found: Finding) -> None:
        """Add a finding about a run."""
        self.runs.setdefault(directory, []).append(found)

    def add(self, other: "Said") -> None:
        """Add what another program says."""
        for directory, found in other.runs.items():
            self.runs.setdefault(directory, []).extend(found)
        self.whole += other.whole
