"""Runs code of a test in a child of this process, which the test may let be killed."""

import os
import warnings
from collections.abc import Callable


def forked(work: Callable[[], object]) -> int:
    """Do something in a process of its own, whose status is 0 where nothing was raised, and return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child of a process with threads only runs our code
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def was_killed(work: Callable[[], object]) -> bool:
    """Do something in a process of its own, and return whether a signal ended it."""
    return os.WIFSIGNALED(os.waitpid(forked(work), 0)[1])
