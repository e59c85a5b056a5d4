"""The command line: one command a step, `scaffold` for all of them, `doctor`, `new`, `demo`, `schema`, `serve`.

Exit status: 0 all well; 1 some run failed, some value does not match, or a step was stopped midway; 2 refused.
"""

import argparse
import dataclasses
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scaffold_torchtune import __version__, pipeline, reply, show
from scaffold_torchtune.errors import Refused
from scaffold_torchtune.models.readiness import Readiness
from scaffold_torchtune.models.results import ScaffoldResult, SetupResult, ValidateResult
from scaffold_torchtune.new import OPTIONS, NewResult, create
from scaffold_torchtune.pipeline import Interrupted, Request, Stopped
from scaffold_torchtune.pipeline.request import default_jobs
from scaffold_torchtune.shared.text import one_line

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

_INTERRUPTED = "Interrupted. Repeat the command to go on from there.\n"

_STEPS: dict[str, tuple[Callable[[Request], BaseModel], str]] = {
    "parse": (pipeline.parse, "step 1: read the experiment's documents; writes nothing"),
    "plan": (pipeline.plan, "steps 2 and 4: what varies, the run directories, the template; writes nothing"),
    "render": (pipeline.render, "steps 3 and 5: make the run directories and their setup_finetune.yaml"),
    "setup": (pipeline.setup, "step 6: run setup_finetune for every run: finetune.yaml and finetune.slurm"),
    "validate": (pipeline.validate, "step 7: prove that every planned value arrived"),
    "scaffold": (pipeline.scaffold, "all steps"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status. `arguments` are those of the process by default."""
    options = _parser().parse_args(arguments)
    if options.command == "serve":
        from scaffold_torchtune.mcp_server import serve

        return serve(options.root)
    if options.command == "schema":
        from scaffold_torchtune.parse import schema

        sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not have every character
    _end_in_good_order()
    try:
        status = _run(_step(options), options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more; Python must not find that out again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(_INTERRUPTED)
        return INTERRUPTED
    return status


def _end_in_good_order() -> None:
    """Let the end of the terminal, and a plain kill, be what Ctrl-C is: scripts that run are ended with us."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # whoever started us may want it ignored (nohup), and only the main thread may say otherwise
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _step(options: argparse.Namespace) -> Callable[[Request], BaseModel]:
    """The step that a command means."""
    if options.command == "demo":
        return _demo
    if options.command == "doctor":
        where = options.experiment
        return lambda request: pipeline.doctor(request, with_experiment=where is not None)
    if options.command == "new":
        wishes = {option.parameter: getattr(options, option.parameter) for option in OPTIONS}
        return lambda request: create(request, wishes, control=options.control)
    return _STEPS["plan" if getattr(options, "dry_run", False) else options.command][0]


def _demo(request: Request) -> ScaffoldResult:
    from scaffold_torchtune.demo import prepare_demo

    pipeline.check_roots(request.experiment.resolve(), request)
    prepare_demo(request.experiment)
    # what clusters and environments are called in the example is not what they are called here
    return pipeline.scaffold(dataclasses.replace(request, sbatch=False, with_torchtune=False))


def _run(step: Callable[[Request], BaseModel], options: argparse.Namespace) -> int:
    errors = show.console(stderr=True)
    progress = show.Progress(errors, quiet=options.json)
    try:
        with progress:
            result = step(_request(options, progress))
    except Refused as refused:
        midway = isinstance(refused, Stopped)
        interrupted = isinstance(refused, Interrupted)
        if options.json:
            _print_json(reply.of_refusal(refused, _asked(options), midway=midway))
        elif interrupted:
            sys.stderr.write(_INTERRUPTED)
        else:
            show.refusal(errors, refused, midway=midway)
        return INTERRUPTED if interrupted else 1 if midway else 2
    if options.json:
        _print_json(reply.of_result(result, _asked(options)))
    elif isinstance(result, NewResult):
        _show_new(result, options)
    else:
        show.result(show.console(), result)
    return 0 if _all_well(result) else 1


def _show_new(of: NewResult, options: argparse.Namespace) -> None:
    """What was written, what is remarkable, and the next command."""
    for path in of.created:
        sys.stdout.write(one_line(f"wrote {path}") + "\n")
    if of.local not in of.created:
        sys.stdout.write(one_line(f"uses {of.local}") + "\n")
    sys.stdout.write(f"{of.experiment}: {of.runs} run(s)\n")
    sys.stdout.flush()
    show.findings(show.console(), of.warnings)
    given = ["--local", str(options.local)] if options.local else []
    line = shlex.join(["scaffold-torchtune", "scaffold", str(options.experiment), *given])
    sys.stdout.write(one_line(f"next: {line}") + "\n")


def _asked(options: argparse.Namespace) -> reply.Asked:
    """What the tool of the same name would have been asked."""
    given = {name: getattr(options, name, None) for name in ("experiment", "local", "names", "template")}
    arguments = {name: str(value) for name, value in given.items() if value is not None}
    if getattr(options, "setup_script", None) == "bundled":
        arguments["setup_script"] = "bundled"
    tool = reply.TOOLS.get(options.command, options.command)
    return reply.Asked(tool, arguments, options.start, options.only, options.whole)


def _print_json(data: dict[str, Any]) -> None:
    """One JSON document, in ASCII: any terminal and any pipe takes it."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def _all_well(result: BaseModel) -> bool:
    match result:
        case ScaffoldResult():
            return result.ok
        case SetupResult():
            return result.failed == 0
        case ValidateResult():
            return result.passed
        case Readiness():
            return result.ready
        case _:
            return True


def _request(options: argparse.Namespace, progress: show.Progress) -> Request:
    root = os.environ.get("SCAFFOLD_TORCHTUNE_ROOT")
    given: dict[str, object] = {
        name: getattr(options, name)
        for name in ("names", "template", "setup_script", "overwrite", "jobs", "timeout", "activate", "venv", *_ASKED)
        if hasattr(options, name)
    }
    return Request(
        experiment=options.experiment or Path(),
        local=options.local,
        roots=tuple(options.root) or ((Path(root),) if root else ()),
        progress=progress.update,
        **given,  # type: ignore[arg-type]  # argparse has typed them
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaffold-torchtune",
        description="Turn an experiment summary into a tree of validated, submit-ready torchtune run directories.",
        epilog="Exit status: 0 all well; 1 some run failed, some value does not match, or a step was stopped midway;"
        " 2 refused, no run directory or file was changed.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text) in _STEPS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="experiment directory or summary file")
        _add_common(command)
        if name in {"parse", "plan", "render", "scaffold"}:
            command.add_argument("--template", type=Path, metavar="FILE", help=_TEMPLATE_HELP)
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
    serve = commands.add_parser("serve", help="the MCP server, over stdio")
    serve.add_argument("--root", type=Path, action="append", default=[], metavar="DIR", help=_ROOT_HELP)
    return parser


_ASKED = ("sbatch", "with_torchtune")
_SCRIPT_HELP = "an existing setup_finetune.py; default: the bundled one"
_JOBS_HELP = "external scripts at a time; default: as many as there are cores, at most 4 (login nodes are shared)"
_TEMPLATE_HELP = (
    "a template of setup_finetune.yaml: Jinja2 (.j2), instead of the bundled one; or plain YAML (.yaml), whose values"
    " count where the documents say nothing"
)
_NEW_HELP = "write an experiment's documents, filled from options, to start from; they scaffold as they are"
_DOCTOR = "tell whether this machine is ready: environment, setup script, torchtune, SLURM; writes nothing"
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
    command.add_argument("experiment", type=Path, metavar="DIR", help="the experiment directory to be")
    for option in OPTIONS:
        flag, name, metavar, text = option.flag, option.parameter, option.metavar, option.help
        command.add_argument(flag, dest=name, action="append", default=[], metavar=metavar, help=text)
    command.add_argument("--control", action="store_true", help="add a control for each model: the base model")
    _add_common(command)


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("experiment", type=Path, nargs="?", metavar="EXPERIMENT", help="look at its documents too")
    _add_common(command)
    _add_script(command)
    _add_asking(command)


def _add_planning(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--names",
        choices=("varying", "table"),
        help="name run directories by what varies (default), or by the table's Run Name",
    )


def _add_running(command: argparse.ArgumentParser) -> None:
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


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = kind(text)
        if not 0 < number < float("inf"):
            raise ValueError(text)
        return number

    read.__name__ = f"positive {kind.__name__}"
    return read


if __name__ == "__main__":
    sys.exit(main())
