"""What a scaffold reads again of its own and of scripts, damaged anywhere: each step ends, or refuses by name."""

import json
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fuzz_documents import mutated as changed_text
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline import state, steps
from scaffold_torchtune.request import Request
from support.damaged import flipped, mutated
from support.experiments import everything
from support.measuring import memory_at_most
from support.plan_files import with_its_id

SECONDS = 20.0
MEGABYTES = 300


def hostile_json(data: bytes, choose: random.Random) -> bytes:
    """JSON with another value somewhere, some bytes of which may be others."""
    changed = json.dumps(mutated(json.loads(data), choose)).encode()
    return flipped(changed, choose) if choose.random() < 0.3 else changed


def hostile_plan(data: bytes, choose: random.Random) -> bytes:
    """A plan whose id may fit what it holds."""
    content = mutated(json.loads(data), choose)
    if isinstance(content, dict) and choose.random() < 0.7:
        with suppress(ValueError):
            content = with_its_id(content)
    return json.dumps(content).encode()


def hostile_text(data: bytes, choose: random.Random) -> bytes:
    """A text that was edited without care, or of which some bytes are others."""
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
    """Do steps with that many damaged files in the place of one; return how many were refused or did not pass."""
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
    """Write what was changed as it was."""
    for path, data in files.items():
        file = experiment / path
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)


@pytest.fixture
def one(single: Path) -> Path:
    """One run, scaffolded."""
    assert steps.scaffold(Request(single)).ok
    return single


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [12, pytest.param(0, marks=pytest.mark.long)], ids=["few", "many"])
def test_a_damaged_file_is_refused_or_read(one: Path, name: str, count: int) -> None:
    with memory_at_most(MEGABYTES):
        refused = tried(one, name, 16 + count, count or int(os.environ.get("HOSTILE_FILES", "200")))
    assert refused or name in {"scaffold.log", ".scaffold/lock", ".scaffold/progress.json"}
    assert steps.scaffold(Request(one)).ok
