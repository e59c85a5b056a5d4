"""Fixes that give a setting a different value: the line or cell to write, and its place."""

from collections.abc import Sequence
from typing import Final

from scaffold_torchtune.findings import Scalar, few
from scaffold_torchtune.models import PlannedRun, Source, SourceKind
from scaffold_torchtune.settings import kinds

_LABELS: Final = {
    "gpus": "GPUs", "lora_rank": "LoRA rank", "lr": "Learning rate", "max_seq_len": "Max sequence length",
    "num_warmup_steps": "Warmup steps",
}  # fmt: skip
_LISTED: Final = 12


def label(name: str) -> str:
    """Return the label of a setting in a summary: `Warmup steps`."""
    return _LABELS.get(name) or name.replace("_", " ").capitalize()


def text_of(value: Scalar) -> str:
    """Return a value in the form of documents."""
    return ("no", "yes")[value] if isinstance(value, bool) else kinds.written(value)


def line_of(name: str, value: Scalar, *, yaml: bool) -> str:
    """Return the line that gives a setting to all runs, in the form of the summary, and its place."""
    if yaml:
        return f"`{name}: {text_of(value)}` to controls"
    return f"`- **{label(name)}:** {text_of(value)}` to Configuration"


def to_give(name: str, value: Scalar, some: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> str:
    """Return the fix that gives some runs a value: in their rows, in the line of the present value, or in a new line.

    If some runs need a value that differs from the line for all runs, the fix adds a column to the table.
    """
    setting, text = some[0].settings.get(name), text_of(value)
    source = setting.source if setting else Source(kind=SourceKind.DEFAULT)
    old, yaml = text_of(setting.value if setting else None), _is_yaml(some[0])
    if source.kind is SourceKind.ROW:
        lines = [*dict.fromkeys(str(each.settings[name].source.line) for each in some if name in each.settings)]
        column = name if yaml else f"the column {source.note}"
        return f"write {text} for {old} in {column}, {'line' if len(lines) == 1 else 'lines'} {few(lines, _LISTED)}"
    if len(some) < len(runs):
        names = few([run.directory for run in some], _LISTED)
        if yaml:
            return f"write `{name}: {text}` in the parameters of {names}"
        return f"give the table of runs a column {label(name)!r} with {text} for {names} and {old} for the others"
    if source.file and source.line and source.kind is not SourceKind.DERIVED:
        return f"write {text} for {old} in {source.file}:{source.line}"
    return f"add {line_of(name, value, yaml=yaml)}"


def _is_yaml(run: PlannedRun) -> bool:
    model = run.settings.get("torchtune_model_name")
    return bool(model and model.source.file and model.source.file.endswith((".yaml", ".yml")))
