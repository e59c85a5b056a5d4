"""One call of a tool or command, and how it is stopped before it is done."""

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.models import Options


class Stopped(Refused):
    """A writing step could not go on: what it had written stays, and repeating the step takes it from there."""


class Interrupted(Stopped):
    """A step was interrupted by who asked for it: Ctrl-C, or a call that was cancelled."""

    def __init__(self) -> None:
        super().__init__("interrupted", [])


@contextmanager
def midway() -> Iterator[None]:
    """Turn what is refused in here, after something was written, into `Stopped`, and Ctrl-C into `Interrupted`."""
    try:
        yield
    except Stopped:
        raise
    except Refused as refused:
        raise Stopped(refused.message, refused.problems) from refused
    except KeyboardInterrupt as interrupt:
        raise Interrupted from interrupt


Progress = Callable[[str, int, int], None]
"""Called with the step, how many runs are done, and how many there are; 0 where that is not known yet."""

DECISION: Final = re.compile(r"(keep|replace)(?:=([A-Za-z0-9._+*?,\[\]!-]{1,100000}))?", re.ASCII)
"""What becomes of started runs that would change: of all, or of those of some directories or patterns of them."""

_MOST_JOBS = 4


def default_jobs() -> int:
    """Return how many external scripts run at a time: one for each core, but few, for login nodes are shared."""
    return min(_MOST_JOBS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True)
class Request:
    """One call of a tool or command.

    `experiment` is the experiment directory or its summary file. `local` is a claude.local.md, else it is looked
    for. `roots` are the directories that the experiment must lie under; empty means the experiment as it was typed.
    `names` is None for the document's own way. `setup_script` is None where the operator named none, "bundled", or
    a path. `answers` are what the user said when asked, by field. `activate` is false where the environment of an
    external script is already the right one; `venv` is a virtual environment for it, in the place of the conda
    environment that the documents name. `started` is what becomes of started runs that would change: `keep`, `replace`,
    or either of some (`replace=RUN,...`). `timeout` bounds one run of the script, in seconds. `sbatch` says whether
    validate asks SLURM's sbatch where it is there, `with_torchtune` whether it asks torchtune; None: where that is
    there without a search. `slurm_said` is what SLURM answered in this call, which `external_checks/queue.py` keeps.
    Who sets `stop` wants the call to end soon: what is done stays done. `will_ask`: a
    refusal that asks for answers is followed by a question, so it is not logged yet.
    """

    experiment: Path
    local: Path | None = None
    roots: tuple[Path, ...] = ()
    names: Literal["varying", "table"] | None = None
    template: Path | None = None
    answers: Mapping[str, Scalar] = field(default_factory=dict)
    will_ask: bool = False
    setup_script: str | None = None
    activate: bool = True
    venv: Path | None = None
    overwrite: bool = False
    started: str | None = None
    jobs: int = field(default_factory=default_jobs)
    timeout: float = 300.0
    sbatch: bool = True
    with_torchtune: bool | None = None
    now: Callable[[], datetime] = lambda: datetime.now().astimezone()
    slurm_said: dict[tuple[str, ...], tuple[float, str, str]] = field(default_factory=dict, compare=False)
    progress: Progress = lambda _step, _done, _total: None
    stop: threading.Event = field(default_factory=threading.Event)

    def report(self, step: str, done: int, total: int) -> None:
        """Report progress.

        Raises:
            Interrupted: who asked wants the call to end.
        """
        if self.stop.is_set():
            raise Interrupted
        self.progress(step, done, total)

    def with_options(self, options: Options) -> "Request":
        """Return the same request with the options that a plan was made with."""
        return replace(
            self,
            names=options.names,
            template=Path(options.template) if options.template else None,
            answers=options.answers,
            setup_script=options.setup_script,
        )
