"""Scripts that remove the lock while they run: it is acquired again, unless another scaffold holds it by then."""

import json
import os
import socket
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from support.experiments import actions
from support.sampling import spread
from support.setup_scripts import MAKE, THREE, scaffold, script

TAKEN = {
    "the lock": "pathlib.Path(EXPERIMENT, '.scaffold', 'lock').unlink()\n",
    "the state": "import shutil\nshutil.rmtree(pathlib.Path(EXPERIMENT, '.scaffold'))\n",
}
# The result of the last run's script: whether another process could acquire the lock.
LOOK = """\
import fcntl
def is_held():
    try:
        with open(pathlib.Path(EXPERIMENT, ".scaffold", "lock"), "r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "no"
    except BlockingIOError:
        return "yes"
    except FileNotFoundError:
        return "gone"
"""


@pytest.mark.long
@pytest.mark.parametrize("what", spread(TAKEN, every=2))
def test_a_lock_removed_by_a_script_is_acquired_again(three: Path, tmp_path: Path, what: str) -> None:
    seen = tmp_path / "seen"
    act = "".join(f"    {line}\n" for line in TAKEN[what].splitlines())
    look = f"if run == {THREE[2]!r}:\n    pathlib.Path({str(seen)!r}).write_text(is_held())\n"
    body = (
        f"EXPERIMENT = {str(three)!r}\n{LOOK}if run == {THREE[0]!r}:\n    main([])\n{act}    sys.exit(0)\n{look}{MAKE}"
    )
    result = scaffold(three, script(tmp_path / "tool", body), jobs=1)
    # the pool may have started the second one before the first is checked: the third starts after that
    assert seen.read_text() == "yes"
    assert [run.directory for run in result.setup.runs if not run.ok] == ([THREE[0]] if what == "the state" else [])
    assert not (three / ".scaffold" / "lock").exists()
    assert scaffold(three, script(tmp_path / "tool", MAKE)).ok


@pytest.mark.long
def test_nothing_more_is_written_once_another_scaffold_holds_the_lock(three: Path, tmp_path: Path) -> None:
    other = json.dumps({"pid": os.getppid(), "host": socket.gethostname()}) + "\n"
    lock = f"pathlib.Path({str(three)!r}, '.scaffold', 'lock')"
    body = f"if run == {THREE[1]!r}:\n    {lock}.unlink()\n    {lock}.write_text({other!r})\n{MAKE}"
    file = script(tmp_path / "tool", body)
    assert main(["scaffold", str(three), "--setup-script", str(file), "--jobs", "1"]) == 1
    assert (three / ".scaffold" / "lock").read_text() == other, "another's is left alone"
    assert not (three / THREE[2] / "finetune.slurm").exists()
    assert actions(three)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    (three / ".scaffold" / "lock").unlink()
    assert scaffold(three, script(tmp_path / "tool", MAKE)).ok


def test_an_undisturbed_lock_stays_the_same(three: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    lock = three / ".scaffold" / "lock"
    body = f"with open({str(seen)!r}, 'a') as file:\n    print(os.stat({str(lock)!r}).st_ino, file=file)\n"
    result = scaffold(three, script(tmp_path / "tool", body + MAKE), jobs=1)
    assert result.ok
    assert len(set(seen.read_text().split())) == 1
