"""What `submit` shows before it asks, how it asks, and what it prints at the end."""

import argparse
import shlex
import sys
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from scaffold_torchtune.cli import printing
from scaffold_torchtune.findings import counted, few, one_line, refuse
from scaffold_torchtune.pipeline.submit import SubmitResult, Wanted, submit
from scaffold_torchtune.request import Request

_NAMED: Final = 6
_SHOWN: Final = 12
_QUESTION: Final = "Submit? [y/N] "


def submit_asking(request: Request, options: argparse.Namespace) -> SubmitResult:
    """Submit, after it was shown what, and asked on the terminal.

    Raises:
        Refused: as `submit` does; or there is no terminal to ask on.
    """
    wanted = Wanted(options.only, options.at_once, options.arrays, options.failed, options.dry_run)

    def confirm(planned: SubmitResult) -> bool:
        if options.yes:
            return True
        if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            line = shlex.join(["scaffold-torchtune", *options.words, "--yes"])
            message = f"{counted(planned.runs, 'run')} would be submitted, and there is no terminal to ask on"
            raise refuse("not-confirmed", message, field="yes", fix=line)
        _plan(printing.console(), planned)
        try:
            return input(_QUESTION).strip().lower() in {"y", "yes"}
        except EOFError:
            return False

    return submit(request, wanted, confirm)


def show(out: Console, of: SubmitResult, *, quiet: bool = False) -> None:
    """Print what was submitted, or would be, and what is next."""
    experiment = shlex.quote(of.experiment_dir)
    if of.outcome == "nothing":
        _say(out, f"nothing to submit: no run is scaffolded and not started ({of.states or 'no runs'})")
    elif of.outcome == "planned":
        _plan(out, of)
        _say(out, "dry run: nothing was submitted or written")
    elif of.outcome == "declined":
        _say(out, "nothing was submitted")
    else:
        for one in (each for each in of.batches if each.job):
            tasks = f" ({one.job}_0 to {one.job}_{len(one.runs) - 1})" if len(one.runs) > 1 else ""
            _say(out, f"submitted {_runs(one.runs)}: job {one.job}{tasks}")
        if left := [run for each in of.batches if not each.job for run in each.runs]:
            _say(out, Text("not submitted", style="bold red"), f": {_runs(left)}")
    warnings = of.warnings if of.outcome == "nothing" and not quiet else ()
    printing.findings(out, [*warnings, *of.problems])
    if quiet:
        return
    if of.outcome in {"submitted", "nothing"} and not of.problems:
        _say(out, f"next: scaffold-torchtune status {experiment}")


def _plan(out: Console, of: SubmitResult) -> None:
    """Print what would be submitted: each array with what it asks for."""
    bound = f", at most {of.at_once} at once" if of.at_once else ""
    several = bound and len(of.batches) > 1
    _say(
        out,
        f"{counted(of.runs, 'run')} of {of.experiment} to submit{bound}{', one job after the other' * bool(several)}",
    )
    for one in of.batches[:_SHOWN]:
        what = f"array of {len(one.runs)}" if len(one.runs) > 1 else "job"
        _say(out, f"  {what}: {_runs(one.runs)}")
        _say(out, f"    {one.script}: {' '.join(one.asks)}", style="dim")
    if len(of.batches) > _SHOWN:
        _say(out, f"  ... and {len(of.batches) - _SHOWN} more jobs")
    if of.states:
        _say(out, f"not among them: {of.states}")
    printing.findings(out, of.warnings)


def _runs(names: Iterable[str]) -> str:
    return few(list(names), _NAMED)


def _say(out: Console, *parts: str | Text, style: str = "") -> None:
    line = Text(style=style)
    for part in parts:
        line.append(part if isinstance(part, Text) else one_line(part))
    out.print(line, soft_wrap=not out.is_terminal)
