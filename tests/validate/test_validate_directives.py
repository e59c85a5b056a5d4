"""The validate stage with SBATCH directives in all their notations."""

import pytest

from scaffold_torchtune.findings import Scalar
from scaffold_torchtune.validate import validate_run
from scaffold_torchtune.validate.run_files import parse_script
from support.good_files import GOOD_SLURM, files_of, planned, replaced
from support.script_findings import Found, found
from support.wording import absent

# ruff: noqa: E501 - the table of cases has one case a line


TIME = "#SBATCH --time=00:59:00 # Time limit\n"

# The planned settings in addition to the usual ones (None: not planned), the replacements in the script, whether it is
# that of the bundled setup, and the findings.
CASES: list[tuple[dict[str, Scalar], tuple[str, ...], bool, Found]] = [
    # time
    ({}, ("00:59:00", "59"), True, []),
    ({}, ("00:59:00", "59:00"), True, []),
    ({"time": "24:00:00"}, ("00:59:00", "1-00"), True, []),
    ({"time": "02:00:00"}, ("00:59:00", "2:00"), True, [("value-mismatch", "error", "time")]),
    ({"time": "24:00:00"}, ("00:59:00", "1-01"), True, [("value-mismatch", "error", "time")]),
    ({}, ("00:59:00", "0"), True, [("value-mismatch", "error", "time")]),
    ({}, (TIME, "#" + TIME), True, [("missing-value", "error", "time")]),
    ({}, (TIME, " " + TIME), True, [("missing-value", "error", "time"), ("unreadable-file", "error", None)]),
    ({}, (TIME, TIME.replace("#", "# ", 1)), True, [("missing-value", "error", "time"), ("unreadable-file", "error", None)]),
    ({}, (TIME, TIME.replace("SBATCH", "sbatch", 1)), True, [("missing-value", "error", "time"), ("unreadable-file", "error", None)]),
    ({}, (TIME, TIME.replace(" --", "--", 1)), True, [("missing-value", "error", "time"), ("unreadable-file", "error", None)]),
    ({}, (TIME, f"{TIME}# SBATCH lines end here\n"), True, []),
    ({}, (TIME, "", "mkdir ", f"{TIME}mkdir "), True, [("late-directive", "error", "time"), ("missing-value", "error", "time")]),
    ({"time": "soon"}, ("00:59:00", "later"), True, [("value-mismatch", "error", "time")]),
    # GPUs
    ({}, ("--gres=gpu:1", "--gpus=1"), True, []),
    ({}, ("--gres=gpu:1", "--gres=gpu"), True, []),
    ({}, ("--gres=gpu:1", "--gpus-per-node=a100:1"), True, [("unplanned-value", "error", "gpu_type")]),
    ({}, ("--gres=gpu:1", "--gpus-per-node=a100:1"), False, [("unplanned-value", "info", "gpu_type")]),
    ({}, ("--gres=gpu:1", "--gres=gpu:a100:2"), True, [("value-mismatch", "error", "gpus"), ("unplanned-value", "error", "gpu_type")]),
    ({}, ("--gres=gpu:1", "--gres=gpu:1 --gpus=2"), True, [("value-mismatch", "error", "gpus")]),
    ({}, ("--gres=gpu:1", "--gpus-per-node=2"), True, [("value-mismatch", "error", "gpus")]),
    ({}, ("--gres=gpu:1", "--gpus=2"), True, [("value-mismatch", "error", "gpus")]),
    ({}, ("--gres=gpu:1", "--gpus-per-task=1"), True, []),
    ({}, ("--gres=gpu:1", "--gpus-per-task=a100:1"), False, [("unplanned-value", "info", "gpu_type")]),
    ({}, ("--gres=gpu:1", "--gpus-per-task=2"), True, [("value-mismatch", "error", "gpus")]),
    ({}, ("--gres=gpu:1", "--gpus-per-task=1", "--ntasks=1", "--ntasks-per-node=1"), True, []),
    ({}, ("--gres=gpu:1", "--gpus-per-task=1", "--ntasks=1", "--ntasks=2"), False,
     [("missing-value", "error", "gpus"), ("unplanned-value", "warning", "gpus-per-task"), ("value-mismatch", "error", "ntasks")]),
    ({}, ("--gres=gpu:1", "--gpus-per-task=1", "#SBATCH --ntasks=1\n", ""), True,
     [("missing-value", "error", "gpus"), ("unplanned-value", "error", "gpus-per-task")]),
    # memory and CPUs
    ({"mem": ""}, (), True, []),
    ({}, ("#SBATCH --mem=8G\n", ""), True, [("missing-value", "error", "mem")]),
    ({"mem": ""}, ("#SBATCH --mem=8G\n", ""), True, [("missing-value", "error", "mem")]),
    ({"mem": "8G"}, ("#SBATCH --mem=8G\n", ""), True, [("missing-value", "error", "mem")]),
    ({}, ("#SBATCH --mem=8G\n", ""), False, []),
    ({}, ("#SBATCH --cpus-per-task=1\n", ""), True, [("missing-value", "error", "cpus_per_task")]),
    ({}, ("#SBATCH --cpus-per-task=1\n", ""), False, []),
    ({"mem": "8G"}, ("--mem=8G", "--mem=8192"), True, []),
    ({"mem": "8G"}, ("--mem=8G", "--mem=8388608K"), True, []),
    ({"mem": "8T"}, ("--mem=8G", "--mem=8192G"), True, []),
    ({"mem": "8G"}, ("--mem=8G", "--mem=8"), True, [("value-mismatch", "error", "mem")]),
    ({"mem": "8G"}, ("--mem=8G", "--mem=8000M"), True, [("value-mismatch", "error", "mem")]),
    ({"mem": "8G"}, ("--mem=8G", "--mem-per-cpu=8G"), True, [("missing-value", "error", "mem"), ("unplanned-value", "error", "mem-per-cpu")]),
    ({"mem": "8G"}, ("#SBATCH --mem=8G\n", ""), True, [("missing-value", "error", "mem")]),
    ({"cpus_per_task": 1}, ("--cpus-per-task=1", "-c 01"), True, []),
    ({"cpus_per_task": 1}, ("--cpus-per-task=1", "-c 4"), True, [("value-mismatch", "error", "cpus_per_task")]),
    ({"cpus_per_task": 1}, ("#SBATCH --cpus-per-task=1\n", ""), True, [("missing-value", "error", "cpus_per_task")]),
    ({}, ("--ntasks=1", "--ntasks=2"), True, [("value-mismatch", "error", "ntasks")]),
    ({}, ("--ntasks=1", "--ntasks-per-node=1"), True, []),
    ({}, ("--ntasks=1", "--ntasks=1\n#SBATCH --ntasks-per-node=01"), False, []),
    ({}, ("--ntasks=1", "--ntasks-per-node=2"), False, [("value-mismatch", "error", "ntasks-per-node")]),
    ({}, ("--nodes=1", "-N 1-4"), True, [("value-mismatch", "error", "nodes")]),
    ({}, ("#SBATCH --nodes=1\n#SBATCH --ntasks=1\n", ""), True, []),
    # partition, account and constraint
    ({"account": "lab"}, ("##SBATCH --account=<ACT>", "#SBATCH -A lab"), True, []),
    ({"account": "lab"}, (), True, [("missing-value", "error", "account")]),
    ({"partition": "gpu"}, ("##SBATCH --account=<ACT>", "#SBATCH -p cpu"), True, [("value-mismatch", "error", "partition")]),
    ({"constraint": ""}, ("##SBATCH --account=<ACT>", "#SBATCH -C a100"), True, [("unplanned-value", "error", "constraint")]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH -C a100"), False, [("unplanned-value", "error", "constraint")]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH --account=<YOUR_ACT2>"), True,
     [("placeholder-left", "error", None), ("unplanned-value", "error", "account")]),
    # names and logs
    ({"my_wandb_run_name": "other"}, ("--job-name=rank8_lr1e-5", "--job-name=other"), True,
     [("value-mismatch", "error", "my_wandb_run_name"), ("name-mismatch", "error", "my_wandb_run_name")]),
    ({"my_wandb_run_name": None}, (), True, [("unplanned-value", "error", "metric_logger.name")]),
    ({"my_wandb_run_name": None}, ("--job-name=rank8_lr1e-5", "-J other"), True,
     [("value-mismatch", "error", "my_wandb_run_name"), ("unplanned-value", "error", "metric_logger.name")]),
    ({}, ("--job-name=rank8_lr1e-5", "-J rank8_lr1e-5"), True, []),
    ({}, ("--output=slurm-%j.out", "--error=slurm-%j.err"), True, []),
    ({}, ("--output=slurm-%j.out", "-e logs/slurm-%j.err"), True, [("unplanned-value", "error", "error")]),
    ({}, ("--output=slurm-%j.out", "-o logs/slurm-%j.out"), False, [("unplanned-value", "info", "output")]),
    ({}, ("--output=slurm-%j.out", "-o logs/%x/slurm-%j.out"), False, [("unplanned-value", "warning", "output")]),
    # unplanned directives
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH --requeue --exclusive --hold --no-requeue"), False,
     [("unplanned-value", "error", "hold"), *[("unplanned-value", "warning", name) for name in ("requeue", "exclusive", "no-requeue")]]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH -a 0-9"), True, [("unplanned-value", "error", "array")]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH -D /elsewhere"), True, [("unplanned-value", "error", "chdir")]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH --wrap=x"), False, [("unplanned-value", "error", "wrap")]),
    # repeated directives
    ({}, ("##SBATCH --account=<ACT>", TIME), True, [("duplicate-directive", "error", "time")]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH -t 1"), True, [("duplicate-directive", "error", "time"), ("value-mismatch", "error", "time")]),
    ({}, ("##SBATCH --account=<ACT>", TIME), False, [("duplicate-directive", "error", "time")]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH --mail-type=END\n#SBATCH --mail-type=FAIL"), False, [("unplanned-value", "info", "mail-type")]),
    ({}, ("##SBATCH --account=<ACT>", "#SBATCH --mail-type=END\n#SBATCH --mail-type=FAIL"), True,
     [("duplicate-directive", "error", "mail-type"), ("unplanned-value", "error", "mail-type")]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "pairs", "bundled", "expected"), CASES)
def test_each_notation_of_a_directive(
    changes: dict[str, Scalar], pairs: tuple[str, ...], *, bundled: bool, expected: Found
) -> None:
    assert sorted(map(str, found(changes, replaced(GOOD_SLURM, *pairs), bundled=bundled))) == sorted(map(str, expected))


def test_a_log_in_a_different_place_has_a_special_fix_for_an_external_script() -> None:
    run, slurm = planned(), replaced(GOOD_SLURM, "slurm-%j.out", "logs/slurm-%j.out")
    (ours,), (made,) = (
        [f for f in validate_run(run, files_of(run, slurm=slurm), bundled=bundled) if f.field == "output"]
        for bundled in (True, False)
    )
    files = files_of(run, slurm=replaced(slurm, "logs/", "logs/%x/"))
    (unmade,) = [f for f in validate_run(run, files, bundled=False) if f.field == "output"]
    assert [str(f.severity) for f in (ours, made, unmade)] == ["error", "info", "warning"]
    assert ["setup script" in f.fix for f in (ours, made, unmade)] == [True, False, False]
    assert made.fix != unmade.fix


LONG = [
    *("account", "constraint", "chdir", "gpus", "job-name", "nodes", "array", "cpus-per-task", "dependency", "error"),
    *("ntasks", "output", "partition", "qos", "time", "begin", "comment", "cpus-per-gpu", "exclude", "export"),
    *("gpus-per-node", "gpus-per-task", "gres", "licenses", "mail-type", "mail-user", "mem", "mem-per-cpu"),
    *("mem-per-gpu", "nodelist", "ntasks-per-node", "open-mode", "reservation", "signal", "time-min", "wrap"),
]


@pytest.mark.parametrize("name", LONG)
def test_the_value_of_a_long_option_follows_an_equals_sign_or_a_space(name: str) -> None:
    script = parse_script(f"#!/bin/sh\n#SBATCH --{name}=a\n#SBATCH --{name} a\n")
    assert [(d.name, d.value) for d in script.directives] == [(name, "a")] * 2


@pytest.mark.parametrize("name", [name for name in LONG if not any(o != name and o.startswith(name) for o in LONG)])
def test_a_long_option_may_be_abbreviated_if_it_is_unique(name: str) -> None:
    others = [other for other in (*LONG, "exclusive", "hold", "requeue", "no-requeue") if other != name]
    short = next(name[:n] for n in range(1, len(name) + 1) if not any(o.startswith(name[:n]) for o in others))
    assert [d.name for d in parse_script(f"#!/bin/sh\n#SBATCH --{short}=a\n").directives] == [name]


@pytest.mark.parametrize("letter", "ACDGJNacdenopqt")
def test_a_short_option_equals_its_long_form(letter: str) -> None:
    names = "account constraint chdir gpus job-name nodes array cpus-per-task dependency error ntasks output partition qos time"
    script = parse_script(f"#!/bin/sh\n#SBATCH -{letter}a\n#SBATCH -{letter} a\n")
    long = dict(zip("ACDGJNacdenopqt", names.split(), strict=True))[letter]
    assert [(d.name, d.value) for d in script.directives] == [(long, "a")] * 2


@pytest.mark.parametrize("name", ["exclusive", "hold", "no-requeue", "requeue"])
def test_an_option_without_a_value_accepts_none(name: str) -> None:
    script = parse_script(f"#!/bin/sh\n#SBATCH --{name} --mem=1\n#SBATCH --{name[:-1]} word\n")
    assert [(d.name, d.value) for d in script.directives] == [(name, ""), ("mem", "1"), (name, "")]
    assert [line for line, _ in script.problems] == [3]


@pytest.mark.parametrize(
    "line",
    ["--job-name=rank8_lr1e-5", "--time=00:59:00"],
)
def test_a_message_names_the_directive(line: str) -> None:
    run, slurm = planned(), replaced(GOOD_SLURM, f"#SBATCH {line}", "#")
    found = validate_run(run, files_of(run, slurm=slurm), bundled=True)[0]
    name, _, value = line.partition("=")
    assert (found.code, found.expected, found.actual) == ("missing-value", value, None)
    assert absent(found.message, name, f"'{value}'") == []
