"""Step 6: run setup_finetune for a run, the bundled one in this process or an external script."""

from scaffold_torchtune.setup.backends import Outcome, Ran, run_bundled, run_script
from scaffold_torchtune.setup.causes import Cause

__all__ = ["Cause", "Outcome", "Ran", "run_bundled", "run_script"]
