"""One call of a tool or command, and its interruption."""

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
    """A writing step stopped midway: its files stay, and repeating the step continues from there."""


class Interrupted(Stopped):
    """The caller interrupted a step: Ctrl-C, or a cancelled call."""

    def __init__(self) -> None:
        super().__init__("interrupted", [])


@contextmanager
def midway() -> Iterator[None]:
    """Turn a refusal in this block, after something was written, into `Stopped`, and Ctrl-C into `Interrupted`."""
    try:
        yield
    except Stopped:
        raise
    except Refused as refused:
        raise Stopped(refused.message, refused.problems) from refused
    except KeyboardInterrupt as interrupt:
        raise Interrupted from interrupt


Progress = Callable[[str, int, int], None]
"""A function that is called with the step, the number of finished runs, and of all runs (0 if not known yet)."""

DECISION: Final = re.compile(r"(keep|replace)(?:=([A-Za-z0-9._+*?,\[\]!-]{1,100000}))?", re.ASCII)
"""The choice for started runs that would change: for all, or for some, by directories or patterns of them."""

_MOST_JOBS = 4


def default_jobs() -> int:
    """Return the number of external scripts that run at a time: one per core, but few, as login nodes are shared."""
    return min(_MOST_JOBS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True)
class Request:
    """One call of a tool or command.

    `experiment` is the experiment directory or its summary file. `local` is a claude.local.md; None searches for it.
    `roots` are the directories that may contain the experiment; if there are none, any experiment is accepted.
    `names` is None for the default of the document's form. `setup_script` is None (the operator named none),
    "bundled", or a path. `answers` are the user's answers, by field. `activate` is false if the environment of an
    external script is already active; `venv` is a virtual environment for it, instead of the conda environment of the
    documents. `started` is the choice for started runs that would change: `keep` or `replace` for all, or for some
    (`replace=RUN,...`). `timeout` is the limit for one run of the script, in seconds. `sbatch` is false if validate
    must not call sbatch; `with_torchtune` is whether it calls torchtune; None: only if this Python has it, or
    a variable names one that does. `slurm_said` has the answers of SLURM in this call, for
    `external_checks/slurm_jobs.py`. Setting `stop` ends the call soon; finished work stays. `will_ask`: the user is
    asked after a refusal with questions, so it is not logged yet.
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
            Interrupted: the caller stopped the call.
        """
        if self.stop.is_set():
            raise Interrupted
        self.progress(step, done, total)

    def with_options(self, options: Options) -> "Request":
        """Return the same request with the options of a plan; a claude.local.md of the request itself has priority."""
        return replace(
            self,
            local=self.local or (Path(options.local) if options.local else None),
            names=options.names,
            template=Path(options.template) if options.template else None,
            answers=options.answers,
            setup_script=options.setup_script,
        )
