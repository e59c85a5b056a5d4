"""The fault campaign: scaffolds that are killed at any point, get errors from system calls, race, or get hostile input.

`make faults` runs all of it and prints its counts; `--sample N --seed S` tries the same N of each row, `--only` names a
part. After each fault nothing outside the experiment is changed, no file is half-written or mixed, no stream has a
traceback, and the repeated command produces the same bytes as an undisturbed one.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from scaffold_torchtune.cli import dispatch  # noqa: F401 - what forks need is imported once
from support import hostile_inputs, protocol_frames, system_calls
from support.disturbed import MOST_MEGABYTES, SCENARIOS, Ground
from support.forked_command import Ended, Forked, command
from support.memory import LOADS, loaded
from support.system_calls import ERRORS, Point

# ruff: noqa: T201 - it prints the problems and the counts

KILL: Final = "signal=KILL"
CLOSING: Final = ("EIO",)
"""The errors of `close`. A process that is killed there was killed at the call before or after it."""
PROCESSES: Final = 8
ROUNDS: Final = 50
VALUES: Final = 1_000
FRAMES: Final = 2_000
SERVERS: Final = 4

_OFF: Final = ("SBATCH", "PYTHON", "ACTIVATE")
_SHOWN: Final = 20
_WIDTH: Final = 24


class Trial(NamedTuple):
    """One trial: its row in the table, and its arguments."""

    row: str
    what: Any


@dataclass(frozen=True)
class Result:
    """The result of a trial: `ends` by kind, as the table counts them, the problems, and the peak memory in MB."""

    trial: Trial
    ends: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    megabytes: float = 0.0


# --- each worker ------------------------------------------------------------------------------------------------------


@functools.cache
def home() -> Path:
    """Return the directory of this worker, which the campaign removes."""
    return Path(tempfile.mkdtemp(dir=os.environ["FAULTS"]))


@functools.cache
def ground(name: str) -> Ground:
    """Return the ground of a scenario, created once by each worker."""
    (scenario,) = [each for each in SCENARIOS if each.name == name]
    made = Ground(home() / str(SCENARIOS.index(scenario)), scenario)
    os.environ["TMPDIR"] = str(made.directory / "tmp")
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):  # noqa: PTH123
        command(*made.line)()  # build everything that is built at its first use once, not in each fork
    return made


def points(name: str) -> tuple[str, list[Trial], list[str]]:
    """Return the faults of a scenario by kind and point, and the outside paths that an undisturbed run changes."""
    at = ground(name)
    at.restore()
    trace = at.directory / "trace"
    process = Forked(at.work(), at.streams, in_worker=at.scenario.in_worker)
    tracer = system_calls.attached(process.thread, trace)
    process.release()
    wrong = [f"undisturbed: {each}" for each in at.wrong(process.wait())]
    tracer.communicate()
    trials: list[Trial] = []
    for call in system_calls.calls(trace):
        wrong += [f"{call.point}: {path} is outside" for path in call.paths if not at.is_inside(path)]
        is_close = call.point.name == "close"
        errors = CLOSING if is_close else ERRORS
        faults = [*([] if is_close else [KILL]), *(f"error={code}" for code in errors)]
        trials += [Trial(name, (call.point, fault)) for fault in faults]
    return name, trials, wrong


def disturbed(trial: Trial) -> Result:
    """Disturb a scenario at one point."""
    point, fault = trial.what
    at = ground(trial.row)
    at.restore()
    trace = at.directory / "trace"
    process = Forked(at.work(), at.streams, in_worker=at.scenario.in_worker)
    tracer = system_calls.attached(process.thread, trace, (point, fault))
    process.release()
    ended = process.wait()
    tracer.communicate()
    is_kill = fault == KILL
    wrong = [*at.wrong(ended), *at.changed_though_refused(ended), *at.wrong_again(thrice=is_kill)]
    if not (ended.status == -signal.SIGKILL if is_kill else system_calls.was_injected(trace)):
        wrong.append("the fault did not come")
    return Result(trial, ("kills" if is_kill else "errors", _status(ended)), tuple(wrong), ended.megabytes)


def raced(trial: Trial) -> Result:
    """Scaffold and read one experiment in several processes at the same time, and kill some of them."""
    number: int = trial.what
    chance = random.Random(number)  # noqa: S311 - it must be the same each time
    at = ground(SCENARIOS[number % len(SCENARIOS)].name)
    at.restore()
    lines = [at.line] * (PROCESSES - len(at.others)) + at.others
    racing = [Forked(at.work(*line), at.directory / f"streams-{one}") for one, line in enumerate(lines)]
    kills = sorted((0.5 * chance.random() ** 2, one.pid) for one in chance.sample(racing, PROCESSES // 2))
    for one in racing:
        one.release()
    began = time.monotonic()
    for moment, pid in kills:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        os.kill(pid, signal.SIGKILL)  # it is not reaped yet, so the number still belongs to it
    ended = [one.wait() for one in racing]
    wrong = [f"{lines[number]}: {each}" for number, one in enumerate(ended) for each in at.wrong_of(one, lines[number])]
    wrong += at.wrong_again(is_alone=False)
    return Result(trial, tuple(map(_status, ended)), tuple(wrong), max(one.megabytes for one in ended))


def hostile(trial: Trial) -> Result:
    """Give hostile input to a scaffold or a tool."""
    ended, wrong = hostile_inputs.given(ground(SCENARIOS[0].name), trial.what)
    return Result(trial, (_status(ended),), tuple(wrong), ended.megabytes)


def spoken(trial: Trial) -> Result:
    """Send frames to a separate server."""
    seed, count = trial.what
    at = ground(SCENARIOS[0].name)
    at.restore()
    wrong, megabytes, counts = protocol_frames.sent(at.experiment, at.streams.with_suffix(".err"), seed, count)
    wrong += [f"{megabytes:.0f} MB"] if megabytes > MOST_MEGABYTES else []
    ends = tuple(what for what, number in counts.items() for _ in range(number))
    return Result(trial, ends, tuple(wrong), megabytes)


def laden(trial: Trial) -> Result:
    """Run the command with a very large load."""
    (load,) = [each for each in LOADS if each.name == trial.what]
    folder = home() / f"load-{LOADS.index(load)}"
    folder.mkdir()
    ends, wrong, most = [], [], 0.0
    for what, ended in loaded(load, folder):
        ends.append(f"{what} {ended.megabytes:.0f} MB")
        most = max(most, ended.megabytes)
        wrong += [f"{what}: status {ended.status}: {ended.err[-500:]}"] if ended.status else []
    wrong += [f"{most:.0f} MB"] if most > MOST_MEGABYTES else []
    shutil.rmtree(folder)
    return Result(trial, tuple(ends), tuple(wrong), most)


def _status(ended: Ended) -> str:
    return "killed" if ended.status < 0 else f"status {ended.status}"


# --- the whole --------------------------------------------------------------------------------------------------------


@dataclass
class Campaign:
    """The trials so far. `sample` is the number of trials drawn for each row; 0 means all."""

    pool: ProcessPoolExecutor
    sample: int
    seed: int
    scenarios: Sequence[str] = ()
    rows: dict[str, Counter[str]] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def drawn(self, trials: Sequence[Trial], share: float = 1.0) -> list[Trial]:
        """Return as many of the trials as the sample has, or a `share` of that if each takes longer."""
        number = max(1, round(self.sample * share)) if self.sample else len(trials)
        chance = random.Random(self.seed)  # noqa: S311 - likewise
        return chance.sample(trials, min(number, len(trials)))

    def run(self, act: Callable[[Trial], Result], trials: Sequence[Trial]) -> None:
        """Run all trials."""
        for result in self.pool.map(act, trials, chunksize=4):
            row = self.rows.setdefault(result.trial.row, Counter())
            row["tried"] += 1
            row.update(result.ends)
            row["wrong"] += bool(result.wrong)
            self.most[result.trial.row] = max(self.most.get(result.trial.row, 0.0), result.megabytes)
            for each in result.wrong:
                self.blame(f"{result.trial.row}, {_shown(result.trial.what)}: {each}")
        for name in dict.fromkeys(trial.row for trial in trials):
            self.tell(name)

    def blame(self, what: str) -> None:
        """Record the problems; print the first one."""
        self.wrong.append(what)
        if len(self.wrong) <= _SHOWN:
            print(what, flush=True)

    def tell(self, name: str) -> None:
        """Print a row of the table."""
        row = self.rows[name]
        counts = ", ".join(f"{number} {what}" for what, number in row.items() if what not in {"tried", "wrong"})
        line = f"{name:{_WIDTH}}  {row['tried']:5} tried  {row['wrong']} wrong  {self.most[name]:4.0f} MB  {counts}"
        print(line, flush=True)


def _shown(what: Any) -> str:
    if isinstance(what, tuple) and what and isinstance(what[0], Point):
        return f"{what[0]} {what[1]}"
    return repr(what)[:300]


def of_calls(campaign: Campaign) -> None:
    """Return kills and errors at each call that changes the disk."""
    named = [each.name for each in SCENARIOS if not campaign.scenarios or each.name in campaign.scenarios]
    for name, trials, wrong in campaign.pool.map(points, named):
        for each in wrong:
            campaign.blame(f"{name}, {each}")
        campaign.run(disturbed, campaign.drawn(trials))


def of_races(campaign: Campaign) -> None:
    """Return rounds of processes that scaffold, and read files while others write them, at the same time."""
    name = f"{PROCESSES} processes at once"
    campaign.run(raced, campaign.drawn([Trial(name, number) for number in range(ROUNDS)], 0.2))


def of_values(campaign: Campaign) -> None:
    """Return hostile values in documents, arguments of tools, and templates."""
    campaign.run(hostile, campaign.drawn([Trial("hostile values", number) for number in range(VALUES)], 4))


def of_frames(campaign: Campaign) -> None:
    """Return hostile frames, divided among several servers."""
    count = min(FRAMES, 10 * campaign.sample or FRAMES) // SERVERS
    campaign.run(spoken, [Trial("protocol frames", (campaign.seed + one, count)) for one in range(SERVERS)])


def of_memory(campaign: Campaign) -> None:
    """Return loads of very many runs and very large data sets; small ones are in each sample."""
    loads = LOADS[1:2] if campaign.sample else LOADS
    campaign.run(laden, [Trial(load.name, load.name) for load in loads])


PARTS: Final[dict[str, Callable[[Campaign], None]]] = {
    "calls": of_calls,
    "races": of_races,
    "values": of_values,
    "frames": of_frames,
    "memory": of_memory,
}


def run(
    only: Sequence[str], sample: int = 0, seed: int = 1, workers: int = 2, scenarios: Sequence[str] = ()
) -> Campaign:
    """Run the campaign, or the named parts; kills and errors only for the named scenarios."""
    os.environ.update({f"SCAFFOLD_TORCHTUNE_{name}": "off" for name in _OFF})
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        os.environ["FAULTS"] = folder
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            campaign = Campaign(pool, sample, seed, scenarios)
            for name, part in PARTS.items():  # memory last: children inherit the memory of a worker's large files
                if not only or name in only:
                    part(campaign)
    return campaign


def main() -> int:
    """Run the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--sample", type=int, default=0, metavar="N", help="try N of each row")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", choices=PARTS, action="append", default=[])
    options.add_argument("--scenario", choices=[each.name for each in SCENARIOS], action="append", default=[])
    options.add_argument("--processes", type=int, default=2)
    given = options.parse_args()
    if lack := system_calls.lacks():
        sys.exit(lack)
    began = time.monotonic()
    campaign = run(given.only, given.sample, given.seed, given.processes, given.scenario)
    tried = sum(row["tried"] for row in campaign.rows.values())
    print(f"{tried} tried, {len(campaign.wrong)} wrong, {time.monotonic() - began:.0f} s")
    return int(bool(campaign.wrong))


if __name__ == "__main__":
    sys.exit(main())
