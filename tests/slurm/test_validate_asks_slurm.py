"""validate calls a real sbatch: it accepts a good scaffold; resources that the cluster lacks are reported by line."""

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult
from support import needs
from support.experiments import RUNS, make_experiment
from support.one_node_slurm import Slurm
from support.scaffolding import answers
from support.wording import absent

pytestmark = needs.SLURM


@pytest.fixture
def calls(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a wrapper of the real sbatch on PATH that writes a line into this file at each call."""
    real = shutil.which("sbatch", path=slurm.environment["PATH"])
    wrapper, file = tmp_path / "bin" / "sbatch", tmp_path / "calls"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {shlex.quote(str(file))}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{slurm.environment['PATH']}")
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.delenv("SCAFFOLD_TORCHTUNE_SBATCH")
    return file


def scaffold(folder: Path, **changes: str) -> tuple[Path, ScaffoldResult]:
    experiment = make_experiment(folder / "sweep", replace=changes)
    return experiment, steps.scaffold(Request(experiment))


def jobs(slurm: Slurm) -> str:
    return slurm.call("scontrol", "show", "jobs").stdout.strip()


def test_a_good_scaffold_is_accepted_with_one_call_and_no_job(slurm: Slurm, calls: Path, tmp_path: Path) -> None:
    before = jobs(slurm)
    _, result = scaffold(tmp_path)
    assert result.ok
    assert answers(result.validation) == []
    assert [run.findings for run in result.validation.runs] == [()] * len(RUNS)
    assert calls.read_text() == "--test-only\n"
    assert jobs(slurm) == before


@pytest.mark.parametrize(
    ("changes", "directive", "said"),
    [
        (
            {"(leave empty)": "`members`"},
            "--account=lab",
            "Invalid account or account/partition combination specified",
        ),
        ({"(leave empty)": "`nowhere`"}, "--partition=nowhere", "Invalid partition name specified"),
        (
            {"(leave empty)": "`short`", "0:59:00": "3:00:00"},
            "--time=3:00:00",
            "Requested time limit is invalid (missing or exceeds some limit)",
        ),
        ({"`gpu80`": "`gpu800`"}, "--constraint=gpu800", "Invalid feature specification"),
        (
            {
                "- **GPUs:** 1\n": "",
                "single_device": "distributed",
                "- **Default GPUs**: `1`": "- **Default GPUs**: `9`",
            },
            "--gres=gpu:9",
            "Requested node configuration is not available",
        ),
    ],
    ids=["account", "partition", "time", "constraint", "gres"],
)
def test_resources_that_the_cluster_lacks_are_reported_at_their_line(
    changes: Mapping[str, str], directive: str, said: str, calls: Path, tmp_path: Path
) -> None:
    experiment, result = scaffold(tmp_path, **changes)
    assert not result.ok
    assert len(calls.read_text().splitlines()) == 1
    for run in result.validation.runs:
        (found,) = run.findings
        assert (found.code, found.actual) == ("sbatch-refused", said)
        assert found.line is not None
        script = (experiment / run.directory / "finetune.slurm").read_text().splitlines()
        assert script[found.line - 1] == f"#SBATCH {directive}"
        assert absent(found.fix, f"{directive} (line {found.line}, ", "claude.local.md:") == []


def test_a_variable_does_not_hide_an_option_of_the_script(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_CONSTRAINT", "gpu800")
    assert scaffold(tmp_path)[1].ok
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")  # replaces an option that the script lacks
    result = steps.validate(Request(tmp_path / "sweep"))
    assert {f.actual for run in result.runs for f in run.findings} == {"Invalid partition name specified"}
    assert len(calls.read_text().splitlines()) == 2


def test_an_unreachable_controller_leaves_the_scripts_untested(
    slurm: Slurm, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(slurm.environment["SLURM_CONF"]).read_text()
    broken = tmp_path / "slurm.conf"
    broken.write_text(text.replace("/munge.socket", "/no-munge.socket"))
    monkeypatch.setenv("SLURM_CONF", str(broken))
    _, result = scaffold(tmp_path)
    assert result.ok
    (found,) = answers(result.validation)
    assert (found.code, found.severity) == ("sbatch-unavailable", "info")
    assert "Protocol authentication error" in found.message
    assert len(calls.read_text().splitlines()) == 1
