"""The schemas that the server lists: as short as they can be, since every conversation pays for them.

The output schemas name the keys at the top of each reply. None of them is required: a refusal has `error` instead, and
clients of the TypeScript SDK hold error results to the output schema too.
"""

from typing import Any, Final

from scaffold_torchtune.models.results import StepResult

_OF_REPLIES: Final = {"outcome": "string", "next": "object", "error": "object"}


def output(result: type[StepResult]) -> dict[str, Any]:
    """Return the output schema of a tool: the keys that matter of its replies, with their types."""
    known = result.model_json_schema(mode="serialization")["properties"] | {"counts": {"type": "object"}}
    types = _OF_REPLIES | {name: known[name]["type"] for name in result.LISTED}
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in types.items()}}


def shortened(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an input schema without titles, and without the `null` that an argument that is left out stands for.

    The server takes null all the same.
    """
    properties = {name: _shortened(each) for name, each in schema["properties"].items()}
    return {name: value for name, value in schema.items() if name != "title"} | {"properties": properties}


def _shortened(argument: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in argument.items() if name not in {"title", "anyOf"}}
    kinds = [kind for kind in argument.get("anyOf", ()) if kind != {"type": "null"}]
    for kind in kinds:
        kept |= kind
    if kept.get("default", ...) is None:
        del kept["default"]
    return kept
