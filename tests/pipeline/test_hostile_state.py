"""Damage state files and outputs of scripts anywhere: each step ends, or is refused and names the file."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from fuzz_documents import mutated as changed_text
from scaffold_torchtune.external_checks import slurm_jobs
from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import Plan, RunChange
from scaffold_torchtune.pipeline import state, steps
from scaffold_torchtune.pipeline.changes import decisions, refuse_started, taken_outputs
from scaffold_torchtune.pipeline.prepare import preflight_findings
from scaffold_torchtune.pipeline.run_states import states_of
from scaffold_torchtune.request import Request
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.system.layout import RUN_FILES
from scaffold_torchtune.validate import arrivals
from scaffold_torchtune.validate.run_files import RunFiles
from support.damaged import flipped, mutated
from support.experiments import everything, make_experiment
from support.hostile_outputs import JOB_OUTPUTS, fill, output_directory
from support.measuring import memory_at_most
from support.permissions import held_to_modes
from support.plan_files import with_its_id

pytestmark = pytest.mark.long

RESUME = "resume_from_checkpoint"
SECONDS = 20.0
MEGABYTES = 300


def hostile_json(data: bytes, choose: random.Random) -> bytes:
    """Return JSON with one different value, in which some bytes may differ too."""
    changed = json.dumps(mutated(json.loads(data), choose)).encode()
    return flipped(changed, choose) if choose.random() < 0.3 else changed


def hostile_plan(data: bytes, choose: random.Random) -> bytes:
    """Return a plan whose id may match its content."""
    content = mutated(json.loads(data), choose)
    if isinstance(content, dict) and choose.random() < 0.7:
        with suppress(ValueError):
            content = with_its_id(content)
    return json.dumps(content).encode()


def hostile_text(data: bytes, choose: random.Random) -> bytes:
    """Return a carelessly edited text, or one in which some bytes differ."""
    if choose.random() < 0.3:
        return flipped(data, choose)
    return changed_text(data.decode(), choose).encode("utf-8", "surrogatepass")


FILES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".scaffold/plan.json": hostile_plan,
    ".scaffold/progress.json": hostile_json,
    ".scaffold/runs/Llama-3.2-1B-Instruct_rank8_lr1e-5.json": hostile_json,
    ".scaffold/lock": hostile_text,
    "Llama-3.2-1B-Instruct_rank8_lr1e-5/finetune.yaml": hostile_text,
    "Llama-3.2-1B-Instruct_rank8_lr1e-5/finetune.slurm": hostile_text,
    "Llama-3.2-1B-Instruct_rank8_lr1e-5/setup_finetune.yaml": hostile_text,
    "scaffold.log": hostile_text,
}


def tried(experiment: Path, name: str, seed: int, count: int) -> int:
    """Run steps with this many damaged versions of a file; return how many were refused or did not pass."""
    choose, refused = random.Random(seed), 0  # noqa: S311 - no secret
    files: dict[str, bytes] = {}
    for path, (_, _, _, content) in everything(experiment).items():
        if isinstance(content, bytes) and content:
            files[path] = content
    whole = files.get(name, b'{"pid": 1, "host": "elsewhere"}\n')
    for number in range(count):
        put_back(experiment, files)
        (experiment / name).write_bytes(FILES[name](whole, choose))
        began, passed = time.process_time(), False
        with suppress(Refused):
            passed = steps.validate(Request(experiment)).passed
        if number % 10 == 0:
            with suppress(Refused):
                steps.scaffold(Request(experiment)).model_dump_json()
        if number % 10 == 5:
            with suppress(Refused):
                state.log_text(Request(experiment))
        assert time.process_time() - began < SECONDS, (seed, number)
        refused += not passed
    put_back(experiment, files)
    (experiment / ".scaffold" / "lock").unlink(missing_ok=True)
    return refused


def put_back(experiment: Path, files: dict[str, bytes]) -> None:
    """Restore the changed files."""
    for path, data in files.items():
        file = experiment / path
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)


@pytest.fixture
def one(single: Path) -> Path:
    """Return a scaffolded experiment with one run."""
    assert steps.scaffold(Request(single)).ok
    return single


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [12, pytest.param(0, marks=pytest.mark.long)], ids=["few", "many"])
def test_a_damaged_file_is_refused_or_read(one: Path, name: str, count: int) -> None:
    with memory_at_most(MEGABYTES):
        refused = tried(one, name, 16 + count, count or int(os.environ.get("HOSTILE_FILES", "80")))
    assert refused or name in {"scaffold.log", ".scaffold/lock", ".scaffold/progress.json"}
    assert steps.scaffold(Request(one)).ok


def told(findings: Iterable[Finding]) -> int:
    """Count the findings; each is short, on one line, and fits in a result."""
    count = 0
    for found in findings:
        texts = (found.message, found.fix, found.file or "", found.field or "")
        assert all(text.isprintable() for text in texts), texts
        assert len(found.model_dump_json()) < 5_000, found
        count += 1
    return count


def outputs_looked_at(experiment: Path, resuming: Plan, seed: int, count: int) -> tuple[int, int, int]:
    """Examine this many hostile output and run directories of a run; return the number of each kind of finding."""
    choose, taken, other, started = random.Random(seed), 0, 0, 0  # noqa: S311 - no secret
    (run,) = resuming.runs
    files = {run.directory: RunFiles({"finetune.yaml": (experiment / run.directory / "finetune.yaml").read_text()})}
    whole = (experiment / run.directory / "finetune.yaml").read_bytes()
    folder = Path(arrivals.output_dir(run) or "")
    plain = run.model_copy(update={"settings": {k: s for k, s in run.settings.items() if k != RESUME}})
    new = [RunChange(directory=run.directory, kind="new")]
    for number in range(count):
        output_directory(folder, whole, choose)
        beside = experiment / run.directory
        for left in {*beside.iterdir()} - {beside / name for name in RUN_FILES}:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        fill(beside, JOB_OUTPUTS, choose)
        began = time.process_time()
        taken += told(taken_outputs([plain], new))
        other += told(f for f in preflight_findings(resuming, files) if f.code == "other-state")
        with Tree(experiment) as tree:
            (found,) = states_of(tree, [run], Request(experiment)).values()
        assert len(found.model_dump_json()) < 12_000
        assert found.told.isprintable(), found.told
        change = RunChange(directory=run.directory, kind="changed", state=found)
        for said in (None, "replace"):
            try:
                refuse_started(resuming, [change], decisions(Request(experiment, started=said), [run.directory]))
            except Refused as refused:
                told(refused.problems)
        started += found.started
        assert time.process_time() - began < SECONDS, (seed, number)
    return taken, other, started


@pytest.fixture
def resuming(tmp_path: Path) -> tuple[Path, Plan]:
    """Return a scaffolded run that resumes, and its plan."""
    replace = {
        "/scratch/gpfs/LAB/ada": str(tmp_path),
        "- **GPUs:** 1": "- **GPUs:** 1\n- **Resume from checkpoint:** yes",
    }
    without = ["- **Runs:**", "_rank16_", "_rank8_lr5e-5"]
    experiment = make_experiment(tmp_path / "sweep", replace=replace, without=without)
    assert steps.scaffold(Request(experiment)).ok
    with Tree(experiment) as tree:
        return experiment, state.existing_plan(tree)


@pytest.mark.parametrize("count", [150, pytest.param(0, marks=pytest.mark.long)], ids=["few", "many"])
def test_hostile_output_directories_are_reported_or_skipped(resuming: tuple[Path, Plan], count: int) -> None:
    with memory_at_most(MEGABYTES):
        number = count or int(os.environ.get("HOSTILE_FILES", "700"))
        found = outputs_looked_at(*resuming, 17 + count, number)
    assert min(found) > number // 10


def test_an_unlistable_output_directory_counts_as_results(resuming: tuple[Path, Plan]) -> None:
    experiment, plan = resuming
    (run,) = plan.runs
    folder = Path(arrivals.output_dir(run) or "")
    folder.mkdir(parents=True)
    folder.chmod(0)
    try:
        with held_to_modes(), Tree(experiment) as tree:
            (found,) = states_of(tree, [run], Request(experiment)).values()
        assert (found.started, len(found.results)) == (True, 1)
        folder.chmod(0o700)
        folder.parent.chmod(0)
        with held_to_modes(), Tree(experiment) as tree:
            (found,) = states_of(tree, [run], Request(experiment)).values()
        assert not found.started, "where nothing can be seen, nothing is"
    finally:
        folder.parent.chmod(0o700)
        folder.chmod(0o700)


def test_results_of_a_training_are_found_among_very_many_files(
    resuming: tuple[Path, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, plan = resuming
    (run,) = plan.runs
    folder = Path(arrivals.output_dir(run) or "")
    folder.mkdir(parents=True)
    for number in range(12_000):
        os.mknod(folder / f"events-{number}")
    (folder / "epoch_1").mkdir()
    for number in range(3_000):
        os.mknod(experiment / run.directory / f"slurm-{number}.out")
    asked: set[str] = set()

    def ended(_root: Path, ids: Iterable[str], *_: object) -> slurm_jobs.Queue:
        asked.update(ids)
        return slurm_jobs.Queue({})

    monkeypatch.setattr(slurm_jobs, "ended", ended)
    with Tree(experiment) as tree:
        (found,) = states_of(tree, [run], Request(experiment)).values()
    assert asked == {str(number) for number in range(2_980, 3_000)}, "of very many jobs the last ones"
    assert (found.state, found.results) == ("finished", ("epoch_1",))
    assert len(found.told) < 1_000
