"""Asks an external setup_finetune.py what it takes, so that it is given what this version of it understands."""

from scaffold_torchtune.setup_script.ask import Fault, ask

__all__ = ["Fault", "ask"]
