"""Asks the user, through the client, for what no document says, and calls the step again with the answers.

A client of the 2026-07-28 protocol gets the questions as the result of its call, and calls again with the answers; an
older one is asked while its call waits. Where the client cannot ask, the refusal has the questions, for the agent.
"""

import json
from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from mcp.shared.exceptions import MCPError
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from scaffold_torchtune.findings import Question

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

Answers: TypeAlias = dict[str, Any]

ROUNDS: Final = 3
"""How often one call asks: an answer that is not taken is asked for again."""

_KEY: Final = "answers"
_RETURNED: Final = "2026-07-28"  # from this version of the protocol on, questions are returned
_TYPES: Final = {"integer": "integer", "number": "number", "boolean": "boolean", "text": "string"}


class Reply(NamedTuple):
    """A step's reply, and where it was refused, why, and the questions that the reply has."""

    data: dict[str, Any]
    message: str = ""
    questions: tuple[Question, ...] = ()


class Step(Protocol):
    """A step with some answers; told whether its refusal will be followed by a question, or the user declined one."""

    def __call__(self, answers: Answers, *, will_ask: bool, declined: bool = False) -> Awaitable[Reply]:
        """Return the reply."""


async def answered(
    step: Step, given: Mapping[str, Any], context: "Context[None, Any]"
) -> dict[str, Any] | InputRequiredResult:
    """Return the reply to a call, with the user's answers where they were asked and gave some.

    `given` are answers that came with the call.
    """
    if not _can_ask(context):
        return (await step(dict(given), will_ask=False)).data
    rounds, answers = _state(context, given)
    response = (context.input_responses or {}).get(_KEY)
    while True:
        if response is not None:
            content = _accepted(response)
            if content is None:
                return (await step(answers, will_ask=False, declined=True)).data
            answers |= content
        last = rounds == ROUNDS
        reply = await step(answers, will_ask=not last)
        if not reply.questions or last:
            return reply.data
        rounds += 1
        again = "An answer was not taken. " if rounds > 1 else ""
        message = f"{again}{reply.message}. Nothing was written yet; what you answer is used for the plan."
        params = ElicitRequestFormParams(message=message, requested_schema=_schema(reply.questions))
        if (context.protocol_version or "") >= _RETURNED:
            state = json.dumps({"answers": answers, "rounds": rounds})
            return InputRequiredResult(input_requests={_KEY: ElicitRequest(params=params)}, request_state=state)
        try:
            response = await context.session.elicit_form(params.message, params.requested_schema, context.request_id)
        except MCPError:  # it says that it can ask, and does not
            return (await step(answers, will_ask=False)).data


def _can_ask(context: "Context[None, Any]") -> bool:
    """Whether the client asks with forms: it says so, or says no more than that it asks."""
    capabilities = context.client_capabilities
    asks = capabilities.elicitation if capabilities else None
    return asks is not None and (asks.form is not None or asks.url is None)


def _state(context: "Context[None, Any]", given: Mapping[str, Any]) -> tuple[int, Answers]:
    """How often was asked before this leg of the call, and the answers so far."""
    if context.request_state is None:
        return 0, dict(given)
    state = json.loads(context.request_state)
    return state["rounds"], state["answers"]


def _accepted(response: Any) -> Answers | None:
    """The answers of a form; None where the user declined or dismissed it."""
    if not isinstance(response, ElicitResult) or response.action != "accept":
        return None
    content = response.content or {}
    return {name: value for name, value in content.items() if isinstance(value, str | int | float | bool)}


def _schema(questions: Iterable[Question]) -> dict[str, Any]:
    """Return a flat form: one field for each question."""
    properties = {}
    for each in questions:
        kind = {"type": "string", "enum": list(each.options)} if each.options else {"type": _TYPES[each.kind]}
        properties[each.field] = {"title": each.field, "description": each.question} | kind
    return {"type": "object", "properties": properties, "required": list(properties)}
