"""The settings of a run, each with its source, and their form for an external setup_finetune.py.

By precedence, a value is from the row, Configuration, claude.local.md, the plain template, or the default. An external
script has its own defaults and outputs; the submit line can pass settings for which the script has no option, if sbatch
or the job accepts them.
"""

import math
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Finding, Scalar, few, finding, shown
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
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import ValueKind, for_each, line_of, ratio_note, to_give
from scaffold_torchtune.settings.parameters import ADOPTED, KEYS, OF_LOCAL, PARAMETERS, SUBMITTED
from scaffold_torchtune.system.layout import data_label
from scaffold_torchtune.torchtune_facts import FULL, LORA, OF_LORA, find_model, method_of, recipe_for_gpus
from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch

OWN_DATA_SETS: Final = ("chat_completion", "text_completion")
"""The data set classes that come with cruijff_kit's setup_finetune.py."""

_OF_OWN_DATA_SETS: Final = frozenset({"prompt", "input_key", "output_key"})

# The values that versions of cruijff_kit's script without an option for them write, from its finetune_template.yaml and
# finetune_template.slurm, the same in all versions that lack the option (October 2025 to August 2026). The template of
# the script in use overrides them.
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
    "packed": True,  # in versions without the option `prompt`
    "mem": "8G",
}

# Settings that change the training and are easily taken for granted.
_CHANGES_TRAINING: Final = (
    "lora_alpha", "lora_attn_modules", "apply_lora_to_mlp", "lora_dropout", "lr_scheduler", "num_warmup_steps",
    "weight_decay", "gradient_accumulation_steps", "max_seq_len", "seed",
)  # fmt: skip

# These defaults are the same in every version of cruijff_kit's setup_finetune.py.
_SAME_IN_ALL: Final = ("lora_rank", "lr", "time", "gpus")
_TYPES: Final[dict[ValueKind, tuple[type, ...]]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def script_defaults(interface: Interface | None) -> dict[str, Setting]:
    """Return the default of each setting; without an interface, of the bundled setup_finetune."""
    if interface is None:
        values = {name: parameter.default for name, parameter in PARAMETERS.items()}
    elif interface.options is None:
        values = {name: PARAMETERS[name].default for name in _SAME_IN_ALL}
    else:
        options = interface.options
        values = {name: options[name].default for name in ADOPTED if name in options}
        # Versions and forks differ: ignore a default of another type.
        values = {k: v for k, v in values.items() if type(v) in _TYPES.get(PARAMETERS[k].kind, (str,))}
        values |= {name: value for name, value in fixed_by_script(interface).items() if name in ADOPTED}
    source = Source(kind=SourceKind.DEFAULT, note="setup_finetune's default")
    return {name: Setting(value=value, source=source) for name, value in values.items() if value is not None}


def fixed_by_script(interface: Interface) -> dict[str, Scalar]:
    """Return the values that a version of cruijff_kit's script always writes, because it has no options for them."""
    options = set(interface.options or ())
    if not interface.of_cruijff_kit:
        return {}
    if "prompt" in options:
        options.add("packed")
    written = _FIXED | (interface.template or {})
    return {name: written[name] for name in _FIXED if name not in options}


def script_takes(interface: Interface | None, name: str) -> bool:
    """Return whether setup_finetune has a key; assume it of a script with unknown options."""
    return interface is None or interface.options is None or name in interface.options


def script_output_rule(interface: Interface | None) -> str | None:
    """Return the only setting for outputs that a script supports; None if it supports both."""
    known = [name for name in ("output_dir_base", "project_dir") if script_takes(interface, name)]
    return known[0] if len(known) == 1 else None


def fitted_to_script(settings: Mapping[str, Setting], interface: Interface | None) -> dict[str, Setting]:
    """Return the settings without defaults that do not apply to this data set."""
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
    """Return planned settings that the script does not accept, and missing settings that it requires."""
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
    """Yield findings about the script's own behaviour, which the plan follows."""
    if interface is None:
        return
    yield from _unknown_defaults(runs, interface)
    if interface.options is None:
        return
    fixed = [pair for pair in fixed_by_script(interface).items() if pair[0] in ADOPTED]
    if fixed:
        values = few([kinds.as_line(*pair, yaml=True) for pair in fixed], len(fixed))
        message = f"the setup_finetune.py in use has no option for some settings and always writes {values}"
        fix = "use a newer version of the script if a different value is intended"
        yield finding("script-writes", message, fix=fix)
    rule = runs[0].settings.get("project_dir")
    if rule is not None and script_output_rule(interface) and rule.source.kind is not SourceKind.DERIVED:
        folder = "/".join([rule.text, runs[0].text("experiment_name"), "RUN", "artifacts"])
        message = f"outputs go to {folder}: the setup_finetune.py in use has its own layout for outputs"
        yield finding("script-writes", message, at=rule.source, fix="no action needed")


def _unknown_defaults(runs: Sequence[PlannedRun], interface: Interface) -> Iterator[Finding]:
    """Yield a warning about settings whose values only the script knows; those of cruijff_kit's script are known."""
    chosen = [name for name in _CHANGES_TRAINING if not all(name in run.settings for run in runs)]
    if interface.of_cruijff_kit or not chosen:
        return
    message = f"the setup_finetune.py in use applies its own, unknown defaults for {few(chosen, len(chosen))}"
    settable = [name for name in chosen if script_takes(interface, name)]
    fix = "finetune.yaml shows what the script chose"
    if settable:
        which = few(settable, len(settable), last="or") if settable != chosen else "any of these"
        fix = f"set {which} in the summary if the default matters; {fix}"
    if settable != chosen:
        fix += "; use `--setup-script bundled` to set values for which the script has no option"
    yield finding("script-writes", message, fix=fix, severity=Severity.WARNING)


_TRIED: Final = frozenset({"checkpoint_files", "gradient_accumulation_steps"})
"""Derived settings that a script without an option for them may write anyway, which a trial shows."""


def _untaken(name: str, setting: Setting, run: PlannedRun, interface: Interface) -> Finding | None:
    if name == "modules":
        return _conda_dropped(setting, run, interface)
    if script_takes(interface, name) or (name in _TRIED and setting.source.kind is SourceKind.DERIVED):
        return None
    value = fixed_by_script(interface).get(name)
    if name == "lora_alpha" and interface.of_cruijff_kit:
        value = 2 * run.settings["lora_rank"].integer
    if setting.value == value:
        return None
    always = f"; it always writes {shown(value)}" if value is not None else ""
    message = f"the setup_finetune.py in use has no option for {name} (planned: {shown(setting.value)}){always}"
    change = f"remove {name} from {setting.source.file or 'the documents'}" if value is None else f"use {shown(value)}"
    fix = f"{change}, use a newer setup_finetune.py, or use `--setup-script bundled`"
    return _untaken_setting(name, message, fix, setting, value)


def _untaken_setting(name: str, message: str, fix: str, setting: Setting, expected: Scalar) -> Finding:
    at, actual = setting.source, setting.value
    return finding("untaken-setting", message, field=name, expected=expected, actual=actual, at=at, fix=fix)


def _loads_all(settings: Mapping[str, Setting], interface: Interface) -> bool:
    """Return whether the script's SLURM template already loads the planned modules, so that they must be omitted."""
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
        f"with modules ({shown(setting.value)}), the setup_finetune.py in use deletes each line of the SLURM"
        f" script that contains 'conda', including the activation of {shown(conda.value)}"
    )
    change = f"use only the modules that the script loads anyway ({loads}), " if loads else ""
    fix = f"{change}specify the environment as a venv, or use `--setup-script bundled`"
    return _untaken_setting("modules", message, fix, setting, loads or None)


def _lacking(runs: Sequence[PlannedRun], experiment: Experiment, interface: Interface) -> list[Finding]:
    """Return problems of options that the script requires and no document gives.

    Newer versions of cruijff_kit's script fail without dataset_type, although argparse does not require it.
    """
    options = interface.options or {}
    required = {name for name, option in options.items() if option.required}
    if interface.of_cruijff_kit and "dataset_type" in options and options["dataset_type"].default is None:
        required.add("dataset_type")
    found = Collector(experiment.summary_file)
    for name in sorted(required - {name for run in runs for name in run.settings}):
        choices = options[name].choices or (OWN_DATA_SETS if name == "dataset_type" else ())
        message = f"{name} is missing; the setup_finetune.py in use requires it"
        line = line_of(name, choices[0] if choices else "VALUE", yaml=experiment.form == "yaml")
        other = " (or another allowed value)" if len(choices) > 1 else ""
        fix = f"add {line}{other}, or use `--setup-script bundled`"
        found.add("missing-field", message, field=name, expected=", ".join(choices) or None, fix=fix)
    return found.findings


def settings_submitted(settings: Mapping[str, Setting], interface: Interface | None) -> tuple[str, ...]:
    """Return the settings that the submit line passes, because the script has no option for them."""
    if interface is None:
        return ()
    options = interface.options or {}
    return tuple(name for name in settings if name in SUBMITTED and name not in options)


def submit_warnings(runs: Sequence[PlannedRun]) -> Iterator[Finding]:
    """Yield one finding about the settings that the submit line passes."""
    values = {(name, run.settings[name].value): run.settings[name] for run in runs for name in run.submitted}
    passed = [kinds.as_line(*pair, yaml=True) for pair in values if pair != ("offline", False)]
    if passed:
        message = (
            f"the setup_finetune.py in use has no option for {few(passed, len(passed))}; the submit line passes"
            f" {'it' if len(passed) == 1 else 'them'} to sbatch or to the job's environment instead"
        )
        at = next(iter(values.values())).source
        yield finding(
            "submitted-with", message, at=at, fix="submit the runs with the line that `scaffold` and `validate` print"
        )


# A template can only have the values of another experiment for these; the plan has this experiment's.
_PLANNED_OTHERWISE: Final = frozenset({"experiment_name", "project_dir", "custom_recipe", "checkpoint_files"})


_ROUNDING: Final = 1e-9  # rounding errors must not turn 0.1 x 30 steps into 4


@dataclass(frozen=True)
class PlanContext:
    """The location of an experiment and its earlier plan. Paths are absolute.

    `inputs` maps input files to the SHA-256 of their bytes. `legend` is that of the earlier plan. `known` has the
    earlier runs by directory, which they keep; `ties` is the user's answer about rows and directories that are equally
    near. `interface` describes the external script; None for the bundled setup_finetune. `checkpoint` returns the
    contents of a base model's directory. `train_rows` counts the training samples of a data set, given its path, its
    format and the settings of all runs that are trained on it; None if it is not found on this machine.
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
        """The defaults of settings that no document gives."""
        return script_defaults(self.interface)


def given_values(name: str, run: Run, experiment: Experiment) -> list[Setting]:
    """Return all given values of a parameter, by precedence: row, Configuration, local file, template."""
    local = experiment.environment.get(name) if name in OF_LOCAL else None
    given = (run.parameters.get(name), experiment.config.get(name), local, experiment.template.get(name))
    return [each for each in given if each is not None]


def own_value(name: str, run: Run, experiment: Experiment) -> Setting | None:
    """Return a run's value from the documents: the row's, else Configuration's, else that of claude.local.md."""
    local = experiment.environment.get(name) if name in OF_LOCAL else None
    return run.parameters.get(name) or experiment.config.get(name) or local


def value_or_default(name: str, run: Run, experiment: Experiment, context: PlanContext) -> Setting | None:
    """Return a parameter's value from the documents, else the template, else its default, else None."""
    return own_value(name, run, experiment) or experiment.template.get(name) or context.defaults.get(name)


def other_recipe(run: Run, experiment: Experiment, context: PlanContext) -> Setting | None:
    """Return the recipe of a run without LoRA, or of the template; None if it follows from the number of GPUs.

    If a document only asks for LoRA, the template may name the recipe.
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
    """Return the run's data set, absolute. A relative path is relative to the experiment directory."""
    found = own_value("dataset", run, experiment) or (experiment.dataset.path if experiment.dataset else None)
    assert found is not None, "parse requires a data set"  # noqa: S101 - an invariant between stages
    return _with(found, posixpath.normpath(posixpath.join(experiment_dir, found.text)))


def settings_of(run: Run, data: Setting, experiment: Experiment, context: PlanContext) -> dict[str, Setting]:
    """Return all settings of the run, in the order of setup_finetune.yaml.

    The run has no name yet. A warm-up ratio is not yet a number of steps: `warmed` converts it when the settings of all
    runs are known.
    """
    recipe = other_recipe(run, experiment, context)
    left_out = set(_PLANNED_OTHERWISE)
    if is_full(recipe):  # values in rows are refused later, but still distinguish rows
        left_out |= set(OF_LORA) - run.parameters.keys()
    values = ((name, value_or_default(name, run, experiment, context)) for name in KEYS if name not in left_out)
    found = {name: setting for name, setting in values if setting is not None and setting.value is not None}
    if "conda_env" in experiment.environment and found.get("venv") == experiment.template.get("venv"):
        found.pop("venv", None)
    found = named(found, "")
    if script_takes(context.interface, "experiment_name"):
        found["experiment_name"] = _derived(experiment.name, "the summary's title")
    found |= _output(found.pop("output_dir_base", None), experiment, context)
    found |= _data(data) | _model(run, experiment, context)
    found |= _checkpoint_files(found, context) | _accumulation(found, run, experiment, context)
    if recipe is not None:
        found["custom_recipe"] = recipe
    ratio = lora_alpha_ratio(run, experiment)
    if not is_full(recipe) and ("lora_alpha" not in found or (ratio and not own_value("lora_alpha", run, experiment))):
        found |= _alpha(found, ratio, context)
    if (offline := found.get("offline")) is not None and _is_online(offline, run, experiment, context):
        found["wandb_mode"] = _with(offline, "online")
    found |= experiment.template_others
    fitted = fitted_to_script(found, context.interface)
    return {name: fitted[name] for name in (*KEYS, *experiment.template_others) if name in fitted}


def lora_alpha_ratio(run: Run, experiment: Experiment) -> Setting | None:
    """Return alpha as a multiple of the rank, if it is given as one."""
    return own_value("lora_alpha_ratio", run, experiment) or experiment.template.get("lora_alpha_ratio")


def _alpha(settings: Mapping[str, Setting], ratio: Setting | None, context: PlanContext) -> dict[str, Setting]:
    """Return alpha from the rank: with the given ratio, else with that of the bundled setup_finetune."""
    rank = settings.get("lora_rank")
    if rank is None or (ratio is None and context.interface is not None):
        return {}
    if ratio is None:
        return {"lora_alpha": _derived(2 * rank.integer, "2 x lora_rank")}
    factor = float(str(ratio.value))
    note = f"{ratio.source.note}: {factor:g} x lora_rank"
    alpha = max(1, round(factor * rank.integer))
    return {"lora_alpha": Setting(value=alpha, source=ratio.source.model_copy(update={"note": note}))}


def _accumulation(
    settings: Mapping[str, Setting], run: Run, experiment: Experiment, context: PlanContext
) -> dict[str, Setting]:
    """Return the gradient accumulation that a stated effective batch size requires of an external script."""
    name, size = "gradient_accumulation_steps", "effective_batch_size"
    said, steps = own_value(size, run, experiment) or experiment.template.get(size), number(settings, name)
    is_given = name in settings and settings[name].source.kind is not SourceKind.DEFAULT
    if context.interface is None or said is None or is_given:
        return {}
    actual = number(settings, "batch_size") * number(settings, "gpus") * steps
    return {name: _derived(steps, f"effective batch size {actual}")} if actual == said.value else {}


def warmed(
    runs: Sequence[Run],
    settings: Sequence[Mapping[str, Setting]],
    data: Sequence[Setting],
    experiment: Experiment,
    context: PlanContext,
) -> list[dict[str, Setting]]:
    """Return the settings of runs, with warm-up ratios converted to steps."""
    found: list[dict[str, Setting]] = []
    for run, own, path in zip(runs, settings, data, strict=True):
        same = [other for other, each in zip(settings, data, strict=True) if each.value == path.value]
        count = partial(context.train_rows, path.text, own["dataset_ext"].text, same)
        warmup = warmup_steps(run, own, experiment, count)
        values = own if warmup is None else {**own, "num_warmup_steps": warmup}
        found.append({name: values[name] for name in (*KEYS, *experiment.template_others) if name in values})
    return found


def _is_online(offline: Setting, run: Run, experiment: Experiment, context: PlanContext) -> bool:
    """Return whether jobs use Weights & Biases online: nodes are declared not offline, and no mode is given."""
    mode = own_value("wandb_mode", run, experiment) or experiment.template.get("wandb_mode")
    return offline.value is False and mode is None and script_takes(context.interface, "wandb_mode")


def warmup_ratio(run: Run, experiment: Experiment) -> Setting | None:
    """Return the fraction of the steps that warm up, if any."""
    return own_value("warmup_ratio", run, experiment) or experiment.template.get("warmup_ratio")


def warmup_steps(
    run: Run, settings: Mapping[str, Setting], experiment: Experiment, train_rows: Callable[[], int | None]
) -> Setting | None:
    """Return a warm-up ratio's number of steps, rounded up as transformers does; None if it is unknown.

    It is unknown for packed samples, which depend on lengths in tokens, and for a data set that is not found on this
    machine.
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
        total = total_steps(settings, rows)
    steps = math.ceil(float(ratio.value or 0) * total - _ROUNDING)
    note = ratio_note(ratio.source.note, ratio.value, total) if total else ratio.source.note
    return Setting(value=steps, source=ratio.source.model_copy(update={"note": note}))


def total_steps(settings: Mapping[str, Setting], rows: int) -> int:
    """Return the number of optimizer steps of all epochs."""
    limit = settings.get("max_steps_per_epoch")
    return number(settings, "epochs") * steps_per_epoch(
        min(rows, number(settings, "training_samples", rows)),
        batch_size=number(settings, "batch_size"),
        accumulation=number(settings, "gradient_accumulation_steps"),
        processes=number(settings, "gpus"),
        limit=None if limit is None else limit.integer,
    )


def number(settings: Mapping[str, Setting], name: str, usual: int = 1) -> int:
    """Return an integer setting, or the usual value if it is not given."""
    found = settings.get(name)
    return found.integer if found is not None and type(found.value) is int else usual


def named(settings: Mapping[str, Setting], directory: str) -> dict[str, Setting]:
    """Return the settings with the directory's name, which is also the run's name in Weights & Biases."""
    return {**settings, "my_wandb_run_name": _derived(directory, "the run directory's name")}


def _output(base: Setting | None, experiment: Experiment, context: PlanContext) -> dict[str, Setting]:
    """Return the settings for outputs: below the given base directory, else, in the YAML form, in the run's artifacts/.

    An external script that supports only one of the two layouts uses it below the same directory.
    """
    rule = script_output_rule(context.interface)
    if base is not None:
        return {rule or "output_dir_base": _with(base, _absolute(base, experiment, context))}
    note = "no output base directory is given: each run's own artifacts/"
    if rule == "output_dir_base":
        note = "no output base directory is given, and the setup_finetune.py in use has no other layout"
    folder, name = posixpath.split(context.experiment_dir)
    return {rule or "project_dir": _derived(folder, note), "experiment_name": _derived(name, note)}


def _absolute(path: Setting, experiment: Experiment, context: PlanContext) -> str:
    """Return an absolute path; a relative one is relative to the directory of its document."""
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
    """Return the names of a base model's files if they differ from the published names.

    The result is empty for a script with unknown options, because the effect of the key is unknown there.
    """
    if context.interface is not None and context.interface.options is None:
        return {}
    folder, name = settings["models_dir"].text, settings["model_checkpoint"].text
    entry, saved = find_model(settings["torchtune_model_name"].text), context.checkpoint(posixpath.join(folder, name))
    if entry is None or not saved.weights or all(file in saved.files for file in entry.file_names):
        return {}
    return {"checkpoint_files": _derived(",".join(saved.weights), "as in the model's directory")}


def columns_of(experiment: Experiment) -> tuple[str, ...]:
    """Return the columns of the table of runs as settings; ratios become warm-up steps and alpha."""
    converted = {"warmup_ratio": "num_warmup_steps", "lora_alpha_ratio": "lora_alpha"}
    return tuple(dict.fromkeys(converted.get(column, column) for column in experiment.columns))


def parameters_of(columns: tuple[str, ...], settings: Mapping[str, Setting], data: Setting) -> dict[str, Scalar]:
    """Return the run's hyperparameters: the usual ones and every other column.

    `recipe` is the method, regardless of the number of GPUs; LoRA is listed only if it is a column.
    """
    other = settings["custom_recipe"].text if "custom_recipe" in settings else ""
    method = method_of(other) or other or LORA
    usual = ("model", "lora_rank", "lr", "batch_size", "epochs")
    names = dict.fromkeys((*usual, *columns, *(["recipe"] if other else [])))
    values = {name: setting.value for name, setting in settings.items()}
    values |= {"model": values["torchtune_model_name"], "dataset": data.value, "recipe": method}
    return {name: values[name] for name in names if name in values}


class _Counts(NamedTuple):
    """A run with the samples of its training part, which may be unknown, and the steps of all its epochs.

    The steps of packed samples are unknown.
    """

    run: PlannedRun
    rows: int | None
    steps: int | None

    def has(self, name: str, value: float) -> bool | None:
        """Return whether the run has a number of samples or steps that a text gives; None if that is unknown."""
        run, steps = self.run, self.steps
        asked, epochs, warmup = (number(run.settings, n) for n in ("training_samples", "epochs", "num_warmup_steps"))
        setting = run.settings.get("num_warmup_steps")
        is_default = setting is None or setting.source.kind is SourceKind.DEFAULT
        match name:
            case "training_samples":
                given = {self.rows, asked if "training_samples" in run.settings else self.rows}
                return value in given if given != {None} else None
            case "warmup_ratio":
                return abs(value * steps - warmup) <= 1 if steps is not None else False if is_default else None
            case "steps":
                return None if steps is None else value in {steps, steps // epochs}
        return False if steps is None else value >= steps

    def shown(self, name: str) -> str:
        """Return the run with the number that it has."""
        rows, asked, run = self.rows, self.run.value("training_samples"), f"the run {shown(self.run.directory)}"
        if name == "training_samples":
            return f"{run} uses {rows if asked is None or (rows is not None and rows < int(str(asked))) else asked}"
        if name == "warmup_ratio":
            total = "an unknown number of" if self.steps is None else self.steps
            return f"{run} warms up for {number(self.run.settings, 'num_warmup_steps')} of {total} steps"
        unknown = f"the number of steps of {run} cannot be determined, so it was not compared"
        return unknown if self.steps is None else f"{run} trains for {self.steps} steps"


_COUNTED: Final = {"training_samples": "the number of training samples", "warmup_ratio": "the warm-up ratio"}


def stated_counts(experiment: Experiment, runs: Sequence[PlannedRun], context: PlanContext) -> Iterator[Finding]:
    """Yield a warning for each number of samples or steps that a text gives, but no run has."""
    counts = {each.run.directory: each for each in _counts(runs, experiment, context)} if experiment.stated else {}
    for name, stated in experiment.stated:
        own = [run for run in runs if run.line == stated.source.line] or runs
        value = float(stated.text)
        if any(counts[run.directory].has(name, value) is not False for run in own):
            continue
        first = counts[own[0].directory]
        what = _COUNTED.get(name, "the number of steps")
        message = f"according to {stated.source.note}, {what} is {kinds.written(stated.value)}, but {first.shown(name)}"
        correct, field, unknown = "correct the text or the runs, whichever is wrong", name, first.steps is None
        if name == "warmup_ratio" and len({counts[run.directory].steps for run in own}) == 1 and first.steps:
            warmup = for_each(own, round(value * first.steps))
            correct = f"{to_give('num_warmup_steps', warmup, own, runs)}, or correct the text"
        elif name == "training_samples" and first.rows is not None and value < first.rows:
            correct = f"{to_give(name, for_each(own, int(value)), own, runs)}, or correct the text"
        elif name in {"steps", "most_steps"}:
            field = "max_steps_per_epoch"
            correct = f"no action if the text is correct; otherwise correct it, or set {field}" if unknown else correct
        at, fix = stated.source, f"{correct}; until then, the runs' values are used"
        yield finding("levels-differ", message, field=field, actual=stated.value, at=at, fix=fix)


def _counts(runs: Sequence[PlannedRun], experiment: Experiment, context: PlanContext) -> Iterator[_Counts]:
    declared = experiment.dataset.splits.get("train") if experiment.dataset is not None else None
    by_data: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        by_data.setdefault((run.data_path, run.text("dataset_ext")), []).append(run)
    for (path, extension), same in by_data.items():
        rows = context.train_rows(path, extension, [run.settings for run in same])
        rows = declared if rows is None else rows
        for run in same:
            is_unknown = rows is None or run.value("packed") is True
            yield _Counts(run, rows, None if is_unknown or rows is None else total_steps(run.settings, rows))
