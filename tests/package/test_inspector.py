"""The MCP Inspector, which shares no code with the server: its strict check of the tools, a scaffold by its calls."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support.hosts import STEPS, Run, run

pytestmark = pytest.mark.package
ERAS = ("legacy", "modern")


class Inspector:
    """The Inspector's command line with a server, in one era of the protocol."""

    def __init__(self, env: dict[str, str], root: Path, era: str) -> None:
        self.env, self.root = env, root
        server = [Path(sys.executable).with_name("scaffold-torchtune"), "serve", "--root", root]
        self.line = ["mcp-inspector", "--cli", *server, "--protocol-era", era, "--format", "json"]

    def ask(self, *arguments: str) -> Run:
        """Send one request; a server is started for it and ended."""
        return run([*self.line, *arguments], self.env, self.root)

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return the structured result of a tool."""
        done = self.ask("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        result: dict[str, Any] = json.loads(done.stdout)["result"]
        assert (done.returncode == 0) == (not result.get("isError")), done.stderr
        content: dict[str, Any] = result["structuredContent"]
        return content


@pytest.fixture(params=ERAS)
def inspector(request: pytest.FixtureRequest, env: dict[str, str], example: Path) -> Inspector:
    return Inspector(env, example.parent, request.param)


def test_the_tools_are_portable_in_both_eras(inspector: Inspector) -> None:
    done = inspector.ask("--method", "tools/list", "--strict")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert [tool["name"] for tool in json.loads(done.stdout)["result"]["tools"]] == list(STEPS)


def test_calls_by_the_inspector_scaffold_the_example(inspector: Inspector, example: Path) -> None:
    results = [inspector.call(tool, experiment=str(example)) for tool in STEPS]
    assert [result["summary"] != "" for result in results] == [True] * len(STEPS)
    assert (results[-1]["passed"], results[-1]["checked"], results[-1]["planned"]) == (True, 4, 4)
    assert (example / "rank16_lr5e-5/finetune.slurm").is_file()
    assert "SCAFFOLD_TORCHTUNE_COMPLETE" in (example / "scaffold.log").read_text()


def test_a_refusal_reaches_the_inspector_as_an_error_with_its_structure(inspector: Inspector, tmp_path: Path) -> None:
    refused = inspector.call("parse_summary", experiment=str(tmp_path))
    assert [problem["code"] for problem in refused["error"]["problems"]] == ["outside-roots"]
