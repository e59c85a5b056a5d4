"""What each generation of cruijff_kit's script writes by itself, told from what nobody knows."""

import pytest

from good_files import EXTERNAL_CONFIG, EXTERNAL_SLURM, files_of, planned, replaced
from scaffold_torchtune.errors import Finding
from scaffold_torchtune.validate import told_once, validate_run

GENERATIONS = ("", "2025-11", "2025-12", "v0.3.4")


def directive(line: str, generation: str) -> list[tuple[str, str | None]]:
    """What is said of a further line of #SBATCH, beside the usual ones."""
    run = planned(generation=generation)
    slurm = replaced(EXTERNAL_SLURM, "#SBATCH --mail-type=begin\n", f"#SBATCH {line}\n")
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False)
    name = line.partition("=")[0].strip("-")
    return [(str(f.severity), f.fix[:13]) for f in found if f.field == name]


NOTHING, LOOK = "Nothing to do", "Do not edit t"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--partition=nomig", {"2025-12": ("info", NOTHING)}),
        ("--constraint=gpu80", {"2025-12": ("info", NOTHING)}),
        ("--partition=other", {}),
        ("--array=0-3", {}),
        ("--wrap=x", {}),
        ("--chdir=/elsewhere", {}),
        ("--qos=gpu-test", dict.fromkeys(GENERATIONS, ("warning", LOOK))),
        ("--exclusive", dict.fromkeys(GENERATIONS, ("warning", LOOK))),
        ("--comment=mine", dict.fromkeys(GENERATIONS, ("info", LOOK))),
    ],
)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_directive_is_information_only_where_the_generation_has_it(
    line: str, told: dict[str, tuple[str, str]], generation: str
) -> None:
    assert directive(line, generation) == [told.get(generation, ("error", LOOK))]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_mail_is_no_matter_and_known_of_the_kit(generation: str) -> None:
    run = planned(generation=generation)
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, EXTERNAL_SLURM), bundled=False)
    mail = {f.field: (str(f.severity), f.fix[:13]) for f in found if f.file and f.file.endswith(".slurm")}
    both = dict.fromkeys(("mail-type", "mail-user"), ("info", NOTHING if generation else LOOK))
    assert {name: told for name, told in mail.items() if name in both} == both


@pytest.mark.parametrize("generation", GENERATIONS)
def test_keys_that_nothing_reads_are_told_one_by_one_unless_the_script_always_adds_them(generation: str) -> None:
    run = planned(generation=generation)
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG + "learning_rate: 1.0\n", EXTERNAL_SLURM), bundled=False)
    unread = {f.field: str(f.severity) for f in found if "does not read" in f.message}
    assert unread["learning_rate"] == "warning"
    assert (None in unread) == bool(generation)
    assert ("hf_token" in unread) == (not generation)
    assert "venv" not in unread  # which is empty


# --- once for all runs ---


def finding(directory: str, message: str, severity: str = "info", code: str = "unplanned-value") -> Finding:
    return Finding(code=code, severity=severity, message=message, file=f"{directory}/finetune.slurm", line=3)  # type: ignore[arg-type]


def test_what_all_runs_have_alike_is_told_once() -> None:
    checked = {
        name: (finding(name, "--mail"), finding(name, f"at /out/{name}/x", "warning"), finding(name, f"own {name[1:]}"))
        for name in ("r1", "r2", "r3")
    }
    own, whole = told_once(checked)
    assert [f.message for f in whole] == ["in all 3 runs: --mail", "in all 3 runs: at /out/RUN/x"]
    assert [(f.severity, f.file, f.line) for f in whole] == [
        ("info", "r1/finetune.slurm", 3),
        ("warning", "r1/finetune.slurm", 3),
    ]
    assert {name: [f.message for f in found] for name, found in own.items()} == {
        "r1": ["own 1"],
        "r2": ["own 2"],
        "r3": ["own 3"],
    }


def test_what_one_run_lacks_or_has_otherwise_stays_in_the_others() -> None:
    checked = {"r1": (finding("r1", "a"), finding("r1", "b")), "r2": (finding("r2", "b", "warning"),)}
    assert told_once(checked) == (checked, [])


def test_errors_stay_where_they_are_and_so_does_all_of_a_single_run() -> None:
    checked = {name: (finding(name, "bad", "error"),) for name in ("r1", "r2")}
    assert told_once(checked) == (checked, [])
    single = {"r1": (finding("r1", "a"),)}
    assert told_once(single) == (single, [])
    assert told_once({}) == ({}, [])
