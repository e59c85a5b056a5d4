"""Typed settings from the text of one setup_finetune.yaml, rules of more than one key, and the `dataset` node.

Names, kinds, bounds and defaults come from settings/parameters.py. A value that does not fit is refused, never
corrected.

torchtune's own data sets are those of torchtune 0.6.1 (torchtune/datasets/_instruct.py, _chat.py, _text_completion.py);
`chat_completion` and `text_completion` are cruijff_kit v0.3.4's (cruijff_kit/tools/torchtune/datasets), which read only
JSON, accept neither `field` nor unknown arguments, and load their own tokenizer from `model_path`.
"""

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scaffold_torchtune.findings import (
    Collector,
    Finding,
    Refused,
    Scalar,
    counted,
    did_you_mean,
    errors_in,
    escape,
    finding,
    one_of,
    shown,
)
from scaffold_torchtune.settings.kinds import NotTyped, setting_name
from scaffold_torchtune.settings.parameters import KEYS, Parameter, by_label
from scaffold_torchtune.system.serialization import YamlDocument, YamlError, put_in_quotes, read_yaml, without_quotes
from scaffold_torchtune.torchtune_facts import (
    FULL,
    LORA,
    OF_LORA,
    RECIPE_NAMES,
    ModelEntry,
    find_model,
    known_models,
    method_of,
    recipe_for_gpus,
    supported_models,
)

_EMPTY_IS_A_VALUE: Final = frozenset({"input_formatting", "prompt", "system_prompt"})
# The allowed values of keys whose values must be text, and the fix, by kind.
_TEXTS: Final = {"time": "a quoted time, such as '12:30:00'", "memory": "a quoted size with its unit, such as '64G'"}
_IN_QUOTES: Final = {
    "time": 'write the time in quotes, such as `"12:30:00"`',
    "memory": 'write the size with its unit in quotes, such as `"64G"`',
}


class SettingsReport(Collector):
    """The findings about one file, at the lines of its keys. Only errors refuse it."""

    @property
    def errors(self) -> list[Finding]:
        """Return the findings that refuse the file."""
        return errors_in(self.findings)

    def refuse(
        self,
        key: str,
        message: str,
        fix: str,
        *,
        code: str = "unsupported-setting",
        found: Scalar = None,
        allowed: Scalar = None,
    ) -> None:
        """Add an error about `key`, at its line."""
        actual = escape(found) if isinstance(found, str) else found
        self.add(code, message, field=key, expected=allowed, actual=actual, fix=fix)


@dataclass(frozen=True)
class Settings:
    """The typed value of every key, or its default, or None. `given` are the keys that the file has."""

    values: Mapping[str, Scalar]
    given: frozenset[str]

    def text(self, name: str) -> str:
        """Return the value of a text key, or '' if it has none."""
        value = self.values[name]
        return value if isinstance(value, str) else ""

    def integer(self, name: str) -> int:
        """Return the value of an int key, or 0 if it has none."""
        value = self.values[name]
        return value if isinstance(value, int) else 0

    def flag(self, name: str) -> bool:
        """Return the value of a bool key, or False if it has none."""
        return self.values[name] is True

    @property
    def recipe(self) -> str:
        """Return the given recipe, else torchtune's own for LoRA on that number of GPUs."""
        return self.text("custom_recipe") or recipe_for_gpus(LORA, self.integer("gpus"))

    @property
    def is_full(self) -> bool:
        """Return whether all weights are trained. An unknown recipe counts as LoRA."""
        return method_of(self.recipe) == FULL


class _Unfit(Exception):
    """A value does not fit its key; contains the end of a message, the allowed values, a fix, and perhaps the value."""

    def __init__(self, message: str, allowed: str, fix: str = "", value: str = "") -> None:
        super().__init__(message)
        self.message, self.allowed, self.fix = message, allowed, fix or f"write {allowed}"
        self.value = value


def read_keys(content: str | YamlDocument, file: str) -> tuple[Settings, SettingsReport]:
    """Return the typed settings of the file and the findings so far; a key whose value does not fit has its default.

    Raises:
        Refused: the text is not a YAML mapping.
    """
    try:
        document = read_yaml(content) if isinstance(content, str) else content
    except YamlError as error:
        raise _not_yaml(file, error.message, error.line, error.fix) from error
    if not isinstance(document.data, dict):
        raise _not_yaml(file, "it is not a mapping of keys to values", 1, "write one `key: value` on each line")
    report = SettingsReport(file, {str(path[0]): line for path, line in document.lines.items() if len(path) == 1})
    values: dict[str, Scalar] = {name: parameter.default for name, parameter in KEYS.items()}
    given: set[str] = set()
    for key, value in document.data.items():
        if key not in KEYS:
            _refuse_unknown(key, value, report)
            continue
        plain = document.plain.get((key,))
        try:
            if not _is_absent(KEYS[key], value):
                given.add(key)
                values[key] = _typed(KEYS[key], value, plain)
        except _Unfit as error:
            found = _text(value) if plain is None else plain
            message = f"{setting_name(key)} is {error.value or _described(value, plain)}{error.message}"
            report.refuse(key, message, error.fix, code="invalid-value", found=found, allowed=error.allowed)
    return Settings(values, frozenset(given)), report


def _not_yaml(file: str, reason: str, line: int | None, fix: str) -> Refused:
    message = f"the file cannot be read as a setup_finetune.yaml file: {escape(reason)}"
    expected = "one YAML mapping of keys to values"
    problem = finding("unreadable-file", message, file=file, line=line, expected=expected, fix=fix)
    return Refused(f"{file} cannot be read", [problem])


def _refuse_unknown(key: str, value: Any, report: SettingsReport) -> None:
    meant = by_label(key)
    message = f"{shown(key)} is not a key of setup_finetune.yaml."
    message = did_you_mean(key, KEYS, message, meant.name if meant else None)
    fix, allowed = "correct the key's name, or remove the line", "a key of setup_finetune.yaml"
    report.refuse(key, message, fix, code="unknown-key", found=_text(value), allowed=allowed)


def _text(value: Any) -> str:
    """Return a value for messages: a scalar as text, else its kind."""
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else str(value)


def _described(value: Any, plain: str | None) -> str:
    """Return a value for messages: its kind, a number as written, or text in quotes."""
    if isinstance(value, list | dict):
        return _text(value)
    if value is None:
        return "empty"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return escape(plain) if is_number and plain is not None else shown(str(value) if plain is None else plain)


def _is_absent(parameter: Parameter, value: Any) -> bool:
    """Return whether the file leaves the key empty: null, or empty text that has no meaning of its own."""
    if parameter.default is not None or parameter.name in _EMPTY_IS_A_VALUE:
        return False
    return value is None or value == ""


def _typed(parameter: Parameter, value: Any, plain: str | None) -> Scalar:
    """Return the value in its key's type.

    Raises:
        _Unfit: it does not fit.
    """
    if parameter.kind in {"int", "float"}:
        return _number(parameter, value, plain)
    if parameter.kind == "bool":  # a real boolean, or the text that cruijff_kit's templates quote
        word = str(value if isinstance(value, str) else plain).lower()
        if word not in {"true", "false"}:
            raise _Unfit(", which is neither true nor false", "true or false", "write `true` or `false`")
        return word == "true"
    if not isinstance(value, str):
        raise _not_text(parameter, value, plain)
    try:
        read = parameter.read(value)
    except NotTyped as problem:
        fix = "write the path with your user name instead of $USER" if "$USER" in value else problem.correction
        raise _Unfit(": the key does not accept this value", problem.allowed, fix) from problem
    if read != value and parameter.kind != "modules":  # in this file values are in their final form
        raise _Unfit(": the key does not accept the value in this form", str(read), f"write `{read}`")
    return read


def _not_text(parameter: Parameter, value: Any, plain: str | None) -> _Unfit:
    """Return the problem of a value that must be text."""
    allowed = _TEXTS.get(parameter.kind, "text, in quotes if YAML would read it as something else")
    fix = "write one text instead of the list or mapping" if isinstance(value, list | dict) else f"write {allowed}"
    if value is None:
        fix = "write the text, or remove the line"
    elif plain is not None and parameter.kind != "memory":
        fix = put_in_quotes(plain)
    elif plain is not None and plain.isdigit() and value:
        fix = f'write `"{plain}G"` if gigabytes are intended, or `"{plain}M"` if megabytes are intended'
    else:
        fix = _IN_QUOTES.get(parameter.kind, fix)
    unit = " with a unit" if parameter.kind == "memory" else ""
    return _Unfit(
        f"; it must be text{unit}", allowed, fix, "" if plain is None or value is None else without_quotes(plain, value)
    )


def _number(parameter: Parameter, value: Any, plain: str | None) -> Scalar:
    """Return the number in the text; YAML must read the same number."""
    text = "" if isinstance(value, str) or plain is None else plain
    try:
        number = parameter.read(text)
    except NotTyped as problem:
        fix = problem.correction if text else f"write {problem.allowed}{problem.example}, without quotes"
        raise _Unfit(": the key does not accept this value", problem.allowed, fix) from problem
    if number != value:
        raise _Unfit(", but YAML reads a different number", "a decimal number")
    return number


_CRUIJFF: Final = {
    name: f"cruijff_kit.tools.torchtune.datasets.{name}.{name}_dataset"
    for name in ("chat_completion", "text_completion")
}
_TORCHTUNE: Final = {
    name: f"torchtune.datasets.{name}" for name in ("instruct_dataset", "chat_dataset", "text_completion_dataset")
}
_TYPES: Final = (*_TORCHTUNE, *_CRUIJFF)
_UNUSED: Final = {"chat_dataset": ("input_key", "output_key"), "text_completion_dataset": ("output_key",)}
"""Keys without an argument in torchtune's data set."""
_SAME_AS_INPUT: Final = ("", "\n")  # allowed after the input if the tokenizer strips the parts of a message

REQUIRED: Final = (
    "my_wandb_project", "my_wandb_run_name", "torchtune_model_name", "models_dir", "input_dir_base", "dataset_label",
    "dataset_ext", "epochs", "batch_size",
)  # fmt: skip

# torchtune/_recipe_registry.py of 0.6.1, without the supported recipes
_OTHER_RECIPES: Final = frozenset({
    "lora_dpo_single_device", "lora_dpo_distributed", "full_dpo_distributed", "ppo_full_finetune_single_device",
    "generate", "eleuther_eval", "quantize", "qat_distributed", "qat_lora_finetune_distributed",
    "knowledge_distillation_single_device", "knowledge_distillation_distributed", "dev/early_exit_finetune_distributed",
    "dev/generate_v2", "dev/generate_v2_distributed", "dev/lora_finetune_distributed_multi_dataset",
})  # fmt: skip

_SCHEDULER: Final = "get_cosine_schedule_with_warmup"  # the only one in torchtune/training/lr_schedulers.py of 0.6.1


def model_directory(settings: Settings) -> str:
    """Return the model's directory, as an interpolation."""
    return f"${{models_dir}}/{settings.text('model_checkpoint') or settings.text('torchtune_model_name')}"


def dataset_node(settings: Settings, split: str = "train") -> dict[str, Any]:
    """Return the data set node for `split`; `training_samples` limits only the training split."""
    kind = settings.text("dataset_type")
    samples = settings.values["training_samples"] if split == "train" else None
    if kind in _CRUIJFF:
        return _cruijff_node(settings, kind, split, samples)
    source = settings.text("dataset_ext").removeprefix(".")
    built = {
        "_component_": _TORCHTUNE[kind],
        "source": source,
        "data_files": f"${{input_dir}}/${{dataset_label}}.{source}",
    }
    if source == "json":
        built["field"] = split
    # for the datasets library, `split` covers all given files; `field` selects a part of a JSON file
    built["split"] = "train" if samples is None else f"train[:{samples}]"
    if kind == "text_completion_dataset":
        return built | {"column": settings.text("input_key") or "text", "packed": settings.flag("packed")}
    more: dict[str, Any] = {"train_on_input": settings.flag("train_on_input")}
    if kind == "chat_dataset":
        more = {"conversation_column": "messages", "conversation_style": "openai"} | more
    if settings.text("system_prompt"):
        more["new_system_prompt"] = settings.text("system_prompt")
    if kind == "instruct_dataset" and (settings.text("input_key") or settings.text("output_key")):
        more["column_map"] = _columns(settings)
    return built | more | {"packed": settings.flag("packed")}


def _columns(settings: Settings, suffix: str = "") -> dict[str, str]:
    """Return the columns of the input and the output."""
    return {name + suffix: settings.text(f"{name}_key") or name for name in ("input", "output")}


def _cruijff_node(settings: Settings, kind: str, split: str, samples: Any) -> dict[str, Any]:
    return {
        "_component_": _CRUIJFF[kind],
        "source": "json",
        "data_files": "${input_dir}/${dataset_label}.json",
        "split": split,
        "model_path": model_directory(settings),
        "prompt": settings.text("prompt") or "{input}",
        **({"system_prompt": settings.text("system_prompt")} if kind == "chat_completion" else {}),
        **_columns(settings, "_key"),
        "train_on_input": settings.flag("train_on_input"),
        **({} if samples is None else {"max_samples": samples}),
        "packed": False,
    }


def prompt_template(settings: Settings) -> dict[str, list[str]] | None:
    """Return the tokenizer's texts around the user's message, or None if `prompt` has none.

    torchtune's tokenizers accept a mapping from role to the texts before and after (data/_prompt_templates.py); they
    get a mapping of the config as a plain dict, because config.instantiate converts it (OmegaConf.to_object).
    """
    parts = _around_input(settings.text("prompt"))
    if settings.text("dataset_type") in _CRUIJFF or parts is None or not any(parts):
        return None
    return {"user": list(parts)}


def _around_input(prompt: str) -> tuple[str, str] | None:
    """Return the text before and after `{input}`, or None if the prompt does not contain exactly one `{input}`."""
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


def check_rules(settings: Settings, report: SettingsReport) -> ModelEntry | None:
    """Refuse settings that are missing, contradictory or cannot be honoured; return the model if it is known."""
    for key in REQUIRED:
        if key not in settings.given:
            _missing(report, key)
    if not settings.given & {"conda_env", "venv"}:
        _missing(report, "conda_env", fix="add a line `conda_env: ...`, or `venv: ...` for a virtual environment")
    _check_output(settings, report)
    _check_recipe(settings, report)
    name, scheduler = settings.text("torchtune_model_name"), settings.text("lr_scheduler")
    entry = find_model(name)
    if name and entry is None:
        message = f"torchtune_model_name {shown(name)} is not a known model."
        message, fix = did_you_mean(name, known_models(), message), f"write {supported_models()}"
        report.refuse("torchtune_model_name", message, fix, code="unknown-model", found=name)
    if scheduler != _SCHEDULER:
        message = f"lr_scheduler is {shown(scheduler)}, which torchtune 0.6.1 does not have"
        report.refuse("lr_scheduler", message, f"write `{_SCHEDULER}`", found=scheduler, allowed=_SCHEDULER)
    _check_lora(settings, entry, report)
    _check_dataset(settings, entry, report)
    return entry


def _check_lora(settings: Settings, entry: ModelEntry | None, report: SettingsReport) -> None:
    """Refuse LoRA on an output layer that has no weights of its own (lora_llama3_2, lora_qwen2, lora_gemma2)."""
    if entry is not None and entry.tied and settings.flag("apply_lora_to_output") and not settings.is_full:
        message = (
            f"apply_lora_to_output is set, but torchtune does not apply LoRA to the output layer of {entry.name},"
            " which shares its weights with the embeddings"
        )
        fix = "set apply_lora_to_output to no, or remove it"
        report.refuse("apply_lora_to_output", message, fix, found=True, allowed=False)


def _missing(report: SettingsReport, key: str, message: str = "", fix: str = "") -> None:
    fix = fix or f"add a line `{key}: ...`"
    report.refuse(key, message or f"{key} is missing", fix, code="missing-field")


def _check_output(settings: Settings, report: SettingsReport) -> None:
    """Require either `output_dir_base` (2025), or `project_dir` with `experiment_name` (v0.3.4)."""
    given = settings.given & {"output_dir_base", "project_dir"}
    if not given:
        _missing(report, "output_dir_base")
    if len(given) > 1:
        message = "output_dir_base and project_dir are both given, but each specifies a different output directory"
        report.refuse("project_dir", message, "keep one of them", code="ambiguous")
    if given == {"project_dir"} and "experiment_name" not in settings.given:
        _missing(report, "experiment_name", "experiment_name is missing, but project_dir requires it")


def _check_recipe(settings: Settings, report: SettingsReport) -> None:
    if base := settings.text("base_recipe"):
        message = "base_recipe is not supported, because every value must be visible in this file"
        fix = "remove base_recipe, and write each value that you need from that recipe as a key, such as `lora_rank: 8`"
        report.refuse("base_recipe", message, fix, found=base)
    name, gpus = settings.recipe, settings.integer("gpus")
    is_sure = not any(error.field == "gpus" for error in report.errors)
    if is_sure and name in _OTHER_RECIPES:
        message = f"custom_recipe {name} is neither LoRA nor full fine-tuning; other recipes are not supported"
        fix = f"remove custom_recipe, or set it to one of {', '.join(RECIPE_NAMES)}"
        report.refuse("custom_recipe", message, fix, found=name)
    elif is_sure and ("single_device" if gpus > 1 else "distributed") in name:
        message = f"the custom_recipe {name} does not support {counted(gpus, 'GPU')}"
        fix = "use a single-device recipe with `gpus: 1`, or a distributed recipe with two or more GPUs"
        report.refuse("custom_recipe", message, fix, code="wrong-recipe", found=name)
    if not settings.is_full:
        return
    for key in OF_LORA:  # there is no adapter, so no setting of one can be honoured
        if key in settings.given:
            message = f"{key} is given, but the recipe {name} trains all weights, without LoRA"
            report.refuse(key, message, f"remove {key}, or train with LoRA")
    # LoRA in torchtune 0.6.1 finds the checkpoint by itself. For full fine-tuning, checkpointer.checkpoint_files would
    # have to name the files of the last epoch (get_model_checkpoint_path in training/checkpointing/_utils.py), which
    # are known only when the job starts again.
    if settings.flag("resume_from_checkpoint"):
        message = (
            "resume_from_checkpoint is true, but in full fine-tuning, torchtune does not find the checkpoint of the"
            " last epoch"
        )
        fix = "remove resume_from_checkpoint, or train with LoRA"
        report.refuse("resume_from_checkpoint", message, fix, found=True)


def _check_dataset(settings: Settings, entry: ModelEntry | None, report: SettingsReport) -> None:
    """Refuse settings that the data set cannot honour. `entry` is None if the model is unknown."""
    kind = settings.text("dataset_type")
    if kind not in _TYPES:
        message = did_you_mean(kind, _TYPES, f"dataset_type is {shown(kind)}, which is not a known type.")
        allowed = ", ".join(_TYPES)
        report.refuse(
            "dataset_type",
            message,
            f"write {one_of([f'`{each}`' for each in _TYPES], len(_TYPES))}",
            code="invalid-value",
            found=kind,
            allowed=allowed,
        )
        return
    for key, reason, fix in _not_honoured(settings, kind, entry):
        report.refuse(key, f"{key}: {reason}", fix)
    if kind in _CRUIJFF and settings.values["max_seq_len"] != KEYS["max_seq_len"].default:
        message = f"cruijff_kit's {kind} has its own tokenizer and does not cut samples at max_seq_len"
        fix = "remove max_seq_len, or set dataset_type to instruct_dataset"
        report.add("unread-setting", message, field="max_seq_len", fix=fix)
    if "prompt" in settings.given:
        _check_prompt(settings.text("prompt"), kind, entry, report)


def _not_honoured(settings: Settings, kind: str, entry: ModelEntry | None) -> Iterator[tuple[str, str, str]]:
    """Yield each key that the data set cannot honour, with the reason and a fix."""
    is_parquet = settings.text("dataset_ext") == ".parquet"
    if kind in _CRUIJFF and is_parquet:
        fix = "convert the data to JSON, or set dataset_type to instruct_dataset"
        yield "dataset_ext", f"cruijff_kit's {kind} reads only JSON", fix
    if kind in _CRUIJFF and settings.flag("packed"):
        fix = "remove packed, or set dataset_type to instruct_dataset"
        yield "packed", f"cruijff_kit's {kind} does not pack samples", fix
    for key in _UNUSED.get(kind, ()):
        if settings.text(key):
            yield key, f"torchtune's {kind} has no such argument", f"remove {key}"
    if settings.text("system_prompt"):
        fix = "remove system_prompt, or put its text into the data"
        if kind not in {"instruct_dataset", "chat_dataset", "chat_completion"}:
            yield "system_prompt", f"{kind} does not support a system prompt", fix
        elif entry and entry.system == "raises" and kind != "chat_completion":
            yield (
                "system_prompt",
                f"torchtune 0.6.1's chat template for {entry.name} has no place for a system prompt",
                fix,
            )
        elif entry and entry.system == "glued" and kind != "chat_completion":
            reason = f"torchtune 0.6.1's tokenizer for {entry.name} appends the input to it without a separator"
            fix = "remove system_prompt, or put its text and a line break before each input in the data"
            yield "system_prompt", reason, fix
    if settings.integer("run_val_every_n_steps") and is_parquet:
        fix = "remove run_val_every_n_steps, or convert the data to JSON with a split named validation"
        yield "run_val_every_n_steps", "a Parquet file has one split, so there is no validation split", fix


def _check_prompt(prompt: str, kind: str, entry: ModelEntry | None, report: SettingsReport) -> None:
    if "{input}" not in prompt or not _parse(prompt):
        message = f"prompt is {shown(prompt)}: it must contain {{input}}, with any other braces doubled"
        fix, allowed = (
            "write `{input}` where the text of a sample belongs, and double other braces",
            "text with {input}",
        )
        report.refuse("prompt", message, fix, code="invalid-value", found=prompt, allowed=allowed)
    elif entry and kind not in _CRUIJFF and (reason := _why_not(kind, entry, _around_input(prompt))):
        other = "set dataset_type to chat_completion (of cruijff_kit, JSON only)"
        fix = f"put the text of the prompt into the data, or {other}"
        report.refuse("prompt", f"prompt: {reason}", fix, found=prompt)


def _why_not(kind: str, entry: ModelEntry, parts: tuple[str, str] | None) -> str:
    """Return the reason why torchtune 0.6.1 would not train on exactly this prompt, or an empty string."""
    if parts is None:
        return f"torchtune's {kind} supports only one {{input}} in a prompt, and no other placeholder"
    if parts == ("", ""):
        return ""
    if kind == "text_completion_dataset":
        return "torchtune's text_completion_dataset adds nothing to the text"
    if entry.prompt == "own":
        return f"a prompt would replace the chat template that {entry.name} needs in torchtune 0.6.1"
    if entry.prompt == "stripped" and (parts[0] or parts[1] not in _SAME_AS_INPUT):
        return (
            f"torchtune 0.6.1's tokenizer for {entry.name} strips white space around the input, so the white space"
            " between the prompt and the input would be lost"
        )
    return ""
