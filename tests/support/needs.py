"""Marks of tests that need more than Python: each says what is missing, and the command that installs it."""

from importlib.util import find_spec
from typing import Final

import pytest

from support import one_node_slurm

TORCHTUNE: Final = [
    pytest.mark.torchtune,
    pytest.mark.skipif(find_spec("torchtune") is None, reason="torchtune is not installed: run `make contract`"),
    pytest.mark.filterwarnings("default"),  # torch and torchtune have warnings of their own
]

_MISSING: Final = one_node_slurm.missing()
SLURM: Final = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(_MISSING), reason=f"not on this machine: {', '.join(_MISSING)}; `make slurm` as root"),
]
