"""Activates the modules and the environment that an external script needs: once, in a login shell."""

from scaffold_torchtune.activation.faults import problem
from scaffold_torchtune.activation.report import Fault
from scaffold_torchtune.activation.shell import activate
from scaffold_torchtune.activation.wanted import Wanted

__all__ = ["Fault", "Wanted", "activate", "problem"]
