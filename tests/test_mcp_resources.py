"""What an MCP client reads besides the tools: whether the machine is ready."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import TextResourceContents

from experiments import everything
from mcp_calls import ERAS, Era, listed, with_client
from scaffold_torchtune.models.readiness import Readiness


def read(root: Path, uri: str, era: Era = "auto") -> Any:
    async def use(client: Client) -> str:
        (content,) = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert content.mime_type == "application/json"
        return content.text

    return json.loads(with_client(root, use, era))


@pytest.mark.parametrize("era", ERAS)
def test_a_client_finds_doctor_and_its_template(root: Path, era: Era) -> None:
    async def use(client: Client) -> tuple[list[str], list[str]]:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        return [str(one.uri) for one in resources], [one.uri_template for one in templates]

    assert with_client(root, use, era) == (["torchtune://doctor"], ["torchtune://doctor{+experiment}"])
    assert len(listed(root, era)) == 5, "it is no tool"


@pytest.mark.parametrize("era", ERAS)
def test_doctor_of_an_experiment(root: Path, sweep: Path, era: Era) -> None:
    before = everything(sweep)
    found = Readiness.model_validate(read(root, f"torchtune://doctor{sweep}", era))
    assert found.ready
    assert [check.state for check in found.checks if check.name == "documents"] == ["ok"]
    assert everything(sweep) == before


def test_doctor_of_the_project(root: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(sweep))
    found = Readiness.model_validate(read(root, "torchtune://doctor"))
    local = [check.found for check in found.checks if check.name == "claude.local.md"]
    assert (found.ready, local) == (True, [str(sweep / "claude.local.md")])
    monkeypatch.delenv("CLAUDE_PROJECT_DIR")
    monkeypatch.chdir(root.parent)
    assert Readiness.model_validate(read(root, "torchtune://doctor")).ready is False


@pytest.mark.parametrize("path", ["/etc", "{sweep}/../../..", "/nowhere", "sweep"])
def test_what_lies_outside_the_roots_is_refused(root: Path, sweep: Path, path: str) -> None:
    error = read(root, f"torchtune://doctor{path.format(sweep=sweep)}")["error"]
    assert [problem["code"] for problem in error["problems"]] == ["outside-roots"]


def test_what_is_no_path_is_not_looked_at(root: Path, sweep: Path) -> None:
    async def use(client: Client) -> str:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(f"torchtune://doctor{sweep}%00")
        return str(caught.value)

    assert "torchtune://doctor" in with_client(root, use)
