"""How a writing step ends before it is done: what it had written stays, and repeating it goes on from there."""

from collections.abc import Iterator
from contextlib import contextmanager

from scaffold_torchtune.findings import Refused


class Stopped(Refused):
    """A writing step could not go on: what it had written stays, and repeating the step takes it from there."""


class Interrupted(Stopped):
    """A step was interrupted by who asked for it: Ctrl-C, or a call that was cancelled."""

    def __init__(self) -> None:
        super().__init__("interrupted", [])


@contextmanager
def midway() -> Iterator[None]:
    """What is refused in here is refused after something was written: it becomes `Stopped`, Ctrl-C `Interrupted`."""
    try:
        yield
    except Stopped:
        raise
    except Refused as refused:
        raise Stopped(refused.message, refused.problems) from refused
    except KeyboardInterrupt as interrupt:
        raise Interrupted from interrupt
