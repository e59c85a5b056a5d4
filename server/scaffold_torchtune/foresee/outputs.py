"""Whether outputs go where torchtune takes them."""

from collections.abc import Iterator

from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.foresee.places import at, concerning, grouped, output_dir
from scaffold_torchtune.models.plan import Plan


def findings(plan: Plan) -> Iterator[Finding]:
    """Outputs that lie inside the base model's directory (check_outdir_not_in_ckptdir, training/checkpointing)."""
    for (outputs, model), runs in grouped(plan.runs, lambda run: (output_dir(run), run.checkpoint_dir)).items():
        if model and f"{outputs}/".startswith(f"{model}/"):
            yield finding(
                "output-in-checkpoint",
                f"the outputs of {concerning(runs, len(plan.runs))} would go into the directory of the base model,"
                f" {model}, which torchtune refuses",
                field="output_dir_base",
                expected=f"a directory outside {model}",
                actual=outputs,
                fix="name another output directory",
                at=at(runs[0], "output_dir_base", "project_dir"),
            )
