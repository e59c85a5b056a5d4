"""`status`: how each run is doing, by its files, its job's output and SLURM; nothing is written."""

from pathlib import Path

from scaffold_torchtune.pipeline.status import status
from scaffold_torchtune.request import Request
from support.experiments import RUNS, everything
from support.scaffolding import refusal


def test_runs_are_listed_in_the_plans_order_with_their_states(done: Path) -> None:
    (done / RUNS[2] / "slurm-4711.out").write_text("")
    before = everything(done)
    result = status(Request(done, sbatch=False))
    assert [run.directory for run in result.runs] == [*RUNS]
    assert [run.state for run in result.runs] == ["scaffolded", "scaffolded", "submitted", "scaffolded"]
    assert result.counts == {"scaffolded": 3, "submitted": 1}
    assert result.not_asked
    assert everything(done) == before


def test_an_experiment_that_was_not_scaffolded_has_no_status(tmp_path: Path) -> None:
    assert {problem.code for problem in refusal(status, tmp_path).problems} == {"not-rendered"}
