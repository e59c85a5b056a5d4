"""A host waits for the start of the server: it imports nothing that its list of tools does not need."""

import json
import subprocess
import sys

import pytest

LIST = """
import json, sys, anyio
from mcp import Client
from scaffold_torchtune import cli
from scaffold_torchtune.cli import parser
from scaffold_torchtune.mcp_server import make_server

async def main():
    async with Client(make_server()) as client:
        return [tool.name for tool in (await client.list_tools()).tools]

parser.serve_parser().parse_args([])
tools = anyio.run(main)
print(json.dumps([tools, [name for name in sys.modules if not name.startswith("mcp")]]))
"""
SLOW = {"jinja2", "markdown_it", "omegaconf", "yaml"}


@pytest.mark.long
def test_listing_the_tools_imports_no_pipeline_and_no_library_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", LIST], check=True, capture_output=True, text=True)
    tools, modules = json.loads(done.stdout)
    assert len(tools) == 5
    assert not SLOW & set(modules)
    ours = {name.removeprefix("scaffold_torchtune.") for name in modules if name.startswith("scaffold_torchtune.")}
    assert not {name.partition(".")[0] for name in ours} & {"pipeline", "parse", "plan", "validate"}
    assert not ours & {"cli.commands", "cli.printing"}
    assert "mcp_server" in ours
