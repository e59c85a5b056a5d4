"""Whether a run's files were made by this setup from this plan, as its record tells, or are left over."""

from scaffold_torchtune.findings import Finding, Refused, finding
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.pipeline import state
from scaffold_torchtune.pipeline.apply import OUTPUTS, hash_of
from scaffold_torchtune.pipeline.backend import identity
from scaffold_torchtune.shared import layout
from scaffold_torchtune.shared.files import Tree
from scaffold_torchtune.shared.text import one_line

_AGAIN = "run setup again"


def made_by(plan: Plan) -> str | None:
    """What the plan's setup_finetune is now; None where its script cannot be read any more."""
    try:
        return identity(plan)
    except OSError:
        return None


def findings(tree: Tree, run: PlannedRun, made_by: str | None) -> list[Finding]:
    """What the run's record says against its outputs. `made_by` is what setup would make them with now."""
    try:
        there = {name: digest for name in OUTPUTS if (digest := hash_of(tree, f"{run.directory}/{name}"))}
        record = state.load_record(tree, run.directory)
    except Refused:
        return []  # reported where the file itself is read
    if record is None:
        return []
    if record.failed:
        output = layout.output(run.directory)
        fix = f"mend the cause, then {_AGAIN}"
        fix = f"look at what the script printed ({output}), {fix}" if tree.kind(output) else fix
        message, path = f"its last setup failed: {one_line(record.failed)}", layout.record(run.directory)
        return [finding("setup-failed", message, file=path, fix=fix)]
    if there and not record.outputs:
        return [_stale(run, name, "is left from an earlier setup") for name in there]
    if there and made_by and record.backend != made_by:
        return [_stale(run, name, f"was made by another setup_finetune ({record.backend})") for name in there]
    return [
        finding(
            "changed-output",
            f"{name} was changed since setup made it",
            file=f"{run.directory}/{name}",
            fix="change the summary instead and scaffold again; setup with --overwrite puts it back",
        )
        for name, digest in there.items()
        if record.outputs.get(name) not in {None, digest}
    ]


def _stale(run: PlannedRun, name: str, what: str) -> Finding:
    return finding("stale-output", f"{name} {what}", file=f"{run.directory}/{name}", fix=_AGAIN)
