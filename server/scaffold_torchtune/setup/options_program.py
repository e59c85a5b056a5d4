"""Print the options of a script: run it until it parses its arguments. A program, run by its path.

    python options_program.py MARK SCRIPT

It prints one line of JSON after the mark: `{OPTION: {"default": VALUE, "required": BOOL, "choices": [TEXT]}}`.
If the script never calls argparse, it prints nothing.
"""

import argparse
import json
import os
import runpy
import sys
from typing import Any, Dict, NoReturn  # noqa: UP035 - clusters have older versions of Python


def plain(value: Any) -> Any:
    """Return the value if JSON can hold it as one value, else None."""
    return value if type(value) in (bool, int, float, str) else None


def answer(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
    """Print the options instead of parsing the arguments."""
    options: Dict[str, Any] = {}  # noqa: UP006
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
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
sys.path[0] = os.path.dirname(os.path.abspath(script))  # noqa: PTH100, PTH120 - as Python sets it
runpy.run_path(script, run_name="__main__")
