"""The checks of torchtune, wandb and SLURM in `doctor`."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.models import Check
from scaffold_torchtune.pipeline import diagnosis
from scaffold_torchtune.request import Request
from support.logins import Login
from support.stand_in_sbatch import StandIn
from support.waiting import pass_deadlines_once
from support.wording import absent


def one(experiment: Path, name: str, **given: object) -> Check | None:
    request = Request(experiment, **given)  # type: ignore[arg-type]
    found = [check for check in diagnosis.doctor(request, with_experiment=True).checks if check.name == name]
    assert len(found) <= 1
    return found[0] if found else None


def has(python: Path, **packages: str) -> None:
    """Make a Python have exactly these packages, in these versions."""
    site = python.parent.parent / "site"
    for name, version in packages.items():
        (info := site / f"{name}-{version}.dist-info").mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    python.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(site))} exec {sys.executable} -S "$@"\n')


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the Python of the conda environment that the documents name."""
    return Login(tmp_path, monkeypatch, "cruijff").conda.root / "envs" / "cruijff" / "bin" / "python"


@pytest.mark.parametrize(
    ("packages", "state", "found", "fix"),
    [
        ({"torchtune": "0.6.1", "wandb": "0.31.0"}, "ok", ["torchtune 0.6.1", "wandb 0.31.0"], ""),
        ({"torchtune": "0.5.0", "wandb": "1"}, "warning", ["torchtune 0.5.0", "wandb 1"], "torchtune 0.6.1"),
        ({"torchtune": "0.6.1"}, "warning", ["torchtune 0.6.1", "wandb"], "PYTHON -m pip install wandb"),
        ({}, "warning", ["torchtune", "wandb"], "PYTHON -m pip install torchtune wandb"),
    ],
)
def test_the_packages_that_jobs_need_are_checked(
    experiment: Path, python: Path, packages: dict[str, str], state: str, found: list[str], fix: str
) -> None:
    has(python, **packages)
    check = one(experiment, "packages of jobs")
    assert check is not None
    assert (check.state, absent(check.found, python, *found)) == (state, [])
    assert len(re.findall(r"\w \d+(?:\.\d+)*\b", check.found.replace(str(python), ""))) == len(packages)
    assert absent(check.fix, fix.replace("PYTHON", str(python))) == []
    assert bool(check.fix) is bool(fix)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "no program", "#!/bin/sh\nsleep 600\n"])
def test_a_python_that_does_not_answer_is_a_warning(
    experiment: Path, python: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(diagnosis, "SECONDS", 1.0)
    python.write_text(text)
    check = one(experiment, "packages of jobs")
    assert check is not None
    assert (check.state, absent(check.found, f"'{python}'")) == ("warning", [])
    assert "torchtune" not in check.found


def test_an_inactive_environment_is_not_checked(experiment: Path) -> None:
    assert one(experiment, "packages of jobs", activate=False) is None


def test_the_python_for_torchtune_checks_is_checked(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(experiment, "torchtune") is None, "nobody asked for it"
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_PYTHON", str(tmp_path / "gone"))
    gone = one(experiment, "torchtune")
    assert gone is not None
    assert (gone.state, absent(gone.found, f"'{tmp_path / 'gone'}'"), bool(gone.fix)) == ("problem", [], True)
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    has(python, torchtune="0.6.1")
    python.chmod(0o755)
    monkeypatch.setenv("SCAFFOLD_TORCHTUNE_PYTHON", str(python))
    there = one(experiment, "torchtune")
    assert there is not None
    assert (there.state, absent(there.found, "torchtune 0.6.1", python), there.fix) == ("ok", [], "")


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    stand_in = StandIn(tmp_path / "slurm", monkeypatch)
    stand_in.answers("echo slurm 22.05.8")
    return stand_in


def ping(sbatch: StandIn, answer: str) -> None:
    control = sbatch.folder / "scontrol"
    control.write_text(f'#!/bin/sh\n[ "$*" = ping ] || exit 9\n{answer}\n')
    control.chmod(0o755)


def test_a_working_slurm_is_reported(experiment: Path, sbatch: StandIn) -> None:
    ping(sbatch, "echo 'Slurmctld(primary) at head is UP'")
    check = one(experiment, "sbatch")
    assert check is not None
    assert (check.state, absent(check.found, f"{sbatch.folder}/sbatch", "slurm 22.05.8"), check.fix) == ("ok", [], "")
    assert [call.split()[0] for call in sbatch.calls] == ["--version"], "nothing is submitted"


def test_an_unreachable_slurm_controller_is_reported(experiment: Path, sbatch: StandIn) -> None:
    ping(sbatch, "echo 'Slurmctld(primary) at head is DOWN'")
    sbatch.answers("echo odd; exit 1")
    check = one(experiment, "sbatch")
    assert check is not None
    assert check.state == "warning"
    assert absent(check.found, f"{sbatch.folder}/sbatch", ": Slurmctld(primary) at head is DOWN") == []
    assert not {"slurm", "odd"} & set(check.found.split())
    ping(sbatch, "exit 1")
    silent = one(experiment, "sbatch")
    assert silent is not None
    assert check.found.removesuffix(": Slurmctld(primary) at head is DOWN") == silent.found


def test_a_hanging_sbatch_is_reported(experiment: Path, sbatch: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    ping(sbatch, f"echo > {sbatch.folder}/pinged; sleep 600")
    pass_deadlines_once((sbatch.folder / "pinged").exists, monkeypatch)
    check = one(experiment, "sbatch")
    assert check is not None
    assert (check.state, absent(check.found, "slurm 22.05.8", "controller")) == ("warning", [])


def test_a_missing_slurm_configuration_is_reported_without_calling_sbatch(
    experiment: Path, sbatch: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/gone/slurm.conf")
    check = one(experiment, "sbatch")
    assert check is not None
    assert absent(check.found, f"{sbatch.folder}/sbatch", "SLURM_CONF", "'/gone/slurm.conf'") == []
    assert sbatch.calls == []


def test_missing_and_disabled_slurm_are_reported(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = one(experiment, "sbatch")
    assert off is not None
    assert (off.state, absent(off.found, "SCAFFOLD_TORCHTUNE_SBATCH"), off.fix) == ("ok", [], "")
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH")
    monkeypatch.setenv("PATH", str(tmp_path))
    check = one(experiment, "sbatch")
    assert check is not None
    assert (check.state, absent(check.found, "PATH")) == ("warning", [])
