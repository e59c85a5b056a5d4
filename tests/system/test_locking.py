"""The lock of an experiment: a dead owner blocks nobody, and two living processes never hold it at once."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.system import locking
from scaffold_torchtune.system.files import Tree
from scaffold_torchtune.system.locking import Leftover, Maker
from support.forked import forked
from support.sampling import mostly_long
from support.waiting import PATIENCE

# The kernel releases such locks of a dead process in the order of descriptors, those of flock last.
LOCKF: Final = fcntl.lockf
HOLD: Final = """\
import os, socket, sys, time
from pathlib import Path
from scaffold_torchtune.system import locking
from scaffold_torchtune.system.files import Tree
{before}
with Tree(Path(sys.argv[1])) as tree, tree.locked():
    print("held", flush=True)
    sys.stdin.read()
"""
ELSEWHERE: Final = "socket.gethostname = lambda: 'another.host'\nlocking._boot = lambda: 'another boot'"


def lock_of(tree: Tree) -> Path:
    return tree.root / ".scaffold" / "lock"


def codes(tree: Tree) -> list[str]:
    """Take and release the lock; return the codes of the refusal, or an empty list if it was taken."""
    try:
        with tree.locked():
            assert json.loads(lock_of(tree).read_text())["pid"] == os.getpid()
    except Refused as refused:
        return [problem.code for problem in refused.problems]
    assert not lock_of(tree).exists()
    assert not tree.names(".scaffold/staging")
    return []


@contextlib.contextmanager
def holding(tree: Tree, before: str = "") -> Iterator["subprocess.Popen[str]"]:
    """Start another process that holds the lock."""
    command = [sys.executable, "-c", HOLD.format(before=before), str(tree.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def record(**changed: Any) -> str:
    """Return the record of a lock that this process could have created on this machine."""
    maker = vars(locking._ourselves(is_locked=True))  # noqa: SLF001 - the original record, to be changed
    return json.dumps({**maker, **changed}) + "\n"


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


# --- locks of dead owners ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\0" * 4096, b"12", b"12\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b"a\nb\n", b"0\nhost\n", b"{" * 9999,
     b"9" * 5000 + b"\nhost\n", b'{"pid": "1", "host": "a"}\n', b'{"pid": -1, "host": "a"}\n', b"x" * 1_000_000],
)  # fmt: skip
def test_an_empty_or_damaged_lock_has_no_owner(tree: Tree, content: bytes) -> None:
    lock_of(tree).write_bytes(content)
    assert tree.look_at_lock() == Leftover(None)
    assert codes(tree) == []


def test_a_truncated_lock_has_no_owner(tree: Tree) -> None:
    whole = record(pid=1, host="another.host", boot="another").encode()
    for length in range(len(whole)):
        lock_of(tree).write_bytes(whole[:length])
        assert codes(tree) == [], whole[:length]


@pytest.mark.parametrize("before", ["", ELSEWHERE], ids=["here", "another machine"])
def test_a_lock_is_held_as_long_as_its_owner_lives(tree: Tree, before: str) -> None:
    with holding(tree, before) as process:
        assert codes(tree) == ["busy"]
        found = tree.look_at_lock()
        assert isinstance(found, Maker)
        assert (found.pid, found.host) == (process.pid, "another.host" if before else socket.gethostname())
        process.kill()
        process.wait()
        assert lock_of(tree).exists()
        assert isinstance(tree.look_at_lock(), Leftover)
        assert lock_of(tree).exists(), "looking changes nothing"
        assert codes(tree) == []


def test_if_locks_may_not_be_shared_an_owner_on_another_machine_is_assumed_alive(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_are_shared", lambda _state: False)
    monkeypatch.setattr(locking, "_SETTLE", 0.05)
    with holding(tree, ELSEWHERE) as process:
        process.kill()
        process.wait()
        with pytest.raises(Refused) as caught, tree.locked():
            pass
        (problem,) = caught.value.problems
        assert problem.code == "busy"
        assert f"{process.pid}" in problem.message
        assert "another.host" in problem.message
        assert ".scaffold/lock" in problem.fix
    lock_of(tree).unlink()
    with holding(tree) as process:  # on this machine its death is certain
        process.kill()
        process.wait()
        assert codes(tree) == []
    lock_of(tree).touch()  # a damaged lock has no owner on any machine
    assert codes(tree) == []


def test_a_process_with_the_pid_of_a_dead_owner_does_not_hold_the_lock(tree: Tree) -> None:
    for pid in (os.getpid(), os.getppid(), 1):
        lock_of(tree).write_text(record(pid=pid))
        assert codes(tree) == []
        lock_of(tree).write_text(record(pid=pid, boot="an earlier start of this machine", is_locked=False))
        assert codes(tree) == []
        lock_of(tree).write_text(record(pid=pid, started="1", is_locked=False))
        assert codes(tree) == ([] if pid != 1 or locking._started(1) != "1" else ["busy"])  # noqa: SLF001


def test_a_lock_of_an_earlier_version_depends_on_its_process(tree: Tree) -> None:
    host = socket.gethostname()
    lock_of(tree).write_text(f"{dead_process()}\n{host}\n")
    assert codes(tree) == []
    for content in (
        f"{os.getppid()}\n{host}\n",
        f"{os.getppid()}\n{host}\n12345\n",
        f"{dead_process()}\nanother.host\n",
    ):
        lock_of(tree).write_text(content)
        assert codes(tree) == ["busy"]
        assert lock_of(tree).read_text() == content


def test_releasing_a_lock_does_not_remove_one_that_replaced_it(tree: Tree) -> None:
    with tree.locked():  # a user may remove it when the fix suggests so
        lock_of(tree).unlink()
        with Tree(tree.root) as another, another.locked():
            theirs = lock_of(tree).read_text()
        lock_of(tree).write_text(theirs)
    assert lock_of(tree).read_text() == theirs, "another's is left alone"


def test_only_one_thread_of_a_process_holds_the_lock(tree: Tree) -> None:
    found: list[list[str]] = []
    with tree.locked():
        for _ in range(3):  # closing a file releases the locks of its process
            thread = threading.Thread(target=lambda: found.append(codes(tree)))
            thread.start()
            thread.join()
            found.append([] if isinstance(tree.look_at_lock(), Maker) else ["free"])
        with holding_refused(tree) as code:
            assert code == "busy"
    assert found == [["busy"], []] * 3


@contextlib.contextmanager
def holding_refused(tree: Tree) -> Iterator[str]:
    """Yield the code of the refusal of another process."""
    program = "import sys\nfrom pathlib import Path\nfrom scaffold_torchtune.findings import Refused\n"
    program += "from scaffold_torchtune.system.files import Tree\n"
    program += "try:\n    with Tree(Path(sys.argv[1])) as tree, tree.locked():\n        pass\n"
    program += "except Refused as refused:\n    print(*(problem.code for problem in refused.problems))\n"
    done = subprocess.run([sys.executable, "-c", program, tree.root], capture_output=True, text=True, check=True)
    yield done.stdout.strip()


# --- file systems -----------------------------------------------------------------------------------------------------


def failing(code: int) -> Callable[..., Any]:
    def fail(*_args: Any, **_given: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture(
    params=[
        "as it is",
        "no kernel locks",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("no hard links", "neither")),
    ]
)
def lacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide a file system that lacks a feature."""
    lack: str = request.param
    if lack in {"no kernel locks", "neither"}:
        monkeypatch.setattr(fcntl, "lockf", failing(errno.ENOLCK))
    if lack in {"no hard links", "neither"}:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    if lack != "as it is":
        monkeypatch.setattr(locking, "_SETTLE", 0.3)
    return lack


LACKS: Final = {
    "as it is": "",
    "no kernel locks": "import fcntl\ndef none(*_): raise OSError(37, '')\nfcntl.lockf = none",
}


def test_the_lock_works_without_the_missing_feature(tree: Tree, lacking: str) -> None:
    assert codes(tree) == []
    lock_of(tree).touch()
    assert codes(tree) == []
    before = LACKS["no kernel locks" if lacking in {"no kernel locks", "neither"} else "as it is"]
    with holding(tree, before) as process:
        assert codes(tree) == ["busy"]
        process.kill()
        process.wait()
        assert codes(tree) == []


@pytest.mark.long
@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.long)])
def test_only_one_of_eight_processes_holds_the_lock_even_if_some_are_killed(
    tree: Tree, tmp_path: Path, lacking: str, times: int
) -> None:
    wins, witness = tmp_path / "wins", tmp_path / "witness"
    witness.touch()
    wanted = (10 if lacking == "as it is" else 4) * times
    running: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while not wins.exists() or wins.read_text().count("\n") < wanted:
        assert time.monotonic() < deadline
        while len(running) < 8:
            running.add(forked(lambda: compete(tree.root, wins, witness)))
        pid, status = os.wait()  # of any child: one that is not waited for keeps its number
        if pid not in running:  # of an earlier test
            continue
        running.discard(pid)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # an unreaped process keeps its number, and may seem to hold the lock
    assert "two" not in wins.read_text()
    assert wins.read_text().count("killed\n") >= wanted / 4
    assert codes(tree) == []


def test_a_lock_that_was_replaced_in_the_meantime_is_read_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = locking._lock, itertools.count(1)  # noqa: SLF001 - the moment between two calls
    with contextlib.ExitStack() as others:

        def lock(descriptor: int, *, is_alone: bool = True) -> bool:
            if next(calls) == 2:  # the empty lock is already open
                lock_of(tree).unlink()
                others.enter_context(holding(tree))
            return original(descriptor, is_alone=is_alone)

        lock_of(tree).touch()
        monkeypatch.setattr(locking, "_lock", lock)
        assert codes(tree) == ["busy"]


def test_without_kernel_locks_the_last_process_to_replace_a_dead_lock_holds_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        assert seconds == locking._SETTLE  # noqa: SLF001
        lock_of(tree).rename(tree.root / "ours")
        lock_of(tree).write_text(record(pid=os.getppid(), is_locked=False, started=""))

    monkeypatch.setattr(fcntl, "lockf", failing(errno.ENOLCK))
    monkeypatch.setattr(locking, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    lock_of(tree).touch()
    assert codes(tree) == ["busy"]
    assert json.loads(lock_of(tree).read_text())["pid"] == os.getppid(), "another's is left alone"


def compete(root: Path, wins: Path, witness: Path) -> None:
    """Take the lock once, then be killed or release it; record any second holder."""
    chance = random.Random(os.getpid())  # noqa: S311
    with Tree(root) as tree, witness.open("r+") as alone:
        for _ in range(2000):
            with contextlib.suppress(Refused), tree.locked():
                with wins.open("a+") as file:
                    file.seek(0)
                    is_killed = file.read().count("\n") % 2 == 0
                    try:
                        LOCKF(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        file.write("killed\n" if is_killed else "given back\n")
                    except OSError:
                        file.write("two\n")
                time.sleep(0.003)
                if is_killed:
                    os.kill(os.getpid(), signal.SIGKILL)
                LOCKF(alone, fcntl.LOCK_UN)
                return
            time.sleep(0.02 * chance.random())


MOUNTS: Final = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /scratch rw - nfs4 server:/scratch rw,vers=4.2,hard,local_lock=none,addr=10.0.0.1
31 22 0:41 / /old rw - nfs server:/old rw,vers=3,nolock,local_lock=all,addr=10.0.0.1
32 22 0:42 / /scratch/gpfs rw - gpfs gpfs rw
33 22 0:43 / /lustre rw - lustre 10.0.0.1@tcp:/lustre rw,flock,lazystatfs
34 22 0:44 / /lustre/local rw - lustre 10.0.0.1@tcp:/l rw,localflock,lazystatfs
35 22 0:45 / /lustre/none rw - lustre 10.0.0.1@tcp:/n rw,lazystatfs
36 22 0:46 / /mnt/with\\040space rw - fuse.sshfs me@host: rw,user_id=0
37 22 0:47 / /again rw - ext4 /dev/vdb rw
38 22 0:48 / /again rw - 9p host rw,trans=virtio
"""


@pytest.mark.parametrize(
    ("path", "shares"),
    [("/home/me/.scaffold", True), ("/scratch/me", True), ("/scratch", True), ("/scratchy", True), ("/old/me", False),
     ("/scratch/gpfs/me", True), ("/lustre/me", True), ("/lustre/local/me", False), ("/lustre/none/me", False),
     ("/mnt/with space/me", False), ("/again/me", False)],
)  # fmt: skip
def test_the_mount_shows_if_locks_are_shared_with_other_machines(path: str, *, shares: bool) -> None:
    assert locking.shares_locks(path, MOUNTS) == shares


# --- each call --------------------------------------------------------------------------------------------------------


class Calls:
    """A replacement of `os` and `fcntl` in the lock's module that acts at the call with a given number."""

    def __init__(self, number: int, act: Callable[[], Any]) -> None:
        self.made: list[str] = []
        self.number, self.act = number, act

    def wrapped(self, module: Any) -> SimpleNamespace:
        plain = {name: getattr(module, name) for name in dir(module)}
        calls = ("open", "close", "link", "unlink", "rename", "stat", "fstat", "write", "fsync", "pread", "lockf")
        return SimpleNamespace(**plain | {name: self._call(name, plain[name]) for name in calls if name in plain})

    def _call(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **given: Any) -> Any:
            self.made.append(name)
            if len(self.made) == self.number:
                self.act()
            return original(*args, **given)

        return call


@contextlib.contextmanager
def at_call(number: int, act: Callable[[], Any]) -> Iterator[Calls]:
    calls = Calls(number, act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locking, "os", calls.wrapped(os))
        patch.setattr(locking, "fcntl", calls.wrapped(fcntl))
        yield calls


@pytest.mark.parametrize("left", ["nothing", "an empty lock", "a dead one's"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EINTR])
def test_an_error_at_any_call_is_a_refusal_or_blocks_nobody(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, left: str, code: int
) -> None:
    monkeypatch.setattr(locking, "_SETTLE", 0.05)
    refused = worked = 0
    found: set[str] = set()
    for number in itertools.count(1):
        leave(tree, left)
        is_done = False
        with at_call(number, failing(code)) as calls:
            try:
                with tree.locked():
                    is_done = True
            except Refused as error:
                assert not is_done, "after the work nothing is refused"
                found |= {problem.code for problem in error.problems}
                refused += 1
            else:
                worked += 1
        if len(calls.made) < number:
            break
        assert codes(tree) == [], (number, calls.made)
    assert number > 10
    assert found <= {"write-failed", "busy"}
    assert refused > 5
    assert worked > 2


@pytest.mark.long
@pytest.mark.parametrize("left", mostly_long(["nothing", "an empty lock", "a dead one's"], "a dead one's"))
def test_a_kill_at_any_call_blocks_nobody_and_leaves_no_partial_record(tree: Tree, left: str) -> None:
    for number in itertools.count(1):
        leave(tree, left)
        before = lock_of(tree).read_bytes() if left != "nothing" else None

        def work(number: int = number) -> None:
            with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL)), tree.locked():
                pass

        status = os.waitpid(forked(work), 0)[1]
        if not os.WIFSIGNALED(status):
            break
        there = lock_of(tree).read_bytes() if lock_of(tree).exists() else None
        assert there == before or there is None or json.loads(there)["is_locked"], number
        assert codes(tree) == [], number
    assert number > 10


def leave(tree: Tree, left: str) -> None:
    lock_of(tree).unlink(missing_ok=True)
    if left == "an empty lock":
        lock_of(tree).touch()
    elif left == "a dead one's":
        lock_of(tree).write_text(record(pid=1))


def test_the_record_is_on_disk_before_it_has_its_name(tree: Tree) -> None:
    with at_call(0, lambda: None) as calls, tree.locked():
        pass
    assert [name for name in calls.made if name in {"lockf", "write", "fsync", "link", "unlink"}][:4] == [
        "lockf", "write", "fsync", "link",
    ]  # fmt: skip
