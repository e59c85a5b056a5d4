"""Where the settings of the data set must arrive, for each type of data set."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from scaffold_torchtune.models.plan import PlannedRun
from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.validate.arrivals import Expectation, Kind
from scaffold_torchtune.validate.values import join, normal_path

SETTINGS: Final = frozenset(
    {"dataset_ext", "dataset_label", "dataset_type", "input_dir_base", "input_formatting", "input_key", "output_key"}
    | {"packed", "prompt", "run_val_every_n_steps", "system_prompt", "train_on_input", "training_samples"}
)
"""Settings whose arrival this module knows."""

PLAIN_PROMPT: Final = "{input}"


@dataclass(frozen=True)
class Shape:
    """What a type of data set takes, and under which key: None where it has no place for it.

    torchtune's three are read off its functions (torchtune/datasets/_instruct.py, _chat.py, _text_completion.py),
    cruijff_kit's two off its own data sets; those read JSON files themselves, so they take `split` and no `field`.
    """

    component: str
    own: bool = False  # cruijff_kit's own data set
    system_prompt: str | None = None
    train_on_input: bool = True
    input_key: Path | None = None
    output_key: Path | None = None


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
        ".datasets.chat_completion.chat_completion_dataset",
        own=True,
        system_prompt="system_prompt",
        input_key=("input_key",),
        output_key=("output_key",),
    ),
    "text_completion": Shape(
        ".datasets.text_completion.text_completion_dataset",
        own=True,
        input_key=("input_key",),
        output_key=("output_key",),
    ),
}


def shape_of(run: PlannedRun) -> Shape | None:
    """The planned type of data set; None where it is not known. torchtune's instruct_dataset where none is planned."""
    return SHAPES.get(run.text("dataset_type") or "instruct_dataset")


def data_file(run: PlannedRun) -> str:
    """The data set's file. A relative path in the document is completed from the settings that name the same file."""
    name = f"{run.value('dataset_label')}{run.value('dataset_ext')}"
    base = run.value("input_dir_base")
    if run.data_path.startswith("/") or not base or PurePosixPath(run.data_path).name != name:
        return normal_path(run.data_path)
    return join(str(base), run.text("input_formatting"), name)


def source(run: PlannedRun) -> str:
    """The data's format as `datasets.load_dataset` names it."""
    extension = run.text("dataset_ext") or PurePosixPath(run.data_path).suffix
    return extension.removeprefix(".")


def expectations(run: PlannedRun) -> list[Expectation]:
    """What the data set's settings must have become in the node `dataset` (and `dataset_val`)."""
    shape = shape_of(run)
    if shape is None:
        return []
    found = [*_node(run, shape, "dataset", "train"), *_prompts(run, shape), *_columns(run, shape)]
    if "packed" in run.settings:
        found.append(Expectation("packed", ("dataset", "packed"), run.value("packed"), absent_is=False))
    if "train_on_input" in run.settings:
        found.append(_train_on_input(run, shape))
    return found + _validation(run, shape)


def _node(run: PlannedRun, shape: Shape, node: str, split: str) -> list[Expectation]:
    form, samples = source(run), run.value("training_samples") if node == "dataset" else None
    found = [
        Expectation("dataset_type", (node, "_component_"), shape.component, Kind.ENDS if shape.own else Kind.SAME),
        Expectation("dataset_ext", (node, "source"), form),
    ]
    if form == "json" or node == "dataset":
        note = "a folder alone (data_dir) would be loaded as an empty data set" if form == "parquet" else ""
        found.append(Expectation("dataset_label", (node, "data_files"), data_file(run), Kind.PATH, note=note))
    in_field = form == "json" and not shape.own
    found.append(Expectation("dataset_ext", (node, "field"), split if in_field else None, _kind(present=in_field)))
    if samples is not None and shape.own:
        found.append(Expectation("training_samples", (node, "max_samples"), samples))
    elif samples is not None:
        found.append(Expectation("training_samples", (node, "split"), f"train[:{samples}]"))
    if samples is None or shape.own:
        # load_dataset calls everything that a file or field holds `train`; cruijff_kit's own data sets name the split
        usual = split if shape.own else "train"
        found.append(Expectation("dataset_ext", (node, "split"), usual, absent_is="train", optional=True))
    folder = run.checkpoint_dir
    if shape.own and folder is not None:
        found.append(Expectation("model_checkpoint", (node, "model_path"), folder, Kind.PATH))
    return found


def _kind(*, present: bool) -> Kind:
    return Kind.SAME if present else Kind.ABSENT


def _prompts(run: PlannedRun, shape: Shape) -> list[Expectation]:
    found = []
    system = run.value("system_prompt") or None
    places = [shape.system_prompt] if shape.system_prompt else ["new_system_prompt", "system_prompt"]
    note = "" if shape.system_prompt else f"{shape.component} has no place for a system prompt"
    if "system_prompt" in run.settings:
        found += [
            Expectation("system_prompt", ("dataset", key), system, _kind(present=system is not None), note=note)
            for key in places
        ]
    prompt = run.value("prompt")
    if prompt and shape.own:
        found.append(Expectation("prompt", ("dataset", "prompt"), prompt))
    elif prompt and prompt != PLAIN_PROMPT:
        before, _, after = str(prompt).partition(PLAIN_PROMPT)
        place: Path = ("tokenizer", "prompt_template", "user")
        found += [
            Expectation("prompt", (*place, index), part, note="torchtune takes a prompt as the tokenizer's template")
            for index, part in enumerate((before, after))
        ]
    return found


def _columns(run: PlannedRun, shape: Shape) -> list[Expectation]:
    found = []
    for setting, place, usual in (("input_key", shape.input_key, "input"), ("output_key", shape.output_key, "output")):
        named = run.value(setting)
        has_usual = place is not None and (shape.own or place[0] == "column_map")
        if place is not None and (named or has_usual):
            absent = usual if has_usual else None
            found.append(Expectation(setting, ("dataset", *place), named or usual, absent_is=absent, optional=True))
        elif named and named != usual:
            note = f"{shape.component} has no such column"
            found.append(Expectation(setting, ("dataset", setting), named, note=note))
    return found


def _train_on_input(run: PlannedRun, shape: Shape) -> Expectation:
    path = ("dataset", "train_on_input")
    if shape.train_on_input:
        return Expectation("train_on_input", path, run.value("train_on_input"), absent_is=False)
    return Expectation("train_on_input", path, None, Kind.ABSENT, note=f"{shape.component} takes no train_on_input")


def _validation(run: PlannedRun, shape: Shape) -> list[Expectation]:
    setting, path = "run_val_every_n_steps", ("run_val_every_n_steps",)
    if setting not in run.settings:
        return []
    every = run.value(setting)
    if not every:
        return [
            Expectation(setting, path, None, Kind.ABSENT),
            Expectation(setting, ("dataset_val",), None, Kind.ABSENT),
        ]
    return [Expectation(setting, path, every), *_node(run, shape, "dataset_val", "validation")]
