"""Wait for an event instead of a fixed time, however long a busy machine needs."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

from scaffold_torchtune.system import processes

PATIENCE: Final = 240.0
"""Seconds until a test gives up; the event is immediate unless the machine is busy or the code is wrong."""

_AFTER_ALL_DEADLINES: Final = 1e6


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def written(file: Path) -> bool:
    """Return whether a file exists and is not empty."""
    return file.exists() and file.stat().st_size > 0


def pass_deadlines_once(condition: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the deadlines of all programs pass as soon as a condition holds.

    A program that hangs is ended when it has reached the point that the test needs, not after a time that may be
    too short.
    """

    def monotonic() -> float:
        return time.monotonic() + (_AFTER_ALL_DEADLINES if condition() else 0)

    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))
