"""A failed activation is refused before anything is written: the problem, the alternatives, and the fix."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.setup.external import Activation, Fault, activation_problem
from support.experiments import actions, everything, make_experiment
from support.logins import Login
from support.scaffolding import refusal
from support.setup_scripts import GOOD, MAKE, failed, scaffold, script
from support.waiting import pass_deadlines_once
from support.wording import absent


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    return Login(tmp_path, monkeypatch, "cruijff", "tuning", "tuned")


def refused(folder: Path, replace: dict[str, str] | None = None, body: str = MAKE, **given: Any) -> Finding:
    """Return the only problem of a refused scaffold, which only logged its entry."""
    experiment = make_experiment(folder / "sweep", replace=replace)
    before = everything(experiment)
    file = script(folder, body, start="" if "import" in body else GOOD)
    (found,) = refusal(steps.scaffold, experiment, setup_script=str(file), **given).problems
    after = everything(experiment)
    assert {name for name in after if after[name] != before.get(name)} == {".", "scaffold.log"}
    assert actions(experiment) == ["SCAFFOLD_TORCHTUNE_REFUSED"]
    return found


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("anaconda3/2023.9", "anaconda3/2024.2, anaconda3/2025.6"),
        ("Anaconda3", "anaconda3/2024.2, anaconda3/2025.6"),
        ("cuda/13", "cuda/12"),
    ],
)
def test_a_missing_module(tmp_path: Path, login: Login, name: str, near: str) -> None:
    found = refused(tmp_path, {"anaconda3/2025.6": name})
    assert (found.code, found.field, found.location()) == ("module-missing", "modules", "claude.local.md:27")
    assert (found.expected, found.actual) == (near, name)
    said = f"ERROR: Unable to locate a modulefile for '{name}'"
    assert absent(found.message, f"'{name}'", said) == []
    assert absent(found.fix, near, f"module load {name}; conda activate cruijff", "--no-activate") == []
    assert login.conda.activated == []


@pytest.mark.usefixtures("login")
def test_a_module_without_a_similar_one(tmp_path: Path) -> None:
    found = refused(tmp_path, {"anaconda3/2025.6": "zzz"})
    assert found.expected is None
    assert absent(found.fix, "`module avail`") == []


@pytest.mark.usefixtures("login")
def test_a_module_that_cannot_be_loaded(tmp_path: Path) -> None:
    found = refused(tmp_path, {"anaconda3/2025.6": "broken/1"})
    assert (found.code, found.field, found.line) == ("activation-failed", "modules", 27)
    assert absent(found.message, "'broken/1'", "ERROR: Module evaluation aborted") == []


def test_no_module_system() -> None:
    found = activation_problem(Fault("modules", "a/1 b"), Activation(("a/1", "b"), "tune"), {})
    assert found.code == "modules-missing"
    assert absent(found.message, "the modules 'a/1' and 'b'", "`module`") == []
    assert absent(found.fix, "module load a/1; module load b; conda activate tune", "--no-activate") == []


def test_no_conda(tmp_path: Path, login: Login) -> None:
    shutil.rmtree(login.conda.root)
    found = refused(tmp_path)
    assert (found.code, found.field, found.location()) == ("conda-missing", "conda_env", "claude.local.md:22")
    assert absent(found.message, "conda", "mamba", "micromamba", "`module load anaconda3/2025.6`", "PATH") == []
    assert absent(found.fix, "--venv DIR") == []
    bare = activation_problem(Fault("conda", "tune", "no hook"), Activation(conda_env="tune"), {})
    assert absent(bare.message, "conda", "mamba", "micromamba", "PATH", "no hook") == []
    assert "module load" not in bare.message


@pytest.mark.usefixtures("login")
def test_a_missing_conda_environment(tmp_path: Path) -> None:
    found = refused(tmp_path, {"`cruijff`": "`tunin`"})
    assert (found.code, found.field, found.location()) == ("environment-missing", "conda_env", "claude.local.md:22")
    assert (found.expected, found.actual) == ("base, cruijff, tuned, tuning", "tunin")
    printed = "EnvironmentNameNotFound: Could not find conda environment: tunin"
    assert absent(found.message, "'tunin'", printed, "'tuning'", "'tuned'") == []
    assert absent(found.fix, "conda create") == []


def test_a_conda_environment_that_cannot_be_activated(tmp_path: Path, login: Login) -> None:
    login.conda.answers("echo first >&2; echo 'PermissionError: [Errno 13]' >&2; echo last >&2; exit 1")
    found = refused(tmp_path)
    assert found.code == "activation-failed"
    assert absent(found.message, "'cruijff'", "PermissionError: [Errno 13]") == []
    assert not {"first", "last"} & set(found.message.split())


def test_environments_that_cannot_be_listed() -> None:
    found = activation_problem(Fault("environment", "tune"), Activation(conda_env="tune"), {})
    assert (found.code, found.expected) == ("environment-missing", None)
    assert absent(found.message, "'tune'") == []
    assert absent(found.fix, "`conda env list`") == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("one\n\ntwo\n\n", ": 'two'"),
        ("x\nan error: y\nz", ": 'an error: y'"),
        ("x\nthe following error:\n  y\n  z\n\nmore", ": 'the following error: y z'"),
        ("an error:", ": 'an error:'"),
    ],
)
def test_the_most_informative_line_of_the_output_is_reported(said: str, told: str) -> None:
    found = activation_problem(Fault("shell", output=said, at="at-work"), Activation(conda_env="tune"), {})
    assert absent(found.message, "at-work") == []
    assert found.message.endswith(told)


def test_an_activation_that_hangs(tmp_path: Path, login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    login.conda.answers("sleep 600")
    pass_deadlines_once(lambda: login.conda.activated, monkeypatch)
    found = refused(tmp_path, timeout=60)
    assert (found.code, found.location()) == ("activation-failed", "claude.local.md:22")
    assert absent(found.message, "conda activate cruijff", "60 s") == []


def test_a_profile_that_ends_the_shell(tmp_path: Path, login: Login) -> None:
    login.adds("echo no more; exit 9")
    found = refused(tmp_path)
    assert found.code == "activation-failed"
    assert absent(found.message, "bash -l", 9, "no more") == []


def test_an_environment_without_python(tmp_path: Path, login: Login) -> None:
    (login.conda.root / "envs" / "cruijff" / "bin" / "python").unlink()
    found = refused(tmp_path)
    assert found.code == "activation-failed"
    assert absent(found.message, "cruijff") == []
    assert absent(found.fix, "conda install -n cruijff python") == []


def test_a_missing_virtual_environment(tmp_path: Path, login: Login) -> None:
    found = refused(tmp_path, venv=tmp_path / "gone")
    assert (found.code, found.field, found.actual) == ("environment-missing", "venv", str(tmp_path / "gone"))
    assert absent(found.message, "bin/activate") == []
    assert login.loaded == []


def test_many_environments_are_counted() -> None:
    listed = "\n".join(f"env{number:02}   /opt/envs/env{number:02}" for number in range(20))
    found = activation_problem(Fault("environment", "tune", available=listed), Activation(conda_env="tune"), {})
    assert str(found.expected).endswith("env10, env11 and 8 more")


@pytest.mark.usefixtures("login")
def test_a_package_missing_from_the_environment(tmp_path: Path) -> None:
    found = refused(tmp_path, body="import argparse, cruijff_kit_of_nobody.tools\n")
    assert (found.code, found.field) == ("package-missing", "setup_script")
    assert absent(found.message, "cruijff", "'cruijff_kit_of_nobody'") == []
    python = tmp_path / "conda" / "envs" / "cruijff" / "bin" / "python"
    assert absent(found.fix, f"{python} -m pip install cruijff_kit_of_nobody", "--setup-script bundled") == []


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("marker", ["pyproject.toml", "setup.py"])
def test_a_missing_package_from_the_checkout_of_the_script(tmp_path: Path, marker: str) -> None:
    kit = tmp_path / "kit"
    file = script(kit / "src" / "tools", "import argparse, of_nobody\n", start="")
    (kit / marker).write_text("[project]\nname = 'of_nobody'\n")
    if marker == "setup.py":
        (kit / "src" / "of_nobody").mkdir()
    (found,) = refusal(steps.plan, make_experiment(tmp_path / "sweep"), setup_script=str(file)).problems
    assert absent(found.fix, f"-m pip install -e {kit}`;") == []
    file.write_text("import argparse, another\n")
    (found,) = refusal(steps.plan, make_experiment(tmp_path / "two"), setup_script=str(file)).problems
    assert absent(found.fix, "-m pip install another`;") == []


@pytest.mark.usefixtures("login")
def test_a_missing_package_that_is_only_detected_when_the_script_runs(tmp_path: Path) -> None:
    file = script(tmp_path, "import cruijff_kit\n", start="")
    (run, *_) = failed(scaffold(make_experiment(tmp_path / "sweep"), file))
    assert absent(run.cause, "cruijff", "'cruijff_kit'") == []
    assert absent(run.fix, f"{tmp_path}/conda/envs/cruijff/bin/python -m pip install cruijff_kit") == []


@pytest.mark.usefixtures("login")
def test_a_missing_package_before_the_environment_is_active(tmp_path: Path) -> None:
    found = refused(tmp_path, body="import argparse, cruijff_kit_of_nobody\n", activate=False)
    assert found.code == "package-missing"
    assert absent(found.message, "'cruijff_kit_of_nobody'") == []
    activate = "module load anaconda3/2025.6; conda activate cruijff"
    assert absent(found.fix, activate, "--no-activate", "--setup-script bundled") == []
    assert "pip install" not in found.fix
