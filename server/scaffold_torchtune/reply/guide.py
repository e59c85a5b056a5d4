"""What came of a step in one line, and what is to be done next."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, errors_in
from scaffold_torchtune.models.results import (
    ParseResult,
    PlanResult,
    RenderResult,
    ScaffoldResult,
    SetupResult,
    ValidateResult,
)
from scaffold_torchtune.reply.asked import Asked

TOOLS: Final[dict[str, str]] = {
    "parse": "parse_summary",
    "plan": "plan_runs",
    "render": "render_yaml",
    "setup": "run_setup",
    "validate": "validate",
}
"""The tool of each step."""

ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "parse_summary": ("experiment", "local", "template", "answers"),
    "plan_runs": ("experiment", "local", "names", "template", "setup_script", "answers"),
    "render_yaml": ("experiment", "local", "names", "template", "setup_script", "answers"),
    "run_setup": ("experiment", "local"),
    "validate": ("experiment", "local"),
}
"""The arguments of each tool that the call before it may have had too."""

_SHOW: Final = (
    "tell the user the run directories, what varies and what follows from it, what is left out, every warning, GPUs,"
    " time and defaults; go on when they agree, or at once where they asked for the whole scaffold"
)
_CONTRADICTED: Final = (
    "tell the user the plan and every warning, and ask about {codes} before anything is written; have it corrected and"
    " plan again, or go on as they say"
)
_ASK_FIRST: Final = ("levels-differ", "runs-differ", "name-mismatch", "default-used")
"""The codes of warnings of a plan that may be another than the user means."""
_PUT_BACK: Final = (
    "; what was changed by hand (changed-output), run_setup puts back with overwrite: true, once the user agrees"
)
_FAILED_SETUP: Final = (
    "keep which runs failed, each reason and fix, for the user; validate closes the log. When the cause is mended call"
    " run_setup again, which takes up only what is not done"
)
_FAILED: Final = (
    "report run, field, expected and actual of the errors, and the fix; have the cause mended in the summary, the"
    " template or the setup script, never in finetune.yaml; then call render_yaml, run_setup and validate again"
)
_PASSED: Final = "tell the user that all runs passed, every warning, where scaffold.log is, and the submit line"
_ARGUMENTS: Final = "correct the arguments as each problem's fix says, and call again"
_ASK: Final = (
    "ask the user the questions of error.ask, and give what they say as answers of this tool, by field; show them the"
    " other problems; invent no value"
)
OWN_SCRIPT: Final = (
    "the user wants their own script: tell them to start the server with SCAFFOLD_TORCHTUNE_SETUP_SCRIPT set to its"
    " path, as what runs on their machine is theirs to configure; then call this tool again"
)
DECLINED: Final = (
    "the user was asked and did not answer: do not ask the same again and invent no value; tell them what is missing"
    " and the line that each document needs (error.ask)"
)
_EDITED: Final = (
    "show the user each file (validate tells which values differ) and ask: replace it, or move it away first? A value"
    " worth keeping goes into the summary. Then call this tool again, with overwrite: true to replace"
)
_CORRECT: Final = (
    "show the user every problem with file, line and fix; correct the document with their consent, invent no value;"
    " then call this tool again"
)


def outcome(result: BaseModel) -> str:
    """What came of a step, in one line; empty for what is no step."""
    match result:
        case ParseResult():
            tuned = sum(run.type == "fine-tuned" for run in result.runs)
            rows = f"{result.experiment}: {_count(len(result.runs), 'row')}, {tuned} fine-tuned"
            return f"{rows}; {_warnings(result.warnings)}. Nothing was written."
        case PlanResult():
            varying = ", ".join(result.varying) or "nothing"
            runs = f"{_count(len(result.runs), 'run')} planned, {len(result.excluded)} left out; varying: {varying}"
            return f"{runs}; {_warnings(result.warnings)}. Nothing was written."
        case RenderResult():
            done = f"{result.created} setup_finetune.yaml written, {result.unchanged} already as planned"
            return f"{done}; {_warnings(result.warnings)} besides the plan's {_severe(result.plan_warnings)}."
        case SetupResult():
            done = f"{_count(result.processed, 'run')} processed: {result.succeeded} succeeded, {result.failed} failed"
            return f"{done}; {_warnings(result.warnings)}."
        case ValidateResult():
            return _verdict(result)
        case ScaffoldResult():
            state = "ready to submit" if result.ok else "NOT READY"
            unchanged = "; nothing was changed" if result.unchanged else ""
            return f"{state}: {outcome(result.setup)} {_verdict(result.validation)}{unchanged}"
        case _:
            return ""


def _verdict(result: ValidateResult) -> str:
    """The verdict; of errors which there are, and how many of each."""
    found = result.all_findings()
    counts = f"{result.checked} of {_count(result.planned, 'run')} checked"
    if result.passed:
        return f"PASSED: {counts}, every planned value arrived; {_warnings(found)}."
    codes = Counter(each.code for each in errors_in(found))
    kinds = ", ".join(f"{code} ({count})" for code, count in codes.most_common(8))
    more = f" and {len(codes) - 8} more kinds" if len(codes) > 8 else ""  # noqa: PLR2004 - as many as are named
    failed = sum(not run.passed for run in result.runs)
    return f"FAILED: {counts}, {failed} with errors: {kinds}{more}."


def refused(refused: Refused, *, midway: bool) -> str:
    """What came of a call that could not proceed."""
    if midway:
        return f"STOPPED MIDWAY: {refused.message}. What was written stays; repeating the call goes on from there."
    return f"REFUSED: {refused.message}. No run directory or file was changed."


def after(result: BaseModel, asked: Asked) -> dict[str, Any]:
    """What is next: what to do `first`, then the tool and its arguments; no tool where a person must act."""
    match result:
        case ParseResult():
            return _call("plan_runs", asked)
        case PlanResult():
            told = {each.code for each in result.warnings}
            doubtful = ", ".join(code for code in _ASK_FIRST if code in told)
            return _call("render_yaml", asked, _CONTRADICTED.format(codes=doubtful) if doubtful else _SHOW)
        case RenderResult():
            return _call("run_setup", asked)
        case SetupResult() if result.failed:
            return _call("validate", asked, _FAILED_SETUP)
        case SetupResult():
            return _call("validate", asked)
        case ScaffoldResult():
            return after(result.validation, asked)
        case ValidateResult() if result.passed:
            return {"first": _PASSED}
        case ValidateResult():
            edited = any(each.code == "changed-output" for each in result.all_findings())
            return {"first": _FAILED + (_PUT_BACK if edited else "")}
        case _:
            return {}


def after_refusal(refused: Refused, asked: Asked) -> dict[str, Any]:
    """What is next after a refusal: the tool that its code asks for, or the same again once things are mended."""
    codes = {problem.code for problem in refused.problems}
    if codes & {"not-rendered", "plan-outdated"}:
        return _call("render_yaml", asked)
    first = _ASK if refused.ask else _EDITED if codes == {"edited-output"} else _CORRECT
    if asked.tool not in ARGUMENTS:
        return {"first": first if asked.tool else _ARGUMENTS}
    return _call(asked.tool, asked, first)


def _call(tool: str, asked: Asked, first: str = "") -> dict[str, Any]:
    arguments = {name: asked.arguments[name] for name in ARGUMENTS[tool] if asked.arguments.get(name) is not None}
    arguments = {name: value for name, value in arguments.items() if value != {}}
    return ({"first": first} if first else {}) | {"tool": tool, "arguments": arguments}


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _warnings(found: Iterable[Finding]) -> str:
    return _count(_severe(found), "warning")


def _severe(found: Iterable[Finding]) -> int:
    return sum(each.severity is Severity.WARNING for each in found)
