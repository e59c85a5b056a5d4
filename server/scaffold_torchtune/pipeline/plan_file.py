"""plan.json, read back: bounded, whole, and judged as strictly as a plan that is made.

Setup and validate work from the plan that render froze, and a file can be damaged, edited or come from elsewhere. So
its id must be the hash of its content, and what it holds must be what planning could have made.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from scaffold_torchtune.findings import Refused, Scalar
from scaffold_torchtune.models import Plan, PlannedRun, SourceKind
from scaffold_torchtune.plan.naming import check_names
from scaffold_torchtune.plan.planner import id_of
from scaffold_torchtune.settings.kinds import NotTyped, ValueKind
from scaffold_torchtune.settings.parameters import KEYS, Parameter
from scaffold_torchtune.setup.bundled import check_values
from scaffold_torchtune.setup.bundled.rules import REQUIRED
from scaffold_torchtune.system import layout
from scaffold_torchtune.system.files import MAX_READ
from scaffold_torchtune.system.json_stream import NotJson, read_json
from scaffold_torchtune.system.text import few, shown

MOST_RUNS: Final = 10_000
_LONGEST_INTEGER: Final = 18  # digits: no whole number of a plan is longer
_LONGEST_PATH: Final = 4_096
_SHOWN: Final = 3
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON has it; two backslashes are one of the text
_PATHS: Final[frozenset[ValueKind]] = frozenset({"path", "pattern_free_path"})
_NAMES: Final[frozenset[ValueKind]] = frozenset({"name", "label", "modules"})
"""The kinds of what is activated before the script runs: bare names, whoever gave them."""


class NotAPlan(ValueError):
    """The file does not hold a plan that planning could have made."""


def read_plan(data: bytes) -> Plan:
    """Return the plan in the bytes of plan.json. What was read before is not judged again.

    Raises:
        NotAPlan: it is damaged, was changed, or holds what is never planned.
    """
    judged = _judged(data)
    if isinstance(judged, str):
        raise NotAPlan(judged)
    return judged


@functools.lru_cache(maxsize=2)
def _judged(data: bytes) -> Plan | str:
    """Return the plan, or what is wrong with it."""
    try:
        return _read(data)
    except NotAPlan as error:
        return str(error)


def _read(data: bytes) -> Plan:
    content = _json(data)
    if content.get("id") != id_of(content):
        raise NotAPlan("its id is not that of its content: it was edited, or is damaged")
    runs = content.get("runs")
    if isinstance(runs, list) and len(runs) > MOST_RUNS:
        raise NotAPlan(f"it has {len(runs)} runs, more than {MOST_RUNS}")
    try:
        plan = Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise NotAPlan(f"{shown(place)} is not what a plan has there ({first['msg']})") from error
    if problems := [*_problems(plan)]:
        raise NotAPlan(few(problems, _SHOWN, between="; ", more="; and {} more"))
    return plan


def _json(data: bytes) -> dict[str, Any]:
    """Return a JSON object whose numbers are finite and whose texts any file can hold."""
    try:
        content = read_json(data, MAX_READ, parse_int=_integer, parse_float=_float, parse_constant=_no_number)
    except NotJson as error:
        raise NotAPlan(str(error)) from error
    if not isinstance(content, dict):
        raise NotAPlan("it is not a JSON object")
    if b"\\u" in data and not _is_text(json.dumps(content, ensure_ascii=False)):
        raise NotAPlan("it holds a character that no document can hold")
    return content


def _is_text(written: str) -> bool:
    """Return whether what was written as JSON has neither half a character nor a NUL."""
    try:
        written.encode()
    except UnicodeEncodeError:
        return False
    return _NUL.search(written) is None


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        _no_number(text[:_LONGEST_INTEGER] + "...")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise NotAPlan(f"it holds the number {text[:40]}, which no plan has")


def _problems(plan: Plan) -> Iterator[str]:
    """Yield what planning never makes."""
    names = [run.directory for run in plan.runs]
    if unknown := {one.directory for one in plan.kept} - {*names}:
        yield f"kept names {shown(min(unknown))}, which is not planned"
    if both := {run.directory for run in plan.former} & {*names}:
        yield f"former has {shown(min(both))}, which is planned"
    yield from (each.message for each in check_names(names, [run.line for run in plan.runs], layout.PLAN))
    for name, path in {
        "experiment_dir": plan.experiment_dir,
        "options.template": plan.options.template,
        "options.setup_script": None if plan.options.setup_script == "bundled" else plan.options.setup_script,
    }.items():
        if path is not None and not _is_path(path):
            yield f"{name} is {shown(path)}, which is no absolute path"
    if plan.options.template and Path(plan.options.template).name not in plan.inputs:
        yield f"the template {shown(plan.options.template)} is not among its inputs"
    if any(count < 0 for counts in plan.splits.values() for count in counts.values()):
        yield "splits has a negative number of samples"
    for run in plan.former:  # each by itself: over the weeks names may come that differ only in case from one of them
        yield from (each.message for each in check_names([run.directory], [run.line], layout.PLAN))
    is_bundled, kept = plan.options.setup_script == "bundled", {one.directory for one in plan.kept}
    for run in (*plan.runs, *plan.former):
        # what was planned before may have been planned for another script
        is_now = is_bundled and run.directory in names and run.directory not in kept
        for problem in (*_run_problems(run), *(_bundled_problems(run) if is_now else _external_problems(run))):
            yield f"{run.directory}: {problem}"


def is_sound(run: PlannedRun) -> bool:
    """Return whether a plan may hold a run that was planned before, of which only its files tell."""
    try:
        _json(json.dumps(run.model_dump(mode="json")).encode())
    except NotAPlan:
        return False
    names = check_names([run.directory], [run.line], "")
    return not names and next(itertools.chain(_run_problems(run), _external_problems(run)), None) is None


def _run_problems(run: PlannedRun) -> Iterator[str]:
    if not _is_path(run.data_path):
        yield f"data_path is {shown(run.data_path)}, which is no absolute path"
    if run.value("my_wandb_run_name") != run.directory:
        yield f"my_wandb_run_name is {shown(run.value('my_wandb_run_name'))}"
    for name in (*run.unwritten, *run.submitted):
        if name not in run.settings:
            yield f"{shown(name)} is not among its settings"
    if run.line < 0 or any((setting.source.line or 1) < 1 for setting in run.settings.values()):
        yield "a line number is below 1"


def _bundled_problems(run: PlannedRun) -> Iterator[str]:
    """Yield what the bundled setup_finetune would refuse."""
    try:
        check_values({name: setting.value for name, setting in run.settings.items()})
    except Refused as refused:
        yield from (problem.message for problem in refused.problems)


def _external_problems(run: PlannedRun) -> Iterator[str]:
    """Yield what no external script is given. What only that script knows can be anything plain."""
    for name in REQUIRED:
        if run.value(name) in {None, ""}:
            yield f"{name} is not there"
    for name, setting in run.settings.items():
        parameter, value = KEYS.get(name), setting.value
        if parameter is not None and value is not None and not _fits(parameter, value, setting.source.kind):
            yield f"{name} is {shown(value)}"


def _fits(parameter: Parameter, value: Scalar, source: SourceKind) -> bool:
    """Return whether a parameter may have a value. Texts that the script gave, or that are paths, may be more."""
    if parameter.kind == "bool":
        return isinstance(value, bool)
    if parameter.kind in {"int", "float"}:
        return _is_number(value, whole=parameter.kind == "int") and parameter.bounds.hold(float(str(value)))
    if not isinstance(value, str):
        return False
    if parameter.kind in _PATHS or parameter.scope == "experiment":
        return len(value) <= _LONGEST_PATH and value.isprintable()
    is_own = source is SourceKind.DEFAULT and parameter.kind not in _NAMES
    return not value or is_own or _reads(parameter, value)


def _is_number(value: Scalar, *, whole: bool) -> bool:
    return type(value) is int or (type(value) is float and not whole)


def _reads(parameter: Parameter, text: str) -> bool:
    try:
        parameter.read(text)
    except NotTyped:
        return False
    return True


def _is_path(path: str) -> bool:
    return path.startswith("/") and len(path) <= _LONGEST_PATH and path.isprintable()
