"""The meaning of sbatch's answers: messages as Slurm 22.05 prints them, with the directive of each."""

import re

import pytest

from scaffold_torchtune.external_checks import sbatch
from scaffold_torchtune.finding_codes import Severity
from scaffold_torchtune.validate.run_files import parse_script
from support.good_files import GOOD_SLURM, planned, replaced
from support.wording import absent

SCRIPT = replaced(
    GOOD_SLURM,
    "#SBATCH --nodes=1\n",
    "#SBATCH --nodes=1\n#SBATCH -A lab\n#SBATCH --partition=gpu\n#SBATCH --constraint=gpu80\n#SBATCH --qos=day\n",
)


@pytest.mark.parametrize(
    ("status", "message", "line"),
    [
        (1, "Invalid account or account/partition combination specified", "-A lab"),
        (1, "Invalid partition name specified", "--partition=gpu"),
        (1, "Invalid feature specification", "--constraint=gpu80"),
        (1, "Invalid qos specification", "--qos=day"),
        (1, "Requested time limit is invalid (missing or exceeds some limit)", "--time=00:59:00 # Time limit"),
        (1, "Requested node configuration is not available", "--gres=gpu:1"),
        (1, "More processors requested than permitted", "--cpus-per-task=1"),
        (1, "Invalid generic resource (gres) specification", "--gres=gpu:1"),
        (1, "Memory required by task is not available", "--mem=8G"),
        (1, "Node count specification invalid", "--nodes=1"),
        (255, "Invalid --time specification", "--time=00:59:00 # Time limit"),
        (255, "invalid option -- 'z'", None),
        (1, "Requested reservation is invalid", None),
        (1, "Unspecified error", None),
    ],
)
def test_a_refusal_names_its_directive(status: int, message: str, line: str | None) -> None:
    of = sbatch.answer(status, f"sbatch: error: a plugin speaks first\nallocation failure: {message}\n")
    assert (of.verdict, of.message) == ("refused", message)
    found = sbatch.refusal(planned(), parse_script(SCRIPT), of)
    assert found.message.endswith(f": a plugin speaks first; {message}")
    assert (found.actual, found.file) == (message, "rank8_lr1e-5/finetune.slurm")
    lines = SCRIPT.splitlines()
    assert (lines[found.line - 1] if found.line else None) == (f"#SBATCH {line}" if line else None)
    assert (found.field is None) == (line is None)
    assert found.fix


def test_the_usage_hint_of_sbatch_is_ignored() -> None:
    message = "sbatch: unrecognized option '--bogus=3'\nTry \"sbatch --help\" for more information\n"
    of = sbatch.answer(255, message)
    assert of.message == "unrecognized option '--bogus=3'"
    script = replaced(SCRIPT, "#SBATCH --nodes=1\n", "#SBATCH --nodes=1\n#SBATCH --bogus=3\n")
    assert sbatch.refusal(planned(), parse_script(script), of).field == "bogus"


def test_a_one_letter_option_is_found() -> None:
    script = replaced(SCRIPT, "#SBATCH --nodes=1\n", "#SBATCH --nodes=1\n#SBATCH -z 3\n")
    found = sbatch.refusal(planned(), parse_script(script), sbatch.answer(255, "sbatch: invalid option -- 'z'"))
    assert (found.field, found.line) == ("z", 4)


def test_only_options_named_in_the_message_are_likely() -> None:
    of = sbatch.answer(255, "sbatch: error: Invalid --time specification of the partition")
    fix = sbatch.refusal(planned(), parse_script(SCRIPT), of).fix
    assert absent(fix, "--time=00:59:00 (line ") == []
    assert "--partition" not in fix


@pytest.mark.parametrize(
    ("status", "output", "verdict", "message"),
    [
        (0, "sbatch: Job 5 to start at 2026-01-01T00:00:00", "taken", "Job 5 to start at 2026-01-01T00:00:00"),
        (0, "", "taken", None),
        (1, "", "refused", None),
        (1, "sbatch: error: \n\nno\n\n", "refused", "no"),
        (126, "no", "unavailable", "no"),
        (127, "", "unavailable", None),
        (-11, "no", "unavailable", "no"),
        (1, "allocation failure: Unable to contact slurm", "unavailable", "Unable to contact slurm"),
        (1, "sbatch: error: Munge encode failed", "unavailable", "Munge encode failed"),
        (1, "sbatch: fatal: DNS SRV lookup failed", "unavailable", "DNS SRV lookup failed"),
        (1, "Required partition not available (inactive or drain)", "not-now",
         "Required partition not available (inactive or drain)"),
        (1, "Requested nodes are busy", "not-now", "Requested nodes are busy"),
    ],
)  # fmt: skip
def test_the_status_and_the_last_message_determine_the_verdict(
    status: int, output: str, verdict: str, message: str | None
) -> None:
    of = sbatch.answer(status, output)
    assert (of.verdict, of.messages) == (verdict, of.message)
    assert of.message == message if message else absent(of.message, status) == []


def test_the_last_three_messages_are_reported_once_each() -> None:
    of = sbatch.answer(1, "sbatch: one\nsbatch: two\nsbatch: three\nsbatch: error: three\n")
    assert (of.message, of.messages) == ("three", "two; three")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("Requested nodes are busy", None),
        ("Required partition not available (inactive or drain)", "partition"),
    ],
)
def test_a_job_that_the_cluster_accepts_later_is_a_warning(message: str, field: str | None) -> None:
    of = sbatch.answer(1, f"allocation failure: {message}")
    found = sbatch.refusal(planned(), parse_script(SCRIPT), of)
    assert (found.code, found.severity, found.field) == ("sbatch-refused", Severity.WARNING, field)
    assert (found.actual, found.message.endswith(f": {message}")) == (message, True)
    assert absent(found.fix, "`sinfo ") == []
    assert "--" not in found.fix, "no directive is to change"
    assert "claude.local.md" not in found.fix, "none is to be added"


@pytest.mark.parametrize(
    ("message", "fix", "look"),
    [
        ("Invalid account or account/partition combination specified",
         "--account=lab (line 4, from the Configuration section); --partition=gpu (line 5)", "sacctmgr show assoc"),
        ("Invalid qos specification", "--qos=day (line 7); --account=lab", "`sacctmgr show qos`"),
        ("Invalid generic resource (gres) specification",
         "--gres=gpu:1 (line 12, from the Configuration section); --partition=gpu (line 5)", "`sinfo "),
        ("More processors requested than permitted",
         "--cpus-per-task=1 (line 9, from the Configuration section); --ntasks=1 (line 8); --nodes=1 (line 3); ",
         "`sinfo "),
        ("Memory required by task is not available", "--mem=8G (line 10); --partition=gpu (line 5)", "`sinfo "),
        ("Invalid license specification", "", "`scontrol show licenses`"),
    ],
)  # fmt: skip
def test_the_fix_names_the_likely_directives_and_their_sources(message: str, fix: str, look: str) -> None:
    run = planned({"account": "lab", "cpus_per_task": 1})
    found = sbatch.refusal(run, parse_script(SCRIPT), sbatch.answer(1, message))
    assert found.severity is Severity.ERROR
    directives = re.findall(r"--[a-z-]+=\S+ \(line [^)]*\)", found.fix)
    assert "; ".join(directives).startswith(fix)
    assert len(directives) >= fix.count("(line ")
    assert bool(directives) is bool(fix)
    assert ("claude.local.md" in found.fix) is not bool(fix), "what is missing is to be given there"
    assert look in found.fix


@pytest.mark.parametrize(("untested", "counted"), [(3, []), (2, ["2 of 3"])])
def test_without_a_working_slurm_untested_scripts_are_counted(untested: int, counted: list[str]) -> None:
    found = sbatch.unavailable("no controller", untested, 3)
    assert (found.code, found.severity) == ("sbatch-unavailable", Severity.INFO)
    assert re.findall(r"\d of \d", found.message) == counted
    assert absent(found.message, "sbatch --test-only", "no controller") == []


def test_a_message_that_quotes_the_script_does_not_mean_that_slurm_is_unavailable() -> None:
    message = "sbatch: error: invalid partition specified: munge\nallocation failure: Invalid partition name specified"
    assert sbatch.answer(1, message).verdict == "refused"


def test_output_of_sbatch_is_escaped() -> None:
    assert sbatch.answer(1, "error: \x1b[31mred").message == "\\x1b[31mred"


def test_a_killed_sbatch_is_unavailable() -> None:
    assert sbatch.answer(-9, "").verdict == "unavailable"


def test_scripts_with_equal_options_are_tested_once() -> None:
    other = replaced(
        SCRIPT, "--job-name=rank8_lr1e-5", "--job-name=b", "--output=slurm-%j.out", "--error=e", "tune run", "run"
    )
    assert sbatch.asked_options(parse_script(other)) == sbatch.asked_options(parse_script(SCRIPT))
    late = SCRIPT + "#SBATCH --mem=9G\n"
    assert sbatch.asked_options(parse_script(late)) == sbatch.asked_options(parse_script(SCRIPT))
    assert sbatch.asked_options(parse_script(replaced(SCRIPT, "--mem=8G", "--mem=9G"))) != sbatch.asked_options(
        parse_script(SCRIPT)
    )
    swapped = replaced(SCRIPT, "--nodes=1\n#SBATCH -A lab", "--account=lab\n#SBATCH --nodes=1")
    assert sbatch.asked_options(parse_script(swapped)) == sbatch.asked_options(parse_script(SCRIPT))
    assert sbatch.asked_options(
        parse_script(replaced(SCRIPT, "--nodes=1\n", "--nodes=2\n#SBATCH --nodes=1\n"))
    ) == sbatch.asked_options(parse_script(SCRIPT))


def test_a_script_that_cannot_be_parsed_has_no_options() -> None:
    assert sbatch.asked_options(parse_script("echo")) is None


@pytest.mark.parametrize(
    ("lines", "folders"),
    [
        ("#SBATCH --output=a.out\n", []),
        ("#SBATCH --output=logs/%j.out\n", ["logs"]),
        ("#SBATCH --error=logs/%j.err\n", ["logs"]),
        ("#SBATCH --output=logs/a\n#SBATCH --error=logs/b\n", ["logs"]),
        ("#SBATCH --output=/a\n#SBATCH --error=/logs/b\n", ["/", "/logs"]),
        ("#SBATCH --output=%x/a\n#SBATCH --error=/%x/b\n", []),
        ("#SBATCH --chdir=/c\n#SBATCH --output=logs/a\n#SBATCH --error=/logs/b\n", ["/logs"]),
    ],
)
def test_log_directories_that_slurm_does_not_create_are_listed(lines: str, folders: list[str]) -> None:
    assert sbatch.log_folders(replaced(GOOD_SLURM, "#SBATCH --output=slurm-%j.out\n", lines)) == folders


def test_an_option_of_the_submit_line_overrides_the_script() -> None:
    of = sbatch.answer(1, "Invalid qos specification")
    found = sbatch.refusal(planned(), parse_script(SCRIPT), of, [("qos", "night")])
    assert (found.field, found.line) == ("qos", None)
    assert absent(found.fix, "one of --qos=night (", ", --account=lab (line 4) or ") == []
    assert found.fix.index("--qos=night") < found.fix.index("--account=lab")
    assert "--qos=day" not in found.fix
    assert "line 0" not in found.fix, "it stands in no script"
