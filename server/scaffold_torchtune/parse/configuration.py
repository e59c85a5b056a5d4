"""The summary's Configuration: what all runs share unless their rows say otherwise."""

import re
from collections.abc import Iterator
from dataclasses import replace

from scaffold_torchtune.models import Run, Setting, SourceKind
from scaffold_torchtune.parse import compound, free_text, headings, methods, values
from scaffold_torchtune.parse.drafts import SourceText, UnreadLine
from scaffold_torchtune.parse.methods import NotHonoured
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.settings import parameters, recipes
from scaffold_torchtune.settings.parameters import OF_CONFIGURATION, Parameter, by_label, by_plural, normalize
from scaffold_torchtune.settings.unsupported import NOT_PLANNED, asks_for_nothing
from scaffold_torchtune.system.text import escape, shown

# Words of labels that ask for another training, other jobs or other reports: a label with one is never read over.
_WORDS_OF_RUNS = frozenset(
    {
        "lora",
        "dora",
        "qlora",
        "adapter",
        "adapters",
        "recipe",
        "method",
        "batch",
        "node",
        "nodes",
        "wandb",
        "quantization",
        "lr",
        "dropout",
        "optimizer",
    }
)
# What Configuration does not set: the runs table and Resources name models and data sets.
_ELSEWHERE = frozenset({"model", "dataset"})
# `We follow the paper: ...` is prose; `Steps of the warm-up phase: 10` may be meant as a setting.
_WORDS_OF_A_LABEL = 3
_WORDS_OF_SETTINGS = parameters.WORDS_OF_TRAINING.union(
    ("epoch", "seed", "steps", "warm", "decay", "prompt", "scheduler", "accumulation")
)
_EVERY = re.compile(
    r"(?:yes|true|on)?[\s(,:;–—-]*every\s+(?P<steps>[1-9][0-9]{0,8})\s+steps?(?:\s+during\s+training)?[\s).]*",
    re.IGNORECASE,
)


def read_configuration(reading: Reading, runs: tuple[Run, ...]) -> dict[str, Setting]:
    """Return the typed settings of Configuration by parameter name. Problems are noted."""
    config: dict[str, Setting] = {}
    given = given_by_every_run(runs)
    for label, text in _lines(reading, given):
        parameter = values.configured(label)
        if normalize(label) in NOT_PLANNED:
            if not values.is_unset(text.text):
                reading.not_planned(label, text)
            continue
        if parameter is not None and parameter.name in OF_CONFIGURATION:
            reading.value(parameter, text, SourceKind.CONFIGURATION)  # what it says is used where the rows are read
            continue
        if parameter is None or not (parameter.column or parameter.common) or parameter.name in _ELSEWHERE:
            _unused_label(reading, label, text)
            continue
        is_open = values.is_unset(text.text) and not compound.says_none(label, text.text)
        if is_open or values.is_left_out(parameter, text.text):
            continue
        setting = _setting(reading, parameter, label, text)
        if setting is None:
            if parameter.name in given:  # `8, 16`, `see the table`: harmless where every row says its own
                reading.not_needed(reading.findings.pop())
            continue
        first = config.setdefault(parameter.name, setting)
        if parameter.name == "recipe" and recipes.agree(str(first.value), str(setting.value)):
            config["recipe"] = setting if setting.value in recipes.NAMES else first
        elif first.value != setting.value:
            reading.contradiction(parameter.name, setting, first)
    return config


def given_by_every_run(runs: tuple[Run, ...]) -> set[str]:
    """Return the parameters of which every fine-tuned run says its own."""
    tuned = [set(run.parameters) for run in runs if run.type == "fine-tuned"]
    return set.intersection(*tuned) if tuned else set()


_NOTES = frozenset({"note", "notes", "comment", "comments", "remark", "remarks", "description"})


def _lines(reading: Reading, given: set[str]) -> Iterator[tuple[str, SourceText]]:
    """Return labels and texts of Configuration, one of each parameter: `GPUs: a100:2` is two."""
    for label, text in reading.summary.configuration:
        if normalize(label) in _NOTES:
            reading.summary.notes.append(replace(text, note=f"{text.note} > {label}"))
        meant = _as_method(label, text)
        parameter = compound.parameter_of(meant)
        if parameter is None or not compound.reads(meant) or normalize(label) in NOT_PLANNED:
            yield label, text
            yield from compound.beside(label, text).items()
            continue
        try:
            yield from compound.parts(meant, text).items()
        except NotHonoured as problem:
            reading.not_honoured(label, text, problem)
            if problem.several and parameter.name in given:  # harmless where every row says its own
                reading.not_needed(reading.findings.pop())


def _as_method(label: str, text: SourceText) -> str:
    """Return `method` for a label that means nothing itself and has a method for its value: `Approach: LoRA`."""
    written, words = text.full or text.text, normalize(label)
    is_unknown = compound.parameter_of(label) is None and words not in headings.FOR_PEOPLE | NOT_PLANNED.keys()
    is_prose = len(words.split()) > _WORDS_OF_A_LABEL
    return "method" if is_unknown and not is_prose and methods.speaks_of_method(written) else label


def _setting(reading: Reading, parameter: Parameter, label: str, text: SourceText) -> Setting | None:
    """Return what a line says of its parameter; None with the problem noted."""
    text = _validation_steps(text) if values.says_validation(label) else text
    return reading.value(parameter, text, SourceKind.CONFIGURATION)


def _validation_steps(text: SourceText) -> SourceText:
    """Return `Yes (every 25 steps during training)` as the number of steps, `Yes` as cruijff_kit's 50, `No` as 0.

    Text that is none of these stays, and is refused as no number of steps: `once per epoch`, `every 1,000 steps`.
    """
    written = (text.full or text.text).strip()
    if written.lower() in {"no", "false", "off", "none", "disabled"}:
        steps = "0"
    elif written.lower() in {"yes", "true", "on"}:
        steps = "50"
    else:
        every = _EVERY.fullmatch(written)
        steps = every["steps"] if every else written
    return replace(text, text=steps, full=None, source=None)


def _is_about_runs(label: str) -> bool:
    return bool(_WORDS_OF_RUNS & set(normalize(label).split())) or compound.names_wandb(label)


def _unused_label(reading: Reading, label: str, text: SourceText) -> None:
    """Note a label of Configuration that is not a setting there: nearly one, set elsewhere, or something else."""
    several = by_plural(label)
    if several is not None and free_text.of_levels(several.name, label, text.full or text.text) is not None:
        reading.summary.unread_lines.append(UnreadLine(several.name, text, label, plural=True, is_read=True))
        return
    words = normalize(label).split()
    is_prose = len(label.split()) > _WORDS_OF_A_LABEL and not _WORDS_OF_SETTINGS & set(words)
    if " ".join(words) in headings.FOR_PEOPLE or is_prose:
        return
    message, name = f"{text.note}: {shown(label)} is not a setting here", escape(label)
    if by_label(label) is None and (asked := compound.asked_of(label, text.full or text.text)):
        what = f"asks for {shown(asked)}, which is not scaffolded"
        fix = "take it out if the runs do without it; else do not scaffold this experiment with this tool"
        reading.not_honoured(label, text, NotHonoured(what, fix))
        return
    near = None if by_label(label) else parameters.nearest_label(label)
    if near:
        message += f"; did you mean {near!r}?"
        reading.add("misspelt-field", message, field=name, line=text.line, fix=f"write {near!r}")
    elif by_label(label) is None and _is_about_runs(label) and not asks_for_nothing(text.text):
        fix = "write it as one of the settings that workflows/labels.md lists, or take the line out"
        reading.add("misspelt-field", f"{message}, but it is about the runs", field=name, line=text.line, fix=fix)
    else:
        fix = "remove the line if it was meant to change the runs"
        reading.summary.prose.append(replace(text, text=f"{label}: {text.full or text.text}", full=None, source=None))
        reading.add("unused-field", message, field=name, line=text.line, fix=fix)
