"""The wheel contains everything that the product needs: templates, workflows, the example, SKILL.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long  # it is built and installed

ROOT = Path(__file__).parents[2]
SKILL = ["SKILL.md", *sorted(f"workflows/{path.name}" for path in (ROOT / "workflows").glob("*.md"))]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with nothing but the installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site


def run(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the wheel alone; its lines do not count toward the checkout's coverage."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")} | {"PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_installed_wheel_scaffolds_its_example_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = run(installed, "-c", "import scaffold_torchtune; print(scaffold_torchtune.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(installed))
    done = run(installed, "-m", "scaffold_torchtune", "demo", "example", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 of 4" in done.stdout


@pytest.mark.parametrize("path", SKILL)
def test_the_wheel_has_the_documents_for_agents(installed: Path, path: str) -> None:
    assert (installed / "scaffold_torchtune/data" / path).read_text() == (ROOT / path).read_text()


def test_the_wheel_has_the_program_that_checks_with_torchtune(installed: Path, tmp_path: Path) -> None:
    program = installed / "scaffold_torchtune/external_checks/torchtune_program.py"
    done = subprocess.run(
        [sys.executable, "-S", str(program)],  # without site-packages, and so without torchtune
        cwd=tmp_path,
        input='{"mark": "@@", "nodes": []}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('\n@@{"missing": "ModuleNotFoundError')


def test_the_wheel_has_the_torchtune_facts(installed: Path, tmp_path: Path) -> None:
    code = "from scaffold_torchtune.torchtune_facts.facts import load; print(*next(load().models['phi-4'].tensors()))"
    done = run(installed, "-c", code, cwd=tmp_path)
    assert done.stdout == "model.embed_tokens.weight (100352, 5120)\n", done.stderr
