"""Test that `report` writes the page on request, that scaffolds renew it, and that user files are not overwritten."""

import csv
import io
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import dispatch, main
from scaffold_torchtune.findings import Refused
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.pipeline.reporting import ReportForm, ReportResult, renew, report
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.report_page import is_unedited
from support.experiments import RUNS, Clock, change, everything, log
from support.reported import Page
from support.sampling import spread
from support.scaffolding import refusal, scaffold, validated

MINE = b"<!doctype html><title>mine</title>"


def made(experiment: Path, form: ReportForm = "page", output: str | None = None, **given: object) -> ReportResult:
    return report(Request(experiment, **given), form, output)  # type: ignore[arg-type]


def shown(experiment: Path) -> str:
    return Page((experiment / "scaffold.html").read_text()).text


def refused(experiment: Path, form: ReportForm = "page", output: str | None = None, **given: object) -> str:
    """Return the code of the refusal, after checking that nothing was changed."""
    before = everything(experiment)
    with pytest.raises(Refused) as caught:
        made(experiment, form, output, **given)
    assert everything(experiment) == before
    (problem,) = caught.value.problems
    assert problem.fix
    return problem.code


# --- writing


def test_the_page_is_written_into_the_experiment_and_nothing_else_changes(done: Path) -> None:
    before = everything(done)
    result = made(done)
    assert result.path == str(done / "scaffold.html")
    after = everything(done)
    assert after.pop("scaffold.html")[3] == (done / "scaffold.html").read_bytes()
    assert {name: kept[3] for name, kept in after.items() if name != ".scaffold/lock"} == {
        name: kept[3] for name, kept in before.items() if name != ".scaffold/lock"
    }
    assert all(run in shown(done) for run in RUNS)
    assert "Validation passed" in shown(done)


@pytest.mark.parametrize("form", ["page", "markdown"])
def test_the_next_step_is_submit_while_a_run_is_ready(done: Path, form: ReportForm) -> None:
    def text() -> str:
        text = made(done, form, "-").text
        return Page(text).text if form == "page" else text

    line = f"scaffold-torchtune submit {done}"
    assert text().count(line) == 1
    for run in RUNS[1:]:
        (done / run / "slurm-1.out").write_text("x")
    assert text().count(line) == 1
    (done / RUNS[0] / "slurm-1.out").write_text("x")
    assert line not in text(), "every run was started"
    (done / RUNS[0] / "slurm-1.out").unlink()
    change(done / RUNS[0] / "finetune.yaml", "lora_rank: 8", "lora_rank: 9")
    assert line not in text(), "validation fails"


@pytest.mark.parametrize("form", ["page", "markdown"])
def test_started_runs_that_are_no_longer_in_the_table_are_named(done: Path, form: ReportForm) -> None:
    (done / RUNS[0] / "slurm-1.out").write_text("x")
    lines = (done / "experiment_summary.md").read_text().splitlines(keepends=True)
    kept = [line for line in lines if f"_{RUNS[0]} |" not in line and f"_{RUNS[1]} |" not in line]
    (done / "experiment_summary.md").write_text("".join(kept))
    assert scaffold(done).ok
    made(done)
    text = made(done, form, "-").text
    assert RUNS[0] in text, "it was started"
    assert RUNS[1] not in (Page(text).text if form == "page" else text).partition("Log")[0]


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_other_formats_are_printed_and_write_no_file(done: Path, form: ReportForm) -> None:
    before = everything(done)
    result = made(done, form)
    assert result.path == ""
    assert all(text in result.text for text in {"markdown": ["1e-5", "scaffolded"], "csv": RUNS}[form])
    assert made(done, "page", "-").text.startswith("<!doctype html>")
    assert everything(done) == before


@pytest.mark.parametrize("form", ["page", "markdown", "csv"])
def test_any_format_is_written_to_the_given_file(done: Path, tmp_path: Path, form: ReportForm) -> None:
    result = made(done, form, str(tmp_path / "out.txt"))
    assert result.path == str(tmp_path / "out.txt")
    assert "scaffolded" in (tmp_path / "out.txt").read_text()
    assert not (done / "scaffold.html").exists()


def test_a_relative_path_is_below_the_working_directory(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made(done, "csv", "runs.csv")
    found = list(csv.DictReader(io.StringIO((tmp_path / "runs.csv").read_text())))
    assert [row["directory"] for row in found] == [*RUNS]
    monkeypatch.chdir(done)
    assert made(done, "page", "scaffold.html").path == str(done / "scaffold.html")


def test_an_experiment_without_a_scaffold_is_refused(experiment: Path) -> None:
    assert refused(experiment) == "not-rendered"


def test_mismatched_values_are_on_the_page_and_do_not_fail_the_report(done: Path) -> None:
    change(done / "rank8_lr1e-5/finetune.yaml", "lora_rank: 8", "lora_rank: 64")
    assert made(done).verdict == "failed"
    assert "Validation failed" in shown(done)
    assert dispatch.run(["report", str(done)]) == 0


# --- existing files


@pytest.mark.parametrize("output", [None, "out.html"])
def test_an_existing_file_is_replaced_only_with_overwrite(done: Path, tmp_path: Path, output: str | None) -> None:
    path = tmp_path / output if output else done / "scaffold.html"
    path.write_bytes(MINE)
    given = str(path) if output else None
    assert refused(done, "page", given) == "edited-output"
    assert path.read_bytes() == MINE
    made(done, "page", given, overwrite=True)
    assert is_unedited(path.read_bytes())
    made(done, "page", given)  # a generated page is replaced without overwrite


def test_an_edited_page_is_not_replaced(done: Path) -> None:
    made(done)
    change(done / "scaffold.html", "</footer>", "<p>my remark</p></footer>")
    assert refused(done) == "edited-output"


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_an_existing_table_is_replaced_only_with_overwrite(done: Path, tmp_path: Path, form: ReportForm) -> None:
    path = tmp_path / "out"
    path.write_text("mine\n")
    assert refused(done, form, str(path)) == "edited-output"
    made(done, form, str(path), overwrite=True)
    assert "scaffolded" in path.read_text()


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "claude.local.md")


def _nowhere(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", spread([_link, _nowhere, _fifo, Path.mkdir], every=2))
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_special_file_is_never_replaced(done: Path, make: Callable[[Path], None], *, overwrite: bool) -> None:
    make(done / "scaffold.html")
    assert refused(done, overwrite=overwrite) == "unsafe-path"
    assert refused(done, "csv", str(done / "scaffold.html"), overwrite=overwrite) in {"unsafe-path", "write-failed"}
    before = everything(done)
    assert scaffold(done).ok
    assert everything(done) == before


@pytest.mark.parametrize("output", ["absent/out.html", "out.html/below", "x" * 300])
def test_an_unwritable_place_is_refused(done: Path, tmp_path: Path, output: str) -> None:
    (tmp_path / "out.html").write_text("mine")
    assert refused(done, "page", str(tmp_path / output)) == "write-failed"
    assert (tmp_path / "out.html").read_text() == "mine"


# --- renewing


def test_a_scaffold_renews_an_existing_page(done: Path) -> None:
    assert scaffold(done).ok
    assert not (done / "scaffold.html").exists()
    made(done)
    change(done / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    result = scaffold(done)
    assert result.ok
    page = Page((done / "scaffold.html").read_text())
    assert "epochs 3 experiment_summary.md:46" in page.text
    assert page.text.count("Scaffold complete") + page.text.count("scaffold complete") == 2
    assert is_unedited((done / "scaffold.html").read_bytes())


def test_nothing_is_written_if_only_the_time_would_change(done: Path) -> None:
    clock = Clock()
    made(done, now=clock)
    before = everything(done)
    for _ in range(100):
        clock()
    assert scaffold(done, now=clock).unchanged
    assert renew(Request(done, now=clock)) is None
    assert everything(done) == before


def test_a_verdict_and_a_refusal_renew_the_page_too(done: Path) -> None:
    made(done)
    change(done / "rank8_lr1e-5/finetune.yaml", "lora_rank: 8", "lora_rank: 64")
    assert not validated(done).passed
    assert "Validation failed" in shown(done)
    assert "64 in finetune.yaml" in shown(done)
    change(done / "experiment_summary.md", "| 16 |", "| sixteen |")
    refusal(steps.render, done)
    assert "The last scaffold was refused" in shown(done)
    assert "sixteen" in shown(done)


def test_the_page_has_the_present_state_of_runs(done: Path) -> None:
    made(done)
    (done / "rank8_lr1e-5/slurm-4711.out").write_text("Traceback\n")
    assert scaffold(done).ok
    assert "3 scaffolded" in shown(done)


def test_scaffolds_silently_keep_a_file_that_is_not_a_page(done: Path) -> None:
    (done / "scaffold.html").write_bytes(MINE)
    change(done / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    result = scaffold(done)
    assert result.ok
    assert "report-outdated" not in [each.code for each in result.validation.findings]
    assert (done / "scaffold.html").read_bytes() == MINE


def test_scaffolds_keep_an_edited_page_and_report_it(done: Path) -> None:
    made(done)
    change(done / "scaffold.html", "</footer>", "<p>my remark</p></footer>")
    edited = (done / "scaffold.html").read_bytes()
    change(done / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    result = scaffold(done)
    assert result.ok
    (told,) = [each for each in result.validation.findings if each.code == "report-outdated"]
    assert told.file == "scaffold.html"
    assert (done / "scaffold.html").read_bytes() == edited
    assert main(shlex.split(told.fix.split("`")[3])[1:]) == 0
    assert "my remark" not in shown(done)


def test_a_removed_page_is_not_written_again(done: Path) -> None:
    made(done)
    (done / "scaffold.html").unlink()
    change(done / "experiment_summary.md", "**Epochs:** 2", "**Epochs:** 3")
    assert scaffold(done).ok
    assert not (done / "scaffold.html").exists()


def test_no_run_may_have_the_name_of_the_page(experiment: Path) -> None:
    change(experiment / "experiment_summary.md", "Llama-3.2-1B-Instruct_rank8_lr1e-5", "scaffold.html")
    assert "unsafe-name" in {each.code for each in refusal(steps.plan, experiment, names="table").problems}


# --- the command


def test_the_command_prints_the_path_or_the_text(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch.run(["report", str(done)]) == 0
    assert str(done / "scaffold.html") in capsys.readouterr().out
    assert dispatch.run(["report", str(done), "--csv"]) == 0
    out = capsys.readouterr().out
    assert [line.partition(",")[0] for line in out.splitlines()] == ["directory", *RUNS]
    assert dispatch.run(["report", str(done), "--markdown", "--output", "-"]) == 0
    assert capsys.readouterr().out.startswith("# ")
    assert dispatch.run(["report", str(done), "--csv", "--output", str(done / "experiment_summary.md")]) == 2
    assert dispatch.run(["report", str(done / "nowhere")]) == 2
    with pytest.raises(SystemExit):
        dispatch.run(["report", str(done), "--csv", "--markdown"])


def test_a_report_logs_nothing(done: Path) -> None:
    before = log(done)
    made(done)
    assert log(done) == before
