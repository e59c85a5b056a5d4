"""The demo: the bundled example, scaffolded."""

from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.system.layout import EXAMPLES
from support.command_line import answer
from support.experiments import RUNS, actions, everything, make_experiment, run_directories
from support.wording import absent


def test_the_demo_works_and_a_second_one_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (EXAMPLES / "capitalization_lora_sweep").is_dir()
    demo = tmp_path / "demo"
    assert main(["demo", str(demo)]) == 0
    first = capsys.readouterr().out
    assert "validation passed" in first
    assert actions(demo)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"
    before = everything(demo)
    assert main(["demo", str(demo)]) == 0
    assert capsys.readouterr().out != first, "it says that nothing was changed"
    assert everything(demo) == before


def test_the_demo_keeps_existing_documents(tmp_path: Path) -> None:
    demo = make_experiment(tmp_path / "demo")
    mine = (demo / "experiment_summary.md").read_text()
    assert main(["demo", str(demo)]) == 0
    assert (demo / "experiment_summary.md").read_text() == mine
    assert run_directories(demo) == sorted(RUNS)


def test_a_demo_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").write_text("in the way")
    assert main(["demo", str(tmp_path / "demo"), "--json"]) == 2
    assert answer(capsys)["error"]["problems"][0]["code"] == "write-failed"
    assert (tmp_path / "demo").read_text() == "in the way"


def test_the_demo_outside_the_roots_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    assert main(["demo", str(tmp_path / "demo"), "--root", str(tmp_path / "root")]) == 2
    assert not (tmp_path / "demo").exists()
    assert absent(capsys.readouterr().err, "[outside-roots]", tmp_path / "demo") == []


LINKS = ("data", "data/words_5L_300.json", "experiment_summary.md", ".scaffold", "scaffold.log")


@pytest.mark.parametrize("what", LINKS)
def test_the_demo_writes_through_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    outside, demo = tmp_path / "outside", tmp_path / "demo"
    outside.mkdir()
    (demo / what).parent.mkdir(parents=True)
    (demo / what).symlink_to(outside if what in {"data", ".scaffold"} else outside / "file")
    before = everything(demo)
    status = main(["demo", str(demo), "--json"])
    assert not list(outside.iterdir())
    assert (status, [each["code"] for each in answer(capsys)["error"]["problems"]]) == (2, ["unsafe-path"])
    assert everything(demo) == before


def test_a_demo_refused_after_writing_reports_that_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = tmp_path / "demo"
    demo.mkdir()
    (demo / "claude.local.md").write_text("# nothing\n")
    assert main(["demo", str(demo), "--json"]) == 1
    assert answer(capsys)["summary"].startswith("Stopped midway")
    assert (demo / "experiment_summary.md").exists()
