"""Samples and steps that train nothing: truncated samples, steps without a label, invalid chats, untrained tokens."""

from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, errors_in
from scaffold_torchtune.models import DataFile, DataPart, DiskState, Packs, PlannedRun, RowCount, SampleCounts
from scaffold_torchtune.preflight import check_plan
from scaffold_torchtune.preflight.samples import Packing, form_of
from support.plans import DATA, LINES, SUMMARY, Changes, plan_of, run_of
from support.wording import absent

CODES = {"no-labels", "samples-cut", "untrained-tokens", "data-mismatch", "no-steps", "long-warmup"}
CHAT: Changes = {"dataset_type": "chat_dataset"}
ONE: Changes = {"batch_size": 1, "num_warmup_steps": 0}


def seen(*runs: PlannedRun, rows: int = 800, **counts: Any) -> DiskState:
    """Return a data set whose samples have these counts for each run; `likely_` counts default to the certain ones."""
    counts.setdefault("longest", 3_000)
    for name in ("cut", "empty"):
        counts.setdefault(f"likely_{name}", counts.get(name, RowCount()))
    columns: Any = {"input": {"text": 1}, "output": {"text": 1}, "messages": {"list": 1}, "text": {"text": 1}}
    forms = {form: None for run in runs if (form := form_of(run))}
    samples = tuple(SampleCounts(form=form, rows=rows, exact=True, **counts) for form in forms)
    return DiskState(data={DATA: DataFile(parts={"train": DataPart(rows=rows, columns=columns, samples=samples)})})


def found(*changes: Changes, script: str = "bundled", **counts: Any) -> list[Finding]:
    runs = [run_of({"num_warmup_steps": 0, **each}, number) for number, each in enumerate(changes)]
    findings = check_plan(plan_of(*runs, script=script), seen(*runs, **counts), {})
    return [each for each in findings if each.code in CODES]


def test_truncated_samples_are_reported_with_their_number_and_the_length_needed() -> None:
    (finding,) = found({"max_seq_len": 512}, cut=RowCount(count=31, first=7), longest=700)
    assert (finding.code, finding.severity) == ("samples-cut", Severity.WARNING)
    assert (finding.file, finding.line) == (SUMMARY, LINES["max_seq_len"])
    assert (finding.actual, finding.expected) == (31, 700)
    assert absent(finding.message, 31, 800, 512, 7) == []
    assert absent(finding.fix, 1024, 512, f"{SUMMARY}:{LINES['max_seq_len']}") == []
    assert "estimated" not in finding.message


def test_truncated_samples_without_an_answer_are_counted_too() -> None:
    cut: dict[str, Any] = {"cut": RowCount(count=31, first=7)}
    (whole,) = found({}, **cut)
    _, told = found({"batch_size": 4}, **cut, empty=RowCount(count=3, first=17))
    assert absent(whole.message, 3) == ["3"]
    assert absent(told.message, 31, 7, 3) == []
    about: dict[str, Any] = {**cut, "empty": RowCount(count=3, first=17), "likely_empty": RowCount(count=5, first=2)}
    _, told = found({"batch_size": 4}, **about)
    assert absent(told.message, "about 5") == []


@pytest.mark.parametrize(("longest", "size"), [(0, 2), (2, 2), (3, 4), (512, 512), (513, 1024)])
def test_the_suggested_length_is_the_next_power_of_two(longest: int, size: int) -> None:
    (finding,) = found({"max_seq_len": 1}, cut=RowCount(count=31, first=7), longest=longest)
    assert absent(finding.fix, size, f"{SUMMARY}:{LINES['max_seq_len']}") == []


def test_an_estimated_number_is_marked_as_such() -> None:
    counts: dict[str, Any] = {"cut": RowCount(), "likely_cut": RowCount(count=31, first=7), "exact": False}
    (finding,) = _with(counts)
    assert absent(finding.message, "about 31") == []
    (certain,) = found({}, cut=RowCount(count=31, first=7))
    assert certain.message != finding.message


def _with(counts: dict[str, Any]) -> list[Finding]:
    run = run_of({"num_warmup_steps": 0})
    form = form_of(run)
    assert form is not None
    part = DataPart(rows=800, columns={"input": {"text": 1}, "output": {"text": 1}},
                    samples=(SampleCounts(form=form, rows=800, **counts),))  # fmt: skip
    state = DiskState(data={DATA: DataFile(parts={"train": part})})
    return [each for each in check_plan(plan_of(run), state, {}) if each.code in CODES]


FOUR: dict[str, Any] = {"empty": RowCount(count=4, first=17), "cut": RowCount(count=31, first=7)}


@pytest.mark.parametrize(
    ("changes", "certain"),
    [
        (ONE, True),
        ({**ONE, "epochs": 1}, True),
        ({**ONE, "gradient_accumulation_steps": 2}, False),  # the other sample of the step usually has labels
        ({**ONE, "gpus": 2}, False),
        ({**ONE, "max_steps_per_epoch": 10}, False),  # the order of the samples is unknown
        ({"batch_size": 4}, False),
        ({"batch_size": 5}, False),
        ({**ONE, "packed": True}, False),
    ],
)
def test_samples_without_a_label_refuse_the_plan_only_if_a_step_of_them_is_certain(
    changes: Changes, certain: bool
) -> None:
    findings = [each for each in found(changes, **FOUR) if each.code == "no-labels"]
    assert [each.severity for each in findings] == [Severity.ERROR if certain else Severity.WARNING]
    assert findings[0].actual == 4
    assert absent(findings[0].message, 4, 800, 17) == []


def test_more_steps_than_samples_with_a_label_are_an_error() -> None:
    """Expect an error if 6 of 8 samples have no label: the other 2 are too few for 4 steps of 2."""
    some: dict[str, Any] = {"empty": RowCount(count=6, first=1), "rows": 8}
    assert errors_in(found({"batch_size": 2}, **some))
    assert not errors_in(found({"batch_size": 4}, **some))
    assert not errors_in(found({"batch_size": 2, "gpus": 2}, **some))
    assert errors_in(found({"batch_size": 2}, **some, script="bundled"))


def test_a_data_set_without_any_label_is_an_error() -> None:
    every: dict[str, Any] = {"empty": RowCount(count=8, first=1), "rows": 8}
    for changes in (ONE, {"batch_size": 4}, {"batch_size": 2, "max_steps_per_epoch": 1}, {"batch_size": 2, "gpus": 2}):
        assert [each.code for each in errors_in(found(changes, **every))] == ["no-labels"]


def test_a_likely_step_without_a_label_is_a_warning_with_its_probability() -> None:
    (rare,) = found({"batch_size": 4}, empty=RowCount(count=4, first=1))
    (likely,) = found({"batch_size": 2, "epochs": 3}, empty=RowCount(count=200, first=1))
    assert rare.severity == likely.severity == Severity.WARNING
    assert "%" in likely.message
    assert "%" not in rare.message


def test_an_estimate_refuses_nothing() -> None:
    counts: dict[str, Any] = {
        "likely_empty": RowCount(count=4, first=1),
        "likely_cut": RowCount(count=4, first=1),
        "exact": False,
    }
    assert {each.severity for each in _with(counts)} == {Severity.WARNING}


def test_a_pack_filled_by_a_sample_without_labels_is_an_error() -> None:
    packed: Changes = {**ONE, "packed": True}
    counts: dict[str, Any] = {**FOUR, "packs": Packs(least=50, likely=50, most=50)}
    assert errors_in(found(packed, **counts, filling=1))
    assert not errors_in(found(packed, **counts))
    assert not errors_in(found({**packed, "batch_size": 2}, **counts, filling=1))


def test_the_fix_for_samples_without_labels_depends_on_the_cause() -> None:
    (blank,) = found({"batch_size": 4}, empty=RowCount(count=4, first=17))
    assert (blank.field, blank.expected, blank.line) == ("max_seq_len", 0, LINES["max_seq_len"])
    assert absent(blank.fix, 4096, "fill") == ["4096"]
    (cut, _) = found({"batch_size": 4}, **FOUR)
    assert absent(cut.fix, 4096, f"{SUMMARY}:{LINES['max_seq_len']}") == []


def test_empty_and_truncated_texts_have_different_messages() -> None:
    text: Changes = {"dataset_type": "text_completion_dataset", "max_seq_len": 512}
    (blank,) = found(text, empty=RowCount(count=4, first=17))
    assert absent(blank.message, 4, 17, 512) == ["512"]
    (cut, _) = found(text, **FOUR)
    assert absent(cut.message, 4, 17, 512) == []
    assert absent(blank.message, "NaN") == ["NaN"]


@pytest.mark.parametrize(
    ("changes", "empty", "rows", "told", "others"),
    [
        # 200 of 800 samples: two at once 1 - (1 - 1/16) ** 400, four at once with two batches a step
        ({"batch_size": 2}, 200, 800, ["more than 99%", "NaN"], []),
        ({"batch_size": 2, "epochs": 1}, 8, 800, ["3%", "NaN"], []),  # 400 x 8/800 x 7/799
        ({"batch_size": 2, "epochs": 3}, 8, 800, ["10%", "NaN"], []),
        # a batch without labels is likely, a step is not
        ({"batch_size": 2, "gradient_accumulation_steps": 4}, 20, 800, ["NaN", "log"], ["%", "weight", "adapter"]),
        ({"batch_size": 8}, 20, 800, [], ["NaN", "%"]),
        ({"batch_size": 8}, 7, 800, [], ["NaN", "%"]),  # too few to fill a batch
        ({"batch_size": 1}, 8, 800, ["NaN", "adapter"], ["%"]),
        ({"batch_size": 1, "custom_recipe": "full_finetune_single_device"}, 8, 800, ["NaN", "weight"], ["%"]),
    ],
)  # fmt: skip
def test_consequences_of_samples_without_labels(
    changes: Changes, empty: int, rows: int, told: list[str], others: list[str]
) -> None:
    packs = Packs(least=400, likely=400, most=400)
    (finding,) = found({"epochs": 1, **changes}, rows=rows, empty=RowCount(count=empty, first=1), packs=packs)
    assert absent(finding.message, *told) == []
    assert [other for other in others if other in finding.message] == []


@pytest.mark.parametrize(
    ("changes", "empty", "rows", "certain"),
    [
        (
            {"batch_size": 1, "gpus": 3},
            7,
            10,
            False,
        ),  # 4 steps of 3, with two samples repeated: 3 + 2 have labels
        ({"batch_size": 1, "gpus": 3}, 9, 10, True),  # 1 + 2 have labels
        ({"batch_size": 1, "gpus": 3}, 8, 10, False),  # 2 + 2
        ({"batch_size": 2, "gradient_accumulation_steps": 2}, 9, 12, False),  # 3 steps of 4, 3 have labels
        ({"batch_size": 2, "gradient_accumulation_steps": 2}, 10, 12, True),
        ({"batch_size": 4, "max_steps_per_epoch": 1}, 11, 12, False),
        ({"batch_size": 4, "max_steps_per_epoch": 1}, 12, 12, True),
    ],
)
def test_steps_that_certainly_have_no_label(changes: Changes, empty: int, rows: int, certain: bool) -> None:
    findings = found(changes, rows=rows, empty=RowCount(count=empty, first=1))
    assert [each.severity for each in findings] == [Severity.ERROR if certain else Severity.WARNING]


@pytest.mark.parametrize(
    ("bare", "batch", "told"),
    [
        (1, 1, "certain"), (1, 2, "nothing else"), (7, 2, "certain"), (4, 2, "likely"), (8, 16, "nothing else"),
        (0, 1, "nothing else"), (30, 4, "likely"), (38, 4, "certain"),
    ],
)  # fmt: skip
def test_packs_without_a_label_are_counted_like_samples(bare: int, batch: int, told: str) -> None:
    """Expect an error if fewer packs with a label are left than there are steps."""
    total = 8 if bare < 30 else 40
    counts: dict[str, Any] = {**FOUR, "packs": Packs(least=total, likely=total, most=total, bare=bare)}
    (finding,) = [
        each for each in found({**ONE, "packed": True, "batch_size": batch}, **counts) if each.code == "no-labels"
    ]
    assert finding.severity is (Severity.ERROR if told == "certain" else Severity.WARNING)
    assert ("chance" in finding.message) is (told == "likely")
    if told != "certain" and bare:
        assert absent(finding.message, bare, total, "packs") == []


def test_estimated_packs_without_a_label_are_only_a_warning() -> None:
    counts: dict[str, Any] = {**FOUR, "packs": Packs(least=6, likely=8, most=8, bare=7)}
    (finding, _) = found({**ONE, "packed": True, "batch_size": 2}, **counts)
    assert finding.severity is Severity.WARNING
    assert "an estimated 7 of 8 packs" in finding.message


@pytest.mark.parametrize(
    ("splits", "samples", "bare"),
    [
        (False, [(10, False), (4, True), (6, False), (5, False)], 2),  # the first fills a pack, the last is one
        (False, [(5, False), (5, False), (9, True)], 1),
        (False, [(4, True), (5, False), (9, False)], 1),
        (False, [(10, True), (3, True)], 0),
        (True, [(25, True)], 0),
        (True, [(25, False), (2, True)], 2),
        (False, [], 0),
    ],
)
def test_packs_without_a_label(splits: bool, samples: list[tuple[int, bool]], bare: int) -> None:
    packing = Packing(10, splits)
    for length, labelled in samples:
        packing.add(length, labelled=labelled)
    assert packing.all_bare() == bare


def test_samples_without_labels_are_a_warning_for_an_external_script() -> None:
    findings = found(ONE, script="/setup.py", **FOUR)
    assert {each.severity for each in findings} == {Severity.WARNING}


def test_empty_texts_are_an_error_only_if_all_are_empty() -> None:
    text: Changes = {**ONE, "dataset_type": "text_completion_dataset"}
    assert not errors_in(found(text, empty=RowCount(count=4, first=1)))
    assert errors_in(found(text, empty=RowCount(count=800, first=1)))


def test_runs_with_different_steps_are_listed_separately() -> None:
    findings = [each for each in found(ONE, {"batch_size": 4}, ONE, **FOUR) if each.code == "no-labels"]
    assert [each.severity for each in findings] == [Severity.ERROR, Severity.WARNING]
    assert absent(findings[0].message, "run0", "run2") == []


# --- chats ------------------------------------------------------------------------------------------------------------


def test_invalid_chats_are_reported_with_first_row_and_number() -> None:
    faults = {"it has a fault": RowCount(count=3, first=12), "another": RowCount(count=1, first=5)}
    findings = found(CHAT, {**CHAT, "lr": 1.0}, faults=faults)
    assert [(each.code, each.severity, each.actual) for each in findings] == [
        ("data-mismatch", Severity.ERROR, "it has a fault"),
        ("data-mismatch", Severity.ERROR, "another"),
    ]
    assert absent(findings[0].message, "row 12", "2 more rows", "both runs") == []
    assert absent(findings[1].message, "row 5") == []
    assert findings[0].line == LINES["dataset_label"]


def test_invalid_chats_that_several_runs_read_are_reported_once() -> None:
    forms: list[Changes] = [{**CHAT, "max_seq_len": size} for size in (256, 512)]
    assert len(found(*forms, faults={"it has a fault": RowCount(count=3, first=12)})) == 1


def test_faults_of_each_data_set_list_the_runs_that_read_it() -> None:
    faults = {"it has a fault": RowCount(count=3, first=12)}
    runs = [run_of(CHAT), run_of({}, 1), run_of({**CHAT, "lr": 1.0}, 2), run_of(CHAT, 3, data="/e.json")]
    state = seen(*runs, faults=faults)
    data = {DATA: state.data[DATA], "/e.json": state.data[DATA]}
    plans = check_plan(plan_of(*runs), state.model_copy(update={"data": data}), {})
    findings = sorted((each for each in plans if each.actual == "it has a fault"), key=lambda each: each.message)
    assert len(findings) == 2
    assert absent(" ".join(each.message for each in findings), "run0", "run1", "run2", "run3") == ["run1"]
    assert [absent(each.message, "run3") for each in findings].count([]) == 1


def test_an_invalid_chat_is_a_warning_for_an_external_script() -> None:
    (finding,) = found(CHAT, script="/setup.py", faults={"it has a fault": RowCount(count=1, first=12)})
    assert (finding.code, finding.severity) == ("data-mismatch", Severity.WARNING)
    (more,) = found(CHAT, faults={"it has a fault": RowCount(count=2, first=12)})
    assert finding.fix != more.fix
    assert absent(more.message, "1 more row") == []
    assert "more" not in finding.message


# --- packs ------------------------------------------------------------------------------------------------------------

PACKED: Changes = {"packed": True, "batch_size": 16}


def test_too_few_packs_for_a_step_are_an_error() -> None:
    (finding,) = found(PACKED, rows=240, packs=Packs(least=2, likely=3, most=15))
    assert (finding.code, finding.severity) == ("no-steps", Severity.ERROR)
    assert absent(finding.message, 240, 15, 16) == []
    assert not found(PACKED, packs=Packs(least=16, likely=16, most=16))


def test_probably_too_few_packs_for_a_step_are_a_warning() -> None:
    (finding,) = found(PACKED, packs=Packs(least=2, likely=15, most=16))
    assert (finding.code, finding.severity) == ("no-steps", Severity.WARNING)


def test_warmup_is_compared_with_the_number_of_packs() -> None:
    run: Changes = {"packed": True, "batch_size": 1, "num_warmup_steps": 100, "epochs": 2}
    (finding,) = found(run, packs=Packs(least=40, likely=60, most=90))
    assert (finding.code, finding.severity, finding.expected) == ("long-warmup", Severity.WARNING, "at most 60")
    assert not found({**run, "num_warmup_steps": 60}, packs=Packs(least=40, likely=60, most=90))


# --- base models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"torchtune_model_name": "Llama-3.2-1B"}, True),
        ({"torchtune_model_name": "Llama-3.2-3B", **CHAT}, True),
        ({"torchtune_model_name": "Meta-Llama-3.1-8B", "dataset_type": None}, True),
        ({"torchtune_model_name": "Llama-3.2-1B-Instruct"}, False),
        ({"torchtune_model_name": "Llama-3.3-70B-Instruct"}, False),
        ({"torchtune_model_name": "Llama-3.2-1B", "dataset_type": "text_completion_dataset"}, False),
        ({"torchtune_model_name": "Llama-3.2-1B", "custom_recipe": "full_finetune_single_device"}, False),
        ({"torchtune_model_name": "Qwen2.5-0.5B"}, False),
    ],
)
def test_base_models_have_not_been_trained_on_the_tokens_of_chats(changes: Changes, told: bool) -> None:
    findings = [each for each in found(changes) if each.code == "untrained-tokens"]
    assert [(each.severity, each.line) for each in findings] == ([(Severity.WARNING, 3)] if told else [])


@pytest.mark.parametrize(
    ("splits", "lengths", "packs"),
    [
        # whole samples, in their order: 4 + 5, then 3 + 6, then 2
        (False, [4, 5, 3, 6, 2], 3), (False, [5, 5], 1), (False, [5, 6], 2), (False, [1] * 11, 2), (False, [], 0),
        # a text continues in the next pack: 20 tokens are two full packs, 21 need a third
        (True, [4, 5, 3, 6, 2], 2), (True, [4, 5, 3, 6, 3], 3), (True, [5, 6], 2), (True, [25], 3), (True, [], 0),
    ],
)  # fmt: skip
def test_samples_are_packed_in_order(splits: bool, lengths: list[int], packs: int) -> None:
    packing = Packing(10, splits)
    for length in lengths:
        packing.add(length)
    assert packing.all() == packs


def test_packs_of_an_unknown_length_are_bounded_only_by_the_samples() -> None:
    unknown = {**PACKED, "max_seq_len": None}
    assert not found(unknown, rows=240, packs=Packs(least=2, likely=3, most=3))
    (finding,) = found({**unknown, "batch_size": 241}, rows=240, packs=Packs(least=2, likely=3, most=3))
    assert finding.code == "no-steps"
    assert absent(finding.message, 240) == []
    assert "None" not in finding.message
