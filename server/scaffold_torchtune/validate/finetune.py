"""Checks that finetune.yaml has every planned value, and no unplanned one.

This includes the components and checkpoint files that it names.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeGuard

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import did_you_mean, few, one_of
from scaffold_torchtune.system.serialization import KeyPath
from scaffold_torchtune.torchtune_facts import supported_models
from scaffold_torchtune.torchtune_facts.facts import Component, Recipe, load
from scaffold_torchtune.validate import arrivals
from scaffold_torchtune.validate.arrivals import Comparison, Expectation, is_full, output_dir
from scaffold_torchtune.validate.report import Report, at, below, compare, dotted, interpolated, normal_path, quoted
from scaffold_torchtune.validate.run_files import ResolvedConfig, RunFiles

# Arguments that the recipes themselves pass to a component, so the config must not have them: see the
# `config.instantiate` calls in recipes/lora_finetune_single_device.py of torchtune 0.6.1; the other LoRA and full
# fine-tuning recipes pass the same.
_GIVEN: Final = {
    "checkpointer": frozenset({"should_load_recipe_state"}),
    "dataset": frozenset({"tokenizer"}),
    "dataset_val": frozenset({"tokenizer"}),
    "lr_scheduler": frozenset({"optimizer", "num_training_steps", "last_epoch"}),
    "optimizer": frozenset({"params"}),
}
_INSTANTIATED: Final = frozenset({"loss", "lr_scheduler", "metric_logger", "optimizer"})
"""The nodes from which the recipes build components, apart from those that follow from the plan."""

# Values that would change the training or the data, and that no setting plans. Missing and null are accepted too.
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

_MODULES: Final[KeyPath] = ("model", "lora_attn_modules")
_FIELD: Final = "checkpoint_files"
_PATH: Final[KeyPath] = ("checkpointer", _FIELD)
_NUMBERED: Final = re.compile(r"(.*?)([0-9]{1,9})-of-([0-9]{1,9})(\D*)", re.ASCII)
_PUBLISHED: Final = re.compile(
    r"(pytorch_)?model(-[0-9]+-of-[0-9]+)?\.(safetensors|bin)|consolidated(\.[0-9]{2})?\.(safetensors|pth)"
)
"""Names of checkpoint files in Hugging Face's libraries, and in Meta's and Mistral's own format."""
_MAX_FILES: Final = 1000


def check_components(report: Report, data: dict[str, Any]) -> None:
    """Check the nodes of finetune.yaml, resolved, except findings of other checks."""
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
            message = f"{dotted(path)} is {quoted(actual)}, which is not in the plan"
            report.add("unplanned-value", message, expected=value, actual=actual, path=path)


def _lora(report: Report, data: dict[str, Any]) -> None:
    """Check LoRA's arguments other than rank and alpha; torchtune silently ignores misspelt modules."""
    node, field, path = data.get("model"), "lora_attn_modules", _MODULES
    if not isinstance(node, dict):
        return
    if path not in report.paths:
        _modules(report, node.get(field), path)
    mlp: KeyPath = ("model", "apply_lora_to_mlp")
    if mlp not in report.paths and not isinstance(node.get("apply_lora_to_mlp"), bool):
        message = "model.apply_lora_to_mlp is neither true nor false, but torchtune's LoRA recipes require one of them"
        report.add("missing-value", message, field="apply_lora_to_mlp", path=mlp)


def _modules(report: Report, modules: Any, path: KeyPath) -> None:
    """Check the attention modules with LoRA, unless they have a finding already."""
    field = "lora_attn_modules"
    known = load().lora_attn_modules
    expected = ", ".join(known)
    if modules in (None, []):
        message = "model.lora_attn_modules is missing or empty, so no attention module gets LoRA"
        report.add("missing-value", message, field=field, expected=expected, path=path)
    elif not isinstance(modules, list):
        message = f"model.lora_attn_modules is {quoted(modules)}, not a list of modules"
        report.add("wrong-type", message, field=field, actual=modules, path=path)
    else:
        for index, module in enumerate(modules):
            if module not in known:
                message = f"model.lora_attn_modules contains {quoted(module)}, which torchtune ignores."
                message = did_you_mean(str(module), known, message)
                where = (*path, index)
                report.add("value-mismatch", message, field=field, expected=expected, actual=module, path=where)


def _packed(report: Report, data: dict[str, Any]) -> None:
    path = ("tokenizer", "max_seq_len")
    if at(data, ("dataset", "packed")) is True and at(data, path) is None:
        message = "tokenizer.max_seq_len is missing, but torchtune cannot pack samples without it"
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
        if not report.bundled and (name == "optimizer" or (name == "loss" and not theirs)):
            return  # `check_unplanned` compares it with torchtune's own
        message = f"{dotted(path)} is {quoted(dotpath)}, which is not a component of torchtune {load().torchtune}"
        severity = Severity.WARNING if theirs else Severity.INFO
        severity = Severity.ERROR if name == "lr_scheduler" else severity
        report.unplanned(message, severity, field=f"{name}._component_", actual=dotpath, path=path)


def check_named(report: Report, data: dict[str, Any], recipe: str | None) -> None:
    """Report nodes that name no component, unless they have a finding already."""
    required = load().recipes[_usual(report)].required
    for name in sorted(_INSTANTIATED & data.keys()):
        node, path = data[name], (name, "_component_")
        is_named = isinstance(node, dict) and "_component_" in node
        if is_named or {path, (name,)} & report.paths or (node is None and name not in required):
            continue
        message = f"{dotted(path)} is missing, but torchtune requires the name of a component"
        severity = None if report.bundled or recipe in load().recipes else Severity.WARNING
        report.add("missing-value", message, field=dotted(path), path=path, severity=severity)


def _arguments(report: Report, name: str, node: dict[str, Any], component: Component) -> None:
    """Report arguments that the component does not accept, and missing ones that it requires."""
    given = _GIVEN.get(name, frozenset())
    loader = load().loader_arguments.get(str(node.get("source")))
    taken = (component.arguments - given) | (loader or frozenset())
    closed = not component.open or loader is not None
    for key in [key for key in node if closed and key != "_component_" and key not in taken]:
        path = (name, key)
        if path not in report.paths:
            message = f"{dotted(path)} is set, but {node['_component_']} has no argument {quoted(key)}."
            message = did_you_mean(key, sorted(taken), message)
            report.unplanned(message, Severity.WARNING, field=f"{name}.{key}", actual=node[key], path=path)
    for key in sorted(component.required - given - node.keys()):
        if (name, key) not in report.paths:
            message = f"{dotted((name, key))} is missing, but {node['_component_']} requires it"
            report.add("missing-value", message, field=f"{name}.{key}", path=(name, key))


def _checkpoint(report: Report, data: dict[str, Any]) -> None:
    """Check `checkpointer.checkpoint_files` of finetune.yaml, resolved, unless it has a finding already.

    The rules are those of torchtune 0.6.1, torchtune/training/checkpointing/_utils.py (`FormattedCheckpointFiles`),
    and Hugging Face's numbers for the files of one checkpoint: `model-00001-of-00004.safetensors`.
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
    """Check `filename_format`, which has two numbers, and `max_filename`, which must be text to keep its zeros."""
    form, last = given.get("filename_format"), given.get("max_filename")
    if not _has_two_numbers(form):
        message = f"checkpoint_files.filename_format is {quoted(form)}, but torchtune requires two {{}} in it"
        path, expected = (*_PATH, "filename_format"), "model-{}-of-{}.safetensors"
        report.add("value-mismatch", message, field=_FIELD, expected=expected, actual=form, path=path)
    if not isinstance(last, str) or not re.fullmatch(r"0*[1-9][0-9]*", last, re.ASCII):
        message = (
            f"checkpoint_files.max_filename is {quoted(last)}, but torchtune requires the number of the last file in"
            " quotes, such as '00004'"
        )
        path = (*_PATH, "max_filename")
        report.add("wrong-type", message, field=_FIELD, expected="'00004'", actual=last, path=path)


def _has_two_numbers(form: object) -> TypeGuard[str]:
    """Return whether a format is text with placeholders for a file's number and the number of files."""
    return isinstance(form, str) and form.count("{}") == 2  # noqa: PLR2004


def _list(report: Report, names: list[str]) -> None:
    """Check that each file is listed once, that no numbered file (with its weights) is missing, and its name."""
    files, code = "checkpointer.checkpoint_files lists", "value-mismatch"
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        report.add(code, f"{files} {quoted(twice[0])} twice", field=_FIELD, actual=twice[0], path=_PATH)
    numbers: dict[tuple[str, int, str], set[int]] = {}
    for match in filter(None, map(_NUMBERED.fullmatch, names)):
        numbers.setdefault((match[1], int(match[3]), match[4]), set()).add(int(match[2]))
    for (begin, total, end), there in numbers.items():
        if len(there) != total or max(there) != total:
            pattern, known = quoted(f"{begin}*-of-{total}{end}"), len(there & {*range(1, min(total, _MAX_FILES) + 1)})
            message = f"{files} only {known} of the {total} files that match {pattern}"
            message = message if known < total else f"{files} more than the {total} files that match {pattern}"
            report.add(code, message, field=_FIELD, expected=total, actual=len(there), path=_PATH)
    is_planned = report.planned(_FIELD) is not None
    odd = [name for name in names if not _PUBLISHED.fullmatch(name) and not is_planned]
    if odd and _PATH not in report.paths:
        message = f"{files} {quoted(odd[0])}, but no supported model has a file with that name"
        expected = "model.safetensors, or model-00001-of-00002.safetensors"
        severity = None if report.bundled else Severity.WARNING
        report.add(code, message, field=_FIELD, expected=expected, actual=odd[0], path=_PATH, severity=severity)


def checkpoint_files(files: RunFiles) -> tuple[str, ...]:
    """Return the names in `checkpointer.checkpoint_files` of a run's finetune.yaml, relative to its checkpoint_dir.

    It is a list, or a format and the last number, as FormattedCheckpointFiles of torchtune 0.6.1 accepts them:
    `{filename_format: model-{}-of-{}.safetensors, max_filename: "00030"}`. If the file cannot be read, the names are
    empty.
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


_OTHER: Final[dict[str, tuple[Any, ...]]] = {
    "dataset.conversation_column": ("messages",),  # with the style: OpenAI's conversation format
    "dataset.conversation_style": ("openai",),
    "metric_logger.mode": ("offline",),  # compute nodes often have no network, and `online` waits for it
    "tokenizer.prompt_template.assistant": (["", ""],),
}
"""Other values that a finetune.yaml may have."""

_OF_THE_PLAN: Final = frozenset((part, "_component_") for part in ("model", "tokenizer", "checkpointer", "dataset"))
"""Components that follow from the plan; if the plan does not determine them, that has its own finding."""

_ANOTHER: Final = (
    "no action if the value that the setup script chose is intended; otherwise set the intended value in the summary,"
    " or use `--setup-script bundled` if the script has no option for it"
)
_WITHOUT_SETTING: Final = (
    "no action if the value that the setup script chose is intended; otherwise correct the setup script or its template"
)
_IN_SUMMARY: Final = (
    "set the value in the summary if it is intended; otherwise correct the setup script or its template, then run"
    " setup again"
)
_NO_SYSTEM_PROMPT: Final = "remove the system prompt, or use a dataset type that has one"
_OUTPUTS: Final[frozenset[KeyPath]] = frozenset({("metric_logger", "log_dir"), ("profiler", "output_dir")})
"""Directories that torchtune writes to; in its stock configs they are below `output_dir`."""

_UNREAD: Final = frozenset(
    {
        "base_recipe", "batch_size_val", "config_file", "custom_recipe", "dataset_val", "epochs_to_save", "hf_token",
        "input_formatting", "modules", "run_val_every_n_steps", "save_last_epoch_only", "stash_adapter_weights", "venv",
    }
)  # fmt: skip
"""Top-level keys that every known generation of cruijff_kit's script writes, from its options or its template's line,
and that no recipe reads.
"""


def check_finetune(report: Report, config: ResolvedConfig, recipe: str | None) -> None:
    """Check finetune.yaml against the plan; add the findings to `report`.

    Args:
        report: the report of finetune.yaml.
        config: the parsed and resolved file.
        recipe: the torchtune recipe that finetune.slurm must start; None if it is not a stock recipe.
    """
    raw = config.document.data
    if not isinstance(raw, dict):
        report.add("unreadable-file", "finetune.yaml does not contain a mapping of keys to values", line=1)
        return
    data, problems = config.data, config.problems
    for path, reason in problems.items():
        report.add("value-mismatch", f"the value of {dotted(path)} {reason}", actual=at(raw, path), path=path)
    _models(report)
    expected = [each for each in arrivals.expectations(report.run) if not _is_submitted(report, each, data)]
    for expectation in expected:
        path = expectation.path
        if path not in problems:
            _expect(report, expectation, data)
        else:
            _looked(report, expectation, at(data, path), arrived=False)
    _unread_text(report)
    check_components(report, data)
    check_named(report, data, recipe)
    _keys(report, data, recipe, interpolated(raw))
    check_unplanned(report, data, [expectation.path for expectation in expected])


def _models(report: Report) -> None:
    name, kind = report.planned("torchtune_model_name"), report.planned("dataset_type")
    severity = Severity.ERROR if report.bundled else Severity.WARNING
    if name is not None and load().model(str(name)) is None:
        report.add(
            "unknown-model",
            f"the model, tokenizer and checkpointer sections were not verified, because the model {quoted(name)} is"
            " unknown",
            field="torchtune_model_name",
            actual=name,
            path=("model",),
            severity=severity,
            fix=f"use {supported_models()}{'' if report.bundled else ', or check these sections yourself'}",
        )
    if arrivals.shape_of(report.run) is None:
        report.add(
            "invalid-value",
            (
                f"the dataset type {quoted(kind)} is unknown, so the values that it requires in finetune.yaml were not"
                " verified"
            ),
            field="dataset_type",
            expected=", ".join(arrivals.SHAPES),
            actual=kind,
            path=("dataset",),
            severity=severity,
            fix=f"set dataset_type to {one_of([f'`{each}`' for each in arrivals.SHAPES], len(arrivals.SHAPES))} in the"
            " summary",
        )
    prompt = report.planned("prompt")
    if prompt and arrivals.PLAIN_PROMPT not in str(prompt):
        report.add(
            "invalid-value",
            (
                f"the planned prompt {quoted(prompt)} does not contain {arrivals.PLAIN_PROMPT}, so the model"
                " would not see the text of a sample"
            ),
            field="prompt",
            expected=arrivals.PLAIN_PROMPT,
            actual=prompt,
            path=("tokenizer", "prompt_template"),
            fix=f"put `{arrivals.PLAIN_PROMPT}` in the prompt where the text of a sample belongs",
        )


def _is_submitted(report: Report, expected: Expectation, data: dict[str, Any]) -> bool:
    """Return whether only the submit line passes a value; a value in finetune.yaml overrides it."""
    return expected.setting in report.run.submitted and at(data, expected.path) in (None, "")


def _expect(report: Report, expected: Expectation, data: dict[str, Any]) -> None:
    actual = at(data, expected.path)
    may_be_absent = expected.absent_is is not None and (expected.optional or not report.bundled)
    is_default = actual is None and may_be_absent and compare(expected.value, expected.absent_is) is None
    code = None if is_default else _verdict(expected, actual)
    setting, path = expected.setting, expected.path
    _looked(report, expected, actual, arrived=code is None)
    if code is None:
        return
    if expected.kind is Comparison.PRESENT:
        report.add(code, f"{dotted(path)} is missing or empty", field=setting, path=path)
        return
    if actual is None and expected.unused:
        report.add(code, expected.unused, field=setting, expected=expected.value, path=path, fix=_NO_SYSTEM_PROMPT)
        return
    is_list = expected.kind is Comparison.PARTS and code == "wrong-type"
    note, source_of = expected.note, expected.source_of
    written = f"the list [{', '.join(str(expected.value).split(','))}]" if is_list else ""
    report.differs(
        setting, dotted(path), expected.value, actual, code=code, path=path, note=note, source_of=source_of,
        written=written,
    )  # fmt: skip


def _looked(report: Report, expected: Expectation, actual: Any, *, arrived: bool) -> None:
    """Record the lookup of a value, for each setting that it is made of."""
    where = dotted(expected.path)
    for name in (expected.setting, *expected.parts):
        report.looked(name, where, expected.value, actual, arrived=arrived, path=expected.path)


def _verdict(expected: Expectation, actual: Any) -> str | None:
    """Return the code of the finding for an actual value."""
    value = expected.value
    if expected.kind is Comparison.ABSENT:
        return None if actual is None or actual == "" else "unplanned-value"
    if expected.kind is Comparison.PRESENT:
        return "missing-value" if actual is None or actual in ({}, [], "") else None
    if actual is None:
        return None if value is None else "missing-value"
    if expected.kind is Comparison.NUMBER and type(value) is int:
        return compare(float(value), actual)
    if expected.kind is Comparison.PATH and isinstance(actual, str):
        return None if normal_path(actual) == normal_path(str(value)) else "value-mismatch"
    if expected.kind is Comparison.ENDS and isinstance(actual, str):
        return None if actual.endswith(str(value)) else "value-mismatch"
    if expected.kind is Comparison.EPOCHS and isinstance(actual, list):
        wanted = [part.strip() for part in str(value).split(",")] if value != "none" else []
        numbers = all(type(part) is int for part in actual)
        return None if numbers and wanted == [str(part) for part in actual] else "value-mismatch"
    if expected.kind is Comparison.PARTS:
        is_same = isinstance(actual, list) and _same_parts(str(value).split(","), actual)
        return None if is_same else "value-mismatch" if isinstance(actual, list) else "wrong-type"
    return compare(value, actual)


def _same_parts(expected: list[Any], actual: list[Any]) -> bool:
    """Return whether two lists have the same items, in any order: that of modules, tags and files has no effect."""
    return sorted(map(repr, expected)) == sorted(map(repr, actual))


def _unread_text(report: Report) -> None:
    """Report a planned `train_on_input: false` for a data set that always trains on the whole text."""
    shape, setting = arrivals.shape_of(report.run), report.run.settings.get("train_on_input")
    if shape and not shape.train_on_input and setting and setting.value is False and setting.source.kind != "default":
        message = f"{shape.component} always trains on the whole text, so `train_on_input: false` has no effect"
        fix = "in the summary, use a different dataset type, or remove train_on_input; then scaffold again"
        report.add(
            "unread-setting", message, field="train_on_input", expected=False, path=("dataset", "_component_"), fix=fix
        )


def _keys(report: Report, data: dict[str, Any], recipe: str | None, named: frozenset[str]) -> None:
    """Check top-level keys: those that the recipe requires, and those that nothing reads."""
    facts = load().recipes.get(recipe or "")
    if facts is None:
        return
    for key in sorted(facts.required - data.keys() - {path[0] for path in report.paths}):
        message = f"{key} is missing, but the recipe {recipe} requires it"
        report.add("missing-value", message, field=key, path=(key,))
    planned = {str(path[0]) for name, path in arrivals.DIRECT.items() if name in report.run.settings}
    planned |= {"run_val_every_n_steps", "dataset_val"} if report.planned("run_val_every_n_steps") else set()
    unread = [key for key in data if key not in facts.reads and key not in named]
    for key in [key for key in unread if key in planned]:
        if key != "dataset_val" and not report.lenient(key):
            version = load().torchtune
            message = f"{key} has the planned value, but the recipe {recipe} of torchtune {version} does not read it"
            fix = f"remove {key} from the summary, or use a custom recipe that reads it; then scaffold again"
            report.add("unread-setting", message, field=key, path=(key,), fix=fix)
    unplanned = [key for key in unread if key not in planned and (report.bundled or data[key] not in (None, "", {}))]
    _unplanned_keys(report, unplanned, recipe)


def _unplanned_keys(report: Report, keys: list[str], recipe: str | None) -> None:
    own = [key for key in keys if key in _UNREAD] if report.run.generation and not report.bundled else []
    if own:
        names = f"{'key' if len(own) == 1 else 'keys'} {few([*map(quoted, own)], len(own))}"
        message = f"the recipe {recipe} does not read the top-level {names}, which the setup script always adds"
        fix = f"no action needed: {'this key has' if len(own) == 1 else 'these keys have'} no effect"
        report.add("unplanned-value", message, severity=Severity.INFO, fix=fix)
    reported = {path[0] for path in report.paths}
    for key in [key for key in keys if key not in reported and key not in own]:
        message = f"the recipe {recipe} does not read the top-level key {quoted(key)}, which is not in the plan"
        report.unplanned(message, Severity.WARNING, field=key, path=(key,))


def check_unplanned(report: Report, data: dict[str, Any], planned: Iterable[KeyPath]) -> None:
    """Report every value in finetune.yaml, resolved, that neither the plan nor a stock config of torchtune has.

    The stock configs are those of torchtune's own recipe for the run's method and GPUs (a custom recipe reads these
    values too), and that of the run's model for values that differ between models. For values that they lack, the
    defaults of the components' arguments are used. Arguments that components do not accept, and keys that the recipe
    does not read, have their own checks.

    Args:
        report: receives the findings.
        data: the file's resolved data.
        planned: the paths of planned values; values at or below them are already checked.
    """
    facts = load().recipes[_usual(report)]
    stock, defaults = _stock(report, facts), dict(_defaults(data))
    checked = {*planned, *report.paths}
    above = {path[:end] for path in checked for end in range(len(path))}
    for path, value in _values(data):
        name = dotted(path)
        if path[0] not in facts.reads or path in _OF_THE_PLAN or path in above or _is_below(path, checked):
            continue
        if isinstance(value, str) and value.startswith("/"):
            # logs and profiles belong to the run's other outputs, otherwise they mix with those of other runs
            folder = output_dir(report.run)
            if path in _OUTPUTS and folder is not None and not below(value, folder):
                _unplanned(report, path, value, "is outside the run's output directory", folder)
            continue
        known = (*stock.get(name, ()), *_OTHER.get(name, ())) or defaults.get(path, ())
        if path == _MODULES and isinstance(value, list) and any(_same_parts(each, value) for each in known):
            continue
        if value in (None, "") or any(compare(each, value) is None for each in known):
            continue
        own = f"; torchtune's default is {' or '.join(quoted(each) for each in known)}" if known else ""
        expected = known[0] if len(known) == 1 else None
        fix = None if report.bundled else _fix(path)
        _unplanned(report, path, value, f"is not in the plan{own}", expected, fix)


def _fix(path: KeyPath) -> str | None:
    """Return the fix for a value that a script chose; None for the fix of every error in the file."""
    is_setting = path in arrivals.OF_SETTINGS
    if dotted(path) in arrivals.OF_THE_TRAINING:
        return _IN_SUMMARY if is_setting else None
    return _ANOTHER if is_setting else _WITHOUT_SETTING


def _unplanned(report: Report, path: KeyPath, value: Any, why: str, expected: Any, fix: str | None = None) -> None:
    otherwise = Severity.ERROR if dotted(path) in arrivals.OF_THE_TRAINING else Severity.WARNING
    message = f"{dotted(path)} is {quoted(value)}, which {why}"
    report.unplanned(message, otherwise, expected=expected, actual=value, path=path, fix=fix)


def _usual(report: Report) -> str:
    """Return torchtune's own recipe for the run's method and number of GPUs."""
    gpus = report.planned("gpus")
    form = "distributed" if isinstance(gpus, int) and gpus > 1 else "single_device"
    return f"{'full' if is_full(report.run) else 'lora'}_finetune_{form}"


def _stock(report: Report, recipe: Recipe) -> dict[str, tuple[Any, ...]]:
    """Return torchtune's own values for the run's model and recipe, by dotted path."""
    model = load().model(report.run.text("torchtune_model_name"))
    if model is None or is_full(report.run):
        return dict(recipe.stock)
    differ = {path for each in load().models.values() for path in each.stock}
    shared = {path: values for path, values in recipe.stock.items() if path not in differ}
    return shared | {path: (value,) for path, value in model.stock.items()}


def _defaults(data: dict[str, Any]) -> Iterator[tuple[KeyPath, tuple[Any]]]:
    """Return the default of each argument of the named components, by its path."""
    for name, node in data.items():
        component = load().components.get(str(node.get("_component_"))) if isinstance(node, dict) else None
        if component is not None:
            yield from (((name, argument), (value,)) for argument, value in component.defaults.items())


def _is_below(path: KeyPath, checked: set[KeyPath]) -> bool:
    """Return whether a path, or one of its parents, is checked."""
    return any(path[:end] in checked for end in range(len(path) + 1))


def _values(node: dict[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every value that is not a mapping, with its path; a list is one value."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _values(value, (*above, key))
        else:
            yield (*above, key), value
