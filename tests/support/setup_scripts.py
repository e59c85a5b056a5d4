"""Scripts that replace setup_finetune, and scaffolds that run them."""

import atexit
import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult, SetupRun
from support.experiments import RUNS

THREE = RUNS[:3]

_KEPT = tempfile.mkdtemp(prefix="setup-scripts-")
atexit.register(shutil.rmtree, _KEPT, ignore_errors=True)

# Does the same as the bundled one, as another program would: in its working directory. The result for a
# setup_finetune.yaml is cached for all experiments: its imports take longer than the rest of a test.
GOOD = f"""\
import hashlib, os, sys, time, pathlib
def main(arguments):
    experiment = str(pathlib.Path.cwd().parents[3])
    text = pathlib.Path("setup_finetune.yaml").read_text().replace(experiment, "/EXPERIMENT")
    kept = pathlib.Path({_KEPT!r}, hashlib.sha256(text.encode()).hexdigest())
    outputs = pathlib.Path("finetune.yaml"), pathlib.Path("finetune.slurm")
    if kept.exists():
        for output in outputs:
            output.write_text((kept / output.name).read_text().replace("/EXPERIMENT", experiment))
        print("wrote finetune.yaml and finetune.slurm")
        return 0
    from scaffold_torchtune.setup_finetune import main
    if status := main(arguments):
        return status
    new = pathlib.Path(f"{{kept}}.{{os.getpid()}}")
    new.mkdir()
    for output in outputs:
        (new / output.name).write_text(output.read_text().replace(experiment, "/EXPERIMENT"))
    if not kept.exists():
        new.rename(kept)
    return 0
run = pathlib.Path("setup_finetune.yaml").read_text().partition("my_wandb_run_name: ")[2].split()[0]
"""
MAKE = "sys.exit(main([]))\n"


def script(tmp_path: Path, body: str, start: str = GOOD, name: str = "setup_finetune.py") -> Path:
    """Write a setup_finetune.py."""
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(start + textwrap.dedent(body))
    return file


def scaffold(experiment: Path, file: Path, **given: Any) -> ScaffoldResult:
    return steps.scaffold(Request(experiment, setup_script=str(file), **given))


def failed(result: ScaffoldResult) -> list[SetupRun]:
    assert not result.ok
    assert result.submit == ""
    return [run for run in result.setup.runs if not run.ok]
