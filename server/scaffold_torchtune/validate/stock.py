"""The reverse of the proof: what finetune.yaml says that nobody planned and that torchtune's makers do not say either.

What they say is in their stock configs and, where those are silent, in the defaults of their components' arguments
(torchtune_facts). Arguments that components do not take, keys that the recipe does not read, and other places on disk
are judged elsewhere.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from scaffold_torchtune.shared.yamlio import Path
from scaffold_torchtune.torchtune_facts import load
from scaffold_torchtune.validate import habits
from scaffold_torchtune.validate.arrivals import is_full, output_dir
from scaffold_torchtune.validate.report import Report
from scaffold_torchtune.validate.values import below, compare, dotted, quoted

_OTHER: Final[dict[str, tuple[Any, ...]]] = {
    "dataset.conversation_column": ("messages",),  # with the style: OpenAI's form of a conversation
    "dataset.conversation_style": ("openai",),
    "metric_logger.mode": ("offline",),  # compute nodes often have no network, where `online` waits for it
    "tokenizer.prompt_template.assistant": (["", ""],),
}
"""What a job may hold besides."""

_OF_THE_PLAN: Final[frozenset[Path]] = frozenset(
    (part, "_component_") for part in ("model", "tokenizer", "checkpointer", "dataset")
)
"""Components that follow from the plan; where it does not say which, that is told elsewhere."""

_OUTPUTS: Final[frozenset[Path]] = frozenset({("metric_logger", "log_dir"), ("profiler", "output_dir")})
"""Directories that torchtune writes to; in its stock configs they lie below `output_dir`."""


def check(report: Report, data: dict[str, Any], planned: Iterable[Path]) -> None:
    """Report every value in finetune.yaml, resolved, that neither the plan nor a stock config of torchtune has.

    The stock configs are those of torchtune's own recipe for the run's method and GPUs: whatever else a recipe of
    somebody's own reads, it reads these values too.

    Args:
        report: takes the findings.
        data: the file's resolved data.
        planned: the places that the plan speaks of; what stands there or below is judged already.
    """
    facts = load().recipes[_usual(report)]
    defaults = dict(_defaults(data))
    spoken = {*planned, *report.paths}
    above = {path[:end] for path in spoken for end in range(len(path))}
    for path, value in _values(data):
        place = dotted(path)
        if path[0] not in facts.reads or path in _OF_THE_PLAN or path in above or _is_below(path, spoken):
            continue
        if _is_place(value):
            _output(report, path, value)
            continue
        known = (*facts.stock.get(place, ()), *_OTHER.get(place, ())) or defaults.get(path, ())
        if value in (None, "") or any(_same(value, each) for each in known):
            continue
        there = f"; torchtune's own is {' or '.join(quoted(each) for each in known)}" if known else ""
        report.add(
            "unplanned-value",
            f"{place} is {quoted(value)}, which nobody planned{there}",
            field=place,
            expected=known[0] if len(known) == 1 else None,
            actual=value,
            path=path,
            severity=habits.of_value(report, place),
            fix=None if report.bundled else _ITS_OWN,
        )


_ITS_OWN: Final = "If another value is meant, give it in the summary; else nothing: the setup script chose it."


def _usual(report: Report) -> str:
    """Torchtune's own recipe for the run's method and number of GPUs."""
    gpus = report.planned("gpus")
    form = "distributed" if isinstance(gpus, int) and gpus > 1 else "single_device"
    return f"{'full' if is_full(report.run) else 'lora'}_finetune_{form}"


def _output(report: Report, path: Path, value: str) -> None:
    """Logs and profiles go where the run's other outputs go, or they mix with those of other runs."""
    folder = output_dir(report.run)
    if path in _OUTPUTS and folder is not None and not below(value, folder):
        place = dotted(path)
        report.add(
            "unplanned-value",
            f"{place} is {quoted(value)}, which is not in the run's output directory",
            field=place,
            expected=folder,
            actual=value,
            path=path,
            severity=habits.of_value(report, place),
        )


def _defaults(data: dict[str, Any]) -> Iterator[tuple[Path, tuple[Any]]]:
    """The default of each argument of the components that are named, by its path."""
    for name, node in data.items():
        component = load().components.get(str(node.get("_component_"))) if isinstance(node, dict) else None
        if component is not None:
            yield from (((name, argument), (value,)) for argument, value in component.defaults.items())


def _is_below(path: Path, spoken: set[Path]) -> bool:
    """Whether a path, or one that leads to it, is spoken of."""
    return any(path[:end] in spoken for end in range(len(path) + 1))


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _same(value: Any, known: Any) -> bool:
    """The same type and value; a whole number may stand for a float."""
    return compare(known, value) is None


def _values(node: dict[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no mapping, with its path; a list is one value."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _values(value, (*above, key))
        else:
            yield (*above, key), value
