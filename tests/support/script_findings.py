"""The findings of validate in a script, if all other files are correct."""

from collections.abc import Mapping

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.validate import validate_run
from support.good_files import EXTERNAL_CONFIG, GOOD_CONFIG, SLURM, files_of, planned

Found = list[tuple[str, str, str | None]]


def found(changes: Mapping[str, Scalar], slurm: str, *, bundled: bool) -> Found:
    """Return code, severity and field of each finding; a planned value of None means no setting."""
    run = planned(changes)
    settings = {name: setting for name, setting in run.settings.items() if changes.get(name, "") is not None}
    run = run.model_copy(update={"settings": settings})
    findings = validate_run(run, files_of(run, GOOD_CONFIG if bundled else EXTERNAL_CONFIG, slurm), bundled=bundled)
    kept = [f for f in findings if bundled or f.file == f"{run.directory}/{SLURM}"]
    return [(f.code, str(f.severity), f.field) for f in kept]
