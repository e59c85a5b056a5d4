"""Checks that reject a plan, and warnings about it.

Values that concern several settings together (nodes, effective batch size, warm-up, W&B) must agree with the runs.
"""

import itertools
import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location, Scalar, counted, did_you_mean, escape, few, finding, shown
from scaffold_torchtune.models import Experiment, Interface, Options, PlannedRun, Run, Setting, Source, SourceKind
from scaffold_torchtune.plan.run_settings import (
    PlanContext,
    is_full,
    lora_alpha_ratio,
    number,
    other_recipe,
    own_value,
    value_or_default,
    warmup_ratio,
)
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.settings.kinds import NotTyped, for_each, in_cells, to_give
from scaffold_torchtune.settings.parameters import KEYS, PARAMETERS, by_label
from scaffold_torchtune.system.layout import SETUP_TEMPLATES, data_label
from scaffold_torchtune.torchtune_facts import (
    FULL,
    OF_LORA,
    RECIPE_NAMES,
    RECIPES,
    find_model,
    known_models,
    method_of,
    model_by_spelling,
    recipe_for_gpus,
    recipes_agree,
    supported_models,
)

_ANEW: Final = {
    "requeue": (
        "without resume_from_checkpoint, a requeued job starts the training over from the beginning",
        "{}no action if the runs are short enough to be repeated",
    ),
    "resume_from_checkpoint": (
        "a run of one epoch cannot resume: torchtune saves its state only between epochs",
        "no action if intended; otherwise train for more epochs",
    ),
}
"""The reason why a job trains from the beginning, and the fix, by setting."""

_A_COLUMN: Final = "a column that distinguishes them, such as `Seed`"
_FEW: Final = 3  # combinations that a message lists
_LISTED: Final = 12  # lines

_NO_EFFECT: Final = {
    "project_dir": "outputs go below the plan's output directory",
    "venv": "the plan has a conda environment",
}
"""Special reasons why a value of the template has no effect."""


def recipe_problems(
    tuned: Sequence[Run], experiment: Experiment, options: Options, context: PlanContext
) -> list[Finding]:
    """Return problems of unsupported or unsuitable recipes, and of LoRA settings for runs that do not use LoRA."""
    # Only the external script knows a recipe in a package.
    custom = experiment.template.get("custom_recipe")
    named = custom if custom is not None and "." not in custom.text else None
    found: dict[Source, Finding] = {}
    for run in tuned:
        recipe = own_value("recipe", run, experiment) or named
        problem = _recipe_problem(recipe, run, experiment, options, context) if recipe else None
        if recipe and problem:
            found.setdefault(recipe.source, problem)
    full = [run for run in tuned if is_full(other_recipe(run, experiment, context))]
    of_adapter = (_adapter_problem(name, full, tuned, experiment) for name in (*OF_LORA, "lora_alpha_ratio"))
    return [*found.values(), *filter(None, of_adapter)]


def _recipe_problem(
    recipe: Setting, run: Run, experiment: Experiment, options: Options, context: PlanContext
) -> Finding | None:
    name, gpus = recipe.text, value_or_default("gpus", run, experiment, context)
    method, code, expected = method_of(name), "unsupported-setting", None
    if method is None:
        expected = ", ".join(RECIPE_NAMES)
        message = f"the recipe {shown(name)} is not supported."
        message = did_you_mean(name, (*RECIPES, *RECIPE_NAMES), message)
        fix = f"write `LoRA` or `full`, which fit any number of GPUs, or one of {expected}; the default is LoRA"
    elif gpus is not None and recipe_for_gpus(method, gpus.integer) != name != method:
        code = "wrong-recipe"
        message = f"the recipe is {name}, but the run on line {run.line} has {counted(gpus.integer, 'GPU')}"
        fix = f"correct the recipe or the number of GPUs, or write just `{method}`, which fits any number of GPUs"
    elif method == FULL and options.setup_script != "bundled":
        message = f"full fine-tuning needs the bundled setup_finetune, not {shown(options.setup_script)}"
        fix = "use `--setup-script bundled` for this experiment"
    else:
        return None
    return finding(code, message, field="recipe", expected=expected, actual=escape(name), at=recipe.source, fix=fix)


def _adapter_problem(name: str, full: Sequence[Run], tuned: Sequence[Run], experiment: Experiment) -> Finding | None:
    """Return a problem, at its first place, if runs without an adapter have a setting of the adapter.

    A value in Configuration is no problem if some runs use LoRA.
    """
    rows = [run for run in full if name in run.parameters]
    common = experiment.config.get(name) if len(full) == len(tuned) and full else None
    given = rows[0].parameters[name] if rows else common
    if given is None:
        return None
    run = f"the run on line {rows[0].line} uses" if rows else "the runs use"
    run = f"the runs on lines {few([str(row.line) for row in rows], _LISTED)} use" if len(rows) > 1 else run
    message = f"{name} is {'set' if len(rows) > 1 else shown(given.value)}, but {run} full fine-tuning, without LoRA"
    cell = f"write `-` in {'this cell' if len(rows) == 1 else 'these cells'}"
    if experiment.form == "yaml":
        cell = f"remove {name} from the parameters of {'this run' if len(rows) == 1 else 'these runs'}"
    remove, remark = (cell, "") if rows else _removal(name, given, experiment)
    fix = f"{remove}, or change the recipe to LoRA{remark}"
    return finding("unsupported-setting", message, field=name, actual=given.value, at=given.source, fix=fix)


def template_problems(experiment: Experiment, interface: Interface | None) -> Iterator[Finding]:
    """Yield keys of the template that neither this tool nor the external script knows."""
    options = interface.options or {} if interface else {}
    for key, setting in experiment.template_others.items():
        if key not in options:
            similar = by_label(key)
            message = f"the template has the key {shown(key)}, which is not a key of setup_finetune."
            message = did_you_mean(key, [*KEYS, *options], message, similar.name if similar else None)
            field, fix = escape(key), "correct the key's name, or remove the line"
            yield finding("unknown-key", message, field=field, actual=setting.value, at=setting.source, fix=fix)


def identical_runs(
    tuned: Sequence[Run], parameters: Sequence[Mapping[str, Scalar]], experiment: Experiment
) -> Iterator[Finding]:
    """Yield a problem for each group of rows that are equal in every parameter.

    If the other rows form a grid that lacks as many combinations, one of the two rows was probably intended as one of
    them.
    """
    sizes, missing = _missing_combinations(parameters)
    alike: dict[str, list[tuple[Run, Mapping[str, Scalar]]]] = {}
    for run, values in zip(tuned, parameters, strict=True):
        alike.setdefault(json.dumps(values, sort_keys=True), []).append((run, values))
    for same in (each for each in alike.values() if len(each) > 1):
        runs, values = [run for run, _ in same], same[1][1]
        lines, names = ([*map(str, (run.line for run in runs))], [shown(run.name) for run in runs])
        message = f"the rows on lines {few(lines, _LISTED)} describe the same run ({few(names, _FEW)})"
        remove = "remove one of the rows" if len(runs) == 2 else "remove all but one of the rows"  # noqa: PLR2004
        what = "a parameter that distinguishes them, such as `seed`" if experiment.form == "yaml" else _A_COLUMN
        fix = f"{remove}; or add {what}"
        near = [each for each in missing if sum(values[name] != level for name, level in each.items()) == 1]
        lacking = [_combination(each) for each in near or missing]
        if lacking:
            named, the = [f"({each})" for each in lacking], "a" if lacking[1:] else "the"
            message += f"; one of them may contain a typo, because the {sizes} grid lacks {few(named, _FEW)}"
            fix = f"change one of these rows to {the} missing combination, {few(named, _FEW, last='or')}; or {fix}"
        expected = lacking[0] if lacking else None
        at = Location(experiment.summary_file, runs[1].line)
        yield finding("identical-runs", message, field="runs", expected=expected, at=at, fix=fix)


def _combination(levels: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {kinds.written(level)}" for name, level in levels.items())


def _missing_combinations(parameters: Sequence[Mapping[str, Scalar]]) -> tuple[str, list[dict[str, Scalar]]]:
    """Return the sizes of the grid that the runs nearly form, and its missing combinations.

    The result is empty if more combinations are missing than there are duplicates, because the runs then form no grid.
    A parameter that follows from another one (alpha from the rank) is not a dimension of the grid.
    """
    columns = {name: [values.get(name) for values in parameters] for name in (parameters[0] if parameters else ())}
    spans: dict[str, list[Scalar]] = {}
    for name, column in sorted(columns.items(), key=lambda pair: -len(set(pair[1]))):
        pairs = (len(set(zip(column, other, strict=True))) == len(set(other)) for other in spans.values())
        if len(set(column)) > 1 and not any(pairs):
            spans[name] = column
    levels = {name: list(dict.fromkeys(columns[name])) for name in columns if name in spans}
    combinations = math.prod(map(len, levels.values()))
    each, rest = divmod(len(parameters), combinations)
    if len(levels) < 2 or rest or not each:  # noqa: PLR2004 - no grid
        return "", []
    counts = Counter(zip(*(columns[name] for name in levels), strict=True))
    missing = [one for one in itertools.product(*levels.values()) if counts[one] < each]
    is_slip = sum(each - counts[one] for one in missing) <= max(_FEW, len(parameters) // 6)
    sizes = " x ".join(str(len(values)) for values in levels.values())
    return sizes, [dict(zip(levels, one, strict=True)) for one in missing] if is_slip else []


def unknown_models(tuned: Sequence[Run], experiment: Experiment, options: Options) -> Iterator[Finding]:
    """Yield problems of models unknown to the bundled setup_finetune; an external script has its own list."""
    first = {run.model: run for run in reversed(tuned)} if options.setup_script == "bundled" else {}
    for name, run in first.items():
        if find_model(name) is None:
            message = did_you_mean(name, known_models(), f"{shown(name)} is not a known model.")
            expected, at = ", ".join(known_models()), Location(experiment.summary_file, run.line)
            fix, actual = f"use {supported_models()}", escape(name)
            yield finding("unknown-model", message, field="model", expected=expected, actual=actual, at=at, fix=fix)


def data_problems(data: Sequence[Setting], options: Options, context: PlanContext) -> list[Finding]:
    """Return problems of data sets with an unsupported format or unsafe name, and of missing templates."""
    paths = {d.text: d for d in reversed(data)}.values()
    return list(dict.fromkeys(problem for path in paths for problem in _data_problem(path, options, context)))


def _data_problem(path: Setting, options: Options, context: PlanContext) -> Iterator[Finding]:
    label, extension = data_label(path.text)
    if extension not in SETUP_TEMPLATES:
        formats, actual, at = " or ".join(SETUP_TEMPLATES), escape(extension), path.source
        convert = f"convert the data set to {formats}, then correct its path"
        if extension:
            has, fix = f"has the extension {shown(extension)}, not {formats}", convert
        elif (name := posixpath.basename(path.text)).startswith("."):
            has, fix = "has no name before the extension", "rename the file, for example to words.json or words.parquet"
            fix = f"{fix}, then correct its path"
        else:
            has = f"has no file extension; it must end in {formats}"
            fix = f"add the extension if the file is {formats}; otherwise {convert}"
            found = next((each for each in SETUP_TEMPLATES if context.is_file(f"{path.text}{each}")), None)
            if found and at.line is not None:
                fix = f"replace `{name}` with `{name}{found}` in {at.file}:{at.line}, because that file exists"
        message = f"the data set {shown(path.text)} {has}"
        yield finding("unsupported-format", message, field="dataset", expected=formats, actual=actual, at=at, fix=fix)
        return
    try:
        PARAMETERS["dataset_label"].read(label)
    except NotTyped as unsafe:
        message = f"the data set's name {shown(label)} {unsafe.described}"
        allowed, actual, at = unsafe.allowed, escape(label), path.source
        fix = f"rename the file to {unsafe.allowed}; then correct its path in the summary"
        yield finding("invalid-value", message, field="dataset", expected=allowed, actual=actual, at=at, fix=fix)
        return
    template = options.template or f"{context.templates_dir}/{SETUP_TEMPLATES[extension]}"
    if not context.is_file(template):
        message = f"the template for {extension} data is missing: {shown(template)}"
        fix = (
            f"{'correct `--template`' if options.template else 'reinstall scaffold-torchtune'}, or create a template:"
            f" copy {context.templates_dir}/setup_finetune_template.yaml.j2, which has all keys of setup_finetune.yaml,"
            " edit the copy, and specify it with `--template`"
        )
        yield finding("missing-template", message, field="template", expected=template, file=template, fix=fix)


def warnings(experiment: Experiment, runs: Sequence[PlannedRun]) -> list[Finding]:
    """Return warnings for the user, except those about an external script."""
    return [
        *_overridden(experiment, runs),
        *_defaults(experiment, runs),
        *_short_times(runs),
        *_names_of_models(runs, experiment.summary_file),
        *_begin_anew(runs),
        *_template_overridden(experiment, runs),
        *_own_recipe(runs),
    ]


def _overridden(experiment: Experiment, planned: Sequence[PlannedRun]) -> Iterator[Finding]:
    """Yield a warning for each parameter that rows override, at the first such row."""
    found: dict[str, list[Run]] = {}
    for run in experiment.runs:
        for name, setting in run.parameters.items() if run.type == "fine-tuned" else ():
            common = experiment.config.get(name)
            same = name == "recipe" and common and recipes_agree(common.text, setting.text)
            if common is not None and common.value != setting.value and not same:
                found.setdefault(name, []).append(run)
    yield from _over_local(experiment)
    for name, runs in found.items():
        first, common = runs[0], experiment.config[name]
        value, at = first.parameters[name].value, Location(experiment.summary_file, first.line)
        more = f" (likewise in {counted(len(runs) - 1, 'other run')})" if len(runs) > 1 else ""
        line, yaml, several = common.source.line, experiment.form == "yaml", len(runs) > 1
        of, override = ("parameters", "override") if yaml else ("row", "overrides")
        section = "'controls'" if yaml else "Configuration"
        there = f"{section} (line {line})" if line else f"the {common.source}"
        message = f"{name} is {'none' if value is None else shown(value)} in the {of} of the run {shown(first.name)},"
        message += f" which {override} {shown(common.value)} in {there}{more}"
        remove, remark = _removal(name, common, experiment)
        if blank := _users(name, experiment, planned):
            cells = in_cells(name, common.value, blank, "" if yaml else first.parameters[name].source.note)
            names = ("the run " if len(blank) == 1 else "") + few([shown(run.name) for run in blank], _FEW)
            remove = f"keep {shown(common.value)} for {names}: {cells}, then {remove}"
        fix = f"if the {of}{'s' * several * (not yaml)} {'are' if yaml or several else 'is'} correct, {remove}{remark}"
        yield finding("overridden", message, field=name, expected=common.value, actual=value, at=at, fix=fix)


def _users(name: str, experiment: Experiment, planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Return the runs that use a value of Configuration, because their rows have none."""
    own = {run.line for run in experiment.runs if name in run.parameters}
    return [run for run in planned if run.line not in own and (name not in KEYS or name in run.settings)]


def _removal(name: str, setting: Setting, experiment: Experiment) -> tuple[str, str]:
    """Return the fix that removes a value but no other value of its line, and a remark about the other values."""
    file, line, kind = setting.source.file, setting.source.line, setting.source.kind
    if not line:
        return ("omit the answer" if kind is SourceKind.ANSWER else "remove the common value"), ""
    given = {**experiment.environment, **experiment.config}
    given |= {f"the path of {model.name}": model.path for model in experiment.models}
    given |= {"the data set": experiment.dataset.path} if experiment.dataset else {}
    places = {other: each.source for other, each in given.items() if other != name}
    others = [other for other, source in places.items() if (source.file, source.line) == (file, line)]
    if not others:
        return f"remove line {line} of {file}", ""
    only = f"remove only {name} ({kinds.written(setting.value)}) from line {line} of {file}"
    return only, f"; the line also sets {few(others, _FEW)}"


def _over_local(experiment: Experiment) -> Iterator[Finding]:
    """Yield settings of claude.local.md that Configuration overrides."""
    for name, setting in experiment.config.items():
        default = experiment.environment.get(name)
        if default is not None and _plain(name, default) != _plain(name, setting):
            # Documents usually override a resource of jobs below `SLURM Defaults`.
            is_usual = not PARAMETERS[name].common and "default" in default.source.note.lower()
            severity = Severity.INFO if is_usual else None
            there = f"{shown(default.value)} in {default.source}"
            by = "the answer" if setting.source.kind is SourceKind.ANSWER else "the summary"
            message = f"{name} is {shown(setting.value)} according to {by}, which overrides {there}"
            expected, actual, at = default.value, setting.value, setting.source
            fix = f"no action if {by} is correct; otherwise {''.join(_removal(name, setting, experiment))}"
            code = "overridden"
            yield finding(
                code, message, field=name, expected=expected, actual=actual, at=at, fix=fix, severity=severity
            )


_LONGEST_NAME: Final = 300  # characters of a run's name that are searched
_SIZE: Final = r"[0-9]{1,3}(?:\.[0-9]{1,2})?b(?![A-Za-z0-9])"
_IN_A_MODEL: Final = re.compile(rf"(?<![A-Za-z0-9.]){_SIZE}", re.IGNORECASE)
_IN_A_NAME: Final = re.compile(
    r"(?<![A-Za-z0-9.])(?P<family>(?:llama|qwen|gemma|phi|mistral)[ _-]?(?:[0-9](?:\.[0-9])?[ _-])?)?"
    rf"(?P<size>{_SIZE})",
    re.IGNORECASE,
)
"""The size of a model in a run's name, with the family before it, if any: `llama3-8b`, `1B`."""


def _names_of_models(runs: Sequence[PlannedRun], file: str) -> Iterator[Finding]:
    """Yield one finding for runs with the name or the size of a different model in their names."""
    used = {run.model for run in runs}
    wrong = [(run, named) for run in runs if (named := _other_model(run, used))]
    for run, named in wrong[:1]:
        more = f"; {len(wrong)} run names, including this one, name a different model" if len(wrong) > 1 else ""
        message = f"the run name {shown(run.name)} contains {shown(named)}, but the model is {shown(run.model)}{more}"
        yield finding(
            "name-mismatch", message, field="model", expected=named, actual=run.model, at=Location(file, run.line),
            fix="correct the model or the run's name, whichever is wrong", severity=Severity.WARNING,
        )  # fmt: skip


def _other_model(run: PlannedRun, used: set[str]) -> str:
    """Return the model that the name of a run contains, if it is a different one.

    A size alone must be that of a model in use. A base model may mean its instruct version, unless both are in use.
    """
    meant, name = model_by_spelling(run.model), run.name[:_LONGEST_NAME]
    found = [each for each in known_models() if _contains(name.casefold(), each.casefold())]
    if meant is None or found:
        named = max(found, key=len, default=run.model)
        is_short = meant is None or (meant.name.startswith(named) and (named not in used or meant.name == named))
        return "" if is_short else named
    sizes = {size for model in used for size in _sizes(model)}
    for match in _IN_A_NAME.finditer(name.replace(run.model, "")):
        size = match["size"].lower()
        if (match["family"] or (size in sizes and match["size"].endswith("B"))) and size not in _sizes(run.model):
            return match[0]
    return ""


def _sizes(model: str) -> set[str]:
    return {match[0].lower() for match in _IN_A_MODEL.finditer(model)}


def _contains(text: str, name: str) -> bool:
    return re.search(rf"(?<![a-z0-9.]){re.escape(name)}(?![a-z0-9])", text) is not None


def _defaults(experiment: Experiment, runs: Sequence[PlannedRun]) -> Iterator[Finding]:
    for name in ("lora_rank", "lr"):
        lacking = [run for run in runs if name in run.settings and run.settings[name].source.kind is SourceKind.DEFAULT]
        if lacking:
            value, at = lacking[0].value(name), Location(experiment.summary_file, lacking[0].line)
            number_of_runs = counted(len(lacking), "run")
            message = f"{name} is not set for {number_of_runs}: setup_finetune's default {shown(value)} is used"
            having = [run for run in runs if name in run.settings]
            given = to_give(name, for_each(lacking, value), lacking, having)
            fix = f"{given} to keep the default, or write the intended value instead"
            yield finding("default-used", message, field=name, actual=value, at=at, fix=fix)


def _short_times(runs: Sequence[PlannedRun]) -> Iterator[Finding]:
    """Yield warnings about times of two parts, which SLURM reads as minutes:seconds."""
    times: dict[str, list[PlannedRun]] = {}
    for run in runs:
        times.setdefault(run.text("time"), []).append(run)
    for text, some in times.items():
        if text.count(":") == 1 and "-" not in text:
            minutes, seconds = text.split(":")
            read_as = f"{counted(int(minutes), 'minute')} and {counted(int(seconds), 'second')}"
            message = f"SLURM reads the time {text} as {read_as}"
            long = kinds.slurm_time(3600 * int(minutes) + 60 * int(seconds))
            short = kinds.slurm_time(60 * int(minutes))[:-2] + f"{int(seconds):02d}"
            change = to_give("time", for_each(some, long), some, runs)
            fix, at = f"{change}, or with {short} if minutes are intended", some[0].settings["time"].source
            yield finding("short-time", message, field="time", actual=text, at=at, fix=fix)


def _begin_anew(runs: Sequence[PlannedRun]) -> list[Finding]:
    """Return one warning for each reason why jobs that SLURM restarts train from the beginning.

    torchtune 0.6.1 saves the state to resume from only between epochs (`intermediate_checkpoint` in its recipes), and
    only LoRA runs find it by themselves.
    """
    found: dict[str, list[PlannedRun]] = {}
    for run in runs:
        resumes = run.value("resume_from_checkpoint") is True
        name = "resume_from_checkpoint" if resumes and run.value("epochs") == 1 else "requeue"
        if name == "resume_from_checkpoint" or (not resumes and run.value("requeue") is True):
            found.setdefault(name, []).append(run)
    return [_begins_anew(name, some, runs) for name, some in found.items()]


def _begins_anew(name: str, some: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> Finding:
    source, (message, fix) = some[0].settings[name].source, _ANEW[name]
    able = [run for run in some if run.value("epochs") != 1 and not is_full(run.settings.get("custom_recipe"))]
    if able:
        resume = "resume_from_checkpoint"
        fix = fix.format(f"{to_give(resume, for_each(able, 'yes'), able, runs)}; ")
    return finding("begins-anew", message, field=name, actual=True, at=source, fix=fix.format(""))


def _template_overridden(experiment: Experiment, runs: Sequence[PlannedRun]) -> Iterator[Finding]:
    """Yield one finding for each key of the template with a value that the plan overrides, with both places."""
    for name, setting in experiment.template.items():
        if name not in KEYS:  # it becomes another setting, or is compared with the plan
            continue
        others = [run for run in runs if not _applies(name, setting, run)]
        if not others:
            continue
        value, line = shown(setting.value), f"line {setting.source.line} of the template"
        planned = others[0].settings.get(name)
        if planned is None:
            why = _NO_EFFECT.get(name, "the runs have no such setting")
            message = f"{line} sets {name} to {value}, which has no effect: {why}"
        else:
            everywhere = len(runs) > 1 and all(run.settings.get(name) == planned for run in runs)
            first = shown(others[0].directory)
            some = f"{counted(len(others), 'run')} (the first is {first}) use"
            some = f"the run {first} uses" if len(others) == 1 else some
            file, at_line = planned.source.file, planned.source.line
            by = f"from {file}:{at_line}" if file and at_line else planned.source.note or str(planned.source)
            who = "all runs use" if everywhere else some
            message = f"{who} {name} {shown(planned.value)} ({by}), which overrides {value} on {line}"
        expected, actual, at = planned.value if planned else None, setting.value, setting.source
        fix, severity = "no action if the documents are correct", Severity.INFO
        yield finding(
            "overridden", message, field=name, expected=expected, actual=actual, at=at, fix=fix, severity=severity
        )


def _applies(name: str, setting: Setting, run: PlannedRun) -> bool:
    """Return whether a run has the template's value, even under another name or from another source."""
    planned = run.settings.get(name)
    if any(each.source == setting.source for each in run.settings.values()):
        return True
    return planned is not None and _plain(name, planned) == _plain(name, setting)


def _plain(name: str, setting: Setting) -> object:
    """Return a value for comparison: the spelling of a path or a time makes no difference."""
    if PARAMETERS[name].kind in {"path", "pattern_free_path"}:
        return posixpath.normpath(setting.text)
    return kinds.slurm_seconds(setting.text) if name == "time" else setting.value


def _own_recipe(runs: Sequence[PlannedRun]) -> Iterator[Finding]:
    """Yield a warning if the template names a recipe that is not one of torchtune's."""
    recipe = next((found for run in runs if (found := run.settings.get("custom_recipe")) is not None), None)
    if recipe is None or recipe.text in RECIPE_NAMES:
        return
    message = (
        f"the runs use the recipe {shown(recipe.value)}, which is not one of torchtune's: the job's environment must"
        " provide this recipe, and the settings that it reads from finetune.yaml are unknown"
    )
    field, fix = "custom_recipe", "to use torchtune's recipe, remove custom_recipe from the template"
    severity = Severity.INFO if runs[0].generation else None  # the script always uses its own recipes
    at = recipe.source
    yield finding("own-recipe", message, field=field, actual=recipe.value, at=at, fix=fix, severity=severity)


def consistency_problems(tuned: Sequence[Run], planned: Sequence[PlannedRun], experiment: Experiment) -> list[Finding]:
    """Return requests of the documents that the runs would not fulfil, once for each place.

    Args:
        tuned: the rows of the fine-tuned runs.
        planned: the planned run of each.
        experiment: the experiment.
    """
    found: dict[tuple[str, str], Finding] = {}
    for each in _effective_batches(tuned, planned, experiment):
        found.setdefault((each.code, each.location()), each)
    for run, own in zip(tuned, planned, strict=True):
        for each in _of_run(run, own.settings, experiment):
            found.setdefault((each.code, each.location()), each)
    return list(found.values())


def _of_run(run: Run, planned: Mapping[str, Setting], experiment: Experiment) -> Iterator[Finding]:
    yield from _nodes(_asked("nodes", run, experiment))
    yield from _warmup(run, planned, experiment)
    yield from _alpha(run, planned, experiment)
    yield from _mode(planned)


def _asked(name: str, run: Run, experiment: Experiment) -> Setting | None:
    """Return the value that the documents or the template give for a property that is not a setting of a run."""
    return own_value(name, run, experiment) or experiment.template.get(name)


def _nodes(nodes: Setting | None) -> Iterator[Finding]:
    if nodes is not None and nodes.value != 1:
        message = f"nodes is {nodes.value}, but each run uses the GPUs of one node"
        fix = "if one node is enough, write `1`, and set gpus to the number of GPUs of a run; no run can use more nodes"
        yield finding(
            "unsupported-setting", message, field="nodes", expected=1, actual=nodes.value, at=nodes.source, fix=fix
        )


class _Batch(NamedTuple):
    """An effective batch size that a run should have, and its factors."""

    said: Setting
    batch: int
    accumulation: int
    gpus: int

    @property
    def actual(self) -> int:
        """The samples in a step of the run."""
        return self.batch * self.accumulation * self.gpus

    @property
    def fitting(self) -> int:
        """The gradient accumulation that gives the size; 0 if no whole number does."""
        times, rest = divmod(self.said.integer, self.batch * self.gpus)
        return 0 if rest else times


def _effective_batches(
    tuned: Sequence[Run], planned: Sequence[PlannedRun], experiment: Experiment
) -> Iterator[Finding]:
    """Yield a problem for each stated effective batch size that is not batch size x accumulation x GPUs."""
    names, wrong = ("batch_size", "gradient_accumulation_steps", "gpus"), list[tuple[PlannedRun, _Batch]]()
    for run, own in zip(tuned, planned, strict=True):
        said = _asked("effective_batch_size", run, experiment)
        if said is not None:
            found = _Batch(said, *(number(own.settings, name) for name in names))
            wrong += [(own, found)] if said.value != found.actual else []
    fitting = {own.directory: found.fitting for own, found in wrong if found.fitting}
    for source in dict.fromkeys(found.said.source for _, found in wrong):
        some = [(own, found) for own, found in wrong if found.said.source == source]
        (first, found), fix = some[0], "correct the effective batch size, or one of the factors"
        message = (
            f"the effective batch size is {found.said.value}, but in the run on line {first.line} each step uses"
            f" {found.actual} samples: batch size {found.batch} x accumulation {found.accumulation} x"
            f" {counted(found.gpus, 'GPU')}"
        )
        if all(each.fitting for _, each in some):
            change = to_give("gradient_accumulation_steps", fitting, [own for own, _ in some], planned)
            fix = f"{change}; or correct the effective batch size"
        yield finding(
            "ambiguous", message, field="effective_batch_size", expected=found.said.value, actual=found.actual,
            at=source, fix=fix,
        )  # fmt: skip


def _alpha(run: Run, planned: Mapping[str, Setting], experiment: Experiment) -> Iterator[Finding]:
    """Yield a problem if alpha differs from a given multiple of the rank, or if the multiple is not a whole number."""
    ratio, alpha, rank = lora_alpha_ratio(run, experiment), planned.get("lora_alpha"), planned.get("lora_rank")
    if ratio is None or alpha is None or rank is None:
        return
    factor, where = float(str(ratio.value)), f"{ratio.source.file}:{ratio.source.line}"
    product = factor * rank.integer
    if math.isclose(product, alpha.integer):
        return
    same_place = (alpha.source.file, alpha.source.line) == (ratio.source.file, ratio.source.line)
    if own_value("lora_alpha", run, experiment) is None or same_place:
        code, expected = "invalid-value", "a whole number"
        message = f"lora_alpha is {factor:g} x lora_rank, which is {product:g} for rank {rank.value}, not {expected}"
        fix = (
            f"write a ratio in {where} that gives a whole number, or write lora_alpha for each"
            " run in a column `lora_alpha`"
        )
    else:
        code, expected = "ambiguous", kinds.written(product)
        message = f"lora_alpha is {factor:g} x lora_rank here ({product:g}), but {alpha.value} at {alpha.source}"
        fix = "keep one of the two values"
    yield finding(code, message, field="lora_alpha", expected=expected, actual=alpha.value, at=ratio.source, fix=fix)


def _warmup(run: Run, planned: Mapping[str, Setting], experiment: Experiment) -> Iterator[Finding]:
    """Yield a problem if both a warm-up ratio and a number of steps are given, or if the ratio's steps are unknown."""
    ratio, steps = warmup_ratio(run, experiment), own_value("num_warmup_steps", run, experiment)
    if ratio is None:
        return
    if steps is not None:
        message = f"the warm-up is {shown(ratio.value)} of the steps here, but {steps.value} steps at {steps.source}"
        fix = "keep one of the two values"
        yield finding("ambiguous", message, field="warmup_ratio", actual=ratio.value, at=ratio.source, fix=fix)
        return
    made = planned.get("num_warmup_steps")
    if made is None or (made.source.file, made.source.line) != (ratio.source.file, ratio.source.line):
        packed = planned.get("packed")
        why = "the data set is not found on this machine"
        if packed is not None and packed.value is True:
            why = "it depends on the lengths of the packed samples"
        message = f"the warm-up is {shown(ratio.value)} of the steps, but the number of steps is unknown: {why}"
        line = kinds.as_line("num_warmup_steps", "NUMBER", yaml=experiment.form == "yaml")
        total = "the number of optimizer steps in all epochs"
        fix = f"replace it with {line}, where NUMBER is {shown(ratio.value)} times {total}"
        yield finding(
            "unsupported-setting", message, field="warmup_ratio", actual=ratio.value, at=ratio.source, fix=fix
        )


def _mode(planned: Mapping[str, Setting]) -> Iterator[Finding]:
    """Yield a problem if runs should report to Weights & Biases from nodes without internet."""
    offline, mode = planned.get("offline"), planned.get("wandb_mode")
    if offline is not None and offline.value is True and mode is not None and mode.value == "online":
        message = (
            f"W&B is online here, but would wait forever: the compute nodes are offline according to {offline.source}"
        )
        fix = (
            "write `offline` here, and upload the runs with `wandb sync` afterwards; if the compute nodes are online,"
            f" correct {offline.source}"
        )
        yield finding(
            "ambiguous", message, field="wandb_mode", expected="offline", actual="online", at=mode.source, fix=fix
        )
