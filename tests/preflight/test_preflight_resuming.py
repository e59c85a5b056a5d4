"""A job that resumes continues only the training that is planned."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, errors_in
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.preflight import disk
from scaffold_torchtune.preflight.disk import inspect_results
from scaffold_torchtune.request import Request
from support.experiments import change, make_experiment
from support.scaffolding import refusal, scaffold
from support.wording import absent

RESUME = "- **Resume from checkpoint:** yes"
RUN = "rank8_lr1e-5"
SUMMARY = "experiment_summary.md"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Scaffold an experiment whose runs resume, one of them after the first of two epochs."""
    replace = {
        "/scratch/gpfs/LAB/ada": str(tmp_path),
        "- **GPUs:** 1": f"- **GPUs:** 1\n{RESUME}\n- **Weight decay:** 0.01",
    }
    experiment = make_experiment(tmp_path / "sweep", replace=replace)
    assert scaffold(experiment).ok
    start(experiment)
    return experiment


def results(here: Path) -> Path:
    (folder,) = re.findall(r"(?m)^output_dir: (\S+)", (here / RUN / "finetune.yaml").read_text())
    return Path(folder)


def start(here: Path, epochs: int = 1) -> None:
    """Write the files that torchtune leaves in the output directory after some epochs."""
    folder = results(here)
    (folder / "recipe_state").mkdir(parents=True, exist_ok=True)
    (folder / "recipe_state" / "recipe_state.pt").write_bytes(b"state")
    for epoch in range(epochs):
        (folder / f"epoch_{epoch}").mkdir(exist_ok=True)
    saved = (here / RUN / "finetune.yaml").read_text()
    (folder / "torchtune_config.yaml").write_text(
        saved.replace("resume_from_checkpoint: false", "resume_from_checkpoint: true")
    )


def judged(here: Path) -> list[Finding]:
    try:
        found = steps.plan(Request(here)).warnings
    except Refused as refused:
        found = refused.problems
    return [each for each in found if each.code == "other-state"]


def test_a_state_of_the_same_plan_has_no_finding(here: Path) -> None:
    assert judged(here) == []
    assert steps.validate(Request(here)).passed


CHANGES = {
    "weight_decay": ("- **Weight decay:** 0.01", "- **Weight decay:** 0.1", 0.1, 0.01),
    "batch_size": (" | 4 | Fine", " | 8 | Fine", 8, 4),
    "system_prompt": ('"Capitalize the given word"', '"Capitalize"', "Capitalize", "Capitalize the given word"),
    "seed": (RESUME, f"{RESUME}\n- **Seed:** 3", 3, 14),
    "lora_alpha": (RESUME, f"{RESUME}\n- **LoRA alpha:** 8", 8, 16),
    "max_seq_len": (RESUME, f"{RESUME}\n- **Max sequence length:** 512", 512, 2048),
    "clip_grad_norm": (RESUME, f"{RESUME}\n- **Gradient clipping:** 1.0", 1.0, None),
    "num_warmup_steps": (RESUME, f"{RESUME}\n- **Warmup steps:** 5", 5, 100),
    "dataset_label": ("words_4L_80P_300.json", "words_5L_80P_300.json", None, None),
}


@pytest.mark.long
@pytest.mark.parametrize("field", CHANGES)
def test_a_state_of_a_different_plan_is_refused_with_the_setting(here: Path, field: str) -> None:
    old, new, expected, actual = CHANGES[field]
    text = (here / SUMMARY).read_text()
    assert old in text
    (here / SUMMARY).write_text(text.replace(old, new))
    before = (here / RUN / "finetune.yaml").read_text()
    (finding,) = [each for each in refusal(steps.scaffold, here).problems if each.code == "other-state"]
    assert (finding.severity, finding.field) == (Severity.ERROR, field)
    assert finding.line
    if expected is not None:
        assert (finding.expected, finding.actual) == (expected, actual)
    assert (here / RUN / "finetune.yaml").read_text() == before


@pytest.mark.parametrize(
    "change_it",
    [
        lambda text: text.replace("- **Epochs:** 2", "- **Epochs:** 5"),
        lambda text: text.replace(RESUME, f"{RESUME}\n- **Activation checkpointing:** yes"),
        lambda text: text.replace(RESUME, f"{RESUME}\n- **Log every:** 10"),
    ],
)
def test_more_epochs_and_different_logging_are_accepted(here: Path, change_it: Callable[[str], str]) -> None:
    (here / SUMMARY).write_text(change_it((here / SUMMARY).read_text()))
    assert judged(here) == []
    assert scaffold(here, started="replace").ok  # the state remains in place


def test_a_job_that_does_not_resume_ignores_the_state(here: Path) -> None:
    change(here / SUMMARY, RESUME, "- **Resume from checkpoint:** no")
    change(here / SUMMARY, "decay:** 0.01", "decay:** 0.1")
    assert judged(here) == []
    assert [each.code for each in refusal(steps.scaffold, here, started="replace").problems] == ["started-run"]
    results(here).rename(here.parent / "kept")
    assert scaffold(here).ok


def test_a_state_without_a_config_is_a_warning(here: Path) -> None:
    config = results(here) / "torchtune_config.yaml"
    for content in (b"a: [", b"\xff", b"x" * 2_000_000, b"- a", None):
        config.unlink() if content is None else config.write_bytes(content)
        (finding,) = judged(here)
        assert (finding.severity, finding.field) == (Severity.WARNING, "resume_from_checkpoint")
    (results(here) / "recipe_state" / "recipe_state.pt").unlink()
    assert judged(here) == []


def test_fewer_epochs_than_are_completed_are_an_error(here: Path) -> None:
    change(here / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 4")
    assert scaffold(here, started="replace").ok
    start(here, epochs=3)
    change(here / SUMMARY, "- **Epochs:** 4", "- **Epochs:** 3")
    (finding,) = judged(here)
    assert (finding.severity, finding.field, finding.actual) == (Severity.ERROR, "epochs", 3)
    change(here / SUMMARY, "- **Epochs:** 3", "- **Epochs:** 4")
    assert judged(here) == []


def test_more_epochs_after_a_completed_training_are_a_warning(here: Path) -> None:
    start(here, epochs=2)
    assert judged(here) == []
    change(here / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 3")
    (finding,) = judged(here)
    assert (finding.severity, finding.field) == (Severity.WARNING, "epochs")
    assert absent(finding.message, 2) == []


def test_validate_reports_a_state_that_appeared_later(here: Path) -> None:
    config = results(here) / "torchtune_config.yaml"
    config.write_text(config.read_text().replace("weight_decay: 0.01", "weight_decay: 0.3"))
    result = steps.validate(Request(here))
    assert not result.passed
    assert [(each.code, each.field) for each in errors_in(result.findings)] == [("other-state", "weight_decay")]


def test_interpolations_are_compared_by_their_values(here: Path) -> None:
    config = results(here) / "torchtune_config.yaml"
    text = config.read_text()
    label = re.findall(r"(?m)^dataset_label: (\S+)", text)[0]
    config.write_text(text.replace("${dataset_label}", label))
    assert judged(here) == []


def test_an_unreadable_directory_has_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect_results(str(tmp_path / "none")) is None
    assert inspect_results("a\0b") is None
    (tmp_path / "recipe_state").mkdir()
    (tmp_path / "recipe_state" / "recipe_state.pt").mkdir()
    found = inspect_results(str(tmp_path))
    assert found is not None
    assert not found.can_resume
    (tmp_path / "recipe_state" / "recipe_state.pt").rmdir()
    (tmp_path / "recipe_state" / "recipe_state.pt").write_text("")
    for name in ("epoch_0", "epoch_12", "epoch_x", "epoch_3_old"):
        (tmp_path / name).mkdir()
    found = inspect_results(str(tmp_path))
    assert found is not None
    assert (found.text, found.epochs) == (None, 13)
    assert found.can_resume
    monkeypatch.setattr(disk, "_MAX_OUTPUTS", 0)
    assert inspect_results(str(tmp_path)) is None
