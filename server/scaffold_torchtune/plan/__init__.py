"""Steps 2 and 4: the frozen plan of an experiment, the difference between two plans, and the result of both.

naming.py        the names of run directories
run_settings.py  the source of each value of a run; options and defaults of an external script
checks.py        checks that reject a plan, and warnings about it
"""

import hashlib
import itertools
import json
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from scaffold_torchtune import __version__
from scaffold_torchtune.findings import Collector, Finding, Refused, Scalar, counted, escape, few, lines_text, shown
from scaffold_torchtune.models import (
    NOT_SET,
    ChangeKind,
    Excluded,
    Experiment,
    FieldChange,
    Options,
    Plan,
    PlannedRun,
    Run,
    RunChange,
    RunProgress,
    RunState,
    Setting,
    Source,
    SourceKind,
    shared_fields,
)
from scaffold_torchtune.plan import checks, naming
from scaffold_torchtune.plan.checks import consistency_problems
from scaffold_torchtune.plan.run_settings import (
    PlanContext,
    columns_of,
    data_path,
    external_problems,
    external_warnings,
    named,
    parameters_of,
    settings_of,
    settings_submitted,
    stated_counts,
    submit_warnings,
    unwritten_by_script,
    warmed,
)
from scaffold_torchtune.results.step_results import OF_RATIOS, SETTINGS_OF, ChangedRuns, Changes, PlanResult, RunPlan
from scaffold_torchtune.settings import kinds
from scaffold_torchtune.system.layout import SETUP_TEMPLATES

_NAMED_RUNS: Final = 3
_NAMED_UNSEEN: Final = 2
_MOST_GROUPS: Final = 6
_LONGEST_VALUE: Final = 80
_TEXT: Final = "the text of setup_finetune.yaml"
_LISTED_LEVELS: Final = 12
_LONGEST_LEVEL: Final = 40
_ALLOWED: Final = "at most 200 characters (letters, digits, '.', '_', '+' and '-'), and no reserved name"
_EXCLUDED: Final = {
    "control": "a control: the base model is not fine-tuned",
    "eval-only": "evaluation only: nothing is fine-tuned",
    "cancelled": "cancelled: marked in the table of runs as not to be run",
}
"""The reason why the plan excludes a row, by the row's type."""


def make_plan(experiment: Experiment, options: Options, context: PlanContext) -> Plan:
    """Plan every run of the experiment.

    Raises:
        Refused: for identical runs, colliding or unsafe names, an unknown model, an unsupported data format,
            a missing template, and an unsupported or unsuitable recipe; contains every problem.
    """
    interface, directory = context.interface, context.experiment_dir
    tuned = [run for run in experiment.runs if run.type == "fine-tuned"]
    data = [data_path(run, experiment, directory) for run in tuned]
    unwarmed = [settings_of(run, path, experiment, context) for run, path in zip(tuned, data, strict=True)]
    unnamed = warmed(tuned, unwarmed, data, experiment, context)
    columns = columns_of(experiment)
    parameters = [parameters_of(columns, s, d) for s, d in zip(unnamed, data, strict=True)]
    varying = naming.varying_parameters(columns, parameters)
    names = _names(tuned, parameters, varying, options, context)
    rows = [
        naming.row_of(run, own, path, is_named=name == run.name and (options.names == "table" or not varying))
        for run, own, path, name in zip(tuned, unnamed, data, names.names, strict=True)
    ]
    directories, ties, ask = naming.kept_directories(names.names, rows, columns, context, experiment.summary_file)
    runs = tuple(
        _planned_run(row, named(row.settings, name), path, values, context)
        for row, name, path, values in zip(rows, directories, data, parameters, strict=True)
    )
    problems = [
        *checks.unknown_models(tuned, experiment, options),
        *checks.data_problems(data, options, context),
        *checks.template_problems(experiment, interface),
        *checks.recipe_problems(tuned, experiment, options, context),
        *consistency_problems(tuned, runs, experiment),
        *checks.identical_runs(tuned, parameters, experiment),
        *ties,
    ]
    if not problems:
        problems = check_names(directories, [run.line for run in tuned], experiment.summary_file)
    if problems:
        # Warnings about the documents often give the cause: a column that was not recognized as a parameter.
        raise Refused(f"{counted(len(problems), 'problem')} in the plan", [*problems, *experiment.warnings], ask)
    untaken = external_problems(runs, experiment, interface)
    if untaken:
        number = counted(len(untaken), "problem")
        raise Refused(f"the setup_finetune.py in use cannot carry out the plan: {number}", untaken)
    warnings = [
        *experiment.warnings,
        *checks.warnings(experiment, runs),
        *stated_counts(experiment, runs, context),
        *external_warnings(runs, interface),
        *submit_warnings(runs),
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
        legend=_legend(names.legend, context, directories),
        runs=runs,
        excluded=tuple(Excluded(name=run.name, reason=_EXCLUDED[run.type]) for run in left_out),
        splits={path: counts for path, counts in splits.items() if counts},
        answers=experiment.answers,
        warnings=tuple(warnings),
    )
    return with_id(plan)


def check_names(names: Sequence[str], lines: Sequence[int], file: str | None) -> list[Finding]:
    """Return the problems of names: unsafe ones, and names that differ only in case, which some file systems ignore."""
    found, of_summary = Collector(file), "" if file else " of the summary"
    seen: dict[str, int] = {}
    for name, line in zip(names, lines, strict=True):
        field, actual = "run name", escape(name)
        if not naming.is_safe(name):
            which = f"{shown(name)}, which is not an allowed name"
            message = f"the run on line {line}{of_summary} would get a directory named {which}"
            fix = f"rename the run, model or data set from which the name is derived: use {_ALLOWED}"
            found.add("unsafe-name", message, field=field, expected=_ALLOWED, actual=actual, line=line, fix=fix)
        if name.lower() in seen:
            places = lines_text([seen[name.lower()], line])
            message = f"two runs ({places}{of_summary}) would share the directory {shown(name)}"
            fix = (
                "use `--names table` with distinct Run Names, or rename the models or data sets"
                " that these runs are named after"
            )
            found.add("name-collision", message, field=field, actual=actual, line=line, fix=fix)
        seen.setdefault(name.lower(), line)
    return found.findings


def _legend(now: Mapping[str, str], context: PlanContext, names: Iterable[str]) -> dict[str, str]:
    """Return the legend of all names, including earlier names, which runs may get again."""
    every = [f"_{name}_" for name in (*context.known, *names)]
    before = {part: text for part, text in context.legend.items() if any(f"_{part}_" in name for name in every)}
    return dict(sorted({**before, **now}.items()))


def _planned_run(
    row: naming.PlannedRow,
    settings: dict[str, Setting],
    data: Setting,
    parameters: dict[str, Scalar],
    context: PlanContext,
) -> PlannedRun:
    run, interface, directory = row.run, context.interface, settings["my_wandb_run_name"].text
    submitted, old = settings_submitted(settings, interface), context.known.get(directory)
    is_run_name = row.is_named if old is None else old.by_author or old.name == directory
    return PlannedRun(
        directory=directory,
        name=run.name,
        line=run.line,
        model=run.model,
        data_path=data.text,
        parameters=parameters,
        settings=settings,
        submitted=submitted,
        unwritten=unwritten_by_script(settings, submitted, interface),
        generation=interface.generation if interface else "",
        by_author=is_run_name and run.name != directory,
    )


def with_id(plan: Plan) -> Plan:
    """Return the plan with its id."""
    return plan.model_copy(update={"id": id_of(plan.model_dump(mode="json"))})


def id_of(content: Mapping[str, Any]) -> str:
    """Return the id of a plan, given as JSON: the SHA-256 of everything except its warnings."""
    hashed = {name: part for name, part in content.items() if name not in {"id", "warnings"}}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


def _names(
    tuned: Sequence[Run],
    parameters: Sequence[Mapping[str, Scalar]],
    varying: Sequence[str],
    options: Options,
    context: PlanContext,
) -> naming.Names:
    if varying and options.names != "table":
        return naming.names_by_varying(varying, parameters, context.legend)
    made = [
        run.name if options.names == "table" else naming.single_name(run.name, own)
        for run, own in zip(tuned, parameters, strict=True)
    ]
    return naming.Names("{run name}", tuple(made), {})


class Difference(NamedTuple):
    """A setting of a run that differs between two plans; None if a plan does not have it."""

    run: str
    name: str
    here: Setting | None
    there: Setting | None


def differences(here: Sequence[PlannedRun], there: Sequence[PlannedRun]) -> list[Difference]:
    """Return the differences between two plans of an experiment, regardless of the names of runs.

    Runs that are equal in both are ignored. Of the others, runs with the same name are compared, then the remaining
    ones in order. A run that only one plan has is a difference in `runs`.
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
    """Return whether both values are derived from other settings."""
    return all(s is not None and s.source.kind is SourceKind.DERIVED for s in (found.here, found.there))


def _row(run: PlannedRun | None) -> Setting | None:
    """Return the name of a run, with the line of its row as source."""
    return Setting(value=run.name, source=Source(kind=SourceKind.ROW, line=run.line)) if run else None


_KINDS: tuple[ChangeKind, ...] = ("changed", "kept", "new", "dropped")
_STARTED_AS = {
    "finished": "already trained",
    "failed": "already failed",
    "running": "already running",
    "submitted": "already submitted",
}


def changes_of(found: Sequence[RunChange], *, done: bool = False, replaced: Collection[str] = ()) -> Changes:
    """Return the changes of runs, grouped; without groups if nothing was scaffolded before.

    Args:
        found: the change of each run.
        done: whether the changes have been made.
        replaced: the started runs to replace.
    """
    if all(each.kind == "new" for each in found):
        told = f"{counted(len(found), 'run')}: all new" if found else ""
        return Changes(told=told, groups=(), is_first=True)
    numbers = Counter(each.kind for each in found)
    changed = [each for each in found if each.kind == "changed" and each.is_started]
    to_replace = {each.directory for each in changed if done or each.directory in replaced}
    started = Counter(each.state.state for each in changed if each.state and each.directory not in to_replace)
    how = _STARTED_AS[next(iter(started))] if len(started) == 1 else "already started"
    left = sum(each.is_started for each in found if each.kind == "dropped")
    gone = f" ({left} of them started)" if left else ""
    parts = {
        "new": numbers["new"],
        "unchanged": numbers["unchanged"],
        "changed" if done else "would change": numbers["changed"] - len(changed),
        f"would change though {how}": started.total(),
        f"{'' if done else 'would be '}replaced though started": len(to_replace),
        "kept as started": numbers["kept"],
        f"no longer in the table{gone}": numbers["dropped"],
    }
    return Changes(
        told=f"{counted(len(found) - numbers['dropped'], 'run')}: "
        + ", ".join(f"{number} {what}" for what, number in parts.items() if number),
        states="" if done else states_told({each.directory: each.state for each in found if each.kind != "dropped"}),
        groups=_groups(found),
    )


def states_told(states: Mapping[str, RunState | None]) -> str:
    """Return the number of runs in each state, the names if they are few, and the sources that cannot be read."""
    by_state: dict[str, list[str]] = {}
    for name, each in states.items():
        by_state.setdefault(each.state if each else "planned", []).append(name)
    order = [state for state in get_args(RunProgress) if state in by_state]
    counts = [f"{len(names)} {state}{_named(state, names)}" for state in order for names in [by_state[state]]]
    unseen = dict.fromkeys(reason for each in states.values() if each for reason in each.unseen)
    return ", ".join(counts) + (f"; not checked: {few([*unseen], _NAMED_UNSEEN)}" if unseen else "")


def _named(state: str, names: Sequence[str]) -> str:
    """Return the names of runs in a state that needs attention, if they are few."""
    told = state in {"submitted", "running", "failed"} and len(names) <= _NAMED_RUNS
    return f" ({', '.join(names)})" if told else ""


def _groups(found: Iterable[RunChange]) -> tuple[ChangedRuns, ...]:
    """Return the groups of changed runs; if they are too many, runs with the same fields are one group."""
    exact: dict[tuple[Any, ...], list[RunChange]] = {}
    rough: dict[tuple[Any, ...], list[RunChange]] = {}
    for each in found:
        if each.kind in _KINDS:
            state = each.state.state if each.state else ""
            key = (not each.is_started, _KINDS.index(each.kind), state)
            exact.setdefault((*key, tuple(field.unplaced() for field in each.shared)), []).append(each)
            rough.setdefault((*key, tuple(field.field for field in each.fields)), []).append(each)
    groups = exact if len(exact) <= _MOST_GROUPS else rough
    return tuple(_changed_runs(groups[key]) for key in sorted(groups, key=_by_kind))


def _by_kind(key: tuple[Any, ...]) -> tuple[int, bool]:
    """Return the sort key of a group: by its change, started runs first."""
    return key[1], key[0]


def change_line(group: ChangedRuns, most: int) -> str:
    """Return the change of a group of runs in one line: `changed (36 runs: a, ...): epochs 3 -> 5; finished`."""
    told = "; ".join(filter(None, (", ".join(group.fields), group.state)))
    runs = f"{counted(group.count, 'run')}: " if group.count > 1 else ""
    return f"{group.what} ({runs}{few(group.runs, most)})" + (f": {told}" if told else "")


def _changed_runs(alike: Sequence[RunChange]) -> ChangedRuns:
    first = alike[0]
    state = first.state.told if first.state and first.kind != "new" else ""
    columns = [*zip(*(each.shared for each in alike), strict=True)]
    return ChangedRuns(
        what=first.kind,
        count=len(alike),
        started=first.is_started,
        runs=tuple(each.directory for each in alike),
        fields=tuple(map(_changed_field, columns)) or ((_TEXT,) if first.kind in {"changed", "kept"} else ()),
        state=f"{state}, as in {first.directory}" if len(alike) > 1 and " (" in state else state,
    )


def changed_fields(found: Iterable[RunChange], *, quoted: bool = False) -> list[str]:
    """Return the changed values, each once with its number of runs: `epochs 3 -> 5 (summary.md:48), 4 runs`.

    If `quoted`, texts are in quotes, as in sentences.
    """
    groups: dict[FieldChange, list[FieldChange]] = {}
    for run in found:
        for each, shared in zip(run.fields, run.shared, strict=True):
            groups.setdefault(shared.unplaced(), []).append(shared if shared != each else each)
    return [f"{_changed_field(alike, quoted=quoted)}, {counted(len(alike), 'run')}" for alike in groups.values()]


def _changed_field(alike: Sequence[FieldChange], *, quoted: bool = False) -> str:
    """Return the change of a value in some runs, the first of several: `epochs 3 -> 5 (summary.md:48)`."""
    old, new = _old_and_new(alike[0])
    if quoted:
        pairs = ((old, alike[0].old), (new, alike[0].new))
        old, new = (f"'{text}'" if isinstance(value, str) else text for text, value in pairs)
    others = len({(each.old, each.new) for each in alike}) - 1
    sources = [each.source for each in alike if each.source and each.source.file and each.source.line]
    lines = dict.fromkeys(str(source.line) for source in sources if source.file == sources[0].file)
    place = f" ({sources[0].file}:{few([*lines], _NAMED_RUNS, last='')})" if sources else ""
    return f"{alike[0].field} {old} -> {new}{place}" + (f", {counted(others, 'other change')}" if others else "")


def _old_and_new(change: FieldChange) -> tuple[str, str]:
    """Return both values as people write them; long texts are cut to the part where they differ."""
    texts = [
        NOT_SET if each is None else each if isinstance(each, str) else kinds.written(each)
        for each in (change.old, change.new)
    ]
    if max(map(len, texts)) > _LONGEST_VALUE:
        differs = next((at for at, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), 0)
        start = max(differs - _LONGEST_VALUE // 4, 0)
        texts = [("..." if start else "") + text[start:] for text in texts]
    return escape(texts[0], _LONGEST_VALUE), escape(texts[1], _LONGEST_VALUE)


def plan_result(
    plan: Plan, changes: Sequence[RunChange] = (), previous: Plan | None = None, replaced: Collection[str] = ()
) -> PlanResult:
    """Return the plan as the result of plan_runs: the values of each run, and the values that all runs share.

    Args:
        plan: the plan.
        changes: the change of each run.
        previous: the plan before this one.
        replaced: the started runs to replace.
    """
    compared = changes_of(changes, replaced=replaced)
    kinds_of = {} if compared.is_first else {each.directory: each.kind for each in changes}
    first = plan.runs[0].settings
    common = {name: each for name, each in first.items() if all(_has(run, name, each.value) for run in plan.runs)}
    every = [(name, setting) for run in plan.runs for name, setting in run.settings.items()]
    own = {
        "setup": plan.options.setup_script,
        "defaults": {name: setting.value for name, setting in every if setting.source.kind is SourceKind.DEFAULT},
        "runs": tuple(_run_plan(run, common, kinds_of.get(run.directory, "")) for run in plan.runs),
        "levels": {name: _levels([run.parameters.get(name) for run in plan.runs]) for name in plan.varying},
        "common": common,
        "changes": compared,
        "repeated": _told_before(plan, previous),
    }
    return PlanResult(**shared_fields(plan, PlanResult) | own)


def _told_before(plan: Plan, previous: Plan | None) -> tuple[Finding, ...]:
    """Return the findings that the previous plan had too: only their lines and the number of all runs may differ."""
    now = {each: _content(each, plan) for each in plan.warnings}
    known = Counter(_content(each, previous) for each in previous.warnings) if previous else {}
    same = {content for content, count in Counter(now.values()).items() if count <= known.get(content, 0)}
    return tuple(each for each in plan.warnings if now[each] in same)


_LINE: Final = re.compile(r"(?<=\.(?:md|ml)):[0-9]++")
_ALL_RUNS: Final = re.compile(r"\b(?:all [0-9]++|both|the|(?<=of )[0-9]++) runs?\b")


def _content(of: Finding, plan: Plan) -> tuple[object, ...]:
    """Return what a finding says, without its line and the number of all runs, or the name of the only run."""
    lasting = lasting_part(of)
    only = f" {shown(plan.runs[0].directory)}" if len(plan.runs) == 1 else ""
    message = _ALL_RUNS.sub("the runs", _LINE.sub("", lasting.message.replace(f"the run{only}", "the run")))
    return lasting.code, lasting.severity, lasting.field, lasting.file, message, lasting.expected, lasting.actual


def lasting_part(of: Finding) -> Finding:
    """Return a finding without values that other programs may change at any moment: free disk space."""
    return of.model_copy(update={"message": ""}) if of.code == "disk-space" else of


def _levels(values: Sequence[Scalar]) -> str:
    """Return the levels of a parameter, each with its number of runs; of many levels, those with the fewest runs."""
    counts = Counter(values)
    if len(counts) == len(values):
        return f"{len(values)} levels, each in one run"
    numbers = [level for level in counts if isinstance(level, int | float)]
    levels = sorted(numbers) if len(numbers) == len(counts) else list(counts)
    kept = set(sorted(levels, key=counts.__getitem__)[:_LISTED_LEVELS])
    is_even = len({*counts.values()}) == 1
    texts = [
        kinds.written(level)[:_LONGEST_LEVEL] + ("" if is_even else f" in {counted(counts[level], 'run')}")
        for level in levels
        if level in kept
    ]
    others = f" and {len(levels) - len(kept)} more" if len(kept) < len(levels) else ""
    each = f"; {counted(counts[levels[0]], 'run')} each" if is_even else ""
    return f"{', '.join(texts)}{others}{each}"


def _has(run: PlannedRun, name: str, value: Scalar) -> bool:
    return name in run.settings and run.settings[name].value == value


def _run_plan(run: PlannedRun, common: Mapping[str, Setting], change: str) -> RunPlan:
    """Return the values of a run that not all runs share, with their sources; names are not listed as derived.

    Values that a template gives only to some runs, or differently, are among the derived ones.
    """
    own = {name: setting for name, setting in run.settings.items() if name not in common}
    ratios = OF_RATIOS - run.parameters.keys()
    keys = {name: next((k for k in SETTINGS_OF.get(name, (name,)) if k in own), None) for name in run.parameters}
    given = {n for n, s in own.items() if s.source.kind is SourceKind.TEMPLATE} - {*keys.values()}
    derived = {n: s for n, s in own.items() if s.source.kind is SourceKind.DERIVED or n in ratios | given}
    derived.pop("my_wandb_run_name", None)
    stands = {name: own[key] for name, key in keys.items() if key} | derived
    sources = {name: setting.source for name, setting in stands.items()}
    values = {name: setting.value for name, setting in derived.items()}
    return RunPlan(**shared_fields(run, RunPlan) | {"change": change, "derived": values, "sources": sources})
