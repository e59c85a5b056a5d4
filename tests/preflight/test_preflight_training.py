"""Runs that train nothing or never finish their warm-up, and outputs inside a base model."""

from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Location
from scaffold_torchtune.models import DataFile, DataPart, DiskState, PlannedRun, Setting, Source, SourceKind
from scaffold_torchtune.preflight import check_plan
from scaffold_torchtune.preflight.training import Rows, at, output_dir, rows_of, steps_of
from scaffold_torchtune.torchtune_facts.facts import steps_per_epoch
from support.plans import DATA, LINES, SUMMARY, Changes, plan_of, run_of
from support.wording import absent

CODES = {"no-steps", "long-warmup", "output-in-checkpoint"}


def seen_rows(train: int) -> DiskState:
    columns: Any = {"input": {"text": 1}, "output": {"text": 1}}
    return DiskState(data={DATA: DataFile(parts={"train": DataPart(rows=train, columns=columns)})})


def found(*runs: Any, rows: int | None = 1000, **more: Any) -> list[Finding]:
    seen = DiskState() if rows is None else seen_rows(rows)
    return [each for each in check_plan(plan_of(*runs, **more), seen, {}) if each.code in CODES]


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "processes", "limit", "steps"),
    [
        (240, 4, 1, 1, None, 60),
        (243, 4, 1, 1, None, 60),
        (3, 4, 1, 1, None, 0),
        (240, 4, 7, 1, None, 8),
        (9, 2, 1, 4, None, 1),  # 9 samples for 4 processes: 3 each, one batch of 2
        (8, 2, 1, 4, None, 1),
        (240, 4, 1, 1, 10, 10),
        (240, 4, 1, 1, 100, 60),
        (0, 4, 1, 1, None, 0),
    ],
)
def test_steps_in_an_epoch(rows: int, batch: int, accumulation: int, processes: int, limit: int, steps: int) -> None:
    """Compare with counts by hand; tests/contract/test_steps.py compares the rule with the recipes' classes."""
    made = steps_per_epoch(rows, batch_size=batch, accumulation=accumulation, processes=processes, limit=limit)
    assert made == steps


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 1001}, {"gradient_accumulation_steps": 251}, {"batch_size": 501, "gpus": 2}],
)
def test_a_run_without_a_step_is_an_error_at_its_batch_size(changes: Changes) -> None:
    (finding,) = found(changes)
    assert (finding.code, finding.severity) == ("no-steps", Severity.ERROR)
    assert (finding.file, finding.line) == (SUMMARY, LINES["batch_size"])
    assert absent(finding.message, "words.json", 1000) == []


def test_as_many_samples_as_one_step_needs_are_enough() -> None:
    assert not found({"batch_size": 1000, "num_warmup_steps": 0})


def test_the_count_of_the_summary_is_used_if_the_data_are_not_found() -> None:
    (finding,) = found({"batch_size": 8}, rows=None, splits={DATA: {"train": 7}})
    assert absent(finding.message, "summary", 7) == []
    assert "words.json has" not in finding.message
    assert not found({"batch_size": 8}, rows=None)
    assert not found({"batch_size": 8}, rows=None, splits={DATA: {"test": 7}})


def test_counted_rows_override_the_summary() -> None:
    assert not found({}, rows=1000, splits={DATA: {"train": 1}})


def test_a_smaller_number_of_training_samples_is_used() -> None:
    (finding,) = found({"training_samples": 3})
    assert finding.code == "no-steps"
    assert absent(finding.message, 3) == []
    assert absent(finding.message, 1000) == ["1000"]
    assert not found({"training_samples": 2000})


@pytest.mark.parametrize(("asked", "count"), [(None, 1000), (999, 999), (1000, 1000), (1001, 1000)])
def test_samples_of_an_epoch(asked: int | None, count: int) -> None:
    run = run_of({"training_samples": asked})
    found = rows_of(run, plan_of(run), seen_rows(1000))
    assert found is not None
    assert found == Rows(count, found.basis)
    assert absent(found.basis, *([999] if asked == 999 else ["words.json", 1000])) == []
    assert ("words.json" in found.basis) is (asked != 999)


def test_the_steps_of_an_epoch_may_be_limited() -> None:
    assert steps_of(run_of({}), 1000) == 250
    assert steps_of(run_of({"max_steps_per_epoch": 10}), 1000) == 10


def test_an_empty_packed_data_set_has_no_steps() -> None:
    assert [each.code for each in found({"packed": True}, rows=0)] == ["no-steps"]


def test_packs_are_never_more_than_samples() -> None:
    assert [each.code for each in found({"packed": True}, rows=3)] == ["no-steps"]
    assert not found({"packed": True, "num_warmup_steps": 1}, rows=4)


def test_a_warmup_as_long_as_the_training_is_a_warning_with_a_suggested_value() -> None:
    (finding,) = found({"num_warmup_steps": 500})
    assert (finding.code, finding.severity) == ("long-warmup", Severity.WARNING)
    assert (finding.file, finding.line) == (SUMMARY, LINES["num_warmup_steps"])
    assert (finding.expected, finding.actual) == ("at most 250", 500)
    assert absent(finding.message, "500 steps", 250, "2 epochs", "words.json", 1000) == []
    assert absent(finding.fix, 50, 500, f"{SUMMARY}:{LINES['num_warmup_steps']}") == []
    assert "default" not in finding.message
    (shorter,) = found({"num_warmup_steps": 499})
    assert shorter.message != finding.message.replace("500", "499", 1), "all of training is more than half of it"


def test_a_warmup_of_more_than_half_of_the_training_is_a_warning() -> None:
    (finding,) = found({"num_warmup_steps": 499})
    assert (finding.code, finding.actual) == ("long-warmup", 499)
    assert absent(finding.message, 499, "500 training steps") == []
    assert found({"num_warmup_steps": 251})
    assert not found({"num_warmup_steps": 250})


def test_an_unchosen_default_warmup_is_reported_as_a_default() -> None:
    (finding,) = found(run_of({"num_warmup_steps": 100}, defaults=["num_warmup_steps"]), rows=100)
    assert absent(finding.message, "100 steps", "default") == []
    assert finding.line == LINES["epochs"]


def test_runs_with_the_same_problem_are_one_finding() -> None:
    findings = found({"batch_size": 2000}, {"batch_size": 2000, "lr": 1.0}, {"batch_size": 4})
    assert [absent(each.message, "2 of 3 runs ('run0' and 'run1')") for each in findings] == [[]]
    (one,) = found({"batch_size": 2000}, {"batch_size": 4})
    assert absent(one.message, "run 'run0'") == []
    (every,) = found(*[{"batch_size": 2000}] * 5)
    assert absent(every.message, "all 5 runs") == []
    assert "run0" not in every.message
    (three,) = found(*[{"batch_size": 2000}] * 3, {})
    assert absent(three.message, "3 of 4 runs ('run0', 'run1' and 'run2')") == []
    (many,) = found(*[{"batch_size": 2000}] * 4, {})
    assert absent(many.message, "4 of 5 runs ('run0', 'run1', 'run2', ...)") == []


# --- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"output_dir_base": "/scratch/me/models/Llama-3.2-1B-Instruct"},
        {"output_dir_base": "/scratch/me/models/Llama-3.2-1B-Instruct/out/"},
        {"output_dir_base": "/scratch/me/models/", "experiment_name": "Llama-3.2-1B-Instruct"},
        {"output_dir_base": None, "project_dir": "/scratch/me/models/x/../Llama-3.2-1B-Instruct"},
    ],
)
def test_outputs_inside_the_base_model_are_an_error(changes: Changes) -> None:
    (finding,) = found(changes)
    assert (finding.code, finding.severity) == ("output-in-checkpoint", Severity.ERROR)
    place = "output_dir_base" if changes.get("output_dir_base") else "project_dir"
    assert finding.line == LINES.get(place, 99)


def test_outputs_next_to_or_above_the_model_are_accepted() -> None:
    assert not found({"output_dir_base": "/scratch/me/models/", "experiment_name": "Llama-3.2-1B-Instruct-out"})
    assert not found({"output_dir_base": "/scratch"})
    assert not found({"output_dir_base": None})
    assert not found({"models_dir": None})
    assert not found({"models_dir": None, "output_dir_base": None})


def test_the_output_directory_is_below_the_planned_one() -> None:
    assert output_dir(run_of({})) == "/scratch/me/out/capitals"
    assert output_dir(run_of({"experiment_name": None})) == "/scratch/me/out"
    assert output_dir(run_of({"output_dir_base": None})) is None


def test_a_value_without_a_line_has_only_its_file() -> None:
    run = run_of({})
    derived = Setting(value="x", source=Source(kind=SourceKind.DERIVED, file=SUMMARY))
    run = run.model_copy(update={"settings": {**run.settings, "lr": derived}})
    assert at(run, "lr") == Location(SUMMARY, None)
    assert at(run, "lr", "epochs") == Location(SUMMARY, LINES["epochs"])
    assert at(run, "nothing") == Location(None, None)


def in_rows(name: str, values: list[Any], **common: Any) -> list[PlannedRun]:
    """Return runs with values of a column, in the rows from line 3."""
    runs = [run_of({name: value, **common}, number) for number, value in enumerate(values)]
    sources = [Source(kind=SourceKind.ROW, file=SUMMARY, line=run.line, note=f"Column {name}") for run in runs]
    pairs = zip(runs, sources, strict=True)
    return [
        run.model_copy(
            update={"settings": {**run.settings, name: run.settings[name].model_copy(update={"source": at})}}
        )
        for run, at in pairs
    ]


def test_each_finding_states_the_samples_of_its_own_runs() -> None:
    runs = in_rows("batch_size", [16, 8, 4], gradient_accumulation_steps=20, num_warmup_steps=0)
    findings = found(*runs, rows=100)
    assert [(each.code, each.line) for each in findings] == [("no-steps", 3), ("no-steps", 4)]
    assert [absent(each.message, samples) for each, samples in zip(findings, (320, 160), strict=True)] == [[], []]
    for each in findings:
        assert absent(each.fix, "with `6` for run0, `12` for run1, and `20` for the other run") == []
        assert "batch" not in each.fix.lower()


def test_batch_sizes_that_would_become_equal_get_no_common_value() -> None:
    findings = found(*in_rows("batch_size", [400, 300, 4]), rows=100)
    assert [(each.code, each.line) for each in findings] == [("no-steps", 3), ("no-steps", 4)]
    for each, line, other in zip(findings, (3, 4), ("run1", "run0"), strict=True):
        assert (
            absent(each.fix, f"correct the value in the column 'Column batch_size' (line {line})", f"'{other}'") == []
        )
        assert "replace" not in each.fix


def test_every_run_with_a_long_warm_up_gets_its_own_value() -> None:
    findings = found(*in_rows("batch_size", [4, 8, 1], num_warmup_steps=61), rows=100)
    assert [each.code for each in findings] == ["long-warmup"] * 2
    assert len({each.fix for each in findings}) == 1
    assert absent(findings[0].fix, "with `5` for run0, `2` for run1, and `61` for the other run") == []


def test_one_value_for_all_runs_needs_no_column() -> None:
    (finding,) = found(*in_rows("lr", [1e-5, 2e-5], num_warmup_steps=61), rows=100)
    assert finding.code == "long-warmup"
    assert finding.fix.startswith(f"replace `61` with `5` in {SUMMARY}:{LINES['num_warmup_steps']}")


def test_runs_of_the_yaml_form_get_the_value_in_their_parameters() -> None:
    file = "experiment_summary.yaml"
    runs: list[PlannedRun] = []
    for run in in_rows("batch_size", [4, 4, 8], num_warmup_steps=61):
        sources = {name: each.source.model_copy(update={"file": file}) for name, each in run.settings.items()}
        settings = {name: Setting(value=run.value(name), source=source) for name, source in sources.items()}
        parameters = {**run.parameters, "seed": run.line}
        runs.append(run.model_copy(update={"settings": settings, "parameters": parameters}))
    some, other = sorted(found(*runs, rows=100), key=lambda each: "the run 'run2'" in each.message)
    assert "`num_warmup_steps: 5` in the parameters of the runs 'run 0' and 'run 1'" in some.fix
    assert "`num_warmup_steps: 2` in the parameters of the run 'run 2'" in other.fix
    (all_runs,) = found(*runs[:2], rows=100)
    assert all_runs.fix.startswith(f"replace `61` with `5` in {file}:")
