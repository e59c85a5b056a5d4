"""torchtune's own word on every finetune.yaml: what to ask it, and what its answers mean.

`program.py` asks it, as a process of its own in a Python that has torchtune; nothing else here needs one. `validate`
knows where values belong from torchtune's facts; this asks whether torchtune takes them, and builds what they describe.
"""

from scaffold_torchtune.with_torchtune.answers import Heard, findings, hear, missing, unanswered
from scaffold_torchtune.with_torchtune.questions import Config, Questions, questions, request

__all__ = ["Config", "Heard", "Questions", "findings", "hear", "missing", "questions", "request", "unanswered"]
