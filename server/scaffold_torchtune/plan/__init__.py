"""Steps 2 and 4: find what varies, name the run directories, choose the template, freeze every value."""

from scaffold_torchtune.plan.compare import Difference, differences
from scaffold_torchtune.plan.place import Place
from scaffold_torchtune.plan.planner import make_plan, with_id

__all__ = ["Difference", "Place", "differences", "make_plan", "with_id"]
