"""Kill a scaffold at any point, or make the file system fail; check the files then and after the next scaffold."""

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

from scaffold_torchtune.external_checks import slurm_jobs
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.journal import refused_entry
from scaffold_torchtune.request import Request, Stopped
from scaffold_torchtune.system.files import Tree
from support import sampling
from support.disturbed import SCENARIOS, Ground, versions
from support.experiments import ACTIONS, actions, change, everything, log, make_experiment, outputs
from support.forked import was_killed
from support.forked_command import command, in_fork
from support.setup_scripts import MAKE, script

pytestmark = pytest.mark.long

RUNS = ("lr1e-5", "lr5e-5")
CHANGES = [each.name for each in SCENARIOS if each.frozen or "--started" in each.line]
"""The scenarios of an experiment with started runs."""


class Killed(BaseException):
    """Stand for a kill: no code handles it."""


CALLS = ("mkdir", "rename", "unlink")
"""The calls that create, move or remove a final name; between two of them only log entries are written."""


@contextlib.contextmanager
def at_call(number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Do something right before the disk-changing call of this number; yield the number of such calls."""
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
    """Scaffold in a separate process that is killed right before a call; return False if it finished."""

    def scaffold() -> None:
        with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            steps.scaffold(Request(experiment))

    return was_killed(scaffold)


def check_no_mixture(experiment: Path, generations: set[tuple[bytes, ...]]) -> None:
    """Check that the three files next to each finetune.slurm are of one generation."""
    for slurm in experiment.glob("*/finetune.slurm"):
        names = ("setup_finetune.yaml", "finetune.yaml", "finetune.slurm")
        assert tuple((slurm.parent / name).read_bytes() for name in names) in generations, slurm.parent.name


def generation(experiment: Path) -> set[tuple[bytes, ...]]:
    """Return the three files of each run."""
    names = ("setup_finetune.yaml", "finetune.yaml", "finetune.slurm")
    return {tuple((experiment / run / name).read_bytes() for name in names) for run in RUNS}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Return an experiment with two runs, so that the first one is not the last one."""
    return make_experiment(tmp_path / "sweep", without=["- **Runs:**", "_rank16_"])


@pytest.fixture
def again(experiment: Path) -> tuple[set[tuple[bytes, ...]], dict[str, bytes]]:
    """Scaffold the experiment, then change it; return the allowed generations and the expected files."""
    steps.scaffold(Request(experiment))
    old = generation(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    wanted = make_experiment(
        experiment.parent / "wanted", without=["- **Runs:**", "_rank16_"], replace={"**Epochs:** 2": "**Epochs:** 3"}
    )
    steps.scaffold(Request(wanted))
    return old | generation(wanted), outputs(wanted)


def restore(experiment: Path, kept: Path) -> None:
    """Restore the experiment from its copy."""
    shutil.rmtree(experiment)
    shutil.copytree(kept, experiment)


def failed_at(number: int, experiment: Path) -> bool:
    """Scaffold with a call that fails or is interrupted; return False if it finished before."""
    with at_call(number, no_space if number % 2 else interrupt) as made:
        with contextlib.suppress(Refused, KeyboardInterrupt):
            steps.scaffold(Request(experiment))
        return made[0] >= number


def points(
    experiment: Path, kept: Path, stopped_at: Callable[[int, Path], bool], first: int, distance: int
) -> Iterator[int]:
    """Stop a scaffold of the copied experiment at one call after the other until one finishes undisturbed."""
    for number in range(first, 300, distance):
        restore(experiment, kept)
        if not stopped_at(number, experiment):
            assert number > 20, "the calls were counted"
            return
        yield number
    pytest.fail("it never came to its end")


# A sample of the points, or every point.
anywhere = pytest.mark.parametrize(("first", "distance"), [(1, sampling.distance(12))])


@anywhere
@pytest.mark.parametrize("stopped_at", [killed_at, failed_at])
def test_a_scaffold_stopped_anywhere_ends_like_an_undisturbed_one(
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
def test_a_first_scaffold_killed_anywhere_ends_like_an_undisturbed_one(
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


def test_a_render_stopped_midway_does_not_claim_that_nothing_changed(experiment: Path) -> None:
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
def test_work_that_was_stopped_before_logging_is_logged_by_the_next_scaffold(experiment: Path, step: str) -> None:
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


# A change, and runs that are submitted during it.


def scaffolded_pair(folder: Path) -> Path:
    """Return two scaffolded runs with outputs below a directory of this test."""
    base = {"/scratch/gpfs/LAB/ada/ck-outputs": str(folder / "outputs")}
    made = make_experiment(folder / "sweep", without=["- **Runs:**", "_rank16_"], replace=base)
    assert steps.scaffold(Request(made)).ok
    return made


def submitted(experiment: Path, *runs: str) -> dict[str, object]:
    """Write the files that a job of each run writes; return the files of the runs."""
    for run in runs:
        (experiment / run / "slurm-4711.out").write_text("training\n")
    return {run: everything(experiment / run) for run in runs}


def more_epochs(experiment: Path) -> None:
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")


@anywhere
def test_a_run_submitted_after_a_kill_is_kept_unchanged(tmp_path: Path, first: int, distance: int) -> None:
    experiment = scaffolded_pair(tmp_path)
    more_epochs(experiment)
    shutil.copytree(experiment, kept := tmp_path / "kept")
    old = 0
    for number in points(experiment, kept, killed_at, first, distance):
        ready = [run for run in RUNS if (experiment / run / "finetune.slurm").exists()]
        before = submitted(experiment, *ready)
        stale = [run for run in ready if "epochs: 2" in (experiment / run / "finetune.yaml").read_text()]
        old += len(stale)
        if stale:
            with pytest.raises(Refused) as caught:
                steps.scaffold(Request(experiment))
            assert {each.code for each in caught.value.problems} == {"started-run"}, number
            assert "epochs 2 -> 3" in caught.value.problems[0].message, number
        assert steps.scaffold(Request(experiment, started="keep")).ok, number
        assert {run: everything(experiment / run) for run in ready} == before, number
        result = steps.validate(Request(experiment))
        assert (result.passed, result.kept, result.started) == (True, len(stale), tuple(ready)), number
    assert old


@pytest.mark.parametrize(("name", "distance"), [(name, sampling.distance(12)) for name in CHANGES])
def test_a_change_killed_anywhere_ends_like_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, distance: int
) -> None:
    for variable in ("SBATCH", "PYTHON", "ACTIVATE"):
        monkeypatch.setenv(f"SCAFFOLD_TORCHTUNE_{variable}", "off")
    (scenario,) = [each for each in SCENARIOS if each.name == name]
    ground = Ground(tmp_path / "ground", scenario)

    def killed(number: int) -> bool:
        def work() -> int:
            with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                return command(*ground.line)()

        ended = in_fork(work, ground.streams)
        assert [*ground.wrong(ended)] == [], number
        return ended.status == -signal.SIGKILL

    tried = 0
    for number in range(distance, 300, distance):
        ground.restore()
        if not killed(number):
            break
        assert [*ground.wrong_again()] == [], number
        tried += 1
    assert tried * distance > 20


def test_a_run_submitted_while_others_are_written_is_unchanged(tmp_path: Path) -> None:
    experiment = scaffolded_pair(tmp_path)
    more_epochs(experiment)
    before: dict[str, object] = {}

    def submit(step: str, done: int, _total: int) -> None:
        if (step, done) == ("render", 1):
            before.update(submitted(experiment, RUNS[1]))

    with pytest.raises(Stopped) as caught:
        steps.scaffold(Request(experiment, progress=submit))
    assert [(each.code, each.actual) for each in caught.value.problems] == [("started-run", RUNS[1])]
    assert {RUNS[1]: everything(experiment / RUNS[1])} == before
    assert steps.scaffold(Request(experiment, started="keep")).validation.kept == 1
    assert {RUNS[1]: everything(experiment / RUNS[1])} == before


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Run a function after a scaffold has planned and compared, before it holds the lock."""

    def then(act: Callable[[], object]) -> None:
        original = prepare.prepare

        def prepared(request: Request) -> prepare.Prepared:
            found = original(request)
            monkeypatch.setattr(prepare, "prepare", original)
            act()
            return found

        monkeypatch.setattr(prepare, "prepare", prepared)

    return then


Then = Callable[[Callable[[], object]], None]


@pytest.mark.parametrize("started", [None, "replace"])
def test_a_run_submitted_after_the_comparison_is_not_changed(tmp_path: Path, prepared: Then, started: Any) -> None:
    experiment = scaffolded_pair(tmp_path)
    more_epochs(experiment)
    results = tmp_path / "outputs" / "cap_4L_lora_lr_sweep" / f"ck-out-{RUNS[0]}" / "epoch_0"
    prepared(results.mkdir if started is None else lambda: results.mkdir(parents=True))
    results.parent.mkdir(parents=True) if started is None else None
    before = everything(experiment / RUNS[0])
    with pytest.raises(Refused) as caught:
        steps.scaffold(Request(experiment, started=started))
    assert {each.code for each in caught.value.problems} == {"started-run"}
    assert bool(caught.value.ask) == (started is None)
    assert everything(experiment / RUNS[0]) == before


def test_a_run_removed_and_submitted_meanwhile_stays_ready(tmp_path: Path, prepared: Then) -> None:
    experiment = scaffolded_pair(tmp_path)
    text = (experiment / "experiment_summary.md").read_text()
    (row,) = [line for line in text.splitlines(keepends=True) if f"_rank8_{RUNS[1]} |" in line]
    (experiment / "experiment_summary.md").write_text(text.replace(row, ""))
    before: dict[str, object] = {}
    prepared(lambda: before.update(submitted(experiment, RUNS[1])))
    assert steps.scaffold(Request(experiment)).ok
    assert {RUNS[1]: everything(experiment / RUNS[1])} == before


def test_a_plan_replaced_during_the_comparison_is_planned_again(tmp_path: Path, prepared: Then) -> None:
    experiment = scaffolded_pair(tmp_path)
    more_epochs(experiment)
    before: dict[str, object] = {}

    def another() -> None:
        change(experiment / "experiment_summary.md", "**Epochs:** 3", "**Epochs:** 4")
        assert steps.scaffold(Request(experiment)).ok
        before.update(submitted(experiment, *RUNS))

    prepared(another)
    result = steps.scaffold(Request(experiment))
    assert (result.ok, result.validation.started) == (True, RUNS)
    assert {run: everything(experiment / run) for run in RUNS} == before


def test_a_run_submitted_while_its_script_runs_again_fails_unchanged(tmp_path: Path) -> None:
    experiment = scaffolded_pair(tmp_path)
    tool = script(tmp_path / "tool", MAKE)
    assert steps.scaffold(Request(experiment, setup_script=str(tool), overwrite=True)).ok
    submitting = f"import pathlib\npathlib.Path({str(experiment / RUNS[0])!r}, 'slurm-1.out').touch()\n"
    (tool.parent / "beside.txt").write_text("another")
    before = {run: outputs_of(experiment, run) for run in RUNS}
    tool.write_text(submitting + tool.read_text())
    result = steps.setup(Request(experiment, setup_script=str(tool), overwrite=True, jobs=1))
    assert not {run.directory: run.ok for run in result.runs}[RUNS[0]]
    assert outputs_of(experiment, RUNS[0]) == before[RUNS[0]]


def outputs_of(experiment: Path, run: str) -> dict[str, object]:
    """Return the files of a run with their inodes and times, without those of its jobs."""
    return {name: kept for name, kept in everything(experiment / run).items() if name.startswith(("finetune", "setup"))}


def test_setup_is_refused_until_an_interrupted_render_is_completed(tmp_path: Path) -> None:
    experiment = scaffolded_pair(tmp_path)
    more_epochs(experiment)

    def stop(step: str, done: int, _total: int) -> None:
        if (step, done) == ("render", 1):
            raise Killed

    with pytest.raises(Killed):
        steps.render(Request(experiment, progress=stop))
    before = outputs(experiment)
    for overwrite in (False, True):
        with pytest.raises(Refused) as caught:
            steps.setup(Request(experiment, overwrite=overwrite))
        assert [each.code for each in caught.value.problems] == ["not-rendered"]
    assert outputs(experiment) == before
    steps.render(Request(experiment))
    assert steps.setup(Request(experiment)).failed == 0
    assert steps.validate(Request(experiment)).passed


def test_an_overwritten_edit_is_kept_in_the_history(experiment: Path) -> None:
    steps.scaffold(Request(experiment))
    file = experiment / RUNS[0] / "finetune.yaml"
    made = file.read_bytes()
    file.write_bytes(edited := made + b"# mine\n")
    assert steps.scaffold(Request(experiment, overwrite=True)).ok
    assert file.read_bytes() == made
    assert [(each.run, each.files) for each in versions(experiment)] == [(RUNS[0], (("finetune.yaml", edited),))]


def test_a_version_kept_by_a_killed_scaffold_is_not_kept_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = scaffolded_pair(tmp_path)
    more_epochs(experiment)

    def killed(_tree: Tree, _path: str, **_given: bool) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Tree, "remove", killed)
        with pytest.raises(Killed):
            steps.scaffold(Request(experiment))
    assert {each.run for each in versions(experiment)} == {RUNS[0]}
    (first,) = versions(experiment)
    assert steps.scaffold(Request(experiment)).ok
    assert sorted(each.run for each in versions(experiment).elements()) == [*RUNS]
    assert versions(experiment)[first] == 1


def test_jobs_of_files_that_a_killed_scaffold_was_replacing_are_known_as_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = scaffolded_pair(tmp_path)
    submitted(experiment, RUNS[0])
    (experiment / RUNS[0] / "slurm-4712.out").write_text("training\n")
    more_epochs(experiment)
    job = slurm_jobs.Job("4712", "COMPLETED", str(experiment / RUNS[0]))
    monkeypatch.setattr(slurm_jobs, "queued", lambda *_: slurm_jobs.Queue({str(experiment / RUNS[0]): [job]}))

    def killed(_tree: Tree, _path: str, **_given: bool) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Tree, "remove", killed)
        with pytest.raises(Killed):
            steps.scaffold(Request(experiment, started="replace"))
    assert not list((experiment / RUNS[0]).glob("slurm-*.out"))
    result = steps.scaffold(Request(experiment, started="replace"))
    assert (result.ok, result.validation.started) == (True, ())
