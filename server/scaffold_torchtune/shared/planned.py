"""What a planned run says, as every stage that judges plans reads it."""

import posixpath

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models.plan import PlannedRun


def value(run: PlannedRun, name: str) -> Scalar:
    """A planned value; None where it is not planned."""
    setting = run.settings.get(name)
    return None if setting is None else setting.value


def checkpoint_dir(run: PlannedRun) -> str | None:
    """The directory of the run's base model, `models_dir/model_checkpoint`, absolute; None where it is not planned."""
    folder, model = value(run, "models_dir"), value(run, "torchtune_model_name")
    name = str(value(run, "model_checkpoint") or model or "")
    if name.startswith("/"):
        return posixpath.normpath(name)
    return posixpath.normpath(posixpath.join(str(folder), name)) if folder and name else None
