"""YAML documents with the places of their values: a summary, a plain template, configurations of other trainers.

A part with a wrong shape or key is moved to its probable place. The rest of a summary is then read as if the part were
correct, so that all problems are reported at once, without their consequences. The values of a plain template of
setup_finetune.yaml are used for settings that no document of the experiment gives, and typed by their parameter like
those of a summary.

The configuration of another trainer instead of a summary is recognized by keys that only its tool reads. Its values are
used in the command of `new` that creates a summary.
"""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from scaffold_torchtune import models
from scaffold_torchtune.findings import escape, finding, shortest_number, shown
from scaffold_torchtune.models import Setting, SourceKind
from scaffold_torchtune.parse import values
from scaffold_torchtune.parse.drafts import SourceText, SummaryDraft, TemplateDraft
from scaffold_torchtune.parse.reading import not_typed
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import LISTS, NotTyped
from scaffold_torchtune.settings.parameters import KEYS, PARAMETERS, Parameter, by_label, by_plural
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.serialization import (
    KeyPath,
    YamlDocument,
    YamlError,
    put_in_quotes,
    read_yaml,
    without_quotes,
)
from scaffold_torchtune.torchtune_facts import find_model, model_by_spelling


@dataclass
class YamlSource:
    """The document, with the parts that were moved (`moved`: from the path now to the path in the document).

    `reported` are the places with reported problems; `unread` are the sections with unknown content.
    """

    document: YamlDocument
    data: dict[str, Any]
    draft: SummaryDraft
    moved: dict[KeyPath, KeyPath] = field(default_factory=dict)
    reported: set[KeyPath] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)

    def origin(self, path: KeyPath) -> KeyPath:
        """Return the path in the document of the value that is at a path now."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.moved:
                return (*self.moved[path[:end]], *path[end:])
        return path

    def name(self, path: KeyPath) -> str:
        """Return the name of a place in messages."""
        return escape(".".join(map(str, self.origin(path))))

    def line(self, path: KeyPath) -> int:
        """Return the line of a place."""
        return self.document.line(self.origin(path)) or 1

    def plain(self, path: KeyPath) -> str | None:
        """Return an unquoted scalar as written."""
        return self.document.plain.get(self.origin(path))

    def at(self, path: KeyPath) -> Any:
        """Return the value at a path, or None."""
        found: Any = self.data
        for part in path:
            if isinstance(found, list) and isinstance(part, int):
                found = found[part]
            else:
                found = found.get(part) if isinstance(found, dict) else None
        return found

    def mapping(self, path: KeyPath) -> Mapping[str, Any]:
        """Return the mapping at a path, or an empty one."""
        found = self.at(path)
        return found if isinstance(found, dict) else {}

    def items(self, path: KeyPath) -> list[Any]:
        """Return the list at a path, or an empty one."""
        found = self.at(path)
        return found if isinstance(found, list) else []

    def has(self, path: KeyPath) -> bool:
        """Return whether a key exists, even with null."""
        return path[-1] in self.mapping(path[:-1])

    def put(self, path: KeyPath, value: Any, origin: KeyPath) -> None:
        """Put a value at a path; `origin` is its path in the document."""
        self.moved[path] = origin
        self.at(path[:-1])[path[-1]] = value

    def move(self, old: KeyPath, new: KeyPath) -> None:
        """Move the value at `old` to `new`, unless that has a value."""
        above = self.at(new[:-1])
        if isinstance(above, dict) and new[-1] not in above:
            value, origin = self.at(old), self.origin(old)
            del self.at(old[:-1])[old[-1]]
            self.put(new, value, origin)

    def described(self, path: KeyPath) -> str:
        """Return a description of the value at a path, for messages."""
        value, plain = self.at(path), self.plain(path)
        if isinstance(value, dict | list):
            return "a list" if isinstance(value, list) else "a mapping"
        if value is None:
            return "empty"
        return shown(value) if isinstance(value, str) or plain is None else escape(plain)

    def sections(self) -> dict[str, int]:
        """Return the line of each key and item by its name."""
        lines = {".".join(map(str, path)): line for path, line in self.document.lines.items()}
        return lines | {".".join(map(str, path)): self.line(path) for path in self.moved}


_TEXT_KINDS = frozenset(
    {"text", "name", "label", "path", "pattern_free_path", "memory", "constraint", "folder", "extension", "recipe"}
)


def field_at(source: YamlSource, path: KeyPath, by_key: str | None = None) -> SourceText | None:
    """Return the scalar at a path as written; None if it is missing or null.

    `by_key` is its parameter: text that YAML reads as another type is then reported.
    """
    value = source.at(path)
    if value is None:
        return None
    if isinstance(value, list) and (joined := _joined(source, path, value, by_key)):
        return SourceText(joined, source.line(path), source.name(path))
    if isinstance(value, dict | list):
        if by_key is not None:
            _not_single(source, path, value, by_key)
        return None
    parameter, plain, name, line = by_label(by_key or ""), source.plain(path), source.name(path), source.line(path)
    wants_text = by_key in {None, "name", "type"} or (parameter is not None and parameter.kind in _TEXT_KINDS)
    if isinstance(value, str):
        return SourceText(value, line, name, exact=wants_text)
    plain = plain or str(value)
    if by_key and wants_text:
        message, fix = (
            f"{kinds.setting_name(name)} is {without_quotes(plain, value)}; it must be text",
            put_in_quotes(plain),
        )
        if parameter is not None and parameter.kind == "memory":
            message = f"{name} is {plain}, which has no unit"
            fix = "write a whole number with its unit, such as 80G"
            if plain.isdigit():
                fix = f"write `{plain}G` if the number is in gigabytes, or `{plain}M` if it is in megabytes"
        source.draft.add("invalid-value", message, field=by_key, line=line, fix=fix)
        source.reported.add(path)
        return None
    return SourceText(plain, line, name)


def _joined(source: YamlSource, path: KeyPath, items: list[Any], key: str | None) -> str:
    """Return a list of texts joined by commas if the parameter may be a list in YAML, else an empty string.

    A key for the values of several runs (`seeds`) has a list, which is compared with the runs.
    """
    parameter = by_label(key or "")
    if by_plural(key or "") and path[0] != "runs" and not any(isinstance(item, dict | list | None) for item in items):
        return ", ".join(source.plain((*path, i)) or str(item) for i, item in enumerate(items))
    is_list = parameter is not None and parameter.kind in LISTS and all(isinstance(item, str | int) for item in items)
    return ",".join(source.plain((*path, i)) or str(item) for i, item in enumerate(items)) if is_list else ""


def _not_single(source: YamlSource, path: KeyPath, value: dict[str, Any] | list[Any], key: str) -> None:
    """Report a mapping or a list instead of a single value."""
    items = value if isinstance(value, list) else []
    choices = [escape(str(item)) for item in items if isinstance(item, str | int | float)]
    name, parameter = source.name(path), by_label(key)
    if len(choices) != len(items) or len(choices) <= 1:
        code, message = "invalid-value", f"{name} is {source.described(path)}, not a single value"
        fix = "write a single value"
    else:
        code, message = "ambiguous", f"{name} has {len(choices)} values: {', '.join(choices)}"
        fix = f"keep one of them ({' or '.join(choices)})"
        if path[0] == "runs":
            fix += "; to train with several, add a run for each value"
        elif parameter is not None and parameter.column:
            fix += "; if the value differs between runs, write it in each run's parameters"
    source.draft.add(code, message, field=key or name, line=source.line(path), fix=fix)
    source.reported.add(path)


MAX_KEYS: Final = 500
"""The maximum number of keys of a template; setup_finetune has about a hundred."""

_ALSO: Final = ("lora_alpha_ratio", "warmup_ratio", "effective_batch_size", "nodes")
"""Keys that a template may have, although setup_finetune.yaml does not."""


_A_MAPPING: Final = "write one `key: value` on each line, as in a setup_finetune.yaml"


def read_template(text: str, file: str) -> TemplateDraft:
    """Read a template. Null, empty values and placeholders (`<placeholder>`) are missing values."""
    draft = TemplateDraft()
    try:
        document = read_yaml(text)
    except YamlError as error:
        return _unreadable(draft, text, file, f"cannot be read: {error.message}", error.line, error.fix)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        return _unreadable(draft, text, file, "is not a mapping of keys to values", 1)
    if len(data) > MAX_KEYS:
        return _unreadable(draft, text, file, f"has {len(data)} keys, but at most {MAX_KEYS} are allowed", 1)
    source = YamlSource(document, data, SummaryDraft(file))
    for key, value in data.items():
        place = models.Source(kind=SourceKind.TEMPLATE, file=file, line=source.line((key,)), note="template")
        if key in KEYS or key in _ALSO:
            _known(draft, PARAMETERS[key], source, place)
        elif value is not None:
            _other(draft, key, value, place)
    return draft


def _unreadable(
    draft: TemplateDraft, text: str, file: str, what: str, line: int | None, fix: str = _A_MAPPING
) -> TemplateDraft:
    if any(mark in text for mark in ("{{", "{%", "{#")):
        fix += "; if it is a Jinja2 template, rename it to end in .j2"
    message = f"the template {escape(what)}"
    draft.problems.append(finding("template-error", message, field="template", file=file, line=line, fix=fix))
    draft.readable = False
    return draft


def _known(draft: TemplateDraft, parameter: Parameter, source: YamlSource, place: models.Source) -> None:
    """Add a key of setup_finetune.yaml with its typed value, or with its text and its problem."""
    key, problems = parameter.name, source.draft.findings
    before = len(problems)
    text = field_at(source, (key,), key)
    if text is None:
        if len(problems) > before:
            draft.settings[key] = Setting(value=escape(str(source.at((key,)))), source=place)
            draft.doubtful[key] = problems[before]
    elif not _is_open(parameter, text):
        try:
            draft.settings[key] = Setting(value=values.typed(parameter, text).value, source=place)
        except NotTyped as problem:
            draft.settings[key] = Setting(value=text.text, source=place)
            draft.doubtful[key] = not_typed(parameter, text, problem, key, place.file, "")
    if parameter.scope == "experiment":  # specific to an experiment; a template has the value of another one
        draft.doubtful.pop(key, None)


def _is_open(parameter: Parameter, text: SourceText) -> bool:
    if values.means_none(parameter, text.text):
        return False
    return parameter.kind != "text" and (values.is_open(text.text) or values.is_left_out(parameter, text.text))


def _other(draft: TemplateDraft, key: str, value: Any, place: models.Source) -> None:
    """Add a key that only an external script can know, with its value in YAML."""
    allowed, found = None, ""
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        allowed = "a single plain value (text, a number, true or false)"
    elif isinstance(value, str):
        try:
            kinds.read("text", value)
        except NotTyped as not_text:
            allowed, found = not_text.allowed, not_text.described
    if allowed is None:
        draft.others[key] = Setting(value=value, source=place)
        return
    name, message = escape(key), f"the value of {shown(key)} in the template {found or f'is not {allowed}'}"
    fix = f"write {allowed}, or remove the line"
    draft.problems.append(
        finding("invalid-value", message, field=name, expected=allowed, actual=escape(str(value)), at=place, fix=fix)
    )


class _Tool(NamedTuple):
    """A kind of file, and the keys that identify it: all of `needs`, and at least `least` of `some`."""

    what: str
    needs: frozenset[str]
    some: frozenset[str] = frozenset()
    least: int = 0


def _tool(what: str, needs: str = "", some: str = "", least: int = 0) -> _Tool:
    return _Tool(what, frozenset(needs.split()), frozenset(some.split()), least)


# From each tool's documentation and examples. The first that fits is used.
_TOOLS: Final = (
    _tool(
        "a setup_finetune.yaml (a file that is generated for each run)",
        some="my_wandb_project my_wandb_run_name torchtune_model_name input_dir_base dataset_label dataset_ext",
        least=3,
    ),
    _tool(
        "a LLaMA-Factory configuration",
        some="stage finetuning_type template cutoff_len lora_target dataset_dir quantization_bit overwrite_cache"
        " preprocessing_num_workers pref_beta",
        least=2,
    ),
    _tool(
        "an axolotl configuration", "base_model",
        "micro_batch_size num_epochs sequence_len adapter datasets lora_r val_set_size lora_target_linear"
        " sample_packing dataset_prepared_path pad_to_sequence_len load_in_8bit load_in_4bit flash_attention",
        2,
    ),
    _tool("a PEFT adapter_config.json", "peft_type"),
    _tool("a DeepSpeed configuration", "zero_optimization"),
    _tool("an Accelerate configuration", "distributed_type", "compute_environment num_processes mixed_precision", 1),
    _tool("a NeMo configuration", "exp_manager"),
    _tool("a LitGPT configuration", "checkpoint_dir", "train eval data out_dir lora_r precision", 2),
    _tool("an ms-swift configuration", some="train_type sft_type tuner_type swift_version", least=1),
    _tool("a Weights & Biases sweep", "parameters", "method metric program early_terminate command", 2),
    _tool("a model's config.json", "model_type", "architectures hidden_size num_hidden_layers vocab_size", 2),
    _tool(
        "a configuration for a Hugging Face trainer (transformers, TRL)",
        some="per_device_train_batch_size num_train_epochs lr_scheduler_type save_strategy report_to dataset_name"
        " model_name_or_path use_peft lora_target_modules logging_steps gradient_checkpointing training_args"
        " evaluation_strategy eval_strategy",
        least=2,
    ),
)  # fmt: skip
_OURS: Final = frozenset({"experiment", "runs", "controls"})
_COMPONENT: Final = "_component_"

# The places in configurations of values for options of `new`; the last part is the key.
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
    """Return whether a summary is a configuration of another tool; if so, report that and read nothing else."""
    what = _recognized(data) if isinstance(data, dict) else None
    if what is None or not isinstance(data, dict):
        return False
    message = f"{draft.file} is {what}, not an experiment summary"
    options = [*_options(data)]
    command = shlex.join(["scaffold-torchtune", "new", "DIR", *options])
    what_it_does = "creates one from the values in this file" if options else "prompts for the values"
    fix = f"write a summary with a table of runs; this command {what_it_does}: `{command}`"
    draft.findings.clear()
    draft.configuration, draft.unread_lines = [], []
    draft.add("not-a-summary", message, field="experiment_summary", line=1, fix=fix)
    draft.readable = False
    return True


def foreign_data(text: str) -> object:
    """Return the data of a text in YAML or JSON; None if it is neither."""
    try:
        return read_yaml(text).data
    except YamlError:
        return None


def _recognized(data: Mapping[str, Any]) -> str | None:
    if _OURS & data.keys():
        return None
    if any(isinstance(part, dict) and _COMPONENT in part for part in data.values()):
        return "a torchtune configuration (a file that is generated for each run)"
    keys = {str(key).removeprefix("--").replace("-", "_") for key in data}
    fits = (tool for tool in _TOOLS if tool.needs <= keys and len(tool.some & keys) >= tool.least)
    return next((tool.what for tool in fits), None)


def _options(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of `new` for the supported values of a configuration."""
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
    """Return a value in the form for `new`; None if it is not clearly a value."""
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    text = shortest_number(found) if isinstance(found, float) else str(found)
    if name == "model":
        named = text.rstrip("/").rpartition("/")[2] if find_model(text) is None else text
        known = model_by_spelling(text) or model_by_spelling(named)
        return known.name if known else None
    if name == "dataset" and layout.data_label(text)[1] not in layout.SETUP_TEMPLATES:
        return None
    value = values.value_of(PARAMETERS[name], SourceText(text, 0, "", exact=True))
    return None if value is None else shortest_number(value) if isinstance(value, float) else str(value)
