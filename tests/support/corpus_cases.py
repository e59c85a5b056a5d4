"""The cases of the corpus: their documents, and the plan of each."""

import posixpath
from pathlib import Path
from typing import Literal

from scaffold_torchtune.models import Options, Plan
from scaffold_torchtune.parse import parse_experiment
from scaffold_torchtune.plan import make_plan
from scaffold_torchtune.plan.run_settings import PlanContext
from support.documents import LOCAL, SUMMARY

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
HERE = "/experiments/sweep"
CASES = sorted({p.name.split(".")[0] for p in CORPUS.iterdir() if not p.name.startswith(("_", "."))})


def text_of(name: str) -> str | None:
    """Return the text of a document of the corpus from the product's own reader of files, if it exists."""
    path = CORPUS / name
    return path.read_bytes().decode("utf-8-sig") if path.exists() else None


def documents_of(case: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return name and text of a case's summary and of its claude.local.md, or of the default ones."""
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
    """Return the plan of two documents, with the pipeline's names for runs."""
    experiment = parse_experiment(summary, local, is_here)
    names: Literal["varying", "table"] = "table" if experiment.form == "yaml" else "varying"
    return make_plan(experiment, Options(names=names), PlanContext(HERE, "/experiments", "/templates", lambda _: True))
