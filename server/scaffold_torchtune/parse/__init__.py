"""Step 1: read the two documents into one typed `Experiment`, or say everything that is wrong with them."""

from scaffold_torchtune.parse.assemble import parse_experiment
from scaffold_torchtune.parse.local import scratch_directory
from scaffold_torchtune.parse.local_settings import local_settings
from scaffold_torchtune.parse.yaml_form import schema

__all__ = ["local_settings", "parse_experiment", "schema", "scratch_directory"]
