"""All settings of one run, each with its source.

Each is the row's, else Configuration's, else claude.local.md's, else the operator's plain template's, else a default.
"""

import math
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import (
    CheckpointState,
    Experiment,
    Interface,
    PlannedRun,
    Run,
    Setting,
    Source,
    SourceKind,
)
from scaffold_torchtune.plan import external
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.parameters import KEYS, OF_LOCAL
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch
from scaffold_torchtune.torchtune_facts.model_registry import find_model

# Of these a template has but those of another experiment; the plan has the ones of this.
_PLANNED_OTHERWISE: Final = frozenset({"experiment_name", "project_dir", "custom_recipe", "checkpoint_files"})


_ROUNDING: Final = 1e-9  # a float's own error must not make 0.1 x 30 steps into 4


@dataclass(frozen=True)
class PlanContext:
    """Where the experiment lies, and what was planned there before. Paths are absolute.

    `inputs` maps input files to the SHA-256 of their bytes. `legend` is that of the plan that lies there. `known` are
    the runs that were scaffolded there, by directory, which they keep; `ties` is what the user said of rows and
    directories that are equally near.
    `interface` is what the external script takes; None for the bundled setup_finetune. `checkpoint` returns what lies
    in the directory of a base model. `train_rows` counts the samples of a data set's part for training, given its path,
    its format and the settings of all runs that are trained on it; None where it cannot be seen.
    """

    experiment_dir: str
    local_dir: str
    templates_dir: str
    is_file: Callable[[str], bool]
    inputs: Mapping[str, str] = field(default_factory=dict)
    legend: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, PlannedRun] = field(default_factory=dict)
    ties: str = ""
    interface: Interface | None = None
    checkpoint: Callable[[str], CheckpointState] = lambda _: CheckpointState(absent=True)
    train_rows: Callable[[str, str, Sequence[Mapping[str, Setting]]], int | None] = lambda _path, _extension, _runs: (
        None
    )

    @cached_property
    def defaults(self) -> Mapping[str, Setting]:
        """What a setting is where nobody asked for it."""
        return external.defaults(self.interface)


def given_values(name: str, run: Run, experiment: Experiment) -> list[Setting]:
    """Return all that is given of a parameter, the one that counts first: row, Configuration, local file, template."""
    local = experiment.environment.get(name) if name in OF_LOCAL else None
    given = (run.parameters.get(name), experiment.config.get(name), local, experiment.template.get(name))
    return [each for each in given if each is not None]


def own_value(name: str, run: Run, experiment: Experiment) -> Setting | None:
    """Return what the documents give a run for a parameter: the row, else Configuration, else claude.local.md."""
    local = experiment.environment.get(name) if name in OF_LOCAL else None
    return run.parameters.get(name) or experiment.config.get(name) or local


def value_or_default(name: str, run: Run, experiment: Experiment, context: PlanContext) -> Setting | None:
    """Return what the documents give for a parameter, else the template, else its default, else None."""
    return own_value(name, run, experiment) or experiment.template.get(name) or context.defaults.get(name)


def other_recipe(run: Run, experiment: Experiment, context: PlanContext) -> Setting | None:
    """Return the recipe of a run without LoRA, or that a template names; None: it follows from the GPUs.

    A document that says LoRA leaves it to the template to name the recipe for that.
    """
    found, named = own_value("recipe", run, experiment), experiment.template.get("custom_recipe")
    gpus = value_or_default("gpus", run, experiment, context)
    if found is None:
        return named
    if recipes.method_of(found.text) == recipes.LORA:
        return None if is_full(named) else named
    return None if gpus is None else _with(found, recipes.for_gpus(found.text, gpus.integer))


def is_full(recipe: Setting | None) -> bool:
    """Return whether a recipe trains all weights, without an adapter."""
    return recipe is not None and recipes.method_of(recipe.text) == recipes.FULL


def data_path(run: Run, experiment: Experiment, experiment_dir: str) -> Setting:
    """Return the run's data set, absolute. A relative path is taken from the experiment directory."""
    found = own_value("dataset", run, experiment) or (experiment.dataset.path if experiment.dataset else None)
    assert found is not None, "parse requires a data set"  # noqa: S101 - an invariant between stages
    return _with(found, posixpath.normpath(posixpath.join(experiment_dir, found.text)))


def settings_of(run: Run, data: Setting, experiment: Experiment, context: PlanContext) -> dict[str, Setting]:
    """Return all that is planned of the run, in the order of setup_finetune.yaml.

    The run has no name yet, and a warm-up ratio is no number of steps: `warmed` makes it one, when the settings of all
    runs are known.
    """
    recipe = other_recipe(run, experiment, context)
    left_out = set(_PLANNED_OTHERWISE)
    if is_full(recipe):  # what a row gives for the adapter is refused, and stays so that it tells rows apart
        left_out |= set(recipes.OF_LORA) - run.parameters.keys()
    values = ((name, value_or_default(name, run, experiment, context)) for name in KEYS if name not in left_out)
    found = {name: setting for name, setting in values if setting is not None}
    if "conda_env" in experiment.environment and found.get("venv") == experiment.template.get("venv"):
        found.pop("venv", None)
    found = named(found, "")
    if external.takes(context.interface, "experiment_name"):
        found["experiment_name"] = _derived(experiment.name, "the summary's title")
    found |= _output(found.pop("output_dir_base", None), experiment, context)
    found |= _data(data) | _model(run, experiment, context)
    found |= _checkpoint_files(found, context)
    if recipe is not None:
        found["custom_recipe"] = recipe
    if context.interface is None and not is_full(recipe) and "lora_alpha" not in found:
        found["lora_alpha"] = _derived(2 * found["lora_rank"].integer, "2 x lora_rank")
    if (offline := found.get("offline")) is not None and _is_online(offline, run, experiment, context):
        found["wandb_mode"] = _with(offline, "online")
    found |= experiment.template_others
    fitted = external.fitted(found, context.interface)
    return {name: fitted[name] for name in (*KEYS, *experiment.template_others) if name in fitted}


def warmed(
    runs: Sequence[Run],
    settings: Sequence[Mapping[str, Setting]],
    data: Sequence[Setting],
    experiment: Experiment,
    context: PlanContext,
) -> list[dict[str, Setting]]:
    """Return the settings of runs with the steps that their warm-up ratios mean, where there are any."""
    found: list[dict[str, Setting]] = []
    for run, own, path in zip(runs, settings, data, strict=True):
        same = [other for other, each in zip(settings, data, strict=True) if each.value == path.value]
        count = partial(context.train_rows, path.text, own["dataset_ext"].text, same)
        warmup = warmup_steps(run, own, experiment, count)
        values = own if warmup is None else {**own, "num_warmup_steps": warmup}
        found.append({name: values[name] for name in (*KEYS, *experiment.template_others) if name in values})
    return found


def _is_online(offline: Setting, run: Run, experiment: Experiment, context: PlanContext) -> bool:
    """Whether the jobs can reach Weights & Biases, as their nodes are said not to be offline and no mode is given."""
    said = own_value("wandb_mode", run, experiment) or experiment.template.get("wandb_mode")
    return offline.value is False and said is None and external.takes(context.interface, "wandb_mode")


def warmup_ratio(run: Run, experiment: Experiment) -> Setting | None:
    """Return the part of the steps that warm up, where no document gives their number."""
    return own_value("warmup_ratio", run, experiment) or experiment.template.get("warmup_ratio")


def warmup_steps(
    run: Run, settings: Mapping[str, Setting], experiment: Experiment, train_rows: Callable[[], int | None]
) -> Setting | None:
    """Return the steps that a warm-up ratio means, rounded up as transformers does; None where they are not known.

    The steps of packed samples follow from their lengths in tokens, and those of a data set that is not seen from
    nothing.
    """
    ratio = warmup_ratio(run, experiment)
    if ratio is None or isinstance(ratio.value, str | bool):
        return None
    total = 0
    if ratio.value:
        rows = train_rows()
        packed = settings.get("packed")
        if rows is None or (packed is not None and packed.value is True):
            return None
        total = _steps(settings, rows)
    steps = math.ceil(float(ratio.value or 0) * total - _ROUNDING)
    note = f"{ratio.source.note}: {ratio.value} of {total} steps" if total else ratio.source.note
    return Setting(value=steps, source=ratio.source.model_copy(update={"note": note}))


def _steps(settings: Mapping[str, Setting], rows: int) -> int:
    """Return the optimizer steps of all epochs, of so many samples."""
    limit = settings.get("max_steps_per_epoch")
    return number(settings, "epochs") * steps_per_epoch(
        min(rows, number(settings, "training_samples", rows)),
        batch_size=number(settings, "batch_size"),
        accumulation=number(settings, "gradient_accumulation_steps"),
        processes=number(settings, "gpus"),
        limit=None if limit is None else limit.integer,
    )


def number(settings: Mapping[str, Setting], name: str, usual: int = 1) -> int:
    """Return a setting that is a whole number; what is usual where it is not given."""
    found = settings.get(name)
    return found.integer if found is not None and type(found.value) is int else usual


def named(settings: Mapping[str, Setting], directory: str) -> dict[str, Setting]:
    """Return the settings with the name of the run's directory, which is its name for Weights & Biases."""
    return {**settings, "my_wandb_run_name": _derived(directory, "the run directory's name")}


def _output(base: Setting | None, experiment: Experiment, context: PlanContext) -> dict[str, Setting]:
    """Where outputs go: below the base that was named, else, in the YAML form, into the run's own artifacts/.

    An external script may know one of the two ways alone; then that is how it is, below the same directory.
    """
    rule = external.output_rule(context.interface)
    if base is not None:
        return {rule or "output_dir_base": _with(base, _absolute(base, experiment, context))}
    note = "no output base directory is named: each run's own artifacts/"
    if rule == "output_dir_base":
        note = "no output base directory is named, and this setup_finetune.py knows no other way"
    folder, name = posixpath.split(context.experiment_dir)
    return {rule or "project_dir": _derived(folder, note), "experiment_name": _derived(name, note)}


def _absolute(path: Setting, experiment: Experiment, context: PlanContext) -> str:
    """A path of a document, taken from the directory of that document."""
    folder = context.local_dir if path.source.file == experiment.local_file else context.experiment_dir
    return posixpath.normpath(posixpath.join(folder, path.text))


def _with(setting: Setting, value: Scalar) -> Setting:
    return Setting(value=value, source=setting.source)


def _derived(value: Scalar, note: str) -> Setting:
    return Setting(value=value, source=Source(kind=SourceKind.DERIVED, note=note))


def _data(data: Setting) -> dict[str, Setting]:
    label, extension = data_label(data.text)
    return {
        "input_dir_base": _with(data, posixpath.join(posixpath.dirname(data.text), "")),
        "input_formatting": _derived("", "the data set's path is complete"),
        "dataset_label": _with(data, label),
        "dataset_ext": _with(data, extension),
    }


def _model(run: Run, experiment: Experiment, context: PlanContext) -> dict[str, Setting]:
    path = next(m.path for m in experiment.models if m.name == run.model)
    folder, name = posixpath.split(_absolute(path, experiment, context))
    return {
        "torchtune_model_name": run.parameters["model"],
        "model_checkpoint": _with(path, name),
        "models_dir": _with(path, folder),
    }


def _checkpoint_files(settings: Mapping[str, Setting], context: PlanContext) -> dict[str, Setting]:
    """The files of a base model that lies here under other names than it is published: saved anew, or by torchtune.

    What a script that could not be asked would make of the key, nobody knows.
    """
    if context.interface is not None and context.interface.options is None:
        return {}
    folder, name = settings["models_dir"].text, settings["model_checkpoint"].text
    entry, there = find_model(settings["torchtune_model_name"].text), context.checkpoint(posixpath.join(folder, name))
    if entry is None or not there.weights or all(file in there.files for file in entry.file_names):
        return {}
    return {"checkpoint_files": _derived(",".join(there.weights), "as they lie in the model's directory")}


def columns_of(experiment: Experiment) -> tuple[str, ...]:
    """Return the columns of the runs table as settings that tell runs apart: a warm-up ratio is steps then."""
    return tuple(dict.fromkeys("num_warmup_steps" if c == "warmup_ratio" else c for c in experiment.columns))


def parameters_of(columns: tuple[str, ...], settings: Mapping[str, Setting], data: Setting) -> dict[str, Scalar]:
    """Return the run's hyperparameters as an experimenter lists them: the usual ones and every other column.

    `recipe` is the method, whatever the number of GPUs; of LoRA it is listed only where it is a column.
    """
    other = settings["custom_recipe"].text if "custom_recipe" in settings else ""
    method = recipes.method_of(other) or other or recipes.LORA
    usual = ("model", "lora_rank", "lr", "batch_size", "epochs")
    names = dict.fromkeys((*usual, *columns, *(["recipe"] if other else [])))
    values = {name: setting.value for name, setting in settings.items()}
    values |= {"model": values["torchtune_model_name"], "dataset": data.value, "recipe": method}
    return {name: values[name] for name in names if name in values}
