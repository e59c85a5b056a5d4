"""Scaffolds that may be disturbed: where they begin, what must hold whatever happens, and how the next one ends."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaffold_torchtune.pipeline.plan_file import read_plan
from scaffold_torchtune.pipeline.state import LogState, Record
from support.experiments import Kept, actions, change, everything, log, make_experiment, outputs
from support.forked_command import Ended, command, in_fork
from support.setup_scripts import MAKE, script

MOST_MEGABYTES: Final = 300
_REFUSED: Final = 2
TRIO: Final = ("setup_finetune.yaml", "finetune.yaml", "finetune.slurm")
"""The files of a run; with the last one it looks ready."""

_ENTRY: Final = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] [A-Z_]+\n(?:(?:Details|Result|Duration): [^\n]+\n)*\n")
_NO_PATHS: Final = ("pipe:", "anon_inode:", "/proc/self/fd/")  # the last is what a descriptor was opened for
_READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "plan.json": read_plan,
    "progress.json": LogState.model_validate_json,
    "runs/*.json": Record.model_validate_json,
}
"""The reader of each file of the state: none of them is ever half-written."""


@dataclass(frozen=True)
class Scenario:
    """A command that may be disturbed, and what is done before it; EXPERIMENT and SCRIPT stand for paths.

    `in_worker`: the faults come in the thread in which scripts run, not in the first.
    """

    name: str
    line: tuple[str, ...]
    before: tuple[Callable[["Ground"], None], ...] = ()
    in_worker: bool = False


class Ground:
    """The experiment of a scenario, amid what is not its own; `restore` puts it back to where the command begins."""

    def __init__(self, directory: Path, scenario: Scenario) -> None:
        self.scenario = scenario
        self.directory = directory
        self.place = directory / "place"
        self.experiment = self.place / "sweep"
        (directory / "tmp").mkdir(parents=True)
        self.script = script(self.place / "tool", MAKE)
        (self.place / "another").mkdir()
        (self.place / "another" / "file").write_text("not ours")
        make_experiment(self.experiment, without=["- **Runs:**", "_rank16_"])
        for act in scenario.before:
            act(self)
        self.began = outputs(self.experiment)
        self._kept = directory / "kept"
        shutil.copytree(self.experiment, self._kept)
        first = self.run()
        assert first.status == 0, first
        self.wanted = outputs(self.experiment)
        assert self.wanted != self.began, "it has something to do"
        self._outside = self._around()

    @property
    def line(self) -> list[str]:
        """The command's arguments."""
        names = {"EXPERIMENT": str(self.experiment), "SCRIPT": str(self.script)}
        return [names.get(word, word) for word in self.scenario.line]

    @property
    def streams(self) -> Path:
        return self.directory / "streams"

    def run(self, *arguments: str) -> Ended:
        """Run the command undisturbed, or another one."""
        return in_fork(command(*(arguments or self.line)), self.streams)

    def restore(self) -> None:
        """Put the experiment back to where the command begins."""
        shutil.rmtree(self.experiment)
        shutil.copytree(self._kept, self.experiment)

    def is_inside(self, path: str) -> bool:
        """Whether a call may change a path: below the experiment, a temporary file, a stream, or by a descriptor."""
        places = (self.experiment, self.directory / "tmp", f"{self.streams}.out", f"{self.streams}.err", "/dev/null")
        return any(path == str(place) or path.startswith((f"{place}/", *_NO_PATHS)) for place in places)

    def _around(self) -> dict[str, Kept]:
        """All that is not the experiment's own."""
        found = everything(self.place)
        return {path: kept for path, kept in found.items() if path != "." and not path.startswith("sweep")}

    def wrong(self, ended: Ended, *, is_alone: bool = True) -> Iterator[str]:
        """What must never be, however the command ended. Of several at once one may be refused after another's end."""
        yield from self.unsafe(ended)
        yield from self.torn()
        there = outputs(self.experiment)
        if ended.status == 0 and there != self.wanted:
            yield "status 0, and not what an undisturbed one makes"
        found = actions(self.experiment)
        if ended.status == 0 and "SCAFFOLD_TORCHTUNE_COMPLETE" not in (found if not is_alone else found[-1:]):
            yield f"status 0, and the log is not closed: {found}"

    def unsafe(self, ended: Ended) -> Iterator[str]:
        """What no command may do, whatever it was given and wherever it was stopped."""
        if "Traceback" in ended.out + ended.err:
            yield f"a traceback: {(ended.out + ended.err)[-2000:]}"
        if ended.status not in {0, 1, 2, -9}:
            yield f"status {ended.status}: {ended.err[-500:]}"
        if ended.status in {1, 2} and not ended.err + ended.out:
            yield f"status {ended.status} without a word"
        for report in self.experiment.glob(".scaffold/internal-error-*"):
            yield f"an error of ours: {report.read_text()[-2000:]}"
        if ended.megabytes > MOST_MEGABYTES:
            yield f"{ended.megabytes:.0f} MB"
        if self._around() != self._outside:
            yield "something outside the experiment was changed"
        if _ENTRY.sub("", log(self.experiment)):
            yield f"the log is torn: {_ENTRY.sub('', log(self.experiment))[:200]!r}"

    def changed_though_refused(self, ended: Ended) -> Iterator[str]:
        """What a refusal, which says that nothing was changed, has changed all the same."""
        if ended.status == _REFUSED and outputs(self.experiment) != self.began:
            yield "refused, and something was changed"

    def torn(self) -> Iterator[str]:
        """What is half-written, or mixed of two generations."""
        there = outputs(self.experiment)
        for path, data in there.items():
            if data not in {self.began.get(path), self.wanted.get(path)}:
                yield f"{path} is neither as before nor as wanted"
        for directory in {path.partition("/")[0] for path in there if path.endswith("finetune.slurm")}:
            names = [f"{directory}/{name}" for name in TRIO]
            if not any(all(there.get(n) == all_of.get(n) for n in names) for all_of in (self.began, self.wanted)):
                yield f"{directory} is a mixture"
        for pattern, read in _READERS.items():
            for file in (self.experiment / ".scaffold").glob(pattern):
                try:
                    read(file.read_bytes())
                except ValueError as error:
                    yield f"{file.name} cannot be read: {error}"

    def wrong_again(self, *, thrice: bool = True, is_alone: bool = True) -> Iterator[str]:
        """What is wrong when the command is run again, and once more after that: that changes nothing."""
        again = self.run()
        # where nothing was left to do, what another was refused after the verdict stands last
        yield from self.wrong(again, is_alone=is_alone)
        if again.status != 0:
            yield f"run again: status {again.status}: {again.err[-500:]}"
            return
        for left in (".scaffold/lock", ".scaffold/staging/*"):
            if [*self.experiment.glob(left)]:
                yield f"run again, {left} is left"
        before = everything(self.experiment) if thrice else {}
        if thrice and (self.run().status != 0 or everything(self.experiment) != before):
            yield "run a third time, something was changed"


def scaffolded(ground: Ground) -> None:
    """Scaffold as the scenario's own command does."""
    assert ground.run().status == 0


def with_other_documents(ground: Ground) -> None:
    """Change the documents, as an editor would."""
    change(ground.experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")


def edited(ground: Ground) -> None:
    """Edit an output of a run."""
    with (ground.experiment / "lr1e-5" / "finetune.yaml").open("a") as file:
        file.write("# mine\n")


_SCAFFOLD: Final = ("scaffold", "EXPERIMENT")
_EXTERNAL: Final = (*_SCAFFOLD, "--setup-script", "SCRIPT", "--jobs", "1")
SCENARIOS: Final = (
    Scenario("a first scaffold", _SCAFFOLD),
    Scenario("changed documents", _SCAFFOLD, (scaffolded, with_other_documents)),
    Scenario("an external script", _EXTERNAL),
    Scenario("its scripts' thread", _EXTERNAL, in_worker=True),
    Scenario("an edit overwritten", (*_SCAFFOLD, "--overwrite"), (scaffolded, edited)),
    Scenario("external, changed", _EXTERNAL, (scaffolded, with_other_documents)),
)
"""A command is a row here."""
