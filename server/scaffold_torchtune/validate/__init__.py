"""The validate stage: the proof that every planned value arrived in finetune.yaml and finetune.slurm.

It knows where values belong from torchtune's facts alone and shares nothing with the code that writes the files:
otherwise both could be wrong in the same way. It is pure; whoever calls it reads the files.
"""

from scaffold_torchtune.validate import submission
from scaffold_torchtune.validate.alike import told_once
from scaffold_torchtune.validate.checkpoint import checkpoint_files
from scaffold_torchtune.validate.defaults import unchosen
from scaffold_torchtune.validate.files import RunFiles
from scaffold_torchtune.validate.runs import validate_run
from scaffold_torchtune.validate.verdict import verdict

__all__ = ["RunFiles", "checkpoint_files", "submission", "told_once", "unchosen", "validate_run", "verdict"]
