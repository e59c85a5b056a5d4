"""What is to be done next, after a result or a refusal."""

from typing import Any, Final

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models.results import (
    ParseResult,
    PlanResult,
    RenderResult,
    ScaffoldResult,
    SetupResult,
    StepResult,
    ValidateResult,
)
from scaffold_torchtune.reply.asked import ARGUMENTS, HANDED_ON, Call

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


def refused(refused: Refused, *, midway: bool) -> str:
    """What came of a call that could not proceed."""
    if midway:
        return f"STOPPED MIDWAY: {refused.message}. What was written stays; repeating the call goes on from there."
    return f"REFUSED: {refused.message}. No run directory or file was changed."


def after(result: StepResult | ScaffoldResult, call: Call) -> dict[str, Any]:
    """Return what is next: what to do `first`, then the tool and its arguments; no tool where a person must act."""
    match result:
        case ParseResult():
            return _next("plan_runs", call)
        case PlanResult():
            found = {each.code for each in result.warnings}
            doubtful = ", ".join(code for code in _ASK_FIRST if code in found)
            return _next("render_yaml", call, _CONTRADICTED.format(codes=doubtful) if doubtful else _SHOW)
        case RenderResult():
            return _next("run_setup", call)
        case SetupResult():
            return _next("validate", call, _FAILED_SETUP if result.failed else "")
        case ScaffoldResult():
            return after(result.validation, call)
        case ValidateResult() if not result.passed:
            edited = any(each.code == "changed-output" for each in result.all_findings())
            return {"first": _FAILED + (_PUT_BACK if edited else "")}
    return {"first": _PASSED}


def after_refusal(refused: Refused, call: Call) -> dict[str, Any]:
    """Return what is next after a refusal: the tool that its code asks for, or the same once things are mended."""
    codes = {problem.code for problem in refused.problems}
    if codes & {"not-rendered", "plan-outdated"}:
        return _next("render_yaml", call)
    first = _ASK if refused.ask else _EDITED if codes == {"edited-output"} else _CORRECT
    if call.tool not in ARGUMENTS:
        return {"first": first if call.tool else _ARGUMENTS}
    return _next(call.tool, call, first)


def _next(tool: str, call: Call, first: str = "") -> dict[str, Any]:
    given = {name: call.arguments.get(name) for name in ARGUMENTS[tool] if name in HANDED_ON}
    arguments = {name: value for name, value in given.items() if value not in (None, {})}
    return ({"first": first} if first else {}) | {"tool": tool, "arguments": arguments}
