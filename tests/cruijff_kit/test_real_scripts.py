"""Scaffolds by the real setup_finetune.py of cruijff_kit, of three generations, from a clone of its repository.

tests/pipeline/test_scaffold_kit.py does the same with stand-ins.

"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.experiments import make_experiment
from support.scaffolding import scaffold
from support.unlike_experiments import UNLIKE, holds

CLONE = os.environ.get("SCAFFOLD_TORCHTUNE_CRUIJFF_KIT") or "/nonexistent"
# The commit, the directory that is the package cruijff_kit, and an additional line of the summary.
GENERATIONS: dict[str, tuple[str, str, dict[str, str]]] = {
    "November 2025": ("738c94f", ".", {}),
    "December 2025": ("0a36d10", ".", {}),
    "August 2026": ("v0.3.4", "src", {"**Epochs:** 2": "**Epochs:** 2\n- **Dataset type:** chat_completion"}),
}

pytestmark = [
    pytest.mark.kit,
    pytest.mark.skipif(
        not Path(CLONE).exists(),
        reason="SCAFFOLD_TORCHTUNE_CRUIJFF_KIT names no clone of cruijff_kit",
    ),
]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: str) -> Path:
    """Return the setup_finetune.py of a generation, and an environment that has its package."""
    commit, package, _ = GENERATIONS[generation]
    (kit := tmp_path / "kit").mkdir()
    archive = subprocess.run(
        [str(shutil.which("git")), "-C", CLONE, "archive", commit], capture_output=True, check=True
    ).stdout
    subprocess.run([str(shutil.which("tar")), "x", "-C", str(kit)], input=archive, check=True)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "cruijff_kit").symlink_to(kit / package)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "path"), *sys.path]))
    monkeypatch.setenv("USER", "ada")
    return kit / package / "tools" / "torchtune" / "setup_finetune.py"


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_example_scaffolds_to_a_passed_validation(tmp_path: Path, script: Path, generation: str) -> None:
    replace = GENERATIONS[generation][2]
    result = scaffold(make_experiment(tmp_path / "sweep", replace=replace), setup_script=str(script))
    assert result.ok
    found = [f for run in result.validation.runs for f in run.findings if f.severity != "info"]
    assert [f.sentence() for f in found] == []


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("name", UNLIKE)
def test_unusual_experiments_end_as_with_the_stand_ins(
    tmp_path: Path, script: Path, name: str, generation: str
) -> None:
    holds(tmp_path, name, generation.split(maxsplit=1)[0].lower(), script)
