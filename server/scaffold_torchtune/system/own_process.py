"""Our own process: streams that are there, signals that are meant for it, and what it cannot print."""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_STREAMS: Final = (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))

# What ends a process unless it says otherwise, and means nothing to ours: signal(7). Linux has more of them than macOS.
_FOR_OTHERS: Final = (
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGVTALRM",
    "SIGPROF",
    "SIGPOLL",
    "SIGIO",
    "SIGPWR",
    "SIGSTKFLT",
)
_TO_THE_END: Final = ("SIGTERM", "SIGHUP")

Handler = Callable[[int, FrameType | None], Any]


def open_streams() -> None:
    """Let a stream that was closed lead nowhere: else the next file that we open would be taken for it."""
    for number, (name, access) in enumerate(_STREAMS):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, access)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, os.fdopen(number, "r" if access == os.O_RDONLY else "w"))


def heed_signals(end: Handler, *, also: tuple[str, ...] = ()) -> None:
    """Let `end` handle a plain kill and the end of the terminal (and `also`); ignore what is not meant for us.

    Scripts may send any signal to any process of their user. A handler, other than `SIG_IGN`, is not inherited by them.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may say so
        return
    handlers: dict[str, Handler] = dict.fromkeys((*_TO_THE_END, *also), end)
    handlers |= dict.fromkeys(_FOR_OTHERS, lambda _number, _frame: None)
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        # whoever started us may want it ignored (nohup), or handle it
        if number is not None and (signal.getsignal(number) is signal.SIG_DFL or name in also):
            signal.signal(number, handler)
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if hasattr(signal, "SIGRTMIN") else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda _number, _frame: None)


def give_up_output(error: OSError) -> str:
    """Let nothing be printed any more that cannot be, and return why; empty where nobody reads it any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):  # Python must not find it out again when it ends
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
            with contextlib.suppress(OSError, ValueError):  # what is still buffered leads nowhere now
                stream.flush()
    return "" if error.errno == errno.EPIPE else error.strerror or str(error)
