"""The frozen plan of an experiment, and the difference between two plans."""

import hashlib
import itertools
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from scaffold_torchtune import __version__
from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.models import Excluded, Experiment, Options, Plan, PlannedRun, Run, Setting, Source, SourceKind
from scaffold_torchtune.plan import checks, consistency, external, naming
from scaffold_torchtune.plan.run_settings import (
    PlanContext,
    columns_of,
    data_path,
    named,
    parameters_of,
    settings_of,
    warmed,
)
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.settings.parameters import SURROUNDINGS
from scaffold_torchtune.system.layout import SETUP_TEMPLATES

_EXCLUDED: Final = {
    "control": "a control: the base model is not fine-tuned",
    "eval-only": "evaluated only: nothing is fine-tuned",
    "cancelled": "cancelled: the table of runs marks it as not to be run",
}
"""Why a row is left out of the plan, by its type."""


def make_plan(experiment: Experiment, options: Options, context: PlanContext) -> Plan:
    """Plan every run of the experiment.

    Raises:
        Refused: identical runs, names that collide or are unsafe, an unknown model, an unsupported data format, a
            missing template, a recipe that is not scaffolded or does not fit; names every problem.
    """
    interface, directory = context.interface, context.experiment_dir
    tuned = [run for run in experiment.runs if run.type == "fine-tuned"]
    data = [data_path(run, experiment, directory) for run in tuned]
    unwarmed = [settings_of(run, path, experiment, context) for run, path in zip(tuned, data, strict=True)]
    unnamed = warmed(tuned, unwarmed, data, experiment, context)
    columns = columns_of(experiment)
    parameters = [parameters_of(columns, s, d) for s, d in zip(unnamed, data, strict=True)]
    varying = naming.varying_parameters(columns, parameters)
    previous = context.previous if context.previous and context.previous.options.names == options.names else None
    names = _names(tuned, parameters, varying, options, previous)
    rows = [(run.name, own, values) for run, own, values in zip(tuned, unnamed, parameters, strict=True)]
    directories = _kept_names(names.names, rows, columns, previous)
    problems = [
        *checks.unknown_models(tuned, experiment, options),
        *checks.data_problems(data, options, context),
        *checks.template_problems(experiment, interface),
        *checks.recipe_problems(tuned, experiment, options, context),
        *consistency.problems(tuned, unnamed, experiment),
        *checks.identical_runs(tuned, parameters, experiment),
    ]
    if not problems:
        problems = naming.check_names(directories, [run.line for run in tuned], experiment.summary_file)
    if problems:
        # What was remarkable about the documents often is the cause: a column that was not taken for a parameter.
        raise Refused(f"{len(problems)} problem(s) in the plan", [*problems, *experiment.warnings])
    runs = tuple(
        _planned_run(run, named(own, name), path, values, context)
        for run, name, path, values, own in zip(tuned, directories, data, parameters, unnamed, strict=True)
    )
    untaken = external.external_problems(runs, experiment, interface)
    if untaken:
        raise Refused(f"{len(untaken)} problem(s): this setup_finetune.py cannot be told the plan", untaken)
    warnings = [
        *experiment.warnings,
        *checks.warnings(experiment, runs),
        *external.external_warnings(runs, interface),
        *external.submit_warnings(runs),
    ]
    templates = dict.fromkeys(SETUP_TEMPLATES[run.text("dataset_ext")] for run in runs)
    left_out = [run for run in experiment.runs if run.type != "fine-tuned"]
    common = experiment.dataset
    splits = {posixpath.normpath(posixpath.join(directory, common.path.text)): common.splits} if common else {}
    plan = Plan(
        id="",
        version=__version__,
        experiment=experiment.name,
        experiment_dir=directory,
        options=options,
        inputs=dict(context.inputs),
        varying=varying,
        pattern=names.pattern,
        template=options.template or ", ".join(templates),
        legend=names.legend,
        runs=runs,
        excluded=tuple(Excluded(name=run.name, reason=_EXCLUDED[run.type]) for run in left_out),
        splits={path: counts for path, counts in splits.items() if counts},
        answers=experiment.answers,
        warnings=tuple(warnings),
    )
    return with_id(plan)


def _planned_run(
    run: Run, settings: dict[str, Setting], data: Setting, parameters: dict[str, Scalar], context: PlanContext
) -> PlannedRun:
    interface = context.interface
    submitted = external.submitted(settings, interface)
    return PlannedRun(
        directory=settings["my_wandb_run_name"].text,
        name=run.name,
        line=run.line,
        model=run.model,
        data_path=data.text,
        parameters=parameters,
        settings=settings,
        submitted=submitted,
        unwritten=external.unwritten(settings, submitted, interface),
        generation=interface.generation if interface else "",
    )


def with_id(plan: Plan) -> Plan:
    """Return the plan with its id."""
    return plan.model_copy(update={"id": id_of(plan.model_dump(mode="json"))})


def id_of(content: Mapping[str, Any]) -> str:
    """Return the id of a plan with this content as JSON has it: the SHA-256 of all else but the warnings."""
    counted = {name: part for name, part in content.items() if name not in {"id", "warnings"}}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def _names(
    tuned: Sequence[Run],
    parameters: Sequence[Mapping[str, Scalar]],
    varying: Sequence[str],
    options: Options,
    previous: Plan | None,
) -> naming.Names:
    if varying and options.names != "table":
        return naming.names_by_varying(varying, parameters, previous.legend if previous else {})
    made = [
        run.name if options.names == "table" else naming.single_name(run.name, own)
        for run, own in zip(tuned, parameters, strict=True)
    ]
    return naming.Names("{run name}", tuple(made), {})


def _kept_names(
    names: Sequence[str],
    rows: Sequence[tuple[str, Mapping[str, Setting], Mapping[str, Scalar]]],
    columns: Sequence[str],
    previous: Plan | None,
) -> list[str]:
    """Return the names of directories, where a run that was scaffolded before keeps its own.

    It is the same run where all that is trained is the same; else where the name of its directory still holds of the
    row: then that with the same Run Name, and of those the one with the most equal settings. Where two are equally
    near, neither is taken.

    Args:
        names: as they would be made anew.
        rows: by run, its Run Name, settings and parameters.
        columns: what the table tells apart.
        previous: the plan that was frozen.
    """
    before = {run.directory: run for run in (*previous.former, *previous.runs)} if previous else {}
    exact = {_identity(run.settings, columns): name for name, run in before.items()}
    kept = [exact.pop(_identity(settings, columns), "") for _, settings, _ in rows]
    left = {name: run for name, run in before.items() if name not in kept}
    if left and previous and previous.options.names == "varying" and not all(kept):
        open_rows = {index: row for index, row in enumerate(rows) if not kept[index]}
        for index, name in _nearest(open_rows, left, previous).items():
            kept[index] = name
    return [own or name for own, name in zip(kept, names, strict=True)]


def _nearest(
    rows: Mapping[int, tuple[str, Mapping[str, Setting], Mapping[str, Scalar]]],
    left: Mapping[str, PlannedRun],
    previous: Plan,
) -> dict[int, str]:
    """Return the directory of each row that a run of the earlier plan is nearest to, by the row's number."""
    by_held: dict[frozenset[str], dict[tuple[Scalar, ...], list[PlannedRun]]] = {}
    for name, run in left.items():
        held = naming.held_by(name, previous.varying, run.parameters, previous.legend)
        values = tuple(run.parameters.get(one) for one in sorted(held))
        by_held.setdefault(held, {}).setdefault(values, []).append(run)
    by_row: dict[int, dict[str, _Score]] = {index: {} for index in rows}
    by_name: dict[str, dict[int, _Score]] = {name: {} for name in left}
    for index, (run_name, settings, parameters) in rows.items():
        for held, runs in by_held.items():
            for old in runs.get(tuple(parameters.get(one) for one in sorted(held)), ()):
                if held or old.name == run_name:  # a name that holds no value says nothing
                    same = sum(old.value(key) == setting.value for key, setting in settings.items())
                    by_row[index][old.directory] = by_name[old.directory][index] = (old.name == run_name, same)
    scores = [(score, index, name) for index, found in by_row.items() for name, score in found.items()]
    nearest: dict[int, str] = {}
    taken: set[str] = set()
    for score, index, name in sorted(scores, reverse=True):
        rivals = [other for each, other in by_row[index].items() if each != name and each not in taken]
        rivals += [other for each, other in by_name[name].items() if each != index and each not in nearest]
        if index not in nearest and name not in taken and score > max(rivals, default=_FARTHEST):
            nearest[index] = name
            taken.add(name)
    return nearest


_Score = tuple[bool, int]
_FARTHEST: Final[_Score] = (False, -1)


def _identity(settings: Mapping[str, Setting], columns: Sequence[str]) -> str:
    """What makes a run the run that it is: what is trained, and what the table tells apart."""
    left_out = SURROUNDINGS - set(columns) | {"my_wandb_run_name"}
    values = {k: s.value for k, s in settings.items() if k not in left_out and s.source.kind is not SourceKind.TEMPLATE}
    if "custom_recipe" in values:  # which follows from the number of GPUs, too
        values["custom_recipe"] = recipes.method_of(str(values["custom_recipe"]))
    return json.dumps(values, sort_keys=True)


class Difference(NamedTuple):
    """The run, the setting that differs, and what it is here and there; None where there is none."""

    run: str
    name: str
    here: Setting | None
    there: Setting | None


def differences(here: Sequence[PlannedRun], there: Sequence[PlannedRun]) -> list[Difference]:
    """Return what differs between two plans of one experiment, whatever their runs are called.

    Runs that are the same in both are set aside; of the rest, those of one name are compared, then those that are left,
    in their order. A run that only one plan has differs in `runs`.
    """
    rest = list(there)
    alone: list[PlannedRun] = []
    for run in here:
        same = next((other for other in rest if _values(other) == _values(run)), None)
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


def _values(run: PlannedRun) -> dict[str, Scalar]:
    return {name: setting.value for name, setting in run.settings.items() if name != "my_wandb_run_name"}


def _between(one: PlannedRun | None, other: PlannedRun | None) -> list[Difference]:
    if one is None or other is None:
        name = one.name if one else other.name if other else ""
        return [Difference(name, "runs", _row(one), _row(other))]
    here, there = _values(one), _values(other)
    found = [
        Difference(one.name, name, one.settings.get(name), other.settings.get(name))
        for name in here | there
        if here.get(name) != there.get(name)
    ]
    differing = {each.name for each in found}
    return [each for each in found if not (each.name == "lora_alpha" and "lora_rank" in differing and _follow(each))]


def _follow(found: Difference) -> bool:
    """Whether both values follow from others."""
    return all(s is not None and s.source.kind is SourceKind.DERIVED for s in (found.here, found.there))


def _row(run: PlannedRun | None) -> Setting | None:
    """The name of a run, and the line of its row."""
    return Setting(value=run.name, source=Source(kind=SourceKind.ROW, line=run.line)) if run else None
