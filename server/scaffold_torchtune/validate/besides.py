"""What a job does besides its work, and whether it comes to train at all: the reverse of the proof of its commands."""

from collections.abc import Sequence
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.validate import exports
from scaffold_torchtune.validate.commands import bare
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.script import Command
from scaffold_torchtune.validate.values import quoted

_GRAMMAR: Final = frozenset({"if", "then", "fi", "{", "}"})
_OPENING: Final = frozenset({"if", "for", "while", "until", "case", "select"})
_CLOSING: Final = frozenset({"fi", "done", "esac", "}"})
_CONDITIONS: Final = frozenset({"&&", "||", "|"})
# What a job needs for its work: to look where it is, load modules, activate an environment, make a directory, train.
_WORK: Final = frozenset(
    {".", "[", "cd", "echo", "eval", "exit", "mkdir", "pushd", "resume=false", "resume=true", "source", "stop"}
)
_FORMS: Final = frozenset(
    {("conda", "activate"), ("micromamba", "activate"), ("ml", "load"), ("module", "load"), ("module", "purge")}
)


def check(report: Report, commands: Sequence[Command]) -> None:
    """Check the commands of finetune.slurm, in their order. Where none starts `tune run`, that is told elsewhere.

    What another script than the bundled one does besides is its own affair.
    """
    start = next((n for n, command in enumerate(commands) if bare(command.words)[:2] == ("tune", "run")), None)
    if start is None:
        return
    _early_end(report, commands[:start])
    if commands[start].joined == "&":
        message = "`tune run` is started in the background, so the job may end before the training does"
        _tell(report, "tune run", message, commands[start])
    if report.bundled:
        _conditions(report, commands, start)
        _besides(report, commands)


def _tell(report: Report, field: str, message: str, command: Command) -> None:
    report.unplanned(message, Severity.WARNING, field=field, actual=" ".join(command.words), line=command.line)


def _depth(commands: Sequence[Command]) -> int:
    """How many conditions, loops and functions are open after some commands."""
    opened = sum((c.words[0] in _OPENING) + (c.words[0] == "{" or c.words[-1] == "{") for c in commands)
    return opened - sum(c.words[0] in _CLOSING for c in commands)


def _conditional(commands: Sequence[Command], number: int) -> bool:
    """Whether a command runs only under some condition, or when its function is called."""
    before = commands[:number]
    return _depth(before) > 0 or any(command.joined in _CONDITIONS for command in before[-1:])


def _early_end(report: Report, before: Sequence[Command]) -> None:
    for number, command in enumerate(before):
        if bare(command.words)[:1] == ("exit",) and not _conditional(before, number):
            _tell(report, "exit", "the job ends here, before `tune run`, so nothing is trained", command)


def _conditions(report: Report, commands: Sequence[Command], start: int) -> None:
    command = commands[start]
    before = [w for w in command.words[: command.words.index("tune")] if not exports.judges((w,))]
    if before:
        _tell(
            report, "tune run", f"{quoted(' '.join(before))} stands before `tune run`, and nobody planned it", command
        )
    elif _conditional(commands, start):
        _tell(report, "tune run", "`tune run` stands under a condition or in a function, so it may not run", command)


def _besides(report: Report, commands: Sequence[Command]) -> None:
    for command in commands:
        words = command.words
        while words and words[0] in _GRAMMAR:
            words = words[1:]
        if not words or words[0] in _WORK or words[:2] in _FORMS or bare(words)[:2] == ("tune", "run"):
            continue
        if not exports.judges(words):
            name = words[0].partition("=")[0]
            _tell(report, name, f"the job runs {quoted(' '.join(words))}, which nobody planned", command)
