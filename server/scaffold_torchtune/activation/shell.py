"""Runs program.sh, which activates what is wanted, in a login shell."""

import secrets
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from scaffold_torchtune.activation.report import Fault, read
from scaffold_torchtune.activation.wanted import Wanted
from scaffold_torchtune.shared import processes
from scaffold_torchtune.shared.descendants import VARIABLE

PROGRAM: Final = Path(__file__).with_name("program.sh")
"""A constant program: what documents name reaches it as arguments only."""

_MOST: Final = 4_000_000  # bytes of a report; an environment is a few kilobytes


def activate(
    wanted: Wanted, variables: Mapping[str, str], timeout: float, stop: threading.Event | None = None
) -> dict[str, str] | Fault:
    """The environment variables with what is wanted active, or why it cannot be.

    Args:
        wanted: names that are bare by their grammar; a virtual environment whose directory is there.
        variables: the environment to start from; it must hold neither secrets nor BASH_ENV.
        timeout: in seconds.
        stop: ends it when it is set.

    Returns:
        All variables of the new environment, without what is in no way for a script (`processes.cleaned`).
    """
    mark = f"@{secrets.token_hex(16)}"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        report.touch()
        command = ["bash", "-l", str(PROGRAM), str(report), mark, variables.get("PATH", "")]
        command += [wanted.venv, wanted.conda_env, *wanted.modules]
        try:
            done = processes.run(command, Path(folder), timeout, stop, env=variables)
        except OSError as error:
            return Fault("shell", said=f"bash cannot be started: {error.strerror}")
        with report.open("rb") as file:
            found = read(file.read(_MOST), mark)
    if not isinstance(found, Fault):
        return processes.cleaned({name: value for name, value in found.items() if name != VARIABLE})
    if found.kind != "shell":
        return found
    if done.ended:
        return replace(found, said=f"it was ended after {timeout:g} s")
    return replace(found, said=f"bash ended with status {done.status}. {done.output[-2000:]}".strip())
