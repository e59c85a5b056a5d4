"""Test that the log has every entry once after any kill, and that a removed log is written again."""

import contextlib
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import refuse
from scaffold_torchtune.pipeline import journal, steps
from scaffold_torchtune.request import Request, Stopped
from scaffold_torchtune.system.files import Tree
from support.command_line import answer
from support.experiments import ACTIONS, RUNS, actions, change, everything, log, outputs
from support.forked import was_killed
from support.sampling import spread
from support.scaffolding import codes, refusal, scaffold

pytestmark = pytest.mark.long


class Killed(BaseException):
    """Stand for a kill: no code handles it."""


def kill_in_log(patch: pytest.MonkeyPatch, number: int, moment: str) -> None:
    """Kill at the append of this number to the log: right before it, in the middle of it, or right after it."""
    append, count = Tree.append, [0]

    def killed(tree: Tree, path: str, data: bytes) -> None:
        count[0] += 1
        if count[0] != number:
            append(tree, path, data)
            return
        if moment != "before":
            append(tree, path, data if moment == "after" else data[: len(data) // 2])
        raise Killed

    patch.setattr(Tree, "append", killed)


@pytest.mark.parametrize(
    ("moment", "number", "then"),  # at the entries of render, of setup, and of validate
    spread(itertools.product(["before", "midway", "after"], [1, 2, 3], ["scaffold", "refused"]), every=5),
)
def test_after_a_kill_at_the_log_each_entry_is_there_once(
    experiment: Path, moment: str, number: int, then: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_in_log(patch, number, moment)
        with pytest.raises(Killed):
            scaffold(experiment)
    if then == "refused":  # a different entry follows
        text = (experiment / "experiment_summary.md").read_text()
        (experiment / "experiment_summary.md").unlink()
        refusal(steps.scaffold, experiment)
        (experiment / "experiment_summary.md").write_text(text)
    assert scaffold(experiment).ok
    found = [action for action in actions(experiment) if action != "SCAFFOLD_TORCHTUNE_REFUSED"]
    if moment == "midway" and then == "refused":  # the torn entries stay, whole ones follow
        whole = [action for action in dict.fromkeys(found) if action in ACTIONS]
        found = found[-len(ACTIONS) :] if number == 1 else whole
    assert found == ACTIONS
    assert log(experiment).count("Submit with:") == 1
    before = everything(experiment)
    assert scaffold(experiment).unchanged
    assert everything(experiment) == before


OF_PROGRESS = (6, 12, 14)
"""Of all renames in a first scaffold of one run, those of progress.json that follow the log entries."""

LAST = 14
"""The number of the last one."""


def renames(experiment: Path, killed_at: int = 0) -> list[str]:
    """Return the new names of all renames in a separate scaffold, which may be killed before one of them."""
    told = experiment.parent / "renames"

    def work() -> None:
        def hook(event: str, given: tuple[Any, ...]) -> None:
            if event == "os.rename":
                with told.open("a") as file:
                    file.write(f"{os.fspath(given[1])}\n")
                if told.read_text().count("\n") == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        scaffold(experiment)

    assert was_killed(work) == bool(killed_at)
    return [Path(name).name for name in told.read_text().splitlines()]


def test_progress_is_renamed_at_the_expected_points(single: Path) -> None:
    found = renames(single)
    assert {found[number - 1] for number in OF_PROGRESS} == {"progress.json"}
    assert len(found) == LAST


@pytest.mark.parametrize(
    "number",
    [
        number if number in OF_PROGRESS else pytest.param(number, marks=pytest.mark.long)
        for number in range(1, LAST + 1)
    ],
)
def test_after_a_kill_before_a_rename_each_entry_is_there_once(single: Path, number: int) -> None:
    assert len(renames(single, number)) == number
    assert scaffold(single).ok
    assert actions(single) == ACTIONS
    assert scaffold(single).unchanged


def test_a_removed_log_is_written_again(done: Path) -> None:
    made = outputs(done)
    (done / "scaffold.log").unlink()
    result = scaffold(done)
    assert result.ok
    assert not result.unchanged
    assert actions(done) == ACTIONS
    assert outputs(done) == made
    assert scaffold(done).unchanged


def test_an_emptied_log_is_written_again_by_single_steps(done: Path) -> None:
    (done / "scaffold.log").write_text("")
    steps.render(Request(done))
    steps.setup(Request(done))
    assert steps.validate(Request(done)).passed
    assert actions(done) == ACTIONS


def test_validate_alone_writes_its_verdict_into_a_new_log(done: Path) -> None:
    (done / "scaffold.log").unlink()
    assert steps.validate(Request(done)).passed
    assert actions(done) == ACTIONS[-2:]


def test_removed_progress_is_written_again_as_its_fix_states(done: Path) -> None:
    progress = done / ".scaffold" / "progress.json"
    progress.write_text("{")
    (refused,) = refusal(steps.scaffold, done).problems
    assert (refused.code, refused.file) == ("document-unreadable", ".scaffold/progress.json")
    progress.unlink()
    assert scaffold(done).ok
    change(done / "claude.local.md", "`cruijff`", "`other`")
    assert not steps.validate(Request(done)).passed
    assert actions(done)[-1] == "SCAFFOLD_TORCHTUNE_FAILED", "a later verdict is logged"


@pytest.mark.parametrize("size", [2**70, -1, 1.5])
def test_an_impossible_offset_is_refused(done: Path, size: float) -> None:
    progress = done / ".scaffold" / "progress.json"
    change(progress, '"size": 0', f'"size": {size}')
    change(progress, '"entries": ""', '"entries": "x"')
    assert codes(refusal(steps.scaffold, done)) == ["document-unreadable"]


# --- a disk that cannot be written


def no_more_writing(patch: pytest.MonkeyPatch, experiment: Path, number: int) -> None:
    """Make opening any file for writing fail, as on a full or a read-only disk."""
    opened = os.open

    def refused(path: str, flags: int, *args: int, **given: int) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and ("dir_fd" in given or str(experiment) in str(path)):
            raise OSError(number, os.strerror(number))
        return opened(path, flags, *args, **given)

    patch.setattr(os, "open", refused)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("passes", [True, False])
def test_the_verdict_is_returned_if_it_cannot_be_logged(
    experiment: Path, capsys: pytest.CaptureFixture[str], number: int, passes: bool
) -> None:
    steps.render(Request(experiment))
    steps.setup(Request(experiment))
    if not passes:
        change(experiment / RUNS[0] / "finetune.yaml", "epochs: 2", "epochs: 3")
    before = everything(experiment)
    with pytest.MonkeyPatch.context() as patch:
        no_more_writing(patch, experiment, number)
        result = steps.validate(Request(experiment))
        assert main(["validate", str(experiment), "--json"]) == (0 if passes else 1)
    assert result.passed == passes == bool(result.submit)
    assert result.logged == ()
    (unlogged,) = [each for each in result.findings if each.code == "verdict-unlogged"]
    assert unlogged.file == "scaffold.log"
    assert answer(capsys)["passed"] == passes
    assert everything(experiment) == before
    assert steps.validate(Request(experiment)).logged, "the next one is logged"


def test_a_scaffold_whose_last_entries_cannot_be_written_is_reported_as_stopped(experiment: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def full(step: str, done: int, total: int) -> None:
            if (step, done) == ("validate", total):
                no_more_writing(patch, experiment, errno.ENOSPC)

        refused = refusal(steps.scaffold, experiment, progress=full)
    assert isinstance(refused, Stopped)
    assert scaffold(experiment).ok
    assert actions(experiment) == ACTIONS


@pytest.mark.parametrize("options", ["ro", "size=1M"])
def test_validate_works_on_a_read_only_or_full_file_system(experiment: Path, tmp_path: Path, options: str) -> None:
    """Use a separate mount namespace, which unprivileged users can have in a user namespace."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not on this machine: Linux has it")
    steps.render(Request(experiment))
    steps.setup(Request(experiment))
    copy = tmp_path / "copy"
    shutil.copytree(experiment, copy)
    validate = f"{sys.executable} -m scaffold_torchtune validate {experiment} --json"
    lines = [f"mount -t tmpfs -o size=1M none {experiment}", f"cp -a {copy}/. {experiment}/"]
    fill = f"{{ cat /dev/zero >{experiment}/fill; true; }} 2>/dev/null"
    lines.append(f"mount -o remount,ro {experiment}" if options == "ro" else fill)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    as_root = [] if os.geteuid() == 0 else ["-r"]
    command = [unshare, "-m", *as_root, "sh", "-c", " && ".join([*lines, validate])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if not done.stdout.startswith("{"):
        assert "unshare" in done.stderr or "mount" in done.stderr, done.stderr
        pytest.skip(f"nobody may mount here, not even in a user namespace: {done.stderr}")
    told = json.loads(done.stdout)
    assert (done.returncode, told["passed"]) == (0, True)
    assert "verdict-unlogged" in {each["code"] for each in told["findings"]}


# --- stopped midway instead of refused, after something was written


def test_a_scaffold_refused_after_render_was_stopped_midway(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(step: str, done: int, total: int) -> None:
        if (step, done) == ("render", total):
            (experiment / "experiment_summary.md").write_text("# nothing\n")

    refused = refusal(steps.scaffold, experiment, progress=edit)
    assert isinstance(refused, Stopped)
    assert codes(refused) == ["plan-outdated"]
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    assert main(["scaffold", str(experiment)]) == 2
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_REFUSED", "now nothing was written"
    capsys.readouterr()


def test_busy_after_render_is_stopped_midway_and_busy_before_it_is_refused(experiment: Path) -> None:
    with contextlib.ExitStack() as stack:
        heads = journal.record_step

        def then_hold(*given: Any) -> Any:
            found = heads(*given)
            lock = stack.enter_context(pytest.MonkeyPatch.context())
            lock.setattr(Tree, "locked", busy)
            return found

        def busy(_tree: Tree) -> Any:
            raise refuse("busy", "another scaffold works on this experiment", file=".scaffold/lock", fix="wait")

        stack.enter_context(pytest.MonkeyPatch.context()).setattr(journal, "record_step", then_hold)
        refused = refusal(steps.scaffold, experiment)
    assert isinstance(refused, Stopped)
    assert codes(refused) == ["busy"]
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    assert scaffold(experiment).ok
