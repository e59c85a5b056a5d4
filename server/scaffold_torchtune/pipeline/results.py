"""Turns what the stages hand on into the results that tools and commands return."""

from collections.abc import Mapping

from scaffold_torchtune.models.base import Setting, SourceKind, lines_of
from scaffold_torchtune.models.experiment import Experiment
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.results import ParseResult, PlanResult, RunPlan

# The settings that hold a parameter, where they have other names.
_SETTINGS_OF = {
    "model": ("torchtune_model_name",),
    "dataset": ("dataset_label", "input_dir_base", "dataset_ext"),
    "recipe": ("custom_recipe",),
}


def parse_result(experiment: Experiment, directory: str) -> ParseResult:
    """Return the experiment as parse_summary does."""
    settings = [*experiment.config.items(), *experiment.environment.items()]
    settings += [(f"models.{model.name}", model.path) for model in experiment.models]
    settings += [(f"template.{name}", setting) for name, setting in experiment.template.items()]
    settings += [("dataset", experiment.dataset.path)] if experiment.dataset else []
    return ParseResult(
        experiment=experiment.name,
        experiment_dir=directory,
        runs=experiment.runs,
        dataset=experiment.dataset,
        models=experiment.models,
        config=experiment.config,
        environment=experiment.environment,
        template=experiment.template,
        answers=experiment.answers,
        sources=lines_of((name, setting.source) for name, setting in settings),
        warnings=experiment.warnings,
    )


def plan_result(plan: Plan) -> PlanResult:
    """Return the plan as plan_runs does: what differs by run, and what all runs share."""
    first = plan.runs[0].settings
    common = {name: s for name, s in first.items() if all(_same(run.settings.get(name), s) for run in plan.runs)}
    every = [(name, setting) for run in plan.runs for name, setting in run.settings.items()]
    return PlanResult(
        varying=plan.varying,
        pattern=plan.pattern,
        template=plan.template,
        setup=plan.options.setup_script,
        answers=plan.answers,
        defaults={name: setting.value for name, setting in every if setting.source.kind is SourceKind.DEFAULT},
        legend=plan.legend,
        excluded=plan.excluded,
        warnings=plan.warnings,
        runs=tuple(_run_plan(run, common) for run in plan.runs),
        common=common,
    )


def _run_plan(run: PlannedRun, common: Mapping[str, Setting]) -> RunPlan:
    """Return what a run has of its own, with its sources; what is derived is computed from others, but for names."""
    own = {name: setting for name, setting in run.settings.items() if name not in common}
    derived = {n: s for n, s in own.items() if s.source.kind is SourceKind.DERIVED and n != "my_wandb_run_name"}
    keys = {name: next((k for k in _SETTINGS_OF.get(name, (name,)) if k in own), None) for name in run.parameters}
    stands = {name: own[key] for name, key in keys.items() if key} | derived
    return RunPlan(
        directory=run.directory,
        name=run.name,
        line=run.line,
        parameters=run.parameters,
        derived={name: setting.value for name, setting in derived.items()},
        sources={name: setting.source for name, setting in stands.items()},
    )


def _same(one: Setting | None, other: Setting) -> bool:
    return one is not None and one.value == other.value
