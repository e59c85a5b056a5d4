"""The conditions on which an external script runs again for finished runs."""

from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import actions, change, everything, outputs
from support.sampling import spread
from support.setup_scripts import THREE, scaffold, script

pytestmark = pytest.mark.long

# Writes the number of epochs from an adjacent template into its output, and records its runs.
READS = """\
beside = pathlib.Path(__file__).parent / TEMPLATE
status = main([])
made = pathlib.Path("finetune.yaml")
made.write_text(made.read_text().replace("epochs: 2", beside.read_text()))
with open(RUNS, "a") as runs:
    runs.write(run + "\\n")
sys.exit(status)
"""
GOOD_LINE, WRONG_LINE = "epochs: 2", "epochs: 3"


class Reading:
    """A script that reads an adjacent template, and records its runs elsewhere."""

    def __init__(self, tmp_path: Path, template: str = "template.yaml", line: str = GOOD_LINE) -> None:
        self.counted = tmp_path / "counted.log"
        self.template = tmp_path / "tool" / template
        self.template.parent.mkdir(parents=True)
        self.template.write_text(line)
        body = f"TEMPLATE, RUNS = {template!r}, {str(self.counted)!r}\n{READS}"
        self.file = script(tmp_path / "tool", body)

    def runs(self) -> list[str]:
        """Return the runs since the last call, sorted."""
        found = sorted(self.counted.read_text().split()) if self.counted.exists() else []
        self.counted.unlink(missing_ok=True)
        return found


@pytest.mark.parametrize(
    "template", spread(["template.yaml", "templates/finetuning/finetune.yaml", "defaults"], every=2)
)
def test_a_run_that_failed_validation_is_set_up_again_once_the_template_is_fixed(
    three: Path, tmp_path: Path, template: str
) -> None:
    tool = Reading(tmp_path, template, WRONG_LINE)
    assert not scaffold(three, tool.file).validation.passed
    assert tool.runs() == sorted(THREE)
    tool.template.write_text(GOOD_LINE)
    result = scaffold(three, tool.file)
    assert result.ok
    assert tool.runs() == sorted(THREE)
    assert actions(three)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"
    assert scaffold(three, tool.file).unchanged
    assert tool.runs() == []


def test_after_a_failed_verdict_setup_runs_again_without_any_change(three: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(WRONG_LINE)
    tool = Reading(tmp_path)
    change(tool.file, "pathlib.Path(__file__).parent / TEMPLATE", f"pathlib.Path({str(elsewhere)!r})")
    for _ in range(2):  # as long as it fails
        assert not scaffold(three, tool.file).validation.passed
        assert tool.runs() == sorted(THREE)
    elsewhere.write_text(GOOD_LINE)
    assert scaffold(three, tool.file).ok
    assert tool.runs() == sorted(THREE)
    assert scaffold(three, tool.file).unchanged


def test_only_the_runs_that_failed_validation_are_set_up_again(three: Path, tmp_path: Path) -> None:
    tool = Reading(tmp_path)
    change(tool.file, "beside.read_text()", f"'epochs: 3' if run == {THREE[1]!r} else beside.read_text()")
    assert not scaffold(three, tool.file).validation.passed
    tool.runs()
    scaffold(three, tool.file)
    assert tool.runs() == [THREE[1]]


def test_a_template_changed_after_a_passed_verdict_is_read_again(three: Path, tmp_path: Path) -> None:
    tool = Reading(tmp_path)
    assert scaffold(three, tool.file).ok
    tool.runs()
    tool.template.write_text(WRONG_LINE)
    assert not scaffold(three, tool.file).validation.passed
    assert tool.runs() == sorted(THREE)


@pytest.mark.parametrize("step", ["scaffold", "setup"])
def test_overwrite_runs_the_script_again_and_keeps_identical_files(three: Path, tmp_path: Path, step: str) -> None:
    tool = Reading(tmp_path)
    assert scaffold(three, tool.file).ok
    tool.runs()
    before = {path: kept for path, kept in everything(three).items() if path.startswith("rank")}
    getattr(steps, step)(Request(three, setup_script=str(tool.file), overwrite=True))
    assert tool.runs() == sorted(THREE)
    assert {path: kept for path, kept in everything(three).items() if path.startswith("rank")} == before
    assert steps.validate(Request(three, setup_script=str(tool.file))).passed


def test_a_verdict_survives_a_killed_setup(three: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(step: str, done: int, _total: int) -> None:
        if (step, done) == ("setup", 1):
            raise Killed

    tool = Reading(tmp_path, line=WRONG_LINE)
    scaffold(three, tool.file)
    tool.runs()
    tool.template.write_text(GOOD_LINE)
    with pytest.raises(Killed):
        scaffold(three, tool.file, progress=kill, jobs=1)
    assert scaffold(three, tool.file).ok
    assert set(tool.runs()) == set(THREE)


WRITES = {
    "a log": 'open(beside.with_name("setup.log"), "a").write(run)',
    "a new file for each run": 'beside.with_name(f"{run}.{time.time_ns()}").write_text(run)',
    "a file that it counts in": 'open(beside.with_name("count"), "a").write("x")',
    "Python's leftovers": "(beside.parent / '__pycache__').mkdir(exist_ok=True); "
    "(beside.parent / '__pycache__' / 'x.py').write_text(run)",
}


@pytest.mark.parametrize("how", spread(WRITES, every=2))
def test_files_that_a_script_writes_next_to_itself_do_not_run_it_again(three: Path, tmp_path: Path, how: str) -> None:
    tool = Reading(tmp_path)
    (tool.template.parent / "count").write_text("x")
    change(tool.file, "sys.exit(status)", WRITES[how] + "\nsys.exit(status)")
    assert scaffold(three, tool.file).ok
    tool.runs()
    made = outputs(three)
    assert scaffold(three, tool.file).unchanged
    assert tool.runs() == []
    assert outputs(three) == made


def test_an_experiment_next_to_the_script_is_ignored(three: Path, tmp_path: Path) -> None:
    tool = Reading(tmp_path)
    other = tmp_path / "tool" / "other"
    other.mkdir()
    (other / "experiment_summary.md").write_text("# other\n")
    (other / "notes.txt").write_text("one")
    assert scaffold(three, tool.file).ok
    (other / "notes.txt").write_text("two")
    assert scaffold(three, tool.file).unchanged


def test_the_bundled_setup_is_not_run_again_for_a_verdict(three: Path) -> None:
    assert steps.scaffold(Request(three)).ok
    change(three / "claude.local.md", "`cruijff`", "`other`")
    assert not steps.validate(Request(three)).passed
    change(three / "claude.local.md", "`other`", "`cruijff`")
    before = {path: kept for path, kept in everything(three).items() if path.startswith("rank")}
    assert steps.scaffold(Request(three, overwrite=True)).ok
    assert {path: kept for path, kept in everything(three).items() if path.startswith("rank")} == before
