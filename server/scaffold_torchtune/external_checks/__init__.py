"""What the programs that the runs are for answer: sbatch and torchtune."""

from collections.abc import Mapping

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.validate.run_files import RunFiles

FilesByRun = Mapping[str, RunFiles]
"""The files of each run, by the run's directory."""

WHOLE = ""
"""What stands for the directory of a run where a finding is about the whole experiment."""

RunFinding = tuple[str, Finding]
"""A finding, after the directory of the run that it is about."""
