"""The schemas that the server lists: as short as they can be, since every conversation pays for them.

The output schemas name the keys at the top of each reply. None of them is required: a refusal has `error` instead, and
clients of the TypeScript SDK hold error results to the output schema too.
"""

from typing import Any, Final

_TYPES: Final[dict[str, str]] = {
    "outcome": "string",
    "next": "object",
    "error": "object",
    "counts": "object",
    "runs": "array",
    "warnings": "array",
    "findings": "array",
    "excluded": "array",
    "passed": "boolean",
    "checked": "integer",
    "planned": "integer",
    "created": "integer",
    "unchanged": "integer",
    "processed": "integer",
    "succeeded": "integer",
    "failed": "integer",
    "varying": "array",
    "common": "object",
    "defaults": "object",
    "config": "object",
    "environment": "object",
    "submit": "string",
    "logged": "array",
    "left_out": "object",
}
_ALWAYS: Final = ("outcome", "next", "error")
_OF: Final[dict[str, tuple[str, ...]]] = {
    "parse_summary": ("counts", "runs", "config", "environment", "warnings"),
    "plan_runs": ("counts", "runs", "varying", "common", "defaults", "excluded", "warnings"),
    "render_yaml": ("created", "unchanged", "runs", "warnings"),
    "run_setup": ("processed", "succeeded", "failed", "runs", "warnings"),
    "validate": ("passed", "checked", "planned", "runs", "findings", "submit"),
}


def output(tool: str) -> dict[str, Any]:
    """The output schema of a tool: the keys that matter of its replies, with their types."""
    properties = {name: {"type": _TYPES[name]} for name in (*_ALWAYS, *_OF[tool])}
    return {"type": "object", "properties": properties}


def shortened(schema: dict[str, Any]) -> dict[str, Any]:
    """An input schema without titles, and without the `null` that an argument that is left out stands for.

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
