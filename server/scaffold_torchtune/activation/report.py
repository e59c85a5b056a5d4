"""Reads what program.sh tells: the environment that it activated, or why there is none."""

import os
from dataclasses import dataclass
from typing import Final, Literal, get_args

FaultKind = Literal["modules", "module", "conda", "environment", "venv", "shell"]
"""What went wrong: no `module` command, a module, no conda, a conda environment, a virtual one, the shell itself."""

_OF_THE_SHELL: Final = frozenset({"PWD", "OLDPWD", "SHLVL", "_"})


@dataclass(frozen=True)
class Fault:
    """Why nothing was activated.

    `what` is the module or environment. `said` is what the failing command printed. `there` is what there is instead,
    as `module avail` or `conda env list` print it. `at` is the command that was at work.
    """

    kind: FaultKind
    what: str = ""
    said: str = ""
    there: str = ""
    at: str = ""


def read(report: bytes, mark: str) -> dict[str, str] | Fault:
    """The variables of the environment that program.sh activated, or its fault.

    Of kind `shell` where the report stops midway. What a shell sets for itself is left out.
    """
    texts = report.split(b"\0")
    end = mark.encode()
    if texts.count(end) == 2:  # noqa: PLR2004 - before the variables and after them
        first = texts.index(end)
        pairs = [text.partition(b"=") for text in texts[first + 1 : texts.index(end, first + 1)]]
        variables = {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}
        return {name: value for name, value in variables.items() if name not in _OF_THE_SHELL}
    words = [text.decode("utf-8", "replace") for text in texts]
    told = dict(zip(words[::2], words[1::2], strict=False))
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    kind = next((kind for kind in kinds if kind == told.get("fault")), kinds[-1])
    return Fault(kind, **{name: told.get(name, "") for name in ("what", "said", "there", "at")})
