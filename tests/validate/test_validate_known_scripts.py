"""Values that each generation of cruijff_kit's script always writes, compared with an unknown script."""

import pytest

from scaffold_torchtune.findings import Finding
from scaffold_torchtune.validate import deduplicated, validate_run
from support.good_files import EXTERNAL_CONFIG, EXTERNAL_SLURM, GOOD_CONFIG, files_of, planned, replaced
from support.wording import absent

GENERATIONS = ("", "2025-11", "2025-12", "v0.3.4")


def advice(found: Finding) -> bool:
    """Return whether the fix refers to the template; if a script always writes a value, no action is needed."""
    return "template" in found.fix


def directive(line: str, generation: str) -> list[tuple[str, bool]]:
    """Return severity and advice for an additional #SBATCH line."""
    run = planned(generation=generation)
    slurm = replaced(EXTERNAL_SLURM, "#SBATCH --mail-type=begin\n", f"#SBATCH {line}\n")
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, slurm), bundled=False)
    name = line.partition("=")[0].strip("-")
    return [(str(f.severity), advice(f)) for f in found if f.field == name]


NOTHING, LOOK = False, True


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("--partition=nomig", {"2025-12": ("info", NOTHING)}),
        ("--constraint=gpu80", {"2025-12": ("info", NOTHING)}),
        ("--partition=other", {}),
        ("--array=0-3", {}),
        ("--wrap=x", {}),
        ("--account=other", {}),
        ("--ntasks-per-node=2", {}),
        ("--chdir=/elsewhere", {}),
        ("--qos=gpu-test", dict.fromkeys(GENERATIONS, ("warning", LOOK))),
        ("--exclusive", dict.fromkeys(GENERATIONS, ("warning", LOOK))),
        ("--comment=mine", dict.fromkeys(GENERATIONS, ("info", LOOK))),
    ],
)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_directive_is_an_info_only_if_the_generation_writes_it(
    line: str, reported: dict[str, tuple[str, bool]], generation: str
) -> None:
    assert directive(line, generation) == [reported.get(generation, ("error", LOOK))]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_mail_is_an_info_that_needs_no_action_for_the_kit(generation: str) -> None:
    run = planned(generation=generation)
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG, EXTERNAL_SLURM), bundled=False)
    mail = {f.field: (str(f.severity), advice(f)) for f in found if f.file and f.file.endswith(".slurm")}
    both = dict.fromkeys(("mail-type", "mail-user"), ("info", NOTHING if generation else LOOK))
    assert {name: reported for name, reported in mail.items() if name in both} == both


def is_unread(found: Finding) -> bool:
    in_config = found.code == "unplanned-value" and str(found.file).endswith(".yaml")
    return in_config and absent(found.message, "lora_finetune_single_device") == []


@pytest.mark.parametrize("generation", GENERATIONS)
def test_unread_keys_are_reported_separately_unless_the_script_always_adds_them(generation: str) -> None:
    run = planned(generation=generation)
    found = validate_run(run, files_of(run, EXTERNAL_CONFIG + "learning_rate: 1.0\n", EXTERNAL_SLURM), bundled=False)
    unread = {f.field: str(f.severity) for f in found if is_unread(f)}
    assert unread["learning_rate"] == "warning"
    assert (None in unread) == bool(generation)
    assert ("hf_token" in unread) == (not generation)
    assert "venv" not in unread  # it is empty


UNREAD = (
    "base_recipe batch_size_val config_file custom_recipe dataset_val epochs_to_save hf_token input_formatting modules"
    " save_last_epoch_only stash_adapter_weights venv"
)


@pytest.mark.parametrize("key", UNREAD.split())
def test_a_key_that_the_script_always_adds_is_an_info(key: str) -> None:
    run, config = planned(generation="v0.3.4"), f"{GOOD_CONFIG}{key}: mine\n"
    (found,) = (f for f in validate_run(run, files_of(run, config), bundled=False) if is_unread(f))
    assert (str(found.severity), found.field) == ("info", None)
    assert absent(found.message, f"'{key}'", "the setup script always adds") == []
    nobodys = planned(generation="")
    others = validate_run(nobodys, files_of(nobodys, config), bundled=False)
    assert {str(f.severity) for f in others if f.line == config.count("\n")} in ({"warning"}, {"error"})


@pytest.mark.parametrize(
    ("old", "new", "severity"),
    [
        ("dtype: bf16", "dtype: fp32", "error"),
        ("shuffle: true", "shuffle: false", "error"),
        ("compile: false", "compile: false\nclip_grad_norm: 1.0", "error"),
        ("max_steps_per_epoch: null", "max_steps_per_epoch: 3", "error"),
        ("compile: false", "compile: true", "warning"),
    ],
)
def test_an_unplanned_value_of_an_external_script_is_an_error_if_it_changes_the_training(
    old: str, new: str, severity: str
) -> None:
    run = planned()
    (found,) = validate_run(run, files_of(run, replaced(GOOD_CONFIG, old, new)), bundled=False)
    assert (found.code, str(found.severity)) == ("unplanned-value", severity)


# --- once for all runs ---


def finding(directory: str, message: str, severity: str = "info", code: str = "unplanned-value") -> Finding:
    return Finding(code=code, severity=severity, message=message, file=f"{directory}/finetune.slurm", line=3)  # type: ignore[arg-type]


def test_a_finding_that_all_runs_share_is_reported_once() -> None:
    checked = {
        name: (finding(name, "--mail"), finding(name, f"at /out/{name}/x", "warning"), finding(name, f"own {name[1:]}"))
        for name in ("r1", "r2", "r3")
    }
    own, whole = deduplicated(checked)
    assert [absent(f.message, "all 3 runs") for f in whole] == [[], []]
    assert [f.message.partition(": ")[2] for f in whole] == ["--mail", "at /out/RUN/x"]
    assert [(f.severity, f.file, f.line) for f in whole] == [
        ("info", "r1/finetune.slurm", 3),
        ("warning", "r1/finetune.slurm", 3),
    ]
    assert {name: [f.message for f in found] for name, found in own.items()} == {
        "r1": ["own 1"],
        "r2": ["own 2"],
        "r3": ["own 3"],
    }


@pytest.mark.parametrize(("part", "values"), [("actual", (1, 2)), ("fix", ("do", "do not")), ("field", ("a", "b"))])
def test_findings_with_different_values_or_fixes_are_not_shared(part: str, values: tuple[object, object]) -> None:
    checked = {
        name: (finding(name, "x").model_copy(update={part: value}),)
        for name, value in zip(("r1", "r2"), values, strict=True)
    }
    assert deduplicated(checked) == (checked, [])


def test_runs_with_missing_files_still_share_findings() -> None:
    lost = finding("r2", "gone", "error", "missing-file")
    own, whole = deduplicated({"r1": (finding("r1", "a"),), "r2": (finding("r2", "a"), lost)})
    assert own == {"r1": (), "r2": (lost,)}
    assert [absent(f.message, "both runs", "a") for f in whole] == [[]]


def test_findings_that_differ_between_runs_are_not_shared() -> None:
    checked = {"r1": (finding("r1", "a"), finding("r1", "b")), "r2": (finding("r2", "b", "warning"),)}
    assert deduplicated(checked) == (checked, [])


def test_errors_and_findings_of_a_single_run_are_not_shared() -> None:
    checked = {name: (finding(name, "bad", "error"),) for name in ("r1", "r2")}
    assert deduplicated(checked) == (checked, [])
    single = {"r1": (finding("r1", "a"),)}
    assert deduplicated(single) == (single, [])
    assert deduplicated({}) == ({}, [])


def test_two_runs_share_a_finding_without_a_file() -> None:
    shared = {
        name: (Finding(code="confound", severity="info", message="a", actual=f"out/{name}"),)  # type: ignore[arg-type]
        for name in ("r1", "r2")
    }
    own, (whole,) = deduplicated(shared)
    assert own == {"r1": (), "r2": ()}
    assert (absent(whole.message, "both runs"), whole.message.partition(": ")[2]) == ([], "a")
    assert (whole.actual, whole.file) == ("out/RUN", None)


def test_findings_in_different_files_are_not_shared() -> None:
    other = finding("r2", "a").model_copy(update={"file": "r2/finetune.yaml"})
    checked = {"r1": (finding("r1", "a"),), "r2": (other,)}
    assert deduplicated(checked) == (checked, [])


Checked = dict[str, tuple[Finding, ...]]


def test_runs_without_files_do_not_prevent_sharing() -> None:
    checked: Checked = {name: (finding(name, "a"), finding(name, f"own {name[1:]}")) for name in ("r2", "r3")}
    gone: Checked = {"r1": (finding("r1", "gone", "error", "missing-file"),)}
    own, (whole,) = deduplicated(gone | checked)
    assert (absent(whole.message, "both runs"), whole.message.partition(": ")[2]) == ([], "a")
    assert whole.file == "r2/finetune.slurm"
    assert whole.message != deduplicated(checked)[1][0].message, "these two are not all runs"
    assert {name: [each.message for each in found] for name, found in own.items()} == {
        "r1": ["gone"],
        "r2": ["own 2"],
        "r3": ["own 3"],
    }
    unread: Checked = {"r1": (finding("r1", "torn", "error", "unreadable-file"),)}
    assert len(deduplicated(unread | checked)[1]) == 1
    alone: Checked = gone | {"r2": (finding("r2", "a"),)}
    assert deduplicated(alone) == (alone, [])
