"""Progress, losses and end of a training, read from the output of its job.

torchtune 0.6.1 prints the progress (recipes/*.py, `pbar.set_description`): for each step a line of tqdm,
`1|24|Loss: 1.25:  12%|#2  | 24/200 [00:31<03:47,  1.29s/it]`, which begins with a carriage return; epoch, step and loss
precede the bar. When the next epoch begins, tqdm prints the last line of the previous epoch again.

The end of a job is the text after the last step of its last start. So neither a warning before further steps nor the
end of an earlier start is taken for a cause.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from scaffold_torchtune.results.step_results import LossPoint

_THINNED: Final = 60  # losses of a curve
_LINE_ENDS: Final = re.compile(r"[\r\n]")
_ANSI: Final = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_RANK: Final = re.compile(r"(?:\[(?:rank|default)[0-9]{1,5}\]: ?|[0-9]{1,5}: (?=\S))")
"""The prefix of each line of one process, by torch (its excepthook), torchrun and `srun --label`."""

_STEP: Final = re.compile(r"([0-9]{1,9})\|([0-9]{1,12})\|Loss: (-?[0-9.]{1,30}(?:e[+-]?[0-9]{1,4})?|nan|-?inf)(?=: )")
_BAR: Final = re.compile(r": {1,4}[0-9]{1,3}%\|[^|]{0,500}\| ?([0-9]{1,12})/([0-9]{1,12}) \[([0-9:]{2,20})<")
_BAR_ENDS: Final = re.compile(r"\[[0-9:?]{1,20}<[0-9:?]{1,20}, [^\]\[]{1,100}\]")
"""The end of a bar. No line feed follows: the next text is printed in the same line."""

_SAVED: Final = re.compile(r"Checkpoint saved in [0-9.]{1,20} seconds")
_STARTS: Final = re.compile(r"Running [A-Za-z0-9_.]{1,80} with resolved config:")
"""torchtune/utils/_logging.py, log_config of 0.6.1: the first line of each start of a recipe."""

SLURM: Final = r"(?:slurmstepd(?:-[A-Za-z0-9_.-]{1,100})?: |\[[0-9T:.-]{10,40}\] )error: "
"""The beginning of lines of Slurm's slurmstepd; since 25.05 it is the time."""

_ENDED_ATTEMPT: Final = re.compile(SLURM + r"\*\*\* .{1,200} DUE TO (?:JOB REQUEUE|PREEMPTION|NODE FAILURE)")


class TrainingStep(NamedTuple):
    """A step in the output; `loss` may be nan. `done`, `per_epoch` and `seconds` are the numbers of the bar."""

    epoch: int
    number: int
    loss: float
    done: int = 0
    per_epoch: int = 0
    seconds: int = 0


class Raised(NamedTuple):
    """An exception: its type with its message, and the files and functions in its traceback.

    `chain` is the position of the first traceback in a chain of exceptions.
    """

    text: str
    frames: tuple[str, ...]
    chain: int


class OutputLine(NamedTuple):
    """A line of an output: its text without the prefix of its process, and its index in the text that was read."""

    text: str
    stream: str
    at: int


class JobOutput(NamedTuple):
    """Progress, losses and end of an output.

    `first` and `last` are steps of the last start, `losses` a sample of the losses of the whole output. `saved` is the
    number of checkpoints that the last start saved. `nan_from` is the first known step from which on no loss is finite.
    `end` are the lines after the last step of the last start, `raised` the exceptions in them.
    """

    first: TrainingStep | None
    last: TrainingStep | None
    losses: tuple[LossPoint, ...]
    saved: int
    nan_from: int | None
    end: tuple[OutputLine, ...]
    raised: tuple[Raised, ...]

    @property
    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines with text, without bars."""
        texts = (each.text.strip() for each in self.end)
        return tuple([text for text in texts if text.strip("^~ ") and not _is_bar(text)][-3:])


def read_output(parts: Sequence[tuple[int, bytes]]) -> JobOutput:
    """Return the progress, losses and end of an output.

    Args:
        parts: pieces of the file with their offsets, in order: its beginning, possibly some of its middle, its end. A
            single piece is the whole file.
    """
    texts = [(start, data.decode(errors="replace")) for start, data in parts]
    lines = [_lines(text, torn=start > 0) for start, text in texts]
    steps = [[step for line in part if (step := _step(line.text))] for part in lines]
    end = lines[-1] if lines else []
    start = _last_start(end)
    own = [(line.at, step) for line in end[start:] if (step := _step(line.text))]
    is_whole = len(parts) == 1 and start == 0
    found = [step for _, step in own] or ([] if start else [step for part in reversed(steps) for step in part])
    last = max(found, key=lambda step: (step.epoch, step.number, step.done), default=None)
    earlier = [step for part in steps for step in part] if start == 0 else found
    first = min(earlier, key=lambda step: step.number, default=None)
    since = next((at for at, step in own if last and step[:2] == last[:2]), start)
    after = [line for line in end[start:] if line.at >= since]
    all_steps = _in_order(step for part in steps for step in part)
    upto = [step for step in all_steps if last is None or step.number <= last.number]
    return JobOutput(
        first=first,
        last=last,
        losses=_thinned(upto),
        saved=sum(_SAVED.match(line.text) is not None for line in end[start:]) if is_whole or start else 0,
        nan_from=_nan_from(upto),
        end=tuple(line for line in after if not _is_step(line.text)),
        raised=tuple(_raised(after)),
    )


def _lines(text: str, *, torn: bool) -> list[OutputLine]:
    """Return the lines of a text; the first line of a `torn` text is omitted, because it may be incomplete."""
    lines = _LINE_ENDS.split(text)[1 if torn else 0 :]
    made: list[OutputLine] = []
    for whole in lines:
        plain = _ANSI.sub("", whole) if "\x1b" in whole else whole
        bar = _BAR_ENDS.search(plain) if "%|" in plain else None
        parts = (plain[: bar.end()], plain[bar.end() :]) if bar else (plain,)
        for part in parts if parts[-1] else parts[:1]:
            prefix = _RANK.match(part)
            stream = prefix[0] if prefix else ""
            made.append(OutputLine(part[len(stream) :], stream.strip(), len(made)))
    return made


def _step(text: str) -> TrainingStep | None:
    match = _STEP.match(text)
    if match is None:
        return None
    bar = _BAR.match(text, match.end())
    epoch, number, loss = int(match[1]), int(match[2]), _number(match[3])
    if bar is None:
        return TrainingStep(epoch, number, loss)
    return TrainingStep(epoch, number, loss, int(bar[1]), int(bar[2]), _seconds(bar[3]))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # such as `1.2.3`, which Python never writes
        return math.nan


def _seconds(clock: str) -> int:
    """Return the seconds of tqdm's `MM:SS` or `H:MM:SS`."""
    total = 0
    for part in clock.split(":")[:3]:
        total = total * 60 + int(part or 0)
    return total


def _is_step(text: str) -> bool:
    return _STEP.match(text) is not None


def _is_bar(text: str) -> bool:
    return "%|" in text and ("it/s" in text or "s/it" in text)


def _last_start(lines: Sequence[OutputLine]) -> int:
    """Return the index of the first line of the last start of the job; 0 if there is only one start.

    A requeued job starts again; with `--open-mode=append` its output follows the output of the previous start.
    """
    found = 0
    for index, line in enumerate(lines):
        if _STARTS.match(line.text):
            # the earlier commands of the script, such as loading modules, succeeded
            found = index
        elif _ENDED_ATTEMPT.match(line.text) and any(each.text.strip() for each in lines[index + 1 :]):
            found = index + 1
    return found


def _in_order(steps: Iterable[TrainingStep]) -> list[TrainingStep]:
    """Return each step once, with its last values, in the order of their numbers."""
    found = {step.number: step for step in steps}
    return [found[number] for number in sorted(found)]


def _thinned(steps: Sequence[TrainingStep]) -> tuple[LossPoint, ...]:
    """Return losses at evenly spaced steps, including the first and the last."""
    most = min(_THINNED, len(steps))
    chosen = [steps[round(index * (len(steps) - 1) / max(most - 1, 1))] for index in range(most)]
    return tuple(LossPoint(step=step.number, loss=step.loss if math.isfinite(step.loss) else None) for step in chosen)


def _nan_from(steps: Sequence[TrainingStep]) -> int | None:
    """Return the number of the first step from which on no loss is finite."""
    found = None
    for step in reversed(steps):
        if math.isfinite(step.loss):
            break
        found = step.number
    return found


_TRACEBACK: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'  File "([^"]{1,1000})", line [0-9]{1,9}(?:, in ([^ ]{1,200}))?')
_EXCEPTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,200}(?::|$)")
_CHAINED: Final = ("During handling of the above exception", "The above exception was the direct cause")


def _raised(lines: Iterable[OutputLine]) -> Iterator[Raised]:
    """Yield the exceptions with printed tracebacks, including the ones that others were raised from.

    Several processes may print at once: each has its own prefix.
    """
    frames: dict[str, list[str]] = {}
    chains: dict[str, int] = {}
    for line in lines:
        if line.text.endswith(_TRACEBACK):
            frames[line.stream] = []
            chains.setdefault(line.stream, line.at)
        elif line.stream in frames:
            if frame := _FRAME.match(line.text):
                frames[line.stream].append(f"{frame[1]} {frame[2] or ''}")
            elif line.text.strip() and not line.text.startswith(" "):
                through = frames.pop(line.stream)
                if _EXCEPTION.match(line.text):
                    yield Raised(line.text, tuple(through), chains[line.stream])
        elif line.text.strip() and not line.text.startswith(_CHAINED):
            chains.pop(line.stream, None)
