"""The environment of an external script: activated once for all runs, or unchanged."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.models import Setting, Source, SourceKind
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.backend import environment_of
from scaffold_torchtune.request import Interrupted, Request
from scaffold_torchtune.setup.external import Activation
from support.experiments import log, make_experiment, many_runs, run_directories
from support.logins import Login
from support.scaffolding import codes, refusal
from support.setup_scripts import MAKE, scaffold, script
from support.waiting import wait_until
from support.wording import absent

IN_CRUIJFF = "assert os.environ['ENVIRONMENT'] == os.environ['CONDA_DEFAULT_ENV'] == 'cruijff', os.environ\n"


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    return Login(tmp_path, monkeypatch, "cruijff", "other")


@pytest.mark.long
@pytest.mark.parametrize("runs", [3, pytest.param(50, marks=pytest.mark.long)])
def test_many_runs_activate_once(tmp_path: Path, login: Login, runs: int) -> None:
    experiment = many_runs(tmp_path, runs)
    result = scaffold(experiment, script(tmp_path, IN_CRUIJFF + MAKE), jobs=2)
    assert result.ok, [run.reason for run in result.setup.runs]
    assert result.setup.processed == len(run_directories(experiment)) == runs
    assert (login.conda.activated, login.loaded) == (["cruijff"], ["anaconda3/2025.6"])
    how = result.setup.environment
    assert absent(how, "cruijff", "module load anaconda3/2025.6") == []
    assert f"; {how}\n" in log(experiment)
    kept = "".join(file.read_text() for file in (experiment / ".scaffold").rglob("*") if file.is_file())
    assert str(login.conda.root) not in kept, "the environment itself is not remembered"


def test_separate_steps_of_a_server_share_one_activation(single: Path, tmp_path: Path, login: Login) -> None:
    request = Request(single, setup_script=str(script(tmp_path, IN_CRUIJFF + "import argparse\n" + MAKE)))
    steps.plan(request)
    steps.render(request)
    assert steps.setup(request).succeeded == 1
    assert login.conda.activated == ["cruijff"]


@pytest.mark.long
def test_a_different_environment_is_activated_separately(tmp_path: Path, login: Login) -> None:
    file = script(tmp_path, MAKE)
    assert scaffold(make_experiment(tmp_path / "one"), file).ok
    assert scaffold(make_experiment(tmp_path / "two", replace={"`cruijff`": "`other`"}), file).ok
    assert login.conda.activated == ["cruijff", "other"]


@pytest.mark.long
def test_the_environment_named_in_the_summary_is_activated(tmp_path: Path, login: Login) -> None:
    named = {"- **Epochs:** 2": "- **Epochs:** 2\n- **Conda environment:** other"}
    result = scaffold(make_experiment(tmp_path / "one", replace=named), script(tmp_path, MAKE))
    assert result.ok, [run.reason for run in result.setup.runs]
    assert set(login.conda.activated) == {"other"}
    assert [w.code for w in result.plan.warnings if w.field == "conda_env"] == ["overridden"]


def test_a_failed_activation_is_tried_again(single: Path, tmp_path: Path, login: Login) -> None:
    request = Request(single, setup_script=str(script(tmp_path, MAKE)))
    login.conda.answers("exit 1")
    assert codes(refusal(steps.scaffold, single, setup_script=request.setup_script)) == ["activation-failed"]
    login.conda.answers("")
    assert steps.scaffold(request).ok
    assert login.conda.activated == ["cruijff", "cruijff"]


def test_a_stop_request_ends_the_activation(single: Path, tmp_path: Path, login: Login) -> None:
    login.conda.answers("sleep 600")
    request = Request(single, setup_script=str(script(tmp_path, MAKE)))

    def stop() -> None:
        wait_until(lambda: login.conda.activated)
        request.stop.set()

    with ThreadPoolExecutor() as pool:
        pool.submit(stop)
        with pytest.raises(Interrupted):
            steps.scaffold(request)
    assert not run_directories(single)


def test_secrets_of_a_profile_do_not_reach_the_script(single: Path, tmp_path: Path, login: Login) -> None:
    login.adds("export HF_TOKEN=secret SITE_KEPT=kept BASH_ENV=/tmp/evil")
    body = "assert os.environ['SITE_KEPT'] == 'kept' and not {'HF_TOKEN', 'BASH_ENV'} & set(os.environ)\n"
    assert scaffold(single, script(tmp_path, body + MAKE)).ok


@pytest.mark.long
def test_an_active_environment_is_not_activated_again(
    single: Path, tmp_path: Path, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "cruijff")
    monkeypatch.setenv("CONDA_PREFIX", str(login.conda.root / "envs" / "cruijff"))
    monkeypatch.setenv("PATH", f"{login.conda.root}/envs/cruijff/bin:{os.environ['PATH']}")
    monkeypatch.setenv("LOADEDMODULES", "gcc/12:anaconda3/2025.6")
    result = scaffold(single, script(tmp_path, IN_CRUIJFF + MAKE))
    assert result.ok
    assert absent(result.setup.environment, "cruijff", "module load anaconda3/2025.6") == []
    assert (login.conda.activated, login.loaded) == ([], [])
    monkeypatch.setenv("LOADEDMODULES", "gcc/12:anaconda3/2025.60")
    activated = scaffold(make_experiment(tmp_path / "two"), script(tmp_path, MAKE))
    assert activated.ok
    assert activated.setup.environment != result.setup.environment
    assert (login.conda.activated, login.loaded) == (["cruijff"], ["anaconda3/2025.6"])


@pytest.mark.parametrize("flag", [["--no-activate"], []])
def test_nothing_is_activated_if_the_operator_disables_it(
    single: Path, tmp_path: Path, login: Login, monkeypatch: pytest.MonkeyPatch, flag: list[str]
) -> None:
    if not flag:
        monkeypatch.setenv("SCAFFOLD_TORCHTUNE_ACTIVATE", "off")
    file = script(tmp_path, "assert 'ENVIRONMENT' not in os.environ\n" + MAKE)
    for step in ("plan", "render", "setup", "validate", "scaffold"):
        chosen = [] if step == "validate" else ["--setup-script", str(file)]
        assert main([step, str(single), *chosen, *flag]) == 0, step
    assert not {"conda", "module"} & set(log(single).rpartition("RUN_SETUP_SCRIPTS")[2].split())
    assert (login.conda.activated, login.loaded) == ([], [])


def test_the_bundled_script_activates_nothing(tmp_path: Path, login: Login) -> None:
    result = steps.scaffold(Request(make_experiment(tmp_path / "sweep", replace={"`cruijff`": "`gone`"})))
    assert result.ok
    assert result.setup.environment == ""
    assert (login.conda.activated, login.loaded) == ([], [])


@pytest.mark.parametrize("flag", ["--venv", ""])
def test_the_operator_can_specify_a_virtual_environment(
    single: Path, tmp_path: Path, login: Login, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    venv = tmp_path / "tuning"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", venv], check=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    body = f"assert sys.prefix == os.environ['VIRTUAL_ENV'] == {str(venv)!r}\n" + MAKE
    if not flag:
        monkeypatch.setenv("SCAFFOLD_TORCHTUNE_VENV", str(venv))
    options = ["--setup-script", str(script(tmp_path, body)), *([flag, str(venv)] if flag else [])]
    assert main(["scaffold", str(single), *options]) == 0
    assert re.search(rf" {re.escape(str(venv))}\b.*module load anaconda3/2025\.6\n", log(single))
    assert "conda activate cruijff" in next(single.glob("*/finetune.slurm")).read_text()
    assert login.conda.activated == []
    monkeypatch.setenv("VIRTUAL_ENV", str(venv))
    monkeypatch.setenv("LOADEDMODULES", "anaconda3/2025.6")
    request = Request(single, setup_script="bundled", venv=venv)
    assert steps.scaffold(request).ok


@pytest.mark.long
def test_a_virtual_environment_in_the_documents_is_not_activated_here(tmp_path: Path, login: Login) -> None:
    evil = tmp_path / "evil" / "bin" / "activate"
    evil.parent.mkdir(parents=True)
    evil.write_text(f"touch {tmp_path}/ran")
    venv = f"- **Venv:** `{tmp_path / 'evil'}`\n- **Default conda environment**"
    experiment = make_experiment(tmp_path / "sweep", replace={"- **Default conda environment**": venv})
    scaffold(experiment, script(tmp_path, MAKE))
    assert login.conda.activated == ["cruijff"]
    assert not (tmp_path / "ran").exists()


def test_activations_are_described_by_their_shell_commands(login: Login) -> None:
    modules = Setting(value="gcc, cuda/12", source=Source(kind=SourceKind.LOCAL))
    found = environment_of({"modules": modules}, Request(Path("any")))
    assert (absent(found.how, "module load gcc cuda/12"), found.name) == ([], "")
    assert login.loaded == ["gcc", "cuda/12"]
    assert Activation(("gcc",), "tune").commands == "module load gcc; conda activate tune"
    assert Activation(("gcc",), venv="/opt/tune").commands == "module load gcc; source /opt/tune/bin/activate"


def test_without_an_environment_the_current_one_is_used(login: Login) -> None:
    found = environment_of({}, Request(Path("any")))
    assert (found.name, found.python) == ("", sys.executable)
    assert not {"conda", "module"} & set(found.how.split())
    assert login.conda.activated == []
