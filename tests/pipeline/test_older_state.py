"""Experiments that version 0.1.0 scaffolded before its state had what it has now: taken on as they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from support.experiments import ACTIONS, AGAIN, RUNS, actions, change, everything, outputs
from support.plan_files import plan_of, with_its_id
from support.scaffolding import codes, refusal, scaffold
from support.setup_scripts import MAKE, THREE, script
from support.setup_scripts import scaffold as scaffold_with

# What the state had then, written out: nothing here is taken from the models.
RECORD = ("directory", "setup_yaml", "backend", "failed", "outputs", "replaced", "sources")
PROGRESS = ("plan", "started", "status", "verdict", "unlogged")
PLAN = (
    "id", "version", "experiment", "experiment_dir", "options", "inputs", "varying", "pattern", "template", "legend",
    "runs", "excluded", "splits", "answers", "warnings",
)  # fmt: skip
RUN = (
    "directory", "name", "line", "model", "data_path", "parameters", "settings", "unwritten", "submitted", "generation",
)  # fmt: skip


def only(content: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those parts of what a state file holds; each must be there."""
    return {name: content[name] for name in names}


def write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def aged(experiment: Path) -> Path:
    """The experiment with its state as it was written then, also each record's earlier hashes."""
    state = experiment / ".scaffold"
    plan = only(plan_of(experiment), PLAN)
    plan["runs"] = [only(run, RUN) for run in plan["runs"]]
    write(state / "plan.json", with_its_id(plan))
    write(state / "progress.json", only(json.loads((state / "progress.json").read_text()), PROGRESS))
    for file in (state / "runs").iterdir():
        write(file, only(json.loads(file.read_text()), RECORD))
    return experiment


def test_the_plan_of_then_has_the_id_of_its_content(done: Path) -> None:
    before = plan_of(done)["id"]
    assert plan_of(aged(done))["id"] == before, "what is planned has not changed since; else the test below is enough"


def test_what_was_scaffolded_then_is_unchanged_now(done: Path) -> None:
    before = everything(aged(done))
    for step in (steps.render, steps.setup, steps.validate):
        step(Request(done))
    assert scaffold(done).unchanged
    assert everything(done) == before


def test_a_changed_document_is_taken_up_without_an_edit_that_nobody_made(done: Path) -> None:
    aged(done)
    change(done / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    result = scaffold(done)
    assert result.ok
    assert "edit-kept" not in {each.code for each in (*result.render.warnings, *result.setup.warnings)}
    assert actions(done) == [*ACTIONS, *AGAIN]


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_was_rendered_then_is_set_up_now(done: Path, is_killed: bool) -> None:
    """A record of then names all earlier hashes, also that of a finetune.slurm that a killed one had left."""
    old = outputs(done)
    records = {name: json.loads((done / ".scaffold" / "runs" / f"{name}.json").read_text()) for name in RUNS}
    change(done / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    steps.render(Request(done))
    aged(done)
    for name in RUNS:
        file = done / ".scaffold" / "runs" / f"{name}.json"
        earlier = [*records[name]["outputs"].values(), records[name]["setup_yaml"]]
        write(file, json.loads(file.read_text()) | {"replaced": sorted(earlier)})
        if is_killed:
            (done / name / "finetune.slurm").write_bytes(old[f"{name}/finetune.slurm"])
    result = scaffold(done)
    assert result.ok
    assert "edit-kept" not in {each.code for each in result.setup.warnings}


def test_an_edit_of_a_scaffold_of_then_is_refused_as_ever(done: Path) -> None:
    aged(done)
    change(done / RUNS[0] / "finetune.yaml", "epochs: 2", "epochs: 3")
    assert codes(refusal(steps.scaffold, done)) == ["edited-output"]


@pytest.mark.long
def test_an_external_scaffold_of_then_is_not_made_anew(three: Path, tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    file = script(tmp_path / "tool", f"open({str(counted)!r}, 'a').write('x')\n" + MAKE)
    assert scaffold_with(three, file).ok
    before = everything(aged(three))
    assert scaffold_with(three, file).unchanged
    assert everything(three) == before
    assert counted.read_text() == "x" * len(THREE)


@pytest.mark.long
def test_an_external_scaffold_of_then_that_failed_validation_is_made_anew(three: Path, tmp_path: Path) -> None:
    template = tmp_path / "elsewhere"
    template.write_text("epochs: 3")
    body = f"""\
        status = main([])
        made = pathlib.Path("finetune.yaml")
        made.write_text(made.read_text().replace("epochs: 2", pathlib.Path({str(template)!r}).read_text()))
        sys.exit(status)
        """
    file = script(tmp_path / "tool", body)
    assert not scaffold_with(three, file).validation.passed
    template.write_text("epochs: 2")
    aged(three)
    assert scaffold_with(three, file).ok
