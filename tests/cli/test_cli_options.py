"""Roots, options, help and wrong usage of the command line."""

from pathlib import Path

import pytest

from scaffold_torchtune import __version__
from scaffold_torchtune.cli import main
from support.command_line import answer, command
from support.experiments import RUNS, log, run_directories
from support.wording import absent


def test_the_root_comes_from_the_option_or_from_the_environment(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["parse", str(experiment), "--root", str(tmp_path / "other"), "--json"]) == 2
    (problem,) = answer(capsys)["error"]["problems"]
    assert f"--root {tmp_path}" in problem["fix"]
    assert main(["parse", str(experiment), "--root", str(tmp_path / "other"), "--root", str(tmp_path)]) == 0
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_ROOT", str(tmp_path / "other"))
    assert main(["scaffold", str(experiment)]) == 2
    assert not log(experiment)
    assert main(["parse", str(experiment), "--root", str(tmp_path)]) == 0
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_ROOT", str(tmp_path))
    assert main(["scaffold", str(experiment)]) == 0


def test_a_local_file_can_be_specified(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.md"
    other.write_text((experiment / "claude.local.md").read_text().replace("`lab`", "`lab2`"))
    assert main(["parse", str(experiment), "--local", str(other), "--json"]) == 0
    assert answer(capsys)["environment"]["account"] == "lab2"


def test_run_names_can_come_from_the_table(experiment: Path) -> None:
    assert main(["scaffold", str(experiment), "--names", "table"]) == 0
    assert run_directories(experiment) == sorted(f"Llama-3.2-1B-Instruct_{run}" for run in RUNS)


@pytest.mark.parametrize("arguments", [
    [], ["nothing"], ["help", "nothing"], ["completion", "tcsh"], ["explain"], ["plan", ".", "--nothing"],
    ["history", ".", "run", "another"], ["scaffold", ".", "--jobs", "0"], ["scaffold", ".", "--jobs", "1.5"],
    ["scaffold", ".", "--timeout", "nan"], ["scaffold", ".", "--timeout", "inf"], ["scaffold", ".", "--names", "x"],
])  # fmt: skip
def test_wrong_usage_has_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: scaffold-torchtune" in capsys.readouterr().err


def test_jobs_and_timeout_reach_the_scripts(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text("import time\ntime.sleep(600)\n")
    options = ["--setup-script", str(script), "--jobs", "4", "--timeout", "0.75", "--no-activate", "--json"]
    assert main(["scaffold", str(experiment), *options]) == 1
    result = answer(capsys)
    assert [absent(run["reason"], "0.75 s") for run in result["setup"]["runs"]] == [[]] * 4


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["scaffold", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert "Exit status" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"scaffold-torchtune {__version__}\n"


@pytest.mark.long
def test_serve_serves_until_the_client_closes_the_pipe(tmp_path: Path) -> None:
    done = command("serve", "--root", tmp_path, input="")
    assert (done.returncode, done.stdout) == (0, "")
