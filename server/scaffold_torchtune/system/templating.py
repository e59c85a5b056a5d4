"""Rendering Jinja2 templates: StrictUndefined, filters for YAML and one for the shell."""

import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from scaffold_torchtune.system import yamlio
from scaffold_torchtune.system.text import LineError


class TemplateProblem(LineError):
    """The template is missing, malformed, or uses a value that is not given."""


def _yaml(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        return str(value)  # which says what is not given
    if not isinstance(value, bool | int | float | str | list | None):
        raise TypeError(f"the filter yaml takes one value or a list, not a {type(value).__name__}")
    return yamlio.scalar(value)


def _entries(values: Mapping[str, Any], names: Iterable[str], indent: str = "") -> str:
    """Return the lines of those keys that there are, with everything below them."""
    lines = []
    for name in names:
        if isinstance(values.get(name), Mapping):
            lines.append(f"{indent}{name}:\n{_entries(values[name], values[name], indent + '  ')}")
        elif name in values:
            lines.append(f"{indent}{name}: {_yaml(values[name])}\n")
    return "".join(lines)


@functools.lru_cache(maxsize=8)
def _environment(folders: tuple[Path, ...]) -> jinja2.Environment:
    """Return the environment for some folders; it keeps compiled templates, and notices when a file changes."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # the output is YAML or shell; values pass the filters below
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"yaml": _yaml, "entries": _entries, "sh": shlex.quote}
    return environment


def render(name: str, values: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """Render the template `name`, looked up in `folders` in order, with `values`.

    Every value must pass the filter `yaml` (one YAML scalar or list, see `yamlio.scalar`) or `sh` (one shell word).

    Raises:
        TemplateProblem: the template is missing, malformed, or uses a value that is not given.
    """
    try:
        return _environment(tuple(folders)).get_template(name).render(values)
    except jinja2.TemplateNotFound as error:
        raise TemplateProblem(f"the template {error.name} is not there") from error
    except jinja2.TemplateSyntaxError as error:
        raise TemplateProblem(str(error.message), error.lineno) from error
    except RecursionError as error:
        raise TemplateProblem("it includes or extends itself without end") from error
    except (jinja2.TemplateError, ValueError, TypeError, ArithmeticError, LookupError, OSError) as error:
        raise TemplateProblem(str(error)) from error
