"""Fixtures that several modules use."""

from pathlib import Path

import pytest

from experiments import make_experiment


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests chooses nothing in them."""
    for name in ("SCAFFOLD_TORCHTUNE_ROOT", "SCAFFOLD_TORCHTUNE_SETUP_SCRIPT", "CLAUDE_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """The example on disk: four runs and a control."""
    return make_experiment(tmp_path / "sweep")
