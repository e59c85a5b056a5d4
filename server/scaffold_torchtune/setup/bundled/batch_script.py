"""finetune.slurm: the batch script that trains the run, as a list of directives and commands for its template."""

import shlex
from typing import Any

from scaffold_torchtune.settings import parameters
from scaffold_torchtune.setup.bundled import config
from scaffold_torchtune.setup.bundled.keys import Settings
from scaffold_torchtune.torchtune_facts.model_registry import ModelEntry, Resources, default_resources

_RESUME = "resume_from_checkpoint=$resume"


def command(settings: Settings) -> list[str]:
    """Return the training command.

    `tune run` takes a recipe of its own by its name and everything else for the path of a module, whose file extension
    it cuts off (torchtune/_cli/run.py, _convert_to_dotpath). It would cut `package.module` too, so a dotted name gets
    the extension `.__main__`, as cruijff_kit gives it.
    """
    name = settings.recipe
    last = name.rsplit("/", 1)[-1]
    if "." in last and not last.endswith((".py", ".__main__")):
        name += ".__main__"
    gpus = settings.integer("gpus")
    launch = ["--nproc_per_node", str(gpus)] if gpus > 1 else []
    resume = [_RESUME] if settings.flag("resume_from_checkpoint") else []
    return ["tune", "run", *launch, name, "--config", "finetune.yaml", *resume]


def _defaults(settings: Settings, entry: ModelEntry) -> Resources:
    gpus, epochs = settings.integer("gpus"), settings.integer("epochs")
    return default_resources(entry, gpus, full=settings.is_full, epochs=epochs)


def directives(settings: Settings, entry: ModelEntry) -> list[tuple[str, str]]:
    """Return the #SBATCH lines as (option, value); the values have passed allow-list grammars."""
    defaults = _defaults(settings, entry)
    lines = [
        ("job-name", settings.text("my_wandb_run_name")),
        ("nodes", "1"),
        ("ntasks", "1"),
        ("cpus-per-task", str(settings.integer("cpus_per_task") or defaults.cpus)),
        ("mem", settings.text("mem") or defaults.mem),
        ("time", settings.text("time")),
        ("gres", parameters.gres(settings.integer("gpus"), settings.text("gpu_type"))),
        ("output", "slurm-%j.out"),
    ]
    optional = [(name, settings.text(name)) for name in ("account", "partition", "constraint")]
    return [*lines, *(pair for pair in optional if pair[1]), *parameters.directives(settings.values)]


def values(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    """Return what the template finetune.slurm.j2 is filled with."""
    defaults, written = _defaults(settings, entry), "as setup_finetune.yaml says"
    output_dir = config.output_dir(settings)
    # From this file a training goes on, which torchtune 0.6.1 finds by itself (get_recipe_checkpoint_path in
    # training/checkpointing/_utils.py); the adapter is that of the newest epoch_N beside it. Where it is not there, the
    # recipe ends with an error, so the job asks first.
    state = f"{output_dir}recipe_state/recipe_state.pt" if settings.flag("resume_from_checkpoint") else ""
    return {
        "directives": [parameters.line(*pair) for pair in directives(settings, entry)],
        "mem_source": written if settings.text("mem") else defaults.mem_source,
        "cpus_source": written if settings.integer("cpus_per_task") else defaults.cpus_source,
        "modules": [name.strip() for name in settings.text("modules").split(",") if name.strip()],
        "venv": settings.text("venv").rstrip("/"),
        "conda_env": settings.text("conda_env"),
        "variables": list(parameters.OFFLINE.items()) if settings.flag("offline") else [],
        "logs": f"{output_dir}logs",
        "state": state,
        "command": [word for word in command(settings) if word != _RESUME],
    }


def read_back(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the script's directives and the words of its last command.

    sbatch stops at the first command, so a directive after it is none; it shows here with the option's name empty.
    """
    found: list[tuple[str, str]] = []
    lines, started = text.splitlines(), False
    for line in lines:
        started = started or bool(line and not line.startswith("#"))
        if line.startswith("#SBATCH"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            found.append(("" if started else name, value.removeprefix('"').removesuffix('"')))
    return found, shlex.split(lines[-1])
