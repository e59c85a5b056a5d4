"""Step 6: run setup_finetune, the bundled one or an external script, for one run."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.setup.external.failures import Cause, cause_of, lacking, line_that_matters, remedy
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML, SETUP_YAML
from scaffold_torchtune.system.yamlio import YamlDocument, YamlError, read

# The two ways to run setup_finetune. A failure of a run is a value, never an exception.

MAX_OUTPUT = 1_000_000
_UNKNOWN = Cause()


@dataclass(frozen=True)
class Ran:
    """How a script was run: its exit status, how long it ran in seconds, and the end of what it printed."""

    status: int
    seconds: float
    output: str


@dataclass(frozen=True)
class Outcome:
    """What setup_finetune made for a run: the two files by name, or the reason why there are none, and its cause.

    `problems` are the bundled one's refusals, one by one. `ran` is None where no script was run.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""
    cause: Cause = _UNKNOWN
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    ran: Ran | None = None


def run_bundled(run: PlannedRun, content: str | YamlDocument) -> Outcome:
    """Run the bundled setup_finetune on the text of a run's setup_finetune.yaml, or on what was read of it."""
    try:
        outputs = build(content, file=f"{run.directory}/{SETUP_YAML}")
    except Refused as refused:
        reason = "; ".join(problem.sentence() for problem in refused.problems)
        return Outcome(reason=reason, problems=refused.problems)
    files = {FINETUNE_YAML: outputs.finetune_yaml.encode(), FINETUNE_SLURM: outputs.finetune_slurm.encode()}
    return Outcome(files, warnings=outputs.warnings)


def run_script(
    script: Path,
    folder: Path,
    timeout: float,
    environment: processes.Environment,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run an external setup_finetune.py in `folder`, which holds nothing but the run's setup_finetune.yaml.

    `timeout` is in seconds; the script is ended when `stop` is set.
    """
    command = [environment.python, str(script)]
    try:
        done = processes.run(command, folder, timeout, stop, env=environment.variables)
    except OSError as error:
        return Outcome(reason=f"the script could not be started: {error.strerror}")
    ran = Ran(done.status, done.seconds, done.output)
    if done.ended:
        return Outcome(reason=f"the script {_ended(done, timeout)}. {_said(done)}", cause=_CAUSES[done.ended], ran=ran)
    if done.status != 0:
        lacks = lacking(line_that_matters(done.output))
        cause = cause_of(line_that_matters(done.output), done.status)
        if lacks:
            cause = Cause(*remedy(lacks, script, environment))
        return Outcome(reason=f"the script ended with status {done.status}. {_said(done)}", cause=cause, ran=ran)
    files: dict[str, bytes] = {}
    for name in (FINETUNE_YAML, FINETUNE_SLURM):
        path = folder / name
        problem = _problem(path)
        if problem:
            return Outcome(reason=f"the script ended well but {problem}. {_said(done)}", cause=_UNFINISHED, ran=ran)
        files[name] = path.read_bytes()
    return Outcome(files, ran=ran)


_UNFINISHED = Cause(
    "it did not do its work, though it says so", "look at its whole output, or name another version of the script"
)
_CAUSES = {
    "deadline": Cause(
        "it hangs, waits for something, or the file system is slow", "allow it more with --timeout, if it only is slow"
    ),
    "output": Cause("it repeats itself", "look at its output, and mend it"),
    "stopped": Cause("the scaffold was stopped", "scaffold again to go on from there"),
}


def _ended(done: processes.Completed, timeout: float) -> str:
    why = {"deadline": f"ran longer than {timeout:g} s", "output": "printed without end", "stopped": "was stopped"}
    return f"{why[done.ended]} and was ended"


def _problem(path: Path) -> str:
    """What is wrong with a file that a script should have made; empty where nothing is."""
    if path.is_symlink() or not path.is_file():
        return f"made no {path.name}"
    size = path.stat().st_size
    if not 0 < size <= MAX_OUTPUT:
        return f"made a {path.name} of {size} bytes"
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return f"made a {path.name} that is not UTF-8 text"
    if path.name == FINETUNE_SLURM:
        return "" if text.startswith("#!") else f"made a {path.name} that does not begin with #!, as sbatch demands"
    try:
        data = read(text).data
    except (YamlError, RecursionError):
        data = None
    return "" if data and isinstance(data, dict) else f"made a {path.name} that is no YAML mapping"


def _said(done: processes.Completed) -> str:
    said = line_that_matters(done.output)
    return f"It said: {said}" if said else "It said nothing."
