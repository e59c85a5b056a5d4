"""What stands against a plan, and what is remarkable about it."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from scaffold_torchtune.findings import Collector, Finding, Location, Scalar, finding
from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.models.experiment import Experiment, Run
from scaffold_torchtune.models.plan import Options, PlannedRun
from scaffold_torchtune.plan.place import Place
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import PARAMETERS
from scaffold_torchtune.setup_finetune.registry import find_model, known_models
from scaffold_torchtune.shared.layout import SETUP_TEMPLATES, data_label
from scaffold_torchtune.shared.text import did_you_mean, escape, shown

_ANEW: Final = {
    "requeue": (
        "a job that is queued again begins its training anew",
        "write '- **Resume from checkpoint:** yes' in Configuration, or nothing if the runs are short",
    ),
    "resume_from_checkpoint": (
        "a run of one epoch has nothing to resume from: torchtune saves that between epochs",
        "nothing, or train for more epochs",
    ),
}
"""Why a job trains from the beginning, and what to do, by the setting that promises more."""


def identical_runs(
    tuned: Sequence[Run], parameters: Sequence[Mapping[str, Scalar]], experiment: Experiment
) -> list[Finding]:
    """Two rows with the same values in every parameter."""
    found = Collector(experiment.summary_file)
    seen: dict[str, Run] = {}
    for run, values in zip(tuned, parameters, strict=True):
        first = seen.setdefault(json.dumps(values, sort_keys=True), run)
        if first is not run:
            message = (
                f"the rows at lines {first.line} and {run.line} plan the same run"
                f" ({shown(first.name)} and {shown(run.name)})"
            )
            fix = "remove one of the rows, or add the column that tells them apart (e.g. Seed)"
            found.add("identical-runs", message, field="runs", line=run.line, fix=fix)
    return found.findings


def unknown_models(tuned: Sequence[Run], experiment: Experiment, options: Options) -> list[Finding]:
    """Models that the bundled setup_finetune does not know; an external script has its own list."""
    if options.setup_script != "bundled":
        return []
    return [
        finding(
            "unknown-model",
            did_you_mean(run.model, known_models(), f"{shown(run.model)} is not a known model."),
            field="model",
            expected=", ".join(known_models()),
            actual=escape(run.model),
            at=Location(experiment.summary_file, run.line),
            fix="write one of the known models",
        )
        for run in {run.model: run for run in reversed(tuned)}.values()
        if find_model(run.model) is None
    ]


def data_problems(data: Sequence[Setting], options: Options, place: Place) -> list[Finding]:
    """Data sets whose format has no template or whose name cannot be written, and templates that are missing."""
    found = Collector()
    for path in {d.text: d for d in reversed(data)}.values():
        label, extension = data_label(path.text)
        if extension not in SETUP_TEMPLATES:
            formats = " or ".join(SETUP_TEMPLATES)
            found.add(
                "unsupported-format",
                f"the data set {shown(path.text)} has the format {shown(extension)}, not {formats}",
                field="dataset",
                expected=formats,
                actual=escape(extension),
                at=path.source,
                fix=f"convert the data set to {formats}",
            )
            continue
        try:
            PARAMETERS["dataset_label"].read(label)
            found.findings += missing_template(extension, options, place)
        except NotTyped as unsafe:
            found.add(
                "invalid-value",
                f"the data set's name {shown(label)} is not a safe name",
                field="dataset",
                expected=unsafe.allowed,
                actual=escape(label),
                at=path.source,
                fix="rename the file",
            )
    return list(dict.fromkeys(found.findings))


def missing_template(extension: str, options: Options, place: Place) -> list[Finding]:
    """The template for a data format, where it is not there."""
    expected = options.template or f"{place.templates_dir}/{SETUP_TEMPLATES[extension]}"
    if place.is_file(expected):
        return []
    mend = "correct --template" if options.template else "reinstall scaffold-torchtune"
    return [
        finding(
            "missing-template",
            f"the template for {extension} data is expected at {shown(expected)}, and is not there",
            field="template",
            expected=expected,
            file=expected,
            fix=f"{mend}, or make one: copy {place.templates_dir}/setup_finetune_template.yaml.j2, which has the"
            " complete structure, change it, and name it with --template",
        )
    ]


def warnings(experiment: Experiment, runs: Sequence[PlannedRun]) -> list[Finding]:
    """What the person should see before anything is written: rows against Configuration, defaults nobody asked for."""
    return [*_overridden(experiment), *_defaults(experiment, runs), *_short_times(runs), *_begin_anew(runs)]


def _overridden(experiment: Experiment) -> list[Finding]:
    """Rows that say otherwise than Configuration: one finding a parameter, at its first such row."""
    found: dict[str, list[Run]] = {}
    for run in experiment.runs:
        for name, setting in run.parameters.items() if run.type == "fine-tuned" else ():
            common = experiment.config.get(name)
            same = name == "recipe" and common and recipes.agree(common.text, setting.text)
            if common is not None and common.value != setting.value and not same:
                found.setdefault(name, []).append(run)
    return [_of_override(name, runs, experiment) for name, runs in found.items()]


def _of_override(name: str, runs: Sequence[Run], experiment: Experiment) -> Finding:
    first, common = runs[0], experiment.config[name]
    value = first.parameters[name].value
    more = f" ({len(runs) - 1} more run(s) differ from it too)" if len(runs) > 1 else ""
    return finding(
        "overridden",
        f"{name} is {shown(value)} in the run {shown(first.name)}, but {shown(common.value)} in Configuration"
        f" (line {common.source.line}); the row wins{more}",
        field=name,
        expected=common.value,
        actual=value,
        at=Location(experiment.summary_file, first.line),
        fix="remove the line in Configuration if the rows are right",
    )


def _short_times(runs: Sequence[PlannedRun]) -> list[Finding]:
    """Times of two parts, which SLURM reads as minutes and seconds: people may mean hours and minutes."""
    times = {s.text: s.source for run in reversed(runs) if (s := run.settings.get("time")) is not None}
    return [
        finding(
            "short-time",
            f"SLURM reads the time {text} as {text.split(':')[0]} minutes and {text.split(':')[1]} seconds",
            field="time",
            actual=text,
            at=source,
            fix=f"write {text}:00 for hours and minutes, or 0:{text} to say that minutes are meant",
        )
        for text, source in times.items()
        if text.count(":") == 1 and "-" not in text
    ]


def _begin_anew(runs: Sequence[PlannedRun]) -> list[Finding]:
    """Jobs that SLURM may start again and that then train from the beginning; one finding for each cause.

    torchtune 0.6.1 saves what a training resumes from between epochs alone (`intermediate_checkpoint` in its recipes).
    """
    found: dict[str, Finding] = {}
    for run in runs:
        values = {name: setting.value for name, setting in run.settings.items()}
        resumes = values.get("resume_from_checkpoint") is True
        name = "resume_from_checkpoint" if resumes and values.get("epochs") == 1 else "requeue"
        if name == "requeue" and (resumes or values.get("requeue") is not True):
            continue
        source = run.settings[name].source
        message, fix = _ANEW[name]
        found.setdefault(name, finding("begins-anew", message, field=name, actual=True, at=source, fix=fix))
    return list(found.values())


def _defaults(experiment: Experiment, runs: Sequence[PlannedRun]) -> list[Finding]:
    found = Collector(experiment.summary_file)
    for name in ("lora_rank", "lr"):
        lacking = [run for run in runs if name in run.settings and run.settings[name].source.kind is SourceKind.DEFAULT]
        if lacking:
            value = lacking[0].settings[name].value
            message = f"{name} is not given for {len(lacking)} run(s): setup_finetune's default {shown(value)} is used"
            fix = f"give {name} in the runs table or in Configuration if another value is meant"
            found.add("default-used", message, field=name, actual=value, line=lacking[0].line, fix=fix)
    return found.findings
