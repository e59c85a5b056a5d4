"""Step 1: read the two documents into one typed `Experiment`, or say everything that is wrong with them."""

from scaffold_torchtune.parse.assemble import parse_experiment
from scaffold_torchtune.parse.local import scratch_directory

__all__ = ["parse_experiment", "scratch_directory"]
