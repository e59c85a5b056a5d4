"""Test each check of `doctor`, passed and failed, with its fix."""

import json
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.models import Check, Readiness
from scaffold_torchtune.pipeline import diagnosis
from scaffold_torchtune.request import Interrupted, Request
from support.command_line import answer, readiness
from support.experiments import change, everything, make_experiment
from support.kit_generations import GENERATIONS, kit
from support.logins import Login
from support.permissions import held_to_modes
from support.setup_scripts import script
from support.wording import absent


def looked(experiment: Path, **given: object) -> Readiness:
    return diagnosis.doctor(Request(experiment, **given), with_experiment=True)  # type: ignore[arg-type]


def checks(of: Readiness, name: str) -> list[tuple[str, str]]:
    return [(check.state, check.found) for check in of.checks if check.name == name]


def one(of: Readiness, name: str) -> Check:
    (found,) = (check for check in of.checks if check.name == name)
    return found


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    return Login(tmp_path, monkeypatch, "cruijff")


def test_a_ready_machine_passes_every_check(
    experiment: Path, tmp_path: Path, login: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(experiment)
    file = kit(tmp_path / "kit", "december")
    line = ["doctor", str(experiment), "--setup-script", str(file), "--root", str(tmp_path)]
    assert main([*line, "--json"]) == 0
    found = readiness(answer(capsys))
    assert found.ready
    assert checks(found, "roots") == [("ok", str(tmp_path))]
    assert one(found, "experiment").found.startswith(f"{experiment}, ")
    assert checks(found, "documents")[0][1].startswith("cap_4L_lora_lr_sweep: 4 of 5 runs to fine-tune")
    assert checks(found, "claude.local.md") == [("ok", str(experiment / "claude.local.md"))]
    python = login.conda.root / "envs" / "cruijff" / "bin" / "python"
    ((state, how),) = checks(found, "environment")
    assert (state, absent(how, "cruijff", "module load anaconda3/2025.6", python)) == ("ok", [])
    assert login.conda.activated == ["cruijff"]
    options = len(GENERATIONS["december"]["options"]) + 1  # and the option of the script itself, --config_file
    ((state, asked),) = checks(found, "setup script")
    assert (state, absent(asked, file, "2025-12", f"{options} options")) == ("ok", [])
    assert everything(experiment) == before
    assert main(line) == 0
    out = capsys.readouterr().out
    assert absent(out, "ready") == []
    assert how in out


def test_without_an_experiment_doctor_checks_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert absent(out, "claude.local.md", tmp_path, "`scaffold-torchtune new DIR`") == []
    assert absent(out, "not ready", 1) == []
    local = tmp_path / "claude.local.md"
    capsys.readouterr()
    local.write_text("- conda_env: a/b\n- my_wandb_project: words\n- output_dir_base: /out\n")
    assert main(["doctor", "--json"]) == 1
    found = readiness(answer(capsys))
    assert [state for state, _ in checks(found, "claude.local.md")] == ["ok", "problem"]
    assert "claude.local.md:1: " in checks(found, "claude.local.md")[1][1]
    assert not [check for check in found.checks if check.name in {"documents", "experiment"}]
    change(local, "a/b", "tune")
    assert main(["doctor"]) == 0
    capsys.readouterr()
    local.write_bytes(b"\xff")
    assert main(["doctor", "--json"]) == 1
    assert absent(one(readiness(answer(capsys)), "claude.local.md").found, "UTF-8") == []


def test_a_missing_experiment_or_one_outside_the_roots_is_refused(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(tmp_path / "gone")]) == 2
    (tmp_path / "other").mkdir()
    assert main(["doctor", str(experiment), "--root", str(tmp_path / "other"), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert problem["code"] == "outside-roots"


def test_missing_roots_are_reported(experiment: Path, tmp_path: Path) -> None:
    found = looked(experiment, roots=(tmp_path, tmp_path / "gone"))
    assert [state for state, _ in checks(found, "roots")] == ["ok", "warning"]
    assert found.ready


def test_every_problem_of_the_documents_is_reported_once(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", without=["**Epochs:**", "Default conda environment"])
    found = looked(experiment)
    told = checks(found, "documents")
    assert [state for state, _ in told] == ["problem", "problem"]
    assert sorted(absent(text, "conda_env", "epochs") for _, text in told) == [["conda_env"], ["epochs"]]
    assert not found.ready
    assert [state for state, _ in checks(found, "claude.local.md")] == ["ok"]


def test_an_experiment_that_is_not_writable_is_reported(experiment: Path) -> None:
    experiment.chmod(0o500)
    with held_to_modes():
        found = looked(experiment)
    check = one(found, "experiment")
    assert (check.state, absent(check.found, experiment), bool(check.fix)) == ("problem", [], True)
    assert not found.ready


def test_an_experiment_without_free_space_is_reported(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "free_bytes", lambda _: 1_000_000)
    assert checks(looked(experiment), "experiment") == [("problem", f"{experiment}, 0.0 GB free")]
    monkeypatch.setattr(diagnosis, "free_bytes", lambda _: None)
    assert checks(looked(experiment), "experiment") == [("ok", str(experiment))]


@pytest.mark.usefixtures("login")
def test_an_environment_that_cannot_be_activated_is_reported(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep", replace={"`cruijff`": "`crujff`"})
    bundled = looked(experiment)
    assert bundled.ready, "nothing needs it here"
    assert one(bundled, "environment").state == "warning"
    ((state, told),) = checks(bundled, "setup script")
    assert (state, absent(told, "bundled")) == ("ok", [])
    found = looked(experiment, setup_script=str(script(tmp_path, "import argparse\n")))
    environment, asked = one(found, "environment"), one(found, "setup script")
    assert (environment.state, asked.state) == ("problem", "problem")
    assert absent(environment.found, "claude.local.md:22", "'crujff'", "'cruijff'") == []
    assert "argparse" not in asked.found, "it was not asked"


def test_with_no_activate_the_environment_is_not_loaded(experiment: Path, login: Login) -> None:
    found = one(looked(experiment, activate=False), "environment")
    assert found.state == "warning"
    assert absent(found.found, "Python: ") == []
    assert absent(found.fix, "module load anaconda3/2025.6; conda activate cruijff") == []
    assert login.loaded == []


def test_a_stop_request_interrupts_doctor(experiment: Path, login: Login) -> None:
    login.conda.answers("sleep 600")
    request = Request(experiment)
    request.stop.set()
    with pytest.raises(Interrupted):
        diagnosis.doctor(request, with_experiment=True)


@pytest.mark.parametrize(
    ("body", "state", "told"),
    [
        ("import argparse, of_nobody\n", "problem", "'of_nobody'"),
        ("import argparse\nif\n", "problem", "SyntaxError"),
        ("print('hello')\n", "warning", "argparse"),
        ("import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr')\np.parse_args()\n", "ok",
         "1 option"),
    ],
)  # fmt: skip
def test_a_setup_script_is_judged_by_its_output(
    experiment: Path, tmp_path: Path, body: str, state: str, told: str
) -> None:
    found = one(looked(experiment, setup_script=str(script(tmp_path, body, start=""))), "setup script")
    assert found.state == state
    assert told in found.found


def test_a_missing_or_unselected_setup_script_is_reported(tmp_path: Path) -> None:
    home = tmp_path / "kit"
    experiment = make_experiment(tmp_path / "sweep", replace={"`/home/ada/cruijff_kit`": f"`{home}`"})
    gone = one(looked(experiment, setup_script=str(tmp_path / "gone.py")), "setup script")
    assert (gone.state, absent(gone.found, f"'{tmp_path / 'gone.py'}'")) == ("problem", [])
    file = script(home / "tools" / "torchtune", "import argparse\n")
    unchosen = one(looked(experiment), "setup script")
    assert unchosen.state == "problem"
    assert f"--setup-script {file}" in unchosen.fix


def test_a_missing_claude_local_md_is_one_problem_and_its_missing_fields_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(tmp_path / "sweep", local=None)
    monkeypatch.chdir(experiment)
    found = looked(experiment)
    assert [state for state, _ in checks(found, "claude.local.md")] == ["problem"]
    names = ("conda_env", "my_wandb_project")
    lacking = [[name for name in names if absent(text, name) == []] for _, text in checks(found, "documents")]
    assert sorted(lacking) == [["conda_env"], ["my_wandb_project"]]
