"""How the plan fits an external setup_finetune.py: its defaults, what it has no option for, its outputs.

What it has no option for, the line that submits can hand over instead, as far as sbatch or the job takes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Finding, Scalar, finding
from scaffold_torchtune.models import Experiment, Interface, PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.settings.kinds import ValueKind
from scaffold_torchtune.settings.parameters import ADOPTED, PARAMETERS, SUBMITTED
from scaffold_torchtune.system.text import shown

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


def defaults(interface: Interface | None) -> dict[str, Setting]:
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
        values |= {name: value for name, value in fixed(interface).items() if name in ADOPTED}
    source = Source(kind=SourceKind.DEFAULT, note="setup_finetune's default")
    return {name: Setting(value=value, source=source) for name, value in values.items() if value is not None}


def fixed(interface: Interface) -> dict[str, Scalar]:
    """Return what a version of cruijff_kit's script always writes, as it has no option for it."""
    options = set(interface.options or ())
    if not interface.of_cruijff_kit:
        return {}
    if "prompt" in options:
        options.add("packed")
    return {name: value for name, value in _FIXED.items() if name not in options}


def takes(interface: Interface | None, name: str) -> bool:
    """Return whether setup_finetune takes a key; of a script that was not asked, it is taken for granted."""
    return interface is None or interface.options is None or name in interface.options


def output_rule(interface: Interface | None) -> str | None:
    """Return the one setting that says where outputs go, of a script that knows just one; None where it knows both."""
    known = [name for name in ("output_dir_base", "project_dir") if takes(interface, name)]
    return known[0] if len(known) == 1 else None


def fitted(settings: Mapping[str, Setting], interface: Interface | None) -> dict[str, Setting]:
    """Return the settings without defaults that mean nothing for this data set."""
    own = settings.get("dataset_type")
    if interface is None or (own is not None and own.value in OWN_DATA_SETS):
        return dict(settings)
    return {
        name: setting
        for name, setting in settings.items()
        if name not in _OF_OWN_DATA_SETS or setting.source.kind is not SourceKind.DEFAULT
    }


def unwritten(
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
    always = [f"{name} {shown(value)}" for name, value in fixed(interface).items() if name in ADOPTED]
    if always:
        message = f"this setup_finetune.py has no option for, and always writes: {', '.join(always)}"
        yield finding("script-writes", message, fix="name a newer one where another value is meant")
    rule = runs[0].settings.get("project_dir")
    if rule is not None and output_rule(interface) and rule.source.kind is not SourceKind.DERIVED:
        folder = "/".join([rule.text, runs[0].text("experiment_name"), "RUN", "artifacts"])
        message = f"outputs go to {folder}: this setup_finetune.py lays them out so, below the output base directory"
        yield finding("script-writes", message, at=rule.source, fix="nothing")


def _untaken(name: str, setting: Setting, run: PlannedRun, interface: Interface) -> Finding | None:
    if name == "modules":
        return _conda_dropped(setting, run, interface)
    if takes(interface, name) or name == "checkpoint_files":  # whether it names them all the same, a trial shows
        return None
    value = fixed(interface).get(name)
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


def submitted(settings: Mapping[str, Setting], interface: Interface | None) -> tuple[str, ...]:
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
