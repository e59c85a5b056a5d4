"""The metadata for hosts and installers agrees: pyproject.toml, plugin.json, marketplace.json and SKILL.md."""

import json
import tomllib
from pathlib import Path
from typing import Any

from skills_ref.parser import parse_frontmatter

from scaffold_torchtune import __version__

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PLUGIN: dict[str, Any] = json.loads((ROOT / ".claude-plugin/plugin.json").read_text())
MARKETPLACE: dict[str, Any] = json.loads((ROOT / ".claude-plugin/marketplace.json").read_text())
SKILL = parse_frontmatter((ROOT / "SKILL.md").read_text())[0]


def test_name_version_and_licence_are_the_same_everywhere() -> None:
    assert {PROJECT["name"], PLUGIN["name"], SKILL["name"]} == {"scaffold-torchtune"}
    assert {PROJECT["version"], PLUGIN["version"]} == {__version__}
    assert {PROJECT["license"], PLUGIN["license"], SKILL["license"]} == {"MIT"}
    assert [PLUGIN["author"]] == PROJECT["authors"]
    assert PLUGIN["author"]["name"] in (ROOT / "LICENSE").read_text()
    assert (PLUGIN["description"], PLUGIN["keywords"]) == (PROJECT["description"], PROJECT["keywords"])


def test_the_marketplace_has_this_plugin_without_a_second_version() -> None:
    (entry,) = MARKETPLACE["plugins"]
    assert (entry["name"], entry["source"]) == (PLUGIN["name"], "./")
    assert "version" not in entry, "the version stands in plugin.json"
    assert entry["description"] == PLUGIN["description"]
    assert MARKETPLACE["owner"] == PLUGIN["author"]


def test_the_plugin_is_this_folder_with_one_skill_and_no_host_workflows() -> None:
    assert PLUGIN["skills"] == ["./"]
    assert (ROOT / PLUGIN["skills"][0] / "SKILL.md").is_file()
    assert PLUGIN["workflows"] == [], "workflows/ is prose; a host would take it for something else"
    assert not (ROOT / ".mcp.json").exists(), "it would be read without its variables when the clone is opened"


def test_the_plugin_starts_the_command_of_the_package() -> None:
    server = PLUGIN["mcpServers"]["torchtune"]
    assert server["command"] == "uvx"
    assert server["args"] == ["--from", "${CLAUDE_PLUGIN_ROOT}", next(iter(PROJECT["scripts"])), "serve"]


def in_the_wheel() -> list[Path]:
    """Return every file that the wheel is built from, according to the build configuration."""
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    named = [*wheel["packages"], *wheel["force-include"], PROJECT["readme"], *PROJECT["license-files"]]
    files = [file for name in named for file in (ROOT / name, *(ROOT / name).rglob("*"))]
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def test_an_edit_of_any_built_file_makes_uv_rebuild() -> None:
    patterns = [key["file"] for key in PYPROJECT["tool"]["uv"]["cache-keys"]]
    seen = {str(file.relative_to(ROOT)) for pattern in patterns for file in ROOT.glob(pattern)}
    built = {"pyproject.toml", *(str(file.relative_to(ROOT)) for file in in_the_wheel())}
    assert len(built) > 110, "the configuration of the build is read as hatchling reads it"
    assert built - seen == set()
