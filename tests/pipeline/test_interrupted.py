"""What lies there when a scaffold is killed, or the file system says no, at any point; and after it was run again."""

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.journal import refused_entry
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request, Stopped
from support.experiments import ACTIONS, actions, change, log, make_experiment, outputs
from support.forked import was_killed

RUNS = ("lr1e-5", "lr5e-5")


class Killed(BaseException):
    """Stands for a kill: nobody handles it."""


CALLS = ("mkdir", "rename", "unlink")
"""What gets or loses a final name passes through these; between two of them nothing else does but the log's entries."""


@contextlib.contextmanager
def at_call(number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Do something right before the call with that number of those that change the disk. Yields how many there were."""
    made = [0]

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made[0] += 1
            if made[0] == number:
                act()
            return original(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield made


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> None:
    raise KeyboardInterrupt


def killed_at(number: int, experiment: Path) -> bool:
    """Scaffold in a process of its own that is killed right before a call; false where it came to its end."""

    def scaffold() -> None:
        with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            steps.scaffold(Request(experiment))

    return was_killed(scaffold)


def check_no_mixture(experiment: Path, generations: set[tuple[bytes, ...]]) -> None:
    """Where there is a finetune.slurm, all three files are of one generation."""
    for slurm in experiment.glob("*/finetune.slurm"):
        names = ("setup_finetune.yaml", "finetune.yaml", "finetune.slurm")
        assert tuple((slurm.parent / name).read_bytes() for name in names) in generations, slurm.parent.name


def generation(experiment: Path) -> set[tuple[bytes, ...]]:
    """The three files of each run."""
    names = ("setup_finetune.yaml", "finetune.yaml", "finetune.slurm")
    return {tuple((experiment / run / name).read_bytes() for name in names) for run in RUNS}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two runs, so that there is a first one and a last one."""
    return make_experiment(tmp_path / "sweep", without=["- **Runs:**", "_rank16_"])


@pytest.fixture
def again(experiment: Path) -> tuple[set[tuple[bytes, ...]], dict[str, bytes]]:
    """The experiment scaffolded, then changed; what the files are before, and what they must become."""
    steps.scaffold(Request(experiment))
    old = generation(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    wanted = make_experiment(
        experiment.parent / "wanted", without=["- **Runs:**", "_rank16_"], replace={"**Epochs:** 2": "**Epochs:** 3"}
    )
    steps.scaffold(Request(wanted))
    return old | generation(wanted), outputs(wanted)


def restore(experiment: Path, kept: Path) -> None:
    """Put the experiment back as it was kept."""
    shutil.rmtree(experiment)
    shutil.copytree(kept, experiment)


def failed_at(number: int, experiment: Path) -> bool:
    """Scaffold, with a call that fails or is interrupted; false where it came to its end before."""
    with at_call(number, no_space if number % 2 else interrupt) as made:
        with contextlib.suppress(Refused, KeyboardInterrupt):
            steps.scaffold(Request(experiment))
        return made[0] >= number


def points(
    experiment: Path, kept: Path, stopped_at: Callable[[int, Path], bool], first: int, distance: int
) -> Iterator[int]:
    """Stop a scaffold of the kept experiment at calls in turn; ends when one came to its end undisturbed."""
    for number in range(first, 300, distance):
        restore(experiment, kept)
        if not stopped_at(number, experiment):
            assert number > 20, "the calls were counted"
            return
        yield number
    pytest.fail("it never came to its end")


# Some of the points, an odd distance apart; and every one.
anywhere = pytest.mark.parametrize(("first", "distance"), [(3, 9), pytest.param(1, 1, marks=pytest.mark.long)])


@anywhere
@pytest.mark.parametrize("stopped_at", [killed_at, failed_at])
def test_stopped_anywhere_it_ends_like_an_undisturbed_one(
    experiment: Path,
    again: tuple[set[tuple[bytes, ...]], dict[str, bytes]],
    stopped_at: Callable[[int, Path], bool],
    first: int,
    distance: int,
) -> None:
    generations, wanted = again
    kept = experiment.rename(experiment.parent / "kept")
    experiment.mkdir()
    for number in points(experiment, kept, stopped_at, first, distance):
        check_no_mixture(experiment, generations)
        result = steps.scaffold(Request(experiment))
        assert result.ok, number
        assert outputs(experiment) == wanted, number
        assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE", number
        assert actions(experiment).count("RUN_SETUP_SCRIPTS") >= 2, number
        assert actions(experiment).count("GENERATE_YAMLS") >= 2, number
        assert not list((experiment / ".scaffold" / "staging").iterdir())
    assert steps.scaffold(Request(experiment)).unchanged


@anywhere
def test_a_first_scaffold_that_is_killed_anywhere_ends_like_an_undisturbed_one(
    experiment: Path, first: int, distance: int
) -> None:
    kept = experiment.parent / "kept"
    shutil.copytree(experiment, kept)
    steps.scaffold(Request(experiment))
    wanted, generations = outputs(experiment), generation(experiment)
    for number in points(experiment, kept, killed_at, first, distance):
        check_no_mixture(experiment, generations)
        for file in experiment.glob("*/*.yaml"):
            assert isinstance(yaml.safe_load(file.read_text()), dict), "no file is half-written"
        assert steps.scaffold(Request(experiment)).ok
        assert outputs(experiment) == wanted, number
        assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_a_render_that_is_stopped_midway_says_so_and_nothing_else(experiment: Path) -> None:
    def full(step: str, done: int, _total: int) -> None:
        if (step, done) == ("render", 1):
            patch.setattr(os, "rename", lambda *_args, **_kwargs: no_space())

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped) as caught:
        steps.render(Request(experiment, progress=full))
    assert [problem.code for problem in caught.value.problems] == ["write-failed"]
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_FAILED"]
    nothing_changed = refused_entry(Refused("", ())).result.partition(".")[0]
    assert nothing_changed
    assert nothing_changed not in log(experiment)
    assert steps.scaffold(Request(experiment)).ok


def test_a_run_whose_outputs_cannot_be_published_fails_alone(experiment: Path) -> None:
    steps.render(Request(experiment))
    rename, calls = os.rename, [0]

    def limited(source: str, target: str, **given: int) -> None:
        if target == "finetune.yaml":
            calls[0] += 1
            if calls[0] == 1:
                no_space()
        rename(source, target, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", limited)
        result = steps.setup(Request(experiment))
    assert [(run.directory, run.ok) for run in result.runs] == [(RUNS[0], False), (RUNS[1], True)]
    assert "No space left" in result.runs[0].reason
    assert not (experiment / RUNS[0] / "finetune.slurm").exists()
    assert actions(experiment)[-2:] == ["SETUP_RUN_FAILED", "RUN_SETUP_SCRIPTS"]
    assert steps.setup(Request(experiment)).failed == 0
    assert steps.validate(Request(experiment)).passed


@pytest.mark.parametrize("step", ["render", "setup"])
def test_what_was_stopped_before_it_was_logged_is_logged_by_the_next_scaffold(experiment: Path, step: str) -> None:
    def stop(now: str, done: int, total: int) -> None:
        if (now, done) == (step, total):  # all files are written, the entries are not
            raise Killed

    with pytest.raises(Killed):
        steps.scaffold(Request(experiment, progress=stop))
    made = outputs(experiment)
    result = steps.scaffold(Request(experiment))
    assert result.ok
    assert not result.unchanged
    assert {name: text for name, text in outputs(experiment).items() if name in made} == made
    assert actions(experiment) == ACTIONS
    assert steps.scaffold(Request(experiment)).unchanged
