"""`new` and `add` on the command line: prompts for missing values, relative paths, and the printed result."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from scaffold_torchtune.cli import printing
from scaffold_torchtune.extend import AddResult
from scaffold_torchtune.findings import Refused, counted, one_line
from scaffold_torchtune.new import OPTIONS, NewResult, create
from scaffold_torchtune.parse import values
from scaffold_torchtune.pipeline.locate import expanded
from scaffold_torchtune.request import Request
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.system.files import real_path

_PATHS: Final = tuple(name for name in OPTIONS if PARAMETERS[name].kind in {"path", "pattern_free_path"})
_MOST_ROUNDS: Final = 20
_ASKED_OF: Final = frozenset({"missing-field", "invalid-value"})


def create_asking(request: Request, options: argparse.Namespace) -> NewResult:
    """Write the documents of a new experiment; on a terminal, ask for required values that are not given.

    Raises:
        Refused: as `create` does; without a terminal, also for required values that are missing.
    """
    given = {name: [*getattr(options, name)] for name in OPTIONS}
    real = real_path(expanded(request.experiment))
    for name in _PATHS:
        given[name] = [_from_experiment(text, real) for text in given[name]]
    is_terminal = not options.json and sys.stdin.isatty() and sys.stdout.isatty()
    asked: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        try:
            return create(request, given, control=options.control)
        except Refused as refused:
            missing = [p.field for p in refused.problems if p.code == "missing-field" or p.field in asked]
            others = [p for p in refused.problems if p.field not in missing or p.code not in _ASKED_OF]
            if not is_terminal or others or not missing:
                raise
            again = [problem.message for problem in refused.problems if problem.field in asked]
            for name in dict.fromkeys(name for name in missing if name):
                given[name] = [_ask(name, real, again)]
                asked.add(name)
    return create(request, given, control=options.control)


def _ask(name: str, experiment: Path, wrong: Iterable[str]) -> str:
    """Ask for the value of an option, and return what was typed.

    Raises:
        Refused: the input ended.
    """
    option = OPTIONS[name]
    for message in wrong:
        sys.stdout.write(one_line(message) + "\n")
    try:
        text = input(f"{option.help} ({option.metavar}): ").strip()
    except EOFError as error:
        raise KeyboardInterrupt from error
    return _from_experiment(text, experiment) if name in _PATHS else text


def _from_experiment(text: str, experiment: Path) -> str:
    """Return a path as the experiment finds it: one that is relative to the current directory, from the experiment."""
    if values.is_unset(text) or text.startswith(("~", "$", "/")) or not text.strip():
        return text
    path = Path(os.path.normpath(real_path(Path()) / text))
    return str(path.relative_to(experiment)) if path.is_relative_to(experiment) else str(path)


def show(of: NewResult, options: argparse.Namespace) -> None:
    """Print what was written, what is remarkable, and the next command."""
    for path in of.created:
        sys.stdout.write(one_line(f"wrote {path}") + "\n")
    if of.local not in of.created:
        sys.stdout.write(one_line(f"uses {of.local}") + "\n")
    sys.stdout.write(f"{of.experiment}: {counted(of.runs, 'run')}\n")
    sys.stdout.flush()
    printing.findings(printing.console(), of.warnings)
    given = ["--local", str(options.local)] if options.local else []
    line = shlex.join(["scaffold-torchtune", "scaffold", str(options.experiment), *given])
    sys.stdout.write(one_line(f"next: {line}") + "\n")


def show_added(of: AddResult, options: argparse.Namespace) -> None:
    """Print the rows that were added, findings about the rest of the summary, and the next command."""
    if not options.quiet:
        for row in of.added:
            sys.stdout.write(one_line(row) + "\n")
    sys.stdout.flush()
    printing.findings(printing.console(), () if options.quiet else of.warnings)
    sys.stdout.write(one_line(f"added {counted(len(of.added), 'run')} to {of.summary}: {of.runs} runs") + "\n")
    if not options.quiet:
        given = ["--local", str(options.local)] if options.local else []
        line = shlex.join(["scaffold-torchtune", "plan", str(options.experiment), *given])
        sys.stdout.write(one_line(f"next: {line}") + "\n")
