"""Runs the command, and reads its answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def command(*arguments: str | Path, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    line = [sys.executable, "-m", "scaffold_torchtune", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60, **given)


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout; nothing on stderr."""
    out, error = capsys.readouterr()
    assert error == ""
    return json.loads(out)
