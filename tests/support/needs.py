"""Marks of tests that need more than Python, with the missing program and the command that installs it."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from support import one_node_slurm

TORCHTUNE: Final = [
    pytest.mark.torchtune,
    pytest.mark.skipif(find_spec("torchtune") is None, reason="torchtune is not installed: run `make contract`"),
    pytest.mark.filterwarnings("default"),  # torch and torchtune emit warnings of their own
]

_MISSING: Final = one_node_slurm.missing()
SLURM: Final = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(_MISSING), reason=f"not on this machine: {', '.join(_MISSING)}; `make slurm` as root"),
]

ROOT: Final = Path(__file__).parents[2]
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE: Final = ROOT / ".page-tools/node_modules/axe-core/axe.min.js"
_NO_BROWSER: Final = [
    *([] if CHROMIUM else ["chromium"]),
    *([] if AXE.exists() else ["axe-core"]),
    *([] if find_spec("playwright") else ["playwright"]),
]
PAGE: Final = [
    pytest.mark.page,
    pytest.mark.skipif(bool(_NO_BROWSER), reason=f"not on this machine: {', '.join(_NO_BROWSER)}; `make page` as root"),
]
