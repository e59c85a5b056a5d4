"""What stands against the recipes that a summary asks for."""

from collections.abc import Sequence

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, finding
from scaffold_torchtune.models.base import Setting, Source
from scaffold_torchtune.models.experiment import Experiment, Run
from scaffold_torchtune.models.plan import Options, PlannedRun
from scaffold_torchtune.plan.place import Place
from scaffold_torchtune.plan.settings import is_full, other_recipe, own_value, value_or_default
from scaffold_torchtune.settings import recipes
from scaffold_torchtune.shared.text import did_you_mean, escape, shown


def problems(tuned: Sequence[Run], experiment: Experiment, options: Options, place: Place) -> list[Finding]:
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


def remarks(runs: Sequence[PlannedRun]) -> list[Finding]:
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
