"""finetune.slurm: the batch script that trains the run, as a list of directives and commands for its template."""

import shlex
from typing import Any

from scaffold_torchtune.setup_finetune import config
from scaffold_torchtune.setup_finetune.keys import Settings
from scaffold_torchtune.setup_finetune.recipe import is_full, recipe
from scaffold_torchtune.setup_finetune.registry import ModelEntry, Resources, default_resources


def command(settings: Settings) -> list[str]:
    """The training command.

    `tune run` takes a recipe of its own by its name and everything else for the path of a module, whose file extension
    it cuts off (torchtune/_cli/run.py, _convert_to_dotpath). It would cut `package.module` too, so a dotted name gets
    the extension `.__main__`, as cruijff_kit gives it.
    """
    name = recipe(settings)
    last = name.rsplit("/", 1)[-1]
    if "." in last and not last.endswith((".py", ".__main__")):
        name += ".__main__"
    gpus = settings.integer("gpus")
    launch = ["--nproc_per_node", str(gpus)] if gpus > 1 else []
    return ["tune", "run", *launch, name, "--config", "finetune.yaml"]


def _defaults(settings: Settings, entry: ModelEntry) -> Resources:
    gpus, epochs = settings.integer("gpus"), settings.integer("epochs")
    return default_resources(entry, gpus, full=is_full(settings), epochs=epochs)


def directives(settings: Settings, entry: ModelEntry) -> list[tuple[str, str]]:
    """The #SBATCH lines as (option, value); the values have passed allow-list grammars."""
    defaults = _defaults(settings, entry)
    lines = [
        ("job-name", settings.text("my_wandb_run_name")),
        ("nodes", "1"),
        ("ntasks", "1"),
        ("cpus-per-task", str(settings.integer("cpus_per_task") or defaults.cpus)),
        ("mem", settings.text("mem") or defaults.mem),
        ("time", settings.text("time")),
        ("gres", f"gpu:{settings.integer('gpus')}"),
        ("output", "slurm-%j.out"),
    ]
    optional = [(name, settings.text(name)) for name in ("account", "partition", "constraint")]
    return lines + [(name, value) for name, value in optional if value]


def values(settings: Settings, entry: ModelEntry) -> dict[str, Any]:
    """What the template finetune.slurm.j2 is filled with."""
    defaults = _defaults(settings, entry)
    written = "as setup_finetune.yaml says"
    return {
        "directives": directives(settings, entry),
        "mem_source": written if settings.text("mem") else defaults.mem_source,
        "cpus_source": written if settings.integer("cpus_per_task") else defaults.cpus_source,
        "modules": [name.strip() for name in settings.text("modules").split(",") if name.strip()],
        "venv": settings.text("venv").rstrip("/"),
        "conda_env": settings.text("conda_env"),
        "logs": config.output_dir(settings) + "logs",
        "command": command(settings),
    }


def read_back(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The script's directives and the words of its last command.

    sbatch stops at the first command, so a directive after it is none; it shows here with the option's name empty.
    """
    found: list[tuple[str, str]] = []
    lines = text.splitlines()
    started = False
    for line in lines:
        started = started or bool(line and not line.startswith("#"))
        if line.startswith("#SBATCH"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            found.append(("" if started else name, value))
    return found, shlex.split(lines[-1])
