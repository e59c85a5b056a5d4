"""A Slurm for each module of tests, which may change it."""

from collections.abc import Iterator

import pytest

from support import one_node_slurm
from support.one_node_slurm import Slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Return a running Slurm of one node."""
    with one_node_slurm.running() as running:
        yield running
