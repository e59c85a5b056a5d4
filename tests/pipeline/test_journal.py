import re
from datetime import UTC, datetime

import pytest

from scaffold_torchtune.findings import Refused, finding, one_line
from scaffold_torchtune.models import Excluded, Options, Plan, PlannedRun
from scaffold_torchtune.pipeline import journal
from scaffold_torchtune.pipeline.journal import Entry
from scaffold_torchtune.results.step_results import (
    RenderedRun,
    RenderResult,
    SetupResult,
    SetupRun,
    ValidatedRun,
    ValidateResult,
)
from support.wording import absent

NOW = datetime(2026, 11, 20, 9, 5, 3, tzinfo=UTC)
MISMATCH = finding(
    "value-mismatch", "lr is 0.1 (expected 1e-5)", field="lr", file="rank8/finetune.yaml", line=7, fix="look"
)


def plan(*directories: str, script: str = "bundled", legend: dict[str, str] | None = None) -> Plan:
    runs = tuple(
        PlannedRun(directory=d, name=d, line=n, model="m", data_path="/d.json", parameters={}, settings={})
        for n, d in enumerate(directories)
    )
    return Plan(
        id="1", version="0", experiment="sweep", experiment_dir="/e", options=Options(setup_script=script),
        inputs={"experiment_summary.md": "a", "claude.local.md": "b"}, varying=("lora_rank",),
        pattern="rank{lora_rank}", template="t.j2", legend=legend or {}, runs=runs,
        excluded=(Excluded(name="base", reason="a control"),) if legend else (),
    )  # fmt: skip


def text(entries: list[Entry]) -> str:
    return journal.format_entries(entries, NOW).decode()


def test_an_entry_has_a_header_labels_and_a_blank_line() -> None:
    entries = [Entry("ONE", "what", "how it went"), Entry("TWO", "what", "", "3.0 s")]
    assert text(entries) == (
        "[2026-11-20 09:05:03] ONE\nDetails: what\nResult: how it went\n\n"
        "[2026-11-20 09:05:03] TWO\nDetails: what\nDuration: 3.0 s\n\n"
    )


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_value_forges_an_entry(line_break: str) -> None:
    forged = f"x{line_break}{line_break}[2026-01-01 00:00:00] SCAFFOLD_TORCHTUNE_COMPLETE"
    lines = text([Entry("ONE", forged, forged, forged)]).splitlines()
    assert len(lines) == 5
    assert [line for line in lines if line.startswith("[")] == ["[2026-11-20 09:05:03] ONE"]


def test_printable_text_is_unchanged_and_other_characters_are_escaped() -> None:
    assert one_line("a\\b 'q' \"d\" $x é ✓") == "a\\b 'q' \"d\" $x é ✓"
    assert one_line("\x1b[31m\u202e\u200b\t") == "\\x1b[31m\\u202e\\u200b\\t"


def test_the_submit_line_of_very_many_runs_is_never_cut() -> None:
    assert "x" * 1_000_000 in text([Entry("ONE", "x" * 1_000_000, "")])


def test_render_logs_created_and_unchanged_directories() -> None:
    runs = (RenderedRun(directory="a", created=True), RenderedRun(directory="b", created=False))
    warning = finding("default-used", "lr is not given", file="experiment_summary.md", line=3)
    result = RenderResult(created=1, unchanged=1, runs=runs, warnings=(warning,))
    entries = journal.render_entries(plan("a", "b", legend={"prompt1": "Say\nit"}), result, ["a"])
    start, parameters, warned, directories, files = entries
    assert [entry.action for entry in entries] == [
        "SCAFFOLD_TORCHTUNE_START", "ANALYZE_PARAMETERS", "WARNING", "CREATE_RUN_DIRS", "GENERATE_YAMLS",
    ]  # fmt: skip
    assert absent(start.details, "2 runs", "sweep") == []
    assert absent(start.result, "experiment_summary.md, claude.local.md", "base (a control)") == []
    assert absent(parameters.details, "lora_rank") == []
    assert absent(text([parameters]), "rank{lora_rank}", "prompt1", "'Say\\nit'") == []
    assert warned.details == warning.sentence()
    assert (directories.details, re.findall(r"\d", directories.result)) == ("a, b", ["1", "1"])
    assert absent(files.details, "t.j2") == []
    assert re.findall(r"\d", files.result) == ["1", "1"]


def test_each_failed_run_has_its_own_entry_with_the_reason() -> None:
    runs = (
        SetupRun(directory="a", ok=True, unchanged=True),
        SetupRun(directory="b", ok=False, unchanged=False, reason="it\nfell"),
    )
    how = "the conda environment tune, activated once"
    result = SetupResult(environment=how, processed=2, succeeded=1, failed=1, runs=runs, warnings=(MISMATCH,))
    entries = journal.setup_entries(plan("a", "b", script="/s.py"), result)
    assert [entry.action for entry in entries] == ["ERROR", "SETUP_RUN_FAILED", "RUN_SETUP_SCRIPTS"]
    assert text(entries[1:2]) == "[2026-11-20 09:05:03] SETUP_RUN_FAILED\nDetails: b\nResult: it\\nfell\n\n"
    assert absent(entries[2].details, "/s.py", how) == []
    assert re.findall(r"\d", entries[2].result) == ["2", "1", "1", "1"]


def test_the_bundled_script_logs_no_activation() -> None:
    result = SetupResult(processed=1, succeeded=1, failed=0, runs=(), warnings=())
    (entry,) = journal.setup_entries(plan("a"), result)
    assert absent(entry.details, "conda") == []
    assert re.findall(r"\d", entry.result) == ["1", "1", "0"]


def test_a_passed_validation_is_complete_with_the_submit_line() -> None:
    runs = (ValidatedRun(directory="a", passed=True, findings=()),)
    result = ValidateResult(passed=True, checked=1, planned=1, runs=runs, findings=())
    verdict, last = journal.closing_entries(plan("a"), result, "cd /e", 3.21)
    assert absent(verdict.result, "1 of 1") == []
    assert (last.action, last.duration) == ("SCAFFOLD_TORCHTUNE_COMPLETE", "3.2 s")
    assert absent(last.details, "1 run", "sweep") == []
    assert last.result.endswith(": cd /e")


def test_a_finding_of_several_runs_is_logged_once_with_their_names() -> None:
    runs = tuple(
        ValidatedRun(
            directory=name,
            passed=False,
            findings=(finding("missing-file", "finetune.yaml is missing", file=f"{name}/finetune.yaml"),),
        )
        for name in ("a", "b", "c")
    )
    result = ValidateResult(passed=False, checked=3, planned=3, runs=runs, findings=())
    verdict, _ = journal.closing_entries(plan("a", "b", "c"), result, "", 0)
    assert verdict.result.count("is missing") == 1
    assert absent(verdict.result, "a, b and c", "3 of 3") == []


def test_a_failed_validation_logs_run_place_values_and_fix() -> None:
    runs = (
        ValidatedRun(directory="a", passed=True, findings=()),
        ValidatedRun(directory="b", passed=False, findings=(MISMATCH,)),
    )
    result = ValidateResult(passed=False, checked=2, planned=2, runs=runs, findings=())
    verdict, last = journal.closing_entries(plan("a", "b"), result, "cd /e", 0)
    assert verdict.result.startswith("FAILED: ")
    assert absent(verdict.result, "1 of 2", MISMATCH.sentence()) == []
    assert (last.action, last.duration) == ("SCAFFOLD_TORCHTUNE_FAILED", "0.0 s")
    assert last.details.endswith(": b")
    assert absent(last.result, "setup_finetune") == []
    assert "cd /e" not in text([verdict, last])


def test_a_validation_without_runs_fails() -> None:
    result = ValidateResult(passed=False, checked=0, planned=0, runs=(), findings=(MISMATCH,))
    last = journal.closing_entries(plan(), result, "", 0)[-1]
    assert last.action == "SCAFFOLD_TORCHTUNE_FAILED"
    assert not re.search(r"\d", last.details), "there is no run to name"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0.0 s"), (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (60, "1 min 0 s"), (125.9, "2 min 5 s"),
     (3599.9, "59 min 59 s"), (3600, "1 h 0 min"), (7325, "2 h 2 min"), (90061, "25 h 1 min")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    result = ValidateResult(passed=True, checked=1, planned=1, runs=(), findings=())
    assert journal.closing_entries(plan("a"), result, "", seconds)[-1].duration == shown


def test_a_refusal_names_every_problem_and_states_that_nothing_was_changed() -> None:
    entry = journal.refused_entry(Refused("1 problem", [MISMATCH]))
    assert entry.action == "SCAFFOLD_TORCHTUNE_REFUSED"
    assert entry.result.endswith(f". {MISMATCH.sentence()}")
    stopped = journal.stopped_entry(Refused("1 problem", [MISMATCH]))
    claim = entry.result.removesuffix(MISMATCH.sentence())
    assert claim not in stopped.result, "what was stopped midway does not claim it"


def test_an_interrupted_step_names_its_cause() -> None:
    entry = journal.stopped_entry(Refused("cannot write", [MISMATCH]))
    assert entry.action == "SCAFFOLD_TORCHTUNE_FAILED"
    assert MISMATCH.sentence() in entry.result


@pytest.mark.parametrize(
    ("failed", "details"), [([], ": all 2 runs (plan-outdated)"), (["b"], ": all 2 runs (plan-outdated); ")]
)
def test_a_problem_of_the_whole_plan_leaves_no_run_ready(failed: list[str], details: str) -> None:
    runs = tuple(
        ValidatedRun(directory=name, passed=name not in failed, findings=(MISMATCH,) if name in failed else ())
        for name in ("a", "b")
    )
    outdated = finding("plan-outdated", "the documents have changed")
    result = ValidateResult(passed=False, checked=2, planned=2, runs=runs, findings=(outdated, outdated))
    found = journal.closing_entries(plan("a", "b"), result, "", 0)[-1].details
    assert details in found
    assert found.endswith(": b" if failed else details)
