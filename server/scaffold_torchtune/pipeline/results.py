"""Turns what the stages hand on into the results that tools and commands return."""

from collections.abc import Mapping

from scaffold_torchtune.models.base import Setting, SourceKind
from scaffold_torchtune.models.experiment import Experiment
from scaffold_torchtune.models.plan import Plan, PlannedRun
from scaffold_torchtune.models.results import (
    CommonSetting,
    ParsedDataset,
    ParsedModel,
    ParsedRun,
    ParseResult,
    PlanResult,
    RunPlan,
)

# The settings that hold a parameter, where they have other names.
_SETTINGS_OF = {
    "model": ("torchtune_model_name",),
    "dataset": ("dataset_label", "input_dir_base", "dataset_ext"),
    "recipe": ("custom_recipe",),
}


def parse_result(experiment: Experiment, directory: str) -> ParseResult:
    """The experiment as parse_summary returns it."""
    config, environment = experiment.config, experiment.environment
    sources = {f"config.{k}": str(s.source) for k, s in config.items()}
    sources |= {f"environment.{k}": str(s.source) for k, s in environment.items()}
    sources |= {f"models.{m.name}": str(m.path.source) for m in experiment.models}
    sources |= {f"template.{k}": str(s.source) for k, s in experiment.template.items()}
    data = experiment.dataset
    if data is not None:
        sources["dataset"] = str(data.path.source)
    return ParseResult(
        experiment=experiment.name,
        experiment_dir=directory,
        runs=tuple(
            ParsedRun(
                name=run.name,
                type=run.type,
                model=run.model,
                parameters={k: s.value for k, s in run.parameters.items()},
                line=run.line,
            )
            for run in experiment.runs
        ),
        dataset=None
        if data is None
        else ParsedDataset(path=data.path.text, label=data.label, extension=data.extension, splits=data.splits),
        models=tuple(ParsedModel(name=m.name, path=m.path.text) for m in experiment.models),
        config={k: s.value for k, s in config.items()},
        environment={k: s.value for k, s in environment.items()},
        template={k: s.value for k, s in experiment.template.items()},
        sources=sources,
        answers=experiment.answers,
        warnings=experiment.warnings,
    )


def plan_result(plan: Plan) -> PlanResult:
    """The plan as plan_runs returns it: what differs by run, and what all runs share."""
    first = plan.runs[0].settings
    shared = {name: s for name, s in first.items() if all(_same(run.settings.get(name), s) for run in plan.runs)}
    defaults = {
        name: setting.value
        for run in plan.runs
        for name, setting in run.settings.items()
        if setting.source.kind is SourceKind.DEFAULT
    }
    return PlanResult(
        varying=plan.varying,
        pattern=plan.pattern,
        template=plan.template,
        setup=plan.options.setup_script,
        runs=tuple(_run_plan(run, shared) for run in plan.runs),
        answers=plan.answers,
        common=tuple(CommonSetting(name=n, value=s.value, source=str(s.source)) for n, s in shared.items()),
        defaults=defaults,
        legend=plan.legend,
        excluded=plan.excluded,
        warnings=plan.warnings,
    )


def _run_plan(run: PlannedRun, shared: Mapping[str, Setting]) -> RunPlan:
    """What a run has of its own, with the places; what is derived are settings computed from others, but for names."""
    own = {name: setting for name, setting in run.settings.items() if name not in shared}
    derived = {n: s for n, s in own.items() if s.source.kind is SourceKind.DERIVED and n != "my_wandb_run_name"}
    keys = {name: next((k for k in _SETTINGS_OF.get(name, (name,)) if k in own), None) for name in run.parameters}
    stands = {name: own[key] for name, key in keys.items() if key} | derived
    return RunPlan(
        directory=run.directory,
        name=run.name,
        line=run.line,
        parameters=run.parameters,
        derived={name: setting.value for name, setting in derived.items()},
        sources={name: str(setting.source) for name, setting in stands.items()},
    )


def _same(one: Setting | None, other: Setting) -> bool:
    return one is not None and one.value == other.value
