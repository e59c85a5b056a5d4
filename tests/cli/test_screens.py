"""The screens of a changing experiment at 80 and at 120 columns: golden files, without colour.

`make golden` generates them again.

"""

import io
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from rich.console import Console

from scaffold_torchtune.cli import printing, run_screens, screens
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models import Check, Readiness
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.pipeline.reporting import status
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ChangedRuns, Changes, PlanResult, SetupResult, StatusResult
from scaffold_torchtune.system.files import Tree
from support.experiments import RUNS, Clock, change, make_experiment, many_runs
from support.golden_files import golden
from support.job_outputs import bar, corpus
from support.sampling import mostly_long
from support.scaffolding import scaffold
from support.setup_scripts import GOOD, script
from support.stand_in_sbatch import StandIn
from support.wording import absent

SUMMARY = "experiment_summary.md"
WIDTHS = (80, 120)
DATA_PATH = "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
PLACE = "/scratch/lab/ada/week"
"""A placeholder for the directory of a test, whose path has the same length: lines then break in the same places."""

Screen = BaseModel | Refused


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="screens-", dir="/tmp"))
    assert len(str(folder)) == len(PLACE)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the free space and the SLURM of the machine."""
    monkeypatch.setattr(prepare, "free_bytes", lambda _directory: 10**15)
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SBATCH", "off")


def sweep(place: Path, name: str = "sweep") -> Path:
    """Return the example with outputs below the directory of the test."""
    experiment = make_experiment(place / name, replace={"/scratch/gpfs/LAB/ada/ck-outputs": str(place / "outputs")})
    (place / "outputs").mkdir(exist_ok=True)
    assert scaffold(experiment).ok
    return experiment


def train(experiment: Path, runs: dict[str, int]) -> None:
    """Write the files of jobs of some runs: their output, and checkpoints of this many epochs."""
    with Tree(experiment) as tree:
        planned = {run.directory: run for run in existing_plan(tree).runs}
    for job, (name, epochs) in enumerate(runs.items(), start=4711):
        (experiment / name / f"slurm-{job}.out").write_text("training\n")
        run = planned[name]
        for epoch in range(epochs):
            base = Path(run.text("output_dir_base"), run.text("experiment_name"), f"ck-out-{name}")
            (base / f"epoch_{epoch}").mkdir(parents=True)


def asked(step: Callable[[Request], BaseModel], experiment: Path, **given: object) -> Screen:
    """Return the result of a step, or its refusal."""
    try:
        return step(Request(experiment, now=Clock(), **given))  # type: ignore[arg-type]
    except Refused as refused:
        return refused


def more_epochs(experiment: Path) -> None:
    change(experiment / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 5")


def drop(experiment: Path, *runs: str) -> None:
    file = experiment / SUMMARY
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not any(f"_{run} |" in line for run in runs)))


def grid(place: Path, ranks: int, rates: int) -> Path:
    """Return an experiment of this many ranks and learning rates."""
    experiment = make_experiment(
        place / "grid", without=["- **Runs:**", "_rank16_", "_rank8_lr5e-5", "| LoRA Rank | 8", "| Learning Rate | 1e"]
    )
    (line,) = [line for line in (experiment / SUMMARY).read_text().splitlines(keepends=True) if "_rank8_lr1e-5" in line]
    pairs = itertools.product([2**power for power in range(ranks)], [f"{number}e-5" for number in range(1, rates + 1)])
    rows = [
        line.replace("rank8_lr1e-5", f"rank{rank}_lr{rate}").replace("| 8 | 1e-5 |", f"| {rank} | {rate} |")
        for rank, rate in pairs
    ]
    change(experiment / SUMMARY, line, "".join(rows))
    return experiment


def first(place: Path) -> Iterator[Screen]:
    """Plan and scaffold for the first time."""
    experiment = make_experiment(place / "sweep")
    yield asked(steps.plan, experiment)
    yield asked(steps.scaffold, experiment)


def unchanged(place: Path) -> Iterator[Screen]:
    """Change nothing after one run was trained."""
    experiment = sweep(place)
    train(experiment, {RUNS[0]: 2})
    yield asked(steps.plan, experiment)
    yield asked(steps.scaffold, experiment)
    yield asked(steps.scaffold, experiment)


def picture(place: Path) -> Iterator[Screen]:
    """Plan forty runs: 4 new, 3 trained that would change, 2 dropped."""
    experiment = many_runs(place, 38)
    local = experiment / "claude.local.md"
    for file in (local, experiment / SUMMARY):
        file.write_text(file.read_text().replace("/scratch/gpfs/LAB/ada/ck-outputs", str(place / "outputs")))
    (place / "outputs").mkdir()
    assert scaffold(experiment).ok
    train(experiment, dict.fromkeys(("lr1e-6", "lr2e-6", "lr3e-6"), 2))
    text = (experiment / SUMMARY).read_text()
    rows = [line for line in text.splitlines(keepends=True) if "_rank8_lr" in line]
    for row in rows[:3]:
        text = text.replace(row, row.replace("| 4 |", "| 8 |"))
    new = "".join(rows[0].replace("1e-6", f"{number}e-5") for number in (5, 6, 7, 8))
    (experiment / SUMMARY).write_text(text.replace("".join(rows[-2:]), new))
    yield asked(steps.plan, experiment)


def changed_before_start(place: Path) -> Iterator[Screen]:
    """Change a shared value before anything was submitted."""
    experiment = sweep(place)
    more_epochs(experiment)
    yield asked(steps.plan, experiment)
    yield asked(steps.scaffold, experiment)


def started_would_change(place: Path) -> Iterator[Screen]:
    """Change a shared value and the title after two runs were trained and one was submitted."""
    experiment = sweep(place)
    train(experiment, {RUNS[0]: 2, RUNS[1]: 2, RUNS[2]: 0})
    more_epochs(experiment)
    change(experiment / SUMMARY, "# cap_4L_lora_lr_sweep", "# second_title")
    yield asked(steps.plan, experiment)
    yield asked(steps.scaffold, experiment)


def kept(place: Path) -> Iterator[Screen]:
    """Make the same change and keep the started runs."""
    experiment = sweep(place)
    train(experiment, {RUNS[0]: 2, RUNS[1]: 2})
    more_epochs(experiment)
    yield asked(steps.plan, experiment, started="keep")
    yield asked(steps.scaffold, experiment, started="keep")
    yield asked(steps.validate, experiment)


def dropped(place: Path) -> Iterator[Screen]:
    """Remove rows of runs in different states."""
    experiment = sweep(place)
    train(experiment, {RUNS[0]: 2, RUNS[1]: 0})
    drop(experiment, *RUNS[:3])
    yield asked(steps.plan, experiment)
    yield asked(steps.scaffold, experiment)


def replaced(place: Path) -> Iterator[Screen]:
    """Replace started runs, which is refused while their results exist."""
    experiment = sweep(place)
    train(experiment, {RUNS[0]: 2, RUNS[1]: 0})
    more_epochs(experiment)
    yield asked(steps.plan, experiment, started="replace")
    yield asked(steps.scaffold, experiment, started="replace")
    (place / "outputs").rename(place / "earlier")
    (place / "outputs").mkdir()
    yield asked(steps.scaffold, experiment, started="replace")


def taken_outputs(place: Path) -> Iterator[Screen]:
    """Copy an experiment whose output directories contain results of the original."""
    experiment = sweep(place)
    train(experiment, {RUNS[0]: 2})
    copied = place / "copied"
    shutil.copytree(experiment, copied, ignore=shutil.ignore_patterns(".scaffold", "rank*", "scaffold.log"))
    change(copied / SUMMARY, f"- Experiment: `{experiment}`", f"- Experiment: `{copied}`")
    yield asked(steps.plan, copied)


def nothing_to_submit(place: Path) -> Iterator[Screen]:
    """Validate after every run was started."""
    experiment = sweep(place)
    train(experiment, dict.fromkeys(RUNS, 2))
    yield asked(steps.scaffold, experiment)
    yield asked(steps.validate, experiment)


def failed_setup(place: Path) -> Iterator[Screen]:
    """Let an external script fail for one run of four."""
    body = """\
        if run == "rank8_lr5e-5":
            sys.exit("KeyError: 'tokenizer'")
        sys.exit(main([]))
        """
    file = script(place, body, start=GOOD)
    experiment = make_experiment(place / "sweep")
    yield asked(steps.scaffold, experiment, setup_script=str(file), activate=False)
    again = asked(steps.setup, experiment, setup_script=str(file), activate=False)
    assert isinstance(again, SetupResult)
    yield again.model_copy(update={"runs": tuple(run.model_copy(update={"seconds": 0.25}) for run in again.runs)})


def failed_validation(place: Path) -> Iterator[Screen]:
    """Edit finetune.yaml of two of 36 runs."""
    experiment = grid(place, 6, 6)
    assert scaffold(experiment).ok
    for name, rank in (("rank2_lr2e-5", 2), ("rank16_lr4e-5", 16)):
        change(experiment / name / "finetune.yaml", f"lora_rank: {rank}", "lora_rank: 9")
    yield asked(steps.validate, experiment)


def refused_by_sbatch(place: Path) -> Iterator[Screen]:
    """Validate eight runs with an account that SLURM does not know."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in = StandIn(place / "bin", patch)
        stand_in.says(1, "sbatch: error: invalid account or account/partition combination specified")
        yield asked(steps.scaffold, grid(place, 2, 4))


def refused(place: Path) -> Iterator[Screen]:
    """Refuse for one problem, for a dozen of several kinds, and for the same one in 36 rows."""
    yield asked(steps.plan, make_experiment(place / "one", without=["- **Epochs:**"]))
    several = {"| 8 | 5e-5 | 4 |": "| 8 | 5x-5 | four |", "| 16 | 1e-5 |": "| 0 | -1 |", "0:59:00": "tomorrow"}
    lines = ["- **Epochs:**", "conda environment", "Default project"]
    yield asked(steps.plan, make_experiment(place / "several", replace=several, without=lines))
    many = grid(place, 6, 6)
    summary = many / SUMMARY
    summary.write_text(summary.read_text().replace("| 4 | Fine-tuned", "| four | Fine-tuned"))
    yield asked(steps.plan, many)


def outdated(place: Path) -> Iterator[Screen]:
    """Change the account and the epochs, add a row and remove one, and validate without planning."""
    experiment = sweep(place)
    change(experiment / "claude.local.md", "- **Account**: `lab`", "- **Account**: `polisci`")
    more_epochs(experiment)
    model = "Llama-3.2-1B-Instruct"
    change(experiment / SUMMARY, f"rank16_lr5e-5 | {model} | 16 |", f"rank32 | {model} | 32 |")
    yield asked(steps.validate, experiment)
    yield asked(steps.setup, experiment)


def many(place: Path) -> Iterator[Screen]:
    """Plan two hundred runs, then scaffold them."""
    experiment = grid(place, 10, 20)
    yield asked(steps.plan, experiment)
    yield asked(steps.scaffold, experiment)


def wrong_columns(place: Path) -> Iterator[Screen]:
    """Use a data set that lacks the columns that are read."""
    experiment = make_experiment(place / "sweep", replace={DATA_PATH: "EXPERIMENT/data/words.json"})
    rows = [{"tweet": "a b", "label": "c"}] * 240
    (experiment / "data" / "words.json").write_text(json.dumps({"train": rows, "validation": rows, "test": rows}))
    yield asked(steps.plan, experiment)


def machine(_place: Path) -> Iterator[Screen]:
    """Run doctor on a machine with a problem and a warning."""
    fix = (
        "look for the module with `module avail anaconda3`, or activate the environment yourself and add --no-activate"
    )
    checks = [
        Check(name="Python", state="ok", found="scaffold-torchtune 0.1.0 on Python 3.11.7"),
        Check(name="environment", state="problem", found="claude.local.md:27: no module 'anaconda3/2025.6'", fix=fix),
        Check(name="experiment", state="ok", found="/scratch/lab/ada/week/sweep, 67.9 GB free"),
        Check(name="sbatch", state="warning", found="no sbatch on PATH", fix="scaffold on a login node"),
    ]
    yield Readiness(ready=False, checks=tuple(checks))


class Slurm:
    """Set the answers of SLURM: lines of squeue and sacct, `ID|STATE|ELAPSED|LIMIT|REASON or STATUS|DIRECTORY`."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch) -> None:
        self._bin = place / "bin"
        self._bin.mkdir()
        patch.setenv("PATH", f"{self._bin}{os.pathsep}{os.environ['PATH']}")
        patch.delenv("SCAFFOLD_TORCHTUNE_SBATCH")

    def says(self, *, squeue: str = "", sacct: str = "", status: int = 0) -> None:
        for name, text in {"squeue": squeue, "sacct": sacct}.items():
            file = self._bin / name
            file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
            file.chmod(0o755)


TEXTS = {one.name: one.text.decode() for one in corpus()}
START = "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nepochs: 2\n\n"


def training(experiment: Path, run: str, job: str, steps: int, *, rest: str = "") -> None:
    """Write the output of a job after some steps of 60 an epoch, and the checkpoints of the finished epochs."""
    text = "".join(bar((n - 1) // 60 + 1, n, round(3 - n / 50, 3), per_epoch=60) for n in range(1, steps + 1))
    (experiment / run / f"slurm-{job}.out").write_text(f"{START}{text}{rest}", newline="")
    with Tree(experiment) as tree:
        (planned,) = (each for each in existing_plan(tree).runs if each.directory == run)
    base = Path(planned.text("output_dir_base"), planned.text("experiment_name"), f"ck-out-{run}")
    for epoch in range(steps // 60):
        (base / f"epoch_{epoch}").mkdir(parents=True)


def with_outputs(experiment: Path) -> Path:
    """Scaffold an experiment whose outputs are in the directory of the test."""
    local, outputs = experiment / "claude.local.md", experiment.parent / "outputs"
    for file in (local, experiment / SUMMARY):
        file.write_text(file.read_text().replace("/scratch/gpfs/LAB/ada/ck-outputs", str(outputs)))
    outputs.mkdir()
    assert scaffold(experiment).ok
    return experiment


def of_status(experiment: Path) -> StatusResult:
    return status(Request(experiment, now=Clock()))


def status_of_states(place: Path) -> Iterator[Screen]:
    """Show runs in each state, then a removed row and a changed document, then a SLURM that does not answer."""
    experiment = with_outputs(grid(place, 3, 2))
    yield of_status(experiment)
    training(experiment, "rank1_lr1e-5", "4711_0", 120)
    training(experiment, "rank1_lr2e-5", "4711_1", 75)
    training(experiment, "rank2_lr2e-5", "4711_3", 3, rest=TEXTS["gpu_memory_after_steps"])
    training(experiment, "rank4_lr1e-5", "4711_4", 31)
    with pytest.MonkeyPatch.context() as patch:
        slurm = Slurm(place, patch)
        slurm.says(
            squeue=f"4711_1|RUNNING|31:05|59:00|None|{experiment}\n4711_2|PENDING|0:00|59:00|Resources|{experiment}",
            sacct=f"4711_0|COMPLETED|50:11|59:00|0:0|{experiment}\n4711_3|FAILED|0:41|59:00|1:0|{experiment}\n"
            f"4711_4|TIMEOUT|59:13|59:00|0:0|{experiment}",
        )
        (experiment / "rank2_lr1e-5" / "slurm-4711_2.out").write_text("")
        yield of_status(experiment)
        drop(experiment, "rank1_lr1e-5", "rank1_lr2e-5")
        assert scaffold(experiment).ok
        more_epochs(experiment)
        yield of_status(experiment)
        slurm.says(status=1)
        yield of_status(experiment)


def status_of_many(place: Path) -> Iterator[Screen]:
    """Show 48 runs: some are finished, some train, some wait, and three failed for the same reason."""
    experiment = with_outputs(grid(place, 6, 8))
    names = [run.directory for run in of_status(experiment).runs]
    queue = [f"4711_{task}|RUNNING|31:05|59:00|None|{experiment}" for task in range(20, 24)]
    queue += [f"4711_{task}|PENDING|0:00|59:00|JobArrayTaskLimit|{experiment}" for task in range(24, 40)]
    ends = [f"4711_{task}|{'FAILED' if task in {3, 4, 9} else 'COMPLETED'}|50:11|59:00|1:0|{experiment}"
            for task in range(20)]  # fmt: skip
    for task, name in enumerate(names[:40]):
        oom = TEXTS["gpu_memory_after_steps"] if task in {3, 4, 9} else ""
        training(experiment, name, f"4711_{task}", 3 if oom else 120 if task < 20 else 75 if task < 24 else 0, rest=oom)
    with pytest.MonkeyPatch.context() as patch:
        Slurm(place, patch).says(squeue="\n".join(queue), sacct="\n".join(ends))
        yield of_status(experiment)


def status_of_long_names(place: Path) -> Iterator[Screen]:
    """Show runs whose names leave no room for their columns."""
    models = {"| Llama-3.2-1B-Instruct | 16 |": "| Llama-3.2-3B-Instruct | 16 |"}
    experiment = make_experiment(place / "sweep", replace=models)
    with_outputs(experiment)
    for task, run in enumerate(of_status(experiment).runs):
        training(experiment, run.directory, f"4711_{task}", 40 * task)
    with pytest.MonkeyPatch.context() as patch:
        lines = [f"4711_0|PENDING|0:00|2:00:00|JobArrayTaskLimit|{experiment}"]
        lines += [f"4711_{task}|RUNNING|1:00:30|2:00:00|None|{experiment}" for task in (1, 2)]
        Slurm(place, patch).says(squeue="\n".join(lines), sacct=f"4711_3|COMPLETED|1:50:00|2:00:00|0:0|{experiment}")
        yield of_status(experiment)


STORIES = (
    first, unchanged, picture, changed_before_start, started_would_change, kept, dropped, replaced, taken_outputs,
    nothing_to_submit, failed_setup, failed_validation, refused_by_sbatch, refused, outdated, many, wrong_columns,
    machine, status_of_states, status_of_many, status_of_long_names,
)  # fmt: skip


def printed(of: Screen, width: int, command: str) -> str:
    out = Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system=None,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )
    view = printing.View(words=tuple(command.split()[1:]), documents=("sweep",))
    if isinstance(of, Refused):
        screens.refusal(out, of, view)
    elif isinstance(of, StatusResult):
        run_screens.show_status(out, of, view)
    else:
        screens.result(out, of, view)
    assert isinstance(out.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in out.file.getvalue().splitlines())


@pytest.mark.parametrize(
    "story",
    mostly_long(STORIES, first, unchanged, kept, failed_validation, refused, machine, status_of_states),
    ids=lambda story: story.__name__,
)
def test_a_screen_matches_its_golden_file(story: Callable[[Path], Iterator[Screen]], place: Path) -> None:
    made: dict[str, str] = {}
    for number, screen in enumerate(story(place), start=1):
        for width in WIDTHS:
            text = printed(screen, width, "scaffold-torchtune scaffold sweep").replace(str(place), PLACE)
            made[f"{story.__name__}_{number}_of_{width}.txt"] = text
    there = golden("screens", made)
    assert made == {name: text for name, text in there.items() if name.rpartition("_of_")[0][:-2] == story.__name__}


@pytest.mark.parametrize("width", [60, *WIDTHS])
def test_defaults_are_listed_by_subject_and_pairs_are_not_broken(width: int, place: Path) -> None:
    (plan, _) = first(place)
    assert isinstance(plan, PlanResult)
    added = plan.model_copy(update={"warnings": (), "defaults": {
        "of_a_script": "x" * 30, **plan.defaults, "another": 3,
    }})  # fmt: skip
    lines = printed(added, width, "").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("defaults"))
    block = list(itertools.takewhile(lambda line: re.match(r" {2,4}\w", line), lines[start + 1 :]))
    assert max(map(len, block)) <= width
    subjects = [line.partition(":")[0].strip() for line in block if re.match(r"  \w[\w ]*:", line)]
    assert subjects == ["experiment", "data", "adapter and optimizer", "training", "other"]
    pairs = {f"{name} {printing.value(value)}" for name, value in added.defaults.items()}
    listed = {pair.strip() for line in block for pair in re.sub(r"^  [\w ]+:", "", line).split(", ")}
    assert {pair.rstrip(",") for pair in listed if pair} == pairs
    few = plan.model_copy(update={"defaults": {"seed": 14}})
    assert "defaults that nobody chose: seed 14" in printed(few, width, "").splitlines()


def test_no_single_group_of_changed_runs_is_skipped(place: Path) -> None:
    of = steps.plan(Request(make_experiment(place / "sweep")))
    for count in (4, 5, 6):
        groups = tuple(ChangedRuns(what="new", count=1, runs=(f"run{number}",)) for number in range(count))
        changed = of.model_copy(update={"changes": Changes(told="", groups=groups)})
        text = printed(changed, 80, "plan")
        assert absent(text, *(f"run{number}" for number in range(count if count < 6 else 4))) == []
        assert ("groups" in text) == (count == 6)


@pytest.mark.long
def test_a_plan_of_forty_runs_fits_a_terminal_and_shows_the_important_facts(place: Path) -> None:
    (plan,) = picture(place)
    for width in WIDTHS:
        lines = printed(plan, width, "scaffold-torchtune scaffold sweep").splitlines()
        assert len(lines) < 24
        assert max(map(len, lines)) <= width
        words = " ".join(lines).split()
        assert " ".join(words).startswith(
            "40 runs: 4 new, 33 unchanged, 3 would change though already trained, 2 no longer in the table"
        )
        for told in (
            "lr1e-6",
            "lr8e-5_bs4",
            "lr3.7e-5",
            "exists;",
            "--started",
            "[overridden]",
            "scaffold-torchtune",
        ):
            assert any(told in word for word in words), told
        assert "lr4e-6" not in words


@pytest.mark.long
@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_no_name_is_broken_on_any_terminal_width(width: int, place: Path) -> None:
    (plan,) = picture(place)
    words = printed(plan, width, "scaffold-torchtune scaffold sweep").split()
    assert str(place / "outputs/cap_4L_lora_lr_sweep/ck-out-lr1e-6"), words
    assert {"lr1e-6", "(experiment_summary.md:21"} <= {word.strip(",") for word in words}
    for screen in first(place):
        words = printed(screen, width, "").split()
        assert {*RUNS} <= {word.strip(",:") for word in words}
