"""The corpus of documents, each with its whole plan or refusal beside it.

`UPDATE_CORPUS=1 pytest tests/test_corpus.py` writes what is expected anew: read every difference before you commit it.
"""

import json
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from documents import LOCAL, SUMMARY
from scaffold_torchtune.errors import Finding, Refused
from scaffold_torchtune.models.base import Setting
from scaffold_torchtune.models.plan import Options, Plan
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.plan import Place, make_plan

CORPUS = Path(__file__).parent / "corpus"
HERE = "/experiments/sweep"
UPDATE = bool(os.environ.get("UPDATE_CORPUS"))
CASES = sorted({p.name.split(".")[0] for p in CORPUS.iterdir() if not p.name.startswith(("_", "."))})


def text_of(name: str) -> str | None:
    """The text of a document of the corpus as the product's own reader of files hands it on, if it is there."""
    path = CORPUS / name
    return path.read_bytes().decode("utf-8-sig") if path.exists() else None


def documents_of(case: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Name and text of a case's summary and of its claude.local.md; a default one stands in for what it lacks."""
    markdown, yaml = text_of(f"{case}.md"), text_of(f"{case}.yaml")
    assert markdown is None or yaml is None, case
    summary = (SUMMARY, markdown or "") if yaml is None else (SUMMARY.replace(".md", ".yaml"), yaml)
    if markdown is None and yaml is None:
        summary = (SUMMARY, text_of("_default.md") or "")
    own = text_of(f"{case}.local.md")
    return summary, (LOCAL, own if own is not None else text_of("_default.local.md") or "")


def is_here(path: str) -> bool:
    return posixpath.normpath(posixpath.join(HERE, path)) == HERE


def plan_of(summary: tuple[str, str], local: tuple[str, str]) -> Plan:
    """The plan of two documents, named as the pipeline would name its runs."""
    experiment = parse_experiment(summary, local, is_here)
    names: Literal["varying", "table"] = "table" if experiment.form == "yaml" else "varying"
    return make_plan(experiment, Options(names=names), Place(HERE, "/experiments", "/templates", lambda _: True))


def _found(findings: Sequence[Finding]) -> list[list[str | None]]:
    return [[f.code, f.place(), f.field] for f in findings]


def _settings(settings: dict[str, Setting]) -> dict[str, list[Any]]:
    return {name: [s.value, f"{s.source.kind}: {s.source}"] for name, s in settings.items()}


def outcome(case: str) -> dict[str, Any]:
    """What becomes of a case, whole: what all runs share stands once, apart from what each has of its own."""
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
    """JSON with one line a setting: a list within a list or mapping is not broken up."""
    inner = indent + " "
    if isinstance(value, dict) and value and (len(indent) < 3 or any(isinstance(v, dict) for v in value.values())):
        parts = [f"{json.dumps(k, ensure_ascii=False)}: {written(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, list) for item in value):
        return "[\n" + ",\n".join(inner + written(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("case", CASES)
def test_a_document_of_the_corpus_gives_what_is_expected_of_it(case: str) -> None:
    expected = CORPUS / f"{case}.expected.json"
    found = written(outcome(case)) + "\n"
    assert json.loads(found)
    if UPDATE:
        expected.write_text(found)
    assert found == expected.read_text()


def test_nothing_is_expected_of_a_document_that_is_not_there() -> None:
    for case in CASES:
        names = [f"{case}.md", f"{case}.yaml", f"{case}.local.md"]
        assert any((CORPUS / name).exists() for name in names), case
    assert len(CASES) > 45


@pytest.mark.parametrize("case", ["seven_mistakes", "yaml_seven_mistakes"])
def test_a_summary_with_seven_mistakes_gets_one_answer_that_names_seven_places(case: str) -> None:
    with pytest.raises(Refused) as refused:
        plan_of(*documents_of(case))
    places = [problem.place() for problem in refused.value.problems]
    assert len(places) == 7
    assert places == sorted(places, key=lambda place: int(place.rpartition(":")[2]))
