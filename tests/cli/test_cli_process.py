"""The command as a process: its pipes, terminals, encodings and signals."""

import errno
import io
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.command_line import command, started
from support.experiments import actions, make_experiment
from support.sampling import mostly_long, spread
from support.waiting import PATIENCE, wait_until


@pytest.mark.long
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_reader_causes_no_traceback(experiment: Path, options: list[str]) -> None:
    line = [sys.executable, "-m", "scaffold_torchtune", "parse", str(experiment), *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 1


def test_an_interrupt_causes_no_traceback_and_the_next_scaffold_continues(experiment: Path, tmp_path: Path) -> None:
    script, mark = tmp_path / "setup_finetune.py", tmp_path / "mark"
    script.write_text(f"import time\nopen({str(mark)!r}, 'w')\ntime.sleep(600)\n")
    with started("scaffold", experiment, "--setup-script", script) as process:
        wait_until(lambda: mark.exists() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, error.count("\n")) == (130, "", 1), error
    assert not (experiment / ".scaffold" / "lock").exists()
    assert main(["scaffold", str(experiment), "--setup-script", "bundled"]) == 0


@pytest.mark.long
@pytest.mark.parametrize("encoding", spread(["ascii", "latin-1"], every=2))
def test_a_limited_encoding_shows_the_available_characters(tmp_path: Path, encoding: str) -> None:
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


@pytest.mark.long
def test_a_terminal_gets_a_progress_bar_on_stderr(experiment: Path) -> None:
    done = command("scaffold", experiment, env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": "120"})
    assert done.returncode == 0
    assert "validate" in done.stderr
    assert "\x1b[" in done.stdout


# --- output that cannot be written ------------------------------------------------------------------------------------

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="/dev/full is not on this machine: Linux has it")
OUTPUTS = {"text": [], "json": ["--json"]}


@pytest.mark.long
@needs_full
@pytest.mark.parametrize(("options", "unbuffered"), spread(itertools.product(OUTPUTS.values(), ["", "1"]), every=3))
def test_a_full_disk_for_the_output_undoes_nothing(experiment: Path, options: list[str], unbuffered: str) -> None:
    line = [sys.executable, "-m", "scaffold_torchtune", "scaffold", str(experiment), *options]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with FULL.open("w") as full:
        done = subprocess.run(
            line, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=PATIENCE
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert os.strerror(errno.ENOSPC) in done.stderr
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"
    assert not (experiment / ".scaffold" / "lock").exists()


@pytest.mark.long
@needs_full
def test_the_status_is_kept_if_no_message_can_be_written(experiment: Path, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        for where, status in ((experiment, 1), (tmp_path / "nothing", 2)):
            line = [sys.executable, "-m", "scaffold_torchtune", "scaffold", str(where)]
            assert subprocess.run(line, stdout=full, stderr=full, check=False, timeout=PATIENCE).returncode == status


@pytest.mark.long
@pytest.mark.parametrize("closed", mostly_long(["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], ">&-", "<&- >&- 2>&-"))
def test_closed_streams_are_not_replaced_by_other_files(experiment: Path, closed: str) -> None:
    line = ["sh", "-c", f'exec "$0" -m scaffold_torchtune scaffold "$1" {closed}', sys.executable, str(experiment)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("validation passed" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert steps.validate(Request(experiment)).passed


class Failing(io.StringIO):
    """A stream that accepts a limited number of writes."""

    def __init__(self, takes: int, code: int) -> None:
        super().__init__()
        self.takes, self.code = takes, code

    def write(self, text: str) -> int:
        self.takes -= 1
        if self.takes < 0:
            raise OSError(self.code, os.strerror(self.code))
        return super().write(text)


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "options"),
    spread(itertools.product([errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF], OUTPUTS.values()), every=5),
)
def test_a_failing_write_of_the_output_makes_only_the_output_fail(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, options: list[str]
) -> None:
    assert main(["scaffold", str(experiment)]) == 0
    for takes in range(100):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream := Failing(takes, code))
            status = main(["scaffold", str(experiment), *options])
        if stream.takes >= 0:
            break
        assert status == 1
        assert capsys.readouterr().err.count("\n") == (code != errno.EPIPE)
    assert (status, takes > 0) == (0, True)
    assert not list(experiment.glob(".scaffold/internal-error-*"))


def test_a_lost_terminal_stops_no_work(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Failing):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Gone(0, errno.EIO))
    assert main(["scaffold", str(experiment)]) == 0
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"


# --- signals ----------------------------------------------------------------------------------------------------------


STRAY = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGPOLL", "SIGPWR", "SIGRTMIN"]


@pytest.mark.long
def test_unrelated_signals_end_nothing(single: Path, tmp_path: Path) -> None:
    # the script sends each to all its ancestors, up to this test
    script = tmp_path / "setup_finetune.py"
    script.write_text(f"""\
import os, signal, sys
pid = os.getppid()
while pid != {os.getpid()}:
    for name in {STRAY}:
        os.kill(pid, getattr(signal, name))
    pid = int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])
signal.alarm(0)
from scaffold_torchtune.setup_finetune import main
sys.exit(main([]))
""")
    done = command("scaffold", single, "--setup-script", script, "--no-activate", "--no-sbatch")
    assert done.returncode == 0, done.stderr + done.stdout
    assert actions(single)[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"
