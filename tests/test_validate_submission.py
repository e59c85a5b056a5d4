"""What the answers of sbatch mean: messages as Slurm 22.05 prints them, with the directive that each is about."""

import pytest

from good_files import GOOD_SLURM, planned, replaced
from scaffold_torchtune.validate import submission

SCRIPT = replaced(
    GOOD_SLURM,
    "#SBATCH --nodes=1\n",
    "#SBATCH --nodes=1\n#SBATCH -A lab\n#SBATCH --partition=gpu\n#SBATCH --constraint=gpu80\n#SBATCH --qos=day\n",
)


@pytest.mark.parametrize(
    ("status", "said", "line"),
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
def test_a_refusal_points_at_the_directive_that_it_is_about(status: int, said: str, line: str | None) -> None:
    of = submission.answer(status, f"sbatch: error: a plugin speaks first\nallocation failure: {said}\n")
    assert (of.verdict, of.said) == ("refused", said)
    found = submission.refusal(planned(), SCRIPT, of)
    assert found.message == f"sbatch does not take the script: a plugin speaks first; {said}"
    assert (found.actual, found.file) == (said, "rank8_lr1e-5/finetune.slurm")
    lines = SCRIPT.splitlines()
    assert (lines[found.line - 1] if found.line else None) == (f"#SBATCH {line}" if line else None)
    assert found.fix


def test_the_hint_of_sbatch_is_no_message() -> None:
    said = "sbatch: unrecognized option '--bogus=3'\nTry \"sbatch --help\" for more information\n"
    of = submission.answer(255, said)
    assert of.said == "unrecognized option '--bogus=3'"
    script = replaced(SCRIPT, "#SBATCH --nodes=1\n", "#SBATCH --nodes=1\n#SBATCH --bogus=3\n")
    assert submission.refusal(planned(), script, of).field == "bogus"


def test_a_message_that_repeats_the_script_is_not_taken_for_a_lack_of_slurm() -> None:
    said = "sbatch: error: invalid partition specified: munge\nallocation failure: Invalid partition name specified"
    assert submission.answer(1, said).verdict == "refused"


def test_what_sbatch_prints_is_escaped() -> None:
    assert submission.answer(1, "error: \x1b[31mred").said == "\\x1b[31mred"


def test_an_sbatch_that_was_killed_is_none() -> None:
    assert submission.answer(-9, "").verdict == "unavailable"


def test_scripts_that_ask_for_the_same_are_alike() -> None:
    other = replaced(
        SCRIPT, "--job-name=rank8_lr1e-5", "--job-name=b", "--output=slurm-%j.out", "--error=e", "tune run", "run"
    )
    assert submission.asked(other) == submission.asked(SCRIPT)
    late = SCRIPT + "#SBATCH --mem=9G\n"
    assert submission.asked(late) == submission.asked(SCRIPT)
    assert submission.asked(replaced(SCRIPT, "--mem=8G", "--mem=9G")) != submission.asked(SCRIPT)


def test_a_script_that_cannot_be_read_asks_for_nothing() -> None:
    assert submission.asked("echo") is None


def test_what_the_cluster_takes_at_another_time_is_a_warning_that_says_so() -> None:
    of = submission.answer(1, "allocation failure: Nodes are busy")
    found = submission.refusal(planned(), GOOD_SLURM, of)
    assert (found.severity, found.message) == ("warning", "sbatch does not take the script now: Nodes are busy")
    assert found.fix.startswith("nothing, where")
