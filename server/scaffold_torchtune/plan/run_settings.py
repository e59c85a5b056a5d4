"""All settings of one run, each with its source; and what an external setup_finetune.py makes of them.

Each is the row's, else Configuration's, else claude.local.md's, else the operator's plain template's, else a default.
An external script has defaults and outputs of its own; what it has no option for, the line that submits can hand over
instead, as far as sbatch or the job takes it.
"""

import math
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Finding, Scalar, finding, shown
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
from scaffold_torchtune.settings.kinds import ValueKind
from scaffold_torchtune.settings.parameters import ADOPTED, KEYS, OF_LOCAL, PARAMETERS, SUBMITTED
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.torchtune_facts import FULL, LORA, OF_LORA, find_model, method_of, recipe_for_gpus
from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch

OWN_DATA_SETS: Final = ("chat_completion", "text_completion")
"""cruijff_kit's own data sets, which come with its setup_finetune.py."""

_OF_OWN_DATA_SETS: Final = frozenset({"prompt", "input_key", "output_key"})

# What the versions of cruijff_kit's script write that have no option for it: its templates finetune_template.yaml and
# finetune_template.slurm, the same in all versions that lack the option (October 2025 to August 2026).
_FIXED: Final[dict[str, Scalar]] = {
    "torchtune_model_name": "Llama-3.2-1B-Instruct",
    "model_checkpoint": "Llama-3.2-1B-Instruct",
    "max_seq_len": 2048,
    "weight_decay": 0.01,
    "lora_attn_modules": "q_proj,v_proj,output_proj",
    "apply_lora_to_mlp": True,
    "apply_lora_to_output": False,
    "lora_dropout": 0.0,
    "wandb_mode": "offline",
    "gradient_accumulation_steps": 1,
    "seed": 1234,
    "resume_from_checkpoint": False,
    "packed": True,  # until they have the option `prompt`
    "mem": "8G",
}

# What changes the training and is easily taken for given.
_CHANGES_TRAINING: Final = (
    "lora_alpha", "lora_attn_modules", "apply_lora_to_mlp", "lora_dropout", "lr_scheduler", "num_warmup_steps",
    "weight_decay", "gradient_accumulation_steps", "max_seq_len", "seed",
)  # fmt: skip

# These defaults are the same in every version of cruijff_kit's setup_finetune.py.
_SAME_IN_ALL: Final = ("lora_rank", "lr", "time", "gpus")
_TYPES: Final[dict[ValueKind, tuple[type, ...]]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def script_defaults(interface: Interface | None) -> dict[str, Setting]:
    """Return what each setting is where nobody gives it; without an interface, as the bundled setup_finetune has it."""
    if interface is None:
        values = {name: parameter.default for name, parameter in PARAMETERS.items()}
    elif interface.options is None:
        values = {name: PARAMETERS[name].default for name in _SAME_IN_ALL}
    else:
        options = interface.options
        values = {name: options[name].default for name in ADOPTED if name in options}
        # Versions differ, and forks may: a default of another type is none.
        values = {k: v for k, v in values.items() if type(v) in _TYPES.get(PARAMETERS[k].kind, (str,))}
        values |= {name: value for name, value in fixed_by_script(interface).items() if name in ADOPTED}
    source = Source(kind=SourceKind.DEFAULT, note="setup_finetune's default")
    return {name: Setting(value=value, source=source) for name, value in values.items() if value is not None}


def fixed_by_script(interface: Interface) -> dict[str, Scalar]:
    """Return what a version of cruijff_kit's script always writes, as it has no option for it."""
    options = set(interface.options or ())
    if not interface.of_cruijff_kit:
        return {}
    if "prompt" in options:
        options.add("packed")
    return {name: value for name, value in _FIXED.items() if name not in options}


def script_takes(interface: Interface | None, name: str) -> bool:
    """Return whether setup_finetune takes a key; of a script that was not asked, it is taken for granted."""
    return interface is None or interface.options is None or name in interface.options


def script_output_rule(interface: Interface | None) -> str | None:
    """Return the one setting that says where outputs go, of a script that knows just one; None where it knows both."""
    known = [name for name in ("output_dir_base", "project_dir") if script_takes(interface, name)]
    return known[0] if len(known) == 1 else None


def fitted_to_script(settings: Mapping[str, Setting], interface: Interface | None) -> dict[str, Setting]:
    """Return the settings without defaults that mean nothing for this data set."""
    own = settings.get("dataset_type")
    if interface is None or (own is not None and own.value in OWN_DATA_SETS):
        return dict(settings)
    return {
        name: setting
        for name, setting in settings.items()
        if name not in _OF_OWN_DATA_SETS or setting.source.kind is not SourceKind.DEFAULT
    }


def unwritten_by_script(
    settings: Mapping[str, Setting], submitted: tuple[str, ...], interface: Interface | None
) -> tuple[str, ...]:
    """Return the settings that setup_finetune.yaml cannot or must not hold."""
    if interface is None or interface.options is None:
        return submitted
    loaded = {"modules"} if _loads_all(settings, interface) else set[str]()
    return tuple(name for name in settings if name not in interface.options or name in loaded)


def external_problems(runs: Sequence[PlannedRun], experiment: Experiment, interface: Interface | None) -> list[Finding]:
    """Return what is planned and this script cannot take, and what it needs and nobody gives."""
    if interface is None or interface.options is None:
        return []
    found: dict[tuple[str, Scalar], Finding] = {}
    for run in runs:
        for name, setting in run.settings.items():
            problem = None if name in run.submitted else _untaken(name, setting, run, interface)
            if problem is not None:
                found.setdefault((name, setting.value), problem)
    return [*found.values(), *_lacking(runs, experiment, interface)]


def external_warnings(runs: Sequence[PlannedRun], interface: Interface | None) -> Iterator[Finding]:
    """Yield what the script does in its own way, which the plan follows."""
    if interface is None:
        return
    if interface.options is None:
        chosen = [name for name in _CHANGES_TRAINING if not all(name in run.settings for run in runs)]
        if chosen:
            message = f"this setup_finetune.py has defaults of its own, not known here, for {', '.join(chosen)}"
            fix = "give in the summary what matters; what it chose stands in finetune.yaml"
            yield finding("script-writes", message, fix=fix, severity=Severity.WARNING)
        return
    always = [f"{name} {shown(value)}" for name, value in fixed_by_script(interface).items() if name in ADOPTED]
    if always:
        message = f"this setup_finetune.py has no option for, and always writes: {', '.join(always)}"
        yield finding("script-writes", message, fix="name a newer one where another value is meant")
    rule = runs[0].settings.get("project_dir")
    if rule is not None and script_output_rule(interface) and rule.source.kind is not SourceKind.DERIVED:
        folder = "/".join([rule.text, runs[0].text("experiment_name"), "RUN", "artifacts"])
        message = f"outputs go to {folder}: this setup_finetune.py lays them out so, below the output base directory"
        yield finding("script-writes", message, at=rule.source, fix="nothing")


def _untaken(name: str, setting: Setting, run: PlannedRun, interface: Interface) -> Finding | None:
    if name == "modules":
        return _conda_dropped(setting, run, interface)
    if script_takes(interface, name) or name == "checkpoint_files":  # whether it names them all the same, a trial shows
        return None
    value = fixed_by_script(interface).get(name)
    if name == "lora_alpha" and interface.of_cruijff_kit:
        value = 2 * run.settings["lora_rank"].integer
    if setting.value == value:
        return None
    always = f"; it always writes {shown(value)}" if value is not None else ""
    message = f"{name} is planned as {shown(setting.value)}, but this setup_finetune.py has no way to take it{always}"
    change = f"take it out of {setting.source.file or 'the documents'}" if value is None else f"plan {shown(value)}"
    fix = f"{change}, name a newer setup_finetune.py, or use --setup-script bundled"
    return _untaken_setting(name, message, fix, setting, value)


def _untaken_setting(name: str, message: str, fix: str, setting: Setting, expected: Scalar) -> Finding:
    at, actual = setting.source, setting.value
    return finding("untaken-setting", message, field=name, expected=expected, actual=actual, at=at, fix=fix)


def _loads_all(settings: Mapping[str, Setting], interface: Interface) -> bool:
    """Whether the script's SLURM template just loads what is planned: then setup_finetune.yaml must not have it."""
    planned = settings.get("modules")
    names = tuple(part.strip() for part in planned.text.split(",")) if planned else ()
    return interface.drops_conda and bool(names) and names == interface.modules


def _conda_dropped(setting: Setting, run: PlannedRun, interface: Interface) -> Finding | None:
    conda = run.settings.get("conda_env")
    if not interface.drops_conda or not setting.value or conda is None or run.settings.get("venv"):
        return None
    if _loads_all(run.settings, interface):
        return None
    loads = ", ".join(interface.modules)
    message = (
        f"modules are planned ({shown(setting.value)}), and this setup_finetune.py then deletes each line of the SLURM"
        f" script that contains 'conda', the activation of {shown(conda.value)} too"
    )
    change = f"plan the module that it loads by itself ({loads}), " if loads else ""
    fix = f"{change}name the environment as a venv, or use --setup-script bundled"
    return _untaken_setting("modules", message, fix, setting, loads or None)


def _lacking(runs: Sequence[PlannedRun], experiment: Experiment, interface: Interface) -> list[Finding]:
    """Options that the script requires and nobody gives.

    Of cruijff_kit's newer versions dataset_type is one, though not for argparse: they end with an error without it.
    """
    options = interface.options or {}
    required = {name for name, option in options.items() if option.required}
    if interface.of_cruijff_kit and "dataset_type" in options and options["dataset_type"].default is None:
        required.add("dataset_type")
    found = Collector(experiment.summary_file)
    for name in sorted(required - {name for run in runs for name in run.settings}):
        choices = options[name].choices or (OWN_DATA_SETS if name == "dataset_type" else ())
        message = f"this setup_finetune.py requires {name}, and no document gives it"
        fix = f"give {name} in Configuration > Training, e.g. `- **{name}:** VALUE`; or use --setup-script bundled"
        found.add("missing-field", message, field=name, expected=", ".join(choices) or None, fix=fix)
    return found.findings


def settings_submitted(settings: Mapping[str, Setting], interface: Interface | None) -> tuple[str, ...]:
    """Return the settings of a run that the line that submits hands over, as the script has no option for them."""
    if interface is None:
        return ()
    options = interface.options or {}
    return tuple(name for name in settings if name in SUBMITTED and name not in options)


def submit_warnings(runs: Sequence[PlannedRun]) -> Iterator[Finding]:
    """Yield what the line that submits hands over, in one finding."""
    values = {(name, run.settings[name].value): run.settings[name] for run in runs for name in run.submitted}
    handed_over = [f"{name} {shown(value)}" for name, value in values if (name, value) != ("offline", False)]
    if handed_over:
        message = (
            f"this setup_finetune.py has no option for {', '.join(handed_over)}: the line that submits the runs says so"
            " instead, to sbatch or in the environment of the job; submit with that line"
        )
        at = next(iter(values.values())).source
        yield finding("submitted-with", message, at=at, fix="nothing, if the runs are submitted with that line")


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
        return script_defaults(self.interface)


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
    if method_of(found.text) == LORA:
        return None if is_full(named) else named
    return None if gpus is None else _with(found, recipe_for_gpus(found.text, gpus.integer))


def is_full(recipe: Setting | None) -> bool:
    """Return whether a recipe trains all weights, without an adapter."""
    return recipe is not None and method_of(recipe.text) == FULL


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
        left_out |= set(OF_LORA) - run.parameters.keys()
    values = ((name, value_or_default(name, run, experiment, context)) for name in KEYS if name not in left_out)
    found = {name: setting for name, setting in values if setting is not None}
    if "conda_env" in experiment.environment and found.get("venv") == experiment.template.get("venv"):
        found.pop("venv", None)
    found = named(found, "")
    if script_takes(context.interface, "experiment_name"):
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
    fitted = fitted_to_script(found, context.interface)
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
    return offline.value is False and said is None and script_takes(context.interface, "wandb_mode")


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
    rule = script_output_rule(context.interface)
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
    method = method_of(other) or other or LORA
    usual = ("model", "lora_rank", "lr", "batch_size", "epochs")
    names = dict.fromkeys((*usual, *columns, *(["recipe"] if other else [])))
    values = {name: setting.value for name, setting in settings.items()}
    values |= {"model": values["torchtune_model_name"], "dataset": data.value, "recipe": method}
    return {name: values[name] for name in names if name in values}
