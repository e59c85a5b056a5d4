"""A finding is as before only if the previous plan had it with the same content; new ones are printed, notes too."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.pipeline import prepare, steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results import reply
from scaffold_torchtune.results.step_results import PlanResult
from support.experiments import DATA, change, make_experiment
from support.scaffolding import scaffold
from support.wording import absent

pytestmark = pytest.mark.long

SUMMARY = "experiment_summary.md"
DATA_FILE = "data/words.json"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Return the example with a data set on this machine."""
    place = "/scratch/gpfs/LAB/ada/data/capitalization/words_4L_80P_300.json"
    return make_experiment(tmp_path / "sweep", replace={place: DATA_FILE})


def configured(experiment: Path, *lines: str) -> None:
    change(experiment / SUMMARY, "- **Epochs:** 2\n", "".join(f"{line}\n" for line in ("- **Epochs:** 2", *lines)))


def told(experiment: Path) -> tuple[PlanResult, list[str], list[str]]:
    """Return the plan, and the codes of its findings that are new and that are as before."""
    plan = steps.plan(Request(experiment))
    new = [each.code for each in plan.warnings if each not in plan.repeated]
    return plan, new, [each.code for each in plan.repeated]


def empty_answers(experiment: Path, count: int) -> None:
    train = [each if number >= count else {**each, "output": ""} for number, each in enumerate(DATA["train"])]
    (experiment / DATA_FILE).write_text(json.dumps({**DATA, "train": train}))


def longer_warmup(experiment: Path) -> Callable[[], None]:
    configured(experiment, "- **Warmup steps:** 70")

    def larger_batches() -> None:
        change(experiment / SUMMARY, "- **Batch size:** 4", "- **Batch size:** 8")
        change(experiment / SUMMARY, "e-5 | 4 |", "e-5 | 8 |")

    return larger_batches


def more_empty_answers(experiment: Path) -> Callable[[], None]:
    empty_answers(experiment, 1)
    return lambda: empty_answers(experiment, 100)


def a_name_of_another_run(experiment: Path) -> Callable[[], None]:
    first, second = "_rank8_lr1e-5 |", "_rank8_lr5e-5 |"
    change(experiment / SUMMARY, first, "_rank4_lr1e-5 |")

    def move() -> None:
        change(experiment / SUMMARY, "_rank4_lr1e-5 |", first)
        change(experiment / SUMMARY, second, "_rank4_lr5e-5 |")

    return move


def another_overridden_value(experiment: Path) -> Callable[[], None]:
    configured(experiment, "- **Learning rate:** 3e-5")
    return lambda: change(experiment / SUMMARY, "- **Learning rate:** 3e-5", "- **Learning rate:** 3e-4")


CHANGED = {
    "long-warmup": longer_warmup,
    "empty-texts": more_empty_answers,
    "name-mismatch": a_name_of_another_run,
    "overridden": another_overridden_value,
}


@pytest.mark.parametrize("code", CHANGED)
def test_a_finding_with_other_values_is_new(code: str, experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit = CHANGED[code](experiment)
    assert scaffold(experiment).ok
    assert code in told(experiment)[2]
    edit()
    plan, new, repeated = told(experiment)
    assert (code in new, code in repeated) == (True, False)
    assert main(["plan", str(experiment)]) == 0
    assert f"[{code}]" in capsys.readouterr().out
    assert main(["scaffold", str(experiment)]) == 0
    out = capsys.readouterr().out
    assert f"[{code}]" in out
    assert not any(code in line for line in out.splitlines() if "as before" in line)
    assert code in [each.code for each in plan.warnings]


def test_findings_that_moved_or_concern_more_runs_are_as_before(experiment: Path) -> None:
    empty_answers(experiment, 1)
    configured(experiment, "- **Warmup steps:** 70")
    assert scaffold(experiment).ok
    _, new, before = told(experiment)
    assert (new, {"empty-texts", "long-warmup", "not-seen"} <= {*before}) == ([], True)
    configured(experiment, "", "")
    assert main(["add", str(experiment), "--rank", "32"]) == 0
    plan, new, repeated = told(experiment)
    assert {"empty-texts", "long-warmup", "not-seen"} <= {*repeated} - {*new}
    assert not absent(" ".join(each.message for each in plan.repeated), "all 6 runs")


def test_findings_about_the_only_run_and_about_all_runs_are_the_same(experiment: Path) -> None:
    configured(experiment, "- **Warmup steps:** 70")
    whole = (experiment / SUMMARY).read_text()
    kept = [line for line in whole.splitlines(keepends=True) if "_rank8_lr1e-5 |" in line or "_rank" not in line]
    for text, runs in ((whole, "all 4 runs"), ("".join(kept), "the run 'rank8_lr1e-5'"), (whole, "all 4 runs")):
        (experiment / SUMMARY).write_text(text)
        plan, new, repeated = told(experiment)
        if not plan.changes.is_first:
            assert {"long-warmup", "not-seen"} <= {*repeated} - {*new}
        about = [each.message for each in plan.warnings if each.code in {"long-warmup", "not-seen"}]
        assert [absent(message, runs) for message in about] == [[], []]
        assert scaffold(experiment).ok


def test_less_free_space_is_no_new_finding_and_a_larger_need_is(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, expected in ((10**6, None), (10**5, True), (10**5, False)):
        monkeypatch.setattr(prepare, "free_bytes", lambda _directory, free=free: free)
        if expected is False:
            change(experiment / SUMMARY, "- **Epochs:** 2", "- **Epochs:** 9")
        if expected is not None:
            assert ("disk-space" in told(experiment)[2]) is expected
        assert scaffold(experiment).ok


def test_new_notes_are_counted_as_new_and_shown_with_notes(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scaffold(experiment).ok
    lines = (experiment / SUMMARY).read_text().splitlines(keepends=True)
    (experiment / SUMMARY).write_text("".join(line for line in lines if "_rank16_lr5e-5 |" not in line))
    change(experiment / SUMMARY, "- **Runs:** 4 fine-tuned + 1 control = 5 total\n", "")
    plan, new, _ = told(experiment)
    assert "incomplete-factorial" in new
    for words in (["plan"], ["plan", "--notes"], ["scaffold", "--notes"]):
        assert main([*words, str(experiment)]) == 0
        out = capsys.readouterr().out
        assert ("[incomplete-factorial]" in out) is ("--notes" in words)
        assert ("; notes: 2 new" in out) is (words[0] == "plan")
        known = [line for line in out.splitlines() if "as before" in line]
        assert not any("incomplete-factorial" in line for line in known)
    assert "incomplete-factorial" in [each.code for each in plan.without_told().warnings]


def test_a_new_doubt_is_asked_although_a_finding_with_its_code_is_known(experiment: Path) -> None:
    change(experiment / SUMMARY, "_rank8_lr1e-5 |", "_rank4_lr1e-5 |")
    assert scaffold(experiment).ok
    asked = [first_of(experiment)]
    change(experiment / SUMMARY, "_rank8_lr5e-5 |", "_rank4_lr5e-5 |")
    asked.append(first_of(experiment))
    assert ["name-mismatch" in each for each in asked] == [False, True]


def first_of(experiment: Path) -> str:
    """Return what an agent does first after a plan."""
    call = reply.Call("plan_runs", {"experiment": str(experiment)})
    first: str = reply.of_result(steps.plan(Request(experiment)), call)["next"]["first"]
    return first
