"""A thousand runs, half of them started, and changes of very many: correct, with bounded time, memory and output."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.state import existing_plan
from scaffold_torchtune.results.reply import Call, of_result
from scaffold_torchtune.results.step_results import ScaffoldResult
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.validate import arrivals
from support.disturbed import versions
from support.experiments import change, log, many_runs
from support.measuring import memory_at_most
from support.sampling import EVERY
from support.scaffolding import refusal, scaffold

pytestmark = pytest.mark.long

RUNS = 1_000 if EVERY else 120
MEGABYTES = 300
SECONDS = 0.2
"""Of processor time for each run, at most; `benchmarks/growth.py` compares scaffolds, on a quiet machine."""


def in_time(act: Callable[[], ScaffoldResult], runs: int = RUNS) -> ScaffoldResult:
    began = time.process_time()
    result = act()
    assert time.process_time() - began < SECONDS * runs
    return result


def outputs_here(folder: Path, runs: int) -> Path:
    """Return an experiment with this many runs and outputs below a directory of this test."""
    experiment = many_runs(folder, runs)
    for name in ("experiment_summary.md", "claude.local.md"):
        change(experiment / name, "/scratch/gpfs/LAB/ada/ck-outputs", str(folder / "outputs"))
    return experiment


def start(experiment: Path) -> list[str]:
    """Write the files of jobs for every second run: its output, its last epoch and its config."""
    with Tree(experiment) as tree:
        runs = existing_plan(tree).runs[::2]
    for number, run in enumerate(runs):
        (experiment / run.directory / f"slurm-{4_000 + number}.out").write_text("training\n")
        folder = Path(arrivals.output_dir(run) or "")
        (folder / "epoch_1").mkdir(parents=True)
        (folder / "torchtune_config.yaml").write_bytes((experiment / run.directory / "finetune.yaml").read_bytes())
    return [run.directory for run in runs]


def look(experiment: Path, runs: list[str]) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and time of each file of some runs."""
    found = {}
    for run in runs:
        for file in (experiment / run).iterdir():
            status = file.stat()
            found[f"{run}/{file.name}"] = status.st_ino, status.st_size, status.st_mtime_ns
    return found


def test_half_of_a_thousand_runs_were_started(tmp_path: Path) -> None:
    experiment = outputs_here(tmp_path, RUNS)
    with memory_at_most(MEGABYTES):
        assert scaffold(experiment).ok
        assert in_time(lambda: scaffold(experiment)).unchanged
        started = start(experiment)
        files = look(experiment, started)
        assert scaffold(experiment).ok  # logs the submit line of the others
        result = in_time(lambda: scaffold(experiment))
    assert (result.unchanged, result.validation.started) == (True, tuple(started))
    assert not {*result.submit.partition("for run in ")[2].partition(";")[0].split()} & {*started}
    change(experiment / "experiment_summary.md", "- **Epochs:** 2", "- **Epochs:** 5")
    with memory_at_most(MEGABYTES):
        refused = refusal(steps.scaffold, experiment)
        (problem,) = refused.problems
        assert (problem.code, "epochs 2 -> 5" in problem.message) == ("started-run", True)
        assert len(problem.model_dump_json()) < 2_000
        kept = in_time(lambda: scaffold(experiment, started="keep"))
    assert (kept.ok, kept.render.kept, kept.render.created) == (True, RUNS // 2, RUNS // 2)
    assert kept.validation.checked == RUNS
    assert len(json.dumps(of_result(kept, Call("scaffold")))) < 60_000
    assert look(experiment, started) == files
    assert {version.run for version in versions(experiment)}.isdisjoint(started)
    assert len(log(experiment)) < 60_000


def test_repeated_changes_of_runs_take_bounded_time(tmp_path: Path) -> None:
    runs = RUNS // 2
    experiment = outputs_here(tmp_path, runs)
    assert scaffold(experiment).ok
    for epochs in (3, 4, 5):
        change(experiment / "experiment_summary.md", f"- **Epochs:** {epochs - 1}", f"- **Epochs:** {epochs}")
        assert in_time(lambda: scaffold(experiment), runs).ok
    told = [version for version in versions(experiment) if version.reason.startswith("plan changed: epochs")]
    assert len(told) == 3 * runs
