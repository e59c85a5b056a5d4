"""Documents that are not ours: the configuration of another trainer in the place of a summary, and what to do with it.

A configuration is known by keys that its tool alone reads. What it says of a run goes into the line of `new` that makes
a summary.
"""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.drafts import SourceText, SummaryDraft
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.system import layout, yamlio
from scaffold_torchtune.torchtune_facts.model_registry import find_model, model_by_spelling


class _Tool(NamedTuple):
    """What a file is, and the keys that show it: all of `needs`, and so many of `some`."""

    what: str
    needs: frozenset[str]
    some: frozenset[str] = frozenset()
    least: int = 0


def _tool(what: str, needs: str = "", some: str = "", least: int = 0) -> _Tool:
    return _Tool(what, frozenset(needs.split()), frozenset(some.split()), least)


# Read from each tool's documentation and examples. The first that fits is meant.
_TOOLS: Final = (
    _tool(
        "a setup_finetune.yaml, which is written for each run",
        some="my_wandb_project my_wandb_run_name torchtune_model_name input_dir_base dataset_label dataset_ext",
        least=3,
    ),
    _tool(
        "a configuration of LLaMA-Factory",
        some="stage finetuning_type template cutoff_len lora_target dataset_dir quantization_bit overwrite_cache"
        " preprocessing_num_workers pref_beta",
        least=2,
    ),
    _tool(
        "a configuration of axolotl", "base_model",
        "micro_batch_size num_epochs sequence_len adapter datasets lora_r val_set_size lora_target_linear"
        " sample_packing dataset_prepared_path pad_to_sequence_len load_in_8bit load_in_4bit flash_attention",
        2,
    ),
    _tool("an adapter_config.json of PEFT", "peft_type"),
    _tool("a configuration of DeepSpeed", "zero_optimization"),
    _tool("a configuration of Accelerate", "distributed_type", "compute_environment num_processes mixed_precision", 1),
    _tool("a configuration of NeMo", "exp_manager"),
    _tool("a configuration of LitGPT", "checkpoint_dir", "train eval data out_dir lora_r precision", 2),
    _tool("a configuration of ms-swift", some="train_type sft_type tuner_type swift_version", least=1),
    _tool("a sweep of Weights & Biases", "parameters", "method metric program early_terminate command", 2),
    _tool("the config.json of a model", "model_type", "architectures hidden_size num_hidden_layers vocab_size", 2),
    _tool(
        "a configuration of Hugging Face's trainers (transformers, TRL)",
        some="per_device_train_batch_size num_train_epochs lr_scheduler_type save_strategy report_to dataset_name"
        " model_name_or_path use_peft lora_target_modules logging_steps gradient_checkpointing training_args"
        " evaluation_strategy eval_strategy",
        least=2,
    ),
)  # fmt: skip
_OURS: Final = frozenset({"experiment", "runs", "controls"})
_COMPONENT: Final = "_component_"

# Where configurations have what `new` takes; the last part is the key.
_SAYS: Final[dict[str, tuple[str, ...]]] = {
    "model": (
        "base_model", "model_name_or_path", "base_model_name_or_path", "checkpointer.checkpoint_dir", "checkpoint_dir",
        "torchtune_model_name",
    ),
    "lora_rank": ("lora_r", "lora_rank", "r", "model.lora_rank"),
    "lr": ("learning_rate", "lr", "optimizer.lr"),
    "batch_size": ("micro_batch_size", "per_device_train_batch_size", "batch_size"),
    "epochs": ("num_epochs", "num_train_epochs", "epochs"),
    "seed": ("seed",),
    "dataset": ("dataset.data_files", "train_file", "datasets.0.path"),
}  # fmt: skip


def note_foreign(data: object, draft: SummaryDraft) -> bool:
    """Note that a summary is a configuration of another tool, as which nothing else of it is read; return whether."""
    what = _recognized(data) if isinstance(data, dict) else None
    if what is None or not isinstance(data, dict):
        return False
    message = f"{draft.file} is {what}, not an experiment summary"
    command = shlex.join(["scaffold-torchtune", "new", "DIR", *_options(data)])
    fix = (
        "write a summary with a table of runs; this line makes one from what the file says of a run, and names the"
        f" options that it still needs: {command}"
    )
    draft.findings.clear()
    draft.configuration, draft.unread_lines = [], []
    draft.add("not-a-summary", message, field="experiment_summary", line=1, fix=fix)
    draft.readable = False
    return True


def data_in(text: str) -> object:
    """Return what a text is as YAML or JSON; None where it is neither."""
    try:
        return yamlio.read(text).data
    except yamlio.YamlError:
        return None


def _recognized(data: Mapping[str, Any]) -> str | None:
    if _OURS & data.keys():
        return None
    if any(isinstance(part, dict) and _COMPONENT in part for part in data.values()):
        return "a configuration of torchtune, which is written for each run"
    keys = {str(key).removeprefix("--").replace("-", "_") for key in data}
    fits = (tool for tool in _TOOLS if tool.needs <= keys and len(tool.some & keys) >= tool.least)
    return next((tool.what for tool in fits), None)


def _options(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of `new` for what a configuration says of a run, as far as it can be planned."""
    for name, places in _SAYS.items():
        option = PARAMETERS[name].option
        value = next((value for place in places if (value := _value(name, _at(data, place))) is not None), None)
        if option is not None and value is not None:
            yield from (option.flag, value)


def _at(data: Any, place: str) -> object:
    for part in place.split("."):
        if isinstance(data, list):
            data = data[0] if data and part == "0" else None
        else:
            data = data.get(part) if isinstance(data, dict) else None
    return data


def _value(name: str, found: object) -> str | None:
    """Return a value as `new` takes it; None where it is not plainly one."""
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    text = kinds.shortest_number(found) if isinstance(found, float) else str(found)
    if name == "model":
        named = text.rstrip("/").rpartition("/")[2] if find_model(text) is None else text
        known = model_by_spelling(text) or model_by_spelling(named)
        return known.name if known else None
    if name == "dataset" and layout.data_label(text)[1] not in layout.SETUP_TEMPLATES:
        return None
    value = values.value_of(PARAMETERS[name], SourceText(text, 0, "", exact=True))
    return None if value is None else kinds.shortest_number(value) if isinstance(value, float) else str(value)
