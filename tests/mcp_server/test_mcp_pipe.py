"""Scaffold the bundled example with a server started as hosts start it: in a separate process, over its pipes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp.server import MCPServer

from scaffold_torchtune.cli import main
from scaffold_torchtune.cli.dispatch import prepare_demo
from support.sampling import mostly_long
from support.waiting import PATIENCE, wait_until

TOOLS = ["parse_summary", "plan_runs", "render_yaml", "run_setup", "validate"]
COMMAND = ["-m", "scaffold_torchtune", "serve"]
OURS = ("CLAUDE_PROJECT_DIR", "SCAFFOLD_TORCHTUNE_ROOT", "SCAFFOLD_TORCHTUNE_SETUP_SCRIPT")


def environment(**given: str) -> dict[str, str]:
    """Return this process's environment without the variables that configure the server, and with the given ones."""
    return {name: value for name, value in os.environ.items() if name not in OURS} | given


@pytest.fixture(autouse=True)
def _patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent the client from classifying a slow server as one of the older era."""
    monkeypatch.setattr("mcp.client.session.DISCOVER_TIMEOUT_SECONDS", PATIENCE)


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return prepare_demo(tmp_path / "root" / "demo")


class Pipe:
    """A server process that receives raw frames of the older era; keeps every line of its stdout."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.last = 0

    def send(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def request(self, method: str, params: Mapping[str, object]) -> dict[str, Any]:
        """Return the response to a request; keep other frames before it too."""
        self.last += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}))
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            frame: dict[str, Any] = json.loads(line)
            if frame.get("id") == self.last:
                return frame
        raise AssertionError("the server is gone")

    def call(self, tool: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Return the structured result of a tool."""
        result: dict[str, Any] = self.request("tools/call", {"name": tool, "arguments": arguments})["result"]
        content: dict[str, Any] = result["structuredContent"]
        return content

    def close(self) -> int:
        """Close the pipe to the server and return its exit status; it ends by itself."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        status = self.process.wait(timeout=PATIENCE)
        self.lines += self.process.stdout.read().splitlines()
        return status


@contextmanager
def served(*arguments: str, cwd: Path, stderr: str | Path = os.devnull, **given: str) -> Iterator[Pipe]:
    with (
        Path(stderr).open("wb") as printed,
        subprocess.Popen(
            [sys.executable, *COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            cwd=cwd,
            env=environment(**given),
        ) as process,
    ):
        try:
            pipe = Pipe(process)
            info = {"name": "test", "version": "1"}
            start = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
            assert pipe.request("initialize", start)["result"]["serverInfo"]["name"] == "torchtune"
            pipe.send('{"jsonrpc": "2.0", "method": "notifications/initialized"}')
            yield pipe
        finally:
            process.kill()


@pytest.mark.parametrize("era", mostly_long(["auto", "legacy"], "auto"))
def test_a_client_over_a_pipe_reaches_a_passed_validation_of_the_example(
    demo: Path, era: Literal["auto", "legacy"]
) -> None:
    async def main() -> list[dict[str, Any]]:
        server = StdioServerParameters(
            command=sys.executable, args=[*COMMAND, "--root", str(demo.parent)], env=environment()
        )
        results = []
        async with Client(server, mode=era) as client:
            assert (client.protocol_version < "2026") == (era == "legacy")
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == TOOLS
            for tool in tools:
                result = await client.call_tool(tool.name, {"experiment": str(demo)})
                assert not result.is_error
                (content,) = result.content
                assert content.type == "text"
                assert json.loads(content.text) == result.structured_content
                jsonschema.validate(result.structured_content, tool.output_schema or {})
                results.append(result.structured_content or {})
            arguments = {"experiment": str(demo), "only": "rank8_lr1e-5", "explain": True}
            explained = await client.call_tool("plan_runs", arguments)
            jsonschema.validate(explained.structured_content, tools[1].output_schema or {})
        return [*results, explained.structured_content or {}]

    *_, validated, explained = anyio.run(main)
    (lr,) = [each for each in explained["settings"] if each["field"] == "lr"]
    text = (demo / "experiment_summary.md").read_text()
    row = next(n for n, line in enumerate(text.splitlines(), 1) if "rank8_lr1e-5 |" in line)
    assert (lr["value"], lr["source"].partition(" ")[0]) == (1e-5, f"experiment_summary.md:{row}")
    assert [each.partition(":")[0] for each in lr["arrives"]] == ["setup_finetune.yaml", "finetune.yaml"]
    assert (validated["passed"], validated["checked"], validated["planned"]) == (True, 4, 4)
    assert all((demo / run["directory"] / "finetune.slurm").is_file() for run in validated["runs"])


SCRIPT = """\
import os, pathlib, sys
print('{"jsonrpc": "2.0", "id": 5, "result": "forged"}', flush=True)
os.write(1, b"raw noise\\n")
os.system("echo noise of a child")
print("noise on stderr", file=sys.stderr)
pathlib.Path("finetune.yaml").write_text(pathlib.Path("setup_finetune.yaml").read_text())
pathlib.Path("finetune.slurm").write_text("#!/bin/bash\\n")
"""


@pytest.mark.long
def test_stdout_carries_only_frames_for_any_output_of_a_setup_script(demo: Path) -> None:
    script = demo.parent / "setup_finetune.py"
    script.write_text(SCRIPT)
    configured = {"SCAFFOLD_TORCHTUNE_SETUP_SCRIPT": str(script)}
    with served("--root", str(demo.parent), cwd=demo.parent, **configured) as pipe:
        assert pipe.call("plan_runs", {"experiment": str(demo)})["setup"] == str(script)
        assert pipe.call("render_yaml", {"experiment": str(demo)})["created"] == 4
        assert pipe.call("run_setup", {"experiment": str(demo)})["succeeded"] == 4
        assert pipe.call("validate", {"experiment": str(demo)})["passed"] is False
        assert pipe.close() == 0
    assert (demo / "rank8_lr1e-5" / "finetune.slurm").read_text() == "#!/bin/bash\n", "the script did run"
    frames = [json.loads(line) for line in pipe.lines]
    assert all(frame["jsonrpc"] == "2.0" for frame in frames)
    assert [frame["id"] for frame in frames] == list(range(1, pipe.last + 1))
    assert not [line for line in pipe.lines if "noise" in line or "forged" in line]


SURROGATE = '{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "validate\\ud800"}}'


@pytest.mark.long
def test_invalid_and_huge_lines_do_not_end_the_server(demo: Path) -> None:
    with served("--root", str(demo.parent), cwd=demo.parent) as pipe:
        for line in ("", "not json", "[" * 100_000, '{"jsonrpc": "2.0"}', '{"jsonrpc": "2.0", "id": 7', SURROGATE):
            pipe.send(line)
        assert "error" in pipe.request("no/such/method", {})
        assert "error" in pipe.request("tools/call", {"name": 5})
        assert pipe.call("parse_summary", {"experiment": "x" * 5_000_000})["error"]["problems"]
        assert pipe.call("parse_summary", {"experiment": str(demo)})["experiment"]
        assert pipe.close() == 0


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("prompts/get", {"name": "no_such_prompt"}),
    ("prompts/get", {"name": "scaffold_torchtune", "arguments": {"experiment": "x", "y": "z"}}),
    ("prompts/get", {"name": "\u202e\n[x]", "arguments": {}}),
    ("resources/read", {"uri": "torchtune://log/no/such"}),
    ("resources/read", {"uri": "torchtune://no/such"}),
    ("tools/call", {"name": "no_such_tool", "arguments": {}}),
]


@pytest.mark.long
def test_errors_of_a_client_print_no_traceback(demo: Path) -> None:
    with served("--root", str(demo.parent), cwd=demo.parent, stderr=demo.parent / "stderr") as pipe:
        for method, params in WRONG:
            answer = pipe.request(method, params)
            assert "error" in answer or method != "prompts/get"  # otherwise a result may report the problem
            assert pipe.request("ping", {})["result"] == {}
        assert pipe.close() == 0
    assert "Traceback" not in (demo.parent / "stderr").read_text()


# --- the roots of a server --------------------------------------------------------------------------------------------


def taken(experiment: Path, *arguments: str, cwd: Path, **given: str) -> bool:
    """Return whether `serve` accepts an experiment or refuses it as outside the roots; in this process, to be quick."""
    results: list[dict[str, Any]] = []

    def run(server: MCPServer[None], transport: str) -> None:
        async def call() -> None:
            async with Client(server) as client:
                done = await client.call_tool("parse_summary", {"experiment": str(experiment)})
                results.append(done.structured_content or {})

        assert transport == "stdio"
        anyio.run(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        for name in OURS:
            patch.delenv(name, raising=False)
        for name, value in given.items():
            patch.setenv(name, value)
        patch.setattr(MCPServer, "run", run)
        patch.setattr(signal, "signal", lambda *_: None)
        assert main(["serve", *arguments]) == 0
    (result,) = results
    if "error" in result:
        assert [problem["code"] for problem in result["error"]["problems"]] == ["outside-roots"]
    return "error" not in result


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return elsewhere


def test_by_default_the_working_directory_is_the_root(elsewhere: Path, demo: Path) -> None:
    assert taken(demo, cwd=demo.parent)
    assert not taken(demo, cwd=elsewhere)


def test_the_project_directory_of_the_host_replaces_the_working_directory(elsewhere: Path, demo: Path) -> None:
    assert taken(demo, cwd=elsewhere, CLAUDE_PROJECT_DIR=str(demo.parent))
    assert not taken(demo, cwd=demo.parent, CLAUDE_PROJECT_DIR=str(elsewhere))


@pytest.mark.parametrize("named_by", ["working directory", "project"])
def test_the_scratch_directory_in_the_settings_of_the_project_is_a_root_too(
    tmp_path: Path, elsewhere: Path, demo: Path, named_by: str
) -> None:
    (elsewhere / "claude.local.md").write_text(f"- **Scratch directory**: `{demo.parent}`\n")
    (tmp_path / "other").mkdir()
    if named_by == "project":
        assert taken(demo, cwd=tmp_path / "other", CLAUDE_PROJECT_DIR=str(elsewhere))
    else:
        assert taken(demo, cwd=elsewhere)


def test_the_environment_and_the_command_line_set_roots(elsewhere: Path, demo: Path) -> None:
    named = {"SCAFFOLD_TORCHTUNE_ROOT": str(demo.parent)}
    assert taken(demo, cwd=elsewhere, **named)
    assert not taken(demo, "--root", str(elsewhere), cwd=elsewhere, **named), "the command line wins"
    assert taken(demo, "--root", str(elsewhere), "--root", str(demo.parent), cwd=elsewhere)
    assert taken(demo, "--root", str(elsewhere), str(demo.parent), cwd=elsewhere), "as hosts write a list"


# --- a server with many calls -----------------------------------------------------------------------------------------

BLOCKED = """\
import re, sys, threading
from scaffold_torchtune import cli
from scaffold_torchtune.pipeline import state, steps
begun = []
def blocked(request):
    begun.append(1)
    open(sys.argv[1], "a").write("x")
    BLOCK
steps.parse = state.log_text = blocked
cli.main(["serve", "--root", sys.argv[2]])
"""


@contextmanager
def busy(demo: Path, how: str) -> Iterator[Pipe]:
    """Run a server with more calls than it runs at once, none of which ends."""
    mark = demo.parent / "begun"
    line = [sys.executable, "-c", BLOCKED.replace("BLOCK", how), str(mark), str(demo.parent)]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen(line, stderr=subprocess.DEVNULL, text=True, env=environment(), **pipes) as process:  # type: ignore[call-overload]
        try:
            pipe = Pipe(process)
            info = {"name": "test", "version": "1"}
            pipe.request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info})
            pipe.send('{"jsonrpc": "2.0", "method": "notifications/initialized"}')
            for number in range(100):
                call = {"name": "parse_summary", "arguments": {"experiment": str(demo)}}
                read = {"uri": f"torchtune://log{demo}"}
                method, params = ("tools/call", call) if number % 2 else ("resources/read", read)
                pipe.send(json.dumps({"jsonrpc": "2.0", "id": f"{number}", "method": method, "params": params}))
            wait_until(lambda: mark.exists() and mark.stat().st_size >= 32)
            yield pipe
        finally:
            process.kill()


@pytest.mark.long
def test_calls_without_work_are_answered_immediately(demo: Path, tmp_path: Path) -> None:
    with busy(demo, "threading.Event().wait()") as pipe:
        assert pipe.request("ping", {})["result"] == {}
        assert len(pipe.request("tools/list", {})["result"]["tools"]) == 5
        calls: list[tuple[str, dict[str, Any], str]] = [
            ("no_such_tool", {}, "invalid-value"),
            ("parse_summary", {}, "missing-field"),
            ("parse_summary", {"experiment": str(demo), "other": 1}, "unknown-key"),
            ("parse_summary", {"experiment": str(tmp_path)}, "outside-roots"),
            ("parse_summary", {"experiment": str(demo / "nothing" / "there")}, "not-a-directory"),
        ]
        for name, arguments, code in calls:
            assert [each["code"] for each in pipe.call(name, arguments)["error"]["problems"]] == [code]
        assert len(pipe.lines) == 8, "nothing else was answered"


@pytest.mark.long
@pytest.mark.parametrize("how", ["threading.Event().wait()", pytest.param("while True: pass", marks=pytest.mark.long)])
def test_a_server_ends_when_its_input_is_closed_despite_running_steps(demo: Path, how: str) -> None:
    with busy(demo, how) as pipe:
        assert pipe.process.stdin
        pipe.process.stdin.close()
        assert pipe.process.wait(timeout=PATIENCE) == 0
