"""Step 6: run setup_finetune, the bundled one or an external script, for one run.

A failure of a run is a value, never an exception.
"""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.setup.external.failures import Cause, cause_of, lack_of, line_that_matters
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import open_regular
from scaffold_torchtune.system.layout import FINETUNE_SLURM, FINETUNE_YAML, OUTPUTS, SETUP_YAML
from scaffold_torchtune.system.yamlio import YamlDocument, YamlError, read

MAX_OUTPUT = 1_000_000


@dataclass(frozen=True)
class Outcome:
    """What setup_finetune made for a run: the two files by name, or the reason why there are none, and its cause.

    `problems` are the bundled one's refusals, one by one. `ran` is None where no script was run.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""
    cause: Cause = field(default_factory=Cause)
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    ran: processes.Completed | None = None


def run_bundled(run: PlannedRun, content: str | YamlDocument) -> Outcome:
    """Run the bundled setup_finetune on the text of a run's setup_finetune.yaml, or on what was read of it."""
    try:
        outputs = build(content, file=f"{run.directory}/{SETUP_YAML}")
    except Refused as refused:
        reason = "; ".join(problem.sentence() for problem in refused.problems)
        return Outcome(reason=reason, problems=refused.problems)
    files = {FINETUNE_YAML: outputs.finetune_yaml.encode(), FINETUNE_SLURM: outputs.finetune_slurm.encode()}
    return Outcome(files, warnings=outputs.warnings)


class _NoOutput(Exception):
    """A script did not make a file that it should have made."""


_HANGS: Final = "it hangs, waits for something, or the file system is slow"
_ENDED: Final = {
    "deadline": ("ran longer than {:g} s", Cause(_HANGS, "allow it more with --timeout, if it only is slow")),
    "output": ("printed without end", Cause("it repeats itself", "look at its output, and mend it")),
    "stopped": ("was stopped", Cause("the scaffold was stopped", "scaffold again to go on from there")),
}
_UNFINISHED: Final = Cause(
    "it did not do its work, though it says so", "look at its whole output, or name another version of the script"
)


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
    try:
        done = processes.run([environment.python, str(script)], folder, timeout, stop, env=environment.variables)
    except OSError as error:
        return Outcome(reason=f"the script could not be started: {error.strerror}")
    line = line_that_matters(done.output)
    if done.ended:
        what, cause = _ENDED[done.ended]
        what = f"{what.format(timeout)} and was ended"
    elif done.status != 0:
        what = f"ended with status {done.status}"
        cause = lack_of(line, script, environment) or cause_of(line, done.status)
    else:
        try:
            return Outcome({name: _output(folder / name) for name in OUTPUTS}, ran=done)
        except _NoOutput as problem:
            what, cause = f"ended well but made {problem}", _UNFINISHED
    said = f"It said: {line}" if line else "It said nothing."
    return Outcome(reason=f"the script {what}. {said}", cause=cause, ran=done)


def _output(path: Path) -> bytes:
    """Return what a script made.

    Raises:
        _NoOutput: it made nothing that can be published.
    """
    try:
        with open_regular(path, follow=False) as file:
            size, data = os.fstat(file.fileno()).st_size, file.read(MAX_OUTPUT)
    except OSError as error:
        raise _NoOutput(f"no {path.name}") from error
    if not 0 < size <= MAX_OUTPUT:
        raise _NoOutput(f"a {path.name} of {size} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _NoOutput(f"a {path.name} that is not UTF-8 text") from error
    if path.name == FINETUNE_YAML and not _is_mapping(text):
        raise _NoOutput(f"a {path.name} that is no YAML mapping")
    if path.name == FINETUNE_SLURM and not text.startswith("#!"):
        raise _NoOutput(f"a {path.name} that does not begin with #!, as sbatch demands")
    return data


def _is_mapping(text: str) -> bool:
    try:
        data = read(text).data
    except (YamlError, RecursionError):
        return False
    return bool(data) and isinstance(data, dict)
