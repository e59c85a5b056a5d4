"""Rendering of Jinja2 templates: StrictUndefined, filters for YAML and one for the shell.

Bundled templates are rendered in this process. A user's template is rendered by `PROGRAM`, in a separate process with
limits of memory, time and output: a single expression, `{{ 'x' * 10**10 }}` or `{{ 9**9**9 }}`, can use any amount of
both in one call that this process could not interrupt.
"""

import contextlib
import functools
import json
import resource
import shlex
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import jinja2
import jinja2.sandbox

from scaffold_torchtune.findings import LineError, one_line
from scaffold_torchtune.system import processes
from scaffold_torchtune.system.files import read_regular
from scaffold_torchtune.system.layout import TEMPLATES
from scaffold_torchtune.system.serialization import read_json, yaml_scalar

MAX_TEMPLATE: Final = 1_000_000
"""Bytes of a template, and of its rendered text."""

PROGRAM: Final = """
import json, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]
from scaffold_torchtune.system.templating import render_given
render_given(given)
"""
"""The program that renders a user's template. It reads from its stdin what `render_given` takes."""

_RESULT: Final = "result.json"
"""The file that the program writes, in its working directory."""


class Limits(NamedTuple):
    """Limits for users' templates, for all runs together: `megabytes` of memory, `seconds` of processor time."""

    megabytes: int = 200
    seconds: int = 10


_PATIENCE: Final = 6  # on a busy machine: the deadline in multiples of the processor time
_MAX_RESULT: Final = 200_000_000


class TemplateProblem(LineError):
    """The template is missing, malformed, exceeds a limit, or uses an undefined value.

    `number` is the index of the values with which it was rendered.
    """

    number = 0


class TemplateStopped(Exception):
    """The caller no longer wants the texts."""


def _yaml(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        return str(value)  # whose text names the undefined value
    if not isinstance(value, bool | int | float | str | list | None):
        raise TypeError(f"the filter yaml accepts one value or a list (found {type(value).__name__})")
    return yaml_scalar(value)


def _entries(values: Mapping[str, Any], names: Iterable[str], indent: str = "") -> str:
    """Return the lines of the given keys that exist, with everything below them."""
    lines = []
    for name in names:
        if isinstance(values.get(name), Mapping):
            lines.append(f"{indent}{name}:\n{_entries(values[name], values[name], indent + '  ')}")
        elif name in values:
            lines.append(f"{indent}{name}: {_yaml(values[name])}\n")
    return "".join(lines)


@functools.lru_cache(maxsize=8)
def environment(folders: tuple[Path, ...]) -> jinja2.Environment:
    """Return the environment for some folders; it caches compiled templates, and detects changed files."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        loader=jinja2.FunctionLoader(functools.partial(_load, folders)),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # the output is YAML or shell; values pass the filters below
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"yaml": _yaml, "entries": _entries, "sh": shlex.quote}
    return made


def _load(folders: Sequence[Path], name: str) -> tuple[str, str, None] | None:
    """Return the source of a template and its path, from the first folder that has it."""
    parts = jinja2.loaders.split_template_path(name)
    for path in (folder.joinpath(*parts) for folder in folders):
        try:
            return read_regular(path, MAX_TEMPLATE).decode(), str(path), None
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise TemplateProblem(f"the template {name} cannot be read: {error.strerror}") from error
    return None


def render(name: str, values: Mapping[str, Any], folders: Sequence[Path] = (TEMPLATES,)) -> str:
    """Render the template `name` from the first of `folders` with it; in this process, without limits.

    Every value must pass the filter `yaml` (one YAML scalar or list, see `yaml_scalar`) or `sh` (one shell word).

    Raises:
        TemplateProblem: the template is missing, malformed, or uses an undefined value.
    """
    try:
        return _bounded(environment(tuple(folders)).get_template(name).generate(values))
    except TemplateProblem:
        raise
    except jinja2.TemplateNotFound as error:
        is_included = error.name != name
        missing = f"it includes {str(error.name)!r}, which was not found" if is_included else "it was not found"
        raise TemplateProblem(missing) from error
    except jinja2.TemplateSyntaxError as error:
        raise TemplateProblem(str(error.message), error.lineno) from error
    except (
        RecursionError,
        SyntaxError,
    ) as error:  # the latter is from Python, which compiles Jinja2's code of the template
        raise TemplateProblem("it is nested too deeply, or it endlessly includes or extends itself") from error
    except MemoryError as error:
        raise TemplateProblem("it needs more memory than a template may use") from error
    except Exception as error:  # any exception of an expression in it
        raise TemplateProblem(str(error) or type(error).__name__) from error


def _visible(value: Any) -> Any:
    return one_line(value) if type(value) is str else value  # HTML that is already escaped has its own class


@functools.cache
def _pages() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(functools.partial(_load, (TEMPLATES,))),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_page(name: str, values: Mapping[str, Any]) -> str:
    """Render a bundled HTML template: every value becomes escaped text on one line."""
    return _pages().get_template(name).render(values)


def shipped_text(name: str) -> str:
    """Return a text from the directory of the templates, unchanged."""
    return read_regular(TEMPLATES / name, MAX_TEMPLATE).decode()


def _bounded(pieces: Iterable[str]) -> str:
    """Return the joined pieces of a text, if it is not larger than the limit of readers."""
    texts: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_TEMPLATE:
            raise TemplateProblem(f"it generates more than {MAX_TEMPLATE} characters")
        texts.append(piece)
    return "".join(texts)


def render_each(
    name: str,
    each: Sequence[Mapping[str, Any]],
    folders: Sequence[Path],
    stop: threading.Event | None = None,
    limits: Limits | None = None,
) -> list[str]:
    """Render the template `name` with each of several values, as `render` does; a user's template with `limits`.

    Raises:
        TemplateProblem: as `render`; or the template exceeds a limit.
        TemplateStopped: `stop` was set.
    """
    if tuple(folders) == (TEMPLATES,):
        return [_numbered(number, name, values, folders) for number, values in enumerate(each)]
    limits = limits or Limits()
    given = {"path": sys.path, "name": name, "each": each, "folders": list(map(str, folders)), "limits": limits}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PROGRAM]
        deadline = _PATIENCE * limits.seconds
        try:
            done = processes.run(command, Path(folder), deadline, stop, given=json.dumps(given).encode())
        except OSError as error:
            raise TemplateProblem(f"cannot start Python to render it: {error.strerror}") from error
        try:
            result = read_json(read_regular(Path(folder, _RESULT), _MAX_RESULT), _MAX_RESULT)
        except (OSError, ValueError):
            result = {}
    if done.ended == "stopped":
        raise TemplateStopped
    if "problem" in result:
        problem = TemplateProblem(result["problem"], result["line"])
        problem.number = result["number"]
        raise problem
    texts = result.get("texts")
    if not isinstance(texts, list) or len(texts) != len(each):
        # ended by the kernel, or by this process
        bounds = f"{limits.seconds} s of processor time or {limits.megabytes} MB of memory"
        raise TemplateProblem(f"rendering it takes more than {bounds}")
    return texts


def _numbered(number: int, name: str, values: Mapping[str, Any], folders: Sequence[Path]) -> str:
    try:
        return render(name, values, folders)
    except TemplateProblem as problem:
        problem.number = number
        raise


def render_given(given: Mapping[str, Any]) -> None:
    """Render a user's template in the program of its own, and write the texts, or the first problem, as JSON.

    Args:
        given: the template's `name`, its `folders`, the values of `each` text, and the `limits`.
    """
    _set_limits(*given["limits"])  # our own modules, imported before, do not count for the template
    Path(_RESULT).write_text(json.dumps(_texts_or_problem(given)), encoding="ascii")


def _set_limits(megabytes: int, seconds: int) -> None:
    """Set the limits of this process; unsupported and already lower ones are unchanged."""
    memory = megabytes * 1_000_000
    # RLIMIT_DATA counts written memory; RLIMIT_AS also counts libraries, and so needs room for them
    bounds = {"RLIMIT_DATA": memory, "RLIMIT_AS": memory + 600_000_000, "RLIMIT_CPU": seconds, "RLIMIT_CORE": 0}
    for name, most in bounds.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (bound, bound))


def _texts_or_problem(given: Mapping[str, Any]) -> dict[str, Any]:
    folders = [Path(folder) for folder in given["folders"]]
    texts: list[str] = []
    for values in given["each"]:
        try:
            texts.append(render(given["name"], values, folders))
        except TemplateProblem as problem:
            return {"problem": problem.message, "line": problem.line, "number": len(texts)}
    return {"texts": texts}
