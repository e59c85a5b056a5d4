"""Runs an external script for several runs at a time, each in a staging directory of its own."""

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Final

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.pipeline.elsewhere import Watch
from scaffold_torchtune.pipeline.request import Request
from scaffold_torchtune.setup import Cause, Outcome
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree
from scaffold_torchtune.shared.text import few

Run = Callable[[PlannedRun, str], Outcome]
"""Runs the script in the staging directory that the text names, relative to the experiment."""

Work = Sequence[tuple[PlannedRun, str]]
"""Runs, each with the text of its setup_finetune.yaml."""

_LOOK: Final = 1.0  # seconds at least between two looks at what scripts change elsewhere, where there are many runs
_FEW: Final = 20
_LISTED: Final = 5


class Pool:
    """Runs the script for each piece of work, as many at a time as the request says; its `stop` ends those that run.

    Who changes something elsewhere in the experiment is found out: runs that may have done it are run again, alone.
    """

    def __init__(self, tree: Tree, work: Work, run: Run, request: Request) -> None:
        self._tree, self._work, self._run, self._request = tree, work, run, request
        self._jobs = max(1, min(request.jobs, len(work)))
        self.watch = Watch(tree, [one.directory for one, _ in work])
        self.changed: set[str] = set()
        self._suspects: set[str] = set()
        self._cleared: set[str] = set()  # had ended when we looked last
        self._looked = time.monotonic()

    def outcomes(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """Each run with what became of it, as they end. Close it: scripts that still run then are ended.

        A run that is found out later comes once more.
        """
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._staged, run, text): run for run, text in self._work}
            ended: set[str] = set()
            try:
                for future in as_completed(futures):
                    ended.add(futures[future].directory)
                    self._look(futures, last=len(ended) == len(futures))
                    yield futures[future], future.result()
            finally:
                if len(ended) < len(futures):
                    self._request.stop.set()
                    pool.shutdown(cancel_futures=True)
        yield from self._found_out()

    def changes(self) -> set[str]:
        """All that was changed elsewhere until now, by whom ever."""
        self.changed.update(self.watch.changes())
        return self.changed

    def _look(self, futures: dict[Future[Outcome], PlannedRun], *, last: bool) -> None:
        """Look at what was changed elsewhere; every run that has been running since the last look may have done it."""
        due = last or len(futures) <= _FEW or time.monotonic() - self._looked >= _LOOK
        if not due:
            return
        # what ends while we look may have done it after we looked: it is not cleared yet
        done = {run.directory for future, run in futures.items() if future.done()}
        changes = self.watch.changes()
        self._looked = time.monotonic()
        self.changed.update(changes)
        if changes:
            begun = {run.directory for future, run in futures.items() if future.running() or future.done()}
            self._suspects |= begun - self._cleared
        self._cleared = done

    def _found_out(self) -> Generator[tuple[PlannedRun, Outcome], None, None]:
        """The runs that change something elsewhere, each run once more, alone."""
        for run, text in self._work:
            if run.directory not in self._suspects or self._request.stop.is_set():
                continue
            self.watch.changes()
            outcome = self._staged(run, text)
            if changes := self.watch.changes():
                self.changed.update(changes)
                yield run, _blamed(changes, outcome)

    def _staged(self, run: PlannedRun, text: str) -> Outcome:
        """Run the script in a staging directory, which holds nothing but the run's setup_finetune.yaml."""
        staged = f"{layout.STAGING}/{run.directory}"
        if self._request.stop.is_set():
            return Outcome(reason="the scaffold was stopped before")
        try:
            self._tree.make_directory(staged, durable=False)
            try:
                self._tree.write(f"{staged}/{layout.SETUP_YAML}", text.encode(), durable=False)
                return self._run(run, staged)
            finally:
                self._tree.clear(staged)
        except Refused as refused:
            return Outcome(reason=refused.message)


def _blamed(changes: Sequence[str], outcome: Outcome) -> Outcome:
    """What becomes of a run whose script changed something elsewhere in the experiment."""
    what = few(changes, _LISTED, more=" and {} more")
    reason = f"the script wrote outside its working directory, in the experiment: {what}"
    fix = "look at what it changed there, and name a script that writes into its working directory alone"
    cause = Cause("it names files of the experiment by their path, or goes up from where it runs", fix)
    return Outcome(reason=reason, cause=cause, ran=outcome.ran)
