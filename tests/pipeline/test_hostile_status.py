"""Damage the output of jobs anywhere: `status` shows the readable parts, and nothing breaks a result or a terminal."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from scaffold_torchtune.job_causes import JobEnd, Requested, cause, not_well, symptom, unexplained
from scaffold_torchtune.job_output import read_output
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.reporting import status
from scaffold_torchtune.request import Request
from scaffold_torchtune.results import reply
from scaffold_torchtune.system.layout import RUN_FILES
from support.hostile_outputs import JOB_OUTPUTS, fill
from support.job_outputs import corpus, hostile_output
from support.measuring import memory_at_most

pytestmark = pytest.mark.long

SECONDS = 10.0
STATES = ("", "FAILED", "TIMEOUT", "COMPLETED", "OUT_OF_MEMORY", "RUNNING")


@pytest.mark.parametrize("count", [300, pytest.param(0, marks=pytest.mark.long)], ids=["few", "many"])
def test_any_output_is_read_quickly_and_shown_as_plain_text(count: int) -> None:
    choose, causes, steps_seen = random.Random(18 + count), 0, 0  # noqa: S311 - it must be the same each time
    texts = [one.text for one in corpus()]
    asked = Requested("/e", "run", "run/slurm-1.out", batch_size=4, lr=1e-4, memory="24G", time=3540)
    number = count or int(os.environ.get("HOSTILE_FILES", "1000"))
    with memory_at_most(300):
        for turn in range(number):
            data = hostile_output(texts, choose)
            middle = choose.randrange(len(data) + 1)
            parts = [(0, data)] if turn % 2 else [(0, data[:middle]), (middle, data[middle:])]
            began = time.process_time()
            output = read_output(parts)
            job = JobEnd("1", choose.choice(STATES), choose.choice(("", "1:0", "x")), choose.choice((None, 0, 60)))
            seen = symptom(output, job.state)
            found = [not_well(job, asked, output, 0), unexplained(job, asked, output)]
            found += [cause(seen, job, asked, output)] if seen else []
            for one in filter(None, found):
                assert one.message.isprintable(), (turn, one.message)
                assert one.fix.isprintable(), (turn, one.fix)
                assert len(one.model_dump_json()) < 3_000
            assert len(output.losses) <= 60
            assert time.process_time() - began < SECONDS, turn
            causes += seen is not None
            steps_seen += output.last is not None
    assert min(causes, steps_seen) > number // 4


@pytest.mark.parametrize("count", [60, pytest.param(0, marks=pytest.mark.long)], ids=["few", "many"])
def test_the_status_is_shown_for_any_content_of_a_run_directory(single: Path, count: int) -> None:
    assert steps.scaffold(Request(single)).ok
    (run,) = [run.directory for run in status(Request(single)).runs]
    choose, number = random.Random(19 + count), count or int(os.environ.get("HOSTILE_FILES", "1000")) // 10  # noqa: S311
    texts = [one.text for one in corpus()]
    folder, states = single / run, set()
    with memory_at_most(300):
        for _ in range(number):
            for left in {*folder.iterdir()} - {folder / name for name in RUN_FILES}:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            fill(folder, JOB_OUTPUTS, choose)
            if not (folder / "slurm-4712.out").exists() and choose.random() < 0.7:
                (folder / "slurm-4712.out").write_bytes(hostile_output(texts, choose))
            began = time.process_time()
            result = status(Request(single))
            assert reply.of_result(result, reply.Call("status"))["summary"].isprintable()
            assert len(result.model_dump_json()) < 12_000
            states.add(result.runs[0].state)
            assert time.process_time() - began < SECONDS
    assert {"scaffolded", "submitted", "failed"} <= states
