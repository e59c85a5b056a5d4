"""The report as a page, as Markdown and as CSV: runs in every state, hostile values, and many runs."""

import csv
import hashlib
import io
import math
import re
import time
from base64 import b64encode
from itertools import pairwise
from pathlib import Path

import pytest

from scaffold_torchtune.models import PlannedRun
from scaffold_torchtune.pipeline.journal import read_entries
from scaffold_torchtune.pipeline.state import MOST_RUNS
from scaffold_torchtune.results.report_contents import ExperimentReport, csv_table, markdown
from scaffold_torchtune.results.report_page import is_page, is_unedited, page
from scaffold_torchtune.results.step_results import LossPoint, RunStatus
from scaffold_torchtune.system.files import MAX_READ
from support.experiments import RUNS, change, make_experiment
from support.reported import EVIL, Page, design, in_all_states, losses, report_on, scaffolded_only
from support.scaffolding import scaffold

HOSTILE = [EVIL, "{{ 7 * 7 }}", "a\u202eb\x1b[31m\x00c", '" onmouseover="alert(1)', "=cmd|' /C calc'!A0", "`|` @all #1"]


@pytest.fixture(scope="module")
def told(intact: Path) -> ExperimentReport:
    return report_on(intact)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# --- the page


def test_the_page_is_complete_and_its_links_have_targets(told: ExperimentReport) -> None:
    made = Page(page(told))
    assert len(made.ids) == len({*made.ids})
    assert {link[1:] for link in made.links if link.startswith("#")} <= {*made.ids}
    assert [link for link in made.links if not link.startswith("#")] == ["data:,"]
    assert made.elements["h1"] == made.elements["main"] == made.elements["title"] == 1
    assert all(made.elements[name] for name in ("nav", "header", "footer", "caption"))


def test_the_policy_allows_only_its_own_style_and_script(told: ExperimentReport) -> None:
    text = page(told)
    ((_, _, policy),) = [each for each in Page(text).attributes if each[2].startswith("default-src")]
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [name for _, name, _ in Page(text).attributes if name == "style" or name.startswith("on")]


def test_verdict_states_causes_and_estimates_are_on_the_page(told: ExperimentReport) -> None:
    text = Page(page(told)).text
    for said in ("Validation passed", "4 of 4 runs checked", "2 finished", "1 failed", "1 running", "problem"):
        assert said in text
    assert "the GPU ran out of memory" in text
    assert "halve batch_size" in text
    assert "the loss is nan from step 46 on" in text
    assert "GPU-hours requested 3.9" in text
    assert "GPU-hours used 0.75" in text  # 1,800 s and 900 s on one GPU each
    assert "memory on each GPU 2.3 to 2.4 GiB" in text


def test_two_factors_are_a_matrix_with_each_run_once(told: ExperimentReport) -> None:
    assert told.grid is not None
    assert {cell: [run.directory for run in runs] for cell, runs in told.grid.cells.items()} == {
        (row, column): [f"rank{rank}_lr{lr}"]
        for row, rank in enumerate((8, 16))
        for column, lr in enumerate(("1e-5", "5e-5"))
    }
    made = Page(page(told))
    assert [each for each in made.attributes if each[:2] == ("a", "title")] == [("a", "title", run) for run in RUNS]


def test_other_numbers_of_factors_have_only_a_table(tmp_path: Path) -> None:
    three = design(tmp_path / "three", [8, 16], ["1e-5", "5e-5"], [1, 2])
    one = design(tmp_path / "one", [8, 16, 32], ["1e-5"])
    for experiment, factors in ((three, ["lora_rank", "lr", "seed"]), (one, ["lora_rank"])):
        scaffold(experiment)
        made = report_on(experiment)
        assert [each.name for each in made.factors] == factors
        assert made.grid is None
        text = page(made)
        assert 'class="matrix"' not in text
        assert all(f"<code>{run.directory}</code></a></th>" in text for run in made.runs)


def test_levels_are_sorted_as_numbers_and_empty_cells_are_shown(tmp_path: Path) -> None:
    experiment = design(tmp_path, [128, 8, 16], ["1e-4", "5e-5", "2e-4"])
    summary = experiment / "experiment_summary.md"
    text = summary.read_text()
    (line,) = [line for line in text.splitlines(keepends=True) if "_rank8_lr5e-5" in line]
    summary.write_text(text.replace(line, ""))
    scaffold(experiment)
    made = report_on(experiment)
    assert [each.levels for each in made.factors] == [(8, 16, 128), (5e-5, 1e-4, 2e-4)]
    assert made.grid is not None
    assert (0, 0) not in made.grid.cells
    assert made.grid.down.labels == ("8", "16", "128")
    assert Page(page(made)).text.count("no run") == 1


def test_a_dependent_factor_shares_a_side_of_the_matrix(tmp_path: Path) -> None:
    experiment = design(tmp_path, [8, 16], ["1e-5", "5e-5"])
    summary = experiment / "experiment_summary.md"
    lines = summary.read_text().splitlines()
    alphas = {
        "| Run Name": " LoRA Alpha |",
        "|----------|---": "---|",
        "_rank8_": " 64 |",
        "_rank16_": " 16 |",
        "_base |": " - |",
    }
    for number, line in enumerate(lines):
        lines[number] += next((more for text, more in alphas.items() if text in line and line.startswith("|")), "")
    summary.write_text("\n".join(lines) + "\n")
    assert scaffold(experiment).ok
    made = report_on(experiment)
    assert [each.name for each in made.factors] == ["lora_rank", "lr", "lora_alpha"]
    assert made.grid is not None
    assert made.grid.down == ("lora_rank, lora_alpha", ("8, 64", "16, 16"))
    assert [len(runs) for runs in made.grid.cells.values()] == [1, 1, 1, 1]
    assert "| `8, 64` |" in markdown(made)


def test_a_sparse_search_has_no_matrix(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sparse", without=["- **Runs:**", "_rank16_", "_rank8_lr5e-5"])
    summary = experiment / "experiment_summary.md"
    (line,) = [line for line in summary.read_text().splitlines(keepends=True) if "_rank8_lr1e-5" in line]
    pairs = [(8 * number, f"{number}e-5") for number in range(1, 9)]
    made = [line.replace("| 8 |", f"| {r} |").replace("1e-5", lr).replace("rank8", f"rank{r}") for r, lr in pairs]
    summary.write_text(summary.read_text().replace(line, "".join(made)))
    scaffold(experiment)
    assert report_on(experiment).grid is None


def test_runs_list_their_own_values_with_sources_and_shared_ones_are_listed_once(told: ExperimentReport) -> None:
    first = told.runs[0]
    values = {each.name: (each.value, each.source, each.is_default) for each in first.values}
    assert values["lora_rank"] == (8, "experiment_summary.md:22 (LoRA Rank)", False)
    assert values["lora_alpha"][0] == 16
    shared = {each.name: each for each in told.shared}
    assert not shared.keys() & values.keys()
    assert shared["batch_size"].value == 4
    assert shared["seed"].is_default
    assert page(told).count("<code>batch_size</code>") == 1


def test_a_value_that_differs_in_a_file_is_shown_next_to_the_expected_one(done: Path) -> None:
    change(done / "rank8_lr1e-5/finetune.yaml", "lora_rank: 8", "lora_rank: 64")
    change(done / "rank16_lr1e-5/finetune.yaml", "epochs: 2", "epochs: 9")  # all runs share it
    made = report_on(done, scaffolded_only)
    assert made.verdict == "failed"
    found = {run.directory: {each.name: each.found for each in run.values if each.found} for run in made.runs}
    assert {name: [*each] for name, each in found.items()} == {
        "rank8_lr1e-5": ["lora_rank"],
        "rank8_lr5e-5": [],
        "rank16_lr1e-5": ["epochs"],
        "rank16_lr5e-5": [],
    }
    assert re.fullmatch(r"64 in finetune\.yaml:\d+", found["rank8_lr1e-5"]["lora_rank"])
    text = page(made)
    assert text.count('<tr class="differs">') == 2
    assert "Validation failed" in Page(text).text
    assert "2 runs with errors" in Page(text).text


def test_a_refusal_after_the_verdict_is_shown_until_the_next_verdict(done: Path) -> None:
    summary = done / "experiment_summary.md"
    change(summary, "| 16 |", "| sixteen |")
    with pytest.raises(Exception, match="problem"):
        scaffold(done)
    made = report_on(done)
    assert any("sixteen" in each for each in made.refused)
    assert "The last scaffold was refused" in Page(page(made)).text
    assert "The last scaffold was refused" in markdown(made)
    change(summary, "| sixteen |", "| 16 |")
    change(summary, "**Epochs:** 2", "**Epochs:** 3")
    assert scaffold(done).ok
    assert report_on(done).refused == ()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_values_are_shown_as_text(intact: Path, hostile: str) -> None:
    def status(run: PlannedRun, number: int) -> RunStatus:
        found = in_all_states(run, number)
        cause = found.cause and found.cause.model_copy(update={"message": hostile, "fix": hostile, "file": hostile})
        told = {"job": hostile, "job_state": hostile, "output": hostile, "output_dir": hostile, "cause": cause}
        return found.model_copy(update={**told, "evidence": (hostile,), "unseen": (hostile,)})

    made = report_on(intact, status, not_asked=(hostile,))
    made = made.model_copy(
        update={"experiment": hostile, "experiment_dir": hostile, "legend": {hostile: hostile}, "tracking": hostile}
    )
    text, plain = page(made), page(report_on(intact))
    before, after = Page(plain), Page(text)
    for tag in ("script", "img", "a", "style", "iframe"):
        assert after.elements[tag] == before.elements[tag]
    assert [link for link in after.links if not link.startswith("#")] == ["data:,"]
    assert "\x1b" not in text
    assert "\u202e" not in text
    visible = "a\\u202eb\\x1b[31m\\x00c" if "\x1b" in hostile else hostile
    assert " ".join(visible.split()) in after.text
    assert is_unedited(text.encode())
    for written in (markdown(made), csv_table(made)):
        assert "\x1b" not in written
        assert "\u202e" not in written
    assert len(csv_table(made).splitlines()) == 5


def test_a_page_is_recognized_and_so_are_edits(told: ExperimentReport) -> None:
    made = page(told).encode()
    assert is_page(made)
    assert is_unedited(made)
    edited = made.replace(b"2 finished", b"4 finished").replace(b"</footer>", b"</footer> ")
    assert is_page(edited)
    assert not is_unedited(edited)
    assert not is_page(b"<!doctype html><title>mine</title>")
    assert not is_unedited(b"")


# --- curves


def points(text: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'<polyline points="([^"]+)"', text)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in lines]


def test_curves_follow_the_losses_and_end_at_nan(told: ExperimentReport) -> None:
    text = page(told)
    curves = points(text)
    assert len(curves) == 2 * 4  # a small one in the table, one with axes
    assert all(y1 <= y2 for line in curves for (_, y1), (_, y2) in pairwise(line))
    assert sorted(len(line) for line in curves) == [3, 3, 9, 9, 20, 20, 40, 40]
    assert text.count('class="broken"') == 2
    words = [value for tag, name, value in Page(text).attributes if (tag, name) == ("svg", "aria-label")]
    assert len(words) == 4
    assert re.fullmatch(r"loss of rank8_lr1e-5: from 2\.5 at step 1 to 0\.54\d+ at step 196, lowest .*", words[0])
    assert words[3].endswith("not a number from step 46 on")


def test_a_diverging_run_does_not_flatten_the_others(intact: Path) -> None:
    def status(run: PlannedRun, number: int) -> RunStatus:
        found = losses(40, 0.5)
        if number == 0:
            found = (*found[:8], *(LossPoint(step=5 * n + 1, loss=10.0**n) for n in range(8, 40)))
        return RunStatus(directory=run.directory, state="finished", losses=found)

    text = page(report_on(intact, status))
    small, large = points(text)[:4], points(text)[4:]
    assert all(max(y for _, y in line) - min(y for _, y in line) > 7 for line in small)
    assert all(max(y for _, y in line) - min(y for _, y in line) > 40 for line in large)
    assert all(0 <= y <= 124 for line in points(text) for _, y in line)
    assert "are cut off" in Page(text).text


def test_a_curve_has_a_gap_at_a_nan_loss(intact: Path) -> None:
    whole = losses(9, 1.0)
    gap = (*whole[:3], LossPoint(step=16, loss=None), *whole[4:])
    text = page(report_on(intact, lambda run, _: RunStatus(directory=run.directory, state="running", losses=gap)))
    assert [len(line) for line in points(text)] == [3, 5] * 8


@pytest.mark.parametrize(
    "odd", [(), losses(1, 1.0), (LossPoint(step=1, loss=None),) * 3, (LossPoint(step=7, loss=2.0),) * 2]
)
def test_unusual_curves_are_drawn_without_failing(intact: Path, odd: tuple[LossPoint, ...]) -> None:
    made = report_on(intact, lambda run, _: RunStatus(directory=run.directory, state="running", losses=odd))
    text = page(made)
    assert "nan," not in text
    assert all(math.isfinite(x) and math.isfinite(y) for line in points(text) for x, y in line)
    assert markdown(made)
    assert csv_table(made)


# --- the log


def test_the_log_is_a_timeline_with_one_entry_for_all_remarks(told: ExperimentReport) -> None:
    actions = [each.action for each in told.log]
    assert actions[0] == "SCAFFOLD_TORCHTUNE_START"
    assert actions[-1] == "SCAFFOLD_TORCHTUNE_COMPLETE"
    assert actions.count("WARNING") == 1
    (remarks,) = [each for each in told.log if each.action == "WARNING"]
    assert len(remarks.lines) > 1
    assert Page(page(told)).elements["time"] == len(told.log) + 1


def test_lines_that_are_not_log_entries_are_skipped() -> None:
    text = "nonsense\n[2026-11-27 04:30:00] SUBMIT\nDetails: jobs 7\nforged\n[x] NOT\n\n[2026-11-27 04:31:00] INFO\n"
    found = list(read_entries(text))
    assert [(each.action, each.lines) for each in found] == [("SUBMIT", (("Details", "jobs 7"),)), ("INFO", ())]


# --- Markdown


def test_markdown_is_short_and_has_verdict_matrix_causes_and_findings(told: ExperimentReport) -> None:
    text = markdown(told)
    lines = text.splitlines()
    assert lines[2].startswith("**Validation passed**")
    assert "| `8` | finished (loss 0.5" in text
    assert "**failed** (loss " in text
    assert "finished, **problem** (loss nan)" in text
    assert sum("out of memory" in line for line in lines) == 1
    assert len(lines) < 40


@pytest.mark.long
def test_markdown_of_many_runs_begins_with_those_that_have_problems(tmp_path: Path) -> None:
    experiment = design(tmp_path, [8, 16, 32, 64], ["1e-5", "2e-5", "3e-5", "4e-5", "5e-5", "6e-5"], [1, 2, 3])
    scaffold(experiment)
    text = markdown(report_on(experiment))
    listed = [line for line in text.splitlines() if re.match(r"\| `rank", line)]
    assert len(listed) == 60
    assert all("problem" in line or "failed" in line for line in listed[:24])
    assert "and 12 more runs" in text


def test_markdown_shows_any_value_as_code(intact: Path) -> None:
    made = report_on(intact).model_copy(update={"experiment": "*a* _b_ [c](d) <e> `f` @all #12 &amp;"})
    head = markdown(made).splitlines()[0]
    assert head == r"# \*a\* \_b\_ \[c\](d) \<e\> \`f\` &#64;all &#35;12 &amp;amp;"


# --- CSV


def test_csv_has_a_line_for_each_run_with_varying_values_and_results(told: ExperimentReport) -> None:
    found = rows(csv_table(told))
    assert [row["directory"] for row in found] == [*RUNS]
    assert list(found[0]) == [
        *("directory", "run_name", "lora_rank", "lr", "lora_alpha"),
        *("state", "epochs_done", "epochs_planned", "last_loss", "output_directory"),
    ]
    assert [(row["lora_rank"], float(row["lr"]), row["lora_alpha"]) for row in found] == [
        ("8", 1e-5, "16"),
        ("8", 5e-5, "16"),
        ("16", 1e-5, "32"),
        ("16", 5e-5, "32"),
    ]
    assert [row["state"] for row in found] == ["finished", "failed", "running", "finished"]
    assert [row["epochs_done"] for row in found] == ["2", "0", "1", "2"]
    assert math.isnan(float(found[3]["last_loss"]))
    assert float(found[0]["last_loss"]) == pytest.approx(losses(40, 0.5)[-1].loss)
    assert found[0]["output_directory"] == "/out/ck-out-rank8_lr1e-5"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_text_in_csv_is_never_a_formula(intact: Path, text: str) -> None:
    made = report_on(intact, lambda run, _: RunStatus(directory=run.directory, state="running", output_dir=text))
    assert {row["output_directory"] for row in rows(csv_table(made))} == {f"'{text}"}


def test_a_setting_with_the_name_of_a_result_has_a_separate_column(told: ExperimentReport) -> None:
    runs = tuple(
        run.model_copy(update={"values": (run.values[0].model_copy(update={"name": "state", "value": number}),)})
        for number, run in enumerate(told.runs)
    )
    found = rows(csv_table(told.model_copy(update={"runs": runs})))
    assert [row["setting_state"] for row in found] == ["0", "1", "2", "3"]
    assert [row["state"] for row in found] == ["finished", "failed", "running", "finished"]


# --- many runs


def multiplied(report: ExperimentReport, times: int) -> ExperimentReport:
    """Return the report with this many times the runs, each with a curve."""
    curve = losses(60, 0.5)
    runs = tuple(
        run.model_copy(
            update={
                "directory": f"{run.directory}_seed{number}",
                "status": run.status.model_copy(update={"losses": curve}),
            }
        )
        for number in range(times)
        for run in report.runs
    )
    return report.model_copy(update={"runs": runs})


@pytest.mark.long
def test_500_runs_are_below_3_megabytes(told: ExperimentReport) -> None:
    many = multiplied(told, 125)
    begun = time.process_time()
    text = page(many)
    assert time.process_time() - begun < 10
    assert len(many.runs) == 500
    assert 500_000 < len(text) < 3_000_000


@pytest.mark.long
def test_a_page_with_the_maximum_number_of_runs_can_be_read_back(told: ExperimentReport) -> None:
    many = multiplied(told, MOST_RUNS // 4)
    text = page(many)
    assert len(text.encode()) < MAX_READ
    assert "9000 more runs" in Page(text).text
    assert len(csv_table(many).splitlines()) == MOST_RUNS + 1
    assert len(markdown(many).splitlines()) < 200
