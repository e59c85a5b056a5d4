"""Step 6: run setup_finetune for a run, the bundled one in this process or an external script."""

from scaffold_torchtune.setup.backends import Outcome, run_bundled, run_script

__all__ = ["Outcome", "run_bundled", "run_script"]
