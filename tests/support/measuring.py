"""Measure the resources of code without those of the tools that observe it."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def untraced() -> Iterator[None]:
    """Disable the tracing for branch coverage, which makes code several times slower."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def megabytes_of(name: str) -> float:
    """Return this process's memory from /proc: `VmRSS` now, `VmHWM` the peak."""
    found = re.search(rf"{name}:\s*([0-9]+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


@contextmanager
def memory_at_most(megabytes: float) -> Iterator[None]:
    """Check that the peak memory of some work, in addition to that of this process before, is below a bound."""
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak (proc(5))
    before = megabytes_of("VmRSS")
    yield
    assert megabytes_of("VmHWM") - before < megabytes
