"""A script as a process: its output, its end, concurrent scripts, and its environment."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaffold_torchtune.request import Interrupted
from scaffold_torchtune.system import processes
from support.experiments import actions, change, is_alive, log
from support.measuring import untraced
from support.setup_scripts import MAKE, THREE, failed, scaffold, script
from support.waiting import PATIENCE, pass_deadlines_once, wait_until, written
from support.wording import absent

pytestmark = pytest.mark.long


def test_only_the_end_of_a_long_output_is_kept(single: Path, tmp_path: Path) -> None:
    body = "sys.stdout.write('x' * 5_000_000 + '\\n')\nsys.stdout.flush()\nsys.exit('the last line')"
    result = scaffold(single, script(tmp_path, body))
    assert [absent(run.reason, 1, "the last line") for run in failed(result)] == [[]]
    assert "xx" not in failed(result)[0].reason
    assert len(log(single)) < 20_000


def test_a_script_with_endless_output_is_ended(single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MOST", 1_000_000)
    result = scaffold(single, script(tmp_path, "while True:\n    print('on and on')"))
    (run,) = failed(result)
    assert run.reason.partition(": ")[2].startswith("o")
    assert "status" not in run.reason


def test_a_hanging_script_is_ended_with_its_children(
    single: Path, tmp_path: Path, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"""\
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(marks)!r}, run).write_text(f"{{os.getpid()}} {{child.pid}}")
        print("waiting", flush=True)
        pathlib.Path({str(tmp_path)!r}, "hangs").touch()
        time.sleep(600)
        """
    pass_deadlines_once((tmp_path / "hangs").exists, monkeypatch)
    result = scaffold(single, script(tmp_path, body), timeout=60)
    assert [absent(run.reason, "60 s", ": waiting") for run in failed(result)] == [[]]
    pids = [int(pid) for mark in marks.iterdir() for pid in mark.read_text().split()]
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def test_a_child_that_outlives_its_script_is_ended(three: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(marks)!r}, run).write_text(str(child.pid))
        sys.exit(main([]))
        """
    assert scaffold(three, script(tmp_path, body)).ok
    pids = [int(mark.read_text()) for mark in marks.iterdir()]
    assert len(pids) == 3
    wait_until(lambda: not any(map(is_alive, pids)))


def test_an_interrupt_ends_the_running_scripts(three: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        if run == "rank8_lr1e-5":
            sys.exit(main([]))
        pathlib.Path({str(marks)!r}, run).write_text(str(os.getpid()))
        time.sleep(600)
        """

    def interrupt(step: str, _done: int, _total: int) -> None:
        if step == "setup":
            wait_until(lambda: len(list(filter(written, marks.iterdir()))) == 2)
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        scaffold(three, script(tmp_path, body), jobs=3, progress=interrupt)
    pids = [int(mark.read_text()) for mark in marks.iterdir()]
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert not (three / ".scaffold" / "lock").exists()
    assert not list((three / ".scaffold" / "staging").iterdir())


def test_jobs_run_concurrently_and_results_keep_the_order_of_the_plan(three: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        marks = pathlib.Path({str(marks)!r})
        (marks / run).touch()
        deadline = time.monotonic() + {PATIENCE}
        while len(list(marks.iterdir())) < 3:  # nobody goes on before all have come
            if time.monotonic() > deadline:
                sys.exit("alone")
            time.sleep(0.01)
        time.sleep(0.2 if run == "rank8_lr1e-5" else 0)
        sys.exit(main([]))
        """
    told: list[tuple[int, int]] = []

    def progress(step: str, done: int, total: int) -> None:
        if step == "setup":
            told.append((done, total))

    result = scaffold(three, script(tmp_path, body), jobs=3, progress=progress)
    assert result.ok, [run.reason for run in result.setup.runs]
    assert [run.directory for run in result.setup.runs] == list(THREE)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_one_job_runs_one_script_at_a_time(three: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        mark = pathlib.Path({str(marks)!r}, "running")
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        time.sleep(0.05)
        mark.unlink()
        sys.exit(main([]))
        """
    assert scaffold(three, script(tmp_path, body), jobs=1).ok


def test_a_script_has_an_empty_stdin(single: Path, tmp_path: Path) -> None:
    file = script(tmp_path, "assert sys.stdin.read() == ''\n" + MAKE)
    line = [sys.executable, "-m", "scaffold_torchtune", "scaffold", str(single), "--setup-script", str(file)]
    done = subprocess.run(line, input="yes\n", capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_is_not_utf8_is_shown_escaped(single: Path, tmp_path: Path) -> None:
    body = "sys.stdout.buffer.write(b'caf\\xe9 \\x1b[31m\\n[2026-01-01 00:00:00] FORGED')\nsys.exit(1)"
    assert len(failed(scaffold(single, script(tmp_path, body)))) == 1
    assert ": [2026-01-01 00:00:00] FORGED | " in log(single)
    assert "FORGED" not in actions(single)
    script(tmp_path, "sys.stdout.buffer.write(b'caf\\xe9 \\x1b[31m')\nsys.exit(1)")
    result = scaffold(single, tmp_path / "setup_finetune.py")
    printed = "caf\N{REPLACEMENT CHARACTER} \\x1b[31m"
    assert [absent(run.reason, 1, printed) for run in failed(result)] == [[]]


def test_secrets_and_startup_variables_do_not_reach_a_script(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("HF_TOKEN", "WANDB_API_KEY", "MY_SECRET", "BASH_ENV", "PYTHONSTARTUP")
    for name in names:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("KEPT", "kept")
    body = f"assert os.environ['KEPT'] == 'kept' and not {set(names)!r} & set(os.environ), os.environ\n" + MAKE
    assert scaffold(single, script(tmp_path, body)).ok


def test_a_script_runs_with_the_python_of_the_active_environment(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "env" / "bin" / "python"
    tool.parent.mkdir(parents=True)
    tool.write_text(f'#!/bin/sh\nexport ENVIRONMENT=active\nexec "{sys.executable}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "env"))
    assert scaffold(single, script(tmp_path, "assert os.environ['ENVIRONMENT'] == 'active'\n" + MAKE)).ok
    tool.write_text("no program")
    monkeypatch.setattr(processes, "python", lambda: str(tool))
    other = script(tmp_path, "\n" + MAKE)
    assert [absent(run.reason, "Exec format error") for run in failed(scaffold(single, other))] == [[]]


# A tree so deep that no path reaches its end.
DEEP = """\
here = os.open(".", os.O_RDONLY)
for _ in range(1500):
    os.mkdir("d", dir_fd=here)
    below = os.open("d", os.O_RDONLY, dir_fd=here)
    os.close(here)
    here = below
os.close(os.open("end", os.O_CREAT, dir_fd=here))
os.chmod("d", 0)
"""


def test_a_tree_of_any_depth_left_by_a_script_is_removed(single: Path, tmp_path: Path, marks: Path) -> None:
    # in the staging directory, and in the earlier trial
    body = f"pathlib.Path({str(marks)!r}, str(os.getpid())).write_text(os.getcwd())\n" + DEEP + MAKE
    assert scaffold(single, script(tmp_path, body)).ok
    places = [Path(mark.read_text()) for mark in marks.iterdir()]
    assert len(places) >= 1
    assert not any(place.exists() for place in places)
    assert not list((single / ".scaffold" / "staging").iterdir())


def test_no_staging_directory_is_used_twice(three: Path, tmp_path: Path, marks: Path) -> None:
    body = f"pathlib.Path({str(marks)!r}, str(os.getpid())).write_text(os.getcwd())\n" + MAKE
    file = script(tmp_path, body)
    for epochs in ("2", "3"):
        change(three / "experiment_summary.md", "**Epochs:** 2", f"**Epochs:** {epochs}")
        assert scaffold(three, file).ok
    places = [Path(mark.read_text()) for mark in marks.iterdir()]
    staged = [place for place in places if place.is_relative_to(three)]
    assert len({place.parent for place in staged}) == len(staged) == 6
    assert {place.name for place in staged} == set(THREE)


def test_many_new_files_in_the_experiment_are_reported_quickly(single: Path, tmp_path: Path) -> None:
    body = f"for n in range(10_000):\n    open(f'{single}/{{n}}', 'w').close()\n" + MAKE
    began = time.process_time()  # of this process, and not of the script or of a busy disk
    with untraced():
        (run,) = failed(scaffold(single, script(tmp_path, body)))
    assert time.process_time() - began < 15
    assert len(run.reason) < 1000
