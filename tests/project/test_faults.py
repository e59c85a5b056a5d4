"""Run a sample of the fault campaign, and check that the campaign detects violations."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

import faults
from scaffold_torchtune.system.files import Tree
from support import system_calls
from support.disturbed import SCENARIOS, Ground
from support.forked_command import Forked, command, in_fork
from support.sampling import EVERY
from support.system_calls import Point

pytestmark = pytest.mark.long  # the campaign, and the proof that it detects violations

has_strace = pytest.mark.skipif(bool(system_calls.lacks()), reason=system_calls.lacks() or "-")


@has_strace
def test_a_sample_of_the_campaign(capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    campaign = faults.run([], sample=3 if EVERY else 1, seed=1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert campaign.wrong == []
    tried = {name: row["tried"] for name, row in campaign.rows.items()}
    assert set(tried) >= {each.name for each in SCENARIOS} | {"hostile values", "protocol frames"}
    assert min(tried.values()) >= 1
    assert max(campaign.most.values()) < 300
    assert capfd.readouterr().out.count(" tried ") == len(tried)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 120  # 45, plus the time for coverage


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path / "ground", SCENARIOS[0])


def torn(tree: Tree, path: str, data: bytes, *, durable: bool = True) -> None:
    """Write a file in place, in two halves."""
    assert durable in {True, False}
    with (tree.root / path).open("wb", buffering=0) as file:
        file.write(data[: len(data) // 2])
        file.write(data[len(data) // 2 :])


@has_strace
def test_a_file_written_in_place_is_detected(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTS", str(ground.directory))
    monkeypatch.setattr(Tree, "write", torn)
    monkeypatch.setattr(faults, "ground", lambda _name: ground)
    _, trials, wrong = faults.points(ground.scenario.name)
    assert wrong == []
    kills = [trial for trial in trials if trial.what[1] == faults.KILL and trial.what[0].name == "write"]
    assert any("neither" in each for trial in kills[:12] for each in faults.disturbed(trial).wrong)


@has_strace
def test_a_fault_occurs_at_its_point_and_nowhere_else(ground: Ground) -> None:
    for point, fault, status in ((Point("mkdirat", 1), faults.KILL, -9), (Point("fsync", 3), "error=EIO", 2)):
        found = faults.Trial(ground.scenario.name, (point, fault))
        ground.restore()
        process = Forked(command(*ground.line), ground.streams)
        tracer = system_calls.attached(process.thread, ground.directory / "trace", (point, fault))
        process.release()
        assert process.wait().status in {status, 1}, found
        tracer.communicate()
        calls = [call.point for call in system_calls.calls(ground.directory / "trace")]
        assert point in calls
        if fault == faults.KILL:
            assert calls[-1] == point


def write_beside(ground: Ground) -> int:
    (ground.place / "another" / "file").write_text("changed")
    return 0


def leave_a_traceback(ground: Ground) -> int:
    raise ValueError(str(ground))


def take_much_memory(_ground: Ground) -> int:
    return len(os.urandom(400_000_000)) * 0


SEEN: dict[str, tuple[Callable[[Ground], int], str]] = {
    "outside": (write_beside, "outside"),
    "a traceback": (leave_a_traceback, "traceback"),
    "memory": (take_much_memory, "MB"),
}


@pytest.mark.parametrize("what", SEEN)
def test_violations_are_detected(ground: Ground, what: str) -> None:
    act, word = SEEN[what]
    assert not [*ground.wrong(ground.run())]
    assert any(word in each for each in ground.wrong(in_fork(lambda: act(ground), ground.streams)))


def test_a_mixture_of_two_generations_is_detected(tmp_path: Path) -> None:
    ground = Ground(tmp_path / "changed", SCENARIOS[1])
    ground.restore()
    path = "lr1e-5/finetune.yaml"
    (ground.experiment / path).write_bytes(ground.wanted[path])
    assert any("mixture" in each for each in ground.torn())
    (ground.experiment / path).write_bytes(ground.wanted[path][:100])
    assert any("neither" in each for each in ground.torn())
