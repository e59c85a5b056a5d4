"""Installations in a read-only directory, and without network after the install: from the plugin, and by pip."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold_torchtune.cli.dispatch import prepare_demo
from support.hosts import ROOT, calls, checkout, confined, environment, lock, run, scaffolds, state

pytestmark = pytest.mark.package


def plugin_command(plugin: Path) -> list[str]:
    """Return the command of plugin.json, as Claude Code starts it."""
    server = json.loads((plugin / ".claude-plugin/plugin.json").read_text())["mcpServers"]["torchtune"]
    return [part.replace("${CLAUDE_PLUGIN_ROOT}", str(plugin)) for part in (server["command"], *server["args"])]


def test_the_folder_is_read_only_and_there_is_no_network(plugin: Path, env: dict[str, str]) -> None:
    done = run([*confined(), "touch", plugin / "SKILL.md", plugin / "new"], env, plugin)
    assert done.returncode != 0
    assert not (plugin / "new").exists()
    if confined():
        assert run([*confined(), "cat", "/proc/net/route"], env, plugin).stdout.count("\n") <= 1


def test_the_plugin_scaffolds_from_a_read_only_folder_offline(
    plugin: Path, env: dict[str, str], example: Path, tmp_path: Path
) -> None:
    before = state(plugin)
    offline = env | {"UV_OFFLINE": "1"}
    server = [*confined(), *plugin_command(plugin)]
    scaffolds(server, offline | {"CLAUDE_PROJECT_DIR": str(example.parent)}, example)
    again = prepare_demo(tmp_path / "again")
    command = [*confined(), "uvx", "--from", plugin, "scaffold-torchtune", "scaffold", again, "--no-sbatch"]
    done = run(command, offline, tmp_path)
    assert "4 of 4" in done.stdout, done.stderr
    assert state(plugin) == before


@pytest.mark.usefixtures("plugin")  # after it, uv's cache has everything that a build needs
def test_an_edit_of_the_folder_takes_effect_at_the_next_start(tmp_path: Path, env: dict[str, str]) -> None:
    clone = checkout(tmp_path / "clone")
    uvx = ["uvx", "--from", clone, "scaffold-torchtune"]

    def skill(to: str) -> str:
        done = run([*uvx, "skill", tmp_path / to], env, tmp_path)
        assert done.returncode == 0, done.stderr
        return (tmp_path / to / "scaffold-torchtune/SKILL.md").read_text()

    assert "An edit." not in skill("first")
    with (clone / "SKILL.md").open("a") as stream:
        stream.write("\nAn edit.\n")
    assert "An edit." in skill("second")
    module = clone / "server/scaffold_torchtune/__init__.py"
    module.write_text(module.read_text().replace('__version__ = "', '__version__ = "9.'))
    assert run([*uvx, "--version"], env, tmp_path).stdout.startswith("scaffold-torchtune 9.")


@pytest.fixture(scope="module")
def by_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a read-only virtual environment in which pip has installed the package."""
    folder = tmp_path_factory.mktemp("pip")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = ["-c", str(ROOT / "constraints.txt"), str(checkout(folder / "clone"))]
    subprocess.run([ROOT / "scripts/retry", *pip, *wanted], check=True)
    lock(venv)
    return venv


def test_a_read_only_pip_environment_scaffolds_and_writes_its_skill(
    by_pip: Path, example: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    env = environment(tmp_path / "home")
    before = state(by_pip)
    command = [*confined(), str(by_pip / "bin/scaffold-torchtune")]
    scaffolds([*command, "serve", "--root", str(example.parent)], env, example)
    again = prepare_demo(tmp_path / "again")
    done = run([*command, "scaffold", again, "--no-sbatch"], env, tmp_path)
    assert "4 of 4" in done.stdout, done.stderr
    assert run([*command, "skill"], env, tmp_path).returncode == 0
    assert (tmp_path / "home/.claude/skills/scaffold-torchtune/SKILL.md").is_file()
    assert state(by_pip) == before


def test_a_server_with_several_roots_accepts_experiments_in_each(by_pip: Path, example: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    other = prepare_demo(tmp_path / "other/sweep")
    line = [by_pip / "bin/scaffold-torchtune", "serve", "--root", example.parent, other.parent]
    asked = [("parse_summary", {"experiment": str(path)}) for path in (example, other, prepare_demo(tmp_path / "out"))]
    _, *results = calls(line, environment(tmp_path / "home"), tmp_path, *asked)
    assert ["error" in result for result in results] == [False, False, True]
