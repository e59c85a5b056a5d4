"""The cause of a failed setup script, from what it printed, and what to do."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from scaffold_torchtune.system.files import is_directory, is_file, read_regular
from scaffold_torchtune.system.processes import Environment
from scaffold_torchtune.system.text import escape, shown


class Cause(NamedTuple):
    """What likely caused a failure, and the next step; both empty where nothing is known of it."""

    cause: str = ""
    fix: str = ""


_LACKS: Final = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_TRACEBACK: Final = "Traceback (most recent call last):"
_DOTTED: Final = re.compile(r"[A-Za-z_][\w.]*")
_OF_EXCEPTIONS: Final = ("Error", "Exception", "Interrupt", "Exit", "Warning")
_RAISED: Final = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception): ")
_ARGPARSE: Final = re.compile(r"^\S.*: error: ")
_LONGEST: Final = 500


def lack_of(output: str, script: Path, environment: Environment) -> Cause | None:
    """Return which package `script`, run in `environment`, says it lacks, and what to do; None where it lacks none."""
    found = _LACKS.findall(output)
    if not found:
        return None
    package = str(found[-1]).partition(".")[0]
    if not environment.name:
        activate = f" ({environment.commands})" if environment.commands else ""
        fix = f"activate the environment that has it{activate}, or leave out --no-activate"
        return Cause(f"the environment that is active has no package {shown(package)}", fix)
    above = (folder for folder in script.parents[:6] if folder != Path.home())
    home = next((f for f in above if is_file(f / "pyproject.toml") or is_file(f / "setup.py")), None)
    what = f"-e {home}" if home and _belongs(package, home) else package
    fix = f"install it there: {escape(environment.python, 500)} -m pip install {what}"
    return Cause(f"{environment.name} has no package {shown(package)}", fix)


def _belongs(package: str, home: Path) -> bool:
    """Return whether a checkout has the package: as a folder, by its own name, or in its pyproject.toml."""
    if home.name == package or any(is_directory(home / part / package) for part in ("", "src")):
        return True
    try:
        text = read_regular(home / "pyproject.toml").decode()
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(rf"\b{package}\b", text) is not None


def _names_exception(line: str) -> bool:
    """Return whether a line begins with the name of an exception, as the last line of a traceback does."""
    name = line.rstrip().partition(":")[0]
    is_class = any(map(str.isupper, name.rpartition(".")[2][1 if "." not in name else 0 :]))
    return bool(_DOTTED.fullmatch(name)) and (name.endswith(_OF_EXCEPTIONS) or is_class)


# The likely cause and the next step by what the error says. `{0}`, ... stand for the groups of the expression.
_KNOWN: Final = {
    r"KeyError: 'data_dir'": Cause(
        "this version of the script cannot make this kind of data set",
        "give dataset_type chat_completion or text_completion with JSON data, or use --setup-script bundled",
    ),
    r"KeyError: '(USER|HOME|LOGNAME)'|TypeError: .*NoneType": Cause(
        "the script reads an environment variable that is not set, mostly USER",
        "set it ('export USER=$(id -un)'), then scaffold again",
    ),
    r"FileNotFoundError: .*?No such file or directory: (.*)": Cause(
        "the script looks for {0}, which is not there",
        "correct the path in the documents, or make what is missing, then scaffold again",
    ),
    r"PermissionError: .*?: (.*)": Cause(
        "you may not read or write {0}", "ask for access, or correct the path, then scaffold again"
    ),
    r"No space left on device|Disk quota exceeded": Cause(
        "the file system or your quota is full", "make room, then scaffold again"
    ),
    r"MemoryError|Cannot allocate memory": Cause(
        "there was not enough memory", "run fewer scripts at a time (--jobs 1), or use a node with more memory"
    ),
    r"yaml\.\w+\.\w+Error|ScannerError|ParserError|ConstructorError": Cause(
        "the script could not read its setup_finetune.yaml",
        "look at the line that it names; a template of your own may render it so",
    ),
    r"error: unrecognized arguments|error: argument|error: the following arguments are required": Cause(
        "the script does not take what it was given",
        "name the version of setup_finetune.py that the plan was made with, then render again",
    ),
    r"SyntaxError|IndentationError": Cause(
        "the script is not written for the Python that runs it, or is damaged",
        "activate the environment that it needs, or restore the script",
    ),
    r"UnicodeEncodeError|UnicodeDecodeError": Cause(
        "the locale of this shell cannot write or read a character of the run's texts",
        "set a UTF-8 locale ('export LANG=C.UTF-8 PYTHONUTF8=1'), then scaffold again",
    ),
    r"BlockingIOError|Resource temporarily unavailable|can't start new thread": Cause(
        "this node does not allow you more processes", "run fewer scripts at a time (--jobs 1)"
    ),
    r"ValueError: Unknown model: (.*)": Cause(
        "this version of the script does not know the model {0}",
        "name a newer setup_finetune.py, or use --setup-script bundled",
    ),
}


def line_that_matters(output: str) -> str:
    """Return the line of an output that says what went wrong, escaped; empty where it says nothing.

    Of a traceback that is the exception, whatever was printed after it; of argparse its error; else the last line.
    """
    lines = output.splitlines()
    found = _exception(lines) or next((line for line in reversed(lines) if _ARGPARSE.match(line)), "")
    found = found or next((line for line in reversed(lines) if line.strip() not in {"", _TRACEBACK}), "")
    return escape(found.strip(), _LONGEST)


def _exception(lines: list[str]) -> str:
    """Return the exception of the last traceback.

    A script that prints the heading to another stream than the rest has it at another place, as streams are buffered:
    where nothing stands below it, the last exception of all is taken.
    """
    start = max((n for n, line in enumerate(lines) if line.strip() == _TRACEBACK), default=None)
    if start is None:
        return ""
    indent = len(lines[start]) - len(lines[start].lstrip())
    below = (line[indent:] for line in lines[start + 1 :] if len(line) - len(line.lstrip()) <= indent)
    found = next((line for line in below if _names_exception(line)), "")
    return found or next((line for line in reversed(lines) if _RAISED.match(line)), "")


def cause_of(line: str, status: int) -> Cause:
    """Return what likely caused a script's end with `status`, by the line that matters."""
    for pattern, known in _KNOWN.items():
        if match := re.search(pattern, line):
            groups = [group or "" for group in match.groups()]
            return Cause(known.cause.format(*groups), known.fix)
    if status == -9:  # noqa: PLR2004 - SIGKILL, which we did not send
        return Cause(
            "the system ended it: mostly for the memory that it took",
            "run fewer scripts at a time (--jobs 1), or use a node with more memory",
        )
    if status < 0:
        return Cause(f"signal {-status} ended it", "look at its whole output")
    return Cause()
