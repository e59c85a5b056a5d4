"""Running programs: their output is limited, and everything that they started ends with them."""

import os
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.system import processes, supervisor
from scaffold_torchtune.system.processes import Completed
from support.experiments import is_alive
from support.waiting import PATIENCE, pass_deadlines_once, wait_until


def run(folder: Path, program: str, timeout: float = PATIENCE, stop: threading.Event | None = None) -> Completed:
    return processes.run([sys.executable, "-c", program], folder, timeout, stop)


SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(600)']"
LEAVES_BEHIND = {
    "a child": f"subprocess.Popen({SLEEPER})",
    "a child with its own session": f"subprocess.Popen({SLEEPER}, start_new_session=True)",
    "one without a mark": f"subprocess.Popen({SLEEPER}, start_new_session=True, env={{}})",
}


@pytest.mark.parametrize("how", LEAVES_BEHIND)
@pytest.mark.parametrize("end", ["", "open('hangs', 'w')\nimport time; time.sleep(600)"])
def test_processes_that_a_program_started_end_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, end: str
) -> None:
    pass_deadlines_once((tmp_path / "hangs").exists, monkeypatch)
    program = f"import subprocess, sys\nprint({LEAVES_BEHIND[how]}.pid, flush=True)\n{end}"
    done = run(tmp_path, program)
    assert done.ended == ("deadline" if end else "")
    wait_until(lambda: not is_alive(int(done.output)))


def test_a_program_that_runs_too_long_is_killed(tmp_path: Path) -> None:
    done = run(tmp_path, "import time; time.sleep(600)", timeout=0.5)
    assert (done.ended, done.status) == ("deadline", -9)


def test_a_daemon_that_forked_twice_and_holds_the_pipe_is_ended(tmp_path: Path) -> None:
    program = """\
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        open("printed", "w")
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists("printed"):
    time.sleep(0.01)
"""
    done = run(tmp_path, program)
    assert (done.status, done.ended) == (0, "")
    wait_until(lambda: not is_alive(int(done.output)))


def test_parallel_programs_do_not_end_each_others_processes(tmp_path: Path) -> None:
    first = f"import subprocess, sys\nsubprocess.Popen({SLEEPER}, start_new_session=True)"
    second = f"""\
import os, subprocess, sys, time
if os.fork() == 0:
    child = subprocess.Popen({SLEEPER}, start_new_session=True)
    open("child", "w").write(str(child.pid))
    os._exit(0)
while not os.path.exists("first has ended"):
    time.sleep(0.01)
os.kill(int(open("child").read()), 0)
"""
    done: list[Completed] = []
    thread = threading.Thread(target=lambda: done.append(run(tmp_path, second)))
    thread.start()
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    run(tmp_path, first)
    (tmp_path / "first has ended").touch()
    thread.join()
    assert done[0].status == 0, done[0].output
    wait_until(lambda: not is_alive(int((tmp_path / "child").read_text())))


@pytest.mark.long
def test_many_parallel_programs_all_end(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: processes.run(["/bin/true"], tmp_path, PATIENCE), range(40)))
    assert {one.status for one in done} == {0}


def test_other_children_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    child = os.spawnv(os.P_NOWAIT, sys.executable, SLEEP)  # noqa: S606
    try:
        run(tmp_path, "pass")
        assert is_alive(child)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.mark.parametrize("listed", [True, False])
def test_children_are_found_with_and_without_the_list_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    child = os.spawnv(os.P_NOWAIT, sys.executable, SLEEP)  # noqa: S606
    try:
        if not listed:
            opened: Any = open

            def unlisted(path: str, *mode: str) -> Any:
                if path.endswith("/children"):
                    raise FileNotFoundError(path)
                return opened(path, *mode)

            monkeypatch.setattr(supervisor, "open", unlisted, raising=False)
        assert child in supervisor.children()  # either way, depending on the kernel
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# --- signals and kills ------------------------------------------------------------------------------------------------

DEADLY = sorted(
    {signal.Signals(number).name for number in signal.valid_signals() if number in signal.Signals.__members__.values()}
    - {"SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"}
)


def test_signals_that_a_program_sends_to_its_parent_do_not_reach_the_caller(tmp_path: Path) -> None:
    program = f"""\
import os, signal
for name in {DEADLY}:
    os.kill(os.getppid(), getattr(signal, name))
print("went on")
"""
    done = run(tmp_path, program)
    assert (done.output, done.status, done.ended) == ("went on\n", 0, "")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
@pytest.mark.parametrize("how", LEAVES_BEHIND)
def test_a_program_that_kills_its_parent_is_ended(tmp_path: Path, name: str, how: str) -> None:
    program = f"""\
import os, signal, subprocess, sys, time
print({LEAVES_BEHIND[how]}.pid, os.getpid(), flush=True)
os.kill(os.getppid(), signal.{name})
time.sleep(600)
"""
    done = run(tmp_path, program)
    assert (done.status, done.ended) == (-9, "")
    child, leader = map(int, done.output.split()[:2])
    wait_until(lambda: not is_alive(leader))
    wait_until(lambda: not is_alive(child))


def test_a_daemon_of_a_program_that_kills_its_parent_is_ended_and_other_children_are_not(tmp_path: Path) -> None:
    """Use a daemon outside the program's group, session and parents, with an empty environment and no open files."""
    daemon = """\
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("pid.half", "w").write(str(os.getpid()))
        os.rename("pid.half", "pid")
        os.closerange(0, 100)
        time.sleep(600)
    os._exit(0)
"""
    program = f"""\
import os, signal, subprocess, sys, time
subprocess.run([sys.executable, "-c", {daemon!r}], env={{}}, check=True)
while not os.path.exists("pid"):
    time.sleep(0.01)
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(600)
"""
    with subprocess.Popen(SLEEP) as ours, subprocess.Popen(SLEEP, start_new_session=True) as apart:
        try:
            assert run(tmp_path, program).status == -9
            wait_until(lambda: not is_alive(int((tmp_path / "pid").read_text())))
            assert (ours.poll(), apart.poll()) == (None, None)
        finally:
            ours.kill()
            apart.kill()


def test_a_program_that_stops_its_parent_is_ended_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_REAPED", 0.5)
    pass_deadlines_once((tmp_path / "stopped").exists, monkeypatch)
    program = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\nopen('stopped', 'w')\nprint(os.getpid())"
    assert run(tmp_path, program + "\nimport time; time.sleep(600)").ended == "deadline"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGQUIT", "SIGTERM", "SIGABRT"])
def test_the_program_and_its_processes_end_with_the_caller(tmp_path: Path, name: str) -> None:
    started = " ".join(f"print({one}.pid, file=file);" for one in LEAVES_BEHIND.values())
    program = f"""\
import os, subprocess, sys, time
with open("half", "w") as file:
    print(os.getpid(), file=file)
    {started}
os.rename("half", "pids")
time.sleep(600)
"""
    ours = "import sys\nfrom pathlib import Path\nfrom scaffold_torchtune.system import processes\n"
    ours += "processes.run([sys.executable, '-c', sys.argv[1]], Path(sys.argv[2]), 600)"
    with subprocess.Popen([sys.executable, "-c", ours, program, str(tmp_path)]) as process:
        wait_until((tmp_path / "pids").exists)
        process.send_signal(getattr(signal, name))
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 4
    wait_until(lambda: not any(map(is_alive, pids)))


def test_variables_and_arguments_are_passed_unchanged(tmp_path: Path) -> None:
    program = "import os, sys\nprint(ascii(sys.argv[1:]), ascii(os.environ['MINE']), len(os.environ['LONG']))"
    variables = {"MINE": "a=b\n\udcff", "LONG": "x" * 100_000}
    done = processes.run([sys.executable, "-c", program, "", "ü \n", "-c"], tmp_path, PATIENCE, env=variables)
    assert done.output == "['', '\\xfc \\n', '-c'] 'a=b\\n\\udcff' 100000\n"
    for command, env in ((["/bin/true", "a\0b"], {}), (["/bin/true"], {"A": "\0"})):
        with pytest.raises(OSError, match="Invalid argument"):
            processes.run(command, tmp_path, PATIENCE, env=env)


@pytest.mark.parametrize("megabytes", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_a_very_long_output_fills_neither_memory_nor_the_disk(tmp_path: Path, megabytes: int) -> None:
    program = (
        f"import sys\nfor _ in range({megabytes}):\n    sys.stdout.write('x' * 1_000_000)\nprint('\\nthe last line')"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = run(tmp_path, program)
    assert done.status == 0
    assert done.output.endswith("x\nthe last line\n")
    assert len(done.output) == processes.TAIL
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes
    assert not list(tmp_path.iterdir())


def test_a_program_that_prints_endlessly_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MOST", 1_000_000)
    assert run(tmp_path, "while True:\n    print('on and on')").ended == "output"


def test_a_program_is_stopped_on_request(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    done = run(tmp_path, "import time; time.sleep(600)", stop=stop)
    assert done.ended == "stopped"


def test_the_run_time_is_returned(tmp_path: Path) -> None:
    assert 0.3 <= run(tmp_path, "import time; time.sleep(0.3)").seconds < PATIENCE


def test_a_program_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    program = "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(0.5)\nopen('done', 'w')\nos._exit(3)"
    assert run(tmp_path, program).status == 3
    assert (tmp_path / "done").exists()


def test_printed_secrets_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("SHORT_TOKEN", "1")
    done = run(tmp_path, "print('0123456789' + 'abcdef 1 hf_' + 'a' * 30)")
    assert done.output == "[WANDB_API_KEY] 1 [secret]\n"


def test_status_and_output_of_a_process_are_returned(tmp_path: Path) -> None:
    program = "import os, sys\nprint(os.getcwd(), flush=True)\nprint('error', file=sys.stderr)\nsys.exit(3)"
    done = run(tmp_path, program)
    assert (done.status, done.output, done.ended) == (3, f"{tmp_path}\nerror\n", "")


def test_a_process_receives_only_the_given_input_and_variables(tmp_path: Path) -> None:
    program = "import os, sys\nprint(sys.stdin.read(), os.environ['MINE'], 'HOME' in os.environ)"
    command = [sys.executable, "-c", program]
    done = processes.run(command, tmp_path, PATIENCE, given=b"x" * 1_000_000, env={"MINE": "yes"}, tail=14)
    assert done.output == "xxx yes False\n"


def test_the_end_of_a_long_output_is_kept(tmp_path: Path) -> None:
    done = run(tmp_path, "print('x' * 1_000_000 + 'end')")
    assert len(done.output) == processes.TAIL
    assert done.output.endswith("xend\n")


def test_a_process_ends_if_the_stop_was_requested_before(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    done = run(tmp_path, "import time\ntime.sleep(600)", stop=stop)
    assert (done.ended, done.status) == ("stopped", -9)


def test_a_process_that_is_not_stopped_completes(tmp_path: Path) -> None:
    done = run(tmp_path, "import time\ntime.sleep(0.5)", stop=threading.Event())
    assert (done.ended, done.status) == ("", 0)


def test_a_missing_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        processes.run([str(tmp_path / "nothing")], tmp_path, 1)


def test_without_an_active_environment_the_current_python_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    assert processes.python() == sys.executable
    monkeypatch.setenv("CONDA_PREFIX", "/env")
    monkeypatch.setenv("PATH", "")
    assert processes.python() == sys.executable
