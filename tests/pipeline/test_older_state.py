"""Continue experiments that version 0.1.0 scaffolded, whose state lacks fields of the present version."""

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

# The fields of the state in that version, written out: nothing here comes from the models.
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
    """Return only these fields of a state file; each must exist."""
    return {name: content[name] for name in names}


def write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def aged(experiment: Path) -> Path:
    """Rewrite the state of the experiment as that version wrote it, with the earlier hashes of each record."""
    state = experiment / ".scaffold"
    plan = only(plan_of(experiment), PLAN)
    plan["runs"] = [only(run, RUN) for run in plan["runs"]]
    write(state / "plan.json", with_its_id(plan))
    write(state / "progress.json", only(json.loads((state / "progress.json").read_text()), PROGRESS))
    for file in (state / "runs").iterdir():
        write(file, only(json.loads(file.read_text()), RECORD))
    return experiment


def test_a_plan_of_the_older_version_has_the_id_of_its_content(done: Path) -> None:
    before = plan_of(done)["id"]
    assert plan_of(aged(done))["id"] == before, "what is planned has not changed since; else the test below is enough"


def test_a_scaffold_of_the_older_version_is_unchanged(done: Path) -> None:
    before = everything(aged(done))
    for step in (steps.render, steps.setup, steps.validate):
        step(Request(done))
    assert scaffold(done).unchanged
    assert everything(done) == before


def test_a_changed_document_is_applied_without_reporting_an_edit(done: Path) -> None:
    aged(done)
    change(done / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    result = scaffold(done)
    assert result.ok
    assert "edit-kept" not in {each.code for each in (*result.render.warnings, *result.setup.warnings)}
    assert actions(done) == [*ACTIONS, *AGAIN]


@pytest.mark.parametrize("is_killed", [False, True])
def test_runs_rendered_by_the_older_version_are_set_up(done: Path, is_killed: bool) -> None:
    """Records of that version list all earlier hashes, also that of a finetune.slurm that a killed scaffold left."""
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


def test_an_edit_of_an_older_scaffold_is_refused(done: Path) -> None:
    aged(done)
    change(done / RUNS[0] / "finetune.yaml", "epochs: 2", "epochs: 3")
    assert codes(refusal(steps.scaffold, done)) == ["edited-output"]


@pytest.mark.long
def test_an_external_scaffold_of_the_older_version_is_not_set_up_again(three: Path, tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    file = script(tmp_path / "tool", f"open({str(counted)!r}, 'a').write('x')\n" + MAKE)
    assert scaffold_with(three, file).ok
    before = everything(aged(three))
    assert scaffold_with(three, file).unchanged
    assert everything(three) == before
    assert counted.read_text() == "x" * len(THREE)


@pytest.mark.long
def test_an_external_scaffold_of_the_older_version_that_failed_is_set_up_again(three: Path, tmp_path: Path) -> None:
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
