"""Conventions of command lines: the current directory, help, completion, quiet output, and selected runs."""

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.cli.parser import SHELLS
from support.command_line import answer
from support.experiments import RUNS, everything
from support.sampling import spread
from support.wording import absent

DIRECTORIES = sorted(RUNS)


@pytest.fixture
def here(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(experiment)
    return experiment


@pytest.mark.parametrize(
    "command", spread(["parse", "plan", "render", "scaffold", "status", "report", "history", "doctor"], every=3)
)
def test_the_experiment_is_the_current_directory_by_default(
    here: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaffold", "-q"]) == 0
    capsys.readouterr()
    assert main([command, str(here)]) == main([command])
    with_path, _, without = capsys.readouterr().out.partition("\x00")
    assert with_path
    assert not without


@pytest.mark.parametrize("command", [
    ["parse"], ["plan"], ["render"], ["setup"], ["validate"], ["scaffold"], ["status"], ["submit"], ["report"],
    ["history"], ["explain", "rank8_lr1e-5"],
])  # fmt: skip
def test_a_directory_without_a_summary_is_refused(
    command: list[str], experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    below = experiment / "data"
    monkeypatch.chdir(below)
    before = everything(experiment)
    status = main([*command, "--json"] if command[0] != "report" else command)
    assert (status, everything(experiment)) == (2, before)
    if command[0] == "report":
        assert "not-a-directory" in capsys.readouterr().err
        return
    (problem,) = answer(capsys)["error"]["problems"]
    assert (problem["code"], problem["field"]) == ("not-a-directory", "experiment")
    assert problem["fix"].split()[:2] == ["specify", ".."] or problem["fix"].startswith("specify ..,")


def keys(data: object) -> Iterator[str]:
    """Yield the key of each mapping in a JSON value, at any depth."""
    if isinstance(data, list):
        for each in data:
            yield from keys(each)
    elif isinstance(data, dict):
        for key, each in data.items():
            yield key
            yield from keys(each)


@pytest.mark.usefixtures("here")
def test_each_json_reply_has_one_summary_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "config"))
    new = ["new", str(tmp_path / "new"), "--model", "Llama-3.2-1B-Instruct", "--data", "/data/words.json"]
    new += ["--model-dir", "/models", "--rank", "8", "--lr", "1e-5", "--epochs", "1", "--batch-size", "4"]
    new += ["--conda-env", "e", "--output-dir", "/out"]
    commands = [
        ["validate"], ["parse"], ["plan"], ["render"], ["setup"], ["validate"], ["scaffold"], ["status"], ["history"],
        ["explain", DIRECTORIES[0], "lr"], ["doctor"], ["submit", "--dry-run"],
        ["add", "--rank", "64"], ["plan"], ["skill"], new, ["parse", "--answer", "nothing=1"],
    ]  # fmt: skip
    for command in commands:
        main([*command, "--json"])
        told = answer(capsys)
        summary = told["summary"]
        assert next(iter(told)) == "summary"
        assert [*keys(told)].count("summary") == 1, command
        assert summary.isprintable()
        assert summary.endswith(".")
        assert summary[0].isupper() or summary[0].isdigit() or summary.startswith(told.get("experiment", " ")), summary


def test_doctor_needs_no_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--json"]) in {0, 1}


def test_the_first_argument_of_explain_is_an_experiment_only_if_it_exists(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaffold", "-q"]) == 0
    run = DIRECTORIES[0]
    capsys.readouterr()
    for words in ([run, "lr"], [".", run, "lr"], [str(here), "--all", run, "lr"], [str(here), run, "--all", "lr"]):
        assert main(["explain", *words, "--json"]) == 0
        assert [each["field"] for each in answer(capsys)["settings"]] == ["lr"]
    wrong = {".": "missing-field", "nothing lr": "unknown-name"}
    for text, code in wrong.items():
        assert main(["explain", *text.split(), "--json"]) == 2
        assert [each["code"] for each in answer(capsys)["error"]["problems"]] == [code]
    for some in ([run], [".", run], []):
        assert main(["history", *some, "--json"]) == 0


def test_without_arguments_the_help_is_printed_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    out, error = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert main(["help"]) == 0
    assert capsys.readouterr().out == error


def test_the_help_command_prints_the_same_as_the_help_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    text = capsys.readouterr().out
    assert main(["help", "plan"]) == 0
    assert capsys.readouterr().out == text


def test_options_for_programs_are_the_last_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "scaffold"]) == 0
    last = capsys.readouterr().out.split("\n\n")[-1]
    assert re.findall(r"^  (--[a-z]+)", last, re.MULTILINE) == ["--json", "--start", "--root"]


@pytest.mark.long
@pytest.mark.usefixtures("here")
def test_only_and_start_select_the_listed_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaffold", "-q"]) == 0
    capsys.readouterr()
    wanted = {"--only": ("rank8*", DIRECTORIES_OF_8), "--start": ("3", RUNS_OF_PLAN[2:])}
    for option, (value, runs) in wanted.items():
        for command in ("plan", "validate", "scaffold", "status", "render", "setup"):
            assert main([command, option, value]) == 0
            out = capsys.readouterr().out
            words = {word for line in out.splitlines() if line.startswith(" ") for word in line.split()}
            assert [run for run in RUNS_OF_PLAN if run in words] == runs, (command, option, out)
            if command in {"plan", "validate"}:
                assert main([command, option, value, "--json"]) == 0
                assert {run["directory"] for run in answer(capsys)["runs"]} >= set(runs)
    assert main(["validate", "--only", "rank99*"]) == 0
    assert absent(capsys.readouterr().out, "'rank99*'", len(RUNS_OF_PLAN)) == []


RUNS_OF_PLAN = ["rank8_lr1e-5", "rank8_lr5e-5", "rank16_lr1e-5", "rank16_lr5e-5"]
DIRECTORIES_OF_8 = RUNS_OF_PLAN[:2]


@pytest.mark.long
def test_quiet_prints_errors_and_the_verdict(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("parse", "plan", "render", "setup", "validate", "scaffold", "status", "doctor"):
        main([command])
        loud = capsys.readouterr().out
        main([command, "--quiet"])
        out, error = capsys.readouterr()
        assert (len(out.splitlines()) in {1, 2} or command == "doctor", error) == (True, ""), (command, out)
        assert len(out) < len(loud)
        assert "warning:" not in out
    (here / "rank8_lr1e-5" / "finetune.yaml").unlink()
    assert main(["validate", "-q"]) == 1
    out = capsys.readouterr().out
    assert "[missing-file]" in out
    assert absent(out.splitlines()[-1], 1, 4) == []


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", shell]) == 0
    file = folder / "_scaffold-torchtune"
    file.write_text(capsys.readouterr().out)
    return file


def completed(shell: str, program: str, file: Path, line: str, wanted: str) -> str:
    """Return the completions of a shell when Tab is pressed at the end of a line."""
    if shell == "bash":
        words = " ".join(f"'{word}'" for word in line.split(" "))
        text = (
            f"source {file}; complete=$(complete -p scaffold-torchtune); func=${{complete##*-F }};"
            f" COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE='{line}';"
            f" COMP_POINT=${{#COMP_LINE}}; ${{func%% *}}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        return subprocess.run([program, "--norc", "-c", text], capture_output=True, text=True, check=True).stdout
    if shell == "fish":
        text = f"source {file}; complete -C '{line}'"
        return subprocess.run([program, "--no-config", "-c", text], capture_output=True, text=True, check=True).stdout
    return typed_in_zsh(program, file, line, wanted)


def typed_in_zsh(program: str, file: Path, line: str, wanted: str) -> str:
    """Return the screen of a zsh after Tab was pressed at the end of a line, up to the wanted text."""
    ours, theirs = pty.openpty()
    setup = f"fpath=({file.parent} $fpath); autoload -Uz compinit; compinit -D -u; PS1=; print REA''DY\n"
    with subprocess.Popen(
        [program, "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env=os.environ | {"TERM": "dumb"},
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            os.write(ours, setup.encode())
            until(ours, "READY")
            os.write(ours, f"{line}\t".encode())
            return until(ours, wanted)
        finally:
            process.kill()
            os.close(ours)


def until(terminal: int, mark: str) -> str:
    text = ""
    while mark not in text:
        text += os.read(terminal, 4096).decode(errors="replace")
    return text


@pytest.mark.long
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.skipif(sys.platform != "linux", reason="shells of other systems differ")
def test_shells_complete_commands_options_and_directories(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not on this machine: `scripts/install_packages {shell}` as root")
    file = script(shell, tmp_path, capsys)
    (tmp_path / "sweep_of_ranks").mkdir()
    monkeypatch.chdir(tmp_path)
    for words, wanted in (("sub", "submit"), ("plan --templ", "--template"), ("plan sweep_o", "sweep_of_ranks")):
        seen = completed(shell, program, file, f"scaffold-torchtune {words}", wanted)
        assert wanted in seen, words
