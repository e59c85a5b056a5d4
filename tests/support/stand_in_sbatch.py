"""A stand-in for sbatch on PATH, which records its calls and gives the answers that a test defines."""

import os
import shlex
from pathlib import Path

import pytest


class StandIn:
    """A directory with an `sbatch`, first on PATH; `answer` is a piece of shell that has the script in `$script`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH")
        self.answers("exit 0")

    def answers(self, answer: str) -> None:
        """Define its answer as a piece of shell."""
        file = self.folder / "sbatch"
        calls = shlex.quote(str(self.folder / "calls"))
        told = 'echo "$* in $PWD with $(env | grep ^SBATCH_ | sort | tr "\\n" " ")"'
        file.write_text(f"#!/bin/sh\nscript=$(cat)\n{told} >> {calls}\n{answer}\n")
        file.chmod(0o755)

    def says(self, status: int, *lines: str) -> None:
        """Make it print lines to stderr and end with a status."""
        printed = "\n".join(f"printf '%s\\n' {shlex.quote(line)} >&2" for line in lines)
        self.answers(f"{printed}\nexit {status}")

    @property
    def calls(self) -> list[str]:
        """Return its calls: arguments, working directory, and its own variables."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []
