"""The frozen plan of an experiment, and the difference between two plans."""

import hashlib
import itertools
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaffold_torchtune import __version__
from scaffold_torchtune.findings import Finding, Refused, Scalar
from scaffold_torchtune.models import Excluded, Experiment, Options, Plan, PlannedRun, Run, Setting, Source, SourceKind
from scaffold_torchtune.plan import checks, external, naming
from scaffold_torchtune.plan.run_settings import Place, data_path, named, parameters_of, settings_of
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.parameters import SURROUNDINGS
from scaffold_torchtune.system.layout import SETUP_TEMPLATES

# Whether two plans plan the same runs, whatever the runs are called.


class Difference(NamedTuple):
    """The run, the setting that differs, and what it is here and there; None where there is none."""

    run: str
    name: str
    here: Setting | None
    there: Setting | None


def differences(here: Sequence[PlannedRun], there: Sequence[PlannedRun]) -> list[Difference]:
    """What differs between two plans of one experiment.

    Runs that are the same in both are set aside; of the rest, those of one name are compared, then those that are left,
    in their order. A run that only one plan has differs in `runs`.
    """
    rest = list(there)
    alone: list[PlannedRun] = []
    for run in here:
        same = next((other for other in rest if _same(_settings(other), _settings(run))), None)
        if same is None:
            alone.append(run)
        else:
            rest.remove(same)
    by_name = {run.name: run for run in rest}
    pairs = [(run, by_name.pop(run.name)) for run in alone if run.name in by_name]
    paired = {run.name for run, _ in pairs}
    left = [run for run in alone if run.name not in paired]
    pairs_left = itertools.zip_longest(left, by_name.values())
    return [difference for one, other in itertools.chain(pairs, pairs_left) for difference in _between(one, other)]


def _settings(run: PlannedRun) -> dict[str, Setting]:
    return {name: setting for name, setting in run.settings.items() if name != "my_wandb_run_name"}


def _same(one: Mapping[str, Setting], other: Mapping[str, Setting]) -> bool:
    return {name: s.value for name, s in one.items()} == {name: s.value for name, s in other.items()}


def _between(one: PlannedRun | None, other: PlannedRun | None) -> list[Difference]:
    if one is None or other is None:
        name = one.name if one else other.name if other else ""
        return [Difference(name, "runs", _row(one), _row(other))]
    here, there = _settings(one), _settings(other)
    found = [
        Difference(one.name, name, here.get(name), there.get(name))
        for name in dict.fromkeys([*here, *there])
        if _value(here.get(name)) != _value(there.get(name))
    ]
    differing = {each.name for each in found}
    return [each for each in found if not (each.name == "lora_alpha" and "lora_rank" in differing and _follow(each))]


def _follow(found: Difference) -> bool:
    """Whether both values follow from others."""
    return all(s is not None and s.source.kind is SourceKind.DERIVED for s in (found.here, found.there))


def _value(setting: Setting | None) -> object:
    return setting.value if setting else None


def _row(run: PlannedRun | None) -> Setting | None:
    """The name of a run, and the line of its row."""
    return Setting(value=run.name, source=Source(kind=SourceKind.ROW, line=run.line)) if run else None


# Makes the frozen plan from an experiment, or says everything that stands against it.


def make_plan(experiment: Experiment, options: Options, place: Place) -> Plan:
    """Plan every run of the experiment.

    Raises:
        Refused: identical runs, names that collide or are unsafe, an unknown model, an unsupported data format, a
            missing template, a recipe that is not scaffolded or does not fit; names every problem.
    """
    tuned = [run for run in experiment.runs if run.type == "fine-tuned"]
    data = [data_path(run, experiment, place.experiment_dir) for run in tuned]
    unnamed = [settings_of(run, path, experiment, place) for run, path in zip(tuned, data, strict=True)]
    parameters = [parameters_of(experiment.columns, s, d) for s, d in zip(unnamed, data, strict=True)]
    varying = naming.varying_parameters(experiment.columns, parameters)
    previous = place.previous if place.previous and place.previous.options.names == options.names else None
    names = _names(tuned, parameters, varying, options, previous)
    made = _keep(names.names, unnamed, experiment.columns, previous)
    problems = [
        *checks.unknown_models(tuned, experiment, options),
        *checks.data_problems(data, options, place),
        *checks.template_problems(experiment, place.interface),
        *checks.recipe_problems(tuned, experiment, options, place),
        *checks.identical_runs(tuned, parameters, experiment),
    ]
    problems += [] if problems else naming.check_names(made, [run.line for run in tuned], experiment.summary_file)
    if problems:
        # What was remarkable about the documents often is the cause: a column that was not taken for a parameter.
        raise Refused(f"{len(problems)} problem(s) in the plan", [*problems, *experiment.warnings])
    runs = tuple(
        PlannedRun(
            directory=name,
            name=run.name,
            line=run.line,
            model=run.model,
            data_path=path.text,
            parameters=values,
            settings=(settings := named(own, name)),
            submitted=(submitted := external.submitted(settings, place.interface)),
            unwritten=external.unwritten(settings, submitted, place.interface),
            generation=place.interface.generation if place.interface else "",
        )
        for run, name, path, values, own in zip(tuned, made, data, parameters, unnamed, strict=True)
    )
    untaken = external.external_problems(runs, experiment, place.interface)
    if untaken:
        raise Refused(f"{len(untaken)} problem(s): this setup_finetune.py cannot be told the plan", untaken)
    plan = Plan(
        id="",
        version=__version__,
        experiment=experiment.name,
        experiment_dir=place.experiment_dir,
        options=options,
        inputs=dict(place.inputs),
        varying=varying,
        pattern=names.pattern,
        template=_template(runs, options),
        legend=names.legend,
        runs=runs,
        excluded=_excluded(experiment),
        splits=_splits(experiment, place),
        answers=experiment.answers,
        warnings=(*experiment.warnings, *_remarks(experiment, runs, place)),
    )
    return with_id(plan)


def _remarks(experiment: Experiment, runs: Sequence[PlannedRun], place: Place) -> list[Finding]:
    """What the person should see before anything is written."""
    of_script = [*external.external_warnings(runs, place.interface), *external.submit_warnings(runs)]
    return [
        *checks.warnings(experiment, runs),
        *checks.template_warnings(experiment, runs),
        *checks.recipe_warnings(runs),
        *of_script,
    ]


def with_id(plan: Plan) -> Plan:
    """The plan with its id: the SHA-256 of all else but the warnings."""
    content = plan.model_dump(mode="json", exclude={"id", "warnings"})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return plan.model_copy(update={"id": digest})


def _template(runs: Sequence[PlannedRun], options: Options) -> str:
    names = dict.fromkeys(SETUP_TEMPLATES[run.text("dataset_ext")] for run in runs)
    return options.template or ", ".join(names)


def _excluded(experiment: Experiment) -> tuple[Excluded, ...]:
    reasons = {
        "control": "a control: the base model is not fine-tuned",
        "eval-only": "evaluated only: nothing is fine-tuned",
    }
    return tuple(Excluded(name=r.name, reason=reasons[r.type]) for r in experiment.runs if r.type != "fine-tuned")


def _splits(experiment: Experiment, place: Place) -> dict[str, dict[str, int]]:
    found = experiment.dataset
    if found is None or not found.splits:
        return {}
    return {posixpath.normpath(posixpath.join(place.experiment_dir, found.path.text)): found.splits}


def _names(
    tuned: Sequence[Run],
    parameters: Sequence[Mapping[str, Scalar]],
    varying: Sequence[str],
    options: Options,
    previous: Plan | None,
) -> naming.Names:
    if options.names == "table":
        return naming.Names("{run name}", tuple(run.name for run in tuned), {})
    if varying:
        return naming.names_by_varying(varying, parameters, previous.legend if previous else {})
    made = tuple(naming.single_name(run.name, p) for run, p in zip(tuned, parameters, strict=True))
    return naming.Names("{run name}", made, {})


def _identity(settings: Mapping[str, Setting], columns: Sequence[str]) -> str:
    """What makes a run the run that it is: what is trained, and what the table tells apart."""
    beside = SURROUNDINGS - set(columns) | {"my_wandb_run_name"}
    values = {k: s.value for k, s in settings.items() if k not in beside and s.source.kind is not SourceKind.TEMPLATE}
    if "custom_recipe" in values:  # which follows from the number of GPUs, too
        values["custom_recipe"] = recipes.method_of(str(values["custom_recipe"]))
    return json.dumps(values, sort_keys=True)


def _keep(
    names: Sequence[str], settings: Sequence[Mapping[str, Setting]], columns: Sequence[str], previous: Plan | None
) -> list[str]:
    """The names, but a run that was scaffolded before keeps its own: the table may have grown since."""
    kept = {_identity(run.settings, columns): run.directory for run in previous.runs} if previous else {}
    return [kept.get(_identity(s, columns), name) for s, name in zip(settings, names, strict=True)]
