"""The program that renders a template that somebody else wrote: bounded in memory, time and output, without a network.

It reads the template's name, the folders that it is looked up in, the values and the limits as JSON from its stdin, and
writes the texts, or what is wrong, as JSON into its working directory. What it prints is nobody's.
"""

import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any


def _limit(megabytes: int, seconds: int) -> None:
    """Set the bounds; where the system has one of them not, or a lower one, it is left as it is."""
    memory = megabytes * 1_000_000
    # RLIMIT_DATA counts what is written to; RLIMIT_AS counts libraries too, and so needs room for them
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
    """Render what stdin says."""
    given = json.load(sys.stdin)
    sys.path[:] = given["path"]
    from scaffold_torchtune.system.templating import RESULT  # before the bounds: what we load is not the template's

    _limit(*given["limits"])
    Path(RESULT).write_text(json.dumps(_rendered(given)), encoding="ascii")


if __name__ == "__main__":
    main()
