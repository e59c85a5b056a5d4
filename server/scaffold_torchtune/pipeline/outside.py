"""What the programs say that the runs are for: SLURM's sbatch of the scripts, torchtune of the configs."""

from collections.abc import Mapping
from pathlib import Path

from scaffold_torchtune.findings import Finding, sort_findings
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.pipeline import ask_sbatch, ask_torchtune
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.pipeline.said import FilesByRun, Said

Checked = Mapping[str, tuple[Finding, ...]]
"""Findings by the run's directory."""


def judged(
    root: Path, plan: Plan, files: FilesByRun, checked: Checked, request: Request
) -> tuple[dict[str, tuple[Finding, ...]], list[Finding]]:
    """What was found in each run with what the programs find besides, and what they say of the whole experiment.

    `root` is the experiment directory, `files` are the files of each run by its directory and their name.
    """
    said = Said()
    for ask in (ask_sbatch.ask, ask_torchtune.ask):
        said.add(ask(root, plan, files, request))
    joined = {name: tuple(sort_findings([*found, *said.runs.get(name, ())])) for name, found in checked.items()}
    return joined, said.whole
