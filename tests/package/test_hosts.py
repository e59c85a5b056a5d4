"""Real hosts accept the commands in README.md: Claude Code, Codex and Gemini CLI, checked with their own commands."""

import json
import tomllib
from pathlib import Path

import pytest
from skills_ref.validator import validate

from scaffold_torchtune import __version__
from support.hosts import Run, run
from support.readme import blocks, command_lines

pytestmark = pytest.mark.package
ROOTS = "/path/to/experiments"


def well(done: Run) -> str:
    """Return the output of a command that must succeed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plugins_folder_is_a_valid_skill(plugin: Path, env: dict[str, str], tmp_path: Path) -> None:
    assert "Valid skill" in well(run(["agentskills", "validate", plugin], env, tmp_path))
    wrong = tmp_path / "another-name"
    wrong.symlink_to(plugin)
    assert run(["agentskills", "validate", wrong], env, tmp_path).returncode != 0


def test_the_first_command_of_readme_scaffolds_the_example(plugin: Path, env: dict[str, str], tmp_path: Path) -> None:
    (line,) = command_lines("uvx", "Try it")
    folder = tmp_path / "with a clone"
    folder.mkdir()
    (folder / "scaffold-torchtune").symlink_to(plugin)
    assert "4 of 4" in well(run(line, env, folder))
    assert (folder / "demo/scaffold.log").is_file()


def test_claude_code_accepts_the_manifests(plugin: Path, env: dict[str, str], tmp_path: Path) -> None:
    for path in (plugin, plugin / ".claude-plugin/plugin.json"):
        said = well(run(["claude", "plugin", "validate", "--strict", path], env, tmp_path))
        assert "mcpServers: torchtune stdio uvx" in said
        assert "skills: scaffold-torchtune:scaffold-torchtune" in said


def test_claude_code_installs_the_plugin_and_reaches_its_server(
    plugin: Path, env: dict[str, str], tmp_path: Path
) -> None:
    marketplace, install = [line for line in command_lines("claude") if "plugin" in line]
    assert marketplace[-1] == "./scaffold-torchtune"
    (fetch,) = command_lines("uvx")
    assert well(run(fetch, env, plugin.parent)) == f"scaffold-torchtune {__version__}\n"
    well(run(marketplace, env, plugin.parent))
    well(run(install, env, tmp_path))
    plugins = json.loads(well(run(["claude", "plugin", "list", "--json"], env, tmp_path)))
    (enabled,) = [plugin["enabled"] for plugin in plugins if plugin["id"] == "scaffold-torchtune@scaffold-torchtune"]
    assert enabled is True
    said = well(run(["claude", "mcp", "list"], env, tmp_path))
    (server,) = [line for line in said.splitlines() if "scaffold-torchtune" in line]
    assert server.startswith("plugin:scaffold-torchtune:torchtune: uvx --from ")
    assert server.endswith("Connected")


def test_claude_code_accepts_the_skill_folder_and_the_added_server(env: dict[str, str], tmp_path: Path) -> None:
    (skill,) = command_lines("scaffold-torchtune")
    well(run(skill, env, tmp_path))
    assert validate(Path(env["HOME"]) / ".claude/skills/scaffold-torchtune") == []
    (add,) = [line for line in command_lines("claude") if "mcp" in line]
    well(run(add, env, tmp_path))
    said = well(run(["claude", "mcp", "get", "torchtune"], env, tmp_path))
    assert "Scope: User config" in said
    assert "Connected" in said


def test_codex_writes_the_block_of_the_readme(env: dict[str, str], tmp_path: Path) -> None:
    (add,) = command_lines("codex")
    well(run(add, env, tmp_path))
    (block,) = blocks("toml")
    assert tomllib.loads((Path(env["HOME"]) / ".codex/config.toml").read_text()) == tomllib.loads(block)


def test_gemini_cli_writes_the_block_of_the_readme_and_finds_skill_and_server(
    env: dict[str, str], tmp_path: Path
) -> None:
    env = env | {"GEMINI_CLI_TRUST_WORKSPACE": "true"}
    (add,) = command_lines("gemini")
    well(run(add, env, tmp_path))
    settings = json.loads((Path(env["HOME"]) / ".gemini/settings.json").read_text())
    assert settings["mcpServers"] == json.loads(blocks("json")[0])["mcpServers"]
    listed = run(["gemini", "mcp", "list"], env, tmp_path)
    assert f"torchtune: scaffold-torchtune serve --root {ROOTS} (stdio) - Connected" in listed.stdout + listed.stderr
    well(run(["scaffold-torchtune", "skill", Path(env["HOME"]) / ".agents/skills"], env, tmp_path))
    skills = run(["gemini", "skills", "list"], env, tmp_path)
    assert "scaffold-torchtune [Enabled]" in skills.stdout + skills.stderr
