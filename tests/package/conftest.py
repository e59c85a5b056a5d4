"""Fixtures of the package tests: a copy as hosts have it, a user's home, uv's cache, and the example."""

from pathlib import Path

import pytest

from scaffold_torchtune.cli.dispatch import prepare_demo
from support.hosts import ROOT, TOOLS, checkout, environment, lock, run


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    wanted, installed = ROOT / "tests/package/package.json", TOOLS.parents[1] / "installed.json"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        pytest.fail("the hosts and checkers are not installed: run make package")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return uv's cache, empty at first."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def env(tmp_path: Path, cache: Path) -> dict[str, str]:
    """Return the environment of a user with a separate home directory."""
    (tmp_path / "home").mkdir()
    return environment(tmp_path / "home", UV_CACHE_DIR=str(cache))


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return the plugin's folder, read-only, with uv's cache as a first start leaves it."""
    folder = checkout(tmp_path_factory.mktemp("plugins") / "scaffold-torchtune")
    lock(folder)
    home = tmp_path_factory.mktemp("home")
    env = environment(home, UV_CACHE_DIR=str(cache))
    done = run(["uvx", "--from", folder, "scaffold-torchtune", "--version"], env, home)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return the bundled example, in a separate directory of experiments."""
    return prepare_demo(tmp_path / "experiments" / "capitalization_lora_sweep")
