import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.setup.bundled import build
from scaffold_torchtune.setup_finetune import main
from support.wording import absent

SETUP = """\
my_wandb_project: words
my_wandb_run_name: rank8
torchtune_model_name: Llama-3.2-1B-Instruct
models_dir: /data/models
input_dir_base: /data/sets
dataset_label: words
dataset_ext: .json
output_dir_base: /scratch/out
conda_env: tune
epochs: 1
batch_size: 4
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run directory with its setup_finetune.yaml, which is the working directory."""
    (tmp_path / "setup_finetune.yaml").write_text(SETUP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_both_files_are_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    outputs = build(SETUP)
    assert (run / "finetune.yaml").read_text() == outputs.finetune_yaml
    assert (run / "finetune.slurm").read_text() == outputs.finetune_slurm
    assert names(run) == ["finetune.slurm", "finetune.yaml", "setup_finetune.yaml"]
    assert absent(capsys.readouterr().out, "finetune.yaml", "finetune.slurm") == []


def test_the_program_runs_as_a_module(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scaffold_torchtune.setup_finetune"],
        cwd=run,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (run / "finetune.slurm").exists()


def test_a_different_config_file_is_read(run: Path) -> None:
    (run / "setup_finetune.yaml").rename(run / "other.yaml")
    assert main(["--config_file", "other.yaml"]) == 0


def test_existing_files_are_replaced(run: Path) -> None:
    (run / "finetune.yaml").write_text("old")
    (run / "finetune.slurm").write_text("old")
    assert main([]) == 0
    assert (run / "finetune.yaml").read_text() == build(SETUP).finetune_yaml
    assert (run / "finetune.slurm").read_text() == build(SETUP).finetune_slurm


def test_the_files_have_the_mode_of_the_umask(run: Path) -> None:
    before = os.umask(0o027)
    try:
        assert main([]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((run / "finetune.yaml").stat().st_mode) == 0o640
    assert stat.S_IMODE((run / "finetune.slurm").stat().st_mode) == 0o640


def test_a_refusal_names_each_problem_and_writes_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "setup_finetune.yaml").write_text(SETUP + "lora_rank: '8'\nsed: 1\n")
    assert main([]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == ["setup_finetune.yaml:12:", "setup_finetune.yaml:13:"]
    assert all(" Fix: " in line for line in lines)
    assert names(run) == ["setup_finetune.yaml"]


def test_warnings_are_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "setup_finetune.yaml").write_text(SETUP + "batch_size_val: 2\n")
    assert main([]) == 0
    assert capsys.readouterr().err.startswith("warning: setup_finetune.yaml:12: batch_size_val")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: 1\n# " + b"x" * 1_000_001])
def test_a_binary_or_too_large_file_is_refused(run: Path, content: bytes) -> None:
    (run / "setup_finetune.yaml").write_bytes(content)
    assert main([]) == 2
    assert names(run) == ["setup_finetune.yaml"]


def test_a_missing_file_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "setup_finetune.yaml").unlink()
    assert main([]) == 2
    assert "--config_file" in capsys.readouterr().err


def test_a_fifo_is_refused_without_waiting(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(run / "pipe")
    assert main(["--config_file", "pipe"]) == 2
    assert absent(capsys.readouterr().err, "pipe") == []


def test_a_name_that_cannot_be_opened_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config_file", f"{run}/setup_finetune.yaml/x"]) == 2
    assert absent(capsys.readouterr().err, "setup_finetune.yaml/x") == []


@pytest.mark.parametrize("name", ["finetune.yaml", "finetune.slurm"])
def test_a_linked_output_is_refused_and_not_followed(
    run: Path, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("elsewhere") / "file"
    target.write_text("mine")
    (run / name).symlink_to(target)
    assert main([]) == 2
    assert target.read_text() == "mine"
    assert names(run) == sorted([name, "setup_finetune.yaml"])


def test_a_directory_instead_of_an_output_is_refused(run: Path) -> None:
    (run / "finetune.slurm").mkdir()
    assert main([]) == 2
    assert names(run) == ["finetune.slurm", "setup_finetune.yaml"]


def test_a_failed_write_leaves_no_partial_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / f".finetune.yaml.{os.getpid()}.tmp").mkdir()
    (run / "finetune.slurm").write_text("old")
    assert main([]) == 2
    assert "File exists" in capsys.readouterr().err
    assert (run / "finetune.slurm").read_text() == "old"
    assert not (run / "finetune.yaml").exists()


def test_help_lists_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "--config_file" in capsys.readouterr().out
