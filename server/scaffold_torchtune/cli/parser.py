"""The options of the command line. Slow imports are in the functions that need them, so that `serve` starts quickly."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from scaffold_torchtune import __version__
from scaffold_torchtune.request import DECISION
from scaffold_torchtune.results.reply import STEPS

_PROGRAM: Final = "scaffold-torchtune"
_ROOT = "a directory that may contain experiments; may be repeated"


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


def _option(usage: str, text: str, **settings: Any) -> tuple[str, dict[str, Any]]:
    flag, _, metavar = usage.partition(" ")
    return flag, {"help": text} | ({"metavar": metavar} if metavar else {}) | settings


def _decision(text: str) -> str:
    if DECISION.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("expected keep, replace, keep=RUN,... or replace=RUN,...")
    return text


_OPTIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "local": _option("--local FILE", "claude.local.md to use instead of the one that is found", type=Path),
    "root": _option("--root DIR", _ROOT, type=Path, action="append", default=[]),
    "json": _option("--json", "print only the structured result", action="store_true"),
    "start": _option("--start N", "with --json: begin lists with item N", type=_positive(int)),
    "only": _option("--only PATTERN", "of status, and with --json: list only runs whose names match"),
    "whole": _option(
        "--all", "show every run, value and finding; with --json: do not shorten lists or texts", action="store_true"
    ),
    "notes": _option("--notes", "show the findings that are information only, too", action="store_true"),
    "template": _option(
        "--template FILE",
        "template of setup_finetune.yaml: Jinja2 (.j2), used instead of the bundled one; or plain YAML (.yaml), whose"
        " values are used if the documents give none",
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
        "--setup-script FILE|bundled", "external setup_finetune.py to use; default: the bundled one"
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
    "overwrite": _option("--overwrite", "replace files that were edited", action="store_true"),
    "started": _option(
        "--started keep|replace[=RUN,...]",
        "keep started runs that would change as they are, or replace them; all of them, or those that are named (names"
        " may be patterns); may be repeated",
        type=_decision,
        action="append",
    ),
    "jobs": _option(
        "--jobs N",
        "number of external scripts to run in parallel; default: the number of cores, at most 4",
        type=_positive(int),
    ),
    "timeout": _option("--timeout SECONDS", "time limit of an external script for one run", type=_positive(float)),
    "sbatch": _option("--no-sbatch", "do not check the job scripts with sbatch --test-only", action="store_false"),
    "with_torchtune": _option(
        "--with-torchtune",
        "check finetune.yaml with torchtune itself; default: if SCAFFOLD_TORCHTUNE_PYTHON is set, or torchtune is"
        " installed in this environment",
        action=argparse.BooleanOptionalAction,
    ),
    "compare": _option(
        "--diff",
        "compare two versions: the named ones, else the last kept version and the current files; `now` is the current"
        " files",
        nargs="*",
        metavar="VERSION",
    ),
    "watch": _option(
        "--watch SECONDS",
        "on a terminal: show it again every so many seconds (default: 15) until every run has ended, or Ctrl-C",
        nargs="?",
        type=_positive(float),
        const=15.0,
    ),
    "output": _option(
        "--output FILE",
        "the file to write, `-` to print; default: scaffold.html in the experiment, other forms are printed",
    ),
    "dry_run": _option("--dry-run", "only plan; write nothing", action="store_true"),
}
"""Each option by the name of its argument, in the order of the help texts."""

_COMMON: Final = ("local", "root", "json", "start", "only", "whole", "notes")
_SCRIPT: Final = ("setup_script", "activate", "venv")
_CHECKS: Final = ("sbatch", "with_torchtune")
_OF_OTHERS: Final = frozenset({"compare", "output", "watch"})  # which no step takes


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. An option that a command does not accept is None, or empty."""
    made = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Create validated torchtune run directories, ready to submit, from an experiment summary.",
        epilog="Exit status: 0 success; 1 a run failed, a value does not match, or a step was stopped midway; 2"
        " refused, no run directory or file was changed; 70 an internal error.",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    made.set_defaults(**dict.fromkeys(("experiment", "run", "field", *_OPTIONS)) | {"root": [], "answers": []})
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, takes in _steps():
        step = _described(commands, name, text)
        step.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_EXPERIMENT)
        _add(step, takes)
    _add_new(_described(commands, "new", _NEW))
    history = _described(commands, "history", _HISTORY)
    history.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    history.add_argument("run", nargs="?", metavar="RUN", help="directory or Run Name of a run; default: all runs")
    _add(history, ("root", "json", "start", "whole", "compare"))
    explain = _described(commands, "explain", _EXPLAIN)
    explain.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    explain.add_argument("run", metavar="RUN", help="directory or Run Name of a run, or a pattern")
    explain.add_argument("field", nargs="?", metavar="FIELD", help=_FIELD)
    _add(explain, ("local", "root", "json", "start", "whole", "template", "answers", "names", *_SCRIPT))
    status = _described(commands, "status", _STATUS)
    status.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    _add(status, ("root", "json", "start", "only", "whole", "sbatch", "watch"))
    _add_submit(_described(commands, "submit", _SUBMIT))
    _add_report(_described(commands, "report", _REPORT))
    doctor = _described(commands, "doctor", _DOCTOR)
    doctor.add_argument("experiment", type=Path, nargs="?", metavar="EXPERIMENT", help="experiment to check too")
    _add(doctor, (*_COMMON, *_SCRIPT, *_CHECKS))
    demo = commands.add_parser("demo", help="scaffold the bundled example into DIR")
    demo.add_argument("experiment", type=Path, nargs="?", default=Path("demo"), metavar="DIR", help="default: demo")
    _add(demo, _COMMON)
    _described(commands, "schema", _SCHEMA)
    skill = _described(commands, "skill", _SKILL)
    skill.add_argument("directory", type=Path, nargs="?", metavar="DIR", help=_SKILL_DIR)
    _add(skill, ("json",))
    commands.add_parser("serve", help=_SERVE, parents=[_roots()])
    return made


def serve_parser() -> argparse.ArgumentParser:
    """Return the parser of `serve` alone, which needs no slow imports."""
    return argparse.ArgumentParser(prog=f"{_PROGRAM} serve", description=_SERVE, parents=[_roots()])


def _roots() -> argparse.ArgumentParser:
    """Return the option of the server. Hosts that have a list of directories pass all of them after one `--root`."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--root", type=Path, action="extend", nargs="+", default=[], metavar="DIR", help=_ROOT)
    return made


_SUBMIT = "hand to SLURM the runs that are ready and not started, as job arrays; asks first"
_EXPERIMENT = "experiment directory or summary file"
_HERE = f"{_EXPERIMENT}; `.` for the current directory"
_HISTORY = "list the earlier files of runs, or compare two versions; writes nothing"
_EXPLAIN = "show where the values of a run come from, where they arrive, and earlier values; writes nothing"
_STATUS = "show the state of each run: progress, loss, time, and the cause of each failure with its fix; writes nothing"
_FIELD = "setting, by any of its names: lr, 'Learning rate', optimizer.lr; default: all"
_REPORT = "write scaffold.html, a page of the runs with their states and values; later scaffolds renew it"
_MARKDOWN = "a short Markdown text instead, for a repository or a chat"
_CSV = "a CSV table instead, one line for each run, to join with results"
_SERVE = "run the MCP server over stdio"
_NEW = "write the documents of a new experiment from options, ready to scaffold"
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


def _described(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return made


def _add(command: argparse.ArgumentParser, takes: Iterable[str]) -> None:
    for name in sorted({*takes} & _OPTIONS.keys(), key=list(_OPTIONS).index):
        flag, settings = _OPTIONS[name]
        command.add_argument(flag, dest=name, **settings)


def _add_submit(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    command.add_argument("--only", metavar="PATTERN", help="submit only runs whose directory or Run Name matches")
    command.add_argument(
        "--max", dest="at_once", type=_positive(int), metavar="N", help="at most N runs of the experiment at once"
    )
    command.add_argument("--no-array", dest="arrays", action="store_false", help="submit each run as a job by itself")
    command.add_argument("--failed", action="store_true", help="submit runs that have failed again, as they are, too")
    command.add_argument("--dry-run", action="store_true", help="show what would be submitted; write nothing")
    command.add_argument("--yes", action="store_true", help="do not ask")
    _add(command, ("local", "root", "json", *_SCRIPT, *_CHECKS))


def _add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    forms = command.add_mutually_exclusive_group()
    forms.add_argument("--markdown", dest="form", action="store_const", const="markdown", help=_MARKDOWN)
    forms.add_argument("--csv", dest="form", action="store_const", const="csv", help=_CSV)
    command.set_defaults(form="page")
    _add(command, ("local", "root", "overwrite", "output", *_SCRIPT, *_CHECKS))


def _add_new(command: argparse.ArgumentParser) -> None:
    from scaffold_torchtune.new import OPTIONS

    command.add_argument("experiment", type=Path, metavar="DIR", help="experiment directory to create")
    for name, option in OPTIONS.items():
        flag, metavar = option.flag, option.metavar
        command.add_argument(flag, dest=name, action="append", default=[], metavar=metavar, help=option.help)
    command.add_argument(
        "--control", action="store_true", help="add a row for the base model of each model as a control"
    )
    _add(command, _COMMON)
