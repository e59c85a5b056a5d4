"""The validate stage with files of a different plan or run, and with interpolations that would read secrets."""

import pytest

from scaffold_torchtune.findings import Scalar, errors_in
from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.validate import validate_run
from support.good_files import CONFIG, GOOD_CONFIG, GOOD_SLURM, RUN, SETUP, SLURM, files_of, planned, replaced

OTHER = "rank16_lr1e-5"


def run_of(directory: str, changes: dict[str, Scalar]) -> tuple[PlannedRun, dict[str, str | None]]:
    """Return a run and its correct files."""
    run = planned({"my_wandb_run_name": directory, **changes}).model_copy(update={"directory": directory})
    config = GOOD_CONFIG.replace(RUN, directory)
    config = replaced(config, "lora_rank: 8", f"lora_rank: {changes.get('lora_rank', 8)}")
    config = replaced(config, "lora_alpha: 16", f"lora_alpha: {changes.get('lora_alpha', 16)}")
    config = replaced(config, "Capitalise the word.", str(changes.get("system_prompt", "Capitalise the word.")))
    return run, files_of(run, config, GOOD_SLURM.replace(RUN, directory))


FIRST = run_of(RUN, {})
SECOND = run_of(OTHER, {"lora_rank": 16, "lora_alpha": 32})
PROMPTS = run_of("prompt1", {}), run_of("prompt2", {"system_prompt": "Say it."})


@pytest.mark.parametrize("pair", [(FIRST, SECOND), (SECOND, FIRST), PROMPTS, PROMPTS[::-1]])
@pytest.mark.parametrize("name", [SETUP, CONFIG, SLURM])
def test_each_file_of_a_different_run_is_reported(
    pair: tuple[tuple[PlannedRun, dict[str, str | None]], tuple[PlannedRun, dict[str, str | None]]], name: str
) -> None:
    (run, files), (_, others) = pair
    assert errors_in(validate_run(run, files, bundled=True)) == []
    errors = errors_in(validate_run(run, {**files, name: others[name]}, bundled=True))
    assert {f.file for f in errors} == {f"{run.directory}/{name}"}


def test_if_all_files_are_of_a_different_run_each_is_reported() -> None:
    errors = errors_in(validate_run(FIRST[0], SECOND[1], bundled=True))
    assert {f.file for f in errors} == {f"{RUN}/{name}" for name in (SETUP, CONFIG, SLURM)}


def test_files_of_an_earlier_plan_of_the_run_are_reported() -> None:
    run = planned({"seed": 15, "time": "01:00:00"})
    errors = errors_in(validate_run(run, files_of(planned()), bundled=True))
    assert {(f.file, f.field) for f in errors} == {
        (f"{RUN}/{SETUP}", "seed"), (f"{RUN}/{CONFIG}", "seed"), (f"{RUN}/{SETUP}", "time"), (f"{RUN}/{SLURM}", "time"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["${oc.env:WANDB_API_KEY}", "${oc.env:WANDB_API_KEY,none}", "${oc.decode:${oc.env:WANDB_API_KEY}}"]
)
@pytest.mark.parametrize(
    ("old", "field"), [("mode: offline", "metric_logger.mode"), ("lora_rank: 8", "model.lora_rank")]
)
def test_a_secret_in_the_environment_is_an_error_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, text: str, old: str, field: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    run = planned()
    config = replaced(GOOD_CONFIG, old, f"{old.partition(':')[0]}: {text}")
    errors = errors_in(validate_run(run, files_of(run, config), bundled=True))
    assert [(f.code, f.line) for f in errors if f.field == field] == [
        ("value-mismatch", replaced(GOOD_CONFIG, old, "HERE").partition("HERE")[0].count("\n") + 1)
    ]
    assert not any("0123456789abcdef" in f.model_dump_json() for f in errors)
