"""The installation section of README.md: its blocks and commands start a server with the tools."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune import __version__
from scaffold_torchtune.cli.dispatch import prepare_demo
from scaffold_torchtune.cli.parser import parser, serve_parser
from support.hosts import STEPS, calls
from support.readme import blocks, command_lines, install_section, section
from support.sampling import spread


def servers() -> list[dict[str, Any]]:
    """Return the server of each block that configures a client."""
    found = [json.loads(block) for block in blocks("json")] + [tomllib.loads(block) for block in blocks("toml")]
    (keys,) = zip(*found, strict=True)
    assert keys == ("mcpServers", "servers", "mcp_servers")
    for block in found:
        ((name, _),) = next(iter(block.values())).items()
        assert name == "torchtune"
    return [next(iter(block.values()))["torchtune"] for block in found]


@pytest.mark.long
@pytest.mark.parametrize("server", spread(servers(), every=3), ids=["generic", "VS Code", "Codex"])
def test_a_block_starts_a_server_that_lists_the_tools_and_has_the_experiments_as_root(
    server: dict[str, Any], tmp_path: Path
) -> None:
    example = prepare_demo(tmp_path / "experiments/sweep")
    places = {"/path/to/experiments": str(example.parent), "${workspaceFolder}": str(example.parent)}
    line = [server["command"], *(places.get(part, part) for part in server["args"])]
    assert str(example.parent) in line
    assert server.get("type", "stdio") == "stdio"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    names, parsed = calls(line, {**os.environ, "PATH": path}, tmp_path, ("parse_summary", {"experiment": str(example)}))
    assert names == list(STEPS)
    assert parsed["experiment"] == "capitalization_lora_sweep"


@pytest.mark.parametrize("host", ["claude", "codex", "gemini"])
def test_the_commands_for_hosts_start_the_existing_server(host: str) -> None:
    (line,) = [line for line in command_lines(host) if "mcp" in line]
    command = line[line.index("scaffold-torchtune") :]
    assert command[1] == "serve"
    serve_parser().parse_args(command[2:])
    assert (command == ["scaffold-torchtune", "serve"]) == (host == "claude"), "Claude Code names its project directory"


def test_the_commands_of_this_package_are_accepted() -> None:
    lines = command_lines("scaffold-torchtune")
    assert lines == [["scaffold-torchtune", "skill"]]
    assert parser().parse_args(lines[0][1:]).directory is None


def test_the_section_on_trying_begins_with_uvx_and_has_pipx_and_make() -> None:
    lines = re.findall(r"^\$ (.*)$", section("Try it"), re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["uvx", "pipx", "make"]
    for line in lines[:2]:
        command = line.split(" scaffold-torchtune ")[1].split()
        assert parser().parse_args(command).command == "demo"


def test_the_bundle_has_its_real_name() -> None:
    assert f"dist/scaffold-torchtune-{__version__}.mcpb" in install_section()
