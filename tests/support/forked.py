"""Run code of a test in a child of this process, which the test may cause to be killed."""

import os
import warnings
from collections.abc import Callable


def forked(work: Callable[[], object]) -> int:
    """Run a function in a separate process, which ends with 0 if it raises nothing; return the process's number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child of a process with threads only runs this code
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
    """Run a function in a separate process, and return whether a signal ended it."""
    return os.WIFSIGNALED(os.waitpid(forked(work), 0)[1])
