"""Scripts in the place of setup_finetune, and scaffolds that run them."""

import textwrap
from pathlib import Path
from typing import Any

from experiments import RUNS
from scaffold_torchtune import pipeline
from scaffold_torchtune.models.results import ScaffoldResult, SetupRun
from scaffold_torchtune.pipeline import Request

THREE = RUNS[:3]

# Does what the bundled one does, as another program would: in its working directory.
GOOD = """\
import os, sys, time, pathlib
def main(arguments):
    from scaffold_torchtune.setup_finetune.__main__ import main
    return main(arguments)
run = pathlib.Path("setup_finetune.yaml").read_text().partition("my_wandb_run_name: ")[2].split()[0]
"""
MAKE = "sys.exit(main([]))\n"


def script(tmp_path: Path, body: str, start: str = GOOD, name: str = "setup_finetune.py") -> Path:
    """A setup_finetune.py."""
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(start + textwrap.dedent(body))
    return file


def scaffold(experiment: Path, file: Path, **given: Any) -> ScaffoldResult:
    return pipeline.scaffold(Request(experiment, setup_script=str(file), **given))


def failed(result: ScaffoldResult) -> list[SetupRun]:
    assert not result.ok
    assert result.submit == ""
    return [run for run in result.setup.runs if not run.ok]
