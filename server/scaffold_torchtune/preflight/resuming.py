"""Jobs that resume: what they would go on from must be the training that is planned."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Scalar, finding
from scaffold_torchtune.models import DiskState, Plan, PlannedRun, Results
from scaffold_torchtune.preflight.run_groups import at
from scaffold_torchtune.system.text import escape, few, shown

_FEW: Final = 4
_SHOWN: Final = 200  # characters of a value
_CODE: Final = "other-state"

# Keys of finetune.yaml that change nothing of what is trained: where it is logged, how it is computed, and those that
# other nodes have by interpolation.
_NOT_TRAINED: Final = frozenset(
    {"epochs", "resume_from_checkpoint", "metric_logger", "log_every_n_steps", "log_peak_memory_stats", "profiler"}
    | {"save_adapter_weights_only", "low_cpu_ram"}
    | {"models_dir", "input_dir", "dataset_label", "my_wandb_project", "my_wandb_run_name", "dataset_val"}
    | {"run_val_every_n_steps", "batch_size_val"}
)
_COMPUTED: Final = "enable_activation_"  # checkpointing and offloading: activations are computed again, or moved
# The settings that other keys of finetune.yaml come from.
_SETTINGS: Final = {
    "model._component_": "torchtune_model_name", "checkpointer.checkpoint_dir": "model_checkpoint",
    "dataset.data_files": "dataset_label", "dataset._component_": "dataset_type",
    "dataset.new_system_prompt": "system_prompt", "dataset.split": "training_samples",
}  # fmt: skip

ConfigData = Mapping[str, Any]


def resuming_findings(
    plan: Plan, disk: DiskState, planned: Mapping[str, ConfigData], saved: Mapping[str, ConfigData]
) -> Iterator[Finding]:
    """Yield each run that would go on from the state of another plan: torchtune 0.6.1 takes it without a word.

    The optimizer then goes on with the old learning rate, and only the epochs that are missing are trained
    (`_update_recipe_state` and `_setup_optimizer` of the recipes).

    Args:
        plan: the plan.
        disk: has, by run directory, the state that its job would go on from.
        planned: finetune.yaml by run directory, with its interpolations resolved.
        saved: the config that the state was trained by, likewise; where it cannot be read, the run is not here.
    """
    for run in plan.runs:
        state = disk.states.get(run.directory)
        if state is None:
            continue
        here = planned.get(run.directory)
        if (there := saved.get(run.directory)) is None:
            yield _unknown(run)
        elif here is not None:
            yield from _compared(run, state, here, there)


def _unknown(run: PlannedRun) -> Finding:
    message = (
        f"the job of {run.directory} would go on from a state that lies in its output directory, and no"
        " torchtune_config.yaml that can be read says of which plan it is"
    )
    fix = "move the output directory away if the run is to begin anew; nothing if the state is of this plan"
    where = at(run, "resume_from_checkpoint")
    return finding(_CODE, message, field="resume_from_checkpoint", severity=Severity.WARNING, fix=fix, at=where)


def _compared(run: PlannedRun, state: Results, here: ConfigData, there: ConfigData) -> Iterator[Finding]:
    one, other = _flat(here), _flat(there)
    differing = [path for path in {**one, **other} if one.get(path) != other.get(path)]
    if differing:
        path = differing[0]
        field = escape(_SETTINGS.get(path, path.rpartition(".")[2]))
        was, now = other.get(path), one.get(path)
        message = (
            f"the job of {run.directory} would go on from a training with {escape(path)} {_text(was)}, and {_text(now)}"
            " is planned: torchtune 0.6.1 takes the state as it is"
        )
        more = f"; so would differ {few([*map(escape, differing[1:])], _FEW)}" if len(differing) > 1 else ""
        fix = (
            f"plan {field} {_text(was)} again to go on with that training, or move its output directory away to begin"
            " anew; or take out `Resume from checkpoint`"
        )
        yield finding(
            _CODE, message + more, field=field, expected=_scalar(now), actual=_scalar(was), fix=fix, at=at(run, field)
        )
        return
    epochs, before = run.integer("epochs", 1), other.get("epochs", there.get("epochs"))
    if epochs != before and state.epochs >= epochs:
        message = (
            f"the job of {run.directory} would go on from a training of which {state.epochs} epoch(s) are done, and"
            f" {epochs} are planned: it would train nothing"
        )
        fix = f"plan more than {state.epochs} epochs, or move the output directory away to begin anew"
        yield finding(_CODE, message, field="epochs", expected=f"more than {state.epochs}", actual=epochs, fix=fix,
            at=at(run, "epochs"))  # fmt: skip
    elif isinstance(before, int) and state.epochs >= before < epochs:
        message = (
            f"the training that the job of {run.directory} would go on from is complete, and torchtune 0.6.1 saves no"
            f" state with the last epoch: epoch {before} would be trained once more, upon what it came to"
        )
        fix = "move the output directory away to begin anew; nothing if one epoch more does not matter"
        yield finding(_CODE, message, field="epochs", severity=Severity.WARNING, fix=fix, at=at(run, "epochs"))


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    """Return the values of a config by dotted path, without those that change nothing of what is trained."""
    if not isinstance(node, Mapping):
        return {path: list(node) if isinstance(node, tuple) else node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        if path or (key not in _NOT_TRAINED and not str(key).startswith(_COMPUTED)):
            found |= _flat(value, f"{path}.{key}" if path else str(key))
    return found


def _scalar(value: Any) -> Scalar:
    return value if isinstance(value, int | float | None) else str(value)[:_SHOWN]


def _text(value: Any) -> str:
    return "nothing" if value is None else shown(_scalar(value))
