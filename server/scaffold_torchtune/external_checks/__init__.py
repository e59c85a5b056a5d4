"""Checks by external programs: sbatch and torchtune; and jobs in the queue of SLURM.

sbatch.py             `sbatch --test-only` for each script: unknown accounts, limits; the submit line
slurm_jobs.py         job arrays: their script, their submission, and the states of jobs
ask_torchtune.py      torchtune's own check of each finetune.yaml
torchtune_program.py  the program that the operator's Python runs for it
"""

from collections.abc import Mapping

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.results.step_results import ExternalCheck
from scaffold_torchtune.validate.run_files import RunFiles

FilesByRun = Mapping[str, RunFiles]
"""The files of each run, by the run's directory."""

WHOLE = ""
"""The key for findings about the whole experiment, instead of a run's directory."""

Checked = tuple[ExternalCheck, list["RunFinding"]]
"""The extent of a check, and its findings."""

RunFinding = tuple[str, Finding]
"""The directory of a run, and a finding about it."""
