"""Misbehaving setup scripts in one run of three: that run fails with its reason, and no other does."""

import shutil
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.system import processes
from support.experiments import actions, is_alive, log, outputs
from support.sampling import spread
from support.setup_scripts import GOOD, MAKE, THREE, failed, scaffold, script
from support.waiting import PATIENCE, pass_deadlines_once

pytestmark = pytest.mark.long

BAD = THREE[1]
SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(600)']"
NOTE = "pathlib.Path(MARKS, str(child.pid)).touch()"
# Hang once the other runs are finished: only then the time limit of the run passes.
HANGS = """
while not all(os.path.exists(f"{EXPERIMENT}/{other}/finetune.slurm") for other in OTHERS):
    time.sleep(0.01)
open(EXPERIMENT + ".hangs", "w")
time.sleep(600)
"""
TOO_LONG = f"ran longer than {PATIENCE:g} s and was ended"

# The action of the script in that run, and the text that its reason must contain.
MISBEHAVIOURS = {
    "hangs": (f"print('waiting', flush=True){HANGS}", f"{TOO_LONG}. The script printed: waiting"),
    "hangs with a child of its own session": (
        f"child = subprocess.Popen({SLEEPER}, start_new_session=True)\n{NOTE}{HANGS}", TOO_LONG,
    ),
    "ignores signals": (
        f"import signal\nfor s in (1, 2, 15):\n    signal.signal(s, signal.SIG_IGN){HANGS}", TOO_LONG,
    ),
    "forks a daemon that holds the pipe and fails": (
        f"child = subprocess.Popen({SLEEPER}, start_new_session=True, env={{}})\n{NOTE}\nsys.exit('no luck')",
        "status 1. The script printed: no luck",
    ),
    "prints without end": ("while True:\n    print('x' * 10_000)", "printed endlessly and was ended"),
    "reads its stdin": ("sys.exit(f'read {sys.stdin.read()!r}')", "The script printed: read ''"),
    "makes nothing": ("sys.exit(0)", "exited with status 0 but wrote no finetune.yaml"),
    "makes one of two": ("main([])\nos.unlink('finetune.slurm')\nsys.exit(0)", "wrote no finetune.slurm"),
    "makes an empty file": ("main([])\nopen('finetune.yaml', 'w').close()\nsys.exit(0)", "finetune.yaml of 0 bytes"),
    "makes what is no config": (
        "main([])\nopen('finetune.yaml', 'w').write('- a')\nsys.exit(0)",
        "is not a YAML mapping",
    ),
    "fails after writing": (
        "main([])\nraise ValueError('too late')",
        "status 1. The script printed: ValueError: too late",
    ),
    "fails with a long traceback, and goes on talking": (
        "import atexit\natexit.register(print, 'offline')\ndef f(n):\n    f(n - 1) if n else {}['data_dir']\nf(300)",
        "status 1. The script printed: KeyError: 'data_dir'",
    ),
    "prints the heading of its traceback to another stream": (
        (
            "print('Traceback (most recent call last):')\n"
            "print('FileNotFoundError: no t.slurm', file=sys.stderr)\nsys.exit(1)"
        ),
        "status 1. The script printed: FileNotFoundError: no t.slurm",
    ),
    "prints nothing but the heading of a traceback": (
        "print('sorry\\nTraceback (most recent call last):\\n')\nsys.exit(1)", "status 1. The script printed: sorry",
    ),
    "is killed": ("os.kill(os.getpid(), 9)", "status -9"),
    "writes into another run": (
        (
            "main([])\nother = EXPERIMENT + '/rank8_lr1e-5/finetune.'\n"
            "while not os.path.exists(other + 'slurm'): time.sleep(0.01)\n"
            "open(other + 'yaml', 'w').write('lora_rank: 64')\nsys.exit(0)"
        ),
        f"wrote outside its working directory, in the experiment: {THREE[0]}/finetune.yaml",
    ),
    "writes beside the runs": (
        "main([])\npathlib.Path('../../../../notes.txt').write_text(str(time.time_ns()))\nsys.exit(0)", "notes.txt",
    ),
    "changes the summary": (
        "main([])\nopen(EXPERIMENT + '/experiment_summary.md', 'a').write('\\n')\nsys.exit(0)", "experiment_summary.md",
    ),
    "prints what is secret, and frames of a protocol": (
        "print('{\"jsonrpc\": \"2.0\", \"id\": 1, \"result\": {}}')\nsys.exit('0123456789abcdef')",
        "The script printed: [MY_API_KEY]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", spread(MISBEHAVIOURS, every=7))
def test_only_the_misbehaving_run_fails(
    three: Path, tmp_path: Path, marks: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(processes, "MOST", 50_000_000)
    monkeypatch.setenv("MY_API_KEY", "0123456789abcdef")
    body, reason = MISBEHAVIOURS[how]
    pass_deadlines_once(Path(f"{three}.hangs").exists, monkeypatch)
    others = [run for run in THREE if run != BAD]
    places = f"import subprocess\nMARKS, EXPERIMENT, OTHERS = {str(marks)!r}, {str(three)!r}, {others}\n"
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    file = script(tmp_path, "", GOOD)
    file.write_text(f"{GOOD}{places}if run == {BAD!r}:\n{indented}{MAKE}")
    result = scaffold(three, file, jobs=2, timeout=PATIENCE)
    (run,) = failed(result)
    assert run.directory == BAD
    assert reason in run.reason
    if "summary" not in how:
        assert [one.passed for one in result.validation.runs] == [True, False, True]
    assert not any(is_alive(int(mark.name)) for mark in marks.iterdir())
    assert not list((three / ".scaffold" / "staging").iterdir())
    assert not (three / BAD / "finetune.slurm").exists()
    assert {path for path in outputs(three) if path.endswith("slurm")} == {f"{run}/finetune.slurm" for run in others}
    assert actions(three)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"
    texts = [path.read_text() for path in (three / ".scaffold").rglob("*") if path.is_file()]
    assert not [text for text in [log(three), result.model_dump_json(), *texts] if "0123456789abcdef" in text]


@pytest.mark.parametrize("jobs", [1, 3])
def test_files_overwritten_by_another_run_are_restored(three: Path, tmp_path: Path, jobs: int) -> None:
    assert scaffold(three, script(tmp_path, MAKE)).ok
    good = outputs(three)
    body = f"""\
        code = main([])
        if run == {THREE[2]!r}:
            others = [pathlib.Path({str(three)!r}, other, "finetune.slurm") for other in {THREE[:2]!r}]
            while any(other.stat().st_mtime < os.stat(__file__).st_mtime for other in others):
                time.sleep(0.01)
            for other in others:
                other.write_text("#!/bin/bash")
        sys.exit(code)
        """
    (run,) = failed(scaffold(three, script(tmp_path, body), jobs=jobs))
    assert run.directory == THREE[2]
    assert {path: text for path, text in outputs(three).items() if THREE[2] not in path} == {
        path: text for path, text in good.items() if THREE[2] not in path
    }


def test_an_edit_by_a_person_is_not_attributed_to_a_script(three: Path, tmp_path: Path) -> None:
    def edit(step: str, done: int, _total: int) -> None:
        if (step, done) == ("setup", 1):
            (three / "notes.txt").write_text("mine")

    result = scaffold(three, script(tmp_path, "time.sleep(0.2)\n" + MAKE), progress=edit, jobs=1)
    assert result.ok
    assert [(f.code, f.file) for f in result.setup.warnings] == [("changed-meanwhile", "notes.txt")]


def test_modules_in_the_run_directory_and_variables_do_not_affect_a_script(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "raise SystemExit('hijacked')\n"
    steps.render(Request(three, setup_script=str(script(tmp_path, MAKE))))
    for name in ("yaml.py", "json.py", "sitecustomize.py"):
        (three / BAD / name).write_text(evil)
    (startup := tmp_path / "startup").write_text("exit 3\n")
    for name in ("BASH_ENV", "ENV", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, str(startup))
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    assert scaffold(three, tmp_path / "setup_finetune.py").ok


@pytest.mark.long
def test_one_gigabyte_of_output_from_each_script_does_no_harm(three: Path, tmp_path: Path) -> None:
    body = "for _ in range(1000):\n    sys.stdout.write('x' * 1_000_000)\n" + MAKE
    free = shutil.disk_usage(three).free
    assert scaffold(three, script(tmp_path, body), jobs=2).ok
    assert free - shutil.disk_usage(three).free < 500_000_000


def test_the_complete_output_is_kept_next_to_the_report(three: Path, tmp_path: Path) -> None:
    body = f"if run == {BAD!r}:\n    print('first')\n    print('\\x1b[31mred')\n    sys.exit('last')\n" + MAKE
    (run,) = failed(scaffold(three, script(tmp_path, body)))
    assert (three / run.output).read_text() == "first\n\\x1b[31mred\nlast\n"
    assert scaffold(three, script(tmp_path, MAKE)).ok
    assert not (three / run.output).exists()
