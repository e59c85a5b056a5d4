"""Fixtures that several modules use."""

import gc
import importlib.util
import os
import signal
import tempfile
from pathlib import Path

import pytest

from support.experiments import make_experiment
from support.sampling import mark_most_cases_long

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a directory of its own there
"""A directory in memory on Linux: syncing files to a disk would need a quarter of the time of a scaffold."""

collect_ignore = [] if importlib.util.find_spec("playwright") else ["page"]
"""The tests of pages in a browser, whose fixtures need the packages that `make page` installs."""

ROOM = 4_000_000_000
"""The number of bytes that must be free there."""


def pytest_configure() -> None:
    """Undo what shells do to background jobs: they ignore SIGINT and SIGQUIT, as do all processes that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if "TMPDIR" not in os.environ and has_room(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def has_room(directory: Path) -> bool:
    """Return whether a directory has room for the files of all tests and allows programs to be started."""
    if not os.access(directory, os.W_OK | os.X_OK):
        return False
    system = os.statvfs(directory)
    return system.f_bavail * system.f_frsize > ROOM and not system.f_flag & os.ST_NOEXEC


@pytest.hookimpl(tryfirst=True)  # before pytest deselects tests by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Try few cases of each test if all tests are collected, and all cases if files, directories or names are given.

    The slowest test is run first, so that no worker waits for it at the end.
    """
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    if is_whole:
        mark_most_cases_long(items)
    items.sort(key=lambda item: item.name != "test_no_mutant_of_a_sample_survives")


def pytest_collection_finish() -> None:
    """Exclude the tests themselves from garbage collection, which then only handles the objects that they create."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_nothing(monkeypatch)


def configure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the user's environment that would configure the tests."""
    for name in ("ROOT", "SETUP_SCRIPT", "VENV"):
        monkeypatch.delenv(f"SCAFFOLD_TORCHTUNE_{name}", raising=False)
    monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)
    for name in ("SBATCH", "PYTHON", "ACTIVATE"):  # and the installed programs
        monkeypatch.setenv(f"SCAFFOLD_TORCHTUNE_{name}", "off")


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Return the example on disk: four runs and a control."""
    return make_experiment(tmp_path / "sweep")


@pytest.fixture
def done(experiment: Path) -> Path:
    """Return the example, scaffolded."""
    from support.scaffolding import scaffold  # most tests do not need the pipeline, and its import is slow

    assert scaffold(experiment).ok
    return experiment


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the example, scaffolded once for all tests of a module that do not change it."""
    from support.scaffolding import scaffold

    with pytest.MonkeyPatch.context() as patch:
        configure_nothing(patch)
        experiment = make_experiment(tmp_path_factory.mktemp("intact") / "sweep")
        assert scaffold(experiment).ok
    return experiment


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Return the example with three runs on disk."""
    return make_experiment(tmp_path / "sweep", without=["- **Runs:**", "_rank16_lr5e-5"])


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """Return the example with one run on disk."""
    return make_experiment(tmp_path / "single", without=["- **Runs:**", "_rank16_", "_rank8_lr5e-5"])


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Return a directory in which scripts leave marks for tests."""
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


@pytest.fixture
def no_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a working directory without a claude.local.md."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the directory in which a server may work."""
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def sweep(root: Path) -> Path:
    """Return the example on disk, where a server may work."""
    return make_experiment(root / "cap_sweep")
