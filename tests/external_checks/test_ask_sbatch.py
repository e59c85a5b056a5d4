"""validate checks with sbatch that SLURM accepts the scripts. A stand-in answers here; tests/slurm has the real one."""

import re
from pathlib import Path

import pytest

from scaffold_torchtune.cli import main
from scaffold_torchtune.findings import Finding
from scaffold_torchtune.results.step_results import ValidateResult
from support.command_line import answer, command
from support.experiments import RUNS, change, is_alive, log
from support.sampling import spread
from support.scaffolding import answers, validated
from support.stand_in_sbatch import StandIn
from support.waiting import pass_deadlines_once, written
from support.wording import absent

NO_CONTROLLER = "allocation failure: Unable to contact slurm controller (connect failure)"
WRONG_ACCOUNT = "allocation failure: Invalid account or account/partition combination specified"


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: Path) -> StandIn:
    """Return a stand-in that accepts everything."""
    del done  # scaffolded without sbatch
    return StandIn(tmp_path / "bin", monkeypatch)


def of_runs(result: ValidateResult) -> dict[str, list[Finding]]:
    return {run.directory: list(run.findings) for run in result.runs if run.findings}


def test_accepted_scripts_have_no_finding_and_need_one_call(done: Path, sbatch: StandIn) -> None:
    result = validated(done)
    assert result.passed
    assert (answers(result), of_runs(result)) == ([], {})
    assert sbatch.calls == [f"--test-only in {done} with "]


def test_runs_with_different_options_are_tested_separately(done: Path, sbatch: StandIn) -> None:
    change(done / RUNS[1] / "finetune.slurm", "--mem=", "--mem=1")
    change(done / RUNS[2] / "finetune.slurm", "#SBATCH --output=", "#SBATCH --comment=x\n#SBATCH --output=other-")
    change(done / RUNS[3] / "finetune.slurm", "#SBATCH --output=", "#SBATCH --output=other-")
    validated(done)
    assert len(sbatch.calls) == 3


def test_sbatch_reads_the_script_itself(done: Path, sbatch: StandIn, tmp_path: Path) -> None:
    sbatch.answers(f'printf "%s\\n" "$script" > {tmp_path}/read')
    validated(done)
    assert (tmp_path / "read").read_text() == (done / RUNS[0] / "finetune.slurm").read_text()


def test_a_rejected_account_is_reported_for_every_run_that_has_it(done: Path, sbatch: StandIn) -> None:
    sbatch.says(1, WRONG_ACCOUNT)
    result = validated(done)
    assert not result.passed
    assert list(of_runs(result)) == list(RUNS)
    for run, (found,) in of_runs(result).items():
        assert (found.code, found.severity, found.field) == ("sbatch-refused", "error", "account")
        assert found.actual == "Invalid account or account/partition combination specified"
        assert found.file == f"{run}/finetune.slurm"
        lines = (done / run / "finetune.slurm").read_text().splitlines()
        assert found.line is not None
        assert lines[found.line - 1] == "#SBATCH --account=lab"
        assert absent(found.fix, f"--account=lab (line {found.line}, ", "claude.local.md:") == []
        assert absent(found.fix, "sacctmgr show associations") == []
    assert len(sbatch.calls) == 1


def test_a_repeated_refusal_changes_nothing_in_the_log(done: Path, sbatch: StandIn) -> None:
    sbatch.says(1, WRONG_ACCOUNT)
    validated(done)
    before = log(done)
    assert "Invalid account" in before
    validated(done)
    assert log(done) == before


def test_the_estimated_start_of_a_job_is_not_a_finding(done: Path, sbatch: StandIn) -> None:
    sbatch.answers('echo "sbatch: Job $$ to start at $(date +%s%N) using 1 processors on nodes gpu01" >&2')
    assert validated(done) == validated(done)


@pytest.mark.parametrize(
    ("status", "lines", "last"),
    spread(
        [
            (1, [NO_CONTROLLER], "Unable to contact slurm controller (connect failure)"),
            (
                1,
                ["sbatch: error: DNS SRV lookup failed", "sbatch: fatal: Could not establish a configuration source"],
                "",
            ),
            (
                1,
                ["sbatch: error: Munge encode failed: Failed", "allocation failure: Protocol authentication error"],
                "",
            ),
            (1, ["sbatch: fatal: Unable to process configuration file"], "Unable to process configuration file"),
            (127, ["sbatch: error while loading shared libraries: libslurm.so: no such file"], ""),
            (126, [], "status 126"),
        ],
        every=2,
    ),
)
def test_without_a_working_slurm_one_note_states_that_nothing_was_tested(
    status: int, lines: list[str], last: str, done: Path, sbatch: StandIn
) -> None:
    change(done / RUNS[1] / "finetune.slurm", "#SBATCH --output=", "#SBATCH --mail-type=NONE\n#SBATCH --output=")
    assert not validated(done).passed  # the option is not planned
    sbatch.says(status, *lines)
    result = validated(done)
    (found,) = answers(result)
    assert (found.code, found.severity) == ("sbatch-unavailable", "info")
    assert absent(found.message, "sbatch --test-only", last) == []
    assert not re.search(r"\d of \d", found.message), "none was tested"
    assert len(sbatch.calls) == 2 + 1  # after the first such answer sbatch is not called again


def told(result: ValidateResult) -> dict[str, tuple[str, str]]:
    return {each.program: (each.state, each.told) for each in result.asked}


def test_the_verdict_states_whether_sbatch_checked_the_scripts(
    done: Path, sbatch: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(validated(done)) == {"sbatch": ("ran", "4 scripts tested"), "torchtune": ("off", "switched off")}
    sbatch.says(127, "no slurm here")
    assert told(validated(done))["sbatch"] == ("not run", "no answer: no slurm here")
    main(["validate", str(done)])
    assert absent(capsys.readouterr().out, "sbatch (no answer)") == []
    main(["validate", str(done), "--json"])
    shown = answer(capsys)
    assert shown["asked"] == {"sbatch": "no answer: no slurm here", "torchtune": "switched off"}
    assert "sbatch-unavailable" not in {each["code"] for each in shown["findings"]}, "asked has the reason"
    assert shown["counts"]["infos"] == 0
    main(["validate", str(done), "--json", "--no-sbatch"])
    assert answer(capsys)["asked"]["sbatch"] == "switched off"
    (sbatch.folder / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(sbatch.folder))
    assert told(validated(done))["sbatch"] == ("not run", "not on PATH")


def test_a_missing_script_is_not_tested(done: Path, sbatch: StandIn) -> None:
    for run in RUNS:
        (done / run / "finetune.slurm").unlink()
    assert told(validated(done))["sbatch"] == ("not run", "no readable script")
    assert sbatch.calls == []


def test_refusals_before_sbatch_became_unavailable_are_kept(done: Path, sbatch: StandIn, tmp_path: Path) -> None:
    change(done / RUNS[3] / "finetune.slurm", "--mem=", "--mem=1")
    sbatch.answers(
        f'[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; echo "{WRONG_ACCOUNT}" >&2; exit 1; }}\nexit 127'
    )
    result = validated(done)
    (found,) = answers(result)
    assert absent(found.message, "1 of 2") == []
    assert told(result)["sbatch"][1].startswith("1 of 2 distinct scripts tested, then no answer")
    assert [run for run, all_found in of_runs(result).items() if "sbatch-refused" in {f.code for f in all_found}] == [
        *RUNS[:3]
    ]


def test_a_hanging_sbatch_is_ended_and_reported(
    done: Path, sbatch: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch.answers(f"echo $$ > {tmp_path}/pid; sleep 600")
    pass_deadlines_once(lambda: written(tmp_path / "pid"), monkeypatch)
    (found,) = answers(validated(done))
    assert found.code == "sbatch-unavailable"
    assert absent(found.message, "30 s") == []
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_an_sbatch_that_cannot_be_started_is_reported(done: Path, sbatch: StandIn) -> None:
    (sbatch.folder / "sbatch").write_text("no program")
    (found,) = answers(validated(done))
    assert found.code == "sbatch-unavailable"
    assert absent(found.message, "Exec format error") == []


def test_a_missing_slurm_configuration_is_reported_without_a_call(
    done: Path, sbatch: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
    squeue, called = sbatch.folder / "squeue", sbatch.folder / "called"
    squeue.write_text(f"#!/bin/sh\ntouch {called}\n")  # a real one would wait for a controller
    squeue.chmod(0o755)
    (found,) = answers(validated(done))
    assert absent(found.message, "SLURM_CONF", "'/nowhere/slurm.conf'") == []
    assert (sbatch.calls, called.exists()) == ([], False)
    monkeypatch.setenv("SLURM_CONF", str(sbatch.folder))
    assert answers(validated(done)) == []
    assert (len(sbatch.calls), called.exists()) == (1, True)


def test_a_script_that_the_cluster_accepts_later_is_a_warning(done: Path, sbatch: StandIn) -> None:
    sbatch.says(1, "allocation failure: Required partition not available (inactive or drain)")
    result = validated(done)
    assert result.passed
    found = of_runs(result)[RUNS[0]][0]
    assert (found.code, found.severity) == ("sbatch-refused", "warning")


def test_a_script_that_cannot_be_parsed_is_not_tested(done: Path, sbatch: StandIn) -> None:
    for run, (old, new) in zip(
        RUNS,
        [
            ("#!/bin/bash", "#!bash"),
            ("#SBATCH --mem=", "#SBATCH hetjob\n#SBATCH --mem="),
            ("#SBATCH --mem=", '#SBATCH --comment="\n#SBATCH --mem='),
            ("#!/bin/bash\n", "#!/bin/bash\r\n"),
        ],
        strict=True,
    ):
        change(done / run / "finetune.slurm", old, new)
    assert not validated(done).passed
    assert sbatch.calls == []
    for run in RUNS:
        (done / run / "finetune.slurm").unlink()
    assert not validated(done).passed
    assert sbatch.calls == []


def test_variables_are_only_passed_for_options_that_the_script_lacks(
    done: Path, sbatch: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, missing = ("ACCOUNT", "CONSTRAINT"), ("CLUSTERS", "PARTITION", "QOS", "RESERVATION")
    for name in (*theirs, *missing, "TIMELIMIT", "WAIT", "DEBUG"):
        monkeypatch.setenv(f"SBATCH_{name}", "mine")
    validated(done)
    for run in RUNS:
        text = (done / run / "finetune.slurm").read_text()
        (done / run / "finetune.slurm").write_text(re.sub("#SBATCH --(account|constraint)=.*\n", "", text))
    validated(done)
    for call, names in zip(sbatch.calls, (missing, sorted(theirs + missing)), strict=True):
        assert call == f"--test-only in {done} with " + "".join(f"SBATCH_{name}=mine " for name in names)


@pytest.mark.parametrize("arguments", [["--no-sbatch"], []])
def test_the_operator_can_switch_the_check_off(
    arguments: list[str],
    done: Path,
    sbatch: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not arguments:
        monkeypatch.setenv("SCAFFOLD_TORCHTUNE_SBATCH", "off")
    sbatch.says(1, WRONG_ACCOUNT)
    assert main(["validate", str(done), "--json", *arguments]) == 0
    assert answer(capsys)["passed"] is True
    assert main(["scaffold", str(done), "--json", *arguments]) == 0
    assert sbatch.calls == []


@pytest.mark.long
def test_the_demo_does_not_call_sbatch(tmp_path: Path, sbatch: StandIn) -> None:
    sbatch.says(1, WRONG_ACCOUNT)
    shown = command("demo", tmp_path / "demo")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert sbatch.calls == []


def test_a_scaffold_is_not_ready_if_sbatch_refuses(
    done: Path, sbatch: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    sbatch.says(
        1, "sbatch: error: invalid partition specified: x", "allocation failure: Invalid partition name specified"
    )
    assert main(["scaffold", str(done)]) == 1
    out = capsys.readouterr().out
    assert ": invalid partition specified: x; Invalid partition name specified" in out
    assert "validation failed: 4 of 4 runs" in out
    assert "claude.local.md" in out  # the script has no partition


def test_progress_is_reported_for_each_distinct_script(done: Path, sbatch: StandIn) -> None:
    change(done / RUNS[1] / "finetune.slurm", "--mem=", "--mem=1")
    reported: list[tuple[str, int, int]] = []
    validated(done, progress=lambda *now: reported.append(now))
    assert [now for now in reported if now[0] == "sbatch"] == [("sbatch", 1, 2), ("sbatch", 2, 2)]
    assert len(sbatch.calls) == 2
