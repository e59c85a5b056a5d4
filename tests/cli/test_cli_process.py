"""The command as a process: its pipes, terminals, encodings and signals."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from support.command_line import command, started
from support.experiments import make_experiment
from support.waiting import PATIENCE, wait_until


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_traceback(experiment: Path, options: list[str]) -> None:
    line = [sys.executable, "-m", "scaffold_torchtune", "parse", str(experiment), *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 1


def test_an_interrupt_is_no_traceback_and_the_next_scaffold_goes_on(experiment: Path, tmp_path: Path) -> None:
    script, mark = tmp_path / "setup_finetune.py", tmp_path / "mark"
    script.write_text(f"import time\nopen({str(mark)!r}, 'w')\ntime.sleep(600)\n")
    with started("scaffold", experiment, "--setup-script", script) as process:
        wait_until(lambda: mark.exists() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, error.count("\n")) == (130, "", 1), error
    assert not (experiment / ".scaffold" / "lock").exists()
    assert main(["scaffold", str(experiment), "--setup-script", "bundled"]) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_poor_terminal_shows_what_it_can(tmp_path: Path, encoding: str) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"Capitalize the given word": "Écris ✓"})
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for options in ([], ["--json"]):
        done = command("parse", experiment, *options, env=environment, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["config"]["system_prompt"] == "Écris ✓"


def test_output_need_not_be_a_real_stream(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["parse", str(experiment), "--json"]) == 0
    assert json.loads(stream.getvalue())["experiment"] == "cap_4L_lora_lr_sweep"


def test_a_terminal_gets_a_progress_bar_on_stderr(experiment: Path) -> None:
    done = command("scaffold", experiment, env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": "120"})
    assert done.returncode == 0
    assert "validate" in done.stderr
    assert "\x1b[" in done.stdout
