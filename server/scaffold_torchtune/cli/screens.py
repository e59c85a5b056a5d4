"""The screens of results: the subject first, then the findings, the verdict and the next command.

Runs are printed with the varying values that their names do not contain, many runs only by their levels; `--all` prints
the rest, `--notes` the findings that are only information.
"""

import posixpath
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from scaffold_torchtune.cli.printing import (
    FIX,
    MANY,
    STYLES,
    WIDE,
    View,
    command,
    cut,
    fix,
    grid,
    groups,
    listing,
    names_in,
    say,
    table,
    value,
)
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import (
    Finding,
    Question,
    Refused,
    Scalar,
    alike,
    counted,
    errors_in,
    escape,
    few,
    finding,
    one_line,
)
from scaffold_torchtune.models import Answer, Check, Readiness, Run, Setting, SourceKind
from scaffold_torchtune.plan.naming import names_by_varying
from scaffold_torchtune.results import step_results as results
from scaffold_torchtune.settings.parameters import PARAMETERS, SUBJECTS

_MOST_GROUPS: Final = 4
_FEW: Final = 4
_ASKED: Final = 8
_BUNDLED: Final = "bundled"
_COMMANDS: Final = {"plan-outdated": "scaffold", "not-rendered": "render"}
"""The next command after a refusal, by finding code, if it differs from the refused command."""
_WHOLE: Final = "--all shows every run, value and finding"

RunFindings = Iterable[tuple[str, Finding]]
"""Findings, each with its run, or an empty text if it concerns no single run."""


_PLAIN: Final = View()
_Run = TypeVar("_Run")


def refusal(out: Console, refused: Refused, view: View = _PLAIN, *, midway: bool = False) -> None:
    """Print why a command was refused or stopped midway: each problem with its place and its fix."""
    say(out, "Stopped midway: " if midway else "Refused: ", refused.message, style="bold red", hang=2)
    problems = [("", each) for each in (errors_in(refused.problems) if view.quiet else refused.problems)]
    groups(out, alike(problems), whole=view.whole, notes=view.notes)
    if view.quiet:
        return
    for question in refused.ask:
        if question.add and question.field == "started":
            say(out, f"  The runs with such a column, in {question.file}, {question.where}:", style="dim")
            for line in question.add.split("\n"):
                out.print(Text(escape(line)), soft_wrap=True)
    _questions(out, refused.ask)
    found = f"{counts}. " if (counts := _told(problems, view)) else ""
    stays = "Files already written stay. Repeat the command to continue."
    say(out, found, stays if midway else "No run directory or file was changed.", style="bold", hang=2)
    if refused.problems and not midway:
        ways = {_COMMANDS.get(each.code, "") for each in refused.problems}
        if other := ways.pop() if len(ways) == 1 else "":
            _next(out, view.other(other))
        else:
            _next(out, view.again(), ", once that is fixed")


def _questions(out: Console, asked: Iterable[Question]) -> None:
    """Print the values that can be given on the command line instead of in a document."""
    own = {"setup_script", "started"}  # they have their own options, which the fix names
    asked = [each for each in asked if each.field not in own]
    if asked:
        say(out, "Values can also be given on the command line:")
    for each in asked[:_ASKED]:
        say(
            out,
            f"  --answer {shlex.quote(each.field)}=VALUE",
            Text(f"  {one_line(each.question)}", style="dim"),
            hang=4,
        )
    if len(asked) > _ASKED:
        say(out, f"  and {len(asked) - _ASKED} more")


def result(out: Console, of: BaseModel, view: View = _PLAIN) -> None:
    """Print any result of a step."""
    if view.quiet:
        _quiet(out, of, view)
        return
    match of:
        case results.ParseResult():
            _parse(out, of, view)
        case results.PlanResult():
            _plan(out, of, view)
        case results.RenderResult():
            _render(out, of, view)
        case results.SetupResult():
            _setup(out, of, view)
        case results.ValidateResult():
            _validate(out, of, view)
        case results.ScaffoldResult():
            _scaffold(out, of, view)
        case Readiness():
            _readiness(out, of, view)


def _quiet(out: Console, of: BaseModel, view: View) -> None:
    """Print the findings that are errors, and the verdict."""
    if isinstance(of, Readiness):
        _checks(out, [each for each in of.checks if each.state == "problem"])
        _ready(out, of)
        return
    last = of.validation if isinstance(of, results.ScaffoldResult) else of
    found = [("", each) for each in errors_in(getattr(last, "findings", getattr(last, "warnings", ())))]
    if isinstance(last, results.ValidateResult):
        found += [(run, each) for run, each in _verdict_on_runs(last, view) if each.severity is Severity.ERROR]
    setup = of.setup if isinstance(of, results.ScaffoldResult) else of
    if isinstance(setup, results.SetupResult):
        failed = {run.directory for run in setup.runs if not run.ok}
        found = [(run, each) for run, each in found if not (run in failed and each.code in _CONSEQUENCES)]
        found += _failures(setup)
    groups(out, alike(found), whole=view.whole)
    match of:
        case results.ScaffoldResult(ok=passed) | results.ValidateResult(passed=passed):
            say(out, Text(of.verdict, style="bold green" if passed else "bold red"), hang=2)
        case results.SetupResult():
            _setup_verdict(out, of)
        case results.StepResult():
            say(out, of.summary, style="bold", hang=2)


def _details(out: Console, found: RunFindings, view: View) -> None:
    """Print findings, then their number by severity."""
    found = list(found)
    groups(out, alike(found), whole=view.whole, notes=view.notes)
    if told := _told(found, view):
        say(out, told, hang=2)


def _told(found: RunFindings, view: View) -> str:
    """Return the number of findings by severity, and the codes of notes that are not shown."""
    counts = Counter(each.severity for _, each in found)
    notes = [each for _, each in found if each.severity is Severity.INFO]
    parts = [
        counted(counts[severity], name)
        for severity, name in ((Severity.ERROR, "error"), (Severity.WARNING, "warning"))
        if counts[severity]
    ]
    if notes:
        shown = "" if view.notes else f" ({_codes(notes)}; --notes shows them)"
        parts.append(f"{counted(len(notes), 'note')}{shown}")
    return ", ".join(parts)


def _codes(found: Iterable[Finding]) -> str:
    """Return the codes of findings, with their numbers if there are several: `not-seen (2), long-warmup`."""
    counts = Counter(each.code for each in found)
    return ", ".join(f"{code} ({count})" if count > 1 else code for code, count in counts.items())


def _next(out: Console, line: str, when: str = "") -> None:
    if line:
        command(out, f"next{when}: ", line)


def _earlier(out: Console, history: str) -> None:
    """Print where replaced files are kept."""
    if history:
        say(out, f"{history}; `scaffold-torchtune history` lists them", hang=2)


def _parse(out: Console, of: results.ParseResult, view: View) -> None:
    say(out, f"{of.experiment} in {of.experiment_dir}: {counted(len(of.runs), 'row')}", style="bold", hang=2)
    runs = view.page(out, of.runs)
    names = list(dict.fromkeys(name for run in of.runs for name in run.parameters))
    values = [{name: setting.value for name, setting in run.parameters.items()} for run in of.runs]
    tuned = [own for run, own in zip(of.runs, values, strict=True) if run.type == "fine-tuned"]
    same = {name: tuned[0].get(name) for name in names if tuned and _is_same(name, tuned)}
    if same:
        listing(out, f"same in all {len(tuned)} fine-tuned runs:", _pairs(same), hang=2)
    own = [name for name in names if name not in same]
    in_name = {name for name in own if all(_is_in(run.name, name, each.get(name), {}) for run, each in _both(of))}
    columns = [name for name in own if name not in in_name]
    listed = {*map(id, runs)}
    rows = [
        (str(run.line), run.name, run.type, *(value(each.get(name)) for name in columns))
        for run, each in zip(of.runs, values, strict=True)
        if id(run) in listed
    ]
    table(out, ("line", "run", "type", *columns), rows)
    settings = [*of.config.items(), *of.environment.items(), *of.template.items()]
    settings += [(f"model {model.name}", model.path) for model in of.models]
    settings += [("dataset", of.dataset.path)] if of.dataset else []
    _settings(out, "setting", settings)
    _answers(out, of.answers)
    _details(out, (("", each) for each in of.warnings), view)
    _next(out, view.again("plan"))


def _both(of: results.ParseResult) -> Iterable[tuple[Run, dict[str, Scalar]]]:
    """Yield the fine-tuned runs with their values."""
    for run in of.runs:
        if run.type == "fine-tuned":
            yield run, {name: setting.value for name, setting in run.parameters.items()}


def _is_same(name: str, runs: Sequence[Mapping[str, Scalar]]) -> bool:
    return len({(type(own.get(name)), own.get(name)) for own in runs}) == 1


def _is_in(directory: str, name: str, of: Scalar, legend: Mapping[str, str]) -> bool:
    """Return whether a run's name contains a value, as a part between underscores: `rank8` in `rank8_lr1e-5`."""
    (part,) = names_by_varying((name,), [{name: of}], legend).names
    return f"_{part}_" in f"_{directory}_"


def _pairs(values: Mapping[str, Scalar]) -> list[str]:
    return [f"{name} {value(of) or 'nothing'}" for name, of in values.items()]


_PATHS: Final = {
    "dataset": ("input_dir_base", "dataset_label", "dataset_ext"),
    "model_checkpoint": ("models_dir", "model_checkpoint"),
}
"""The settings that together are a path."""


def _with_paths(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return values with a path as one value instead of its parts, if all runs have these."""
    found = dict(values)
    for name, parts in _PATHS.items():
        if {*parts} <= {*found}:
            folder, file, *ending = (str(found.pop(part)) for part in parts)
            found[name] = posixpath.join(folder, "".join((file, *ending)))
    return found


def _by_subject(out: Console, title: str, values: Mapping[str, Scalar]) -> None:
    """Print values in one line, or a line for each subject of the table of parameters if they are too many for one."""
    if not values:
        return
    if cell_len(f"{title}: {', '.join(_pairs(values))}") <= min(out.width, WIDE):
        listing(out, f"{title}:", _pairs(values), hang=2)
        return
    say(out, f"{title}:")
    subject, groups = "", dict[str, dict[str, Scalar]]()
    for name in dict.fromkeys([*PARAMETERS, *values]):
        subject = SUBJECTS.get(name, subject) if name in PARAMETERS else "other"
        if name in values:
            groups.setdefault(subject, {})[name] = values[name]
    for subject, own in groups.items():
        listing(out, f"  {subject}:", _pairs(own), hang=4)


def _settings(out: Console, title: str, settings: Iterable[tuple[str, Setting]]) -> None:
    """Print settings with their values and sources."""
    rows = ((name, value(setting.value), str(setting.source)) for name, setting in settings)
    table(out, (title, "value", "from"), rows)


_WOULD: Final = {
    "new": "new",
    "changed": "would change",
    "kept": "kept as started",
    "dropped": "no longer in the table",
}
_DONE: Final = _WOULD | {"changed": "changed"}


def _changes(out: Console, of: results.Changes | None, words: Mapping[str, str], *, whole: bool = False) -> None:
    """Print the changes of runs that were scaffolded before: numbers, then the groups of changed runs."""
    if of is None or of.is_first:
        return
    say(out, of.told, style="bold", hang=2)
    if words is _WOULD:
        say(out, f"states: {of.states}", hang=2)
    told, changed = "", [group for group in of.groups if group.what != "dropped"]
    most = len(changed) if whole or len(changed) <= _MOST_GROUPS + 1 else _MOST_GROUPS
    for group in changed[:most]:
        told = _group(out, group, words[group.what], told, whole=whole)
    if left := changed[most:]:
        say(out, f"  and {sum(group.count for group in left)} runs in {len(left)} more groups; --all shows them")
    _dropped(out, [group for group in of.groups if group.what == "dropped"], words["dropped"], whole=whole)


def _group(out: Console, group: results.ChangedRuns, what: str, before: str, *, whole: bool) -> str:
    """Print the change of a group of runs: `3 would change, though started: epochs 3 -> 5`, their names and state.

    Returns the changes, which are not repeated if they equal the changes of the group `before`.
    """
    started = ", though started" if group.started and group.what == "changed" else ""
    head = f"  {group.count} {what}{started}: "
    if not group.fields:
        say(out, head, names_in(group.runs, out.width - len(head), whole=whole), hang=4)
        return ""
    told = few(group.fields, len(group.fields) if whole else _FEW, last="")
    say(out, head, "the same" if told == before else told, hang=4)
    say(out, f"    {names_in(group.runs, out.width - 4, whole=whole)}", hang=4)
    if group.started:
        say(out, f"    {group.state}", hang=4)
    return told


def _dropped(out: Console, dropped: Sequence[results.ChangedRuns], what: str, *, whole: bool) -> None:
    """Print the runs that are no longer in the table, in one block by state."""
    if len(dropped) == 1 and " (" not in dropped[0].state:
        head = f"  {dropped[0].count} {what}, {dropped[0].state}: "
        say(out, head, names_in(dropped[0].runs, out.width - len(head), whole=whole), hang=4)
        return
    if dropped:
        say(out, f"  {sum(group.count for group in dropped)} {what}:")
    for group in dropped:
        state, _, evidence = group.state.partition(" (")
        head = f"    {group.count} {state}: "
        names = names_in(group.runs, out.width - len(head), whole=whole)
        say(out, head, names, f" ({evidence}" if evidence else "", hang=6)


def _plan(out: Console, of: results.PlanResult, view: View) -> None:
    """Print a plan; if runs were scaffolded before, their changes, and the rest of the plan only with `--all`."""
    unsettled = any(each.code in results.UNSETTLED for each in of.warnings)
    if of.changes.is_first:
        say(out, of.changes.told, style="bold", hang=2)
    else:
        _changes(out, of.changes, _WOULD, whole=view.whole)
    if of.changes.is_first or view.lists:
        _design(out, of, view)
        if view.whole:
            _sourced(out, of)
        else:
            chosen = {name: each.value for name, each in of.common.items() if name not in of.defaults}
            _by_subject(out, "all runs", _with_paths({n: v for n, v in chosen.items() if v not in {None, ""}}))
        _by_subject(out, "defaults that nobody chose", of.defaults)
        out.print()
        _answers(out, of.answers)
        _details(out, (("", each) for each in of.warnings), view)
    else:
        _ahead(out, of, view)
    _next(out, view.again("scaffold"), ", once that is settled" if unsettled else "")


def _sourced(out: Console, of: results.PlanResult) -> None:
    """Print the source of each value."""
    if sources := _sources(of.runs):
        table(out, ("differs by run", "from"), sources.items())
    _settings(out, "all runs", ((name, each) for name, each in of.common.items() if name not in of.defaults))


def _ahead(out: Console, of: results.PlanResult, view: View) -> None:
    """Print the findings that block a change, the new warnings and notes, and the number of earlier warnings."""
    asked = [each for each in of.warnings if each.code == "started-run"]
    _answers(out, of.answers)
    for each in asked:
        say(out, each.message, style=STYLES[each.severity], hang=2)
        fix(out, f"  {each.fix}", hang=2)
    warnings = [each for each in of.warnings if each.severity is not Severity.INFO and each not in asked]
    new = [each for each in warnings if each not in of.repeated]
    counts = [f"{len(new)} new"] if new else []
    if known := [each for each in warnings if each in of.repeated]:
        counts.append(f"{len(known)} as before ({_codes(known)})")
    notes = [each for each in of.warnings if each.severity is Severity.INFO]
    told = sum(each not in of.repeated for each in notes)
    text = f"warnings: {', '.join(counts) or 'none'}{f'; notes: {told} new' if told else ''}"
    say(out, text, style=STYLES[Severity.WARNING] if new else "", hang=2)
    for each in new[:_FEW]:
        say(out, f"  {cut(each.message, out.width - len(each.code) - 5)} [{each.code}]")
    if len(new) > _FEW:
        say(out, f"  and {len(new) - _FEW} more")
    groups(out, alike(("", each) for each in notes if view.notes), notes=True)
    say(out, "--notes shows notes, " * (told > 0 and not view.notes), _WHOLE, style="dim", hang=2)


def _design(out: Console, of: results.PlanResult, view: View, *, with_same: bool = False) -> None:
    """Print the varying and derived parameters, the skipped rows, and the runs."""
    varying = [f"{name} ({levels})" if (levels := of.levels.get(name)) else name for name in of.varying]
    say(out, "varying: ", ", ".join(varying) or "nothing", hang=2)
    if follows := _follows(of.runs):
        say(out, "derived: ", ", ".join(f"{name} = {rule}" for name, rule in follows.items()), hang=2)
    for name, text in of.legend.items():
        say(out, f"{name}: {text}", hang=2)
    if of.setup != _BUNDLED:
        say(out, f"setup script: {of.setup}", hang=2)
    for row in of.excluded:
        say(out, f"skipped: {row.name} ({row.reason})", hang=2)
    _runs(out, of, frozenset(follows), view, with_same=with_same)


def _follows(runs: Iterable[results.RunPlan]) -> dict[str, str]:
    """Return the rule of each derived value that has the same rule in all runs."""
    rules: dict[str, set[str]] = {}
    for run in runs:
        for name in run.derived:
            source = run.sources.get(name)
            rule = (source.note or "").rpartition(": ")[2] if source else ""  # `Training: 2 x lora_rank`
            rules.setdefault(name, set()).add(rule)
    return {name: next(iter(notes)) for name, notes in rules.items() if len(notes) == 1 and "" not in notes}


def _runs(out: Console, of: results.PlanResult, follows: frozenset[str], view: View, *, with_same: bool) -> None:
    """Print runs with the varying values that their names do not contain; of many runs only their number."""
    runs = of.runs
    by_run = [(run, run.parameters | run.derived) for run in runs]
    names = list(dict.fromkeys(name for _, values in by_run for name in values))
    same = {n: by_run[0][1].get(n) for n in names if len(runs) > 1 and _is_same(n, [each for _, each in by_run])}
    if same and with_same:
        listing(out, f"same in all {len(runs)} runs:", _pairs(same), hang=2)
    if len(runs) > MANY and not view.lists:
        say(out, f"directories: {of.pattern}, such as {runs[0].directory}; --all lists all {len(runs)}", hang=2)
        return
    left = {*same, *of.common} | ({*follows} if not view.whole else set())
    columns = [name for name in names if name not in left and not _all_named(name, by_run, of.legend)]
    if len(runs) == 1 and not view.whole:
        columns = []
    listed = view.page(out, runs)
    ids = {*map(id, listed)}
    by_run = [(run, own) for run, own in by_run if id(run) in ids]
    if columns or view.whole:
        rows = (
            [run.directory, *(value(own.get(name)) for name in columns), *([str(run.line)] if view.whole else [])]
            for run, own in by_run
        )
        table(out, ("directory", *columns, *(["line"] if view.whole else [])), rows)
    else:
        out.print()
        grid(out, [run.directory for run in listed])
        out.print()


def _all_named(
    name: str, runs: Iterable[tuple[results.RunPlan, Mapping[str, Scalar]]], legend: Mapping[str, str]
) -> bool:
    return all(_is_in(run.directory, name, own.get(name), legend) for run, own in runs)


def _answers(out: Console, found: Iterable[Answer]) -> None:
    """Print the user's answers, and the line that adds each to a document."""
    for one in found:
        said = f"answered: {one.field} is {value(one.value)}; to keep it, add to {one.file}, {one.where}: {one.add}"
        say(out, said, hang=2)


def _sources(runs: Iterable[results.RunPlan]) -> dict[str, str]:
    """Return the source of each value that differs by run: its row, or some places and the number of the others."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, source in run.sources.items():
            own = source.kind is SourceKind.ROW and source.line == run.line and source.note
            text = f"the run's row, {source.note}" if own else str(source)
            found.setdefault(name, {}).setdefault(text)
    more = "{} more (--json --all shows all)"
    return {name: few([*texts], _FEW, between="; ", more=more) for name, texts in found.items()}


def _render(out: Console, of: results.RenderResult, view: View) -> None:
    _changes(out, of.changes, _DONE)
    _listed(out, of.runs, {run.directory: Text("written" if run.created else "unchanged") for run in of.runs}, view)
    _earlier(out, of.history)
    _details(out, (("", each) for each in (*of.plan_warnings, *of.warnings)), view)
    say(out, f"{of.created} setup_finetune.yaml written, {of.unchanged} unchanged", style="bold")
    _next(out, view.other("setup"))


def _listed(out: Console, runs: Sequence[_Run], words: Mapping[str, Text], view: View) -> None:
    """Print the result of each run that --only or --start selects."""
    if view.only is not None or view.start is not None:
        names = [str(getattr(run, "directory", "")) for run in view.page(out, runs)]
        table(out, ("directory", ""), ((name, words[name]) for name in names))


def _setup(out: Console, of: results.SetupResult, view: View) -> None:
    scripts = [run for run in of.runs if run.seconds is not None and not run.unchanged]
    _listed(out, of.runs, {run.directory: _word(run) for run in of.runs}, view)
    if scripts and (view.whole or not view.lists) and (view.whole or len(of.runs) <= MANY):
        rows = ((run.directory, _word(run), value(run.status), value(run.seconds)) for run in of.runs if run in scripts)
        table(out, ("directory", "setup", "status", "seconds"), rows)
    _earlier(out, of.history)
    _details(out, [*(("", each) for each in of.warnings), *_failures(of)], view)
    _setup_verdict(out, of)
    _next(out, view.other("validate") if not of.failed else view.again(), ", once that is fixed" if of.failed else "")


def _setup_verdict(out: Console, of: results.SetupResult) -> None:
    if of.failed:
        say(out, Text("setup failed", style="bold red"), f": {of.failed} of {counted(of.processed, 'run')}")
    else:
        unchanged = sum(run.unchanged for run in of.runs)
        done = f", {unchanged} of them unchanged" if unchanged else ""
        say(out, Text("setup done", style="bold green"), f": {counted(of.processed, 'run')}{done}")


def _word(run: results.SetupRun) -> Text:
    return Text("ok", style="green") if run.ok else Text("FAILED", style="bold red")


def _failures(of: results.SetupResult) -> Iterable[tuple[str, Finding]]:
    """Yield the failures of the setup of runs, with their fix."""
    for run in (run for run in of.runs if not run.ok):
        cause = f"; likely cause: {run.cause}" if run.cause else ""
        message = f"setup failed in {run.directory}: {run.reason}{cause}"
        todo = run.fix or "correct the cause, then scaffold again"
        yield run.directory, finding("setup-failed", message, file=run.output or None, fix=todo)


_CONSEQUENCES: Final = frozenset({"setup-failed", "missing-file"})
"""Codes of validation that only follow from a failed setup, which is reported itself."""


def _verdict_on_runs(of: results.ValidateResult, view: View) -> RunFindings:
    return ((run.directory, each) for run in view.listed(of.runs) for each in run.findings)


def _verdicts(out: Console, of: results.ValidateResult, view: View) -> None:
    passed, failed = Text("passed", style="green"), Text("FAILED", style="bold red")
    _listed(out, of.runs, {run.directory: passed if run.passed else failed for run in of.runs}, view)


def _validate(out: Console, of: results.ValidateResult, view: View) -> None:
    _verdicts(out, of, view)
    _details(out, [*(("", each) for each in of.findings), *_verdict_on_runs(of, view)], view)
    _not_asked(out, of)
    style = "bold green" if of.passed else "bold red"
    say(out, Text(of.verdict, style=style), of.kept_told, hang=2)
    _submission(out, of, of.submit, view)
    if not of.passed:
        again, option = view.other("scaffold"), of.accepts_edits
        _next(out, f"{again} {option}" if again and option else again, ", once that is fixed")


def _not_asked(out: Console, of: results.ValidateResult) -> None:
    """Print the programs that did not check the files."""
    if of.not_asked:
        say(out, f"not asked: {of.not_asked}", style="dim", hang=2)


_STATES: Final = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def _readiness(out: Console, of: Readiness, view: View) -> None:
    _checks(out, of.checks)
    _ready(out, of)
    if not of.ready:
        _next(out, view.again(), ", once that is fixed")


def _checks(out: Console, checks: Iterable[Check]) -> None:
    rows = []
    for check in sorted(checks, key=lambda each: [*_STATES].index(each.state)):
        found = Text(check.found)
        if check.fix:
            found.append("\nfix:", style=FIX).append(f" {check.fix}")
        rows.append((Text(check.state, style=_STATES[check.state]), check.name, found))
    if rows:
        table(out, ("", "check", "found"), rows)


def _ready(out: Console, of: Readiness) -> None:
    say(out, of.verdict, style="bold green" if of.ready else "bold red")


_SHOWN: Final = frozenset({"kept-run", "left-over-run"})
"""The codes of findings about runs that are among the printed changes."""


def _is_known(found: Finding, of: results.ScaffoldResult, view: View) -> bool:
    """Return whether only the code of a finding is printed: an earlier scaffold or `changes` show the finding."""
    if of.plan.changes.is_first or view.whole or (view.notes and found.severity is Severity.INFO):
        return False
    is_same = of.unchanged and found.code == "defaults-unchosen"  # which follows from the plan
    return found in of.plan.repeated or found.code in _SHOWN or is_same


def _scaffold(out: Console, of: results.ScaffoldResult, view: View) -> None:
    say(out, f"{of.parse.experiment} in {of.parse.experiment_dir}", style="bold", hang=2)
    _changes(out, of.render.changes or of.plan.changes, _DONE, whole=view.whole)
    if of.plan.changes.is_first or view.whole:
        _design(out, of.plan, view, with_same=True)
    _verdicts(out, of.validation, view)
    _answers(out, of.plan.answers)
    _details(out, _of_all_steps(out, of, view), view)
    _not_asked(out, of.validation)
    for history in (of.render.history, of.setup.history):
        _earlier(out, history)
    say(out, Text(of.verdict, style="bold green" if of.ok else "bold red"), of.validation.kept_told, hang=2)
    if of.unchanged:
        say(out, "Already up to date: nothing was changed.")
    say(out, f"log: {of.log}", hang=2)
    _submission(out, of.validation, of.submit, view)
    if not of.ok:
        _next(out, view.again(), ", once that is fixed")


def _of_all_steps(out: Console, of: results.ScaffoldResult, view: View) -> list[tuple[str, Finding]]:
    """Return the findings of all steps, each once; print the codes of findings that an earlier scaffold printed."""
    earlier = dict.fromkeys((*of.render.plan_warnings, *of.render.warnings, *of.setup.warnings))
    whole = [*earlier, *(each for each in of.validation.findings if each not in earlier)]
    known = [each for each in whole if _is_known(each, of, view)]
    if known:
        above = ", or above" * any(each.code in _SHOWN for each in known)
        say(out, f"as before{above}: {_codes(known)}; {_WHOLE}", style="dim", hang=2)
    failed = {run.directory for run in of.setup.runs if not run.ok}
    of_runs = [
        (run, each)
        for run, each in _verdict_on_runs(of.validation, view)
        if not (run in failed and each.code in _CONSEQUENCES)
    ]
    return [*(("", each) for each in whole if each not in known), *of_runs, *_failures(of.setup)]


def _submission(out: Console, of: results.ValidateResult, submit: str, view: View) -> None:
    """Print the states of the runs, the runs that the submit line skips, and the submit line."""
    if of.started:
        say(out, f"states: {of.states}", hang=2)
        left_out = names_in(of.started, 3 * out.width // 2, whole=False)
        say(out, f"skipped as started: {left_out}" if submit else of.left_told, hang=2)
    if submit:
        is_short = view.whole or not out.is_terminal or len(submit) <= results.LONGEST_SUBMIT
        where = "the last line that `grep 'Submit with:' scaffold.log` prints (--all shows it)"
        # never broken, so that it can be copied
        out.print(Text(f"submit with: {submit if is_short else where}"), soft_wrap=True)
        if view.documents:
            line = shlex.join(["scaffold-torchtune", "submit", view.documents[0]])
            out.print(Text(f"or, as job arrays: {line}"), soft_wrap=True)
    if of.tracking:
        out.print(Text(of.tracking), soft_wrap=True)  # contains a command to copy
