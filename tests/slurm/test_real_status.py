"""`status` with a real Slurm: jobs that wait, run, fail, exceed their time limit, are cancelled, and finish."""

from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.reporting import status
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import RunStatus
from support.experiments import many_runs
from support.job_outputs import bar
from support.needs import SLURM
from support.one_node_slurm import Slurm
from support.waiting import wait_until

pytestmark = [*SLURM, pytest.mark.timeout(400)]

START = "Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nepochs: 2\n\n"


@pytest.fixture
def sweep(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return seven scaffolded runs, with SLURM's programs on PATH."""
    experiment = many_runs(tmp_path, 7)
    for name in ("experiment_summary.md", "claude.local.md"):
        file = experiment / name
        file.write_text(file.read_text().replace("/scratch/gpfs/LAB/ada/ck-outputs", str(tmp_path / "outputs")))
    assert steps.scaffold(Request(experiment, sbatch=False)).ok
    (tmp_path / "outputs").mkdir()
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH", raising=False)
    return experiment


def submit(slurm: Slurm, run: Path, command: str, *options: str) -> str:
    """Submit a job that prints the first steps of a training in a run's directory, then runs a command."""
    (run / "printed").write_text(START + bar(1, 1, 2.5) + bar(1, 2, 2.25), newline="")
    script = f"cat printed\n{command}"
    done = slurm.call(
        "sbatch", "--parsable", "--mem=100", "--output=slurm-%j.out", *options, f"--chdir={run}", f"--wrap={script}"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def of(sweep: Path, run: Path) -> RunStatus:
    return next(each for each in status(Request(sweep)).runs if each.directory == run.name)


def test_every_end_of_a_job_is_shown_with_its_cause_and_other_jobs_are_unaffected(slurm: Slurm, sweep: Path) -> None:
    runs = [sweep / run.directory for run in status(Request(sweep)).runs]
    waits, works, fails, late, cancelled, good, rest = runs
    late_job = submit(slurm, late, "sleep 1000", "--time=1")
    waiting_job = submit(slurm, waits, "true", "--hold")
    submit(slurm, works, "sleep 1000", "--time=59")
    submit(slurm, fails, "echo odd; exit 3")
    cancelled_job = submit(slurm, cancelled, "sleep 1000")
    saved = sweep.parent / "outputs" / "cap_4L_lora_lr_sweep" / f"ck-out-{good.name}"
    good_job = submit(slurm, good, f"mkdir -p {saved}/epoch_0 {saved}/epoch_1")
    assert slurm.state(good_job) == "COMPLETED"

    wait_until(lambda: of(sweep, works).state == "running" and of(sweep, works).step == 2)
    running = of(sweep, works)
    assert (running.job_state, running.limit, running.steps, running.cause) == ("RUNNING", 59 * 60, 200, None)
    assert running.elapsed is not None
    assert of(sweep, waits).job_state == "PENDING (JobHeldUser)"
    assert (of(sweep, waits).state, of(sweep, waits).job, of(sweep, waits).step) == ("submitted", waiting_job, None)

    wait_until(lambda: of(sweep, fails).state == "failed")
    failed = of(sweep, fails).cause
    assert failed is not None
    assert failed.code == "job-failed"
    assert failed.message.endswith("odd'")

    wait_until(lambda: (cancelled / f"slurm-{cancelled_job}.out").exists() and of(sweep, cancelled).step == 2)
    slurm.call("scancel", cancelled_job)
    assert slurm.state(cancelled_job) == "CANCELLED"
    wait_until(lambda: "CANCELLED" in (cancelled / f"slurm-{cancelled_job}.out").read_text())
    stopped = of(sweep, cancelled).cause
    assert stopped is not None
    assert stopped.code == "job-cancelled"

    assert (of(sweep, good).state, of(sweep, good).epochs_done, of(sweep, good).cause) == ("finished", 2, None)

    assert slurm.state(late_job) == "TIMEOUT"
    wait_until(lambda: "TIME LIMIT" in (late / f"slurm-{late_job}.out").read_text())
    over = of(sweep, late)
    assert over.cause is not None
    assert (over.state, over.limit, over.cause.code) == ("failed", 60, "job-time-limit")
    assert "TIME LIMIT" in over.cause.message
    assert over.elapsed is not None
    assert over.elapsed >= 60
    assert "`Time limit`" in over.cause.fix

    assert [of(sweep, run).state for run in (waits, works, rest)] == ["submitted", "running", "scaffolded"]
    assert status(Request(sweep)).counts == {"scaffolded": 1, "submitted": 1, "running": 1, "finished": 1, "failed": 3}
    assert status(Request(sweep)).not_asked == ()
