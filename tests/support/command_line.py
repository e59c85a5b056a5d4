"""Run the command, and read its answer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.models import Readiness
from support.waiting import PATIENCE


def command(*arguments: str | Path, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process."""
    line = [sys.executable, "-m", "scaffold_torchtune", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE, **given)


def _heed_signals() -> None:
    """Restore default signal handlers: children of tests that run in the background ignore interrupts and hang-ups."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def started(*arguments: str | Path, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the command in a separate process, which handles signals; it is killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "scaffold_torchtune", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
        preexec_fn=_heed_signals,  # noqa: PLW1509
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def readiness(told: dict[str, Any]) -> Readiness:
    """Return the answer of doctor without its summary, which is derived from the rest."""
    found = Readiness.model_validate({name: each for name, each in told.items() if name != "summary"})
    assert told["summary"] == found.summary
    return found


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the one JSON document on stdout; stderr must be empty."""
    out, error = capsys.readouterr()
    assert error == ""
    return json.loads(out)
