"""The corpus of documents, each with its expected plan or refusal in full.

`UPDATE_CORPUS=1 pytest tests/parse/test_corpus.py` regenerates the expected files: review the diff before you commit
it.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import pytest

from scaffold_torchtune.findings import Finding, Refused
from scaffold_torchtune.models import Setting
from support.corpus_cases import CASES, CORPUS, documents_of, plan_of

UPDATE = bool(os.environ.get("UPDATE_CORPUS"))


def _found(findings: Sequence[Finding]) -> list[list[str | None]]:
    return [[f.code, f.location(), f.field] for f in findings]


def _settings(settings: dict[str, Setting]) -> dict[str, list[Any]]:
    return {name: [s.value, f"{s.source.kind}: {s.source}"] for name, s in settings.items()}


def outcome(case: str) -> dict[str, Any]:
    """Return the complete outcome of a case, with the settings that all runs share listed once."""
    try:
        plan = plan_of(*documents_of(case))
    except Refused as refused:
        return {"refused": _found(refused.problems)}
    settings = [_settings(run.settings) for run in plan.runs]
    shared = {k: v for k, v in settings[0].items() if all(_same(own.get(k), v) for own in settings)}
    return {
        "experiment": plan.experiment,
        "varying": plan.varying,
        "pattern": plan.pattern,
        "legend": plan.legend,
        "excluded": {row.name: row.reason for row in plan.excluded},
        "warnings": _found(plan.warnings),
        "shared": shared,
        "runs": {
            run.directory: {
                "name": run.name,
                "parameters": run.parameters,
                "settings": {k: v for k, v in own.items() if k not in shared},
            }
            for run, own in zip(plan.runs, settings, strict=True)
        },
    }


def _same(one: object, other: object) -> bool:
    return json.dumps(one) == json.dumps(other)  # 1, 1.0 and true differ


def written(value: Any, indent: str = "") -> str:
    """Format JSON with one setting per line; a list within a list or mapping stays on one line."""
    inner = indent + " "
    if isinstance(value, dict) and value and (len(indent) < 3 or any(isinstance(v, dict) for v in value.values())):
        parts = [f"{json.dumps(k, ensure_ascii=False)}: {written(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, list) for item in value):
        return "[\n" + ",\n".join(inner + written(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("case", CASES)
def test_a_document_of_the_corpus_gives_the_expected_outcome(case: str) -> None:
    expected = CORPUS / f"{case}.expected.json"
    found = written(outcome(case)) + "\n"
    assert json.loads(found)
    if UPDATE:
        expected.write_text(found)
    assert found == expected.read_text()


def test_every_expected_outcome_has_a_document() -> None:
    for case in CASES:
        names = [f"{case}.md", f"{case}.yaml", f"{case}.local.md"]
        assert any((CORPUS / name).exists() for name in names), case
    assert len(CASES) > 45


@pytest.mark.parametrize("case", ["seven_mistakes", "yaml_seven_mistakes"])
def test_a_summary_with_seven_mistakes_gets_one_refusal_that_lists_seven_places(case: str) -> None:
    with pytest.raises(Refused) as refused:
        plan_of(*documents_of(case))
    places = [problem.location() for problem in refused.value.problems]
    assert len(places) == len(set(places)) == 7
    assert places == sorted(places, key=lambda place: int(place.rpartition(":")[2]))
