"""The MCP bundle: created, checked and packed by mcpb, unpacked elsewhere, started by the command of its manifest."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.cli.dispatch import prepare_demo
from support.hosts import ROOT, STEPS, calls, environment, run, scaffolds
from support.mcp_calls import listed

pytestmark = pytest.mark.package

SUBSTITUTE = """\
const { getMcpConfigForManifest } = await import(process.argv[1]);
const [manifest, extensionPath, userConfig] = process.argv.slice(2).map(JSON.parse);
const options = { manifest, extensionPath, userConfig, systemDirs: {}, pathSeparator: "/" };
console.log(JSON.stringify((await getMcpConfigForManifest(options)) ?? null));
"""
"""Fills in the variables of a manifest with the code of mcpb that hosts use."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle as a host has it after the install."""
    made = tmp_path_factory.mktemp("bundle")
    env = environment(made)
    done = run([sys.executable, ROOT / "scripts/make_bundle.py", "--to", made], env, made)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Manifest schema validation passes!" in done.stdout
    (packed,) = made.glob("*.mcpb")
    folder = tmp_path_factory.mktemp("extensions") / "scaffold-torchtune"
    done = run(["mcpb", "unpack", packed, folder], env, made)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest in an unpacked bundle."""
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def configured(folder: Path, env: dict[str, str], **chosen: Any) -> tuple[list[str], dict[str, str]] | None:
    """Return a host's command and variables to start the bundle with the user's choices; None: it asks first."""
    library = (ROOT / ".package-tools/node_modules/@anthropic-ai/mcpb/dist/browser.js").as_uri()
    given = [json.dumps(part) for part in (manifest(folder), str(folder), chosen)]
    done = run(["node", "--input-type=module", "-e", SUBSTITUTE, library, *given], env, folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found and ([found["command"], *found["args"]], found["env"])


def test_the_manifest_agrees_with_the_package_and_the_server(unpacked: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = manifest(unpacked)
    for key in ("name", "version", "description", "license", "keywords"):
        assert said[key] == project[key]
    assert [tool["name"] for tool in said["tools"]] == [tool.name for tool in listed(ROOT)] == list(STEPS)
    assert all(tool["description"] for tool in said["tools"])
    assert (unpacked / said["server"]["entry_point"]).is_file()


def test_the_bundle_has_only_the_files_that_the_package_is_built_from(unpacked: Path) -> None:
    top = {path.name for path in unpacked.iterdir()}
    built = {"pyproject.toml", "README.md", "LICENSE", "SKILL.md", "server", "templates", "workflows", "examples"}
    assert top == built | {"manifest.json"}
    assert not list(unpacked.rglob("__pycache__"))


def test_the_command_of_the_manifest_starts_a_server_that_scaffolds(
    unpacked: Path, env: dict[str, str], example: Path, tmp_path: Path
) -> None:
    other = prepare_demo(tmp_path / "other/sweep")
    found = configured(unpacked, env, roots=[str(other.parent), str(example.parent)])
    assert found is not None
    line, variables = found
    assert not [part for part in (*line, *variables.values()) if "${" in part]
    scaffolds(line, env | variables, example)
    names, refused = calls(
        line, env | variables, tmp_path, ("parse_summary", {"experiment": str(prepare_demo(tmp_path / "out"))})
    )
    assert names == list(STEPS)
    assert [problem["code"] for problem in refused["error"]["problems"]] == ["outside-roots"]


def test_the_setup_script_that_the_user_chose_runs(
    unpacked: Path, env: dict[str, str], example: Path, tmp_path: Path
) -> None:
    script = tmp_path / "setup_finetune.py"
    script.write_text("raise SystemExit(0)\n")
    found = configured(unpacked, env, roots=[str(example.parent)], setup_script=str(script))
    assert found is not None
    line, variables = found
    off = {"SCAFFOLD_TORCHTUNE_ACTIVATE": "off"}
    _, planned = calls(line, env | variables | off, tmp_path, ("plan_runs", {"experiment": str(example)}))
    assert str(script) in json.dumps(planned)


def test_a_host_does_not_start_the_bundle_without_directories(unpacked: Path, env: dict[str, str]) -> None:
    assert configured(unpacked, env) is None
