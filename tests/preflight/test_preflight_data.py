"""Data sets that lack something that the runs need."""

from typing import Any

import pytest

from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.models import DataFile, DataPart, DiskState, RowCount, SampleCounts
from scaffold_torchtune.preflight import check_plan
from scaffold_torchtune.preflight.samples import form_of
from support.plans import DATA, LINES, SUMMARY, Changes, plan_of, run_of
from support.wording import absent

# ruff: noqa: E501 - the table of columns has one case a line


CODES = {"not-seen", "data-mismatch", "split-differs"}
TEXTS: Any = {"input": {"text": 1}, "output": {"text": 1}}
GOOD = DataPart(rows=1000, columns=TEXTS)


def found(seen: DataFile | DataPart, *runs: Any, **more: Any) -> list[Finding]:
    data = DataFile(parts={"train": seen}) if isinstance(seen, DataPart) else seen
    return [each for each in check_plan(plan_of(*runs, **more), DiskState(data={DATA: data}), {}) if each.code in CODES]


def mismatch(seen: DataFile | DataPart, changes: Changes | None = None, named: str = "dataset_label") -> str:
    """Return the message of the only finding, which must be an error at the line of the setting."""
    (finding,) = found(seen, changes or {})
    assert (finding.code, finding.severity) == ("data-mismatch", Severity.ERROR)
    assert (finding.file, finding.line) == (SUMMARY, LINES[named])
    return finding.message


def columns(**kinds: Any) -> DataPart:
    return DataPart(
        rows=9, columns={name: kind if isinstance(kind, dict) else {kind: 1} for name, kind in kinds.items()}
    )


def test_a_complete_data_set_has_no_finding() -> None:
    assert not found(GOOD)
    assert not found(columns(input="text", output="text", note="null"))


def test_a_data_set_that_is_not_found_is_a_warning() -> None:
    (finding,) = found(DataFile(absent=True, near=("word.json",)))
    assert (finding.code, finding.severity, finding.actual) == ("not-seen", Severity.WARNING, "word.json")
    assert absent(finding.message, "'word.json'") == []
    (finding,) = found(DataFile(unread="is too large to inspect (70 MiB)"))
    assert (finding.code, finding.actual) == ("not-seen", None)
    assert absent(finding.message, "70 MiB") == []


def test_an_invalid_data_set_is_an_error() -> None:
    assert absent(mismatch(DataFile(problem="is not JSON")), "is not JSON") == []


def test_an_invalid_data_set_is_a_warning_for_an_external_script() -> None:
    (finding,) = found(DataFile(problem="is not JSON"), script="/setup.py")
    assert (finding.code, finding.severity) == ("data-mismatch", Severity.WARNING)


def test_a_missing_split_is_reported_with_the_existing_ones() -> None:
    assert absent(mismatch(DataFile(parts={"trian": GOOD})), "train", "'trian'") == []
    (finding,) = found(DataFile(parts={"a": GOOD, "b": GOOD}))
    assert finding.actual == "'a', 'b'"
    assert absent(finding.fix, "train") == []
    assert '"train"' not in finding.fix
    (finding,) = found(DataFile())
    assert finding.actual == "no split"
    assert absent(finding.fix, '{"train": [...]}') == []


def test_validation_needs_its_own_split() -> None:
    assert absent(mismatch(GOOD, {"run_val_every_n_steps": 5}), "split 'validation'") == []
    both = DataFile(parts={"train": GOOD, "validation": columns(input="text")})
    assert absent(mismatch(both, {"run_val_every_n_steps": 5}), "split 'validation'", "column 'output'") == []
    assert not found(both)


def test_an_empty_split_is_an_error() -> None:
    both = DataFile(parts={"train": GOOD, "validation": DataPart(rows=0, columns={})})
    message = mismatch(both, {"run_val_every_n_steps": 5})
    assert absent(message, "split 'validation'", "rows") == []
    assert "column" not in message


@pytest.mark.parametrize(
    ("changes", "part", "told", "named"),
    [
        ({}, columns(inptu="text", output="text"), ["column 'input'", "'inptu'"], "dataset_label"),
        ({}, columns(input="text"), ["column 'output'"], "dataset_label"),
        ({}, columns(input={"text": 1, "number": 7}, output="text"), ["row 7", "train", "number", "'input'", "text"], "dataset_label"),
        ({}, columns(input={"text": 1, "absent": 2}, output="text"), ["row 2", "train", "'input'"], "dataset_label"),
        ({}, columns(input="null", output="text"), ["row 1", "train", "null", "'input'", "text"], "dataset_label"),
        ({"input_key": "question"}, columns(input="text", output="text"), ["column 'question'"], "input_key"),
        ({"output_key": "answer"}, columns(input="text", output="text"), ["column 'answer'"], "output_key"),
        ({"dataset_type": "chat_completion"}, columns(input="text"), ["column 'output'"], "dataset_label"),
        ({"dataset_type": "text_completion_dataset"}, columns(input="text"), ["column 'text'"], "dataset_label"),
        ({"dataset_type": "text_completion_dataset", "input_key": "t"}, columns(text="text"), ["column 't'"], "input_key"),
        ({"dataset_type": "chat_dataset"}, columns(input="text"), ["column 'messages'"], "dataset_type"),
        ({"dataset_type": "chat_dataset"}, columns(messages="text"), ["text", "'messages'", "list"], "dataset_label"),
        ({"dataset_type": None}, columns(input="text"), ["column 'output'"], "dataset_label"),
    ],
)  # fmt: skip
def test_columns_that_the_type_of_data_set_reads_are_required(
    changes: Changes, part: DataPart, told: list[str], named: str
) -> None:
    assert absent(mismatch(part, changes, named), *told) == []


def test_an_absent_value_has_no_kind() -> None:
    missing, other = (mismatch(columns(input={"text": 1, kind: 2}, output="text")) for kind in ("absent", "number"))
    assert absent(other, "number") == []
    assert absent(missing, "absent") == ["absent"]


def test_a_single_run_is_reported_without_a_number_of_runs() -> None:
    assert absent(mismatch(columns(input="text")), "all", 1) == ["all", "1"]


def test_columns_that_the_type_of_data_set_does_not_read_are_ignored() -> None:
    assert not found(columns(text="text", n="number"), {"dataset_type": "text_completion_dataset"})
    assert not found(columns(q="text", a="text"), {"input_key": "q", "output_key": "a"})
    chat = DataPart(rows=2, columns={"messages": {"list": 1}})
    assert not found(chat, {"dataset_type": "chat_dataset"})


def test_an_invalid_conversation_is_reported_with_its_row() -> None:
    faulty = DataPart(rows=9, columns={"messages": {"list": 1}}, messages={"a message is not an object": 4})
    message = mismatch(faulty, {"dataset_type": "chat_dataset"})
    assert absent(message, "row 4", "train", "a message is not an object") == []
    other = faulty.model_copy(update={"columns": {**TEXTS, "messages": {"list": 1}}})
    assert not found(other)


def test_runs_that_read_different_columns_have_separate_findings() -> None:
    findings = found(GOOD, {"input_key": "q"}, {"input_key": "r"}, {})
    assert [each.expected for each in findings] == ["a column 'q'", "a column 'r'"]


# --- counts -----------------------------------------------------------------------------------------------------------


def test_counts_that_differ_from_the_summary_are_a_warning() -> None:
    parts = DataFile(parts={"train": GOOD, "validation": DataPart(rows=3, columns=TEXTS)})
    findings = found(parts, splits={DATA: {"train": 1000, "validation": 30, "test": 5}})
    assert [(f.code, f.severity, f.expected, f.actual) for f in findings] == [
        ("split-differs", Severity.WARNING, 30, 3)
    ]
    assert findings[0].line == LINES["dataset_label"]


def test_an_empty_split_that_the_summary_counts_is_reported() -> None:
    parts = DataFile(parts={"train": GOOD, "test": DataPart(rows=0, columns={})})
    (finding,) = found(parts, splits={DATA: {"test": 5}})
    assert (finding.code, finding.expected, finding.actual) == ("split-differs", 5, 0)


def test_existing_columns_are_listed() -> None:
    (finding,) = found(columns(input="text", more="text"))
    assert (finding.expected, finding.actual) == ("a column 'output'", "'input', 'more'")
    findings = found(columns())
    assert [each.actual for each in findings] == ["no columns", "no columns"]


def test_each_of_two_missing_columns_gets_a_column_of_its_own_as_the_fix() -> None:
    assert ["uno" in each.fix for each in found(columns(uno="text", zwei="text"))] == [True, False]


def test_too_many_training_samples_are_reported() -> None:
    (finding,) = found(GOOD, {"training_samples": 1001})
    assert (finding.code, finding.expected, finding.actual) == ("split-differs", 1001, 1000)
    assert finding.line == LINES["training_samples"]
    assert not found(GOOD, {"training_samples": 1000})


def test_a_finding_lists_the_runs_that_use_the_data_set() -> None:
    other = run_of({}, 1, data="/elsewhere/words.json")
    (finding,) = found(DataFile(absent=True), run_of({}, 0), other)
    assert absent(finding.message, "run0") == []
    assert not {"run1", ","} & set(finding.message.split())


# --- unread columns, empty texts --------------------------------------------------------------------------------------


def told(part: DataPart, *changes: Changes, code: str = "unread-column") -> list[Finding]:
    runs = [run_of({"num_warmup_steps": 0, **each}, number) for number, each in enumerate(changes or ({},))]
    seen = DiskState(data={DATA: DataFile(parts={"train": part})})
    return [each for each in check_plan(plan_of(*runs), seen, {}) if each.code == code]


def filled(*names: str, read: tuple[str, ...] = ("input", "output"), rows: int = 9) -> DataPart:
    part = columns(**dict.fromkeys((*read, *names), "text"))
    return part.model_copy(update={"filled": dict.fromkeys(read, 9) | dict.fromkeys(names, rows)})


@pytest.mark.parametrize(
    "name",
    [
        "instruction", "Instructions", "system", "system_prompt", "systemPrompt", "context", "question", "user_query",
        "passage", "article", "Background Text", "few-shot examples", "premise", "choices", "history",
    ],
)  # fmt: skip
def test_an_unread_column_that_the_answer_depends_on_is_a_warning(name: str) -> None:
    (finding,) = told(filled(name))
    assert (finding.severity, finding.expected, finding.actual) == (Severity.WARNING, "input", name)
    assert finding.line == LINES["dataset_type"]
    assert absent(finding.message, f"'{name}'", "'input'", "'output'", "in every row") == []
    assert absent(finding.fix, "'input'", f"`- **Input key:** {name}`") == []
    (some,) = told(filled(name, rows=4))
    assert absent(some.message, f"'{name}'", "in 4 of 9 rows") == []


@pytest.mark.parametrize(
    "name", ["id", "answer", "label", "difficulty", "question_id", "source_url", "split", "output2"]
)
def test_other_unread_columns_are_ignored(name: str) -> None:
    assert not told(filled(name))


def test_an_unread_column_without_text_is_ignored() -> None:
    assert not told(filled("instruction", rows=0))


def test_a_column_that_is_read_is_not_reported() -> None:
    part = filled("question", "context", read=("answer",))
    keys: Changes = {"input_key": "question", "output_key": "answer"}
    assert [each.actual for each in told(part, keys)] == ["context"]
    named: Changes = {**keys, "dataset_type": "chat_completion", "prompt": "{context} {input}"}
    assert not told(part, named)


def test_unread_columns_of_other_types_of_data_set() -> None:
    chat = filled("system", "question").model_copy(update={"columns": {"messages": {"list": 1}, "system": {"text": 1}}})
    (finding,) = told(chat, {"dataset_type": "chat_dataset"})
    assert finding.actual == "system"
    assert "Input key" not in finding.fix
    (finding,) = told(filled("question", read=("text",)), {"dataset_type": "text_completion_dataset"})
    assert (finding.expected, finding.actual) == ("text", "question")


def test_unread_columns_are_not_reported_if_no_column_is_read() -> None:
    assert not told(filled("question", read=("answer",)))


def test_runs_that_read_different_columns_are_listed_separately() -> None:
    findings = told(filled("question", read=("input", "output")), {}, {"input_key": "question"}, {})
    assert [each.actual for each in findings] == ["question", "input"]
    assert absent(findings[0].message, "2 of 3 runs ('run0' and 'run2')") == []


def test_empty_texts_are_counted() -> None:
    form = form_of(run_of({}))
    assert form is not None
    counts = SampleCounts(form=form, rows=9, blank={"input": RowCount(count=4, first=3)})
    part = filled().model_copy(update={"samples": (counts,)})
    (finding,) = told(part, {}, {"lr": 1.0}, code="empty-texts")
    assert (finding.severity, finding.field, finding.actual) == (Severity.WARNING, "input", 4)
    assert absent(finding.message, 4, 9, 3, "both runs") == []


def test_a_column_with_mixed_types_is_refused_even_if_unread() -> None:
    part = columns(input="text", output="text", n={"absent": 1, "number": 2, "text": 7})
    message = mismatch(part)
    assert absent(message, "'n'", "row 7", "row 2", "number", "text") == []
    assert not found(columns(input="text", output="text", n={"absent": 1, "null": 2, "text": 7}))


def test_data_that_cannot_be_loaded_are_refused_for_all_runs() -> None:
    part = filled().model_copy(update={"faults": {"a number in the column 'n' does not fit in 64 bits": 3}})
    assert absent(mismatch(part), "row 3", "'n'") == []


def test_a_column_with_a_similar_name_may_be_read_instead() -> None:
    (finding,) = found(columns(inputs="text", output="text"))
    assert (finding.code, finding.actual) == ("data-mismatch", "'inputs', 'output'")
    assert absent(finding.fix, "`- **Input key:** inputs`") == []
    (chat,) = found(columns(dialogue="text"), {"dataset_type": "chat_dataset", "prompt": None, "system_prompt": None})
    assert chat.code == "data-mismatch"
    assert "dialogue" not in chat.fix
