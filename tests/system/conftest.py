"""Fixtures for the tests of files and locks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scaffold_torchtune.system.files import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """Create an experiment directory with its state directories."""
    (tmp_path / "experiment").mkdir()
    with Tree(tmp_path / "experiment") as made:
        made.prepare()
        yield made
