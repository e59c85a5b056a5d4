"""The program that renders a user's template: with bounded memory, time and output, without a network.

It reads the template's name, its folders, the values and the limits as JSON from its stdin, and writes the texts, or
the problem, as JSON into its working directory. Other output is ignored.
"""

import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any


def _limit(megabytes: int, seconds: int) -> None:
    """Set the limits; unsupported and already lower ones are unchanged."""
    memory = megabytes * 1_000_000
    # RLIMIT_DATA counts written memory; RLIMIT_AS also counts libraries, and so needs room for them
    bounds = {"RLIMIT_DATA": memory, "RLIMIT_AS": memory + 600_000_000, "RLIMIT_CPU": seconds, "RLIMIT_CORE": 0}
    for name, most in bounds.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (bound, bound))


def _rendered(given: dict[str, Any]) -> dict[str, Any]:
    """Return the texts, or the first problem."""
    from scaffold_torchtune.system.templating import TemplateProblem, render

    folders = [Path(folder) for folder in given["folders"]]
    texts: list[str] = []
    for values in given["each"]:
        try:
            texts.append(render(given["name"], values, folders))
        except TemplateProblem as problem:
            return {"problem": problem.message, "line": problem.line, "number": len(texts)}
    return {"texts": texts}


def main() -> None:
    """Render the template that stdin names."""
    given = json.load(sys.stdin)
    sys.path[:] = given["path"]
    from scaffold_torchtune.system.templating import (
        RESULT,
    )  # before the limits: our own modules do not count for the template

    _limit(*given["limits"])
    Path(RESULT).write_text(json.dumps(_rendered(given)), encoding="ascii")


if __name__ == "__main__":
    main()
