"""What an agent, or `--json`, gets of a step: its result made small, and what guides whoever reads it.

Each reply says in one line what came of the step (`outcome`), what is to be done next with which tool and arguments
(`next`), and which entries scaffold.log got (`logged`). Counts are always whole; lists are cut where they are long,
with how much was left out (`left_out`) and how to see it (`more`).
"""

from typing import Any

from pydantic import BaseModel

from scaffold_torchtune.findings import Refused
from scaffold_torchtune.models.results import RefusalError, ScaffoldResult
from scaffold_torchtune.reply import guide
from scaffold_torchtune.reply.asked import Asked
from scaffold_torchtune.reply.bounds import bounded
from scaffold_torchtune.reply.compact import compact, parts, plain
from scaffold_torchtune.reply.guide import TOOLS

__all__ = ["TOOLS", "Asked", "declined", "of_refusal", "of_result", "own_script"]


def of_result(result: BaseModel, asked: Asked) -> dict[str, Any]:
    """The reply to a call whose step gave a result; any model but that of a step is dumped as it is."""
    if isinstance(result, ScaffoldResult):
        steps = {name: bounded(compact(part), asked) for name, part in parts(result).items()}
        guides = {"outcome": guide.outcome(result), "next": guide.after(result, asked)}
        return {**guides, **steps, **compact(result), "logged": logged(result)}
    found = compact(result)
    said = guide.outcome(result)
    if not said:
        return found
    return {"outcome": said, "next": guide.after(result, asked), **bounded(found, asked), "logged": logged(result)}


def of_refusal(refused: Refused, asked: Asked, *, midway: bool = False) -> dict[str, Any]:
    """The reply to a call that was refused, or that was stopped midway."""
    error = plain(RefusalError(message=refused.message, problems=refused.problems, ask=refused.ask))
    if not refused.ask:
        del error["ask"]
    return {
        "outcome": guide.refused(refused, midway=midway),
        "next": guide.after_refusal(refused, asked),
        "counts": {"problems": len(refused.problems)},
        "error": bounded(error, asked),
        "logged": list(refused.logged),
    }


def declined(data: dict[str, Any]) -> dict[str, Any]:
    """The reply where the user was asked and did not answer."""
    return data | {"next": {"first": guide.DECLINED}} if "error" in data else data


def own_script(data: dict[str, Any]) -> dict[str, Any]:
    """The reply where the user wants a setup script of their own: nothing more is to be asked."""
    if "error" not in data:
        return data
    error = {name: value for name, value in data["error"].items() if name != "ask"}
    return data | {"error": error, "next": {"first": guide.OWN_SCRIPT}}


def _heads(result: BaseModel) -> tuple[str, ...]:
    if isinstance(result, ScaffoldResult):
        return (*result.render.logged, *result.setup.logged, *result.validation.logged)
    found: tuple[str, ...] = getattr(result, "logged", ())
    return found


def logged(result: BaseModel) -> list[str]:
    """The heads of the entries that the log got; of many alike that follow each other one, with their number."""
    heads: list[str] = []
    counts: list[int] = []
    for head in _heads(result):
        if heads and heads[-1] == head:
            counts[-1] += 1
        else:
            heads.append(head)
            counts.append(1)
    return [head if count == 1 else f"{head} ({count} entries)" for head, count in zip(heads, counts, strict=True)]
