"""The options of the command line. Imports that take time are made where they are needed: `serve` is to be quick."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from scaffold_torchtune import __version__


def parser(steps: Mapping[str, str]) -> argparse.ArgumentParser:
    """The parser of all commands. `steps` are those that do a step, with what each does."""
    made = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Turn an experiment summary into a tree of validated, submit-ready torchtune run directories.",
        epilog="Exit status: 0 all well; 1 some run failed, some value does not match, or a step was stopped midway;"
        " 2 refused, no run directory or file was changed.",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in steps.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="experiment directory or summary file")
        _add_common(command)
        if name in {"parse", "plan", "render", "scaffold"}:
            command.add_argument("--template", type=Path, metavar="FILE", help=_TEMPLATE_HELP)
            command.add_argument(
                "--answer",
                dest="answers",
                type=_answer,
                action="append",
                default=[],
                metavar="FIELD=VALUE",
                help=_ANSWER,
            )
        if name in {"plan", "render", "scaffold"}:
            _add_planning(command)
        if name != "parse":
            _add_script(command)
        if name in {"render", "setup", "scaffold"}:
            command.add_argument("--overwrite", action="store_true", help="replace files that were edited by hand")
        if name in {"setup", "scaffold"}:
            _add_running(command)
        if name in {"validate", "scaffold"}:
            _add_asking(command)
        if name == "scaffold":
            command.add_argument("--dry-run", action="store_true", help="plan only; write nothing")
    _add_new(commands.add_parser("new", help=_NEW_HELP, description=_NEW_HELP[0].upper() + _NEW_HELP[1:] + "."))
    _add_doctor(commands.add_parser("doctor", help=_DOCTOR, description=_DOCTOR[0].upper() + _DOCTOR[1:] + "."))
    demo = commands.add_parser("demo", help="scaffold the bundled example into DIR")
    demo.add_argument("experiment", type=Path, nargs="?", default=Path("demo"), metavar="DIR", help="default: demo")
    _add_common(demo)
    schema = "the JSON Schema of experiment_summary.yaml, for editors that complete and check it"
    commands.add_parser("schema", help=schema, description=schema[0].upper() + schema[1:] + ".")
    _add_skill(commands.add_parser("skill", help=_SKILL, description=_SKILL[0].upper() + _SKILL[1:] + "."))
    commands.add_parser("serve", help=_SERVE, parents=[_roots()])
    return made


def serve_parser() -> argparse.ArgumentParser:
    """The parser of `serve` alone, which needs nothing that takes time to import."""
    return argparse.ArgumentParser(prog=f"{_PROGRAM} serve", description=_SERVE, parents=[_roots()])


def _roots() -> argparse.ArgumentParser:
    """The option of the server. Hosts that keep a list of directories put all of it behind one `--root`."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--root", type=Path, action="extend", nargs="+", default=[], metavar="DIR", help=_ROOT_HELP)
    return made


_PROGRAM = "scaffold-torchtune"
_SERVE = "the MCP server, over stdio"
_SCRIPT_HELP = "an existing setup_finetune.py; default: the bundled one"
_JOBS_HELP = "external scripts at a time; default: as many as there are cores, at most 4 (login nodes are shared)"
_TEMPLATE_HELP = (
    "a template of setup_finetune.yaml: Jinja2 (.j2), instead of the bundled one; or plain YAML (.yaml), whose values"
    " count where the documents say nothing"
)
_ANSWER = "a value that no document gives, as asked for; may be repeated"
_NEW_HELP = "write an experiment's documents, filled from options, to start from; they scaffold as they are"
_DOCTOR = "tell whether this machine is ready: environment, setup script, torchtune, SLURM; writes nothing"
_SKILL = "put SKILL.md and its workflows where agents look for skills; replaces only what it wrote itself"
_SKILL_DIR = "a directory of skills, such as ~/.agents/skills; default: ~/.claude/skills"
_ROOT_HELP = "experiments must lie under one of these directories; may be repeated"


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--local", type=Path, metavar="FILE", help="the claude.local.md to use")
    command.add_argument("--root", type=Path, action="append", default=[], metavar="DIR", help=_ROOT_HELP)
    command.add_argument("--json", action="store_true", help="print the structured result and nothing else")
    command.add_argument(
        "--start", type=_positive(int), default=1, metavar="N", help="with --json: list from item N on"
    )
    command.add_argument("--only", metavar="PATTERN", help="with --json: list only runs whose name matches")
    command.add_argument("--all", dest="whole", action="store_true", help="with --json: cut no list and no text")


def _add_new(command: argparse.ArgumentParser) -> None:
    from scaffold_torchtune.new import OPTIONS

    command.add_argument("experiment", type=Path, metavar="DIR", help="the experiment directory to be")
    for name, option in OPTIONS.items():
        flag, metavar = option.flag, option.metavar
        command.add_argument(flag, dest=name, action="append", default=[], metavar=metavar, help=option.help)
    command.add_argument("--control", action="store_true", help="add a control for each model: the base model")
    _add_common(command)


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", type=Path, nargs="?", metavar="EXPERIMENT", help="look at its documents too")
    _add_common(command)
    _add_script(command)
    _add_asking(command)


def _add_skill(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", type=Path, nargs="?", metavar="DIR", help=_SKILL_DIR)
    command.add_argument("--json", action="store_true", help="print the structured result and nothing else")
    command.set_defaults(experiment=None, local=None, root=[], start=1, only=None, whole=False)  # it has none of them


def _add_planning(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--names",
        choices=("varying", "table"),
        help="name run directories by what varies (default), or by the table's Run Name",
    )


def _add_running(command: argparse.ArgumentParser) -> None:
    from scaffold_torchtune.pipeline.request import default_jobs

    command.add_argument("--jobs", type=_positive(int), default=default_jobs(), metavar="N", help=_JOBS_HELP)
    command.add_argument(
        "--timeout", type=_positive(float), default=300.0, metavar="SECONDS", help="for one run of an external script"
    )


def _add_script(command: argparse.ArgumentParser) -> None:
    command.add_argument("--setup-script", metavar="FILE|bundled", help=_SCRIPT_HELP)
    command.add_argument(
        "--no-activate",
        dest="activate",
        action="store_false",
        help="the environment of an external script is already the right one: load no module, activate nothing",
    )
    command.add_argument(
        "--venv",
        type=Path,
        metavar="DIR",
        help="a virtual environment for an external script, in the place of the conda environment of claude.local.md",
    )


def _add_asking(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-sbatch",
        dest="sbatch",
        action="store_false",
        help="do not ask SLURM's sbatch whether it takes the scripts",
    )
    command.add_argument(
        "--with-torchtune",
        action=argparse.BooleanOptionalAction,
        help="ask torchtune itself whether it takes finetune.yaml; default: where SCAFFOLD_TORCHTUNE_PYTHON names a"
        " Python, or the one that runs this has torchtune",
    )


def _answer(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    return field.strip(), value.strip()


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = kind(text)
        if not 0 < number < float("inf"):
            raise ValueError(text)
        return number

    read.__name__ = f"positive {kind.__name__}"
    return read
