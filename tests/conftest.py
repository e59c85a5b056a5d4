import pytest


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests chooses nothing in them."""
    for name in ("SCAFFOLD_TORCHTUNE_ROOT", "SCAFFOLD_TORCHTUNE_SETUP_SCRIPT", "CLAUDE_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)
