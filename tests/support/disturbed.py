"""Scaffolds that may be disturbed: their start, conditions that must always hold, and the result of the next one."""

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from scaffold_torchtune.pipeline.backup import REASON
from scaffold_torchtune.pipeline.run_states import Submissions
from scaffold_torchtune.pipeline.state import LogState, Record, read_plan
from scaffold_torchtune.results.report_page import is_unedited
from support.experiments import Kept, actions, change, everything, log, make_experiment, outputs
from support.forked_command import Ended, command, in_fork
from support.setup_scripts import MAKE, script
from support.stand_in_slurm import StandInSlurm

MOST_MEGABYTES: Final = 300
_REFUSED: Final = 2
TRIO: Final = ("setup_finetune.yaml", "finetune.yaml", "finetune.slurm")
"""The files of a run; with the last one it looks ready."""

_ENTRY: Final = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] [A-Z_]+\n(?:(?:Details|Result|Duration): [^\n]+\n)*\n")
_NO_PATHS: Final = ("pipe:", "anon_inode:", "/proc/self/fd/")  # the last one is the purpose of a descriptor
_READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "plan.json": read_plan,
    "progress.json": LogState.model_validate_json,
    "jobs.json": Submissions.model_validate_json,
    "runs/*.json": Record.model_validate_json,
}
"""The reader of each state file: no state file is ever half-written."""


@dataclass(frozen=True)
class Scenario:
    """A command that may be disturbed, and the actions before it; EXPERIMENT and SCRIPT are placeholders for paths.

    `in_worker`: the faults occur in the thread in which scripts run, not in the first. `frozen` are started runs:
    their files must not be replaced. `submits`: the command submits the runs to a stand-in for SLURM.
    """

    name: str
    line: tuple[str, ...]
    before: tuple[Callable[["Ground"], None], ...] = ()
    in_worker: bool = False
    frozen: tuple[str, ...] = ()
    submits: bool = False


class Ground:
    """The experiment of a scenario, surrounded by other files; `restore` resets it to its state before the command."""

    def __init__(self, directory: Path, scenario: Scenario) -> None:
        self.scenario = scenario
        self.directory = directory
        self.place = directory / "place"
        self.experiment = self.place / "sweep"
        (directory / "tmp").mkdir(parents=True)
        self.script = script(self.place / "tool", MAKE)
        (self.place / "another").mkdir()
        (self.place / "another" / "file").write_text("not ours")
        base = {"/scratch/gpfs/LAB/ada/ck-outputs": str(self.place / "outputs")}
        self.slurm = StandInSlurm(directory / "slurm") if scenario.submits else None
        make_experiment(self.experiment, without=["- **Runs:**", "_rank16_"], replace=base)
        for act in scenario.before:
            act(self)
        self.began = outputs(self.experiment)
        self._kept = directory / "kept"
        shutil.copytree(self.experiment, self._kept)
        self._started = self._of_started()
        if self.slurm:
            self.slurm.reset()
        first = self.run()
        assert first.status == 0, first
        self.wanted = outputs(self.experiment)
        self._versions, self._frozen = versions(self.experiment), frozen_plan(self.experiment)
        assert self._of_started() == self._started
        assert self.wanted != self.began or self.slurm, "it has something to do"
        assert not [*self.torn()], "what forks find read already is the same for each of them"
        self._outside = self._around()

    @property
    def line(self) -> list[str]:
        """Return the arguments of the command."""
        names = {"EXPERIMENT": str(self.experiment), "SCRIPT": str(self.script)}
        return [names.get(word, word) for word in self.scenario.line]

    @property
    def others(self) -> list[list[str]]:
        """Return commands that read at the same time: `plan`, a dry run of `scaffold`, `doctor` and `validate`."""
        line, options = self.line, [word for word in self.line if word in {"--started", "--setup-script"}]
        given = [part for option in options for part in (option, line[line.index(option) + 1])]
        name = str(self.experiment)
        return [["plan", name, *given], ["scaffold", name, *given, "--dry-run"], ["doctor", name], ["validate", name]]

    @property
    def streams(self) -> Path:
        return self.directory / "streams"

    def work(self, *arguments: str) -> Callable[[], int]:
        """Return the command, or another one, as work for a fork; SLURM is present if the scenario submits."""
        do, variables = command(*(arguments or self.line)), self.slurm.variables if self.slurm else {}

        def work() -> int:
            os.environ.update(variables)
            tempfile.tempdir = str(self.directory / "tmp")
            return do()

        return work

    def run(self, *arguments: str) -> Ended:
        """Run the command, or another one, undisturbed."""
        return in_fork(self.work(*arguments), self.streams)

    def restore(self) -> None:
        """Reset the experiment to its state before the command."""
        shutil.rmtree(self.experiment)
        shutil.copytree(self._kept, self.experiment)
        if self.slurm:
            self.slurm.reset()
        self._started = self._of_started()

    def is_inside(self, path: str) -> bool:
        """Return whether a call may change a path: in the experiment, a temporary file, a stream, a descriptor."""
        places = (self.experiment, self.directory / "tmp", f"{self.streams}.out", f"{self.streams}.err", "/dev/null")
        return any(path == str(place) or path.startswith((f"{place}/", *_NO_PATHS)) for place in places)

    def _around(self) -> dict[str, Kept]:
        """Return everything that does not belong to the experiment."""
        found = everything(self.place)
        return {path: kept for path, kept in found.items() if path != "." and not path.startswith("sweep")}

    def _of_started(self) -> dict[str, object]:
        """Return each file of the started runs, with its inode and times."""
        return {run: everything(self.experiment / run) for run in self.scenario.frozen}

    def wrong(self, ended: Ended, *, is_alone: bool = True) -> Iterator[str]:
        """Yield violated conditions after any end of the command.

        Of several commands at once, one may be refused later.
        """
        yield from self.unsafe(ended)
        yield from self.torn()
        yield from self.lost()
        there = outputs(self.experiment)
        if ended.status == 0 and there != self.wanted:
            yield "status 0, and not what an undisturbed one makes"
        found = actions(self.experiment)
        if self.slurm:
            yield from self._wrong_jobs(self.slurm, is_whole=ended.status == 0 and is_alone, is_alone=is_alone)
        elif ended.status == 0 and "SCAFFOLD_TORCHTUNE_COMPLETE" not in (found if not is_alone else found[-1:]):
            yield f"status 0, and the log is not closed: {found}"

    def _wrong_jobs(self, slurm: StandInSlurm, *, is_whole: bool, is_alone: bool) -> Iterator[str]:
        """Yield problems of the jobs: each run has at most one that may start, and one that is recorded and logged.

        A process that is killed while sbatch works may leave an additional held job, which never starts.
        """
        file = self.experiment / ".scaffold" / "jobs.json"
        kept = Submissions.model_validate_json(file.read_bytes()).submissions if file.exists() else ()
        jobs = [job for job in slurm.jobs() if job.state == "PENDING" or is_alone]
        runs = [run for one in kept for run in one.runs]
        if len(jobs) > len(self.runs) or len(runs) != len({*runs}):
            yield f"runs were submitted twice: {jobs}, {kept}"
        told = [line for line in log(self.experiment).splitlines() if line.startswith("Result: Job ids: ")]
        logged = re.findall(r"\b([0-9]{4,}) \(", " ".join(told))
        if len(logged) != len({*logged}):
            yield f"the log has one submission twice: {told}"
        if is_whole:
            ids = {job.id.partition("_")[0] for job in jobs if job.state == "PENDING"}
            done = {one.job for one in kept if one.progress == "released" and one.logged}
            if (len(jobs), {*runs}, ids) != (len(self.runs), {*self.runs}, done) or ids != {*logged}:
                yield f"status 0, and not each run has a job that is recorded and logged: {jobs}, {kept}, {told}"

    @property
    def runs(self) -> list[str]:
        """Return the run directories."""
        return sorted({path.partition("/")[0] for path in self.wanted})

    def wrong_of(self, ended: Ended, line: list[str]) -> Iterator[str]:
        """Yield violated conditions after any end of one of several commands at once; readers create nothing."""
        if line == self.line:
            yield from self.wrong(ended, is_alone=False)
        else:
            yield from self.unsafe(ended)
            yield from self.torn()
            yield from self.lost()

    def unsafe(self, ended: Ended) -> Iterator[str]:
        """Yield actions that no command may do, for any input and any stop."""
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
        if self._of_started() != self._started:
            yield "a file of a started run was changed"
        if _ENTRY.sub("", log(self.experiment)):
            yield f"the log is torn: {_ENTRY.sub('', log(self.experiment))[:200]!r}"

    def changed_though_refused(self, ended: Ended) -> Iterator[str]:
        """Yield changes by a refused command, which reports that nothing was changed."""
        if ended.status == _REFUSED and outputs(self.experiment) != self.began:
            yield "refused, and something was changed"

    def torn(self) -> Iterator[str]:
        """Yield files that are half-written, or of two generations."""
        there = outputs(self.experiment)
        for path, data in there.items():
            if data not in {self.began.get(path), self.wanted.get(path)}:
                yield f"{path} is neither as before nor as wanted"
        for directory in {path.partition("/")[0] for path in there if path.endswith("finetune.slurm")}:
            names = [f"{directory}/{name}" for name in TRIO]
            if not any(all(there.get(n) == all_of.get(n) for n in names) for all_of in (self.began, self.wanted)):
                yield f"{directory} is a mixture"
        page = self.experiment / "scaffold.html"
        if page.exists() and not is_unedited(page.read_bytes()):
            yield "the page is half-written"
        for pattern, read in _READERS.items():
            for file in (self.experiment / ".scaffold").glob(pattern):
                try:
                    read(file.read_bytes())
                except ValueError as error:
                    yield f"{file.name} cannot be read: {error}"

    def lost(self) -> Iterator[str]:
        """Yield files of a run that are now neither there nor in the history, and wrong files in the history."""
        there, told = outputs(self.experiment), versions(self.experiment)
        known = {(version.run, name, data) for version in told for name, data in version.files}
        for path, data in self.began.items():
            run, _, name = path.partition("/")
            if data not in {there.get(path), self.wanted.get(path)} and (run, name, data) not in known:
                yield f"{path} is lost"
        whole = {
            (version.run, version.reason, name, data) for version in self._versions for name, data in version.files
        }
        for version in told:
            if not {(version.run, version.reason, name, data) for name, data in version.files} <= whole:
                yield f"the history of {version.run} has what it should not: {version}"

    def unlike(self) -> Iterator[str]:
        """Yield differences from the result of an undisturbed command that ended by itself."""
        told = versions(self.experiment)
        if told != self._versions:
            yield f"the history is another: {told - self._versions} more, {self._versions - told} less"
        if frozen_plan(self.experiment) != self._frozen:
            yield "the plan is another"

    def wrong_again(self, *, thrice: bool = True, is_alone: bool = True) -> Iterator[str]:
        """Yield problems of a repeated command, and of one more repetition, which must change nothing."""
        again = self.run()
        # if nothing was left to do, the refusal of another command may be the last entry after the verdict
        yield from self.wrong(again, is_alone=is_alone)
        if again.status != 0:
            yield f"run again: status {again.status}: {again.err[-500:]}"
            return
        yield from (f"run again, {each}" for each in self.unlike())
        for left in (".scaffold/lock", ".scaffold/staging/*"):
            if [*self.experiment.glob(left)]:
                yield f"run again, {left} is left"
        before = everything(self.experiment) if thrice else {}
        if not thrice:
            return
        third, after = self.run(), everything(self.experiment)
        if third.status != 0 or after != before:
            other = [path for path in {**before, **after} if before.get(path) != after.get(path)]
            told = (self.experiment / "scaffold.log").read_text()[-1_500:]
            yield f"run a third time, {other} changed: {third.status} {third.out[-500:]} {third.err[-500:]} {told}"


class Version(NamedTuple):
    """A version in the history of a run: its reason with the changes, and its files, without its time."""

    run: str
    reason: str
    files: tuple[tuple[str, bytes], ...]


def versions(experiment: Path) -> Counter[Version]:
    """Return the versions in the history; an incomplete version has no reason."""
    found: Counter[Version] = Counter()
    for folder in (experiment / ".scaffold" / "history").glob("*/*"):
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())} if folder.is_dir() else {}
        told = json.loads(files.pop(REASON, b"{}"))
        reason = f"{told.get('reason')}: {'; '.join(told.get('changes', ()))}"
        found[Version(folder.parent.name, reason, tuple(files.items()))] += 1
    return found


def frozen_plan(experiment: Path) -> str:
    """Return the id of the frozen plan."""
    return read_plan((experiment / ".scaffold" / "plan.json").read_bytes()).id


def scaffolded(ground: Ground) -> None:
    """Scaffold with the options of the scenario's command."""
    assert ground.run().status == 0


def ready(ground: Ground) -> None:
    """Scaffold the runs that are to be submitted."""
    assert ground.run("scaffold", str(ground.experiment), "--no-sbatch").status == 0


def with_other_documents(ground: Ground) -> None:
    """Change the documents, as an editor would."""
    change(ground.experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")


def reported(ground: Ground) -> None:
    """Write the page, which later scaffolds update."""
    assert ground.run("report", str(ground.experiment)).status == 0


def edited(ground: Ground) -> None:
    """Edit an output of a run."""
    with (ground.experiment / "lr1e-5" / "finetune.yaml").open("a") as file:
        file.write("# mine\n")


_FIRST, _SECOND = "lr1e-5", "lr5e-5"


def trained(ground: Ground) -> None:
    """Create the files that two jobs of the first run leave: their output and their results."""
    for job in (4711, 4712):
        (ground.experiment / _FIRST / f"slurm-{job}.out").write_text(f"training {job}\n")
    results = ground.place / "outputs" / "cap_4L_lora_lr_sweep" / f"ck-out-{_FIRST}"
    (results / "epoch_0").mkdir(parents=True)
    (results / "epoch_0" / "adapter_model.safetensors").write_text("weights")


def moved(ground: Ground) -> None:
    """Move the results away, as the fix of a refusal requests."""
    folder = ground.place / "outputs" / "cap_4L_lora_lr_sweep"
    (folder / f"ck-out-{_FIRST}").rename(folder / f"ck-out-{_FIRST}.old")


def _rows(ground: Ground) -> list[str]:
    text = (ground.experiment / "experiment_summary.md").read_text()
    return [line for line in text.splitlines(keepends=True) if "| Fine-tuned |" in line]


def grown(ground: Ground) -> None:
    """Add two rows, one of them with a value that did not vary before."""
    first, last = _rows(ground)[0], _rows(ground)[-1]
    wider = first.replace("_lr1e-5", "_wide").replace("| 4 |", "| 8 |")
    change(ground.experiment / "experiment_summary.md", last, last + last.replace("5e-5", "9e-5") + wider)


def wider(ground: Ground) -> None:
    """Add a row with another rank."""
    last = _rows(ground)[-1]
    row = last.replace("| 8 |", "| 16 |", 1).replace("Instruct_rank8", "Instruct_rank16")
    change(ground.experiment / "experiment_summary.md", last, last + row)


def shrunk(ground: Ground) -> None:
    """Remove the rows of the trained run and of the second one, and scaffold."""
    grown(ground)
    scaffolded(ground)
    trained(ground)
    for row in _rows(ground)[:2]:
        change(ground.experiment / "experiment_summary.md", row, "")
    (ground.experiment / "rows").write_text(row)
    scaffolded(ground)


def back_again(ground: Ground) -> None:
    """Put the second row back, and remove the third."""
    rows = ground.experiment / "rows"
    change(ground.experiment / "experiment_summary.md", _rows(ground)[0], rows.read_text())
    rows.unlink()


_SCAFFOLD: Final = ("scaffold", "EXPERIMENT")
_KEEPING: Final = (*_SCAFFOLD, "--started", "keep")
_EXTERNAL: Final = (*_SCAFFOLD, "--setup-script", "SCRIPT", "--jobs", "1")
SCENARIOS: Final = (
    Scenario("a first scaffold", _SCAFFOLD),
    Scenario("changed documents", _SCAFFOLD, (scaffolded, with_other_documents)),
    Scenario("with a page", _SCAFFOLD, (scaffolded, reported, with_other_documents)),
    Scenario("an external script", _EXTERNAL),
    Scenario("its scripts' thread", _EXTERNAL, in_worker=True),
    Scenario("an edit overwritten", (*_SCAFFOLD, "--overwrite"), (scaffolded, edited)),
    Scenario("external, changed", _EXTERNAL, (scaffolded, with_other_documents)),
    Scenario("trained, kept", _KEEPING, (scaffolded, trained, with_other_documents), frozen=(_FIRST,)),
    Scenario(
        "trained, replaced", (*_SCAFFOLD, "--started", "replace"), (scaffolded, trained, moved, with_other_documents)
    ),
    Scenario("dropped and back", _SCAFFOLD, (scaffolded, shrunk, back_again), frozen=(_FIRST,)),
    Scenario("trained, grown", _SCAFFOLD, (scaffolded, trained, grown), frozen=(_FIRST,)),
    Scenario("all at once", _KEEPING, (scaffolded, shrunk, back_again, wider, with_other_documents), frozen=(_FIRST,)),
    Scenario(
        "external, kept",
        (*_EXTERNAL, "--started", "keep"),
        (scaffolded, trained, grown, with_other_documents),
        frozen=(_FIRST,),
    ),
    Scenario("submitted", ("submit", "EXPERIMENT", "--yes"), (ready,), submits=True),
    Scenario("submitted, each", ("submit", "EXPERIMENT", "--yes", "--no-array"), (ready,), submits=True),
)
"""The scenarios; a new command is a new row."""
