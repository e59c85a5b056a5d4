"""The summary's Configuration: what all runs share unless their rows say otherwise."""

import itertools
from dataclasses import replace

from scaffold_torchtune.errors import Finding, finding
from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.models.experiment import Run
from scaffold_torchtune.parse import clean
from scaffold_torchtune.parse.draft import Field
from scaffold_torchtune.parse.reading import Reading
from scaffold_torchtune.shared.parameters import Parameter, by_label, labels, normalize
from scaffold_torchtune.shared.text import close_matches, escape, shown

_RECIPE = Parameter("recipe", "name")
# Lines of a Configuration section that are remarks, not settings.
_NOT_SETTINGS = frozenset({"notes", "note", "purpose", "used by", "description", "optimizer", "method"})
# What Configuration does not set: the runs table and Resources name models and data sets.
_ELSEWHERE = frozenset({"model", "dataset"})
_VALIDATION = frozenset({"validation during training", "validation"})


def read(reading: Reading, runs: tuple[Run, ...]) -> dict[str, Setting]:
    """The typed settings of Configuration by parameter name. Problems are noted."""
    config: dict[str, Setting] = {}
    tuned = [run.parameters.keys() for run in runs if run.type == "fine-tuned"]
    given = set.intersection(*map(set, tuned)) if tuned else set()
    for label, text in reading.summary.configuration:
        if normalize(label) in _VALIDATION:
            label, text = "run_val_every_n_steps", _validation_steps(text)  # noqa: PLW2901 - one setting, two names
        parameter = _RECIPE if normalize(label) == "recipe" else by_label(label)
        if parameter is None or not parameter.column or parameter.name in _ELSEWHERE:
            _unused_label(reading, label, text)
            continue
        if clean.is_unset(text.text):
            continue
        setting = reading.value(parameter, text, SourceKind.CONFIGURATION, reading.summary.file)
        if setting is None:
            if parameter.name in given:  # `8, 16`, `see the table`: harmless where every row says its own
                reading.findings[-1] = _not_needed(reading.findings[-1])
            continue
        first = config.setdefault(parameter.name, setting)
        if first.value != setting.value:
            reading.contradiction(parameter.name, setting, first)
    return config


def _not_needed(problem: Finding) -> Finding:
    """The problem of a value that nobody needs, as a warning."""
    return finding(
        "unused-field",
        f"{problem.message}; it is not needed, as every row gives its own",
        field=problem.field,
        actual=problem.actual,
        file=problem.file,
        line=problem.line,
        fix="nothing, if the rows are right",
    )


def _validation_steps(text: Field) -> Field:
    """`Yes (every 25 steps during training)` as the number of steps, `Yes` as cruijff_kit's 50, `No` as 0."""
    written = text.full or text.text
    words = normalize(written).split()
    if words and words[0] in {"no", "false", "off", "none"}:
        return replace(text, text="0", full=None)
    every = [after for word, after in itertools.pairwise(words) if word == "every"]
    if words and words[0] in {"yes", "true", "on"}:
        return replace(text, text=every[0] if every else "50", full=None)
    return replace(text, text=every[0], full=None) if every else text


def _unused_label(reading: Reading, label: str, text: Field) -> None:
    """A label of Configuration that is not a setting there: nearly one, set elsewhere, or something else."""
    if normalize(label) in _NOT_SETTINGS:
        return
    near = close_matches(normalize(label), labels(), limit=1, cutoff=0.8) if by_label(label) is None else []
    reading.findings.append(
        finding(
            "misspelt-field" if near else "unused-field",
            f"{text.note}: {shown(label)} is not a setting here" + (f"; did you mean {near[0]!r}?" if near else ""),
            field=escape(label),
            file=reading.summary.file,
            line=text.line,
            fix=f"write {near[0]!r}" if near else "remove the line if it was meant to change the runs",
        )
    )
