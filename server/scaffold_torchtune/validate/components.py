"""The components and checkpoint files that a finetune.yaml names."""

import re
from typing import Any, Final, TypeGuard

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.system.text import did_you_mean
from scaffold_torchtune.system.yamlio import KeyPath
from scaffold_torchtune.torchtune_facts.facts import Component, load
from scaffold_torchtune.validate import arrivals
from scaffold_torchtune.validate.arrivals import is_full
from scaffold_torchtune.validate.report import Report, at, dotted, quoted
from scaffold_torchtune.validate.run_files import RunFiles

# What the recipes themselves hand to a component, so the config need not, and must not: the `config.instantiate` calls
# in recipes/lora_finetune_single_device.py of torchtune 0.6.1; those of the other recipes for LoRA and full fine-tuning
# hand over the same.
_GIVEN: Final = {
    "checkpointer": frozenset({"should_load_recipe_state"}),
    "dataset": frozenset({"tokenizer"}),
    "dataset_val": frozenset({"tokenizer"}),
    "lr_scheduler": frozenset({"optimizer", "num_training_steps", "last_epoch"}),
    "optimizer": frozenset({"params"}),
}
# Values that would change what is trained, or from where, and that no setting plans. Absent and null are fine too.
_FIXED: Final[dict[tuple[str, ...], Any]] = {
    ("resume_from_checkpoint",): False,
    ("checkpointer", "recipe_checkpoint"): None,
    ("checkpointer", "adapter_checkpoint"): None,
    ("checkpointer", "resume_from_checkpoint"): False,
    ("model", "use_dora"): False,
    ("model", "quantize_base"): False,
    ("dataset", "data_dir"): None,
    ("optimizer_in_bwd",): False,
    ("dataset", "filter_fn"): None,
}

_FIELD: Final = "checkpoint_files"
_PATH: Final[KeyPath] = ("checkpointer", _FIELD)
_NUMBERED: Final = re.compile(r"(.*?)([0-9]{1,9})-of-([0-9]{1,9})(\D*)", re.ASCII)
_PUBLISHED: Final = re.compile(
    r"(pytorch_)?model(-[0-9]+-of-[0-9]+)?\.(safetensors|bin)|consolidated(\.[0-9]{2})?\.(safetensors|pth)"
)
"""How Hugging Face's libraries name the files of a checkpoint, and Meta and Mistral their own beside them."""
_MAX_FILES: Final = 1000


def check_components(report: Report, data: dict[str, Any]) -> None:
    """Check the nodes of finetune.yaml, resolved, as far as no other check has reported them."""
    if not is_full(report.run):
        _lora(report, data)
    _packed(report, data)
    _checkpoint(report, data)
    for name, node in data.items():
        if isinstance(node, dict) and "_component_" in node:
            _node(report, name, node)
    for path, value in _FIXED.items():
        actual = at(data, path)
        if report.planned(path[0]) is None and actual is not None and actual != value and path not in report.paths:
            message = f"{dotted(path)} is {quoted(actual)}, which nobody planned"
            report.add("unplanned-value", message, expected=value, actual=actual, path=path)


def _lora(report: Report, data: dict[str, Any]) -> None:
    """What LoRA needs in addition to rank and alpha; misspelt modules are ignored by torchtune without a word."""
    node, field, path = data.get("model"), "lora_attn_modules", ("model", "lora_attn_modules")
    if not isinstance(node, dict):
        return
    if path not in report.paths:
        _modules(report, node.get(field), path)
    mlp: KeyPath = ("model", "apply_lora_to_mlp")
    if mlp not in report.paths and not isinstance(node.get("apply_lora_to_mlp"), bool):
        message = "model.apply_lora_to_mlp is not true or false; torchtune's LoRA recipes read it without a default"
        report.add("missing-value", message, field="apply_lora_to_mlp", path=mlp)


def _modules(report: Report, modules: Any, path: KeyPath) -> None:
    """The modules of attention that get LoRA, where there is no finding of them yet."""
    field = "lora_attn_modules"
    known = load().lora_attn_modules
    expected = ", ".join(known)
    if modules in (None, []):
        message = "model.lora_attn_modules is absent or empty, so attention gets no LoRA"
        report.add("missing-value", message, field=field, expected=expected, path=path)
    elif not isinstance(modules, list):
        message = f"model.lora_attn_modules is {quoted(modules)}, not a list of modules"
        report.add("wrong-type", message, field=field, actual=modules, path=path)
    else:
        for index, module in enumerate(modules):
            if module not in known:
                message = f"model.lora_attn_modules names {quoted(module)}, which torchtune ignores."
                message = did_you_mean(str(module), known, message)
                where = (*path, index)
                report.add("value-mismatch", message, field=field, expected=expected, actual=module, path=where)


def _packed(report: Report, data: dict[str, Any]) -> None:
    path = ("tokenizer", "max_seq_len")
    if at(data, ("dataset", "packed")) is True and at(data, path) is None:
        message = "tokenizer.max_seq_len is absent, and torchtune cannot pack samples without it"
        report.add("missing-value", message, field="max_seq_len", path=path)


def _node(report: Report, name: str, node: dict[str, Any]) -> None:
    dotpath, path = node["_component_"], (name, "_component_")
    if path in report.paths:
        return
    if not isinstance(dotpath, str):
        message = f"{dotted(path)} is {quoted(dotpath)}, not the name of a component"
        report.add("wrong-type", message, field=f"{name}._component_", actual=dotpath, path=path)
        return
    component, shape = load().components.get(dotpath), arrivals.shape_of(report.run)
    if component is not None:
        _arguments(report, name, node, component)
    elif shape is None or not dotpath.endswith(shape.component):
        theirs = dotpath.startswith(("torchtune.", "torch."))
        message = f"{dotted(path)} is {quoted(dotpath)}, which is not among torchtune {load().torchtune}'s components"
        severity = Severity.WARNING if theirs else Severity.INFO
        severity = Severity.ERROR if name == "lr_scheduler" else severity
        report.unplanned(message, severity, field=f"{name}._component_", actual=dotpath, path=path)


def _arguments(report: Report, name: str, node: dict[str, Any], component: Component) -> None:
    """Arguments that the component does not take, and those that it needs."""
    given = _GIVEN.get(name, frozenset())
    loader = load().loader_arguments.get(str(node.get("source")))
    taken = (component.arguments - given) | (loader or frozenset())
    closed = not component.open or loader is not None
    for key in [key for key in node if closed and key != "_component_" and key not in taken]:
        path = (name, key)
        if path not in report.paths:
            message = f"{dotted(path)} is given, but {node['_component_']} takes no {quoted(key)}."
            message = did_you_mean(key, sorted(taken), message)
            report.unplanned(message, Severity.WARNING, field=f"{name}.{key}", actual=node[key], path=path)
    for key in sorted(component.required - given - node.keys()):
        if (name, key) not in report.paths:
            message = f"{dotted((name, key))} is absent, and {node['_component_']} needs it"
            report.add("missing-value", message, field=f"{name}.{key}", path=(name, key))


def _checkpoint(report: Report, data: dict[str, Any]) -> None:
    """Check `checkpointer.checkpoint_files` of finetune.yaml, resolved, where there is no finding of it yet.

    The rules are those of torchtune 0.6.1, torchtune/training/checkpointing/_utils.py (`FormattedCheckpointFiles`),
    and the numbers that Hugging Face gives the files of one checkpoint: `model-00001-of-00004.safetensors`.
    """
    given = at(data, _PATH)
    if _PATH in report.paths:
        return
    if isinstance(given, dict):
        _format(report, given)
    elif isinstance(given, list) and all(isinstance(name, str) for name in given):
        _list(report, given)
    else:
        message = f"checkpointer.checkpoint_files is {quoted(given)}, not a list of file names"
        report.add("wrong-type", message, field=_FIELD, actual=given, path=_PATH)


def _format(report: Report, given: dict[str, Any]) -> None:
    """`filename_format` with two numbers, and `max_filename`, which must be text for its zeros."""
    form, last = given.get("filename_format"), given.get("max_filename")
    if not _has_two_numbers(form):
        message = f"checkpoint_files.filename_format is {quoted(form)}; torchtune needs a name with two {{}}"
        path, expected = (*_PATH, "filename_format"), "model-{}-of-{}.safetensors"
        report.add("value-mismatch", message, field=_FIELD, expected=expected, actual=form, path=path)
    if not isinstance(last, str) or not re.fullmatch(r"0*[1-9][0-9]*", last, re.ASCII):
        message = f"checkpoint_files.max_filename is {quoted(last)}; torchtune needs a number in quotes, as '00004'"
        path = (*_PATH, "max_filename")
        report.add("wrong-type", message, field=_FIELD, expected="'00004'", actual=last, path=path)


def _has_two_numbers(form: object) -> TypeGuard[str]:
    """Whether a format is text that takes a file's number and how many files there are."""
    return isinstance(form, str) and form.count("{}") == 2  # noqa: PLR2004


def _list(report: Report, names: list[str]) -> None:
    """Each file once, of numbered files all (the weights in the others would be absent), and named as published."""
    files, code = "checkpointer.checkpoint_files names", "value-mismatch"
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        report.add(code, f"{files} {quoted(twice[0])} twice", field=_FIELD, actual=twice[0], path=_PATH)
    numbers: dict[tuple[str, int, str], set[int]] = {}
    for match in filter(None, map(_NUMBERED.fullmatch, names)):
        numbers.setdefault((match[1], int(match[3]), match[4]), set()).add(int(match[2]))
    for (begin, total, end), there in numbers.items():
        if len(there) != total or max(there) != total:
            message = f"{files} {len(there)} of the {total} files {quoted(f'{begin}*-of-{total}{end}')}"
            report.add(code, message, field=_FIELD, expected=total, actual=len(there), path=_PATH)
    is_planned = report.planned(_FIELD) is not None
    odd = [name for name in names if not _PUBLISHED.fullmatch(name) and not is_planned]
    if odd and _PATH not in report.paths:
        message = f"{files} {quoted(odd[0])}, and no model here is published in such a file"
        expected = "model.safetensors, or model-00001-of-00002.safetensors"
        severity = None if report.bundled else Severity.WARNING
        report.add(code, message, field=_FIELD, expected=expected, actual=odd[0], path=_PATH, severity=severity)


def checkpoint_files(files: RunFiles) -> tuple[str, ...]:
    """Return the names in `checkpointer.checkpoint_files` of a run's finetune.yaml, relative to its checkpoint_dir.

    Either they are listed, or there is a format and the last number, as FormattedCheckpointFiles of torchtune 0.6.1
    takes them: `{filename_format: model-{}-of-{}.safetensors, max_filename: "00030"}`. Where the file cannot be read,
    there are none.
    """
    named = at(files.readable_config.data, _PATH) if files.readable_config else None
    if isinstance(named, list):
        return tuple(name for name in named if isinstance(name, str))
    if not isinstance(named, dict):
        return ()
    form, last = named.get("filename_format"), named.get("max_filename")
    if not _has_two_numbers(form) or not isinstance(last, str) or not re.fullmatch("[0-9]{1,9}", last):
        return ()
    numbers = range(1, min(int(last), _MAX_FILES) + 1)
    return tuple(form.replace("{}", f"{i:0{len(last)}}", 1).replace("{}", last, 1) for i in numbers)
