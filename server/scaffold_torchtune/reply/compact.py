"""From the models that steps return to plain data that repeats nothing and leaves out what says nothing."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models.results import (
    ParseResult,
    PlanResult,
    RenderResult,
    ScaffoldResult,
    SetupResult,
    SetupRun,
    ValidateResult,
)

_LONGEST_SUBMIT = 700
_SUBMIT_IN_LOG = "it is long: the last line that grep 'Submit with:' scaffold.log prints"
_WARNING = Severity.WARNING  # which is counted where there is none, too


def plain(model: BaseModel) -> dict[str, Any]:
    """A model as plain data under the names that others rely on."""
    return model.model_dump(mode="json", by_alias=True)


def parts(result: ScaffoldResult) -> dict[str, BaseModel]:
    """The results of the steps that a scaffold is made of, by their names."""
    return {
        "parse": result.parse,
        "plan": result.plan,
        "render": result.render,
        "setup": result.setup,
        "validate": result.validation,
    }


def compact(result: BaseModel) -> dict[str, Any]:
    """A step's result as plain data, with counts. Findings stand whole; a run's keys that say nothing are left out."""
    match result:
        case ParseResult():
            return _parse(result)
        case PlanResult():
            return _plan(result)
        case RenderResult():
            return {"counts": _counts(result.warnings), **_without(result, "plan_warnings")}
        case SetupResult():
            runs = [_setup_run(run) for run in result.runs]
            return {"counts": _counts(result.warnings), **_without(result, "runs"), "runs": runs}
        case ValidateResult():
            return _validate(result)
        case ScaffoldResult():
            return {name: getattr(result, name) for name in ("ok", "unchanged", "log", "submit")}
        case _:
            return plain(result)


def _without(result: BaseModel, *names: str) -> dict[str, Any]:
    """A model as plain data, without some keys and without what guides, which every reply has."""
    return result.model_dump(mode="json", by_alias=True, exclude={"logged", *names})


def _counts(found: Iterable[Finding]) -> dict[str, int]:
    """How many findings there are of each severity; nothing of errors and information where there are none."""
    severities = [each.severity for each in found]
    names = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.INFO: "infos"}
    return {name: severities.count(severity) for severity, name in names.items() if severity in {*severities, _WARNING}}


def _parse(result: ParseResult) -> dict[str, Any]:
    types = [run.type for run in result.runs]
    rows = {"runs": len(types)} | dict(Counter(types))
    data = _without(result)
    for name in ("template", "answers"):
        if not data[name]:
            del data[name]
    sources = [(name.removeprefix("config.").removeprefix("environment."), at) for name, at in result.sources.items()]
    return {"counts": rows | _counts(result.warnings), **data, "sources": _by_file(sources)}


def _plan(result: PlanResult) -> dict[str, Any]:
    counts = {"runs": len(result.runs), "excluded": len(result.excluded)}
    chosen = [setting for setting in result.common if setting.name not in result.defaults]
    data = _without(result, "runs", "common")
    own = {name: source for run in result.runs for name, source in run.sources.items()}
    return {
        "counts": counts | _counts(result.warnings),
        **{name: value for name, value in data.items() if value or name not in {"legend", "answers"}},
        "runs": [
            run.model_dump(mode="json", exclude={"sources"} if run.derived else {"sources", "derived"})
            for run in result.runs
        ],
        "common": {setting.name: setting.value for setting in chosen},
        "sources": _by_file((setting.name, setting.source) for setting in chosen),
        "rules": {name: source for name, source in own.items() if _place(source) is None},
    }


def _setup_run(run: SetupRun) -> dict[str, Any]:
    data = plain(run)
    kept = {"directory", "ok", "reason"}
    return {name: value for name, value in data.items() if name in kept or value not in ("", None, False)}


def _validate(result: ValidateResult) -> dict[str, Any]:
    counts = {"failed": sum(not run.passed for run in result.runs)}
    submit = result.submit if len(result.submit) <= _LONGEST_SUBMIT else _SUBMIT_IN_LOG
    return {"counts": counts | _counts(result.all_findings()), **_without(result), "submit": submit}


def _by_file(sources: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Lines by document and field, of what stands in a document."""
    found: dict[str, dict[str, int]] = {}
    for name, source in sources:
        place = _place(source)
        if place is not None:
            found.setdefault(place[0], {})[name] = place[1]
    return found


def _place(source: str) -> tuple[str, int] | None:
    """The document and line of a source, as `Source` tells it: `experiment_summary.md:24 (LoRA Rank)`."""
    document, _, line = source.partition(" (")[0].rpartition(":")
    return (document, int(line)) if document and line.isdigit() else None
