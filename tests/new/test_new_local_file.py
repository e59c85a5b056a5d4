"""`new` with an existing claude.local.md, found or specified."""

from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from support.example import EXAMPLE_LOCAL
from support.experiments import change
from support.new_experiments import MODEL, make, problems, refused, scaffolded
from support.wording import absent

pytestmark = pytest.mark.usefixtures("no_local_file")


def test_an_existing_claude_local_md_is_used(tmp_path: Path) -> None:
    (tmp_path / "claude.local.md").write_text(EXAMPLE_LOCAL)
    nothing = {"--conda-env": None, "--model-dir": None}
    result = make(tmp_path / "one", nothing)
    assert [Path(path).name for path in result.created] == ["experiment_summary.md"]
    assert result.local == str(tmp_path / "claude.local.md")
    done = scaffolded(tmp_path / "one")
    values = {name: setting.value for name, setting in done.plan.common.items()}
    assert values["models_dir"] == "/scratch/gpfs/LAB/pretrained-llms"
    assert (values["conda_env"], values["my_wandb_project"]) == ("cruijff", "capitalization")
    assert (values["time"], values["output_dir_base"]) == ("0:59:00", "/scratch/gpfs/LAB/ada/ck-outputs")


def test_options_of_the_experiment_are_added_to_an_existing_claude_local_md(tmp_path: Path) -> None:
    (tmp_path / "claude.local.md").write_text(EXAMPLE_LOCAL)
    change(tmp_path / "claude.local.md", "- **Output base directory**: `/scratch/gpfs/LAB/ada/ck-outputs/`", "")
    make(tmp_path / "one", {"--conda-env": "cruijff", "--time": "2:00:00", "--gpus": "1", "--output-dir": "out/"})
    values = {name: setting.value for name, setting in scaffolded(tmp_path / "one").plan.common.items()}
    assert (values["time"], values["models_dir"]) == ("2:00:00", "/models")
    assert values["output_dir_base"] == str(tmp_path / "one" / "out")


def test_options_that_contradict_an_existing_claude_local_md_are_refused(tmp_path: Path) -> None:
    (tmp_path / "claude.local.md").write_text(EXAMPLE_LOCAL)
    wanted = {"--conda-env": "tune", "--partition": "gpu", "--output-dir": "out", "--account": "lab"}
    found = problems(tmp_path / "one", wanted)
    assert [(p.code, p.field) for p in found] == [
        ("ambiguous", "conda_env"),
        ("ambiguous", "output_dir_base"),
        ("ambiguous", "partition"),
    ]
    assert absent(found[0].message, "'tune'", "'cruijff'", 22) == []
    assert absent(found[2].message, "'gpu'", tmp_path / "claude.local.md") == []
    assert "line" not in found[2].message


def test_a_fault_of_an_existing_claude_local_md_is_reported_at_its_line(tmp_path: Path) -> None:
    local = tmp_path / "claude.local.md"
    local.write_text("- conda_env: a/b\n- my_wandb_project: <name>\n")
    found = problems(tmp_path / "one", {"--conda-env": "tune"})
    assert [(p.code, p.field, p.location()) for p in found] == [
        ("missing-field", "my_wandb_project", "claude.local.md"),
        ("invalid-value", "conda_env", "claude.local.md:1"),
    ]
    local.write_bytes(b"\xff")
    assert refused(tmp_path / "one", {"--conda-env": None, "--epochs": "x"}) == [
        ("invalid-value", "epochs"),
        ("document-unreadable", None),
    ]
    local.write_text("- conda_env: a\n- conda_env: b\n")
    assert ("ambiguous", "conda_env") in refused(tmp_path / "one", {"--conda-env": None})


def test_a_different_claude_local_md_can_be_specified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.md").write_text(EXAMPLE_LOCAL)
    line = ["new", str(tmp_path / "one"), "--local", str(tmp_path / "mine.md"), "--model", MODEL, "--data", "x.json"]
    assert main([*line, "--batch-size", "4", "--epochs", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert any(line.endswith(f" {tmp_path / 'mine.md'}") for line in out)
    assert main(out[-1].partition(": scaffold-torchtune ")[2].split()) == 0
