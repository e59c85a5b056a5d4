"""Test that a file edited during a scaffold is kept and reported."""

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import RUNS, actions, change, log, outputs
from support.sampling import spread
from support.scaffolding import codes, refusal
from support.setup_scripts import MAKE, THREE, failed, scaffold, script
from support.wording import absent

pytestmark = pytest.mark.long

MINE = "mine: true\n"


def kept(experiment: Path) -> dict[str, str]:
    """Return the text of each file in the backup, by its original path."""
    backups = [*(experiment / ".scaffold" / "backup").glob("*")]
    return {str(f.relative_to(b)): f.read_text() for b in backups for f in b.rglob("*") if f.is_file()}


def check_told(experiment: Path, found: tuple[Finding, ...], path: str) -> None:
    """Check that the warnings name the edited file and its copy, and that the log does too."""
    (warning,) = [each for each in found if each.code == "edit-kept"]
    (copy,) = (experiment / ".scaffold" / "backup").glob(f"*/{path}")
    manifest = json.loads(copy.parents[1].with_suffix(".json").read_text())
    (noted,) = [each for each in manifest["files"] if each["path"] == path]
    assert noted["copy"] == str(copy.relative_to(experiment))
    assert noted["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert warning.file == path
    assert absent(warning.message, copy.relative_to(experiment)) == []
    assert str(copy.relative_to(experiment)) in log(experiment)


def edit_at(moment: tuple[str, int], edit: Callable[[], object]) -> Callable[[str, int, int], None]:
    """Return a progress callback that edits something after this many runs of a step."""

    def progress(step: str, done: int, _total: int) -> None:
        if (step, done) == moment:
            edit()

    return progress


@pytest.mark.parametrize(
    ("name", "run", "is_new"),  # already published, or about to be
    spread(itertools.product(["finetune.yaml", "finetune.slurm"], [THREE[0], THREE[2]], [False, True]), every=5),
)
def test_an_edit_while_scripts_run_is_kept_and_reported(
    three: Path, tmp_path: Path, name: str, run: str, is_new: bool
) -> None:
    file = script(tmp_path, MAKE)
    if not is_new:
        assert scaffold(three, file).ok
    path = three / run / name
    result = scaffold(
        three, file, jobs=1, overwrite=not is_new, progress=edit_at(("setup", 1), lambda: path.write_text(MINE))
    )
    assert result.ok
    assert kept(three) == {f"{run}/{name}": MINE}
    check_told(three, result.setup.warnings, f"{run}/{name}")
    assert path.read_text() != MINE
    assert actions(three)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_an_edit_during_the_bundled_setup_is_kept_and_reported(experiment: Path) -> None:
    path = experiment / RUNS[3] / "finetune.yaml"
    result = steps.scaffold(Request(experiment, progress=edit_at(("setup", 1), lambda: path.write_text(MINE))))
    assert result.ok
    assert kept(experiment) == {f"{RUNS[3]}/finetune.yaml": MINE}
    check_told(experiment, result.setup.warnings, f"{RUNS[3]}/finetune.yaml")


@pytest.mark.parametrize("name", ["setup_finetune.yaml", "finetune.yaml", "finetune.slurm"])
def test_an_edit_while_render_writes_is_kept_and_reported(experiment: Path, name: str) -> None:
    assert steps.scaffold(Request(experiment)).ok
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    path = experiment / RUNS[3] / name
    result = steps.scaffold(Request(experiment, progress=edit_at(("render", 1), lambda: path.write_text(MINE))))
    assert result.ok
    assert kept(experiment) == {f"{RUNS[3]}/{name}": MINE}
    check_told(experiment, result.render.warnings, f"{RUNS[3]}/{name}")


def test_overwrite_replaces_the_earlier_edit_and_keeps_a_later_one(three: Path, tmp_path: Path) -> None:
    file = script(tmp_path, MAKE)
    assert scaffold(three, file).ok
    (three / THREE[2] / "finetune.yaml").write_text("let go")
    assert codes(refusal(steps.setup, three, setup_script=str(file))) == ["edited-output"]
    slurm = three / THREE[2] / "finetune.slurm"
    edit = edit_at(("setup", 1), lambda: slurm.write_text(MINE))
    assert scaffold(three, file, jobs=1, overwrite=True, progress=edit).ok
    assert kept(three) == {f"{THREE[2]}/finetune.slurm": MINE}


def test_two_edits_of_one_file_are_both_kept(three: Path, tmp_path: Path) -> None:
    path = three / THREE[1] / "finetune.yaml"

    def edit(step: str, done: int, _total: int) -> None:
        if step == "setup" and done in {1, 2}:
            path.write_text(f"{done}")

    assert scaffold(three, script(tmp_path, MAKE), jobs=1, progress=edit).ok
    assert sorted(kept(three).values()) == ["1", "2"]


def test_an_edit_in_a_run_that_fails_afterwards_is_kept(three: Path, tmp_path: Path) -> None:
    slurm = three / THREE[0] / "finetune.slurm"
    body = (
        f"if run == {THREE[0]!r}:\n    pathlib.Path({str(three)!r}, 'notes').write_text(str(time.time_ns()))\n" + MAKE
    )
    edit = edit_at(("setup", 1), lambda: slurm.write_text(MINE))
    (run,) = failed(scaffold(three, script(tmp_path, body), jobs=1, progress=edit))
    assert run.directory == THREE[0]
    assert not slurm.exists()
    assert MINE in kept(three).values()


def test_a_link_that_replaces_a_published_file_is_moved_away_and_not_followed(three: Path, tmp_path: Path) -> None:
    target, path = tmp_path / "outside", three / THREE[0] / "finetune.yaml"
    target.write_text("untouched")

    def link() -> None:
        path.unlink()
        path.symlink_to(target)

    assert scaffold(three, script(tmp_path, MAKE), jobs=1, progress=edit_at(("setup", 1), link)).ok
    assert not path.is_symlink()
    assert target.read_text() == "untouched"


def test_nothing_is_kept_without_an_edit(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for epochs in (2, 3):
        change(experiment / "experiment_summary.md", "**Epochs:** 2", f"**Epochs:** {epochs}")
        assert main(["scaffold", str(experiment)]) == 0
        assert "edit-kept" not in capsys.readouterr().out
    assert not (experiment / ".scaffold" / "backup").exists()


def test_restored_older_files_are_not_overwritten_without_overwrite(experiment: Path) -> None:
    """Also after a scaffold that was killed between publishing everything and logging."""

    class Killed(BaseException):
        pass

    def kill(step: str, done: int, total: int) -> None:
        if (step, done) == ("setup", total):
            raise Killed

    assert steps.scaffold(Request(experiment)).ok
    older = outputs(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    with pytest.raises(Killed):
        steps.scaffold(Request(experiment, progress=kill))
    for name in ("finetune.yaml", "finetune.slurm"):
        (experiment / RUNS[0] / name).write_bytes(older[f"{RUNS[0]}/{name}"])
    found = codes(refusal(steps.scaffold, experiment))
    assert set(found) == {"edited-output"}
    assert (experiment / RUNS[0] / "finetune.yaml").read_bytes() == older[f"{RUNS[0]}/finetune.yaml"]


def test_hashes_left_by_a_killed_scaffold_do_not_permit_overwriting(experiment: Path) -> None:
    """The record still lists the older files as replaceable, but everything has been published since."""
    assert steps.scaffold(Request(experiment)).ok
    older = outputs(experiment)
    change(experiment / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    assert steps.scaffold(Request(experiment)).ok
    file = experiment / ".scaffold" / "runs" / f"{RUNS[0]}.json"
    name = f"{RUNS[0]}/finetune.yaml"
    left = {"replaced": [hashlib.sha256(older[name]).hexdigest()]}
    file.write_text(json.dumps(json.loads(file.read_text()) | left))
    (experiment / name).write_bytes(older[name])
    assert codes(refusal(steps.scaffold, experiment)) == ["edited-output"]
    assert (experiment / name).read_bytes() == older[name]
