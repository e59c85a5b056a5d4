"""The place of each setting in finetune.yaml: tables, and functions for settings that fit into none.

The paths are those of torchtune 0.6.1: the keys that its recipes read, and the arguments of its components.
No code is shared with the code that writes finetune.yaml.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from scaffold_torchtune.findings import shown
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.system.serialization import KeyPath
from scaffold_torchtune.torchtune_facts.facts import load
from scaffold_torchtune.validate.report import join, normal_path

SCHEDULERS: Final = "torchtune.training.lr_schedulers."
LOGGER: Final = "torchtune.training.metric_logging.WandBLogger"
CHECKPOINTER: Final = "torchtune.training.FullModelHFCheckpointer"


class Comparison(StrEnum):
    """The comparison of a value in finetune.yaml with the planned value."""

    SAME = "same"  # same type and value
    NUMBER = "number"  # a float; an equal integer is accepted
    PATH = "path"  # the same path, apart from duplicate and trailing slashes
    ENDS = "ends"  # text that ends with the planned text: a component of a different package
    ABSENT = "absent"  # must be missing (null and the empty text count as missing)
    EPOCHS = "epochs"  # `all`, `none` or a list of numbers
    PRESENT = "present"  # present and not empty
    PARTS = "parts"  # a list of the comma-separated parts, in any order


@dataclass(frozen=True)
class Expectation:
    """One value that finetune.yaml must have.

    `setting` is the planned setting, `path` its place, `value` the expected value. `absent_is` is torchtune's default
    for a missing key: the key may then be missing, also in files of the bundled setup_finetune if `optional`.
    `source_of` names a different setting whose source decides on leniency, `note` adds an explanation to the finding.
    `unused` is the message if the value is missing because nothing reads it. `parts` are other settings that the value
    is made of.
    """

    setting: str
    path: KeyPath
    value: Any
    kind: Comparison = Comparison.SAME
    absent_is: Any = None
    optional: bool = False
    note: str = ""
    unused: str = ""
    source_of: str | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """The settings that a dataset type accepts, and their keys; None for those it does not accept.

    Taken from the functions of torchtune's three types (torchtune/datasets/_instruct.py, _chat.py, _text_completion.py)
    and from cruijff_kit's two, which read JSON files themselves, so they accept `split` but not `field`.
    """

    component: str
    own: bool = False  # cruijff_kit's own data set
    system_prompt: str | None = None
    train_on_input: bool = True
    input_key: KeyPath | None = None
    output_key: KeyPath | None = None


DIRECT: Final[dict[str, KeyPath]] = {
    "lora_rank": ("model", "lora_rank"),
    "lora_dropout": ("model", "lora_dropout"),
    "lr": ("optimizer", "lr"),
    "weight_decay": ("optimizer", "weight_decay"),
    "num_warmup_steps": ("lr_scheduler", "num_warmup_steps"),
    "max_seq_len": ("tokenizer", "max_seq_len"),
    "my_wandb_project": ("metric_logger", "project"),
    "my_wandb_run_name": ("metric_logger", "name"),
    "wandb_entity": ("metric_logger", "entity"),
    "wandb_group": ("metric_logger", "group"),
    "wandb_tags": ("metric_logger", "tags"),
    "wandb_mode": ("metric_logger", "mode"),
    "lora_attn_modules": ("model", "lora_attn_modules"),
    "apply_lora_to_mlp": ("model", "apply_lora_to_mlp"),
    "apply_lora_to_output": ("model", "apply_lora_to_output"),
    **{
        name: (name,)
        for name in (
            *("batch_size", "batch_size_val", "clip_grad_norm", "enable_activation_checkpointing", "epochs"),
            *("epochs_to_save", "gradient_accumulation_steps", "log_every_n_steps", "max_steps_per_epoch"),
            *("resume_from_checkpoint", "save_adapter_weights_only", "save_last_epoch_only", "seed"),
            "stash_adapter_weights",
        )
    },
}
"""Settings that arrive unchanged, and their paths."""

_COMPARISONS: Final = {
    "clip_grad_norm": Comparison.NUMBER,
    "epochs_to_save": Comparison.EPOCHS,
    "lora_attn_modules": Comparison.PARTS,
    "lora_dropout": Comparison.NUMBER,
    "lr": Comparison.NUMBER,
    "wandb_tags": Comparison.PARTS,
    "weight_decay": Comparison.NUMBER,
}
"""Their comparisons, if not for the same type and value."""

_ABSENT: Final = {"apply_lora_to_output": False}
"""torchtune's defaults for missing keys: not all of its builders have the argument."""

OF_THE_TRAINING: Final = frozenset(
    {"clip_grad_norm", "dtype", "max_steps_per_epoch", "optimizer._component_", "shuffle"}
)
"""Paths that make it a different training if their value is not planned."""

FINETUNE_SETTINGS: Final = frozenset(
    {*DIRECT, "checkpoint_files", "experiment_name", "lora_alpha", "lr_scheduler", "model_checkpoint", "models_dir"}
    | {"output_dir_base"}
    | {"project_dir", "torchtune_model_name", "dataset_ext", "dataset_label", "dataset_type", "input_dir_base"}
    | {"input_formatting", "input_key", "output_key", "packed", "prompt", "run_val_every_n_steps", "system_prompt"}
    | {"train_on_input", "training_samples"}
)
"""Settings with a known place in finetune.yaml: those that are not in `DIRECT` are combined with others or changed."""

_FOLDER: Final = ("models_dir", "model_checkpoint")
_FILE: Final = ("input_dir_base", "input_formatting", "dataset_ext")
PLAIN_PROMPT: Final = "{input}"
_OWN_KEYS: Final[dict[str, Any]] = {"input_key": ("input_key",), "output_key": ("output_key",)}
SHAPES: Final = {
    "instruct_dataset": Shape(
        "torchtune.datasets.instruct_dataset",
        system_prompt="new_system_prompt",
        input_key=("column_map", "input"),
        output_key=("column_map", "output"),
    ),
    "chat_dataset": Shape(
        "torchtune.datasets.chat_dataset", system_prompt="new_system_prompt", input_key=("conversation_column",)
    ),
    "text_completion_dataset": Shape(
        "torchtune.datasets.text_completion_dataset", train_on_input=False, input_key=("column",)
    ),
    "chat_completion": Shape(
        ".datasets.chat_completion.chat_completion_dataset", own=True, system_prompt="system_prompt", **_OWN_KEYS
    ),
    "text_completion": Shape(".datasets.text_completion.text_completion_dataset", own=True, **_OWN_KEYS),
}

OF_SETTINGS: Final[frozenset[KeyPath]] = frozenset(
    {
        *(*DIRECT.values(), ("model", "lora_alpha"), ("lr_scheduler", "_component_")),
        *(("dataset", "packed"), ("dataset", "train_on_input"), ("dataset", "split")),
        *(("tokenizer", "prompt_template", "user"), ("dataset", "prompt")),
        *(
            ("dataset", *path)
            for shape in SHAPES.values()
            for path in ((shape.system_prompt,), shape.input_key, shape.output_key)
            if path and path[0]
        ),
    }
)
"""Paths whose value a document can set."""


def is_full(run: PlannedRun) -> bool:
    """Return whether the planned recipe is a full fine-tuning recipe of torchtune. All other recipes count as LoRA."""
    facts = load().recipes.get(run.text("custom_recipe"))
    return facts is not None and not facts.trains_adapter


def expectations(run: PlannedRun) -> list[Expectation]:
    """Return all values that a run's finetune.yaml must have; those that the submit line passes may be missing."""
    return [*_direct(run), *_model(run), *_other(run), *_output(run), *_dataset(run)]


def _direct(run: PlannedRun) -> list[Expectation]:
    """Yield the values of settings that arrive unchanged, and of `lora_alpha`, which is 2 x rank unless planned."""
    found = [
        Expectation(
            name, DIRECT[name], run.value(name), _COMPARISONS.get(name, Comparison.SAME),
            absent_is=_ABSENT.get(name), optional=name in _ABSENT,
            note="finetune.yaml overrides the submit line" if name in run.submitted else "",
        )
        for name in run.settings if name in DIRECT
    ]  # fmt: skip
    rank, path = run.value("lora_rank"), ("model", "lora_alpha")
    if "lora_alpha" in run.settings:
        found.append(Expectation("lora_alpha", path, run.value("lora_alpha"), Comparison.NUMBER))
    elif type(rank) is int:
        note = "the plan has 2 x lora_rank"
        found.append(Expectation("lora_alpha", path, 2 * rank, Comparison.NUMBER, note=note, source_of="lora_rank"))
    return found


def _output(run: PlannedRun) -> list[Expectation]:
    """Yield the path of the run's output: `BASE/EXPERIMENT/ck-out-RUN`, or `PROJECT/EXPERIMENT/RUN/artifacts`."""
    setting, own = "project_dir", f"{run.directory}/artifacts"
    if not run.value(setting):
        setting, own = "output_dir_base", f"ck-out-{run.directory}"
    if not run.value(setting):
        return []
    folder = join(run.text(setting), str(run.value("experiment_name") or ""), own)
    paths: tuple[KeyPath, ...] = (("output_dir",), ("checkpointer", "output_dir"))
    parts = ("experiment_name", "my_wandb_run_name")
    return [Expectation(setting, path, folder, Comparison.PATH, parts=parts) for path in paths]


def output_dir(run: PlannedRun) -> str | None:
    """Return the run's output directory; None if not planned."""
    return next((str(e.value) for e in _output(run)), None)


def _model(run: PlannedRun) -> list[Expectation]:
    """Yield the values of the model: builder, tokenizer, checkpointer, all from torchtune's stock configs."""
    folder = run.checkpoint_dir
    files: KeyPath = ("checkpointer", "checkpoint_files")
    found = [Expectation("model_checkpoint", files, None, Comparison.PRESENT)]
    if run.value("checkpoint_files"):
        found.append(Expectation("checkpoint_files", files, run.value("checkpoint_files"), Comparison.PARTS))
    if folder is not None:
        where = ("checkpointer", "checkpoint_dir")
        found.append(Expectation("model_checkpoint", where, folder, Comparison.PATH, parts=("models_dir",)))
    setting = "torchtune_model_name"
    facts = load().model(run.text(setting))
    if facts is None:
        return found
    found += [
        Expectation(setting, ("model", "_component_"), facts.full_builder if is_full(run) else facts.lora_builder),
        Expectation(setting, ("tokenizer", "_component_"), facts.tokenizer),
        Expectation(setting, ("checkpointer", "_component_"), CHECKPOINTER),
        Expectation(setting, ("checkpointer", "model_type"), facts.model_type),
    ]
    if folder is not None:
        found += [
            Expectation(setting, ("tokenizer", argument), join(folder, file), Comparison.PATH, parts=_FOLDER)
            for argument, file in facts.tokenizer_files.items()
        ]
    return found


def _other(run: PlannedRun) -> list[Expectation]:
    """Yield the learning rate scheduler, and the logger that accepts project and name."""
    found = []
    if "lr_scheduler" in run.settings:
        name = SCHEDULERS + str(run.value("lr_scheduler")).removeprefix(SCHEDULERS)
        found.append(Expectation("lr_scheduler", ("lr_scheduler", "_component_"), name))
    if "my_wandb_project" in run.settings:
        found.append(Expectation("my_wandb_project", ("metric_logger", "_component_"), LOGGER))
    return found


def shape_of(run: PlannedRun) -> Shape | None:
    """Return the planned dataset type; None if unknown. The default is torchtune's instruct_dataset."""
    return SHAPES.get(run.text("dataset_type") or "instruct_dataset")


def _data_file(run: PlannedRun) -> str:
    """Return the data set's file. Other settings that name the same file complete a relative path of the document."""
    name = f"{run.value('dataset_label')}{run.value('dataset_ext')}"
    base = run.value("input_dir_base")
    if run.data_path.startswith("/") or not base or PurePosixPath(run.data_path).name != name:
        return normal_path(run.data_path)
    return join(str(base), run.text("input_formatting"), name)


def _source(run: PlannedRun) -> str:
    """Return the data's format as `datasets.load_dataset` names it."""
    extension = run.text("dataset_ext") or PurePosixPath(run.data_path).suffix
    return extension.removeprefix(".")


def _dataset(run: PlannedRun) -> list[Expectation]:
    """Yield the values of the data set's settings in the node `dataset` (or `dataset_val`)."""
    shape = shape_of(run)
    if shape is None:
        return []
    found = [*_node(run, shape, "dataset", "train"), *_prompts(run, shape), *_columns(run, shape)]
    for name in ("packed", "train_on_input"):
        path = ("dataset", name)
        if name == "train_on_input" and not shape.train_on_input:
            note = f"{shape.component} has no argument train_on_input"
            expectation = Expectation(name, path, None, Comparison.ABSENT, note=note)
        else:
            expectation = Expectation(name, path, run.value(name), absent_is=False)
        found += [expectation] if name in run.settings else []
    return found + _validation(run, shape)


def _node(run: PlannedRun, shape: Shape, node: str, split: str) -> list[Expectation]:
    form, samples = _source(run), run.value("training_samples") if node == "dataset" else None
    comparison = Comparison.ENDS if shape.own else Comparison.SAME
    found = [
        Expectation("dataset_type", (node, "_component_"), shape.component, comparison),
        Expectation("dataset_ext", (node, "source"), form),
    ]
    if form == "json" or node == "dataset":
        note = "with data_dir alone, the data set would be empty" if form == "parquet" else ""
        path, file = (node, "data_files"), _data_file(run)
        found.append(Expectation("dataset_label", path, file, Comparison.PATH, note=note, parts=_FILE))
    field = split if form == "json" and not shape.own else None
    found.append(Expectation("dataset_ext", (node, "field"), field, _or_absent(field)))
    if samples is not None and shape.own:
        found.append(Expectation("training_samples", (node, "max_samples"), samples))
    elif samples is not None:
        found.append(Expectation("training_samples", (node, "split"), f"train[:{samples}]"))
    if samples is None or shape.own:
        # load_dataset names the content of a file or field `train`; cruijff_kit's own data sets name the split
        usual = split if shape.own else "train"
        found.append(Expectation("dataset_ext", (node, "split"), usual, absent_is="train", optional=True))
    folder = run.checkpoint_dir
    if shape.own and folder is not None:
        parts = ("models_dir",)
        found.append(Expectation("model_checkpoint", (node, "model_path"), folder, Comparison.PATH, parts=parts))
    return found


def _or_absent(value: Any) -> Comparison:
    return Comparison.ABSENT if value is None else Comparison.SAME


def _prompts(run: PlannedRun, shape: Shape) -> list[Expectation]:
    found = []
    system, prompt = run.value("system_prompt") or None, run.value("prompt")
    is_absent = not shape.system_prompt and not system
    keys = ["new_system_prompt", "system_prompt"] if is_absent else [shape.system_prompt or "new_system_prompt"]
    unused = f"the system prompt {shown(system)} is not used: {shape.component} has no argument for one"
    unused = "" if shape.system_prompt or not system else unused
    if "system_prompt" in run.settings:
        comparison = _or_absent(system)
        found += [Expectation("system_prompt", ("dataset", key), system, comparison, unused=unused) for key in keys]
    if prompt and shape.own:
        found.append(Expectation("prompt", ("dataset", "prompt"), prompt))
    elif prompt and prompt != PLAIN_PROMPT:
        before, _, after = str(prompt).partition(PLAIN_PROMPT)
        path, note = (
            ("tokenizer", "prompt_template", "user"),
            "torchtune uses the prompt as the tokenizer's prompt template",
        )
        found += [Expectation("prompt", (*path, index), part, note=note) for index, part in enumerate((before, after))]
    return found


def _columns(run: PlannedRun, shape: Shape) -> list[Expectation]:
    found = []
    for setting, path, usual in (("input_key", shape.input_key, "input"), ("output_key", shape.output_key, "output")):
        named = run.value(setting)
        has_usual = path is not None and (shape.own or path[0] == "column_map")
        if path is not None and (named or has_usual):
            absent = usual if has_usual else None
            found.append(Expectation(setting, ("dataset", *path), named or usual, absent_is=absent, optional=True))
        elif named and named != usual:
            note = f"{shape.component} has no such column"
            found.append(Expectation(setting, ("dataset", setting), named, note=note))
    return found


def _validation(run: PlannedRun, shape: Shape) -> list[Expectation]:
    setting = "run_val_every_n_steps"
    if setting not in run.settings:
        return []
    every = run.value(setting)
    if not every:
        return [Expectation(setting, (key,), None, Comparison.ABSENT) for key in (setting, "dataset_val")]
    return [Expectation(setting, (setting,), every), *_node(run, shape, "dataset_val", "validation")]
