import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from experiments import FILES, RUNS, actions, everything, is_alive, log, make_experiment, outputs, run_directories
from scaffold_torchtune import pipeline
from scaffold_torchtune.cli import main
from scaffold_torchtune.errors import Refused
from scaffold_torchtune.models.results import ScaffoldResult, SetupRun
from scaffold_torchtune.pipeline import Request
from scaffold_torchtune.shared import processes

THREE = RUNS[:3]

# Does what the bundled one does, as another program would: in its working directory.
GOOD = """\
import os, sys, time, pathlib
def main(arguments):
    from scaffold_torchtune.setup_finetune.__main__ import main
    return main(arguments)
run = pathlib.Path("setup_finetune.yaml").read_text().partition("my_wandb_run_name: ")[2].split()[0]
"""
MAKE = "sys.exit(main([]))\n"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Three runs."""
    return make_experiment(tmp_path / "sweep", without=["_rank16_lr5e-5"])


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """One run."""
    return make_experiment(tmp_path / "single", without=["_rank16_", "_rank8_lr5e-5"])


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A directory for what scripts tell tests."""
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def script(tmp_path: Path, body: str, start: str = GOOD, name: str = "setup_finetune.py") -> Path:
    """A setup_finetune.py."""
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(start + textwrap.dedent(body))
    return file


def scaffold(experiment: Path, file: Path, **given: Any) -> ScaffoldResult:
    return pipeline.scaffold(Request(experiment, setup_script=str(file), **given))


def failed(result: ScaffoldResult) -> list[SetupRun]:
    assert not result.ok
    assert result.submit == ""
    return [run for run in result.setup.runs if not run.ok]


def test_a_script_that_works_makes_the_same_files_as_the_bundled_one(experiment: Path, tmp_path: Path) -> None:
    file = script(tmp_path, MAKE)
    result = scaffold(experiment, file)
    assert result.ok
    assert result.plan.setup == str(file)
    made = outputs(experiment)
    assert sorted(made) == sorted(f"{run}/{name}" for run in THREE for name in FILES)
    assert f"Details: {file} as a subprocess in each run's staging directory\n" in log(experiment)
    assert "conda" not in log(experiment)
    assert not list((experiment / ".scaffold" / "staging").iterdir())
    assert scaffold(experiment, file).unchanged
    bundled = make_experiment(tmp_path / "other" / "sweep", without=["_rank16_lr5e-5"])
    pipeline.scaffold(Request(bundled))
    ours = outputs(bundled)
    assert {name: made[name] for name in made if "/setup_" not in name} == {
        name: ours[name] for name in ours if "/setup_" not in name
    }


def test_one_of_three_fails_and_the_others_do_not(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "if run == 'rank8_lr5e-5':\n    sys.exit('this run has\\tno luck')\n" + MAKE
    file = script(tmp_path, body)
    assert main(["scaffold", str(experiment), "--setup-script", str(file), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [(run["directory"], run["ok"]) for run in result["setup"]["runs"]] == [
        (THREE[0], True),
        (THREE[1], False),
        (THREE[2], True),
    ]
    assert (result["setup"]["processed"], result["setup"]["succeeded"], result["setup"]["failed"]) == (3, 2, 1)
    reason = "the script ended with status 1. It said: this run has\\tno luck"
    assert result["setup"]["runs"][1]["reason"] == reason
    assert not result["ok"]
    assert actions(experiment)[-4:] == [
        "SETUP_RUN_FAILED",
        "RUN_SETUP_SCRIPTS",
        "VALIDATE_PARAMETERS",
        "SCAFFOLD_TORCHTUNE_FAILED",
    ]
    assert f"SETUP_RUN_FAILED\nDetails: rank8_lr5e-5\nResult: {reason}\n\n" in log(experiment)
    assert "3 runs processed, 2 successful, 1 failure\n" in log(experiment)
    assert sorted(path.name for path in (experiment / THREE[1]).iterdir()) == ["setup_finetune.yaml"]
    assert main(["scaffold", str(experiment), "--setup-script", str(file)]) == 1
    assert f"setup failed in rank8_lr5e-5: {reason}" in capsys.readouterr().out


def test_a_second_call_runs_only_what_failed(experiment: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        marks = pathlib.Path({str(marks)!r})
        (marks / f"{{run}}.{{time.monotonic_ns()}}").touch()
        if run == "rank8_lr5e-5" and not (marks / "ready").exists():
            sys.exit("not ready")
        """
    file = script(tmp_path, body, GOOD)
    file.write_text(file.read_text() + MAKE)
    assert [run.directory for run in failed(scaffold(experiment, file))] == ["rank8_lr5e-5"]
    assert len(list(marks.iterdir())) == 3
    (marks / "ready").touch()
    result = scaffold(experiment, file)
    assert result.ok
    assert [run.unchanged for run in result.setup.runs] == [True, False, True]
    started = sorted(path.name.partition(".")[0] for path in marks.iterdir())
    assert started == ["rank16_lr1e-5", "rank8_lr1e-5", "rank8_lr5e-5", "rank8_lr5e-5", "ready"]
    assert "(2 of them already done)" in log(experiment)


def test_a_changed_script_runs_again_and_leaves_nothing_ready_where_it_fails(experiment: Path, tmp_path: Path) -> None:
    file = script(tmp_path, MAKE)
    assert scaffold(experiment, file).ok
    script(tmp_path, "if run == 'rank8_lr5e-5':\n    sys.exit(3)\n" + MAKE)
    assert [run.directory for run in failed(scaffold(experiment, file))] == ["rank8_lr5e-5"]
    assert not (experiment / "rank8_lr5e-5" / "finetune.slurm").exists()
    assert scaffold(experiment, Path("bundled")).ok


def test_a_missing_cruijff_kit_is_answered_with_how_to_activate(experiment: Path, tmp_path: Path) -> None:
    file = script(tmp_path, "import cruijff_kit\n", start="")
    reasons = {run.reason for run in failed(scaffold(experiment, file))}
    assert len(reasons) == 1
    (reason,) = reasons
    assert "ModuleNotFoundError: No module named 'cruijff_kit'" in reason
    assert "run 'module load anaconda3/2025.6; conda activate cruijff', then scaffold again" in reason
    assert reason in log(experiment)


def test_without_modules_the_reminder_names_the_environment_alone(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=["module load"])
    file = script(tmp_path, "import cruijff_kit\n", start="")
    assert "run 'conda activate cruijff'," in failed(scaffold(experiment, file))[0].reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "the script ended well but made no finetune.yaml. It said nothing."),
        ("print('done\\n\\n')\nopen('finetune.yaml', 'w').write('x')", "but made no finetune.slurm. It said: done"),
        ("main([])\nopen('finetune.slurm', 'w')", "the script made a finetune.slurm of 0 bytes"),
        ("main([])\nopen('finetune.yaml', 'w').write('x' * 1_000_001)", "made a finetune.yaml of 1000001 bytes"),
        ("main([])\nos.rename('finetune.yaml', 'x')\nos.symlink('x', 'finetune.yaml')", "made no finetune.yaml"),
        ("main([])\nos.unlink('finetune.slurm')\nos.mkdir('finetune.slurm')", "made no finetune.slurm"),
        ("main([])\nos.unlink('finetune.slurm')\nos.mkfifo('finetune.slurm')", "made no finetune.slurm"),
        ("main([])\nsys.exit(4)", "the script ended with status 4."),
        ("main([])\nos.kill(os.getpid(), 9)", "the script ended with status -9. "),
        ("import shutil\nshutil.rmtree(os.getcwd())", "made no finetune.yaml"),
    ],
    ids=["nothing", "half", "empty", "huge", "link", "directory", "fifo", "status", "killed", "removed"],
)
def test_what_a_script_leaves_undone_is_a_failure_with_its_reason(
    single: Path, tmp_path: Path, body: str, reason: str
) -> None:
    result = scaffold(single, script(tmp_path, body))
    assert len(failed(result)) == 1
    assert all(reason in run.reason for run in result.setup.runs)
    assert not list(single.glob("rank*/finetune.*"))
    assert not list((single / ".scaffold" / "staging").iterdir())


def test_what_else_a_script_leaves_in_its_directory_is_cleared(single: Path, tmp_path: Path) -> None:
    body = "os.makedirs('deep/er')\nopen('deep/er/x', 'w')\nos.symlink('/', 'root')\nos.mkfifo('fifo')\n" + MAKE
    assert scaffold(single, script(tmp_path, body)).ok
    assert all(sorted(path.name for path in (single / run).iterdir()) == list(FILES) for run in run_directories(single))
    assert not list((single / ".scaffold" / "staging").iterdir())


def test_only_the_end_of_a_long_output_is_kept(single: Path, tmp_path: Path) -> None:
    body = "sys.stdout.write('x' * 5_000_000 + '\\n')\nsys.stdout.flush()\nsys.exit('the last line')"
    result = scaffold(single, script(tmp_path, body))
    assert {run.reason for run in failed(result)} == {"the script ended with status 1. It said: the last line"}
    assert len(log(single)) < 20_000


def test_a_script_that_prints_without_end_is_ended(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MOST", 1_000_000)
    result = scaffold(single, script(tmp_path, "while True:\n    print('on and on')"))
    assert all("printed without end and was ended. It said: o" in run.reason for run in failed(result))


def test_a_script_that_hangs_is_ended_with_its_children(single: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(marks)!r}, run).write_text(f"{{os.getpid()}} {{child.pid}}")
        print("waiting", flush=True)
        time.sleep(600)
        """
    result = scaffold(single, script(tmp_path, body), timeout=2.5)
    assert [run.reason for run in failed(result)] == [
        "the script ran longer than 2.5 s and was ended. It said: waiting"
    ]
    pids = [int(pid) for mark in marks.iterdir() for pid in mark.read_text().split()]
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def test_a_child_that_outlives_its_script_is_ended(experiment: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path({str(marks)!r}, run).write_text(str(child.pid))
        sys.exit(main([]))
        """
    assert scaffold(experiment, script(tmp_path, body)).ok
    pids = [int(mark.read_text()) for mark in marks.iterdir()]
    assert len(pids) == 3
    deadline = time.monotonic() + 5
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_alive, pids))


def test_an_interrupt_ends_the_scripts_that_run(experiment: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        if run == "rank8_lr1e-5":
            sys.exit(main([]))
        pathlib.Path({str(marks)!r}, run).write_text(str(os.getpid()))
        time.sleep(600)
        """

    def interrupt(step: str, _done: int, _total: int) -> None:
        if step == "setup":
            while len(list(marks.glob("rank*"))) < 2 or not all(mark.read_text() for mark in marks.iterdir()):
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scaffold(experiment, script(tmp_path, body), jobs=3, progress=interrupt)
    pids = [int(mark.read_text()) for mark in marks.iterdir()]
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert not (experiment / ".scaffold" / "lock").exists()
    assert not list((experiment / ".scaffold" / "staging").iterdir())


def test_jobs_run_at_the_same_time_and_results_keep_the_plans_order(
    experiment: Path, tmp_path: Path, marks: Path
) -> None:
    body = f"""\
        marks = pathlib.Path({str(marks)!r})
        (marks / run).touch()
        deadline = time.monotonic() + 20
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

    result = scaffold(experiment, script(tmp_path, body), jobs=3, progress=progress)
    assert result.ok, [run.reason for run in result.setup.runs]
    assert [run.directory for run in result.setup.runs] == list(THREE)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_one_job_runs_one_script_at_a_time(experiment: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        mark = pathlib.Path({str(marks)!r}, "running")
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        time.sleep(0.05)
        mark.unlink()
        sys.exit(main([]))
        """
    assert scaffold(experiment, script(tmp_path, body)).ok


def test_a_script_has_an_empty_stdin(single: Path, tmp_path: Path) -> None:
    file = script(tmp_path, "assert sys.stdin.read() == ''\n" + MAKE)
    line = [sys.executable, "-m", "scaffold_torchtune", "scaffold", str(single), "--setup-script", str(file)]
    done = subprocess.run(line, input="yes\n", capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_is_not_utf8_is_shown_escaped(single: Path, tmp_path: Path) -> None:
    body = "sys.stdout.buffer.write(b'caf\\xe9 \\x1b[31m\\n[2026-01-01 00:00:00] FORGED')\nsys.exit(1)"
    assert len(failed(scaffold(single, script(tmp_path, body)))) == 1
    assert "It said: [2026-01-01 00:00:00] FORGED\n" in log(single)
    assert "FORGED" not in actions(single)
    script(tmp_path, "sys.stdout.buffer.write(b'caf\\xe9 \\x1b[31m')\nsys.exit(1)")
    result = scaffold(single, tmp_path / "setup_finetune.py")
    assert {run.reason for run in failed(result)} == {
        "the script ended with status 1. It said: caf\N{REPLACEMENT CHARACTER} \\x1b[31m"
    }


def test_outputs_that_are_not_utf8_do_not_pass(single: Path, tmp_path: Path) -> None:
    body = "main([])\nopen('finetune.yaml', 'ab').write(b'\\xff')\n"
    result = scaffold(single, script(tmp_path, body))
    assert not result.ok
    assert all("unreadable-file" in [f.code for f in run.findings] for run in result.validation.runs)


def test_wrong_values_of_a_script_do_not_pass(experiment: Path, tmp_path: Path) -> None:
    body = """\
        main([])
        file = pathlib.Path("finetune.yaml")
        file.write_text(file.read_text().replace("lora_rank: 8", "lora_rank: 64"))
        """
    result = scaffold(experiment, script(tmp_path, body))
    assert result.setup.failed == 0
    assert [run.passed for run in result.validation.runs] == [False, False, True]
    assert actions(experiment)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"


def test_secrets_and_what_would_run_unasked_do_not_reach_a_script(
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
    assert {run.reason for run in failed(scaffold(single, other))} == {
        "the script could not be started: Exec format error"
    }


def test_a_staging_directory_that_cannot_be_made_is_a_failure(experiment: Path, tmp_path: Path) -> None:
    def spoil(step: str, _done: int, _total: int) -> None:
        if step == "setup" and not (experiment / ".scaffold" / "staging" / THREE[2]).exists():
            (experiment / ".scaffold" / "staging" / THREE[2]).write_text("in the way")

    result = scaffold(experiment, script(tmp_path, "time.sleep(0.3)\n" + MAKE), progress=spoil)
    assert [run.directory for run in failed(result)] == [THREE[2]]
    assert "cannot make the directory" in result.setup.runs[2].reason


# --- who chooses the script -------------------------------------------------------------------------------------------


def refusal(step: Any, experiment: Path, **given: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        step(Request(experiment, **given))
    return caught.value


@pytest.mark.parametrize("folder", ["tools/torchtune", "src/tools/torchtune"])
def test_a_script_in_the_working_directory_is_a_choice_that_the_user_makes(tmp_path: Path, folder: str) -> None:
    home = tmp_path / "kit"
    experiment = make_experiment(tmp_path / "sweep", replace={"`/home/ada/cruijff_kit`": f"`{home}`"})
    file = script(home / folder, MAKE)
    for step in (pipeline.plan, pipeline.render, pipeline.scaffold):
        (problem,) = refusal(step, experiment).problems
        assert problem.code == "setup-choice"
        assert f"--setup-script {file}" in problem.fix
        assert "--setup-script bundled" in problem.fix
        assert (problem.file, problem.line) == ("claude.local.md", 9)
    assert not run_directories(experiment)
    assert scaffold(experiment, Path("bundled")).plan.setup == "bundled"
    assert scaffold(experiment, file).plan.setup == str(file)


def test_without_a_working_directory_the_bundled_one_runs(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=["Working directory"])
    assert pipeline.scaffold(Request(experiment)).plan.setup == "bundled"


def test_the_environment_variable_stands_for_the_option(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = script(tmp_path, MAKE)
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SETUP_SCRIPT", str(file))
    assert main(["scaffold", str(experiment), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["setup"] == str(file)
    assert main(["scaffold", str(experiment), "--setup-script", "bundled", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["setup"] == "bundled"
    assert main(["setup", str(experiment)]) == 0


def test_a_script_that_is_not_there_is_refused(experiment: Path, tmp_path: Path) -> None:
    before = everything(experiment / "data")
    (problem,) = refusal(pipeline.scaffold, experiment, setup_script=str(tmp_path / "gone.py")).problems
    assert (problem.code, problem.file) == ("setup-script-missing", str(tmp_path / "gone.py"))
    assert everything(experiment / "data") == before
    assert not run_directories(experiment)


def test_a_script_that_is_gone_after_render_is_refused(experiment: Path, tmp_path: Path) -> None:
    file = script(tmp_path, MAKE)
    pipeline.render(Request(experiment, setup_script=str(file)))
    file.unlink()
    assert refusal(pipeline.setup, experiment, setup_script=str(file)).problems[0].code == "setup-script-missing"


def test_setup_never_runs_a_script_that_only_the_plan_names(
    experiment: Path, tmp_path: Path, marks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = script(tmp_path, f"pathlib.Path({str(marks)!r}, run).touch()\n" + MAKE)
    pipeline.render(Request(experiment, setup_script=str(file)))
    assert main(["setup", str(experiment), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert problem["code"] == "setup-choice"
    other = script(tmp_path, MAKE, name="other.py")
    assert main(["setup", str(experiment), "--setup-script", str(other)]) == 2
    assert not list(marks.iterdir())
    assert main(["setup", str(experiment), "--setup-script", str(file)]) == 0
    assert len(list(marks.iterdir())) == 3


def test_setup_says_so_where_the_plan_was_made_without_the_script_that_is_named(
    experiment: Path, tmp_path: Path
) -> None:
    pipeline.render(Request(experiment))
    file = script(tmp_path, MAKE)
    assert refusal(pipeline.setup, experiment, setup_script=str(file)).problems[0].code == "setup-choice"
    assert pipeline.setup(Request(experiment, setup_script="bundled")).failed == 0
