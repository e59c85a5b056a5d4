"""facts.json and tensors.json agree with the installed torchtune."""

import subprocess
import sys
from pathlib import Path

from support import needs

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "regenerate_torchtune_facts.py"

pytestmark = needs.TORCHTUNE


def test_the_facts_are_current() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["facts.json is current", "tensors.json is current"]
