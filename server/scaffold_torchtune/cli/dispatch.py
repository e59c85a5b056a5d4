"""The commands, but for `serve`: a step, all of them, `doctor`, `new`, `demo`, `schema`, `skill`.

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

from scaffold_torchtune.cli import printing
from scaffold_torchtune.cli.parser import parser
from scaffold_torchtune.cli.skill import SkillResult, install_skill
from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.models import Readiness
from scaffold_torchtune.new import NewResult, create
from scaffold_torchtune.new.options import OPTIONS
from scaffold_torchtune.pipeline import doctor, locate, steps
from scaffold_torchtune.request import Interrupted, Request, Stopped
from scaffold_torchtune.results import reply, tools
from scaffold_torchtune.results.step_results import ScaffoldResult, SetupResult, ValidateResult
from scaffold_torchtune.system.files import publish, real_path
from scaffold_torchtune.system.layout import EXAMPLES
from scaffold_torchtune.system.text import one_line

NAME = "capitalization_lora_sweep"
"""The bundled example."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

_INTERRUPTED = "Interrupted. Repeat the command to go on from there.\n"
_OF_REQUEST = {field.name for field in dataclasses.fields(Request)}


def prepare_demo(directory: Path) -> Path:
    """Copy the bundled example into `directory`, leaving what is already there, and return the experiment directory.

    Raises:
        Refused: a file of the example cannot be written.
    """
    source = EXAMPLES / NAME
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        target = directory / file.relative_to(source)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                publish({target: file.read_bytes()})
        except OSError as error:
            message = f"cannot write {target}: {error.strerror}"
            raise refuse("write-failed", message, file=str(target), fix="give another directory") from error
    return directory


def run(arguments: Sequence[str]) -> int:
    """Do what a command line asks for, and return its exit status."""
    options = parser().parse_args(arguments)
    if options.command == "schema":
        from scaffold_torchtune.parse.yaml_form import schema

        _print_json(schema())
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not have every character
    _end_in_good_order()
    try:
        status = _do(_step(options), options)
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
    """Return the step that a command means."""
    if options.command == "demo":
        return _demo
    if options.command == "doctor":
        return lambda request: doctor.doctor(request, with_experiment=options.experiment is not None)
    if options.command == "skill":
        return lambda _request: install_skill(options.directory)
    if options.command == "new":
        given = {name: getattr(options, name) for name in OPTIONS}
        return lambda request: create(request, given, control=options.control)
    step: Callable[[Request], BaseModel] = getattr(steps, "plan" if options.dry_run else options.command)
    return step


def _demo(request: Request) -> ScaffoldResult:
    locate.check_roots(real_path(request.experiment), request)
    prepare_demo(request.experiment)
    # what clusters and environments are called in the example is not what they are called here
    return steps.scaffold(dataclasses.replace(request, sbatch=False, with_torchtune=False))


def _do(step: Callable[[Request], BaseModel], options: argparse.Namespace) -> int:
    errors = printing.console(stderr=True)
    progress = printing.ProgressBar(errors, quiet=options.json)
    try:
        with progress:
            result = step(_request(options, progress))
    except Refused as refused:
        midway, interrupted = isinstance(refused, Stopped), isinstance(refused, Interrupted)
        if options.json:
            _print_json(reply.of_refusal(refused, _call(options), midway=midway))
        elif interrupted:
            sys.stderr.write(_INTERRUPTED)
        else:
            printing.refusal(errors, refused, midway=midway)
        return INTERRUPTED if interrupted else 1 if midway else 2
    if options.json:
        _print_json(reply.of_result(result, _call(options)))
    elif isinstance(result, NewResult):
        _show_new(result, options)
    elif isinstance(result, SkillResult):
        _show_skill(result)
    else:
        printing.result(printing.console(), result)
    return 0 if _all_well(result) else 1


def _show_new(of: NewResult, options: argparse.Namespace) -> None:
    """Print what was written, what is remarkable, and the next command."""
    for path in of.created:
        sys.stdout.write(one_line(f"wrote {path}") + "\n")
    if of.local not in of.created:
        sys.stdout.write(one_line(f"uses {of.local}") + "\n")
    sys.stdout.write(f"{of.experiment}: {of.runs} run(s)\n")
    sys.stdout.flush()
    printing.findings(printing.console(), of.warnings)
    given = ["--local", str(options.local)] if options.local else []
    line = shlex.join(["scaffold-torchtune", "scaffold", str(options.experiment), *given])
    sys.stdout.write(one_line(f"next: {line}") + "\n")


def _show_skill(of: SkillResult) -> None:
    """Print what was written, and how agents get the tools that the skill calls."""
    done = "nothing was changed in" if of.unchanged else "replaced" if of.replaced else "wrote"
    sys.stdout.write(one_line(f"{done} {of.directory}: {', '.join(of.files)}") + "\n")
    line = "claude mcp add --scope user torchtune -- scaffold-torchtune serve"
    sys.stdout.write(f"next, where it has not been done: {line}\n")


def _call(options: argparse.Namespace) -> tools.Call:
    """Return the call of the tool that does the same."""
    given = {name: vars(options)[name] for name in ("experiment", "local", "names", "template")}
    arguments: dict[str, Any] = {name: str(value) for name, value in given.items() if value is not None}
    if options.setup_script == "bundled":
        arguments["setup_script"] = "bundled"
    arguments["answers"] = dict(options.answers)
    tool = tools.TOOLS.get(options.command, options.command)
    return tools.Call(tool, arguments, options.start, options.only, options.whole)


def _print_json(data: dict[str, Any]) -> None:
    """Print one JSON document, in ASCII: any terminal and any pipe takes it."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def _all_well(result: BaseModel) -> bool:
    match result:
        case ScaffoldResult(ok=False) | ValidateResult(passed=False) | Readiness(ready=False):
            return False
        case SetupResult():
            return result.failed == 0
    return True


def _request(options: argparse.Namespace, progress: printing.ProgressBar) -> Request:
    root = os.environ.get("SCAFFOLD_TORCHTUNE_ROOT")
    given = {name: value for name, value in vars(options).items() if name in _OF_REQUEST and value is not None}
    given |= {"experiment": options.experiment or Path(), "answers": dict(options.answers)}
    roots = tuple(options.root) or ((Path(root),) if root else ())
    return Request(**given, roots=roots, progress=progress.update)
