"""What an agent, or `--json`, gets of a step: its result made small, and what guides whoever reads it.

Each reply says in one line what came of the step (`outcome`), what is to be done next with which tool and arguments
(`next`), and which entries scaffold.log got (`logged`). Counts are always whole; lists are cut where they are long,
with how much was left out (`left_out`) and how to see it (`more`).
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models.results import RefusalError, ScaffoldResult, StepResult
from scaffold_torchtune.reply import guide
from scaffold_torchtune.reply.asked import ARGUMENTS, STEPS, TOOLS, Call, Step
from scaffold_torchtune.reply.bounds import bounded
from scaffold_torchtune.reply.guide import DECLINED, OWN_SCRIPT

__all__ = ["ARGUMENTS", "DECLINED", "OWN_SCRIPT", "STEPS", "TOOLS", "Call", "Step", "of_refusal", "of_result"]


def of_result(result: BaseModel, call: Call) -> dict[str, Any]:
    """Return the reply to a call whose step gave a result; any model but that of a step is dumped as it is."""
    if isinstance(result, ScaffoldResult):
        body = {name: _body(part, call) for name, part in result.steps.items()}
        body |= result.model_dump(mode="json", include={"ok", "unchanged", "log", "submit"})
    elif isinstance(result, StepResult):
        body = _body(result, call)
    else:
        return result.model_dump(mode="json")
    guides = {"outcome": result.outcome, "next": guide.after(result, call)}
    return {**guides, **body, "logged": _grouped(getattr(result, "logged", ()))}


def _body(result: StepResult, call: Call) -> dict[str, Any]:
    return {"counts": result.counts, **bounded(result.model_dump(mode="json", exclude={"logged"}), call, type(result))}


def of_refusal(refused: Refused, call: Call, *, midway: bool = False, first: str = "") -> dict[str, Any]:
    """Return the reply to a call that was refused or stopped midway; with `first`, nothing else is to be done next."""
    error = RefusalError(message=refused.message, problems=refused.problems, ask=refused.ask)
    return {
        "outcome": guide.refused(refused, midway=midway),
        "next": {"first": first} if first else guide.after_refusal(refused, call),
        "counts": {"problems": len(refused.problems)},
        "error": bounded(error.model_dump(mode="json"), call, RefusalError),
        "logged": list(refused.logged),
    }


def _grouped(heads: Iterable[str]) -> list[str]:
    """Return the heads of entries; of several alike that follow each other one, with their number."""
    counts = [(head, len(list(same))) for head, same in groupby(heads)]
    return [head if count == 1 else f"{head} ({count} entries)" for head, count in counts]
