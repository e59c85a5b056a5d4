"""The look stage: what lies on disk of what the plan names, outside the experiment. It only reads.

Only regular files are opened, and never further than a bound; what cannot be read is told as a value. Links are
followed: data sets and models are shared by links everywhere.
"""

from scaffold_torchtune.look.checkpoint import look_at_checkpoint
from scaffold_torchtune.look.data import look_at_data
from scaffold_torchtune.look.space import free_bytes

__all__ = ["free_bytes", "look_at_checkpoint", "look_at_data"]
