import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.system import files
from scaffold_torchtune.system.files import Tree, sha256
from support.experiments import everything
from support.wording import absent


def code(action: Callable[..., Any], *args: Any) -> str:
    """Return the code of a refusal."""
    with pytest.raises(Refused) as caught:
        action(*args)
    (problem,) = caught.value.problems
    assert problem.fix
    return problem.code


def fix(action: Callable[..., Any], *args: Any) -> str:
    """Return the fix of a refusal."""
    with pytest.raises(Refused) as caught:
        action(*args)
    return caught.value.problems[0].fix


def failing(error: int) -> Callable[..., Any]:
    def fail(*_args: Any, **_given: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return fail


def test_the_fix_of_an_error_fits_its_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.write("a", b"one")
    fixes: dict[tuple[str, int], str] = {}
    for error in (errno.EACCES, errno.ENOENT, errno.EROFS, errno.ENOSPC, errno.EFBIG, errno.EIO):
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", failing(error))
            patch.setattr(os, "mkdir", failing(error))
            fixes["list", error] = fix(tree.names)
            fixes["write", error] = fix(tree.make_directory, "run")
    permission = {what for what, each in fixes.items() if not absent(each, "permission")}
    assert permission == {("list", errno.EACCES), ("write", errno.EACCES)}
    for action in ("list", "write"):
        assert len({each for (name, _), each in fixes.items() if name == action}) == 6


def test_written_content_is_read_back(tree: Tree) -> None:
    tree.write("a.txt", b"one")
    tree.write("a.txt", b"two")
    assert tree.read("a.txt") == b"two"
    assert tree.size("a.txt") == 3
    assert sha256(b"two") == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    assert tree.names() == [".scaffold", "a.txt"]


def test_a_missing_path_is_none_or_empty(tree: Tree) -> None:
    assert tree.kind("a") is None
    assert tree.kind("a/b") is None
    assert tree.read("a/b") is None
    assert tree.size("a") == 0
    assert tree.names("a") == []
    tree.remove("a")


def test_a_directory_is_created_once(tree: Tree) -> None:
    assert tree.make_directory("run")
    assert not tree.make_directory("run")
    assert tree.kind("run") == "directory"
    assert code(tree.make_directory, "no/parent") == "write-failed"


@pytest.mark.parametrize("path", ["../x", "a/../x", ".", "..", "", "/x", "a//x", "./x", "a/"])
def test_a_path_cannot_leave_the_experiment(tree: Tree, path: str) -> None:
    before = everything(tree.root.parent)
    for action in (tree.kind, tree.read, tree.size, tree.remove, tree.make_directory, tree.clear):
        assert code(action, path) == "unsafe-path"
    assert code(tree.write, path, b"x") == "unsafe-path"
    assert code(tree.append, path, b"x") == "unsafe-path"
    assert everything(tree.root.parent) == before


def test_links_are_not_followed_and_their_targets_not_changed(tree: Tree, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("mine")
    (tree.root / "link").symlink_to(target)
    (tree.root / "file").symlink_to(target / "file")
    (tree.root / "dangling").symlink_to(target / "nothing")
    before = everything(target)
    for path in ("link/file", "file", "dangling"):
        assert code(tree.read, path) == "unsafe-path"
        assert code(tree.write, path, b"x") == "unsafe-path"
        assert code(tree.append, path, b"x") == "unsafe-path"
    assert code(tree.make_directory, "link") == "unsafe-path"
    assert code(tree.make_directory, "link/run") == "unsafe-path"
    assert code(tree.remove, "link/file") == "unsafe-path"
    assert code(tree.names, "link") == "unsafe-path"
    assert everything(target) == before
    assert tree.kind("link") == "other"


def test_a_fifo_does_not_block(tree: Tree) -> None:
    os.mkfifo(tree.root / "fifo")
    assert tree.kind("fifo") == "other"
    assert code(tree.read, "fifo") == "unsafe-path"
    assert code(tree.write, "fifo", b"x") == "unsafe-path"
    assert code(tree.append, "fifo", b"x") == "unsafe-path"


def test_a_directory_is_not_a_file(tree: Tree) -> None:
    tree.make_directory("run")
    assert code(tree.read, "run") == "unsafe-path"
    assert code(tree.write, "run", b"x") == "unsafe-path"
    assert code(tree.append, "run", b"x") == "unsafe-path"
    assert code(tree.remove, "run") == "unsafe-path"


def test_a_fifo_swapped_in_before_the_log_is_opened_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tree.root / "log")
    monkeypatch.setattr(tree, "kind", lambda _path: "file")
    assert code(tree.append, "log", b"x") == "unsafe-path"
    assert code(tree.read, "log") == "unsafe-path"


def test_a_huge_file_is_not_read(tree: Tree) -> None:
    with (tree.root / "huge").open("wb") as stream:
        stream.truncate(files.MAX_READ + 1)
    assert code(tree.read, "huge") == "unreadable-file"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_an_error_of_the_file_system_is_reported_and_leaves_nothing(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    tree.write("a", b"old")
    for name in ("rename", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing(error))
            assert code(tree.write, "a", b"new") == "write-failed"
        assert not tree.names(".scaffold/staging")
    assert tree.size("a") == 3
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", failing(error))
        assert code(tree.make_directory, "run") == "write-failed"
        patch.setattr(os, "unlink", failing(error))
        assert code(tree.remove, "a") == "write-failed"
        patch.setattr(os, "listdir", failing(error))
        assert code(tree.names) == "unreadable-file"
    assert tree.read("a") == b"old"


def test_an_unreadable_file_is_reported(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.write("a", b"x")
    original = os.open

    def opened(path: str, *args: Any, **given: Any) -> int:
        if path == "a":
            failing(errno.EACCES)()
        return original(path, *args, **given)

    monkeypatch.setattr(os, "open", opened)
    assert code(tree.read, "a") == "unreadable-file"


def test_an_entry_is_appended_completely_or_not_at_all(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.append("log", b"one\n")
    tree.append("log", b"two\n")
    assert tree.read("log") == b"one\ntwo\n"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(signal, "SIGXFSZ", signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # the file may grow by only two more bytes
    try:
        assert code(tree.append, "log", b"three\n") == "write-failed"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tree.read("log") == b"one\ntwo\n"


def test_a_missing_directory_cannot_be_opened(tmp_path: Path) -> None:
    assert code(Tree, tmp_path / "nothing") == "unreadable-file"
    (tmp_path / "file").touch()
    assert code(Tree, tmp_path / "file") == "unsafe-path"


def test_no_descriptor_is_left_open(tree: Tree) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    os.mkfifo(tree.root / "fifo")
    before = opened()
    for _ in range(3):
        tree.write("a", b"x")
        tree.read("a")
        tree.append("log", b"x")
        tree.names()
        for action, path in ((tree.read, "fifo"), (tree.read, "a/b/c"), (tree.make_directory, "x/y/z")):
            with pytest.raises(Refused):
                action(path)
        with tree.locked():
            pass
    assert opened() == before


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_the_lock_has_only_one_holder(tree: Tree) -> None:
    with tree.locked():
        assert code(tree.locked().__enter__) == "busy"
        program = "import sys\nfrom pathlib import Path\nfrom scaffold_torchtune.findings import Refused\n"
        program += "from scaffold_torchtune.system.files import Tree\n"
        program += "try:\n    with Tree(Path(sys.argv[1])) as tree, tree.locked():\n        pass\n"
        program += "except Refused as refused:\n    print(*(problem.code for problem in refused.problems))\n"
        done = subprocess.run([sys.executable, "-c", program, tree.root], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "busy\n"), done.stderr
    with tree.locked():
        pass


def test_the_lock_is_released_after_a_failure(tree: Tree) -> None:
    with pytest.raises(ZeroDivisionError), tree.locked():
        raise ZeroDivisionError
    assert not (tree.root / ".scaffold" / "lock").exists()


def test_a_lock_that_cannot_be_created_is_refused(tree: Tree) -> None:
    shutil.rmtree(tree.root / ".scaffold")
    (tree.root / ".scaffold").touch()
    assert code(tree.locked().__enter__) == "unsafe-path"


def test_a_link_as_the_lock_is_not_followed(tree: Tree, tmp_path: Path) -> None:
    (tree.root / ".scaffold" / "lock").symlink_to(tmp_path / "target")
    assert code(tree.locked().__enter__) == "unsafe-path"
    assert not (tmp_path / "target").exists()


def test_leftovers_in_staging_are_removed_without_following_links(tree: Tree, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    left = tree.root / ".scaffold" / "staging" / "run" / "deep"
    left.mkdir(parents=True)
    (left / "link").symlink_to(mine)
    (left / "file").write_text("x")
    os.mkfifo(left / "fifo")
    with tree.locked():
        assert not tree.names(".scaffold/staging")
    assert (mine / "file").read_text() == "mine"


def test_a_leftover_of_any_depth_and_mode_is_removed(tree: Tree) -> None:
    top = tree.root / ".scaffold" / "staging" / "run"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("end", os.O_CREAT, dir_fd=here))
    os.close(here)
    (top / "d" / "d").chmod(0o500)
    (top / "d").chmod(0)
    tree.clear(".scaffold/staging/run")
    assert not tree.names(".scaffold/staging")


def test_a_temporary_directory_is_removed_with_any_content() -> None:
    with files.temporary_directory() as made:
        here = made
        for _ in range(100):
            here = here / "d"
            here.mkdir()
        (here / "link").symlink_to("/")
        (made / "d").chmod(0)
    assert not made.parent.exists()
