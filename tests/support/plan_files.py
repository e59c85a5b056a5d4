"""Change .scaffold/plan.json with the knowledge that its id is the hash of its content."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def with_its_id(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a plan with the SHA-256 of everything except its id and its warnings."""
    counted = {name: part for name, part in content.items() if name not in {"id", "warnings"}}
    return content | {"id": hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()}


def plan_of(experiment: Path) -> dict[str, Any]:
    """Return the present plan."""
    content: dict[str, Any] = json.loads((experiment / ".scaffold" / "plan.json").read_text())
    return content


def write_plan(experiment: Path, content: dict[str, Any]) -> None:
    """Write a plan with its id."""
    (experiment / ".scaffold" / "plan.json").write_text(json.dumps(with_its_id(content), indent=1) + "\n")


def change_plan(experiment: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the present plan and its id."""
    content = plan_of(experiment)
    edit(content)
    write_plan(experiment, content)
