"""Activation in a real login shell: the environment, or the reason for a failure. Modules and conda are stand-ins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.setup.external import Activation, Fault, activate
from support.logins import HIDDEN, MODULES, home, loaded
from support.stand_in_conda import StandIn
from support.waiting import PATIENCE, pass_deadlines_once
from support.wording import absent


def activated(asked: Activation, login: dict[str, str], timeout: float = PATIENCE) -> dict[str, str]:
    found = activate(asked, login, timeout)
    assert not isinstance(found, Fault), found
    return found


def fault(asked: Activation, login: dict[str, str], timeout: float = PATIENCE) -> Fault:
    found = activate(asked, login, timeout)
    assert isinstance(found, Fault), found
    return found


TUNE = Activation(conda_env="tune")


@pytest.fixture
def conda(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "opt" / "my conda", "tune", "other")


def is_tune(conda: StandIn, found: dict[str, str]) -> bool:
    prefix = conda.root / "envs" / "tune"
    first = found["PATH"].partition(":")[0]
    return (found["CONDA_PREFIX"], first, conda.activated) == (str(prefix), f"{prefix}/bin", ["tune"])


def test_without_its_hook_the_stand_in_activates_nothing(conda: StandIn) -> None:
    done = subprocess.run([conda.program, "activate", "tune"], capture_output=True, text=True, check=False)
    assert (done.returncode, "Run 'conda init'" in done.stderr, conda.activated) == (1, True, [])


def test_conda_of_the_login_shell(tmp_path: Path, conda: StandIn) -> None:
    assert is_tune(conda, activated(TUNE, home(tmp_path / "home", f". '{conda.hook}'")))


def test_conda_missing_from_the_path_of_the_login_shell(tmp_path: Path, conda: StandIn) -> None:
    login = home(tmp_path / "home", "PATH=/usr/bin:/bin")
    login["PATH"] = f"{conda.program.parent}:/opt/*:{login['PATH']}"
    found = activated(TUNE, login)
    assert is_tune(conda, found)
    ours = found["PATH"].split(":")
    assert ours[-3:] == [str(conda.program.parent), "/opt/*", "/usr/local/bin"]


def test_conda_added_to_path_by_a_module(tmp_path: Path, conda: StandIn) -> None:
    profile = MODULES.replace("SITE=$name", f'SITE=$name PATH="$PATH:{conda.program.parent}"')
    login = home(tmp_path / "home", profile)
    assert fault(TUNE, login).kind == "conda"
    found = activated(Activation(("anaconda3/2025.6",), "tune"), login)
    assert is_tune(conda, found)
    assert found["SITE"] == "anaconda3/2025.6"


def test_conda_of_conda_exe(tmp_path: Path, conda: StandIn) -> None:
    assert is_tune(conda, activated(TUNE, home(tmp_path / "home") | {"CONDA_EXE": str(conda.program)}))


@pytest.mark.parametrize("place", ["miniconda3", "anaconda3", "miniforge3", "mambaforge"])
def test_conda_in_a_usual_directory(tmp_path: Path, place: str) -> None:
    login = home(tmp_path / "home")
    conda = StandIn(tmp_path / "home" / place, "tune")
    assert is_tune(conda, activated(TUNE, login))


@pytest.mark.parametrize("tool", ["micromamba", "mamba"])
def test_micromamba_and_mamba_instead_of_conda(tmp_path: Path, tool: str) -> None:
    login = home(tmp_path / "home")
    program = tmp_path / "bin" / tool
    program.parent.mkdir()
    hook = f'{tool}() {{ [ "$*" = "activate tune" ] && export CONDA_DEFAULT_ENV=tune CONDA_PREFIX=/e/tune; }}'
    program.write_text(f"#!/bin/sh\n[ \"$*\" = 'shell hook --shell bash' ] && echo '{hook}'\n")
    program.chmod(0o755)
    assert activated(TUNE, login | {"MAMBA_EXE": str(program)})["CONDA_PREFIX"] == "/e/tune"
    login["PATH"] += f":{program.parent}"
    assert activated(TUNE, login)["CONDA_PREFIX"] == "/e/tune"
    assert activated(TUNE, login | {"MAMBA_EXE": "/gone"})["CONDA_DEFAULT_ENV"] == "tune"


def test_a_conda_without_a_hook_is_not_used(tmp_path: Path) -> None:
    program = tmp_path / "conda"
    program.write_text("#!/bin/sh\necho 'conda: error: shell.bash: invalid choice' >&2\nexit 2\n")
    program.chmod(0o755)
    found = fault(TUNE, home(tmp_path / "home") | {"CONDA_EXE": str(program)})
    assert (found.kind, found.what) == ("conda", "tune")
    assert "invalid choice" in found.output


def test_a_missing_environment(tmp_path: Path, conda: StandIn) -> None:
    found = fault(Activation(conda_env="tun"), home(tmp_path / "home", f". '{conda.hook}'"))
    assert (found.kind, found.what, found.at) == ("environment", "tun", "conda activate tun")
    assert "EnvironmentNameNotFound: Could not find conda environment: tun" in found.output
    assert str(conda.root / "envs" / "tune") in found.available


def test_an_environment_is_active_only_if_its_variables_are_set(tmp_path: Path, conda: StandIn) -> None:
    conda.answers("exit 0")
    found = fault(TUNE, home(tmp_path / "home", f". '{conda.hook}'") | {"CONDA_DEFAULT_ENV": "other"})
    assert (found.kind, found.what) == ("environment", "tune")
    conda.answers("echo 'echo no such thing >&2; false'; exit 0")
    assert "no such thing" in fault(TUNE, home(tmp_path / "two", f". '{conda.hook}'")).output


def test_a_virtual_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "my venv"], check=True)
    login = home(tmp_path / "home", MODULES)
    found = activated(Activation(("gcc",), venv=str(tmp_path / "my venv")), login)
    assert found["VIRTUAL_ENV"] == str(tmp_path / "my venv")
    assert found["PATH"].startswith(f"{tmp_path / 'my venv' / 'bin'}:")
    assert found["SITE"] == "gcc/12.2"


def test_a_virtual_environment_that_activates_a_different_directory(tmp_path: Path) -> None:
    (tmp_path / "moved" / "bin").mkdir(parents=True)
    (tmp_path / "moved" / "bin" / "activate").write_text("VIRTUAL_ENV=/gone; export VIRTUAL_ENV\n")
    found = fault(Activation(venv=str(tmp_path / "moved")), home(tmp_path / "home"))
    assert (found.kind, found.at) == ("venv", f"source {tmp_path / 'moved'}/bin/activate")


def test_modules_are_loaded_in_order_once_each(tmp_path: Path) -> None:
    login = home(tmp_path / "home", MODULES)
    found = activated(Activation(("gcc", "cuda/12", "anaconda3/latest")), login)
    assert found["LOADEDMODULES"] == "gcc/12.2:cuda/12:anaconda3/2025.6"
    assert loaded(login) == ["gcc", "cuda/12", "anaconda3/latest"]


def test_a_module_by_an_alias_of_the_module_system(tmp_path: Path) -> None:
    profile = MODULES.replace("gcc | cuda/12)", "nickname)")
    found = activated(Activation(("nickname",)), home(tmp_path / "home", profile))
    assert found["SITE"] == "nickname"
    unloaded = MODULES.replace("broken/1)", "nickname) ;; broken/1)")
    assert "SITE" not in activated(Activation(("nickname",)), home(tmp_path / "two", unloaded))


@pytest.mark.parametrize("old", ["", "1"])
@pytest.mark.parametrize("name", ["gone/1", "gone", "anaconda3/2023", "broken/1"])
def test_a_module_that_is_not_loaded_is_a_fault_despite_the_status(tmp_path: Path, name: str, old: str) -> None:
    login = home(tmp_path / "home", MODULES) | {"MODULES_OLD": old, "LOADEDMODULES": "anaconda3/2024.2"}
    found = fault(Activation((name,), "tune"), login)
    assert (found.kind, found.what, found.at) == ("module", name, f"module load {name}")
    assert "ERROR: " in found.output
    assert "anaconda3/2025.6(default)" in found.available


def modules_of(folder: Path) -> str:
    """Return a MODULESHOME with the stand-in."""
    (folder / "init").mkdir(parents=True)
    (folder / "init" / "bash").write_text(MODULES)
    return str(folder)


def test_a_machine_without_modules(tmp_path: Path) -> None:
    site = modules_of(tmp_path / "site")  # which is hidden, as any module system of this machine is
    found = fault(Activation(("gcc", "cuda/12"), "tune"), home(tmp_path / "home", HIDDEN) | {"MODULESHOME": site})
    assert (found.kind, found.what) == ("modules", "gcc cuda/12")


def test_modules_from_moduleshome_if_the_login_shell_has_none(tmp_path: Path) -> None:
    login = home(tmp_path / "home", "unset -f module") | {"MODULESHOME": modules_of(tmp_path / "site")}
    assert activated(Activation(("gcc",)), login)["SITE"] == "gcc/12.2"


def test_output_and_variables_of_the_profile_do_not_leak(tmp_path: Path, conda: StandIn) -> None:
    profile = f"""
        . '{conda.hook}'
        set -euf
        trap 'echo bye; export MARK=trap' EXIT
        IFS=/
        echo 'ABC=1'; printf 'noise\\0@0\\0A=1\\0'
        export HF_TOKEN=secret BASH_ENV=/tmp/x LONG=$'two\\nlines\\n' EMPTY= SCAFFOLD_TORCHTUNE_PROCESS=x
        """
    found = activated(TUNE, home(tmp_path / "home", profile))
    assert is_tune(conda, found)
    assert (found["LONG"], found["EMPTY"]) == ("two\nlines\n", "")
    taken = {"HF_TOKEN", "BASH_ENV", "MARK", "ABC", "PWD", "OLDPWD", "SHLVL", "_", "SCAFFOLD_TORCHTUNE_PROCESS"}
    assert not found.keys() & taken
    assert not [name for name in found if name.startswith("_st_")]


def test_names_are_never_interpreted_by_the_shell(tmp_path: Path, conda: StandIn) -> None:
    login = home(tmp_path / "home", MODULES + f". '{conda.hook}'")
    name = f"$(touch {tmp_path}/ran);`touch {tmp_path}/ran`"
    assert fault(Activation((name,)), login).what == name
    assert fault(Activation(conda_env=name), login).what == name
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("echo goodbye; exit 7", (7, "goodbye")),
        ("set -- evil", (3, "")),
        ("exec echo gone", (0, "gone")),
    ],
)
def test_a_profile_that_ends_the_shell(tmp_path: Path, profile: str, said: tuple[int, str]) -> None:
    found = fault(TUNE, home(tmp_path / "home", profile))
    status, output = said
    assert found == Fault("shell", output=found.output, end=f"exited with status {status}")
    assert output in found.output


def test_a_shell_that_hangs_is_ended(tmp_path: Path, conda: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    conda.answers("sleep 600")
    pass_deadlines_once(lambda: conda.activated, monkeypatch)
    found = fault(TUNE, home(tmp_path / "home", f". '{conda.hook}'"), timeout=60)
    assert (found.kind, found.at, absent(found.end, "60 s")) == ("shell", "conda activate tune", [])


def test_a_machine_without_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = fault(TUNE, {"PATH": os.environ["PATH"]})
    assert (found.kind, absent(found.end, ": No such file or directory")) == ("shell", [])
