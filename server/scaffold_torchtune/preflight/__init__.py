"""Preflight checks: problems that the plan and the disk already show before any job runs.

This module runs all checks in order. It also checks base models against what the runs need, and compares the state that
a resumed job would continue from with the planned training.

data_files.py     reads JSON and Parquet data sets
data_findings.py  columns, formats and sizes of data sets; samples without labels, NaN losses, truncation
tokenizers.py     chats that torchtune refuses, the layout of each tokenizer, token counts
samples.py        lengths of samples, packing, remaining labels
disk.py           reads the directories of base models, free space, states to resume from
training.py       runs with equal values, optimizer steps and warm-up, GPU memory, disk and time
design.py         the factorial grid, odd cells in it, seeds, confounds, unusual values, identical runs
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Scalar, counted, escape, few, finding, shown, sort_findings
from scaffold_torchtune.models import CheckpointState, DiskState, Plan, PlannedRun, Results
from scaffold_torchtune.preflight import data_findings, design, training
from scaffold_torchtune.preflight.training import Subject, at, concerning, grouped, verb
from scaffold_torchtune.torchtune_facts.facts import ModelFacts, load

_FEW_NAMES = 3  # files or tensors
_CONFIG = "config.json"


def checkpoint_findings(plan: Plan, disk: DiskState, listed: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Yield the problems of each base model's directory."""
    models = grouped(plan.runs, lambda run: (str(run.checkpoint_dir), run.text("torchtune_model_name")))
    for (directory, model), runs in models.items():
        found = disk.checkpoints.get(directory)
        if found is None:
            continue
        who = concerning(runs, plan)
        for_whom = f" for {who}" if len(plan.runs) > 1 else ""
        failure = f"torchtune cannot load {model} from {shown(directory)}{for_whom}"
        place = at(runs[0], "model_checkpoint", "models_dir")
        about = Subject(model, "models_dir", place, "checkpoint-mismatch", failure)
        if found.absent:
            what = f"the model directory {shown(directory)} of {who} was not found on this machine"
            yield about.not_seen(what, unchecked="files", near=found.near)
        elif found.problem:
            yield about.mismatch(f"the path {found.problem}", fix="correct the model's path in the summary")
        elif found.snapshots:
            what = (
                "the directory is an entry of the Hugging Face cache, which keeps each version of the model in a"
                " subdirectory of snapshots/"
            )
            fix = f"use the path of one version: {escape(directory)}/snapshots/{found.snapshots[0]}"
            yield about.mismatch(what, expected=found.snapshots[0], fix=fix)
        else:
            facts = load().model(model)
            yield from _config(about, found, facts)
            yield from _weights(about, found, facts, listed.get(directory))
            yield from _tokenizer(about, found, facts) if facts else ()


def _config(about: Subject, found: CheckpointState, facts: ModelFacts | None) -> Iterator[Finding]:
    """Check config.json, which has the attention shapes for FullModelHFCheckpointer.load_checkpoint."""
    if found.config is None:
        what = f"{_CONFIG} is not a JSON object" if _CONFIG in found.files else f"{_CONFIG} is missing"
        yield about.mismatch(what, expected=_CONFIG, fix="download the whole model repository again")
        return
    missing = [key for key in ("num_attention_heads", "num_key_value_heads", "hidden_size") if key not in found.config]
    if missing:
        what = f"{_CONFIG} lacks {few(missing, len(missing))}"
        yield about.mismatch(what, expected=", ".join(missing), fix=f"use the {_CONFIG} from the model repository")
    shapes = dict(facts.tensors()) if facts else {}
    width = shapes.get("model.embed_tokens.weight", (0, 0))[1]
    actual = found.config.get("hidden_size")
    if width and actual not in {None, width}:
        message = f"{_CONFIG} has hidden_size {actual}, but {about.name} has {width}"
        fix = "correct the model's name or its path in the summary"
        yield about.mismatch(message, expected=str(width), actual=str(actual), fix=fix)


def _weights(
    about: Subject, found: CheckpointState, facts: ModelFacts | None, listed: Sequence[str] | None
) -> Iterator[Finding]:
    """Check the files to load, and their tensors against those of torchtune's model builder.

    Files in torch's own format (`.bin`) are only checked for existence.
    """
    names = list(listed or found.weights or found.tensors or ["model.safetensors"])
    missing = [name for name in names if name not in found.files]
    if missing:
        yield _missing(about, found, names, missing)
        return
    loaded = {name: found.tensors[name] for name in names if name in found.tensors}
    broken = {name: each for name, each in loaded.items() if each.problem}
    for name, each in broken.items():
        pull = "run `git lfs pull` in the model directory, or " if each.is_pointer else ""
        yield about.mismatch(f"{name} {each.problem}", actual=name, fix=f"{pull}download {name} again")
    shapes = {name: shape for each in loaded.values() for name, shape in each.shapes.items()}
    if facts is not None and not broken and len(loaded) == len(names):
        yield from _shapes(about, shapes, facts)
    yield from _index(about, found)


def _missing(about: Subject, found: CheckpointState, names: Sequence[str], missing: Sequence[str]) -> Finding:
    """Report missing weights: the directory is the wrong one, or does not hold a model."""
    message, actual = f"the directory lacks {_few(missing)}", _few(list(found.tensors), "") or "no .safetensors file"
    fix = "download the whole model repository again, or correct the model's name or path in the summary"
    if found.weights:
        message = f"{message}, but has the model's weights in {_few(found.weights)}"
        fix = "scaffold again, so that finetune.yaml lists the existing files"
    elif any(name.startswith("adapter_model.") for name in found.files):
        message = f"{message}, and contains only an adapter without its base model"
        fix = (
            "merge the adapter into its base model, and use the path of the merged model; or turn off `Save adapter"
            " weights only`, and repeat the run that produced this adapter"
        )
    return about.mismatch(message, expected=_few(names, ""), actual=actual, fix=fix)


def _shapes(about: Subject, shapes: Mapping[str, tuple[int, ...]], facts: ModelFacts) -> Iterator[Finding]:
    needed = dict(facts.tensors())
    correct = "correct the model's name or its path in the summary"
    fix = f"{correct}, or download the model again"
    missing = [name for name in needed if name not in shapes]
    if missing:
        message = (
            f"{len(missing)} of the {len(needed)} tensors of {about.name} {verb(len(missing), 'are')} missing:"
            f" {_few(missing)}"
        )
        yield about.mismatch(message, expected=_few(missing, ""), fix=fix)
    for name in [n for n in needed if n in shapes and shapes[n] != needed[n]][:1]:
        message = f"the shape of {name} is {_shape(shapes[name])}, but in {about.name} it is {_shape(needed[name])}"
        yield about.mismatch(message, expected=_shape(needed[name]), actual=_shape(shapes[name]), fix=fix)
    spare = sorted(shapes.keys() - needed.keys() - set(facts.skipped_tensors()))
    if spare:
        what = (
            f"the files contain {counted(len(spare), 'tensor')} that torchtune does not expect in {about.name}:"
            f" {_few(spare)}"
        )
        these = "this tensor" if len(spare) == 1 else "these tensors"
        fix = f"{correct}, download the model again, or remove {these} from the files"
        yield about.mismatch(what, actual=_few(spare, ""), fix=fix)


def _index(about: Subject, found: CheckpointState) -> Iterator[Finding]:
    """Check that the files of the index exist and hold the tensors that the index lists."""
    absent = sorted({file for file in (found.index or {}).values() if file not in found.files})
    if absent:
        what = f"the directory lacks {_few(absent)}, which model.safetensors.index.json lists"
        fix = f"download the missing {'file' if len(absent) == 1 else 'files'}"
        yield about.mismatch(what, expected=_few(absent, ""), fix=fix)
        return
    for tensor, file in (found.index or {}).items():
        seen = found.tensors.get(file)
        if seen is not None and not seen.problem and tensor not in seen.shapes:
            what = f"model.safetensors.index.json lists {tensor} in {file}, but {file} does not contain it"
            yield about.mismatch(what, expected=tensor, fix=f"download {file} and the index again")
            return


def _tokenizer(about: Subject, found: CheckpointState, facts: ModelFacts) -> Iterator[Finding]:
    for name in facts.tokenizer_files.values():
        size = found.files.get(name)
        if size is None or size == 0:
            what = f"the tokenizer file {name} is {'missing' if size is None else 'empty'}"
            fix = f"download {name} from the model repository (some download tools skip the directory original/)"
            yield about.mismatch(what, expected=name, fix=fix)


def _few(names: Sequence[str], last: str = "and") -> str:
    return few(names, _FEW_NAMES, last=last)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def permission_findings(plan: Plan, disk: DiskState) -> Iterator[Finding]:
    """Yield output directories that this user cannot create, or cannot write to."""
    for path, runs in grouped(plan.runs, lambda run: disk.unwritable.get(training.output_dir(run) or "")).items():
        if path is None:
            continue
        message = (
            f"the outputs of {concerning(runs, plan)} would be written below {shown(path)}, in which this user cannot"
            " create directories"
        )
        fix = f"choose a different output directory, or grant write permission to {shown(path)}"
        where = at(runs[0], "output_dir_base", "project_dir")
        yield finding(
            "write-failed", message, field="output_dir_base", actual=path, severity=Severity.WARNING, fix=fix, at=where
        )


_FEW_DIFFERING: Final = 4
_SHOWN: Final = 200  # characters of a value
_CODE: Final = "other-state"

# Keys of finetune.yaml that do not affect the trained weights: logging, the way of computation, and keys that other
# nodes interpolate.
_NOT_TRAINED: Final = frozenset(
    {"epochs", "resume_from_checkpoint", "metric_logger", "log_every_n_steps", "log_peak_memory_stats", "profiler"}
    | {"save_adapter_weights_only", "low_cpu_ram"}
    | {"models_dir", "input_dir", "dataset_label", "my_wandb_project", "my_wandb_run_name", "dataset_val"}
    | {"run_val_every_n_steps", "batch_size_val"}
)
_COMPUTED: Final = "enable_activation_"  # checkpointing and offloading: activations are recomputed or moved
# The settings that determine other keys of finetune.yaml.
_SETTINGS: Final = {
    "model._component_": "torchtune_model_name", "checkpointer.checkpoint_dir": "model_checkpoint",
    "dataset.data_files": "dataset_label", "dataset._component_": "dataset_type",
    "dataset.new_system_prompt": "system_prompt", "dataset.split": "training_samples",
}  # fmt: skip

ConfigData = Mapping[str, Any]


def resuming_findings(
    plan: Plan, disk: DiskState, planned: Mapping[str, ConfigData], saved: Mapping[str, ConfigData]
) -> Iterator[Finding]:
    """Yield each run that would continue from the state of a different plan, which torchtune 0.6.1 accepts silently.

    The optimizer then continues with the old learning rate, and only the missing epochs are trained
    (`_update_recipe_state` and `_setup_optimizer` of the recipes).

    Args:
        plan: the plan.
        disk: has, by run directory, the state that the job would continue from.
        planned: finetune.yaml by run directory, with resolved interpolations.
        saved: the config of the training that saved the state, also resolved; runs without a readable one are missing.
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
        f"the job of the run {shown(run.directory)} would resume from the state in its output directory, but that"
        " directory has no readable torchtune_config.yaml, so it is unknown which plan the state belongs to"
    )
    fix = "no action if the state belongs to this plan; otherwise move the output directory elsewhere to start over"
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
            f"the job of the run {shown(run.directory)} would resume from a saved state in which {escape(path)} is"
            f" {_text(was)}, but in the plan it is {_text(now)}; torchtune 0.6.1 would use that state unchanged"
        )
        more = f"; other differences: {few([*map(escape, differing[1:])], _FEW_DIFFERING)}" if differing[1:] else ""
        restore = f"remove `{field}`" if was is None else f"set `{field}` back to {_text(was)}"
        if path in _SETTINGS:  # which has a different form there than in the documents
            what = "the path of the data set" if field == "dataset_label" else field
            restore = f"change {what} so that {escape(path)} is {_text(was)} again"
        fix = (
            f"to continue that training, {restore}; to start over, move the output directory elsewhere, or remove"
            " the setting 'Resume from checkpoint'"
        )
        yield finding(
            _CODE, message + more, field=field, expected=_scalar(now), actual=_scalar(was), fix=fix, at=at(run, field)
        )
        return
    epochs, before = run.integer("epochs", 1), other.get("epochs", there.get("epochs"))
    if epochs != before and state.epochs >= epochs:
        message = (
            f"the job of the run {shown(run.directory)} would resume from a saved state with"
            f" {counted(state.epochs, 'completed epoch')}, but the plan has {counted(epochs, 'epoch')}, so the job"
            " would train for 0 epochs"
        )
        fix = f"plan more than {counted(state.epochs, 'epoch')}, or move the output directory elsewhere to start over"
        yield finding(_CODE, message, field="epochs", expected=f"more than {state.epochs}", actual=epochs, fix=fix,
            at=at(run, "epochs"))  # fmt: skip
    elif isinstance(before, int) and state.epochs >= before < epochs:
        message = (
            f"the job of the run {shown(run.directory)} would resume a completed training run, but torchtune 0.6.1"
            f" saves no state after the last epoch: the job would train epoch {before} again, starting from the final"
            " weights"
        )
        fix = (
            "no action if training the last epoch twice does not matter; otherwise move the output directory elsewhere"
            " to start over"
        )
        yield finding(_CODE, message, field="epochs", severity=Severity.WARNING, fix=fix, at=at(run, "epochs"))


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    """Return the values of a config by dotted path, without keys that do not affect the trained weights."""
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
    return "not set" if value is None else shown(_scalar(value))


def log_path_problem(root: str) -> Finding | None:
    """Return a finding if SLURM would replace a part of the experiment's path, so that no job can write its log.

    It replaces `%j` and similar patterns in the working directory too, and with a backslash in it, it replaces none
    (Slurm 22.05, src/slurmd/common/fname.c, fname_create).
    """
    found = sorted({character for character in root if character in "%\\" or not character.isprintable()})
    if not found:
        return None
    names = [name for name in root.split("/") if {*name} & {*found}]
    message = f"the path of the experiment contains {' and '.join(map(shown, found))}, so SLURM cannot write logs"
    which = "directory" if len(names) == 1 else "directories"
    fix = f"rename the {which} {few([*map(shown, names)], len(names))}, then scaffold again"
    return finding("unsafe-path", message, file=escape(root), fix=fix)


def check_plan(
    plan: Plan,
    disk: DiskState,
    listed: Mapping[str, Sequence[str]],
    resumed: tuple[Mapping[str, ConfigData], Mapping[str, ConfigData]] = ({}, {}),
    *,
    whole: Plan | None = None,
) -> list[Finding]:
    """Return the findings of all preflight checks.

    Args:
        plan: the plan.
        disk: the state of the files and directories that the plan names.
        listed: the checkpoint files of finetune.yaml, by the model's directory; directories without known files are
            missing.
        resumed: by run directory, for runs that may resume: finetune.yaml, and the config of the training that saved
            the state in its output directory.
        whole: the plan together with the kept started runs, which are part of its design.

    Returns:
        Sorted findings about the experiment, each once for all runs that it concerns, with the line of the value in the
        documents.
    """
    return sort_findings(
        [
            *data_findings.data_findings(plan, disk),
            *data_findings.label_findings(plan, disk),
            *training.step_findings(plan, disk),
            *checkpoint_findings(plan, disk, listed),
            *training.output_findings(plan, disk),
            *permission_findings(plan, disk),
            *resuming_findings(plan, disk, *resumed),
            *design.name_findings(plan),
            *design.design_findings(whole or plan),
            *design.unusual_findings(plan),
            *training.cost_findings(plan, disk),
        ]
    )
