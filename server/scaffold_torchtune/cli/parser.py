"""The options of the command line. Imports that take time are made where they are needed: `serve` is to be quick."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from scaffold_torchtune import __version__
from scaffold_torchtune.request import DECISION
from scaffold_torchtune.results.reply import STEPS

_PROGRAM: Final = "scaffold-torchtune"
_ROOT = "experiments must lie under one of these directories; may be repeated"


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
        raise argparse.ArgumentTypeError("say keep, replace, keep=RUN,... or replace=RUN,...")
    return text


_OPTIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "local": _option("--local FILE", "the claude.local.md to use", type=Path),
    "root": _option("--root DIR", _ROOT, type=Path, action="append", default=[]),
    "json": _option("--json", "print the structured result and nothing else", action="store_true"),
    "start": _option("--start N", "with --json: list from item N on", type=_positive(int), default=1),
    "only": _option("--only PATTERN", "with --json: list only runs whose name matches"),
    "whole": _option(
        "--all", "show every run, value and finding; with --json: cut no list and no text", action="store_true"
    ),
    "template": _option(
        "--template FILE",
        "a template of setup_finetune.yaml: Jinja2 (.j2), instead of the bundled one; or plain YAML (.yaml), whose"
        " values count where the documents say nothing",
        type=Path,
    ),
    "answers": _option(
        "--answer FIELD=VALUE",
        "a value that no document gives, as asked for; may be repeated",
        type=_answer,
        action="append",
        default=[],
    ),
    "names": _option(
        "--names",
        "name run directories by what varies (default), or by the table's Run Name",
        choices=("varying", "table"),
    ),
    "setup_script": _option("--setup-script FILE|bundled", "an existing setup_finetune.py; default: the bundled one"),
    "activate": _option(
        "--no-activate",
        "the environment of an external script is already the right one: load no module, activate nothing",
        action="store_false",
    ),
    "venv": _option(
        "--venv DIR",
        "a virtual environment for an external script, in the place of the conda environment of claude.local.md",
        type=Path,
    ),
    "overwrite": _option("--overwrite", "replace files that were edited by hand", action="store_true"),
    "started": _option(
        "--started keep|replace[=RUN,...]",
        "what becomes of started runs that would change: they stay as they are, or are scaffolded anew; all of them, or"
        " those named (by patterns, too); may be repeated",
        type=_decision,
        action="append",
    ),
    "jobs": _option(
        "--jobs N",
        "external scripts at a time; default: as many as there are cores, at most 4 (login nodes are shared)",
        type=_positive(int),
    ),
    "timeout": _option("--timeout SECONDS", "for one run of an external script", type=_positive(float)),
    "sbatch": _option("--no-sbatch", "do not ask SLURM's sbatch whether it takes the scripts", action="store_false"),
    "with_torchtune": _option(
        "--with-torchtune",
        "ask torchtune itself whether it takes finetune.yaml; default: where SCAFFOLD_TORCHTUNE_PYTHON names a Python,"
        " or the one that runs this has torchtune",
        action=argparse.BooleanOptionalAction,
    ),
    "compare": _option(
        "--diff",
        "show two versions side by side: those that are named, else the last that was kept and the files as they are;"
        " `now` names the latter",
        nargs="*",
        metavar="VERSION",
    ),
    "output": _option(
        "--output FILE",
        "the file to write, `-` to print; default: scaffold.html in the experiment, the others are printed",
    ),
    "dry_run": _option("--dry-run", "plan only; write nothing", action="store_true"),
}
"""Each option by the name of what it gives, in the order of the help texts."""

_COMMON: Final = ("local", "root", "json", "start", "only", "whole")
_SCRIPT: Final = ("setup_script", "activate", "venv")
_CHECKS: Final = ("sbatch", "with_torchtune")
_OF_OTHERS: Final = frozenset({"compare", "output"})  # which no step takes


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. An option that a command does not take is None, or empty."""
    made = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Turn an experiment summary into a tree of validated, submit-ready torchtune run directories.",
        epilog="Exit status: 0 all well; 1 some run failed, some value does not match, or a step was stopped midway;"
        " 2 refused, no run directory or file was changed; 70 an error of scaffold-torchtune itself.",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    made.set_defaults(
        **dict.fromkeys(("experiment", "run", "field", *_OPTIONS)) | {"root": [], "start": 1, "answers": []}
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, takes in _steps():
        step = _described(commands, name, text)
        step.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_EXPERIMENT)
        _add(step, takes)
    _add_new(_described(commands, "new", _NEW))
    history = _described(commands, "history", _HISTORY)
    history.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    history.add_argument("run", nargs="?", metavar="RUN", help="a run's directory or Run Name; default: all runs")
    _add(history, ("root", "json", "start", "whole", "compare"))
    explain = _described(commands, "explain", _EXPLAIN)
    explain.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    explain.add_argument("run", metavar="RUN", help="a run's directory or Run Name, or a pattern of them")
    explain.add_argument("field", nargs="?", metavar="FIELD", help=_FIELD)
    _add(explain, ("local", "root", "json", "start", "whole", "template", "answers", "names", *_SCRIPT))
    _add_report(_described(commands, "report", _REPORT))
    doctor = _described(commands, "doctor", _DOCTOR)
    doctor.add_argument("experiment", type=Path, nargs="?", metavar="EXPERIMENT", help="look at its documents too")
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
    """Return the parser of `serve` alone, which needs nothing that takes time to import."""
    return argparse.ArgumentParser(prog=f"{_PROGRAM} serve", description=_SERVE, parents=[_roots()])


def _roots() -> argparse.ArgumentParser:
    """Return the option of the server. Hosts that keep a list of directories put all of it behind one `--root`."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--root", type=Path, action="extend", nargs="+", default=[], metavar="DIR", help=_ROOT)
    return made


_EXPERIMENT = "experiment directory or summary file"
_HERE = f"{_EXPERIMENT}; `.` in it"
_HISTORY = "list the earlier files of runs that are kept, and show how two versions differ; writes nothing"
_EXPLAIN = "tell where a run's values come from, where they arrived, and what they were before; writes nothing"
_FIELD = "a setting, as documents or files name it: lr, 'Learning rate', optimizer.lr; default: all"
_REPORT = "write scaffold.html, a page of the runs, their values and states, renewed after each scaffold from then on"
_MARKDOWN = "a short Markdown text instead, for a repository or a chat"
_CSV = "a CSV table instead, one line for each run, to join with results"
_SERVE = "the MCP server, over stdio"
_NEW = "write an experiment's documents, filled from options, to start from; they scaffold as they are"
_DOCTOR = "tell whether this machine is ready: environment, setup script, torchtune, SLURM; writes nothing"
_SCHEMA = "the JSON Schema of experiment_summary.yaml, for editors that complete and check it"
_SKILL = "put SKILL.md and its workflows where agents look for skills; replaces only what it wrote itself"
_SKILL_DIR = "a directory of skills, such as ~/.agents/skills; default: ~/.claude/skills"


def _steps() -> Iterator[tuple[str, str, Iterable[str]]]:
    """Yield each command that does a step, or all of them, with its help and what it takes.

    The operator names the script to each step that may run it, which tools cannot.
    """
    for step in STEPS:
        script = () if step.command == "parse" else _SCRIPT
        checks = _CHECKS if "with_torchtune" in step.arguments else ()
        yield step.command, step.help, (*_COMMON, *step.arguments, *script, *checks)
    yield "scaffold", "all steps", [name for name in _OPTIONS if name not in _OF_OTHERS]


def _described(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return made


def _add(command: argparse.ArgumentParser, takes: Iterable[str]) -> None:
    for name in sorted({*takes} & _OPTIONS.keys(), key=list(_OPTIONS).index):
        flag, settings = _OPTIONS[name]
        command.add_argument(flag, dest=name, **settings)


def _add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", type=Path, metavar="EXPERIMENT", help=_HERE)
    forms = command.add_mutually_exclusive_group()
    forms.add_argument("--markdown", dest="form", action="store_const", const="markdown", help=_MARKDOWN)
    forms.add_argument("--csv", dest="form", action="store_const", const="csv", help=_CSV)
    command.set_defaults(form="page")
    _add(command, ("local", "root", "overwrite", "output", *_SCRIPT, *_CHECKS))


def _add_new(command: argparse.ArgumentParser) -> None:
    from scaffold_torchtune.new import OPTIONS

    command.add_argument("experiment", type=Path, metavar="DIR", help="the experiment directory to be")
    for name, option in OPTIONS.items():
        flag, metavar = option.flag, option.metavar
        command.add_argument(flag, dest=name, action="append", default=[], metavar=metavar, help=option.help)
    command.add_argument("--control", action="store_true", help="add a control for each model: the base model")
    _add(command, _COMMON)
