"""facts.json and tensors.json say what the installed torchtune says."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "regenerate_torchtune_facts.py"

pytestmark = [
    pytest.mark.torchtune,
    pytest.mark.skipif(
        importlib.util.find_spec("torchtune") is None, reason="torchtune is not installed: run `make contract`"
    ),
]


def test_the_facts_are_current() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["facts.json is current", "tensors.json is current"]
