"""The commands, except `serve`: steps, `status`, `history`, `explain`, `doctor`, `new`, `demo`, `schema`, `skill`.

Exit status: 0 success; 1 a run failed, a value does not match, a step was stopped midway, or the result could not be
printed; 2 refused; 70 an unexpected error.

`skill` copies SKILL.md and workflows/ to the directory of an agent's skills, for users who installed only the package.
A record in the folder lists the written files, so that a later version replaces these files and no others.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from rich.console import Console

from scaffold_torchtune import __version__
from scaffold_torchtune.cli import printing, run_screens, screens
from scaffold_torchtune.cli.parser import completion_of, help_of, read
from scaffold_torchtune.extend import ADDED, AddResult, add_runs
from scaffold_torchtune.findings import Refused, counted, errors_in, escape, finding, one_line, refuse
from scaffold_torchtune.models import CommandResult, Options, Readiness
from scaffold_torchtune.new import NewResult
from scaffold_torchtune.pipeline import diagnosis, locate, prepare, steps
from scaffold_torchtune.pipeline.apply import writing
from scaffold_torchtune.pipeline.explain import ExplainResult, explain
from scaffold_torchtune.pipeline.history import HistoryResult, history
from scaffold_torchtune.pipeline.reporting import ReportResult, report, status
from scaffold_torchtune.pipeline.submit import SubmitResult
from scaffold_torchtune.request import Interrupted, Request, Stopped, midway
from scaffold_torchtune.results import reply
from scaffold_torchtune.results.reply import TOOLS, Call
from scaffold_torchtune.results.step_results import (
    ScaffoldResult,
    SetupResult,
    StatusResult,
    ValidateResult,
    option_words,
)
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import MAX_READ, Tree, real_path, sha256
from scaffold_torchtune.system.layout import EXAMPLES, shipped
from scaffold_torchtune.system.serialization import read_json

SKILL: Final = "scaffold-torchtune"
"""The skill's name, which its folder must have."""

RECORD: Final = ".scaffold-torchtune.json"
"""The record in the folder: the version and the SHA-256 of each written file."""


class SkillResult(CommandResult):
    """The skill's folder and files, and whether they were unchanged or replaced."""

    directory: str
    files: tuple[str, ...]
    unchanged: bool
    replaced: bool

    @property
    def summary(self) -> str:
        """Return the number of files and their directory."""
        files = counted(len(self.files), "file")
        if self.unchanged:
            return f"Nothing was changed: {self.directory} is up to date."
        return f"{files} {'replaced' if self.replaced else 'written'} in {self.directory}."


def install_skill(directory: Path | None = None) -> SkillResult:
    """Install the skill into a folder with its name, completely or not at all.

    `directory` is an agent's directory of skills, or the skill's own folder in it. The default is Claude Code's
    directory: `skills` in CLAUDE_CONFIG_DIR, else in `~/.claude`.

    Raises:
        Refused: a file in the folder was not written by this command or was edited, or the folder cannot be written.
    """
    try:
        directory = directory or Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / "skills"
    except RuntimeError as error:
        raise _skill_refused("write-failed", "this user has no home directory", [], "give the directory") from error
    target = directory if directory.name == SKILL else directory / SKILL
    files = _files()
    try:
        there, known = _hashes(target), _recorded(target)
        edited = [name for name, found in there.items() if found is None or known.get(name) != found]
        if others := [target / name for name in edited if name != RECORD or not known]:
            raise _not_ours(target, others)
        unchanged = there == {name: sha256(data) for name, data in files.items()}
        if not unchanged:
            _publish(target, files)
    except OSError as error:
        message = f"cannot write {escape(str(target))}: {error.strerror}"
        raise _skill_refused("write-failed", message, [target], "free space or grant write permission") from error
    return SkillResult(
        directory=str(target),
        files=tuple(name for name in sorted(files) if name != RECORD),
        unchanged=unchanged,
        replaced=bool(there) and not unchanged,
    )


def _files() -> dict[str, bytes]:
    """Return every file of the skill by its path in the folder, including the record."""
    sources = [shipped("SKILL.md"), *shipped("workflows").glob("*.md")]
    files = {source.relative_to(shipped()).as_posix(): source.read_bytes() for source in sources}
    hashes = {name: sha256(data) for name, data in sorted(files.items())}
    record = json.dumps({"version": __version__, "files": hashes}, indent=2)
    return files | {RECORD: record.encode() + b"\n"}


def _hashes(target: Path) -> dict[str, str | None]:
    """Return the SHA-256 of each file in the folder by its path, sorted; None for a link or a special file.

    Raises:
        Refused: the folder is a link or not a folder.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise _not_ours(target, [target])
    below = {path.relative_to(target).as_posix(): path for path in target.rglob("*")}
    found = {name: path for name, path in sorted(below.items()) if path.is_symlink() or not path.is_dir()}
    regular = {name for name, path in found.items() if path.is_file() and not path.is_symlink()}
    return {name: sha256(path.read_bytes()) if name in regular else None for name, path in found.items()}


def _recorded(target: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that an earlier call wrote; empty without a readable record."""
    try:
        return dict(read_json((target / RECORD).read_bytes(), MAX_READ)["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _publish(target: Path, files: Mapping[str, bytes]) -> None:
    """Create the folder in the parent directory, then move it into place; the old folder is removed last."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{SKILL}.", dir=target.parent) as work:
        made = Path(work, "new")
        for name, data in files.items():
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        if target.exists():
            target.rename(Path(work, "old"))
        made.rename(target)


def _not_ours(target: Path, paths: list[Path]) -> Refused:
    message = f"{escape(str(target))} contains files that this command did not write, or that were edited since"
    fix = "move the directory elsewhere and repeat the command, or specify a different directory"
    return _skill_refused("edited-output", message, paths, fix)


def _skill_refused(code: str, message: str, paths: list[Path], fix: str) -> Refused:
    """Return a refusal with a finding for each path, or one finding without a path."""
    edited = "the file has been edited since it was written, or was not written by this tool; it would be overwritten"
    why = edited if code == "edited-output" else "this file or directory cannot be written"
    files: list[str | None] = [escape(str(path)) for path in paths]
    return Refused(message, [finding(code, why, file=file, fix=fix) for file in files or [None]])


DEMO = "capitalization_lora_sweep"
"""The bundled example."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as in shells."""

_INTERRUPTED = "Interrupted. Repeat the command to continue.\n"
_OF_REQUEST = {field.name for field in dataclasses.fields(Request)}


def prepare_demo(directory: Path) -> Path:
    """Copy the bundled example into `directory`, keep existing files, and return the experiment directory.

    Raises:
        Refused: a file of the example cannot be written, or its path is not a regular file.
    """
    write_example(directory)
    return directory


def write_example(directory: Path) -> bool:
    """Write the files of the bundled example that are missing in `directory`; return whether any was missing.

    Links in it are not followed.

    Raises:
        Refused: a file cannot be written, or its path is not a regular file.
    """
    source = EXAMPLES / DEMO
    files = {str(path.relative_to(source)): path for path in sorted(source.rglob("*")) if path.is_file()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write {directory}: {error.strerror}"
        raise refuse("write-failed", message, file=str(directory), fix="give a different directory") from error
    with Tree(directory) as tree:
        kinds = {name: tree.kind(name) for name in files}
        for name in (name for name, kind in kinds.items() if kind not in {None, "file"}):
            message, fix = f"{name} is not a regular file", "remove or rename it, or give a different directory"
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
    """The end of a command: its exit status, and a function that prints its result."""

    status: int
    show: Callable[[], None]


def run(arguments: Sequence[str]) -> int:
    """Execute a command line, and return its exit status."""
    status = 0
    try:
        options = _parsed(arguments)
        # hangup and termination are handled like Ctrl-C: running scripts are ended too
        processes.heed_signals(signal.default_int_handler)
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
    except OSError as error:  # the command is already done or refused
        if reason := processes.give_up_output(error):
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
        options = read(arguments)
    except SystemExit:
        sys.stdout.flush()  # output of --help and --version
        raise
    options.words, options.planned = [*arguments], {}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not have every character
    return options


def _step(options: argparse.Namespace) -> Callable[[Request], BaseModel]:
    """Return the function of a command."""
    others: dict[str, Callable[[Request], BaseModel]] = {
        "demo": _demo,
        "doctor": lambda request: diagnosis.doctor(request, with_experiment=options.experiment is not None),
        "skill": lambda _request: install_skill(options.directory),
        "history": lambda request: history(request, options.run, options.compare),
        "explain": lambda request: explain(request, options.run, options.field),
        "status": lambda request: _status(request, options),
        "submit": lambda request: run_screens.submit_asking(request, options),
        "report": lambda request: report(request, options.form, options.output),
        "add": lambda request: add_runs(request, {name: getattr(options, name) for name in ADDED}),
        "new": lambda request: run_screens.create_asking(request, options),
    }
    step: Callable[[Request], BaseModel] | None = others.get(options.command)
    return step or getattr(steps, "plan" if options.dry_run else options.command)


def _status(request: Request, options: argparse.Namespace) -> StatusResult:
    def ask() -> StatusResult:
        request.slurm_said.clear()  # ask again each time
        return status(request, options.only)

    if options.watch is None or options.json:
        return ask()
    return run_screens.watch_status(printing.console(), ask, options.watch, _view(options))


def _demo(request: Request) -> ScaffoldResult:
    locate.check_roots(real_path(request.experiment), request)
    written = write_example(request.experiment)
    # the example's clusters and environments do not exist on this machine
    with midway() if written else nullcontext():
        return steps.scaffold(dataclasses.replace(request, sbatch=False, with_torchtune=False))


def _do(options: argparse.Namespace) -> tuple[Request | None, _Done]:
    """Execute the command; return its request and its end."""
    if show := _TEXTS.get(options.command):
        return None, _Done(0, lambda: show(options))
    request: Request | None = None
    errors = printing.console(stderr=True)
    try:
        is_silent = options.json or options.quiet or options.command in {"new", "submit"}
        with printing.ProgressBar(errors, quiet=is_silent) as progress:
            _find_experiment(options)
            request = _request(options, progress)
            result = _step(options)(request)
        done = _Done(0 if _all_well(result) else 1, lambda: _show(result, options))
    except Refused as refused:
        done = _refused(refused, options, errors)
    except Exception as error:  # noqa: BLE001 - the last resort
        return request, _failed(error, options, request)
    try:
        _look_ahead(options, request)
    except Exception as error:  # noqa: BLE001 - likewise
        done = _failed(error, options, request, ended=True)
    return request, done


def _look_ahead(options: argparse.Namespace, request: Request | None) -> None:
    """Change the options to those of the next command: without the answers that it must not repeat.

    `planned` are the options of the frozen plan that it must repeat, if this command cannot give them all.
    """
    if request is None:
        return
    if options.command in _OF_A_PLAN:
        options.planned = prepare.planned_options(request)
    needed = prepare.needed_answers(request)
    if left := {field for field, _ in options.answers if field not in needed}:
        options.answers = [*needed.items()]
        options.words = _without_answers(options.words, left)


def _without_answers(words: Sequence[str], fields: Collection[str]) -> list[str]:
    """Return the words of a command line without the answers for some fields."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, equals, text = word.partition("=")
        is_answer = len(flag) > len("--a") and "--answer".startswith(flag)  # argparse accepts abbreviations
        given = [word, next(rest, "")] if is_answer and not equals else [word]
        field = (text if equals else given[-1]).partition("=")[0].strip()
        kept += given if not (is_answer and field in fields) else []
    return kept


def _refused(refused: Refused, options: argparse.Namespace, errors: Console) -> _Done:
    midway, interrupted = isinstance(refused, Stopped), isinstance(refused, Interrupted)

    def show() -> None:
        if options.json:
            _print_json(reply.of_refusal(refused, _call(options), midway=midway))
        elif interrupted:
            sys.stderr.write(_INTERRUPTED)
        else:
            view = _view(options)
            view = dataclasses.replace(view, words=()) if reply.is_of_arguments(refused) else view
            screens.refusal(errors, refused, view, midway=midway)

    return _Done(INTERRUPTED if interrupted else 1 if midway else 2, show)


def _failed(error: Exception, options: argparse.Namespace, request: Request | None, *, ended: bool = False) -> _Done:
    """Return the end of a command that failed with an unexpected error; `ended` is whether its work was complete."""
    refused = diagnosis.internal_error(error, options.command, request, ended=ended)

    def show() -> None:
        if options.json:
            _print_json(reply.of_internal_error(refused))
        else:
            sys.stderr.write("".join(f"Failed: {problem.sentence()}\n" for problem in refused.problems))

    return _Done(diagnosis.EXIT_STATUS, show)


def _show_schema(_options: argparse.Namespace) -> None:
    from scaffold_torchtune.parse.yaml_form import schema

    _print_json(schema())


_TEXTS: Final[Mapping[str, Callable[[argparse.Namespace], None]]] = {
    "schema": _show_schema,
    "help": lambda options: print(help_of(options.topic), end=""),  # noqa: T201 - the requested text
    "completion": lambda options: print(completion_of(options.shell)),  # noqa: T201 - likewise
}
"""The commands that only print a text."""

_OF_ITS_OWN: Final = frozenset({"new", "demo", "skill"})  # they do not need an experiment, or name it themselves
_OF_A_PLAN: Final = frozenset({"setup", "validate", "submit", "add"})  # the commands that follow a plan
_SELECTING: Final = frozenset({"submit", "status"})  # their results only have the runs that --only selects
_WITHOUT_DOCUMENTS: Final = frozenset({"status", "history"})


def _find_experiment(options: argparse.Namespace) -> None:
    """Complete the options: if no experiment is given, it is the current directory; `new` asks for it.

    The first argument of `explain` and `history` is an experiment if one with that name exists, else a run.

    Raises:
        Refused: no experiment is given, and the current directory is not an experiment.
    """
    if options.command in {"explain", "history"}:
        words = options.positionals
        is_given = words and (locate.is_experiment(Path(words[0])) or not locate.is_experiment(Path()))
        if options.command == "explain" and len(words) == 1 and locate.is_experiment(Path(words[0])):
            fix = "add a run's directory or Run Name, or a pattern: '*'"
            raise refuse("missing-field", "RUN is missing", field="run", fix=fix)
        given = words if is_given and (len(words) > 1 or options.command == "history") else [None, *words]
        experiment, options.run, options.field = [*given, None, None, None][:3]
        options.experiment = None if experiment is None else Path(experiment)
    if options.command == "new" and options.experiment is None:
        options.experiment = run_screens.ask_directory(options)
    if options.experiment is not None or options.command in _OF_ITS_OWN:
        return
    if locate.is_experiment(Path(), with_state=options.command in _WITHOUT_DOCUMENTS):
        options.experiment = Path()
    elif options.command != "doctor":
        raise locate.no_experiment_here()


def _show(result: BaseModel, options: argparse.Namespace) -> None:
    if options.json:
        _print_json(reply.of_result(result, _call(options)))
    elif isinstance(result, NewResult):
        run_screens.show_new(result, options)
    elif isinstance(result, AddResult):
        run_screens.show_added(result, options, _view(options).other("plan"))
    elif isinstance(result, HistoryResult | ExplainResult):
        run_screens.show_provenance(printing.console(), result)
    elif isinstance(result, StatusResult):
        run_screens.show_status(printing.console(), result, _view(options))
    elif isinstance(result, SubmitResult):
        run_screens.show_submission(printing.console(), result, quiet=options.quiet or False)
    elif isinstance(result, ReportResult):
        sys.stdout.write(one_line(f"wrote {result.path}") + "\n" if result.path else result.text)
    elif isinstance(result, SkillResult):
        _show_skill(result)
    else:
        screens.result(printing.console(), result, _view(options))


def _view(options: argparse.Namespace) -> printing.View:
    """Return the options of screens, with the words of the command and the arguments that name the experiment."""
    roots = [word for root in options.root for word in ("--root", str(root))]
    documents = (str(options.experiment), *roots) if options.experiment else ()
    return printing.View(
        whole=options.whole or False,
        notes=options.notes or False,
        quiet=options.quiet or False,
        only=options.only if options.command not in _SELECTING else None,
        start=options.start,
        words=tuple(options.words),
        documents=documents,
        options=_planning_words(options),
    )


def _planning_words(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Return the words that give the options of the call to another command, by name, and then those of its plan."""
    given = {name: value for name in Options.model_fields if (value := getattr(options, name))}
    planned = options.planned
    given["answers"] = planned.get("answers", {}) | dict(options.answers)
    words = option_words(planned | given)
    if options.activate is False:
        words["activate"] = ("--no-activate",)
    if options.venv:
        words["venv"] = ("--venv", str(options.venv))
    return words


def _show_skill(of: SkillResult) -> None:
    """Print the written files, and the command that gives agents the tools of the skill."""
    done = "nothing was changed in" if of.unchanged else "replaced" if of.replaced else "wrote"
    sys.stdout.write(one_line(f"{done} {of.directory}: {', '.join(of.files)}") + "\n")
    line = "claude mcp add --scope user torchtune -- scaffold-torchtune serve"
    sys.stdout.write(f"next, if not done yet: {line}\n")


def _call(options: argparse.Namespace) -> Call:
    """Return the equivalent call of a tool."""
    given = {name: vars(options)[name] for name in ("experiment", "local", "names", "template")}
    arguments: dict[str, Any] = {name: str(value) for name, value in given.items() if value is not None}
    if options.setup_script == "bundled":
        arguments["setup_script"] = "bundled"
    if options.started is not None:
        arguments["started"] = " ".join(options.started)
    arguments["answers"] = dict(options.answers)
    tool = TOOLS.get(options.command, options.command)
    only = options.only if options.command not in _SELECTING else None
    return Call(tool, arguments, options.start, only, options.whole, options.planned)


def _print_json(data: dict[str, Any]) -> None:
    """Print one JSON document in ASCII, which every terminal and pipe accepts."""
    sys.stdout.write(reply.written(data, indent=2, ascii_only=True) + "\n")


def _all_well(result: BaseModel) -> bool:
    match result:
        case ScaffoldResult(ok=False) | ValidateResult(passed=False) | Readiness(ready=False):
            return False
        case SubmitResult():
            return result.outcome not in {"stopped", "declined"} and not result.problems
        case SetupResult():
            return result.failed == 0
        case StatusResult():
            return not errors_in(result.all_findings())
    return True


def _request(options: argparse.Namespace, progress: printing.ProgressBar) -> Request:
    root = os.environ.get("SCAFFOLD_TORCHTUNE_ROOT")
    given = {name: value for name, value in vars(options).items() if name in _OF_REQUEST and value is not None}
    given |= {"experiment": options.experiment or Path(), "answers": dict(options.answers)}
    if options.started is not None:
        given["started"] = " ".join(options.started)
    roots = tuple(options.root) or ((Path(root),) if root else ())
    return Request(**given, roots=roots, progress=progress.update)
