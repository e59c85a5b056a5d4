"""Start the product as hosts do: from an installed copy, by the configured command, over real pipes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

from support.mcp_calls import Call, Era
from support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".package-tools/node_modules/.bin"
STEPS = ("parse_summary", "plan_runs", "render_yaml", "run_setup", "validate")
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
}
_KEPT = re.compile(r"LANG|TERM|TMPDIR|(UV|PIP|SSL|npm_config)_.*|.*_proxy", re.IGNORECASE)
"""The names of the variables that configure access to registries."""

CONFINED = ("--bounding-set", "-dac_override,-dac_read_search")
"""The capabilities that setpriv removes from root, so that file modes apply to it and to its children."""

Run = subprocess.CompletedProcess[str]


def environment(home: Path, **given: str) -> dict[str, str]:
    """Return the environment of a user who has installed the package and the hosts, and configured nothing."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    path = os.pathsep.join([str(TOOLS), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, **QUIET, "PATH": path, "HOME": str(home), **given}


def run(line: Sequence[object], env: dict[str, str], cwd: Path) -> Run:
    """Run a command, whose words may be paths, to its end, and capture its output."""
    return subprocess.run(
        list(map(str, line)), env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=2 * PATIENCE
    )


def checkout(to: Path) -> Path:
    """Create a copy of the files that git has or would add, as a clone or a host's copy has them."""
    listed = subprocess.run(
        [shutil.which("git") or "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return to


def lock(directory: Path) -> None:
    """Remove the write permission of everything in a directory."""
    for path in (*directory.rglob("*"), directory):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)


def state(directory: Path) -> dict[Path, tuple[int, int]]:
    """Return a state that any change of a file or directory below would change."""
    return {path: (path.lstat().st_ctime_ns, path.lstat().st_size) for path in (directory, *directory.rglob("*"))}


def confined(*, offline: bool = True) -> list[str]:
    """Return the prefix of a command that may write only what file modes allow, and reach no network."""
    if os.geteuid() != 0:
        return []  # file modes apply; the network stays, except for programs that are configured to be offline
    return [*(["unshare", "--net"] if offline else []), "setpriv", *CONFINED]


def calls(line: Sequence[object], env: dict[str, str], cwd: Path, *given: Call, era: Era = "auto") -> list[Any]:
    """Return the structured results of some calls of a server that a command starts; the first is the tools' names."""

    async def main() -> list[Any]:
        command, *arguments = map(str, line)
        server = StdioServerParameters(command=command, args=arguments, env=env, cwd=cwd)
        async with Client(server, mode=era) as client:
            found: list[Any] = [[tool.name for tool in (await client.list_tools()).tools]]
            for name, arguments_of_it in given:
                result = await client.call_tool(name, arguments_of_it)
                found.append(result.structured_content)
        return found

    return anyio.run(main)


def scaffolds(line: Sequence[object], env: dict[str, str], experiment: Path) -> None:
    """Check that a server completes a scaffold of the example."""
    steps = [(name, {"experiment": str(experiment)}) for name in STEPS]
    names, *results = calls(line, env, experiment.parent, *steps)
    assert names == list(STEPS)
    refused = [json.dumps(result) for result in results if "error" in result]
    assert not refused, refused
    assert (results[-1]["passed"], results[-1]["checked"], results[-1]["planned"]) == (True, 4, 4)
    assert (experiment / "rank8_lr1e-5/finetune.slurm").is_file()
