"""Runs a step beside the server's event loop: its progress is told to the client, and a cancelled call ends it."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

T = TypeVar("T")

GRACE: Final = 8.0
"""How long a cancelled step may take to end its scripts and give back the lock, in seconds."""

_BETWEEN: Final = 0.2  # seconds at least between two notices of progress
_GONE = (RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError)  # nobody listens any more


_working: set["Work"] = set()


class Roots:
    """The directories that experiments must lie under. The defaults are found at the first call, not at the start."""

    def __init__(self, given: Sequence[Path]) -> None:
        self._found = tuple(given)

    def all(self) -> tuple[Path, ...]:
        """The roots that the operator gave, else the `default_roots`."""
        if not self._found:
            from scaffold_torchtune.pipeline import default_roots

            self._found = tuple(default_roots())
        return self._found


class Work:
    """What a step is handed: whom to tell of its progress, and the event that says that it is to end."""

    def __init__(self, context: "Context[None, Any]") -> None:
        self.stop = threading.Event()
        self.ended = threading.Event()
        self._context = context
        self._reported = 0.0

    def progress(self, step: str, done: int, total: int) -> None:
        """Tell the client how many runs of a step are done; called in the step's thread."""
        now = time.monotonic()
        if self.stop.is_set() or (done < total and now - self._reported < _BETWEEN):
            return
        self._reported = now
        try:
            anyio.from_thread.run(self._context.report_progress, done, total, f"{step}: {done} of {total} runs")
        except _GONE:
            return


async def run(step: Callable[[Work], T], context: "Context[None, Any]") -> T:
    """Run a step in a thread. Where the call is cancelled, the step is told, and waited for a while."""
    work = Work(context)
    ended = anyio.Event()

    def in_thread() -> T:
        _working.add(work)
        try:
            return step(work)
        finally:
            _working.discard(work)
            work.ended.set()
            try:
                anyio.from_thread.run_sync(ended.set)
            except RuntimeError:  # the loop is gone
                work.stop.set()

    try:
        return await anyio.to_thread.run_sync(partial(in_thread), abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        work.stop.set()
        with anyio.move_on_after(GRACE, shield=True):
            await ended.wait()
        raise


def end_all(number: int, _frame: object = None) -> None:
    """Handle a signal: end the process when all steps have ended, with the status that shells expect.

    The event loop cannot do it: it would wait for who reads stdin, which nothing interrupts.
    """

    def end() -> None:
        working = tuple(_working)
        for work in working:
            work.stop.set()
        deadline = time.monotonic() + GRACE
        for work in working:
            work.ended.wait(max(0.0, deadline - time.monotonic()))
        os._exit(128 + number)

    threading.Thread(target=end, daemon=True).start()
