"""The foresee stage: what would go wrong later, or be remarkable, as far as plan and disk tell it now.

It judges the plan as a whole, with what was seen of data sets, models and free space; nothing is read here. What a
finding says of torchtune is true of torchtune 0.6.1.
"""

from collections.abc import Mapping, Sequence

from scaffold_torchtune.findings import Finding, sort_findings
from scaffold_torchtune.foresee import checkpoint, cost, data, design, names, outputs, training
from scaffold_torchtune.foresee.places import output_dir
from scaffold_torchtune.models.plan import Plan
from scaffold_torchtune.models.seen import Seen

__all__ = ["foresee", "output_dir"]


def foresee(plan: Plan, seen: Seen, listed: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Everything that can be foreseen.

    Args:
        plan: the plan.
        seen: what lies on disk of what the plan names.
        listed: the checkpoint files that finetune.yaml names, by the model's directory; where it is not known yet,
            the directory is not here.

    Returns:
        Findings about the experiment, each told once for all runs that it concerns, at the place in the documents
        from which the value comes, sorted by it.
    """
    return sort_findings(
        [
            *data.findings(plan, seen),
            *training.findings(plan, seen),
            *checkpoint.findings(plan, seen, listed),
            *outputs.findings(plan),
            *names.findings(plan),
            *design.findings(plan),
            *cost.findings(plan, seen),
        ]
    )
