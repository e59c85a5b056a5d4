"""Print what options a script has: run it up to where it reads its arguments. A program, run by its path.

    python options_program.py MARK SCRIPT

It answers with one line of JSON after the mark: `{OPTION: {"default": VALUE, "required": BOOL, "choices": [TEXT]}}`.
Where the script never asks argparse, it answers nothing.
"""

import argparse
import json
import os
import runpy
import sys
from typing import Any, Dict, NoReturn  # noqa: UP035 - clusters have older Pythons than ours


def plain(value: Any) -> Any:
    """The value where JSON has it as one, else None."""
    return value if type(value) in (bool, int, float, str) else None


def answer(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
    """Answer in the place of reading the arguments."""
    options: Dict[str, Any] = {}  # noqa: UP006
    for action in parser._actions:  # noqa: SLF001 - argparse has no other list of them
        if action.option_strings and action.dest not in ("help", "version"):
            choices = [str(choice) for choice in action.choices or ()]
            options[action.dest] = {"default": plain(action.default), "required": action.required, "choices": choices}
    sys.stdout.flush()
    os.write(1, f"\n{mark}{json.dumps(options)}\n".encode())
    os._exit(0)


mark, script = sys.argv[1:3]
argparse.ArgumentParser.parse_args = answer  # type: ignore[method-assign, assignment]
argparse.ArgumentParser.parse_known_args = answer  # type: ignore[method-assign, assignment]
sys.argv = [script, "--help"]
sys.path[0] = os.path.dirname(os.path.abspath(script))  # noqa: PTH100, PTH120 - as Python itself sets it
runpy.run_path(script, run_name="__main__")
