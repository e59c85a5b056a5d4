"""The two ways to run setup_finetune. A failure of a run is a value, never an exception."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from scaffold_torchtune.errors import Finding, Refused
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.setup_finetune import build
from scaffold_torchtune.shared import processes
from scaffold_torchtune.shared.layout import FINETUNE_SLURM, FINETUNE_YAML, SETUP_YAML
from scaffold_torchtune.shared.text import escape

MAX_OUTPUT = 1_000_000


@dataclass(frozen=True)
class Outcome:
    """What setup_finetune made for a run: the two files by name, or the reason why there are none.

    `problems` are the bundled one's refusals, one by one.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def run_bundled(run: PlannedRun, text: str) -> Outcome:
    """Run the bundled setup_finetune on the text of a run's setup_finetune.yaml."""
    try:
        outputs = build(text, file=f"{run.directory}/{SETUP_YAML}")
    except Refused as refused:
        reason = "; ".join(problem.sentence() for problem in refused.problems)
        return Outcome(reason=reason, problems=refused.problems)
    files = {FINETUNE_YAML: outputs.finetune_yaml.encode(), FINETUNE_SLURM: outputs.finetune_slurm.encode()}
    return Outcome(files, warnings=outputs.warnings)


def run_script(
    run: PlannedRun,
    script: Path,
    folder: Path,
    timeout: float,
    environment: processes.Environment,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run an external setup_finetune.py in `folder`, which holds nothing but the run's setup_finetune.yaml.

    `timeout` is in seconds; the script is ended when `stop` is set.
    """
    try:
        done = processes.run([environment.python, str(script)], folder, timeout, stop, env=environment.variables)
    except OSError as error:
        return Outcome(reason=f"the script could not be started: {error.strerror}")
    if done.ended:
        why = {"deadline": f"ran longer than {timeout:g} s", "output": "printed without end", "stopped": "was stopped"}
        return Outcome(reason=f"the script {why[done.ended]} and was ended. {_last_line(done.output)}")
    if done.status != 0:
        return Outcome(reason=_failure(run, done))
    files: dict[str, bytes] = {}
    for name in (FINETUNE_YAML, FINETUNE_SLURM):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return Outcome(reason=f"the script ended well but made no {name}. {_last_line(done.output)}")
        if not 0 < path.stat().st_size <= MAX_OUTPUT:
            return Outcome(reason=f"the script made a {name} of {path.stat().st_size} bytes")
        files[name] = path.read_bytes()
    return Outcome(files)


def _failure(run: PlannedRun, done: processes.Completed) -> str:
    reason = f"the script ended with status {done.status}. {_last_line(done.output)}"
    if "ModuleNotFoundError: No module named 'cruijff_kit'" in done.output:
        modules = str(run.settings["modules"].value).split(",") if "modules" in run.settings else []
        environment = run.settings["conda_env"].value if "conda_env" in run.settings else "ENVIRONMENT"
        activate = "; ".join([*(f"module load {name}" for name in modules), f"conda activate {environment}"])
        return f"{reason}. The conda environment is not active: run '{activate}', then scaffold again"
    return reason


def _last_line(output: str) -> str:
    """The last line that a program printed, which of a traceback is the error itself."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"It said: {escape(lines[-1])}" if lines else "It said nothing."
