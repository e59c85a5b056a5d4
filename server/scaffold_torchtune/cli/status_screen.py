"""The screen of `status`: counts first, a line for each run, then causes with their fixes; once, or watched."""

import io
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from scaffold_torchtune.cli import printing
from scaffold_torchtune.cli.screens import View
from scaffold_torchtune.findings import Finding, counted, few, one_line, refuse
from scaffold_torchtune.job_causes import slurm_time
from scaffold_torchtune.results.run_status import RunStatus, StatusResult
from scaffold_torchtune.settings import kinds

_MANY: Final = 40
_NAMED: Final = 3
_COLUMNS: Final = ("run", "state", "job", "epochs", "step", "loss", "time")
_GAP: Final = "  "
_STYLES: Final = {"failed": "bold red", "running": "green", "finished": "dim"}
_GOES_ON: Final = frozenset({"submitted", "running"})


def show(out: Console, of: StatusResult, view: View = View()) -> None:  # noqa: B008 - frozen
    """Print the status of runs; of more than 40 those alone that run or need a look, and the number of the others."""
    whole = view.whole
    counts = ", ".join(f"{number} {state}" for state, number in of.counts.items())
    _line(out, f"{of.experiment}: {counted(len(of.runs), 'run')}: {counts}", "bold")
    if view.quiet:
        printing.findings(out, _causes(of.runs))
        _line(out, of.verdict)
        return
    _line(out, of.verdict, "dim")
    shown = [run for run in of.runs if whole or len(of.runs) <= _MANY or run.cause or run.state == "running"]
    if view.start is not None:
        shown = view.page(out, of.runs)
    _rows(out, shown)
    if view.start is None and (rest := len(of.runs) - len(shown)):
        _line(out, f"{counted(rest, 'run')} more; --all shows every run")
    printing.findings(out, _causes(of.runs))
    for reason in of.not_asked:
        _line(out, f"not asked: {reason}", "yellow")
    unseen = {reason: run.directory for run in reversed(of.runs) for reason in run.unseen}
    for reason, run in list(unseen.items())[:_NAMED]:
        _line(out, f"not found: {reason}, of {run}", "yellow")


def watch(out: Console, ask: Callable[[], StatusResult], seconds: float, view: View) -> StatusResult:
    """Show the status on a terminal again and again, until every run has ended or Ctrl-C; return the last one.

    Raises:
        Refused: the output is no terminal.
    """
    if not out.is_terminal:
        message = "--watch needs a terminal"
        raise refuse("invalid-value", message, field="watch", fix="repeat the command without --watch")
    result = ask()
    with suppress(KeyboardInterrupt), Live(console=out, auto_refresh=False, transient=True) as live:
        while _going_on(result):
            live.update(_drawn(out, result, seconds, view), refresh=True)
            threading.Event().wait(seconds)
            result = ask()
    return result


def _going_on(of: StatusResult) -> bool:
    return any(run.state in _GOES_ON for run in of.runs)


def _drawn(out: Console, of: StatusResult, seconds: float, view: View) -> Text:
    """Return the screen as one text, which the terminal is given in one piece."""
    drawn = Console(
        file=io.StringIO(), width=out.width, force_terminal=True, highlight=False, markup=False, emoji=False,
        color_system=out.color_system, no_color=out.no_color,  # type: ignore[arg-type]
    )  # fmt: skip
    show(drawn, of, view)
    _line(drawn, f"again every {seconds:g} s until all have ended; Ctrl-C ends it", "dim")
    assert isinstance(drawn.file, io.StringIO)  # noqa: S101 - see above
    return Text.from_ansi(drawn.file.getvalue())


def _line(out: Console, text: str, style: str = "") -> None:
    out.print(Text(one_line(text), style=style), soft_wrap=not out.is_terminal)


def _rows(out: Console, runs: Sequence[RunStatus]) -> None:
    """Print a line for each run; where names leave no room, two: names are never broken."""
    cells = [_COLUMNS, *(_cells(run) for run in runs)]
    used = [index for index in range(len(_COLUMNS)) if any(row[index] for row in cells[1:])]
    widths = {index: max(cell_len(row[index]) for row in cells) for index in used}
    wide = sum(widths.values()) + len(_GAP) * len(used)
    fits = not out.is_terminal or wide <= out.width
    for number, row in enumerate(cells if runs else []):
        style = "dim" if number == 0 else _STYLES.get(runs[number - 1].state, "")
        first, *others = (row[index] + " " * (widths[index] - cell_len(row[index])) for index in used)
        if fits:
            out.print(Text(f" {_GAP.join((first, *others))}".rstrip(), style=style), soft_wrap=True)
        elif number:
            out.print(Text(f" {first.rstrip()}", style=style), soft_wrap=True)
            out.print(Text(f"   {', '.join(_labelled(row))}", style=style))


def _labelled(row: Sequence[str]) -> Iterable[str]:
    state, *rest = row[1:]
    yield state
    yield from (f"{name} {cell}" for name, cell in zip(_COLUMNS[2:], rest, strict=True) if cell)


def _cells(run: RunStatus) -> tuple[str, ...]:
    waits = run.job_state.partition(" ")[2]
    state = f"{run.state} {waits}" if waits and run.state == "submitted" else run.state
    is_ended = run.state in {"planned", "scaffolded"}
    return (
        one_line(run.directory),
        one_line(state),
        one_line(run.job),
        "" if run.epochs_done is None or is_ended else f"{run.epochs_done}/{run.epochs}",
        "" if run.step is None else f"{run.step}/{run.steps}" if run.steps else str(run.step),
        _loss(run),
        _time(run),
    )


def _loss(run: RunStatus) -> str:
    if run.loss is None:
        return "nan" if run.step is not None else ""
    return kinds.shortest_number(float(f"{run.loss:.4g}"))


def _time(run: RunStatus) -> str:
    if run.elapsed is None:
        return ""
    return slurm_time(run.elapsed) + (f" of {slurm_time(run.limit)}" if run.limit else "")


_PLACE: Final = re.compile(r"(?<=[a-z]):[0-9]{1,9}(?=\))")


def _causes(runs: Iterable[RunStatus]) -> list[Finding]:
    """Return the causes; of several runs with the same cause and fix one, which names them."""
    alike: dict[tuple[str, ...], list[tuple[str, Finding]]] = {}
    for run in runs:
        if cause := run.cause:
            texts = (_PLACE.sub("", each).replace(run.directory, "RUN") for each in (cause.message, cause.fix))
            alike.setdefault((cause.code, *texts), []).append((run.directory, cause))
    return [_of_several([name for name, _ in some], some[0][1]) for some in alike.values()]


def _of_several(names: Sequence[str], cause: Finding) -> Finding:
    """Return the cause of one run or of several as it is printed: with their names, and a fix for all of them."""
    who, fix = names[0], cause.fix
    if len(names) > 1:
        who = f"{counted(len(names), 'run')} ({few(names, _NAMED, more=', ...')})"
        fix = fix.replace(f"--started replace={names[0]}", f"--started replace={','.join(names)}")
        fix = fix.replace(f" --only {names[0]}", "")
    return cause.model_copy(update={"message": f"{who}: {cause.message}", "file": None, "fix": fix})
