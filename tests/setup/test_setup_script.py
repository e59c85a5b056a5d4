"""The result of a script that works, fails, or leaves its work unfinished."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Refused, errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import FILES, actions, log, make_experiment, outputs, run_directories
from support.sampling import spread
from support.setup_scripts import GOOD, MAKE, THREE, failed, scaffold, script
from support.wording import absent


def test_a_working_script_writes_the_same_files_as_the_bundled_one(three: Path, tmp_path: Path) -> None:
    file = script(tmp_path, MAKE)
    result = scaffold(three, file)
    assert result.ok
    assert result.plan.setup == str(file)
    made = outputs(three)
    assert sorted(made) == sorted(f"{run}/{name}" for run in THREE for name in FILES)
    how = result.setup.environment
    assert re.search(rf"\nDetails: {re.escape(str(file))} .*; {how}\n", log(three))
    assert "conda" not in log(three)
    assert not list((three / ".scaffold" / "staging").iterdir())
    assert scaffold(three, file).unchanged
    bundled = make_experiment(tmp_path / "other" / "sweep", without=["_rank16_lr5e-5"])
    steps.scaffold(Request(bundled))
    ours = outputs(bundled)
    assert {name: made[name] for name in made if "/setup_" not in name} == {
        name: ours[name] for name in ours if "/setup_" not in name
    }


def test_one_of_three_fails_and_the_others_do_not(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "if run == 'rank8_lr5e-5':\n    sys.exit('this run has\\tno luck')\n" + MAKE
    file = script(tmp_path, body)
    assert main(["scaffold", str(three), "--setup-script", str(file), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [(run["directory"], run["ok"]) for run in result["setup"]["runs"]] == [
        (THREE[0], True),
        (THREE[1], False),
        (THREE[2], True),
    ]
    assert (result["setup"]["processed"], result["setup"]["succeeded"], result["setup"]["failed"]) == (3, 2, 1)
    reason = result["setup"]["runs"][1]["reason"]
    assert absent(reason, 1, "this run has\\tno luck") == []
    assert not result["ok"]
    assert actions(three)[-4:] == [
        "SETUP_RUN_FAILED",
        "RUN_SETUP_SCRIPTS",
        "VALIDATE_PARAMETERS",
        "SCAFFOLD_TORCHTUNE_FAILED",
    ]
    assert f"SETUP_RUN_FAILED\nDetails: rank8_lr5e-5\nResult: {reason} | Ran for: " in log(three)
    output = ".scaffold/output/rank8_lr5e-5.txt"
    assert f"| Exit status: 1 | Full output: {output}\n" in log(three)
    assert (three / output).read_text() == "this run has\\tno luck\n"
    assert [result["setup"]["runs"][1][key] for key in ("status", "output")] == [1, output]
    counted = log(three).rpartition("RUN_SETUP_SCRIPTS")[2].partition("\n\n")[0].rpartition("Result: ")[2]
    assert re.findall(r"\d+", counted)[:3] == ["3", "2", "1"]
    assert sorted(path.name for path in (three / THREE[1]).iterdir()) == ["setup_finetune.yaml"]
    assert main(["scaffold", str(three), "--setup-script", str(file)]) == 1
    assert absent(capsys.readouterr().out, f"rank8_lr5e-5: {reason}") == []


def test_a_second_call_runs_only_the_failed_ones(three: Path, tmp_path: Path, marks: Path) -> None:
    body = f"""\
        marks = pathlib.Path({str(marks)!r})
        (marks / f"{{run}}.{{time.monotonic_ns()}}").touch()
        if run == "rank8_lr5e-5" and not (marks / "ready").exists():
            sys.exit("not ready")
        """
    file = script(tmp_path, body, GOOD)
    file.write_text(file.read_text() + MAKE)
    assert [run.directory for run in failed(scaffold(three, file))] == ["rank8_lr5e-5"]
    assert len(list(marks.iterdir())) == 3
    (marks / "ready").touch()
    result = scaffold(three, file)
    assert result.ok
    assert [run.unchanged for run in result.setup.runs] == [True, False, True]
    started = sorted(path.name.partition(".")[0] for path in marks.iterdir())
    assert started == ["rank16_lr1e-5", "rank8_lr1e-5", "rank8_lr5e-5", "rank8_lr5e-5", "ready"]
    counted = log(three).rpartition("RUN_SETUP_SCRIPTS")[2].partition("\n\n")[0].rpartition("Result: ")[2]
    assert re.findall(r"\d+", counted)[:4] == ["3", "3", "2", "0"]


@pytest.mark.long
def test_a_changed_script_runs_again_and_if_it_fails_the_old_outputs_stay_but_fail_validation(
    three: Path, tmp_path: Path
) -> None:
    file = script(tmp_path, MAKE)
    assert scaffold(three, file).ok
    before = outputs(three)
    script(tmp_path, "if run == 'rank8_lr5e-5':\n    print('so it goes')\n    sys.exit(3)\n" + MAKE)
    result = scaffold(three, file)
    assert [run.directory for run in failed(result)] == ["rank8_lr5e-5"]
    assert [run.passed for run in result.validation.runs] == [True, False, True]
    validated = steps.validate(Request(three, setup_script=str(file)))
    assert [f.code for run in validated.runs for f in errors_in(run.findings)] == ["setup-failed"]
    (told,) = [f for run in validated.runs for f in errors_in(run.findings)]
    kept = three / ".scaffold" / "output" / "rank8_lr5e-5.txt"
    assert str(kept.relative_to(three)) in told.fix
    assert kept.read_text() == "so it goes\n"
    kept.unlink()
    (told,) = [
        f for run in steps.validate(Request(three, setup_script=str(file))).runs for f in errors_in(run.findings)
    ]
    assert told.fix
    assert ".scaffold" not in told.fix
    assert outputs(three) == before
    assert scaffold(three, Path("bundled")).ok


@pytest.mark.long
def test_outputs_of_a_script_changed_since_fail_validation(three: Path, tmp_path: Path) -> None:
    file = script(tmp_path, MAKE)
    assert scaffold(three, file).ok
    file.write_text(file.read_text() + "# newer\n")
    edited = three / "rank8_lr5e-5" / "finetune.yaml"
    edited.write_text(edited.read_text() + "# mine\n")
    validated = steps.validate(Request(three, setup_script=str(file)))
    found = [f for run in validated.runs for f in errors_in(run.findings)]
    assert {f.code for f in found} == {"stale-output"}
    assert [f.file for f in found if "--overwrite" in f.fix] == ["rank8_lr5e-5/finetune.yaml"]
    with pytest.raises(Refused):
        scaffold(three, file)
    assert scaffold(three, file, overwrite=True).ok


def test_a_missing_cruijff_kit_is_answered_with_the_activation(three: Path, tmp_path: Path) -> None:
    file = script(tmp_path, "import cruijff_kit\n", start="")
    (run, *others) = failed(scaffold(three, file))
    assert len(others) == 2
    assert run.reason.endswith(": ModuleNotFoundError: No module named 'cruijff_kit'")
    assert absent(run.cause, "'cruijff_kit'") == []
    activate = "module load anaconda3/2025.6; conda activate cruijff"
    assert absent(run.fix, f"(`{activate}`)", "--no-activate") == []
    assert run.fix in log(three)


def test_without_modules_the_fix_names_only_the_environment(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=["module load"])
    file = script(tmp_path, "import cruijff_kit\n", start="")
    assert "(`conda activate cruijff`)" in failed(scaffold(experiment, file))[0].fix


@pytest.mark.parametrize(
    ("body", "reason"),
    spread(
        [
            ("", ["no finetune.yaml"]),
            ("print('done\\n\\n')\nopen('finetune.yaml', 'w').write('x: 1')", ["no finetune.slurm", ": done"]),
            (
                "open('finetune.slurm', 'w').write('#!x')\nopen('finetune.yaml', 'w').write('x')",
                ["finetune.yaml", "YAML"],
            ),
            ("main([])\nopen('finetune.slurm', 'w').write('x')", ["finetune.slurm", "#!"]),
            ("main([])\nopen('finetune.slurm', 'w')", ["finetune.slurm", "0 bytes"]),
            ("main([])\nopen('finetune.yaml', 'w').write('x' * 1_000_001)", ["finetune.yaml", "1000001 bytes"]),
            ("main([])\nos.rename('finetune.yaml', 'x')\nos.symlink('x', 'finetune.yaml')", ["no finetune.yaml"]),
            ("main([])\nos.unlink('finetune.slurm')\nos.mkdir('finetune.slurm')", ["no finetune.slurm"]),
            ("main([])\nos.unlink('finetune.slurm')\nos.mkfifo('finetune.slurm')", ["no finetune.slurm"]),
            ("main([])\nsys.exit(4)", ["status 4"]),
            ("main([])\nos.kill(os.getpid(), 9)", ["status -9"]),
            ("import shutil\nshutil.rmtree(os.getcwd())", ["no finetune.yaml"]),
        ],
        every=3,
    ),
    ids=[
        "nothing",
        "half",
        "no yaml",
        "no script",
        "empty",
        "huge",
        "link",
        "directory",
        "fifo",
        "status",
        "killed",
        "removed",
    ],
)
def test_unfinished_work_of_a_script_is_a_failure_with_its_reason(
    single: Path, tmp_path: Path, body: str, reason: list[str]
) -> None:
    result = scaffold(single, script(tmp_path, body))
    assert len(failed(result)) == 1
    assert [absent(run.reason, *reason) for run in result.setup.runs] == [[]]
    assert not list(single.glob("rank*/finetune.*"))
    assert not list((single / ".scaffold" / "staging").iterdir())


def test_other_files_of_a_script_in_its_directory_are_removed(single: Path, tmp_path: Path) -> None:
    body = "os.makedirs('deep/er')\nopen('deep/er/x', 'w')\nos.symlink('/', 'root')\nos.mkfifo('fifo')\n" + MAKE
    assert scaffold(single, script(tmp_path, body)).ok
    assert all(sorted(path.name for path in (single / run).iterdir()) == list(FILES) for run in run_directories(single))
    assert not list((single / ".scaffold" / "staging").iterdir())


def test_a_finetune_yaml_with_the_anchors_of_pyyaml_passes(single: Path, tmp_path: Path) -> None:
    body = """\
        import yaml
        main([])
        file = pathlib.Path("finetune.yaml")
        data = yaml.safe_load(file.read_text())
        data["targets"] = data["model"]["lora_attn_modules"]
        text = yaml.safe_dump(data)
        file.write_text(text)
        assert "*id001" in text
        """
    assert scaffold(single, script(tmp_path, body)).ok


@pytest.mark.parametrize(
    "added", ["seed: 14", "more: &x {a: 1}\\nother: {<<: *x}", "more: !x 1", "---\\na: 1", "a: [1"]
)
def test_a_finetune_yaml_that_cannot_be_read_is_a_failure_with_the_true_cause(
    single: Path, tmp_path: Path, added: str
) -> None:
    body = f"main([])\nopen('finetune.yaml', 'a').write('{added}\\n')\n"
    (run,) = failed(scaffold(single, script(tmp_path, body)))
    assert re.search(r"finetune\.yaml .*\(line [0-9]+\)", run.reason)
    assert run.cause == ""
    assert "finetune.yaml" in run.fix


def test_outputs_that_are_not_utf8_fail(single: Path, tmp_path: Path) -> None:
    body = "main([])\nopen('finetune.yaml', 'ab').write(b'\\xff')\n"
    (run,) = failed(scaffold(single, script(tmp_path, body)))
    assert absent(run.reason, "finetune.yaml", "UTF-8") == []


def test_wrong_values_of_a_script_fail_validation(three: Path, tmp_path: Path) -> None:
    body = """\
        main([])
        file = pathlib.Path("finetune.yaml")
        file.write_text(file.read_text().replace("lora_rank: 8", "lora_rank: 64"))
        """
    result = scaffold(three, script(tmp_path, body))
    assert result.setup.failed == 0
    assert [run.passed for run in result.validation.runs] == [False, False, True]
    assert actions(three)[-1] == "SCAFFOLD_TORCHTUNE_FAILED"


def test_a_failure_to_create_a_directory_fails_the_run(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = os.mkdir

    def full(path: str, *args: Any, **given: Any) -> None:
        if path == THREE[2] and (three / THREE[2]).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made(path, *args, **given)

    monkeypatch.setattr(os, "mkdir", full)
    result = scaffold(three, script(tmp_path, MAKE), jobs=1)
    assert [run.directory for run in failed(result)] == [THREE[2]]
    assert absent(result.setup.runs[2].reason, ".scaffold/staging/", THREE[2], os.strerror(errno.ENOSPC)) == []
    assert not list((three / ".scaffold" / "staging").iterdir())


def test_a_script_that_writes_its_working_directory_fails_the_validation(three: Path, tmp_path: Path) -> None:
    body = f"""
    status = main([])
    if run == {THREE[1]!r}:
        slurm = pathlib.Path("finetune.slurm")
        slurm.write_text(slurm.read_text().replace("mkdir", f"cd {{os.getcwd()}}\\nmkdir", 1))
    sys.exit(status)
    """
    result = scaffold(three, script(tmp_path, body))
    assert (result.ok, result.submit) == (False, "")
    found = {run.directory: [f.field for f in errors_in(run.findings)] for run in result.validation.runs}
    assert found == {THREE[0]: [], THREE[1]: ["working directory"], THREE[2]: []}
