"""Make the MCP bundle: a folder with all that the package is built from and a manifest of its own, packed by mcpb.

What the manifest says comes from pyproject.toml and from the server itself. The server's type is `uv`, as one of
type `python` would have to carry compiled dependencies for every platform. Hosts run it with a uv of their own and the
arguments given here, so these begin with `tool run`, which is what `uvx` stands for.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import anyio
from mcp import Client

from scaffold_torchtune.mcp_server import make_server

ROOT: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = ROOT / ".package-tools/node_modules/.bin"  # of scripts/install_package_tools
MANIFEST_VERSION: Final = "0.4"  # the first that knows the type uv

USER_CONFIG: Final = {
    "roots": {
        "type": "directory",
        "title": "Directories of experiments",
        "description": "Experiments must lie under one of these directories; nothing is written elsewhere.",
        "multiple": True,
        "required": True,
        "default": [],
    },
    "setup_script": {
        "type": "file",
        "title": "Your own setup_finetune.py",
        "description": "Runs as you, once in each run directory. Empty: the bundled one, or you are asked.",
        "required": False,
        "default": "",  # hosts hand over the name of the variable where there is no value
    },
}


def listed_tools() -> list[dict[str, str]]:
    """Each tool of the server: its name, and the first paragraph of its description."""

    async def ask() -> list[dict[str, str]]:
        async with Client(make_server([ROOT])) as client:
            found = (await client.list_tools()).tools
        return [{"name": t.name, "description": (t.description or "").split("\n\n")[0]} for t in found]

    return anyio.run(ask)


def manifest(pyproject: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the bundle, from pyproject.toml and the tools of the server."""
    project = pyproject["project"]
    (package,) = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    command = ["tool", "run", "--from", "${__dirname}", *project["scripts"], "serve", "--root", "${user_config.roots}"]
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": project["name"],
        "version": project["version"],
        "description": project["description"],
        "author": project["authors"][0],
        "license": project["license"],
        "keywords": project["keywords"],
        "server": {
            "type": "uv",
            "entry_point": f"{package}/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": command,
                "env": {"SCAFFOLD_TORCHTUNE_SETUP_SCRIPT": "${user_config.setup_script}"},
            },
        },
        "tools": listed_tools(),
        "prompts_generated": True,
        "compatibility": {
            "platforms": ["darwin", "linux"],
            "runtimes": {"python": project["requires-python"]},
        },
        "user_config": USER_CONFIG,
    }


def fill(folder: Path, pyproject: dict[str, Any]) -> None:
    """Put into an empty folder what the wheel is built from, and the manifest."""
    wheel = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = pyproject["project"]
    names = [*wheel["packages"], *wheel["force-include"], project["readme"], *project["license-files"]]
    for name in ["pyproject.toml", *names]:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, target)
    (folder / "manifest.json").write_text(json.dumps(manifest(pyproject), indent=2) + "\n")


def main() -> int:
    """Make the bundle in a directory; mcpb's own findings go to the terminal, its exit status is ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--to", type=Path, default=ROOT / "dist", metavar="DIR", help="default: dist")
    to: Path = parser.parse_args().to
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folder = to / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fill(folder, pyproject)
    project = pyproject["project"]
    packed = to / f"{project['name']}-{project['version']}.mcpb"
    for line in (["validate", str(folder / "manifest.json")], ["pack", str(folder), str(packed)]):
        status = subprocess.run([TOOLS / "node", TOOLS / "mcpb", *line], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
