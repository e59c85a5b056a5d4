"""The steps as commands and tools call them, in one table; and the reply to an agent, or to `--json`.

A reply is a shortened result with the next action. It has a sentence or two that can be read to the user as they are
(`summary`), the next action with its tool and arguments (`next`), and the heads of the entries that were added to
scaffold.log (`logged`).
Counts are always complete. Lists are cut at a number of bytes and texts at a number of characters; `left_out` has the
number of omitted items, and `more` the arguments that list them. benchmarks/tokens.py measures the resulting sizes.
"""

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Refused, counted, serious, shortest_number, shown
from scaffold_torchtune.models import CommandResult
from scaffold_torchtune.results import step_results as results
from scaffold_torchtune.results.step_results import Cut, RefusalError, StepResult


class Step(NamedTuple):
    """A step: its command with its help, its tool with title and description, its result and its arguments."""

    command: str
    help: str
    tool: str
    title: str
    description: str
    result: type[results.StepResult]
    arguments: tuple[str, ...]


_DOCUMENTS: Final = ("experiment", "local")
_PLANNING: Final = (*_DOCUMENTS, "names", "template", "setup_script", "answers", "started")
_PAGE: Final = ("start", "only")

HANDED_ON: Final = frozenset(_PLANNING)
"""The arguments that apply to all calls of a scaffold, and are passed on to the next one."""

STEPS: Final = (
    Step(
        "parse",
        "step 1: read the documents of the experiment; writes nothing",
        "parse_summary",
        "Parse the experiment's documents",
        "Step 1: read experiment_summary.md and claude.local.md. Writes nothing.\n\n"
        "If fields are missing or unclear, the error lists all of them, each with file, line and the line to add.",
        results.ParseResult,
        (*_DOCUMENTS, "template", "answers", *_PAGE),
    ),
    Step(
        "plan",
        "steps 2 and 4: plan the run directories and select the template; writes nothing",
        "plan_runs",
        "Plan the run directories",
        "Steps 2 and 4: find the parameters that vary, plan each run's directory and values, select the template."
        " Writes nothing.\n\n"
        "Show the plan, its warnings and its defaults to the user before render_yaml.",
        results.PlanResult,
        (*_PLANNING, "explain", *_PAGE),
    ),
    Step(
        "render",
        "steps 3 and 5: create the run directories and their setup_finetune.yaml",
        "render_yaml",
        "Write run directories and setup_finetune.yaml",
        "Steps 3 and 5: freeze the plan, create the run directories, write setup_finetune.yaml. Safe to repeat.",
        results.RenderResult,
        (*_PLANNING, "overwrite", *_PAGE),
    ),
    Step(
        "setup",
        "step 6: run setup_finetune to generate finetune.yaml and finetune.slurm for every run",
        "run_setup",
        "Run setup_finetune in each run directory",
        "Step 6: generate finetune.yaml and finetune.slurm of every run. Call render_yaml first.\n\n"
        "A failed run does not stop the others: check failed and each reason.",
        results.SetupResult,
        (*_DOCUMENTS, "overwrite", "started", "jobs", "timeout", *_PAGE),
    ),
    Step(
        "validate",
        "step 7: check that finetune.yaml and finetune.slurm contain every planned value",
        "validate",
        "Validate every planned value",
        "Step 7: check that finetune.yaml and finetune.slurm contain every planned value; writes the last entry of"
        " scaffold.log.\n\n"
        "Submit the runs only if passed is true.",
        results.ValidateResult,
        (*_DOCUMENTS, "with_torchtune", *_PAGE),
    ),
)

TOOLS: Final = {step.command: step.tool for step in STEPS}
"""The tool of each command that does a step."""

ARGUMENTS: Final = {step.tool: step.arguments for step in STEPS}
"""The arguments of each tool."""


@dataclass(frozen=True)
class Call:
    """A call of a tool or of the equivalent command.

    `tool` is its name in the server, `arguments` are the given arguments. Lists begin with item `start`, counted from
    1; `only` is a shell pattern for the names of the runs to list. With either, all runs are listed in full; otherwise
    runs with nothing to report are only counted. With `whole`, nothing is cut. `planned` are the options of the frozen
    plan that a next call must repeat to plan the same.
    """

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    start: int | None = None
    only: str | None = None
    whole: bool = False
    planned: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lists_all(self) -> bool:
        """Return whether runs are listed with all their details."""
        return self.whole or self.only is not None or self.start is not None

    def wants(self, run: object) -> bool:
        """Return whether `only` matches a run, by its directory or its name in the table."""
        names = [str(getattr(run, each)) for each in ("directory", "name") if hasattr(run, each)]
        return self.only is None or any(fnmatch.fnmatchcase(name, self.only) for name in names)


# Bytes of JSON for a list
_ORDINARY: Final = 2_400  # items without problems
_SERIOUS: Final = 9_000  # failed runs, or the problems of a refusal
_FINDINGS: Final = 4_500  # findings; also the limit of a mapping of values
_WITHIN: Final = 1_500  # a list or mapping within an item of a list
_NAMES: Final = 400  # names of runs, if their number is given too
_FEW: Final = 36  # a list of at most this many items, as in most sweeps, may be as long as one of failed runs
_HANDFUL: Final = 6  # so few runs are listed even with nothing to report: another call would cost more
_LONGEST: Final = 600  # characters of a text
_LINES: Final = 4_000  # characters of lines to write into a document

_BUDGETS: Final[dict[Cut | None, int]] = {
    Cut.PROBLEMS: _SERIOUS,
    Cut.FINDINGS: _FINDINGS,
    Cut.EXPLAINED: _SERIOUS,
    Cut.NAMES: _NAMES,
}
_SEVERITIES: Final = ("error", "warning", "info")


def bounded(data: dict[str, Any], call: Call, of: type[BaseModel] = BaseModel) -> dict[str, Any]:
    """Return a reply's data with its lists cut and its texts shortened, as the fields of its model declare.

    If something was cut, `left_out` has the number of missing items by list, and `more` the arguments to list them.
    """
    if call.whole:
        return data
    cuts = {name: each for name, field in of.model_fields.items() for each in field.metadata if isinstance(each, Cut)}
    out: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    following: list[int] = []
    for name, value in data.items():
        cut = cuts.get(name)
        if cut is Cut.NEVER:
            out[name] = value
        elif isinstance(value, list):
            budget = _SERIOUS if len(value) <= _FEW and cut is not Cut.NAMES else _BUDGETS.get(cut, _ORDINARY)
            hidden = [] if cut is not Cut.RUNS or call.lists_all else _hidden(value)
            if value and len(hidden) == len(value):
                out[name] = []  # no problems, and `counts` has their number
                continue
            fits = len(_fitted(value, budget)) == len(value) and not hidden
            start = 1 if fits else call.start or 1  # a list that fits is on each page
            items = value if fits else sorted(value, key=_badness)
            first = items[: len(items) - len(hidden)] if start == 1 else items  # the first page omits hidden runs
            out[name] = shown = _fitted(first[start - 1 :], budget)
            left_out |= _missing(name, items, shown)
            following += [start + len(shown)] if shown and start + len(shown) <= len(items) else []
        else:
            out[name] = small = _smaller(value, _FINDINGS)
            left_out |= _missing(name, value, small)
    if left_out:
        more = [f"start={min(following)} lists from item {min(following)} on"] if following else []
        more += ["only='PATTERN' lists the runs whose name matches"] if "runs" in left_out else []
        out |= {"left_out": left_out, "more": "; ".join(more) or "start=1 lists from item 1 on"}
    return out


def _missing(name: str, whole: Any, shown: Any) -> dict[str, int]:
    """Return the number of items of a list or mapping that are not shown, by its name; empty if all are."""
    cut = len(whole) - len(shown) if isinstance(whole, list | dict) else 0
    return {name: cut} if cut else {}


def _badness(item: Any) -> int:
    if isinstance(item, dict) and "severity" in item:
        return _SEVERITIES.index(item["severity"])
    return int(not _failed(item)) + int(_is_unchanged(item)) + int(_is_well(item))


def _hidden(runs: Sequence[Any]) -> list[Any]:
    """Return the runs that a reply only counts: unchanged runs if others changed, else runs with nothing to report."""
    unchanged = [run for run in runs if _is_unchanged(run)]
    if unchanged and len(unchanged) < len(runs):
        return unchanged
    return [run for run in runs if _is_well(run)] if len(runs) > _HANDFUL else []


def _is_well(run: Any) -> bool:
    """Return whether a run was written, set up or validated, with nothing to report."""
    done = isinstance(run, dict) and not {"created", "ok", "passed"}.isdisjoint(run)
    return done and not _failed(run) and not run.get("findings")


def _is_unchanged(item: Any) -> bool:
    """Return whether an item is an unchanged run, which a reply only counts."""
    stays = {"change": "unchanged", "created": False, "unchanged": True}
    return (
        isinstance(item, dict)
        and not _failed(item)
        and any(item.get(name) == value for name, value in stays.items() if name in item)
    )


def _failed(item: Any) -> bool:
    """Return whether an item is a run that failed or has a problem."""
    return isinstance(item, dict) and not (item.get("ok", True) and item.get("passed", True) and not item.get("cause"))


def _fitted(items: Iterable[Any], budget: int) -> list[Any]:
    """Return the first items that fit into a number of bytes, each shortened; at least one, and more if they failed."""
    kept: list[Any] = []
    used = 0
    for item in items:
        small = _item(item)
        used += _size(small)
        if kept and used > (_SERIOUS if _failed(item) else budget):
            break
        kept.append(small)
    return kept


def _item(item: Any) -> Any:
    """Return an item of a list with its long parts cut, and the number of omitted items of each."""
    if not isinstance(item, dict):
        return _smaller(item, _WITHIN)
    small = {name: _smaller(value, _WITHIN) for name, value in item.items()}
    cut = {name: count for key in item for name, count in _missing(key, item[key], small[key]).items()}
    return small | ({"left_out": cut} if cut else {})


def _smaller(value: Any, budget: int) -> Any:
    """Return a value with its texts cut, and the part of a list or mapping that fits into a number of bytes."""
    if isinstance(value, str):
        longest = _LINES if "\n" in value else _LONGEST
        cut = len(value) - longest
        return value if cut <= 0 else f"{value[:longest]}... ({counted(cut, 'more character')})"
    if isinstance(value, list):
        return _fitted(value, budget)
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for name, each in value.items():
        out[name] = small = _smaller(each, budget)
        budget -= _size({name: small})
        if budget < 0 and len(out) > 1:
            del out[name]
            break
    return out


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")) + 1


class Action(NamedTuple):
    """The next action: `first` for the agent, `step` for the user, as in "Next: confirm the plan"."""

    first: str
    step: str = ""


_SHOW: Final = Action(
    "show the user the run directories, varying and derived parameters, skipped rows, every warning, GPUs, time and"
    " defaults; continue when they agree, or at once if they asked for the whole scaffold",
    "confirm the plan, then the run directories are created",
)
_CONTRADICTED: Final = Action(
    "show the user the plan (changes first, if any) and every warning, and ask about {codes} before anything is"
    " written, unless they have already decided; then plan again with the correction, or continue as they decide",
    "decide about {codes}",
)
_CHANGED: Final = Action(
    "show the user summary and changes (states, each group) and compare them with their request: number of runs,"
    " levels, 'only the new ones'; if old runs that they did not mention would change or be removed, ask first. Then"
    " show every warning; continue when they agree, or at once if they asked for exactly this",
    "confirm the changes, then the files are written",
)
_UNCHANGED: Final = Action(
    "tell the user that no run would change, the state of the runs (changes.states), and every warning; the next steps"
    " only finish incomplete work",
    "check that the scaffold is complete",
)
_STARTED: Final = Action(
    "show the user which started runs would change (changes), old -> new, what else would change or be removed, and the"
    " options: the fix of started-run, and in ask the lines of the table with such a column; then call plan_runs again,"
    " with the document corrected as they decide, or with started: keep or replace. If you cannot ask, stop and report"
    " that, and warn not to use an older submit line for runs that would change",
    "decide whether the started runs are kept or replaced",
)
_SETTLE: Final = Action(
    "show the user each edited file (edited-output) or that this is a copy of another experiment (copied-scaffold), and"
    " ask what to do; then call render_yaml and run_setup, with overwrite: true if the files may be replaced",
    "decide what to do with edited files and copies",
)
_ASK_FIRST: Final = (
    "full-grid", "odd-value", "unusual-value", "blank-cell", "levels-differ", "runs-differ", "overridden",
    "name-mismatch", "default-used",
)  # fmt: skip
"""The codes of warnings that a plan may differ from the user's intention."""
_SET_UP: Final = Action("", "generate finetune.yaml and finetune.slurm")
_VALIDATE: Final = Action("", "validate every value")
_PLAN: Final = Action("", "plan the run directories")
_RENDER: Final = Action("", "create the run directories")
_BUNDLED: Final = "bundled"
_SAME_OPTIONS: Final = "; call render_yaml with the options of this plan, too: {options}"
_PUT_BACK: Final = "; run_setup restores edited files (changed-output) with overwrite: true, once the user agrees"
_FAILED_SETUP: Final = Action(
    "keep the failed runs, each reason and fix, for the user; validate closes the log. When the cause is fixed, call"
    " run_setup again, which repeats only failed and missing runs",
    "fix the cause, then set up the failed runs again",
)
_FAILED: Final = Action(
    "report run, field, expected and actual of the errors, and the fix; have the cause fixed in the summary, the"
    " template or the setup script, never in finetune.yaml; then call render_yaml, run_setup and validate again",
    "fix the cause, then scaffold again; do not submit",
)
_PASSED: Final = Action(
    "tell the user that all runs passed, every warning, where scaffold.log is, the submit line, and tracking",
    "submit the runs",
)
_LEFT_OUT: Final = "; and the started runs, which the submit line skips, and the kept runs"
_ARGUMENTS: Final = Action(
    "correct the arguments as in each problem's fix, and call again", "repeat the call with correct arguments"
)
_NAME: Final = Action(
    "call again with a name from the problem's fix; ask the user which one they mean if it is not clear",
    "choose one of the existing names",
)
_PATH: Final = Action(
    "call again with the path of an experiment under a root, as in the problem's fix; ask the user which one they mean"
    " if it is not clear",
    "specify the path of an experiment",
)
_OF_ARGUMENTS: Final = {"unknown-name": _NAME, "not-a-directory": _PATH, "outside-roots": _PATH}
"""The actions after a refusal of an argument, by finding code: the same call would be refused again."""
_ASK: Final = Action(
    "ask the user the questions of error.ask, and pass their replies as answers of this tool, by field; show them the"
    " other problems; invent no value",
    "answer {questions}",
)
OWN_SCRIPT: Final = Action(
    "the user wants their own script: tell them to start the server with SCAFFOLD_TORCHTUNE_SETUP_SCRIPT set to its"
    " path, because only they may choose which scripts run on their machine; then call this tool again",
    "start the server with SCAFFOLD_TORCHTUNE_SETUP_SCRIPT set to the path of your script",
)
DECLINED: Final = Action(
    "the user was asked and did not answer: do not ask the same question again and invent no value; show them the"
    " missing fields and the line that each document needs (error.ask)",
    "add the missing lines to the documents",
)
_EDITED: Final = Action(
    "show the user each file (validate reports which values differ) and ask: replace it, or move it away first? A value"
    " worth keeping belongs in the summary. Then call this tool again, with overwrite: true to replace",
    "decide whether edited files are replaced",
)
_CORRECT: Final = Action(
    "show the user every problem with file, line and fix; correct the document with their consent, invent no value;"
    " then call this tool again",
    "fix the cause, then repeat the step",
)

_REPORTED: Final = Action(
    "call the same tool once more; if it fails again, tell the user what failed and where the report is, and stop",
    "repeat the step; if it fails again, report the error",
)

_Next = tuple[dict[str, Any], str]
"""The next action in a reply, and in the words for the user."""


def _after(result: StepResult | results.ScaffoldResult, call: Call) -> _Next:
    """Return the next action: what to do `first`, then the tool and its arguments; no tool if a person must act."""
    match result:
        case results.ParseResult():
            return _next("plan_runs", call, _PLAN)
        case results.RenderResult():
            return _next("run_setup", call, _SET_UP)
        case results.PlanResult():
            return _after_plan(result, call)
        case results.SetupResult():
            return _next("validate", call, _FAILED_SETUP if result.failed else _VALIDATE)
        case results.ScaffoldResult():
            return _after(result.validation, call)
        case StepResult() if result.FIRST is not None:
            return _next("", call, Action(result.FIRST))
        case results.ValidateResult() if not result.passed:
            edited = result.accepts_edits == "--overwrite"
            options = _arguments(call.planned, call)
            same = _SAME_OPTIONS.format(options=written(options)) if options else ""
            return _next("", call, _FAILED._replace(first=_FAILED.first + same + _PUT_BACK * edited))
        case results.ValidateResult() if result.started:
            step = _PASSED.step if result.submit else ""
            return _next("", call, Action(_PASSED.first + _LEFT_OUT, step))
    return _next("", call, _PASSED)


def _after_plan(result: results.PlanResult, call: Call) -> _Next:
    """Return the next action after a plan: its findings may need a decision of the user first."""
    found = serious(result.warnings)
    if any(each.code == "started-run" for each in found):
        return _next("", call, _STARTED)
    if any(each.code in results.UNSETTLED for each in found):
        return _next("render_yaml", call, _SETTLE)
    new = {each.code for each in found if each not in result.repeated}  # the user has not seen them
    if doubtful := ", ".join(code for code in _ASK_FIRST if code in new):
        return _next("render_yaml", call, Action(*(text.format(codes=doubtful) for text in _CONTRADICTED)))
    action = _SHOW if result.changes.is_first else _CHANGED if result.changes.groups else _UNCHANGED
    return _next("render_yaml", call, action)


def _after_refusal(refused: Refused, call: Call) -> _Next:
    """Return the next action after a refusal: the tool that its code requires, or the same tool after the fix."""
    codes = {problem.code for problem in refused.problems}
    if "plan-outdated" in codes:
        return _next("plan_runs", call, _PLAN)
    if "not-rendered" in codes:
        return _next("render_yaml", call, _RENDER)
    asking = _ASK._replace(step=_ASK.step.format(questions=counted(len(refused.ask), "question")))
    action = asking if refused.ask else _EDITED if codes == {"edited-output"} else _CORRECT
    if is_of_arguments(refused):
        return _next("", call, _OF_ARGUMENTS[codes.pop()])
    if call.tool not in ARGUMENTS:
        return _next("", call, action if call.tool else _ARGUMENTS)
    return _next(call.tool, call, action)


def is_of_arguments(refused: Refused) -> bool:
    """Return whether an argument names nothing that exists or may be used, so that the same call is refused again."""
    codes = {problem.code for problem in refused.problems}
    return len(codes) == 1 and codes <= _OF_ARGUMENTS.keys()


def _next(tool: str, call: Call, action: Action) -> _Next:
    """Return an action, with its tool, if any, and the arguments of the call that apply to it."""
    arguments = _arguments(ARGUMENTS.get(tool, ()), call)
    first = {"first": action.first} if action.first else {}
    return first | ({"tool": tool, "arguments": arguments} if tool else {}), action.step


def _arguments(names: Iterable[str], call: Call) -> dict[str, Any]:
    """Return those arguments that apply to all calls of a scaffold: of the call, else of the frozen plan.

    Only operators name an external setup script.
    """
    given = {name: call.arguments.get(name) or call.planned.get(name) for name in names if name in HANDED_ON}
    if given.get("setup_script") != _BUNDLED:
        given.pop("setup_script", None)
    return {name: value for name, value in given.items() if value}


def _summary(summary: str, step: str) -> str:
    """Return the summary of a result with the next action."""
    return f"{summary} Next: {step}." if step else summary


def of_result(result: BaseModel, call: Call) -> dict[str, Any]:
    """Return the reply to a call with a result; only the result of a step is shortened."""
    if isinstance(result, results.ScaffoldResult):
        body: dict[str, Any] = {name: _body(part, call) for name, part in result.steps.items()}
        body |= result.model_dump(mode="json", include={"ok", "unchanged", "log", "submit"})
    elif isinstance(result, StepResult):
        body = _body(result, call)
        if _unmatched(result, call):
            body["left_out"] = body.get("left_out", {}) | {"runs": len(getattr(result, "runs", ()))}
            body["more"] = "start=1 lists all runs"
    else:
        summary = {"summary": result.summary} if isinstance(result, CommandResult) else {}
        return {**summary, **result.model_dump(mode="json")}
    following, step = _after(result, call)
    told = f"{result.summary}{_unmatched(result, call)}"
    guides = {"summary": _summary(told, step), "next": following}
    # Successive entries with the same head are listed once, with their number.
    heads = [(head, len([*entries])) for head, entries in groupby(getattr(result, "logged", ()))]
    logged = [head if count == 1 else f"{head} ({count} entries)" for head, count in heads]
    return {**guides, **body, "logged": logged[:1] + [head.partition("] ")[2] or head for head in logged[1:]]}


def _body(result: StepResult, call: Call) -> dict[str, Any]:
    listed = result.without_told() if isinstance(result, results.PlanResult) and not call.whole else result
    listed = _selected(listed, call)
    dumped = _with_notes(listed.model_dump(mode="json", exclude={"logged"}))
    if not call.lists_all:
        dumped = _without_repetition(result, dumped)
    data = bounded(dumped, call, type(result))
    for group in () if call.whole else (data.get("changes") or {}).get("groups", ()):
        group["runs"] = _fitted(group["runs"], _NAMES)  # `count` has their number
    return {"counts": result.counts | _left_to_the_plan(result, call), **data}


def _unmatched(result: BaseModel, call: Call) -> str:
    """Return a sentence for the summary if `only` matches none of the runs."""
    steps = result.steps.values() if isinstance(result, results.ScaffoldResult) else (result,)
    runs = [run for step in steps for run in getattr(step, "runs", ())]
    is_wrong = call.only is not None and runs and not any(map(call.wants, runs))
    return f" No run matches {shown(call.only)}." if is_wrong else ""


def _selected(result: StepResult, call: Call) -> StepResult:
    """Return a result with the runs that `only` matches."""
    runs = getattr(result, "runs", None)
    if runs is None or call.only is None:
        return result
    return result.model_copy(update={"runs": tuple(run for run in runs if call.wants(run))})


_ELSEWHERE: Final = frozenset({"defaults-unchosen", "sbatch-unavailable"})
"""The codes of infos of the verdict that its reply does not list: the plan has the defaults, `asked` the reason."""


def _left_to_the_plan(result: StepResult, call: Call) -> dict[str, int]:
    """Return the number of infos without those that are elsewhere in replies; nothing if all are listed."""
    if call.lists_all or not isinstance(result, results.ValidateResult):
        return {}
    infos = [each for each in result.all_findings() if each.severity is Severity.INFO]
    return {"infos": sum(each.code not in _ELSEWHERE for each in infos)} if infos else {}


def _with_notes(data: dict[str, Any]) -> dict[str, Any]:
    """Return a reply's data with infos in `notes`, without empty keys, separate from the warnings."""
    found = data.get("warnings", ())
    notes = [each for each in found if each["severity"] == Severity.INFO]
    if not notes:
        return data
    out: dict[str, Any] = {}
    for name, value in data.items():
        out[name] = value
        if name == "warnings":
            short = [{key: part for key, part in each.items() if part not in (None, "")} for each in notes]
            out |= {name: [each for each in found if each not in notes], "notes": short}
    return out


def _without_repetition(result: StepResult, data: dict[str, Any]) -> dict[str, Any]:
    """Return a reply's data without values that an earlier reply of the same scaffold had, or that all runs share.

    `explain` and lists of selected runs have the lines of shared settings; the plan has the defaults that nobody chose.
    """
    match result:
        case results.PlanResult():
            return _with_differences({name: each for name, each in data.items() if name != "sources"})
        case results.ParseResult():
            return _with_differences(data)
        case results.ValidateResult():
            return data | {"findings": [each for each in data["findings"] if each["code"] not in _ELSEWHERE]}
        case results.RenderResult() if result.changes is not None and result.changes.is_first:
            return {name: each for name, each in data.items() if name != "changes"}
    return data


def _with_differences(data: dict[str, Any]) -> dict[str, Any]:
    """Return data with only the differing parameters in each run; `common` has the others."""
    tuned = [run for run in data["runs"] if run.get("type", "fine-tuned") == "fine-tuned"]
    if len(tuned) <= _HANDFUL:
        return data
    first: dict[str, Any] = tuned[0]["parameters"]
    same = {name: each for name, each in first.items() if all(run["parameters"].get(name) == each for run in tuned)}
    kept = [_less(run, same) if run.get("type", "fine-tuned") == "fine-tuned" else run for run in data["runs"]]
    return data | {"runs": kept} | ({} if "common" in data else {"common": same})


def _less(run: Mapping[str, Any], same: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run without the values that all runs share."""
    return {**run, "parameters": {name: each for name, each in run["parameters"].items() if name not in same}}


_NUMBER: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|-?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?')


def written(data: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return JSON with each number in its shortest form, as in the names of directories: 1e-5, not 1e-05."""
    compact = (",", ":") if indent is None else None
    text = json.dumps(data, indent=indent, separators=compact, ensure_ascii=ascii_only)
    return _NUMBER.sub(lambda found: _shortest(found[0]), text)


def _shortest(token: str) -> str:
    """Return a number of JSON in its shortest form, unless that would be an integer; texts are unchanged."""
    if token[0] == '"' or not ("." in token or "e" in token):
        return token
    short = shortest_number(float(token))
    return short if "." in short or "e" in short else token


def of_refusal(refused: Refused, call: Call, *, midway: bool = False, action: Action | None = None) -> dict[str, Any]:
    """Return the reply to a call that was refused or stopped midway; `action` replaces the next action."""
    ordered = sorted(refused.problems, key=lambda each: _SEVERITIES.index(each.severity))
    error = RefusalError(message=refused.message, problems=tuple(ordered), ask=refused.ask)
    stays = "Files already written stay; repeat the call to continue."
    changed = stays if midway else "No run directory or file was changed."
    summary = f"{'Stopped midway' if midway else 'Refused'}: {refused.message.rstrip('.')}. {changed}"
    following, step = _next("", call, action) if action else _after_refusal(refused, call)
    return {
        "summary": _summary(summary, step),
        "next": following,
        "counts": {"problems": len(refused.problems)},
        "error": bounded(error.model_dump(mode="json"), call, RefusalError),
        "logged": list(refused.logged),
    }


def of_internal_error(refused: Refused) -> dict[str, Any]:
    """Return the reply to a call that failed with an unexpected error; nothing here can fail in the same way."""
    problems = [
        {name: part for name, part in problem.model_dump(mode="json").items() if part not in (None, "")}
        for problem in refused.problems
    ]
    summary = f"Failed: {refused.message.rstrip('.')}. Files already written stay."
    return {
        "summary": _summary(summary, _REPORTED.step),
        "next": {"first": _REPORTED.first},
        "counts": {"problems": len(problems)},
        "error": {"message": refused.message, "problems": problems},
        "logged": list(refused.logged),
    }
