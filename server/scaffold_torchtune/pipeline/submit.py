"""The line that submits the runs, to be typed in any POSIX shell on the cluster."""

import shlex
from collections.abc import Iterable, Mapping

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.settings import job_options
from scaffold_torchtune.shared.files import Tree
from scaffold_torchtune.shared.layout import FINETUNE_SLURM
from scaffold_torchtune.validate import submission

_RUN = "$run"


def options(run: PlannedRun) -> list[tuple[str, str]]:
    """What sbatch is told on its command line, where an option wins over the script's directive, as (name, value)."""
    values = {name: run.settings[name].value for name in run.submitted}
    found = job_options.directives(values)
    if "gpu_type" in values:
        gpus = run.settings["gpus"].value if "gpus" in run.settings else 1
        found.append(("gres", job_options.gres(gpus, values["gpu_type"])))
    return found


def words(of: Iterable[tuple[str, str]]) -> list[str]:
    """Options as the words of a command."""
    return [f"--{name}={value}" if value else f"--{name}" for name, value in of]


def line(plan: Plan, tree: Tree) -> str:
    """The line that submits every planned run below the experiment directory, which `tree` is.

    A bundled setup's runs need nothing but `sbatch finetune.slurm`. What an external script was not told is said here,
    and directories that its directives name for logs are made first, as SLURM does not make them.
    """
    commands = {run.directory: _command(run, _folders(plan, tree, run)) for run in plan.runs}
    start = f"cd {shlex.quote(str(tree.root))}"
    first = next(iter(commands.values()))
    if all(command == first for command in commands.values()):
        names = " ".join(shlex.quote(name) for name in commands)
        return f'{start} && for run in {names}; do (cd "{_RUN}" && {first}) || break; done'
    each = (f'(run={shlex.quote(name)} && cd "{_RUN}" && {command})' for name, command in commands.items())
    return " && ".join([start, *each])


def _folders(plan: Plan, tree: Tree, run: PlannedRun) -> list[str]:
    """The directories that must be there before the run's job starts."""
    if plan.options.setup_script == "bundled":
        return []
    try:
        content = tree.read(f"{run.directory}/{FINETUNE_SLURM}")
    except Refused:
        return []
    return submission.log_folders(content.decode(errors="replace")) if content else []


def _command(run: PlannedRun, folders: list[str]) -> str:
    """The command that submits a run from its directory, whose name is in the shell's variable `run`."""
    made = [f"mkdir -p -- {_quoted(folder, run.directory)} && " for folder in folders]
    variables = job_options.variables({name: run.settings[name].value for name in run.submitted})
    given = words(options(run)) + (["--export=ALL"] if variables else [])
    parts = [*_assigned(variables), "sbatch", *map(shlex.quote, given), FINETUNE_SLURM]
    return "".join(made) + " ".join(parts)


def _assigned(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={shlex.quote(value)}" for name, value in variables.items()]


def _quoted(path: str, run: str) -> str:
    """A path as a word of the shell; the run's name in it is the variable, so that runs alike have the same command."""
    before, found, after = path.partition(f"/{run}/") if f"/{run}/" in path else (path, "", "")
    if not found:
        return shlex.quote(path)
    return f'{shlex.quote(before + "/")}"{_RUN}"{shlex.quote("/" + after)}'
