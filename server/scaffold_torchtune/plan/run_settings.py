"""All settings of one run, each with its source."""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.models import Experiment, Interface, Plan, Run, Setting, Source, SourceKind
from scaffold_torchtune.plan import external
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.parameters import KEYS, OF_LOCAL
from scaffold_torchtune.system.layout import data_label

# Where a plan is made.


@dataclass(frozen=True)
class Place:
    """Where the experiment lies, and what was planned there before. Paths are absolute.

    `inputs` maps input files to the SHA-256 of their bytes. `previous` is the plan that lies there, if any.
    `interface` is what the external script takes; None for the bundled setup_finetune.
    """

    experiment_dir: str
    local_dir: str
    templates_dir: str
    is_file: Callable[[str], bool]
    inputs: Mapping[str, str] = field(default_factory=dict)
    previous: Plan | None = None
    interface: Interface | None = None

    @cached_property
    def defaults(self) -> Mapping[str, Setting]:
        """What a setting is where nobody asked for it."""
        return external.defaults(self.interface)


# All settings of one run, each with its source.
#
# The row, else Configuration, else claude.local.md, else the operator's plain template, else a default.

_PLANNED_OTHERWISE: Final = frozenset({"experiment_name", "project_dir", "custom_recipe"})


def own_value(name: str, run: Run, experiment: Experiment) -> Setting | None:
    """What the documents say of a parameter for this run: the row, else Configuration, else claude.local.md."""
    if name in run.parameters:
        return run.parameters[name]
    if name in experiment.config:
        return experiment.config[name]
    return experiment.environment.get(name) if name in OF_LOCAL else None


def value_or_default(name: str, run: Run, experiment: Experiment, place: Place) -> Setting | None:
    """What the documents say of a parameter, else the template, else its default, else None."""
    found = own_value(name, run, experiment) or experiment.template.get(name)
    return found or place.defaults.get(name)


def other_recipe(run: Run, experiment: Experiment, place: Place) -> Setting | None:
    """The recipe of a run that is not trained with LoRA, or that a template names; None: it follows from the GPUs.

    A document that says LoRA leaves it to the template to name the recipe for that.
    """
    found, named = own_value("recipe", run, experiment), experiment.template.get("custom_recipe")
    gpus = value_or_default("gpus", run, experiment, place)
    if found is None:
        return named
    if recipes.method_of(str(found.value)) == recipes.LORA:
        return None if named is None or is_full(named) else named
    return None if gpus is None else _with(found, recipes.for_gpus(str(found.value), int(str(gpus.value))))


def is_full(recipe: Setting | None) -> bool:
    """Whether a recipe trains all weights, without an adapter."""
    return recipe is not None and recipes.method_of(str(recipe.value)) == recipes.FULL


def data_path(run: Run, experiment: Experiment, experiment_dir: str) -> Setting:
    """The run's data set, absolute. A relative path is taken from the experiment directory."""
    found = own_value("dataset", run, experiment) or (experiment.dataset.path if experiment.dataset else None)
    assert found is not None, "parse requires a data set"  # noqa: S101 - an invariant between stages
    return _with(found, posixpath.normpath(posixpath.join(experiment_dir, str(found.value))))


def settings_of(run: Run, data: Setting, experiment: Experiment, place: Place) -> dict[str, Setting]:
    """Everything that is planned of the run, in the order of setup_finetune.yaml. The run has no name yet."""
    found: dict[str, Setting] = {}
    recipe = other_recipe(run, experiment, place)
    # What a row says of the adapter although there is none is refused, and stays so that it tells rows apart.
    beside = frozenset(recipes.OF_LORA) - run.parameters.keys() if is_full(recipe) else frozenset()
    for name in KEYS:
        setting = value_or_default(name, run, experiment, place) if name not in beside else None
        if setting is not None:
            found[name] = setting
    # Of these a template has but those of another experiment; the plan has the ones of this.
    found = {name: setting for name, setting in found.items() if name not in _PLANNED_OTHERWISE}
    if "conda_env" in experiment.environment and found.get("venv") == experiment.template.get("venv"):
        found.pop("venv", None)
    found |= _names(experiment, place)
    found |= _output(found.pop("output_dir_base", None), experiment, place)
    found |= _data(data) | _model(run, experiment, place)
    if recipe is not None:
        found["custom_recipe"] = recipe
    if place.interface is None and not is_full(recipe) and "lora_alpha" not in found:
        found["lora_alpha"] = _derived(2 * int(str(found["lora_rank"].value)), "2 x lora_rank")
    found |= experiment.template_others
    fitted = external.fitted(found, place.interface)
    return {name: fitted[name] for name in (*KEYS, *experiment.template_others) if name in fitted}


def named(settings: Mapping[str, Setting], directory: str) -> dict[str, Setting]:
    """The settings with the name of the run's directory, which is its name for Weights & Biases."""
    return {**settings, "my_wandb_run_name": _derived(directory, "the run directory's name")}


def _output(base: Setting | None, experiment: Experiment, place: Place) -> dict[str, Setting]:
    """Where outputs go: below the base that was named, else, in the YAML form, into the run's own artifacts/.

    An external script may know one of the two ways alone; then that is how it is, below the same directory.
    """
    rule = external.output_rule(place.interface)
    if base is not None:
        return {rule or "output_dir_base": _with(base, _absolute(base, experiment, place))}
    note = "no output base directory is named: each run's own artifacts/"
    if rule == "output_dir_base":
        note = "no output base directory is named, and this setup_finetune.py knows no other way"
    folder, name = posixpath.split(place.experiment_dir)
    return {rule or "project_dir": _derived(folder, note), "experiment_name": _derived(name, note)}


def _absolute(path: Setting, experiment: Experiment, place: Place) -> str:
    """A path of a document, taken from the directory of that document."""
    folder = place.local_dir if path.source.file == experiment.local_file else place.experiment_dir
    return posixpath.normpath(posixpath.join(folder, str(path.value)))


def _with(setting: Setting, value: Scalar) -> Setting:
    return Setting(value=value, source=setting.source)


def _derived(value: Scalar, note: str) -> Setting:
    return Setting(value=value, source=Source(kind=SourceKind.DERIVED, note=note))


def _names(experiment: Experiment, place: Place) -> dict[str, Setting]:
    found = named({}, "")
    if external.takes(place.interface, "experiment_name"):
        found["experiment_name"] = _derived(experiment.name, "the summary's title")
    return found


def _data(data: Setting) -> dict[str, Setting]:
    label, extension = data_label(str(data.value))
    return {
        "input_dir_base": _with(data, posixpath.join(posixpath.dirname(str(data.value)), "")),
        "input_formatting": _derived("", "the data set's path is complete"),
        "dataset_label": _with(data, label),
        "dataset_ext": _with(data, extension),
    }


def _model(run: Run, experiment: Experiment, place: Place) -> dict[str, Setting]:
    path = next(m.path for m in experiment.models if m.name == run.model)
    absolute = _absolute(path, experiment, place)
    return {
        "torchtune_model_name": run.parameters["model"],
        "model_checkpoint": _with(path, posixpath.basename(absolute)),
        "models_dir": _with(path, posixpath.dirname(absolute)),
    }


def parameters_of(columns: tuple[str, ...], settings: Mapping[str, Setting], data: Setting) -> dict[str, Scalar]:
    """The run's hyperparameters as an experimenter lists them: the usual ones and every other column.

    `recipe` is the method, whatever the number of GPUs; of LoRA it is listed only where it is a column.
    """
    other = str(settings["custom_recipe"].value) if "custom_recipe" in settings else ""
    method = recipes.method_of(other) or other or recipes.LORA
    usual = ("model", "lora_rank", "lr", "batch_size", "epochs")
    names = dict.fromkeys((*usual, *columns, *(["recipe"] if other else [])))
    values = {name: setting.value for name, setting in settings.items()}
    values |= {"model": values["torchtune_model_name"], "dataset": data.value, "recipe": method}
    return {name: values[name] for name in names if name in values}
