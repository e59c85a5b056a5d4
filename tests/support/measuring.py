"""Measures what code takes, and not what watches it takes."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def untraced() -> Iterator[None]:
    """Without the tracing by which branch coverage is measured, which makes code several times slower."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def megabytes_of(name: str) -> float:
    """What /proc says of this process's memory: `VmRSS` now, `VmHWM` the most."""
    found = re.search(rf"{name}:\s*([0-9]+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


@contextmanager
def memory_at_most(megabytes: float) -> Iterator[None]:
    """Hold what a piece of work takes to a bound: its peak, beyond what this process had before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
    before = megabytes_of("VmRSS")
    yield
    assert megabytes_of("VmHWM") - before < megabytes
