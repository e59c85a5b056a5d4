"""The `dataset` node of finetune.yaml: which data set builder, with which arguments, and what each cannot honour.

torchtune's own builders are those of torchtune 0.6.1 (torchtune/datasets/_instruct.py, _chat.py, _text_completion.py);
`chat_completion` and `text_completion` are cruijff_kit v0.3.4's (cruijff_kit/tools/torchtune/datasets), which read JSON
only, take neither `field` nor unknown arguments, and load their own tokenizer from `model_path`.
"""

import string
from typing import Any, Final

from scaffold_torchtune.settings.parameters import KEYS
from scaffold_torchtune.setup_finetune.keys import Report, Settings
from scaffold_torchtune.setup_finetune.registry import ModelEntry
from scaffold_torchtune.shared.text import did_you_mean, shown

_CRUIJFF: Final = {
    "chat_completion": "cruijff_kit.tools.torchtune.datasets.chat_completion.chat_completion_dataset",
    "text_completion": "cruijff_kit.tools.torchtune.datasets.text_completion.text_completion_dataset",
}
_TORCHTUNE: Final = {
    name: f"torchtune.datasets.{name}" for name in ("instruct_dataset", "chat_dataset", "text_completion_dataset")
}
_TYPES: Final = (*_TORCHTUNE, *_CRUIJFF)
_SAME_AS_INPUT: Final = ("", "\n")  # what may follow the input where the tokenizer strips the parts of a message


def model_directory(settings: Settings) -> str:
    """The model's directory, as an interpolation."""
    return f"${{models_dir}}/{settings.text('model_checkpoint') or settings.text('torchtune_model_name')}"


def node(settings: Settings, split: str = "train") -> dict[str, Any]:
    """The data set node for `split`; `training_samples` limits only the training split."""
    kind = settings.text("dataset_type")
    samples = settings.values["training_samples"] if split == "train" else None
    if kind in _CRUIJFF:
        return _cruijff_node(settings, kind, split, samples)
    source = settings.text("dataset_ext").removeprefix(".")
    built: dict[str, Any] = {
        "_component_": _TORCHTUNE[kind],
        "source": source,
        "data_files": f"${{input_dir}}/${{dataset_label}}.{source}",
    }
    if source == "json":
        built["field"] = split
    # what the datasets library calls a split is the whole of the files given; a part of a JSON file is its `field`
    built["split"] = "train" if samples is None else f"train[:{samples}]"
    if kind == "chat_dataset":
        built |= {"conversation_column": "messages", "conversation_style": "openai"}
    if kind == "text_completion_dataset":
        built["column"] = settings.text("input_key") or "text"
    else:
        built["train_on_input"] = settings.flag("train_on_input")
        if settings.text("system_prompt"):
            built["new_system_prompt"] = settings.text("system_prompt")
    if kind == "instruct_dataset" and (settings.text("input_key") or settings.text("output_key")):
        built["column_map"] = {
            "input": settings.text("input_key") or "input",
            "output": settings.text("output_key") or "output",
        }
    return built | {"packed": settings.flag("packed")}


def _cruijff_node(settings: Settings, kind: str, split: str, samples: Any) -> dict[str, Any]:
    built: dict[str, Any] = {
        "_component_": _CRUIJFF[kind],
        "source": "json",
        "data_files": "${input_dir}/${dataset_label}.json",
        "split": split,
        "model_path": model_directory(settings),
        "prompt": settings.text("prompt") or "{input}",
    }
    if kind == "chat_completion":
        built["system_prompt"] = settings.text("system_prompt")
    built |= {
        "input_key": settings.text("input_key") or "input",
        "output_key": settings.text("output_key") or "output",
        "train_on_input": settings.flag("train_on_input"),
    }
    if samples is not None:
        built["max_samples"] = samples
    return built | {"packed": False}


def prompt_template(settings: Settings) -> dict[str, list[str]] | None:
    """What the tokenizer puts around the user's message, or None where `prompt` asks for nothing.

    torchtune's tokenizers take a mapping from role to the text before and after (data/_prompt_templates.py); a mapping
    in the config arrives there as a plain dict, since config.instantiate converts it (OmegaConf.to_object).
    """
    parts = _around_input(settings.text("prompt"))
    if settings.text("dataset_type") in _CRUIJFF or parts is None or parts == ("", ""):
        return None
    return {"user": list(parts)}


def _around_input(prompt: str) -> tuple[str, str] | None:
    """The text before and after `{input}`, or None where the prompt is not text around exactly one of it."""
    parsed = _parse(prompt)
    names = [name for _, name, *_ in parsed if name is not None]
    if names != ["input"] or "{input}" not in prompt:
        return None
    at = next(i for i, (_, name, *_) in enumerate(parsed) if name is not None)
    return "".join(p[0] for p in parsed[: at + 1]), "".join(p[0] for p in parsed[at + 1 :])


def _parse(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError:  # a lone brace
        return []


def check(settings: Settings, entry: ModelEntry | None, report: Report) -> None:
    """Refuse what the data set cannot honour. `entry` is None where the model is unknown."""
    kind = settings.text("dataset_type")
    if kind not in _TYPES:
        report.refuse(
            "invalid-value",
            "dataset_type",
            did_you_mean(kind, _TYPES, f"dataset_type is {shown(kind)}."),
            f"write one of {', '.join(_TYPES)}",
            found=kind,
            allowed=", ".join(_TYPES),
        )
        return
    if kind in _CRUIJFF:
        _check_cruijff(settings, kind, report)
    else:
        _check_torchtune(settings, kind, report)
    if kind not in {"instruct_dataset", "chat_dataset", "chat_completion"} and settings.text("system_prompt"):
        _refuse(report, "system_prompt", f"{kind} has no system prompt", "take it out, or put it into the data")
    if "prompt" in settings.given:
        _check_prompt(settings, kind, entry, report)
    if settings.integer("run_val_every_n_steps") and settings.text("dataset_ext") == ".parquet":
        fix = "take it out, or give the data as JSON with a part named validation"
        _refuse(report, "run_val_every_n_steps", "one Parquet file holds one split, so nothing to validate on", fix)
    if (
        entry
        and entry.prompt == "own"
        and kind in {"instruct_dataset", "chat_dataset"}
        and settings.text("system_prompt")
    ):
        message = f"{entry.name}'s chat template in torchtune 0.6.1 takes no system prompt"
        _refuse(report, "system_prompt", message, "take it out, or put it into the data")


def _check_cruijff(settings: Settings, kind: str, report: Report) -> None:
    if settings.text("dataset_ext") == ".parquet":
        fix = "convert the data to JSON, or write dataset_type: instruct_dataset"
        _refuse(report, "dataset_ext", f"{kind} of cruijff_kit reads JSON only", fix)
    if settings.flag("packed"):
        fix = "take it out, or write dataset_type: instruct_dataset"
        _refuse(report, "packed", f"{kind} of cruijff_kit does not pack samples", fix)
    if settings.values["max_seq_len"] != KEYS["max_seq_len"].default:
        message = f"{kind} of cruijff_kit has its own tokenizer and does not cut samples at max_seq_len"
        fix = "take it out, or write dataset_type: instruct_dataset"
        report.add("unread-setting", message, field="max_seq_len", fix=fix)


def _check_torchtune(settings: Settings, kind: str, report: Report) -> None:
    unused = {"instruct_dataset": (), "chat_dataset": ("input_key", "output_key")}.get(kind, ("output_key",))
    for key in unused:
        if settings.text(key):
            _refuse(report, key, f"torchtune's {kind} has no such argument", "take it out")


def _check_prompt(settings: Settings, kind: str, entry: ModelEntry | None, report: Report) -> None:
    prompt = settings.text("prompt")
    if "{input}" not in prompt or not _parse(prompt):
        report.refuse(
            "invalid-value",
            "prompt",
            f"prompt is {shown(prompt)}: it must hold {{input}}, and other braces doubled",
            "write the place of the input as {input}",
            found=prompt,
            allowed="text with {input}",
        )
        return
    if kind in _CRUIJFF or entry is None:
        return
    parts = _around_input(prompt)
    reason = _why_not(kind, entry, parts)
    if reason:
        fix = "put the text into the data, or write dataset_type: chat_completion (cruijff_kit's own, JSON only)"
        _refuse(report, "prompt", reason, fix, found=prompt)


def _why_not(kind: str, entry: ModelEntry, parts: tuple[str, str] | None) -> str:
    """Why torchtune 0.6.1 would not train on that prompt exactly, or nothing where it does."""
    if parts is None:
        return f"torchtune's {kind} fills in {{input}} once and nothing else"
    if parts == ("", ""):
        return ""
    if kind == "text_completion_dataset":
        return "torchtune's text_completion_dataset puts nothing around the text"
    if entry.prompt == "own":
        return f"a prompt would replace the chat template that {entry.name} needs in torchtune 0.6.1"
    if entry.prompt == "stripped" and (parts[0] or parts[1] not in _SAME_AS_INPUT):
        return f"torchtune 0.6.1's tokenizer of {entry.name} strips white space around the input"
    return ""


def _refuse(report: Report, key: str, message: str, fix: str, found: str | None = None) -> None:
    report.refuse("unsupported-setting", key, f"{key}: {message}", fix, found=found)
