"""Test `status --watch` on a real pseudo-terminal: it redraws, ends, and restores the terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.experiments import RUNS
from support.job_outputs import bar
from support.stand_in_slurm import answers, scaffold_with_slurm
from support.waiting import PATIENCE

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_UP = re.compile(r"\x1b\[1A")


class Terminal:
    """A process on a separate terminal, and its complete output."""

    def __init__(self, words: list[str], *, lines: int = 24, columns: int = 80, kind: str = "xterm-256color") -> None:
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(self._theirs)
        command = [sys.executable, "-m", "scaffold_torchtune", *words]
        variables = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self.process = subprocess.Popen(
            command, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
            env=variables | {"TERM": kind}, preexec_fn=self._own_terminal,  # noqa: PLW1509 - no threads
        )  # fmt: skip
        self.text = ""

    def _own_terminal(self) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C in the terminal interrupts the process

    def _read(self, seconds: float) -> bool:
        """Read the available output, or wait some seconds for it; return whether any was read."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self.text += os.read(self._ours, 65_536).decode()
        return True

    def until(self, *marks: str, ended: bool = False) -> str:
        """Read until the marks were printed one after the other; return the output since the last call."""
        deadline, start = time.monotonic() + PATIENCE, len(self.text)
        pattern = re.compile(".*?".join(map(re.escape, marks)), re.DOTALL)
        while not pattern.search(self.text, start):
            assert ended or self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            self._read(0.2)
        return self.text[start:]

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def ends(self) -> int:
        """Wait for the end of the process, and return its status; the terminal must be restored."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read(0.2)
        while self._read(0):
            pass
        assert termios.tcgetattr(self._theirs) == self.before
        assert self.text.rfind(_SHOW) > self.text.rfind(_HIDE) > -1, "the cursor is visible again"
        assert "Traceback" not in self.text
        return self.process.returncode

    @property
    def last(self) -> str:
        """Return the text that stays on the screen: after the last sequence that shows the cursor, without styles."""
        return _SEQUENCE.sub("", self.text.rpartition(_SHOW)[2])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@contextlib.contextmanager
def watched(experiment: Path, *options: str, lines: int = 24) -> Iterator[Terminal]:
    terminal = Terminal(["status", str(experiment), "--watch", "0.1", *options], lines=lines)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an experiment in which one run trains."""
    experiment = scaffold_with_slurm(tmp_path, monkeypatch)
    (tmp_path / "outputs").mkdir()
    advance(experiment, 1)
    answers(experiment, sacct="exit 1", squeue=f"echo '4711|RUNNING|1:00|59:00|None|{experiment / RUNS[0]}'")
    return experiment


def advance(experiment: Path, step: int) -> None:
    (experiment / RUNS[0] / "slurm-4711.out").write_text(bar(1, step, 2.5), newline="")


def test_the_screen_is_redrawn_until_ctrl_c(training: Path) -> None:
    with watched(training) as terminal:
        first = terminal.until(_HIDE, "Ctrl-C", RUNS[0], "running", "1/200")
        assert not _UP.search(first.partition("1/200")[0]), "the first screen replaces nothing"
        for step in (57, 99):
            advance(training, step)
            redrawn = terminal.until(RUNS[0], f"{step}/200")
            assert _UP.search(redrawn), "the next screen is drawn over it"
        terminal.type(b"\x03")
        assert terminal.ends() == 0
        assert terminal.last.count(RUNS[0]) == 1
        assert "99/200" in terminal.last, "the last status stays"
        assert "Ctrl-C" not in terminal.last


@pytest.mark.long
def test_watching_ends_when_every_run_has_ended(training: Path) -> None:
    with watched(training) as terminal:
        terminal.until("Ctrl-C", RUNS[0], "running")
        answers(training, squeue=f"echo '4711|FAILED|1:00|59:00|None|{training / RUNS[0]}'")
        assert terminal.ends() == 1, "as without --watch: a run failed"
        assert "[job-failed]" in terminal.last


@pytest.mark.long
def test_ctrl_c_during_a_slurm_query_ends_it_too(training: Path) -> None:
    asked = training.parent / "asked"
    with watched(training) as terminal:
        terminal.until("Ctrl-C", RUNS[0], "running")
        answers(training, squeue=f"touch {asked}; exec sleep 1000")
        deadline = time.monotonic() + PATIENCE
        while not asked.exists():
            assert time.monotonic() < deadline
            terminal._read(0.05)  # noqa: SLF001 - so that it can go on printing
        terminal.type(b"\x03")
        assert terminal.ends() == 0
        assert "running" in terminal.last


def test_a_terminal_without_cursor_movement_is_refused(training: Path) -> None:
    terminal = Terminal(["status", str(training), "--watch"], kind="dumb")
    try:
        assert terminal.process.wait(PATIENCE) == 2
        assert "[invalid-value]" in terminal.until("[invalid-value]", ended=True)
    finally:
        terminal.close()


@pytest.mark.long
def test_a_short_terminal_shows_the_runs_with_problems(training: Path) -> None:
    with watched(training, lines=8) as terminal:
        screen = _SEQUENCE.sub("", terminal.until("Ctrl-C", RUNS[0], "--all"))
        assert not {*RUNS[1:]} & {*screen.split()}
        terminal.type(b"\x03")
        assert terminal.ends() == 0
        assert {*RUNS} <= {*terminal.last.split()}, "what stays may scroll"
