"""Checks that reject a plan, and warnings about it."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Final

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Collector, Finding, Location, Scalar, finding
from scaffold_torchtune.models import Experiment, Interface, Options, PlannedRun, Run, Setting, Source, SourceKind
from scaffold_torchtune.plan.run_settings import Place, is_full, other_recipe, own_value, value_or_default
from scaffold_torchtune.settings import kinds, recipes
from scaffold_torchtune.settings.kinds import NotTyped
from scaffold_torchtune.settings.parameters import KEYS, PARAMETERS, by_label
from scaffold_torchtune.system.layout import SETUP_TEMPLATES, data_label
from scaffold_torchtune.system.text import did_you_mean, escape, shown
from scaffold_torchtune.torchtune_facts.model_registry import find_model, known_models

# What stands against the recipes that a summary asks for.


def recipe_problems(tuned: Sequence[Run], experiment: Experiment, options: Options, place: Place) -> list[Finding]:
    """Recipes that are not scaffolded or do not fit the GPUs, and LoRA settings of runs that have no adapter."""
    found: dict[Source, Finding] = {}
    for run in tuned:
        asked = own_value("recipe", run, experiment) or _named(experiment)
        problem = _of_recipe(asked, run, experiment, options, place) if asked is not None else None
        if asked is not None and problem is not None:
            found.setdefault(asked.source, problem)
    full = [run for run in tuned if is_full(other_recipe(run, experiment, place))]
    of_adapter = [_of_adapter(name, full, tuned, experiment) for name in recipes.OF_LORA]
    return [*found.values(), *(problem for problem in of_adapter if problem is not None)]


def recipe_warnings(runs: Sequence[PlannedRun]) -> list[Finding]:
    """That a recipe of the template's is not one of torchtune's own."""
    custom = next((found for run in runs if (found := run.settings.get("custom_recipe")) is not None), None)
    if custom is None or custom.text in recipes.NAMES:
        return []
    return [
        finding(
            "own-recipe",
            f"the runs start the recipe {shown(custom.value)}, which is not torchtune's own: it must be there in the"
            " environment of the job, and what it reads of finetune.yaml is not known here",
            field="custom_recipe",
            actual=custom.value,
            at=custom.source,
            fix="take it out of the template to start torchtune's own recipe",
            severity=Severity.INFO if runs[0].generation else None,  # which always starts recipes of its own
        )
    ]


def _named(experiment: Experiment) -> Setting | None:
    """A recipe of torchtune's that the template names; one in a package is nobody's business but the script's."""
    custom = experiment.template.get("custom_recipe")
    return custom if custom is not None and "." not in custom.text else None


def _of_recipe(recipe: Setting, run: Run, experiment: Experiment, options: Options, place: Place) -> Finding | None:
    """What is wrong with the recipe of a run."""
    name, gpus = recipe.text, value_or_default("gpus", run, experiment, place)
    method = recipes.method_of(name)
    if method is None:
        known = ", ".join(recipes.NAMES)
        message = f"the recipe {shown(name)} is not one that is scaffolded."
        message = did_you_mean(name, (*recipes.RECIPES, *recipes.NAMES), message)
        fix = f"write LoRA or full, which fit any number of GPUs, or one of {known}; without it, the runs are LoRA"
        return _problem("unsupported-setting", recipe, message, fix, known)
    if gpus is not None and recipes.for_gpus(method, gpus.integer) != name != method:
        message = f"the recipe is {name}, but the run at line {run.line} has {gpus.value} GPU(s)"
        fix = f"correct the recipe or the number of GPUs, or write {method} alone: the recipe follows from the GPUs"
        return _problem("wrong-recipe", recipe, message, fix)
    if method == recipes.FULL and options.setup_script != "bundled":
        message = f"full fine-tuning is set up by the bundled setup_finetune, not by {shown(options.setup_script)}"
        return _problem("unsupported-setting", recipe, message, "use --setup-script bundled for this experiment")
    return None


def _problem(code: str, recipe: Setting, message: str, fix: str, expected: str | None = None) -> Finding:
    name, source = escape(recipe.text), recipe.source
    return finding(code, message, field="recipe", expected=expected, actual=name, at=source, fix=fix)


def _of_adapter(name: str, full: Sequence[Run], tuned: Sequence[Run], experiment: Experiment) -> Finding | None:
    """A setting of the adapter that is given for runs without one; one finding, at the first place.

    What Configuration says may be for the LoRA runs beside them.
    """
    rows = [run for run in full if name in run.parameters]
    common = experiment.config.get(name) if len(full) == len(tuned) and full else None
    given = rows[0].parameters[name] if rows else common
    if given is None:
        return None
    more = f" ({len(rows) - 1} more row(s) give it too)" if len(rows) > 1 else ""
    run = f"the run at line {rows[0].line}, which is" if rows else "the runs, which are"
    return finding(
        "unsupported-setting",
        f"{name} is {shown(given.value)} for {run} fully fine-tuned, without LoRA{more}",
        field=name,
        actual=given.value,
        at=given.source,
        fix="write - in its place, or make the recipe LoRA" if rows else "take the line out, or make the recipe LoRA",
    )


# What the operator's plain YAML template gives: keys that nobody knows, and values that do not apply.


def template_problems(experiment: Experiment, interface: Interface | None) -> list[Finding]:
    """Keys of the template that neither we nor the external script know."""
    options = interface.options or {} if interface else {}
    known = [*KEYS, *options]
    found = []
    for key, setting in experiment.template_others.items():
        if key in options:
            continue
        meant = by_label(key)
        message = f"the template gives {shown(key)}, which setup_finetune does not take."
        found.append(
            finding(
                "unknown-key",
                did_you_mean(key, known, message, meant.name if meant else None),
                field=escape(key),
                actual=setting.value,
                at=setting.source,
                fix="correct or remove the key",
            )
        )
    return found


def template_warnings(experiment: Experiment, runs: Sequence[PlannedRun]) -> list[Finding]:
    """Where what is planned wins over another value of the template: one finding a key, with both places."""
    found = [_remark(name, setting, runs) for name, setting in experiment.template.items()]
    return [each for each in found if each is not None]


def _remark(name: str, setting: Setting, runs: Sequence[PlannedRun]) -> Finding | None:
    others = [run for run in runs if not _applies(name, setting, run)]
    if not others:
        return None
    first, place = others[0], f"line {setting.source.line} of the template"
    planned = first.settings.get(name)
    if planned is None:
        message = f"{name} is {shown(setting.value)} in {place}, and has no effect: {_why_not(name)}"
    else:
        alike = all(run.settings.get(name) == planned for run in runs)
        where = "in all runs" if alike else f"in {len(others)} run(s), first in {shown(first.directory)}"
        message = (
            f"{name} is {shown(planned.value)} {where}, by {_by(planned)}, which wins over {shown(setting.value)}"
            f" in {place}"
        )
    return finding(
        "overridden",
        message,
        field=name,
        expected=planned.value if planned else None,
        actual=setting.value,
        at=setting.source,
        fix="nothing, if the documents are right",
        severity=Severity.INFO,
    )


def _by(planned: Setting) -> str:
    """The place of a planned value, or the rule that it follows."""
    derived = planned.source.kind is SourceKind.DERIVED
    return f"the rule ({planned.source.note})" if derived else str(planned.source)


def _applies(name: str, setting: Setting, run: PlannedRun) -> bool:
    """Whether a run has the template's value, under its own name or another, or the same from elsewhere."""
    planned = run.settings.get(name)
    if any(each.source == setting.source for each in run.settings.values()):
        return True
    return planned is not None and _plain(name, planned) == _plain(name, setting)


def _plain(name: str, setting: Setting) -> object:
    """A value as it is compared: how a path or a time is spelt makes no difference."""
    value = setting.value
    if KEYS[name].kind in {"path", "pattern_free_path"}:
        return posixpath.normpath(str(value))
    return kinds.slurm_seconds(str(value)) if name == "time" else value


def _why_not(name: str) -> str:
    if name == "project_dir":
        return "outputs go below the output directory that is planned"
    if name == "venv":
        return "a conda environment is planned"
    return "the runs have no such setting"


# What stands against a plan, and what is remarkable about it.

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
