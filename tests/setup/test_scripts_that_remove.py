"""Scripts that remove files of the scaffold while they run: that run fails, the others are completed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.backend import Watch
from scaffold_torchtune.request import Request
from support.experiments import actions, log, outputs
from support.sampling import mostly_long, spread
from support.scaffolding import codes, refusal
from support.setup_scripts import MAKE, THREE, failed, scaffold, script

pytestmark = pytest.mark.long

BAD = THREE[1]
OTHERS = [run for run in THREE if run != BAD]
REMOVE = """\
import shutil
def remove(path):
    path = pathlib.Path(EXPERIMENT, path)
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
"""

OTHERWISE = [("before", 1), ("after", 3), ("before", 3)]

# The paths that the script of the bad run removes, before or after it writes its files.
REMOVED = {
    "its own record": [f".scaffold/runs/{BAD}.json"],
    "another run's record": [f".scaffold/runs/{THREE[2]}.json"],
    "all records": [".scaffold/runs"],
    "the plan": [".scaffold/plan.json"],
    "how far the log is": [".scaffold/progress.json"],
    "where scripts work": [".scaffold/staging"],
    "the output kept": [".scaffold/output"],
    "the state": [".scaffold"],
    "its run directory": [BAD],
    "another's run directory": [THREE[0]],
    "all run directories": [*THREE],
    "the log": ["scaffold.log"],
    "the summary": ["experiment_summary.md"],
    "both documents": ["experiment_summary.md", "claude.local.md"],
    "state and documents": [".scaffold", "experiment_summary.md", "claude.local.md", "scaffold.log"],
    "the experiment": [""],
}

USUAL = [
    ("another run's record", "after", 1),
    ("state and documents", "before", 3),
]


@pytest.mark.parametrize(
    ("what", "when", "jobs"),
    mostly_long(((what, *how) for what in REMOVED for how in [("after", 1), *OTHERWISE]), *USUAL),
)
def test_a_run_that_removes_files_fails_and_the_others_are_completed(
    three: Path, tmp_path: Path, what: str, when: str, jobs: int
) -> None:
    tool = tmp_path / "tool"
    assert scaffold(three, script(tool, MAKE)).ok
    good, before = outputs(three), log(three)
    taken = f"for path in {REMOVED[what]!r}:\n    remove(path)\n"
    lines = [taken, "main([])\n"] if when == "before" else ["main([])\n", taken]
    body = "".join(f"    {line}\n" for line in "".join([*lines, "sys.exit(0)"]).splitlines())
    file = script(tool, f"EXPERIMENT = {str(three)!r}\n{REMOVE}if run == {BAD!r}:\n{body}{MAKE}")
    result = scaffold(three, file, jobs=jobs)
    reasons = {run.directory: run.reason for run in failed(result)}
    # Of runs at the same time, another one may publish its directory again before the removal is noticed.
    is_replaced = jobs > 1 and what == "another's run directory" and result.ok and outputs(three) == good
    if is_replaced:
        return
    assert [*reasons] == [BAD], reasons
    assert "outside its working directory" in reasons[BAD]
    assert [one.passed for one in result.validation.runs] == [True, False, True]
    assert {path: data for path, data in outputs(three).items() if not path.startswith(BAD)} == {
        path: data for path, data in good.items() if not path.startswith(BAD)
    }
    assert actions(three)[-3:] == ["RUN_SETUP_SCRIPTS", "VALIDATE_PARAMETERS", "SCAFFOLD_TORCHTUNE_FAILED"]
    assert log(three).startswith(before)
    assert (three / "experiment_summary.md").exists()
    assert (three / "claude.local.md").exists()
    again = scaffold(three, script(tool, MAKE))
    assert again.ok
    assert outputs(three) == good
    assert actions(three)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


def test_a_removal_right_after_the_publication_is_detected(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad run removes files between their publication and their inspection; alone, it removes them again."""
    tool, begun = tmp_path / "tool", tmp_path / "begun"
    assert scaffold(three, script(tool, MAKE)).ok
    good, real = outputs(three), Watch.wrote

    def wrote(watch: Watch, paths: list[str], is_ours: Callable[[str], bool], expected: list[str]) -> None:
        if THREE[0] in paths and not begun.exists():
            shutil.rmtree(three / THREE[0])
        real(watch, paths, is_ours, expected)

    monkeypatch.setattr(Watch, "wrote", wrote)
    taken = f"if pathlib.Path({str(begun)!r}).exists():\n        remove({THREE[0]!r})\n"
    bad = f"    {taken}    pathlib.Path({str(begun)!r}).touch()\n"
    file = script(tool, f"EXPERIMENT = {str(three)!r}\n{REMOVE}if run == {BAD!r}:\n{bad}{MAKE}")
    result = scaffold(three, file, jobs=1)
    assert {run.directory: "outside its working directory" in run.reason for run in failed(result)} == {BAD: True}
    assert {path: data for path, data in outputs(three).items() if not path.startswith(BAD)} == {
        path: data for path, data in good.items() if not path.startswith(BAD)
    }


def test_a_run_whose_working_directory_another_run_removed_is_run_again(three: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    victim = f"""\
import time
begun = pathlib.Path({str(begun)!r})
if run == {THREE[0]!r} and not begun.exists():
    begun.write_text(os.getcwd())
    while pathlib.Path("setup_finetune.yaml").exists():
        time.sleep(0.01)
    sys.exit("where is it?")
if run == {BAD!r}:
    while not begun.exists():
        time.sleep(0.01)
    for path in pathlib.Path(begun.read_text()).glob("*"):
        path.unlink()
"""
    result = scaffold(three, script(tmp_path / "tool", victim + MAKE), jobs=3)
    assert begun.exists()
    assert result.ok


def test_a_script_that_removes_the_experiment_is_stopped_midway(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = f"import shutil\nshutil.rmtree({str(three.parent / 'outer')!r})\n" + MAKE
    (three.parent / "outer").mkdir()
    experiment = three.rename(three.parent / "outer" / "sweep")
    for file in (experiment / "experiment_summary.md", experiment / "claude.local.md"):
        file.write_text(file.read_text().replace(str(three), str(experiment)))
    assert main(["scaffold", str(experiment), "--setup-script", str(script(tmp_path / "tool", body))]) == 1
    assert not experiment.exists()
    assert "Traceback" not in capsys.readouterr().err


def test_a_directory_that_replaces_the_experiment_is_not_written_to(three: Path, tmp_path: Path) -> None:
    moved = three.parent / "moved"
    body = f"os.rename({str(three)!r}, {str(moved)!r})\nos.mkdir({str(three)!r})\n" + MAKE
    file = script(tmp_path / "tool", body)
    assert main(["scaffold", str(three), "--setup-script", str(file), "--jobs", "1"]) == 1
    assert not list(three.iterdir())


def test_a_link_that_replaces_the_state_is_not_followed(three: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    state = f"pathlib.Path({str(three)!r}, '.scaffold')"
    body = f"{state}.rename({state}.with_name('.away'))\n{state}.symlink_to({str(outside)!r})\n" + MAKE
    file = script(tmp_path / "tool", body)
    assert main(["scaffold", str(three), "--setup-script", str(file), "--jobs", "1"]) == 1
    assert not list(outside.iterdir())
    (three / ".scaffold").unlink()
    assert scaffold(three, script(tmp_path / "tool", MAKE)).ok


NAMES = {"a byte": rb"\xff", "half a character": rb"caf\xe9", "a line break": rb"a\nb", "an escape": rb"\x1b[31m"}


@pytest.mark.parametrize(
    ("name", "where"),
    spread(
        [
            ("a byte", ""),
            ("half a character", ".scaffold/runs/"),
            ("a line break", ".scaffold/"),
            ("an escape", f"{THREE[0]}/"),
        ],
        every=2,
    ),
)
def test_a_violation_is_kept_if_a_name_is_not_utf_8(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, where: str
) -> None:
    path = f"os.fsencode({str(three)!r}) + b'/{where}' + b'{NAMES[name].decode()}'"
    body = f"main([])\nif run == {BAD!r}:\n    open({path}, 'wb').write(str(time.time_ns()).encode())\nsys.exit(0)\n"
    file = script(tmp_path / "tool", body)
    assert main(["scaffold", str(three), "--setup-script", str(file), "--jobs", "1", "--json"]) == 1
    assert "outside its working directory" in capsys.readouterr().out
    (three / BAD / "finetune.slurm").write_bytes((three / THREE[0] / "finetune.slurm").read_bytes())
    for _ in range(2):
        result = steps.validate(Request(three, setup_script=str(file)))
        assert not result.passed
        assert "setup-failed" in {each.code for run in result.runs for each in run.findings}
    assert main(["validate", str(three), "--setup-script", str(file)]) == 1


@pytest.mark.parametrize("content", ["", "{", "null", '{"directory": "other"}', "[" * 5_000, '{"a": ' * 5_000])
def test_a_damaged_record_fails_its_run(three: Path, content: str) -> None:
    assert steps.scaffold(Request(three)).ok
    (three / ".scaffold" / "runs" / f"{BAD}.json").write_text(content)
    result = steps.validate(Request(three))
    assert [run.passed for run in result.runs] == [True, False, True]
    assert [each.code for each in errors_in(result.runs[1].findings)] == ["document-unreadable"]


def test_a_record_of_a_different_run_is_refused(three: Path) -> None:
    assert steps.scaffold(Request(three)).ok
    records = three / ".scaffold" / "runs"
    (records / f"{BAD}.json").write_bytes((records / f"{THREE[0]}.json").read_bytes())
    assert codes(refusal(steps.setup, three)) == ["document-unreadable"]
