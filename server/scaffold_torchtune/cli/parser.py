"""The options of the command line. Slow imports are in the functions that need them, so that `serve` starts quickly."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from scaffold_torchtune import __version__
from scaffold_torchtune.request import DECISION
from scaffold_torchtune.results.reply import STEPS

_PROGRAM: Final = "scaffold-torchtune"
SHELLS: Final = ("bash", "zsh", "fish")
"""The shells for which there is a completion."""

_ROOT = "allow only experiments below DIR; may be repeated"


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


def _option(usage: str, text: str, **settings: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the flags and the settings of an option. `usage` has the form of the help: `-q, --quiet`, `--all`."""
    short, _, long = usage.rpartition(", ")
    flag, _, metavar = long.partition(" ")
    return [*([short] if short else []), flag], {"help": text} | ({"metavar": metavar} if metavar else {}) | settings


def _decision(text: str) -> str:
    if DECISION.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("expected keep, replace, keep=RUN,... or replace=RUN,...")
    return text


_OPTIONS: Final[dict[str, tuple[list[str], dict[str, Any]]]] = {
    "dry_run": _option("--dry-run", "only plan; write nothing", action="store_true"),
    "only": _option("--only PATTERN", "list only the runs whose directory or Run Name matches"),
    "whole": _option(
        "--all",
        "show every run, version, value and finding; with --json: do not shorten lists or texts",
        action="store_true",
    ),
    "notes": _option("--notes", "also show informational findings", action="store_true"),
    "quiet": _option("-q, --quiet", "print only errors and the verdict", action="store_true"),
    "local": _option(
        "--local FILE",
        "claude.local.md to use, instead of the one in the experiment directory or in a parent directory",
        type=Path,
    ),
    "template": _option(
        "--template FILE",
        "template of setup_finetune.yaml: Jinja2 (.j2), used instead of the bundled one; or plain YAML (.yaml), whose"
        " values are used for settings that the documents do not give",
        type=Path,
    ),
    "answers": _option(
        "--answer FIELD=VALUE",
        "value that no document gives, in reply to a question; may be repeated",
        type=_answer,
        action="append",
        default=[],
    ),
    "names": _option(
        "--names",
        "name run directories after the values that vary (default), or after the table's Run Name",
        choices=("varying", "table"),
    ),
    "setup_script": _option(
        "--setup-script FILE|bundled", "setup script: an external setup_finetune.py, or `bundled` (default)"
    ),
    "activate": _option(
        "--no-activate",
        "run an external script in the current environment: load no modules, activate nothing",
        action="store_false",
    ),
    "venv": _option(
        "--venv DIR",
        "virtual environment for an external script, instead of the conda environment of claude.local.md",
        type=Path,
    ),
    "overwrite": _option(
        "--overwrite", "replace files that were edited, or that this tool did not write", action="store_true"
    ),
    "started": _option(
        "--started {keep|replace}[=RUN,...]",
        "keep or replace started runs that would change: all, or only the named ones (names may be patterns); may be"
        " repeated",
        type=_decision,
        action="append",
    ),
    "jobs": _option(
        "--jobs N",
        "number of runs for which an external script runs in parallel; default: the number of cores, at most 4",
        type=_positive(int),
    ),
    "timeout": _option("--timeout SECONDS", "time limit for an external script, for each run", type=_positive(float)),
    "sbatch": _option(
        "--no-sbatch", "do not query SLURM (with sbatch --test-only, squeue or sacct)", action="store_false"
    ),
    "with_torchtune": _option(
        "--with-torchtune",
        "check finetune.yaml with torchtune itself; default: on if SCAFFOLD_TORCHTUNE_PYTHON names a Python interpreter"
        " that has torchtune, or torchtune is installed in this environment",
        action=argparse.BooleanOptionalAction,
    ),
    "compare": _option(
        "--diff",
        "compare two versions, or one with the current files; default: the last kept version and the current files;"
        " `now` stands for the current files",
        nargs="*",
        metavar="VERSION",
    ),
    "watch": _option(
        "--watch SECONDS",
        "on a terminal: refresh every SECONDS seconds (default: 15) until every run has ended, or until Ctrl-C",
        nargs="?",
        type=_positive(float),
        const=15.0,
    ),
    "output": _option(
        "--output FILE",
        "file to write, or `-` to print; default: scaffold.html in the experiment directory; Markdown and CSV are"
        " printed by default",
    ),
    "json": _option("--json", "print only the structured result", action="store_true"),
    "start": _option("--start N", "begin the list of runs with run N", type=_positive(int)),
    "root": _option("--root DIR", _ROOT, type=Path, action="append", default=[]),
}
"""Each option by the name of its argument, in the order of the help texts."""

_POSITIONALS: Final = {"history": 2, "explain": 3}
"""The number of arguments of the commands that take more than EXPERIMENT."""

_FOR_PROGRAMS: Final = frozenset({"json", "start", "root"})
_COMMON: Final = ("local", "root", "json", "start", "only", "whole", "notes", "quiet")
_SCRIPT: Final = ("setup_script", "activate", "venv")
_CHECKS: Final = ("sbatch", "with_torchtune")
_OF_OTHERS: Final = frozenset({"compare", "output", "watch"})  # which no step takes


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. An option that a command does not accept is None, or empty."""
    made = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Create validated torchtune run directories, ready to submit, from an experiment summary.",
        epilog="Exit status: 0 success; 1 a run failed, a value does not match, an error stopped the command midway, or"
        " the result could not be printed; 2 refused, no run was changed; 70 an internal error; 130 interrupted.",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    made.set_defaults(**dict.fromkeys(("experiment", "run", "field", *_OPTIONS)) | {"root": [], "answers": []})
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, takes in _steps():
        step = _described(commands, name, text)
        _add_experiment(step)
        _add(step, takes)
    _add_new(_described(commands, "new", _NEW))
    _add_add(_described(commands, "add", _ADD))
    history = _described(commands, "history", _HISTORY)
    _add_experiment(history, _EXPERIMENT_OR_RUN)
    history.add_argument("run", nargs="?", metavar="RUN", help="directory or Run Name of a run; default: all runs")
    _add(history, ("root", "json", "start", "whole", "compare"))
    explain = _described(commands, "explain", _EXPLAIN)
    _add_experiment(explain, _EXPERIMENT_OR_RUN)
    explain.add_argument("run", metavar="RUN", help="directory or Run Name of a run, or a pattern")
    explain.add_argument("field", nargs="?", metavar="FIELD", help=_FIELD)
    _add(explain, ("local", "root", "json", "start", "whole", "template", "answers", "names", *_SCRIPT))
    status = _described(commands, "status", _STATUS)
    _add_experiment(status)
    _add(status, ("root", "json", "start", "only", "whole", "quiet", "sbatch", "watch"))
    _add_submit(_described(commands, "submit", _SUBMIT))
    _add_report(_described(commands, "report", _REPORT))
    doctor = _described(commands, "doctor", _DOCTOR)
    _add_experiment(doctor, "experiment to check as well; default: the current directory, if it is one")
    _add(doctor, (*_COMMON, *_SCRIPT, *_CHECKS))
    demo = _described(commands, "demo", "scaffold the bundled example into DIR")
    demo.add_argument(
        "experiment",
        type=Path,
        nargs="?",
        default=Path("demo"),
        metavar="DIR",
        help="directory to create; default: demo",
    )
    _add(demo, _COMMON)
    _described(commands, "schema", _SCHEMA)
    skill = _described(commands, "skill", _SKILL)
    skill.add_argument("directory", type=Path, nargs="?", metavar="DIR", help=_SKILL_DIR)
    _add(skill, ("json",))
    commands.add_parser("serve", help=_SERVE, parents=[_roots()])
    completion = _described(commands, "completion", _COMPLETION)
    completion.add_argument("shell", choices=SHELLS, help=_SHELL)
    of_help = _described(commands, "help", _HELP)
    of_help.add_argument("topic", nargs="?", metavar="COMMAND", choices=[*commands.choices], help=_TOPIC)
    return made


def read(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line; `positionals` are its positional arguments.

    Without arguments, print the help and exit as after wrong usage, because a script without its arguments has failed.
    """
    made = parser()
    if not arguments:
        made.print_help(sys.stderr)
        raise SystemExit(2)
    options, rest = made.parse_known_args(arguments)
    names = ("experiment", "run", "field")[: _POSITIONALS.get(options.command, 0)]
    options.positionals = [str(each) for name in names if (each := getattr(options, name)) is not None]
    # argparse gives up after the first group of them: `explain EXPERIMENT --all RUN`
    if any(word.startswith("-") for word in rest) or len(options.positionals) + len(rest) > len(names):
        made.error(f"unrecognized arguments: {' '.join(rest)}") if rest else None
    options.positionals += rest
    return options


def help_of(topic: str | None) -> str:
    """Return the help of a command, or of the program."""
    made = parser()
    return (made if topic is None else _commands(made)[topic]).format_help()


def completion_of(shell: str) -> str:
    """Return the script that completes commands, options and paths in a shell."""
    import shtab

    made = parser()
    for command in _commands(made).values():
        for action in vars(command)["_actions"]:
            if action.type is Path or action.metavar in {"FILE", "FILE|bundled"}:
                is_directory = action.metavar == "DIR"
                action.complete = shtab.DIRECTORY if is_directory else shtab.FILE
    text: str = shtab.complete(made, shell)
    return text


def _commands(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (commands,) = vars(vars(of)["_subparsers"])["_group_actions"]
    found: dict[str, argparse.ArgumentParser] = commands.choices
    return found


def serve_parser() -> argparse.ArgumentParser:
    """Return the parser of `serve` alone, which needs no slow imports."""
    return argparse.ArgumentParser(prog=f"{_PROGRAM} serve", description=_SERVE, parents=[_roots()])


def _roots() -> argparse.ArgumentParser:
    """Return the option of the server. Hosts that have a list of directories pass all of them after one `--root`."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--root", type=Path, action="extend", nargs="+", default=[], metavar="DIR", help=_ROOT)
    return made


_SUBMIT = "submit to SLURM, as job arrays, the runs that are ready and not started; asks first"
_EXPERIMENT = "experiment directory or summary file; default: the current directory"
_EXPERIMENT_OR_RUN = f"{_EXPERIMENT}, if the first argument is not an experiment"
_HISTORY = "list earlier versions of the files of runs, or compare two versions; writes nothing"
_EXPLAIN = "show where the values of a run come from, where they are written, and what they were before; writes nothing"
_STATUS = "show the state of each run: progress, loss, time, and the cause of each failure with its fix; writes nothing"
_FIELD = "setting, by any of its names: lr, 'Learning rate', optimizer.lr; default: all"
_REPORT = "write scaffold.html, a page that shows the runs with their states and values; later scaffolds update it"
_MARKDOWN = "print a short Markdown summary instead, for a repository or a chat"
_CSV = "print a CSV table instead, with one line for each run"
_COMPLETION = "print the completion script for a shell"
_SHELL = "bash: eval it in ~/.bashrc; zsh: write it to _scaffold-torchtune in a directory of fpath; fish: source it"
_HELP = "show the help of a command"
_TOPIC = "default: all commands"
_SERVE = "run the MCP server over stdio"
_NEW = "write the documents of a new experiment from options, ready to scaffold"
_ADD = "append runs with new levels to the table of an experiment whose runs form a full grid"
_DOCTOR = "check whether this machine is ready: environment, setup script, torchtune, SLURM; writes nothing"
_SCHEMA = "print the JSON Schema of experiment_summary.yaml, for editors"
_SKILL = "install SKILL.md and its guides where agents look for skills; replaces only files that it wrote itself"
_SKILL_DIR = "directory of skills, such as ~/.agents/skills; default: ~/.claude/skills"


def _steps() -> Iterator[tuple[str, str, Iterable[str]]]:
    """Yield each command that does one step or all steps, with its help and its options.

    The operator can give the setup script to each step that may run it; tools cannot.
    """
    for step in STEPS:
        script = () if step.command == "parse" else _SCRIPT
        checks = _CHECKS if "with_torchtune" in step.arguments else ()
        yield step.command, step.help, (*_COMMON, *step.arguments, *script, *checks)
    yield "scaffold", "run all steps", [name for name in _OPTIONS if name not in _OF_OTHERS]


def accepted(command: str) -> frozenset[str]:
    """Return the names of the options that a step accepts."""
    return next((frozenset(takes) for name, _, takes in _steps() if name == command), frozenset())


def _described(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return made


def _add_experiment(command: argparse.ArgumentParser, text: str = _EXPERIMENT) -> None:
    command.add_argument("experiment", type=Path, nargs="?", metavar="EXPERIMENT", help=text)


def _add(command: argparse.ArgumentParser, takes: Iterable[str]) -> None:
    """Add options, those for scripts and agents in a group at the end."""
    takes = {*takes}
    for_programs = command.add_argument_group("options for scripts and agents") if takes & _FOR_PROGRAMS else command
    for name, (flags, settings) in _OPTIONS.items():
        if name in takes:
            group = for_programs if name in _FOR_PROGRAMS else command
            group.add_argument(*flags, dest=name, **settings)


def _add_submit(command: argparse.ArgumentParser) -> None:
    _add_experiment(command)
    command.add_argument("--only", metavar="PATTERN", help="submit only runs whose directory or Run Name matches")
    command.add_argument(
        "--max",
        dest="at_once",
        type=_positive(int),
        metavar="N",
        help="let at most N runs of the experiment run at once",
    )
    command.add_argument("--no-array", dest="arrays", action="store_false", help="submit each run as a separate job")
    command.add_argument("--failed", action="store_true", help="also submit failed runs again, unchanged")
    command.add_argument("--dry-run", action="store_true", help="show what would be submitted; write nothing")
    command.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    _add(command, ("local", "root", "json", "quiet", *_SCRIPT, "with_torchtune"))


def _add_report(command: argparse.ArgumentParser) -> None:
    _add_experiment(command)
    forms = command.add_mutually_exclusive_group()
    forms.add_argument("--markdown", dest="form", action="store_const", const="markdown", help=_MARKDOWN)
    forms.add_argument("--csv", dest="form", action="store_const", const="csv", help=_CSV)
    command.set_defaults(form="page")
    _add(command, ("local", "root", "overwrite", "output", *_SCRIPT, *_CHECKS))


def _add_add(command: argparse.ArgumentParser) -> None:
    from scaffold_torchtune.extend import ADDED

    _add_experiment(command)
    for name, option in ADDED.items():
        text = f"new levels of {option.label or 'Model'}; may be repeated"
        command.add_argument(option.flag, dest=name, action="append", default=[], metavar=option.metavar, help=text)
    _add(command, ("local", "json", "root", "quiet"))


def _add_new(command: argparse.ArgumentParser) -> None:
    from scaffold_torchtune.new import OPTIONS

    text = "experiment directory to create; if it is omitted, the command prompts for it (only on a terminal)"
    command.add_argument("experiment", type=Path, nargs="?", metavar="DIR", help=text)
    for name, option in OPTIONS.items():
        flag, metavar = option.flag, option.metavar
        command.add_argument(flag, dest=name, action="append", default=[], metavar=metavar, help=option.help)
    command.add_argument(
        "--control", action="store_true", help="for each model, add a control row: the base model without fine-tuning"
    )
    _add(command, _COMMON)
