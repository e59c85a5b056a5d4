"""The commands, but for `serve`: a step, all of them, `history`, `explain`, `doctor`, `new`, `demo`, `schema`, `skill`.

Exit status: 0 all well; 1 some run failed, some value does not match, a step was stopped midway, or the result could
not be printed; 2 refused; 70 failed in a way that nobody foresaw.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from rich.console import Console

from scaffold_torchtune.cli import printing, provenance
from scaffold_torchtune.cli.parser import parser
from scaffold_torchtune.cli.skill import SkillResult, install_skill
from scaffold_torchtune.findings import Refused, refuse
from scaffold_torchtune.models import Readiness
from scaffold_torchtune.new import NewResult, create
from scaffold_torchtune.new.options import OPTIONS
from scaffold_torchtune.pipeline import doctor, internal_error, locate, steps
from scaffold_torchtune.pipeline.apply import writing
from scaffold_torchtune.pipeline.explain import ExplainResult, explain
from scaffold_torchtune.pipeline.history import HistoryResult, history
from scaffold_torchtune.pipeline.reporting import ReportResult, report
from scaffold_torchtune.request import Interrupted, Request, Stopped, midway
from scaffold_torchtune.results import reply, tools
from scaffold_torchtune.results.step_results import PlanResult, ScaffoldResult, SetupResult, ValidateResult
from scaffold_torchtune.system import own_process
from scaffold_torchtune.system.files import Tree, real_path
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
        Refused: a file of the example cannot be written, or something else lies in its place.
    """
    write_example(directory)
    return directory


def write_example(directory: Path) -> bool:
    """Write those files of the bundled example that are not in `directory`; return whether there were any.

    Links in it are not followed.

    Raises:
        Refused: a file cannot be written, or something else lies in its place.
    """
    source = EXAMPLES / NAME
    files = {str(path.relative_to(source)): path for path in sorted(source.rglob("*")) if path.is_file()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write {directory}: {error.strerror}"
        raise refuse("write-failed", message, file=str(directory), fix="give another directory") from error
    with Tree(directory) as tree:
        kinds = {name: tree.kind(name) for name in files}
        for name in (name for name, kind in kinds.items() if kind not in {None, "file"}):
            message, fix = f"{name} is a link, or no plain file", "remove or rename it, or give another directory"
            raise refuse("unsafe-path", message, file=name, fix=fix)
        missing = [name for name, kind in kinds.items() if kind is None]
        if missing:
            with writing(tree), midway():
                for name in missing:
                    for end in range(1, name.count("/") + 1):
                        tree.make_directory("/".join(name.split("/")[:end]))
                    tree.write(name, files[name].read_bytes())
    return bool(missing)


class _Done(NamedTuple):
    """What became of a command: its exit status, and what prints its result."""

    status: int
    show: Callable[[], None]


def run(arguments: Sequence[str]) -> int:
    """Do what a command line asks for, and return its exit status."""
    status = 0
    try:
        options = _parsed(arguments)
        # the end of the terminal, and a plain kill, are what Ctrl-C is: scripts that run are ended with us
        own_process.heed_signals(signal.default_int_handler)
        request, done = _do(options)
        status = done.status
        try:
            done.show()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort
            done = _failed(error, options, request, ended=True)
            status = done.status
            done.show()
        sys.stdout.flush()
    except OSError as error:  # what was to be done is done, or refused
        if reason := own_process.give_up_output(error):
            with contextlib.suppress(OSError):
                sys.stderr.write(f"The result cannot be printed: {reason}\n")
        return status or 1
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            sys.stderr.write(_INTERRUPTED)
        return INTERRUPTED
    return status


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    try:
        options = parser().parse_args(arguments)
    except SystemExit:
        sys.stdout.flush()  # of --help and --version
        raise
    options.words = [*arguments]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not have every character
    return options


def _step(options: argparse.Namespace) -> Callable[[Request], BaseModel]:
    """Return the step that a command means."""
    if options.command == "demo":
        return _demo
    if options.command == "doctor":
        return lambda request: doctor.doctor(request, with_experiment=options.experiment is not None)
    if options.command == "skill":
        return lambda _request: install_skill(options.directory)
    if options.command == "history":
        return lambda request: history(request, options.run, options.compare)
    if options.command == "explain":
        return lambda request: explain(request, options.run, options.field)
    if options.command == "report":
        return lambda request: report(request, options.form, options.output)
    if options.command == "new":
        given = {name: getattr(options, name) for name in OPTIONS}
        return lambda request: create(request, given, control=options.control)
    step: Callable[[Request], BaseModel] = getattr(steps, "plan" if options.dry_run else options.command)
    return step


def _demo(request: Request) -> ScaffoldResult:
    locate.check_roots(real_path(request.experiment), request)
    written = write_example(request.experiment)
    # what clusters and environments are called in the example is not what they are called here
    with midway() if written else nullcontext():
        return steps.scaffold(dataclasses.replace(request, sbatch=False, with_torchtune=False))


def _do(options: argparse.Namespace) -> tuple[Request | None, _Done]:
    """Do what is asked for; return the request, and what became of it."""
    if options.command == "schema":
        return None, _Done(0, _show_schema)
    request: Request | None = None
    errors = printing.console(stderr=True)
    try:
        with printing.ProgressBar(errors, quiet=options.json) as progress:
            request = _request(options, progress)
            result = _step(options)(request)
    except Refused as refused:
        return request, _refused(refused, options, errors)
    except Exception as error:  # noqa: BLE001 - the last resort
        return request, _failed(error, options, request)
    return request, _Done(0 if _all_well(result) else 1, lambda: _show(result, options))


def _refused(refused: Refused, options: argparse.Namespace, errors: Console) -> _Done:
    midway, interrupted = isinstance(refused, Stopped), isinstance(refused, Interrupted)

    def show() -> None:
        if options.json:
            _print_json(reply.of_refusal(refused, _call(options), midway=midway))
        elif interrupted:
            sys.stderr.write(_INTERRUPTED)
        else:
            printing.refusal(errors, refused, midway=midway)

    return _Done(INTERRUPTED if interrupted else 1 if midway else 2, show)


def _failed(error: Exception, options: argparse.Namespace, request: Request | None, *, ended: bool = False) -> _Done:
    """Return what becomes of a command that failed in a way that nobody foresaw; `ended` where its work was done."""
    refused = internal_error.internal_error(error, options.command, request, ended=ended)

    def show() -> None:
        if options.json:
            _print_json(reply.of_internal_error(refused))
        else:
            sys.stderr.write("".join(f"Failed: {problem.sentence()}\n" for problem in refused.problems))

    return _Done(internal_error.STATUS, show)


def _show_schema() -> None:
    from scaffold_torchtune.parse.yaml_form import schema

    _print_json(schema())


def _show(result: BaseModel, options: argparse.Namespace) -> None:
    if options.json:
        _print_json(reply.of_result(result, _call(options)))
    elif isinstance(result, NewResult):
        _show_new(result, options)
    elif isinstance(result, HistoryResult | ExplainResult):
        provenance.show(printing.console(), result)
    elif isinstance(result, ReportResult):
        sys.stdout.write(one_line(f"wrote {result.path}") + "\n" if result.path else result.text)
    elif isinstance(result, SkillResult):
        _show_skill(result)
    else:
        following = _following(options) if isinstance(result, PlanResult) else ""
        printing.result(printing.console(), result, whole=options.whole, next_command=following)


def _following(options: argparse.Namespace) -> str:
    """Return the command that scaffolds what was planned: the words that planned it, less those that only show."""
    words = [word for word in options.words[1:] if word not in {"--dry-run", "--all"}]
    return shlex.join(["scaffold-torchtune", "scaffold", *words])


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
    if options.started is not None:
        arguments["started"] = " ".join(options.started)
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
    if options.started is not None:
        given["started"] = " ".join(options.started)
    roots = tuple(options.root) or ((Path(root),) if root else ())
    return Request(**given, roots=roots, progress=progress.update)
