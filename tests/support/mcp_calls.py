"""Call the tools of a server in the same process, and check every answer against its schema."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import jsonschema
from mcp import Client
from mcp.types import CallToolResult, Tool

from scaffold_torchtune.mcp_server import make_server

Era = Literal["auto", "legacy"]
Call = tuple[str, dict[str, Any]]
T = TypeVar("T")

ERAS: tuple[Era, ...] = ("auto", "legacy")
STEPS = {
    "parse": "parse_summary",
    "plan": "plan_runs",
    "render": "render_yaml",
    "setup": "run_setup",
    "validate": "validate",
}


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """Return every path in a directory, with the bytes of regular files."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in directory.rglob("*")
    }


def with_client(root: Path, use: Callable[[Client], Awaitable[T]], era: Era = "auto") -> T:
    async def main() -> T:
        async with Client(make_server([root]), mode=era) as client:
            return await use(client)

    return anyio.run(main)


def listed(root: Path, era: Era = "auto") -> list[Tool]:
    async def use(client: Client) -> list[Tool]:
        return (await client.list_tools()).tools

    return with_client(root, use, era)


def call(root: Path, *calls: Call, era: Era = "auto") -> list[CallToolResult]:
    """Return the results of some calls of one client. Each matches the published schema, and its text the structure."""

    async def use(client: Client) -> list[CallToolResult]:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        results = []
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            schema = schemas.get(name) or schemas["validate"] or {}
            jsonschema.Draft202012Validator(schema).validate(result.structured_content)
            (content,) = result.content
            assert content.type == "text"
            assert json.loads(content.text) == result.structured_content
            assert bool(result.is_error) == ("error" in (result.structured_content or {}))
            results.append(result)
        return results

    return with_client(root, use, era)


def refusal(root: Path, name: str, arguments: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Return the message and the problems of a refused call, after which the same server still works."""
    bad, after = call(root, (name, arguments), ("validate", {}))
    assert bad.is_error
    assert after.is_error
    error = (bad.structured_content or {})["error"]
    return error["message"], error["problems"]
