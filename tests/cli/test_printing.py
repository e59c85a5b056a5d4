import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from scaffold_torchtune.cli import printing, screens
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.findings import Finding, Refused, alike, finding
from scaffold_torchtune.models import Excluded, Model, Setting, Source, SourceKind
from scaffold_torchtune.pipeline import steps
from scaffold_torchtune.request import Request
from scaffold_torchtune.results.step_results import ScaffoldResult, SetupRun
from support.experiments import change, make_experiment
from support.wording import absent

EVIL = "[red]x[/red] :smile: \x1b[31m\x07\nnew line \u202e"
ESCAPED = "[red]x[/red] :smile: \\x1b[31m\\x07\\nnew line \\u202e"


def terminal(width: int = 200) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, markup=False, emoji=False)


def plain() -> Console:
    return Console(file=io.StringIO(), width=500, highlight=False, markup=False, emoji=False)


def text(console: Console) -> str:
    """Return the printed text without the escape sequences of styles."""
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


@pytest.fixture
def result(tmp_path: Path) -> ScaffoldResult:
    experiment = make_experiment(tmp_path / "sweep", replace={"| 8 | 5e-5 | 4 |": "| 8 | 5e-5 | 2 |"})
    return steps.scaffold(Request(experiment))


@pytest.fixture
def bad(result: ScaffoldResult) -> ScaffoldResult:
    """Return a result with hostile text in every text field."""
    problem = finding("value-mismatch", EVIL, field="lr", file=EVIL, line=3, fix=EVIL)
    remark = finding("default-used", EVIL, severity=Severity.INFO)
    evil = {"warnings": (problem, remark)}
    seed = Setting(value=EVIL, source=Source(kind=SourceKind.CONFIGURATION, note=EVIL))
    parse = result.parse.model_copy(update=evil | {"experiment": EVIL, "config": result.parse.config | {"seed": seed}})
    row = Excluded(name=EVIL, reason=EVIL)
    plan = result.plan.model_copy(update=evil | {"legend": {"prompt1": EVIL}, "excluded": (row,)})
    run = SetupRun(directory=result.setup.runs[0].directory, ok=False, unchanged=False, reason=EVIL)
    setup = result.setup.model_copy(update=evil | {"failed": 1, "runs": (run, *result.setup.runs[1:])})
    judged = result.validation.runs[0].model_copy(update={"passed": False, "findings": (problem,)})
    validation = result.validation.model_copy(
        update={"passed": False, "runs": (judged, *result.validation.runs[1:]), "findings": (problem,)}
    )
    return result.model_copy(
        update={
            "parse": parse, "plan": plan, "setup": setup, "validation": validation, "ok": False, "submit": "",
            "render": result.render.model_copy(update=evil),
        }
    )  # fmt: skip


def parts(of: ScaffoldResult) -> list[Model]:
    return [of.parse, of.plan, of.render, of.setup, of.validation, of]


@pytest.mark.parametrize("number", range(6))
def test_every_result_prints_plainly_and_on_a_terminal(result: ScaffoldResult, number: int) -> None:
    for console in (plain(), terminal(), terminal(20)):
        screens.result(console, parts(result)[number])
        assert text(console).strip()


@pytest.mark.parametrize("number", range(6))
def test_markup_is_printed_literally_and_control_characters_are_escaped(bad: ScaffoldResult, number: int) -> None:
    for console in (plain(), terminal(500)):
        screens.result(console, parts(bad)[number])
        printed = text(console)
        assert ESCAPED in printed
        assert all(character.isprintable() or character == "\n" for character in printed)
        assert "\nnew line" not in printed


def test_a_plain_console_has_no_escape_sequences_and_breaks_no_line(bad: ScaffoldResult) -> None:
    long = "word " * 500 + "end"
    reason = bad.setup.runs[0].model_copy(update={"reason": long})
    changed = bad.setup.model_copy(update={"runs": (reason,)})
    console = plain()
    screens.result(console, bad.model_copy(update={"setup": changed, "plan": bad.plan.model_copy(update={"runs": ()})}))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b" not in console.file.getvalue()
    assert f" {reason.directory}: {long} [setup-failed]\n" in text(console)


def test_a_scaffold_shows_its_runs_the_verdict_the_log_and_the_submit_line(result: ScaffoldResult) -> None:
    console = terminal(60)
    screens.result(console, result.model_copy(update={"submit": "cd " + "x" * 100}))
    printed = text(console)
    assert ": cd " + "x" * 100 + "\n" in printed
    assert absent(printed, result.validation.verdict) == []
    assert absent(result.validation.verdict, "passed", "4 of 4") == []
    console = plain()
    screens.result(console, result.model_copy(update={"unchanged": True}))
    changed = plain()
    screens.result(changed, result)
    assert text(console) != text(changed), "it says that nothing was changed"
    assert f"log: {result.log}\n" in text(console)
    words = text(console).split()
    assert [word for word in words if word.startswith("rank")][: len(result.plan.runs)] == [
        run.directory for run in result.plan.runs
    ]


def test_a_failed_scaffold_shows_the_failures_and_no_submit_line(bad: ScaffoldResult) -> None:
    console = plain()
    screens.result(console, bad)
    printed = text(console)
    assert absent(printed, bad.verdict) == []
    assert absent(bad.verdict, "failed", "1 of 4") == []
    assert "sbatch" not in printed
    assert not [line for line in printed.splitlines() if line.rstrip().endswith(":")], "no label without its value"
    assert "[value-mismatch]" in printed


def test_a_parse_without_a_common_data_set_prints(result: ScaffoldResult) -> None:
    console = plain()
    screens.result(console, result.parse.model_copy(update={"dataset": None}))
    assert "dataset" not in text(console)


def test_a_plan_shows_the_source_of_each_value_that_differs_by_run(result: ScaffoldResult) -> None:
    console = plain()
    screens.result(console, result.plan, printing.View(whole=True))
    rows = [" ".join(line.split()) for line in text(console).splitlines()]
    assert "lora_rank the run's row, LoRA Rank" in rows
    assert "lr the run's row, Learning Rate" in rows
    assert "lora_alpha derived (2 x lora_rank)" in rows
    assert [run.line for run in result.plan.runs] == sorted({run.line for run in result.plan.runs})
    row = Source(kind=SourceKind.ROW, file="experiment_summary.yaml")
    places = [{"line": 9 * i, "note": f"runs.{i}.parameters.seed"} for i in range(6)]
    sources = [{"seed": row.model_copy(update=place)} for place in places]
    runs = tuple(result.plan.runs[0].model_copy(update={"sources": source, "line": 1}) for source in sources)
    console = plain()
    screens.result(console, result.plan.model_copy(update={"runs": runs}), printing.View(whole=True))
    place, _, more = text(console).partition("experiment_summary.yaml:27 (runs.3.parameters.seed); ")
    assert place
    assert absent(more.splitlines()[0], 2, "--json --all") == []


def test_a_plan_without_varying_parameters_or_defaults_prints(result: ScaffoldResult) -> None:
    console, before = plain(), plain()
    screens.result(console, result.plan.model_copy(update={"varying": (), "levels": {}, "defaults": {}}))
    screens.result(before, result.plan)
    (varying,) = (line for line in text(before).splitlines() if absent(line, *result.plan.varying, 8, "5e-5") == [])
    assert f"{varying.partition(':')[0]}: nothing" in text(console).splitlines()
    (defaults,) = titles(text(before)) - titles(text(console))
    assert absent(text(before).partition(defaults)[2], *result.plan.defaults) == []


def titles(of: str) -> set[str]:
    return {line for line in of.splitlines() if line.endswith(":") and not line.startswith(" ")}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1e-5, "1e-5"), (8, "8"), (None, ""), (True, "True"), ("a\nb", "a\\nb"), ("", "")],
)
def test_values_in_tables(value: float | str | None, shown: str) -> None:
    assert printing.value(value) == shown


def test_a_refusal_shows_every_problem_and_that_nothing_was_changed() -> None:
    problems = [finding("missing-field", f"epochs{EVIL}", file="a.md", line=3, fix="add it"), finding("busy", "wait")]
    console = plain()
    screens.refusal(console, Refused(EVIL, problems))
    head, *problems_of, unchanged = text(console).splitlines()
    assert head.endswith(f": {ESCAPED}")
    assert absent(unchanged, 2) == []
    assert problems_of == [
        "  error: wait [busy]", f"  error: a.md:3: epochs{ESCAPED} [missing-field]", "    fix: add it"
    ]  # fmt: skip
    assert unchanged


def test_an_interrupted_step_does_not_claim_that_nothing_was_changed() -> None:
    console = plain()
    screens.refusal(console, Refused("disk full", []), midway=True)
    head, stays = text(console).splitlines()
    assert head.endswith(": disk full")
    refused = plain()
    screens.refusal(refused, Refused("disk full", []))
    assert {head, stays}.isdisjoint(text(refused).splitlines())


def sbatch_errors(runs: list[str], account: str = "lab") -> list[tuple[str, Finding]]:
    message = f"invalid account {account!r}"
    return [
        (run, finding("sbatch-refused", message, file=f"{run}/finetune.slurm", line=11, fix=f"look at {run}"))
        for run in runs
    ]


def test_findings_that_differ_only_by_run_are_grouped() -> None:
    (group,) = alike(sbatch_errors(["a", "b_1", "run"]))
    assert group.runs == ("a", "b_1", "run")
    assert [words for _, _, words in group.others()] == [(), ()]


def test_findings_with_a_different_fix_place_or_message_are_separate() -> None:
    one = finding("unused-field", "'QOS' is not read", field="QOS", file="a.md", line=3, fix="take it out")
    others = [
        one.model_copy(update=change_)
        for change_ in (
            {"code": "unused-column"}, {"field": "Mail"}, {"file": "b.md"}, {"fix": "write it"},
            {"message": "'QOS' is not known"}, {"severity": Severity.ERROR},
        )
    ]  # fmt: skip
    assert len(alike([("", one), *(("", other) for other in others)])) == 1 + len(others)
    near = one.model_copy(update={"message": "'Mail' is not read", "line": 9})
    (group,) = alike([("", one), ("", near)])
    assert [(each.line, words) for _, each, words in group.others()] == [(9, ("'Mail'",))]


def test_similar_findings_are_printed_once_with_their_places() -> None:
    console = plain()
    found = [
        finding("invalid-value", f"row {line}: 'x' is no number", file="a.md", line=line, fix="write a number")
        for line in (*range(3, 40), 50, 52)
    ]
    printing.findings(console, found)
    printed = text(console)
    assert printed.count("write a number") == 1
    assert absent(printed, "a.md:3", 38, "4 to 39", 50, 52) == []


def test_the_most_serious_findings_are_last_and_notes_are_counted() -> None:
    problems = [
        finding("value-mismatch", "wrong", file="a.md", line=1),
        finding("not-seen", "unseen", file="a.md", line=2),
        finding("estimate", "about so much", file="a.md", line=3),
    ]
    for notes in (False, True):
        console = plain()
        screens.refusal(console, Refused("no", problems), printing.View(notes=notes))
        codes = re.findall(r"\[([a-z-]+)\]", text(console))
        assert codes == [*(["estimate"] if notes else []), "not-seen", "value-mismatch"]
        assert absent(text(console).splitlines()[-1], "1 error", "1 warning", "1 note") == []
        assert ("--notes" in text(console)) is not notes


def test_errors_take_precedence_among_very_many_findings() -> None:
    warnings = [finding("not-seen", f"no {name}", field=name) for name in map(chr, range(97, 123))]
    errors = [finding("value-mismatch", f"wrong {name}", field=name) for name in map(chr, range(65, 91))]
    for whole in (False, True):
        console = plain()
        printing.groups(console, alike(("", each) for each in (*errors, *warnings)), whole=whole)
        printed = text(console)
        assert printed.count("[value-mismatch]") == len(errors)
        assert printed.count("[not-seen]") == (len(warnings) if whole else printing.MANY - len(errors))
        assert ("--all" in printed) is not whole


@pytest.mark.parametrize("width", [40, 80])
def test_text_to_paste_is_never_broken(width: int) -> None:
    line = "- **Save adapter weights only:** yes"
    fixes = [
        f"add `{line}` to Configuration (55.8 GiB -> 0.6 GiB), or make room",
        f"add this line below line 4: {line}",
    ]
    for fix in fixes:
        console = terminal(width)
        printing.findings(console, [finding("disk-space", "too much", fix=fix)])
        assert any(line in printed for printed in text(console).splitlines())


def test_names_are_side_by_side_and_unbroken() -> None:
    names = [f"rank{rank}_lr{rate}e-5" for rank in (8, 16, 128) for rate in range(1, 8)]
    for width in (20, 80):
        console = terminal(width)
        printing.grid(console, names)
        lines = text(console).splitlines()
        assert {word for line in lines for word in line.split()} == {*names}
        assert max(map(len, lines)) <= width


def test_a_table_omits_constant_columns_and_those_in_the_names(result: ScaffoldResult) -> None:
    runs = tuple(
        run.model_copy(update={"parameters": run.parameters | {"epochs": number, "batch_size": 4}})
        for number, run in enumerate(result.plan.runs)
    )
    plan = result.plan.model_copy(
        update={"common": {name: each for name, each in result.plan.common.items() if name != "epochs"}}
    )
    console = terminal(80)
    screens.result(console, plan.model_copy(update={"runs": runs}))
    (head,) = [line for line in text(console).splitlines() if line.split()[:1] == ["directory"]]
    assert head.split() == ["directory", "epochs"]
    named = [run.model_copy(update={"directory": f"{run.directory}_ep{run.parameters['epochs']}"}) for run in runs]
    console = terminal(80)
    screens.result(console, plan.model_copy(update={"runs": tuple(named)}))
    assert not [line for line in text(console).splitlines() if line.split()[:1] == ["directory"]]


def test_progress_is_a_bar_on_a_terminal_and_silent_elsewhere() -> None:
    printed = {}
    for name, console, quiet in (
        ("terminal", terminal(), False),
        ("quiet", terminal(), True),
        ("plain", plain(), False),
    ):
        with printing.ProgressBar(console, quiet=quiet) as progress:
            for done in (1, 2):
                progress.update("setup", done, 2)
        printed[name] = text(console)
    assert "setup" in printed["terminal"]
    assert "2/2" in printed["terminal"]
    assert printed["quiet"] == printed["plain"] == ""


def test_progress_is_shown_before_the_first_count_and_uncounted_steps_end() -> None:
    console = terminal()
    with printing.ProgressBar(console, quiet=False) as progress:
        assert text(console).strip(), "something is shown before the first step"
        progress.update("parse", 0, 0)
        progress.update("plan", 1, 2)
        progress.update("render", 0, 2)
        assert progress.shown == ["plan", "render"]


def test_consoles_are_wide_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    printing.console().print("[b]x[/b] :smile: " + "y" * 300)
    printing.console(stderr=True).print("error")
    out, error = capsys.readouterr()
    assert out == "[b]x[/b] :smile: " + "y" * 300 + "\n"
    assert error == "error\n"


def test_a_console_has_the_width_of_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    assert printing.console().width == 70


def test_a_changed_run_is_shown_with_its_place(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "sweep")
    steps.scaffold(Request(experiment))
    change(experiment / "rank8_lr1e-5" / "finetune.yaml", "lora_rank: 8", "lora_rank: 9")
    console = plain()
    screens.result(console, steps.validate(Request(experiment)))
    assert re.search(r"error: rank8_lr1e-5/finetune.yaml:[0-9]+: .*lora_rank\b.*\b9\b.*\b8\b", text(console))
    assert absent(text(console), "failed", "1 of 4") == []
